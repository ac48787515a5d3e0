# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies that could only be found out to be wrong by a customer: refused with place and remedy."""

from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy, PolicyDocumentError
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from policy_cases import DOCUMENT, changed

HEAD = "schema: 1\nname: own\nversion: 1\neffective: 2026-01-01\nprovider: {name: Own}\n"
TEST = "tests/unit/policy/test_ladders.py::test_open"
HELD = ("clauses", "house.1", "held_by")
SPAM = ("violations", "spam")


def refused(document):
    with pytest.raises(PolicyDocumentError) as caught:
        Policy.from_document(document)
    assert caught.value.remedy
    return {problem["path"]: problem for problem in caught.value.problems}


@pytest.mark.parametrize(
    "text, words",
    [
        ("clauses:\n  own.1: {summary: a}\n  own.1: {summary: b}\n", ("p.yml:9", "'own.1' is there twice", "line 8")),
        ("fees:\n  f: {amount: 60.00, clause: house.2}\n", ("p.yml:8", "fees.f.currency", "ISO 4217", "no such key")),
        ("violations:\n  spam:\n    ladder:\n      - {enforcement: suspend, duration: 48}\n",
         ("p.yml:10", "violations.spam.ladder[0].duration", "unit m, h or d", "Did you mean 48m, 48h or 48d?")),
        ("controls:\n  smtp_outbond: {mode: enforce}\n", ("p.yml:8", "known control", "Did you mean smtp_outbound?")),
        ("violations:\n  mining:\n    exhaustive: true\n    rules:\n      - {when: {account_type: personal}, fault: none}\n",
         ("violations.mining.rules", "a rule for each location and account type", "main/business")),
        ("violations:\n  spam:\n    notice: with_action\n    ladder:\n      - {enforcement: suspend, after: %s}\n"
         % "{condition: unanswered, for: 48h}",
         ("p.yml:11", "ladder[0].after.condition", "timed 'with'", "timing is before")),
    ],
)
def test_a_file_that_extends_the_house_rules_wrongly(tmp_path, text, words):
    path = tmp_path / "p.yml"
    path.write_text(HEAD + "extends: default\n" + text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.remedy


def test_a_location_added_to_the_provider_by_location_is_in_no_rule(tmp_path):
    """Who adds a location must say for each rule how it is there."""
    path = tmp_path / "p.yml"
    path.write_text(
        HEAD + "extends: location\nlocations: [dusseldorf, dusseldorf-2, falkenstein, finland, moscow, other, paris]\n",
        encoding="utf-8",
    )
    with pytest.raises(PolicyDocumentError) as caught:
        load_policy(path)
    problems = {problem["path"]: problem for problem in caught.value.problems}
    assert set(problems) == {
        "controls.mining.rules", "violations.mining.rules", "violations.farming.rules", "violations.plotting.rules",
        "violations.adult_content.rules",
    }
    for problem in problems.values():
        assert "paris/personal" in problem["found"] and "Add it to a rule" in problem["hint"]


@pytest.mark.parametrize("control", [("controls", "smtp_outbound"), SPAM])
def test_exhaustive_is_satisfied_by_rules_that_name_every_place(control):
    rules = [{"when": {"location": "ams"}, "clause": "house.1"}, {"when": {"account_type": "personal"}, "clause": "house.2"}]
    document = changed((*control, "rules"), rules)
    document[control[0]][control[1]]["exhaustive"] = True
    problem = refused(document)["%s.rules" % ".".join(control)]
    assert problem["found"] == "none for fra/business"
    rules.append({"when": {"location": "fra", "account_type": "business"}, "clause": "house.1"})
    Policy.from_document(document)
    # A rule for those with an add-on leaves the others without one.
    if control == SPAM:
        rules[-1]["when"]["addons"] = "backup"
        assert refused(document)["violations.spam.rules"]["found"] == "none for fra/business"


@pytest.mark.parametrize(
    "ladder, path, found",
    [
        ([{"enforcement": "terminate", "mode": "propose"}, {"enforcement": "suspend"}], "ladder[1]", "a step after terminate"),
        ([{"enforcement": "suspend", "after": {"condition": "persists"}}], "ladder[0].after.condition", "first step"),
        ([{"enforcement": "suspend", "after": {"condition": "unanswered", "for": "1d"}}], "ladder[0].after.condition", "timed 'with'"),
        ([{"enforcement": "suspend"}, {"enforcement": "suspend", "after": {"condition": "unanswered"}}],
         "ladder[1].after.for", "no such key"),
    ],
)
def test_a_ladder_that_can_not_reach_its_end(ladder, path, found):
    problem = refused(changed((*SPAM, "ladder"), ladder))["violations.spam.%s" % path]
    assert found in problem["found"]


@pytest.mark.parametrize(
    "ladder",
    [
        [{"enforcement": "suspend"}, {"enforcement": "suspend", "after": {"condition": "unanswered", "for": "1d"}}],
        [{"enforcement": "terminate", "mode": "propose", "unless": "backup"}, {"enforcement": "suspend"}],
        [{"enforcement": "suspend"}, {"enforcement": "terminate", "mode": "propose", "after": {"condition": "persists"}}],
    ],
)
def test_a_ladder_that_can(ladder):
    Policy.from_document(changed((*SPAM, "ladder"), ladder))


def test_nobody_answers_who_was_never_told():
    untold = changed((*SPAM, "ladder"), [{"enforcement": "suspend"},
                                         {"enforcement": "suspend", "after": {"condition": "unanswered", "for": "1d"}}])
    del untold["violations"]["spam"]["notice"]
    assert "not there" in refused(untold)["violations.spam.ladder[1].after.condition"]["found"]
    untold["violations"]["spam"]["notice"] = "told"
    untold["notices"]["told"] = {"timing": "held"}
    assert "'held'" in refused(untold)["violations.spam.ladder[1].after.condition"]["found"]


@pytest.mark.parametrize(
    "carrier, path, expected",
    [
        ({}, "[0]", "one of control, violation, audit, obligation, human, gap"),
        ({"human": "x", "gap": "y"}, "[0]", "one of control"),
        ({"control": "smtp_outbound"}, "[0].tests", "the tests that show it"),
        ({"violation": "spam"}, "[0].tests", "the tests that show it"),
        ({"gap": "x", "tests": TEST}, "[0].tests", "no tests, as gap is no code"),
        ({"human": "x", "tests": TEST}, "[0].tests", "no tests, as human is no code"),
        ({"violation": "no_such", "tests": TEST}, "[0].violation", "a violation declared under violations"),
        ({"control": "no_such", "tests": TEST}, "[0].control", "one of smtp_outbound"),
        ({"obligation": "record", "tests": TEST}, "[0].what", "what is owed"),
        ({"control": "smtp_outbound", "what": "x", "tests": TEST}, "[0].what", "what is owed"),
        ({"obligation": "favour", "what": "x", "tests": TEST}, "[0].obligation", "one of notice, deadline, fee, record"),
        ({"audit": "x", "tests": "test_open"}, "[0].tests", "path::name"),
        ({"audit": "x", "tests": "../../etc/x.py::test_open"}, "[0].tests", "path::name"),
        ({"audit": "x", "tests": []}, "[0].tests", "at least 1"),
    ],
)
def test_a_carrier_that_says_too_little_or_too_much(carrier, path, expected):
    problems = refused(changed(HELD, [carrier]))
    assert expected in problems['clauses["house.1"].held_by%s' % path]["expected"]


def test_an_empty_list_of_carriers_is_no_carrier():
    assert "at least 1" in refused(changed(HELD, []))['clauses["house.1"].held_by']["expected"]


@pytest.mark.parametrize(
    "path, value, told, found",
    [
        ((*SPAM, "allowed"), True, "violations.spam.allowed", "allowed with them"),
        ((*SPAM, "rules"), [{"when": {}, "fault": "none"}], "violations.spam.rules[0].when", "an empty map"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}}], "violations.spam.rules[0]", "a rule that only has when"),
        ((*SPAM, "rules"), [{"when": {"location": "tyo"}, "fault": "unknown"}], "violations.spam.rules[0].when.location", "tyo"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "fault": "none"}], "violations.spam.rules[0].fees", "a list of 1"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "allowed": True, "fees": ["clean_up"]}],
         "violations.spam.rules[0].fees", "a list of 1"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "clause": "house.7"}], "violations.spam.rules[0].clause", "house.7"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "notice": "nobody"}], "violations.spam.rules[0].notice", "nobody"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "fault": "unknown"}] * 2, "violations.spam.rules[1]", "never reached"),
        ((*SPAM, "rules"), [{"when": {"location": "ams"}, "ladder": [{"enforcement": "suspend", "duration": "11d"}]}],
         "violations.spam.rules[0].ladder[0].duration", "11d"),
        (("fees", "clean_up", "due"), "never", "fees.clean_up.due", "never"),
        (("amendments",), {"clauses": "house.8"}, "amendments.clauses[0]", "house.8"),
        (("amendments",), {"clauses": "house.1", "announced": "1 month"}, "amendments.announced", "1 month"),
        (("amendments",), {"announced": "30d"}, "amendments.clauses", "no such key"),
    ],
)
def test_outcomes_and_amendments_that_contradict_themselves(path, value, told, found):
    assert found in refused(changed(path, value))[told]["found"]


def test_a_rule_with_add_ons_hides_no_other():
    """It matches only some services of its place."""
    policy = Policy.from_document(
        changed((*SPAM, "rules"), [
            {"when": {"location": "ams", "addons": "backup"}, "fault": "unknown"},
            {"when": {"location": "ams"}, "clause": "house.2"},
        ])
    )
    assert policy.violation("spam", "ams", "personal", ["backup", "x"]).fault == "unknown"
    assert policy.violation("spam", "ams", "personal", ["x"]).clause == "house.2"
    assert policy.violation("spam", "fra", "personal", ["backup"]).clause == "house.1"


def test_a_violation_with_rules_is_not_judged_without_a_place():
    policy = Policy.from_document(changed((*SPAM, "rules"), [{"when": {"location": "ams"}, "fault": "unknown"}]))
    with pytest.raises(PolicyError, match="has no location None"):
        policy.violation("spam")
    assert Policy.from_document(DOCUMENT).violation("spam").clause == "house.1"
