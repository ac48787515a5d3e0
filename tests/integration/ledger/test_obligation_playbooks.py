# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""case, charges, usage, answered and evidence as they are run: the files, with inputs that a stranger may have written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

ROOT = Path(__file__).resolve().parents[3]
ALTERON = load_policy("alteron")
NOW = 1_800_000_000


def play(tmp_path, playbook, *arguments, **extra):
    """(exit status, what was said) of a playbook run as its user runs it."""
    collections = next(path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "hosting")))
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(ROOT / "playbooks" / playbook), *arguments,
        "-e", json.dumps({"ansible_python_interpreter": sys.executable, "aup_ledger_url": str(tmp_path / "ledger.db"), **extra}),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path,
        env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1", "SUDO_USER": "carol"},
    )
    return done.returncode, done.stdout + done.stderr


def test_retiring_makes_no_ledger_where_there_is_none(tmp_path):
    """As with a mistyped path of it."""
    code, said = play(tmp_path, "retire.yml", node="kvm1")
    assert code != 0 and "there is no ledger at" in said and not (tmp_path / "ledger.db").exists(), said


def test_the_playbooks(tmp_path, service):
    hostile = tmp_path / "{{ 7*7 }} $(id).eml"
    hostile.write_bytes(b"From: spammer")
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as ledger, ledger.transaction(actor="setup", now=NOW) as tx:
        tx.create_release({ALTERON.key: ALTERON.document}, ALTERON.key, {
            "format": 1, "generated_at": None, "prefixes": [], "nodes": {"kvm1": {"backend": "kvm"}}, "services": {"vps-1": service}})
        tx.open_case(case_id="T-1", service="vps-1", violation="spam", clause="alteron.4", fault="customer", policy_key=ALTERON.key,
                     customer="c-77", fees={"chargeback": ALTERON.fee("chargeback")})
        told = tx.queue_notice(case_id="T-1", service="vps-1", name="explain", timing="before", facts={}, answer_seconds=172800)
        claimed = tx.claim_notice(notice_id=told["id"], lease=60, role="customer", recipient="owner@example.net", subject="s", body="b")
        tx.notice_delivered(notice_id=told["id"], claim=claimed["claim"])

    added = {"state": "added", "case": "T-1", "file": str(hostile), "note": "{{ lookup('pipe', 'touch pwned') }}"}
    code, said = play(tmp_path, "evidence.yml", "--check", **added)
    assert code == 0 and "V-1 of case T-1" in said and not (tmp_path / "ledger.db.evidence").exists(), said
    code, said = play(tmp_path, "evidence.yml", **added)
    assert code == 0 and "changed=1" in said and "{{ 7*7 }} $(id).eml" in said, said
    code, said = play(tmp_path, "evidence.yml", state="verified")
    assert code == 0 and "1 files are what their digests say" in said, said
    code, said = play(tmp_path, "evidence.yml", state="held", case="T-1")
    assert code != 0 and "reason is missing" in said, said

    code, said = play(tmp_path, "charges.yml", state="recorded", case="T-1", fee="chargeback", amount="75.00", note="{{ 7*7 }}")
    assert code == 0 and "75.00 USD" in said, said
    code, said = play(tmp_path, "usage.yml", service="vps-1")
    assert code != 0 and "was never metered" in said, said
    code, said = play(tmp_path, "answered.yml", case="T-1", note="{{ 7*7 }}")
    assert code == 0 and "case T-1 was answered; the clock of N-1 stops" in said, said

    (tmp_path / "cases").mkdir()
    code, said = play(tmp_path, "case.yml", case="T-1", view="internal", aup_case_dir=str(tmp_path / "cases"))
    assert code == 0, said
    written = json.loads((tmp_path / "cases" / "case-T-1-internal.json").read_text())
    assert [one["name"] for one in written["evidence"]] == ["{{ 7*7 }} $(id).eml"] and written["charges"][0]["amount"] == "75.00"
    assert written["notices"][0]["deadline"] == "answered" and not (tmp_path / "pwned").exists()
    (tmp_path / "ledger.db.evidence" / written["evidence"][0]["sha256"][:2] / written["evidence"][0]["sha256"]).unlink()
    code, said = play(tmp_path, "evidence.yml", state="verified")
    assert code != 0 and "is missing" in said, said
