# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordered guests on libvirt and qemu as they are: pools, directories, files in the way, a libvirtd that goes away."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _create, _definitions, _seed
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt, _libvirt_create

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "orders"))

from order_model import order

libvirt = pytest.importorskip("libvirt")

MIB = 1 << 20
NUMBERS = itertools.count(1)
LINKS = {"br0": {"master": None, "mac": None}}


class House:
    """A node with an image and places for disks, and `provision` as far as making guests goes."""

    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        self.images, self.disks = folder / "images", folder / "disks"
        for path in (self.images, self.disks):
            path.mkdir()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.images / "base.qcow2"), "4M"], check=True)
        self.state = {"creating": {}, "created": {}, "images": {}}
        self.host = _libvirt.connect(node.uri)
        self.made = []

    def order(self, pool=None, **changes):
        number = next(NUMBERS)
        sid = "vps:%d" % number
        made = order(
            sid, guest={"name": "ordered-%d" % number, "uuid": "6f1f9f1e-0c5b-4b8e-9a57-%012d" % number, "given": False},
            guest_type="qemu", vcpus=1, memory_bytes=32 * MIB, disk={"size_bytes": 8 * MIB, "image": "base", "storage": "s"},
            image={"path": str(self.images / "base.qcow2"), "format": "qcow2", "sha256": None, "kernel": None, "initrd": None,
                   "command_line": None}, image_directory=str(self.images),
            storage={"pool": pool, "directory": None if pool else str(self.disks), "overcommit": False}, rate_bps=None,
            nics=[{"mac": "52:54:00:0b:00:%02x" % number, "bridge": "br0", "tap": "tapordered%d" % number, "addresses": [],
                   "gateways": []}], **changes)
        self.made.append(made["guest"]["uuid"])
        return made

    def plan(self, wanted):
        return _create.plan({wanted["service"]: wanted}, set(), _libvirt.guests(self.host), LINKS, self.state,
                            _create.Look(lambda: self.host, self.state["images"]))

    def provision(self, wanted, user_data=None, between=lambda: None):
        plan = self.plan(wanted)
        assert plan.errors == [], plan.errors
        self.state["creating"].update(copy.deepcopy(plan.records))
        between()
        return plan, _create.apply(self.host, plan.steps, {wanted["service"]: wanted}, self.state, lambda: None,
                                   {wanted["service"]: user_data}, None)

    def domain(self, wanted):
        return self.host.connection.lookupByUUIDString(wanted["guest"]["uuid"])

    def path(self, wanted, which):
        return self.disks / _create.names(wanted["service"])[which]

    def close(self):
        connection = libvirt.open(self.node.uri)
        for uuid in self.made:
            try:
                domain = connection.lookupByUUIDString(uuid)
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
            except libvirt.libvirtError as exc:
                if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        for pool in connection.listAllStoragePools(0):
            pool.destroy()
        connection.close()
        self.host.close()


@pytest.fixture
def house(node, tmp_path):
    made = House(node, tmp_path)
    yield made
    made.close()


@pytest.fixture
def pool(house):
    house.host.connection.storagePoolCreateXML(
        "<pool type='dir'><name>disks</name><target><path>%s</path></target></pool>" % house.disks, 0)
    return "disks"


def verbs(plan):
    return [step["verb"] for step in plan.steps]


@pytest.mark.parametrize("named", [True, False])
def test_from_an_order_to_a_running_guest(house, request, named):
    wanted = house.order(request.getfixturevalue("pool") if named else None, user_data="x.txt")
    plan, errors = house.provision(wanted, "the customer's own")
    assert errors == [] and verbs(plan) == ["disk", "seed", "define", "start"]
    domain = house.domain(wanted)
    assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING and domain.autostart() == 1 and domain.isPersistent()
    info = json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", str(house.path(wanted, 0))], check=True,
                                     capture_output=True).stdout)
    assert (info["format"], info["virtual-size"], info["backing-filename"], info["backing-filename-format"]) == (
        "qcow2", 8 * MIB, str(house.images / "base.qcow2"), "qcow2") and info["format-specific"]["data"]["compat"] == "1.1"
    assert house.path(wanted, 1).read_bytes() == _seed.image(_seed.documents(wanted, "the customer's own"))
    for which in (0, 1):
        assert house.path(wanted, which).stat().st_mode & 0o077 == 0
    assert house.node.run("cat", "/sys/class/net/%s/master/ifindex" % wanted["nics"][0]["tap"]).stdout
    assert "<bandwidth" not in domain.XMLDesc(0)
    # A pool of our own over a directory is gone again, its files are not.
    assert [p.name() for p in house.host.connection.listAllStoragePools(0)] == (["disks"] if named else [])
    again = house.plan(wanted)
    assert again.steps == [] and again.done == [wanted["service"]]


def test_libvirt_describes_the_guest_as_the_filter_was_told_beforehand(house):
    wanted = house.order()
    plan, _errors = house.provision(wanted)
    (seen,) = [g for g in _libvirt.guests(house.host) if g["uuid"] == wanted["guest"]["uuid"]]
    (coming,) = plan.pending
    assert (seen["name"], seen["state"]) == (coming["name"], coming["state"])
    assert [{key: nic[key] for key in coming["nics"][0]} for nic in seen["nics"]] == coming["nics"]


def test_a_libvirtd_that_goes_away_leaves_what_the_next_run_goes_on_from(house, monkeypatch):
    wanted = house.order()
    real = _libvirt_create.define

    def gone(*args):
        house.node.stop_libvirtd("KILL")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_libvirt_create, "define", gone)
        plan, errors = house.provision(wanted)
    assert verbs(plan) == ["disk", "seed", "define", "start"] and [e["code"] for e in errors] == ["libvirt_down"]
    inode = house.path(wanted, 0).stat().st_ino
    house.node.start_libvirtd()
    house.host = _libvirt.connect(house.node.uri)
    plan, errors = house.provision(wanted)
    assert errors == [] and verbs(plan) == ["define", "start"] and house.path(wanted, 0).stat().st_ino == inode
    assert house.domain(wanted).isActive()


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_comes_into_the_way_after_planning_is_not_touched(house, request, named):
    wanted = house.order(request.getfixturevalue("pool") if named else None)
    path = house.path(wanted, 0)
    _plan, errors = house.provision(wanted, between=lambda: path.write_text("theirs"))
    assert [e["code"] for e in errors] == ["libvirt"] and path.read_text() == "theirs"
    assert not house.path(wanted, 1).exists()
    (error,) = house.plan(wanted).errors
    assert error["code"] == "disk_differs" and str(path) in error["message"] and path.read_text() == "theirs"


def test_a_seed_left_half_written_is_written_again(house, pool):
    wanted = house.order(pool)
    place = _libvirt_create.locate(house.host, wanted)
    first, second = b"x" * (MIB // 2), _seed.image(_seed.documents(wanted, "longer"))
    for data in (first, second, second):
        _libvirt_create.write_seed(house.host, place, wanted, "aup-seed.iso", data)
    assert (house.disks / "aup-seed.iso").read_bytes() == second


def test_a_pool_of_ours_that_a_killed_run_left_is_used_and_taken_away(house):
    wanted = house.order()
    name = "hosting-aup-" + hashlib.sha256(str(house.disks).encode()).hexdigest()[:10]
    house.host.connection.storagePoolCreateXML(_definitions.pool(name, str(house.disks)), 0)
    assert house.provision(wanted)[1] == [] and house.domain(wanted).isActive()
    assert house.host.connection.listAllStoragePools(0) == []


def test_a_guest_that_came_meanwhile_is_not_redefined(house):
    wanted = house.order()
    theirs = ("<domain type='qemu'><name>%s</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
              % wanted["guest"]["name"])
    made = []
    _plan, errors = house.provision(wanted, between=lambda: made.append(house.host.connection.defineXML(theirs)))
    assert [e["code"] for e in errors] == ["name_taken"]
    assert made[0].UUIDString() != wanted["guest"]["uuid"] and not made[0].isActive()
    made[0].undefine()


@pytest.mark.parametrize("code, storage", [
    ("pool_missing", {"pool": "nowhere", "directory": None, "overcommit": False}),
    ("pool_missing", {"pool": None, "directory": "/nowhere/at/all", "overcommit": False}),
])
def test_storage_that_is_not_there(house, code, storage):
    wanted = house.order()
    wanted["storage"] = storage
    assert [e["code"] for e in house.plan(wanted).errors] == [code]


def test_a_pool_that_is_not_started(house):
    defined = house.host.connection.storagePoolDefineXML(
        "<pool type='dir'><name>asleep</name><target><path>%s</path></target></pool>" % house.disks, 0)
    try:
        assert [e["code"] for e in house.plan(house.order("asleep")).errors] == ["pool_inactive"]
    finally:
        defined.undefine()
