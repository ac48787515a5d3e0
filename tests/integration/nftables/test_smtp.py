# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outbound SMTP with real packets: bridged, routed, unknown, disguised."""
from __future__ import annotations

import pytest
from filter_lab import ENFORCE, MACS, OBSERVE, OFF, V4, V6
from frames import (
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    TCP,
    ethernet,
    fragment_header,
    ipv4,
    ipv6,
    options_header,
    tcp_syn,
)

NET_MAC = MACS["net"]


def test_nothing_is_refused_before_rules(bare):
    for guest in ("a", "c", "u", "r", "x", "d"):
        for port in (25, 587, 80):
            assert bare.tcp(guest, "far", port) == "open"
    assert bare.tcp("a", "net", 25) == "open"
    assert bare.tcp("d", "e", 25) == "open"


def test_enforced_guest_can_not_send_mail_and_can_do_all_else(lab):
    assert lab.tcp("a", "net", 25) == "silent"
    assert lab.opens("a", "net", 587)
    assert lab.opens("a", "net", 80)
    refused = lab.counters()["tapA"]["smtp_outbound_refused"]
    assert refused["packets"] >= 2 and refused["bytes"] > 0
    assert "tapB" not in lab.counters()


def test_guest_to_guest_counts_as_outbound(lab):
    assert lab.tcp("a", "b", 25) == "silent"
    assert lab.opens("c", "b", 25)


def test_inbound_mail_passes(lab):
    assert lab.opens("net", "a", 25)
    assert lab.opens("net", "u", 25)
    assert lab.opens("far", "a", 25)
    assert lab.opens("far", "r", 25)


def test_exempt_guest_sends(lab):
    assert lab.opens("c", "net", 25)
    assert lab.opens("c", "far", 25)
    assert "tapC" not in lab.counters()


def test_smarthost_is_reached_by_all(lab):
    lab.model["smtp"]["smarthosts"] = ["192.0.2.200", "2001:db8::/120", "203.0.113.0/24", "2001:db8:f::2"]
    lab.model["smtp"]["smarthosts"][1] = "2001:db8::200"
    change = lab.apply()
    assert change.kind == "elements"
    for guest in ("a", "u"):
        assert lab.opens(guest, "net", 25)
        assert lab.opens(guest, "far", 25)
    assert lab.opens("r", "far", 25)
    assert lab.opens("x", "far", 25)
    assert lab.tcp("a", "b", 25) == "silent"


def test_observe_counts_each_packet_once_and_lets_it_pass(lab):
    lab.port("tapA")["smtp"] = dict(OBSERVE)
    lab.apply()
    assert lab.crosses("a", ethernet(NET_MAC, MACS["a"], 0x0800, ipv4(V4["a"], "192.0.2.201", tcp_syn(25, b"seen-1"))), b"seen-1")
    counted = lab.counters()
    assert counted["tapA"] == {"smtp_outbound_observed": {"packets": 1, "bytes": 46}}
    assert MACS["a"] not in counted
    assert lab.opens("a", "net", 25)
    assert lab.opens("a", "far", 25)
    assert lab.counters()[MACS["a"]]["smtp_outbound_observed"]["packets"] >= 2


def test_only_the_ports_of_the_policy(lab):
    lab.port("tapA")["smtp"]["ports"] = [25, 587]
    lab.apply()
    assert lab.tcp("a", "net", 587) == "silent"
    assert lab.opens("a", "net", 80)
    assert lab.opens("b", "net", 587)


def test_unknown_guest_on_a_tenant_bridge(lab):
    assert lab.tcp("u", "net", 25) == "silent"
    assert lab.tcp("u", "a", 25) == "silent"
    assert lab.opens("u", "net", 80)
    assert lab.counters()["unknown"]["smtp_outbound_refused"]["packets"] >= 4
    lab.model["smtp"]["unknown"] = dict(OBSERVE)
    assert lab.apply().kind == "rebuild"
    assert lab.opens("u", "net", 25)
    assert lab.counters()["unknown"]["smtp_outbound_observed"]["packets"] >= 2
    lab.model["smtp"]["unknown"] = dict(OFF)
    lab.apply()
    assert lab.opens("u", "net", 25)
    assert lab.opens("u", "far", 25)


def test_unknown_port_that_is_listed_without_a_mac(lab):
    lab.model["ports"].append(
        {"name": "newtap", "mac": None, "bridge": "br0", "service": None, "smtp": dict(ENFORCE), "hold": None})
    lab.apply()
    assert lab.tcp("u", "net", 25) == "silent"
    assert lab.tcp("u", "far", 25) == "refused"
    assert lab.opens("u", "net", 80)
    assert lab.counters()["newtap"]["smtp_outbound_refused"]["packets"] >= 2


def test_bridged_guest_whose_gateway_is_the_host(lab):
    assert lab.tcp("a", "far", 25) == "refused"
    assert lab.opens("a", "far", 587)
    assert lab.counters()[MACS["a"]]["smtp_outbound_refused"]["packets"] == 2


def test_unknown_guest_whose_gateway_is_the_host(lab):
    assert lab.tcp("u", "far", 25) == "refused"
    assert lab.tcp("u", "r", 25) == "refused"
    assert lab.opens("u", "far", 80)
    assert lab.counters()["unknown"]["smtp_outbound_refused"]["packets"] == 4


def test_host_itself_is_not_touched(lab):
    for guest in ("a", "u", "r", "x"):
        assert lab.opens(guest, "host", 25)
    for target in ("a", "net", "far", "r"):
        assert lab.opens("host", target, 25)


def test_neighbours_exemption_is_not_had_by_taking_its_mac(lab):
    """c is exempt; a sends with c's MAC, bridged and through the host."""
    try:
        lab.net["a"].ip("link set eth0 address " + MACS["c"], "addr replace 2001:db8::11/64 dev eth0 nodad",
                        "route replace ::/0 via 2001:db8::1")
        assert lab.tcp("a", "net", 25) == "silent"
        assert lab.tcp("a", "far", 25) != "open"
        before = lab.counters()["tapA"]["smtp_outbound_refused"]["packets"]
        assert before >= 4
    finally:
        lab.net["a"].ip("link set eth0 address " + MACS["a"], "addr replace 2001:db8::11/64 dev eth0 nodad",
                        "route replace ::/0 via 2001:db8::1")


def test_a_mac_of_nobody_does_not_help(lab):
    try:
        lab.net["a"].ip("link set eth0 address 52:54:00:aa:bb:cc", "route replace ::/0 via 2001:db8::1")
        assert lab.net["a"].try_tcp(V4["far"], 25) == "silent"
        assert lab.net["a"].try_tcp(V4["far"], 587) == "open"
    finally:
        lab.net["a"].ip("link set eth0 address " + MACS["a"], "addr replace 2001:db8::11/64 dev eth0 nodad",
                        "route replace ::/0 via 2001:db8::1")


def test_exempt_guest_can_not_charge_its_neighbour(lab):
    frame = ethernet(NET_MAC, MACS["a"], 0x0800, ipv4(V4["a"], "192.0.2.201", tcp_syn(25, b"framed")))
    assert not lab.crosses("c", frame, b"framed")
    assert set(lab.counters()) == {"unknown"}
    assert lab.counters()["unknown"]["smtp_outbound_spoofed"]["packets"] == 1


def test_routed_tap_is_told_at_once(lab):
    assert lab.tcp("r", "far", 25) == "refused"
    assert lab.tcp("r", "net", 25) == "refused"
    assert lab.tcp("r", "x", 25) == "refused"
    assert lab.opens("r", "far", 587)
    assert lab.counters()["vnetR"]["smtp_outbound_refused"]["packets"] == 6


def test_unknown_routed_tap(lab):
    assert lab.tcp("x", "far", 25) == "refused"
    assert lab.opens("x", "far", 80)
    assert lab.counters()["unknown"]["smtp_outbound_refused"]["packets"] == 2


def test_foreign_bridge_is_untouched(lab):
    for port in (25, 587, 80):
        assert lab.opens("d", "e", port)
        assert lab.opens("d", "far", port)
    assert lab.counters() == {}


def test_block_ends_open_flow(lab):
    outcome, sock = lab.net["c"].connect(V4["net"], 25)
    assert outcome == "open"
    routed_outcome, routed = lab.net["c"].connect(V6["far"], 25)
    assert routed_outcome == "open"
    lab.port("tapC")["smtp"] = dict(ENFORCE)
    assert lab.apply().kind == "elements"
    with sock, routed:
        sock.send(b"EHLO")
        with pytest.raises(ConnectionError):
            routed.send(b"EHLO")
            routed.recv(1)
    assert lab.counters()["tapC"]["smtp_outbound_refused"]["packets"] >= 1


# -- frames no ordinary socket sends ----------------------------------------------------------------

A4, T4, A6, T6 = V4["a"], "192.0.2.201", V6["a"], "2001:db8::201"
HOP, DST = options_header(TCP), options_header(TCP, 16)
SPLIT = options_header(TCP, 64) + tcp_syn(25, b"MARK")
DISGUISED = {
    "plain": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ()),
    "ip options": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK"), options=b"\x01\x01\x01\x00"), ()),
    "first fragment": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK"), more=True), ()),
    "fragment of 8 bytes": (0x0800, ipv4(A4, T4, tcp_syn(25)[:8], more=True), ()),
    "hop-by-hop": (0x86DD, ipv6(A6, T6, HOP + tcp_syn(25, b"MARK"), HOP_BY_HOP), ()),
    "destination options": (0x86DD, ipv6(A6, T6, DST + tcp_syn(25, b"MARK"), DESTINATION), ()),
    "both": (0x86DD, ipv6(A6, T6, options_header(DESTINATION) + DST + tcp_syn(25, b"MARK"), HOP_BY_HOP), ()),
    "v6 first fragment": (0x86DD, ipv6(A6, T6, fragment_header(TCP, more=True) + tcp_syn(25, b"MARK"), FRAGMENT), ()),
    "v6 header chain split": (
        0x86DD, ipv6(A6, T6, fragment_header(DESTINATION, more=True) + SPLIT[:32] + b"MARK", FRAGMENT), ()),
    "v6 rest of split chain": (
        0x86DD, ipv6(A6, T6, fragment_header(DESTINATION, offset=32) + SPLIT[32:], FRAGMENT), ()),
    "v6 TCP cut before its ports": (
        0x86DD, ipv6(A6, T6, fragment_header(DESTINATION, more=True) + DST, FRAGMENT), ()),
    "vlan": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ((0x8100, 7),)),
    "vlan v6": (0x86DD, ipv6(A6, T6, tcp_syn(25, b"MARK")), ((0x8100, 7),)),
    "provider vlan": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ((0x88A8, 7),)),
    "priority tag": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ((0x8100, 0),)),
    "q-in-q": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ((0x88A8, 7), (0x8100, 8))),
    "q-in-q v6": (0x86DD, ipv6(A6, T6, tcp_syn(25, b"MARK")), ((0x8100, 7), (0x8100, 8))),
    "three tags": (0x0800, ipv4(A4, T4, tcp_syn(25, b"MARK")), ((0x88A8, 7), (0x8100, 8), (0x8100, 9))),
}


@pytest.mark.parametrize("how", DISGUISED)
@pytest.mark.parametrize("guest", ["a", "u"])
def test_disguised_smtp_does_not_pass(bare, how, guest):
    kind, packet, tags = DISGUISED[how]
    frame = ethernet(NET_MAC, MACS[guest], kind, packet, tags)
    needle = packet
    assert bare.crosses(guest, frame, needle), "without rules it must cross, or the test shows nothing"
    bare.apply()
    assert not bare.crosses(guest, frame, needle)
    assert sum(c["packets"] for controls in bare.counters().values() for c in controls.values()) == 1


@pytest.mark.parametrize("how", DISGUISED)
def test_exempt_guest_passes_in_every_guise(bare, how):
    kind, packet, tags = DISGUISED[how]
    bare.apply()
    frame = ethernet(NET_MAC, MACS["c"], kind, packet, tags)
    assert bare.crosses("c", frame, packet)


HARMLESS = {
    "udp": (0x0800, ipv4(A4, T4, b"\x13\x88\x00\x19\x00\x0c\x00\x00MARK", protocol=17), ()),
    "later fragment": (0x0800, ipv4(A4, T4, b"MARK" * 4, offset=64), ()),
    "v6 later fragment": (0x86DD, ipv6(A6, T6, fragment_header(TCP, offset=64) + b"MARK" * 4, FRAGMENT), ()),
    "vlan web": (0x0800, ipv4(A4, T4, tcp_syn(80, b"MARK")), ((0x8100, 7),)),
    "v6 options web": (0x86DD, ipv6(A6, T6, HOP + tcp_syn(80, b"MARK"), HOP_BY_HOP), ()),
    "arp": (0x0806, b"\0\1\x08\0\6\4\0\1" + bytes(20) + b"MARK", ()),
    "vlan arp": (0x0806, b"\0\1\x08\0\6\4\0\1" + bytes(20) + b"MARK", ((0x8100, 7),)),
    "lldp-like": (0x88B5, b"MARK" * 12, ()),
}


@pytest.mark.parametrize("how", HARMLESS)
def test_other_traffic_of_an_enforced_guest_passes(bare, how):
    kind, packet, tags = HARMLESS[how]
    bare.apply()
    assert bare.crosses("a", ethernet(NET_MAC, MACS["a"], kind, packet, tags), b"MARK")
    assert bare.counters() == {}
