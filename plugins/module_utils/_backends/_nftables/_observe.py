# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading our two tables back. PRIVATE to the collection.

The rules are compared with the listing of a *reference*, line by line: the same shape loaded by the same
nft into a network namespace of its own. So a rule changed by hand is found without any digest of ours.
The elements come from nft's JSON, which is larger than its plain listing and yet faster: nft 1.0 writes
plain listings in a system call for each word (239,000 of them for 10,000 services).
"""
from __future__ import annotations

import hashlib
import json
import platform
import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _controls, _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._ruleset import (
    CONTROL_OF_SET,
    FAMILIES,
    GUARD,
    SETS,
    TABLE,
)
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

Observed = namedtuple("Observed", "text shape elements counters complete samples guards", defaults=({}, ()))
Observed.__doc__ = """Our tables as they are.

`text`: `{family: listing without elements}` of those present; `shape`: both without counts;
`elements`: `{(family, set): {element: (packets, bytes) or None}}`; `counters`: `{(family, name): (packets, bytes)}`;
`complete`: families whose text has its elements in it, because there are some we couldn't spell;
`samples`: `{(family, set): {element: (packets, bytes, seconds left)}}` of the sets that keep evidence;
`guards`: families in which a run that was killed left its guard.
"""

_COUNT = re.compile(r"packets ([0-9]+) bytes ([0-9]+)")
_NAMED = re.compile(r"^\tcounter (\S+) \{\n(?:\t\tcomment .*\n)?\t\tpackets ([0-9]+) bytes ([0-9]+)", re.MULTILINE)

# The script makes and lists a ruleset nobody else sees; a constant, what is loaded comes over stdin.
_SCRATCH = ["unshare", "--net", "sh", "-c", "nft -f - && nft -n list ruleset"]


def _failed(argv, rc, out, err, doing):
    words = (err or out).strip().splitlines()
    return NodeError(
        "%s failed (%s): %s" % (doing, " ".join(argv[:3]), "; ".join(words[:6]) or "exit status %d" % rc),
        code="nft", target="nftables", retryable="Resource busy" in err or "No such file" in err,
        remedy="Nothing was changed. Check that nft works here (nft list tables), then run again.",
    )


def run_nft(run, argv, stdin=None, doing=""):
    """Standard output of a command.

    :param run: `run(argv, stdin=None) -> (rc, stdout, stderr)`
    :param doing: what failed, for the message
    :raises NodeError: with nft's own words
    """
    rc, out, err = run(argv, stdin)
    if rc != 0:
        raise _failed(argv, rc, out, err, doing)
    return out


def _part(value):
    """One part of a concatenation: a prefix as nft spells it, anything else as it is."""
    return "%s/%d" % (value["prefix"]["addr"], value["prefix"]["len"]) if isinstance(value, dict) else value


def _parse_elements(listed, spec):
    """`({element: (packets, bytes) or None}, odd)`; odd tells that there were elements we don't write so.

    What can't be spelled keeps its JSON as its key, which equals nothing we want.
    """
    verdicts = spec.type.endswith(" : verdict")
    forms = ['"%s"' if part == "ifname" else "%s" for part in spec.type.split(" . ")]
    form, size = " . ".join(forms), len(forms)
    found, odd = {}, False
    for item in listed:
        try:
            value, count = item, None
            if verdicts:
                (port, verdict), = [item]
                (verb, to), = verdict.items()
                found['"%s" : %s %s' % (port, verb, to["target"])] = None
                continue
            if spec.counted:
                value, count = item["elem"]["val"], item["elem"]["counter"]
                if len(item["elem"]) != 2:
                    raise KeyError("timeout, comment …")
                count = (count["packets"], count["bytes"])
            if size > 1:
                value = tuple(map(_part, value["concat"]))
                if len(value) != size:
                    raise KeyError("concat")
            elif not isinstance(value, (str, int)):
                value = "%s/%d" % (value["prefix"]["addr"], value["prefix"]["len"])
            found[form % value] = count
        except (AttributeError, KeyError, TypeError, ValueError):
            found[json.dumps(item, sort_keys=True)] = None
            odd = True
    return found, odd


def _parse_samples(listed, spec):
    """`{element: (packets, bytes, seconds left)}` of a set that packets fill; what can't be read is left out."""
    forms = ['"%s"' if part == "ifname" else "%s" for part in spec.type.split(" . ")]
    form, size = " . ".join(forms), len(forms)
    pattern = _names.element_pattern(spec.type)
    found = {}
    for item in listed:
        try:
            one = item["elem"]
            value = tuple(one["val"]["concat"])
            text = form % value if len(value) == size else ""
            if pattern.fullmatch(text):
                found[text] = (one["counter"]["packets"], one["counter"]["bytes"], one.get("expires", 0))
        except (KeyError, TypeError):
            continue
    return found


def _parse_table(family, listed):
    """`({(family, set): elements}, {(family, set): samples}, odd)` of nft's JSON for one table. Pure."""
    elements, samples, odd = {}, {}, False
    for entry in listed["nftables"]:
        found = entry.get("set") or entry.get("map")
        if found is None:
            continue
        name = found["name"]
        spec = SETS[family].get(name)
        if spec is None or ("map" in entry) != spec.type.endswith(" : verdict"):
            odd = True  # someone else's; it shows in the shape
        elif not spec.dynamic:
            elements[family, name], strange = _parse_elements(found.get("elem", ()), spec)
            odd = odd or strange
        elif name in _controls.SAMPLES:
            samples[family, name] = _parse_samples(found.get("elem", ()), spec)
    return elements, samples, odd


def _shape(texts):
    return "".join(_COUNT.sub("packets 0 bytes 0", texts[family]) for family in FAMILIES if family in texts)


def _list_without_elements(run, family):
    """nft's plain listing of a table of ours without the elements of its sets, or None; and whether there is a guard.

    Of all ways to ask, only `-t list ruleset` doesn't make nft 1.0 fetch every element first.
    """
    listing = run_nft(run, ["nft", "-n", "-t", "list", "ruleset", family], doing="listing the %s rules" % family)
    begin = ("\n" + listing).find("\ntable %s %s {\n" % (family, TABLE))
    guard = "\ntable %s %s {\n" % (family, GUARD) in "\n" + listing
    return listing[begin:listing.index("\n}\n", begin) + 3] if begin >= 0 else None, guard


def observe(run):
    """Our tables as they are now; absent ones are simply not in it. Other tables are not read.

    :raises NodeError: when nft can't list
    """
    texts, elements, counted, complete, samples, guards = {}, {}, {}, set(), {}, []
    for family in FAMILIES:
        text, guard = _list_without_elements(run, family)
        if guard:
            guards.append(family)
        if text is None:
            continue
        doing = "listing table %s %s" % (family, TABLE)
        found, seen, odd = _parse_table(
            family, json.loads(run_nft(run, ["nft", "-j", "list", "table", family, TABLE], doing=doing)))
        elements.update(found)
        samples.update(seen)
        texts[family] = text
        for name, packets, size in _NAMED.findall(text):
            counted[family, name] = (int(packets), int(size))
        if odd:
            complete.add(family)
    shape = _shape(texts)
    for family in complete:
        texts[family] = run_nft(run, ["nft", "-n", "list", "table", family, TABLE], doing="listing for a snapshot")
    return Observed(texts, shape, elements, counted, frozenset(complete), samples, tuple(guards))


def present(observed):
    """Whether both tables are there."""
    return len(observed.text) == len(FAMILIES)


def reference(run, ruleset, cached=None):
    """How this nft lists the ruleset's shape, found out in a network namespace of its own.

    :param cached: what an earlier call returned, or None; used when shape, nft and kernel are still the same
    :returns: `{"key", "shape", "script"}`, fit for JSON; `shape` is how it lists `script`
    :raises NodeError: when nft refuses the shape
    """
    version = run_nft(run, ["nft", "--version"], doing="asking nft for its version").strip()
    key = hashlib.sha256(("%s\n%s\n%s" % (ruleset.shape, version, platform.release())).encode("utf-8")).hexdigest()
    if isinstance(cached, dict) and cached.get("key") == key and isinstance(cached.get("shape"), str) and "script" in cached:
        return cached
    listing = run_nft(run, _SCRATCH, ruleset.shape, doing="loading the rules into a scratch network namespace")
    return {"key": key, "shape": _COUNT.sub("packets 0 bytes 0", listing), "script": ruleset.shape}


def _subject(name, element):
    """The port or MAC an element counts for: `"tap1" . 25` is tap1, `"br0" . 52:… . 25` of `bridged_…` is 52:…"""
    parts = element.split(" . ")
    return parts[1] if name.startswith("bridged_") else parts[0].strip('"')


def fold(elements):
    """`{port or MAC: {control: {"packets", "bytes"}}}` of `[(set, element, (packets, bytes))]`; zeroes left out."""
    totals = {}
    for name, element, (packets, size) in elements:
        if packets and name in CONTROL_OF_SET:
            _add(totals.setdefault(_subject(name, element), {}), CONTROL_OF_SET[name], packets, size)
    return totals


def _add(controls, name, packets, size):
    total = controls.setdefault(name, {"packets": 0, "bytes": 0})
    total["packets"] += packets
    total["bytes"] += size


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
            _add(totals.setdefault("unknown", {}), _of_counter(name), packets, size)
    return totals


def _of_counter(name):
    """What a named counter is evidence for."""
    if name in _controls.COUNTERS:
        return name
    return "smtp_outbound_" + (name.rpartition("_")[2] if name.startswith("unknown") else name.partition("_")[0])


def fold_counters(counters):
    """`fold` for named counters, which are nobody's: `[(name, (packets, bytes))]`."""
    totals = {}
    for name, (packets, size) in counters:
        if packets:
            _add(totals.setdefault("unknown", {}), _of_counter(name), packets, size)
    return totals


def samples(observed):
    """What was refused or observed last: `{port: {control: {sample: (packets, seconds ago)}}}`, of the last hour.

    A sample is what the control keeps of a packet, addresses and ports: `source 203.0.113.7`, `198.51.100.9 . 6667`.
    """
    found = {}
    for (_family, name), elements in observed.samples.items():
        for element, (packets, _size, left) in elements.items():
            port, _dot, sample = element.partition(" . ")
            control, words = _controls.SAMPLES[name]
            kept = found.setdefault(port.strip('"'), {}).setdefault(control, {})
            sample = words + sample
            before = kept.get(sample, (0, _controls.SAMPLE_SECONDS))
            kept[sample] = (before[0] + packets, min(before[1], max(0, _controls.SAMPLE_SECONDS - left)))
    return found
