# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times and durations. Inside: whole seconds since the epoch, UTC. At the edge: ISO 8601. PRIVATE to the collection."""
from __future__ import annotations

import re
from datetime import datetime, timezone

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_DURATION = re.compile(r"([0-9]{1,6})(m|h|d)")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


def parse_duration(text):
    """Seconds in a duration such as `30m`, `48h` or `7d`.

    Months and years are not units here: their length depends on when they begin.

    :raises InputError: without a unit, with another unit, zero or negative
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    seconds = int(match.group(1)) * _SECONDS[match.group(2)] if match else 0
    if seconds <= 0:
        raise InputError(
            "duration %r is not a whole number above zero followed by m, h or d." % (text,),
            target="duration", remedy="Write it like 30m, 48h or 7d.",
        )
    return seconds


def duration_text(seconds):
    """The shortest exact form of a duration: 172800 is `48h`, 5400 is `90m`. Whole minutes only."""
    for unit in ("h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return "%d%s" % (seconds // _SECONDS[unit], unit)
    return "%ds" % seconds


def iso(epoch):
    """`2026-11-21T01:39:00Z` for seconds since the epoch; None stays None."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text):
    """Seconds since the epoch of an ISO 8601 time that names its zone, or of a plain date (midnight UTC).

    :raises InputError: if it is neither, or names no zone
    """
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp())
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except (ValueError, TypeError, AttributeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            "time %r is not an ISO 8601 time with its zone." % (text,),
            target="time", remedy="Write it like 2026-11-21T01:39:00Z.",
        )
    return int(moment.timestamp())
