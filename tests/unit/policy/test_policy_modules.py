# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""policy_info and policy_diff as playbooks call them, in a real ansible-playbook, on a real ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from test_ladders import NOW, catalogue_for

NEW = """\
schema: 1
name: location
version: "2"
effective: 2027-01-01
provider: {name: The Provider}
extends: location
violations:
  torrents:
    ladder:
      - {enforcement: suspend, duration: 24h, after: {condition: unanswered}}
controls:
  smtp_outbound:
    rules:
      - {when: {location: moscow, account_type: personal}, mode: enforce}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{register: result} of one play with all the calls that the tests below look at."""
    place = tmp_path_factory.mktemp("play")
    (place / "new.yml").write_text(NEW, encoding="utf-8")
    (place / "bad.yml").write_text(NEW + "fees:\n  f: {amount: 1.00, clause: location.1.4}\n", encoding="utf-8")
    policy = load_policy("location")
    url = str(place / "ledger.db")
    with L.open_ledger(url, create=True) as ledger, ledger.transaction(now=NOW) as tx:
        requests.release_files(tx, policy, {policy.key: policy}, catalogue_for(policy))
    with L.open_ledger(str(place / "empty.db"), create=True):
        pass
    before = (place / "ledger.db").read_bytes()
    calls = {
        "info": ("policy_info", {"policy": "alteron"}),
        "one": ("policy_info", {"policy": "alteron", "violation": "attack_target", "addons": ["ddos_mitigation"]}),
        "quiet": ("policy_info", {"policy": "xtom", "show": False}),
        "nowhere": ("policy_info", {"policy": "location", "location": "paris"}),
        "files": ("policy_diff", {"old": "location", "new": "new.yml"}),
        "released": ("policy_diff", {"new": "new.yml", "ledger_url": url}),
        "empty": ("policy_diff", {"new": "new.yml", "ledger_url": str(place / "empty.db")}),
        "neither": ("policy_diff", {"new": "new.yml"}),
        "bad": ("policy_diff", {"old": "location", "new": "bad.yml"}),
    }
    tasks = [
        {"name": name, "hosting.aup.%s" % module: arguments, "register": name, "ignore_errors": True}
        for name, (module, arguments) in calls.items()
    ]
    content = "{{ {%s} | to_json }}" % ", ".join("'%s': %s" % (name, name) for name in calls)
    tasks.append({"name": "keep", "ansible.builtin.copy": {"dest": str(place / "out.json"), "content": content, "mode": "0600"}})
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks,
            "vars": {"ansible_python_interpreter": sys.executable}}
    (place / "play.json").write_text(json.dumps([play]), encoding="utf-8")
    collections = next(path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "hosting")))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "play.json"],
        capture_output=True, text=True, timeout=180, check=False, cwd=place,
        env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "ledger.db").read_bytes() == before, "reading changes nothing"
    return dict(json.loads((place / "out.json").read_text(encoding="utf-8")), stdout=done.stdout)


def test_info_says_how_each_clause_is_held(results):
    info = results["info"]
    assert info["policy_key"] == "alteron@1" and info["changed"] is False
    assert [row["clause"] for row in info["clauses"]][:2] == ["alteron.1", "alteron.2"]
    assert len(info["clauses"]) == 44
    assert "policy alteron@1: 44 clauses" in results["stdout"]


def test_info_can_be_narrowed(results):
    (row, other) = results["one"]["matrix"]
    assert {row["account_type"], other["account_type"]} == {"business", "personal"}
    assert row["first_step"] == "by itself: suspended for 48 h [alteron.9]" and row["steps"] == [row["first_step"]]
    assert (row["fault"], row["fees"], row["notice"]) == ("none", [], "with the measure")


def test_info_is_silent_when_asked(results):
    assert "xtom.13" not in results["stdout"]
    assert any(line.startswith("xtom.13") for line in results["quiet"]["lines"])


def test_info_refuses_a_place_that_the_policy_does_not_know(results):
    assert results["nowhere"]["failed"] is True
    assert "has no location 'paris'" in results["nowhere"]["msg"]
    assert results["nowhere"]["error"]["remedy"]


def test_diff_of_two_files(results):
    found = results["files"]
    assert found["services"] is None
    assert {row["violation"] for row in found["difference"]["violations"]} == {"torrents"}
    assert "location@1 → location@2" in found["lines"]


def test_diff_names_the_services_of_the_present_release(results):
    services = results["released"]["services"]
    assert len(services) == 12, "one at each location with each account type"
    assert all(row["violations"] == ["torrents"] and row["refused"] is None for row in services)
    assert [(row["location"], row["account_type"]) for row in services if row["controls"]] == [("moscow", "personal")]
    assert results["released"]["difference"]["old"] == "location@1"
    assert "12 services concerned" in results["stdout"]


@pytest.mark.parametrize(
    "name, words",
    [("empty", "no release yet"), ("neither", "neither old nor ledger_url"), ("bad", "fees.f.currency")],
)
def test_diff_refuses(results, name, words):
    assert results[name]["failed"] is True and words in results[name]["msg"]
    assert results[name]["error"]["remedy"]
