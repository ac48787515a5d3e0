# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox as the ledger keeps it, on each database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError, LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

NOW = 1_800_000_000


def at(ledger, now, verb, *arguments, **named):
    with ledger.transaction(actor="alice", now=now) as tx:
        return verb(tx, *arguments, **named)


def queue(ledger, case="T-1", **more):
    with ledger.transaction(actor="alice", now=NOW) as tx:
        tx.open_case(case_id=case, service="vps-1", violation="spam", policy_key="house@1")
        return tx.queue_notice(case_id=case, service="vps-1", name="n", timing="before", facts={"a": 1}, answer_seconds=3600, **more)


def claim(ledger, now=NOW, notice="N-1"):
    return at(ledger, now, L.claim_notice, notice_id=notice, lease=60, role="customer", recipient="a@b.c", subject="s", body="b")


def test_the_life_of_a_notice(ledger):
    first = queue(ledger)
    assert (first["status"], first["already"]) == ("queued", False) and queue(ledger)["already"]
    held = claim(ledger)
    assert claim(ledger) is None, "one sender at a time"
    at(ledger, NOW + 1, L.record_dot, notice_id="N-1", claim=held["claim"], lease=60)
    with pytest.raises(ConflictError):
        at(ledger, NOW + 2, L.notice_delivered, notice_id="N-1", claim="another")
    done = at(ledger, NOW + 5, L.notice_delivered, notice_id="N-1", claim=held["claim"], receipt="250 ok")
    assert (done["status"], done["deadline"], done["deadline_at"]) == ("delivered", "running", NOW + 5 + 3600)
    with pytest.raises(ConflictError):
        at(ledger, NOW + 6, L.deadline_passed, notice_id="N-1", what="taken")
    at(ledger, NOW + 4000, L.deadline_passed, notice_id="N-1", what="taken")
    with ledger.read(now=NOW + 4001) as tx:
        assert L.steps_taken_by_time(tx) == 1 and tx.verify()["ok"]
    with ledger.read(now=NOW + 4000 + 3600) as tx:
        assert L.steps_taken_by_time(tx) == 0


def test_a_sender_whose_lease_is_over_may_not_send(ledger):
    queue(ledger)
    held = claim(ledger)
    with pytest.raises(ConflictError):
        at(ledger, NOW + 60, L.record_dot, notice_id="N-1", claim=held["claim"], lease=60)
    with ledger.read(now=NOW + 60) as tx:
        (lost,) = L.expired_claims(tx)
    assert (lost["claim"], lost["stage"]) == (held["claim"], "claimed")
    at(ledger, NOW + 60, L.notice_refused, notice_id="N-1", claim=held["claim"], error="gone", permanent=False)
    again = claim(ledger, NOW + 60 + 1800)
    with pytest.raises(ConflictError):
        at(ledger, NOW + 60 + 1801, L.notice_delivered, notice_id="N-1", claim=held["claim"])
    assert again["message_id"] == held["message_id"] and again["body"] == "b"


def test_a_late_answer_settles_an_unknown_one(ledger):
    queue(ledger)
    held = claim(ledger)
    at(ledger, NOW, L.record_dot, notice_id="N-1", claim=held["claim"], lease=60)
    assert at(ledger, NOW + 60, L.notice_unknown, notice_id="N-1", claim=held["claim"])["status"] == "unknown"
    assert at(ledger, NOW + 70, L.notice_delivered, notice_id="N-1", claim=held["claim"])["status"] == "delivered"


@pytest.mark.parametrize("columns", [{"status": "gone"}, {"status": "sending"}, {"status": "delivered"}, {"deadline_at": 5}, {"deadline": "x"}])
def test_the_database_itself_refuses_what_can_not_be(ledger, columns):
    queue(ledger)
    with pytest.raises(ConflictError), ledger.transaction(actor="alice", now=NOW) as tx:
        tx.execute(t.notice.update().values(**columns))


def test_one_per_case_service_and_name_in_the_database_too(ledger):
    queue(ledger)
    with pytest.raises(ConflictError), ledger.transaction(actor="alice", now=NOW) as tx:
        row = dict(tx.execute(sa.select(t.notice)).mappings().one(), id="N-2", number=2, message_id="other")
        tx.execute(t.notice.insert().values(**row))


def test_what_waits_for_nobody_is_not_released(ledger):
    queue(ledger)
    with pytest.raises(ConflictError):
        at(ledger, NOW, L.release_notice, "N-1")
    with pytest.raises(InputError):
        at(ledger, NOW, L.release_notice, "N-9")
    assert at(ledger, NOW, L.cancel_notice, "N-1")["status"] == "cancelled"
    assert at(ledger, NOW, L.cancel_notice, "N-1")["already"]
    assert not queue(ledger)["already"], "a dropped one makes room"
    assert at(ledger, NOW, L.notice_bounced, message_id="<nobody@x>") is None


def test_a_topic_is_told_once_and_locks_of_cases_do_not_hold_it(ledger):
    of = {"service": "vps-1", "name": "transfer", "timing": "transfer", "facts": {"a": 1}, "topic": "transfer/vps-1/2026-11-01/80"}
    assert at(ledger, NOW, L.queue_notice, **of)["status"] == "queued" and at(ledger, NOW, L.queue_notice, **of)["already"]
    with ledger.read(now=NOW) as tx:
        assert [n["id"] for n in L.due_notices(tx)] == ["N-1"]
    assert at(ledger, NOW, L.cancel_notice, "N-1", "wrong") and at(ledger, NOW, L.queue_notice, **of)["already"], "once, for ever"
    with pytest.raises((ConflictError, LedgerError)), ledger.transaction(now=NOW) as tx:
        tx.execute(t.notice.update().values(topic=None))
    queue(ledger)
    for columns in ({"case_id": None}, {"topic": "transfer/vps-1/2026-11-01/80"}):
        with pytest.raises((ConflictError, LedgerError)), ledger.transaction(now=NOW) as tx:
            tx.execute(t.notice.update().where(t.notice.c.id == "N-2").values(**columns))


def test_requests_for_exemptions_one_at_a_time_decided_once(ledger):
    of = {"service": "vps-1", "control": "smtp_outbound", "reason": "ticket", "unmet": ["no PTR"], "seconds": 86400}
    first = at(ledger, NOW, L.request_exemption, **of)
    assert (first["id"], first["status"], first["unmet"]) == ("Q-1", "pending", ["no PTR"]) and at(ledger, NOW, L.request_exemption, **of)["already"]
    assert at(ledger, NOW, L.decide_request, request_id="Q-1", note="no")["status"] == "denied"
    with pytest.raises(ConflictError):
        at(ledger, NOW, L.decide_request, request_id="Q-1")
    assert at(ledger, NOW, L.request_exemption, **of)["id"] == "Q-2"
    with pytest.raises((ConflictError, LedgerError)), ledger.transaction(now=NOW) as tx:
        tx.execute(t.exemption_request.update().values(status="pending", closed_at=None))
    given = at(ledger, NOW, L.add_exemption, service="vps-1", control="smtp_outbound", reason="ticket")
    assert at(ledger, NOW, L.decide_request, request_id="Q-2", exemption_id=given["id"])["exemption_id"] == given["id"]
    with ledger.read(now=NOW) as tx:
        assert tx.verify()["ok"]
