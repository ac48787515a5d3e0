# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy answers for services, violations, enforcements and exemptions."""

from __future__ import annotations

import json

from ansible_collections.hosting.aup.plugins.module_utils._policy import CONTROLS, ENFORCEMENTS, Policy
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_cases import DOCUMENT, changed

DAY = 86400
HOUSE = Policy.from_document(DOCUMENT)

locations = st.sampled_from(["ams", "fra", "hel", "tyo"])
account_types = st.sampled_from(["personal", "business", "reseller"])
modes = st.sampled_from(["off", "observe", "enforce"])
ports = st.lists(st.integers(1, 65535), min_size=1, max_size=4)


@st.composite
def documents(draw):
    """Valid policies with any locations, account types and smtp rules (those never reached left out)."""
    places = draw(st.lists(locations, min_size=1, unique=True))
    types = draw(st.lists(account_types, min_size=1, unique=True))
    rules, taken = [], set()
    for _ in range(draw(st.integers(0, 4))):
        when = {}
        if draw(st.booleans()):
            when["location"] = draw(st.lists(st.sampled_from(places), min_size=1, unique=True))
        if draw(st.booleans()) or not when:
            when["account_type"] = draw(st.lists(st.sampled_from(types), min_size=1, unique=True))
        mine = {
            (place, kind)
            for place in when.get("location", places)
            for kind in when.get("account_type", types)
        }
        if mine <= taken:
            continue
        taken |= mine
        rule = {"when": when, "mode": draw(modes)}
        if draw(st.booleans()):
            rule["options"] = {"ports": draw(ports)}
        rules.append(rule)
    control = {"mode": draw(modes), "clause": "house.2", "rules": rules}
    if draw(st.booleans()):
        control["options"] = {"ports": draw(ports)}
    document = changed(("controls", "smtp_outbound"), control)
    document.update(locations=places, account_types=types, version=draw(st.sampled_from(["1", 2, "2026-05"])))
    return document


@settings(deadline=None)
@given(documents())
def test_a_validated_document_reads_back_as_itself(document):
    policy = Policy.from_document(document)
    again = Policy.from_document(json.loads(json.dumps(policy.document)))
    assert again.document == policy.document
    assert again.digest == policy.digest
    assert again.key == policy.key


@settings(deadline=None)
@given(documents())
def test_control_answers_for_each_declared_location_and_account_type_as_the_first_matching_rule_says(
    document,
):
    policy = Policy.from_document(document)
    control = document["controls"]["smtp_outbound"]
    base_ports = control.get("options", {}).get("ports", [25])
    for location in document["locations"]:
        for account_type in document["account_types"]:
            matching = [
                rule
                for rule in control["rules"]
                if location in rule["when"].get("location", [location])
                and account_type in rule["when"].get("account_type", [account_type])
            ]
            setting = policy.control("smtp_outbound", location, account_type)
            rule = matching[0] if matching else {"mode": control["mode"]}
            assert setting.mode == rule["mode"]
            assert setting.options["ports"] == sorted(set(rule.get("options", {}).get("ports", base_ports)))
            assert setting.clause == "house.2"
            assert ("rules[" in setting.reason) == bool(matching)
            for name in CONTROLS:
                assert policy.control(name, location, account_type).control == name


@settings(deadline=None)
@given(documents())
def test_an_unknown_port_gets_what_no_account_type_changes(document):
    policy = Policy.from_document(document)
    control = document["controls"]["smtp_outbound"]
    for location in document["locations"]:
        matching = [
            rule
            for rule in control["rules"]
            if "account_type" not in rule["when"] and location in rule["when"]["location"]
        ]
        setting = policy.unknown_port("smtp_outbound", location)
        assert setting.mode == (matching[0] if matching else control)["mode"]


def test_the_rule_that_matched_is_named():
    setting = HOUSE.control("smtp_outbound", "ams", "business")
    assert (setting.mode, setting.options, setting.clause) == ("observe", {"ports": [25]}, "house.2")
    assert setting.reason == (
        "policy house@3, controls.smtp_outbound.rules[0] (location ams, account type business)"
    )
    assert HOUSE.control("smtp_outbound", "ams", "personal").reason == (
        "policy house@3, controls.smtp_outbound (no rule for location ams, account type personal)"
    )
    assert HOUSE.control("smtp_outbound", "fra", "personal").options == {"ports": [25, 587]}


def test_existing_guests_are_observed_for_a_week_unless_the_policy_says_otherwise():
    setting = HOUSE.control("smtp_outbound", "ams", "personal")
    assert (setting.adoption_mode, setting.adoption_seconds) == ("observe", 7 * DAY)
    at_once = Policy.from_document(changed(("controls", "smtp_outbound", "adoption"), {"mode": "enforce"}))
    setting = at_once.control("smtp_outbound", "ams", "personal")
    assert (setting.adoption_mode, setting.adoption_seconds) == ("enforce", None)


def test_what_a_policy_does_not_mention_is_off_and_not_exempted():
    setting = HOUSE.control("mining", "ams", "personal")
    assert (setting.mode, setting.clause) == ("off", None)
    assert "says nothing of mining" in setting.reason
    assert HOUSE.exemption("mining").allowed is False
    terms = HOUSE.exemption("smtp_outbound")
    assert (terms.allowed, terms.max_seconds, terms.requires) == (True, 90 * DAY, ("PTR",))


def test_a_setting_is_worked_out_once():
    assert HOUSE.control("smtp_outbound", "fra", "business") is HOUSE.control(
        "smtp_outbound", "fra", "business"
    )
    assert HOUSE.unknown_port("smtp_outbound", "fra") is HOUSE.unknown_port("smtp_outbound", "fra")


def test_a_ladder_is_read_with_its_ends_in_seconds():
    violation = HOUSE.violation("spam")
    assert (violation.clause, violation.fault, violation.fees, violation.notice) == (
        "house.1",
        "customer",
        ("clean_up",),
        "told",
    )
    first, second = violation.ladder
    assert first.alternatives[0]._asdict() == {
        "enforcement": "suspend",
        "until": "time",
        "seconds": 2 * DAY,
        "review_seconds": None,
        "options": {"power": "destroy"},
    }
    assert (first.mode, first.unless, first.after, first.clause) == ("act", (), None, "house.1")
    assert [measure.enforcement for measure in second.alternatives] == ["null_route", "suspend"]
    assert (second.alternatives[1].until, second.alternatives[1].review_seconds) == ("remedied", 7 * DAY)
    assert (second.mode, second.unless) == ("propose", ("ddos_mitigation",))
    assert second.after == {"condition": "persists", "seconds": 7200, "times": None}


def test_a_step_without_an_end_takes_the_enforcements_default_or_lasts_until_decided():
    measure = HOUSE.measure("attacked", "suspend")
    assert (measure.until, measure.seconds) == ("time", DAY)
    open_ended = Policy.from_document(changed(("enforcements", "suspend"), {})).measure("attacked", "suspend")
    assert (open_ended.until, open_ended.seconds) == ("decision", None)
    assert HOUSE.measure("attacked", "quarantine") is None


def test_a_steps_options_lie_over_those_of_the_enforcement():
    assert HOUSE.measure("attacked", "suspend").options == {"power": "shutdown"}
    assert HOUSE.measure("spam", "suspend").options == {"power": "destroy"}


def test_an_enforcement_has_options_default_and_the_tightest_limit():
    terms = HOUSE.enforcement("suspend")
    assert (terms.options, terms.default_seconds, terms.max_seconds, terms.max_rule) == (
        {"power": "shutdown"},
        DAY,
        10 * DAY,
        "enforcements.suspend.max_duration",
    )
    terms = HOUSE.enforcement("quarantine")
    assert (terms.options, terms.default_seconds, terms.max_seconds, terms.max_rule) == (
        {"rescue": ["rescue"]},
        None,
        30 * DAY,
        "guardrails.max_duration",
    )
    for kind in ENFORCEMENTS:
        assert HOUSE.enforcement(kind).kind == kind


def test_networks_are_canonical_prefixes_that_do_not_overlap():
    assert HOUSE.document["networks"]["smarthosts"] == ["192.0.2.25/32", "2001:db8::25/128"]
    assert HOUSE.networks("rescue") == HOUSE.rescue_prefixes() == ["198.51.100.0/28"]
    policy = Policy.from_document(
        changed(
            ("networks", "rescue"),
            ["192.0.2.128/25", "192.0.2.7", "2001:db8::/64", "192.0.2.0/25", "2001:DB8::1"],
        )
    )
    assert policy.networks("rescue") == ["192.0.2.0/24", "2001:db8::/64"]
    assert HOUSE.networks("backup") == []


def test_a_quarantine_may_be_reached_from_several_networks():
    policy = Policy.from_document(
        changed(("enforcements", "quarantine"), {"rescue": ["rescue", "smarthosts"]})
    )
    assert policy.rescue_prefixes() == ["192.0.2.25/32", "198.51.100.0/28", "2001:db8::25/128"]


def test_the_key_names_the_version_and_the_digest_follows_the_contents():
    assert (HOUSE.key, HOUSE.name, HOUSE.version) == ("house@3", "house", "3")
    assert Policy.from_document(changed(("version",), 3)).digest == HOUSE.digest
    assert Policy.from_document(changed(("version",), "4")).digest != HOUSE.digest
    assert Policy.from_document(changed(("networks", "rescue"), ["198.51.100.0/28"])).digest == HOUSE.digest


def test_templates_in_texts_stay_text():
    assert HOUSE.notice("told")["text"] == "Dear {{ customer }}"
    assert HOUSE.fee("clean_up")["amount"] == "60.00"
    assert HOUSE.clause_summary("house.1") == "no spam"


def test_guardrails_have_safe_defaults():
    bare = dict(DOCUMENT)
    del bare["guardrails"]
    rails = Policy.from_document(bare).guardrails
    assert (
        rails.max_services_per_run,
        rails.max_seconds,
        rails.catalogue_shrink_percent,
        rails.terminate_persons,
    ) == (5, 30 * DAY, 20, 2)
