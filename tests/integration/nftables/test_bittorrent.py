# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""BitTorrent with real packets: its signs, what resembles them, and ways around them."""
from __future__ import annotations

import pytest
from filter_lab import MACS, V4, V6
from frames import DESTINATION, FRAGMENT, HOP_BY_HOP, TCP, UDP, fragment_header, options_header, tcp, udp
from traffic_lab import counted, judge, marker, passes

PEER = b"\x13BitTorrent protocol"
HANDSHAKE = PEER + b"\0" * 8
TCP_SIGNS = {
    "handshake": HANDSHAKE,
    "handshake after its first byte": HANDSHAKE[1:],
    "tracker": b"GET /announce?info_hash=%AA",
    "tracker in PHP": b"GET /announce.php?info_hash=%AA",
    "scrape": b"GET /scrape?info_hash=%AA",
}
UDP_SIGNS = {
    "DHT query": b"d1:ad2:id20:",
    "DHT answer": b"d1:rd2:id20:",
    "DHT answer with the asker's address": b"d2:ip6:\1\2\3\4\5\0061:rd2:id20:",
    "DHT answer with the asker's IPv6 address": b"d2:ip18:" + b"\1" * 18 + b"1:rd2:id20:",
    "tracker connect": bytes.fromhex("000004172710198000000000"),
    "handshake in uTP": b"\1\0" + b"\7" * 18 + HANDSHAKE,
    "local discovery": b"BT-SEARCH * HTTP/1.1\r\n",
}
INNOCENT = [
    (TCP, b"GET /index.html HTTP/1.1\r\n"), (TCP, b"GET /announce HTTP/1.1\r\n"), (TCP, b"\x16\x03\x01\x02\x00"),
    (TCP, b"BitTorrent protocol is a way to share files."), (TCP, b"x" + HANDSHAKE), (TCP, b"SSH-2.0-OpenSSH_9.2\r\n"),
    (UDP, b"d1:xd2:id20:"), (UDP, b"\0\0\4\x17\x27\x10\x19\x81\0\0\0\0"), (UDP, b"\x23\0\6\xec" + b"\0" * 44),
    (UDP, b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1"), (UDP, b"\1\0\0\0" + b"\7" * 60), (UDP, b"")]


def sent(protocol, sign, found, **more):
    return (tcp if protocol == TCP else udp)(40000, 51413, sign + found, **more)


@pytest.mark.parametrize("guest", ["a", "r"])
def test_signs_are_refused_and_all_else_passes(traffic, guest):
    judge(traffic, "bittorrent", "enforce", guest)
    refused = 0
    for protocol, signs in ((TCP, TCP_SIGNS), (UDP, UDP_SIGNS)):
        for number, (what, sign) in enumerate(signs.items()):
            found = marker()
            # Families alternate: the signs don't depend on them.
            assert not passes(traffic, guest, sent(protocol, sign, found), found, protocol=protocol,
                              version=6 if number % 2 else 4), what
            refused += 1
            assert counted(traffic, guest, "bittorrent_refused") == refused, what
    for protocol, data in INNOCENT:
        for version in (4, 6):
            found = marker()
            assert passes(traffic, guest, sent(protocol, data, found), found, protocol=protocol, version=version), data
    other = marker()
    assert passes(traffic, "b", sent(TCP, HANDSHAKE, other), other)
    assert counted(traffic, guest, "bittorrent_refused") == refused


def test_observed_it_passes_and_is_counted_with_whom(traffic):
    judge(traffic, "bittorrent", "observe")
    for version in (4, 6):
        found = marker()
        assert passes(traffic, "a", sent(TCP, HANDSHAKE, found), found, version=version)
    assert counted(traffic, "a", "bittorrent_observed") == 2 and counted(traffic, "a", "bittorrent_refused") == 0
    listing = traffic.host.check("nft -n list table bridge hosting_aup")
    assert '"tapA" . %s . 40000 . %s . 51413' % (V4["a"], V4["net"]) in listing
    assert '"tapA" . %s . 40000 . %s . 51413' % (V6["a"], V6["net"]) in listing


def test_headers_before_it_and_tags_around_it_hide_nothing(traffic):
    judge(traffic, "bittorrent", "enforce")
    found = marker()
    plain = sent(TCP, HANDSHAKE, found)
    timestamps = tcp(40000, 51413, HANDSHAKE + found, options=b"\1\1\x08\x0a" + b"\0" * 8)
    hidden = [
        {"segment": timestamps}, {"segment": plain, "options": b"\1" * 40}, {"segment": plain, "more": True},
        {"segment": plain, "tags": [(0x8100, 7)]}, {"segment": plain, "tags": [(0x88A8, 7)]},
        {"segment": plain, "version": 6, "headers": options_header(DESTINATION) + options_header(TCP), "following": HOP_BY_HOP},
        {"segment": plain, "version": 6, "headers": fragment_header(TCP, more=True), "following": FRAGMENT},
        {"segment": plain, "version": 6, "tags": [(0x8100, 7)]},
    ]
    for number, one in enumerate(hidden, 1):
        assert not passes(traffic, "a", found=found, **one), one
        assert counted(traffic, "a", "bittorrent_refused") == number, one


def test_exempt_it_passes(traffic):
    judge(traffic, "bittorrent", "enforce")
    del traffic.port("tapA")["controls"]["bittorrent"]
    assert traffic.apply().kind == "elements"
    found = marker()
    assert passes(traffic, "a", sent(TCP, HANDSHAKE, found), found)
    assert MACS["a"] not in traffic.counters()
