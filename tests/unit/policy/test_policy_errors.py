# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each wrong document is refused with the key path, what was expected and what was found."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import (
    ENFORCEMENTS,
    Policy,
    PolicyDocumentError,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_cases import DOCUMENT, changed, without

SMTP = ("controls", "smtp_outbound")
STEP = ("violations", "spam", "ladder", 0)
TERMINATE = {"enforcement": "terminate", "mode": "propose"}

# (changed key, value, path as told, expected holds, found holds, hint holds)
WRONG = [
    (("schema",), 2, "schema", "1", "the number 2", None),
    (("schema",), True, "schema", "1", "the boolean true", None),
    (("schema",), "1", "schema", "1", "the text '1'", None),
    (("name",), "My Policy", "name", "small letters", "My Policy", None),
    (("version",), 1.1, "version", "a version", "the number 1.1", "quotes"),
    (("version",), "a b", "version", "a version", "'a b'", None),
    (("effective",), "soon", "effective", "a date", "'soon'", None),
    (("effective",), "2026-02-30", "effective", "calendar", "2026-02-30", None),
    (("provider",), "House", "provider", "a map", "'House'", None),
    (("provider", "url"), "javascript:x", "provider.url", "web address", "javascript:x", None),
    (
        ("locaions",),
        ["ams"],
        "locaions",
        "a key that exists",
        "the unknown key 'locaions'",
        "Did you mean locations?",
    ),
    (("locations",), [], "locations", "at least 1", "an empty list", None),
    (("locations",), ["ams", "fra", False], "locations[2]", "a name", "the boolean false", "Unquoted no"),
    (("locations",), None, "locations", "a list", "nothing (null)", None),
    (("clauses", "house"), {"summary": "x"}, "clauses.house", "number of a clause", "'house'", None),
    (("clauses", "house.1"), {}, 'clauses["house.1"].summary', "text", "no such key", None),
    (("clauses", "house.1", "summary"), "  ", 'clauses["house.1"].summary', "text", "'  '", None),
    (
        ("controls", "smtp_outbond"),
        {"mode": "off"},
        "controls.smtp_outbond",
        "a known control",
        "smtp_outbond",
        "Did you mean smtp_outbound?",
    ),
    (
        (*SMTP, "mode"),
        "enforced",
        "controls.smtp_outbound.mode",
        "off, observe, enforce",
        "enforced",
        "enforce?",
    ),
    (
        (*SMTP, "mode"),
        False,
        "controls.smtp_outbound.mode",
        "one of off",
        "the boolean false",
        "Unquoted no, off",
    ),
    (
        (*SMTP, "clause"),
        "house.3",
        "controls.smtp_outbound.clause",
        "listed under clauses",
        "house.3",
        "house.",
    ),
    (
        (*SMTP, "options"),
        {"ports": []},
        "controls.smtp_outbound.options.ports",
        "at least 1",
        "empty list",
        None,
    ),
    (
        (*SMTP, "options"),
        {"ports": [0]},
        "controls.smtp_outbound.options.ports[0]",
        "1 to 65535",
        "number 0",
        None,
    ),
    (
        (*SMTP, "options"),
        {"ports": [65536]},
        "controls.smtp_outbound.options.ports[0]",
        "65535",
        "65536",
        None,
    ),
    (
        (*SMTP, "options"),
        {"ports": [True]},
        "controls.smtp_outbound.options.ports[0]",
        "a port",
        "boolean",
        None,
    ),
    (
        (*SMTP, "options"),
        {"ports": ["25"]},
        "controls.smtp_outbound.options.ports[0]",
        "a port",
        "'25'",
        "quotes",
    ),
    ((*SMTP, "options"), {"port": [25]}, "controls.smtp_outbound.options.port", "ports", "'port'", "ports"),
    (
        (*SMTP, "rules", 1, "when", "location"),
        "far",
        "controls.smtp_outbound.rules[1].when.location",
        "a location declared under locations (ams, fra)",
        "the text 'far'",
        "Did you mean fra?",
    ),
    (
        (*SMTP, "rules", 1, "when", "account_type"),
        "reseller",
        "controls.smtp_outbound.rules[1].when.account_type",
        "an account type declared under account_types",
        "reseller",
        None,
    ),
    (
        (*SMTP, "rules", 1, "when"),
        {},
        "controls.smtp_outbound.rules[1].when",
        "location, account_type",
        "empty",
        None,
    ),
    (
        (*SMTP, "rules", 2),
        {"when": {"location": "ams"}},
        "controls.smtp_outbound.rules[2]",
        "a rule that sets",
        "only has when",
        None,
    ),
    (
        (*SMTP, "rules", 2),
        {"when": {"location": "fra"}, "mode": "off"},
        "controls.smtp_outbound.rules[2]",
        "a rule that can match",
        "never reached",
        "first rule",
    ),
    (
        (*SMTP, "adoption"),
        {"mode": "off"},
        "controls.smtp_outbound.adoption.mode",
        "observe, enforce",
        "'off'",
        None,
    ),
    (
        (*SMTP, "adoption"),
        {"mode": "observe", "for": 7},
        "controls.smtp_outbound.adoption.for",
        "its unit",
        "the number 7",
        "7d",
    ),
    (
        ("controls", "mining"),
        {"mode": "enforce"},
        "controls.mining.clause",
        "clause this control rests on",
        "no such key",
        None,
    ),
    (
        ("controls", "mining"),
        {"mode": "off", "rules": [{"when": {"location": "ams"}, "mode": "observe"}]},
        "controls.mining.rules[0].clause",
        "clause this rule rests on",
        "no such key",
        None,
    ),
    (
        ("exemptions", "smtp_outbound", "allowed"),
        "yes",
        "exemptions.smtp_outbound.allowed",
        "true or false",
        "'yes'",
        "Write true or false",
    ),
    (
        ("exemptions", "smtp_outbound", "allowed"),
        1,
        "exemptions.smtp_outbound.allowed",
        "true or false",
        "number 1",
        None,
    ),
    (
        ("exemptions", "smtp_outbound", "max_duration"),
        "48",
        "exemptions.smtp_outbound.max_duration",
        "unit",
        "'48'",
        "48h",
    ),
    (
        ("violations", "spam", "fault"),
        "maybe",
        "violations.spam.fault",
        "none, customer, unknown",
        "maybe",
        None,
    ),
    (
        ("violations", "spam", "clause"),
        "house.9",
        "violations.spam.clause",
        "listed under clauses",
        "house.9",
        None,
    ),
    (
        ("violations", "spam", "fees"),
        "cleanup",
        "violations.spam.fees[0]",
        "a fee declared",
        "cleanup",
        "clean_up",
    ),
    (
        ("violations", "attacked", "fees"),
        ["clean_up"],
        "violations.attacked.fees",
        "no fees, as fault is none",
        "a list of 1",
        "never charged",
    ),
    (("violations", "spam", "notice"), "shout", "violations.spam.notice", "a notice declared", "shout", None),
    (
        (*STEP, "enforcement"),
        "suspnd",
        "violations.spam.ladder[0].enforcement",
        "suspend, quarantine",
        "suspnd",
        "Did you mean suspend?",
    ),
    ((*STEP, "duration"), "10y", "violations.spam.ladder[0].duration", "its unit", "10y", None),
    ((*STEP, "duration"), "-1h", "violations.spam.ladder[0].duration", "above zero", "-1h", None),
    (
        (*STEP, "duration"),
        "11d",
        "violations.spam.ladder[0].duration",
        "at most enforcements.suspend.max_duration (10d)",
        "11d",
        None,
    ),
    ((*STEP, "until"), "decision", "violations.spam.ladder[0].until", "duration or until", "both", None),
    (
        (*STEP, "review"),
        "1d",
        "violations.spam.ladder[0].review",
        "only together with until",
        "no until",
        None,
    ),
    (
        (*STEP, "options"),
        {"power": "off"},
        "violations.spam.ladder[0].options.power",
        "pause, shutdown, destroy",
        "'off'",
        None,
    ),
    (
        (*STEP, "options"),
        {"rate": "1 Mbit/s"},
        "violations.spam.ladder[0].options.rate",
        "power",
        "'rate'",
        None,
    ),
    (
        (*STEP, "any_of"),
        [{"enforcement": "suspend"}] * 2,
        "violations.spam.ladder[0].enforcement",
        "either any_of or",
        "both",
        None,
    ),
    (
        (*STEP, "after"),
        {"condition": "persists", "times": 2},
        "violations.spam.ladder[0].after.times",
        "condition repeated",
        "persists",
        None,
    ),
    ((*STEP, "mode"), "ask", "violations.spam.ladder[0].mode", "act, propose", "'ask'", None),
    (
        ("violations", "spam", "ladder", 2),
        {"mode": "act"},
        "violations.spam.ladder[2].enforcement",
        "any_of",
        "no such key",
        None,
    ),
    (
        ("violations", "spam", "ladder", 2),
        {"enforcement": "quarantine", "until": "remedied"},
        "violations.spam.ladder[2].review",
        "looked at again",
        "no such key",
        None,
    ),
    (
        ("violations", "spam", "ladder", 2),
        {"enforcement": "terminate"},
        "violations.spam.ladder[2].enforcement",
        "mode propose",
        "terminate",
        "propose",
    ),
    (
        ("violations", "spam", "ladder", 2),
        {**TERMINATE, "duration": "1d"},
        "violations.spam.ladder[2].duration",
        "no end for terminate",
        "1d",
        None,
    ),
    (("enforcements", "suspend", "power"), "off", "enforcements.suspend.power", "pause", "'off'", None),
    (
        ("enforcements", "suspend", "max_duration"),
        "31d",
        "enforcements.suspend.max_duration",
        "guardrails.max_duration (30d)",
        "31d",
        None,
    ),
    (
        ("enforcements", "suspend", "default_duration"),
        "11d",
        "enforcements.suspend.default_duration",
        "at most",
        "11d",
        None,
    ),
    (("enforcements", "ban"), {}, "enforcements.ban", "a known enforcement", "'ban'", None),
    (
        ("enforcements", "quarantine"),
        {"rescue": ["rescu"]},
        "enforcements.quarantine.rescue[0]",
        "rescue",
        "rescu",
        "rescue",
    ),
    (
        ("enforcements", "bandwidth_cap"),
        {"rate": "10"},
        "enforcements.bandwidth_cap.rate",
        "its unit",
        "'10'",
        None,
    ),
    (("enforcements", "cpu_throttle"), {"share": "half a core"}, "enforcements.cpu_throttle.share", "0.5 cores", "half a core", None),
    (("enforcements", "cpu_throttle"), {"share": 0.5}, "enforcements.cpu_throttle.share", "0.5 cores", "0.5", None),
    (
        ("enforcements", "terminate"),
        {"max_duration": "1d"},
        "enforcements.terminate.max_duration",
        "keep_data",
        "max_duration",
        None,
    ),
    (("fees", "clean_up", "amount"), 60.0, "fees.clean_up.amount", "in quotes", "the number 60.0", "quotes"),
    (("fees", "clean_up", "amount"), "60,00", "fees.clean_up.amount", "decimal", "60,00", None),
    (("fees", "clean_up", "amount"), "-1", "fees.clean_up.amount", "decimal", "-1", None),
    (("fees", "clean_up", "currency"), "EURO", "fees.clean_up.currency", "ISO 4217", "EURO", None),
    (("fees", "clean_up", "currency"), "XXX", "fees.clean_up.currency", "ISO 4217", "XXX", None),
    (("fees", "clean_up", "maximum"), "59.99", "fees.clean_up.maximum", "at least the amount", "59.99", None),
    (
        ("notices", "told", "timing"),
        "during",
        "notices.told.timing",
        "before, with, after, held",
        "during",
        None,
    ),
    (("notices", "told", "subject"), "a\nBcc: b", "notices.told.subject", "one line", "a\\nBcc", None),
    (("networks", "smarthost"), [], "networks.smarthost", "smarthosts", "'smarthost'", "smarthosts"),
    (
        ("networks", "smarthosts"),
        ["192.0.2.1/24"],
        "networks.smarthosts[0]",
        "without host bits",
        "192.0.2.1/24",
        "192.0.2.0/24",
    ),
    (("networks", "smarthosts"), ["0.0.0.0/0"], "networks.smarthosts[0]", "/8 or longer", "0.0.0.0/0", None),
    (("networks", "smarthosts"), ["::/0"], "networks.smarthosts[0]", "/16 or longer", "::/0", None),
    (
        ("networks", "smarthosts"),
        ["::ffff:192.0.2.1"],
        "networks.smarthosts[0]",
        "IPv4 or IPv6",
        "::ffff",
        "as an",
    ),
    (
        ("networks", "smarthosts"),
        ["fe80::1%eth0"],
        "networks.smarthosts[0]",
        "IPv4 or IPv6",
        "fe80::1%eth0",
        None,
    ),
    (
        ("networks", "smarthosts"),
        ["10.0.0.0/255.0.0.0"],
        "networks.smarthosts[0]",
        "prefix",
        "255.0.0.0",
        None,
    ),
    (
        ("networks", "smarthosts"),
        ["mail.example.com"],
        "networks.smarthosts[0]",
        "prefix",
        "mail.example.com",
        None,
    ),
    (("networks", "smarthosts"), [3221225985], "networks.smarthosts[0]", "prefix", "the number", None),
    (("networks", "rescue"), ["192.0.2.0/33"], "networks.rescue[0]", "prefix", "/33", None),
    (
        ("guardrails", "max_services_per_run"),
        0,
        "guardrails.max_services_per_run",
        "from 1",
        "number 0",
        None,
    ),
    (
        ("guardrails", "catalogue_shrink_limit"),
        20,
        "guardrails.catalogue_shrink_limit",
        "percentage",
        "20",
        None,
    ),
    (("guardrails", "catalogue_shrink_limit"), "0%", "guardrails.catalogue_shrink_limit", "1%", "0%", None),
    (("guardrails", "terminate"), {"persons": 1}, "guardrails.terminate.persons", "from 2", "number 1", None),
    (("extends",), "default", "extends", "a key that exists", "extends", None),
]


def problems_of(document):
    with pytest.raises(PolicyDocumentError) as caught:
        Policy.from_document(document, source="house.yml")
    return caught.value


@pytest.mark.parametrize(("path", "value", "told", "expected", "found", "hint"), WRONG)
def test_a_wrong_value_is_told_with_path_expected_and_found(path, value, told, expected, found, hint):
    error = problems_of(changed(path, value))
    match = [problem for problem in error.problems if problem["path"] == told]
    assert len(match) == 1, error.problems
    assert expected in match[0]["expected"]
    assert found in match[0]["found"]
    assert hint is None or hint in match[0]["hint"]
    assert "house.yml: %s: expected " % told in str(error)
    assert error.target == "house.yml"
    assert error.code == "bad_policy"
    assert error.remedy


@pytest.mark.parametrize(
    "key", ["schema", "name", "version", "effective", "provider", "clauses", "locations", "account_types"]
)
def test_a_missing_key_is_named(key):
    error = problems_of(without((key,)))
    assert (key, "no such key") in [(problem["path"], problem["found"]) for problem in error.problems]


def test_all_problems_are_listed_at_once():
    document = changed(("controls", "smtp_outbound", "mode"), "on")
    document["violations"]["spam"]["fault"] = "yes"
    document["fees"]["clean_up"]["amount"] = 60
    document["typo"] = 1
    error = problems_of(document)
    assert {problem["path"] for problem in error.problems} == {
        "controls.smtp_outbound.mode",
        "violations.spam.fault",
        "fees.clean_up.amount",
        "typo",
    }
    assert "4 problems" in str(error)


def test_one_wrong_location_does_not_hide_or_multiply_others():
    document = changed(("locations",), ["ams", None])
    document["controls"]["smtp_outbound"]["rules"] = [{"when": {"account_type": "personl"}, "mode": "off"}]
    assert [problem["path"] for problem in problems_of(document).problems] == [
        "locations[1]",
        "controls.smtp_outbound.rules[0].when.account_type",
    ]


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_a_document_that_is_no_map_is_refused(document):
    assert problems_of(document).problems[0]["path"] == "the document"


def test_control_characters_of_hostile_text_do_not_reach_the_message():
    error = problems_of(changed(("name",), "a\x1b[2J\nforged: ok"))
    assert "\x1b" not in str(error)
    assert "\nforged" not in str(error)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda policy: policy.control("smtp_outbound", "far", "personal"),
            ("location 'far'", "ams, fra", "fra?"),
        ),
        (lambda policy: policy.control("smtp_outbound", None, "personal"), ("location None",)),
        (
            lambda policy: policy.control("smtp_outbound", "ams", "reseller"),
            ("account type 'reseller'", "personal"),
        ),
        (lambda policy: policy.control("smtp_outbound", "ams", None), ("account type None",)),
        (lambda policy: policy.control("smtp", "ams", "personal"), ("control 'smtp'", "smtp_outbound")),
        (lambda policy: policy.unknown_port("smtp_outbound", "far"), ("location 'far'",)),
        (lambda policy: policy.violation("spm"), ("violation 'spm'", "attacked, spam", "Did you mean spam?")),
        (lambda policy: policy.enforcement("ban"), ("enforcement 'ban'", "suspend")),
        (lambda policy: policy.exemption("smtp"), ("control 'smtp'",)),
        (lambda policy: policy.networks("smarthost"), ("network 'smarthost'", "smarthosts")),
        (lambda policy: policy.fee("x"), ("fee 'x'", "clean_up")),
        (lambda policy: policy.notice("x"), ("notice 'x'", "told")),
    ],
)
def test_asking_for_what_is_not_there_is_an_error_that_lists_what_is(ask, words):
    with pytest.raises(PolicyError) as caught:
        ask(Policy.from_document(DOCUMENT))
    assert "house@3" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def places(value, path=()):
    """The paths of all values in a document."""
    yield path
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(item, (*path, key))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["suspend", "house.1", "48h", "ams", "192.0.2.0/24", "::/0", "10%", "smtp_outbound"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5)
            | st.integers()
            | st.sampled_from(
                ["mode", "when", "any_of", "enforcement", "options", "ports", "suspend", "smtp_outbound"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([path for path in places(DOCUMENT) if path]), anything)
def test_whatever_stands_anywhere_is_either_read_or_refused_by_its_path(path, value):
    try:
        policy = Policy.from_document(changed(path, value), source="house.yml")
    except PolicyDocumentError as error:
        for problem in error.problems:
            assert problem["path"] and problem["expected"] and problem["found"]
        return
    assert Policy.from_document(policy.document).document == policy.document
    for name in policy.document["violations"]:
        policy.violation(name)
    for kind in ENFORCEMENTS:
        policy.enforcement(kind)
    policy.rescue_prefixes()
