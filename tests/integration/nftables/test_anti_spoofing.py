# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""anti_spoofing with real frames: what a guest may say, what it may not, and what it would not have been let say."""
from __future__ import annotations

import socket
import struct
import time

import pytest
from filter_lab import MACS, V4, V6, heal
from frames import (
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    checksum,
    ethernet,
    fragment_header,
    ipv4,
    ipv6,
    options_header,
    tcp_syn,
)

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

NAME, NET, ME, OTHER = "anti_spoofing", MACS["net"], MACS["a"], MACS["b"]
ICMP6, UDP, IGMP, ROUTING = 58, 17, 2, 43
LINK_LOCAL, GATEWAY = "fe80::8d3a:1b2c:77:9f", "fe80::1"  # random, as privacy extensions make them
ROUTED4, FLOATING, ROUTED6, ODD6 = "198.51.100.5", "192.0.2.77", "2001:db8:a:0:1:2:3:4", "2001:db8:bb00:7::9"
SOURCES = [V4["a"], V6["a"], "198.51.100.0/28", FLOATING, "2001:db8:a::/64", "2001:db8:bb00::/40"]
PARAMETERS = {"lengths": {"4": [28], "6": [40, 64]}, "gateways": [GATEWAY], "storm_per_second": 500}


@pytest.fixture(scope="module", autouse=True)
def healed(wired):
    """What is forged here is believed by some; the tests after these find nobody misled."""
    yield
    heal(wired[0])


def udp(source, destination, data=b""):
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


def nd(kind, target, options=b""):
    return struct.pack("!BBHI", kind, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, target) + options


def arp(sender_mac, sender_ip, target="192.0.2.1", operation=1):
    return (struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + bytes.fromhex(sender_mac.replace(":", ""))
            + socket.inet_aton(sender_ip) + bytes(6) + socket.inet_aton(target))


def routing(kind, following=6):
    return struct.pack("!BBBBI", following, 2, kind, 1, 0) + socket.inet_pton(socket.AF_INET6, V6["net"])


def v4(source, payload=None, protocol=6, **more):
    return 0x0800, ipv4(source, more.pop("to", V4["net"]), tcp_syn(80) if payload is None else payload, protocol, **more)


def v6(source, payload=None, following=6, to=None, hop_limit=64):
    return 0x86DD, ipv6(source, to or V6["net"], tcp_syn(80) if payload is None else payload, following, hop_limit)


def nd6(source, kind, target, to="ff02::1"):
    return v6(source, nd(kind, target), ICMP6, to, 255)


LSRR = b"\x83\x07\x04" + socket.inet_aton(V4["net"]) + b"\0"
SSRR = b"\x89" + LSRR[1:]
MLD = struct.pack("!BBBBHBB", ICMP6, 0, 5, 2, 0, 1, 0)  # hop-by-hop with the router alert
REPORT = struct.pack("!BBHHH", 143, 0, 0, 0, 0)
VLAN, TWICE = ((0x8100, 7),), ((0x88A8, 7), (0x8100, 8))

ALLOWED = {
    "own": v4(V4["a"]), "own v6": v6(V6["a"]), "routed prefix": v4(ROUTED4), "floating": v4(FLOATING),
    "routed v6": v6(ROUTED6), "routed v6 of an odd length": v6(ODD6), "own udp": v4(V4["a"], udp(5000, 53), UDP),
    "own v6 udp": v6(V6["a"], udp(5000, 53), UDP), "link-local of its own choice": v6(LINK_LOCAL),
    "arp": (0x0806, arp(ME, V4["a"])), "arp probe": (0x0806, arp(ME, "0.0.0.0")), "arp floating": (0x0806, arp(ME, FLOATING)),
    "arp routed": (0x0806, arp(ME, ROUTED4)), "arp reply": (0x0806, arp(ME, V4["a"], operation=2)),
    "arp in a tag": (0x0806, arp(ME, V4["a"]), VLAN),
    "solicitation": nd6(V6["a"], 135, V6["net"]), "solicitation from link-local": nd6(LINK_LOCAL, 135, V6["net"]),
    "dad": nd6("::", 135, V6["a"]), "dad of link-local": nd6("::", 135, LINK_LOCAL), "dad routed": nd6("::", 135, ROUTED6),
    "advertisement": nd6(V6["a"], 136, V6["a"]), "advertisement of link-local": nd6(LINK_LOCAL, 136, LINK_LOCAL),
    "advertisement routed": nd6(LINK_LOCAL, 136, ROUTED6), "advertisement odd": nd6(LINK_LOCAL, 136, ODD6),
    "router solicitation": v6("::", struct.pack("!BBHI", 133, 0, 0, 0), ICMP6, "ff02::2", 255),
    "mld from nobody": v6("::", MLD + REPORT, HOP_BY_HOP, "ff02::16", 1), "mld": v6(LINK_LOCAL, MLD + REPORT, HOP_BY_HOP, "ff02::16", 1),
    "dhcp": v4("0.0.0.0", udp(68, 67), UDP, to="255.255.255.255"), "igmp": v4("0.0.0.0", b"\x16" + bytes(7), IGMP, to="224.0.0.22"),
    "dhcpv6": v6(LINK_LOCAL, udp(546, 547), UDP, "ff02::1:2"), "dhcp relayed": v4(V4["a"], udp(67, 67), UDP),
    "rarp after a migration": (0x8035, arp(ME, "0.0.0.0", "0.0.0.0", 3)), "no addresses in it": (0x88B5, b"heartbeat of a cluster"),
    "in a tag": (*v4(V4["a"]), VLAN), "v6 in a tag": (*v6(V6["a"]), VLAN), "priority tag": (*v4(V4["a"]), ((0x8100, 0),)),
    "record route": v4(V4["a"], options=b"\x07\x07\x04" + bytes(5)), "fragment": v4(V4["a"], b"rest" * 4, offset=64),
    "v6 first fragment": v6(V6["a"], fragment_header(UDP, more=True) + udp(5000, 5001, b"x" * 16), FRAGMENT),
    "v6 later fragment": v6(V6["a"], fragment_header(UDP, offset=64) + b"rest" * 4, FRAGMENT),
    "hop-by-hop": v6(V6["a"], options_header(UDP) + udp(5000, 5001), HOP_BY_HOP),
    "ping": v6(V6["a"], struct.pack("!BBHI", 128, 0, 0, 1), ICMP6), "nothing follows": v6(V6["a"], b"", 59),
    "esp": v6(V6["a"], bytes(16), 50), "6in4": v4(V4["a"], ipv6("2001:db8:99::1", V6["net"], b"x" * 8), 41),
    "gre": v4(V4["a"], b"\0\0\x08\0" + ipv4("203.0.113.66", V4["net"], b"x" * 8), 47),
}
SHORT = options_header(DESTINATION, 16)
REFUSED = {
    "foreign": v4("203.0.113.9"), "neighbour's": v4(V4["b"]), "beside the prefix": v4("198.51.100.16"), "no address": v4("0.0.0.0"),
    "loopback": v4("127.0.0.1"), "foreign udp": v4("203.0.113.9", udp(5000, 53), UDP), "foreign fragment": v4(V4["b"], b"rest" * 4, offset=64),
    "foreign v6": v6("2001:db8:f00::1"), "neighbour's v6": v6(V6["b"]), "beside the v6 prefix": v6("2001:db8:a:1::1"),
    "v6 without address": v6("::"), "foreign v6 hop-by-hop": v6(V6["b"], options_header(6) + tcp_syn(80), HOP_BY_HOP),
    "foreign v6 fragment": v6(V6["b"], fragment_header(UDP, offset=64) + b"rest" * 4, FRAGMENT),
    "mapped": v6("::ffff:192.0.2.11"), "gateway's link-local": v6(GATEWAY),
    "arp foreign": (0x0806, arp(ME, "192.0.2.1", operation=2)), "arp neighbour": (0x0806, arp(ME, V4["b"])),
    "arp with another's MAC": (0x0806, arp(OTHER, V4["a"])), "arp probe with another's MAC": (0x0806, arp(OTHER, "0.0.0.0")),
    "arp foreign in a tag": (0x0806, arp(ME, "192.0.2.1", operation=2), VLAN), "arp of odd lengths": (
        0x0806, struct.pack("!HHBBH", 1, 0x0800, 8, 4, 1) + bytes.fromhex(ME.replace(":", "")) + bytes(20)),
    "advertisement of the neighbour": nd6(LINK_LOCAL, 136, V6["b"]), "advertisement of the gateway": nd6(LINK_LOCAL, 136, GATEWAY),
    "advertisement beside": nd6(V6["a"], 136, "2001:db8:a:1::1"), "dad of the neighbour": nd6("::", 135, V6["b"]),
    "dad of the gateway": nd6("::", 135, GATEWAY), "router advertisement": v6(LINK_LOCAL, struct.pack("!BBHIII", 134, 0, 0, 0, 0, 0), ICMP6, "ff02::1", 255),
    "advertisement from nobody": nd6("::", 136, V6["b"]),
    "router advertisement behind options": v6(
        LINK_LOCAL, options_header(ICMP6) + struct.pack("!BBHIII", 134, 0, 0, 0, 0, 0), DESTINATION, "ff02::1", 255),
    "router advertisement in a tag": (*v6(LINK_LOCAL, struct.pack("!BBHIII", 134, 0, 0, 0, 0, 0), ICMP6, "ff02::1", 255), VLAN),
    "redirect": nd6(LINK_LOCAL, 137, V6["net"]), "advertisement in a fragment": v6(
        LINK_LOCAL, fragment_header(ICMP6, more=True) + nd(136, V6["a"]), FRAGMENT, "ff02::1", 255),
    "header chain split": v6(LINK_LOCAL, fragment_header(DESTINATION, more=True) + SHORT + b"\x3a\x01\x01\x04", FRAGMENT, "ff02::1", 255),
    "dhcp server": v4(V4["a"], udp(67, 68), UDP, to="255.255.255.255"), "dhcpv6 server": v6(LINK_LOCAL, udp(547, 546), UDP),
    "dhcpv6 server, global": v6(V6["a"], udp(547, 546), UDP), "loose source route": v4(V4["a"], options=LSRR),
    "strict source route": v4(V4["a"], options=SSRR), "routing header 0": v6(V6["a"], routing(0) + tcp_syn(80), ROUTING),
    "foreign in a tag": (*v4(V4["b"]), VLAN), "foreign v6 in a tag": (*v6(V6["b"]), VLAN), "own in two tags": (*v4(V4["a"]), TWICE),
    "foreign in two tags": (*v4(V4["b"]), TWICE), "mpls": (0x8847, b"\0\x01\x01\x40" + ipv4(V4["b"], V4["net"], tcp_syn(80))),
    "pppoe": (0x8864, b"\x11\0\0\x01\0\x20\0\x21" + ipv4(V4["b"], V4["net"], tcp_syn(80))),
    "802.3 with snap": (48, b"\xaa\xaa\x03\0\0\0\x08\0" + ipv4(V4["b"], V4["net"], tcp_syn(80))),
}


def spelled(cases, source=ME):
    """`{name: (frame, marker)}`: a number in the IP header, or behind what isn't IP, as padding (br_netfilter cuts it off)."""
    found = {}
    for number, (name, case) in enumerate(cases.items()):
        kind, packet, tags = case if len(case) == 3 else (*case, ())
        if kind == 0x0800:
            size = (packet[0] & 15) * 4
            head = packet[:4] + struct.pack("!H", 1000 + number) + packet[6:10] + b"\0\0" + packet[12:size]
            marker = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
            packet = marker + packet[size:]
        elif kind == 0x86DD:
            packet = struct.pack("!I", 6 << 28 | 1000 + number) + packet[4:]
            marker = packet[:24]
        else:
            marker = b"<%s:%d>" % (source[-2:].encode(), number)
            packet += marker
        found[name] = ethernet(NET, source, kind, packet, tags), marker
    return found


def arrived(lab, guest, frames, target="net", seconds=0.4):
    """Names of the frames that reach the target's wire."""
    sender, receiver = lab.sockets[guest], lab.sockets[target]
    receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
    receiver.settimeout(0.05)
    seen, left = set(), dict(frames)
    for frame, _marker in frames.values():
        sender.send(frame)
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        try:
            data = receiver.recv(65535)
        except TimeoutError:
            continue
        for name in [name for name, (_frame, marker) in left.items() if marker in data]:
            seen.add(name)
            del left[name]
            end = time.monotonic() + seconds
    return seen


def under(lab, mode, *names):
    """The model with these ports under anti_spoofing."""
    lab.model["controls"] = {NAME: PARAMETERS}
    for name, sources in (("tapA", SOURCES), ("tapB", [V4["b"], V6["b"]])):
        lab.port(name)["smtp"] = {"mode": "off", "ports": []}
        lab.port(name)["macs"] = [lab.port(name)["mac"]]
        if name in names:
            lab.port(name)["controls"] = {NAME: {"mode": mode, "sources": sources}}
    return lab.apply()


def packets(lab, port, what):
    return lab.counters().get(port, {}).get(NAME + "_" + what, {"packets": 0})["packets"]


def test_all_frames_cross_without_rules(bare):
    frames = spelled({**ALLOWED, **REFUSED})
    assert arrived(bare, "a", frames) == set(frames), "or the tests below show nothing"


def test_what_is_own_passes_and_nothing_else(lab):
    under(lab, "enforce", "tapA", "tapB")
    frames = spelled(ALLOWED)
    assert arrived(lab, "a", frames) == set(frames)
    assert packets(lab, "tapA", "refused") == 0
    assert arrived(lab, "a", spelled(REFUSED)) == set()
    assert packets(lab, "tapA", "refused") == len(REFUSED)


def test_another_mac_is_refused_whatever_it_says(bare):
    under(bare, "enforce", "tapA")
    assert arrived(bare, "a", spelled(ALLOWED, OTHER)) == set()
    assert "MAC " + OTHER in _nftables.samples(bare.observe())["tapA"][NAME]


def test_all_nics_of_a_guest_may_speak_for_each_other(bare):
    under(bare, "enforce", "tapA")
    bare.port("tapA")["macs"] = [ME, OTHER]
    assert bare.apply().kind == "elements"
    # Not those with the first MAC as sender: it is its own as well.
    assert arrived(bare, "a", spelled(ALLOWED, OTHER)) == set(ALLOWED)


def test_observing_counts_each_once_keeps_samples_and_lets_all_pass(lab):
    under(lab, "observe", "tapA")
    frames = spelled({**ALLOWED, **REFUSED})
    assert arrived(lab, "a", frames) == set(frames)
    assert packets(lab, "tapA", "observed") == len(REFUSED)
    assert packets(lab, "tapA", "refused") == 0
    seen = _nftables.samples(lab.observe())["tapA"][NAME]
    assert "source 203.0.113.9" in seen and "source 198.51.100.16" in seen
    assert len(seen) <= 11, "no more than the pace allows"
    one = spelled({"later": v4("203.0.113.10")})
    assert arrived(lab, "a", one) == {"later"}


def test_samples_and_counts_survive_our_own_updates(bare):
    under(bare, "enforce", "tapA")
    assert arrived(bare, "a", spelled({"foreign": v4("203.0.113.9"), "arp": (0x0806, arp(ME, V4["b"]))})) == set()
    before = _nftables.samples(bare.observe())
    assert set(before["tapA"][NAME]) == {"source 203.0.113.9", "ARP sender " + V4["b"]}
    bare.model["routed_interfaces"] = ["vnet*", "routed*"]
    snapshot = _nftables.snapshot_script(bare.observe(), bare.reference)
    assert bare.apply().kind == "rebuild"
    assert set(_nftables.samples(bare.observe())["tapA"][NAME]) == set(before["tapA"][NAME])
    assert packets(bare, "tapA", "refused") == 2
    bare.host.check(["nft", "-f", "-"], snapshot)
    bare.model["routed_interfaces"] = ["vnet*"]
    assert bare.plan().kind == "none"
    assert set(_nftables.samples(bare.observe())["tapA"][NAME]) == set(before["tapA"][NAME])
    assert arrived(bare, "a", spelled(REFUSED)) == set() and arrived(bare, "a", spelled(ALLOWED)) == set(ALLOWED)


def test_ending_it_hands_the_counts_over(bare):
    under(bare, "enforce", "tapA", "tapB")
    assert arrived(bare, "a", spelled({"foreign": v4("203.0.113.9")})) == set()
    bare.port("tapA")["controls"] = {}
    change = bare.apply()
    assert change.kind == "elements" and change.removed_counters["tapA"][NAME + "_refused"]["packets"] == 1
    assert arrived(bare, "a", spelled(REFUSED)) == set(REFUSED)
    assert arrived(bare, "b", spelled({"b": v4(V4["a"])}, OTHER)) == set()
    bare.port("tapB")["controls"] = {}
    bare.model["controls"] = {}
    change = bare.apply()
    assert change.kind == "rebuild" and change.removed_counters["tapB"][NAME + "_refused"]["packets"] == 1
    assert "anti_spoofing" not in bare.observe().shape, "a control nobody is under costs nothing"


def test_ports_nobody_knows_and_neighbours_are_untouched(lab):
    under(lab, "enforce", "tapA")
    frames = spelled({name: case for name, case in REFUSED.items()}, MACS["u"])
    lab.model["smtp"]["unknown"] = {"mode": "off", "ports": []}
    lab.apply()
    assert arrived(lab, "u", frames) == set(frames)
    assert arrived(lab, "b", spelled({"b": v4("203.0.113.9")}, OTHER)) == {"b"}


def test_a_storm_is_limited_and_what_goes_to_one_station_is_not(bare):
    under(bare, "enforce", "tapA")
    bare.model["controls"][NAME] = dict(PARAMETERS, storm_per_second=50)
    bare.apply()
    sent = 400
    loud = {str(n): (ethernet("ff:ff:ff:ff:ff:ff", ME, 0x0806, arp(ME, V4["a"]) + b"<loud%03d>" % n), b"<loud%03d>" % n)
            for n in range(sent)}
    quiet = {str(n): (ethernet(NET, ME, *v4(V4["a"], tcp_syn(80, b"<quiet%03d>" % n))), b"<quiet%03d>" % n) for n in range(sent)}
    through = arrived(bare, "a", loud)
    assert 40 <= len(through) <= 300, len(through)
    assert arrived(bare, "a", quiet) == set(quiet)
    assert "too much to ff:ff:ff:ff:ff:ff" in _nftables.samples(bare.observe())["tapA"][NAME]


def test_routed_tap(lab):
    """What a guest sends to the host that routes it: judged by the inet table."""
    lab.model["controls"] = {NAME: dict(PARAMETERS, lengths={"4": [], "6": [64]})}
    port = lab.port("vnetR")
    mac = lab.net["r"].check("cat /sys/class/net/eth0/address").strip()
    port.update(mac=mac, macs=[mac], smtp={"mode": "off", "ports": []},
                controls={NAME: {"mode": "enforce", "sources": [V4["r"], "2001:db8:9:1::/64"]}})
    lab.apply()
    assert lab.opens("r", "far", 80)
    assert lab.opens("far", "r", 80)
    assert lab.counters() == {}
    gateway = lab.host.check("cat /sys/class/net/vnetR/address").strip()
    frames = {}
    for number, (kind, packet) in enumerate([
            (0x0800, ipv4("203.0.113.77", V4["far"], tcp_syn(80, b"<routed0>"))),
            (0x86DD, ipv6("2001:db8:f00::1", V6["far"], tcp_syn(80, b"<routed1>"))),
            (0x0800, ipv4(V4["r"], V4["far"], tcp_syn(80, b"<routed2>"), options=LSRR))]):
        frames[str(number)] = ethernet(gateway, mac, kind, packet), b"<routed%d>" % number
    good = {"v4": (ethernet(gateway, mac, 0x0800, ipv4(V4["r"], V4["far"], tcp_syn(80, b"<own4>"))), b"<own4>"),
            "v6": (ethernet(gateway, mac, 0x86DD, ipv6("2001:db8:9:1::77", V6["far"], tcp_syn(80, b"<own6>"))), b"<own6>")}
    assert arrived(lab, "r", {**good, **frames}, "far") == set(good)
    assert packets(lab, "vnetR", "refused") == 3


@pytest.mark.parametrize("text", ["300.0.0.1", "2001:db8::1/64", "192.0.2.1; drop", ""])
def test_odd_sources_are_refused(bare, text):
    with pytest.raises(InputError):
        bare.model["controls"] = {NAME: PARAMETERS}
        bare.port("tapA")["controls"] = {NAME: {"mode": "enforce", "sources": [text]}}
        _nftables.build(bare.model)

