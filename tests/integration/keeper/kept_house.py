# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose guests are dictionaries and whose packet filter is real, with the files of a real node."""
from __future__ import annotations

import contextlib
import copy
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

from netns import Net

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack

NOW = 1_800_000_000
OFF = {"mode": "off", "ports": []}
ENFORCE = {"mode": "enforce", "ports": [25]}


def mac(number):
    return "52:54:00:00:%02x:%02x" % (number >> 8, number & 255)


class FakeLibvirt:
    """The part of `_backends._libvirt` that KvmNode uses."""

    AT_ONCE = 5

    def __init__(self):
        self.guests_by_uuid = {}
        self.down = False
        self.steps = []
        self.fails = None

    def add(self, number, state="running"):
        uuid = "00000000-0000-4000-8000-%012d" % number
        self.guests_by_uuid[uuid] = {
            "name": "vps-%d" % number, "uuid": uuid, "state": state, "reason": "booted", "id": number, "persistent": True,
            "autostart": True, "nics": [{
                "mac": mac(number), "kind": "bridge", "bridge": "br0", "device": "tap%d" % number, "link_live": "up",
                "link_config": "up", "link_settable": True, "gap": None}],
            "scheduler": {"live": None, "config": None}, "disks": {}}
        return self.guests_by_uuid[uuid]

    def connect(self, _uri):
        if self.down:
            raise NodeError("libvirt is down.", code="libvirt_down", retryable=True)
        return self

    def alive(self):
        return not self.down

    def close(self):
        pass

    def remembering(self):
        return contextlib.nullcontext()

    def guests(self, _host, only=None):
        return copy.deepcopy([guest for uuid, guest in self.guests_by_uuid.items() if only is None or uuid in only])

    def detail(self, _host, uuid):
        return copy.deepcopy(self.guests_by_uuid.get(uuid))

    def apply_step(self, _host, step):
        if self.fails and self.fails(step):
            raise NodeError("libvirt says no.", code="libvirt")
        self.steps.append((step["service"], step["verb"]))
        guest, verb = self.guests_by_uuid[step["guest_uuid"]], step["verb"]
        if verb == "set_link":
            nic = next(nic for nic in guest["nics"] if nic["mac"] == step["mac"])
            nic["link_" + step["scope"]] = step["after"]
        elif verb == "set_autostart":
            guest["autostart"] = step["after"]
        else:
            guest["state"] = step["after"]
            guest["reason"] = {"paused": "user", "off": "destroyed", "running": "unpaused"}[step["after"]]
            if verb == "start":
                for nic in guest["nics"]:
                    nic["link_live"] = nic["link_config"]

    def reboot_host(self):
        """Power failure: every guest is off."""
        for guest in self.guests_by_uuid.values():
            guest.update(state="off", reason="unknown", id=None)
            for nic in guest["nics"]:
                nic["link_live"] = None


def hold(ids, until, kind="suspend", power="pause"):
    return {"kind": kind, "power": power, "enforcement_ids": list(ids), "until_at": until}


class House:
    """One node and the desired states it is given."""

    def __init__(self, space, root, libvirt):
        self.space, self.root, self.libvirt = space, root, libvirt
        self.generation = 0
        self.boot = "boot-1"
        self.full = False

    def node(self):
        """A process of its own, as far as KvmNode goes."""
        made = _kvm_node.KvmNode(self.space.run, root=str(self.root), boot_id=self.boot)
        if self.full:
            def refuse(name, _data):
                raise NodeError("%s can't be written: No space left on device." % name, code="state_unwritable")
            made.state.write = refuse
            made.state.journal.append = lambda entries: refuse("journal.jsonl", entries) if entries else None
        return made

    def desired(self, services, now=NOW, **more):
        self.generation += 1
        entries = []
        for number, state in services.items():
            entries.append({
                "id": "vps-%d" % number, "guest": {"name": "vps-%d" % number, "uuid": "00000000-0000-4000-8000-%012d" % number},
                "nics": [{"mac": mac(number), "addresses": []}], "baseline": None, "elsewhere": False,
                "smtp": ENFORCE, "hold": None, "limits": {}, **state})
        return {
            "format": 1, "node": "kvm1", "present": True, "now": now,
            "fence": {"ledger": "L", "epoch": 1, "generation": self.generation}, "release": {"id": 1}, "uplinks": ["up0"],
            "bridges": ["br0"], "routed_interfaces": [], "prefixes": [], "rescue": [], "services": entries,
            "smtp": {"unknown": ENFORCE, "unknown_adopted": ENFORCE, "smarthosts": []}, **more}

    def converge(self, desired, **more):
        packed = pack(desired)
        planned = self.node().plan(packed, advance=True, **more)
        if planned["changed"] or planned["priors"]:
            done = self.node().apply(packed, planned["plan_hash"], confirm_seconds=0)
            assert not done["errors"] and not done["unverified"], done
            return done
        return planned

    def elements(self, name, family="bridge"):
        out = self.space.check("nft -j list set %s hosting_aup %s" % (family, name))
        return out

    @property
    def states(self):
        return {guest["name"]: guest["state"] for guest in self.libvirt.guests_by_uuid.values()}


@pytest.fixture
def house(tmp_path, monkeypatch):
    libvirt = FakeLibvirt()
    for name in ("connect", "guests", "detail", "apply_step"):
        monkeypatch.setattr(_kvm_node._libvirt, name, getattr(libvirt, name))
    with Net() as net:
        made = House(net.add("host"), tmp_path, libvirt)

        def links(macs=True):
            found = {"up0": {"master": "br0", "mac": "02:00:00:00:00:01"}, "br0": {"master": None, "mac": "02:00:00:00:00:02"}}
            for guest in libvirt.guests_by_uuid.values():
                if guest["state"] != "off":
                    found[guest["nics"][0]["device"]] = {"master": "br0", "mac": "fe" + guest["nics"][0]["mac"][2:]}
            return found

        monkeypatch.setattr(_kvm_node, "read_links", links)
        yield made
