# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper on a real host: it ends a suspension with controller and ledger gone, and broken it harms no guest."""

from __future__ import annotations

import json
import os
import sqlite3
import time

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._backends import _cgroup

from .lab import Lab
from .spine import Spine, prepare, until

PLACE = "/etc/hosting_aup"
VARIABLES = {"kvm_host_packages": [], "kvm_host_keeper_directory": PLACE, "kvm_host_keeper_clock": "trusted", "kvm_host_keeper_link": False,
             "kvm_host_keeper_interval": 5}
_ROLE = """
- hosts: aup_kvm_nodes
  become: true
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: hosting.aup.kvm_host
"""
AUP_NODE = ["/usr/bin/python3", "-I", PLACE + "/aup-node", "--clock", "trusted"]


@pytest.fixture(scope="module")
def kept(can_run_labs):
    """A provisioned lab with the role's keeper on its node."""
    with Lab() as made:
        spine = prepare(made)
        spine.play("provision").ok()
        book = spine.controller.state / "keeper.yml"
        book.write_text(_ROLE)
        spine.book = str(book)
        spine.installed = [made.ansible_playbook(spine.book, VARIABLES).must_succeed() for _ in range(2)]
        restart_libvirtd(spine)
        yield spine


def restart_libvirtd(spine: Spine) -> None:
    spine.node.stop_libvirtd()
    spine.node.start_libvirtd()


def start(spine: Spine) -> str:
    """Start the keeper as its unit would; returns its pid on the node."""
    line = " ".join([*AUP_NODE, "run", "--interval", "5"])
    return spine.node.run(["sh", "-c", f"setsid {line} </dev/null >>/var/log/keeper.log 2>&1 & echo $!"]).stdout.strip()


def aup_node(spine: Spine, *arguments: str, check: bool = True):
    return spine.node.run([*AUP_NODE, *arguments], check=check, timeout=120)


def row(spine: Spine, case: str) -> dict:
    with sqlite3.connect(spine.ledger_file) as database:
        database.row_factory = sqlite3.Row
        return dict(database.execute("SELECT * FROM aup_enforcement WHERE case_id = ?", (case,)).fetchone())


def test_it_ends_what_is_over_with_controller_and_ledger_gone(kept):
    assert [sum(host["changed"] for host in run.recap.values()) > 0 for run in kept.installed] == [True, False]
    node, held = kept.node, kept.lab.guest("vps-1002")
    keeper = start(kept)
    former = held.uptime()
    # A minute is the shortest: the controller's clock is behind, so that less of it is left.
    kept.suspend("vps-1002", "T-1", "1m", at="-20s").ok()
    ends_at = row(kept, "T-1")["ends_at"]
    assert held.state == "paused" and kept.dark(held) and time.time() < ends_at
    gone = kept.ledger_file.parent.rename(kept.ledger_file.parent.with_name("gone"))
    kept.controller.namespace.ip("link set to-kvm1 down")
    seen = []
    assert until(lambda: seen.append(time.time()) or held.state == "running", ends_at - time.time() + 30)
    assert ends_at <= seen[-1] <= ends_at + 5, "never early, at most five seconds late"
    assert held.uptime().boot_id == former.boot_id and kept.light(held)
    kept.controller.namespace.ip("link set to-kvm1 up")
    gone.rename(kept.ledger_file.parent)
    status = json.loads(aup_node(kept, "status", "--json").stdout)
    assert status["held"] == [] and status["journal"] >= 1
    done = kept.play("reconcile").ok()
    assert "ended by the node itself: E-" in done.stdout
    ended = row(kept, "T-1")
    assert ended["status"] == "ended" and ends_at <= ended["ended_at"] <= ends_at + 5 and ended["end_reason"] == "time"
    assert json.loads(aup_node(kept, "status", "--json").stdout)["journal"] == 0
    kept.verify()

    # By hand, without a ledger: held, powered off, and the hook lets nobody start it until it is released.
    other = kept.lab.guest("vps-1001")
    aup_node(kept, "hold", "vps-1001", "--power", "destroy", "--reason", "attack, on the phone")
    assert other.state == "shut off"
    refused = node.run(["virsh", "-q", "start", "vps-1001"], check=False)
    assert refused.returncode and other.state == "shut off"
    said = kept.play("reconcile").ok()
    assert "vps-1001 is held by hand on this node" in said.stdout and other.state == "shut off"
    assert "attack, on the phone" in kept.play("status").ok().said
    aup_node(kept, "release", "vps-1001")
    assert other.state == "running"
    other.await_boot()
    assert kept.light(other)
    node.run(["kill", keeper])


def test_a_guest_that_starts_is_bound_before_its_first_packet(kept):
    """No keeper runs: what binds the port is the hook alone."""
    guest = kept.lab.guest("vps-1002")
    guest.virsh("destroy")
    kept.play("reconcile").ok()
    guest.virsh("start")
    bound = kept.node.run(["nft", "list", "set", "bridge", "hosting_aup", "known_ports"]).stdout
    assert f'"{guest.tap}"' in bound
    guest.await_boot()
    assert guest.tcp("192.0.2.1", 25, 1) != "open"


def test_a_plan_upgraded_under_a_throttle_is_back_after_it_and_the_kernel_has_what_libvirt_names(kept):
    guest, node = kept.lab.guest("vps-1001"), kept.node
    kept.play("cpu_throttle", {"service": guest.name, "violation": "mining", "share": "20%", "case": "T-cpu", "duration": "1h"}).ok()
    try:
        # The customer buys more, while it is throttled: the panel writes the new plan's quota over ours.
        for scope in ("--live", "--config"):
            guest.virsh("schedinfo", scope, "--set", "global_quota=90000")
        aup_node(kept, "pass")
        (throttled,) = json.loads(aup_node(kept, "check-limits", "--json").stdout)
        assert throttled["guest"] == guest.name and throttled["held"][1:] == [20000, 100000] and not throttled["wrong"]
        kept.lift(guest.name, variables={"case": "T-cpu"}).ok()
        assert "<global_quota>90000</global_quota>" in guest.virsh("dumpxml", "--inactive")
        done = aup_node(kept, "check-limits", "--measure", "--seconds", "8", "--json")
        entries = {entry["guest"].rstrip("0123456789"): entry for entry in json.loads(done.stdout)}
        assert set(entries) == {"vps-", "aup-check-"} and not any(entry["wrong"] for entry in entries.values())
        assert entries["vps-"]["held"][1:] == [90000, 100000]
        made = entries["aup-check-"]
        assert 0.1 < made["share"] <= 0.2 * 1.05 and made["throttled"]["throttled"] > 20 and made["disks"] == {"vda": {"total_iops_sec": 50}}
        assert "aup-check" not in node.run(["virsh", "-q", "list", "--all"]).stdout
        assert not list(node.path("/var/lib/libvirt").glob("**/aup-check*"))
        # Somebody took the limit out of the control group behind libvirt's back.
        entry = entries["vps-"]
        place = _cgroup.mount_of(node.run(["cat", "/proc/self/mounts"]).stdout, entry["version"]) + entry["group"]
        node.run(["sh", "-c", {1: f"echo -1 > {place}/cpu.cfs_quota_us", 2: f"echo max > {place}/cpu.max"}[entry["version"]]])
        wrong = aup_node(kept, "check-limits", check=False)
        assert wrong.returncode == 1 and "libvirt says 0.90 processors, but no control group limits it" in wrong.stdout
    finally:
        guest.virsh("schedinfo", "--live", "--set", "global_quota=-1")
        guest.virsh("schedinfo", "--config", "--set", "global_quota=0")


def test_broken_in_every_way_it_costs_no_guest_its_life(kept):
    node = kept.node
    program, desired = node.path(PLACE + "/aup-node"), node.path("/var/lib/hosting_aup/desired.z")
    whole, kept_desired = program.read_bytes(), desired.read_bytes()
    guests = node.guests
    boots = {guest.name: guest.uptime().boot_id for guest in guests}

    def broken(name: str) -> None:
        restart_libvirtd(kept)
        assert {guest.name: guest.uptime().boot_id for guest in guests} == boots, name

    for name, data in (("garbage", b"\x00garbage"), ("fails", b"raise SystemExit(1)\n"), ("cut off", whole[:5000])):
        program.write_bytes(data)
        broken(name)
    program.write_bytes(b"import time\ntime.sleep(600)\n")
    broken("hangs")
    began = time.monotonic()
    guests[0].virsh("destroy")
    guests[0].virsh("start")
    assert time.monotonic() - began < 60, "libvirt waits for the hook, but not for long"
    program.unlink()
    broken_start(guests[0], boots)
    broken("gone")
    program.write_bytes(whole)
    for data in (b"nonsense", b""):
        desired.write_bytes(data)
        broken("its state is damaged")
    guests[0].virsh("destroy")
    broken_start(guests[0], boots, start=True)
    desired.write_bytes(kept_desired)
    state = node.path("/var/lib/hosting_aup/state.json")
    whole_state = state.read_bytes()
    state.write_bytes(b"{")
    assert aup_node(kept, "pass", check=False).returncode == 1
    broken("its state is damaged too")
    state.write_bytes(whole_state)
    assert aup_node(kept, "pass").returncode == 0
    kept.play("reconcile").ok()


def broken_start(guest, boots, start=False):
    if start:
        guest.virsh("start")
    guest.await_boot()
    boots[guest.name] = guest.uptime().boot_id


def test_the_host_reboots_while_one_is_held(kept):
    held = kept.lab.guest("vps-1002")
    kept.suspend("vps-1002", "T-9", "2h").ok()
    kept.node.reboot()
    assert kept.rules(ours=True) == ""
    aup_node(kept, "boot")
    assert held.plan.mac in kept.node.run(["nft", "list", "set", "bridge", "hosting_aup", "dark_macs"]).stdout
    aup_node(kept, "pass")
    assert held.state == "shut off"
    kept.lift("vps-1002").ok()
    # That it is booted then is tested elsewhere: the lab's hosts share one kernel, whose boot id stays the same.
    held.start()
    held.await_boot()
    assert kept.light(held)
    # Retired, nothing of the keeper stays.
    done = kept.play("retire", {"node": "kvm1", **VARIABLES}).ok()
    assert done.returncode == 0
    for path in (PLACE + "/aup-node", "/etc/libvirt/hooks/qemu.d/50-hosting-aup", "/etc/systemd/system/hosting-aup-keeper.service",
                 "/var/lib/hosting_aup", "/run/hosting_aup.lock"):
        assert not os.path.lexists(kept.node.path(path)), path
