# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words at fixed places of what a packet carries. Pure. PRIVATE to the collection.

`@ih` begins behind the TCP or UDP header. It needs Linux 5.16 and nft 1.0.1. A comparison holds 16 bytes at most in
nft 1.0, so longer words are compared in parts.
"""
from __future__ import annotations

_PART = 16

# Whom a flow is between: the guest's and the other's address and port, never what it carried.
FLOW_SAMPLES = (
    ("flows4", "meta protocol ip", "ip saddr . th sport . ip daddr . th dport",
     "ipv4_addr . inet_service . ipv4_addr . inet_service"),
    ("flows6", "meta protocol ip6", "ip6 saddr . th sport . ip6 daddr . th dport",
     "ipv6_addr . inet_service . ipv6_addr . inet_service"),
)


def start(words):
    """Two bytes as a key of a map over `@ih,0,16`."""
    return "0x" + words[:2].hex()


def sign(words, offset=0):
    """The match of a packet that carries these bytes.

    :param offset: where, in bytes behind the TCP or UDP header
    """
    parts = [(at, words[at:at + _PART]) for at in range(0, len(words), _PART)]
    return " ".join("@ih,%d,%d 0x%s" % (8 * (offset + at), 8 * len(part), part.hex()) for at, part in parts)
