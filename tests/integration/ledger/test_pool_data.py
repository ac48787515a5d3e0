# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools from lists over a real DNS server into the ledger, on both databases and through the playbook."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import status_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _data, _lists, _names, _refresh
from dns_server import DnsServer

ROOT = Path(__file__).resolve().parents[3]
NOW, DAY = 1_800_000_000, 86400
SETTINGS = _data.Settings(DAY, DAY, 7 * DAY, 64, False, ())


@pytest.fixture
def dns():
    server = DnsServer()
    yield server
    server.close()


def ask(server, *hosts, timeout=3):
    return _names.resolve_names(hosts, [("127.0.0.1", server.port)], timeout=timeout)


def test_both_families_the_shortest_ttl_of_the_chain_and_every_kind_of_no(dns):
    dns.records = {
        "a.example.com": {"A": ["45.9.1.2", "45.9.1.1"], "AAAA": ["2a01:4f8::1"], "ttl": 300},
        "alias.example.com": {"CNAME": "a.example.com", "ttl": 20},
        "empty.example.com": {"A": []},
        "broken.example.com": {"rcode": "SERVFAIL"},
        "mute.example.com": {"silent": True},
        # Too large for one datagram: this comes over TCP.
        "huge.example.com": {"A": ["45.%d.%d.1" % (n // 250, n % 250) for n in range(4000)]},
    }
    found = ask(dns, *dns.records, "gone.example.com", "45.9.9.9")
    assert found["a.example.com"] == (("2a01:4f8::1", "45.9.1.1", "45.9.1.2"), 300, None)
    assert found["alias.example.com"] == (("2a01:4f8::1", "45.9.1.1", "45.9.1.2"), 20, None)
    assert found["empty.example.com"].problem == found["gone.example.com"].problem == "nothing"
    assert found["broken.example.com"].problem == found["mute.example.com"].problem == "failed"
    assert len(found["huge.example.com"].addresses) == 4000
    assert found["45.9.9.9"] == (("45.9.9.9",), 0, None)


def test_half_an_answer_is_none(dns):
    dns.records = {"a.example.com": {"A": ["45.9.1.1"]}}
    answer = dns._answer
    dns._answer = lambda wire: None if b"\x00\x1c\x00\x01" in wire else answer(wire)  # AAAA gets lost
    assert ask(dns, "a.example.com", timeout=1)["a.example.com"] == ((), 0, "failed")


@pytest.mark.parametrize("text", ["resolver.example.com", "192.0.2.300", "192.0.2.1:0", "192.0.2.1:99999", "", "[::1"])
def test_a_resolver_is_an_address(text):
    with pytest.raises(InputError, match="no address"):
        _names.read_resolver(text)


def refresh(ledger, dns, listed, now=NOW, check=False, **changes):
    lists = [_lists.parse("pools.txt", listed)]
    answers = _names.resolve_names(_refresh.hosts_of(lists), [("127.0.0.1", dns.port)], timeout=3)
    with ledger.transaction(check=check, actor="test", now=now) as tx:
        spared = _refresh.spared_networks(tx, [("127.0.0.1", dns.port)], [])
        return _refresh.refresh(tx, lists, answers, spared, SETTINGS._replace(**changes)), tx.pending


def test_recorded_with_its_date_in_snapshot_and_status_and_only_two_contents_are_kept(ledger, dns):
    dns.records = {"a.example.com": {"A": ["45.9.1.1"]}}
    digests = []
    for day in range(4):
        done, _pending = refresh(ledger, dns, b"a.example.com:3333\n", now=NOW + day * DAY // 4)
        digests.append(done["input"]["digest"])
    with ledger.read(now=NOW + DAY) as tx:
        held = tx.snapshot()["inputs"]["pools"]
        assert held["at"] == NOW + 3 * DAY // 4 and held["stale_at"] == held["at"] + 7 * DAY
        assert [(e["address"], e["port"], e["first_seen"]) for e in held["document"]["endpoints"]] == [("45.9.1.1", 3333, NOW)]
        assert "STALE" not in "\n".join(status_lines(tx.status()))
        kept = {row[0] for row in tx.execute(L._releases.sa.select(L._tables.tables.content.c.digest))}
        assert kept & set(digests) == set(digests[-2:]) and L.verify(tx, None)["ok"]
    with ledger.read(now=NOW + 9 * DAY) as tx:
        assert any("data pools" in line and "STALE since" in line for line in status_lines(tx.status()))


def test_what_is_refused_leaves_the_former_state_and_check_mode_writes_nothing(ledger, dns):
    names = ["h%d.example.com" % n for n in range(30)]
    dns.records = {name: {"A": ["45.9.2.%d" % (n + 1)]} for n, name in enumerate(names)}
    listed = "".join("%s:4444\n" % name for name in names).encode()
    refresh(ledger, dns, listed)

    def held():
        with ledger.read(now=NOW) as tx:
            return L.dated_inputs(tx)["pools"]["digest"], tx.head_number

    before = held()
    with pytest.raises(InputError, match="shrank"):
        refresh(ledger, dns, b"".join(b"%s:4444\n" % name.encode() for name in names[:15]), now=NOW + 9)
    dns.records = {name: {"rcode": "SERVFAIL"} for name in names}
    with pytest.raises(InputError, match="resolvers are at fault"):
        refresh(ledger, dns, listed, now=NOW + 9)
    dns.records = {name: {"A": ["45.9.3.%d" % (n + 1)]} for n, name in enumerate(names)}
    _done, pending = refresh(ledger, dns, listed, now=NOW + 9, check=True)
    assert held() == before
    with ledger.transaction(check=True, now=NOW + 9) as tx:
        L.replay(tx, pending)
        assert len(tx.snapshot()["inputs"]["pools"]["document"]["endpoints"]) == 60
    assert held() == before


def test_never_what_the_release_calls_its_own(ledger, dns):
    from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

    policy = load_policy(str(ROOT / "policies" / "location.yml"))
    catalogue = {"format": 1, "generated_at": None, "prefixes": ["45.80.0.0/16", "2a0c:1::/32"], "nodes": {}, "services": {}}
    with ledger.transaction(actor="test", now=NOW) as tx:
        tx.create_release({policy.key: policy.document}, policy.key, catalogue)
    dns.records = {"evil.example.com": {"A": ["45.80.1.1", "127.0.0.1", "104.17.1.1", "169.254.169.254"], "AAAA": ["2a0c:1::53"]},
                   "good.example.com": {"A": ["45.9.1.1"]}}
    done, _pending = refresh(ledger, dns, b"evil.example.com:1\ngood.example.com:1\n")
    with ledger.read(now=NOW) as tx:
        assert [e["address"] for e in L.dated_documents(tx)["pools"]["document"]["endpoints"]] == ["45.9.1.1"]
    said = "\n".join(done["warnings"])
    for part in ("provider's own", "resolver that was asked", "Cloudflare", "network metadata"):
        assert part in said


def test_the_playbook(tmp_path, dns):
    ledger = tmp_path / "ledger.db"
    L.open_ledger(str(ledger), create=True).close()
    dns.records = {"a.example.com": {"A": ["45.9.1.1"]}, "b.example.com": {"A": ["0.0.0.0"]}}
    (tmp_path / "list.txt").write_text("stratum+tcp://a.example.com:3333\nb.example.com:3333\n# x\n")
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "hosting")))

    def play(*more, resolver=dns.address):
        extra = {"aup_ledger_url": str(ledger), "aup_resolvers": [resolver], "aup_pool_lists": ["list.txt"]}
        return subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "hosting.aup.refresh_pools",
             "-e", json.dumps(extra), *more], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
            env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"})

    checked = play("--check", "--diff")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with L.open_ledger(str(ledger)) as opened, opened.read() as tx:
        assert L.dated_inputs(tx) == {}
    done = play()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "b.example.com: 0.0.0.0 is no public address" in done.stdout and "2 names" in done.stdout
    with L.open_ledger(str(ledger)) as opened, opened.read() as tx:
        assert L.dated_inputs(tx)["pools"]["summary"]["endpoints"] == 1
    refused = play(resolver="ns.example.com")
    assert refused.returncode != 0 and "no address" in refused.stdout
