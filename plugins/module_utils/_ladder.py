# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which step of a policy's ladder comes next for a service, and why. Pure: no I/O, no clock. PRIVATE to the collection.

One call is one step. Steps are taken in their order; one that an add-on spares is passed over. A step without a
condition follows the one before it. `persists` and `unanswered` belong to that order too; `repeated` and
`harms_others` are facts of their own, so an unmet step before them does not stand in their way.
"""
from __future__ import annotations

from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text, iso, parse_duration

ACT, PROPOSE, NOTHING = "act", "propose", "nothing"
EVIDENCE = ("persists", "unanswered", "harms_others")
_IN_ORDER = ("persists", "unanswered")

Subject = namedtuple("Subject", "location account_type addons")
Subject.__doc__ = "What of a service a policy's rules look at."

History = namedtuple("History", "opened_at taken proposed occurrences notified_at")
History.__new__.__defaults__ = (None, (), (), (), None)
History.__doc__ = """What happened so far to one service in one case. Times in seconds since the epoch.

opened_at: when the case was opened, None for one that is not open yet; taken: dicts `kind`, `at` and `in_force`
of the case's enforcements in the order they were opened (cancelled ones left out), with `until_at` or None;
proposed: ids of open proposals of this case by kind, `{kind: id}` or pairs; occurrences: when each case of this
violation was opened for this service, this case included if it is open; notified_at: when the notice that the
customer may answer went out.
"""

Decision = namedtuple("Decision", "action number step measure why passed ahead waits_until violation")
Decision.__doc__ = """What to do now.

action: act|propose|nothing; number: the step, from 0, or None; step: LadderStep; measure: the Measure chosen of
its alternatives; why: a sentence; passed: sentences on steps passed over and alternatives not chosen; ahead: what
the next step after this would be (Ahead) or None; waits_until: with nothing, the time from which the same evidence
suffices, or None; violation: the policy's Violation.
"""

Ahead = namedtuple("Ahead", "number kinds mode needs earliest_at")
Ahead.__doc__ = """A step to come: its kinds, its mode, what it needs (a sentence) and, where only time is missing
beside the evidence, the earliest time."""


def next_step(policy, violation, subject, history, evidence, now, kind=None, can=None, confirmed=False):
    """The next step of the ladder of a violation.

    :param policy: Policy
    :param violation: its name
    :param subject: Subject
    :param history: History
    :param evidence: `{"persists": bool, "unanswered": bool, "harms_others": bool}` as the caller vouches for it
    :param kind: the alternative that the operator wants, or None for the first that can be done
    :param can: `can(measure) -> None or a sentence why this service's backends can't`
    :param confirmed: a person says that the step is to be done now although the policy leaves it at a proposal;
        never for terminate
    :returns: Decision
    :raises PolicyError: as `Policy.violation`
    :raises InputError: `kind` is not among the alternatives of the step
    """
    whole = policy.violation(violation, subject.location, subject.account_type, subject.addons)
    ladder, passed = whole.ladder, []

    def nothing(why, number=None, waits_until=None):
        ahead = _ahead(policy, whole, subject, history, -1 if number is None else number - 1, now)
        return Decision(NOTHING, None, None, None, why, tuple(passed), ahead, waits_until, whole)

    if whole.allowed:
        return nothing("%s is allowed here by clause %s (%s)." % (violation, whole.clause, whole.reason))
    if not ladder:
        return nothing("policy %s has no ladder for %s." % (policy.key, violation))
    last = max(steps_taken(ladder, history.taken), default=-1)
    blocked, reasons, waits = False, [], []
    for number in range(last + 1, len(ladder)):
        step = ladder[number]
        sparing = sorted(set(step.unless) & set(subject.addons))
        if sparing:
            passed.append("step %d (%s) is passed over: the service has %s." % (
                number + 1, kinds_text(step), ", ".join(sparing)))
            continue
        condition = step.after["condition"] if step.after else None
        if blocked and (condition is None or condition in _IN_ORDER):
            continue
        met, why, from_when = _condition(policy, ladder, number, history, evidence, now)
        if not met:
            blocked = True
            reasons.append("step %d (%s): %s" % (number + 1, kinds_text(step), why))
            if from_when is not None:
                waits.append((from_when, number))
            continue
        return _taken(policy, whole, number, why, subject, history, evidence, now, kind, can, confirmed, passed)
    if reasons:
        first = min(waits) if waits else (None, None)
        return nothing("; ".join(reasons) + ".", last + 1, first[0])
    if last + 1 >= len(ladder):
        return nothing("the ladder of %s has no further step; its last was %s." % (violation, kinds_text(ladder[-1])),
                       len(ladder))
    return nothing("every step left is spared: %s" % " ".join(passed), len(ladder))


def _taken(policy, whole, number, why, subject, history, evidence, now, kind, can, confirmed, passed):
    step = whole.ladder[number]
    measure, chosen_why = _alternative(step, kind, can, passed)
    ahead = _ahead(policy, whole, subject, history, number, now, taken_now=True)
    if measure is None:
        return Decision(NOTHING, number, step, None, "step %d (%s) can't be done here: %s" % (
            number + 1, kinds_text(step), chosen_why), tuple(passed), ahead, None, whole)
    waiting = dict(history.proposed).get(measure.enforcement)
    if waiting is not None:
        return Decision(NOTHING, number, step, measure, "step %d (%s) is proposed already (%s) and waits for a person." % (
            number + 1, measure.enforcement, waiting), tuple(passed), ahead, None, whole)
    holding = [entry for entry in history.taken if entry["kind"] == measure.enforcement and entry.get("in_force")]
    if holding:
        return Decision(NOTHING, number, step, measure, "step %d would be %s, which is in force for this case until %s." % (
            number + 1, measure.enforcement, iso(holding[-1].get("until_at")) or "it is lifted"), tuple(passed), ahead,
            holding[-1].get("until_at"), whole)
    why = "step %d of %d of %s (policy %s, clause %s): %s%s" % (
        number + 1, len(whole.ladder), whole.name, policy.key, step.clause, why, chosen_why)
    action, how = _mode(step, measure, confirmed)
    return Decision(action, number, step, measure, why + how, tuple(passed), ahead, None, whole)


def _mode(step, measure, confirmed):
    if measure.enforcement == "terminate":
        return PROPOSE, "; terminate is only ever proposed, and another person agrees"
    if step.said and step.mode == ACT:
        return ACT, ""
    if confirmed:
        return ACT, "; a person confirmed it"
    if step.said:
        return PROPOSE, "; the policy leaves it to a person"
    return PROPOSE, "; the policy does not say act, so a person decides"


def steps_taken(ladder, taken):
    """The numbers of the steps that these enforcements were, one for each that fits.

    An enforcement is the first step not taken yet that has its kind, wherever it came from: by `respond`, or by hand.
    """
    numbers = []
    for entry in taken:
        for number, step in enumerate(ladder):
            if number not in numbers and any(m.enforcement == entry["kind"] for m in step.alternatives):
                numbers.append(number)
                break
    return numbers


def _step_at(ladder, taken):
    """`{number: when it was taken}`."""
    return dict(zip(steps_taken(ladder, _fitting(ladder, taken)), [entry["at"] for entry in _fitting(ladder, taken)]))


def _fitting(ladder, taken):
    """Those of `taken` that are a step each, in order."""
    found, numbers = [], []
    for entry in taken:
        after = steps_taken(ladder, found + [entry])
        if len(after) > len(numbers):
            found, numbers = found + [entry], after
    return found


def _condition(policy, ladder, number, history, evidence, now):
    """(met, why, the time from which it would be met with this evidence or None) of one step's condition."""
    after = ladder[number].after
    if after is None:
        return True, "at once" if number == 0 else "it follows the step before", None
    condition, seconds = after["condition"], after["seconds"]
    if condition == "unanswered" and seconds is None:
        seconds = _wait(policy, ladder[number])
    if condition == "repeated":
        times = after["times"] or 2
        begun = [at for at in history.occurrences if seconds is None or at > now - seconds]
        count = len(begun) + (history.opened_at is None)  # the case that this call opens counts
        within = " within %s" % duration_text(seconds) if seconds is not None else ""
        if count >= times:
            return True, "it happened %d times%s" % (count, within), None
        return False, "it is for the time number %d%s, this is number %d" % (times, within, count), None
    if not evidence.get(condition):
        return False, "needs that %s; say it with %s=true when it is so" % (_MEANS[condition], condition), None
    if condition == "harms_others":
        return True, _MEANS[condition], None
    if condition == "unanswered":
        start, what = history.notified_at, "the customer was told"
    else:
        times = _step_at(ladder, history.taken)
        start, what = max((at for one, at in times.items() if one < number), default=None), "the step before"
    if start is None:
        start, what = history.opened_at, "the case was opened"
    if seconds is None:
        return True, _MEANS[condition], None
    if start is None:
        return False, "needs that %s for %s, and the case begins now" % (_MEANS[condition], duration_text(seconds)), now + seconds
    if now >= start + seconds:
        return True, "%s, %s after %s" % (_MEANS[condition], duration_text(seconds), what), None
    return False, "%s, but %s after %s is only at %s" % (
        _MEANS[condition], duration_text(seconds), what, iso(start + seconds)), start + seconds


def _wait(policy, step):
    """How long the step's notice gives the customer, in seconds, or None."""
    wait = policy.notice(step.notice).get("wait") if step.notice is not None else None
    return None if wait is None else parse_duration(wait)


_MEANS = {"persists": "it goes on", "unanswered": "the customer did not answer", "harms_others": "other customers suffer"}


def _alternative(step, kind, can, passed):
    """(Measure or None, what to add to the reason)."""
    kinds = [measure.enforcement for measure in step.alternatives]
    if kind is not None and kind not in kinds:
        raise InputError("%s is no alternative of this step, which is %s." % (kind, kinds_text(step)), target="kind",
                         remedy="Name one of these, leave it out, or use the playbook of %s by your own decision." % kind)
    refused = []
    for measure in step.alternatives:
        if kind is not None and measure.enforcement != kind:
            continue
        trouble = can(measure) if can is not None else None
        if trouble is None:
            if len(kinds) == 1:
                return measure, ""
            if kind is not None:
                return measure, "; %s of %s, as the operator named it" % (kind, " or ".join(kinds))
            passed.extend(refused)
            return measure, "; %s of %s, the first that can be done here" % (measure.enforcement, " or ".join(kinds))
        refused.append("%s is not possible here: %s" % (measure.enforcement, trouble))
    return None, " ".join(refused)


def _ahead(policy, whole, subject, history, number, now, taken_now=False):
    """The step after `number`, as it would be if that one is done now."""
    for later in range(number + 1, len(whole.ladder)):
        step = whole.ladder[later]
        if set(step.unless) & set(subject.addons):
            continue
        after, earliest = step.after, None
        if after is None:
            needs = "at the next call"
        elif after["condition"] == "repeated":
            within = " within %s" % duration_text(after["seconds"]) if after["seconds"] is not None else ""
            needs = "when it happens %d times%s" % (after["times"] or 2, within)
        else:
            needs = "when %s (%s=true)" % (_MEANS[after["condition"]], after["condition"])
            seconds = after["seconds"]
            if after["condition"] == "unanswered" and seconds is None:
                seconds = _wait(policy, step)
            if seconds is not None:
                start = now if taken_now and after["condition"] == "persists" else None
                if start is None and after["condition"] == "unanswered":
                    start = history.notified_at or history.opened_at or now
                if start is None:
                    start = max(_step_at(whole.ladder, history.taken).values(), default=history.opened_at or now)
                earliest = start + seconds
        terminate = any(measure.enforcement == "terminate" for measure in step.alternatives)
        return Ahead(later, tuple(m.enforcement for m in step.alternatives),
                     PROPOSE if terminate or not (step.said and step.mode == ACT) else ACT, needs, earliest)
    return None


def kinds_text(step):
    """The kinds of a step's alternatives, in words."""
    return " or ".join(measure.enforcement for measure in step.alternatives)


def ahead_text(ahead):
    """What comes next, as a sentence without its point; None is the end of the ladder."""
    if ahead is None:
        return "no further step"
    return "step %d, %s%s, %s%s" % (
        ahead.number + 1, "a proposal of " if ahead.mode == PROPOSE else "", " or ".join(ahead.kinds), ahead.needs,
        ", not before %s" % iso(ahead.earliest_at) if ahead.earliest_at is not None else "")
