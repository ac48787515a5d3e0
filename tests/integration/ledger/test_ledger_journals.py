# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes did by themselves comes into the ledger once, at its true time, and no further than a node may say."""

from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import status_lines

NOW = 1_800_000_000
END = NOW + 3600


def entry(number, what="ended", **more):
    return {"number": number, "what": what, "at": END, **more}


def ended(number, enforcement_id, **more):
    return entry(number, service="vps-1", enforcement_id=enforcement_id, kind="suspend", **{"seen_at": END + 2, "held": True, **more})


@pytest.fixture
def held(provisioned, service, open_hold):
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        document = open_hold(tx, service)
        tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": [document["id"]]}])
        tx.record_baselines("kvm1", [{"service": "vps-1", "fields": {}, "digest": "d1"}])
    return document["id"]


def take(ledger, entries, at=END + 60, node="kvm1", journal="j1"):
    with ledger.transaction(now=at) as tx:
        return tx.take_journal(node, journal, entries)


def found(ledger, number):
    with ledger.read(now=END + 100) as tx:
        return next((e for e in tx.history("vps-1") if e["kind"] == "enforcement_ended" and e["refs"]["enforcement"] == number), None)


def test_ended_at_its_true_time_and_once(provisioned, held):
    entries = [ended(1, held), entry(2, "given_back", service="vps-1", digest="d1")]
    first = take(provisioned, entries)
    assert (first["ended"], first["given_back"], first["refused"], first["number"]) == ([held], ["vps-1"], [], 2)
    event = found(provisioned, held)
    assert event["refs"]["by"] == "keeper" and event["refs"]["node"] == "kvm1" and event["refs"]["at_node"] == END + 2
    with provisioned.read() as tx:
        head, snapshot = tx.head_number, tx.snapshot("kvm1")
        assert snapshot["enforcements"] == [] and snapshot["baselines"] == []
    # Another controller brings the same, and then more: nothing twice.
    assert take(provisioned, entries)["number"] == 2
    with provisioned.read() as tx:
        assert tx.head_number == head and tx.verify()["ok"]
    assert take(provisioned, [*entries, entry(3, "mended", steps=[["rules were flushed"]])])["number"] == 3


def test_also_when_the_controller_marked_it_meanwhile(provisioned, held):
    with provisioned.transaction(now=END + 50) as tx:
        tx.end_due()
    assert take(provisioned, [ended(1, held)])["ended"] == [held]


@pytest.mark.parametrize("wrong", [
    {"at": END - 60},  # an older end: it was extended since
    {"enforcement_id": "E-99"}, {"seen_at": "soon"}, {"enforcement_id": None}, {"at": -1},
])
def test_what_a_node_can_not_say_ends_nothing(provisioned, held, wrong):
    done = take(provisioned, [{**ended(1, held), **wrong}])
    assert done["ended"] == [] and done["refused"] and done["number"] == 1
    with provisioned.read() as tx:
        assert [e["status"] for e in tx.active("vps-1")] == ["active"]


def test_a_node_whose_clock_is_ahead_ends_nothing_early(provisioned, held):
    done = take(provisioned, [ended(1, held)], at=NOW + 10)
    assert done["ended"] == [] and "clock is ahead" in done["refused"][0]
    assert take(provisioned, [{**ended(2, held), "at": END}], at=END - 5)["ended"] == [held], "a few seconds are the clocks'"


def test_one_node_can_not_speak_for_another(provisioned, held):
    with provisioned.transaction(now=NOW) as tx:
        tx.set_node_release("kvm2", 1)
    done = take(provisioned, [ended(1, held), entry(2, "given_back", service="vps-1", digest="d1")], node="kvm2")
    assert done["ended"] == done["given_back"] == [] and "is not one of node kvm2" in done["refused"][0]


def test_in_a_pool_it_ends_when_every_node_has_said_so(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        tx.set_node_release("kvm2", 1)
        number = open_hold(tx, dict(service, nodes=["kvm1", "kvm2"]))["id"]
        tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": [number]}])
    assert take(provisioned, [ended(1, number)])["ended"] == []
    assert take(provisioned, [ended(1, number, held=False)], node="kvm2")["ended"] == [number]


def test_one_that_was_never_seen_in_force_by_a_run_and_yet_was(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        number = open_hold(tx, service)["id"]
    assert take(provisioned, [ended(1, number)])["ended"] == [number]
    assert found(provisioned, number), "ended, not cancelled"


def test_begun_by_the_node(provisioned, service, open_hold):
    with provisioned.transaction(now=NOW) as tx:
        number = open_hold(tx, service)["id"]
    assert take(provisioned, [entry(1, "began", enforcement_id=number)])["began"] == [number]


def test_a_journal_begun_anew_starts_at_one(provisioned, held):
    take(provisioned, [entry(5, "mended", steps=["x"])])
    assert take(provisioned, [ended(1, held)], journal="j2")["ended"] == [held]
    with pytest.raises(InputError):
        take(provisioned, [], journal="../x")


def test_held_by_hand_is_on_record_and_in_the_status(provisioned):
    hostile = "it's {{ 7 * 7 }}; $(reboot)"
    take(provisioned, [entry(1, "held", service="vps-1", reason=hostile, actor="anna", until_at=None, power="pause", id="hand-1"),
                       entry(2, "disarmed", controls=["all"], reason="")])
    terms = {"vps-1": {"id": "hand-1", "at": NOW, "until_at": None, "power": "pause", "reason": hostile, "actor": "anna"}}
    with provisioned.transaction(now=NOW) as tx:
        assert tx.note_by_hand("kvm1", terms) and not tx.note_by_hand("kvm1", terms)
        lines = status_lines(tx.status())
        assert any("held by hand on kvm1: vps-1" in line and hostile in line and "aup-node release" in line for line in lines)
        event = next(e for e in tx.history("vps-1") if e["kind"] == "node_by_hand")
        assert event["refs"]["what"] == "held" and event["detail"]["reason"] == hostile and event["detail"]["by"] == "anna"
        assert tx.note_by_hand("kvm1", {}) and tx.status()["by_hand"] == []


def test_a_node_of_a_cluster_tells_and_ends_nothing(provisioned, held):
    """The enforcement's node is what the ledger knows it by; a node within it only says what its packet filter did."""
    entries = [ended(1, held), entry(2, "mended", steps=["rules were flushed"]), ended(3, "E-99"), ended(4, "x" * 200),
               entry(5, "disarmed", controls=["smtp_outbound"], reason="T-991")]

    def tell(cluster, journal):
        with provisioned.transaction(now=END + 60) as tx:
            return tx.take_host_journal(cluster, "pve1", journal, entries)

    done = tell("kvm1", "j1")
    assert done["ended"] == [held] and done["number"] == 5 and len(done["refused"]) == 2
    with provisioned.read(now=END + 60) as tx:
        events = tx.history("vps-1")
        assert [event["kind"] for event in events].count("packet_filter_ended") == 1 and found(provisioned, held) is None
        assert [one["id"] for one in tx.active("vps-1")] == [held] and len(tx.snapshot("kvm1")["baselines"]) == 1
        assert "pve1" not in [node["name"] for node in tx.status()["nodes"]] and tx.verify()["ok"]
        head = tx.head_number
    assert tell("kvm1", "j1")["ended"] == []
    with provisioned.read() as tx:
        assert tx.head_number == head
    assert tell("another", "j2")["ended"] == []
