# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading our two tables back. PRIVATE to the collection.

nft's plain listing is used and not its JSON: for 10,000 services it is a fifth of the size, and it can be
compared line by line with the listing of a *reference*: the same shape loaded by the same nft into a
network namespace of its own. So a rule changed by hand is found without any digest of ours.
"""
from __future__ import annotations

import hashlib
import platform
import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._ruleset import (
    CONTROL_OF_SET,
    FAMILIES,
    TABLE,
)
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

Observed = namedtuple("Observed", "text shape elements counters")
Observed.__doc__ = """Our tables as they are.

`text`: `{family: listing}` of those present; `shape`: both listings without elements and counts;
`elements`: `{(family, set): {element: (packets, bytes) or None}}`; `counters`: `{(family, name): (packets, bytes)}`.
"""

_COUNT = re.compile(r"packets ([0-9]+) bytes ([0-9]+)")
_NAMED = re.compile(r"^\tcounter (\S+) \{\n(?:\t\tcomment .*\n)?\t\tpackets ([0-9]+) bytes ([0-9]+)", re.MULTILINE)
_BEGIN = "\n\t\telements = { "
_END = " }\n\t}\n"

# The script makes and lists a ruleset nobody else sees; a constant, what is loaded comes over stdin.
_SCRATCH = ["unshare", "--net", "sh", "-c", "nft -f - && nft -n list ruleset"]


def run_nft(run, argv, stdin=None, doing=""):
    """Standard output of a command.

    :param run: `run(argv, stdin=None) -> (rc, stdout, stderr)`
    :param doing: what failed, for the message
    :raises NodeError: with nft's own words
    """
    rc, out, err = run(argv, stdin)
    if rc != 0:
        words = (err or out).strip().splitlines()
        raise NodeError(
            "%s failed (%s): %s" % (doing, " ".join(argv[:3]), "; ".join(words[:6]) or "exit status %d" % rc),
            code="nft", target="nftables", retryable="Resource busy" in err or "No such file" in err,
            remedy="Nothing was changed. Check that nft works here (nft list tables), then run again.",
        )
    return out


def _parse_elements(block):
    """`{element: (packets, bytes) or None}` of the text between the braces.

    An element with anything we don't write (timeout, comment) keeps its whole text as its key.
    """
    found = {}
    for item in block.split(","):
        item = item.strip()
        key, sep, tail = item.partition(" counter packets ")
        packets, _and, size = tail.partition(" bytes ")
        if sep and packets.isdigit() and size.isdigit():
            found[key] = (int(packets), int(size))
        else:
            found[item] = None
    return found


def parse(texts):
    """`Observed` of `{family: listing}`. Pure."""
    shapes, elements, counted = [], {}, {}
    for family in FAMILIES:
        text = texts.get(family)
        if text is None:
            continue
        parts, at = [], 0
        while True:
            begin = text.find(_BEGIN, at)
            end = text.find(_END, begin) if begin >= 0 else -1
            if end < 0:
                break
            parts.append(text[at:begin])
            head = text.rfind("\tset ", at, begin)
            name = text[head + 5:text.find(" ", head + 5)] if head >= 0 else None
            if name is None or (family, name) in elements:
                parts.append(text[begin:end])  # not a set of ours: stays in the shape and shows as drift
            else:
                elements[family, name] = _parse_elements(text[begin + len(_BEGIN):end])
            at = end + 2
        parts.append(text[at:])
        bare = "".join(parts)
        for name, packets, size in _NAMED.findall(bare):
            counted[family, name] = (int(packets), int(size))
        shapes.append(_COUNT.sub("packets 0 bytes 0", bare))
    return Observed(dict(texts), "".join(shapes), elements, counted)


def observe(run):
    """Our tables as they are now; absent ones are simply not in it. Other tables are not read.

    :raises NodeError: when nft can't list
    """
    listed = set(run_nft(run, ["nft", "list", "tables"], doing="listing tables").splitlines())
    texts = {}
    for family in FAMILIES:
        if "table %s %s" % (family, TABLE) in listed:
            texts[family] = run_nft(run, ["nft", "-n", "list", "table", family, TABLE],
                                    doing="listing table %s %s" % (family, TABLE))
    return parse(texts)


def present(observed):
    """Whether both tables are there."""
    return len(observed.text) == len(FAMILIES)


def reference(run, ruleset, cached=None):
    """How this nft lists the ruleset's shape, found out in a network namespace of its own.

    :param cached: what an earlier call returned, or None; used when shape, nft and kernel are still the same
    :returns: `{"key", "shape"}`, fit for JSON
    :raises NodeError: when nft refuses the shape
    """
    version = run_nft(run, ["nft", "--version"], doing="asking nft for its version").strip()
    key = hashlib.sha256(("%s\n%s\n%s" % (ruleset.shape, version, platform.release())).encode("utf-8")).hexdigest()
    if isinstance(cached, dict) and cached.get("key") == key and isinstance(cached.get("shape"), str):
        return cached
    listing = run_nft(run, _SCRATCH, ruleset.shape, doing="loading the rules into a scratch network namespace")
    return {"key": key, "shape": _COUNT.sub("packets 0 bytes 0", listing)}


def _subject(element):
    """The port or MAC an element counts for: `"tap1" . 25` is tap1, `"br0" . 52:… . 25` is 52:…"""
    parts = element.split(" . ")
    return (parts[1] if len(parts) == 3 else parts[0]).strip('"')


def fold(elements):
    """`{port or MAC: {control: {"packets", "bytes"}}}` of `[(set, element, (packets, bytes))]`; zeroes left out."""
    totals = {}
    for name, element, (packets, size) in elements:
        if packets and name in CONTROL_OF_SET:
            total = totals.setdefault(_subject(element), {}).setdefault(
                CONTROL_OF_SET[name], {"packets": 0, "bytes": 0})
            total["packets"] += packets
            total["bytes"] += size
    return totals


def counters(observed):
    """What the rules have counted: `{port or MAC: {control: {"packets", "bytes"}}}`; zeroes left out.

    A MAC stands for a bridged guest's traffic that the host routed. The key `unknown` holds what guests
    nobody knows tried. With br_netfilter a bridged packet that is only observed is counted once, by the
    bridge table; a packet the host routes back into the bridge it came from is then not counted while
    observed (refused it is counted).
    """
    totals = fold(
        (name, element, count)
        for (_family, name), found in observed.elements.items() if name in CONTROL_OF_SET
        for element, count in found.items() if count
    )
    for (_family, name), (packets, size) in observed.counters.items():
        if packets:
            total = totals.setdefault("unknown", {}).setdefault(
                "smtp_outbound_" + name.rpartition("_")[2] if name.startswith("unknown") else
                "smtp_outbound_" + name.partition("_")[0], {"packets": 0, "bytes": 0})
            total["packets"] += packets
            total["bytes"] += size
    return totals
