# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a set before it has elements. Pure. PRIVATE to the collection."""
from __future__ import annotations

from collections import namedtuple

SetSpec = namedtuple("SetSpec", "type counted interval dynamic declared")
SetSpec.__doc__ = """A set or a map of our tables.

`type`: as nft names it, `ifname . ipv4_addr`; a verdict map has `ifname : verdict`; `counted`: each element
has a counter, which is evidence; `interval`: prefixes; `dynamic`: filled by packets, the text of its size and
timeout: never compared; `declared`: what stands in the declaration instead of the type (`typeof …`).
"""


def spec(set_type, counted=False, interval=False, dynamic="", declared=""):
    """A SetSpec."""
    return SetSpec(set_type, counted, interval, dynamic, declared)


def declaration(name, one):
    """The line that makes a set, empty."""
    if one.type.endswith(" : verdict"):
        return "    map %s { type %s; }\n" % (name, one.type)
    return "    set %s { %s; %s%s%s}\n" % (
        name, one.declared or "type " + one.type, "flags interval; " if one.interval else "",
        "counter; " if one.counted else "", one.dynamic and one.dynamic + " ")
