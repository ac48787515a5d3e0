# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops of a Linux router in nftables: one table of ours, for each service two chains and four sets. Pure. PRIVATE.

The table is `inet hosting_aup_drops`, asked on forward only, so the router itself is never cut off. Its base chain looks
the service's address up in a map and jumps to the service's chain, which looks the remote address up in a set: however
many are listed, a packet costs two lookups. A change of one service is one transaction of a few elements.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers import HANDLE
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

TABLE = "hosting_aup_drops"
_T = "inet " + TABLE
_KEY = HANDLE.pattern
_WORDS = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_WAYS = {"in": ("to", "daddr", "saddr"), "out": ("from", "saddr", "daddr")}  # map, the service's field, the remote's
_CHUNK = 1000
_ADDRESS = r"[0-9a-f:.]+(?:/[0-9]{1,3})?"
_JUMP = _ADDRESS + r" : jump (?:in|out)-" + _KEY

_MAPS = [(way, version) for way in _WAYS for version in _WORDS]
_BASE_RULES = ["%s %s vmap @%s%d" % (_WORDS[version][0], _WAYS[way][1], _WAYS[way][0], version) for way, version in _MAPS]
_BASE = (
    "add table %s" % _T,
    *("add map %s %s%d { type %s : verdict; flags interval; }" % (_T, _WAYS[way][0], version, _WORDS[version][1]) for way, version in _MAPS),
    "add chain %s forward { type filter hook forward priority -200; }" % _T,
)
_BASE_AGAIN = ("flush chain %s forward" % _T, *("add rule %s forward %s" % (_T, rule) for rule in _BASE_RULES))
ALLOWED = "{};"  # nft reads the lines from its standard input; no shell sees them
LONGEST = 100000
GRAMMAR = tuple(re.compile(text) for text in (
    *(re.escape(line) for line in (*_BASE, *_BASE_AGAIN)), re.escape("delete table %s" % _T),
    r"(?:add|flush|delete) chain %s (?:in|out)-%s" % (_T, _KEY),
    r"add rule %s (?:in|out)-(%s) ip6? [sd]addr @(?:in|out)[46]-\1 counter drop" % (_T, _KEY),
    r"add set %s (?:in|out)4-%s \{ type ipv4_addr; flags interval; \}" % (_T, _KEY),
    r"add set %s (?:in|out)6-%s \{ type ipv6_addr; flags interval; \}" % (_T, _KEY),
    r"(?:flush|delete) set %s (?:in|out)[46]-%s" % (_T, _KEY),
    r"(?:add|delete) element %s (?:in|out)[46]-%s \{ %s(?:, %s){0,%d} \}" % (_T, _KEY, _ADDRESS, _ADDRESS, _CHUNK - 1),
    r"(?:add|delete) element %s (?:to|from)[46] \{ %s(?:, %s){0,%d} \}" % (_T, _JUMP, _JUMP, _CHUNK - 1),
))


def pass_line(line):
    """The line, if it may be sent; see `_gate.pass_line`."""
    return _gate.pass_line(line, GRAMMAR, allowed=ALLOWED, longest=LONGEST)


def _spelled(text):
    """A prefix as nft prints it."""
    network = ipaddress.ip_network(text)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _version(text):
    return 6 if ":" in text else 4


def _elements(verb, name, elements):
    elements = list(elements)
    return ["%s element %s %s { %s }" % (verb, _T, name, ", ".join(elements[at:at + _CHUNK])) for at in range(0, len(elements), _CHUNK)]


def _chain_rules(way, key):
    return ["%s %s @%s%d-%s counter drop" % (word, _WAYS[way][2], way, version, key) for version, (word, _type) in _WORDS.items()]


def commands(change):
    """The lines that change one service's group, for one transaction: only the elements that differ, where its rules are right."""
    key, found, drop = change["drop"], change["found"] or {}, change["wanted"]
    if not HANDLE.fullmatch(key):
        raise ValueError("handle %r" % key)
    maps, sets, odd = found.get("maps", {}), found.get("sets", {}), found.get("odd", frozenset())
    # The chains before the maps: nft sends the elements of a map with intervals together with the map.
    lines = [_BASE[0], *("add chain %s %s-%s" % (_T, way, key) for way in _WAYS), *_BASE[1:]]
    lines += () if found.get("base") else _BASE_AGAIN
    remade = drop is None or not found.get("rules")
    for way in _WAYS:
        lines += ["add set %s %s%d-%s { type %s; flags interval; }" % (_T, way, version, key, _WORDS[version][1]) for version in _WORDS]
        lines += ["flush chain %s %s-%s" % (_T, way, key)] if remade else []
    for way, version in _MAPS:
        here = maps.get((way, version), frozenset())
        wanted = {text for text in drop["local"] if _version(text) == version} if drop else frozenset()
        jump = "%%s : jump %s-%s" % (way, key)
        for verb, changed in (("delete", here - wanted), ("add", wanted - here)):
            lines += _elements(verb, "%s%d" % (_WAYS[way][0], version), [jump % _spelled(text) for text in sorted(changed)])
    for way, version in _MAPS:
        name = "%s%d-%s" % (way, version, key)
        here = sets.get((way, version), frozenset())
        wanted = [text for text in drop[way] if _version(text) == version] if drop else []
        if drop is None:
            continue
        if name in odd:
            lines.append("flush set %s %s" % (_T, name))
            here = frozenset()
        lines += _elements("delete", name, [_spelled(text) for text in outermost(here - set(wanted))])
        lines += _elements("add", name, [_spelled(text) for text in wanted if text not in here])
    if drop is None:
        lines += ["delete chain %s %s-%s" % (_T, way, key) for way in _WAYS]
        lines += ["delete set %s %s%d-%s" % (_T, way, version, key) for way, version in _MAPS]
        return lines + (["delete table %s" % _T] if change.get("last") else [])
    if remade:
        lines += ["add rule %s %s-%s %s" % (_T, way, key, rule) for way in _WAYS for rule in _chain_rules(way, key)]
    return lines


# -- what is there -------------------------------------------------------------------------------------------------------


def _network(value):
    """The prefix of an element as nft's JSON has it, or None for a range that is no prefix."""
    if isinstance(value, dict) and "elem" in value:
        value = value["elem"]["val"]
    if isinstance(value, dict) and "prefix" in value:
        return str(ipaddress.ip_network("%s/%d" % (value["prefix"]["addr"], value["prefix"]["len"])))
    if isinstance(value, dict):
        found = list(ipaddress.summarize_address_range(*(ipaddress.ip_address(end) for end in value["range"])))
        return str(found[0]) if len(found) == 1 else None
    return str(ipaddress.ip_network(value))


def _rule(body):
    """One rule as `commands` writes it, or `unknown`."""
    words = []
    try:
        for expr in body["expr"]:
            (kind, what), = expr.items()
            if kind == "vmap":
                field = what["key"]["payload"]
                words.append("%s %s vmap %s" % (field["protocol"], field["field"], what["data"]))
            elif kind == "match" and what["op"] == "==":
                field = what["left"]["payload"]
                words.append("%s %s %s" % (field["protocol"], field["field"], what["right"]))
            elif kind in ("counter", "drop"):
                words.append(kind)
            else:
                return "unknown"
    except (KeyError, TypeError, ValueError):
        return "unknown"
    return " ".join(words)


def parse_table(document):
    """`{handle: group}` of what `nft -j list table` printed, as `_drops.plan_drops` takes it.

    A group has beside `local`, `in`, `out` and `whole`: `maps` and `sets` as they are, `odd` sets with elements that are no
    prefixes, `rules` whether its chains are right, `base` whether all packets come by.

    :raises NotUnderstood: not nftables' JSON
    """
    if not isinstance(document, dict) or not isinstance(document.get("nftables"), list):
        raise NotUnderstood("no list of nftables")
    groups, chains, hooked = {}, {"forward": []}, False

    def group(key):
        return groups.setdefault(key, {"maps": {}, "sets": {}, "odd": set(), "chains": set()})

    for entry in document["nftables"]:
        kind, body = next(iter(entry.items()))
        name = body.get("name", "") if isinstance(body, dict) else ""
        side, _dash, key = name.partition("-")
        if kind == "map":
            _read_map(name, body, group)
        elif kind == "set" and HANDLE.fullmatch(key):
            elements = [_network(value) for value in body.get("elem") or ()]
            group(key)["sets"][side[:-1], int(side[-1])] = frozenset(text for text in elements if text)
            if None in elements:
                group(key)["odd"].add(name)
        elif kind == "chain" and name == "forward":
            hooked = (body.get("hook"), body.get("prio"), body.get("policy")) == ("forward", -200, "accept")
        elif kind == "chain" and HANDLE.fullmatch(key):
            group(key)["chains"].add(side)
            chains.setdefault(name, [])
        elif kind == "rule":
            chains.setdefault(body["chain"], []).append(_rule(body))
        elif kind not in ("metainfo", "table"):
            raise NotUnderstood("%s %s in table %s" % (kind, name[:40], TABLE))
    base = hooked and chains["forward"] == _BASE_RULES
    return {key: _judged(key, found, chains, base) for key, found in groups.items()}


def _read_map(name, body, group):
    """Elements of one of our maps; those that lead elsewhere are nobody's and stay."""
    way = next((way for way in _WAYS if name[:-1] == _WAYS[way][0]), None)
    if way is None:
        raise NotUnderstood("map %s in table %s" % (name[:40], TABLE))
    for value, verdict in body.get("elem") or ():
        (_verb, to), = verdict.items()
        side, _dash, key = to["target"].partition("-")
        text = _network(value)
        if side == way and HANDLE.fullmatch(key) and text:
            group(key)["maps"].setdefault((way, int(name[-1])), set()).add(text)


def _judged(key, found, chains, base):
    rules = all(chains.get("%s-%s" % (way, key)) == _chain_rules(way, key) for way in _WAYS)
    led = {way: {text for version in _WORDS for text in found["maps"].get((way, version), ())} for way in _WAYS}
    listed = {way: outermost(text for version in _WORDS for text in found["sets"].get((way, version), ())) for way in _WAYS}
    return dict(found, local=outermost(led["in"] | led["out"]), rules=rules, base=base, **listed,
                whole=base and rules and led["in"] == led["out"] and not found["odd"])
