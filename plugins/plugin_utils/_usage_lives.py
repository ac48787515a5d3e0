# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters that begin anew without saying so, made into one that only grows. Pure. PRIVATE to the collection.

A Proxmox VE cluster shows each guest's bytes since its process was started: they begin at zero after a stop and start, and
after a migration. Nothing names the process; its age does (`uptime`), which only ever grows while it lives. Asked of
another node, an answer may be some seconds old, of before a start even; after a migration the guest may be shown at its new place with the
numbers of the old one. Nothing is counted on the word of a place or a clock alone, so that nothing is counted twice: in doubt
it is left out, in the customer's favour.
"""
from __future__ import annotations

STALE = 60
"""Seconds by which an answer may be older than the one before."""
OLDEST = 600
"""Seconds by which an age may be behind without a new start being certain, where a clock was set meanwhile."""
SLACK = 60
HOUR = 3600
"""Longest time for which an age that is too high isn't believed; after that it was the clock that was set back."""


def follow(last, now):
    """What a look at a guest's counters adds.

    :param last: the document this returned for the look counted before, or None
    :param now: `{"service", "place", "uptime", "at", "received", "sent"}`: which node of the cluster, the age in seconds, when
        it was read by the controller's clock, and the guest's bytes
    :returns: `(document, verdict)`: the document to keep has in `counted` two numbers that only grow, to be counted as a
        counter's; verdict is `first`, `grown`, `restarted` (counted from zero), `lowered` (they went back while it ran: a
        NIC was plugged anew; nothing is counted), or `stale` (no younger than what was seen: left as it was)
    """
    seen = {key: now[key] for key in ("service", "place", "uptime", "at", "received", "sent")}
    raw = [now["received"], now["sent"]]
    if last is None:
        return dict(seen, counted=raw), "first"
    counted = last["counted"]
    if last["service"] != now["service"]:
        return dict(seen, counted=counted), "first"
    # The place says nothing: an answer may have the numbers of the old one.
    elapsed, back = now["at"] - last["at"], last["uptime"] - now["uptime"]
    if elapsed < 0:
        return last, "stale"
    growth = [raw[0] - last["received"], raw[1] - last["sent"]]
    if back > STALE and (back > OLDEST or now["uptime"] <= elapsed + SLACK):
        verdict, growth = "restarted", raw
    elif back >= 0 or (-back > elapsed + SLACK and elapsed <= HOUR):
        return last, "stale"  # also what a former process had, shown once more after it was started anew
    elif min(growth) >= 0:
        verdict = "grown"
    else:
        verdict, growth = "lowered", [0, 0]
    return dict(seen, counted=[counted[0] + growth[0], counted[1] + growth[1]]), verdict
