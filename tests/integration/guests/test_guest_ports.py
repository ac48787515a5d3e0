# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of real ports: exact, with a new name for each new port, found by the guest's MAC through libvirt."""

from __future__ import annotations

import json
import sys

from ansible_collections.hosting.aup.plugins.module_utils import _usage
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import _in_memory

NOW = 1_800_000_000
UUID = "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c7001"
DOMAIN = """<domain type='qemu'><name>aup-metered</name><uuid>%s</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>
<interface type='bridge'><mac address='52:54:00:77:00:01'/><source bridge='br0'/><model type='virtio'/></interface>
<interface type='bridge'><mac address='52:54:00:77:00:02'/><source bridge='br0'/><model type='virtio'/></interface>
<interface type='user'><mac address='52:54:00:77:00:03'/></interface><serial type='null'/></devices></domain>""" % UUID

# Plays the guest at the far end of a tap: sends frames, and takes what the host sends. Says how many bytes each way.
GUEST = """
import fcntl, json, os, select, socket, struct, subprocess, sys
tap, frames, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", tap.encode(), 0x0002 | 0x1000))
subprocess.run(["ip", "link", "set", tap, "up"], check=True)
host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
host.bind((tap, 0))
frame = bytes.fromhex("5254007700015254007700ff88b5") + bytes(size - 14)
sent = received = 0
for _n in range(frames):
    sent += os.write(fd, frame)
    host.send(frame[:size // 2])
    while select.select([fd], [], [], 0)[0]:
        received += len(os.read(fd, 65536))
while select.select([fd], [], [], 0.5)[0]:
    received += len(os.read(fd, 65536))
print(json.dumps([received, sent]))
"""


def carry(node, tap, frames, size):
    return tuple(json.loads(node.run(sys.executable, "-c", GUEST, tap, str(frames), str(size)).stdout))


def test_bytes_of_a_real_port_are_counted_exactly_over_its_re_creation(node):
    """What the far end sent and took is what the ledger has in the end, to the byte; a tap made anew counts from zero."""
    sysfs = str(node.root / "sys/class/net")
    sent = received = 0
    with _in_memory() as ledger:

        def count(at):
            index, into, out = _usage.read_port("utap0", sysfs)
            sample = {"service": "vps-1", "anchor": NOW, "mac": "52:54:00:77:00:01", "counter": "boot/%d" % index, "received": into, "sent": out}
            with ledger.transaction(now=NOW + at) as tx:
                assert tx.record_usage("kvm1", NOW + at, [sample])["refused"] == []
            return index

        indexes = []
        for life in range(2):
            node.run("ip", "tuntap", "add", "dev", "utap0", "mode", "tap")
            try:
                for turn in range(2):
                    if (life, turn) != (0, 0):
                        into, out = carry(node, "utap0", 60 + turn, 1000)
                        received, sent = received + into, sent + out
                    indexes.append(count(10 * life + 2 * turn))
                    count(10 * life + 2 * turn + 1)
            finally:
                node.run("ip", "link", "del", "utap0")
        assert indexes[0] == indexes[1] != indexes[2] == indexes[3]
        assert _usage.read_port("utap0", sysfs) is None
        with ledger.read() as tx:
            (window,) = tx.usage_windows()
    assert sent == 1000 * (61 + 60 + 61) and received >= sent // 2
    assert (window["received"], window["sent"]) == (received, sent)


def test_ports_of_a_real_guest_are_found_by_mac_and_get_new_names(node, host):
    domain = host.connection.defineXML(DOMAIN)
    try:
        names = []
        for _start in range(2):
            domain.create()
            samples, gaps = _usage.take_samples(_libvirt.guests(host), node.boot_id, str(node.root / "sys/class/net"))
            own = [one for one in samples if one["uuid"] == UUID]
            assert sorted(one["mac"] for one in own) == ["52:54:00:77:00:01", "52:54:00:77:00:02"]
            assert all(one["counter"].startswith("boot-1/") and one["name"] == "aup-metered" for one in own)
            assert len([gap for gap in gaps if "52:54:00:77:00:03" in gap]) == 1, "user-mode networking has no port"
            names += [one["counter"] for one in own]
            domain.destroy()
        assert len(set(names)) == 4, "a restarted guest's ports are other counters"
        assert not [one for one in _usage.take_samples(_libvirt.guests(host), "b", str(node.root / "sys/class/net"))[0] if one["uuid"] == UUID]
    finally:
        domain.undefine()
