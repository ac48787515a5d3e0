# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as far as making a guest goes: files, guests, and a death that may come before or after any act."""
from __future__ import annotations

import copy

from ansible_collections.hosting.aup.plugins.module_utils import _create
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

GIB = 1 << 30
UUID = "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c1009"
MAC = "52:54:00:10:09:01"


class Died(BaseException):
    """The run was killed: nothing of ours may catch it."""


def order(service="vps-9", **changes):
    made = {
        "service": service, "guest": {"name": "web-" + service, "uuid": UUID, "given": False}, "guest_type": "kvm", "vcpus": 2,
        "memory_bytes": GIB, "disk": {"size_bytes": 10 * GIB, "image": "debian-12", "storage": "fast"},
        "image": {"path": "/images/debian-12.qcow2", "format": "qcow2", "sha256": None, "kernel": None, "initrd": None,
                  "command_line": None},
        "image_directory": "/images", "storage": {"pool": "default", "directory": None, "overcommit": False}, "bridges": ["br0"],
        "nics": [{"mac": MAC, "bridge": "br0", "tap": "tap0123456789a", "addresses": ["192.0.2.109/24", "2001:db8::9/128"],
                  "gateways": ["192.0.2.1", "fe80::1"]}],
        "rate_bps": 100_000_000, "hostname": "web-nine", "ssh_keys": [], "user_data": None, "resolvers": ["198.51.100.53"],
        "vendor_data": {"write_files": []},
    }
    made.update(changes)
    return made


class Host:
    """Stands in for `_libvirt_create` and for `Look`; every act may die before or after its effect."""

    machine = "x86_64"

    def __init__(self):
        self.files, self.guests, self.shaped, self.ran_unshaped = {}, {}, {}, []
        self.made = []  # every disk and guest ever made: twice would be a loss
        self.space, self.free, self.base = 100 * GIB, 8 * GIB, 2 * GIB
        self.links = {"br0": {"master": None, "mac": None}}
        self.left = None  # acts until death

    # -- looking
    def image(self, _order):
        return {"format": "qcow2", "size_bytes": self.base, "backing": None}

    def place(self, _order):
        return {"pool": "default", "path": "/pool", "available": self.space}

    def file(self, path):
        found = self.files.get(path)
        return found and {key: found[key] for key in ("format", "size_bytes", "backing")}

    def memory(self):
        return self.free

    def shaping(self):
        return True

    def seen(self):
        return [{"name": g["name"], "uuid": uuid, "state": g["state"], "nics": [
            {"mac": MAC, "kind": "bridge", "bridge": "br0", "device": g["tap"] if g["state"] != "off" else None, "gap": None}]}
            for uuid, g in self.guests.items()]

    # -- acting
    def _act(self, effect):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Died
        effect()
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Died

    def make_disk(self, _host, place, wanted, name):
        path = "%s/%s" % (place["path"], name)
        assert path not in self.files
        self.made.append(path)
        self._act(lambda: self.files.update({path: {
            "format": "qcow2", "size_bytes": wanted["disk"]["size_bytes"], "backing": wanted["image"]["path"], "data": b""}}))

    def write_seed(self, _host, place, _order, name, data):
        path = "%s/%s" % (place["path"], name)
        for part in (b"", data[:100], data):
            self._act(lambda part=part: self.files.update(
                {path: {"format": "raw", "size_bytes": len(data), "backing": None, "data": part}}))

    def define(self, _host, wanted, _disk, _seed):
        if any(g["name"] == wanted["guest"]["name"] for g in self.guests.values()):
            raise NodeError("there", code="name_taken")
        self.made.append(wanted["guest"]["uuid"])
        self._act(lambda: self.guests.update({wanted["guest"]["uuid"]: {
            "name": wanted["guest"]["name"], "state": "off", "autostart": False, "tap": wanted["nics"][0]["tap"]}}))

    def start(self, _host, wanted, before_running):
        guest = self.guests[wanted["guest"]["uuid"]]
        if guest["state"] == "off":
            self._act(lambda: guest.update(state="paused"))
        before_running()
        self._act(lambda: guest.update(autostart=True))
        if wanted["rate_bps"] and self.shaped.get(wanted["nics"][0]["tap"]) != wanted["rate_bps"]:
            self.ran_unshaped.append(wanted["service"])
        self._act(lambda: guest.update(state="running"))

    def shape(self, _service, rate_bps, ports):
        self._act(lambda: self.shaped.update(dict.fromkeys(ports, rate_bps)))


class Run:
    """The node's disk, and runs of plan, record, apply and settle as `KvmNode` has them."""

    def __init__(self, host, monkeypatch):
        self.host = host
        self.disk = {"creating": {}, "created": {}, "images": {}}
        for name in ("make_disk", "write_seed", "define", "start"):
            monkeypatch.setattr(_create._libvirt_create, name, getattr(host, name))

    def plan(self, orders, held=()):
        return _create.plan(orders, set(held), self.host.seen(), self.host.links, copy.deepcopy(self.disk), self.host)

    def go(self, orders, user_data=None):
        """One `provision`; returns `(plan, errors)`."""
        state = copy.deepcopy(self.disk)
        plan = _create.plan(orders, set(), self.host.seen(), self.host.links, state, self.host)
        state["creating"].update(plan.records)

        def save():
            self.disk = copy.deepcopy(state)
        save()
        errors = _create.apply(None, plan.steps, orders, state, save, user_data or {}, self.host.shape)
        after = _create.plan(orders, set(), self.host.seen(), self.host.links, state, self.host)
        for sid in after.done:
            state["created"][sid] = state["creating"].pop(sid)
        save()
        return plan, errors
