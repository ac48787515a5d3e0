# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab node with as many services as a benchmark wants: catalogue, defined guests, ports. No timing here."""
from __future__ import annotations

import json
from pathlib import Path

from tests.lab import plan
from tests.lab.lab import IMAGE, Lab, Progress
from tests.lab.node import Node

EMPTY = "- hosts: aup_kvm_nodes\n  gather_facts: false\n  tasks:\n    - ansible.builtin.meta: noop\n"
PORTS_OF_A_BRIDGE = 1000  # the kernel allows 1,023
RUNNING = 20  # each real qemu takes half a second to start and 13 MiB

# Runs on the node with its own Python: defines guests through its own libvirtd and starts the first few, paused.
_DEFINE = """
import json, sys, libvirt
from concurrent.futures import ThreadPoolExecutor
wanted = json.load(sys.stdin)
connection = libvirt.open("qemu:///system")
def start(domain):
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if wanted["paused"] else 0)
def disk(name):
    path = "/run/%s.img" % name
    with open(path, "wb") as image:
        image.truncate(1 << 20)
    return ('<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="%s"/>'
            '<target dev="vda" bus="virtio"/></disk>' % path)
started = []
for number, guest in enumerate(wanted["guests"]):
    guest["disk"] = disk(guest["name"]) if wanted["disks"] and number < wanted["running"] else ""
    domain = connection.defineXML('''<domain type="qemu"><name>%(name)s</name><uuid>%(uuid)s</uuid>
<memory unit="MiB">2</memory><vcpu>1</vcpu><os><type arch="x86_64" machine="pc">hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type="usb" model="none"/>
%(disk)s<interface type="bridge"><mac address="%(mac)s"/><source bridge="%(bridge)s"/><target dev="%(tap)s"/>
<model type="virtio"/><rom enabled="no"/></interface><memballoon model="none"/></devices></domain>''' % guest)
    if number < wanted["running"]:
        started.append(domain)
with ThreadPoolExecutor(2) as pool:
    list(pool.map(start, started))
"""


def service(number: int) -> dict[str, str]:
    """Names and addresses of one service and its guest, all of them derived from its number."""
    low = (number >> 16 & 255, number >> 8 & 255, number & 255)
    return {
        "id": f"vps-{number:05d}", "name": f"vps-{number:05d}", "uuid": f"6b1f0a52-0000-4000-9000-{number:012d}",
        "mac": "52:54:01:%02x:%02x:%02x" % low, "ipv4": "10.%d.%d.%d" % low, "ipv6": f"2001:db8:1:1::{number:x}",
        "bridge": f"br{1 + number // PORTS_OF_A_BRIDGE}", "tap": f"tap{number}",
    }


def host(say=None) -> Lab:
    """A lab whose one node has no guests of the lab's own; a context manager like every lab."""
    lab = Lab(say=say or Progress())
    lab.nodes = [Node(plan.NodePlan(1, ()), lab.state / "kvm1", IMAGE, lab.identity)]
    return lab


def write_catalogue(inventory: Path, services: int) -> None:
    """Put that many services, IPv4 and IPv6 each, into the inventory's catalogue."""
    path = inventory.parent / "catalogue.yml"
    document = json.loads(path.read_text())
    document["prefixes"] = [*plan.PROVIDER_PREFIXES, "10.0.0.0/8"]
    node = document["nodes"]["kvm1"]
    node["bridges"] = sorted({plan.BRIDGE} | {service(number)["bridge"] for number in range(services)})
    node["routed_interfaces"] = []
    document["services"] = [
        {"id": one["id"], "customer": f"c-{number}", "account_type": "personal", "node": "kvm1",
         "guest": {"name": one["name"], "uuid": one["uuid"]},
         "nics": [{"mac": one["mac"], "addresses": [one["ipv4"], one["ipv6"]]}]}
        for number, one in ((number, service(number)) for number in range(services))
    ]
    path.write_text(json.dumps(document))


def make_ports(node: Node, first: int, last: int, running: int = RUNNING) -> None:
    """A tap in a tenant bridge for each service from `first` to before `last`; those of running guests are libvirt's."""
    node.namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)  # else the kernel adds an address to each
    bridges = sorted({service(number)["bridge"] for number in range(first, last) if number % PORTS_OF_A_BRIDGE == 0})
    lines = [line for name in bridges for line in (
        f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0", f"link set {name} up")]
    for number in range(max(first, running), last):
        one = service(number)
        lines += [f"tuntap add dev {one['tap']} mode tap", f"link set {one['tap']} master {one['bridge']}"]
    node.run(["ip", "-batch", "-"], text_in="\n".join(lines) + "\n", timeout=300)


def define_guests(node: Node, first: int, last: int, running: int = RUNNING, paused: bool = True, disks: bool = False) -> None:
    """Guests in the node's own libvirtd; the first of all run as real qemu.

    :param running: how many
    :param paused: before their first step
    :param disks: those that run have one each
    """
    wanted = {"guests": [service(number) for number in range(first, last)], "running": running if first == 0 else 0,
              "paused": paused, "disks": disks}
    node.run(["/usr/bin/python3", "-c", _DEFINE], text_in=json.dumps(wanted), timeout=600)
