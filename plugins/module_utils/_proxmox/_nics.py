# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's NIC as the server writes it: `virtio=MAC,bridge=vmbr0,rate=1.5`. Pure. PRIVATE to the collection.

The server replaces a NIC's string whole, and makes a new MAC where none is given; so one key is changed in it and all else,
also keys of a newer version, is carried through as it stood.
"""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
_PART = re.compile(r"[A-Za-z0-9._-]+=[^,\x00-\x1f]*")
NIC = re.compile(r"net(?:[0-9]|[12][0-9]|3[01])")


def parts(text):
    """`[(key, value)]` of a NIC's string, in its order.

    :raises NodeError: code `nic_not_understood`
    """
    found = text.split(",")
    if not all(_PART.fullmatch(part) for part in found):
        raise NodeError("the NIC %r is not key=value parts." % text[:200], code="nic_not_understood", target="nic",
                        remedy="Look at the guest's hardware in the web interface.")
    return [tuple(part.split("=", 1)) for part in found]


def mac_of(kind, text):
    """The MAC in lower case, or None where the string has none.

    :param kind: `qemu` or `lxc`
    """
    pairs = parts(text)
    wanted = [value for key, value in pairs if key == ("hwaddr" if kind == "lxc" else "macaddr")]
    if kind == "qemu" and not wanted:
        wanted = [pairs[0][1]]  # model=MAC comes first
    return wanted[0].lower() if wanted and _MAC.fullmatch(wanted[0]) else None


def value_of(text, key):
    """The value of a key, or None where it isn't set."""
    return dict(parts(text)).get(key)


def with_value(text, key, value):
    """The string with one key set, or taken out with None; nothing else moves."""
    pairs = parts(text)
    if value is None:
        pairs = [pair for pair in pairs if pair[0] != key]
    elif any(pair[0] == key for pair in pairs):
        pairs = [(name, value if name == key else old) for name, old in pairs]
    else:
        pairs.append((key, value))
    return ",".join("%s=%s" % pair for pair in pairs)


def bridge_path(text):
    """The path of privileges that using a NIC's bridge is looked at, with its VLAN where it has one; None without a bridge."""
    values = dict(parts(text))
    if not values.get("bridge"):
        return None
    return "/sdn/zones/localnetwork/" + values["bridge"] + ("/" + values["tag"] if values.get("tag") else "")


def same(one, other):
    """Whether two strings mean the same NIC: the server sorts keys as it stores them."""
    return sorted(parts(one)) == sorted(parts(other))


def is_on(text, key):
    """Whether a boolean key is set; the server keeps `1`, `on`, `yes` and `true` as they were given."""
    return (value_of(text, key) or "0").lower() in ("1", "on", "yes", "true")
