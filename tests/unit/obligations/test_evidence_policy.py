# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy may say of evidence, what it may not, and which class that gives."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._evidence import class_of
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names

DOCUMENT = load_policy("xtom").document


def changed(**classes):
    document = copy.deepcopy(DOCUMENT)
    document["evidence"]["classes"].update(classes)
    return document


@pytest.mark.parametrize("name", ["xtom", "location", "metrovps"])
def test_no_file_of_prohibited_content(name):
    rules = load_policy(name).evidence()
    assert class_of(rules, "child_abuse_material")[1]["hash_only"]
    with pytest.raises(InputError, match="hash alone"):
        class_of(rules, "child_abuse_material", "general")
    name, terms = class_of(rules, "spam")
    assert (name, terms["hash_only"], terms["retention"], rules["personal_data"]) == ("general", False, "1095d", "1095d")


@pytest.mark.parametrize("name", sorted(shipped_names()))
def test_nothing_personal_is_kept_for_ever(name):
    rules = load_policy(name).evidence()
    assert rules["personal_data"] and all(one["hash_only"] or one["retention"] for one in rules["classes"].values()) and "general" in rules["classes"]


def test_without_a_section_all_is_general():
    assert Policy.from_document({key: value for key, value in DOCUMENT.items() if key != "evidence"}).evidence() == {"largest_mib": 256, "classes": {}}
    assert class_of({}, "spam") == ("general", {})


@pytest.mark.parametrize(("document", "said"), [
    (changed(report={"retention": 30}), "evidence.classes.report.retention"),
    (changed(report={"retention": "30d", "hash_only": True}), "evidence.classes.report.retention"),
    (changed(report={"violations": ["no_such"]}), "evidence.classes.report.violations[0]"),
    (changed(report={"violations": ["child_abuse_material"]}), "a violation of one class"),
    (changed(report={"clause": "xtom.999"}), "evidence.classes.report.clause"),
    (changed(report={"hash_only": "yes"}), "evidence.classes.report.hash_only"),
    (dict(DOCUMENT, evidence={"largest_mib": 0}), "evidence.largest_mib"),
    (dict(DOCUMENT, evidence={"keep": "1d"}), "evidence.keep"),
])
def test_bad_evidence_is_refused_with_its_place(document, said):
    with pytest.raises(PolicyError) as caught:
        Policy.from_document(document, source="house.yml")
    assert said in str(caught.value) and "house.yml" in str(caught.value)
