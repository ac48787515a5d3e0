# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds with real packets: dark, and quarantine with its rescue networks."""
from __future__ import annotations

import pytest
from filter_lab import MACS, V4, V6
from frames import HOP_BY_HOP, ethernet, ipv4, ipv6, options_header, tcp_syn

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

EVERYWHERE = ("net", "far", "host", "b", "r")


def everything_open(lab, guest, targets=EVERYWHERE):
    return all(lab.opens(guest, target, 80) for target in targets if target != guest)


def test_dark_port_is_cut_both_ways_and_neighbours_are_not(lab):
    outcome, flow = lab.net["net"].connect(V4["a"], 80)
    assert outcome == "open"
    lab.port("tapA")["hold"] = "dark"
    change = lab.apply()
    assert change.kind == "elements" and len(change.script.splitlines()) == 2
    for target in EVERYWHERE:
        assert lab.tcp("a", target, 80) in ("silent", "unreachable")
    for source in EVERYWHERE:
        assert lab.tcp(source, "a", 80) in ("silent", "unreachable")
    assert everything_open(lab, "b", ("net", "far", "host", "c"))
    assert everything_open(lab, "r", ("net", "far", "host"))
    assert lab.counters()["tapA"]["suspend"]["packets"] >= 10
    with flow:
        flow.settimeout(0.3)
        flow.send(b"still there?")
        with pytest.raises(OSError):
            flow.recv(1)
    assert not lab.crosses("a", ethernet("ff:ff:ff:ff:ff:ff", MACS["a"], 0x0806, b"arp" * 16), b"arparp")
    lab.port("tapA")["hold"] = None
    change = lab.apply()
    assert change.removed_counters["tapA"]["suspend"]["packets"] >= 10
    assert everything_open(lab, "a")


def test_dark_mac_is_cut_wherever_it_is_plugged_in(lab):
    lab.model["held_macs"]["dark"] = [MACS["u"]]
    lab.apply()
    for target in ("net", "far", "host", "b"):
        assert lab.tcp("u", target, 80) in ("silent", "unreachable")
        assert lab.tcp(target, "u", 80) in ("silent", "unreachable")
    assert everything_open(lab, "b", ("net", "far", "host", "c"))
    assert lab.counters()[MACS["u"]]["suspend"]["packets"] >= 4


def test_a_hold_never_matches_an_uplink(lab):
    """The upstream router's MAC in a catalogue must not cut off the node."""
    lab.model["held_macs"]["dark"] = [MACS["net"]]
    lab.apply()
    assert lab.opens("a", "net", 80)
    assert lab.opens("host", "net", 80)
    lab.model["ports"].append({"name": "up0", "mac": MACS["net"], "bridge": "br0", "service": "vps-x",
                               "smtp": {"mode": "off", "ports": []}, "hold": "dark"})
    with pytest.raises(InputError, match="declared an uplink"):
        lab.plan()


def test_dark_tagged_frames(lab):
    lab.port("tapA")["hold"] = "dark"
    lab.apply()
    for tags in ((), ((0x8100, 5),), ((0x88A8, 5), (0x8100, 6))):
        frame = ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(V4["a"], V4["net"], tcp_syn(80, b"DARK")), tags)
        assert not lab.crosses("a", frame, b"DARK")
        assert lab.crosses("c", frame.replace(bytes.fromhex("525400000001"), bytes.fromhex("525400000003"), 1), b"DARK")


def test_dark_routed_tap(lab):
    lab.port("vnetR")["hold"] = "dark"
    lab.apply()
    for target in ("net", "far", "host", "a"):
        assert lab.tcp("r", target, 80) in ("silent", "unreachable")
        assert lab.tcp(target, "r", 80) in ("silent", "unreachable")
    assert everything_open(lab, "x", ("net", "far", "host", "a"))
    assert lab.counters()["vnetR"]["suspend"]["packets"] >= 4


@pytest.mark.parametrize("by", ["port", "mac"])
def test_quarantine_leaves_the_rescue_networks(lab, by):
    if by == "port":
        lab.port("tapA")["hold"] = "quarantine"
    else:
        lab.model["held_macs"]["quarantine"] = [MACS["a"]]
    lab.model["rescue"] = ["192.0.2.200", "2001:db8::200"]
    lab.apply()
    for space in ("a", "net"):  # neighbours must be found anew, through the quarantine
        lab.net[space].check("ip neigh flush all")
    assert lab.opens("a", "net", 80)
    assert lab.opens("net", "a", 80)
    for target in ("far", "host", "b", "r"):
        assert lab.tcp("a", target, 80) in ("silent", "unreachable")
        assert lab.tcp(target, "a", 80) in ("silent", "unreachable")
    assert everything_open(lab, "b", ("net", "far", "host", "c"))
    counted = lab.counters()
    assert counted["tapA" if by == "port" else MACS["a"]]["quarantine"]["packets"] >= 4
    assert lab.tcp("a", "net", 25) == "silent", "the control stays in force beside the hold"


def test_quarantined_routed_tap(lab):
    lab.port("vnetR")["hold"] = "quarantine"
    lab.model["rescue"] = ["203.0.113.0/24", "2001:db8:f::/64"]
    lab.apply()
    lab.net["r"].check("ip neigh flush all")
    lab.host.check("ip neigh flush dev vnetR")
    assert lab.opens("r", "far", 80)
    assert lab.opens("far", "r", 80)
    for target in ("net", "host", "a"):
        assert lab.tcp("r", target, 80) in ("silent", "unreachable")
    assert lab.counters()["vnetR"]["quarantine"]["packets"] >= 4


QUARANTINE_PASSES = {
    "arp": (0x0806, b"\0\1\x08\0\6\4\0\1" + b"arp-of-quarantine-01", ()),
    "rarp": (0x8035, b"\0\1\x08\0\6\4\0\3" + b"rarp-of-quarantine-1", ()),
    "vlan arp": (0x0806, b"\0\1\x08\0\6\4\0\1" + b"vlan-arp-quarantine-", ((0x8100, 7),)),
    "dhcp": (0x0800, ipv4("0.0.0.0", "255.255.255.255", b"\x00\x44\x00\x43\x00\x10\x00\x00DISCOVER", protocol=17), ()),
}
QUARANTINE_PASSES.update({
    "solicitation": (0x86DD, ipv6(V6["a"], "ff02::1:ff00:200", b"\x87\0\0\0solicit-of-quarantine", 58, 255), ()),
    "vlan solicitation": (0x86DD, ipv6(V6["a"], "ff02::1:ff00:200", b"\x87\0\0\0solicit-with-vlan-tag", 58, 255), ((0x8100, 7),)),
    "duplicate address detection": (0x86DD, ipv6("::", "ff02::1:ff00:11", b"\x87\0\0\0dad-of-quarantine", 58, 255), ()),
    "listener report": (
        0x86DD, ipv6("fe80::1", "ff02::16", options_header(58) + b"\x8f\0\0\0mld-of-quarantine", HOP_BY_HOP, 1), ()),
    "dhcpv6": (0x86DD, ipv6("fe80::1", "ff02::1:2", b"\x02\x22\x02\x23\x00\x10\x00\x00SOLICIT6", 17), ()),
})
QUARANTINE_HOLDS = {
    "echo": (0x86DD, ipv6(V6["a"], V6["net"], b"\x80\0\0\0echo-of-quarantine", 58), ()),
    "solicitation for a router to carry": (0x86DD, ipv6(V6["a"], "2001:db8:77::1", b"\x87\0\0\0solicit-far-away", 58, 64), ()),
    "dhcp to anyone": (0x0800, ipv4(V4["a"], "198.51.100.9", b"\x00\x44\x00\x43\x00\x10\x00\x00DISCOVER", protocol=17), ()),
    "udp": (0x0800, ipv4(V4["a"], "192.0.2.201", b"\x00\x44\x00\x35\x00\x10\x00\x00QUERYING", protocol=17), ()),
    "q-in-q": (0x0800, ipv4(V4["a"], V4["net"], tcp_syn(80)), ((0x88A8, 7), (0x8100, 8))),
    "other protocol": (0x88B5, b"tunnel" * 10, ()),
}


@pytest.mark.parametrize("how", [*QUARANTINE_PASSES, *QUARANTINE_HOLDS])
def test_quarantine_frames(lab, how):
    lab.port("tapA")["hold"] = "quarantine"
    lab.model["rescue"] = ["192.0.2.200"]
    lab.apply()
    passes = how in QUARANTINE_PASSES
    kind, packet, tags = (QUARANTINE_PASSES if passes else QUARANTINE_HOLDS)[how]
    assert lab.crosses("a", ethernet(MACS["net"], MACS["a"], kind, packet, tags), packet) is passes

