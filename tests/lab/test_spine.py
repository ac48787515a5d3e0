# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spine end to end on real guests: check is truth, exactly as before, the neighbour untouched."""

from __future__ import annotations

import time

from . import plan
from .guest import Guest
from .spine import assert_same, catalogue, domain, write_catalogue

MAIL = [(plan.SINK[0], 25), (plan.SINK[1], 25)]
SUBMIT = [(plan.SINK[0], 587), (plan.SINK[1], 587)]


def assert_same_plan(checked, done):
    """What --check said is what was done: hash, difference and steps."""
    assert checked.returncode == done.returncode == 0, checked.stdout + done.stdout
    assert checked.converged["plan_hash"] == done.converged["plan_hash"]
    assert checked.converged["steps"] == done.converged["steps"] != []
    assert checked.converged["diff"] == done.converged["diff"]
    assert checked.converged["diff"]["before"] != checked.converged["diff"]["after"]
    assert checked.converged["changed"] is done.converged["changed"] is True


def test_provision(arrival):
    """The plan of --check is that of the real run; nothing is touched by it; the second run finds nothing to do."""
    spine = arrival["spine"]
    assert_same(arrival["before"], arrival["after check"])
    assert not arrival["before"]["ledger"] and not arrival["before"]["files"]
    assert_same_plan(arrival["checked"], arrival["provisioned"])
    assert "would change" in arrival["checked"].stdout and "CHECK, nothing was done" in arrival["checked"].stdout
    again = arrival["again"].ok()
    assert again.printed.changed == 0 and again.converged["steps"] == []
    assert again.converged["diff"] == {"before": "", "after": ""}
    # Whose rules and guests those are, and in which state, did not change by it.
    after = spine.everything()
    for guest in spine.node.guests:
        assert_same(arrival["before"][guest.name], after[guest.name])
    assert spine.rules(ours=False) == arrival["before"]["rules"]
    for guest in spine.node.guests:
        assert "open" not in guest.tcp_all(MAIL) and guest.tcp_all(SUBMIT) == ["open", "open"]


def test_the_node_needs_only_its_distributions_python_over_ssh_with_become(spine):
    """What ran there came by SSH as an unprivileged user, became root, and had nothing of Ansible's at hand."""
    settings = spine.lab.controller.run(["ansible-inventory", "-i", str(spine.controller.inventory), "--host", "kvm1"]).stdout
    assert '"ansible_user": "aup"' in settings and '"ansible_python_interpreter": "/usr/bin/python3"' in settings
    for missing in ("ansible", "sqlalchemy", "jmespath"):
        assert spine.node.run(["/usr/bin/python3", "-c", f"import {missing}"], check=False).returncode, missing
    assert "Accepted publickey for aup" in spine.node.path("/var/log/sshd.log").read_text()
    # Under another user it says so, before anything is touched.
    before = spine.everything()
    done = spine.play("reconcile", {"ansible_become": False})
    assert done.returncode and "become" in done.said
    after = spine.everything()
    assert_same({k: v for k, v in before.items() if k != "ledger"}, {k: v for k, v in after.items() if k != "ledger"})


def test_exempt_and_revoke(spine):
    guest, other = spine.lab.guest("vps-1001"), spine.lab.guest("vps-1002")
    wanted = {"service": "vps-1001", "control": "smtp_outbound", "duration": "30d", "reason": "PTR and SPF checked"}
    before = spine.everything()
    checked = spine.play("exempt", wanted, check=True)
    spine.assert_untouched(before)
    done = spine.play("exempt", wanted, arguments=("--diff",))
    assert_same_plan(checked, done)
    assert guest.tcp_all(MAIL) == ["open", "open"] and "open" not in other.tcp_all(MAIL)
    assert guest.mail(plan.SINK[1]).startswith("accepted")
    again = spine.play("exempt", wanted).ok()
    assert again.printed.changed == 0
    # It ends by itself.
    spine.play("reconcile", at="+29d").ok()
    assert guest.tcp_all(MAIL) == ["open", "open"]
    ended = spine.play("reconcile", at="+31d").ok()
    assert "expired" in ended.stdout and "open" not in guest.tcp_all(MAIL)
    assert guest.tcp_all(SUBMIT) == ["open", "open"]


def test_suspended_twice_and_given_back_exactly(spine):
    """Two cases hold one service; each may end first; in the end every field is as it was, and the neighbour noticed nothing."""
    guest, neighbour = spine.lab.guest("vps-1002"), spine.lab.guest("vps-1001")
    guest.virsh("autostart")
    found, theirs, ours = domain(guest), spine.rules(ours=False), spine.rules(ours=True)
    life = guest.uptime()
    before = spine.everything()
    with spine.neighbour_runs_on(neighbour):
        checked = spine.suspend("vps-1002", "T-1", check=True)
        spine.assert_untouched(before)
        done = spine.suspend("vps-1002", "T-1", arguments=("--diff",))
        assert_same_plan(checked, done)
        assert spine.statuses("vps-1002")[-1:] == ["active"] and spine.open_baselines() == ["vps-1002"]
        assert guest.state == "paused" and not guest.autostart and guest.link == "down" and spine.dark(guest)
        assert "suspend in force, verified" in done.stdout and "2026-" in done.stdout

        held = spine.everything()
        same = spine.suspend("vps-1002", "T-1", duration="24h").ok()
        (until,) = [e["ends_at"] for e in same.of("ledger_enforcement")[0]["enforcements"]]
        assert same.printed.changed == 0 and same.of("ledger_enforcement")[0]["enforcements"][0]["already"]
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
        assert stamp in same.stdout and abs(until - time.time() - 48 * 3600) < 120
        assert_same({k: held[k] for k in ("rules", "vps-1002")}, {k: spine.everything()[k] for k in ("rules", "vps-1002")})

        other = spine.suspend("vps-1002", "T-2", duration="72h").ok()
        assert "held as well" in other.stdout
        assert [e[2:] for e in spine.holding()] == [("T-1", "active"), ("T-2", "active")]

        # Which of them? It doesn't guess.
        unclear = spine.lift("vps-1002")
        assert unclear.returncode and "several cases" in unclear.said and "T-1" in unclear.said and "T-2" in unclear.said
        # The one that came first ends first: by its time.
        early = spine.play("reconcile", at="+47h").ok()
        assert guest.state == "paused" and early.of("ledger_enforcement")[0]["enforcements"] == []
        spine.play("reconcile", at="+49h").ok()
        assert [e[2:] for e in spine.holding()] == [("T-2", "active")]
        assert guest.state == "paused" and spine.dark(guest)

        before = spine.everything()
        # A clock ahead of the ledger's other entries would be the only difference between both.
        checked = spine.lift("vps-1002", variables={"case": "T-2"}, check=True)
        spine.assert_untouched(before)
        lifted = spine.lift("vps-1002", variables={"case": "T-2"}, arguments=("--diff",))
        assert_same_plan(checked, lifted)
        assert "given back, verified" in lifted.stdout
    assert spine.holding() == [] and spine.open_baselines() == []
    assert_same(found, domain(guest))
    assert spine.rules(ours=False) == theirs and spine.rules(ours=True) == ours
    now = guest.uptime()
    assert now.boot_id == life.boot_id and now.seconds > life.seconds
    assert spine.light(guest) and guest.tcp_all(SUBMIT) == ["open", "open"] and "open" not in guest.tcp_all(MAIL)
    assert spine.state()["baselines"] == {}
    again = spine.lift("vps-1002")
    assert again.returncode and "not held by anything" in again.said
    guest.virsh("autostart", "--disable")


def test_the_strictest_holds_and_ends_in_the_other_order(spine):
    """Quarantine under a suspension; a flushed ruleset is mended; what the panel changed meanwhile wins."""
    guest, neighbour = spine.lab.guest("vps-1002"), spine.lab.guest("vps-1001")
    outside = spine.lab.internet
    found = domain(guest)
    wanted = {"service": "vps-1002", "violation": "compromised", "duration": "24h", "case": "T-3"}
    with spine.neighbour_runs_on(neighbour):
        before = spine.everything()
        checked = spine.play("quarantine", wanted, check=True)
        spine.assert_untouched(before)
        done = spine.play("quarantine", wanted, arguments=("--diff",))
        assert_same_plan(checked, done)
        assert guest.state == "running" and guest.responds()
        assert outside.tcp(guest.plan.ipv4, 80, 2, source=plan.RESCUE[0]) == "open"
        assert outside.tcp(guest.plan.ipv6, 80, 2, source=plan.RESCUE[1]) == "open"
        assert spine.dark(guest) and "open" not in guest.tcp_all(SUBMIT, timeout=1)

        spine.suspend("vps-1002", "T-4", duration="12h").ok()
        assert guest.state == "paused"
        assert outside.tcp(guest.plan.ipv4, 80, 1, source=plan.RESCUE[0]) == "timeout"

        # Somebody flushes the whole ruleset.
        spine.node.run(["nft", "flush", "ruleset"])
        assert spine.rules() == ""
        mended = spine.play("reconcile").ok()
        assert mended.converged["changed"] and spine.rules(ours=True) and guest.state == "paused" and spine.dark(guest)

        # The stricter one ends first.
        spine.lift("vps-1002", variables={"case": "T-4"}).ok()
        assert guest.state == "running" and outside.tcp(guest.plan.ipv4, 80, 2, source=plan.RESCUE[0]) == "open"
        assert spine.dark(guest)
        spine.lift("vps-1002").ok()
    assert_same(found, domain(guest))
    assert spine.light(guest)


def test_what_changed_meanwhile_wins_and_off_stays_off(spine):
    """Two services in one run, ended by their time: one's autostart was changed by the panel, the other was off."""
    changed, off = spine.lab.guest("vps-1002"), spine.lab.guest("vps-1003")
    off.virsh("destroy")
    found, found_off = domain(changed), domain(off)
    done = spine.suspend(["vps-1002", "vps-1003"], "T-5").ok()
    assert sorted(e[0] for e in spine.holding()) == ["vps-1002", "vps-1003"]
    assert "vps-1003: suspend in force, verified" in done.stdout
    # The panel switches autostart on meanwhile.
    changed.virsh("autostart")
    ended = spine.play("reconcile", at="+49h").ok()
    assert "ended:" in ended.stdout and spine.holding() == []
    assert changed.state == "running" and changed.autostart
    changed.virsh("autostart", "--disable")
    assert_same(found, domain(changed))
    assert off.state == "shut off"
    assert_same(found_off, domain(off))
    assert spine.light(changed)
    off.start()
    off.await_boot()
    assert spine.light(off)


def test_a_guest_created_a_second_ago_is_bound(spine):
    """In no catalogue, and no run of ours since it was made."""
    stranger = Guest(plan.GuestPlan("vps-1009", 1009), spine.node)
    stranger.define()
    stranger.start()
    try:
        stranger.await_boot()
        assert stranger.tcp_all([*MAIL, *SUBMIT])[2:] == ["open", "open"]
        assert "open" not in stranger.tcp_all(MAIL)
        noticed = spine.play("reconcile").ok()
        assert stranger.tap in noticed.converged["unknown_ports"]
        assert "open" not in stranger.tcp_all(MAIL)
    finally:
        stranger.virsh("destroy")
        stranger.virsh("undefine")


def test_disarm_survives_a_reboot_of_the_host(spine):
    """Disarmed at once, also while a service is suspended; the host reboots; reconcile leaves it off; rearm ends that."""
    free, held = spine.lab.guest("vps-1001"), spine.lab.guest("vps-1002")
    held.virsh("autostart")
    definition = domain(held)["definition"]
    spine.suspend("vps-1002", "T-6").ok()
    ledger = spine.ledger_files()
    spine.play("disarm", {"control": "smtp_outbound"}).ok()
    assert spine.ledger_files() == ledger, "disarm needs no ledger"
    assert free.tcp_all(MAIL) == ["open", "open"] and spine.dark(held)
    spine.node.reboot()
    spine.install_shim()
    assert held.state == "shut off", "its autostart is off, so the host must not start it"
    free.start()
    free.await_boot()
    done = spine.play("reconcile").ok()
    assert "switched off here (disarm)" in done.stdout
    assert free.tcp_all(MAIL) == ["open", "open"] and held.state == "shut off"
    # A responder's panel starts it: it is held again.
    held.start()
    spine.play("reconcile").ok()
    assert held.state == "paused" and spine.dark(held)
    spine.play("rearm").ok()
    assert "open" not in free.tcp_all(MAIL) and free.tcp_all(SUBMIT) == ["open", "open"]
    spine.lift("vps-1002").ok()
    held.await_boot()
    assert held.state == "running" and held.autostart and held.link == "up" and spine.light(held)
    assert domain(held)["definition"] == definition
    held.virsh("autostart", "--disable")


def test_an_edit_that_was_not_provisioned_is_not_taken_up(spine):
    """reconcile and the runbooks act on the release, not on the files; a service that left is still given back."""
    guest = spine.lab.guest("vps-1003")
    found = domain(guest)
    spine.suspend("vps-1003", "T-7").ok()
    edited = catalogue(spine.lab.nodes, generated="2026-11-02T00:00:00Z")
    edited["services"] = [s for s in edited["services"] if s["id"] != "vps-1003"]
    write_catalogue(spine, edited)
    quiet = spine.play("reconcile").ok()
    assert quiet.printed.changed == 0
    spine.play("provision").ok()
    assert guest.state == "paused" and spine.dark(guest), "leaving the catalogue is no way out"
    spine.lift("vps-1003").ok()
    assert_same(found, domain(guest))
    assert spine.light(guest)
    write_catalogue(spine, catalogue(spine.lab.nodes, generated="2026-11-03T00:00:00Z"))
    spine.play("provision").ok()
