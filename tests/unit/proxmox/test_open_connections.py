# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about connections that are open when a block begins: pure, so over generated inputs too."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _open_connections as on
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest
from tests.unit.proxmox.test_plan import desired_of, guest_of, service_of

NOW = 1_800_000_000


def enforcement(number, kind="quarantine", choice=None, **changed):
    options = {"ports": [25 + number]} if kind == "port_block" else {}
    if choice is not None:
        options["open_connections"] = choice
    return {"id": "E-%d" % number, "service": "vps-1", "kind": kind, "status": "opened", "starts_at": NOW, "ends_at": NOW + 9000,
            "options": options, "case_id": "C-%d" % number, "clause": None, **changed,
            "snapshot": {"nics": [{"addresses": ["192.0.2.7", "2001:db8::7"], "prefixes": ["198.51.100.8/29"], "floating": ["192.0.2.9"],
                                   "shared": [{"address": "192.0.2.9"}]}], "routers": ["edge"], "nodes": ["pve"], "location": "main"}}


def test_older_records_and_other_kinds_leave_them():
    assert on.choice(enforcement(1)) == "leave" and on.choice(enforcement(1, "suspend", "restart")) == "leave"
    assert on.choice(enforcement(1, "smtp_block", "restart")) == "restart"


def test_the_null_route_is_of_what_is_the_services_alone():
    assert on.null_route_targets(enforcement(1, choice="null_route")) == ["192.0.2.7/32", "198.51.100.8/29", "2001:db8::7/128"]


@given(st.sampled_from(on.CHOICES), st.sampled_from([*on.KINDS, "null_route", "suspend"]), st.integers(-10, 3000),
       st.sampled_from(["opened", "active", "ending"]), st.sampled_from([None, 60, 9000]))
def test_null_routed_only_while_the_block_is_in_force_and_new(choice, kind, after, status, length):
    one = enforcement(1, kind, choice, status=status, ends_at=None if length is None else NOW + length)
    in_force = status != "ending" and (length is None or after < length) and (after >= 0 or status == "active")
    assert on.null_routed(one, NOW + after) == (
        choice == "null_route" and kind in on.KINDS and in_force and after < on.NULL_ROUTE_SECONDS)


BLOCKS = st.lists(st.tuples(st.sampled_from(on.KINDS), st.sampled_from([None, *on.CHOICES])), min_size=1, max_size=4)


@given(BLOCKS, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_each_by_its_own_terms(chosen, hosts, reached, stopped, routers, placed, late):
    """Restarted only for a block that says so, and where its node does not end it; what nobody ends is said."""
    reached = reached and hosts
    enforcements = [enforcement(number, kind, choice) for number, (kind, choice) in enumerate(chosen)]
    for one in enforcements:
        one["snapshot"]["routers"] = ["edge"] if routers else []
    blocks = on.blocks_of(enforcements, NOW)
    choices = {choice or "leave" for _kind, choice in chosen}
    now = NOW + on.NULL_ROUTE_SECONDS * late
    found = on.endings(blocks, (), "pve1", hosts, reached, stopped, placed, now)
    assert bool(found.restart) == ("restart" in choices and not reached and not stopped)
    assert found.restart <= on.refused(blocks) and found.ended <= on.refused(blocks)
    assert not (choices == {"leave"} and (found.restart or found.ended or found.notes or found.gaps))
    unmet = "node_filter" in choices or "null_route" in choices and (hosts or not routers or late)
    assert bool(found.gaps) == (unmet and not reached and not stopped and not found.restart)
    # Once is enough.
    done = found.restart | found.ended
    again = on.endings(blocks, done, "pve1", hosts, reached, stopped, placed, now)
    assert not again.restart and not again.ended and not again.notes


@pytest.mark.parametrize(("choice", "hosts", "routers", "words"), [
    ("node_filter", False, [], "names none"), ("node_filter", True, [], "node pve1 was not seen"),
    ("null_route", True, ["edge"], "node pve1 was not seen"), ("null_route", False, [], "no router could"),
])
def test_a_gap_names_its_remedy(choice, hosts, routers, words):
    one = enforcement(1, choice=choice)
    one["snapshot"]["routers"] = routers
    found = on.endings(on.blocks_of([one], NOW), (), "pve1", hosts, False, False, True, NOW)
    assert len(found.gaps) == 1 and words in found.gaps[0] and ": " in found.gaps[0].partition(words)[2]


class House:
    """A guest under blocks, planned as it is seen; what the plan wants is carried out."""

    def __init__(self):
        self.guest, self.service = guest_of(), service_of()
        self.guest.update(uptime=5000, node="pve1")
        self.now, self.starts, self.notes, self.gaps, self.hosts = NOW, 0, [], [], {}
        self.blocks, self.firewall_on, self.lost = [], True, False

    def run(self, rules_on=(), broken=False):
        """:returns: whether anything was to be done"""
        self.now += 60
        self.guest["uptime"] += 60
        self.service.update(blocks=self.blocks, limits={"port_block": {"enforcement_ids": ["E"], "blocks": [
            {"protocol": "tcp", "direction": "out", "ports": [25]}]}} if self.blocks else {})
        facts = {"firewall_on": self.firewall_on, "settings": {"hosts": self.hosts}, "now": self.now, "present": True, "rules_on": rules_on}
        todo = _guest.plan(self.service, self.guest, facts, _firewall.Shared(desired_of(self.service)))
        self.service["touched"] = todo.touched or {}
        self.notes, self.gaps = todo.notes, todo.gaps
        for step in todo.steps:
            if step["verb"] == "rules" and not self.lost:
                self.guest["rules"] = [dict(rule) for rule in step["after"]["rules"]]
            if step["verb"] == "power" and step["how"] in ("restart", "start"):
                self.guest["power"] = "stopped"
                if not broken:
                    self.guest.update(power="running", uptime=1)
                    self.starts += 1
        return any(step["verb"] == "power" for step in todo.steps)

    def block(self, *chosen):
        self.blocks = on.blocks_of([enforcement(number, "port_block", choice) for number, choice in chosen], NOW)


EVENTS = st.lists(st.tuples(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(on.CHOICES)), max_size=3, unique_by=lambda pair: pair[0]),
    st.booleans()), min_size=1, max_size=8)


@given(EVENTS, st.booleans())
def test_one_restart_for_each_new_block_that_asks_for_it_and_never_again(events, hosts):
    """Whatever comes and goes, and whichever runs reach the node."""
    house, settled = House(), set()
    house.hosts = {"pve1": "192.0.2.1"} if hosts else {}
    for chosen, reached in events:
        house.block(*chosen)
        rules_on = ("pve1",) if reached and hosts else ()
        asked = {(number, choice) for number, choice in chosen if choice != "leave"}
        settled &= {number for number, _choice in asked}
        wanted = bool({number for number, choice in asked if choice == "restart"} - settled) and not rules_on
        before = house.starts
        house.run(rules_on)
        assert house.starts == before + wanted
        if wanted or rules_on:
            settled |= {number for number, _choice in asked}
        assert not house.run(rules_on) and house.starts == before + wanted
    house.block()
    house.run()
    assert not house.run() and not (house.service["touched"].get("restart"))


def test_one_that_failed_half_way_is_finished_and_a_paused_one_waits():
    house = House()
    house.block((1, "restart"))
    assert house.run(broken=True) and house.guest["power"] == "stopped"
    house.block()
    assert house.run() and house.guest["power"] == "running" and house.starts == 1
    house.guest["power"] = "paused"
    house.block((1, "restart"))
    assert not house.run() and not house.run()
    house.guest["power"] = "running"
    assert house.run() and not house.run() and house.starts == 2


def test_rules_that_come_after_the_null_route_are_too_late_and_those_before_are_not():
    for late, lost in ((False, False), (True, False), (False, True)):
        house = House()
        house.now += on.NULL_ROUTE_SECONDS * late
        house.block((1, "null_route"))
        house.lost = lost  # none of them is written
        house.run()
        house.run()
        assert bool(house.gaps) == late
        late = late or lost
        house.now += on.NULL_ROUTE_SECONDS
        house.run()
        assert bool(house.gaps) == late and all("came when its null route was over" in gap for gap in house.gaps)


def test_no_restart_before_anything_is_refused():
    house = House()
    house.firewall_on = False
    house.block((1, "restart"))
    assert not house.run() and not house.run()
    house.firewall_on = True
    assert house.run() and not house.run() and house.starts == 1


def test_a_node_that_was_not_reached_leaves_it_to_the_restart_and_one_that_was_does_not():
    house = House()
    house.hosts = {"pve1.example.net": "192.0.2.1", "pve2.example.net": "192.0.2.2"}
    house.block((1, "restart"))
    assert not house.run(rules_on=("pve1.example.net",)) and any("no restart" in note for note in house.notes)
    assert not house.run(rules_on=("pve2.example.net",))  # they were ended then
    house.block((1, "restart"), (2, "restart"))
    assert house.run(rules_on=("pve2.example.net",)) and any("was not seen with its rules" in note for note in house.notes)
    house.block((1, "restart"), (2, "restart"), (3, "node_filter"))
    assert not house.run() and house.gaps and not house.run() and house.gaps
    assert not house.run(rules_on=("pve1.example.net",)) and not house.gaps and not house.run() and not house.gaps
