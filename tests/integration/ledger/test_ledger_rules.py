# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the ledger, each on both databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ansible_collections.hosting.aup.plugins.module_utils._errors import (
    ConflictError,
    InputError,
    LedgerError,
)
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

NOW = 1_800_000_000
HOSTILE = '\'; DROP TABLE aup_event; --\n"$(reboot)" `id` {{ 7 * 7 }} \\ % ü \u202e {% raw %}'


def statuses(ledger, name="vps-1"):
    with ledger.read(now=NOW) as tx:
        return [
            e["status"]
            for e in tx.execute(sa.select(t.enforcement).order_by(t.enforcement.c.number)).mappings()
            if e["service"] == name
        ]


def test_tables_and_migrations_agree(ledger):
    with ledger._engine.connect() as connection, connection.begin():
        found = compare_metadata(MigrationContext.configure(connection), t.metadata)
        # Indexes and constraints are the migrations' alone; tables, columns and nullability must be the same.
        assert [step for step in found if step[0] not in ("remove_index", "remove_constraint")] == []


def test_an_enforcement_goes_its_way(provisioned, service, open_hold):
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        run = tx.start_run("suspend")
        held = open_hold(tx, service)
        tx.record_baselines("kvm1", [{"service": "vps-1", "fields": {"running": True}, "digest": "d1"}])
        tx.record_baselines("kvm1", [{"service": "vps-1", "fields": {"running": False}, "digest": "d2"}])
    assert statuses(provisioned) == ["opened"]
    with provisioned.transaction(now=NOW + 1) as tx:
        seen = tx.record_result(
            run, "kvm1", "changed", {"generation": 9}, [{"service": "vps-1", "enforcement_ids": [held["id"]]}]
        )
        assert seen["activated"] == [held["id"]]
        document = tx.snapshot("kvm1")
        assert document["enforcements"][0]["actor"] == "alice"
        assert [b["fields"] for b in document["baselines"]] == [{"running": True}], "the first baseline wins"
    assert statuses(provisioned) == ["active"]
    with provisioned.transaction(now=NOW + 3599) as tx:
        assert tx.end_due() == []
    with provisioned.transaction(now=NOW + 3600) as tx:
        assert [e["id"] for e in tx.end_due()] == [held["id"]]
        assert tx.end_due() == []
    assert statuses(provisioned) == ["ending"], "not ended before a node was seen without it"
    with provisioned.transaction(now=NOW + 3601) as tx:
        tx.record_result(run, "kvm1", "failed", None, [{"service": "vps-1", "error": "libvirt is down"}])
    assert statuses(provisioned) == ["ending"] and provisioned.run_failed(run)
    with provisioned.transaction(now=NOW + 3602) as tx:
        seen = tx.record_result(
            run, "kvm1", "changed", {"generation": 20}, [], ended_ids=[held["id"]], baselines_closed=["vps-1"]
        )
        assert (seen["ended"], seen["baselines_closed"]) == ([held["id"]], ["vps-1"])
        assert tx.verify()["ok"]
    assert statuses(provisioned) == ["ended"] and not provisioned.run_failed(run)


def test_same_case_once_other_case_as_well(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        first, again = open_hold(tx, service), open_hold(tx, service, length=7200)
        other = open_hold(tx, service, case="T-2")
        assert again["already"] and again["id"] == first["id"] and "2027-01-15T09:00:00Z" in again["message"]
        assert not other["already"]
        tx.lift(service="vps-1", case_id="T-1")
    assert statuses(provisioned) == ["ending", "opened"]


def test_a_service_no_managed_node_carries_ends_at_once(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        held = open_hold(tx, dict(service, id="vps-9", nodes=["elsewhere"]))
        assert tx.lift(enforcement_id=held["id"])["lifted"][0]["status"] == "cancelled"


def test_in_a_pool_it_ends_when_every_node_was_seen(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        tx.set_node_release("kvm2", 1)
        held = open_hold(tx, dict(service, nodes=["kvm1", "kvm2"]))
        tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": [held["id"]]}])
        tx.lift(service="vps-1")
        first = tx.record_result(None, "kvm1", "changed", {}, ended_ids=[held["id"]])
        assert first["ended"] == [] and first["waiting"] == {held["id"]: ["kvm2"]}
        assert tx.record_result(None, "kvm2", "unchanged", {}, ended_ids=[held["id"]])["ended"] == [
            held["id"]
        ]


def test_a_retired_node_is_not_waited_for(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        held = open_hold(tx, service)
        tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": [held["id"]]}])
        tx.lift(service="vps-1")
        assert tx.forget_node("kvm1")
        assert tx.snapshot("kvm1")["release"] is None
    assert statuses(provisioned) == ["ended"]


def test_adoption_first_node_then_born(provisioned, service):
    catalogue = {
        "format": 1,
        "prefixes": [],
        "nodes": {},
        "services": {
            "vps-1": service,
            "vps-2": dict(service, id="vps-2"),
            "vps-3": dict(service, id="vps-3", nodes=["kvm2"]),
        },
    }
    with provisioned.transaction(now=NOW + 50) as tx:
        release = tx.create_release({"house@1": {"name": "house"}}, "house@1", catalogue)
        assert (
            release["created"]
            and not tx.create_release({"house@1": {"name": "house"}}, "house@1", catalogue)["created"]
        )
        assert tx.adopt("kvm1", release["id"])["born"] == ["vps-2"]
        assert tx.adopt("kvm2", release["id"])["adopted"] == ["vps-3"]
        assert tx.snapshot("kvm1")["adoptions"] == {"vps-1": NOW, "vps-3": NOW + 50}
        assert tx.snapshot("kvm1")["release"]["id"] == 1, "a node keeps its own release"
        assert tx.snapshot("kvm1", release["id"])["release"]["id"] == 2


def test_exemptions(provisioned):
    with provisioned.transaction(now=NOW) as tx:
        first = tx.add_exemption(service="vps-1", control="smtp_outbound", reason="mail", ends_at=NOW + 60)
        assert tx.add_exemption(service="vps-1", control="smtp_outbound", reason="mail")["already"]
        assert [e["id"] for e in tx.snapshot("kvm1")["exemptions"]] == [first["id"]]
    with provisioned.transaction(now=NOW + 60) as tx:
        assert tx.snapshot("kvm1")["exemptions"] == [], "not in force at its end, even before it is closed"
        assert [e["status"] for e in tx.expire_exemptions()] == ["expired"]
        second = tx.add_exemption(service="vps-1", control="smtp_outbound", reason="mail again")
        assert tx.revoke_exemption(service="vps-1", control="smtp_outbound")[0]["id"] == second["id"]
        assert tx.revoke_exemption(service="vps-1", control="smtp_outbound") == []


def test_cases(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        ids = [tx.open_case(violation="spam", policy_key="house@1")["id"] for _ in range(2)]
        assert ids == ["C-2027-1", "C-2027-2"]
        open_hold(tx, service)
        with pytest.raises(ConflictError, match="still holds"):
            tx.close_case("T-1")
        with pytest.raises(ConflictError, match="is about spam"):
            tx.open_case(case_id="T-1", violation="scanning", policy_key="house@1")
        with pytest.raises(InputError, match="given by the ledger"):
            tx.open_case(case_id="C-2027-9", violation="spam", policy_key="house@1")
        assert tx.close_case(ids[0])["status"] == "closed"
        assert tx.close_case(ids[0])["already"]


ROW = {
    "number": 99,
    "service": "s",
    "violation": "v",
    "reason": "r",
    "policy_key": "p",
    "options": "{}",
    "snapshot": "{}",
    "opened_at": 1,
    "event_number": 1,
    "kind": "suspend",
    "case_id": "T-1",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "E-9", "status": "opened", "starts_at": 10, "ends_at": 10, "until": "time"},
        {"id": "E-9", "status": "opened", "starts_at": 10, "ends_at": 9, "until": "time"},
        {"id": "E-9", "status": "asleep", "starts_at": 10, "until": "decision"},
        {"id": "E-9", "status": "opened", "starts_at": 10, "until": "whenever"},
        {"id": "E-9", "status": "opened", "starts_at": 10, "until": "time"},
        {"id": "E-9", "status": "active", "starts_at": 10, "until": "decision"},
        {"id": "E-9", "status": "ended", "starts_at": 10, "until": "decision"},
        {"id": "E-9", "status": "opened", "starts_at": 10, "until": "decision", "case_id": "no such case"},
    ],
)
def test_the_database_itself_refuses(provisioned, wrong):
    with provisioned.transaction(now=NOW) as tx:
        tx.open_case(case_id="T-1", violation="spam", policy_key="house@1")
    with pytest.raises(ConflictError, match="own rules"), provisioned.transaction(now=NOW) as tx:
        tx.execute(t.enforcement.insert().values(**{**ROW, **wrong}))


def test_the_database_itself_holds_the_only_ones(provisioned, service, open_hold):
    good = {**ROW, "status": "opened", "starts_at": 1, "until": "decision", "service": "vps-1"}
    with provisioned.transaction(now=NOW) as tx:
        open_hold(tx, service)
        tx.record_baselines("kvm1", [{"service": "vps-1", "fields": {}, "digest": "d"}])
        tx.add_exemption(service="vps-1", control="smtp_outbound", reason="mail")
    for statement in (
        t.enforcement.insert().values(**good, id="E-9"),
        t.baseline.insert().values(
            number=9, service="vps-1", node="kvm1", digest="x", fields="{}", captured_at=1
        ),
        t.exemption.insert().values(
            id="X-9",
            number=9,
            service="vps-1",
            control="smtp_outbound",
            reason="r",
            status="open",
            starts_at=1,
            opened_at=1,
            event_number=1,
        ),
    ):
        with pytest.raises(ConflictError), provisioned.transaction(now=NOW) as tx:
            tx.execute(statement)
    with provisioned.transaction(now=NOW) as tx:
        tx.execute(
            t.enforcement.insert().values(**{**good, "id": "E-9", "case_id": "T-1", "kind": "quarantine"})
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE aup_event SET at = at + 1 WHERE number = 2",
        "DELETE FROM aup_event WHERE number = 2",
        "UPDATE aup_event_detail SET body = '{}' WHERE event_number = 2",
        "UPDATE aup_event_detail SET salt = 'x' WHERE event_number = 2",
        "DELETE FROM aup_event_detail WHERE event_number = 2",
    ],
)
def test_events_are_append_only_in_the_database(provisioned, statement):
    with pytest.raises((LedgerError, ConflictError), match=r"never changed or removed"):
        with provisioned.transaction(now=NOW) as tx:
            tx.execute(sa.text(statement))
    with provisioned.read() as tx:
        assert tx.verify()["ok"]


def test_replace_and_truncate_are_refused_too(provisioned, url):
    postgresql = url.startswith("postgresql")
    statements = (
        ("TRUNCATE aup_event_detail", "TRUNCATE aup_event CASCADE")
        if postgresql
        else (
            (
                "INSERT OR REPLACE INTO aup_event SELECT number, at + 1, kind, refs, detail_digest, prev_digest, digest"
                " FROM aup_event WHERE number = 2"
            ),
            (
                "INSERT OR REPLACE INTO aup_event_detail SELECT event_number, 'x', body, erased_at FROM aup_event_detail"
                " WHERE event_number = 2"
            ),
        )
    )
    for statement in statements:
        with pytest.raises((LedgerError, ConflictError), match=r"never changed or removed"):
            with provisioned.transaction(now=NOW) as tx:
                tx.execute(sa.text(statement))


def test_hostile_notes_are_kept_as_they_are(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW, actor={"name": HOSTILE, "source": "test"}) as tx:
        open_hold(tx, service, note=HOSTILE)
        tx.add_exemption(service="vps-1", control="smtp_outbound", reason=HOSTILE, note=HOSTILE)
    with provisioned.read(now=NOW) as tx:
        assert tx.snapshot("kvm1")["exemptions"][0]["reason"] == HOSTILE
        notes = {e["detail"].get("note") for e in tx.history("vps-1") if e["kind"] == "enforcement_opened"}
        assert notes == {HOSTILE} and tx.snapshot("kvm1")["enforcements"][0]["actor"] == HOSTILE
        assert tx.verify()["ok"]
    for bad in ("a\x00b", "half \ud800 pair", "x" * 4001):
        with pytest.raises(InputError), provisioned.transaction(now=NOW) as tx:
            tx.add_exemption(service="vps-2", control="smtp_outbound", reason=bad)


def test_personal_data_is_in_details_only_and_erasable(provisioned, service, open_hold):
    with provisioned.transaction(actor="mallory.jones", now=NOW) as tx:
        open_hold(tx, service, note="called Ms Example")
        before = tx.head()
    with provisioned.read() as tx:
        chain = str(tx.execute(sa.select(t.event)).all())
        assert "mallory" not in chain and "Example" not in chain and "c-77" not in chain
    with provisioned.transaction(now=NOW + 5) as tx:
        assert tx.erase_details(service="vps-1", reason="asked for by the customer")
        details = str(tx.execute(sa.select(t.event_detail.c.body)).all())
        assert "mallory" not in details and "Example" not in details and "c-77" not in details
        verified = tx.verify(before)
        assert verified["ok"] and verified["erased"] >= 2
        assert tx.snapshot("kvm1")["enforcements"][0]["actor"] is None, "it stays in force"


def test_epoch_after_a_restore(provisioned):
    with provisioned.read() as tx:
        old = tx.head()
    with provisioned.transaction(now=NOW) as tx:
        assert tx.bump_epoch("restored") == 2
        assert tx.snapshot("kvm1")["epoch"] == 2 and tx.verify(old)["ok"]
        newer = tx.head()
    with pytest.raises(ConflictError), provisioned.transaction(now=NOW) as tx:
        tx.execute(sa.text("UPDATE aup_meta SET epoch = 0"))
    with provisioned.read() as tx:
        assert tx.verify(newer)["ok"]
        assert not tx.verify(dict(newer, ledger="another"))["ok"]
        assert not tx.verify(dict(newer, number=newer["number"] + 1))["ok"]
        assert not tx.verify(dict(newer, digest="0" * 64))["ok"]
        assert not tx.verify(dict(newer, epoch=3))["ok"]


def test_check_and_replay_give_what_the_real_run_gives(provisioned, service, open_hold):
    def work(tx):
        run = tx.start_run("suspend", {"note": HOSTILE})
        case = tx.open_case(violation="spam", policy_key="house@1", note=HOSTILE)
        held = tx.open_enforcement(
            service_doc=service,
            policy_key="house@1",
            kind="suspend",
            case_id=case["id"],
            violation="spam",
            reason="spam",
            starts_at=tx.now,
            ends_at=tx.now + 60,
        )
        tx.create_release(
            {"house@2": {"name": "house"}}, "house@2", {"nodes": {}, "services": {"vps-1": service}}
        )
        return run, case["id"], held["id"]

    with provisioned.transaction(check=True, actor="alice", now=NOW) as tx:
        checked, pending = work(tx), tx.pending
        wanted = tx.snapshot("kvm1")
    with provisioned.transaction(check=True, actor="alice", now=NOW) as tx:
        L.replay(tx, pending)
        assert tx.snapshot("kvm1") == wanted
    with pytest.raises(InputError, match="never written"), provisioned.transaction() as tx:
        L.replay(tx, pending)
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        assert work(tx) == checked
        assert tx.snapshot("kvm1") == wanted
    for bad in (
        [{"verb": "execute", "args": {}}],
        ["x"],
        [{"verb": "lift", "args": {"no": 1}}],
        [{"verb": "create_release", "args": {"packed": "!"}}],
    ):
        with pytest.raises(InputError), provisioned.transaction(check=True) as tx:
            L.replay(tx, bad)
