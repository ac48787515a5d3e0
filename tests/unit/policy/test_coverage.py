# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every clause has a carrier, no carrier claims code that isn't there, and the committed pages say so."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import Served, coverage, page
from ansible_collections.hosting.aup.plugins.plugin_utils._served import SERVED
from policy_cases import DOCUMENT, changed

ROOT = Path(__file__).resolve().parents[3]
TEST = "tests/unit/policy/test_ladders.py::test_open"
# The numbers that the texts' clauses have.
NUMBERS = {
    "alteron": [str(number) for number in range(1, 45)],
    "metrovps": [str(number) for number in range(1, 43)],
    "asergo": [str(number) for number in range(1, 28)],
    "xtom": [str(number) for number in range(1, 40)],
    "location": [
        "0", *("1.%d" % number for number in range(1, 13)), "2.1", "2.2", "2.3", "2.4", "2.7",
        "3.1", "3.2", "3.3", "3.4", "4.1",
    ],
}


def names_of_tests(path):
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_clause_of_the_text_is_there_under_its_number(name):
    assert set(load_policy(name).clauses) == {"%s.%s" % (name, number) for number in NUMBERS[name]}


@pytest.mark.parametrize("name", shipped_names())
def test_every_clause_has_a_carrier_and_none_claims_what_is_not_there(name):
    for clause in coverage(load_policy(name), SERVED):
        assert clause["carriers"], clause["clause"]
        for carrier in clause["carriers"]:
            where = (clause["clause"], carrier["text"])
            assert carrier["state"] != "idle", ("switched off in this policy, so it holds nothing", where)
            if carrier["kind"] in ("human", "gap"):
                assert not carrier["tests"], where
            else:
                assert carrier["tests"], where
                assert carrier["state"] in ("held", "partly"), ("not carried out: say so as a gap", where)


@pytest.mark.parametrize("name", shipped_names())
def test_every_test_that_a_carrier_names_exists(name):
    named = {test for clause in coverage(load_policy(name), SERVED) for one in clause["carriers"] for test in one["tests"]}
    assert named
    for test in sorted(named):
        path, _, function = test.partition("::")
        assert (ROOT / path).is_file(), test
        assert function in names_of_tests(path), test


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_no_violation_rests_on_nothing_of_the_text(name):
    """Each violation and control of the five rests on a clause that names it, or one of its steps, as its carrier or
    says by a person or gap what carries it; a clause that only its violation knows would be invented."""
    policy = load_policy(name)
    for violation in policy.document["violations"].values():
        assert policy.clauses[violation["clause"]].get("held_by")


def carrier(policy_part, document=None, served=SERVED, **more):
    document = document or DOCUMENT
    document = dict(document, clauses=dict(document["clauses"]))
    document["clauses"]["house.1"] = {"summary": "no spam", "held_by": [dict(policy_part, **more)]}
    return coverage(Policy.from_document(document), served)[0]


ALL = Served({"smtp_outbound"}, {"suspend", "null_route"})


def test_a_control_that_is_off_holds_nothing():
    one = carrier({"control": "anti_spoofing", "tests": TEST}, served=Served({"anti_spoofing"}, ()))
    assert (one["state"], one["carriers"][0]["state"]) == ("gap", "idle")


def test_a_control_that_no_backend_carries_out_is_a_gap_whatever_the_policy_claims():
    one = carrier({"control": "smtp_outbound", "tests": TEST}, served=Served((), ()))
    assert one["state"] == "gap"
    assert "not carried out by this version" in one["carriers"][0]["text"]
    assert carrier({"control": "smtp_outbound", "tests": TEST}, served=ALL)["state"] == "held"


def test_a_ladder_is_held_in_part_when_some_steps_are_not_carried_out():
    part = {"violation": "spam", "tests": TEST}
    assert carrier(part, served=ALL)["state"] == "held"
    # The second step has null_route and suspend as alternatives: one of them suffices.
    assert carrier(part, served=Served((), {"suspend"}))["state"] == "held"
    assert carrier(part, served=Served((), {"null_route"}))["state"] == "partly"
    assert carrier(part, served=Served((), {"smtp_block"}))["state"] == "gap"
    marked = carrier(part, served=Served((), {"suspend"}))["carriers"][0]["text"]
    assert "null-routed for 24 h°" in marked and "48 h°" not in marked


def test_a_ladder_without_a_step_holds_nothing():
    empty = changed(("violations", "spam", "ladder"), [])
    assert carrier({"violation": "spam", "tests": TEST}, empty, ALL)["carriers"][0]["state"] == "idle"


def test_a_person_and_a_gap_are_what_they_are():
    assert carrier({"human": "somebody decides"})["state"] == "person"
    assert carrier({"gap": "nothing does"})["state"] == "gap"
    assert coverage(Policy.from_document(DOCUMENT), SERVED)[0]["state"] == "unstated"


def test_clauses_come_in_the_order_of_their_numbers():
    numbers = [row["clause"] for row in coverage(load_policy("location"), SERVED)]
    assert numbers.index("location.1.2") < numbers.index("location.1.10") < numbers.index("location.2.1")


def policy_docs():
    """scripts/policy-docs as a module."""
    loader = importlib.machinery.SourceFileLoader("policy_docs", str(ROOT / "scripts" / "policy-docs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("policy_docs", loader))
    loader.exec_module(module)
    return module


def test_the_committed_pages_are_those_that_the_policies_give():
    assert policy_docs().differing() == [], "run scripts/policy-docs and commit docs/policies"


def test_a_page_can_not_be_forged_by_a_policys_text():
    document = changed(("clauses", "house.1", "summary"), "x | y\n| z <script>alert(1)</script> `c` **b**")
    text = page(Policy.from_document(document), SERVED, "house.yml")
    assert "<script" not in text and "\n| z" not in text
    assert "x \\| y \\| z &lt;script&gt;" in text


@pytest.mark.parametrize("name", shipped_names())
def test_a_page_has_each_clause_and_violation(name):
    policy, text = load_policy(name), (ROOT / "docs" / "policies" / (name + ".md")).read_text(encoding="utf-8")
    for clause in policy.clauses:
        assert "\n| %s | " % clause in text
    for violation in policy.document["violations"]:
        assert "\n| %s" % violation in text
