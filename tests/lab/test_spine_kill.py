# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL between any two steps, on the controller and on the node: reconcile finishes or undoes it, once."""

from __future__ import annotations

import signal

import pytest

from .spine import assert_same, domain, impatient, until

CONTROLLER = {
    "the enforcement is in the ledger, nothing is planned": "plugin_utils/_converge.py:_converge:1",
    "planned, the prior state not yet in the ledger": "plugin_utils/_converge.py:_before_apply:1",
    "applied, the rules not yet confirmed": "plugin_utils/_converge.py:_confirmed:1",
    "applied and confirmed, the result not yet in the ledger": "plugin_utils/_converge.py:_record:1",
}
NODE = {
    "before the rules are loaded": "_kvm_node.py:_apply_filter:1",
    "the rules are loaded, libvirt not yet asked": "_kvm_node.py:_apply_steps:1",
    "after libvirt's first step": "_libvirt.py:apply_step:2",
    "after libvirt's second step": "_libvirt.py:apply_step:3",
    "all done, not yet written down": "_kvm_node.py:_settle:1",
}


def calm(spine):
    """Nothing waits on the node to undo rules behind everybody's back."""
    return until(lambda: not list(spine.node.path("/run/hosting_aup").glob("*")), 3)


def assert_held_once(spine, guest, case):
    assert spine.statuses(guest.name, case) == ["active"]
    assert spine.open_baselines() == [guest.name] and list(spine.state()["baselines"]) == [guest.name]
    assert guest.state == "paused" and not guest.autostart and guest.link == "down" and spine.dark(guest)
    assert calm(spine)


def assert_given_back_once(spine, guest, case, found, rules):
    assert spine.statuses(guest.name, case) == ["ended"]
    assert spine.open_baselines() == [] and spine.state()["baselines"] == {}
    assert_same({**found, "rules": rules}, {**domain(guest), "rules": spine.rules()})
    assert spine.light(guest) and calm(spine)


@pytest.fixture
def held_guest(spine):
    """With every field set that a suspension touches."""
    guest = spine.lab.guest("vps-1002")
    guest.virsh("autostart")
    yield guest
    spine.tidy()
    guest.virsh("autostart", "--disable")


@pytest.mark.parametrize("point", CONTROLLER.values(), ids=CONTROLLER.keys())
def test_the_controller_is_killed(spine, held_guest, point):
    guest, case = held_guest, f"T-C{list(CONTROLLER.values()).index(point)}"
    found, rules, boot = domain(guest), spine.rules(), guest.uptime().boot_id
    for act, expected in ((lambda **more: spine.suspend(guest.name, case, **more), "opened"),
                          (lambda **more: spine.lift(guest.name, **more), "ending")):
        done = act(env=spine.killing(point))
        assert done.returncode == -signal.SIGKILL and spine.was_killed(), done.said[-3000:]
        assert spine.statuses(guest.name, case) == [expected], "unseen is not called done"
        spine.play("reconcile").ok()
        if expected == "opened":
            assert_held_once(spine, guest, case)
        else:
            assert_given_back_once(spine, guest, case, found, rules)
    assert guest.uptime().boot_id == boot


@pytest.mark.parametrize("point", NODE.values(), ids=NODE.keys())
def test_the_module_on_the_node_is_killed(spine, held_guest, point):
    guest, case = held_guest, f"T-N{list(NODE.values()).index(point)}"
    found, rules, boot = domain(guest), spine.rules(), guest.uptime().boot_id
    with spine.killed_at(point):
        done = spine.suspend(guest.name, case)
    assert done.returncode == 2 and "kvm1: FAILED" in done.stdout and "hosting.aup.reconcile finishes it" in done.said
    assert spine.statuses(guest.name, case) == ["opened"]
    spine.play("reconcile").ok()
    assert_held_once(spine, guest, case)
    with spine.killed_at(point):
        done = spine.lift(guest.name)
    assert done.returncode == 2 and spine.statuses(guest.name, case) == ["ending"]
    spine.play("reconcile").ok()
    assert_given_back_once(spine, guest, case, found, rules)
    assert guest.uptime().boot_id == boot


def test_a_killed_run_and_nobody_who_reconciles(spine, held_guest, tmp_path):
    """Rules nobody confirmed go back by themselves; the next pass, whenever it comes, does the whole of it."""
    guest, case = held_guest, "T-40"
    found, rules = domain(guest), spine.rules()
    wanted = {"service": guest.name, "violation": "attack_target", "duration": "48h", "case": case}
    done = spine.play(impatient("suspend", tmp_path, 8), wanted, env=spine.killing("plugin_utils/_converge.py:_confirmed:1"))
    assert done.returncode == -signal.SIGKILL and spine.rules() != rules
    assert until(lambda: spine.rules() == rules, 20), "the node did not restore the rules that nobody confirmed"
    assert spine.dark(guest), "libvirt holds it all the same"
    spine.play("reconcile").ok()
    assert spine.statuses(guest.name, case) == ["active"] and spine.rules() != rules and spine.dark(guest)
    assert spine.play("reconcile").ok().printed.changed == 0
    spine.lift(guest.name).ok()
    assert_same({**found, "rules": rules}, {**domain(guest), "rules": spine.rules()})


@pytest.mark.parametrize("number", [1, 3])
def test_killed_while_writing_the_ledger(spine, number):
    """Either all of it is in the ledger or none; the chain of events is whole."""
    events = spine.events()
    done = spine.suspend("vps-1002", f"T-4{number}", env=spine.killing(f"_ledger/_events.py:append:{number}"))
    assert done.returncode == -signal.SIGKILL and spine.was_killed()
    assert spine.events() == events and spine.holding() == []
    spine.verify()
