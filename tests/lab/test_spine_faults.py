# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong on a node and on the way to it: said clearly, recorded, and mended by the next pass."""

from __future__ import annotations

import re

from . import plan
from .namespace import connect
from .spine import PEER_ADDRESS, PEER_MAC, TWIN_UUID, assert_same, domain, impatient, until

# Refuses to load anything, lists as ever; the other one ends before it has read what to load.
_REFUSING_NFT = """#!/bin/sh
for word; do
    if [ "$word" = -f ]; then
        for other; do [ "$other" = -c ] && exec /run/real-nft "$@"; done
        cat >/dev/null
        echo 'Error: Could not process rule: No buffer space available' >&2
        exit 1
    fi
done
exec /run/real-nft "$@"
"""
_DYING_NFT = _REFUSING_NFT.replace("cat >/dev/null", "kill -9 $$")


def result_of(spine, run):
    """What the ledger holds of the only node's result in this run: outcome, and its errors as text."""
    (run_id,) = {result["run_id"] for action in ("ledger_enforcement", "ledger_release", "ledger_exemption")
                 for result in run.of(action)}
    return spine.rows("select outcome, summary from aup_node_result where run_id = ? and service is null", run_id)


def test_a_guest_that_is_missing_and_one_that_is_another(spine):
    """One failing service is said and recorded by name; the other services of the run are done."""
    found = domain(spine.lab.guest("vps-1003"))
    done = spine.suspend(["vps-ghost", "vps-twin", "vps-1003"], "T-30")
    assert done.returncode == 2
    codes = {error["service"]: error for error in done.converged["errors"]}
    assert codes["vps-ghost"]["code"] == "guest_missing" and "not defined on this node" in codes["vps-ghost"]["message"]
    assert codes["vps-twin"]["code"] == "guest_changed" and TWIN_UUID in codes["vps-twin"]["message"]
    assert set(codes) == {"vps-ghost", "vps-twin"} and all(error["remedy"] for error in codes.values())
    assert "vps-1003: suspend in force, verified" in done.stdout and "kvm1: FAILED" in done.stdout
    assert spine.statuses("vps-1003", "T-30") == ["active"]
    assert spine.statuses("vps-ghost") [-1:] == spine.statuses("vps-twin")[-1:] == ["opened"]
    assert result_of(spine, done)[0][0] == "failed"
    assert spine.node.run(["virsh", "-q", "domstate", "vps-twin"]).stdout.strip() == "shut off"
    lifted = spine.lift(["vps-ghost", "vps-twin", "vps-1003"]).ok()
    assert lifted.converged["errors"] == [] and spine.holding() == []
    assert_same(found, domain(spine.lab.guest("vps-1003")))


def test_libvirtd_down(spine):
    """The packet filter cuts the service off all the same; the rest is done when libvirtd is back. The only node fails."""
    guest = spine.lab.guest("vps-1002")
    found = domain(guest)
    del found["live definition"]  # a restarted libvirtd words it otherwise by itself
    spine.node.stop_libvirtd()
    try:
        done = spine.suspend("vps-1002", "T-31")
        assert done.returncode == 2
        assert {error["code"] for error in done.converged["errors"]} == {"libvirt_down"}
        assert "libvirtd" in done.said and "kvm1: FAILED" in done.stdout and "suspend of vps-1002 until" in done.stdout
        assert result_of(spine, done)[0][0] == "failed" and spine.statuses("vps-1002", "T-31") == ["opened"]
        assert spine.dark(guest)
    finally:
        spine.node.start_libvirtd()
    assert guest.state == "running"
    spine.play("reconcile").ok()
    assert guest.state == "paused" and spine.statuses("vps-1002", "T-31") == ["active"]
    spine.lift("vps-1002").ok()
    assert_same(found, {key: value for key, value in domain(guest).items() if key in found})
    assert spine.light(guest)


def test_nft_refuses(spine):
    """Rules that don't load: nothing changes, no guest is touched, and it is on record as not done."""
    guest = spine.lab.guest("vps-1002")
    before = {"rules": spine.rules(), "guest": domain(guest)}
    with spine.instead_of("/usr/sbin/nft", _REFUSING_NFT):
        done = spine.suspend("vps-1002", "T-32")
        assert done.returncode == 2
        assert "No buffer space available" in done.said and "kvm1: FAILED" in done.stdout, done.said
        assert done.converged["errors"][0]["remedy"]
    with spine.instead_of("/usr/sbin/nft", _DYING_NFT):
        again = spine.play("reconcile")
        assert again.returncode == 2 and "loading the rules" in again.said and "Captured" not in again.said, again.said
    assert_same(before, {"rules": spine.rules(), "guest": domain(guest)})
    assert spine.light(guest)
    assert spine.statuses("vps-1002", "T-32") == ["opened"] and result_of(spine, done)[0][0] == "failed"
    assert not list(spine.node.path("/run").glob("hosting_aup/*"))
    spine.play("reconcile").ok()
    assert guest.state == "paused" and spine.statuses("vps-1002", "T-32") == ["active"] and spine.dark(guest)
    spine.lift("vps-1002").ok()
    assert_same(before, {"rules": spine.rules(), "guest": domain(guest)})


def test_the_only_node_is_unreachable(spine):
    """Its record and its line in the summary are there all the same; reconcile does it later."""
    guest = spine.lab.guest("vps-1002")
    found = domain(guest)
    elsewhere = {"ansible_port": 1}
    done = spine.suspend("vps-1002", "T-33", variables=elsewhere)
    assert done.returncode
    assert "kvm1: UNREACHABLE" in done.stdout and "hosting.aup.reconcile" in done.stdout
    assert "suspend of vps-1002 until" in done.stdout
    assert result_of(spine, done)[0][0] == "unreachable" and spine.statuses("vps-1002", "T-33") == ["opened"]
    shown = spine.play("status").ok()
    assert "vps-1002" in shown.said and "opened" in shown.said and "last outcome unreachable" in shown.said, shown.said
    explained = spine.play("explain", {"service": "vps-1002", **elsewhere})
    assert "NOT YET SEEN" in explained.said and "not reached" in explained.said
    spine.play("reconcile").ok()
    assert guest.state == "paused" and spine.statuses("vps-1002", "T-33") == ["active"]
    # Lifted while nobody reaches the node: it is ending, not ended.
    away = spine.lift("vps-1002", variables=elsewhere)
    assert away.returncode and "kvm1: UNREACHABLE" in away.stdout and spine.statuses("vps-1002", "T-33") == ["ending"]
    assert guest.state == "paused"
    spine.play("reconcile").ok()
    assert spine.statuses("vps-1002", "T-33") == ["ended"]
    assert_same(found, domain(guest))


def test_rules_that_cut_the_controller_off_roll_back(spine, tmp_path):
    """The catalogue gives a customer the MAC of the controller's own way in: the node restores itself, unasked."""
    lab = spine.lab
    # A port of the tenant bridge that nobody declared an uplink: to us it is a guest's.
    connect(lab.controller.namespace, "peer", spine.node.namespace, "peer0")
    spine.node.namespace.ip(f"link set peer0 master {plan.BRIDGE}")
    lab.controller.namespace.ip(f"link set peer address {PEER_MAC}")
    lab.controller.namespace.ip(f"address add {PEER_ADDRESS}/25 dev peer")
    way = {"ansible_host": plan.nodes()[0].bridge_addresses[0],
           "ansible_ssh_extra_args": f"-o HostKeyAlias={plan.nodes()[0].management} -o ConnectTimeout=4"}
    assert "peer0" in spine.play("reconcile", way).ok().converged["unknown_ports"]
    before = spine.rules()
    wanted = {"service": "vps-peer", "violation": "attack_target", "duration": "48h", "case": "T-34"}
    try:
        done = spine.play(impatient("suspend", tmp_path), {**wanted, **way})
        assert done.returncode
        (error,) = done.converged["errors"]
        assert error["code"] == "rolled_back" and "puts the former ones back by itself" in error["message"] and error["remedy"]
        assert result_of(spine, done)[0][0] == "failed"
        assert spine.statuses("vps-peer", "T-34") == ["opened"], "what was rolled back is not in force"
        assert until(lambda: spine.rules() == before, 15)
        # The way in works again, and the enforcement can be taken back over it.
        lifted = spine.play("lift", {"service": "vps-peer", **way}).ok()
        assert lifted.converged["outcome"] in ("changed", "unchanged")
        assert spine.rules() == before and spine.statuses("vps-peer", "T-34") == ["cancelled"]
    finally:
        lab.controller.namespace.ip("link delete peer")
        spine.play("reconcile").ok()


def test_a_damaged_node_state_is_said_and_the_ledger_gives_back(spine):
    """The node's copy of the prior state is lost while a guest is held: the ledger's record gives it back."""
    guest = spine.lab.guest("vps-1002")
    guest.virsh("autostart")
    found = domain(guest)
    spine.suspend("vps-1002", "T-35").ok()
    state = spine.node.path("/var/lib/hosting_aup/state.json")
    state.write_text("{")
    done = spine.play("reconcile")
    assert done.returncode and "state.json can't be read" in done.said and "Move the file away" in done.said
    state.unlink()
    # As it says: moved away, then provisioned, with the service still held.
    spine.play("provision").ok()
    assert guest.state == "paused" and spine.dark(guest)
    spine.lift("vps-1002").ok()
    assert_same(found, domain(guest))
    guest.virsh("autostart", "--disable")


def test_no_text_of_a_traceback_reaches_the_operator(spine):
    """A node without nft: named, with what to do."""
    with spine.instead_of("/usr/sbin/nft", "#!/bin/sh\necho 'nft: broken' >&2\nexit 127\n"):
        done = spine.play("reconcile")
    assert done.returncode == 2 and "Traceback" not in done.said
    assert re.search(r"error: .*nft", done.stdout)
