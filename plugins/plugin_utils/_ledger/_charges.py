# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charges: what a case costs which account, each once; and which hours bear no credit. PRIVATE to the collection.

A charge is made when what it is owed for has happened, is never changed, and leaves by being waived or, once
billing has taken it, by a credit of its own. The fees are those the case was opened with.
"""

from __future__ import annotations

from decimal import Decimal

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _events
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

OUTAGES = ("suspend", "quarantine", "terminate", "null_route")
"""Enforcements under which a service does not answer the world; the others slow or narrow it."""

_COLUMNS = (
    "id", "kind", "credit_of", "account", "case_id", "service", "violation", "fee", "clause", "policy_key", "amount",
    "currency", "quantity", "unit", "reference", "status", "opened_at", "waived_at", "export_id", "event_number",
)  # fmt: skip


@reader
def charges(tx, *conditions, case_id=None, account=None, service=None, status=None):
    """Charges and credits as documents, oldest first; each filter narrows."""
    wanted = [
        column == value
        for column, value in (
            (t.charge.c.case_id, case_id),
            (t.charge.c.account, account),
            (t.charge.c.service, service),
            (t.charge.c.status, status),
        )
        if value is not None
    ]
    rows = tx.execute(sa.select(t.charge).where(*conditions, *wanted).order_by(t.charge.c.number))
    return [{name: getattr(row, name) for name in _COLUMNS} for row in rows]


@reader
def case_fees(tx, case_id):
    """`{name: fee}` the case was opened with.

    :raises InputError: no such case
    """
    row = tx.execute(sa.select(t.case.c.fees).where(t.case.c.id == case_id)).first()
    if row is None:
        raise InputError("there is no case %s." % case_id, target="case", remedy="hosting.aup.status lists the open ones.")
    return values.from_text(row.fees) or {}


@reader
def case_accounts(tx, case_id):
    """Accounts of the services a case is about: `{account: [services]}`; those whose names were erased are missing."""
    found = {}
    rows = [tx.execute(sa.select(t.case.c.service, t.case.c.event_number).where(t.case.c.id == case_id)).one()]
    rows += tx.execute(
        sa.select(t.enforcement.c.service, t.enforcement.c.event_number)
        .where(t.enforcement.c.case_id == case_id)
        .order_by(t.enforcement.c.number)
    ).all()
    for row in rows:
        account = (_events.detail_of(tx, row.event_number) or {}).get("customer")
        if account and row.service and row.service not in found.setdefault(account, []):
            found[account].append(row.service)
    return found


@verb
def record_charge(tx, *, case_id, account, fee, amount, reference="", quantity=None, service=None, note=None):
    """Charge an account a fee of a case.

    :param amount: text, without currency: that is the fee's
    :param reference: what tells several charges of one fee in a case apart: a work order, a window of use
    :param quantity: text, of the fee's unit
    :returns: the charge; `already` True when it is there, whatever became of it
    :raises InputError: no such case, a fee that the case does not have, or fault that is not the customer's
    """
    note, account = values.free_text(note, "note"), values.identifier(account, "account")
    reference = "" if reference in (None, "") else values.identifier(reference, "reference")
    fees, row = case_fees(tx, case_id), tx.execute(sa.select(t.case).where(t.case.c.id == case_id)).one()
    if fee not in fees:
        raise InputError(
            "case %s has no fee %r: policy %s gives %s for %s."
            % (case_id, fee, row.policy_key, ", ".join(sorted(fees)) or "none", row.violation),
            target="fee", remedy="Use one of these, or open a case for the violation that costs it.",
        )
    if row.fault != "customer":
        raise ConflictError(
            "nothing is charged for case %s: its fault is %s." % (case_id, row.fault or "unknown"), target=case_id,
            remedy="Where it is the customer's, decide so first: hosting.aup.decide -e case=%s -e fault=customer" % case_id,
        )
    of = (t.charge.c.case_id == case_id, t.charge.c.account == account, t.charge.c.fee == fee,
          t.charge.c.reference == reference, t.charge.c.kind == "charge")
    present = charges(tx, *of)
    if present:
        return dict(present[0], already=True)
    terms = fees[fee]
    return dict(_write(
        tx, "charge_recorded", {"note": note, "account": account},
        kind="charge", account=account, case_id=case_id, service=service, violation=row.violation, fee=fee,
        clause=terms["clause"], policy_key=row.policy_key, amount=str(Decimal(amount)), currency=terms["currency"],
        quantity=quantity, unit=terms["per"], reference=reference,
    ), already=False)


def _write(tx, event, detail, **columns):
    number = tx.next_number(t.charge.c.number)
    charge_id = "F-%d" % number
    refs = {name: columns.get(name) for name in ("fee", "clause", "amount", "currency", "quantity", "reference", "credit_of", "service")}
    event_number = tx.append(event, dict(refs, charge=charge_id, case=columns["case_id"]), detail)
    tx.execute(t.charge.insert().values(
        id=charge_id, number=number, status="open", opened_at=tx.now, event_number=event_number, **columns))
    document = charges(tx, t.charge.c.id == charge_id)[0]
    tx.changed("charge", charge_id, None, document)
    return document


def charge_what_is_owed(tx, case_id):
    """Charge all that a case owes by what has happened so far. Returns the new charges.

    That is each fee that is due once and has one sum: with the case, or with the first suspension that was seen
    in force. Sums within a range, and hours, are a person's to record.
    """
    row = tx.execute(sa.select(t.case.c.fault, t.case.c.fees).where(t.case.c.id == case_id)).one()
    fees = values.from_text(row.fees) or {}
    if row.fault != "customer" or not fees:
        return []
    suspended = set(tx.execute(
        sa.select(t.enforcement.c.service).where(
            t.enforcement.c.case_id == case_id, t.enforcement.c.kind == "suspend",
            t.enforcement.c.verified_at.is_not(None))
    ).scalars())
    made = []
    for account, services in sorted(case_accounts(tx, case_id).items()):
        for name, fee in sorted(fees.items()):
            owed = suspended & set(services) if fee["due"] == "suspension" else services
            if fee["per"] != "once" or "maximum" in fee or not owed:
                continue
            done = record_charge(tx, case_id=case_id, account=account, fee=name, amount=fee["amount"],
                                 service=next(one for one in services if one in owed))
            made += [] if done["already"] else [done]
    return made


def settle(tx, case_id, reason):
    """Bring charges in line with a case's fault. Returns the charges made, waived or credited."""
    fault = tx.execute(sa.select(t.case.c.fault).where(t.case.c.id == case_id)).scalar()
    if fault == "customer":
        return charge_what_is_owed(tx, case_id)
    done = [waive_charge(tx, charge_id=one["id"], reason=reason) for one in charges(tx, case_id=case_id)
            if one["kind"] == "charge" and one["status"] != "waived"]
    return [one for one in done if not one["already"]]


@verb
def waive_charge(tx, charge_id, reason):
    """Let an account off a charge: what billing has not taken is waived, what it has is credited.

    :returns: the waived charge, or the credit; `already` True when it was done before
    :raises InputError: no such charge, or it is a credit itself
    """
    reason = values.free_text(reason, "reason", needed=True)
    found = charges(tx, t.charge.c.id == charge_id)
    if not found or found[0]["kind"] != "charge":
        raise InputError("there is no charge %s." % charge_id, target="charge", remedy="hosting.aup.charges lists them.")
    charge = found[0]
    if charge["status"] == "waived":
        return dict(charge, already=True)
    if charge["status"] == "exported":
        credit = charges(tx, t.charge.c.credit_of == charge_id)
        if credit:
            return dict(credit[0], already=True)
        same = {name: charge[name] for name in ("account", "case_id", "service", "violation", "fee", "clause", "policy_key",
                                                "amount", "currency", "quantity", "unit", "reference")}
        return dict(_write(tx, "charge_credited", {"reason": reason, "account": charge["account"]},
                           kind="credit", credit_of=charge_id, **same), already=False)
    tx.append("charge_waived", {"charge": charge_id, "case": charge["case_id"], "fee": charge["fee"],
                                "service": charge["service"]}, {"reason": reason})
    tx.execute(t.charge.update().where(t.charge.c.id == charge_id).values(status="waived", waived_at=tx.now))
    after = charges(tx, t.charge.c.id == charge_id)[0]
    tx.changed("charge", charge_id, charge, after)
    return dict(after, already=False)


@verb
def export_charges(tx):
    """Mark all charges and credits that billing has not taken as taken by one export.

    :returns: `{"export": id or None when there is nothing, "charges": […]}`
    """
    waiting = charges(tx, status="open")
    if not waiting:
        return {"export": None, "charges": []}
    number = tx.next_number(t.billing_export.c.number)
    export_id = "B-%d" % number
    event = tx.append("charges_exported", {"export": export_id, "charges": [one["id"] for one in waiting]})
    tx.execute(t.billing_export.insert().values(
        id=export_id, number=number, at=tx.now, charges=len(waiting), event_number=event))
    tx.execute(t.charge.update().where(t.charge.c.id.in_([one["id"] for one in waiting])).values(
        status="exported", export_id=export_id))
    tx.changed("billing export", export_id, None, {"charges": [one["id"] for one in waiting]})
    return exported(tx, export_id)


@reader
def exported(tx, export_id):
    """An export once more, the same as when it was made.

    :raises InputError: no such export
    """
    found = charges(tx, t.charge.c.export_id == export_id)
    if not found:
        raise InputError("there is no export %s." % export_id, target="export", remedy="Its id looks like B-3.")
    return {"export": export_id, "charges": found}


@reader
def enforcement_intervals(tx, service=None, begins_at=None, ends_at=None):
    """When enforcements were seen in force, each with its case and whose fault that is, oldest first.

    From the moment a node was first seen with it until every node was seen without it: what was never seen in force
    is not there. `ends_at` None: still in force.

    :param begins_at: only what reaches into the span from here; cut to it, as by ends_at
    """
    conditions = [t.enforcement.c.verified_at.is_not(None)]
    if service is not None:
        conditions.append(t.enforcement.c.service == service)
    rows = tx.execute(
        sa.select(t.enforcement.c.id, t.enforcement.c.service, t.enforcement.c.kind, t.enforcement.c.case_id,
                  t.enforcement.c.clause, t.enforcement.c.verified_at, t.enforcement.c.ended_at, t.case.c.fault)
        .join(t.case, t.case.c.id == t.enforcement.c.case_id)
        .where(*conditions).order_by(t.enforcement.c.number)
    )
    found = []
    for row in rows:
        begin = row.verified_at if begins_at is None else max(begins_at, row.verified_at)
        end = row.ended_at
        if ends_at is not None:
            end = ends_at if end is None else min(end, ends_at)
        if end is not None and end <= begin:
            continue
        found.append({
            "enforcement": row.id, "service": row.service, "kind": row.kind, "case": row.case_id, "clause": row.clause,
            "fault": row.fault or "unknown", "outage": row.kind in OUTAGES, "begins_at": begin, "ends_at": end,
        })
    return found


def without_credit(intervals):
    """The hours for which a service has no credit: outages by the customer's own fault, overlaps counted once.

    An outage whose fault is nobody's or not decided is not among them.

    :param intervals: of `enforcement_intervals`
    :returns: `[{"service", "begins_at", "ends_at", "cases"}]`; ends_at None: still going on
    """
    merged = []
    chosen = [one for one in intervals if one["outage"] and one["fault"] == "customer"]
    for one in sorted(chosen, key=lambda i: (i["service"], i["begins_at"], i["enforcement"])):
        last = merged[-1] if merged else None
        if last and last["service"] == one["service"] and (last["ends_at"] is None or one["begins_at"] <= last["ends_at"]):
            if last["ends_at"] is not None:
                last["ends_at"] = None if one["ends_at"] is None else max(last["ends_at"], one["ends_at"])
            last["cases"] = sorted({*last["cases"], one["case"]})
        else:
            merged.append({"service": one["service"], "begins_at": one["begins_at"], "ends_at": one["ends_at"], "cases": [one["case"]]})
    return merged
