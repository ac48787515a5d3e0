# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames spelled out byte by byte, for what ordinary sockets won't send."""
from __future__ import annotations

import socket
import struct

TCP, UDP, FRAGMENT, HOP_BY_HOP, DESTINATION = 6, 17, 44, 0, 60
FIN, SYN, RST, PUSH, ACK = 1, 2, 4, 8, 16


def ethernet(destination, source, kind, payload, tags=()):
    """A frame; `tags` are `(tag protocol, VLAN id)` from outer to inner."""
    mac = bytes.fromhex
    stacked = b"".join(struct.pack("!HH", protocol, vlan) for protocol, vlan in tags)
    return (mac(destination.replace(":", "")) + mac(source.replace(":", "")) + stacked
            + struct.pack("!H", kind) + payload)


def checksum(data):
    """The Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def tcp_syn(port, marker=b"", source_port=40000):
    """A SYN with data behind it; its checksum is left out."""
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 2, 1024, 0, 0) + marker


def tcp(source_port, port, payload=b"", flags=PUSH | ACK, options=b""):
    """A TCP segment; its checksum is left out."""
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 1, (20 + len(options)) // 4 << 4, flags, 1024, 0, 0) + options + payload


def udp(source_port, port, payload):
    """A datagram without a checksum."""
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def ipv4(source, destination, payload, protocol=TCP, offset=0, more=False, options=b""):
    """An IPv4 packet; `offset` in bytes."""
    size = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(payload), 4711, (0x2000 if more else 0) | offset // 8, 64,
        protocol, 0, socket.inet_aton(source), socket.inet_aton(destination)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source, destination, payload, following=TCP, hop_limit=64):
    """An IPv6 packet."""
    return struct.pack("!IHBB", 6 << 28, len(payload), following, hop_limit) + socket.inet_pton(
        socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination) + payload


def options_header(following, length=8):
    """Hop-by-hop or destination options header that holds padding only."""
    return struct.pack("!BBBB", following, length // 8 - 1, 1, length - 4) + b"\0" * (length - 4)


def fragment_header(following, offset=0, more=False):
    """IPv6 fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", following, 0, offset | (1 if more else 0), 4711)
