# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What time it is, and whether that can be believed. PRIVATE to the collection.

The kernel says whether something disciplines its clock (adjtimex(2), STA_UNSYNC): false after a boot until
NTP has an answer, and false again as soon as somebody sets the clock by hand. Until then nothing ends. While
this program has seen a disciplined clock since it started, it goes on from there by CLOCK_BOOTTIME, which
nobody can set and which counts the time a machine was suspended.
"""
from __future__ import annotations

import ctypes
import time

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
# What a crystal is off at most while nothing disciplines it. Subtracted: late by a little is better than early.
_DRIFT = 0.0002


class _Timex(ctypes.Structure):
    """`struct timex` up to `status`, and room for the rest (adjtimex(2))."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256),
    )


def kernel_is_synchronised():
    """Whether the kernel takes its clock for disciplined; False where it can't be asked."""
    timex = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return 0 <= answer != _TIME_ERROR and not timex.status & _STA_UNSYNC


def boot_seconds():
    """Seconds since boot, those asleep included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The node's clock.

    :param trusted: take the clock as it is, for hosts without NTP
    :param wall: seconds since the epoch
    :param elapsed: seconds that nobody can set
    :param synchronised: whether the wall clock is disciplined
    """

    def __init__(self, trusted=False, wall=time.time, elapsed=boot_seconds, synchronised=kernel_is_synchronised):
        self._trusted, self._wall, self._synchronised = trusted, wall, synchronised
        self.elapsed = elapsed
        self._anchor = None  # (wall, elapsed) when the clock was last seen disciplined
        self.state = "unsynchronised"

    def moment(self):
        """Seconds since the epoch, or None while that can't be told; `state` says in a word how it is known."""
        if self._trusted:
            self.state = "trusted"
            return self._wall()
        if self._synchronised():
            self.state = "synchronised"
            self._anchor = self._wall(), self.elapsed()
            return self._anchor[0]
        if self._anchor is None:
            self.state = "unsynchronised"
            return None
        self.state = "held over"
        wall, then = self._anchor
        return wall + (self.elapsed() - then) * (1 - _DRIFT)
