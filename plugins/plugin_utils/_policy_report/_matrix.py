# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Violation × location × account type × add-on → outcome. PRIVATE to the collection."""

from __future__ import annotations

from itertools import combinations

from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import (
    FAULT,
    fee_text,
    notice_text,
    step_text,
)


def matrix(policy, violation=None, location=None, account_type=None, addons=None):
    """Every outcome there is: one row per violation, location, account type and set of the policy's add-ons.

    The arguments narrow it; `addons` is then taken as it is.

    :raises PolicyError: an unknown violation, location or account type
    :returns: list of dicts violation, location, account_type, addons, allowed, clause, fault, first_step (None: no
        step), steps, fees, notice, reason; first_step and what follows in words
    """
    sets = subsets(policy.addons())
    return [
        _row(policy, name, place, kind, chosen)
        for name in ([violation] if violation else sorted(policy.document["violations"]))
        for place in ([location] if location else sorted(policy.locations))
        for kind in ([account_type] if account_type else sorted(policy.account_types))
        for chosen in (sets if addons is None else [tuple(sorted(addons))])
    ]


def subsets(addons):
    """Every set of these add-ons as a tuple, the empty one first."""
    return [one for size in range(len(addons) + 1) for one in combinations(addons, size)]


def outcomes(policy, addons):
    """`{(violation, location, account type, add-ons): row}` of all sets of the add-ons given."""
    return {
        (name, place, kind, chosen): _row(policy, name, place, kind, chosen)
        for name in policy.document["violations"]
        for place in policy.locations
        for kind in policy.account_types
        for chosen in subsets(sorted(addons))
    }


def matrix_lines(rows):
    """What `matrix` returned, in lines for people; equal outcomes of a violation in one."""
    places = {}
    for row in rows:
        where = "%s/%s%s" % (row["location"], row["account_type"], "".join(" +%s" % one for one in row["addons"]))
        places.setdefault((row["violation"], outcome_text(row)), []).append(where)
    return ["%s at %s: %s" % (name, ", ".join(where), text) for (name, text), where in places.items()]


def outcome_text(row):
    """An outcome in one line."""
    if row["allowed"]:
        return "allowed [%s]" % row["clause"]
    parts = ["; then ".join(row["steps"]) or "no step", "fault %s" % FAULT[row["fault"]]]
    parts += ["fee %s" % fee for fee in row["fees"]]
    return ", ".join([*parts, "notice %s" % (row["notice"] or "none stated")])


def _row(policy, name, location, account_type, addons):
    violation = policy.violation(name, location, account_type, addons)
    steps = spared_ladder(violation, addons)
    notice = steps[0].notice if steps else violation.notice
    return {
        "violation": name,
        "location": location,
        "account_type": account_type,
        "addons": list(addons),
        "allowed": violation.allowed,
        "clause": violation.clause,
        "fault": violation.fault,
        "first_step": step_text(steps[0]) if steps else None,
        "steps": [step_text(step) for step in steps],
        "fees": [fee_text(policy.fee(fee)) for fee in violation.fees],
        "notice": notice_text(policy.notice(notice)) if notice is not None else None,
        "reason": violation.reason,
    }


def spared_ladder(violation, addons):
    """The steps that remain for a service with these add-ons."""
    return [step for step in violation.ladder if not set(step.unless) & set(addons)]


def outcomes_by_place(policy, name, addons=()):
    """`[(Violation, {(location, account_type)…})]`, equal outcomes together, in order of first place."""
    found = []
    for location in sorted(policy.locations):
        for account_type in sorted(policy.account_types):
            outcome = policy.violation(name, location, account_type, addons)._replace(reason=None)
            for known, places in found:
                if known == outcome:
                    places.add((location, account_type))
                    break
            else:
                found.append((outcome, {(location, account_type)}))
    return found


def where_text(policy, places):
    """A set of (location, account type) in words: `everywhere`, `at ams and fra`, `at ams (business)`."""
    types = sorted(policy.account_types)
    by_types = {}
    for location in sorted(policy.locations):
        mine = tuple(one for one in types if (location, one) in places)
        if mine:
            by_types.setdefault(mine, []).append(location)
    parts = []
    for mine, locations in sorted(by_types.items(), key=lambda item: item[1]):
        place = "everywhere" if len(locations) == len(policy.locations) else "at %s" % ", ".join(locations)
        parts.append(place if len(mine) == len(types) else "%s (%s)" % (place, ", ".join(mine)))
    return "; ".join(parts)


def grouped(policy):
    """The matrix for reading: rows of equal outcome together, add-ons only where they change something.

    :returns: list of dicts violation, summary, where, addons (text), allowed, clause, fault, steps, fees, notice
    """
    rows = []
    for name in sorted(policy.document["violations"]):
        plain = _by_outcome(policy, name, ())
        rows += [_reading(policy, name, "", key, places) for key, places in plain]
        for addon in policy.addons():
            for key, places in _by_outcome(policy, name, (addon,)):
                if (key, places) not in plain:
                    rows.append(_reading(policy, name, addon, key, places))
    return rows


def _by_outcome(policy, name, addons):
    found = {}
    for location in sorted(policy.locations):
        for account_type in sorted(policy.account_types):
            row = _row(policy, name, location, account_type, addons)
            lists = tuple(row["steps"]), tuple(row["fees"])
            key = (row["allowed"], row["clause"], row["fault"], *lists, row["notice"])
            found.setdefault(key, set()).add((location, account_type))
    return list(found.items())


def _reading(policy, name, addon, key, places):
    allowed, clause, fault, steps, fees, notice = key
    return {
        "violation": name,
        "summary": policy.document["violations"][name].get("summary"),
        "where": where_text(policy, places),
        "addons": addon,
        "allowed": allowed,
        "clause": clause,
        "fault": FAULT[fault],
        "steps": list(steps),
        "fees": list(fees),
        "notice": notice,
    }
