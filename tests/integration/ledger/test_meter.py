# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From samples to notice, case, cap, purchase and bill, on both databases."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _charge_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._usage import WINDOW
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_requests import list_usage, meter

NOW = 1_800_000_000 - 1_800_000_000 % 86400
TB = 10**12
ALTERON = load_policy("alteron")


def policy_with(mode, **fee):
    document = copy.deepcopy(ALTERON.document)
    document["transfer"]["mode"] = mode
    document["fees"]["transfer"].update(fee)
    if mode == "bill":
        document["violations"]["transfer_exceeded"]["ladder"] = []
    return Policy.from_document(document)


def provide(ledger, service, policy=ALTERON, count=1):
    services = {}
    for number in range(1, count + 1):
        name = "vps-%d" % number
        services[name] = dict(
            service, id=name, account_type="personal", guest={"name": name, "uuid": None}, customer="c-%d" % number,
            nics=[dict(service["nics"][0], mac="52:54:00:00:%02x:%02x" % (number, n), addresses=["192.0.2.%d" % (10 * number + n)]) for n in (1, 2)],
            plan={"transfer_bytes": 2 * TB, "transfer_from": NOW})
    catalogue = {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"],
                 "nodes": {n: {"backend": "kvm", "address": None} for n in ("kvm1", "kvm2")}, "services": services}
    with ledger.transaction(actor="setup", now=NOW) as tx:
        release = tx.create_release({policy.key: policy.document}, policy.key, catalogue)
        for node in ("kvm1", "kvm2"):
            tx.adopt(node, release["id"])
            tx.set_node_release(node, release["id"])


def sample(number=1, nic=1, counter="boot/1", received=0, sent=0):
    return {"uuid": "?", "name": "vps-%d" % number, "mac": "52:54:00:00:%02x:%02x" % (number, nic), "counter": counter,
            "received": received, "sent": sent}


def run(ledger, at, *samples, node="kvm1", skew=0):
    with ledger.transaction(actor="timer", now=NOW + at) as tx:
        return meter(tx, {node: {"taken_at": NOW + at + skew, "samples": list(samples)}}, ["kvm1", "kvm2"])


def caps(ledger, service="vps-1"):
    with ledger.read() as tx:
        return [(e["kind"], e["status"], e["options"].get("rate"), e["ends_at"] - NOW) for e in tx.active(service)]


def seen(ledger, at, *ids, gone=()):
    with ledger.transaction(now=NOW + at) as tx:
        tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": list(ids)}], ended_ids=list(gone))


def test_told_capped_paid_and_over(ledger, service):
    provide(ledger, service)
    assert run(ledger, 60, sample(received=5 * TB))["what"] == [], "what was before the first sample is nobody's debt"
    told = run(ledger, 120, sample(received=6 * TB, sent=6 * TB // 10), sample(nic=2, counter="boot/2"))
    assert [(one["percent"], one["bytes"]) for one in told["told"]] == [(80, 16 * TB // 10)] and told["nodes"] == []
    assert run(ledger, 180, sample(received=6 * TB, sent=6 * TB // 10))["changed"] is False
    # The guest is migrated: other host, other counters, both NICs count.
    over = run(ledger, 240, sample(counter="other/9", received=TB // 2), sample(nic=2, counter="other/10", sent=1), node="kvm2")
    assert [one["percent"] for one in over["told"]] == [100] and over["nodes"] == ["kvm1"] and not over["problems"]
    assert caps(ledger) == [("bandwidth_cap", "opened", "10 Mbit/s", WINDOW)]
    assert not run(ledger, 300, sample(counter="other/9", received=TB // 2), node="kvm2")["changed"], "capped once"
    seen(ledger, 301, "E-1")
    with ledger.transaction(actor="shop", now=NOW + 400) as tx:
        case = "transfer-vps-1-2027-01-15"
        done = requests.record_fee(tx, case=case, fee="transfer", quantity="1", reference="order-1")
        assert (done["charges"][0]["amount"], done["charges"][0]["currency"]) == ("9.00", "EUR")
        assert not requests.record_fee(tx, case=case, fee="transfer", quantity="1", reference="order-1")["changed"]
    paid = run(ledger, 420, sample(counter="other/9", received=TB // 2), node="kvm2")
    assert "lifted" in " ".join(paid["what"]) and paid["nodes"] == ["kvm1"] and caps(ledger)[0][1] == "ending"
    seen(ledger, 421, gone=["E-1"])
    # The terabyte bought is used up as well: capped again, until the window is over.
    again = run(ledger, 500, sample(counter="other/9", received=2 * TB), node="kvm2")
    assert again["nodes"] == ["kvm1"] and caps(ledger)[0][1] == "opened"
    seen(ledger, 501, "E-2")
    ended = run(ledger, WINDOW + 60, sample(counter="other/9", received=2 * TB + 7), node="kvm2")
    assert "the window is over" in " ".join(ended["what"])
    seen(ledger, WINDOW + 61, gone=["E-2"])
    closed = run(ledger, WINDOW + 120, sample(counter="other/9", received=2 * TB + 7), node="kvm2")
    assert "case transfer-vps-1-2027-01-15 closed" in " ".join(closed["what"])
    assert not run(ledger, WINDOW + 180)["changed"]
    with ledger.read(now=NOW + WINDOW + 200) as tx:
        windows = list_usage(tx, "vps-1")["windows"]
        assert [(w["received"], w["sent"]) for w in windows] == [(3 * TB, TB * 6 // 10 + 1), (7, 0)]
        assert tx.find_case(case)["status"] == "closed" and tx.verify()["ok"]
        assert [(c["fee"], c["amount"]) for c in tx.charges()] == [("transfer", "9.00")]


@pytest.mark.parametrize(("fee", "amount"), [
    ({}, "18.00"), ({"rounding": "pro_rata"}, "13.50"), ({"per": "TiB"}, "18.00"), ({"per": "TiB", "rounding": "pro_rata"}, "12.28")])
def test_billed_when_the_window_ends(ledger, service, fee, amount):
    provide(ledger, service, policy_with("bill", **fee))
    run(ledger, 60, sample())
    over = run(ledger, 120, sample(received=3 * TB, sent=TB // 2))
    assert over["nodes"] == [] and caps(ledger) == []
    with ledger.read() as tx:
        assert tx.charges() == [], "the window is not over"
    for at in (WINDOW + 60, WINDOW + 120, WINDOW + 180):
        run(ledger, at, sample(received=3 * TB, sent=TB // 2))
    with ledger.read() as tx:
        assert [(c["amount"], c["currency"], c["account"], c["reference"]) for c in tx.charges()] == [(amount, "EUR", "c-1", "window-2027-01-15")]
        assert tx.find_case("transfer-vps-1-2027-01-15")["status"] == "closed"


def test_capped_without_bill_and_a_person_has_the_last_word(ledger, service):
    provide(ledger, service, policy_with("cap"))
    run(ledger, 60, sample())
    run(ledger, 120, sample(received=3 * TB))
    assert len(caps(ledger)) == 1
    with ledger.transaction(actor="alice", now=NOW + 150) as tx:
        tx.lift(service="vps-1", reason="goodwill")
        tx.record_result(None, "kvm1", "changed", {}, ended_ids=["E-1"])
    assert not run(ledger, 180, sample(received=4 * TB))["nodes"] and caps(ledger) == [], "what a person lifted stays lifted"
    with ledger.read() as tx:
        assert tx.charges() == []


def test_a_mistake_in_counting_is_no_mass_cap(ledger, service):
    provide(ledger, service, count=8)
    run(ledger, 60, *(sample(n, counter="boot/%d" % n) for n in range(1, 9)))
    over = run(ledger, 120, *(sample(n, counter="boot/%d" % n, received=9 * TB) for n in range(1, 9)))
    with ledger.read() as tx:
        assert len(tx.active()) == 5 and sum("not capped yet" in line for line in over["what"]) == 3
    run(ledger, 180)
    with ledger.read() as tx:
        assert len(tx.active()) == 5
    run(ledger, 3800)
    with ledger.read() as tx:
        assert len(tx.active()) == 8


def test_one_bad_node_does_not_stop_the_others(ledger, service):
    provide(ledger, service)
    with ledger.transaction(now=NOW + 60) as tx:
        done = meter(tx, {"kvm1": {"taken_at": NOW + 60, "samples": [sample()]}, "kvm2": {"taken_at": NOW + 999, "samples": []},
                          "kvm3": {"taken_at": NOW, "samples": []}, "kvm4": None})
    assert done["counted"] == ["vps-1"] and [p["target"] for p in done["problems"]] == ["kvm2", "kvm3", "kvm4"]
    assert all(p["remedy"] for p in done["problems"])
