# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates and shares in the server's units. Pure. PRIVATE to the collection.

`rate` of a NIC is MiB/s, each direction by itself; `cpulimit` is processors. Small numbers are written out: the server
refuses an exponent.
"""
from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation

_MIB_BITS = Decimal(8 * 1024 * 1024)
_PLACES = Decimal("1e-10")
LEAST_PROCESSORS = Decimal("0.01")  # less is below the kernel's smallest quota


def plain(number):
    """A decimal without exponent and without trailing zeros."""
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def rate_text(rate_bps, nics=1):
    """`rate` for each of a guest's NICs, so that together they have `rate_bps` bit/s.

    10 Mbit/s on one NIC is 1.1920928955. Rounded down: never more than asked for.
    """
    share = Decimal(rate_bps) / nics / _MIB_BITS
    return plain(share.quantize(_PLACES, rounding=ROUND_DOWN))


def number(text):
    """A number the server shows as text or as number, as Decimal; None for none or what isn't one."""
    try:
        return None if text is None else Decimal(str(text))
    except InvalidOperation:
        return None


def processors_text(terms, processors):
    """`cpulimit` for a throttle of a guest with this many processors.

    :param terms: `percent` of them, or None, and `millicores`, if asked for: the tighter counts
    """
    share = Decimal(terms.get("percent") or 100) * processors / 100
    if terms.get("millicores"):
        share = min(share, Decimal(terms["millicores"]) / 1000)
    return plain(max(LEAST_PROCESSORS, share.quantize(Decimal("0.0001"))))


def equal(one, other):
    """Whether two texts are the same number; None equals only None and 0."""
    return (number(one) or Decimal(0)) == (number(other) or Decimal(0))


def plain_size(gibibytes):
    """A disk's size in GiB, as text without exponent."""
    return plain(Decimal(str(gibibytes)))
