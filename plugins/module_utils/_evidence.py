# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node has counted for each service, since when, and samples of it. Pure. PRIVATE to the collection.

Packets are not timed one by one: a time is that of the pass that first saw a count grow, so it is late by at
most the interval between two passes. Samples are addresses and ports of packets, never what is in them.
"""
from __future__ import annotations

UNKNOWN = "unknown"  # the service counters of guests nobody knows are kept under
SAMPLES = 16         # kept for each service and control, the newest


def add(kept, live, owner):
    """Totals of what ports that went had counted and what those here count.

    :param kept: `{service: {evidence: {"packets", "bytes"}}}`; not changed
    :param live: `{port or MAC: {evidence: {"packets", "bytes"}}}`
    :param owner: `{port or MAC: service}`
    """
    totals = {sid: {name: dict(count) for name, count in found.items()} for sid, found in kept.items()}
    for port, found in live.items():
        mine = totals.setdefault(owner.get(port) or UNKNOWN, {})
        for name, count in found.items():
            total = mine.setdefault(name, {"packets": 0, "bytes": 0})
            total["packets"] += count["packets"]
            total["bytes"] += count["bytes"]
    return totals


def note_times(times, totals, now):
    """`{service: {evidence: {"packets", "first", "last"}}}` after looking at the totals.

    :param times: what the former look returned
    :param now: seconds since the epoch
    """
    noted = {}
    for sid, found in totals.items():
        former = times.get(sid, {})
        for name, count in found.items():
            packets, before = count["packets"], former.get(name)
            if not packets:
                continue
            grew = before is None or packets > before["packets"]
            noted.setdefault(sid, {})[name] = {
                "packets": packets, "first": before["first"] if before else now, "last": now if grew else before["last"]}
    return noted


def note_samples(kept, seen, owner, now):
    """`{service: {control: {sample: {"first", "last"}}}}` with what the rules have seen of late.

    :param kept: what the former look returned
    :param seen: `{port: {control: {sample: (packets, seconds ago)}}}`
    """
    noted = {sid: {control: dict(found) for control, found in controls.items()} for sid, controls in kept.items()}
    for port, controls in seen.items():
        for control, found in controls.items():
            mine = noted.setdefault(owner.get(port) or UNKNOWN, {}).setdefault(control, {})
            for sample, (_packets, ago) in found.items():
                at = now - ago
                former = mine.get(sample, {"first": at, "last": at})
                mine[sample] = {"first": min(former["first"], at), "last": max(former["last"], at)}
            for sample in sorted(mine, key=lambda sample: (mine[sample]["last"], sample))[:-SAMPLES]:
                del mine[sample]
    return noted


def with_times(totals, times):
    """Totals with first and last time beside packets and bytes."""
    return {sid: {name: dict(count, **{key: times[sid][name][key] for key in ("first", "last")})
                  if name in times.get(sid, {}) else dict(count) for name, count in found.items()}
            for sid, found in totals.items()}
