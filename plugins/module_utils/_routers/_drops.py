# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on routers: traffic between one service's addresses and remote prefixes. Pure: no I/O, no clock. PRIVATE.

A service's drops are one group of sets, whatever the number of its enforcements. On the router it has a handle that
follows from the service's id, so that nothing a customer chose reaches a router. A platform takes part when its driver
reads groups back in the one normal form (`plan_drops`) and writes a change of one; it is then listed in DROP_PLATFORMS.
"""
from __future__ import annotations

import hashlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import GuardError
from ansible_collections.hosting.aup.plugins.module_utils._fold import fold_limits
from ansible_collections.hosting.aup.plugins.module_utils._guard import check_enforcement, check_remotes

DROP_PLATFORMS = frozenset(("eos", "junos", "linux", "routeros", "vyos"))
"""Platforms with a driver that carries drops; the others say so."""
HANDLE = re.compile(r"d[0-9a-f]{12}")
MAX_REMOTES = 100000
_KEY = "drop %s"


def handle(service):
    """What a service's group is called on routers: `d` and 12 hex digits."""
    return "d" + hashlib.sha256(service.encode("utf-8")).hexdigest()[:12]


def drop_key(service):
    """What a service's group is called in plans, states and results, beside prefixes and ports."""
    return _KEY % handle(service)


def is_drop(state):
    """Whether a state or change of a plan is of a drop."""
    return state["prefix"].startswith("drop ")


def locals_of(nics):
    """All addresses and prefixes that are the service's alone: those of its NICs, floating and routed ones."""
    own = {text for nic in nics for key in ("addresses", "prefixes", "floating") for text in nic.get(key) or ()}
    own -= {entry["address"] for nic in nics for entry in nic.get("shared") or ()}
    networks = [ipaddress.ip_network(text) for text in own]
    return [str(network) for version in (4, 6)
            for network in ipaddress.collapse_addresses(n for n in networks if n.version == version)]


def _refusal(service, code, message, remedy):
    return {"service": service, "prefix": drop_key(service), "code": code, "message": message, "remedy": remedy}


def _ends(enforcements):
    """`{remote prefix: seconds since the epoch or None}`: how long each that somebody asked for is to last."""
    found = {}
    for one in enforcements:
        for text in one["options"]["sources"]:
            before = found.get(text, 0)
            found[text] = None if before is None or one["ends_at"] is None else max(before, one["ends_at"])
    return found


def desired_drops(policy_for, catalogue, router, addresses, current):
    """What one router is to drop.

    :param policy_for: `f(key) -> Policy`
    :param addresses: those of nodes and what routers protect
    :param current: `{service: [enforcements of kind drop in force]}`
    :returns: `{"drops": […], "refused": […]}`; a drop is `{"key", "service", "local", "in", "out", "until_at", "ends",
        "enforcement_ids", "cases", "clause", "starts_at"}`: `in` remote prefixes the service does not hear from, `out`
        those it can't reach, none within another; `ends` `{remote prefix: time or None}` for platforms whose entries
        go by themselves (a prefix of `in` or `out` is always one of them)
    """
    drops, refused, taken, room = [], [], {}, router["router"].get("max_drop_prefixes", MAX_REMOTES)
    order = sorted(current, key=lambda sid: (min(e["starts_at"] for e in current[sid]), sid))
    for sid in order:
        mine = current[sid]
        newest = max(mine, key=lambda e: (e["starts_at"], e["id"]))
        nics, policy = newest["snapshot"]["nics"], policy_for(newest["snapshot"]["policy"])
        terms, local = fold_limits(mine)["drop"], locals_of(nics)
        other = next((taken[text] for text in local if text in taken), None)
        try:
            check_enforcement(policy, {"id": sid, "nics": nics}, catalogue["prefixes"], "drop", addresses, local)
            check_remotes(policy, terms["in"] + terms["out"], catalogue["prefixes"], addresses)
        except GuardError as exc:
            refused.append(_refusal(sid, exc.code, exc.message, exc.remedy))
            continue
        count = len(terms["in"]) + len(terms["out"])
        if other:
            refused.append(_refusal(sid, "guard_anothers_address", "what is dropped for %s is left out: service %s has an address of it."
                                    % (sid, other), "Lift what was opened for the service that no longer has the address."))
        elif count > room:
            refused.append(_refusal(
                sid, "router_cap", "%d remote prefixes for %s are not dropped: more than %d in all on this router (max_drop_prefixes)."
                % (count, sid, router["router"].get("max_drop_prefixes", MAX_REMOTES)),
                "Lift what is no longer needed, or raise the cap of the router in the catalogue."))
        else:
            room -= count
            taken.update((text, sid) for text in local)
            drops.append({
                "key": handle(sid), "service": sid, "local": local, "in": terms["in"], "out": terms["out"],
                "until_at": terms["until_at"], "ends": _ends(mine), "enforcement_ids": terms["enforcement_ids"],
                "cases": sorted({e["case_id"] for e in mine}), "clause": newest["clause"],
                "starts_at": min(e["starts_at"] for e in mine)})
    return {"drops": sorted(drops, key=lambda d: d["key"]), "refused": refused}


def _lines(group):
    return [] if group is None else ["%s %s" % (side, text) for side in ("local", "in", "out") for text in group[side]]


def plan_drops(desired, observed, objections=()):
    """Changes, states, notes of drops, in the shape of those of routes (`prefix` is `drop <handle>`).

    :param observed: `{handle: {"local", "in", "out", "whole"}}` of every group that carries our mark: prefixes in the
        order of `_fold.outermost`; `whole`: what makes the router use them is there, and nothing else is in them. More
        keys are the driver's own and come back to it with the change
    :param objections: `{handle: configuration lines}` that drops need and the router lacks; what acts already stays
    :returns: `{"changes", "states", "left", "notes", "refused"}`; a change has `drop` (the handle), `found` (as observed, or None),
        `wanted` (the drop, or None when it goes), `before` (lines for people); `last`: nothing of ours remains after it
    """
    wanted = {drop["key"]: drop for drop in desired["drops"]}
    known = {entry["key"]: entry["service"] for entry in desired["known_drops"]}
    changes, states, left, strays, refused, objections = [], [], [], [], [], dict(objections)
    for key in sorted(set(wanted) | set(observed)):
        drop, found, name = wanted.get(key), observed.get(key), _KEY % key
        if drop is not None:
            acts = found is not None and found["whole"] and all(found[side] == drop[side] for side in ("local", "in", "out"))
            if not acts and key in objections:
                refused.append(_refusal(drop["service"], "drop_missing", "%s is not set: the router is not ready for it." % name,
                                        "Add these lines to it, then run again:\n" + "\n".join(objections[key])))
                left += [{"prefix": name, "service": drop["service"]}] if found is not None else []
                continue
            if not acts:
                changes.append({"action": "add", "prefix": name, "service": drop["service"], "drop": key, "found": found,
                                "wanted": drop, "before": _lines(found)})
            states.append({"prefix": name, "service": drop["service"], "in_force": acts, "announced": True, "configured": acts,
                           "why": None if acts else "its sets are not there as wanted"})
        elif key in known:
            left.append({"prefix": name, "service": known[key]})
            changes.append({"action": "remove", "prefix": name, "service": known[key], "drop": key, "found": found,
                            "wanted": None, "before": _lines(found)})
        else:
            strays.append(key)
    notes = ["%d drops carry our mark but are on no record (%s%s): left as they are."
             % (len(strays), ", ".join(strays[:5]), ", …" if len(strays) > 5 else "")] if strays else []
    if changes and not wanted and not strays:
        changes[-1]["last"] = True
    return {"changes": changes, "states": states, "left": left, "notes": notes, "refused": refused}


def known_drops(enforcements):
    """`[{"key", "service"}]` of the groups that may lie on a router for these enforcements."""
    services = sorted({e["service"] for e in enforcements if e["kind"] == "drop"})
    return [{"key": handle(sid), "service": sid} for sid in services]
