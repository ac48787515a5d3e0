# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of a Tor network of our own: who can exit, and every way a document may lie."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tor_network import TorNetwork

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._tor import _audit, _documents

RELAYS = {
    "plain": ("203.0.113.11", "ExitRelay 0"),
    "exit": ("203.0.113.12", "ExitRelay 1\nExitPolicy accept *:80,accept *:443,reject *:*"),
    "exit6": ("203.0.113.13", "IPv6Exit 1\nExitPolicy accept6 *:443, reject *:*"),
    "narrow": ("203.0.113.14", "ExitPolicy accept *:6667,reject *:*"),
    "elsewhere": ("198.51.100.9", "ExitRelay 1"),
}
OURS = ["203.0.113.0/24", "2001:db8::/32"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    directory = tmp_path_factory.mktemp("network")
    directory.chmod(0o700)
    running = TorNetwork(directory, RELAYS)
    try:
        yield running.documents(), running.v3, int(time.time())
    finally:
        running.close()


@pytest.fixture(scope="module")
def read(network):
    """`read(now=…, consensus=…, certificates=…, authorities=…)` of the real documents or of others."""
    documents, v3, at = network

    def reading(now=at, consensus=documents["consensus"], certificates=documents["certificates"], authorities=(v3,)):
        keys = _documents.signing_keys("keys", certificates, frozenset(authorities), now)
        return _documents.read_consensus("consensus", consensus, now, frozenset(authorities), keys)

    return reading


def test_exits_by_flag_by_summary_and_by_ipv6_policy_alone(network, read):
    documents, v3, at = network
    consensus = read()
    assert consensus.signed_by == [v3]
    descriptors, notes = _documents.read_descriptors("descriptors", documents["descriptors"], at)
    assert notes == []
    found = {one["nickname"]: one for one in _audit.relays_in(OURS, consensus.relays, descriptors)}
    assert set(found) == set(RELAYS) - {"elsewhere"}
    assert {name for name, one in found.items() if one["can_exit"]} == {"exit", "exit6", "narrow"}
    assert "Exit" not in found["narrow"]["flags"] + found["exit6"]["flags"]
    assert "IPv6" in found["exit6"]["why"][0] and found["plain"]["why"] == []
    alone = {one["nickname"]: one for one in _audit.relays_in(OURS, consensus.relays, {})}
    assert not alone["exit6"]["can_exit"] and alone["narrow"]["can_exit"]
    # A descriptor shows an exit although no consensus has it (any longer).
    assert {one["nickname"] for one in _audit.relays_in(OURS, {}, descriptors) if one["can_exit"]} == {"exit", "exit6", "narrow"}


def changed(data, old, new):
    assert old in data
    return data.replace(old, new, 1)


def test_a_consensus_that_lies_is_refused_with_place_and_remedy(network, read):
    documents, v3, at = network
    good, keys = documents["consensus"], documents["certificates"]
    year = 365 * 86400
    cases = [
        ({"consensus": good[:len(good) // 2]}, "truncated"),
        ({"consensus": good[:good.index(b"directory-signature")]}, "truncated"),
        ({"consensus": b""}, "no consensus"), ({"consensus": b"<html>404</html>"}, "no consensus"),
        ({"consensus": changed(good, b"p accept 80,443", b"p reject 80,443")}, "0 of 1 authorities"),
        ({"consensus": changed(good, b"203.0.113.12", b"192.0.2.12")}, "0 of 1 authorities"),
        ({"authorities": (v3, "A" * 40)}, "1 of 2 authorities"),
        ({"authorities": ("A" * 40,)}, "no good certificate"),
        ({"certificates": changed(keys, b"dir-key-expires 20", b"dir-key-expires 21")}, "not signed by its identity key"),
        ({"certificates": keys[:300]}, "truncated"),
        ({"now": at + 2 * 86400}, "was valid until"), ({"now": at - 86400}, "valid only from"), ({"now": at + 2 * year}, "expired"),
        ({"consensus": good.replace(b"\n", b"\0\n")}, "NUL"),
        ({"consensus": changed(good, b"network-status-version 3", b"network-status-version 3 microdesc")}, "microdesc"),
    ]
    for arguments, part in cases:
        with pytest.raises(InputError, match=part) as caught:
            read(**arguments)
        assert caught.value.target and caught.value.remedy, part
    # The same signature twice is one signature.
    signature = good[good.index(b"directory-signature"):]
    with pytest.raises(InputError, match="1 of 2"):
        read(consensus=good + signature, authorities=(v3, "A" * 40))


def test_last_years_consensus_is_refused_even_unverified(network):
    documents, v3, at = network
    with pytest.raises(InputError, match="was valid until"):
        _documents.read_consensus("consensus", documents["consensus"], at + 365 * 86400, frozenset([v3]), None)


def test_a_hostile_descriptor_is_left_out_and_hides_no_other(network):
    documents, _v3, at = network
    good = documents["descriptors"]
    for bad, part in (
            (changed(good, b"accept *:443\nreject *:*", b"reject *:443\nreject *:*"), "signature"),
            (changed(good, b"accept *:6667", b"accept *:6667777777"), "descriptor"),
            (re.sub(rb"fingerprint [0-9A-F ]+", b"fingerprint " + b" ".join([b"AAAA"] * 10), good, count=1), "fingerprint"),
            (good + b"router evil 203.0.113.66 9001 0 0\n" + b"contact " + b"x" * 70000 + b"\n", "larger than"),
            (good + b"router evil 999.0.113.66 9001 0 0\n", "left out"), (good[:-400], "left out")):
        found, notes = _documents.read_descriptors("descriptors", bad, at)
        assert len(found) >= len(RELAYS) and len(notes) == 1 and part in notes[0] and "left out" in notes[0], (part, notes)
    found, notes = _documents.read_descriptors("descriptors", good, at + 365 * 86400)
    assert not found and len(notes) == len(RELAYS) + 1 and "two days" in notes[0]
    with pytest.raises(InputError, match="no list"):
        _documents.read_descriptors("descriptors", b"<html>", at)


@settings(max_examples=60)
@given(data=st.data())
def test_no_damage_gets_past_or_raises_anything_else(network, read, data):
    documents, _v3, at = network
    name = data.draw(st.sampled_from(["consensus", "descriptors", "certificates"]))
    raw = bytearray(documents[name])
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place:place + data.draw(st.integers(1, 40))] = data.draw(st.binary(max_size=40))
    if name == "descriptors":
        try:
            found, _notes = _documents.read_descriptors(name, bytes(raw), at)
        except InputError:
            return
        real, _none = _documents.read_descriptors(name, documents[name], at)
        for fingerprint, one in found.items():  # what is still taken is as its relay signed it
            assert str(one.exit_policy) == str(real[fingerprint].exit_policy)
        return
    try:
        assert read(**{name: bytes(raw)}).relays.keys() == read().relays.keys()
    except InputError:
        pass


def test_the_playbook_names_the_service_and_what_it_declared(network, tmp_path):
    documents, v3, _at = network
    for name, data in documents.items():
        (tmp_path / name).write_bytes(data)
    catalogue = {"format": 1, "generated_at": None, "prefixes": OURS, "nodes": {}, "services": {"vps-12": {
        "id": "vps-12", "uses": {"tor": "relay"}, "nics": [{"mac": "52:54:00:00:00:12", "addresses": ["203.0.113.12"]}]}}}
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as ledger, ledger.transaction(actor="test") as tx:
        tx.create_release({"house@1": {"name": "house"}}, "house@1", catalogue)
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "hosting")))
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [
        {"name": "look", "hosting.aup.tor_relay_info": {
            "ledger_url": str(tmp_path / "ledger.db"), "consensus": "consensus", "certificates": "certificates",
            "descriptors": ["descriptors"], "authorities": [v3]}, "register": "tor"},
        {"name": "keep", "ansible.builtin.copy": {"dest": str(tmp_path / "out"), "content": "{{ tor | to_json }}", "mode": "0600"}}]}]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "play.yml"], capture_output=True, text=True,
        timeout=120, check=False, cwd=tmp_path, env=os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out").read_text())
    assert [one["nickname"] for one in found["relays"] if not one["can_exit"]] == ["plain"]
    exits = {one["nickname"]: one for one in found["exits"]}
    assert exits["exit"]["services"] == ["vps-12"] and exits["exit"]["declared"] == {"vps-12": "relay"}
    assert any(line.startswith("EXIT exit (203.0.113.12) of vps-12: flag Exit") for line in found["lines"])
