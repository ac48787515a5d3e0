# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a violation leads to when it is followed to its end, asked of the code that decides. PRIVATE to the collection.

A policy's file says what its ladder is; this says what `respond` does with it, call by call.
"""

from __future__ import annotations

from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._ladder import ACT, EVIDENCE, NOTHING, History, Subject, next_step
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import condition_text, measure_text

Turn = namedtuple("Turn", "number action needed step")
Turn.__doc__ = """One step as it is taken: its number from 0; act|propose; what had to be so beside the call itself
(persists|unanswered|harms_others|repeated, or None); the LadderStep."""

# Any time will do: the walk brings its own history. The pause is longer than what a step waits for, as a rule of thumb;
# what waits longer says until when, and the walk goes there.
_BEGINS, _PAUSE = 1_800_000_000, 400 * 86400


def course(policy, violation, location, account_type, addons=()):
    """The steps of a violation in the order in which they come, each with the least that brings it about.

    The case is opened and the customer is told at once; what is proposed is confirmed and carried out; nobody answers.

    :raises PolicyError: an unknown violation, location or account type
    :returns: list of Turn
    """
    subject, turns, taken, now = Subject(location, account_type, tuple(addons)), [], [], _BEGINS
    while True:
        decision, needed, now = _least(policy, violation, subject, taken, now)
        if decision is None:
            return turns
        turns.append(Turn(decision.number, decision.action, needed, decision.step))
        taken.append({"kind": decision.measure.enforcement, "at": now, "in_force": False})


def _least(policy, violation, subject, taken, now):
    """(Decision, what it needed, when) of the next step with as little as possible, or Nones at the ladder's end."""
    opened = _BEGINS if taken else None
    history = History(opened_at=opened, taken=tuple(taken), occurrences=(now,) if taken else (), notified_at=opened)
    decision = next_step(policy, violation, subject, history, {}, now)
    if decision.action != NOTHING:
        return decision, None, now
    history = history._replace(opened_at=_BEGINS, notified_at=_BEGINS, occurrences=(now,))
    for fact in EVIDENCE:
        later = now + _PAUSE
        decision = next_step(policy, violation, subject, history, {fact: True}, later)
        if decision.action == NOTHING and decision.waits_until is not None:
            later = decision.waits_until
            decision = next_step(policy, violation, subject, history, {fact: True}, later)
        if decision.action != NOTHING:
            return decision, fact, later
    counts = {step.after["times"] or 2 for step in decision.violation.ladder
              if step.after and step.after["condition"] == "repeated"}
    for count in sorted(counts):
        decision = next_step(policy, violation, subject, history._replace(occurrences=(now,) * count), {}, now)
        if decision.action != NOTHING:
            return decision, "repeated", now
    return None, None, now


def turn_text(turn):
    """A turn in words: `if it goes on: suspended for 48 h, by itself`; without `by itself` a person confirms it."""
    done = "; or ".join(measure_text(one._replace(review_seconds=None)) for one in turn.step.alternatives)
    condition = condition_text(turn.step.after)
    return "%s%s%s" % (condition + ": " if condition else "", done, ", by itself" if turn.action == ACT else "")
