# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's modules as playbooks call them, in a real ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L

ROOT = Path(__file__).resolve().parents[3]
NOTE = "it's \"so\"\n$(touch {path}) `id` {{{{ lookup('pipe', 'touch {path}') }}}}"


@pytest.fixture
def play(tmp_path):
    def run(*tasks, check=False, extra=None):
        """Run tasks; returns [(failed, result)]."""
        book, out = tmp_path / "play.json", tmp_path / "out.json"
        steps = []
        for number, (module, args) in enumerate(tasks):
            steps.append(
                {
                    "name": "step",
                    "hosting.aup.%s" % module: dict(args, ledger_url=str(tmp_path / "ledger.db")),
                    "register": "step%d" % number,
                    "ignore_errors": True,
                }
            )
        seen = "{{ [%s] | to_json }}" % ", ".join("step%d" % number for number in range(len(tasks)))
        steps.append(
            {
                "name": "keep",
                "ansible.builtin.copy": {"dest": str(out), "content": seen, "mode": "0600"},
                "check_mode": False,
            }
        )
        book.write_text(
            json.dumps(
                [
                    {
                        "hosts": "localhost",
                        "connection": "local",
                        "gather_facts": False,
                        "vars": {"ansible_python_interpreter": sys.executable},
                        "tasks": steps,
                    }
                ]
            )
        )
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            str(book),
            "--diff",
        ]
        command += ["--check"] if check else []
        command += ["-e", json.dumps(extra)] if extra else []
        collections = next(
            path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "hosting"))
        )
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(out.read_text())

    return run


RELEASE = (
    "ledger_release",
    {
        "policy": str(ROOT / "inventories/example/policies/provider.yml"),
        "catalogue": str(ROOT / "inventories/example/catalogue.yml"),
    },
)


def test_the_modules_together(play, tmp_path):
    path = tmp_path / "ledger.db"
    (checked,) = play(RELEASE, check=True)
    assert checked["changed"] and checked["pending"] and not path.exists()
    released, again = play(RELEASE, RELEASE)
    assert (released["changed"], again["changed"]) == (True, False) and released["pending"] == []
    with L.open_ledger(str(path)) as ledger, ledger.transaction() as tx:
        for node in ("kvm1", "kvm2", "kvm3"):
            tx.adopt(node, released["release_id"])
            tx.set_node_release(node, released["release_id"])

    trap = tmp_path / "trap"
    extra = {
        "service": "vps-1002",
        "violation": "scanning",
        "duration": "48h",
        "case": "T-1",
        "note": NOTE.format(path=trap),
    }
    hold = (
        "ledger_enforcement",
        {"kind": "suspend", "inputs": ["service", "violation", "case", "duration", "note"]},
    )
    before = path.read_bytes()
    (checked,) = play(hold, check=True, extra=extra)
    assert checked["changed"] and [p["verb"] for p in checked["pending"]] == [
        "start_run",
        "open_case",
        "open_enforcement",
        "queue_notice",
    ]
    assert path.read_bytes() == before, "check mode writes nothing"
    opened, wrong, status, verified, head = play(
        hold,
        (
            "ledger_enforcement",
            {"kind": "suspend", "service": "vps-x", "violation": "nope", "duration": "48"},
        ),
        ("ledger_info", {}),
        ("ledger_info", {"what": "verify"}),
        ("ledger_info", {"what": "head"}),
        extra=extra,
    )
    assert opened["run_id"] == checked["run_id"] and opened["enforcements"][0]["id"] == "E-1"
    assert opened["nodes"] and opened["diff"]["after"]
    assert (
        wrong["failed"]
        and "vps-x" in wrong["msg"]
        and "48" in wrong["msg"]
        and wrong["error"]["code"] == "bad_input"
    )
    assert "E-1" in status["text"] and verified["verified"]["ok"]
    with L.open_ledger(str(path)) as ledger, ledger.read() as tx:
        details = [e["detail"] for e in tx.history("vps-1002") if e["kind"] == "enforcement_opened"]
    assert details[0]["note"] == extra["note"] and not trap.exists(), "kept as it is, never evaluated"

    lifted, epoch, history, proven = play(
        ("ledger_enforcement", {"state": "lifted", "inputs": ["service"]}),
        ("ledger_epoch", {"reason": "test"}),
        ("ledger_info", {"what": "history", "inputs": ["service"]}),
        ("ledger_info", {"what": "verify", "head": head["head"]}),
        extra=extra,
    )
    assert lifted["changed"] and lifted["enforcements"][0]["status"] == "ending" and epoch["epoch"] == 2
    assert len(history["events"]) >= 4 and proven["verified"]["ok"]
    due, exempted, case, unknown = play(
        ("ledger_enforcement", {"state": "due"}),
        (
            "ledger_exemption",
            {"service": "vps-1001", "control": "smtp_outbound", "reason": "mail", "duration": "30d"},
        ),
        ("ledger_case", {"service": "vps-1001", "violation": "scanning"}),
        ("ledger_case", {"case": "T-404", "state": "closed"}),
    )
    assert (
        not due["changed"]
        and exempted["changed"]
        and case["case"]["id"].startswith("C-")
        and unknown["failed"]
    )

    # What a ladder proposed is carried out by its number, also by enforce, and nothing else is said beside it.
    asked, more, carried, gone = play(
        ("ledger_respond", {"service": "vps-1002", "violation": "spam"}),
        ("ledger_enforcement", {"kind": "suspend", "proposal": "P-1"}),
        ("ledger_enforcement", {"inputs": ["kind", "service", "proposal", "note"]}),
        ("ledger_respond", {"proposal": "P-1"}),
        extra={"proposal": "P-1"},
    )
    assert [one["id"] for one in asked["proposals"]] == ["P-1"] and more["failed"] and "kind is given beside proposal" in more["msg"]
    assert [one["kind"] for one in carried["enforcements"]] == [one["kind"] for one in asked["proposals"]] and carried["nodes"]
    assert gone["failed"] and "no open proposal P-1" in gone["msg"]


def test_charges_for_billing(play, tmp_path):
    """From the case to the file that billing takes; what an account's name holds stays text."""
    fee = {"amount": "60.00", "currency": "EUR", "per": "once", "due": "case", "clause": "alteron.26"}
    bounds = dict(fee, amount="50.00", maximum="150.00", currency="USD")
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as ledger, ledger.transaction(actor="x") as tx:
        tx.open_case(case_id="T-1", service="vps-1", violation="spam", policy_key="alteron@1", fault="customer",
                     customer="c-1", fees={"clean_up": fee, "chargeback": bounds})
    inputs = ["state", "case", "fee", "amount", "export", "charge", "reason"]
    record = ("ledger_charge", {"inputs": inputs})
    said = {"state": "recorded", "case": "T-1", "fee": "chargeback", "amount": "75.00"}
    (checked,) = play(record, check=True, extra=said)
    assert checked["changed"] and len(checked["diff"]["after"]) == 1
    (done,) = play(record, extra=said)
    assert done["charges"][0]["id"] == "F-2" and done["charges"][0]["amount"] == "75.00"
    (refused,) = play(record, extra=dict(said, amount=75.0))
    assert refused["failed"] and refused["error"]["target"] == "amount"
    (refused,) = play(record, extra=dict(said, export="B-1"))
    assert refused["failed"] and "export does not go with" in refused["msg"]
    export = ("ledger_charge", {"state": "exported", "path": str(tmp_path)})
    (checked,) = play(export, check=True)
    assert checked["export"] == "B-1" and not list(tmp_path.glob("charges-*"))
    (missing,) = play(("ledger_charge", {"state": "exported", "path": str(tmp_path / "none")}))
    assert missing["failed"] and missing["error"]["target"] == "path"
    taken, nothing, again = play(export, export, ("ledger_charge", {"state": "exported", "export": "B-1"}))
    assert (taken["changed"], nothing["changed"], again["changed"]) == (True, False, False)
    assert again["json"] == taken["json"] and nothing["export"] is None
    for kind in ("json", "csv"):
        path = tmp_path / ("charges-B-1.%s" % kind)
        assert path.read_bytes() == taken[kind].encode() and path.stat().st_mode & 0o777 == 0o600
    decide = ("ledger_case", {"state": "decided", "inputs": ["case", "fault", "note"]})
    (credited,) = play(decide, extra={"case": "T-1", "fault": "none", "note": NOTE.format(path=tmp_path / "trap")})
    assert [one["kind"] for one in credited["charges"]] == ["credit", "credit"] and not (tmp_path / "trap").exists()
    listed, view = play(("ledger_charge", {}), ("ledger_charge", {"state": "no_credit", "begins": "2026-11-01"}))
    assert len(listed["charges"]) == 4 and view["no_credit"] == []

    export = ("case_export", {"path": str(tmp_path), "inputs": ["case", "view"]})
    (checked,) = play(export, check=True, extra={"case": "T-1"})
    assert checked["changed"] and not list(tmp_path.glob("case-*"))
    done, again = play(export, export, extra={"case": "T-1", "view": "customer"})
    assert (done["changed"], again["changed"]) == (True, False)
    assert (tmp_path / "case-T-1-customer-c-1.html").read_text() == done["html"]
    assert json.loads((tmp_path / "case-T-1-customer-c-1.json").read_text()) == done["document"]
    (refused,) = play(export, extra={"case": "{{ 7 * 7 }}"})
    assert refused["failed"] and "{{ 7 * 7 }}" in refused["msg"]


def test_metering_says_which_node_was_not_read(play, tmp_path):
    (released,) = play(RELEASE)
    with L.open_ledger(str(tmp_path / "ledger.db")) as ledger, ledger.transaction() as tx:
        tx.adopt("kvm1", released["release_id"])
        tx.set_node_release("kvm1", released["release_id"])
    metered, listed, unknown = play(("ledger_usage", {"state": "metered", "nodes": ["localhost"]}), ("ledger_usage", {}),
                                    ("ledger_usage", {"inputs": ["service"]}), extra={"service": "{{ 7 * 7 }}"})
    assert [problem["target"] for problem in metered["problems"]] == ["localhost"] and metered["nodes"] == [] and not metered["changed"]
    assert listed["windows"] == [] and unknown["failed"] and "{{ 7 * 7 }}" in unknown["msg"]
