# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charges on both databases: each once, never of a victim, never removed."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError, LedgerError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _charge_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
FEES = {name: load_policy(policy).fee(name) for policy, name in (
    ("alteron", "clean_up"), ("alteron", "chargeback"), ("alteron", "transfer"), ("xtom", "delisting"), ("xtom", "delisting_hour"))}


def open_case(tx, service, case="T-1", fault="customer", fees=("clean_up",)):
    return tx.open_case(case_id=case, service=service["id"], violation="spam", policy_key="alteron@1", fault=fault,
                        customer=service["customer"], fees={name: FEES[name] for name in fees})


def suspend(tx, service, case="T-1", seen=True):
    held = tx.open_enforcement(service_doc=service, policy_key="alteron@1", kind="suspend", case_id=case, violation="spam",
                               reason="spam", starts_at=tx.now, ends_at=tx.now + 3600)
    if seen:
        tx.record_result(None, "kvm1", "changed", {}, [{"service": service["id"], "enforcement_ids": [held["id"]]}])
    return held


def sums(tx, **only):
    return [(one["kind"], one["fee"], one["amount"], one["currency"], one["account"], one["status"]) for one in tx.charges(**only)]


def test_clean_up_once_per_case_and_account_when_seen_suspended(provisioned, service):
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        open_case(tx, service)
        suspend(tx, service, seen=False)
        assert sums(tx) == [], "decided is not suspended"
    second, foreign = dict(service, id="vps-2"), dict(service, id="vps-3", customer="c-88")
    with provisioned.transaction(actor="alice", now=NOW + 1) as tx:
        for one in (service, second, foreign):
            held = suspend(tx, one)
            tx.record_result(None, "kvm1", "unchanged", {}, [{"service": one["id"], "enforcement_ids": [held["id"]]}])
        once = [("charge", "clean_up", "60.00", "EUR", account, "open") for account in ("c-77", "c-88")]
        assert sums(tx) == once
        tx.lift(service="vps-1")
        tx.record_result(None, "kvm1", "changed", {}, ended_ids=["E-1"])
        suspend(tx, service)
        assert sums(tx) == once, "suspended again for the same case: no second fee"
        open_case(tx, service, case="T-2")
        suspend(tx, service, case="T-2")
        assert len(sums(tx)) == 3 and tx.verify()["ok"]


@pytest.mark.parametrize("fault", ["none", "unknown", None])
def test_a_victim_never_pays(provisioned, service, fault):
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        open_case(tx, service, fault=fault, fees=("clean_up", "chargeback", "delisting"))
        suspend(tx, service)
        assert sums(tx) == []
        with pytest.raises(ConflictError, match="fault"):
            requests.record_fee(tx, case="T-1", fee="chargeback", amount="75.00")


def test_fault_decided_later(provisioned, service):
    with provisioned.transaction(actor="alice", now=NOW) as tx:
        open_case(tx, service, fault="unknown")
        suspend(tx, service)
        with pytest.raises(InputError, match="reason"):
            requests.decide(tx, "T-1", "customer")
        made = requests.decide(tx, "T-1", "customer", "logs show the customer's key")["charges"]
        assert [one["amount"] for one in made] == ["60.00"]
        assert not requests.decide(tx, "T-1", "customer", "again")["changed"]
        # Before billing took it: waived, and its row stays.
        waived = requests.decide(tx, "T-1", "none", "it was spoofed")["charges"]
        assert sums(tx) == [("charge", "clean_up", "60.00", "EUR", "c-77", "waived")] and waived[0]["id"] == made[0]["id"]
        assert tx.export_charges()["export"] is None

        open_case(tx, service, case="T-2")
        suspend(tx, service, case="T-2")
        taken = tx.export_charges()
        # After: a credit of its own, which the next export carries.
        requests.decide(tx, "T-2", "none", "it was spoofed")
        requests.decide(tx, "T-2", "unknown", "who knows")
        requests.decide(tx, "T-2", "none", "sure now")
        credits = [one for one in tx.charges() if one["kind"] == "credit"]
        assert [(one["amount"], one["credit_of"]) for one in credits] == [("60.00", taken["charges"][0]["id"])]
        assert [one["id"] for one in tx.export_charges()["charges"]] == [credits[0]["id"]]
        assert tx.exported(taken["export"]) == taken and tx.verify()["ok"]
    kinds = [e["kind"] for e in _history(provisioned)]
    assert kinds.count("charge_waived") == 1 and kinds.count("charge_credited") == 1


def _history(ledger):
    with ledger.read() as tx:
        return tx.history("vps-1")


def test_delisting_once_and_by_the_hour(provisioned, service):
    with provisioned.transaction(actor="bob", now=NOW) as tx:
        open_case(tx, service, fees=("delisting", "delisting_hour"))
        assert sums(tx) == [("charge", "delisting", "50.00", "EUR", "c-77", "open")]
        for worked, reference, amount, changed in (
            ("20m", "WO-1", "50.00", True), ("20m", "WO-2", "0.00", True), ("30m", "WO-3", "50.00", True),
            ("20m", "WO-1", "50.00", False), ("3h", "WO-4", "150.00", True),
        ):
            done = requests.record_fee(tx, case="T-1", fee="delisting_hour", worked=worked, reference=reference)
            assert (done["charges"][0]["amount"], done["changed"]) == (amount, changed), reference
        for wrong in ({"worked": "90"}, {"worked": "90m"}, {"worked": "90m", "reference": "../../x y"}, {"amount": "50.00"},
                      {"worked": "25m", "reference": "WO-1"}, {"reference": "WO-9"}):
            with pytest.raises((InputError, ConflictError)) as caught:
                requests.record_fee(tx, case="T-1", fee="delisting_hour", **wrong)
            assert caught.value.target and caught.value.remedy
        for wrong in ({"case": "T-9"}, {}, {"case": "T-1", "fee": "chargeback"}, {"case": "T-1", "fee": "delisting_hour", "account": "c-1"}):
            with pytest.raises(InputError) as caught:
                requests.record_fee(tx, **wrong)
            assert caught.value.target and caught.value.remedy


def test_a_chargeback_in_its_own_currency(provisioned, service):
    with provisioned.transaction(actor="bob", now=NOW) as tx:
        open_case(tx, service, fees=("chargeback", "clean_up"))
        done = requests.record_fee(tx, case="T-1", fee="chargeback", amount="75.5")
        assert (done["charges"][0]["amount"], done["charges"][0]["currency"]) == ("75.50", "USD")
        assert not requests.record_fee(tx, case="T-1", fee="chargeback", amount="150.00")["changed"], "once"
        suspend(tx, service)
        assert [(row[2], row[3]) for row in sums(tx)] == [("75.50", "USD"), ("60.00", "EUR")]


def test_the_database_itself_holds_the_rules(provisioned, service, url):
    with provisioned.transaction(actor="bob", now=NOW) as tx:
        open_case(tx, service)
        suspend(tx, service)
        tx.export_charges()
    for statement in (
        "UPDATE aup_charge SET amount = '6.00'", "UPDATE aup_charge SET currency = 'USD'", "DELETE FROM aup_charge",
        "UPDATE aup_charge SET status = 'open', export_id = NULL",
        ("INSERT INTO aup_charge SELECT 'F-9', 9, kind, credit_of, account, case_id, service, violation, fee, clause, policy_key,"
        " amount, currency, quantity, unit, reference, 'open', opened_at, waived_at, NULL, event_number FROM aup_charge"),
    ):
        with pytest.raises((ConflictError, LedgerError)), provisioned.transaction() as tx:
            tx.execute(sa.text(statement))
    with provisioned.read() as tx:
        assert [(row[1], row[2], row[5]) for row in sums(tx)] == [("clean_up", "60.00", "exported")]


def test_two_billing_systems_take_each_charge_once(provisioned, service, url):
    with provisioned.transaction(actor="bob", now=NOW) as tx:
        for number in range(12):
            open_case(tx, service, case="T-%d" % number, fees=("delisting",))
    taken, lock = [], threading.Lock()

    def take():
        with L.open_ledger(url) as ledger:
            for _turn in range(3):
                with ledger.transaction(actor="billing") as tx:
                    done = tx.export_charges()
                with lock:
                    taken.extend(one["id"] for one in done["charges"])

    threads = [threading.Thread(target=take) for _n in range(3)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert sorted(taken) == sorted("F-%d" % number for number in range(1, 13))


def test_hours_without_credit_are_those_of_fault(provisioned, service):
    """A victim's 48 hours bear credit; the hours of an own violation do not; overlaps count once."""

    def hold(case, fault, kind, begin, end):
        with provisioned.transaction(actor="a", now=NOW + begin) as tx:
            open_case(tx, service, case=case, fault=fault, fees=())
            held = tx.open_enforcement(service_doc=service, policy_key="alteron@1", kind=kind, case_id=case, violation="spam",
                                       reason="r", starts_at=tx.now, ends_at=tx.now + 10**6)
            tx.record_result(None, "kvm1", "changed", {}, [{"service": "vps-1", "enforcement_ids": [held["id"]]}])
        if end is not None:
            with provisioned.transaction(actor="a", now=NOW + end) as tx:
                tx.lift(enforcement_id=held["id"])
                tx.record_result(None, "kvm1", "changed", {}, ended_ids=[held["id"]])

    hold("T-1", "none", "suspend", 0, 100)
    hold("T-2", "customer", "suspend", 50, 200)
    hold("T-3", "customer", "quarantine", 150, 300)
    hold("T-4", "unknown", "suspend", 400, 500)
    hold("T-5", "customer", "bandwidth_cap", 600, 700)
    hold("T-6", "customer", "suspend", 800, None)
    with provisioned.transaction(actor="a", now=NOW + 900) as tx:
        never = tx.open_enforcement(service_doc=service, policy_key="alteron@1", kind="suspend", case_id="T-1", violation="spam",
                                    reason="r", starts_at=tx.now, ends_at=tx.now + 9)
        seen = requests.credit_view(tx, "vps-1")
        assert never["id"] not in [one["enforcement"] for one in seen["intervals"]] and len(seen["intervals"]) == 6
        found = [(one["begins_at"] - NOW, one["ends_at"] and one["ends_at"] - NOW, one["cases"]) for one in seen["no_credit"]]
        assert found == [(50, 300, ["T-2", "T-3"]), (800, None, ["T-6"])]
        cut = requests.credit_view(tx, "vps-1", iso(NOW + 60), iso(NOW + 160))["no_credit"]
        assert [(one["begins_at"] - NOW, one["ends_at"] - NOW) for one in cut] == [(60, 160)]
        requests.decide(tx, "T-4", "customer", "it was")
        assert len(requests.credit_view(tx, "vps-1")["no_credit"]) == 3
        with pytest.raises(InputError, match="not after"):
            requests.credit_view(tx, "vps-1", "2026-12-01", "2026-11-01")
