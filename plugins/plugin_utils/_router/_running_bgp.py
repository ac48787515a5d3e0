# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What announcing needs in a running configuration of the industry's usual form, and what it lacks. Pure. PRIVATE.

EOS and IOS-XE write the same words, with one difference: on EOS what stands under `router bgp` itself holds for all
families, on IOS-XE for IPv4 alone.
"""
from __future__ import annotations

import ipaddress

_FAMILIES = {"address-family ipv4": 4, "address-family ipv4 unicast": 4, "address-family ipv6": 6,
             "address-family ipv6 unicast": 6}
_NAMES = {"65535:666": frozenset(("blackhole",)), "65535:65281": frozenset(("no-export",))}


def community_texts(community):
    """How a router may write a community: in two halves, as one number, or by name."""
    high, low = (int(part) for part in community.split(":"))
    return {community, str(high * 65536 + low)} | _NAMES.get(community, frozenset())


def _depth(line):
    return len(line) - len(line.lstrip(" "))


def sections(lines):
    """`{header: lines below it, with their indentation}` of the top level; headers that stand twice are joined."""
    found, body = {}, None
    for line in lines:
        if line.strip() in ("", "!"):
            continue
        if not line.startswith(" "):
            body = found.setdefault(line.strip(), [])
        elif body is not None:
            body.append(line)
    return found


def _bgp(body):
    """(lines of no family, {4: lines, 6: lines}) below `router bgp`."""
    plain, families, family, depth = [], {4: [], 6: []}, None, 0
    for line in body:
        if family is not None and _depth(line) > depth:
            if family:
                families[family].append(line.strip())
            continue
        family, text = None, line.strip()
        if text.startswith(("address-family ", "vrf ")):
            family, depth = _FAMILIES.get(text, 0), _depth(line)
        elif text != "exit-address-family":
            plain.append(text)
    return plain, families


def route_maps(lines):
    """`{name: [lines of each permitting entry]}`."""
    found = {}
    for header, body in sections(lines).items():
        words = header.split()
        if words[0] == "route-map" and len(words) >= 3 and words[2] == "permit":
            found.setdefault(words[1], []).append([line.strip() for line in body])
    return found


def _sets(entry, community):
    texts = community_texts(community)
    return any(line.startswith("set community ") and texts.intersection(line.split()[2:]) for line in entry)


def _groups(peer, lines):
    """The peer and the peer groups it belongs to."""
    names = [peer]
    for line in lines:
        words = line.split()
        if words[:1] != ["neighbor"] or len(words) < 4 or not _same(words[1], peer):
            continue
        if words[2] == "peer-group" or words[2:4] == ["peer", "group"]:
            names.append(words[-1])
    return names


def _same(name, peer):
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(peer)
    except ValueError:
        return name == peer


def _said(names, lines, what):
    """What is said of a neighbor, the last words of lines `neighbor <name> <what> …`."""
    return [words[3:] for words in map(str.split, lines) if words[:1] == ["neighbor"] and len(words) >= 3
            and any(_same(words[1], name) for name in names) and words[2] == what]


def _refused(peer, lines):
    return any(words[:2] == ["no", "neighbor"] and _same(words[2], peer) and words[3:] == ["activate"]
               for words in map(str.split, lines) if len(words) == 4)


def _tells(names, lines):
    """Whether a neighbor is sent standard communities."""
    kinds = [set(rest) for rest in _said(names, lines, "send-community")]
    return any(not rest or rest & {"both", "standard", "add"} for rest in kinds)


def missing_for_rtbh(lines, rtbh, everywhere):
    """`{"4": [...], "6": [...]}`: configuration lines that announcing needs and the router lacks.

    :param rtbh: the catalogue's `rtbh` of this router
    :param everywhere: whether what stands under `router bgp` itself holds for IPv6 too
    """
    there = sections(lines)
    bgp = next((header for header in there if header.startswith("router bgp ")), None)
    if bgp is None:
        return {"4": ["router bgp <your AS>"], "6": ["router bgp <your AS>"]}
    plain, families = _bgp(there[bgp])
    maps = route_maps(lines)
    return {str(version): _missing(version, bgp, rtbh, maps, plain + families[version] if version == 4 or everywhere
                                   else families[version], plain, families[version]) for version in (4, 6)}


def _missing(version, bgp, rtbh, maps, holds, plain, family):
    found, inside = [], []
    tagged = [entry for entry in maps.get(rtbh["route_map"], ()) if "match tag %d" % rtbh["tag"] in entry]
    if not any(_sets(entry, rtbh["trigger"]) for entry in tagged):
        found += ["route-map %s permit 10" % rtbh["route_map"], " match tag %d" % rtbh["tag"],
                  " set community %s" % rtbh["trigger"]]
    if not any(words[:2] == ["redistribute", "static"] and words[-2:] == ["route-map", rtbh["route_map"]]
               for words in map(str.split, holds)):
        inside.append("redistribute static route-map %s" % rtbh["route_map"])
    peers = [(upstream, peer) for upstream in rtbh["upstreams"] for peer in upstream["neighbors"]
             if ipaddress.ip_address(peer).version == version]
    for upstream, peer in peers:
        names = _groups(peer, plain + family)
        usual = version == 4 and "no bgp default ipv4-unicast" not in plain and not _refused(peer, family)
        if not usual and not _said(names, family, "activate"):
            inside.append("neighbor %s activate" % peer)
        if not _tells(names, holds):
            inside.append("neighbor %s send-community" % peer)
        out = [rest[0] for rest in _said(names, holds, "route-map") if rest[1:] == ["out"]]
        if not any(_sets(entry, upstream["community"]) for name in out for entry in maps.get(name, ())):
            name = out[-1] if out else "TO-%s" % upstream["name"]
            found += ["route-map %s permit 10" % name, " match community <list of %s>" % rtbh["trigger"],
                      " set community %s no-export" % upstream["community"]]
        if not out:
            inside.append("neighbor %s route-map TO-%s out" % (peer, upstream["name"]))
    if not peers:
        found.append("! the catalogue names no IPv%d neighbor of an upstream (rtbh.upstreams)" % version)
    if inside:
        found += [bgp, " address-family ipv%d" % version, *("  " + line for line in inside)]
    return found
