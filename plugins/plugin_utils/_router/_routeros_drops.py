# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on RouterOS: three address lists and two raw rules for each service and family. Pure. PRIVATE to the collection.

Every remote prefix that has an end is entered with a `timeout` to that end: it goes by itself, whatever becomes of the
controller. Such entries are not kept over a restart; the next run enters them again. The operator prepares one jump to the chain
`aup-drops` before every other rule of raw `prerouting`, where both ways pass before connections are tracked.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers import HANDLE
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._routeros_rows import MENUS, network_of, on, spelled
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

CHAIN = "aup-drops"
RAW = "chain,action,jump-target,src-address-list,dst-address-list,comment,disabled"
LISTS, WHICH = "list,address,timeout,comment,disabled", 'list~"^aup-"'  # those of ports too
SIDES = ("local", "in", "out")
SLACK = 120  # seconds that what is left of an entry may differ from what it is to last
LONGEST = 35 * 604800  # RouterOS counts in 32 bits of hundredths
_KEY = HANDLE.pattern
_NAME = re.compile(r"aup-(%s)-(local|in|out)" % _KEY)
_MARK = r'comment="aup:%s"' % _KEY
_LASTS = r"(?:[1-9][0-9]*d)?(?:[1-9][0-9]*h)?(?:[1-9][0-9]*m)?(?:[1-9][0-9]*s)?"
_PREFIXES = {4: _gate.PREFIX4, 6: _gate.PREFIX6}
GRAMMAR = tuple(re.compile(text) for version, menu in MENUS.items() for text in (
    r"%s/address-list/add list=aup-%s-(?:local|in|out) address=%s(?: timeout=%s)? %s" % (menu, _KEY, _PREFIXES[version], _LASTS, _MARK),
    r'%s/address-list/remove \[find where list="aup-%s-(?:local|in|out)"(?: address="(?:%s|%s)")?\]' % (
        menu, _KEY, _PREFIXES[version], _gate.IPV4),
    r"%s/raw/add chain=%s action=drop src-address-list=aup-(%s)-(?:in|local) dst-address-list=aup-(?:%s)-(?:local|out) %s" % (
        menu, CHAIN, _KEY, _KEY, _MARK),
    r'%s/raw/remove \[find where chain="%s" %s\]' % (menu, CHAIN, _MARK)))
_UNTIL = re.compile(r" until=([0-9]{1,12}) ")
_TIME = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+):(\d+):(\d+)|(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(?:\.\d+)?s)?)")


def seconds(text):
    """Seconds of a time as RouterOS prints it: `1d02:03:04` or `1d2h3m4s`.

    :raises NotUnderstood: another form
    """
    found = _TIME.fullmatch(text)
    if not found or not text:
        raise NotUnderstood("the time %s" % ascii(text)[:40])
    units = (604800, 86400, 3600, 60, 1, 3600, 60, 1)
    return sum(int(number or 0) * unit for number, unit in zip(found.groups(), units, strict=True))


def lasting(count):
    """A time as RouterOS takes it."""
    count, parts = max(int(count), 1), []
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        parts += ["%d%s" % (count // unit, letter)] if count // unit else []
        count %= unit
    return "".join(parts)


def at_last(line, now):
    """A planned line as it is sent: what is left until its end is counted now, so that plans are the same a minute later."""
    found = _UNTIL.search(line)
    if not found:
        return line
    return "%s timeout=%s %s" % (line[:found.start()], lasting(min(int(found.group(1)) - now, LONGEST)), line[found.end():])


def _rules(key):
    return {("aup-%s-in" % key, "aup-%s-local" % key), ("aup-%s-local" % key, "aup-%s-out" % key)}


def _version(text):
    return 6 if ":" in text else 4


def commands(change):
    """The lines that change one service's group: only the entries that differ; rules come last and go first."""
    key, found, drop = change["drop"], change["found"] or {}, change["wanted"]
    if not HANDLE.fullmatch(key):
        raise ValueError("handle %r" % (key,))
    there, rules, lines = found.get("entries", {}), found.get("rules", {}), []
    mark = 'comment="aup:%s"' % key
    for version, menu in MENUS.items():
        if rules.get(version) and (drop is None or rules[version] != sorted(_rules(key))):
            lines.append('%s/raw/remove [find where chain="%s" %s]' % (menu, CHAIN, mark))
    for version, menu in MENUS.items():
        for side in SIDES:
            mine = there.get((version, side), {})
            name = "aup-%s-%s" % (key, side)
            if drop is None:
                lines += ['%s/address-list/remove [find where list="%s"]' % (menu, name)] if mine else []
                continue
            wanted = [text for text in drop[side] if _version(text) == version]
            kept = {text for text in mine if mine[text] and text in wanted}
            lines += ['%s/address-list/remove [find where list="%s" address="%s"]' % (menu, name, spelled(text))
                      for text in sorted(mine) if text not in kept]
            for text in wanted:
                if text not in kept:
                    end = None if side == "local" else drop["ends"].get(text)
                    until = "" if end is None else " until=%d" % end
                    lines.append("%s/address-list/add list=%s address=%s%s %s" % (menu, name, ipaddress.ip_network(text), until, mark))
    for version, menu in MENUS.items() if drop is not None else ():
        if rules.get(version) != sorted(_rules(key)):
            lines += ["%s/raw/add chain=%s action=drop src-address-list=%s dst-address-list=%s %s" % (menu, CHAIN, source, target, mark)
                      for source, target in sorted(_rules(key))]
    return lines


def lacking(raw, fast):
    """What stands in the way of drops on this router, or None.

    :param raw: `{version: rows}` of raw rules
    :param fast: rows of enabled rules that fasttrack
    """
    for version, menu in MENUS.items():
        enabled = [row for row in raw[version] if row.get("chain") == "prerouting" and not on(row)]
        if not enabled or (enabled[0].get("action"), enabled[0].get("jump-target")) != ("jump", CHAIN):
            return "no jump before every other raw rule; add: %s/raw/add chain=prerouting action=jump jump-target=%s place-before=0" % (
                menu, CHAIN)
    return "a rule fasttracks connections past the firewall" if fast else None


def parse(raw, lists, drops, whole, now):
    """`{handle: group}` as `_drops.plan_drops` takes it; an entry that ends at another time than it is to is none of its side.

    :param raw: `{version: rows}` of raw rules
    :param lists: `{version: rows}` of address lists
    :param drops: what is wanted
    :raises NotUnderstood: a row of ours of unknown form
    """
    wanted = {drop["key"]: drop for drop in drops}
    groups = {}

    def group(key):
        return groups.setdefault(key, {"entries": {}, "rules": {}})

    for version in MENUS:
        for row in lists[version]:
            match = _NAME.fullmatch(str(row.get("list", "")))
            if match:
                key, side = match.groups()
                text = network_of(row, version)
                left = seconds(str(row["timeout"])) if row.get("timeout") not in (None, "") else None
                end = wanted[key]["ends"].get(text) if key in wanted and side != "local" else None
                right = left is None if end is None else left is not None and (
                    abs(now + left - end) <= SLACK or end - now > LONGEST - SLACK)
                group(key)["entries"].setdefault((version, side), {})[text] = right
        for row in raw[version]:
            mark = re.fullmatch(r"aup:(%s)" % _KEY, str(row.get("comment", "")))
            if row.get("chain") == CHAIN and mark:
                pair = (row.get("src-address-list"), row.get("dst-address-list"))
                good = row.get("action") == "drop" and not on(row)
                group(mark.group(1))["rules"].setdefault(version, []).append(pair if good else ("", ""))
    for key, found in groups.items():
        found["rules"] = {version: sorted(tuple(str(part) for part in pair) for pair in pairs) for version, pairs in found["rules"].items()}
        for side in SIDES:
            found[side] = outermost(text for version in MENUS for text, right in found["entries"].get((version, side), {}).items() if right)
        found["whole"] = whole and all(found["rules"].get(version) == sorted(_rules(key)) for version in MENUS) and all(
            right for rows in found["entries"].values() for right in rows.values())
    return groups
