# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases: the incidents that explain enforcements. PRIVATE to the collection."""

from __future__ import annotations

import re
from datetime import datetime, UTC

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, ConflictError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import charge_what_is_owed, settle
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

OWN_ID = re.compile(r"C-([0-9]{4})-([0-9]{1,9})")
"""The form of the ids that the ledger gives; all others belong to the ticket system that made them."""


@reader
def find_case(tx, case_id):
    """The case as a document, or None."""
    row = tx.execute(sa.select(t.case).where(t.case.c.id == case_id)).first()
    return case_document(row) if row else None


def case_document(row):
    """A row of the case table as a document."""
    return {
        name: getattr(row, name)
        for name in (
            "id",
            "service",
            "violation",
            "clause",
            "fault",
            "policy_key",
            "status",
            "opened_at",
            "closed_at",
        )
    }


@verb
def open_case(
    tx,
    *,
    case_id=None,
    service=None,
    violation,
    clause=None,
    fault=None,
    policy_key,
    note=None,
    customer=None,
    fees=None,
):
    """Open a case, or find it open already.

    :param case_id: the ticket system's id; without it the ledger gives `C-<year>-<number>`
    :param service: the service it is about; None when it is about several
    :param note: free text, kept in the event's erasable detail, as is `customer`
    :param fees: `{name: fee}` that the case may cost, as the policy has them for that service now
    :returns: the case, with `already` True when it was open
    :raises ConflictError: it exists and is closed, or was opened for another violation
    """
    note = values.free_text(note, "note")
    violation = values.identifier(violation, "violation")
    service = None if service is None else values.identifier(service, "service")
    year = number = None
    if case_id is None:
        year = datetime.fromtimestamp(tx.now, UTC).year
        number = tx.next_number(t.case.c.number, t.case.c.year == year)
        case_id = "C-%d-%d" % (year, number)
    else:
        case_id = values.identifier(case_id, "case")
        present = find_case(tx, case_id)
        if present:
            return dict(_matching(present, violation), already=True)
        if OWN_ID.fullmatch(case_id):
            raise _unknown_own(case_id)
    about = {"service": service, "violation": violation, "clause": clause, "fault": fault}
    event = tx.append("case_opened", {"case": case_id, "policy": policy_key, **about}, {"note": note, "customer": customer})
    tx.execute(
        t.case.insert().values(
            **about,
            id=case_id,
            year=year,
            number=number,
            policy_key=policy_key,
            status="open",
            opened_at=tx.now,
            event_number=event,
            fees=values.to_text(fees or {}),
        )
    )
    charge_what_is_owed(tx, case_id)
    document = find_case(tx, case_id)
    tx.changed("case", case_id, None, document)
    return dict(document, already=False)


@reader
def case_problem(tx, case_id, violation):
    """Why `open_case` would refuse this id for this violation: an error to raise, or None."""
    try:
        present = find_case(tx, values.identifier(case_id, "case"))
        if present is not None:
            _matching(present, violation)
        elif OWN_ID.fullmatch(case_id):
            raise _unknown_own(case_id)
    except AupError as exc:
        return exc
    return None


def _unknown_own(case_id):
    return InputError(
        "case %s does not exist, and ids of this form are given by the ledger." % case_id,
        target="case",
        remedy="Correct the id, or leave it out to open a new case.",
    )


def _matching(present, violation):
    if present["status"] != "open":
        raise ConflictError(
            "case %s is closed." % present["id"], target=present["id"], remedy="Open a new case."
        )
    if present["violation"] != violation:
        raise ConflictError(
            "case %s is about %s, not %s." % (present["id"], present["violation"], violation),
            target=present["id"],
            remedy="Use that violation, or open a new case.",
        )
    return present


@verb
def decide_fault(tx, case_id, fault, reason):
    """Write down whose fault a case is, by a person's decision; charges follow it.

    What was charged and is not owed any more is waived, or credited where billing has taken it. Nothing is removed.

    :param fault: `customer`, `none` or `unknown`
    :returns: the case, with `already` and `charges`: those made, waived or credited
    :raises InputError: no such case, another fault, or no reason
    """
    reason = values.free_text(reason, "reason", needed=True)
    if fault not in ("customer", "none", "unknown"):
        raise InputError("fault %r is not known." % (fault,), target="fault", remedy="Use customer, none or unknown.")
    before = find_case(tx, case_id)
    if before is None:
        raise InputError("there is no case %s." % case_id, target="case", remedy="ledger_info lists the open cases.")
    if before["fault"] == fault:
        return dict(before, already=True, charges=[])
    tx.append("case_fault_decided", {"case": case_id, "from": before["fault"], "to": fault}, {"reason": reason})
    tx.execute(t.case.update().where(t.case.c.id == case_id).values(fault=fault))
    after = find_case(tx, case_id)
    tx.changed("case", case_id, before, after)
    return dict(after, already=False, charges=settle(tx, case_id, "fault: %s" % fault))


@verb
def close_case(tx, case_id, reason=None):
    """Close a case that holds no service any more. Closing a closed one changes nothing.

    :raises InputError: no such case
    :raises ConflictError: enforcements of it are still in force
    """
    reason = values.free_text(reason, "reason")
    before = find_case(tx, case_id)
    if before is None:
        raise InputError(
            "there is no case %s." % case_id, target="case", remedy="ledger_info lists the open cases."
        )
    if before["status"] == "closed":
        return dict(before, already=True)
    held = (
        tx.execute(
            sa.select(t.enforcement.c.id)
            .where(
                t.enforcement.c.case_id == case_id, t.enforcement.c.status.in_(("opened", "active", "ending"))
            )
            .order_by(t.enforcement.c.number)
        )
        .scalars()
        .all()
    )
    if held:
        raise ConflictError(
            "case %s still holds services: %s." % (case_id, ", ".join(held)),
            target=case_id,
            remedy="Lift them and reconcile, then close the case.",
        )
    tx.append("case_closed", {"case": case_id}, {"reason": reason})
    tx.execute(t.case.update().where(t.case.c.id == case_id).values(status="closed", closed_at=tx.now))
    after = find_case(tx, case_id)
    tx.changed("case", case_id, before, after)
    return dict(after, already=False)
