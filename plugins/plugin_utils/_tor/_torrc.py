# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a torrc makes an exit. Pure. PRIVATE to the collection.

Follows tor's own rules (policies.c): with no exit option and ExitRelay auto a relay rejects all; a policy that doesn't end
in a rejection of everything is followed by the default one, which accepts, except on a bridge; IPv6 exits only
with IPv6Exit. Where ranges of addresses would have to be subtracted from each other it errs to "can exit".
"""

from __future__ import annotations

import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

Verdict = namedtuple("Verdict", "exits4 exits6 reason")
Verdict.__doc__ = """Whether it can exit over IPv4 and over IPv6, and what decides."""

_MOST_LINES = 10000
_ENTRY = re.compile(r"(accept6?|reject6?)\s+(\S+)", re.IGNORECASE)
_ALL = (1, 65535)
_LISTS = ("exitpolicy",)


def _options(text):
    """`{lower-case option: [values]}` as tor reads a file: comments, quotes, continued lines, + and /.

    :raises InputError: for an include, which can't be followed here, and for what is too long
    """
    found = {}
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > _MOST_LINES:
        raise InputError("the torrc has more than %d lines." % _MOST_LINES, target="torrc", remedy="Check the file.")
    held = ""
    for number, line in enumerate(lines, start=1):
        if held and line.lstrip().startswith("#"):
            continue  # tor allows comments between continued lines
        whole = held + line
        body = whole if re.match(r'\s*\S+\s+"', whole) else whole.split("#", 1)[0]
        if body.rstrip().endswith("\\"):
            held = body.rstrip()[:-1]
            continue
        held = ""
        words = body.strip().split(None, 1)
        if not words:
            continue
        name, value = words[0].lower(), words[1].strip().strip('"') if len(words) > 1 else ""
        if name == "%include":
            raise InputError("the torrc includes other files (line %d), which can't be read here." % number,
                             target="torrc:%d" % number, remedy="Give the output of tor --dump-config full.")
        if name[0] == "/":
            found[name[1:]] = []
        elif name in _LISTS or name.lstrip("+") in _LISTS or name.lstrip("+") == "orport":
            found.setdefault(name.lstrip("+"), []).append(value)
        else:
            found[name.lstrip("+")] = [value]
    return found


def _ports(text):
    low, _dash, high = text.partition("-")
    if text == "*":
        return _ALL
    if not low.isdigit() or not (high or low).isdigit():
        return None
    return int(low), int(high or low)


def _policy(values):
    """[(accepts, families, all addresses?, (low, high))] of the ExitPolicy lines.

    :raises InputError: for an entry tor wouldn't take
    """
    entries = []
    for one in ",".join(values).split(","):
        if not one.strip():
            continue
        match = _ENTRY.fullmatch(one.strip())
        verb, pattern = (match.group(1).lower(), match.group(2)) if match else (None, "")
        address, ports = pattern, _ALL
        split = re.fullmatch(r"(\[[^\]]*\](?:/\d+)?|[^:\[\]]+)(?::(\S+))?", pattern)
        if split:
            address, ports = split.group(1), _ports(split.group(2) or "*")
        if verb is None or split is None or ports is None:
            raise InputError("ExitPolicy entry %r is none that tor takes." % one.strip()[:80], target="ExitPolicy",
                             remedy="See tor(1).")
        address = address.lower()
        six = verb.endswith("6")
        families = {"6"} if six or address == "*6" or address.startswith("[") else {"4"} if address == "*4" or (
            address[0].isdigit()) else {"4", "6"}
        entries.append((verb.startswith("accept"), families, address in ("*", "*4", "*6") or address.endswith("/0"), ports))
    return entries


def _accepts(entries, family, ends_in_default):
    """Whether something is accepted in a family: the first match wins."""
    rejected = []
    for accepts, families, everywhere, ports in entries:
        if family not in families:
            continue
        if accepts and not any(low <= ports[0] and ports[1] <= high for low, high in rejected):
            return True
        if not accepts and everywhere:
            if ports == _ALL or ports == (0, 65535):
                return False
            rejected.append(ports)
    return ends_in_default


def verdict(text):
    """What a torrc makes of a relay.

    :param text: the torrc, whole
    :raises InputError: when it can't be told: an include, an entry that tor would refuse
    """
    options = _options(text)

    def last(name, default):
        values = options.get(name)
        return values[-1].lower() if values and values[-1] else default

    if not any(value.split()[:1] not in ([], ["0"]) for value in options.get("orport", ())):
        return Verdict(False, False, "no ORPort: a client, no relay")
    relay, policy = last("exitrelay", "auto"), [value for value in options.get("exitpolicy", ()) if value]
    reduced, six = last("reducedexitpolicy", "0") == "1", last("ipv6exit", "0") == "1"
    if relay == "0":
        return Verdict(False, False, "ExitRelay 0: exit options are ignored")
    if relay == "auto" and not policy and not reduced and not six:
        return Verdict(False, False, "no exit option: ExitRelay auto means no exit")
    bridge = last("bridgerelay", "0") == "1"
    entries = _policy(policy)
    four = _accepts(entries, "4", not bridge)
    eight = six and _accepts(entries, "6", not bridge)
    return Verdict(four, eight, "its exit policy accepts something" if four or eight else "its exit policy rejects all")
