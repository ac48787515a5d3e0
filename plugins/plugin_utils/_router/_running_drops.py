# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on EOS routers: numbered rules of ours in lists that the operator made and bound. Pure. PRIVATE to the collection.

The lists are `aup-drop` and `aup-drop6`, with a last rule 4000000000 that lets everything else pass. Which service a rule is
of is told by its number: each handle has a block of 2000, a thousand for each direction. EOS keeps these numbers; IOS-XE
forgets them with a restart ("sequence numbers are not nvgened", Cisco), so it can't carry drops in this way.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._routers import HANDLE
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._running_bgp import sections

LISTS = {4: ("ip", "aup-drop"), 6: ("ipv6", "aup-drop6")}
LAST = 4000000000
BLOCK = 2000
_SIDE = {"in": 0, "out": BLOCK // 2}
_END4, _END6 = r"(?:host %s|%s)" % (_gate.IPV4, _gate.PREFIX4), r"(?:host [0-9a-f:]{2,39}|%s)" % _gate.PREFIX6
GRAMMAR = tuple(re.compile(text) for text in (
    "ip access-list aup-drop", "ipv6 access-list aup-drop6", r"no [1-9][0-9]{3,9}",
    r"[1-9][0-9]{3,9} deny ip %s %s" % (_END4, _END4), r"[1-9][0-9]{3,9} deny ipv6 %s %s" % (_END6, _END6),
))


def block(handle):
    """The first number of a group's rules."""
    if not HANDLE.fullmatch(handle):
        raise ValueError("handle %s" % ascii(handle[:40]))
    return BLOCK * (1 + int(handle[1:], 16) % 1900000)


def pairs(drop, version):
    """`{side: [(source, destination)]}` of one family."""
    def of(texts):
        return [text for text in texts if ipaddress.ip_network(text).version == version]

    return {"in": [(remote, local) for remote in of(drop["in"]) for local in of(drop["local"])],
            "out": [(local, remote) for remote in of(drop["out"]) for local in of(drop["local"])]}


def _empty():
    return {"entries": {"4": {}, "6": {}}, "whole": False, "local": [], "in": [], "out": []}


class Drops:
    """What builds and reads them.

    :param dialect: how rules are written and read, see `_running_ports.Dialect`
    """

    def __init__(self, dialect):
        self.dialect, self.grammar = dialect, GRAMMAR

    def _texts(self, drop, version):
        return {side: ["deny ip %s %s" % pair for pair in found] for side, found in pairs(drop, version).items()}

    def look(self, lines, drops, known):
        """(groups, objections) for `_drops.plan_drops`.

        :param drops: the drops wanted
        :param known: handles of all that may be here
        """
        there = sections(lines)
        entries = {version: self._entries(there, version) for version in LISTS}
        blocks, objections = {}, {}
        for key in sorted({drop["key"] for drop in drops} | set(known)):
            if blocks.setdefault(block(key), key) != key:
                objections[key] = ["! its rules would have the numbers of those of %s" % blocks[block(key)]]
        groups = {}
        for version, found in entries.items():
            for number, text in found.items():
                if number < LAST:
                    first = number - number % BLOCK
                    group = groups.setdefault(blocks.get(first, "of %d" % first), _empty())
                    group["entries"][str(version)][str(number)] = text
        for drop in drops:
            group = groups.get(drop["key"])
            if group is not None and self._whole(drop, group):
                group.update(whole=True, **{side: drop[side] for side in ("local", "in", "out")})
            missing = [line for version in LISTS for line in self._missing(drop, version, entries[version], lines)]
            if missing:
                objections.setdefault(drop["key"], missing)
        return groups, objections

    def _entries(self, there, version):
        """`{number: rule}` of one of the two lists; what is no rule of ours in form is `other …`."""
        word, name = LISTS[version]
        found = {}
        for line in there.get("%s access-list %s" % (word, name), ()):
            words = line.split()
            if words[0].isdigit():
                found[int(words[0])] = self.dialect.rule(words, version)
        return found

    def _whole(self, drop, group):
        for version in LISTS:
            wanted, first = self._texts(drop, version), block(drop["key"])
            for side, offset in _SIDE.items():
                there = [text for number, text in group["entries"][str(version)].items()
                         if first + offset <= int(number) < first + offset + BLOCK // 2]
                if sorted(there) != sorted(wanted[side]):
                    return False
        return True

    def _missing(self, drop, version, entries, lines):
        """Lines that a drop needs and the router lacks, in one family."""
        wanted = {side: found for side, found in pairs(drop, version).items() if found}
        if not wanted:
            return []
        if any(len(found) > BLOCK // 2 for found in wanted.values()):
            return ["! %d rules would be needed in one direction, and there is room for %d" % (
                max(len(found) for found in wanted.values()), BLOCK // 2)]
        word, name = LISTS[version]
        found = []
        if not entries or max(entries) < LAST or entries[max(entries)] != "permit ip any any":
            found += ["%s access-list %s" % (word, name), "   %d permit %s any any" % (LAST, word)]
        for side in wanted:
            if "   %s access-group %s %s" % (word, name, side) not in lines:
                found += ["interface <each uplink>", "   %s access-group %s %s" % (word, name, side)]
        return found

    def commands(self, change):
        """The lines that change one group: rules that go, then rules that come, each by its number."""
        lines = []
        for version, (word, name) in LISTS.items():
            there = {int(number): text for number, text in (change["found"] or {}).get("entries", {}).get(str(version), {}).items()}
            wanted = self._texts(change["wanted"], version) if change["wanted"] else {"in": [], "out": []}
            body = []
            for side, offset in _SIDE.items():
                numbers = range(block(change["drop"]) + offset, block(change["drop"]) + offset + BLOCK // 2)
                left, kept = list(wanted[side]), set()
                for number in sorted(number for number in there if number in numbers):
                    if there[number] in left:
                        left.remove(there[number])
                        kept.add(number)
                    else:
                        body.append((0, "no %d" % number))
                free = iter(number for number in numbers if number not in kept)
                body += [(1, "%d %s" % (next(free), self.dialect.entry(text, version))) for text in left]
            lines += ["%s access-list %s" % (word, name), *(line for _order, line in sorted(body, key=lambda pair: pair[0]))] if body else []
        return lines
