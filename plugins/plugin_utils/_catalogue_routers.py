# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `router` of a node: what may be done on it, and what it must keep reachable. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._routers import DROP_PLATFORMS
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_fields import Refused, described, node_name, shown
from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import ANNOUNCING, PLATFORMS

SAVE = ("always", "never")
RTBH_TAG = 41667
MAX_NULL_ROUTES, MAX_ANNOUNCED = 1000, 50
MAX_DROP_PREFIXES = 100000

RESERVED = ("trunks", "lags", "peerings")
"""Lists of a router's interfaces that are never a service's port; `uplinks` of the node is another."""

_ROUTER = frozenset(("platform", "max_null_routes", "max_drop_prefixes", "save", "protected", "rtbh", *RESERVED))
_PORT = frozenset(("router", "interface"))
_INTERFACE = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,39}")
_RTBH = frozenset(("tag", "route_map", "trigger", "upstreams"))
_UPSTREAM = frozenset(("name", "neighbors", "community", "max"))
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,30}")
_COMMUNITY = re.compile(r"(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})")


def interface(value):
    """The name of an interface or sub-interface of a router.

    :raises Refused: not one
    """
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        raise Refused(f"{shown(value)} is not an interface: a letter or '_', then up to 39 letters, digits or '_./:-'")
    return value


def ports(reader, nodes):
    """The ports that a dedicated server hangs on: `[{"router", "interface"}]`, sorted; complaints go to the reader.

    :param reader: Reader of the service
    :param nodes: the catalogue's nodes, read
    """
    raw = reader.raw.get("ports")
    if not isinstance(raw, list) or not raw:
        reader.refuse("ports", f"a list of ports is expected, found {described(raw)}")
        return []
    for name in ("guest", "node", "nodes", "pool", "order"):
        if reader.raw.get(name) is not None:
            reader.refuse(name, "stands beside `ports`: a dedicated server has ports of a router, and no guest")
    found = []
    for index, entry in enumerate(raw):
        inner = reader.inside(f"ports[{index}]", entry)
        if inner is None:
            continue
        inner.known(_PORT)
        name, port = inner.need("router", node_name), inner.need("interface", interface)
        if name is None or port is None:
            continue
        node = nodes.get(name)
        if node is None or node["backend"] != "router":
            inner.refuse("router", f"{name!r} is no router of `nodes`")
        elif not node.get("router"):
            inner.refuse("router", f"node '{name}' has no section `router`: nothing is known of how to act on it")
        elif not re.fullmatch(PLATFORMS[node["router"]["platform"]].PORT, port):
            inner.refuse("interface", f"{port!r} is no port of platform {node['router']['platform']}: "
                         f"{PLATFORMS[node['router']['platform']].PORT_IS} is expected")
        else:
            for why, names in [("uplink", node["uplinks"]), *((key[:-1], node["router"].get(key, ())) for key in RESERVED)]:
                if port in names:
                    inner.refuse("interface", f"{port!r} is declared as {why} of '{name}': it is never a service's port")
        if (name, port) in found:
            inner.refuse("interface", f"port {port!r} of '{name}' is listed twice")
        found.append((name, port))
    return [{"router": name, "interface": port} for name, port in sorted(set(found))]


def _one_of(known):
    def parse(value):
        if value not in known:
            raise Refused(f"{described(value)} is none of {', '.join(known)}")
        return value
    return parse


def _number(low, high):
    def parse(value):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refused(f"a whole number from {low} to {high} is expected, found {described(value)}")
        return value
    return parse


def _name(value):
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused(f"{shown(value)} is not a name: a letter, then up to 30 letters, digits, '.', '_' or '-'")
    return value


def _community(value):
    found = _COMMUNITY.fullmatch(value) if isinstance(value, str) else None
    if not found or max(int(part) for part in found.groups()) > 65535:
        raise Refused(f"{shown(value)} is not a community like \"64500:666\" (in quotes)")
    return value


def _network(value):
    try:
        network = ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError:
        network = None
    if network is None or network.prefixlen == 0:
        raise Refused(f"{shown(value)} is not an address or prefix without host bits")
    return str(network)


def _neighbor(value):
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Refused(f"{shown(value)} is not the address of a BGP neighbor") from None


def router(reader):
    """The normalised section of one router; complaints go to the reader.

    :param reader: Reader of the node's `router`
    """
    platform = reader.need("platform", _one_of(sorted(PLATFORMS)))
    if platform is None:
        return None
    option, least, most, usual = PLATFORMS[platform].MARK
    reader.known(_ROUTER | {option})
    found = {
        "platform": platform,
        "mark": reader.may(option, _number(least, most), usual),
        "max_null_routes": reader.may("max_null_routes", _number(1, 100000), MAX_NULL_ROUTES),
        "save": reader.may("save", _one_of(SAVE), "always"),
        "protected": sorted(set(reader.each("protected", _network))),
        "rtbh": None,
    }
    if platform in DROP_PLATFORMS:
        found["max_drop_prefixes"] = reader.may("max_drop_prefixes", _number(1, 10**6), MAX_DROP_PREFIXES)
    elif reader.raw.get("max_drop_prefixes") is not None:
        reader.refuse("max_drop_prefixes", f"{platform} carries no drops")
    for name in RESERVED:
        if reader.raw.get(name):
            found[name] = sorted(set(reader.each(name, interface)))
    if reader.raw.get("rtbh") is None:
        return found
    inner = reader.inside("rtbh", reader.raw["rtbh"])
    if inner is None:
        return found
    if platform not in ANNOUNCING:
        reader.refuse("rtbh", f"{platform} announces nothing by itself; only {', '.join(sorted(ANNOUNCING))} do")
    found["rtbh"] = _rtbh(inner)
    if found["rtbh"]["tag"] == found["mark"]:
        inner.refuse("tag", "is the tag of routes that are not announced, too; they must differ")
    return found


def _rtbh(reader):
    reader.known(_RTBH)
    upstreams = []
    raw = reader.raw.get("upstreams")
    if not isinstance(raw, list) or not raw:
        reader.refuse("upstreams", "is required: a list of upstreams that are told" if not raw
                      else f"a list is expected, found {described(raw)}")
        raw = []
    for index, entry in enumerate(raw):
        inner = reader.inside(f"upstreams[{index}]", entry)
        if inner is None:
            continue
        inner.known(_UPSTREAM)
        neighbors = inner.each("neighbors", _neighbor)
        if not entry.get("neighbors"):
            inner.refuse("neighbors", "is required: the addresses of its BGP sessions, IPv4 and IPv6")
        upstreams.append({
            "name": inner.need("name", _name), "neighbors": sorted(set(neighbors)),
            "community": inner.may("community", _community, "65535:666"),
            "max": inner.may("max", _number(1, 100000), MAX_ANNOUNCED),
        })
    return {
        "tag": reader.may("tag", _number(1, 4294967295), RTBH_TAG),
        "route_map": reader.need("route_map", _name),
        "trigger": reader.need("trigger", _community),
        "upstreams": upstreams,
    }
