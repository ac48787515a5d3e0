# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ports of a host's guests have carried so far, each counter named so that it is never taken for another.
PRIVATE to the collection.

A counter lives as long as its network device: from the making of a tap until it goes, with the guest's power-off, its
migration away or the host's reboot. Its name is the boot id of the host, its network namespace, and the interface index,
which the kernel gives once per boot and namespace (`dev_new_index`: not reused until it wraps at 2^31). So a
restarted, migrated or renamed port is another counter, and a counter that runs on is the same.

Bytes are those of Ethernet frames at the guest's port, without preamble and checksum; what the packet filter or a cap
drops behind the port has been sent all the same.
"""
from __future__ import annotations

import os


SYSFS = "/sys/class/net"


def read_port(device, sysfs=SYSFS):
    """`(ifindex, bytes the guest received, bytes the guest sent)` of a tap; None when it is not there, or not the same any more.

    :param device: the interface's name
    """
    if not device or "/" in device or device.startswith("."):
        return None
    base = os.path.join(sysfs, device)
    try:
        before = _number(base, "ifindex")
        # The host sends what the guest receives.
        received, sent = _number(base, "statistics/tx_bytes"), _number(base, "statistics/rx_bytes")
        after = _number(base, "ifindex")
    except (OSError, ValueError):
        return None
    return (before, received, sent) if before == after else None


def _number(base, name):
    with open(os.path.join(base, name), encoding="ascii") as handle:
        return int(handle.read())


def here(boot_id):
    """The boot id with the network namespace: hosts in containers of one machine share the first alone."""
    return "%s.%d" % (boot_id, os.stat("/proc/self/ns/net").st_ino)


def take_samples(guests, boot_id, sysfs=SYSFS):
    """Samples of all ports of running guests.

    :param guests: as `_libvirt.guests` gives them
    :param boot_id: what makes an interface index unique; see `here`
    :returns: `(samples, gaps)`: samples of `{"uuid", "name", "mac", "counter", "received", "sent"}`, sorted;
        gaps: sentences about NICs of running guests whose bytes the host does not see
    """
    samples, gaps = [], []
    for guest in guests:
        if guest["id"] is None:
            continue
        for nic in guest["nics"]:
            seen = read_port(nic["device"], sysfs)
            if seen is None:
                # A tap that is gone belongs to a guest that was just ended: its next one is counted from zero.
                if nic["gap"] or not nic["device"]:
                    gaps.append("NIC %s of guest %s is not metered: the host has no counter for it." % (nic["mac"], guest["name"]))
                continue
            samples.append({"uuid": guest["uuid"], "name": guest["name"], "mac": nic["mac"], "counter": "%s/%d" % (boot_id, seen[0]),
                            "received": seen[1], "sent": seen[2]})
    return sorted(samples, key=lambda one: one["counter"]), gaps
