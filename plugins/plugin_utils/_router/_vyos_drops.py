# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on VyOS: groups by the service's handle, and rules with them in the rule-set `aup-ports`. Pure. PRIVATE to the collection.

The rules stand behind those of ports, in the rule-set that the operator prepared for both (`_vyos_ports`). Entries don't go by
themselves here: `reconcile` ends them. A configuration line is the tuple of its words, as in `_vyos_ports`.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers import HANDLE
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood
from ansible_collections.hosting.aup.plugins.plugin_utils._router._vyos_ports import ENTRY

FIRST = 500000
SIDES = ("local", "in", "out")
_FAMILIES = {4: ("ipv4", "network-group"), 6: ("ipv6", "ipv6-network-group")}
_WAYS = (("in", "in", "local"), ("out", "local", "out"))  # way, where it comes from, where it goes
_NAME = re.compile(r"aup-(%s)-(local|in|out)([46])" % HANDLE.pattern)
_NET = {4: _gate.PREFIX4, 6: _gate.PREFIX6}
_RULE = r"rule [5-9][0-9]{5}"
GRAMMAR = tuple(re.compile(text) for version, (family, group) in _FAMILIES.items() for text in (
    r"(?:set|delete) firewall group %s aup-%s-(?:local|in|out)%d network %s" % (group, HANDLE.pattern, version, _NET[version]),
    r"delete firewall group %s aup-%s-(?:local|in|out)%d" % (group, HANDLE.pattern, version),
    r"set firewall %s name %s %s action drop" % (family, ENTRY, _RULE),
    r"set firewall %s name %s %s (?:source|destination) group network-group aup-%s-(?:local|in|out)%d" % (
        family, ENTRY, _RULE, HANDLE.pattern, version),
    r"delete firewall %s name %s %s" % (family, ENTRY, _RULE)))


def is_ours(line):
    """Whether a configuration line is part of a drop."""
    return any(_NAME.fullmatch(word) for word in line)


def _name(key, side, version):
    return "aup-%s-%s%d" % (key, side, version)


def _rules(key, sets):
    """`{(version, way): tails of its lines}` that these sets need: `{(version, side): prefixes}`."""
    return {(version, way): sorted((
        ("action", "drop"), ("source", "group", "network-group", _name(key, source, version)),
        ("destination", "group", "network-group", _name(key, target, version))))
        for version in _FAMILIES for way, source, target in _WAYS if sets.get((version, source)) and sets.get((version, target))}


def parse(lines, ready):
    """`({handle: group}, numbers in use)`; groups as `_drops.plan_drops` takes them, with `sets` and `rules` as they are.

    :param ready: whether packets come by our rules at all
    :raises NotUnderstood: a member that is no prefix
    """
    groups, numbered, used = {}, {}, set()

    def group(key):
        return groups.setdefault(key, {"sets": {}, "rules": {}, "numbers": {}})

    for line in lines:
        match = _NAME.fullmatch(line[3]) if line[:2] == ("firewall", "group") and len(line) == 6 else None
        if match:
            key, side, version = match.group(1), match.group(2), int(match.group(3))
            group(key)["sets"].setdefault((version, side), set()).add(_prefix(line[5], version))
        if line[:1] == ("firewall",) and line[2:5] == ("name", ENTRY, "rule") and len(line) > 6:
            used.add(line[5])
            numbered.setdefault((line[1], line[5]), []).append(line[6:])
    for (family, number), tails in numbered.items():
        matches = [match for match in (_NAME.fullmatch(word) for tail in tails for word in tail) if match]
        if matches:
            version = 4 if family == "ipv4" else 6
            way = "in" if any(match.group(2) == "in" for match in matches) else "out"
            found = group(matches[0].group(1))
            found["rules"].setdefault((version, way), []).append(sorted(tails))
            found["numbers"].setdefault((version, way), []).append(number)
    for key, found in groups.items():
        wanted = {where: [tails] for where, tails in _rules(key, found["sets"]).items()}
        found["whole"] = bool(ready) and found["rules"] == wanted
        for side in SIDES:
            found[side] = outermost(text for version in _FAMILIES for text in found["sets"].get((version, side), ()))
    return groups, used


def _prefix(text, version):
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        raise NotUnderstood("a member of a group: %s" % ascii(text)[:60]) from exc
    if network.version != version:
        raise NotUnderstood("a member of a group: %s" % ascii(text)[:60])
    return str(network)


def slots(keys, groups, used):
    """`{handle: number}` of the first of its two rules in `aup-ports`."""
    taken = {int(number) for number in used if number.isdigit()}
    found = {}
    for key in sorted(set(keys) | set(groups)):
        found[key] = next(number for number in range(FIRST, 999990, 10) if number not in taken and number + 1 not in taken)
        taken |= {found[key], found[key] + 1}
    return found


def commands(change, slot):
    """The lines that change one service's group, for one commit: only the members that differ, its rules where they do."""
    key, found, drop = change["drop"], change["found"] or {"sets": {}, "rules": {}, "numbers": {}}, change["wanted"]
    if not HANDLE.fullmatch(key):
        raise ValueError("handle %r" % (key,))
    sets = {(version, side): {str(ipaddress.ip_network(text)) for text in drop[side] if (6 if ":" in text else 4) == version}
            for version in _FAMILIES for side in SIDES} if drop else {}
    rules = _rules(key, sets)
    gone, come = [], []
    for version, (family, group) in _FAMILIES.items():
        for way, _source, _target in _WAYS:
            where = version, way
            if found["rules"].get(where) != ([rules[where]] if where in rules else None):
                gone += ["firewall %s name %s rule %s" % (family, ENTRY, number) for number in found["numbers"].get(where, ())]
                number = slot + (way == "out")
                come += ["firewall %s name %s rule %d %s" % (family, ENTRY, number, " ".join(tail)) for tail in rules.get(where, ())]
        for side in SIDES:
            here, wanted = found["sets"].get((version, side), set()), sets.get((version, side), set())
            name = "firewall group %s %s" % (group, _name(key, side, version))
            gone += [name] if here and not wanted else ["%s network %s" % (name, text) for text in sorted(here - wanted)]
            come += ["%s network %s" % (name, text) for text in sorted(wanted - here)]
    return ["delete " + line for line in gone] + ["set " + line for line in come]
