# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole matrix as the deciding code answers it: complete, the same as what is printed, and true to rules for all."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import course, matrix_page, outcome, side_by_side
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import spared_ladder, subsets
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._side_by_side import addons_text
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from policy_cases import changed

POLICIES = {name: load_policy(name) for name in shipped_names()}
ROWS = side_by_side(POLICIES.values())
PAGE = Path(__file__).parents[3] / "docs" / "policies" / "matrix.md"
STRICT, LENIENT = "at dusseldorf, dusseldorf-2, falkenstein, finland", "at moscow, other"


def cells(policy):
    return [(violation, location, account_type, addons) for violation in policy.document["violations"]
            for location in policy.locations for account_type in policy.account_types for addons in subsets(policy.addons())]


def row(violation, policy, where="everywhere", addons=""):
    (found,) = [one for one in ROWS if (one["violation"], one["policy"]) == (violation, policy)
                and (one["where"], one["addons"]) == (where, addons)]
    return found["outcome"]


@pytest.mark.parametrize("name", shipped_names())
def test_each_cell_of_a_policy_is_in_one_row_and_answered_as_the_row_says(name):
    policy = POLICIES[name]
    wanted = cells(policy)
    shown = [(one["violation"], *cell) for one in ROWS if one["policy"] == name for cell in one["cells"]]
    assert sorted(shown) == sorted(wanted)
    by_cell = {(one["violation"], *cell): one["outcome"] for one in ROWS if one["policy"] == name for cell in one["cells"]}
    for violation, *where in wanted:
        assert outcome(policy, violation, *where) == by_cell[violation, *where]


def test_a_policy_without_a_rule_is_named_as_such():
    for violation in {one["violation"] for one in ROWS}:
        ruled = {one["policy"] for one in ROWS if one["violation"] == violation} - {None}
        (unruled,) = [one["unruled"] for one in ROWS if one["violation"] == violation and one["policy"] is None] or [[]]
        assert ruled == {name for name, policy in POLICIES.items() if violation in policy.document["violations"]}
        assert ruled | set(unruled) == set(POLICIES) and not ruled & set(unruled)


@pytest.mark.parametrize("name", shipped_names())
def test_who_follows_a_ladder_comes_to_its_end_and_meets_no_step_that_is_not_in_the_file(name):
    """What `respond` does, call by call, is the ladder as written; a person decides unless the policy says otherwise."""
    policy = POLICIES[name]
    for violation, *where in cells(policy):
        whole = policy.violation(violation, *where)
        turns = course(policy, violation, *where)
        assert [turn.step for turn in turns] == spared_ladder(whole, where[2]), (violation, where)
        for turn in turns:
            assert turn.needed == (turn.step.after["condition"] if turn.step.after else None), (violation, where)
            kinds = {measure.enforcement for measure in turn.step.alternatives}
            by_itself = turn.step.said and turn.step.mode == "act" and "terminate" not in kinds
            assert turn.action == ("act" if by_itself else "propose"), (violation, where)
        if whole.allowed:
            assert not turns and not whole.fees
        if whole.fault == "none":
            assert not whole.fees, "who has no fault pays nothing"


def test_the_same_trigger_has_another_outcome_under_each_policy():
    """An attacked server, a spammer, a miner: as the texts have it, read from the printed rows."""
    attacked = row("attack_target", "alteron", addons="without ddos_mitigation")
    assert (attacked.fault, attacked.fees) == ("none", ())
    assert attacked.turns[0] == "suspended for 48 h, by itself" and attacked.turns[1].startswith("if it goes on: ")
    assert row("attack_target", "alteron", addons="ddos_mitigation").turns == ("suspended for 48 h, by itself",)
    assert row("attack_target", "xtom").turns == ("suspended until remedied, by itself", "if others are harmed: terminated")
    assert row("spam", "alteron").turns[0] == "suspended until decided" and "60.00 EUR" in row("spam", "alteron").fees[0]
    for name in ("xtom", "metrovps", "asergo", "location"):
        assert row("spam", name).turns[0] == "outgoing mail closed (port 25) until remedied" and row("spam", name).fees == ()
    assert row("compromised", "alteron", addons="any of firewall_administration, fully_managed, security_administration"
               ).fault == "none"
    assert row("compromised", "alteron", addons="none of firewall_administration, fully_managed, security_administration"
               ).fault == "decided per case"


def test_what_depends_on_the_place_does():
    for violation in ("mining", "farming"):
        assert not row(violation, "location", STRICT).allowed and row(violation, "location", STRICT).clause == "location.2.7"
        assert row(violation, "location", LENIENT).allowed
    assert not row("plotting", "location", STRICT).allowed and not row("plotting", "location", LENIENT).allowed
    assert row("adult_content", "location", "at dusseldorf, dusseldorf-2, other").allowed
    assert not row("adult_content", "location", "at falkenstein, finland, moscow").allowed
    # VPN and proxies: own use to all, a company's tasks on business accounts, for strangers to nobody.
    assert row("vpn_own_use", "location").allowed
    assert row("vpn_internal_tasks", "location", "everywhere (business)").allowed
    personal = row("vpn_internal_tasks", "location", "everywhere (personal)")
    assert not personal.allowed and personal.turns == () and personal.fault == "decided per case"
    assert not row("vpn_service", "location").allowed
    # The text puts nodes of chains with mining; the control has all four or none.
    policy = POLICIES["location"]
    for location in policy.locations:
        setting = policy.control("mining", location, "personal")
        strict = location in ("falkenstein", "finland", "dusseldorf", "dusseldorf-2")
        assert setting.mode == ("enforce" if strict else "off")
        assert not strict or set(setting.options["activities"]) == {"mining", "farming", "plotting", "nodes"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.text(max_size=20), st.sampled_from(["location", "account type", "violation"]))
@example("location", "Falkenstein", "location")
@example("location", "", "location")
@example("alteron", "dedicated", "account type")
def test_what_a_policy_does_not_know_is_refused_and_never_a_default(name, word, what):
    policy = POLICIES[name]
    known = {"location": policy.locations, "account type": policy.account_types, "violation": policy.document["violations"]}
    assume(word not in known[what])
    violation = next((one for one in sorted(policy.document["violations"])), None)
    given_ = {"violation": violation, "location": min(policy.locations), "account type": min(policy.account_types), what: word}
    for ask in (outcome, course):
        with pytest.raises(PolicyError) as caught:
            ask(policy, given_["violation"], given_["location"], given_["account type"])
        assert caught.value.remedy


def test_the_page_says_what_the_rows_say():
    """Its lines are the rows, and nothing is in it twice or forged by a policy's text."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == matrix_page(POLICIES.values()), "run scripts/policy-docs and commit docs/policies"
    lines = [line for line in text.partition("## Standing controls")[0].splitlines() if line.startswith("| [")]
    assert len(lines) == sum(one["policy"] is not None for one in ROWS)
    assert "| [alteron](alteron.md) | everywhere | without ddos_mitigation | none | suspended for 48 h, by itself |" in text
    forged = matrix_page([Policy.from_document(changed(("violations", "spam", "summary"), "x | y\n| z <script>alert(1)</script>"))])
    assert "<script" not in forged and "\n| z" not in forged and "x \\| y \\| z &lt;script&gt;" in forged


@pytest.mark.parametrize("sets, relevant, text", [
    ([(), ("a",)], [], ""), ([(), ("a",)], ["a"], ""), ([()], ["a"], "without a"), ([("a",)], ["a"], "a"),
    ([()], ["a", "b"], "none of a, b"), ([("a",), ("b",), ("a", "b")], ["a", "b"], "any of a, b"),
    ([("a",), ("a", "b")], ["a", "b"], "a; a + b"), ([(), ("b",)], ["a", "b"], "none; b"),
    ([("a", "x"), ("a",)], ["a"], "a"),
])
def test_sets_of_add_ons_in_words(sets, relevant, text):
    assert addons_text(sets, relevant) == text
