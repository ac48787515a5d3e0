# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is to what should be: one atomic script for nft. PRIVATE to the collection.

When only elements differ, only they are changed and nobody's counter is touched. When the shape differs
(settings, another version of ours, someone's hand), both tables are made anew in the same transaction
and elements that stay take their counts with them.

A packet on its way meanwhile can slip through: the kernel asks the new chain, which has no rules yet, before
the old one, and the old one after the switch, when its rules and elements are gone (seen: one or two packets in
100 replacements under a flood). So a guard, the same rules in tables of another name and asked last, stands
from before the switch until after it.
"""
from __future__ import annotations

import difflib
import hashlib
import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _controls, _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._observe import (
    counters,
    fold,
    fold_counters,
    run_nft,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._ruleset import (
    COUNTERS,
    FAMILIES,
    GUARD,
    SETS,
    TABLE,
)

Change = namedtuple("Change", "kind script summary before after removed_counters digest guard", defaults=("",))
Change.__doc__ = """One transaction.

`kind`: none, elements, rebuild or remove; `script`: for `nft -f -`; `summary`: a short list of sentences;
`before`, `after`: what differs, bounded; `removed_counters`: last counts of elements that go, as `counters`
gives them; `digest`: equal for equal changes, counts left out (the diffs are bounded and can't serve for that);
`guard`: script of the guard, where there are rules to be replaced.
"""

_SHOWN = 50         # subjects, and lines of rules, shown in a diff
_DETAILED = 2000    # above so many changed elements only numbers are shown

_PHRASES = {
    "smtp_enforce": "TCP %s refused", "smtp_observe": "TCP %s observed",
    "bridged_enforce": "TCP %s refused when routed by the host", "bridged_observe": "TCP %s observed when routed by the host",
    "dark_ports": "held: dark", "dark_macs": "held: dark",
    "quarantine_ports": "held: quarantine", "quarantine_macs": "held: quarantine",
    "known_ports": "guest port", "open_ports": "nothing refused", "uplinks": "uplink",
    "smarthosts4": "smarthost", "smarthosts6": "smarthost", "rescue4": "rescue network", "rescue6": "rescue network",
    "block_out_tcp": "TCP to port %s blocked", "block_out_udp": "UDP to port %s blocked",
    "block_in_tcp": "TCP to its port %s blocked", "block_in_udp": "UDP to its port %s blocked",
    "null4": "null-routed", "null6": "null-routed",
    **{"drop_in%d%s" % (v, k): "does not hear from %s" for v in (4, 6) for k in ("", "_nets")},
    **{"drop_out%d%s" % (v, k): "can't reach %s" for v in (4, 6) for k in ("", "_nets")},
    "bridges": "tenant bridge", "unknown_ports": "TCP port judged for unknown guests",
    # Said already by another element of the same port or by the rules:
    "held_ports": None, "held_macs": None, "own_macs": None, "judged_macs": None, "nameless_ports": None,
    "drop_in_ports": None, "drop_out_ports": None, "blocked_out_ports": None, "blocked_in_ports": None, "same_bridge": None, "smtp_watched": None,
}
_PHRASES.update(_controls.PHRASES)


def _describe(name, element):
    """`(subject, phrase)` of an element; phrase None when it says nothing new."""
    parts = element.split(" . ")
    phrase = _PHRASES.get(name, name)
    if phrase and "%s" in phrase:
        return (parts[1] if name.startswith("bridged_") else parts[0]).strip('"'), phrase % parts[-1]
    return parts[0].strip('"'), phrase


def _phrases(elements, cut=None):
    found = {}
    for (_family, name), keys in elements.items():
        for key in keys:
            subject, phrase = _describe(name, key)
            if phrase and (cut is None or subject in cut):
                found.setdefault(subject, set()).add(phrase)
    return {subject: sorted(phrases) for subject, phrases in sorted(found.items())}


def _diff(removed, added, services):
    """`(before, after, summary)` of element changes, bounded."""
    count_removed, count_added = (sum(map(len, side.values())) for side in (removed, added))
    if count_removed + count_added > _DETAILED:
        sides = [{"%s %s" % key: len(keys) for key, keys in sorted(side.items()) if keys} for side in (removed, added)]
        return sides[0], sides[1], ["%d elements go, %d come" % (count_removed, count_added)]
    before, after = _phrases(removed), _phrases(added)
    summary = []
    subjects = sorted(set(before) | set(after))
    for subject in subjects[:_SHOWN]:
        owner = services.get(subject)
        summary.append("%s%s: %s -> %s" % (
            subject, " (service %s)" % owner if owner else "",
            ", ".join(before.get(subject, ())) or "nothing", ", ".join(after.get(subject, ())) or "nothing"))
    if len(subjects) > _SHOWN:
        summary.append("and %d more" % (len(subjects) - _SHOWN))
    if not subjects:
        summary.append("%d elements of auxiliary sets go, %d come" % (count_removed, count_added))
    shown = set(subjects[:_SHOWN])
    return ({s: p for s, p in before.items() if s in shown}, {s: p for s, p in after.items() if s in shown}, summary)


def _shape_diff(observed, reference_shape):
    """`(lines gone, lines come)` between two listings, bounded."""
    lines = list(difflib.unified_diff(observed.shape.splitlines(), reference_shape.splitlines(), lineterm="", n=0))[2:]
    gone, come = ([line[1:].strip() for line in lines if line[:1] == sign and line[1:].strip()] for sign in "-+")
    return gone[:_SHOWN], come[:_SHOWN]


def _statement(verb, key, elements):
    return "%s element %s %s %s { %s }\n" % (verb, key[0], TABLE, key[1], ",".join(elements))


def _drop_tables(name=TABLE):
    # `add` first, so that the deletion can't fail on a table that isn't there.
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family in FAMILIES)


_TABLE_NAME = re.compile(r"^((?:table|add element) (?:%s)) %s\b" % ("|".join(FAMILIES), TABLE), re.MULTILINE)
_PRIORITY = re.compile(r" priority (-?[0-9]+);")


def _guard_script(ruleset):
    """The rules once more under the guard's name, each chain asked right after its like. Nothing is counted from there."""
    return _as_guard(ruleset.shape + "".join(_statement("add", key, sorted(keys)) for key, keys in ruleset.elements.items() if keys))


def _as_guard(script):
    script = _PRIORITY.sub(lambda found: " priority %d;" % (int(found.group(1)) + 1), script)
    return _drop_tables(GUARD) + _TABLE_NAME.sub(r"\1 " + GUARD, script)


def _rebuild_script(ruleset, observed):
    parts = [_drop_tables(), ruleset.shape]
    for (family, name), wanted in ruleset.elements.items():
        if not wanted:
            continue
        have = observed.elements.get((family, name), {}) if SETS[family][name].counted else {}
        kept = [key for key in wanted if have.get(key)]
        elements = ["%s counter packets %d bytes %d" % ((key,) + have[key]) for key in kept]
        elements += wanted.difference(kept)
        parts.append(_statement("add", (family, name), elements))
    parts += _samples_again(observed, lambda family, name: "\n    set %s {" % name in ruleset.shape)
    return _with_counters("".join(parts), observed)


def _with_counters(script, observed):
    """The script with the values of named counters in their declarations."""
    for (family, name), (packets, size) in observed.counters.items():
        if packets and name in COUNTERS[family]:
            # Given inside the declaration: adding a counter a second time would not set its value.
            head, table, tail = script.partition("table %s %s {\n" % (family, TABLE))
            script = head + table + tail.replace(
                "counter %s { }" % name, "counter %s { packets %d bytes %d }" % (name, packets, size), 1)
    return script


def _samples_again(observed, wanted):
    """Statements that put samples back which are evidence; they go on growing old."""
    return [_statement("add", key, ["%s counter packets %d bytes %d timeout %ds expires %ds" % (
        element, packets, size, _controls.SAMPLE_SECONDS, max(1, left)) for element, (packets, size, left) in found.items()])
        for key, found in observed.samples.items() if found and wanted(*key)]


_LEFT = "rules that a run which was killed left as its guard go"


def _digest(*parts):
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode("utf-8", "surrogateescape"))
        state.update(b"\0")
    return state.hexdigest()


def _digest_of_elements(elements):
    return "\n".join("%s %s %s" % (key + (",".join(sorted(elements[key])),)) for key in sorted(elements) if elements[key])


def _ours(family, name, keys):
    pattern = _names.element_pattern(SETS[family][name].type)
    return all(pattern.fullmatch(key) for key in keys)


def plan(ruleset, observed, reference):
    """The change that makes the tables what the ruleset says. Pure.

    :param reference: what `reference(run, ruleset)` returned
    """
    removed, added, spelled = {}, {}, True
    for (family, name), wanted in ruleset.elements.items():
        have = observed.elements.get((family, name), {})
        gone, come = have.keys() - wanted, wanted - have.keys()
        if gone:
            removed[family, name] = gone
            spelled = spelled and _ours(family, name, gone)
        if come:
            added[family, name] = come
        if SETS[family][name].counted and None in have.values():
            spelled = False
    for key in observed.elements.keys() - ruleset.elements.keys():  # of a control nobody here is under any more
        if observed.elements[key]:
            removed[key] = observed.elements[key].keys()
    same_shape = observed.shape == reference["shape"]
    if same_shape and spelled and not removed and not added:
        if observed.guards:
            return Change("elements", _drop_tables(GUARD), [_LEFT], {"guard": list(observed.guards)}, {"guard": []}, {},
                          _digest("elements", GUARD))
        return Change("none", "", [], {}, {}, {}, _digest("none"))

    last = fold(
        (key[1], element, observed.elements[key][element])
        for key, elements in removed.items() for element in elements if observed.elements[key][element])
    gone = fold_counters((name, count) for (_family, name), count in observed.counters.items()
                         if "\n    counter %s {" % name not in ruleset.shape)
    for subject, found in gone.items():
        last.setdefault(subject, {}).update(found)
    before, after, summary = _diff(removed, added, ruleset.services)
    before, after = {"elements": before}, {"elements": after}
    if same_shape and spelled:
        script = "".join([_statement("delete", key, sorted(keys)) for key, keys in sorted(removed.items())]
                         + [_statement("add", key, sorted(keys)) for key, keys in sorted(added.items())]
                         + ([_drop_tables(GUARD)] if observed.guards else []))
        return Change("elements", script, summary, before, after, last, _digest("elements", script))

    if not observed.text:
        summary.insert(0, "our tables are not there and are made")
    elif not same_shape:
        gone, come = _shape_diff(observed, reference["shape"])
        before["rules"], after["rules"] = gone, come
        summary.insert(0, "the rules are not as they should be and are made anew: %d lines go, %d come" % (len(gone), len(come)))
    else:
        summary.insert(0, "someone else's elements are in our sets; the tables are made anew")
    return Change(
        "rebuild", _rebuild_script(ruleset, observed), summary, before, after, last,
        _digest("rebuild", ruleset.shape, _digest_of_elements(ruleset.elements)),
        _guard_script(ruleset) if observed.text or observed.guards else "")


def plan_teardown(observed):
    """The change that takes our tables off the node. Pure."""
    if not observed.text and not observed.guards:
        return Change("none", "", [], {}, {}, {}, _digest("none"))
    tables = ["table %s %s" % (family, TABLE) for family in FAMILIES if family in observed.text]
    tables += ["table %s %s" % (family, GUARD) for family in observed.guards]
    return Change("remove", teardown_script(), ["%s goes" % table for table in tables],
                  {"tables": tables}, {"tables": []}, counters(observed), _digest("remove"))


def teardown_script():
    """Script that takes our tables off, there or not."""
    return _drop_tables() + _drop_tables(GUARD)


# nft leaves out of a listing what the next match implies, and when it reads the line again implies less
# in the bridge family: the Ethernet type instead of the protocol, which a VLAN tag hides.
_RELOAD = (
    ("\t\ticmpv6 type ", "\t\tmeta protocol ip6 meta l4proto 58 icmpv6 type "),
    ("\t\tmeta l4proto 6 frag ", "\t\tmeta protocol ip6 meta l4proto 6 frag "),
    ("\t\tmeta l4proto { 6, 17 } frag ", "\t\tmeta protocol ip6 meta l4proto { 6, 17 } frag "),
    ("\t\tip saddr @null4 ", "\t\tmeta protocol ip ip saddr @null4 "),
    ("\t\tip daddr @null4 ", "\t\tmeta protocol ip ip daddr @null4 "),
    ("\t\tip6 saddr @null6 ", "\t\tmeta protocol ip6 ip6 saddr @null6 "),
    ("\t\tip6 daddr @null6 ", "\t\tmeta protocol ip6 ip6 daddr @null6 "),
    ("\t\tiifname . ip daddr @drop", "\t\tmeta protocol ip iifname . ip daddr @drop"),
    ("\t\tiifname . ip6 daddr @drop", "\t\tmeta protocol ip6 iifname . ip6 daddr @drop"),
    ("\t\toifname . ip saddr @drop", "\t\tmeta protocol ip oifname . ip saddr @drop"),
    ("\t\toifname . ip6 saddr @drop", "\t\tmeta protocol ip6 oifname . ip6 saddr @drop"),
    ("\t\tiifname . tcp dport @block", "\t\tmeta l4proto tcp iifname . th dport @block"),
    ("\t\tiifname . udp dport @block", "\t\tmeta l4proto udp iifname . th dport @block"),
    ("\t\toifname . tcp dport @block", "\t\tmeta l4proto tcp oifname . th dport @block"),
    ("\t\toifname . udp dport @block", "\t\tmeta l4proto udp oifname . th dport @block"),
) + _controls.RELOAD


def snapshot_script(observed, former=None):
    """Script that puts exactly the observed tables back, counts included; for a rollback.

    :param former: the reference the tables were made by; where nobody changed them since, its own script serves
        better than their listing, which nft reads again less strictly in the bridge family
    """
    if former and former.get("script") and former["shape"] == observed.shape and not observed.complete:
        script = _with_counters(_drop_tables() + former["script"], observed)
        return script + _elements_again(observed, FAMILIES)
    parts = [_drop_tables()]
    for family in FAMILIES:
        text = observed.text.get(family, "")
        if family == "bridge":
            for listed, meant in _RELOAD:
                text = text.replace(listed, meant)
        parts.append(text)
        if family not in observed.complete:
            parts.append(_elements_again(observed, [family]))
    return "".join(parts)


def rollback_scripts(snapshot):
    """What is to be loaded one after the other to put rules back: `snapshot_script`'s, under a guard of its own. Pure."""
    start = _drop_tables()
    rules = snapshot[len(start):] if snapshot.startswith(start) else ""
    if not rules.strip():
        return [snapshot]  # there were none: nothing to be let through that was refused
    return [_as_guard(rules), snapshot, _drop_tables(GUARD)]


def _elements_again(observed, families):
    """Statements that put all elements back, with their counts, and all samples."""
    parts = [
        _statement("add", key, [
            "%s counter packets %d bytes %d" % ((element,) + count) if count else element
            for element, count in found.items()])
        for key, found in observed.elements.items() if key[0] in families and found]
    return "".join(parts + _samples_again(observed, lambda family, name: family in families))


def apply(run, change):
    """Load a change as one transaction: all of it or nothing.

    :raises NodeError: with nft's words; nothing was changed
    """
    if change.kind == "none":
        return
    load = ["nft", "-f", "-"]
    if not change.guard:
        run_nft(run, load, change.script, doing="loading the rules")
        return
    run_nft(run, load, change.guard, doing="loading the rules")
    try:
        run_nft(run, load, change.script, doing="loading the rules")
    finally:
        run_nft(run, load, _drop_tables(GUARD), doing="taking the guard off")
