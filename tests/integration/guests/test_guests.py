# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt and qemu as they are: what the edge promises, and holds planned and given back on real guests.

The guests have no system: their firmware finds no disk, which is a guest that ignores ACPI.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _hold
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from guest_model import Node, quarantine, suspend

libvirt = pytest.importorskip("libvirt")

NUMBERS = itertools.count(1)
COLLECTIONS = Path(os.path.abspath(_libvirt.__file__)).parents[6]

NIC = """<interface type='%(type)s'><mac address='%(mac)s'/>%(source)s%(link)s
<model type='virtio'/></interface>"""
DOMAIN = """<domain type='qemu'><name>%(name)s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices>%(nics)s<serial type='null'/></devices></domain>"""


def macs(number):
    return "52:54:00:0a:%02x:01" % number, "52:54:00:0a:%02x:02" % number


def xml(number, kind="bridge", links=("", "<link state='down'/>")):
    """A guest with two NICs, the second one's cable out by the customer's own wish."""
    source = "<source bridge='br0'/>" if kind == "bridge" else ""
    nics = "".join(
        NIC % {"type": kind, "mac": mac, "source": source, "link": link}
        for mac, link in zip(macs(number), links)
    )
    return DOMAIN % {"name": "aup-test-%d" % number, "nics": nics}


class RealGuest:
    """The same face as the model's guest, over libvirt."""

    def __init__(self, node, host, domain, number):
        self.node, self.host, self.domain, self.number = node, host, domain, number
        self.name, self.uuid = domain.name(), domain.UUIDString()
        self.mac, self.other_mac = macs(number)

    @property
    def boot_id(self):
        return self.node.boot_id

    def reconnect(self):
        self.host.close()
        self.host.connection = _libvirt.connect(self.node.uri).connection
        self.domain = self.host.connection.lookupByUUIDString(self.uuid)

    def seen(self):
        return _libvirt.detail(self.host, self.uuid)

    def do(self, step):
        assert _libvirt.apply_step(
            self.host, dict(step, **({"deadline_seconds": 1} if step["verb"] == "shutdown" else {}))
        )

    def fields(self):
        seen = self.seen()
        return (
            seen["state"],
            seen["autostart"],
            [(n["mac"], n["link_live"], n["link_config"]) for n in seen["nics"]],
            self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
        )


@pytest.fixture
def make(node, host):
    made = []

    def make_guest(start=True, autostart=False, transient=False, kind="bridge"):
        number = next(NUMBERS)
        if transient:
            domain = host.connection.createXML(xml(number, kind))
        else:
            domain = host.connection.defineXML(xml(number, kind))
            if start:
                domain.create()
            domain.setAutostart(int(autostart))
        made.append(domain.UUIDString())
        return RealGuest(node, host, domain, number)

    yield make_guest
    connection = libvirt.open(node.uri)
    for uuid in made:
        try:
            domain = connection.lookupByUUIDString(uuid)
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    connection.close()


def test_pause_and_resume_are_idempotent_and_seen(make):
    guest = make()
    assert _libvirt.pause(guest.host, guest.uuid) is True
    assert guest.domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]
    assert _libvirt.pause(guest.host, guest.uuid) is False
    assert _libvirt.resume(guest.host, guest.uuid) is True
    assert guest.seen()["state"] == "running"
    assert _libvirt.resume(guest.host, guest.uuid) is False


def test_guest_that_ignores_acpi_is_not_off_until_powered_off_at_the_deadline(make):
    guest = make()
    now, states = [100.0], []

    def sleep(seconds):
        now[0] += seconds
        states.append(guest.seen()["state"])

    outcome = _libvirt.shutdown_then_destroy(guest.host, guest.uuid, 2, clock=lambda: now[0], sleep=sleep)
    assert outcome == "destroyed"
    assert len(states) >= 9 and "off" not in states
    seen = guest.seen()
    assert (seen["state"], seen["reason"], seen["id"]) == ("off", "destroyed", None)
    assert _libvirt.shutdown_then_destroy(guest.host, guest.uuid, 2) == ""


def test_guest_that_powers_itself_off_is_not_destroyed(make):
    guest = make()

    def guest_obeys(_seconds):
        if guest.domain.isActive():
            guest.domain.destroy()

    assert _libvirt.shutdown_then_destroy(guest.host, guest.uuid, 60, sleep=guest_obeys) == "shutdown"


def test_link_of_one_nic_live_and_config_and_nothing_else(make):
    guest = make()
    before = guest.domain.XMLDesc(0), guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert _libvirt.set_link(guest.host, guest.uuid, guest.mac, "down", "live") is True
    nics = {n["mac"]: n for n in guest.seen()["nics"]}
    assert (nics[guest.mac]["link_live"], nics[guest.mac]["link_config"]) == ("down", "up")
    assert _libvirt.set_link(guest.host, guest.uuid, guest.mac, "down", "config") is True
    assert _libvirt.set_link(guest.host, guest.uuid, guest.mac, "down", "config") is False
    nics = {n["mac"]: n for n in guest.seen()["nics"]}
    assert (nics[guest.mac]["link_live"], nics[guest.mac]["link_config"]) == ("down", "down")
    assert guest.domain.XMLDesc(0) != before[0]
    for scope in ("live", "config"):
        assert _libvirt.set_link(guest.host, guest.uuid, guest.mac, "up", scope) is True
    assert (guest.domain.XMLDesc(0), guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) == before


def test_link_survives_a_start_of_the_guest_by_the_configuration(make):
    guest = make(start=False)
    _libvirt.set_link(guest.host, guest.uuid, guest.mac, "down", "config")
    assert _libvirt.start(guest.host, guest.uuid) is True
    assert _libvirt.start(guest.host, guest.uuid) is False
    assert [n["link_live"] for n in guest.seen()["nics"]] == ["down", "down"]


def test_autostart(make):
    guest = make()
    assert _libvirt.set_autostart(guest.host, guest.uuid, True) is True
    assert guest.domain.autostart() == 1
    assert [g["autostart"] for g in _libvirt.guests(guest.host) if g["uuid"] == guest.uuid] == [True]
    assert _libvirt.set_autostart(guest.host, guest.uuid, True) is False
    assert _libvirt.set_autostart(guest.host, guest.uuid, False) is True


def test_ports_have_names_given_at_start_and_are_found_again(make, node):
    first, second = make(), make()
    found = {g["uuid"]: g for g in _libvirt.guests(first.host)}
    names = [n["device"] for g in (first, second) for n in found[g.uuid]["nics"]]
    assert all(name.startswith("vnet") for name in names) and len(set(names)) == 4
    ports = node.run("ip", "-br", "link", "show", "master", "br0").stdout
    assert all(name in ports for name in names)
    _libvirt.destroy(first.host, first.uuid)
    assert [n["device"] for n in first.seen()["nics"]] == [None, None]
    _libvirt.start(first.host, first.uuid)
    again = [n["device"] for n in first.seen()["nics"]]
    assert not set(again) & set(names[:2])
    assert [(n["kind"], n["bridge"]) for n in first.seen()["nics"]] == [("bridge", "br0")] * 2


def test_routed_tap_and_one_put_into_a_bridge_by_hand(make, node):
    guest = make(kind="ethernet")
    taps = [n["device"] for n in guest.seen()["nics"]]
    node.run("ip", "link", "set", taps[1], "master", "br0")
    # On the node itself, because what a tap belongs to is read from its /sys.
    shown = node.run(
        "env",
        "PYTHONPATH=%s" % COLLECTIONS,
        sys.executable,
        "-c",
        "from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt as l\n"
        "print([(n['kind'], n['bridge'], n['device']) for n in l.detail(l.connect(), %r)['nics']])"
        % guest.uuid,
    ).stdout
    assert shown.strip() == repr([("routed", None, taps[0]), ("bridge", "br0", taps[1])])


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("autostart", [True, False])
@pytest.mark.parametrize(
    "holds",
    [
        [suspend("pause")],
        [suspend("shutdown")],
        [suspend("destroy")],
        [quarantine()],
        [suspend("pause"), quarantine(), suspend("pause"), suspend("destroy"), suspend("pause")],
    ],
    ids=lambda holds: "-".join(h["power"] or "quarantine" for h in holds),
)
def test_given_back_exactly(make, start, autostart, holds):
    guest = make(start, autostart)
    before = guest.fields()
    held = Node(guest, _hold)
    for hold in holds:
        held.converge(hold)
        assert held.converge(hold) == []
        seen = guest.seen()
        if hold["kind"] == "suspend":
            assert seen["state"] in ("paused", "off") and seen["autostart"] is False
            assert all(n["link_config"] == "down" and n["link_live"] in ("down", None) for n in seen["nics"])
        else:
            assert guest.fields() == before
    held.converge(None)
    assert guest.fields() == before


def test_transient_guest_is_paused_not_lost(make):
    guest = make(transient=True)
    before = guest.fields()
    held = Node(guest, _hold)
    held.converge(suspend("destroy"))
    assert guest.seen()["state"] == "paused"
    assert any("transient" in note for note in held.notes)
    held.converge(None)
    assert guest.fields() == before


def test_libvirtd_restarted_in_the_middle_of_a_suspension(make, node):
    guest = make(autostart=True)
    before = guest.fields()
    held = Node(guest, _hold)
    planned = held.converge(suspend(), killed_after=2)
    node.stop_libvirtd("KILL")
    with pytest.raises(NodeError) as caught:
        _libvirt.apply_step(guest.host, planned[2])
    assert (caught.value.code, caught.value.retryable) == ("libvirt_down", True)
    with pytest.raises(NodeError) as caught:
        _libvirt.connect(node.uri)
    assert caught.value.code == "libvirt_down"
    with pytest.raises(NodeError) as caught:
        _libvirt.guests(guest.host)
    assert caught.value.code == "libvirt_down"
    node.start_libvirtd()
    guest.reconnect()
    assert [s["verb"] for s in held.converge(suspend())] == ["pause", "set_autostart"]
    node.stop_libvirtd()
    node.start_libvirtd()
    guest.reconnect()
    assert held.converge(suspend()) == []
    held.converge(None)
    assert guest.fields() == before


def test_libvirtd_that_hangs_is_given_up(make, node, monkeypatch):
    monkeypatch.setattr(_libvirt, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(_libvirt, "KEEPALIVE_SECONDS", 1)
    guest = make()
    guest.reconnect()
    with node.libvirtd_hangs():
        with pytest.raises(NodeError) as caught:
            _libvirt.connect(node.uri)
        assert (caught.value.code, caught.value.retryable) == ("libvirt_down", True)
        with pytest.raises(NodeError) as caught:
            _libvirt.pause(guest.host, guest.uuid, "vps-1")
        assert (caught.value.code, caught.value.retryable) == ("libvirt_down", True)
    guest.reconnect()
    assert guest.seen()["state"] == "running"


def test_guest_undefined_between_plan_and_apply_and_before(make):
    guest = make()
    held = Node(guest, _hold)
    planned = held.converge(suspend(), killed_after=0)
    guest.domain.destroy()
    guest.domain.undefine()
    for step in planned:
        with pytest.raises(NodeError) as caught:
            _libvirt.apply_step(guest.host, step)
        assert caught.value.code == "guest_missing" and "vps-1" in caught.value.message
    assert guest.seen() is None
    steps, prior, _notes, errors = held.plan(suspend())
    assert (steps, prior, [e["code"] for e in errors]) == ([], None, ["guest_missing"])
    assert held.converge(None) == []


def test_other_guest_under_the_same_name_is_left_alone(make, host):
    guest = make()
    held = Node(guest, _hold)
    held.converge(suspend())
    guest.domain.destroy()
    guest.domain.undefine()
    other = host.connection.defineXML(xml(guest.number))
    other.create()
    guest_seen = _libvirt.detail(host, other.UUIDString())
    plan = _hold.plan_hold(held.service(suspend()), guest_seen, held.baseline, guest.boot_id, held.touched)
    assert (plan.steps, [e["code"] for e in plan.errors]) == ([], ["guest_changed"])
    release = _hold.plan_release(held.service(None), guest_seen, held.baseline, guest.boot_id, held.touched)
    assert release.steps == [] and "another guest" in release.notes[0]
    other.destroy()
    other.undefine()


@pytest.mark.parametrize("reconciled", [True, False])
def test_paused_guest_is_booted_after_a_host_reboot(make, node, reconciled):
    guest, customer_paused = make(autostart=True), make()
    customer_paused.domain.suspend()
    before, config_before = guest.fields(), customer_paused.fields()[3]
    held, held_paused = Node(guest, _hold), Node(customer_paused, _hold)
    held.converge(suspend())
    held_paused.converge(suspend())
    node.reboot()
    guest.reconnect()
    customer_paused.reconnect()
    assert guest.seen()["state"] == "off"  # autostart is off while it is held
    if reconciled:
        assert held.converge(suspend()) == []
    held.converge(None)
    assert any("rebooted" in note for note in held.notes)
    assert guest.fields() == before
    held_paused.converge(None)
    assert customer_paused.seen()["state"] == "off"  # not ours to boot
    assert customer_paused.fields()[3] == config_before


def test_qemu_that_dies_while_held_is_booted_but_a_power_off_by_somebody_stays(make, node):
    crashed, off = make(), make()
    nodes = [Node(crashed, _hold), Node(off, _hold)]
    for held in nodes:
        held.converge(suspend())
    node.kill_guest(crashed.name)
    node.wait(lambda: crashed.seen()["state"] == "off")
    off.domain.destroy()
    for held in nodes:
        held.converge(None)
    assert crashed.seen()["state"] == "running"
    assert off.seen()["state"] == "off"
    assert any("stays so" in note for note in nodes[1].notes)


def test_guest_saved_while_paused_runs_again_after_a_reboot(make, node):
    guest = make()
    held = Node(guest, _hold)
    held.converge(suspend())
    guest.domain.managedSave()
    assert (guest.seen()["state"], guest.seen()["reason"]) == ("off", "saved")
    node.reboot()
    guest.reconnect()
    held.converge(None)
    assert guest.seen()["state"] == "running"
    assert [n["link_live"] for n in guest.seen()["nics"]] == ["up", "down"]


@pytest.mark.parametrize("name", ["a'b\"c", "$(touch x)", "{{ 7*7 }}", "-x", "ü <&> ;"])
def test_hostile_names_are_data(host, name):
    text = DOMAIN.replace(
        "<name>%(name)s</name>", "<name>%s</name>" % quoteattr(name)[1:-1].replace("&quot;", '"')
    )
    domain = host.connection.defineXML(text % {"nics": ""})
    try:
        assert name in [g["name"] for g in _libvirt.guests(host)]
        assert _libvirt.set_autostart(host, domain.UUIDString(), True) is True
    finally:
        domain.undefine()
