# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give back exactly, whatever the guest was before and in whatever order it is held."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _hold
from guest_model import MACS, Guest, Node, quarantine, suspend
from hypothesis import given, settings
from hypothesis import strategies as st

LINK = st.sampled_from(["up", "down"])
POWER = st.sampled_from(["pause", "shutdown", "destroy"])
HOLDS = st.one_of(POWER.map(suspend), st.just(quarantine()))


@st.composite
def guests(draw, states=("running", "paused", "off", "pmsuspended", "crashed")):
    state = draw(st.sampled_from(states))
    persistent = True if state == "off" else draw(st.booleans())
    return Guest(state, draw(st.booleans()), persistent, draw(st.lists(st.tuples(LINK, LINK), max_size=2)))


def held(guest, hold):
    return (
        (
            guest.state not in ("running", "shutting_down")
            and not guest.autostart
            and "up" not in guest.live.values()
            and "up" not in guest.config.values()
        )
        if hold["kind"] == "suspend"
        else True
    )


@given(guests(), st.lists(HOLDS, min_size=1, max_size=5), st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_sequence_of_holds_is_given_back_exactly(guest, holds, keeps_touched):
    before = guest.fields()
    node = Node(guest, _hold, keeps_touched)
    for hold in holds:
        node.converge(hold)
        assert held(guest, hold)
        assert node.converge(hold) == []
        if hold["kind"] == "quarantine":
            assert guest.fields() == before
    node.converge(None)
    assert guest.fields() == before
    assert node.baseline is None


@given(guests(), st.lists(st.tuples(st.one_of(HOLDS, st.none()), st.integers(0, 6)), max_size=6), HOLDS)
@settings(max_examples=400, deadline=None)
def test_killed_between_any_two_steps_the_next_pass_finishes_or_undoes(guest, passes, last):
    before = guest.fields()
    node = Node(guest, _hold)
    for hold, killed_after in passes:
        node.converge(hold, killed_after)
    node.converge(last)
    assert held(guest, last)
    node.converge(None)
    assert guest.fields() == before


CHANGES = ["start", "resume", "power_off", "autostart", "link_live", "link_config", "reboot"]


@given(guests(), POWER, st.sampled_from(CHANGES), st.booleans())
@settings(max_examples=600, deadline=None)
def test_what_others_change_meanwhile_wins(guest, power, change, reconciled):
    node = Node(guest, _hold)
    before = guest.fields()
    was_executing = guest.state == "running"
    node.converge(suspend(power))
    held_state = guest.state
    wanted = {}
    if change == "start" and guest.state == "off":
        guest.start()
        wanted["state"] = "running"
    elif change == "resume" and guest.state == "paused":
        guest.state = "running"
        wanted["state"] = "running"
    elif change == "power_off" and guest.state == "paused" and guest.persistent:
        guest.power_off("destroyed")
        wanted["state"] = "off"
    elif change == "autostart" and guest.persistent:
        guest.autostart = True
        wanted["autostart"] = True
    elif change == "link_live" and MACS[0] in guest.live and guest.state != "off":
        guest.live[MACS[0]] = wanted["live"] = "up"
    elif change == "link_config" and MACS[0] in guest.config and guest.persistent:
        guest.config[MACS[0]] = wanted["config"] = "up"
    elif change == "reboot" and guest.persistent:
        guest.host_reboots()
        wanted["state"] = "running" if was_executing else "off"
    if reconciled:
        node.converge(suspend(power))
        assert held(guest, suspend(power))
    node.converge(None)
    state, autostart, live, config = guest.fields()
    assert state == wanted.get("state", before[0]), (held_state, node.notes)
    assert autostart == wanted.get("autostart", before[1])
    if MACS[0] in config:
        assert config[MACS[0]] == wanted.get("config", before[3][MACS[0]])
        if "live" in wanted:
            assert live[MACS[0]] == wanted["live"]
        elif state != "off" and before[2][MACS[0]] is not None and "config" not in wanted:
            assert live[MACS[0]] == before[2][MACS[0]]
        elif state != "off" and before[2][MACS[0]] is None:
            assert live[MACS[0]] == config[MACS[0]]


@given(guests(), HOLDS, st.lists(st.sampled_from(["pause", "power_off", "link"]), max_size=3))
@settings(max_examples=200, deadline=None)
def test_nothing_done_to_a_quarantined_guest_by_others_is_undone(guest, _hold_kind, changes):
    node = Node(guest, _hold)
    node.converge(quarantine())
    for change in changes:
        if change == "pause" and guest.state == "running":
            guest.state, guest.reason = "paused", "user"
        elif change == "power_off" and guest.state in ("running", "paused") and guest.persistent:
            guest.power_off("destroyed")
        elif change == "link" and MACS[0] in guest.config and guest.persistent:
            guest.config[MACS[0]] = "down"
        assert node.converge(quarantine()) == []
    left = guest.fields()
    node.converge(None)
    assert guest.fields() == left


@given(guests(), HOLDS)
@settings(max_examples=100, deadline=None)
def test_documents_survive_json(guest, hold):
    node = Node(guest, _hold)
    node.converge(hold)
    for document in (node.baseline, node.touched):
        assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("kind", ["pause", "shutdown", "destroy"])
def test_links_go_down_before_the_power_and_come_up_before_the_guest_runs_on(kind):
    guest = Guest("running", True, links=(("up", "up"),))
    node = Node(guest, _hold)
    verbs = [(s["verb"], s.get("scope")) for s in node.converge(suspend(kind))]
    assert verbs == [("set_link", "live"), ("set_link", "config"), (kind, None), ("set_autostart", None)]
    back = [s["verb"] for s in node.converge(None)]
    assert back == (
        ["set_link", "set_link", "resume", "set_autostart"]
        if kind == "pause"
        else ["start", "set_link", "set_link", "set_autostart"]
    )
