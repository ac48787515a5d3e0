# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of a policy binds a customer when. Pure: no I/O, no clock. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration, parse_iso


def effective_at(policy):
    """When a version comes into force: the first second of its day, UTC."""
    return parse_iso(policy.effective)


def _promised(policy, name):
    text = (policy.document.get("amendments") or {}).get(name)
    return parse_duration(text) if text else 0


def announced_seconds(policy):
    """How long before a material change this version promises to tell of it."""
    return _promised(policy, "announced")


def _kept(versions, terminated_on):
    """[(from, until, version)]: prior versions that a customer keeps who terminated over a change.

    Over a change is who terminates after it could have been announced and before the grace that the prior version
    promises is over, counted from the change. The grace itself is counted from the termination.
    """
    if terminated_on is None:
        return []
    at = parse_iso(terminated_on)
    found = []
    for prior, new in zip(versions, versions[1:]):
        grace, begins = _promised(prior, "grace"), effective_at(new)
        if grace and begins - announced_seconds(prior) <= at <= begins + grace:
            found.append((max(at, begins), at + grace, prior))
    return found


def _ordered(versions):
    return sorted(versions, key=lambda policy: (effective_at(policy), policy.key))


def version_at(versions, time, terminated_on=None):
    """The version that binds at a time: the newest in force, the first before any is.

    :param versions: Policies of one name, at least one
    :param terminated_on: the day the customer terminated (`2026-12-01`), or None
    """
    if len(versions) == 1:
        return versions[0]
    ordered = _ordered(versions)
    for begins, ends, prior in _kept(ordered, terminated_on):
        if begins <= time < ends:
            return prior
    return [ordered[0], *(policy for policy in ordered if effective_at(policy) <= time)][-1]


def changes(versions, terminated_on=None):
    """The times at which another version may bind."""
    if len(versions) < 2:
        return []
    ordered = _ordered(versions)
    kept = [time for begins, ends, _prior in _kept(ordered, terminated_on) for time in (begins, ends)]
    return sorted({*map(effective_at, ordered), *kept})
