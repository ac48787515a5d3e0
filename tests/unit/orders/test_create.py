# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making guests: finished after any deaths, nothing made twice, nothing of others touched, one error for one service."""
from __future__ import annotations

import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))

from ansible_collections.hosting.aup.plugins.module_utils import _create, _definitions, _network
from ansible_collections.hosting.aup.plugins.module_utils._ports import Owners, filter_model
from order_model import GIB, MAC, UUID, Died, Host, Run, order

DISK, SEED = "/pool/aup-vps-9.qcow2", "/pool/aup-vps-9.iso"


def verbs(plan, service="vps-9"):
    return [step["verb"] for step in plan.steps if step["service"] == service]


@given(deaths=st.lists(st.integers(1, 22), max_size=6))
@settings(deadline=None, max_examples=300)
def test_whatever_dies_in_between_the_next_run_finishes(deaths):
    with pytest.MonkeyPatch.context() as patch:
        host = Host()
        run, orders = Run(host, patch), {"vps-9": order()}
        for left in deaths:
            host.left = left
            try:
                run.go(orders)
            except Died:
                continue
        host.left = None
        assert run.go(orders)[1] == []
        assert host.guests[UUID]["state"] == "running" and host.guests[UUID]["autostart"]
        assert host.files[DISK]["backing"] == "/images/debian-12.qcow2"
        assert host.files[SEED]["data"] == _create.seed_of(orders["vps-9"], None)
        assert host.ran_unshaped == [] and run.disk["creating"] == {} and list(run.disk["created"]) == ["vps-9"]
        files = {path: dict(found) for path, found in host.files.items()}
        assert run.go(orders)[0].steps == [] and host.files == files


@given(left=st.integers(1, 22))
@settings(deadline=None, max_examples=40)
def test_a_disk_or_a_guest_is_made_once(left):
    """A death before the effect is the only reason to make it again."""
    with pytest.MonkeyPatch.context() as patch:
        host = Host()
        run, orders = Run(host, patch), {"vps-9": order()}
        host.left = left
        try:
            run.go(orders)
        except Died:
            there = {*host.files, *host.guests}
            asked = len(host.made)
            host.left = None
            run.go(orders)
            assert not there.intersection(host.made[asked:])


@pytest.mark.parametrize("path", [DISK, SEED])
def test_a_foreign_file_in_the_way_is_named_and_stays(monkeypatch, path):
    host = Host()
    run = Run(host, monkeypatch)
    foreign = {"format": "raw", "size_bytes": 7, "backing": None, "data": b"theirs"}
    host.files[path] = dict(foreign)
    plan, errors = run.go({"vps-9": order()})
    assert (plan.steps, errors) == ([], []) and host.files == {path: foreign} and run.disk["creating"] == {}
    assert plan.errors[0]["code"] == "disk_in_the_way" and path in plan.errors[0]["message"]
    del host.files[path]
    assert run.go({"vps-9": order()})[1] == [] and host.guests[UUID]["state"] == "running"


def test_a_begun_disk_that_is_not_as_ordered_is_named_and_stays(monkeypatch):
    host = Host()
    run = Run(host, monkeypatch)
    host.left = 2
    with pytest.raises(Died):
        run.go({"vps-9": order()})
    host.left = None
    larger = order(disk={"size_bytes": 20 * GIB, "image": "debian-12", "storage": "fast"})
    plan = run.plan({"vps-9": larger})
    assert [e["code"] for e in plan.errors] == ["disk_differs"] and DISK in plan.errors[0]["message"]


def guest(name, uuid, mac="52:54:00:99:00:01", state="running"):
    return {"name": name, "uuid": uuid, "state": state, "nics": [
        {"mac": mac, "kind": "bridge", "bridge": "br0", "device": "vnet7", "gap": None}]}


@pytest.mark.parametrize("there", [guest("web-vps-9", "other"), guest("another-name", UUID)])
def test_a_guest_that_is_there_is_adopted_and_nothing_is_asked_of_the_host(there):
    found = _create.plan({"vps-9": order()}, set(), [there], {}, {"creating": {}, "created": {}}, None)
    assert found == _create.CreationPlan([], [], [], [], [], {})


def named(**changes):
    return order(guest={"name": "web-vps-9", "uuid": UUID, "given": True}, **changes)


@pytest.mark.parametrize("code, wanted, change", [
    ("name_taken", named(), {"guests": [guest("web-vps-9", "other")]}),
    ("mac_taken", order(), {"guests": [guest("somebody", "other", MAC)]}),
    ("tap_taken", order(), {"links": {"br0": {}, "tap0123456789a": {}}}),
    ("bridge_unknown", order(), {"links": {}}),
    ("bridge_unknown", order(bridges=["br1"]), {}),
    ("image_unknown", order(image=None), {}),
    ("storage_unknown", order(storage=None), {}),
    ("memory_short", order(memory_bytes=9 * GIB), {}),
    ("disk_small", order(disk={"size_bytes": GIB, "image": "debian-12", "storage": "fast"}), {}),
    ("pool_full", order(disk={"size_bytes": 101 * GIB, "image": "debian-12", "storage": "fast"}), {}),
    ("machine_unsupported", order(), {"machine": "riscv64"}),
])
def test_what_can_not_be_made_is_said_and_others_are_made(code, wanted, change):
    host = Host()
    host.machine = change.get("machine", host.machine)
    other = order("vps-8", guest={"name": "eight", "uuid": "u-8", "given": False},
                  nics=[dict(order()["nics"][0], mac="52:54:00:10:08:01", tap="tap8")])
    found = _create.plan({"vps-8": other, "vps-9": wanted}, set(), change.get("guests", []), change.get("links", host.links),
                         {"creating": {}, "created": {}}, host)
    assert [(e["service"], e["code"]) for e in found.errors if e["service"] == "vps-9"] == [("vps-9", code)]
    assert not verbs(found) and found.errors[-1]["remedy"] and "vps-9" not in found.records
    if not change.keys() & {"links", "machine"}:
        assert verbs(found, "vps-8") == ["disk", "seed", "define", "start"]


def test_memory_is_shared_out_among_the_orders_of_one_run():
    host = Host()
    host.free = 3 * GIB
    orders = {sid: order(sid, memory_bytes=2 * GIB, guest={"name": sid, "uuid": sid, "given": False},
                         nics=[dict(order()["nics"][0], mac=mac, tap=sid)])
              for sid, mac in (("a", "52:54:00:00:00:01"), ("b", "52:54:00:00:00:02"))}
    found = _create.plan(orders, set(), [], host.links, {"creating": {}, "created": {}}, host)
    assert verbs(found, "a") and [(e["service"], e["code"]) for e in found.errors] == [("b", "memory_short")]


def test_overcommitted_storage_takes_more_than_is_free():
    host = Host()
    wide = order(disk={"size_bytes": 101 * GIB, "image": "debian-12", "storage": "fast"},
                 storage={"pool": "default", "directory": None, "overcommit": True})
    assert verbs(_create.plan({"vps-9": wide}, set(), [], host.links, {"creating": {}, "created": {}}, host))


def test_neither_a_held_service_nor_one_made_before_is_made():
    host = Host()
    held = _create.plan({"vps-9": order()}, {"vps-9"}, [], host.links, {"creating": {}, "created": {}}, host)
    gone = _create.plan({"vps-9": order()}, set(), [], host.links, {"creating": {}, "created": {"vps-9": {}}}, host)
    assert held.steps == gone.steps == [] and "while it is held" in held.notes[0] and "not made again" in gone.notes[0]


def test_named_user_data_that_did_not_come_stops_before_the_seed(monkeypatch):
    host = Host()
    run, wanted = Run(host, monkeypatch), order(user_data="9.txt")
    _plan, errors = run.go({"vps-9": wanted})
    assert [e["code"] for e in errors] == ["user_data_missing"] and set(host.files) == {DISK} and not host.guests
    plan, errors = run.go({"vps-9": wanted}, {"vps-9": "#!/bin/sh\nsecret\n"})
    assert errors == [] and verbs(plan) == ["seed", "define", "start"] and b"secret" in host.files[SEED]["data"]
    assert "secret" not in json.dumps(plan.steps)


def test_the_filter_knows_the_ports_before_there_are_any():
    """The model with the coming guest is the one that is built when it runs: no rule changes when it starts."""
    host, wanted = Host(), order()
    service = {"id": "vps-9", "guest": {"name": "web-vps-9", "uuid": None}, "nics": [{"mac": MAC, "addresses": []}],
               "smtp": {"mode": "enforce", "ports": [25]}, "controls": {}, "hold": None, "limits": {}, "baseline": None,
               "elsewhere": False}
    desired = {"present": True, "services": [service], "bridges": ["br0"], "uplinks": [], "routed_interfaces": [], "prefixes": [],
               "smtp": {"unknown": {"mode": "enforce", "ports": [25]}, "unknown_adopted": {"mode": "off", "ports": []},
                        "smarthosts": []}, "controls": {}, "rescue": []}
    plan = _create.plan({"vps-9": wanted}, set(), [], host.links, {"creating": {}, "created": {}}, host)
    guests, links = _create.with_pending([], host.links, plan.pending)
    before, _gaps = filter_model(desired, guests, links, {}, {"guests": [], "ports": []})
    running = dict(host.seen()[0] if host.guests else plan.pending[0], state="running")
    real = dict(host.links, tap0123456789a={"master": "br0", "mac": "fe:54:00:10:09:01"})
    after, _gaps = filter_model(desired, [running], real, {}, {"guests": [], "ports": []})
    assert before == after and [p["service"] for p in before["ports"]] == ["vps-9"]
    assert links is not host.links and "tap0123456789a" not in host.links


def test_the_rate_binds_what_was_made_here_and_no_adopted_guest():
    services = [{"id": sid, "rate_bps": 50, "guest": {"name": sid, "uuid": None}, "nics": [], "limits": limits}
                for sid, limits in (("made", {}), ("capped", {"bandwidth_cap": {"rate_bps": 20}}), ("adopted", {}))]
    guests = [dict(guest(sid, sid, "52:54:00:00:00:0%d" % n), nics=[{
        "mac": "52:54:00:00:00:0%d" % n, "kind": "bridge", "bridge": "br0", "device": "t%d" % n}])
        for n, sid in enumerate(("made", "capped", "adopted"))]
    caps = _network.wanted_caps({"services": services}, guests, {"t0": {}, "t1": {}, "t2": {}}, Owners(services), {"made", "capped"})
    assert caps == {"made": {"rate_bps": 50, "devices": ["t0"]}, "capped": {"rate_bps": 20, "devices": ["t1"]}}


@given(name=st.text(min_size=1, max_size=40).filter(lambda t: all(ord(c) > 31 and ord(c) not in (127, 0xFFFE, 0xFFFF) for c in t)
                                                      and t.isprintable()))
@settings(deadline=None, max_examples=60)
def test_no_value_becomes_markup(name):
    from xml.etree import ElementTree
    text = _definitions.domain(order(guest={"name": name, "uuid": UUID, "given": True}), "/pool/a&b<.qcow2", "/pool/s.iso")
    root = ElementTree.fromstring(text)
    assert root.findtext("name") == name and root.find("bandwidth") is None and not list(root.iter("bandwidth"))
    assert [d.get("file") for d in root.iterfind("./devices/disk/source")] == ["/pool/a&b<.qcow2", "/pool/s.iso"]
    assert root.find("./devices/interface/target").get("dev") == "tap0123456789a"
