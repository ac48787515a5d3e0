# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a test node itself, in its namespaces: its guests, what is to be seen of it, and converging it in process.

    python -m tests.integration.soak.inside define|observe  < document
"""
from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys

import libvirt

from ansible_collections.hosting.aup.plugins.module_utils import _hold
from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode

_DOMAIN = """<domain type="qemu"><name>%(name)s</name><uuid>%(uuid)s</uuid><memory unit="MiB">4</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type="usb" model="none"/>
<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="/run/%(name)s.img"/><target dev="vda" bus="virtio"/></disk>
<interface type="bridge"><mac address="%(mac)s"/><source bridge="br0"/><target dev="%(tap)s"/><model type="virtio"/><rom enabled="no"/>
</interface><serial type="null"/><memballoon model="none"/></devices></domain>"""
STATES = ("paused", "running", "off", "running")


def run(argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def service(number):
    """Names and addresses of one service, all derived from its number."""
    return {"name": "vps-%d" % number, "uuid": "6b1f0a52-0000-4000-9000-%012d" % number, "mac": "52:54:00:50:00:%02x" % number,
            "tap": "tap%d" % number, "ipv4": "192.0.2.%d" % number, "ipv6": "2001:db8:5::%x" % number,
            "state": STATES[number % len(STATES)]}


def catalogue(services, node="kvm1"):
    """The catalogue of that many services as people write it."""
    return {
        "prefixes": ["192.0.2.0/24", "2001:db8:5::/48"],
        "nodes": {node: {"backend": "kvm", "location": "main", "bridges": ["br0"]}},
        "services": [{"id": one["name"], "customer": "c-%d" % number, "account_type": "personal", "node": node,
                      "guest": {"name": one["name"], "uuid": one["uuid"]},
                      "nics": [{"mac": one["mac"], "addresses": [one["ipv4"], one["ipv6"]]}]}
                     for number, one in ((number, service(number)) for number in range(1, services + 1))]}


def define(services):
    """Define the guests, each in its state."""
    connection = libvirt.open("qemu:///system")
    for number in range(1, services + 1):
        one = service(number)
        with open("/run/%s.img" % one["name"], "wb") as image:
            image.truncate(1 << 20)
        domain = connection.defineXML(_DOMAIN % one)
        if one["state"] != "off":
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if one["state"] == "paused" else 0)


def _plain(xml):
    """A definition without what says only the default."""
    return re.sub(r"\s*(<link state='up'/>|<iotune>\s*</iotune>|<cputune>\s*(<global_quota>-1</global_quota>\s*)?</cputune>)", "", xml)


def observe(services):
    """What an enforcement may have touched, of each guest and of the network."""
    connection = libvirt.open("qemu:///system")
    found = {}
    for number in range(1, services + 1):
        one = service(number)
        domain = connection.lookupByName(one["name"])
        state = domain.state()[0]
        inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        live = domain.XMLDesc(0)
        flag = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        found[one["name"]] = {
            "state": {1: "running", 3: "paused", 5: "off"}.get(state, state), "autostart": domain.autostart(),
            "link_down": "<link state='down'/>" in live,
            "iops": domain.blockIoTune("vda", flag)["total_iops_sec"],
            "quota": next(iter(re.findall(r"<global_quota>(\d+)<", inactive)), None),
            "definition": hashlib.sha256(_plain(inactive).encode()).hexdigest(),
        }
    routes = run(["ip", "-4", "route", "show", "table", "all", "proto", "187"])[1] + run(["ip", "-6", "route", "show", "table", "all", "proto", "187"])[1]
    table = run(["nft", "list", "table", "bridge", "hosting_aup"])[1] + run(["nft", "list", "table", "inet", "hosting_aup"])[1]
    links = [line.split(": ")[1].split("@")[0] for line in run(["ip", "-o", "link"])[1].splitlines()]
    return {
        "services": found, "routes": sorted(line.split()[1] for line in routes.splitlines() if line.startswith("blackhole")),
        "links": sorted(links), "qdiscs": sorted(
            re.sub(r"\b(refcnt|parent|handle) \S+|qdisc noqueue.*", "", line).split("limit")[0].strip()
            for line in run(["tc", "qdisc", "show"])[1].splitlines() if "tap" in line and "clsact" in line),
        "rules": re.sub(r"counter packets \d+ bytes \d+", "counter", table),
    }


def node():
    """This node, to be converged in this process."""
    # Nothing runs in these guests that could hear the power button; waiting for it would be all that takes time here.
    _hold.SHUTDOWN_SECONDS = 0
    return KvmNode(run, uri="qemu:///system")


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    print(json.dumps({"define": define, "observe": observe}[sys.argv[1]](wanted["services"])))
