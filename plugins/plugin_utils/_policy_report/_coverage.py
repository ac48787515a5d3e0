# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clause is held by what, and whether that is so in truth. PRIVATE to the collection."""

from __future__ import annotations

from collections import Counter, namedtuple

from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import (
    outcomes_by_place,
    where_text,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import step_text

Served = namedtuple("Served", "controls enforcements")
Served.__doc__ = "What this version carries out: names of controls, kinds of enforcement."

# A clause is: held (by code alone, or code and people), partly (code, and something is missing), person, gap, unstated.
HELD, PARTLY, PERSON, GAP, UNSTATED = "held", "partly", "person", "gap", "unstated"


def coverage(policy, served):
    """Each clause with its carriers and what they amount to, in the policy's order.

    :param policy: a Policy
    :param served: Served
    :returns: `[{"clause", "summary", "state", "carriers": [{"kind", "text", "state", "tests"}]}]`; a carrier's state
        is held, partly (some steps of the ladder), person, gap (missing, or not carried out by this version) or
        idle (switched off by this policy)
    """
    return [_clause(policy, served, name, clause) for name, clause in sorted(policy.clauses.items(), key=_order)]


def coverage_lines(policy, clauses):
    """What `coverage` returned, in lines for people."""
    counted = Counter(row["state"] for row in clauses)
    total = ", ".join("%s %d" % (state, counted[state]) for state in (HELD, PARTLY, PERSON, GAP, UNSTATED))
    lines = ["policy %s: %d clauses: %s" % (policy.key, len(clauses), total)]
    for row in clauses:
        lines.append("%s (%s): %s" % (row["clause"], row["state"], row["summary"]))
        for one in row["carriers"]:
            state = "" if one["state"] in (PERSON, GAP) and one["kind"] in ("human", "gap") else " (%s)" % one["state"]
            lines.append("  %s%s: %s" % (one["kind"], state, one["text"]))
            lines += ["    tested by %s" % test for test in one["tests"]]
    return lines


def _order(item):
    head, *numbers = item[0].split(".")
    return head, [(int(number.rstrip("abcdefghijklmnopqrstuvwxyz")), number) for number in numbers]


def _clause(policy, served, name, clause):
    carriers = [_carrier(policy, served, name, one) for one in clause.get("held_by", ())]
    states = {one["state"] for one in carriers}
    if not carriers:
        state = UNSTATED
    elif states & {HELD, PARTLY}:
        state = HELD if states <= {HELD, PERSON} else PARTLY
    else:
        state = PERSON if PERSON in states else GAP
    return {"clause": name, "summary": clause["summary"], "state": state, "carriers": carriers}


def _carrier(policy, served, name, carrier):
    tests = carrier.get("tests", [])
    if "control" in carrier:
        kind, (text, state) = "control", _control(policy, served, carrier["control"])
    elif "violation" in carrier:
        kind, (text, state) = "ladder", _ladder(policy, served, carrier["violation"], name)
    elif "obligation" in carrier:
        kind, text, state = "obligation", "%s: %s" % (carrier["obligation"], carrier["what"]), HELD
    else:
        kind = next(one for one in ("audit", "human", "gap") if one in carrier)
        text, state = carrier[kind], {"audit": HELD, "human": PERSON, "gap": GAP}[kind]
    return {"kind": kind, "text": text, "state": state, "tests": list(tests)}


def _control(policy, served, control):
    modes = {}
    for location in sorted(policy.locations):
        for account_type in sorted(policy.account_types):
            mode = policy.control(control, location, account_type).mode
            modes.setdefault(mode, set()).add((location, account_type))
    text = "%s: %s" % (
        control,
        "; ".join("%s %s" % (mode, where_text(policy, places)) for mode, places in sorted(modes.items())),
    )
    if set(modes) == {"off"}:
        return text, "idle"
    if control not in served.controls:
        return text + "; not carried out by this version", GAP
    return text, HELD


def _ladder(policy, served, violation, clause):
    """The steps of a violation that rest on the clause, or all of them where none does by itself."""
    outcomes = [outcome for outcome, _places in outcomes_by_place(policy, violation)]
    allowed = [outcome for outcome in outcomes if outcome.allowed and outcome.clause == clause]
    steps = [step for outcome in outcomes for step in outcome.ladder]
    steps = [step for step in steps if step.clause == clause] or ([] if allowed else steps)
    if not steps:
        if allowed:
            return "%s: allowed, so nothing is opened for it" % violation, HELD
        return "%s: has no step" % violation, "idle"
    unserved = {
        measure.enforcement
        for step in steps
        for measure in step.alternatives
        if measure.enforcement not in served.enforcements
    }
    reached = [any(m.enforcement in served.enforcements for m in step.alternatives) for step in steps]
    texts = list(dict.fromkeys(step_text(step, unserved) for step in steps))
    state = HELD if all(reached) else PARTLY if any(reached) else GAP
    text = "%s: %s" % (violation, "; then ".join(texts))
    return text + ("; where it is allowed, nothing is opened" if allowed else ""), state
