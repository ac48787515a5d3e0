# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel holds a process to, read from its control groups, version 1 and 2. Reads only. PRIVATE to the collection.

Formats: cgroups(7); kernel, Documentation/admin-guide/cgroup-v2.rst (`cpu.max`, `cpu.stat`) and
Documentation/scheduler/sched-bwc.rst (`cpu.cfs_quota_us`, `cpu.stat` of version 1).
"""
from __future__ import annotations

import os
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

Place = namedtuple("Place", "version mount path")
Place.__doc__ = """A group of the controller `cpu`: 1 or 2, where its hierarchy is mounted, and the group's path below that."""
Limit = namedtuple("Limit", "path quota period")
Limit.__doc__ = """Microseconds of processor time in a period of so many, of the group at this path."""


def path_of(text):
    """`(version, path)` of the group that holds a process's processor time, from its `/proc/PID/cgroup`; None without one."""
    unified = None
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return 1, path
        if not controllers:
            unified = 2, path
    return unified


def mount_of(text, version):
    """Where the hierarchy of `cpu` is mounted, from `/proc/self/mounts`; None if it isn't."""
    for line in text.splitlines():
        _device, place, kind, options = line.split()[:4]
        if (version, kind) == (2, "cgroup2") or ((version, kind) == (1, "cgroup") and "cpu" in options.split(",")):
            return place
    return None


def limit_of(version, files):
    """`(quota, period)` in microseconds of a group, or None where it has none.

    :param files: `{name: content}` of the group
    """
    if version == 2:
        words = files.get("cpu.max", "max").split()
        return None if words[0] == "max" else (int(words[0]), int(words[1]))
    quota = int(files.get("cpu.cfs_quota_us", "-1"))
    return None if quota <= 0 else (quota, int(files["cpu.cfs_period_us"]))


def throttled_of(version, files):
    """`{"periods", "throttled", "seconds"}`: periods begun, how many of them the group had to wait in, and how long in all."""
    found = dict(line.split()[:2] for line in files.get("cpu.stat", "").splitlines() if line)
    waited = int(found.get("throttled_usec", 0)) / 1e6 if version == 2 else int(found.get("throttled_time", 0)) / 1e9
    return {"periods": int(found.get("nr_periods", 0)), "throttled": int(found.get("nr_throttled", 0)), "seconds": waited}


_FILES = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"), 2: ("cpu.max", "cpu.stat")}


def _read(path):
    with open(path, encoding="ascii", errors="replace") as handle:
        return handle.read()


def files_of(place, path):
    """The files of a group that matter here, as `{name: content}`."""
    found = {}
    for name in _FILES[place.version]:
        try:
            found[name] = _read(os.path.join(place.mount + path, name))
        except OSError:
            continue  # the root has none, and a group without the controller neither
    return found


def group_of(pid, proc="/proc"):
    """The innermost group that all threads of a process are in: that of a whole guest.

    :raises NodeError: code `cgroup`: it has ended, or nothing is mounted
    """
    found, version = [], None
    try:
        for task in sorted(os.listdir("%s/%s/task" % (proc, pid))):
            one = path_of(_read("%s/%s/task/%s/cgroup" % (proc, pid, task)))
            if one:
                version, path = one
                found.append(path.strip("/").split("/"))
        mount = found and mount_of(_read("%s/self/mounts" % proc), version)
    except OSError as exc:
        raise NodeError("process %s can't be looked at: %s." % (pid, exc.strerror), code="cgroup", retryable=True)
    if not mount:
        raise NodeError("no control groups that hold processor time are mounted here.", code="cgroup",
                        remedy="Boot with control groups; every supported distribution does.")
    return Place(version, mount, "/" + "/".join(os.path.commonprefix(found)))


def limits_above(place):
    """`[Limit]` of a group and all groups around it, its own first. The tightest binds."""
    found, path = [], place.path.rstrip("/")
    while True:
        limit = limit_of(place.version, files_of(place, path))
        if limit:
            found.append(Limit(path or "/", *limit))
        if not path:
            return found
        path = path.rpartition("/")[0]


def tightest(limits):
    """The one that leaves the least of a processor, or None."""
    return min(limits, key=lambda limit: limit.quota / limit.period, default=None)
