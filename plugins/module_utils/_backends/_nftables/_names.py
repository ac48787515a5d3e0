# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: nothing reaches nft that did not pass here. Pure. PRIVATE to the collection.

Interface names come from libvirt and the kernel, MACs and prefixes from catalogues: all of them may
be hostile. What passes is returned in the very form nft lists it in, so that listings can be compared
as text.
"""
from __future__ import annotations

import ipaddress
import re
import socket

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

# Narrower than the kernel's rule (which allows quotes, commas and `*`, all with a meaning to nft).
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,14}"
_NAME_RE = re.compile(_NAME)
_PATTERN_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,13}\*?")
_MAC_RE = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def is_interface_name(name):
    """Whether a name may be given to nft; an interface whose name may not counts as unknown."""
    return isinstance(name, str) and _NAME_RE.fullmatch(name) is not None


def interface(name, what="interface"):
    """An interface name, quoted for nft.

    :raises InputError: for a name with characters that mean something to nft, or too long
    """
    if not is_interface_name(name):
        raise InputError(
            "%s name %r is not 1 to 15 of the characters A-Z a-z 0-9 _ . + = @ -." % (what, name),
            target=str(name), remedy="Give the interface an ordinary name.",
        )
    return '"%s"' % name


def interface_pattern(pattern):
    """A name, or the beginning of names followed by `*`, quoted for nft.

    :raises InputError: also for a bare `*`, which would match every interface of the host
    """
    if not isinstance(pattern, str) or not _PATTERN_RE.fullmatch(pattern):
        raise InputError(
            "routed interface pattern %r is neither an interface name nor the beginning of one followed by *."
            % (pattern,), target=str(pattern), remedy="Write it like vnet* or tap7.",
        )
    return '"%s"' % pattern


def mac(address):
    """A MAC address in lower case.

    :raises InputError: if it is none, or not that of one station (multicast bit set, all zero)
    """
    text = address.lower() if isinstance(address, str) else ""
    if not _MAC_RE.fullmatch(text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise InputError("MAC %r is not the address of one station." % (address,), target=str(address),
                         remedy="Write it like 52:54:00:12:34:56.")
    return text


def tcp_port(number):
    """A TCP port as text.

    :raises InputError: if it is not a whole number from 1 to 65535
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
        raise InputError("TCP port %r is not a whole number from 1 to 65535." % (number,), target=str(number),
                         remedy="Correct the port in the policy.")
    return "%d" % number


def _network_text(network):
    # inet_ntop and not str(): nft lists ::ffff:192.0.2.1 the way the C library does.
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, network.network_address.packed)
    return text if network.prefixlen == network.max_prefixlen else "%s/%d" % (text, network.prefixlen)


def address(one):
    """An `ipaddress` address as nft lists it."""
    return socket.inet_ntop(socket.AF_INET if one.version == 4 else socket.AF_INET6, one.packed)


def remote(text):
    """`(IP version, remote prefix as nft lists it)`.

    :raises InputError: for anything that is not a prefix in canonical form, and for everything at once
    """
    try:
        network = ipaddress.ip_network(text if isinstance(text, str) and "%" not in text else "")
    except ValueError:
        network = None
    if network is None or network.prefixlen == 0:
        raise InputError("remote prefix %.60r is no IPv4 or IPv6 prefix." % (text,), target="sources",
                         remedy="Write it like 192.0.2.0/24 or 2001:db8::/32.")
    return network.version, _network_text(network)


def prefixes(texts, what="prefix"):
    """`(IPv4, IPv6)`: frozensets of prefixes as nft lists them, overlapping and adjacent ones merged.

    :raises InputError: for anything that is not an address or a prefix with no host bits set
    """
    networks = {4: [], 6: []}
    for text in texts:
        try:
            if "%" in str(text):
                raise ValueError("a zone is no part of a prefix")
            network = ipaddress.ip_network(str(text))  # str(): it would take a number for an address
        except ValueError as exc:
            raise InputError(
                "%s %r is no IPv4 or IPv6 prefix: %s." % (what, text, exc), target=str(text),
                remedy="Write it like 192.0.2.0/24 or 2001:db8::/32.")
        networks[network.version].append(network)
    return tuple(
        frozenset(_network_text(n) for n in ipaddress.collapse_addresses(networks[version]))
        for version in (4, 6)
    )


_PREFIX = r"[0-9a-f:.]+(?:/[0-9]+)?"
_PART = {
    "ifname": '"%s"' % _NAME,
    "ether_addr": _MAC_RE.pattern,
    "inet_service": "[0-9]{1,5}",
    "ipv4_addr": _PREFIX,
    "ipv6_addr": _PREFIX,
    "ifname : verdict": '"%s" : (?:jump|goto) [a-z0-9_]{1,64}' % _NAME,
    "integer": "0x[0-9a-f]{1,32}",
}


def element_pattern(set_type):
    """Compiled pattern of the elements we could have written into a set of this type (`ifname . inet_service`).

    Anything else in a listing was put there by someone else and is not ours to spell.
    """
    return re.compile(r" \. ".join(_PART[part] for part in set_type.split(" . ")))
