# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All pairs of kinds on a real domain and the kernel's state: side by side, then one alone, then as before. Needs root."""
from __future__ import annotations

import itertools

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._fold import HOLDS, KINDS
from libvirt_node import missing

from tests.integration.soak.host import Host


@pytest.fixture(scope="module")
def pairs():
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    with Host(2) as host:
        return host.python("tests.integration.soak.pairs", timeout=500)


def test_each_pass_reached_what_it_was_to_reach(pairs):
    assert pairs["errors"] == []
    assert {tuple(pair["pair"]) for pair in pairs["pairs"]} == set(itertools.combinations(KINDS, 2))


def test_each_kind_alone_is_to_be_seen(pairs):
    """Without this, the others would compare nothing with nothing."""
    free, alone = pairs["free"], pairs["alone"]["vps-1"]

    def guest(kind):
        return alone[kind]["services"]["vps-1"]

    assert free["services"]["vps-1"]["state"] == "running" and free["routes"] == [] and free["links"] == ["br0", "lo", "tap1"]
    assert guest("suspend")["state"] == "paused" and guest("suspend")["link_down"] and guest("terminate")["state"] == "off"
    assert guest("io_throttle")["iops"] == 50 and alone["null_route"]["routes"] == ["192.0.2.1", "2001:db8:5::1"]
    assert pairs["alone"]["vps-2"]["cpu_throttle"]["services"]["vps-2"]["quota"] == "20000"
    assert len(alone["bandwidth_cap"]["links"]) == 5 and alone["bandwidth_cap"]["qdiscs"]
    for kind in set(alone) - {"io_throttle", "bandwidth_cap"}:
        assert alone[kind]["rules"] != free["rules"], kind


def _own(kind, found, name):
    """The part of what is seen that a limit shows of itself, whatever stands beside it."""
    guest = found["services"][name]
    return {"io_throttle": guest["iops"], "cpu_throttle": guest["quota"], "null_route": found["routes"]}.get(kind)


def test_two_at_once_are_both_in_force(pairs):
    for pair in pairs["pairs"]:
        name, alone = pair["guest"], pairs["alone"][pair["guest"]]
        for kind in pair["pair"]:
            assert _own(kind, pair["both"], name) == _own(kind, alone[kind], name), pair["pair"]
        holds = [kind for kind in pair["pair"] if kind in HOLDS]
        if holds:
            seen, wanted = pair["both"]["services"][name], alone[max(holds, key=HOLDS.index)]["services"][name]
            assert (seen["state"], seen["link_down"]) == (wanted["state"], wanted["link_down"]), pair["pair"]


def test_one_that_ends_leaves_the_other_as_if_it_had_been_alone(pairs):
    for pair in pairs["pairs"]:
        if (pair["ended"], pair["left"]) == ("terminate", "suspend"):
            # What was powered off is not booted only to be paused.
            guest = pair["rest"]["services"]["vps-1"]
            assert guest["state"] == "off" and guest["link_down"]
            continue
        for part, wanted in pairs["alone"][pair["guest"]][pair["left"]].items():
            assert pair["rest"][part] == wanted, (pair["pair"], "left: " + pair["left"], part)


def test_the_last_gives_back_exactly(pairs):
    for pair in pairs["pairs"]:
        for part, wanted in pairs["free"].items():
            assert pair["free"][part] == wanted, (pair["pair"], "ended last: " + pair["left"], part)


def test_what_the_customer_does_after_a_hold_is_the_customers(pairs):
    """Although a throttle of another case still stands, and with it what was kept of the guest before."""
    assert (pairs["paused"]["state"], pairs["paused"]["iops"]) == ("paused", 50)


def test_a_plan_that_is_upgraded_under_a_cap_is_the_plan_after_it(pairs):
    """By a panel, in libvirt: our cap stands beside it, or over it, and what comes back is what the panel said last."""
    told = pairs["upgrade"]
    running, off = ({when: told[when][name] for when in ("before", "capped", "upgraded", "lifted")} for name in ("vps-1", "vps-2"))
    assert [running[when]["inbound"] for when in running] == [500, 500, 4000, 4000]
    assert [running[when]["kernel"] for when in running] == [["4Mbit"], ["4Mbit"], ["32Mbit"], ["32Mbit"]]
    assert [running[when]["shaped"] for when in running] == [[], ["10Mbit"], ["10Mbit"], []]
    assert [running[when]["iops live"] for when in running] == [running[when]["iops config"] for when in running] == [200, 50, 50, 900]
    assert [off[when]["quota"] for when in off] == [60000, 20000, 20000, 90000]


def test_the_catalogues_new_rate_of_a_guest_made_here_waits_for_the_end_of_its_cap(pairs):
    assert [pairs["upgrade"][when] for when in ("made", "made, capped", "made, upgraded", "made, lifted")] == [
        ["4Mbit"], ["4Mbit"], ["10Mbit"], ["80Mbit"]]


def test_one_pass_of_the_keeper_has_rules_traffic_control_and_routes_back(pairs):
    flush = pairs["flush"]
    gone = flush["gone"]
    assert gone["rules"] == "" and gone["routes"] == [] and gone["links"] == ["br0", "lo", "tap1"] and gone["qdiscs"] == []
    assert flush["back"] == flush["there"] and flush["errors"] == [] and flush["again"] == []
    assert len(flush["there"]["links"]) == 5 and len(flush["there"]["routes"]) == 2
    assert flush["free"] == pairs["free"]
