# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocked ports and null-routed addresses with real packets, neighbours unaffected."""
from __future__ import annotations

import socket

import pytest
from filter_lab import MACS, OFF, V4, V6
from frames import ethernet, ipv4, tcp_syn

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

MARKER = b"aup-block-marker"


def udp_arrives(lab, source, target, port):
    """Whether a datagram arrives, over IPv4 and IPv6."""
    outcomes = []
    for family, kind in ((V4, socket.AF_INET), (V6, socket.AF_INET6)):
        listener = lab.net[target].call(socket.socket, kind, socket.SOCK_DGRAM)
        sender = lab.net[source].call(socket.socket, kind, socket.SOCK_DGRAM)
        with listener, sender:
            listener.bind(("", port))
            listener.settimeout(0.3)
            try:
                sender.sendto(MARKER, (family[target], port))
                outcomes.append(listener.recv(64) == MARKER)
            except TimeoutError:
                outcomes.append(False)
            except PermissionError:  # our own host's packet, dropped on its way out
                outcomes.append(False)
    assert outcomes[0] == outcomes[1], outcomes
    return outcomes[0]


def block(protocol="tcp", direction="out", ports=(80,)):
    return {"protocol": protocol, "direction": direction, "ports": list(ports)}


@pytest.mark.parametrize("guest, tap, others", [("a", "tapA", ("net", "far", "host", "b", "r")),
                                                ("r", "vnetR", ("net", "far", "host", "b"))])
def test_a_blocked_port_is_closed_outward_only_and_for_this_guest_only(lab, guest, tap, others):
    lab.port(tap)["blocks"] = [block()]
    change = lab.apply()
    assert change.kind == "elements" and any("TCP to port 80 blocked" in line for line in change.summary)
    for target in others:
        assert lab.tcp(guest, target, 80) == "silent", target
        assert lab.opens(target, guest, 80), target
    assert lab.opens(guest, "net", 587) and lab.opens("b", "net", 80)
    assert lab.counters()[tap]["port_block"]["packets"] >= 2 * len(others)
    lab.port(tap)["blocks"] = []
    change = lab.apply()
    assert change.kind == "elements" and change.removed_counters[tap]["port_block"]["packets"] >= 2 * len(others)
    assert lab.opens(guest, "net", 80)


@pytest.mark.parametrize("guest, tap", [("a", "tapA"), ("r", "vnetR")])
def test_a_port_blocked_inward(lab, guest, tap):
    lab.port(tap)["blocks"] = [block(direction="in")]
    lab.apply()
    for source in ("net", "far", "host", "b"):
        assert lab.tcp(source, guest, 80) != "open", source
        assert lab.opens(source, guest, 587)
    assert lab.opens(guest, "net", 80)
    assert lab.counters()[tap]["port_block"]["packets"] >= 6


@pytest.mark.parametrize("guest, tap", [("a", "tapA"), ("r", "vnetR")])
def test_udp_is_blocked_apart_from_tcp(lab, guest, tap):
    assert udp_arrives(lab, guest, "net", 587) and udp_arrives(lab, "net", guest, 587)
    lab.port(tap)["blocks"] = [block("udp", "out", [587])]
    lab.apply()
    assert not udp_arrives(lab, guest, "net", 587)
    assert udp_arrives(lab, guest, "net", 80) and udp_arrives(lab, "net", guest, 587)
    assert lab.opens(guest, "net", 587)
    lab.port(tap)["blocks"] = [block("udp", "in", [587])]
    lab.apply()
    assert udp_arrives(lab, guest, "net", 587) and not udp_arrives(lab, "net", guest, 587)


def test_what_hides_its_port_does_not_pass_a_block_and_others_may_send_it(lab):
    lab.port("tapA").update(blocks=[block()], smtp=OFF)
    lab.apply()
    for guest, passes in (("a", False), ("c", True)):
        plain = ethernet(MACS["net"], MACS[guest], 0x0800, ipv4(V4[guest], V4["net"], tcp_syn(80, MARKER)))
        assert lab.crosses(guest, plain, MARKER) == passes
        # Cut before its port, like the first of two fragments: nobody can judge it.
        short = ethernet(MACS["net"], MACS[guest], 0x0800, ipv4(V4[guest], V4["net"], b"\x9c\x40", more=True))
        assert lab.crosses(guest, short, short[26:36]) == passes
    icmp = ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(V4["a"], V4["net"], b"\x08\x00" + b"\0" * 6 + MARKER, protocol=1))
    assert lab.crosses("a", icmp, MARKER)


def test_a_block_and_a_quarantine_are_both_in_force(lab):
    lab.model["rescue"] = [V4["net"], V6["net"]]
    lab.port("tapA").update(hold="quarantine", blocks=[block()])
    lab.apply()
    assert lab.opens("a", "net", 587) and lab.tcp("a", "net", 80) == "silent"
    assert lab.tcp("a", "far", 587) == "silent"


@pytest.mark.parametrize("guest", ["a", "r"])
def test_a_null_routed_service_is_dark_and_its_neighbours_are_not(lab, guest):
    others = [name for name in ("net", "far", "host", "b", "r") if name != guest]
    lab.model["null_routes"] = [{"service": "vps-" + guest, "prefixes": [V4[guest], V6[guest]]}]
    assert lab.apply().kind == "elements"
    for other in others:
        assert lab.tcp(other, guest, 80) != "open", other
        assert lab.tcp(guest, other, 80) != "open", other
    for other in ("net", "far", "host", "c"):
        assert lab.opens("b", other, 80)
    counted = lab.counters()
    assert counted[V4[guest]]["null_route"]["packets"] >= 4 and counted[V6[guest]]["null_route"]["packets"] >= 4
    lab.model["null_routes"] = []
    assert lab.apply().removed_counters[V4[guest]]["null_route"]["packets"] >= 4
    assert all(lab.opens(guest, other, 80) for other in others)


def test_null_routes_of_neighbouring_addresses_keep_their_own_counts(lab):
    lab.model["null_routes"] = [
        {"service": "s1", "prefixes": ["198.51.100.6"]}, {"service": "s2", "prefixes": ["198.51.100.7", "2001:db8:77::/64"]},
        {"service": "s3", "prefixes": ["2001:db8:77::8"]}]
    lab.apply()
    elements = lab.observe().elements
    assert set(elements["inet", "null4"]) == {"198.51.100.6", "198.51.100.7"}
    assert set(elements["bridge", "null6"]) == {"2001:db8:77::/64"}


@pytest.mark.parametrize("bad", [block("sctp"), block(direction="both"), block(ports=[0]), block(ports=["80; drop"])])
def test_a_block_that_is_none_is_refused_before_anything_is_touched(lab, bad):
    lab.port("tapA")["blocks"] = [bad]
    with pytest.raises(InputError):
        lab.plan()



@pytest.mark.parametrize("guest, tap", [("a", "tapA"), ("r", "vnetR")])
def test_dropped_remotes_are_dark_for_one_guest_and_nobody_else(lab, guest, tap):
    far = [V4["far"] + "/32", "2001:db8:f::/64"]
    lab.port(tap)["drops"] = {"in": far, "out": []}
    assert lab.apply().kind == "elements"
    assert lab.tcp("far", guest, 80) != "open" and lab.tcp(guest, "far", 80) != "open"  # no answer comes back
    assert lab.opens("net", guest, 80) and lab.opens("far", "b", 80) and lab.opens(guest, "net", 80)
    assert lab.counters()[tap]["drop"]["packets"] >= 4
    lab.port(tap)["drops"] = {"in": [], "out": far}
    change = lab.apply()
    assert change.removed_counters[tap]["drop"]["packets"] >= 4
    assert lab.tcp(guest, "far", 80) == "silent" and lab.opens("net", guest, 80) and lab.opens("b", "far", 80)
    lab.port(tap)["drops"] = {}
    lab.apply()
    assert lab.opens("far", guest, 80) and lab.opens(guest, "far", 80)
    assert not any(name.startswith("drop_") and found for (_family, name), found in lab.observe().elements.items())


def test_twenty_thousand_remotes_in_one_transaction(bare):
    remotes = ["%d.%d.%d.%d" % (11 + n % 80, n >> 8 & 255, n & 255, 7) for n in range(19000)]
    remotes += ["2a00:%x:%x::/48" % (n & 1023, n >> 4) for n in range(998)] + [V4["far"] + "/32", V6["far"] + "/128"]
    bare.apply()
    bare.port("tapA")["drops"] = {"in": remotes, "out": remotes}
    change = bare.apply()
    assert change.kind == "elements" and change.summary == ["0 elements go, %d come" % (2 * len(remotes) + 2)]
    assert bare.tcp("far", "a", 80) != "open" and bare.opens("net", "a", 80)
    bare.port("tapA")["drops"] = {}
    bare.apply()
    assert bare.opens("far", "a", 80)


@pytest.mark.parametrize("bad", [{"in": ["::/0"]}, {"in": ["192.0.2.1/24"]}, {"to": ["192.0.2.1"]}, {"out": ["192.0.2.1; flush ruleset"]}])
def test_a_drop_that_is_none_is_refused_before_anything_is_touched(lab, bad):
    lab.port("tapA")["drops"] = bad
    with pytest.raises(InputError):
        lab.plan()
