# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendors' routers print, as far as manuals and public samples tell: understood exactly, or an error."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _eos, _iosxe, _junos
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

JUNOS = """set routing-options rib inet6.0 static route 2001:db8:100::10/128 discard
set routing-options rib inet6.0 static route 2001:db8:100::10/128 tag 41666
set routing-options router-id 192.0.2.1
set routing-options static defaults no-install
set routing-options static route 203.0.113.10/32 discard
set routing-options static route 203.0.113.10/32 tag 41666
set routing-options static route 203.0.113.11/32 discard
set routing-options static route 203.0.113.11/32 tag 41666
set routing-options static route 203.0.113.11/32 no-readvertise
set routing-options static route 203.0.113.12/32 discard
set routing-options static route 203.0.113.12/32 tag 41666
deactivate routing-options static route 203.0.113.12/32
set routing-options static route 203.0.113.13/32 next-hop 192.0.2.2
set routing-options static route 203.0.113.14/32 qualified-next-hop 192.0.2.3 preference 7
set routing-options rib inet.2 static route 203.0.113.10/32 next-hop 192.0.2.4

[edit]
{master:0}
"""


def test_junos_statics():
    found = {entry["prefix"]: entry for entry in _junos.parse_statics(JUNOS)}
    assert [prefix for prefix, entry in sorted(found.items()) if entry["exact"]] == ["2001:db8:100::10/128", "203.0.113.10/32"]
    assert found["203.0.113.13/32"]["hops"] == ["192.0.2.2"] and found["203.0.113.14/32"]["hops"] == ["192.0.2.3"]
    assert _junos.parse_statics("") == [] and len(found) == 6


@pytest.mark.parametrize("text", [
    "error: permission denied\n", "           ^\nunknown command.\n", "set routing-options static route nonsense discard\n",
    "set routing-options static route 203.0.113.10/24 discard\n", "---(more)---\n", "static {\n",
])
def test_junos_configuration_that_is_not_understood(text):
    with pytest.raises(NotUnderstood):
        _junos.parse_statics(text)


def test_junos_a_commit_that_waits_and_one_that_once_did():
    waits = ("0   2026-11-21 15:59:07 UTC by aup via cli commit confirmed, rollback in 2mins\n    hosting-aup\n"
             "    rollback pending\n1   2026-11-20 10:00:00 UTC by root via other\nrescue  2026-01-01 00:00:00 UTC by root via cli\n")
    assert _junos.parse_waiting(waits) == ("aup", "hosting-aup")
    assert _junos.parse_waiting(waits.replace("    rollback pending\n", "")) is None
    assert _junos.parse_waiting(waits.replace("    hosting-aup\n", "")) == ("aup", "")
    for text in ("", "error: permission denied\n", "1   2026-11-20 10:00:00 UTC by root via other\n"):
        with pytest.raises(NotUnderstood):
            _junos.parse_waiting(text)


def rib(*entries, table="inet.0"):
    return json.dumps({"route-information": [{"route-table": [{"table-name": [{"data": table}], "rt": list(entries)}]}]})


def test_junos_routes_in_use():
    entry = {"active-tag": [{"data": "*"}], "protocol-name": [{"data": "Static"}], "nh-type": [{"data": "Discard"}]}
    route = {"rt-destination": [{"data": "203.0.113.10/32"}], "rt-entry": [entry]}
    assert _junos.parse_rib(rib(route)) == {"203.0.113.10/32": {"blackhole": True, "installed": True}}
    idle = {key: value for key, value in entry.items() if key != "active-tag"}
    assert not _junos.parse_rib(rib({**route, "rt-entry": [idle]}))["203.0.113.10/32"]["blackhole"]
    assert _junos.parse_rib(rib(route, table="blue.inet.0")) == {} == _junos.parse_rib('{"route-information": [{}]}')
    for text in ("", "[]", "{}", "error: command is not valid\n", rib({"rt-entry": [entry]}), rib({**route, "rt-entry": 5}),
                 rib({**route, "rt-destination": [{"data": "x"}]}), rib({**route, "rt-entry": [{"nh-type": "Discard"}]})):
        with pytest.raises(NotUnderstood):
            _junos.parse_rib(text)


EOS = """! Command: show running-config
! device: sw1 (vEOS-lab, EOS-4.32.1F)
!
interface Ethernet1
   ip address 192.0.2.1/28
   ip address 192.0.2.17/28 secondary
   ipv6 address 2001:db8:1::1/64
!
interface Vlan10
   ip virtual-router address 192.0.2.100
!
interface Management1
   ip address dhcp
!
ip route 203.0.113.10/32 Null0 tag 41666
ip route 203.0.113.11/32 Null0 200 tag 41666
ip route 203.0.113.12/32 Null0 tag 41666 name case-7
ip route 203.0.113.13/32 Ethernet1 192.0.2.2 tag 41666
ip route vrf MGMT 203.0.113.10/32 Null0 tag 41666
ipv6 route 2001:db8:100::10/128 Null0 tag 41666
!
router bgp 64500
   neighbor 192.0.2.2 remote-as 64501
   neighbor UPLINK peer group
!
end
"""


def test_eos_running_configuration():
    found = _eos.parse_running(EOS)
    statics = {entry["prefix"]: entry for entry in found["statics"]}
    assert [prefix for prefix, entry in sorted(statics.items()) if entry["exact"]] == ["2001:db8:100::10/128", "203.0.113.10/32"]
    assert statics["203.0.113.13/32"]["hops"] == ["192.0.2.2"] and len(statics) == 5
    assert found["peers"] == ["192.0.2.2"] and found["own"] == [
        ("192.0.2.1", "192.0.2.0/28"), ("192.0.2.17", "192.0.2.16/28"), ("2001:db8:1::1", "2001:db8:1::/64"), ("192.0.2.100", None)]


@pytest.mark.parametrize("text", [
    "", "% Invalid input\n", EOS.replace("end\n", ""), EOS.replace("Null0 tag 41666\nip", "Null0 shiny\nip"),
    EOS.replace("203.0.113.10/32 Null0", "203.0.113.10/24 Null0"), EOS.replace("tag 41666 name", "tag many name"),
    EOS.replace("ip address 192.0.2.1/28", "ip address strange"),
])
def test_eos_running_configuration_that_is_not_understood(text):
    with pytest.raises(NotUnderstood):
        _eos.parse_running(text)


def test_eos_routes_and_sessions():
    route = {"kernelProgrammed": True, "hardwareProgrammed": True, "directlyConnected": True, "routeAction": "drop", "vias": [],
             "routeType": "static"}
    for document in ({"vrfs": {"default": {"routes": {"203.0.113.10/32": route}}}}, {"routes": {"203.0.113.10/32": route}}):
        assert _eos.parse_rib(json.dumps(document)) == {"203.0.113.10/32": {"blackhole": True, "installed": True}}
    idle = {"routes": {"203.0.113.10/32": {**route, "hardwareProgrammed": False}}}
    assert not _eos.parse_rib(json.dumps(idle))["203.0.113.10/32"]["installed"]
    sessions = {"sessions": {"a": {"state": "pendingCommitTimer"}, "b": {"state": "completed"}, "c": {"state": "pending"}}}
    assert _eos.parse_sessions(json.dumps(sessions)) == (["a"], ["c"])
    for text in ("", "{}", "[]", "% Invalid input\n", '{"sessions": {"a": {"state": "dreaming"}}}', '{"sessions": {"a": {}}}'):
        with pytest.raises(NotUnderstood):
            _eos.parse_sessions(text)
    for text in ("", "{}", '{"vrfs": {"default": {}}}', '{"routes": {"x": {"routeAction": "drop", "routeType": "static"}}}'):
        with pytest.raises(NotUnderstood):
            _eos.parse_rib(text)


IOSXE = """Building configuration...

Current configuration : 4711 bytes
!
archive
 path bootflash:aup
!
interface GigabitEthernet1
 ip address 192.0.2.17 255.255.255.240 secondary
 ip address 192.0.2.1 255.255.255.240
 ipv6 address 2001:DB8:1::1/64
interface GigabitEthernet2
 no ip address
!
router bgp 64500
 neighbor 192.0.2.2 remote-as 64501
!
ip route 203.0.113.10 255.255.255.255 Null0 tag 41666
ip route 203.0.113.11 255.255.255.255 Null0 250 tag 41666
ip route 203.0.113.12 255.255.255.255 Null0 tag 41666 name case-7
ip route 203.0.113.13 255.255.255.255 GigabitEthernet1 192.0.2.2 tag 41666
ip route 203.0.113.14 255.255.255.255 Null0 tag 41666 permanent
ip route vrf MGMT 0.0.0.0 0.0.0.0 192.0.2.99
ipv6 route 2001:DB8:100::10/128 Null0 tag 41666
!
end
"""


def test_iosxe_running_configuration():
    found = _iosxe.parse_running(IOSXE)
    statics = {entry["prefix"]: entry for entry in found["statics"]}
    assert [prefix for prefix, entry in sorted(statics.items()) if entry["exact"]] == ["2001:db8:100::10/128", "203.0.113.10/32"]
    assert statics["203.0.113.13/32"]["hops"] == ["192.0.2.2"] and len(statics) == 6
    assert found["archive"] and not _iosxe.parse_running(IOSXE.replace(" path bootflash:aup\n", ""))["archive"]
    assert found["peers"] == ["192.0.2.2"] and ("2001:db8:1::1", "2001:db8:1::/64") in found["own"] and len(found["own"]) == 3


@pytest.mark.parametrize("text", [
    "", "% Invalid input detected at '^' marker.\n", IOSXE.replace("end\n", ""), IOSXE.replace("Null0 tag 41666\nip", "Null0 shiny\nip"),
    IOSXE.replace("203.0.113.10 255.255.255.255", "203.0.113.10 255.255.255.0"), IOSXE.replace("tag 41666 name", "tag many name"),
    IOSXE.replace("address 192.0.2.1 ", "address strange "),
])
def test_iosxe_running_configuration_that_is_not_understood(text):
    with pytest.raises(NotUnderstood):
        _iosxe.parse_running(text)


RIB4 = """Codes: L - local, C - connected, S - static, R - RIP, M - mobile, B - BGP
       a - application route

Gateway of last resort is 192.0.2.2 to network 0.0.0.0

S*    0.0.0.0/0 [1/0] via 192.0.2.2
                [1/0] via 192.0.2.3
      203.0.113.0/32 is subnetted, 1 subnets
S        203.0.113.10 is directly connected, Null0
      198.51.100.0/24 is variably subnetted, 2 subnets, 2 masks
S        198.51.100.0/24 is directly connected, Null0
S        198.51.100.7/32 [1/0] via 192.0.2.9
"""
RIB6 = """IPv6 Routing Table - default - 5 entries
Codes: C - Connected, L - Local, S - Static, U - Per-user Static route
       B - BGP
S   2001:DB8:100::10/128 [1/0], tag 41666
     via Null0, directly connected
S   2001:DB8:200::/48 [1/0]
     via 2001:DB8:1::2
"""


def test_iosxe_routes_in_use():
    found = _iosxe.parse_rib4(RIB4)
    assert sorted(prefix for prefix in found if found[prefix]["blackhole"]) == ["198.51.100.0/24", "203.0.113.10/32"]
    assert len(found) == 4
    found = _iosxe.parse_rib6(RIB6)
    assert [prefix for prefix in found if found[prefix]["installed"]] == ["2001:db8:100::10/128"] and len(found) == 2
    for parse, text in ((_iosxe.parse_rib4, RIB4), (_iosxe.parse_rib6, RIB6)):
        for bad in ("", "% Invalid input\n", text + "X    203.0.113.12 is odd\n", text[60:]):
            with pytest.raises(NotUnderstood):
                parse(bad)


def test_iosxe_a_change_that_waits():
    assert _iosxe.parse_timer("%No Rollback Confirmed Change pending\n") is None
    assert _iosxe.parse_timer("Time configured: 1\nTimer type: absolute timer\nTimer value: 3 min\nUser: jdoe\n") == "jdoe"
    for text in ("", "% Invalid input detected\n", "%No Rollback\n", "Timer value: 3 min\n"):
        with pytest.raises(NotUnderstood):
            _iosxe.parse_timer(text)
