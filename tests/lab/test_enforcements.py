# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every enforcement beyond holds, through its playbook, on real guests: in force as seen from outside, and given back."""

from __future__ import annotations

import time

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._backends import _cgroup

from . import plan
from .spine import assert_same, domain

SINK, WEB = plan.SINK, plan.WEB


def network(spine):
    """What of the host's network an enforcement may have touched, as text."""
    run = spine.node.run
    taps = [guest.tap for guest in spine.node.guests]
    return {
        "qdiscs": run(["tc", "qdisc", "show"]).stdout,
        "links": sorted(line.split(": ")[1] for line in run(["ip", "-o", "link"]).stdout.splitlines()),
        "routes": run(["ip", "route"]).stdout + run(["ip", "-6", "route"]).stdout,
        "filters": "".join(run(["tc", "filter", "show", "dev", tap, hook]).stdout for tap in taps if tap
                           for hook in ("ingress", "egress")),
    }


@pytest.fixture
def enforce(spine):
    """`enforce(verb, service, **inputs)`: the playbook must succeed, and the ledger say that it was seen in force."""
    def act(verb, service, violation="compromised", **more):
        done = spine.play(verb, {"service": service, "violation": violation, "duration": "48h", **more}).ok()
        assert spine.statuses(service, more.get("case"))[-1] == "active", done.said[-3000:]
        assert "in force, verified" in done.said
        return done
    return act


def lifted(spine, service, case):
    done = spine.lift(service, variables={"case": case}).ok()
    assert spine.statuses(service, case) == ["ended"], done.said[-3000:]


def test_port_block_by_name_and_its_second_run_does_nothing(spine, enforce):
    guest, other = spine.lab.guest("vps-1002"), spine.lab.guest("vps-1001")
    targets = [(SINK[0], 587), (SINK[1], 587), (WEB[0], 80), (WEB[1], 80)]
    before = {**domain(guest), **network(spine)}
    enforce("enforce", guest.name, kind="port_block", ports="587, 6667", case="T-pb")
    assert guest.tcp_all(targets) == ["timeout", "timeout", "open", "open"]
    assert other.tcp_all(targets[:2]) == ["open", "open"]
    assert spine.play("reconcile").ok().converged["changed"] is False
    said = spine.play("explain", {"service": guest.name}).ok().said
    assert "port_block" in said and "T-pb" in said
    lifted(spine, guest.name, "T-pb")
    assert guest.tcp_all(targets) == ["open"] * 4
    assert_same(before, {**domain(guest), **network(spine)})


def test_smtp_block_withdraws_an_exemption_for_its_time(spine, enforce):
    guest = spine.lab.guest("vps-1001")
    mail = [(SINK[0], 25), (SINK[1], 25)]
    spine.play("exempt", {"service": guest.name, "control": "smtp_outbound", "reason": "newsletter", "duration": "30d"}).ok()
    try:
        assert guest.tcp_all(mail) == ["open", "open"]
        enforce("smtp_block", guest.name, violation="spam", case="T-sb")
        assert "open" not in guest.tcp_all(mail)
        lifted(spine, guest.name, "T-sb")
        assert guest.tcp_all(mail) == ["open", "open"]
    finally:
        spine.play("exempt", {"service": guest.name, "control": "smtp_outbound", "state": "revoked", "reason": "test"}).ok()


def test_null_route_of_bridged_and_routed_guests_ends_with_its_time(spine, enforce):
    bridged, routed, other = (spine.lab.guest(name) for name in ("vps-1001", "vps-1003", "vps-1002"))
    before = network(spine)
    done = spine.play("null_route", {"service": [bridged.name, routed.name], "violation": "attack_target", "duration": "4h",
                                     "case": "T-nr"}).ok()
    assert spine.statuses(bridged.name, "T-nr") == spine.statuses(routed.name, "T-nr") == ["active"], done.said[-3000:]
    assert spine.dark(bridged) and spine.dark(routed) and spine.light(other)
    assert bridged.tcp(WEB[0], 80) != "open" and other.tcp(WEB[0], 80) == "open"
    assert "blackhole %s" % bridged.plan.ipv4 in spine.node.run(["ip", "route", "show", "proto", "187"]).stdout
    assert bridged.plan.ipv6 in spine.node.run(["ip", "-6", "route", "show", "proto", "187"]).stdout
    # The host reaches the routed guest by a route that isn't ours.
    assert "routed on this host by somebody else" in done.said
    spine.play("reconcile", at="+5h").ok()
    assert spine.statuses(bridged.name, "T-nr") == spine.statuses(routed.name, "T-nr") == ["ended"]
    assert spine.light(bridged) and spine.light(routed)
    assert_same(before, network(spine))


def test_bandwidth_cap_survives_a_restart_of_the_guest_and_leaves_nothing(spine, enforce):
    guest = spine.lab.guest("vps-1002")
    before = network(spine)
    enforce("bandwidth_cap", guest.name, violation="resource_abuse", rate="10 Mbit/s", case="T-bc")
    shaped = spine.node.run(["tc", "class", "show", "dev", next(
        name for name in network(spine)["links"] if name.startswith("aup") and name.endswith("t"))]).stdout
    assert "class htb 1:1 root rate 10Mbit ceil 10Mbit" in shaped
    led = network(spine)["filters"]
    assert "mirred" in led and spine.light(guest)
    boot = guest.uptime().boot_id
    guest.virsh("reset")  # as when it reboots from inside: the same process, the same port
    guest.await_boot()
    assert guest.uptime().boot_id != boot and network(spine)["filters"] == led
    guest.virsh("destroy")
    guest.start()
    guest.await_boot()
    assert "mirred" not in network(spine)["filters"]
    done = spine.play("reconcile").ok()
    assert done.converged["changed"] and "mirred" in network(spine)["filters"] and spine.light(guest)
    lifted(spine, guest.name, "T-bc")
    # The restarted guest's tap has another name.
    after = network(spine)
    assert after["filters"] == before["filters"]
    assert not [name for name in after["links"] if name.startswith("aup")] and "clsact" not in after["qdiscs"]


def cpu_group(spine, guest):
    """The control group of a whole guest on the node, of either version: its quota and how often it was throttled."""
    def read(path):
        return spine.node.run(["cat", path], check=False).stdout

    version, place = _cgroup.path_of(read("/proc/%s/cgroup" % spine.node.path("/run/libvirt/qemu/%s.pid" % guest.name).read_text().strip()))
    place = place[:place.index(".libvirt-qemu") + len(".libvirt-qemu")] if ".libvirt-qemu" in place else place.rsplit("/", 1)[0]
    root = _cgroup.mount_of(read("/proc/self/mounts"), version) + place
    files = {name: read("%s/%s" % (root, name)) for name in (("cpu.max", "cpu.stat") if version == 2 else (
        "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"))}
    return (_cgroup.limit_of(version, files) or [-1])[0], _cgroup.throttled_of(version, files)


def cpu_seconds(spine, guest):
    stats = spine.node.run(["virsh", "-q", "domstats", "--cpu-total", guest.name]).stdout
    return int(next(line for line in stats.splitlines() if "cpu.time" in line).split("=")[1]) / 1e9


def test_cpu_throttle_beside_a_suspension_from_another_case_ending_in_either_order(spine, enforce, capsys):
    guest = spine.lab.guest("vps-1001")
    guest.virsh("autostart")
    before = domain(guest)
    enforce("cpu_throttle", guest.name, violation="mining", share="0.2 cores", case="T-cpu")
    assert cpu_group(spine, guest)[0] == 20000 and "global_quota   : 20000" in guest.virsh("schedinfo")
    assert "<global_quota>20000</global_quota>" in guest.virsh("dumpxml", "--inactive")
    # It has plenty to do: it boots anew again and again, and at this rate never gets through with it.
    stopped, begin, used, shares = cpu_group(spine, guest)[1]["throttled"], time.monotonic(), cpu_seconds(spine, guest), []
    for _ in range(6):
        at, had = time.monotonic(), cpu_seconds(spine, guest)
        guest.virsh("reset")
        time.sleep(max(0, at + 5 - time.monotonic()))
        shares.append((cpu_seconds(spine, guest) - had) / (time.monotonic() - at))
    whole = (cpu_seconds(spine, guest) - used) / (time.monotonic() - begin)
    with capsys.disabled():
        print("limit 0.2 cores, 30 s: %.4f; by 5 s: %s; throttled in %d periods" % (
            whole, " ".join("%.4f" % share for share in shares), cpu_group(spine, guest)[1]["throttled"] - stopped))
    assert 0.1 < whole <= 0.2 * 1.05, whole
    assert all(share <= 0.2 * 1.1 for share in shares), "in no part of it much more either"
    assert cpu_group(spine, guest)[1]["throttled"] > stopped + 20
    spine.suspend(guest.name, "T-sus").ok()
    lifted(spine, guest.name, "T-cpu")
    assert cpu_group(spine, guest)[0] == -1 and guest.state == "paused"
    assert spine.open_baselines() == [guest.name]
    lifted(spine, guest.name, "T-sus")
    assert spine.open_baselines() == [] and guest.state == "running"
    guest.await_boot()
    after = domain(guest)
    # A quota that was lifted is written out in the running guest's definition until its next start.
    for seen in (before, after):
        seen["live definition"] = seen["live definition"].replace("<cputune><global_quota>-1</global_quota></cputune>", "")
    assert_same(before, after)


def test_terminate_waits_for_a_second_person_and_keeps_the_disks(spine):
    guest, other = spine.lab.guest("vps-1001"), spine.lab.guest("vps-1003")
    inputs = {"service": guest.name, "violation": "spam", "case": "T-end"}
    alice, bob = ({"SUDO_UID": number} for number in ("4001", "4002"))
    before = spine.node.run(["virsh", "-q", "dumpxml", "--inactive", guest.name]).stdout
    assert "until 2 different people ask for it" in spine.play("terminate", inputs, env=alice).ok().said
    assert spine.statuses(guest.name, "T-end") == [] and spine.light(guest)
    done = spine.play("terminate", inputs, env=bob).ok()
    assert spine.statuses(guest.name, "T-end") == ["active"], done.said[-3000:]
    assert guest.state == "shut off" and spine.dark(guest) and spine.light(other) and not guest.autostart
    assert "nothing of ours deletes them" in done.said
    # A terminated guest somebody starts is dark from the first packet and off again after the next pass.
    guest.start()
    assert spine.dark(guest)
    guest.await_boot()
    spine.play("reconcile").ok()
    assert guest.state == "shut off"
    lifted(spine, guest.name, "T-end")
    guest.await_boot()
    assert spine.light(guest) and spine.node.run(["virsh", "-q", "dumpxml", "--inactive", guest.name]).stdout == before


def test_an_attacked_server_by_its_ladder(spine):
    """Suspended; the attack goes on: null-routed; each said with its reason and what comes next; --check beforehand the same."""
    guest, other = spine.lab.guest("vps-1002"), spine.lab.guest("vps-1001")
    inputs = {"service": guest.name, "violation": "attack_target", "case": "T-ladder"}
    before = spine.everything()
    checked = spine.play("respond", inputs, check=True).ok().said
    assert "step 1 of 2 of attack_target" in checked and "next: step 2, null_route or suspend" in checked
    spine.assert_untouched(before)
    done = spine.play("respond", inputs).ok()
    assert "step 1 of 2 of attack_target" in done.said and "suspend in force, verified" in done.said, done.said[-3000:]
    assert spine.statuses(guest.name, "T-ladder") == ["active"] and spine.dark(guest) and spine.light(other)
    went_on = spine.play("respond", {**inputs, "persists": True}).ok()
    assert "null_route in force, verified" in went_on.said and "next: no further step" in went_on.said, went_on.said[-3000:]
    assert spine.statuses(guest.name, "T-ladder") == ["active", "active"]
    spine.lift(guest.name, variables={"case": "T-ladder"}).ok()
    assert spine.statuses(guest.name, "T-ladder") == ["ended", "ended"] and spine.light(guest)


@pytest.mark.parametrize("verb, inputs, words", [
    ("port_block", {"ports": "80; drop"}, "is not a whole number from 1 to 65535"),
    ("enforce", {"kind": "suspend", "ports": "25"}, "suspend has no option ports"),
])
def test_wrong_inputs_are_refused_before_anything_is_touched(spine, verb, inputs, words):
    before = spine.everything()
    done = spine.play(verb, {"service": "vps-1001", "violation": "compromised", "duration": "1h", **inputs})
    assert done.returncode and words in done.said, done.said[-2000:]
    spine.assert_untouched(before)
