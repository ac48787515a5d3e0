# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A desired state that knows its future: what changes with time, decided beforehand, picked by time. Pure. PRIVATE to the collection.

`resolve` decides for each later instant too, and writes what differs then under `then`: a list of
`{"at": seconds, key: value …}`, oldest first, beside the keys themselves, of the node or of one of its
services. So a node that nobody reaches picks what is in force by its own clock and decides nothing.
"""
from __future__ import annotations

THEN = "then"


def timeline(instants, now, view):
    """`(what holds at now, [what differs from an instant on])`.

    :param instants: seconds since the epoch at which something may change; None and past ones do not count
    :param now: seconds since the epoch
    :param view: `view(time) -> {key: value}`, the same keys for any time
    """
    base = last = view(now)
    then = []
    for instant in sorted({one for one in instants if one is not None and one > now}):
        after = view(instant)
        changed = {key: value for key, value in after.items() if last[key] != value}
        if changed:
            then.append(dict(changed, at=instant))
        last = after
    return base, then


def _picked(document, now):
    later = document.get(THEN)
    if not later or later[0]["at"] > now:
        return document
    new = dict(document)
    new[THEN] = [entry for entry in later if entry["at"] > now]
    for entry in later:
        if entry["at"] <= now:
            new.update((key, value) for key, value in entry.items() if key != "at")
    return new


def at(desired, now):
    """The desired state as it is at `now`; the very same document where nothing has changed until then.

    What is before the desired state was made is what it was made for: nothing is known of the past.

    :param desired: as `resolve` made it
    :param now: seconds since the epoch
    """
    services = [_picked(service, now) for service in desired["services"]]
    picked = _picked(desired, now)
    if any(new is not old for new, old in zip(services, desired["services"])):
        picked = dict(picked, services=services)
    return picked


def instants(desired):
    """All instants at which something changes, ascending."""
    found = {entry["at"] for entry in desired.get(THEN) or ()}
    for service in desired["services"]:
        found.update(entry["at"] for entry in service.get(THEN) or ())
    return sorted(found)


def bound(service):
    """`{enforcement id: kind}` of what binds a service of a desired state."""
    found = {}
    hold = service.get("hold")
    if hold:
        found.update((number, hold["kind"]) for number in hold["enforcement_ids"])
    for kind, terms in (service.get("limits") or {}).items():
        found.update((number, kind) for number in terms["enforcement_ids"])
    return found


def passed(desired, now):
    """`[{"service", "enforcement_id", "kind", "at", "began"}]`: what the timeline ended, or began, until `now`.

    :returns: in order of time; `began` True for one that began and still binds
    """
    found = []
    for service in desired["services"]:
        then = service.get(THEN)
        if not then or then[0]["at"] > now:
            continue
        former, view = bound(service), service
        begun = {}
        for entry in then:
            if entry["at"] > now:
                break
            view = dict(view, **{key: value for key, value in entry.items() if key != "at"})
            present = bound(view)
            for number in sorted(former.keys() - present.keys()):
                begun.pop(number, None)
                found.append({"service": service["id"], "enforcement_id": number, "kind": former[number],
                              "at": entry["at"], "began": False})
            begun.update((number, (present[number], entry["at"])) for number in present.keys() - former.keys())
            former = present
        found += [{"service": service["id"], "enforcement_id": number, "kind": kind, "at": since, "began": True}
                  for number, (kind, since) in begun.items()]
    return sorted(found, key=lambda one: (one["at"], one["service"], one["enforcement_id"]))
