# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one clear message with the next step, before anything is touched; hostile text stays text."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from .spine import canaries, catalogue, hostile, write_catalogue


@pytest.mark.parametrize(("change", "code", "message", "next_step"), [
    ({"service": "vps-1020"}, "bad_input", "service 'vps-1020' is not in the released catalogue", "Did you mean vps-"),
    ({"violation": "rudeness"}, "bad_policy", "rudeness", "attack_target"),
    ({"duration": "48"}, "bad_input", "'48'", "48h"),
    ({"duration": "-1h"}, "bad_input", "'-1h'", "48h"),
    ({"duration": "10y"}, "bad_input", "'10y'", "48h"),
    ({"duration": "3000d"}, None, "720h", "max_duration"),
    ({"service": "vps-gate"}, "guard_protected_address", "192.0.2.1", "protected"),
    ({"service": ["vps-1001", "vps-1002", "vps-1003", "vps-ghost", "vps-twin", "vps-peer"]}, "guard_too_many_services", "6", "break_glass"),
    ({"case": "T 1; rm -rf"}, "bad_input", "T 1; rm -rf", "letters, digits"),
], ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else None)
def test_refused(spine, change, code, message, next_step):
    before = spine.everything()
    done = spine.play("suspend", {"service": "vps-1002", "violation": "attack_target", "duration": "48h", "case": "T-20", **change})
    assert done.returncode == 2
    said = f"{done.error['message']} {done.error['remedy']}"
    assert message in said and next_step in said, said
    assert code is None or done.error["code"] == code, done.error
    assert done.of("kvm_converge") == []
    spine.assert_untouched(before)


def test_all_that_is_wrong_is_said_at_once(spine):
    before = spine.everything()
    done = spine.play("suspend", {"service": "nobody", "duration": "48"})
    for word in ("nobody", "'48'", "violation is missing"):
        assert word in done.error["message"]
    assert done.error["message"].startswith("3 inputs are wrong, nothing was changed")
    nothing = spine.play("suspend")
    assert "service is missing" in nothing.error["message"] and "violation is missing" in nothing.error["message"]
    spine.assert_untouched(before)


def test_an_empty_catalogue_an_older_one_and_one_that_shrank(spine):
    """A broken export must not open or close anything: it is refused, and what is in force stays."""
    before = spine.everything()
    right = catalogue(spine.lab.nodes, generated="2026-11-03T00:00:00Z")
    broken = {
        "empty": ("", "catalogue"),
        "no services": (json.dumps({**right, "services": []}), "services"),
        "shrank": (json.dumps({**right, "services": right["services"][:3]}), "accept_shrink"),
        "older": (json.dumps({**right, "generated_at": "2026-10-01T00:00:00Z"}), "accept_older"),
    }
    try:
        for name, (text, word) in broken.items():
            (spine.controller.inventory.parent / "catalogue.yml").write_text(text)
            # The inventory plugin reads the same file, so the run may end before its first task.
            done = spine.play("provision")
            assert word in done.said, (name, done.said)
            assert done.of("kvm_converge") == []
            assert "Traceback" not in done.said
            spine.assert_untouched(before)
    finally:
        write_catalogue(spine, right)


def test_hostile_text_is_kept_literally_and_never_executed(spine, tmp_path):
    """Quotes, newlines, shell, templates: as a note it is kept to the letter; as a name it is refused to the letter."""
    canary = tmp_path / "canary"
    text = hostile(canary)
    before = spine.everything()
    right = {"service": "vps-1002", "violation": "attack_target", "duration": "48h", "case": "T-21", "note": text}
    for names in (("service", "violation", "duration"), ("case",), ("violation",)):
        done = spine.play("suspend", {**right, **dict.fromkeys(names, text)})
        assert done.returncode == 2 and done.of("kvm_converge") == [], (names, done.said)
        assert canaries(canary) == [], names
        spine.assert_untouched(before)
    done = spine.suspend("vps-1002", "T-21", variables={"note": text}).ok()
    kept = [json.loads(row[0]) for row in spine.rows(
        "select d.body from aup_event e join aup_event_detail d on d.event_number = e.number"
        " where e.kind = 'enforcement_opened' order by e.number desc limit 1")]
    assert kept[0]["note"] == text
    explained = spine.play("explain", {"service": "vps-1002"}).ok()
    assert "T-21" in explained.stdout
    lifted = spine.lift("vps-1002", variables={"note": text}).ok()
    exempted = spine.play("exempt", {"service": "vps-1002", "control": "smtp_outbound", "duration": "30d", "reason": text}).ok()
    assert "{{ lookup" in spine.rows("select reason from aup_exemption order by number desc limit 1")[0][0]
    spine.play("exempt", {"service": "vps-1002", "control": "smtp_outbound", "state": "revoked", "reason": text}).ok()
    spine.play("disarm", {"control": text})
    spine.play("new_epoch", {"reason": text}).ok()
    assert spine.play("reconcile").ok().printed.changed == 0
    spine.play("status").ok()
    assert canaries(canary) == []
    for run in (done, lifted, exempted):
        assert "Traceback" not in run.said


def test_hostile_names_in_the_catalogue(spine, tmp_path):
    """The panel's export is hostile as well: a customer may have chosen a guest's name."""
    canary = tmp_path / "canary"
    text = hostile(canary)
    # A guest's name has no slash and no newline, so what it does would be done where Ansible was started.
    word = f"aup-canary-{tmp_path.name}"
    name = f"it's \"so\" $(touch {word}) `touch {word}` {{{{ lookup('pipe', 'touch {word}') }}}} %s"
    document = catalogue(spine.lab.nodes, generated="2026-11-04T00:00:00Z")
    ghost = next(s for s in document["services"] if s["id"] == "vps-ghost")
    try:
        write_catalogue(spine, {**document, "services": [{**s, "customer": text} for s in document["services"]]})
        refused = spine.play("provision")
        assert refused.returncode and "customer" in refused.said and refused.of("kvm_converge") == []
        ghost["liable"] = {"name": "liable " + name, "contact": name}
        ghost["guest"] = {"name": name}
        write_catalogue(spine, document)
        spine.play("provision").ok()
        done = spine.suspend("vps-ghost", "T-22")
        (error,) = done.converged["errors"]
        assert error["service"] == "vps-ghost" and name in error["message"]
        spine.lift("vps-ghost", variables={"case": "all"}).ok()
        personal = [row for table in ("aup_event_detail", "aup_event", "aup_release")
                    for row in spine.rows(f"select * from {table}") if "liable it's" in str(row)]
        contents = [zlib.decompress(row[0]) for row in spine.rows("select body from aup_content")]
        assert personal == [] and not any(b"liable it" in body for body in contents), "personal data in the ledger"
        assert canaries(canary) == []
        for place in (Path.cwd(), spine.controller.state, spine.node.path("/root"), spine.node.path("/home/aup"), spine.node.path("/")):
            assert not (place / word).exists()
    finally:
        write_catalogue(spine, catalogue(spine.lab.nodes, generated="2026-11-05T00:00:00Z"))
        spine.play("provision").ok()
