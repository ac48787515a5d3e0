# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several enforcements on one service amount to. Pure. PRIVATE to the collection.

A service's state is its baseline plus this fold of the enforcements in force, so they may begin
and end in any order. Holds exclude one another: the strictest is in force. Limits are added up,
each to the tightest that any case asks for.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

# Later is stricter. `terminate` holds like a suspension without end: powered off, isolated, disks kept.
HOLDS = ("quarantine", "suspend", "terminate")
POWER_ORDER = ("pause", "shutdown", "destroy")
LIMITS = ("bandwidth_cap", "cpu_throttle", "drop", "io_throttle", "null_route", "port_block", "smtp_block")
KINDS = HOLDS + LIMITS

_RATE = re.compile(r"([1-9][0-9]{0,6}) ?(k|M|G)bit/s")
_CORES = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,2}))? ?cores?")
_MOST_CORES = 1024
_FACTOR = {"k": 10**3, "M": 10**6, "G": 10**9}  # decimal: 10 Mbit/s is 10,000,000 bit/s


def rate_bps(text):
    """Bits per second of a rate such as `10 Mbit/s`.

    :raises InputError: another unit, or none
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError("rate %r is not a whole number of kbit/s, Mbit/s or Gbit/s." % (text,), target="rate",
                         remedy="Write it like 10 Mbit/s.")
    return int(match.group(1)) * _FACTOR[match.group(2)]


def share_of_processors(text):
    """What a share of a guest's processors says: `20%` is of all it has, `0.5 cores` is that much time of the host's.

    :returns: `("percent", 20)` or `("millicores", 500)`
    :raises InputError: neither a whole percentage from 1% to 100% nor 0.01 to 1024 cores
    """
    match = re.fullmatch(r"([0-9]{1,3})%", text) if isinstance(text, str) else None
    if match is not None and 1 <= int(match.group(1)) <= 100:
        return "percent", int(match.group(1))
    match = _CORES.fullmatch(text) if isinstance(text, str) else None
    millicores = int(match.group(1)) * 1000 + int((match.group(2) or "").ljust(3, "0")) if match else 0
    if not 10 <= millicores <= _MOST_CORES * 1000:
        raise InputError("share %r is neither a whole percentage from 1%% to 100%% nor 0.01 to %d cores." % (text, _MOST_CORES),
                         target="share", remedy="Write it like 20%, or like 0.5 cores.")
    return "millicores", millicores


def in_force(enforcement, now):
    """Whether an enforcement binds its service at `now`: begun, not lifted, its end not reached.

    One that was seen on a node has begun, also where the clock of another controller is ahead of this one's.
    """
    if over(enforcement, now):
        return False
    return enforcement["status"] != "opened" or enforcement["starts_at"] <= now


def over(enforcement, now):
    """Whether an enforcement will never bind its service again: lifted, or its end reached."""
    if enforcement["status"] not in ("opened", "active"):
        return True
    return enforcement["ends_at"] is not None and enforcement["ends_at"] <= now


def _common(parts):
    ends = [e["ends_at"] for e in parts]
    return {"enforcement_ids": sorted(e["id"] for e in parts), "until_at": None if None in ends else max(ends)}


def fold_hold(enforcements):
    """The one hold that these enforcements amount to, or None.

    The strictest kind wins; among equals the strictest power and the latest end (None is later
    than any). The weaker ones are named too: they take over when the strictest ends.
    """
    holds = [e for e in enforcements if e["kind"] in HOLDS]
    if not holds:
        return None
    kind = max((e["kind"] for e in holds), key=HOLDS.index)
    strictest = [e for e in holds if e["kind"] == kind]
    power = None
    if kind == "terminate":
        power = "shutdown"
    elif kind == "suspend":
        power = max((e["options"].get("power", POWER_ORDER[0]) for e in strictest), key=POWER_ORDER.index)
    return dict(_common(strictest), kind=kind, power=power, enforcement_ids=sorted(e["id"] for e in holds))


def _least(values):
    values = [value for value in values if value is not None]
    return min(values) if values else None


def _port_blocks(parts):
    blocks = {
        (options.get("protocol", "tcp"), options.get("direction", "out"), port)
        for options in (e["options"] for e in parts) for port in options.get("ports", ())
    }
    return [
        {"protocol": protocol, "direction": direction,
         "ports": sorted(port for p, d, port in blocks if (p, d) == (protocol, direction))}
        for protocol, direction in sorted({block[:2] for block in blocks})
    ]


def outermost(prefixes):
    """Prefixes without those that another one contains, IPv4 first, ascending; neighbours are not merged: each may be evidence.

    :param prefixes: canonical text
    """
    kept = []
    for network in sorted({ipaddress.ip_network(text) for text in prefixes},
                          key=lambda n: (n.version, int(n.network_address), n.prefixlen)):
        last = kept[-1] if kept else None
        if last is None or last.version != network.version or network.network_address > last.broadcast_address:
            kept.append(network)
    return [str(network) for network in kept]


def drop_directions(options):
    """What a drop acts on: `in` (what the remote sends), `out` (what is sent to it), or both."""
    direction = options.get("direction", "both")
    return ("in", "out") if direction == "both" else (direction,)


def _drops(parts):
    """`{"in": prefixes, "out": prefixes}` that the service does not hear from, and can't reach."""
    return {way: outermost(text for e in parts if way in drop_directions(e["options"]) for text in e["options"]["sources"])
            for way in ("in", "out")}


def fold_limits(enforcements):
    """`{kind: terms}` of the limits that these enforcements amount to, each the tightest asked for.

    Terms have `enforcement_ids` and `until_at`, and by kind `rate_bps`, `percent` (None when only cores are asked
    for) and, if any case asks for cores, `millicores`, `iops` and `bytes_per_second`, `ports`, `blocks`,
    or `in` and `out`.
    """
    limits = {}
    for kind in LIMITS:
        parts = [e for e in enforcements if e["kind"] == kind]
        if not parts:
            continue
        options = [e["options"] for e in parts]
        terms = _common(parts)
        if kind == "bandwidth_cap":
            terms["rate_bps"] = min(rate_bps(o["rate"]) for o in options)
        elif kind == "cpu_throttle":
            shares = [share_of_processors(o["share"]) for o in options]
            # Which of both is tighter depends on the guest's processors, which its node knows.
            terms["percent"] = _least(value for unit, value in shares if unit == "percent")
            if any(unit == "millicores" for unit, _value in shares):
                terms["millicores"] = _least(value for unit, value in shares if unit == "millicores")
        elif kind == "drop":
            terms.update(_drops(parts))
        elif kind == "io_throttle":
            terms["iops"] = _least(o.get("iops") for o in options)
            terms["bytes_per_second"] = _least(o.get("bytes_per_second") for o in options)
        elif kind == "port_block":
            terms["blocks"] = _port_blocks(parts)
        elif kind == "smtp_block":
            terms["ports"] = sorted({port for o in options for port in o.get("ports", (25,))})
        limits[kind] = terms
    return limits
