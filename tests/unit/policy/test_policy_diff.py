# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new version changes, for whom, and what is owed before it."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import (
    concerned_services,
    diff_lines,
    difference,
    released_version,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._diff import lines_for
from policy_cases import DOCUMENT, changed

OLD = Policy.from_document(DOCUMENT)
PARTS = ("clauses", "controls", "violations", "fees", "exemptions", "evidence", "guardrails")


def new(path, value):
    return Policy.from_document(dict(changed(path, value), version="4"))


def service(name, location, account_type, addons=(), policy=None):
    return {"id": name, "location": location, "account_type": account_type, "addons": list(addons), "policy": policy}


CATALOGUE = {
    "services": {
        one["id"]: one
        for one in (
            service("a-1", "ams", "personal"), service("a-2", "ams", "business"), service("f-1", "fra", "personal"),
            service("f-2", "fra", "personal", ["ddos_mitigation"]), service("x-1", "ams", "personal", policy="other"),
        )
    }
}
OTHER = Policy.from_document(dict(copy.deepcopy(DOCUMENT), name="other"))
RELEASED = {OLD.key: OLD, OTHER.key: OTHER}
RELEASE = {"id": 1, "default_policy": OLD.key}


def concerned(policy):
    found = difference(OLD, policy)
    rows = concerned_services(found, policy, OLD, RELEASE, RELEASED, CATALOGUE)
    return {row["service"]: row["controls"] + row["violations"] for row in rows}


@pytest.mark.parametrize("name", shipped_names())
def test_a_policy_compared_with_itself_has_no_change(name):
    policy = load_policy(name)
    found = difference(policy, policy)
    assert all(found[part] == [] for part in PARTS)
    assert found["locations"] == found["account_types"] == {"added": [], "removed": []}
    assert "nothing changes" in diff_lines(found)


def test_what_is_owed_before_a_change():
    lines = diff_lines(difference(load_policy("asergo"), load_policy("asergo")))
    assert "owed by asergo.22, asergo.23: a material change is told 30 days ahead" in lines
    assert "owed by asergo.22, asergo.23: who terminates over it keeps the old version for 90 days" in lines
    lines = diff_lines(difference(load_policy("xtom"), load_policy("xtom")))
    assert "in force on notice or publication [xtom.2]" in lines
    assert not any("owed" in line for line in lines)
    assert "the old version promises nothing about changes" in diff_lines(difference(OLD, OLD))


def test_a_control_is_compared_by_what_it_means_at_each_place():
    closed = new(("controls", "smtp_outbound", "rules", 0, "mode"), "enforce")
    found = difference(OLD, closed)
    assert [(row["location"], row["account_type"], row["before"]["mode"], row["after"]["mode"]) for row in found["controls"]] == [
        ("ams", "business", "observe", "enforce")
    ]
    assert "control smtp_outbound (ams/business): observe [house.2] (ports 25) → enforce [house.2] (ports 25)" in diff_lines(found)
    assert concerned(closed) == {"a-2": ["smtp_outbound"]}


def test_the_same_rules_written_otherwise_are_no_change():
    document = changed(("controls", "smtp_outbound", "rules", 1, "when"), {"location": "fra", "account_type": ["personal", "business"]})
    assert difference(OLD, Policy.from_document(document))["controls"] == []
    # Who carries a clause out is no matter between provider and customer.
    held = changed(("clauses", "house.1", "held_by"), [{"human": "somebody"}])
    assert all(difference(OLD, Policy.from_document(held))[part] == [] for part in PARTS)


def test_a_ladder_is_compared_by_outcome_and_add_on():
    spared = new(("violations", "spam", "ladder", 1, "unless"), "backup")
    found = concerned(spared)
    # Who has mitigation was spared the second step and no longer is; the others' ladder is as it was.
    assert found == {"f-2": ["spam"]}
    longer = new(("violations", "spam", "ladder", 0, "duration"), "72h")
    assert concerned(longer) == {name: ["spam"] for name in ("a-1", "a-2", "f-1", "f-2")}
    text = "\n".join(diff_lines(difference(OLD, longer)))
    assert "suspended for 48 h [house.1]" in text and "suspended for 3 days [house.1]" in text


def test_clauses_fees_and_guardrails():
    found = difference(OLD, new(("fees", "clean_up", "amount"), "75.00"))
    assert [(row["fee"], row["before"], row["after"]) for row in found["fees"]] == [
        ("clean_up", "60.00 EUR once [house.1]", "75.00 EUR once [house.1]")
    ]
    assert len(found["violations"]) == 2 * 2 * 2, "spam costs more everywhere"
    found = difference(OLD, new(("clauses", "house.9"), {"summary": "no mining"}))
    assert found["clauses"] == [{"clause": "house.9", "before": None, "after": "no mining"}]
    found = difference(OLD, new(("guardrails", "max_services_per_run"), 9))
    assert found["guardrails"] == [{"guardrail": "max_services_per_run", "before": 2, "after": 9}]
    found = difference(OLD, new(("exemptions", "smtp_outbound", "max_duration"), "30d"))
    assert [row["control"] for row in found["exemptions"]] == ["smtp_outbound"]


def test_evidence_is_compared_by_how_long_it_is_kept():
    kept = Policy.from_document(dict(DOCUMENT, version="4", evidence={"personal_data": "180d", "classes": {"general": {"retention": "90d"}}}))
    found = difference(OLD, kept)
    assert [(row["class"], row["before"], row["after"]) for row in found["evidence"]] == [
        ("general", "files without an end", "files for 90 days after the case was closed"),
        ("personal data", "kept until somebody erases it", "emptied 180 days after it was closed"),
    ]
    assert "evidence: personal data: kept until somebody erases it → emptied 180 days after it was closed" in diff_lines(found)


def test_fees_and_exemptions_concern_every_service_of_the_policy():
    shorter = new(("exemptions", "smtp_outbound", "max_duration"), "30d")
    found = difference(OLD, shorter)
    rows = concerned_services(found, shorter, OLD, RELEASE, RELEASED, CATALOGUE)
    assert [(row["service"], row["exemptions"]) for row in rows] == [(name, ["smtp_outbound"]) for name in ("a-1", "a-2", "f-1", "f-2")]
    assert "4 services concerned, of 1 customer" in diff_lines(found, rows)
    assert lines_for(found, rows[:1]) == ["exemption from smtp_outbound: changed"]


def test_a_service_that_the_new_version_does_not_take_is_named():
    document = changed(("locations",), ["ams"])
    document["controls"]["smtp_outbound"]["rules"] = document["controls"]["smtp_outbound"]["rules"][:1]
    policy = Policy.from_document(document)
    found = difference(OLD, policy)
    assert found["locations"] == {"added": [], "removed": ["fra"]}
    rows = concerned_services(found, policy, OLD, RELEASE, RELEASED, CATALOGUE)
    assert [row["service"] for row in rows if row["refused"]] == ["f-1", "f-2"]
    assert any("has no location 'fra'" in line for line in diff_lines(found, rows))


def test_services_of_other_policies_are_not_concerned():
    assert "x-1" not in concerned(new(("violations", "spam", "fault"), "unknown"))


def test_the_version_that_is_replaced_has_the_same_name_or_is_the_default():
    assert released_version(OTHER, RELEASE, RELEASED) is OTHER
    assert released_version(load_policy("xtom"), RELEASE, RELEASED) is OLD
