# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that don't come: the clock starts at delivery, the ladder says what follows, and a mail outage suspends nobody."""

from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import due_lines, status_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

HOUR = 3600


@pytest.fixture
def acting(desk, tmp_path):
    """A policy whose steps time takes by itself, three an hour."""
    (tmp_path / "p.yml").write_text(
        "schema: 1\nname: strict\nversion: '1'\neffective: 2026-01-01\nprovider: {name: P}\nextends: default\n"
        "violations: {scanning: {ladder: [{enforcement: suspend, duration: 48h, mode: act, after: {condition: unanswered, for: 24h}}]}}\n"
        "guardrails: {max_steps_per_hour: 3}\n"
    )
    desk.policy(load_policy(tmp_path / "p.yml"))
    return desk


def due(desk):
    return desk.ask(requests.end_what_is_due)


def held(desk):
    with desk.ledger.read(now=desk.now) as tx:
        return [e["service"] for e in L.active(tx)]


def test_the_clock_starts_at_delivery_and_time_proposes_what_the_policy_leaves_to_a_person(desk):
    desk.report("vps-1", case="T-1")
    desk.now += 90 * HOUR
    assert not due(desk)["changed"], "a notice nobody was given starts no clock"
    desk.send()
    notice = desk.notices()["N-1"]
    assert (notice["deadline"], notice["deadline_at"]) == ("running", desk.now + 24 * HOUR)
    desk.now += 24 * HOUR - 1
    assert not due(desk)["changed"]
    with desk.ledger.read(now=desk.now) as tx:
        soon = due_lines(tx.status(), 24 * HOUR)
    assert len(soon) == 1
    assert "N-1" in soon[0]
    desk.now += 1
    done = due(desk)
    assert held(desk) == [] and len(done["proposals"]) == 1, done["what"]
    assert desk.notices()["N-1"]["deadline"] == "passed"
    assert not due(desk)["changed"], "once"
    with desk.ledger.read(now=desk.now) as tx:
        assert tx.proposals()[0]["by"] == [], "time is nobody who could agree to anything"
        assert any("proposed: suspend of vps-1" in line for line in status_lines(tx.status()))
        assert tx.verify()["ok"]


def test_an_answer_stops_it(acting):
    acting.report("vps-1", case="T-1")
    acting.send()
    answered = acting.ask(L.answer_case, "T-1", "it was a penetration test")
    assert answered["stopped"] == ["N-1"]
    acting.now += 100 * HOUR
    assert not due(acting)["changed"]
    assert held(acting) == []
    assert acting.ask(L.answer_case, "T-1")["already"]


def test_an_answer_before_the_mail_went_out_starts_no_clock(acting):
    acting.report("vps-1", case="T-1")
    acting.ask(L.answer_case, "T-1")
    acting.send()
    assert acting.notices()["N-1"]["deadline"] is None


def test_a_step_that_the_policy_has_time_take_is_taken_once(acting):
    acting.report("vps-1", case="T-1")
    acting.send()
    acting.now += 24 * HOUR
    done = due(acting)
    assert held(acting) == ["vps-1"] and done["nodes"] == ["kvm1"], done
    assert acting.notices()["N-2"]["enforcement_id"] == "E-1", "and its customer is told"
    assert not due(acting)["changed"]
    with acting.ledger.read(now=acting.now) as tx:
        assert L.active(tx)[0]["actor"] == "deadline of N-1"


def test_an_outage_of_mail_never_becomes_a_mass_suspension(acting):
    for number in range(1, 9):
        acting.report("vps-%d" % number, case="T-%d" % number)
    acting.send()
    acting.now += 24 * HOUR
    first = due(acting)
    assert len(held(acting)) == 3
    assert len(first["warnings"]) == 5 and "max_steps_per_hour" in first["warnings"][0]
    for _minute in range(59):
        acting.now += 60
        due(acting)
    assert len(held(acting)) == 3, "in any hour, not in each clock hour"
    acting.now += 61
    due(acting)
    assert len(held(acting)) == 6
    acting.ask(L.answer_case, "T-7")
    acting.ask(L.answer_case, "T-8")
    acting.now += 2 * HOUR
    due(acting)
    assert len(held(acting)) == 6


def test_a_bounce_a_closed_case_and_what_guardrails_refuse(acting, tmp_path):
    for number in (1, 2, 3):
        acting.report("vps-%d" % number, case="T-%d" % number)
    acting.send()
    acting.ask(L.notice_bounced, notice_id="N-1", error="no such user")
    acting.ask(L.close_case, "T-2")
    written = (tmp_path / "p.yml").read_text()
    (tmp_path / "p.yml").write_text(written.replace("guardrails: {", "guardrails: {protected: [192.0.2.3/32], "))
    acting.policy(load_policy(tmp_path / "p.yml"))
    acting.now += 25 * HOUR
    done = due(acting)
    assert held(acting) == []
    assert len(done["warnings"]) == 1 and "192.0.2.3" in done["warnings"][0]
    notices = acting.notices()
    assert [notices[n]["deadline"] for n in ("N-1", "N-2", "N-3")] == ["stopped", "stopped", "running"]


def test_what_fails_half_way_leaves_nothing_and_does_not_keep_others(acting):
    acting.report("vps-1", case="T-1")
    acting.report("vps-2", case="T-2")
    acting.send()
    acting.now += 24 * HOUR
    with acting.ledger.transaction(actor="alice", now=acting.now) as tx:
        before = tx.head_number
        with pytest.raises(ConflictError), tx.attempt():
            tx.open_case(case_id="T-9", violation="scanning", policy_key="strict@1")
            raise ConflictError("no")
        assert tx.head_number == before and tx.find_case("T-9") is None
        requests.end_what_is_due(tx)
    assert held(acting) == ["vps-1", "vps-2"]
    with acting.ledger.read(now=acting.now) as tx:
        assert tx.verify()["ok"]


def test_check_mode_writes_nothing(acting):
    acting.report("vps-1", case="T-1")
    acting.send()
    acting.now += 24 * HOUR
    with acting.ledger.transaction(check=True, actor="alice", now=acting.now) as tx:
        assert requests.end_what_is_due(tx)["changed"]
    assert held(acting) == []
    assert due(acting)["changed"]


def test_respond_counts_from_the_delivery(acting):
    acting.report("vps-1", case="T-1")
    acting.now += 30 * HOUR
    acting.send()
    done = acting.ask(respond, service="vps-1", violation="scanning", case="T-1", unanswered=True)
    assert done["enforcements"] == [] and "after the customer was told" in done["what"][0]
