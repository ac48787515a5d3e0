# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt edge against libvirt's own test driver, and against faults that can't be had on demand."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils import _hold
from ansible_collections.hosting.aup.plugins.module_utils._backends import _domain_xml, _libvirt
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from guest_model import Node, quarantine, suspend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

libvirt = pytest.importorskip("libvirt")

GUEST = """<domain type='test'><name>%(name)s</name><memory unit='MiB'>16</memory>
<os><type arch='i686'>hvm</type></os><devices>%(nics)s</devices></domain>"""


def nic(kind, inside, mac="52:54:00:AA:BB:01"):
    return "<interface type='%s'><mac address='%s'/>%s</interface>" % (kind, mac, inside)


class FakeDomain:
    """A domain that shows given XML; `vanishes` makes it go between listing and reading."""

    def __init__(self, xml, state=(1, 1), vanishes=False):
        self._xml, self._state, self._vanishes = xml, list(state), vanishes

    def name(self):
        return "g"

    def UUIDString(self):
        return "6695eb01-f6a4-8304-79aa-97f2502e193f"

    def state(self):
        return self._state

    def isPersistent(self):
        return 1

    def autostart(self):
        return 0

    def XMLDesc(self, _flags):
        if self._vanishes:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return self._xml


class FakeConnection:
    def __init__(self, *domains):
        self._domains = list(domains)

    def listAllDomains(self, _flags):
        return self._domains

    def domainListGetStats(self, domains, _stats, _flags):
        return [(d, {"state.state": d.state()[0], "state.reason": d.state()[1]}) for d in domains]

    def lookupByUUIDString(self, _uuid):
        return self._domains[0]


def error(code, domain=0, message="it said no"):
    made = libvirt.libvirtError("x")
    made.err = (code, domain, message, 0, "", "", "", 0, 0)
    return made


def live_nic(element, identifier=" id='3'", state=(1, 1)):
    domain = FakeDomain("<domain%s><devices>%s</devices></domain>" % (identifier, element), state)
    (guest,) = _libvirt.guests(_libvirt.Host(FakeConnection(domain), "fake"))
    return guest["nics"][0]


@pytest.mark.parametrize(
    "kind, inside, expected, bridge",
    [
        ("bridge", "<source bridge='br0'/><target dev='vnet7'/>", "bridge", "br0"),
        (
            "network",
            "<source network='lan' portid='x' bridge='virbr0'/><target dev='vnet7'/>",
            "bridge",
            "virbr0",
        ),
        ("ethernet", "<target dev='vnet7'/>", "routed", None),
        (
            "bridge",
            "<source bridge='ovs'/><virtualport type='openvswitch'/>",
            "unsupported:openvswitch",
            "ovs",
        ),
        (
            "network",
            "<source network='ovs' bridge='o'/><virtualport type='openvswitch'/>",
            "unsupported:openvswitch",
            "o",
        ),
        ("direct", "<source dev='eth0' mode='bridge'/><target dev='macvtap0'/>", "unsupported:direct", None),
        ("network", "<source network='mv' dev='eth0' mode='bridge'/>", "unsupported:direct", None),
        ("network", "<source network='gone'/>", "unsupported:network", None),
        ("hostdev", "<source><address type='pci'/></source>", "unsupported:hostdev", None),
        ("vhostuser", "<source type='unix' path='/x' mode='client'/>", "unsupported:vhostuser", None),
        ("vdpa", "<source dev='/dev/vhost-vdpa-0'/>", "unsupported:vdpa", None),
        ("user", "", "unsupported:user", None),
        ("mcast", "<source address='230.0.0.1' port='5558'/>", "unsupported:mcast", None),
    ],
)
def test_kinds_of_nics(kind, inside, expected, bridge):
    seen = live_nic(nic(kind, inside))
    assert (seen["kind"], seen["bridge"], seen["mac"]) == (expected, bridge, "52:54:00:aa:bb:01")
    assert bool(seen["gap"]) == expected.startswith("unsupported:")
    assert seen["link_settable"] == (kind not in ("hostdev", "vhostuser", "vdpa"))
    if seen["gap"]:
        assert seen["mac"] in seen["gap"] and seen["gap"].endswith("not in force.")


def test_nic_of_a_guest_that_is_off_has_no_device_and_only_a_configured_link():
    seen = live_nic(
        nic("network", "<source network='lan'/><target dev='tap1'/><link state='down'/>"), "", (5, 1)
    )
    assert (seen["kind"], seen["gap"], seen["device"]) == ("bridge", None, None)
    assert (seen["link_live"], seen["link_config"]) == (None, "down")


@pytest.mark.parametrize("device", ["../../etc", "/etc", ".", ""])
def test_device_names_never_become_paths(device):
    assert _domain_xml.master(device) is None


def test_master_is_read_from_the_kernel(tmp_path):
    (tmp_path / "tap1").mkdir()
    (tmp_path / "tap1" / "master").symlink_to("../br9")
    assert _domain_xml.master("tap1", str(tmp_path)) == "br9"
    assert _domain_xml.master("tap2", str(tmp_path)) is None


def test_guest_that_disappears_while_listing_is_left_out():
    stays, goes = FakeDomain("<domain id='1'/>"), FakeDomain("", vanishes=True)
    found = _libvirt.guests(_libvirt.Host(FakeConnection(goes, stays), "fake"))
    assert len(found) == 1
    assert _libvirt.detail(_libvirt.Host(FakeConnection(goes), "fake"), "x") is None


def test_a_full_host_is_told_in_order_without_those_that_disappear():
    domains = [FakeDomain("<domain id='%d'/>" % number, vanishes=number % 10 == 0) for number in range(203)]
    found = _libvirt.guests(_libvirt.Host(FakeConnection(*domains), "fake"))
    assert [guest["id"] for guest in found] == [number for number in range(203) if number % 10]


def test_one_guest_of_a_full_host_that_cannot_be_read_is_an_error():
    domains = [FakeDomain("<domain id='%d'/>" % number) for number in range(100)] + [FakeDomain("<domain")]
    with pytest.raises(NodeError, match="can't be read"):
        _libvirt.guests(_libvirt.Host(FakeConnection(*domains), "fake"))


def test_guest_that_is_being_shut_down_is_not_off():
    (guest,) = _libvirt.guests(_libvirt.Host(FakeConnection(FakeDomain("<domain id='1'/>", (4, 1))), "fake"))
    assert guest["state"] == "shutting_down"


@pytest.mark.parametrize(
    "numbers, state, reason",
    [
        ((0, 0), "running", "unknown"),
        ((3, 2), "paused", "migration"),
        ((3, 5), "paused", "ioerror"),
        ((5, 3), "off", "crashed"),
        ((5, 8), "off", "daemon"),
        ((6, 1), "crashed", "panicked"),
        ((7, 0), "pmsuspended", "unknown"),
        ((99, 1), "unknown", "unknown"),
        ((5, 99), "off", "unknown"),
    ],
)
def test_states_and_reasons_by_libvirts_numbers(numbers, state, reason):
    (guest,) = _libvirt.guests(_libvirt.Host(FakeConnection(FakeDomain("<domain/>", numbers)), "fake"))
    assert (guest["state"], guest["reason"]) == (state, reason)


def test_unreadable_xml_is_an_error_that_names_the_guest():
    with pytest.raises(NodeError, match="guest g"):
        _libvirt.guests(_libvirt.Host(FakeConnection(FakeDomain("<domain")), "fake"))


@pytest.mark.parametrize(
    "code, expected, retryable",
    [
        ("VIR_ERR_SYSTEM_ERROR", "libvirt_down", True),
        ("VIR_ERR_AUTH_FAILED", "libvirt_refused", False),
        ("VIR_ERR_AUTH_UNAVAILABLE", "libvirt_refused", False),
    ],
)
def test_connection_errors(code, expected, retryable):
    def factory(_uri):
        raise error(getattr(libvirt, code))

    with pytest.raises(NodeError) as caught:
        _libvirt.connect("qemu:///system", factory)
    assert (caught.value.code, caught.value.retryable) == (expected, retryable)
    assert caught.value.remedy and "it said no" in caught.value.message


def test_without_the_binding_the_package_is_named(monkeypatch):
    monkeypatch.setattr(_libvirt, "libvirt", None)
    with pytest.raises(NodeError, match="python3-libvirt") as caught:
        _libvirt.connect()
    assert caught.value.code == "libvirt_missing"


def test_libvirt_prints_nothing(capfd):
    with pytest.raises(NodeError):
        _libvirt.connect("qemu+unix:///system?socket=/nonexistent/socket")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "code, source, expected, retryable",
    [
        ("VIR_ERR_OPERATION_TIMEOUT", 0, "libvirt", True),
        ("VIR_ERR_OPERATION_FAILED", 0, "libvirt", False),
        ("VIR_ERR_NO_DOMAIN", 0, "guest_missing", False),
        ("VIR_ERR_INTERNAL_ERROR", "VIR_FROM_RPC", "libvirt_down", True),
    ],
)
def test_errors_of_setters_name_service_guest_and_verb(code, source, expected, retryable):
    class Refusing(FakeDomain):
        def suspend(self):
            raise error(getattr(libvirt, code), source and getattr(libvirt, source))

    domain = Refusing("<domain id='1'/>")
    with pytest.raises(NodeError) as caught:
        _libvirt.pause(_libvirt.Host(FakeConnection(domain), "fake"), domain.UUIDString(), "vps-1")
    assert (caught.value.code, caught.value.retryable) == (expected, retryable)
    if expected != "libvirt_down":
        assert all(word in caught.value.message for word in ("vps-1", domain.UUIDString(), "pause"))


def test_change_that_cannot_be_seen_afterwards_is_an_error():
    class Lying(FakeDomain):
        def suspend(self):
            return 0

    domain = Lying("<domain id='1'/>")
    with pytest.raises(NodeError) as caught:
        _libvirt.pause(_libvirt.Host(FakeConnection(domain), "fake"), domain.UUIDString())
    assert caught.value.code == "unverified"


def test_guest_that_is_not_as_planned_is_a_retryable_error():
    domain = FakeDomain("<domain/>", (5, 1))
    with pytest.raises(NodeError) as caught:
        _libvirt.pause(_libvirt.Host(FakeConnection(domain), "fake"), domain.UUIDString())
    assert (caught.value.code, caught.value.retryable) == ("guest_state", True)


def test_link_patch_leaves_the_rest_of_the_nic_alone():
    element = (
        "<interface type='bridge'><mac address='52:54:00:aa:bb:01'/><source bridge='br0'/>"
        "<bandwidth><inbound average='1000'/></bandwidth><x:y xmlns:x='urn:x' z='&lt;&amp;'/></interface>"
    )
    sent = []

    class Patched(FakeDomain):
        def updateDeviceFlags(self, text, flags):
            sent.append((text, flags))
            self._xml = "<domain id='1'><devices>%s%s</devices></domain>" % (other, text)

    other = nic("bridge", "<source bridge='br0'/>", "52:54:00:aa:bb:02")
    domain = Patched("<domain id='1'><devices>%s%s</devices></domain>" % (other, element))
    host = _libvirt.Host(FakeConnection(domain), "fake")
    assert _libvirt.set_link(host, domain.UUIDString(), "52:54:00:aa:bb:01", "down", "live") is True
    ((text, flags),) = sent
    assert flags == libvirt.VIR_DOMAIN_AFFECT_LIVE
    patched = _libvirt.ElementTree.fromstring(text)
    link = patched.find("link")
    assert link.attrib == {"state": "down"}
    patched.remove(link)
    tree = _libvirt.ElementTree
    assert tree.canonicalize(tree.tostring(patched), rewrite_prefixes=True) == tree.canonicalize(
        element, rewrite_prefixes=True
    )
    assert _libvirt.set_link(host, domain.UUIDString(), "52:54:00:aa:bb:01", "down", "live") is False


def test_link_of_a_nic_that_is_gone_is_a_retryable_error():
    domain = FakeDomain("<domain id='1'><devices/></domain>")
    with pytest.raises(NodeError) as caught:
        _libvirt.set_link(
            _libvirt.Host(FakeConnection(domain), "fake"), "u", "52:54:00:aa:bb:01", "down", "live"
        )
    assert (caught.value.code, caught.value.retryable) == ("guest_state", True)


class TestDriverGuest:
    """The model's face over libvirt's test driver, which has power and autostart but can't set links."""

    __test__ = False

    def __init__(self, host, state, autostart):
        self.host = host
        self.domain = host.connection.lookupByName("test")
        self.name, self.uuid, self.boot_id = "test", self.domain.UUIDString(), "boot-1"
        self.domain.setAutostart(int(autostart))
        if state == "off":
            self.domain.destroy()
        elif state == "paused":
            self.domain.suspend()

    def seen(self):
        seen = _libvirt.detail(self.host, self.uuid)
        for nic in seen["nics"]:
            nic.update(link_settable=False, gap="no links here.")
        return seen

    def do(self, step):
        assert _libvirt.apply_step(self.host, step) is True
        assert _libvirt.apply_step(self.host, step) is False

    def fields(self):
        seen = self.seen()
        return seen["state"], seen["autostart"]


HOLDS = st.lists(
    st.one_of(st.sampled_from(["pause", "shutdown", "destroy"]).map(suspend), st.just(quarantine())),
    min_size=1,
    max_size=4,
)


@given(st.sampled_from(["running", "paused", "off"]), st.booleans(), HOLDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_holds_are_given_back_exactly_on_libvirts_test_driver(state, autostart, holds):
    host = _libvirt.connect("test:///default")
    try:
        guest = TestDriverGuest(host, state, autostart)
        before = guest.fields()
        node = Node(guest, _hold)
        for hold in holds:
            node.converge(hold)
            if hold["kind"] == "suspend":
                assert guest.fields() == ("off" if state == "off" else guest.seen()["state"], False)
                assert guest.seen()["state"] in ("paused", "off")
            else:
                assert guest.fields() == before
        node.converge(None)
        assert guest.fields() == before
    finally:
        host.close()
