# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the limits that libvirt says guests have are those that the kernel and qemu hold them to. PRIVATE to the collection.

For a host's owner to see on his own machine: reading back from libvirt is reading what was told to it. Nothing is changed; with
`measure` a guest is made that was not there, is limited, timed, and gone again.
"""
from __future__ import annotations

import os
import time
import uuid

from ansible_collections.hosting.aup.plugins.module_utils._backends import _cgroup, _libvirt
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

RUN = "/run/libvirt/qemu"
SHARE = 0.2          # of a processor, for the guest that is measured
TOLERANCE = 0.05
_SETTLE = 2.0        # seconds until its firmware has given way to the loop
_PLACES = ("/var/lib/libvirt/images", "/var/lib/libvirt")
# A boot sector that does nothing, as fast as it can: cli; jmp to itself.
_BUSY = b"\xfa\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa"
_GUEST = """<domain type='%s'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
<cputune><global_period>100000</global_period><global_quota>%d</global_quota></cputune>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/>
<iotune><total_iops_sec>50</total_iops_sec></iotune></disk><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""


def _pid(name, run=RUN):
    try:
        with open("%s/%s.pid" % (run, name), encoding="ascii") as handle:
            return int(handle.read())
    except (OSError, ValueError):
        raise NodeError("guest %s has no process that libvirt names." % name, code="cgroup", retryable=True)


def verdict(said, held):
    """What is wrong between what libvirt says of a guest and what holds it, in words; None if nothing is.

    :param said: `(quota, period)` of libvirt, or None for no limit
    :param held: the tightest `Limit` of its groups, or None
    """
    if said is None:
        return None  # tighter ones of somebody else's (a slice's) are his business
    if held is None:
        return "libvirt says %.2f processors, but no control group limits it" % (said[0] / said[1])
    if held.quota * said[1] > said[0] * held.period:
        return "libvirt says %.2f processors, but the tightest control group (%s) leaves %.2f" % (
            said[0] / said[1], held.path, held.quota / held.period)
    return None


def look(host, run=RUN, proc="/proc"):
    """`[{"guest", "version", "group", "said", "held", "throttled", "disks", "wrong"}]` of the running guests that have a limit.

    :param host: `_libvirt.Host`
    """
    found = []
    for one in _libvirt.guests(host):
        if one["state"] not in ("running", "paused"):
            continue
        detail = _libvirt.detail(host, one["uuid"])
        live = detail and detail["scheduler"]["live"]
        said = (live["quota"], live["period"] or 100000) if live and live["quota"] else None
        disks = {target: disk["live"] for target, disk in (detail or {"disks": {}})["disks"].items() if disk["live"]}
        if not said and not disks:
            continue
        entry = {"guest": one["name"], "said": said, "disks": disks, "version": None, "group": None, "held": None, "throttled": None}
        try:
            wrong = []
            if said:
                place = _cgroup.group_of(_pid(one["name"], run), proc)
                held = _cgroup.tightest(_cgroup.limits_above(place))
                entry.update(version=place.version, group=place.path, held=held and list(held), throttled=_cgroup.throttled_of(
                    place.version, _cgroup.files_of(place, held.path if held else place.path)))
                wrong.append(verdict(said, held))
            wrong += [_disk_wrong(host, one["uuid"], target, rates) for target, rates in sorted(disks.items())]
            entry["wrong"] = [one for one in wrong if one]
        except NodeError as exc:
            entry["wrong"] = [exc.message]
        found.append(entry)
    return found


def _disk_wrong(host, guest, target, rates):
    """qemu itself keeps a disk's rates, no control group; libvirt asks it for them."""
    seen = _libvirt.rates_in_force(host, guest, target)
    return None if seen == rates else "disk %s: libvirt's definition says %r, qemu %r" % (target, rates, seen)


def measure(host, seconds, places=_PLACES, say=None):
    """Make a guest that does nothing as fast as it can, limited to a fifth of a processor, and time it.

    :returns: entry as of `look`, with `share` (processors used), `limit` and `seconds`
    :raises NodeError: it can't be made
    """
    name, identity = "aup-check-%d" % os.getpid(), str(uuid.uuid4())
    directory = next((place for place in places if os.path.isdir(place) and os.access(place, os.W_OK)), "/run")
    image = "%s/%s.img" % (directory, name)
    kind = "kvm" if os.path.exists("/dev/kvm") else "qemu"
    with open(image, "xb") as handle:
        handle.write(_BUSY)
    try:
        domain = _libvirt.create_transient(host, _GUEST % (kind, name, identity, int(SHARE * 100000), image))
        try:
            time.sleep(_SETTLE)
            begin, used = time.monotonic(), _libvirt.processor_seconds(domain)
            before = _entry(host, name)
            if say:
                say("guest %s (%s) is limited to %.2f processors and timed for %d s" % (name, kind, SHARE, seconds))
            time.sleep(seconds)
            share = (_libvirt.processor_seconds(domain) - used) / (time.monotonic() - begin)
            entry = dict(_entry(host, name), share=share, limit=SHARE, seconds=seconds)
        finally:
            _libvirt.end_transient(domain)
    finally:
        os.unlink(image)
    if share > SHARE * (1 + TOLERANCE):
        entry["wrong"].append("it used %.4f processors, more than %.4f and five per cent" % (share, SHARE))
    elif share < SHARE / 2:
        entry["wrong"].append("it used only %.4f processors: it did not run, or this host is too busy to tell" % share)
    if not entry["throttled"] or entry["throttled"]["throttled"] <= (before["throttled"] or {"throttled": 0})["throttled"]:
        entry["wrong"].append("the group's counter of throttled periods does not grow")
    return entry


def _entry(host, name):
    return next(entry for entry in look(host) if entry["guest"] == name)


def lines(entries):
    """What was found, for people."""
    said = []
    for entry in entries:
        parts = []
        if entry["held"]:
            path, quota, period = entry["held"]
            parts.append("%.2f processors by control group v%d %s, throttled in %d of %d periods" % (
                quota / period, entry["version"], path, entry["throttled"]["throttled"], entry["throttled"]["periods"]))
        parts += ["disk %s: %s" % (target, ", ".join("%s %d" % pair for pair in sorted(rates.items())))
                  for target, rates in sorted(entry["disks"].items())]
        if "share" in entry:
            parts.append("used %.4f processors in %d s" % (entry["share"], entry["seconds"]))
        said.append("%s: %s" % (entry["guest"], "; ".join(parts) or "no limit found"))
        said += ["  WRONG: %s" % text for text in entry["wrong"]]
    return said or ["no running guest has a limit of processors or disks"]
