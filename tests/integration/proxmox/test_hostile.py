# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `test_lives.py` found, each as a small story; and answers of an API that no sane server gives."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _apply, _client, _cluster

from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule, _Handler

from .provider import POLICY, SECRET, Provider, codes, firewalled, guest, provider, service
from .world import LIVES, Direct, World

EVERYBODY = ("vps-100", "vps-101", "vps-203")


@pytest.fixture
def house(tmp_path):
    """Two virtual machines on two nodes, one of which takes no change of its NICs while it runs, and a container."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.0, lock_timeout=0.3))
    cluster.add(guest(100))
    cluster.add(guest(101, node="pve2", hotplug="disk,usb"))
    cluster.add(guest(203, "lxc"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100), service(101), service(203, "lxc"))}
        assert not made.provision()["errors"]
        yield made


# -- what random lives found -------------------------------------------------------------------------------------------


def test_what_waits_for_a_restart_is_not_in_force(house):
    """With hotplug off a NIC's new rate stands in the configuration alone, and its reading shows it there as if it were so."""
    before, one = house.state(), house.cluster.guests[101]
    done = house.enforce("bandwidth_cap", "vps-100", "vps-101", rate="10 Mbit/s")
    assert codes(done) == {"vps-101": "pending"} and "stopped and started" in done["errors"][0]["message"]
    assert house.statuses("vps-101") == ["opened"] and house.statuses("vps-100") == ["active"]
    assert "rate" in one.pending["net0"] and codes(house.again()) == {"vps-101": "pending"}
    one.apply_pending()  # stopped and started
    assert not house.again()["errors"] and house.statuses("vps-101") == ["active"]
    done = house.lift("vps-100", "vps-101")
    assert not done["errors"] and any("the former net0.rate of guest 101 waits" in note for note in done["notes"])
    assert "rate" not in house.cluster.config(one)["net0"] and house.again()["outcome"] == "unchanged"
    one.apply_pending()
    assert house.state() == before


def test_a_firewall_switch_that_waits_for_a_restart_is_in_the_way(house):
    one = house.cluster.guests[101]
    one.pending["net0"], one.config["net0"] = one.config["net0"], one.config["net0"].replace(",firewall=1", "")
    assert codes(house.enforce("quarantine", "vps-101")) == {"vps-101": "firewall_off"}
    one.apply_pending()
    assert not house.again()["errors"] and house.statuses("vps-101") == ["active"]


def test_a_paused_guest_needs_no_cable(house):
    """Its cable can't be taken while it runs; it is paused, which is what counts."""
    done = house.enforce("suspend", "vps-101")
    assert not done["errors"] and house.cluster.guests[101].paused and house.statuses("vps-101") == ["active"]
    assert any("net0.link_down" in note for note in done["notes"])


def test_the_hash_of_a_retiring_is_that_of_its_check(house):
    run = house.write(lambda tx: tx.start_run("retire"))
    checked = house.converge(run, check=True, absent=True)
    assert house.converge(run, absent=True)["plan_hash"] == checked["plan_hash"]


def test_retiring_is_not_done_while_a_group_of_ours_is_left(house):
    """Its removal isn't heard of, and by then no service has anything of ours any more."""
    rule = Rule("DELETE", "/cluster/firewall/groups/.*", refuse=Refused(596, "Connection timed out"))
    house.api.rules.append(rule)
    done = house.retire()
    assert rule.times == 0 and not done["errors"] and not house.cluster.firewall.cluster.groups


def test_a_set_half_made_goes_with_its_control(house):
    """Filling it ended in the middle, and by the next run nobody wants it any more."""
    assert not house.retire()["errors"]
    before = house.state()
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/100/firewall/ipset/aup-.*", times=9, refuse=Refused(500, "got timeout")))
    assert house.provision()["errors"] and "aup-ipfilter-net0" in house.cluster.firewall.guests[100].ipsets
    house.api.rules.clear()
    house.under(POLICY.replace("anti_spoofing: {adoption: {mode: enforce}}", 'anti_spoofing: {mode: "off"}').replace('"1"', '"2"'))
    assert not house.provision()["errors"] and not house.cluster.firewall.guests[100].ipsets
    assert not house.retire()["errors"] and house.state() == before


@pytest.mark.parametrize("first", ["/nodes/pve1/qemu/100/firewall/rules", "/cluster/firewall/groups"])
def test_two_controllers_lose_nothing_of_each_other(house, first):
    """The other one acts and is done between what this one read and what it writes on record."""
    before = house.state()
    (house.place / "other").mkdir()
    other = Provider(house.ledger, house.server, house.place / "other")

    def meanwhile():
        other.clock, other.cluster = house.clock, house.cluster
        assert not other.enforce("suspend", "vps-100", case="T-2")["errors"]
    opened = house.write(hold, "cpu_throttle", ["vps-100"], "attack_target", case="T-1", duration="48h", share="20%")
    house.api.rules.append(Rule("GET", first, before=meanwhile))
    assert not house.converge(opened["run_id"])["errors"]
    one = house.cluster.guests[100]
    assert one.paused and one.config["onboot"] == "0" and one.config["cpulimit"] == "0.4"
    assert not house.lift("vps-100", case="all")["errors"] and house.statuses("vps-100") == []
    assert house.state() == before


# -- answers that no sane server gives -----------------------------------------------------------------------------------


def _each(change):
    """What is done to each entry of a list or object."""
    def act(answer):
        if isinstance(answer, list):
            return [change(dict(one)) if isinstance(one, dict) else one for one in answer] or [change({})]
        return change(dict(answer)) if isinstance(answer, dict) else answer
    return act


GARBAGE = {
    "nothing": lambda _answer: None, "a list": lambda _answer: [], "an object": lambda _answer: {}, "a text": lambda _answer: "done",
    "a number": lambda _answer: 7, "holes": lambda _answer: [None, [], 3], "empty objects": lambda _answer: [{}],
    "values of nothing": _each(lambda one: dict.fromkeys(one)), "values of lists": _each(lambda one: {key: [1] for key in one}),
    "values of objects": _each(lambda one: {key: {"a": []} for key in one}), "true for all": _each(lambda one: dict.fromkeys(one, True)),
    "numbers for all": _each(lambda one: dict.fromkeys(one, -1.5)), "texts for all": _each(lambda one: dict.fromkeys(one, "x\x1b[31m\n{{ 1 }}")),
    "keys gone": _each(lambda one: {key: one[key] for key in sorted(one)[1:]}), "last keys gone": _each(lambda one: dict(list(one.items())[:-1])),
}


@pytest.mark.parametrize("turn", range(len(GARBAGE) if LIVES else 2))
def test_an_answer_of_another_kind_is_an_error_of_its_guest(tmp_path, monkeypatch, turn):
    """Each answer of a run in turn: never a traceback, never taken for a guest that is gone; the next run goes on."""
    monkeypatch.setattr(_apply, "WORKERS", 1)
    monkeypatch.setattr(_cluster, "READS", 1)
    world, kinds = World(tmp_path), sorted(GARBAGE)
    house, both = world.house, ["vps-100", "vps-203"]
    house.services = {sid: one for sid, one in house.services.items() if sid in both}
    try:
        assert not world.provision()["errors"]
        before, files, number, alone, passed = world.seen(world.lab), world.files(world.lab), 0, 0, set()
        while len(passed) < 2:
            which = kinds[(number // 2 + turn * 5) % len(kinds)]
            client = Direct(world, {number // 2: ("garbled", GARBAGE[which])})
            if number % 2 == 0:
                run = [house.write(hold, kind, both, "attack_target", case="T-1", duration="48h") for kind in ("suspend", "quarantine")][-1]
            else:
                run = house.write(release_hold, both, case="all")
            done = world.converge(run["run_id"], client=client)
            assert SECRET not in repr(done) and all(error["message"].isprintable() for error in done["errors"]), done["errors"]
            assert all(error["code"] and error["remedy"] for error in done["errors"]), done["errors"]
            alone += [error["service"] for error in done["errors"]] in (["vps-100"], ["vps-203"])
            passed |= {number % 2} if client.events else set()
            number += 1
            if done["errors"]:
                assert not world.reconcile()["errors"], (number, which, done["errors"])
            statuses = {one["status"] for vmid in (100, 203) for one in world.bound(vmid)}
            assert statuses == ({"active"} if number % 2 else set()), (number, which, done["errors"])
        assert number > 30 and alone > 5, (number, alone)
        if world.bound(100):
            house.write(release_hold, both, case="all")
        world.clock.now += 700
        assert not world.reconcile()["errors"] and (world.seen(world.lab), world.files(world.lab)) == (before, files)
    finally:
        world.close()


def test_answers_that_break_off_or_never_end(house, monkeypatch):
    """Cut in the body, without its data, too deep, too large: said for the guest, and a write is looked after."""
    before = house.state()
    for kind in ("cut", "no data", "deep", "endless", "infinite", "closed"):
        monkeypatch.setattr(_client, "MOST_BYTES", 1 << 20)
        broken = []
        original = _Handler._answer

        def answer(self, status, reason, text, mime="application/json", kind=kind, broken=broken, original=original):
            if self.command != "GET" or "/qemu/100/" not in self.path or not self.path.endswith("/pending"):
                original(self, status, reason, text, mime)
                return
            broken.append(kind)
            if kind == "closed":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = {"no data": b"[1]", "deep": b"[" * 100000, "endless": b" " * (2 << 20),
                    "infinite": b'{"data": [{"key": "digest", "value": 1e999}]}'}.get(kind, text.encode())
            self.send_response(200, "OK")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body[:20] if kind == "cut" else body)
                self.wfile.flush()
            except OSError:
                pass
            self.close_connection = True
        monkeypatch.setattr(_Handler, "_answer", answer)
        done = house.enforce("suspend", *EVERYBODY)
        monkeypatch.setattr(_Handler, "_answer", original)
        assert broken and codes(done).get("vps-100") in ("bad_reply", "unknown_outcome"), (kind, done["errors"])
        assert set(codes(done)) == {"vps-100"} and house.cluster.guests[203].running is False, (kind, done["errors"])
        assert not house.again()["errors"] and not house.lift(*EVERYBODY)["errors"], kind
    for _ in range(700):
        next(house.clock)
    house.again()
    assert house.state() == before


def test_a_token_taken_back_in_the_middle_of_a_run(house):
    def revoked():
        house.api.tokens["svc@pve!aup"].secret = "another"
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/100/config", before=revoked))
    done = house.enforce("suspend", *EVERYBODY)
    assert "auth" in {error["code"] for error in done["errors"]} and SECRET not in str(done)
    assert "opened" in {*house.statuses("vps-100"), *house.statuses("vps-101")}
    house.api.tokens["svc@pve!aup"].secret = SECRET
    assert not house.again()["errors"] and {*house.statuses("vps-100"), *house.statuses("vps-101"), *house.statuses("vps-203")} == {"active"}


def test_a_list_of_no_guests_does_not_forget_them(house):
    """As a node answers that has just come up."""
    before = house.state()
    assert not house.enforce("suspend", *EVERYBODY)["errors"]
    gone = dict(house.cluster.guests)
    house.cluster.guests.clear()
    assert set(codes(house.lift(*EVERYBODY)).values()) == {"guest_missing"}
    house.cluster.guests.update(gone)
    assert not house.again()["errors"] and house.statuses("vps-100") == [] and house.state() == before
