# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on Junos routers: prefix lists of ours, and terms of ours in a filter that the operator made and bound. Pure. PRIVATE.

The filters are `aup-drop` (inet) and `aup-drop6` (inet6), with a last term `rest` that lets everything else pass. Each
service's group has prefix lists `aup-<handle>-<local|in|out><4|6>` and terms `aup-<handle>-<in|out>` before `rest`. A term
is never left without its conditions, as it would then fit every packet: it goes as a whole.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers import HANDLE
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _filters, _gate

FILTERS = {4: ("inet", "aup-drop"), 6: ("inet6", "aup-drop6")}
_H = r"aup-%s" % HANDLE.pattern
_LIST = r"policy-options prefix-list %s-(?:local|in|out)[46]" % _H
_FILTER = r"firewall family (?:inet filter aup-drop|inet6 filter aup-drop6) term %s-(?:in|out)" % _H
_PREFIX = r"(?:%s|%s)" % (_gate.PREFIX4, _filters.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"(?:set|delete) %s %s" % (_LIST, _PREFIX), r"delete %s" % _LIST, r"delete %s" % _FILTER,
    r"set %s from (?:source|destination)-prefix-list %s-(?:local|in|out)[46]" % (_FILTER, _H),
    r"set %s then (?:discard|count %s-(?:in|out))" % (_FILTER, _H), r"insert %s before term rest" % _FILTER,
))
_NAME = re.compile(r"aup-(%s)-(local|in|out)([46])" % HANDLE.pattern)
_TERM = re.compile(r"aup-(%s)-(in|out)" % HANDLE.pattern)


def _of(texts, version):
    return [text for text in texts if ipaddress.ip_network(text).version == version]


def expected(drop):
    """({list: prefixes}, {"<family> <term>": lines}) that one drop is to have."""
    lists, terms, stem = {}, {}, "aup-" + drop["key"]
    if not HANDLE.fullmatch(drop["key"]):
        raise ValueError("handle %s" % ascii(drop["key"][:40]))
    for version in (4, 6):
        local = _of(drop["local"], version)
        for side in ("in", "out"):
            remote = _of(drop[side], version)
            if not local or not remote:
                continue
            lists["%s-local%d" % (stem, version)] = sorted(local)
            lists["%s-%s%d" % (stem, side, version)] = sorted(remote)
            ends = [("source", side), ("destination", "local")] if side == "in" else [("source", "local"), ("destination", side)]
            terms["%d %s-%s" % (version, stem, side)] = sorted(
                ["from %s-prefix-list %s-%s%d" % (which, stem, what, version) for which, what in ends]
                + ["then count %s-%s" % (stem, side), "then discard"])
    return lists, terms


def look(policies, firewall, interfaces, drops):
    """(groups, objections) for `_drops.plan_drops`.

    :param policies: and the next two: active lines of these parts of the configuration, without `set`
    :param drops: the drops wanted
    """
    lists, order = {}, {4: [], 6: []}
    for words in map(str.split, policies):
        if words[1:2] == ["prefix-list"] and len(words) == 4 and _NAME.fullmatch(words[2]):
            lists.setdefault(words[2], []).append(words[3])
    terms = {4: {}, 6: {}}
    for words in map(str.split, firewall):
        for version, (family, name) in FILTERS.items():
            if words[1:5] == ["family", family, "filter", name] and words[5:6] == ["term"] and len(words) > 6:
                if words[6] not in terms[version]:
                    order[version].append(words[6])
                terms[version].setdefault(words[6], []).append(" ".join(words[7:]))
    groups = {}
    for name, prefixes in lists.items():
        handle = _NAME.fullmatch(name).group(1)
        groups.setdefault(handle, {"lists": {}, "terms": {}, "late": []})["lists"][name] = sorted(prefixes)
    for version, found in terms.items():
        end = order[version].index("rest") if "rest" in order[version] else len(order[version])
        for term, said in found.items():
            match = _TERM.fullmatch(term)
            if not match:
                continue
            group = groups.setdefault(match.group(1), {"lists": {}, "terms": {}, "late": []})
            group["terms"]["%d %s" % (version, term)] = sorted(said)
            group["late"] += ["%d %s" % (version, term)] if order[version].index(term) > end else []
    wanted = {drop["key"]: drop for drop in drops}
    for handle, group in groups.items():
        drop = wanted.get(handle)
        group["whole"] = bool(drop) and not group["late"] and (group["lists"], group["terms"]) == expected(drop)
        for side in ("local", "in", "out"):
            group[side] = drop[side] if group["whole"] else outermost(
                text for name, prefixes in group["lists"].items() if _NAME.fullmatch(name).group(2) == side for text in prefixes)
    objections = {}
    for drop in drops:
        missing = [line for version in (4, 6) for line in _missing(drop, version, terms[version], order[version], interfaces)]
        if missing:
            objections[drop["key"]] = missing
    return groups, objections


def _missing(drop, version, terms, order, interfaces):
    """Lines that a drop needs and the router lacks, in one family."""
    family, name = FILTERS[version]
    sides = [side for side in ("in", "out") if _of(drop["local"], version) and _of(drop[side], version)]
    if not sides:
        return []
    lines = []
    if not order or order[-1] != "rest" and not _TERM.fullmatch(order[-1]) or terms.get("rest") not in (["then accept"], ["then next term"]):
        lines.append("set firewall family %s filter %s term rest then accept" % (family, name))
    for side in sides:
        word = {"in": "input", "out": "output"}[side]
        if not any(" family %s filter %s%s %s " % (family, word, more, name) in line + " " for line in interfaces for more in ("", "-list")):
            lines.append("set interfaces <each uplink> unit <n> family %s filter %s %s" % (family, word, name))
    return lines


def commands(change):
    """The lines that change one group: what must not fit any more goes first, lists before the terms that name them."""
    found = change["found"] or {"lists": {}, "terms": {}, "late": []}
    lists, terms = expected(change["wanted"]) if change["wanted"] else ({}, {})
    lines = ["delete " + _path(term) for term in sorted(found["terms"]) if terms.get(term) != found["terms"][term]]
    for name, prefixes in lists.items():
        there = found["lists"].get(name, [])
        path = "policy-options prefix-list %s " % name
        lines += ["set " + path + text for text in prefixes if text not in there]
        lines += ["delete " + path + text for text in there if text not in prefixes]
    for term, said in terms.items():
        new = found["terms"].get(term) != said
        lines += ["set %s %s" % (_path(term), text) for text in said] if new else []
        lines += ["insert %s before term rest" % _path(term)] if new or term in found["late"] else []
    return lines + ["delete policy-options prefix-list " + name for name in sorted(found["lists"]) if name not in lists]


def _path(term):
    version, name = term.split(" ")
    return "firewall family %s filter %s term %s" % (*FILTERS[int(version)], name)
