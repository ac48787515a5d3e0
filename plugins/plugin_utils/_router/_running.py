# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running configurations in the industry's usual form, as EOS and IOS-XE print them. Pure. PRIVATE."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, is_address

_WITHOUT_ADDRESS = frozenset(("dhcp", "auto", "autoconfig", "negotiated", "unnumbered", "pool", "use-link-local-address",
                              "link-local", "enable", "autoconfig-default", "slaac"))

_KNOWN = frozenset(("permanent", "track", "multicast", "unicast", "metric", "global"))


def whole(text):
    """The lines of a running configuration; the last one says that it is whole.

    :raises NotUnderstood: cut short, or something else
    """
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    if not lines or lines[-1] != "end" or any(line.startswith("%") for line in lines[:5]) or len(lines) < 3:
        raise NotUnderstood("the running configuration is not whole: %s" % ascii(text.strip()[:80]))
    return lines


def statics(lines, prefix_of):
    """Static routes outside VRFs.

    :param prefix_of: `prefix_of(words) -> (network, rest of the words)`; raises ValueError
    :raises NotUnderstood: a static route of unknown form
    """
    found = []
    for line in lines:
        words = line.split()
        if words[:2] not in (["ip", "route"], ["ipv6", "route"]) or line.startswith(" ") or words[2:3] == ["vrf"]:
            continue
        if words[2:3] in (["static"], ["profile"]):
            continue  # settings of the kind, no route
        try:
            found.append(_static(line, *prefix_of(words)))
        except (ValueError, IndexError) as exc:
            raise NotUnderstood("static route %s" % ascii(line[:100])) from exc
    return found


def _static(line, network, rest):
    target, rest = rest[0], rest[1:]
    drops = target.lower() == "null0"
    hops = [target] if is_address(target) else []
    tag, other, named = None, [], False
    while rest:
        if rest[0] == "tag":
            tag, rest = int(rest[1]), rest[2:]
        elif rest[0] == "name":
            if len(rest) < 2:
                raise ValueError("name")
            named, rest = True, rest[2:]
        else:
            if drops and not rest[0].isdigit() and rest[0] not in _KNOWN:
                raise ValueError(rest[0])
            hops += [rest[0]] if is_address(rest[0]) else []
            other.append(rest[0])
            rest = rest[1:]
    return {"prefix": str(network), "blackhole": drops, "mark": tag, "hops": hops, "line": line,
            "exact": drops and not named and not other}


def route_lines(route, action, mark, there):
    """The lines that change a null route.

    :param route: it without its tag, as `ip route 192.0.2.1/32 Null0`
    :param there: whether it stands there already; its old tag may not stay beside the new one
    """
    if action == "remove":
        return ["no " + route]
    return (["no " + route] if there else []) + ["%s tag %d" % (route, mark)]


def own(lines):
    """Addresses on interfaces with their networks: `[(address, network or None)]`."""
    found, inside = [], False
    for line in lines:
        if not line.startswith(" "):
            inside = line.startswith("interface ")
            continue
        words = line.split()
        if not inside or words[0] not in ("ip", "ipv6", "vrrp", "standby", "glbp"):
            continue
        if words[0] in ("ip", "ipv6") and "address" not in words and words[1:2] != ["virtual-router"]:
            continue
        found += _addresses(line, words)
    return found


def _addresses(line, words):
    found = []
    for at, word in enumerate(words):
        try:
            if "/" in word:
                interface = ipaddress.ip_interface(word)
            elif at + 1 < len(words) and "." in word and words[at + 1].startswith("255."):
                interface = ipaddress.ip_interface("%s/%s" % (word, words[at + 1]))
            elif word.startswith("255.") or not is_address(word):
                continue
            else:
                found.append((str(ipaddress.ip_address(word)), None))
                continue
        except ValueError as exc:
            raise NotUnderstood("address %s" % ascii(line[:100])) from exc
        found.append((str(interface.ip), str(interface.network)))
    if not found and "address" in words[:3] and words[0] in ("ip", "ipv6") and not _WITHOUT_ADDRESS.intersection(words):
        raise NotUnderstood("address %s" % ascii(line[:100]))
    return found


def peers(lines):
    """BGP neighbors."""
    found, inside = set(), False
    for line in lines:
        if not line.startswith(" "):
            inside = line.startswith("router bgp ")
        words = line.split()
        if inside and words[:1] == ["neighbor"] and is_address(words[1]):
            found.add(str(ipaddress.ip_address(words[1])))
    return sorted(found)
