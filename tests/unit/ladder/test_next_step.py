# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which step comes next: in order, spared, conditional, proposed or done, and what would follow."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._ladder import (
    History,
    Subject,
    ahead_text,
    next_step,
    steps_taken,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import ENFORCEMENTS
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names
from hypothesis import given, settings
from hypothesis import strategies as st

HOUR, DAY, NOW = 3600, 86400, 1_800_000_000
DEFAULT = load_policy("default")
PLAIN = Subject("main", "personal", ())
PROTECTED = Subject("main", "personal", ("ddos_mitigation",))


def policy_with(ladder, **violation):
    return Policy.from_document({
        "schema": 1, "name": "p", "version": "1", "effective": "2026-01-01", "provider": {"name": "P"},
        "clauses": {"p.1": {"summary": "c"}, "p.2": {"summary": "d"}}, "locations": ["main"], "account_types": ["personal"],
        "notices": {"told": {"timing": "before", "wait": "24h"}, "silent": {"timing": "with"}},
        "violations": {"v": {"clause": "p.1", "fault": "customer", "ladder": ladder, **violation}}})


NEW = History()


def ask(policy, history=NEW, evidence=(), subject=PLAIN, now=NOW, violation="v", **more):
    return next_step(policy, violation, subject, history, dict.fromkeys(evidence, True), now, **more)


def begun(*kinds, at=NOW - HOUR, in_force=True, **more):
    taken = tuple({"kind": kind, "at": at, "in_force": in_force, "until_at": NOW + DAY} for kind in kinds)
    return History(opened_at=at, taken=taken, occurrences=(at,), **more)


def test_an_attacked_server_is_suspended_and_if_it_goes_on_null_routed():
    first = ask(DEFAULT, violation="attack_target")
    assert (first.action, first.number, first.measure.enforcement, first.measure.seconds) == ("act", 0, "suspend", 48 * HOUR)
    assert first.violation.fault == "none" and "step 1 of 2" in first.why and "clause house.10" in first.why
    assert ahead_text(first.ahead) == "step 2, null_route or suspend, when it goes on (persists=true)"
    quiet = ask(DEFAULT, begun("suspend"), violation="attack_target")
    assert quiet.action == "nothing" and "persists=true" in quiet.why and quiet.ahead.number == 1
    second = ask(DEFAULT, begun("suspend"), ["persists"], violation="attack_target")
    assert (second.action, second.number, second.measure.enforcement) == ("act", 1, "null_route")
    assert "null_route of null_route or suspend, the first that can be done here" in second.why and second.ahead is None
    over = ask(DEFAULT, begun("suspend", "null_route"), ["persists"], violation="attack_target")
    assert over.action == "nothing" and "no further step" in over.why and ahead_text(over.ahead) == "no further step"


def test_mitigation_spares_it():
    decision = ask(DEFAULT, subject=PROTECTED, evidence=["persists"], violation="attack_target")
    assert decision.action == "nothing" and "ddos_mitigation" in decision.why and len(decision.passed) == 2


def test_alternatives():
    history = begun("suspend", in_force=False)
    refuse = {"null_route": "service 'vps-1' has no address of its own."}
    second = ask(DEFAULT, history, ["persists"], violation="attack_target", can=lambda m: refuse.get(m.enforcement))
    assert second.measure.enforcement == "suspend" and "no address of its own" in " ".join(second.passed)
    named = ask(DEFAULT, history, ["persists"], violation="attack_target", kind="suspend")
    assert named.measure.enforcement == "suspend" and "as the operator named it" in named.why
    with pytest.raises(InputError, match="quarantine is no alternative of this step, which is null_route or suspend"):
        ask(DEFAULT, history, ["persists"], violation="attack_target", kind="quarantine")
    neither = ask(DEFAULT, history, ["persists"], violation="attack_target", can=lambda _m: "no backend does it.")
    assert neither.action == "nothing" and neither.why.count("no backend does it") == 2


@pytest.mark.parametrize(("step", "confirmed", "action"), [
    ({}, False, "propose"), ({}, True, "act"), ({"mode": "act"}, False, "act"), ({"mode": "propose"}, False, "propose"),
    ({"mode": "propose"}, True, "act"), ({"enforcement": "terminate", "mode": "propose"}, True, "propose")])
def test_automation_proposes_unless_the_policy_says_act(step, confirmed, action):
    decision = ask(policy_with([{"enforcement": "suspend", **step}]), confirmed=confirmed)
    assert decision.action == action


def test_persists_counts_from_the_step_before():
    policy = policy_with([{"enforcement": "cpu_throttle", "options": {"share": "20%"}},
                          {"enforcement": "suspend", "after": {"condition": "persists", "for": "24h"}}])
    early = ask(policy, begun("cpu_throttle", at=NOW - DAY + 1), ["persists"])
    assert early.action == "nothing" and early.waits_until == NOW + 1 and early.ahead.earliest_at == NOW + 1
    assert ask(policy, begun("cpu_throttle", at=NOW - DAY), ["persists"]).measure.enforcement == "suspend"
    assert ask(policy, begun("cpu_throttle", at=NOW - DAY)).action == "nothing"
    assert ask(policy).ahead.earliest_at == NOW + DAY


def test_unanswered_counts_from_the_notice_and_its_wait():
    policy = policy_with([{"enforcement": "suspend", "after": {"condition": "unanswered"}}], notice="told")
    told = History(opened_at=NOW - 3 * DAY, notified_at=NOW - DAY + 1)
    assert ask(policy, told, ["unanswered"]).waits_until == NOW + 1
    assert ask(policy, told, ["unanswered"], now=NOW + 1).action == "propose"
    assert ask(policy, told, now=NOW + 1).action == "nothing", "silence is what the caller vouches for"
    fresh = ask(policy, History(), ["unanswered"])
    assert fresh.action == "nothing" and fresh.waits_until == NOW + DAY, "nobody had time to answer"


def test_repeated_counts_cases_within_the_time_and_does_not_wait_for_persists():
    spam = begun("smtp_block")
    third = spam._replace(occurrences=(NOW - 80 * DAY, NOW - 20 * DAY, NOW - HOUR))
    assert ask(DEFAULT, spam, violation="spam").action == "nothing"
    decision = ask(DEFAULT, third, violation="spam")
    assert (decision.action, decision.measure.enforcement) == ("propose", "terminate")
    old = spam._replace(occurrences=(NOW - 91 * DAY, NOW - 20 * DAY, NOW - HOUR))
    assert "this is number 2" in ask(DEFAULT, old, violation="spam").why
    goes_on = third._replace(taken=({"kind": "smtp_block", "at": NOW - 2 * DAY, "in_force": True, "until_at": None},))
    assert ask(DEFAULT, goes_on, ["persists"], violation="spam").measure.enforcement == "suspend", "the earlier step first"


def test_a_case_not_yet_open_is_one_occurrence_more():
    policy = policy_with([{"enforcement": "suspend", "after": {"condition": "repeated", "times": 2, "for": "7d"}}])
    assert ask(policy, History(occurrences=())).action == "nothing"
    assert ask(policy, History(occurrences=(NOW - DAY,))).action == "propose"


def test_harms_others_is_a_fact_of_its_own():
    policy = policy_with([{"enforcement": "suspend"}, {"enforcement": "suspend", "after": {"condition": "persists"}},
                          {"enforcement": "terminate", "mode": "propose", "clause": "p.2", "after": {"condition": "harms_others"}}])
    assert ask(policy, evidence=["harms_others"]).number == 0, "steps are taken in order"
    decision = ask(policy, begun("suspend"), ["harms_others"])
    assert (decision.number, decision.step.clause, decision.action) == (2, "p.2", "propose")


def test_what_waits_and_what_is_in_force_is_not_done_twice():
    policy = policy_with([{"enforcement": "suspend", "mode": "act"}, {"enforcement": "suspend", "after": {"condition": "persists"}}])
    waiting = ask(policy, begun("suspend", in_force=False, proposed=(("suspend", "P-3"),)), ["persists"])
    assert waiting.action == "nothing" and "P-3" in waiting.why
    holding = ask(policy, begun("suspend"), ["persists"])
    assert holding.action == "nothing" and "in force for this case" in holding.why and holding.waits_until == NOW + DAY
    assert ask(policy, begun("suspend", in_force=False), ["persists"]).action == "propose"


def test_no_ladder_and_allowed():
    assert "no ladder" in ask(policy_with([])).why
    moscow = load_policy("location")
    decision = next_step(moscow, "mining", Subject("moscow", "personal", ()), History(), {}, NOW)
    assert decision.action == "nothing" and "allowed" in decision.why


def test_what_was_done_by_hand_counts():
    ladder = DEFAULT.violation("attack_target", "main", "personal").ladder
    taken = [{"kind": kind, "at": NOW} for kind in ("smtp_block", "suspend", "suspend", "suspend")]
    assert steps_taken(ladder, taken) == [0, 1]


SUBJECTS = [(policy, name, Subject(location, account, addons))
            for policy in map(load_policy, shipped_names()) for name in policy.document["violations"]
            for location in sorted(policy.locations)[:2] for account in sorted(policy.account_types)
            for addons in [(), *((addon,) for addon in policy.addons())]]
EVENTS = st.lists(st.tuples(st.sets(st.sampled_from(["persists", "unanswered", "harms_others"])), st.integers(0, 4 * DAY)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SUBJECTS), EVENTS, st.booleans(), st.sets(st.sampled_from(sorted(ENFORCEMENTS))), st.booleans())
def test_any_course_of_a_case_under_any_shipped_policy(subject, events, confirmed, impossible, ends_at_once):
    """Each call does at most one step, never one again, never terminate by itself, and comes to an end."""
    policy, name, who = subject
    ladder = policy.violation(name, *who).ladder
    now, taken, done = NOW, [], []
    for evidence, passes in events:
        now += passes
        history = History(NOW, tuple(taken), (), (NOW,))
        decision = next_step(policy, name, who, history, dict.fromkeys(evidence, True), now, confirmed=confirmed,
                             can=lambda m: "not here" if m.enforcement in impossible else None)
        assert decision.why and isinstance(ahead_text(decision.ahead), str)
        if decision.action == "nothing":
            assert decision.waits_until is None or decision.waits_until >= now
            continue
        step = ladder[decision.number]
        assert decision.number not in done and decision.measure.enforcement not in impossible
        assert not set(step.unless) & set(who.addons)
        if decision.action == "act":
            assert decision.measure.enforcement != "terminate" and (confirmed or (step.said and step.mode == "act"))
        if step.after is not None and step.after["condition"] != "repeated":
            assert step.after["condition"] in evidence
        done.append(decision.number)
        taken.append({"kind": decision.measure.enforcement, "at": now, "in_force": not ends_at_once, "until_at": None})
        # What one kind of step took must not be taken for another.
        if len({m.enforcement for one in ladder for m in one.alternatives}) == sum(len(one.alternatives) for one in ladder):
            assert steps_taken(ladder, taken) == done
    assert len(done) <= len(ladder)
