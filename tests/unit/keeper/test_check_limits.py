# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What control groups of both versions say of a guest, from files as kernels write them, against what libvirt says."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._backends import _cgroup
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._keeper._check_limits import lines, verdict

SCOPE = "machine.slice/machine-qemu\\x2d1\\x2dvps\\x2d1.scope"
STAT_V2 = """usage_usec 81293041
user_usec 74561203
system_usec 6731838
core_sched.force_idle_usec 0
nr_periods 3012
nr_throttled 2987
throttled_usec 238112345
nr_bursts 0
burst_usec 0
"""
STAT_V1 = "nr_periods 3012\nnr_throttled 2987\nthrottled_time 238112345000\n"
# Debian 12 and Ubuntu with systemd: the hierarchy of version 2 alone; the threads of one guest in groups below `libvirt`.
V2 = {
    "mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n",
    "tasks": {"4711": "0::/%s/libvirt/emulator\n" % SCOPE, "4719": "0::/%s/libvirt/vcpu0\n" % SCOPE, "4720": "0::/%s/libvirt/vcpu1\n" % SCOPE},
    "groups": {
        "sys/fs/cgroup/" + SCOPE: {"cpu.max": "max 100000\n", "cpu.stat": STAT_V2},
        "sys/fs/cgroup/" + SCOPE + "/libvirt": {"cpu.max": "40000 100000\n", "cpu.stat": STAT_V2},
        "sys/fs/cgroup/" + SCOPE + "/libvirt/vcpu0": {"cpu.max": "max 100000\n", "cpu.stat": STAT_V2}}}
# As this build machine has them: a hierarchy for each controller, another of version 2 without any, libvirt without systemd.
V1 = {
    "mounts": "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\ncgroup /sys/fs/cgroup/cpuacct cgroup rw,relatime,cpuacct 0 0\n"
              "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n",
    "tasks": {number: "9:pids:/\n2:cpuacct:/machine/qemu-1-vps-1.libvirt-qemu/%s\n1:cpu:/machine/qemu-1-vps-1.libvirt-qemu/%s\n0::/\n" % (
        name, name) for number, name in (("4711", "emulator"), ("4719", "vcpu0"))},
    "groups": {
        "sys/fs/cgroup/cpu/machine": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n", "cpu.stat": STAT_V1},
        "sys/fs/cgroup/cpu/machine/qemu-1-vps-1.libvirt-qemu": {
            "cpu.cfs_quota_us": "40000\n", "cpu.cfs_period_us": "100000\n", "cpu.stat": STAT_V1}}}
# RHEL-like with both: cpu,cpuacct together in version 1, named by systemd in another.
JOINED = {**V1, "mounts": "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n",
          "tasks": {"4711": "4:cpu,cpuacct:/machine/qemu-1-vps-1.libvirt-qemu/emulator\n1:name=systemd:/machine/x\n"},
          "groups": {place.replace("cgroup/cpu/", "cgroup/cpu,cpuacct/") + ("" if place.endswith("machine") else "/emulator"): files
                     for place, files in V1["groups"].items()}}


# Seen by others. Paths of groups, mounts and `cpu.max` are as they recorded them; the guest's own quota and the threads' groups beside
# the emulator's, which they did not show, are ours, in the place where their libvirt has them.
def seen(mounts, scope, threads, groups):
    """A host of version 2 with one guest in this group."""
    at = "sys/fs/cgroup/"
    return {"mounts": mounts, "tasks": {number: "0::/%s/%s\n" % (scope, name) for number, name in threads.items()},
            "groups": {at + place: {"cpu.max": limit + "\n", "cpu.stat": STAT_V2} for place, limit in groups.items()}}


VM1 = "machine.slice/machine-qemu\\x2d6\\x2dvm1.scope"
DROPLET = "machine.slice/machine-qemu\\x2d18\\x2dDroplet\\x2d7572850.scope"
# libvirt, tests/vircgroupdata/unified.mounts (Fedora, systemd, SELinux), without its leading /not/really.
FEDORA = """sysfs /sys sysfs rw,seclabel,nosuid,nodev,noexec,relatime 0 0
tmpfs /run tmpfs rw,seclabel,nosuid,nodev,mode=755 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw,seclabel,nosuid,nodev,noexec,relatime,nsdelegate 0 0
bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0
systemd-1 /proc/sys/fs/binfmt_misc autofs rw,relatime,fd=40,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=14586 0 0
"""
# libvirt, tests/vircgroupdata/hybrid.mounts and hybrid.self.cgroup (OpenRC): processor time in version 2, all else in version 1.
OPENRC = """cgroup_root /sys/fs/cgroup tmpfs rw,nosuid,nodev,noexec,relatime,size=10240k,mode=755 0 0
openrc /sys/fs/cgroup/openrc cgroup rw,nosuid,nodev,noexec,relatime,release_agent=/lib64/rc/sh/cgroup-release-agent.sh,name=openrc 0 0
none /sys/fs/cgroup/unified cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
cpuset /sys/fs/cgroup/cpuset cgroup rw,nosuid,nodev,noexec,relatime,cpuset 0 0
pids /sys/fs/cgroup/pids cgroup rw,nosuid,nodev,noexec,relatime,pids 0 0
"""
OPENRC_GROUPS = "8:pids:/\n7:hugetlb:/\n6:perf_event:/\n5:freezer:/\n4:net_cls:/\n3:devices:/\n2:cpuset:/\n1:name=openrc:/\n"
OPENRC_GUEST = "machine/qemu-1-vps-1.libvirt-qemu"  # libvirt's name without systemd (libvirt.org/cgroups.html)
RECORDED = {
    # A report on throttled guests, Ubuntu, kernel 6.8: `cat /proc/2250361/cgroup`, the scope's cpu.max; libvirt has its quota below it.
    "nested": (seen(FEDORA, VM1, {"2250361": "libvirt/emulator", "2250370": "libvirt/vcpu0", "2250371": "libvirt/vcpu1"},
                        {VM1: "max 100000", VM1 + "/libvirt": "40000 100000", VM1 + "/libvirt/vcpu0": "max 100000"}),
               "/%s/libvirt" % VM1, "/%s/libvirt" % VM1),
    # The same guest, its scope held by its operator's hand (`40000 100000`), libvirt's own limit looser.
    "scope": (seen(FEDORA, VM1, {"2250361": "libvirt/emulator", "2250370": "libvirt/vcpu0"},
                       {VM1: "40000 100000", VM1 + "/libvirt": "100000 100000"}), "/%s/libvirt" % VM1, "/%s" % VM1),
    # lists.linux-kernel cgroups, 4 October 2021, <20211004201948.20293-1-vverma@digitalocean.com>: a libvirt that has no group
    # `libvirt` in the scope yet. Its vhost thread was a process of its own, in the root.
    "droplet": (seen(FEDORA, DROPLET, {"1916421": "emulator", "1916439": "emulator", "1916436": "vcpu0"},
                         {DROPLET: "40000 100000", DROPLET + "/emulator": "max 100000"}), "/" + DROPLET, "/" + DROPLET),
    "openrc": (seen(OPENRC, OPENRC_GUEST, {"4711": "emulator", "4719": "vcpu0"},
                        {"unified/" + OPENRC_GUEST: "40000 100000"}), "/" + OPENRC_GUEST, "/" + OPENRC_GUEST),
}
for _number, _text in RECORDED["openrc"][0]["tasks"].items():
    RECORDED["openrc"][0]["tasks"][_number] = OPENRC_GROUPS + _text


@pytest.mark.parametrize("name", RECORDED)
def test_what_others_recorded_on_hosts_with_version_2(tmp_path, name):
    found, group, binding = RECORDED[name]
    place = _cgroup.group_of(4711, host(tmp_path, found))
    assert (place.version, place.path) == (2, group)
    held = _cgroup.tightest(_cgroup.limits_above(place))
    assert held == (binding, 40000, 100000) and verdict((40000, 100000), held) is None
    assert _cgroup.throttled_of(2, _cgroup.files_of(place, held.path))["throttled"] == 2987


def host(tmp_path, recorded):
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mounts").write_text("proc /proc proc rw 0 0\n" + recorded["mounts"].replace(" /sys", " %s/sys" % tmp_path))
    for number, text in recorded["tasks"].items():
        (proc / "4711/task" / number).mkdir(parents=True)
        (proc / "4711/task" / number / "cgroup").write_text(text)
    for place, files in recorded["groups"].items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / place / name).write_text(text)
    return str(proc)


@pytest.mark.parametrize("recorded, version, group", [
    (V2, 2, "/%s/libvirt" % SCOPE), (V1, 1, "/machine/qemu-1-vps-1.libvirt-qemu"), (JOINED, 1, "/machine/qemu-1-vps-1.libvirt-qemu/emulator")])
def test_a_whole_guests_limit_is_found_in_either_version(tmp_path, recorded, version, group):
    place = _cgroup.group_of(4711, host(tmp_path, recorded))
    assert (place.version, place.path) == (version, group)
    held = _cgroup.tightest(_cgroup.limits_above(place))
    assert held == (group, 40000, 100000)
    assert _cgroup.throttled_of(version, _cgroup.files_of(place, held.path)) == {"periods": 3012, "throttled": 2987, "seconds": 238.112345}
    assert verdict((40000, 100000), held) is None and verdict((20000, 50000), held) is None
    assert "leaves 0.40" in verdict((20000, 100000), held)
    said = lines([{"guest": "vps-1", "version": version, "group": group, "held": list(held), "disks": {"vda": {"total_iops_sec": 50}},
                   "throttled": {"periods": 3012, "throttled": 2987, "seconds": 1.0}, "wrong": ["x"]}])
    assert "0.40 processors by control group v%d %s, throttled in 2987 of 3012 periods" % (version, group) in said[0]
    assert "vda: total_iops_sec 50" in said[0] and said[1] == "  WRONG: x"


@pytest.mark.parametrize("recorded, name", [(V2, "cpu.max"), (V1, "cpu.cfs_quota_us")])
def test_a_limit_that_is_not_in_the_group_is_said(tmp_path, recorded, name):
    proc = host(tmp_path, recorded)
    for path in tmp_path.glob("sys/**/" + name):
        path.write_text("max 100000\n" if name == "cpu.max" else "-1\n")
    held = _cgroup.tightest(_cgroup.limits_above(_cgroup.group_of(4711, proc)))
    assert held is None and "no control group limits it" in verdict((40000, 100000), held)


def test_a_tighter_one_around_the_guest_is_the_one_that_binds(tmp_path):
    proc = host(tmp_path, V2)
    (tmp_path / "sys/fs/cgroup/machine.slice/cpu.max").write_text("10000 50000\n")
    held = _cgroup.tightest(_cgroup.limits_above(_cgroup.group_of(4711, proc)))
    assert held == ("/machine.slice", 10000, 50000) and verdict((40000, 100000), held) is None and verdict(None, held) is None


def test_a_group_without_the_controller_and_a_guest_that_ended_are_errors_and_no_crash(tmp_path):
    proc = host(tmp_path, V2)
    for path in [*tmp_path.glob("sys/**/cpu.max"), *tmp_path.glob("sys/**/cpu.stat")]:
        path.unlink()
    place = _cgroup.group_of(4711, proc)
    assert _cgroup.limits_above(place) == [] and _cgroup.throttled_of(2, _cgroup.files_of(place, place.path))["throttled"] == 0
    with pytest.raises(NodeError, match="can't be looked at"):
        _cgroup.group_of(1, proc)
    (tmp_path / "proc/self/mounts").write_text("")
    with pytest.raises(NodeError, match="no control groups"):
        _cgroup.group_of(4711, proc)
