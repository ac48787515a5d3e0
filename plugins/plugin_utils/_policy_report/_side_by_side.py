# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Violation × policy × location × account type × add-on, all policies side by side. PRIVATE to the collection."""

from __future__ import annotations

from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._policy import CONTROLS
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._course import course, turn_text
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import subsets, where_text
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import FAULT, fee_text, notice_text

Outcome = namedtuple("Outcome", "allowed clause fault turns fees notice")
Outcome.__doc__ = "What follows, in words; turns and fees are tuples of text, notice is text."


def outcome(policy, violation, location, account_type, addons=()):
    """What follows for one service, as `respond` would do it.

    :raises PolicyError: an unknown violation, location or account type
    :returns: Outcome
    """
    whole = policy.violation(violation, location, account_type, addons)
    turns = course(policy, violation, location, account_type, addons)
    notice = turns[0].step.notice if turns else whole.notice
    return Outcome(
        whole.allowed,
        whole.clause,
        FAULT[whole.fault],
        tuple(turn_text(one) for one in turns),
        tuple(fee_text(policy.fee(fee)) for fee in whole.fees),
        notice_text(policy.notice(notice)) if notice is not None else notice_text(None),
    )


def side_by_side(policies):
    """Every cell there is, equal ones of a policy together.

    :param policies: Policy objects
    :returns: list of dicts violation, summary, policy (its name), where (text), cells (the set of (location, account
        type, add-ons) that the row stands for), addons (text), outcome (Outcome); and last, per violation, `unruled`
        names: rows with policy None, for the policies that know no such violation
    """
    policies = list(policies)
    rows = []
    for violation in sorted({name for policy in policies for name in policy.document["violations"]}):
        knowing = [policy for policy in policies if violation in policy.document["violations"]]
        for policy in knowing:
            rows += _of_policy(policy, violation)
        others = [policy.name for policy in policies if policy not in knowing]
        if others:
            rows.append({"violation": violation, "policy": None, "unruled": others})
    return rows


def _of_policy(policy, violation):
    found = {}
    for location in sorted(policy.locations):
        for account_type in sorted(policy.account_types):
            for addons in subsets(policy.addons()):
                what = outcome(policy, violation, location, account_type, addons)
                found.setdefault(what, {}).setdefault(addons, set()).add((location, account_type))
    relevant = _relevant(policy, found)
    rows = []
    for what, by_addons in found.items():
        by_places = {}
        for addons, places in by_addons.items():
            by_places.setdefault(frozenset(places), set()).add(addons)
        for places, sets in by_places.items():
            rows.append({
                "violation": violation,
                "summary": policy.document["violations"][violation].get("summary"),
                "policy": policy.name,
                "where": where_text(policy, places),
                "addons": addons_text(sets, relevant),
                "cells": {(*place, one) for place in places for one in sets},
                "outcome": what,
            })
    return rows


def _relevant(policy, found):
    """The add-ons that change any outcome of the violation: two services that differ in it alone differ in what follows."""
    cells = {(place, addons): what for what, by_addons in found.items() for addons, places in by_addons.items() for place in places}
    return [
        addon
        for addon in policy.addons()
        if any(cells[place, tuple(one for one in addons if one != addon)] != what for (place, addons), what in cells.items())
    ]


def addons_text(sets, relevant):
    """Sets of add-ons in words, by those that matter: '' for any, `none of a, b`, `any of a, b`, `a + b`."""
    sets = {tuple(one for one in addons if one in relevant) for addons in sets}
    if len(sets) == 2 ** len(relevant):
        return ""
    names = ", ".join(relevant)
    if sets == {()}:
        return "none of %s" % names if len(relevant) > 1 else "without %s" % names
    if len(sets) == 2 ** len(relevant) - 1 and () not in sets:
        return "any of %s" % names if len(relevant) > 1 else names
    return "; ".join(" + ".join(one) or "none" for one in sorted(sets))


def controls_side_by_side(policies):
    """Each control × policy × place → mode.

    :returns: list of dicts control, policy, where, mode, clause; controls that are off everywhere in a policy are left out
    """
    rows = []
    policies = list(policies)
    for control in CONTROLS:
        for policy in policies:
            places = {}
            for location in sorted(policy.locations):
                for account_type in sorted(policy.account_types):
                    one = policy.control(control, location, account_type)
                    key = (one.mode, one.clause if one.mode != "off" else "")
                    places.setdefault(key, set()).add((location, account_type))
            if set(places) != {("off", "")}:
                rows += [{"control": control, "policy": policy.name, "where": where_text(policy, where), "mode": mode,
                          "clause": clause} for (mode, clause), where in sorted(places.items())]
    return rows
