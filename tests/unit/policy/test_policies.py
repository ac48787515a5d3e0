# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy files: what is shipped, what YAML may not do, how `extends` merges, and where errors point."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest
import yaml
from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import (
    CONTROLS,
    ENFORCEMENTS,
    Policy,
    PolicyDocumentError,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._document import POLICY
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import (
    FEE_UNITS,
    NOTICE_TIMINGS,
    STEP_CONDITIONS,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import SHIPPED, load_policy, shipped_names
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import measure_text
from policy_cases import DOCUMENT

HEAD = """\
schema: 1
name: house
version: 1.10
effective: 2026-01-01
provider: {name: House}
"""
BODY = """\
clauses: {house.1: {summary: port 25}}
locations: [no, fra]
account_types: [personal]
controls:
  smtp_outbound:
    mode: enforce
    clause: house.1
"""


@pytest.fixture
def write(tmp_path):
    def _write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def refusal(path, **kwargs):
    with pytest.raises(PolicyError) as caught:
        load_policy(path, **kwargs)
    assert caught.value.remedy
    return str(caught.value)


def test_the_shipped_policies_are_valid_and_named_like_their_files():
    assert {"default", "xtom", "example"} <= set(shipped_names())
    for name in shipped_names():
        policy = load_policy(name)
        assert policy.name == name
        for location in policy.locations:
            for account_type in policy.account_types:
                for violation in policy.document["violations"]:
                    assert policy.violation(violation, location, account_type).clause in policy.clauses


def test_default_closes_port_25_and_suspends_an_attacked_service_without_fault():
    policy = load_policy("default")
    for account_type in policy.account_types:
        setting = policy.control("smtp_outbound", "main", account_type)
        assert (setting.mode, setting.options["ports"], setting.clause) == ("enforce", [25], "house.3")
    attacked = policy.violation("attack_target")
    assert (attacked.fault, attacked.fees) == ("none", ())
    assert attacked.ladder[0].unless == ("ddos_mitigation",)
    assert policy.measure("attack_target", "suspend").seconds == 48 * 3600


def test_xtom_is_as_its_text_says():
    policy = load_policy("xtom")
    setting = policy.control("smtp_outbound", "main", "personal")
    assert (setting.mode, setting.options["ports"], setting.clause) == ("enforce", [25], "xtom.13")
    assert policy.exemption("smtp_outbound").allowed is True
    assert policy.exemption("smtp_outbound").clause == "xtom.13"
    assert set(policy.clauses) == {"xtom.%d" % number for number in range(1, 40)}
    attacked = policy.violation("attack_target")
    assert (attacked.clause, attacked.fault) == ("xtom.32", "none")
    assert [(step.alternatives[0].enforcement, step.mode, step.clause) for step in attacked.ladder] == [
        ("suspend", "act", "xtom.32"),
        ("terminate", "propose", "xtom.26"),
    ]
    assert policy.violation("blacklisting").fees == ("delisting", "delisting_hour")
    assert (policy.fee("delisting")["amount"], policy.fee("delisting_hour")["per"]) == ("50.00", "hour")
    # What the text doesn't regulate is not in force.
    for control in ("mining", "bittorrent", "anti_spoofing"):
        assert policy.control(control, "main", "personal").mode == "off"
    # It forbids floods and scans and sets no limit.
    for control in ("reflection", "new_connections"):
        assert policy.control(control, "main", "personal").mode == "observe"


def test_the_example_extends_default_and_its_rules_differ_by_location():
    policy = load_policy("example")
    assert policy.locations == {"ams", "fra", "hel"}
    assert policy.control("smtp_outbound", "fra", "personal").options["ports"] == [25, 465, 587]
    assert policy.control("smtp_outbound", "ams", "personal").options["ports"] == [25]
    assert policy.control("mining", "hel", "personal").mode == "off"
    assert policy.control("mining", "ams", "personal").mode == "enforce"
    assert policy.control("anti_spoofing", "ams", "personal").clause == "house.4"


def test_yaml_surprises_are_taken_out(write):
    policy = load_policy(
        write(
            "p.yml",
            HEAD + BODY + "    options: {ports: [25]}\n"
            "  mining: {mode: off}\nfees:\n  f: {amount: 50.00, currency: EUR, clause: house.1}\n",
        )
    )
    assert policy.version == "1.10"
    assert policy.locations == {"no", "fra"}
    assert policy.control("mining", "no", "personal").mode == "off"
    assert policy.fee("f")["amount"] == "50.00"
    assert policy.effective == "2026-01-01"


def test_templates_stay_text(write):
    text = HEAD + BODY + 'notices:\n  n: {timing: with, text: \'{{ lookup("pipe", "id") }} $(id)\'}\n'
    assert load_policy(write("p.yml", text)).notice("n")["text"] == '{{ lookup("pipe", "id") }} $(id)'


@pytest.mark.parametrize("suffix", [".yml", ".yaml", ".json"])
def test_yaml_and_json_give_the_same_policy(write, suffix):
    text = json.dumps(DOCUMENT, indent="\t") if suffix == ".json" else yaml.safe_dump(DOCUMENT)
    policy = load_policy(write("p" + suffix, text))
    assert policy.digest == Policy.from_document(DOCUMENT).digest


def test_letters_beyond_16_bits_are_read_from_json_escapes(write):
    document = dict(DOCUMENT, provider={"name": "H😀"})
    assert load_policy(write("p.json", json.dumps(document))).provider["name"] == "H😀"
    broken = json.dumps(document).replace("\\ude00", "")
    assert "half of a character" in refusal(write("p.json", broken))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + BODY + "name: again\n", ("p.yml:13", "'name' is there twice", "line 2")),
        (HEAD + BODY + "    mode: off\n", ("p.yml:13", "'mode' is there twice", "line 11")),
        (HEAD + BODY + "fees: {{ fees }}\n", ("p.yml:13", "key must be plain text", "{{ }}")),
        (HEAD + "clauses: &c {}\nfees: *c\n", ("p.yml:7", "aliases")),
        (HEAD + "clauses:\n  <<: {}\n", ("p.yml:7", "merge keys")),
        (HEAD + "clauses: !vault x\n", ("p.yml:6", "!vault", "not supported")),
        (HEAD + "clauses: !!python/object/apply:os.system [id]\n", ("p.yml:6", "not supported")),
        (HEAD + "clauses: [\n", ("p.yml:7", "not valid YAML")),
        (HEAD + "clauses: " + "[" * 1000, ("p.yml:6", "32 levels")),
        ("a: 1\n--- \nb: 2\n", ("p.yml:2", "another document")),
        ("", ("p.yml", "a map with schema", "nothing (null)")),
        ("- 1\n", ("p.yml:1", "a map with schema", "a list of 1")),
        ("just words\n", ("p.yml:1", "a map with schema", "just words")),
        ("x" * (1024 * 1024 + 1), ("larger than 1 MiB",)),
        (HEAD + BODY + "extends: house@1\n", ("p.yml:13", "extends", "neither a shipped name nor a path")),
        (HEAD + BODY + "extends: [default]\n", ("p.yml:13", "extends", "one policy")),
        (HEAD + BODY + "extends: nosuch\n", ("p.yml:13", "extends", "nosuch", "default, example, ")),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_its_line(write, text, words):
    message = refusal(write("p.yml", text))
    for word in words:
        assert word in message


def test_broken_json_is_refused_with_its_line(write):
    assert "p.json:2: not valid JSON" in refusal(write("p.json", '{"schema": 1,\n "name": }'))


def test_what_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "p.yml").write_bytes(b"name: \xff\n")
    assert "not UTF-8" in refusal(tmp_path / "p.yml")


def test_a_file_without_permission_is_refused(write, monkeypatch):
    path = write("p.yml", HEAD)

    def refuse(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Root, who runs the tests, may read any file.
    monkeypatch.setattr(type(path), "open", refuse)
    assert "can't be read: Permission denied" in refusal(path)


def test_a_policy_that_is_not_there_is_told_with_what_is(tmp_path):
    message = refusal("defualt")
    assert "no policy 'defualt'" in message
    assert "default, example, " in message
    assert "none of these is a file" in refusal(str(tmp_path / "none.yml"))
    assert "neither a shipped name nor a path" in refusal(str(tmp_path / "policy.txt"))
    assert "neither" in refusal("")
    assert "is a file" in refusal(tmp_path.with_suffix(".yml"))


def test_errors_name_the_line_of_each_problem(write):
    message = refusal(
        write(
            "p.yml",
            HEAD + BODY + "    rules:\n      - when:\n          location: far\n"
            "        mode: off\n    adoption: {mode: observe, for: 7}\nguardrial: {}\n",
        )
    )
    assert "3 problems" in message
    assert "p.yml:15: controls.smtp_outbound.rules[0].when.location: expected a location declared" in message
    assert "p.yml:17: controls.smtp_outbound.adoption.for: expected a duration" in message
    assert "p.yml:18: guardrial: expected a key" in message


def test_extends_merges_maps_and_replaces_lists_and_single_values(write):
    write(
        "base.yml",
        HEAD + BODY + "    options: {ports: [25, 465]}\n"
        "  mining: {mode: off}\nnetworks: {rescue: [192.0.2.0/28], resolvers: [192.0.2.53]}\n",
    )
    path = write(
        "own.yml",
        "extends: ./base.yml\n"
        + HEAD.replace("house", "own")
        + "clauses: {own.1: {summary: x}}\ncontrols:\n  smtp_outbound: {options: {ports: [587]}}\n"
        "  mining: {mode: observe, clause: own.1}\nnetworks: {rescue: []}\nlocations: [ams]\n",
    )
    policy = load_policy(path)
    assert (policy.key, set(policy.clauses), policy.locations) == ("own@1.10", {"house.1", "own.1"}, {"ams"})
    setting = policy.control("smtp_outbound", "ams", "personal")
    assert (setting.mode, setting.options["ports"]) == ("enforce", [587])
    assert policy.control("mining", "ams", "personal").mode == "observe"
    assert (policy.networks("rescue"), policy.networks("resolvers")) == ([], ["192.0.2.53/32"])


def test_what_an_inherited_key_can_no_longer_do_is_dropped(write):
    write(
        "base.yml",
        HEAD + BODY + "    adoption: {mode: observe, for: 3d}\n"
        "exemptions: {smtp_outbound: {allowed: true, max_duration: 9d, approver: me, requires: [PTR]}}\n"
        "fees: {f: {amount: 1.0, currency: EUR, per: hour, rounding: started, clause: house.1}}\n"
        "notices: {n: {timing: before, wait: 1h}}\n",
    )
    own = "extends: base.yml\n" + HEAD
    inherited = load_policy(write("same.yml", own))
    assert inherited.control("smtp_outbound", "fra", "personal").adoption_seconds == 3 * 86400
    policy = load_policy(
        write(
            "own.yml",
            own + "controls: {smtp_outbound: {adoption: {mode: enforce}}}\n"
            "exemptions: {smtp_outbound: {allowed: false}}\nfees: {f: {per: once}}\n"
            "notices: {n: {timing: with}}\n",
        )
    )
    setting = policy.control("smtp_outbound", "fra", "personal")
    assert (setting.adoption_mode, setting.adoption_seconds) == ("enforce", None)
    terms = policy.exemption("smtp_outbound")
    assert (terms.allowed, terms.max_seconds, terms.requires, terms.approver) == (False, None, (), None)
    assert "rounding" not in policy.fee("f")
    assert policy.notice("n") == {"timing": "with"}


def test_the_usual_changes_to_default_are_possible(write):
    """Each was found to be an error once because of what default sets beside it."""
    for change in (
        "controls: {smtp_outbound: {adoption: {mode: enforce}}}",
        "guardrails: {max_duration: 7d}",
        "exemptions: {smtp_outbound: {allowed: false}}",
        "controls: {smtp_outbound: {mode: off}}",
        "locations: [ams]",
        "account_types: [any]",
        "notices: {with_action: {timing: after}}",
        "violations: {spam: {fault: none, ladder: []}}",
    ):
        assert load_policy(write("own.yml", "extends: default\n" + HEAD + change + "\n")).name == "house"


def test_who_a_policy_is_is_never_inherited(write):
    write("base.yml", HEAD + BODY)
    with pytest.raises(PolicyDocumentError) as caught:
        load_policy(write("own.yml", "extends: base.yml\n"))
    assert [problem["path"] for problem in caught.value.problems] == [
        "schema",
        "name",
        "version",
        "effective",
        "provider",
    ]


def test_an_error_in_an_extended_file_points_there(write):
    write("base.yml", HEAD + BODY.replace("enforce", "enforced"))
    message = refusal(write("own.yml", "extends: base.yml\n" + HEAD))
    assert "base.yml:11: controls.smtp_outbound.mode" in message


def test_extends_in_a_loop_is_refused(write):
    write("a.yml", "extends: b.yml\n" + HEAD)
    message = refusal(write("b.yml", "extends: a.yml\n" + HEAD))
    assert "extends itself" in message
    assert "a.yml" in message
    assert "extends itself" in refusal(write("self.yml", "extends: ./self.yml\n" + HEAD))


def test_relative_paths_and_names_are_looked_for_in_search(write, tmp_path):
    write("house.yml", HEAD + BODY)
    assert load_policy("house.yml", search=[tmp_path]).name == "house"
    assert load_policy("house", search=[tmp_path]).name == "house"
    assert load_policy("house", shipped_dir=tmp_path).name == "house"


def test_a_shipped_name_means_the_shipped_policy(write, tmp_path):
    write("default.yml", HEAD + BODY)
    assert load_policy("default", search=[tmp_path]).digest == load_policy(SHIPPED / "default.yml").digest


def test_every_key_is_explained_in_the_reference():
    reference = (SHIPPED.parent / "docs" / "policy-reference.md").read_text(encoding="utf-8")
    missing = sorted(key for key in _keys(POLICY) if "`%s`" % key not in reference)
    assert missing == []
    words = {*CONTROLS, *ENFORCEMENTS, *STEP_CONDITIONS, *NOTICE_TIMINGS, *FEE_UNITS}
    assert sorted(word for word in words if "`%s`" % word not in reference) == []


def test_the_examples_of_the_reference_are_valid(write):
    reference = (SHIPPED.parent / "docs" / "policy-reference.md").read_text(encoding="utf-8")
    whole, *parts = re.findall(r"```yaml\n(.*?)```", reference, re.DOTALL)
    assert load_policy(write("whole.yml", whole)).key == "acme@2026-01"
    clauses = "clauses: {%s}\n" % ", ".join("acme.%d: {summary: x}" % number for number in range(1, 11))
    write("base.yml", whole + clauses)
    assert len(parts) >= 8
    for part in parts:
        load_policy(write("part.yml", "extends: base.yml\n" + HEAD + part))


def _keys(kind):
    """All keys of a schema, at any depth."""
    fields = {name: field.kind for name, field in getattr(kind, "fields", {}).items()}
    below = [*fields.values(), *getattr(kind, "named_kinds", {}).values(), getattr(kind, "kind", None)]
    return set(fields).union(*(_keys(one) for one in below if one is not None))


@pytest.mark.parametrize("text, canonical", [
    ("20%", "20%"), ("0.5 cores", "0.5 cores"), ("0.50cores", "0.5 cores"), ("1 core", "1 core"), ("2.00 cores", "2 cores"), ("0.05 cores", "0.05 cores")])
def test_a_processor_share_is_of_the_guests_or_in_cores(write, text, canonical):
    path = write("house.yml", HEAD + BODY + """\
enforcements: {cpu_throttle: {share: "%s"}}
violations:
  excessive_cpu: {clause: house.1, fault: none, ladder: [{enforcement: cpu_throttle, duration: 1h, options: {share: "%s"}}]}
""" % (text, text))
    policy = load_policy(path)
    document = policy.document
    assert document["enforcements"]["cpu_throttle"]["share"] == canonical
    assert document["violations"]["excessive_cpu"]["ladder"][0]["options"]["share"] == canonical
    step = policy.violation("excessive_cpu", "fra", "personal").ladder[0]
    assert measure_text(step.alternatives[0]) == "processors throttled to %s for 1 h" % canonical
