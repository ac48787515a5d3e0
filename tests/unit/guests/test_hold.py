# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holding says and refuses."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _hold
from guest_model import UUID, Guest, Node, quarantine, suspend

OTHER = "11111111-2222-3333-4444-555555555555"


def service(hold=None, **changes):
    return dict(
        {"id": "vps-1", "guest": {"name": "web", "uuid": UUID}, "hold": hold, "elsewhere": False}, **changes
    )


def codes(plan):
    return [error["code"] for error in plan.errors]


def test_missing_guest_is_an_error_that_names_guest_and_remedy():
    plan = _hold.plan_hold(service(suspend()), None, None, "boot-1")
    assert plan.steps == [] and plan.prior is None
    (error,) = plan.errors
    assert (error["service"], error["code"], error["retryable"]) == ("vps-1", "guest_missing", False)
    assert "web" in error["message"] and error["remedy"]


def test_missing_on_one_node_of_a_pool_is_no_error():
    plan = _hold.plan_hold(service(suspend(), elsewhere=True), None, None, "boot-1")
    assert (plan.steps, plan.prior, plan.errors) == ([], None, []) and "pool" in plan.notes[0]


def test_gone_guest_can_be_released():
    baseline = _hold.capture(Guest().seen(), "boot-1")
    plan = _hold.plan_release(service(), None, baseline, "boot-1", _hold.untouched())
    assert plan.steps == [] and "not defined" in plan.notes[0]


@pytest.mark.parametrize("known_by", ["service", "baseline"])
def test_foreign_guest_is_never_touched(known_by):
    guest = Guest()
    baseline = _hold.capture(guest.seen(), "boot-1")
    if known_by == "service":
        baseline["guest"]["uuid"] = None
    foreign = dict(guest.seen(), uuid=OTHER, autostart=True)
    wanted = service(suspend(), guest={"name": "web", "uuid": UUID if known_by == "service" else None})
    plan = _hold.plan_hold(wanted, foreign, baseline, "boot-1", _hold.untouched())
    assert plan.steps == [] and codes(plan) == ["guest_changed"]
    assert OTHER in plan.errors[0]["message"] and UUID in plan.errors[0]["message"]
    assert _hold.plan_release(wanted, foreign, baseline, "boot-1", _hold.untouched()).steps == []


def test_uuid_is_compared_without_regard_to_case():
    wanted = service(suspend(), guest={"name": "web", "uuid": UUID.upper()})
    assert codes(_hold.plan_hold(wanted, Guest().seen(), None, "boot-1")) == []


def test_renamed_guest_is_followed_by_uuid_but_not_without_one():
    renamed = dict(Guest().seen(), name="web-new")
    plan = _hold.plan_hold(service(suspend()), renamed, None, "boot-1")
    assert plan.steps and codes(plan) == [] and "web-new" in plan.notes[0]
    plan = _hold.plan_hold(service(suspend(), guest={"name": "web", "uuid": None}), renamed, None, "boot-1")
    assert plan.steps == [] and codes(plan) == ["guest_changed"]


@pytest.mark.parametrize(
    "state, reason", [("paused", "migration"), ("paused", "starting_up"), ("unknown", "unknown")]
)
def test_guest_paused_by_libvirt_itself_is_not_recorded_as_paused(state, reason):
    guest = Guest(state)
    guest.reason = reason
    plan = _hold.plan_hold(service(suspend()), guest.seen(), None, "boot-1")
    assert (plan.steps, plan.prior, codes(plan)) == ([], None, ["guest_busy"])
    assert plan.errors[0]["retryable"] is True


@pytest.mark.parametrize(
    "power, word", [("pause", "reboots"), ("shutdown", "in time"), ("destroy", "not asked")]
)
def test_what_is_lost_is_said_before_the_first_step(power, word):
    plan = _hold.plan_hold(service(suspend(power)), Guest().seen(), None, "boot-1")
    assert any(word in note for note in plan.notes)
    assert any("sessions" in note for note in plan.notes)
    again = _hold.plan_hold(service(suspend(power)), Guest().seen(), plan.prior, "boot-1", _hold.untouched())
    assert not any(word in note for note in again.notes)


def test_nothing_of_memory_is_said_for_a_guest_that_is_off():
    assert len(_hold.lost_on_hold(suspend("destroy"), Guest("off").seen())) == 1


def test_nic_whose_link_cannot_be_set_is_said_and_the_power_holds():
    guest = Guest("running").seen()
    guest["nics"][0].update(
        kind="unsupported:hostdev", link_settable=False, gap="NIC … is a passed-through card."
    )
    plan = _hold.plan_hold(service(suspend()), guest, None, "boot-1")
    assert [s["verb"] for s in plan.steps] == ["pause"]
    assert any("only the guest's power" in note for note in plan.notes)


def test_guest_paused_by_somebody_else_keeps_its_memory_even_when_policy_powers_off():
    guest = Guest("paused")
    node = Node(guest, _hold)
    node.converge(suspend("destroy"))
    assert guest.state == "paused" and any("left so" in note for note in node.notes)


def test_nic_plugged_in_while_held_is_held_and_given_back_up():
    guest = Guest("running", links=(("up", "up"),))
    node = Node(guest, _hold)
    node.converge(suspend())
    guest.live["52:54:00:00:00:09"] = guest.config["52:54:00:00:00:09"] = "up"
    assert [s["mac"] for s in node.converge(suspend())] == ["52:54:00:00:00:09"] * 2
    node.converge(None)
    assert set(guest.live.values()) | set(guest.config.values()) == {"up"}


def test_nic_removed_while_held_is_said():
    guest = Guest("running", links=(("up", "up"),))
    node = Node(guest, _hold)
    node.converge(suspend())
    guest.live.clear()
    guest.config.clear()
    node.converge(None)
    assert guest.state == "running" and any("no longer has the NIC" in note for note in node.notes)


def test_guest_being_shut_down_when_suspended_by_power_off_stays_off():
    guest = Guest("shutting_down")
    node = Node(guest, _hold)
    node.converge(suspend("destroy"))
    node.converge(None)
    assert guest.state == "off"


def test_guest_in_quarantine_keeps_running_and_its_state_is_on_record():
    plan = _hold.plan_hold(service(quarantine()), Guest("running", True).seen(), None, "boot-1")
    assert plan.steps == [] and plan.prior["power"] == "running" and plan.prior["autostart"] is True


def test_prior_names_what_the_node_module_needs_of_a_guest_that_left():
    prior = _hold.plan_hold(service(suspend()), Guest().seen(), None, "boot-1").prior
    assert prior == {
        "format": 1,
        "guest": {"name": "web", "uuid": UUID},
        "power": "running",
        "persistent": True,
        "autostart": False,
        "links": {"52:54:00:00:00:01": {"live": "up", "config": "up"}},
        "boot_id": "boot-1",
    }


def test_steps_carry_what_report_and_engine_need():
    (first, *_rest, last) = _hold.plan_hold(
        service(suspend("shutdown")), Guest().seen(), None, "boot-1"
    ).steps
    assert first == {
        "engine": "libvirt",
        "verb": "set_link",
        "service": "vps-1",
        "guest_uuid": UUID,
        "guest_name": "web",
        "why": "suspend by enforcement 7",
        "before": "up",
        "after": "down",
        "mac": "52:54:00:00:00:01",
        "scope": "live",
    }
    assert last["verb"] == "shutdown" and last["deadline_seconds"] == _hold.SHUTDOWN_SECONDS


def test_killed_while_going_from_pause_to_power_off_the_pause_is_still_ours():
    guest = Guest("running")
    node = Node(guest, _hold)
    node.converge(suspend("pause"))
    assert [s["verb"] for s in node.converge(suspend("shutdown"), killed_after=0)] == ["shutdown"]
    assert guest.state == "paused"
    node.converge(None)
    assert guest.state == "running"


@pytest.mark.parametrize(
    "reason, state",
    [
        ("crashed", "running"),
        ("daemon", "running"),
        ("destroyed", "off"),
        ("shutdown", "off"),
        ("saved", "off"),
        ("unknown", "off"),
    ],
)
def test_paused_guest_that_is_off_now_is_booted_after_a_fault_only(reason, state):
    guest = Guest("running")
    node = Node(guest, _hold)
    node.converge(suspend("pause"))
    guest.power_off(reason)
    node.converge(None)
    assert guest.state == state
    assert any(("fault" if state == "running" else "stays so") in note for note in node.notes)


def test_without_a_record_a_pause_under_quarantine_is_not_taken_for_ours():
    guest = Guest("running")
    node = Node(guest, _hold, keeps_touched=False)
    node.converge(quarantine())
    guest.state, guest.reason = "paused", "user"
    assert node.converge(quarantine()) == []
    node.converge(None)
    assert guest.state == "paused"


@pytest.mark.parametrize("state", ["crashed", "pmsuspended"])
def test_guest_that_does_not_run_for_reasons_of_its_own_is_left_so_and_said(state):
    guest = Guest(state)
    node = Node(guest, _hold)
    node.converge(suspend("destroy"))
    assert guest.state == state and any(state in note for note in node.notes)


def test_record_keeps_unknown_unknown_and_does_not_change_its_argument():
    steps = _hold.plan_hold(service(suspend()), Guest().seen(), None, "boot-1").steps
    assert _hold.record(None, steps, "boot-1") is None
    empty = _hold.untouched()
    assert _hold.record(empty, steps, "boot-1") != empty
    assert empty == _hold.untouched()
