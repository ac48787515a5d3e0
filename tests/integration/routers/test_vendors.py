# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Null routes on the vendors' platforms: the same promises on each, over SSH and netmiko, on devices made of paper."""
from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router._check import check_router
from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import ANNOUNCING
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target
from tests.integration.routers.devices.base import PEERS, RTBH
from tests.integration.routers.provider import Provider, codes
from tests.integration.routers.vendor_lab import DEVICES, HOSTS, TAG, golden, provided, router_of, target_of

CONFIRMING = sorted(name for name, device in DEVICES.items() if device.CONFIRMS)
WITH_BGP = sorted(set(DEVICES) & ANNOUNCING)


@pytest.fixture(params=sorted(DEVICES))
def device(request, tmp_path):
    with DEVICES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with provided(device, tmp_path) as made:
        yield made


def test_in_and_out_again_and_nothing_in_between(device, provider):
    device.put("203.0.113.77/32", "drop", TAG)  # our mark, and on no record
    stray = copy.deepcopy(device.running)
    _planned, pending = provider.null_route(check=True)
    check = provider.converge(check=True, pending=pending)
    assert len(check["steps"]) == 2 and not device.written() and device.running == stray
    opened = provider.null_route()
    device.lines.clear()
    done = provider.converge(run_id=opened["run_id"])
    assert (done["outcome"], done["state"], done["errors"]) == ("changed", "applied", []), done
    assert done["plan_hash"] == check["plan_hash"] and golden(device.written()) == device.ADDED
    assert device.running == {**stray, **HOSTS} == device.startup and not device.pending
    assert provider.status(opened["enforcements"][0]["id"]) == "active"
    assert any("203.0.113.77/32" in note and "on no record" in note for note in done["notes"])
    device.lines.clear()
    again = provider.converge()
    assert again["outcome"] == "unchanged" and not again["steps"] and not device.written() and device.lines
    provider.lift()
    device.lines.clear()
    gone = provider.converge()
    assert gone["outcome"] == "changed" and not gone["errors"] and golden(device.written()) == device.REMOVED
    assert device.running == stray == device.startup


@pytest.fixture
def announcing(device, tmp_path):
    with Provider(tmp_path, target_of(device), router_of(device, rtbh=RTBH)) as made:
        made.provision()
        made.patience = 0.3
        device.lines.clear()
        yield made


def heard(device):
    return {peer: texts for _prefix, (_mine, told) in device.told().items() for peer, texts in told.items()}


@pytest.mark.parametrize("device", WITH_BGP, indirect=True)
def test_announced_to_each_upstream_with_its_own_community_and_withdrawn(device, announcing):
    opened = announcing.null_route(rtbh="true")
    done = announcing.converge(run_id=opened["run_id"])
    assert (done["state"], done["errors"]) == ("applied", []), done
    assert [line.replace("41667", "41666") for line in golden(device.written())] == device.ADDED
    assert heard(device) == {peer: [up["community"], "no-export"] for up in RTBH["upstreams"] for peer in up["neighbors"]}
    assert announcing.status(opened["enforcements"][0]["id"]) == "active"
    device.lines.clear()
    again = announcing.converge()
    assert again["outcome"] == "unchanged" and not device.written()
    # An answer about BGP that is not understood is no "not announced".
    for line in [line for line in dict.fromkeys(device.lines) if "bgp" in line and "configuration" not in line]:
        device.complaints = {re.escape(line): "% Authorization denied for command\n"}
        assert codes(announcing.converge()) == ["bad_reply"], line
    device.complaints = {}
    announcing.lift()
    assert not announcing.converge()["errors"] and not device.told() and not device.running
    announcing.null_route(case="T-2")
    assert not announcing.converge()["errors"] and device.running == HOSTS and not device.told()


@pytest.mark.parametrize("device", WITH_BGP, indirect=True)
def test_what_announcing_needs_is_listed_not_added(device, announcing):
    announcing.null_route(rtbh="true")
    saved = copy.deepcopy((device.redistribute, device.maps, device.out))
    junos = device.platform == "junos"
    broken = [("out", PEERS[2], None, "protocols bgp group up2 export RTBH-up2" if junos else "neighbor 192.0.2.3 route-map TO-up2 out"),
              ("maps", "TO-up1", [], "members [ 65535:666 no-export ]" if junos else " set community 65535:666 no-export"),
              ("maps", "TO-up1", [("community", "TRIGGER", "64501:1")], "65535:666 no-export")]
    if not junos:
        broken += [("redistribute", 4, None, "redistribute static route-map RTBH"),
                   ("maps", "RTBH", [("tag", 7, RTBH["trigger"])], " match tag 41667"),
                   ("maps", "RTBH", [("tag", 41667, "64500:1")], " set community 64500:666")]
    if device.platform == "vyos":
        rule = "set policy route-map %s rule 10 set community replace %s"
        named = ["neighbor 192.0.2.3 address-family ipv4-unicast route-map export TO-up2", rule % ("TO-up1", "65535:666"),
                 rule % ("TO-up1", "65535:666"), "ipv4-unicast redistribute static route-map RTBH",
                 "set policy route-map RTBH rule 10 match tag 41667", rule % ("RTBH", "64500:666")]
        broken = [(*one[:3], said) for one, said in zip(broken, named, strict=True)]
    for attribute, key, value, said in broken:
        getattr(device, attribute)[key] = value
        done = announcing.converge()
        assert set(codes(done)) == {"rtbh_missing"}, (key, done)
        assert said in "\n".join(error["remedy"] for error in done["errors"]), (key, done["errors"])
        assert "203.0.113.10/32" not in device.running
        device.redistribute, device.maps, device.out = copy.deepcopy(saved)
        device.running = {}
    assert announcing.converge()["state"] == "applied" and len(heard(device)) == 4


@pytest.mark.parametrize("device", WITH_BGP, indirect=True)
def test_an_upstream_that_hears_nothing_is_said(device, announcing):
    held = announcing.null_route(rtbh="true")["enforcements"][0]["id"]
    device.deaf = {PEERS[2]}
    done = announcing.converge()
    assert codes(done) == ["not_announced"] and "192.0.2.3" in done["errors"][0]["message"], done
    assert set(device.running) == set(HOSTS), "what drops here stays"
    device.deaf, device.down = set(), {PEERS[2]}
    done = announcing.converge()
    assert done["errors"] == [] and any("no BGP session with 192.0.2.3" in note for note in done["notes"]), done
    assert announcing.status(held) == "active"


@pytest.mark.parametrize("device", ["junos"], indirect=True)
def test_an_upstream_that_hears_another_community_is_said(device, announcing, monkeypatch):
    announcing.null_route(rtbh="true")
    right = device.told
    monkeypatch.setattr(device, "told", lambda: {prefix: (mine, {peer: ["64501:1"] for peer in told})
                                                 for prefix, (mine, told) in right().items()})
    done = announcing.converge()
    assert codes(done) == ["not_announced"] and len(done["errors"]) == 2
    assert "65535:666 to 192.0.2.2, 64502:999 to 192.0.2.3" in done["errors"][0]["message"]


@pytest.mark.parametrize(("prefix", "target", "tag", "code"), [
    ("203.0.113.10/32", "192.0.2.9", None, "route_collision"), ("2001:db8:100::10/128", "2001:db8:1::9", None, "route_collision"),
    ("203.0.113.10/32", "drop", 7, "route_collision"), ("203.0.113.99/32", "203.0.113.10", None, "router_address"),
])
def test_what_is_in_the_way_is_left_alone(device, provider, prefix, target, tag, code):
    device.put(prefix, target, tag)
    provider.null_route()
    done = provider.converge()
    assert codes(done) == [code] and device.running[prefix] == [(target, tag)]
    other = "2001:db8:100::10/128" if "." in prefix else "203.0.113.10/32"
    assert device.running[other] == HOSTS[other], "one refused address does not spare the other"


def test_a_refused_line_in_the_middle_takes_its_address_back_and_no_other(device, provider):
    device.complaints = {device.ONE_LINE: device.COMPLAINT}
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["not_applied"] and device.running == {"2001:db8:100::10/128": [("drop", TAG)]}
    device.complaints = {}
    assert provider.converge()["state"] == "applied" and device.running == HOSTS


def test_what_is_entered_and_does_not_act_is_taken_back(device, provider):
    device.dead_rib = True
    provider.null_route()
    provider.patience = 0.3
    done = provider.converge()
    assert codes(done) == ["not_applied"] and device.running == {} and not device.pending


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_cut_at_each_step(device, provider, when):
    provider.null_route()
    provider.converge(check=True)
    steps = [re.escape(line).replace("aup\\-X", "aup-[0-9a-f]{8}") for line in dict.fromkeys(device.ADDED)]
    for step in steps:
        device.running, device.startup, device.pending = {}, {}, None
        device.cut, device.cuts = (step, when), 2  # the second connection meets it too
        first = provider.converge()
        if device.cuts == 0:
            assert first["state"] == "unknown" and first["may_have_acted"], (step, first)
        device.cuts = 0
        device.expire()
        second = provider.converge()
        assert second["state"] == "applied" and device.running == HOSTS == device.startup and not device.pending, (step, second)
        assert not device.left_over(), step


@pytest.mark.parametrize("device", CONFIRMING, indirect=True)
def test_a_lost_confirmation(device, provider):
    provider.null_route()
    device.cut, device.cuts = (device.CONFIRMS, "before"), 2
    done = provider.converge()
    assert done["state"] == "unknown" and "takes it back by itself within 2 min" in done["errors"][0]["message"]
    device.expire()
    assert device.running == {}
    # Lost once only, it is confirmed over the next connection, and nothing is entered twice.
    device.cuts = 1
    device.lines.clear()
    done = provider.converge()
    assert done["state"] == "applied" and device.running == HOSTS == device.startup and not device.pending
    assert sum(bool(re.fullmatch(device.COMMITS, line)) for line in device.lines) == 1


@pytest.mark.parametrize("device", CONFIRMING, indirect=True)
def test_a_change_of_others_that_waits_is_not_confirmed_by_us(device, provider):
    device.arm_foreign()
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["busy"] and device.pending and device.running == {} and not device.written()


@pytest.mark.parametrize("device", CONFIRMING, indirect=True)
def test_locked_by_another(device, provider):
    device.locked_by = "jdoe"
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["busy"] and done["retryable"] and device.running == {}
    device.locked_by = None
    assert provider.converge()["state"] == "applied"


def test_who_may_not_come_in(device, provider, tmp_path):
    provider.null_route()
    for changed, code in (({"password": "wrong"}, "auth"), ({"known_hosts": str(tmp_path / "none")}, "known_hosts")):
        provider.target = target_of(device, **changed)
        assert codes(provider.converge()) == [code]
    unknown, other = tmp_path / "unknown", tmp_path / "other"
    unknown.write_text("")
    with DEVICES[device.platform](tmp_path) as another:
        other.write_text(another.known_hosts.read_text().replace(str(another.port), str(device.port)))
    for path, code in ((unknown, "host_key_unknown"), (other, "host_key_changed")):
        provider.target = target_of(device, known_hosts=str(path))
        assert codes(provider.converge()) == [code]
    provider.target = target_of(device)
    device.behaviour = "no_channel"
    assert codes(provider.converge()) == ["session_limit"] and not device.lines


def test_an_answer_that_is_not_understood_is_no_absence(device, provider):
    provider.null_route()
    provider.converge()
    provider.lift()
    before = copy.deepcopy(device.running)
    reads = [line for line in dict.fromkeys(device.lines) if line.startswith(device.READS)]
    assert reads
    for line in reads:
        device.lines.clear()
        device.complaints = {re.escape(line): "% Authorization denied for command\n"}
        done = provider.converge()
        assert codes(done) == ["bad_reply"] and not device.written() and device.running == before, line


def test_edits_of_others_are_told_of_before_they_are_saved(device, provider):
    if device.platform in ("junos", "routeros"):
        assert device.startup == device.running, "what is committed is saved"
        return
    device.running["198.51.100.0/24"] = [("192.0.2.9", None)]
    provider.null_route()
    provider.router["save"] = "never"
    done = provider.converge()
    assert any("differ already" in note for note in done["notes"])


def test_without_an_archive_nothing_is_entered_and_the_lines_are_named(tmp_path):
    with DEVICES["iosxe"](tmp_path) as device, Provider(tmp_path, target_of(device), router_of(device)) as provider:
        provider.provision()
        provider.null_route()
        device.archive = False
        done = provider.converge()
        assert codes(done) == ["prerequisite_missing"] and "archive\n path " in done["errors"][0]["remedy"]
        assert device.running == {} and not device.written()


def test_a_check_reads_only_and_says_what_it_does_not_understand(device):
    device.put("203.0.113.77/32", "drop", TAG)
    target = Target(**target_of(device), name="edge")
    said = check_router(device.platform, target)
    assert said["understood"] and said["ours"] == said["in_use"] == ["203.0.113.77/32"] and not said["missing"]
    assert any("192.0.2.1:" in entry for entry in said["protected"]) and not device.written()
    device.complaints = {"(show|:put) .*": "% Bad things\n"}
    said = check_router(device.platform, target)
    assert not said["understood"] and said["error"]["code"] == "bad_reply" and "Bad things" in said["error"]["message"]


@pytest.mark.parametrize("device", ["junos"], indirect=True)
def test_the_check_as_a_playbook(device, tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"all": {"hosts": {"edge": {
        "ansible_host": "127.0.0.1", "ansible_port": device.port, "ansible_user": "aup",
        "ansible_password": "secret-of-the-test", "aup_known_hosts": str(device.known_hosts)}}}}))

    def play():
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(hosts), "hosting.aup.router_check",
             "-e", "routers=edge", "-e", "platform=" + device.platform],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(
                Path(__file__).parents[3] / ".build/dev"), "ANSIBLE_HOME": str(tmp_path / "home")})
        return done.returncode, done.stdout + done.stderr

    rc, out = play()
    assert rc == 0 and '"understood": true' in out and "changed=0" in out and "secret-of-the-test" not in out, out
    assert device.lines and not device.written()
    device.complaints = {"show .*": "% Bad things\n"}
    rc, out = play()
    assert rc != 0 and "was not understood" in out and "Bad things" in out, out
