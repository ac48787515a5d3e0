# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows of transfer, and what a sample adds to them. Pure. PRIVATE to the collection.

A window is 30 days of 86,400 seconds, in UTC, on from the service's own day: there are no months in it and no summer
time, so a service that began on the 29th, 30th or 31st is like any other, and no window is an hour longer.
"""

from __future__ import annotations

WINDOW = 30 * 86400
AHEAD = 300
"""Seconds that a node's clock may be ahead of the controller's before its samples are refused."""
LARGEST = (1 << 63) - 1


def day(moment):
    """Midnight (UTC) of the day of a moment."""
    return moment - moment % 86400


def window(anchor, moment):
    """`(begin, end)` of the window that a moment lies in; the end is the next one's begin.

    :param anchor: a moment of the service's own day
    """
    begin = day(anchor)
    begin += (moment - begin) // WINDOW * WINDOW
    return begin, begin + WINDOW


def judge(last, taken_at, received, sent, metered):
    """What a sample of a counter adds to what was counted.

    :param last: `(taken_at, received, sent)` of the sample counted last, or None for a counter never seen
    :param metered: whether its service was metered before: then a new counter counts from zero; the very first
        sample of a service counts nothing, because nobody knows since when its counter has run
    :returns: `("count", received, sent)`, `("same", 0, 0)`, or `("refused", why, None)` with why `older` or `decreased`
    """
    if last is None:
        return ("count", received, sent) if metered else ("count", 0, 0)
    if (received, sent) == last[1:] and taken_at == last[0]:
        return "same", 0, 0
    if taken_at < last[0]:
        return "refused", "older", None
    if received < last[1] or sent < last[2]:
        return "refused", "decreased", None
    return "count", received - last[1], sent - last[2]


def used(received, sent, direction):
    """The bytes that count by the policy's direction."""
    return sent if direction == "outbound" else received + sent


def passed(used_bytes, allowance, thresholds):
    """The highest threshold (percent) that was reached, or 0. Whole numbers only."""
    return max((one for one in thresholds if used_bytes * 100 >= allowance * one), default=0)


def bytes_text(count):
    """`1.234 TB (1234000000000 bytes)`: decimal, cut and not rounded up."""
    return "%d.%03d TB (%d bytes)" % (count // 10**12, count % 10**12 // 10**9, count)
