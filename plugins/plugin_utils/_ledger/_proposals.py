# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enforcements that nothing can undo: proposed by one person, confirmed by another. PRIVATE to the collection.

Who a person is comes from the event log, where the ledger itself wrote it. Details that were erased
name nobody, and nobody does not count.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_COLUMNS = ("id", "service", "kind", "case_id", "violation", "status", "opened_at", "closed_at", "persons")


def _document(tx, row):
    numbers = values.from_text(row.events)
    bodies = dict(
        tx.execute(
            sa.select(t.event_detail.c.event_number, t.event_detail.c.body).where(
                t.event_detail.c.event_number.in_(numbers)
            )
        ).all()
    )
    actors = [(values.from_text(bodies.get(number)) or {}).get("actor") or {} for number in numbers]
    return dict(
        {name: getattr(row, name) for name in _COLUMNS},
        # A deadline proposes as time, not as somebody: it agrees to nothing.
        by=sorted({a["name"] for a in actors if a.get("name") and a.get("source") != "deadline"}),
        terms=values.from_text(row.terms),
    )


@reader
def proposals(tx, service=None, kind=None):
    """Open proposals, oldest first; `by` names those who proposed or confirmed them."""
    conditions = [t.proposal.c.status == "open"]
    if service is not None:
        conditions.append(t.proposal.c.service == service)
    if kind is not None:
        conditions.append(t.proposal.c.kind == kind)
    rows = tx.execute(sa.select(t.proposal).where(*conditions).order_by(t.proposal.c.number))
    return [_document(tx, row) for row in rows.all()]


def _actor_name(tx, kind):
    name = (tx.actor or {}).get("name")
    if not name:
        raise InputError(
            "%s needs to know who asks for it." % kind,
            target="actor",
            remedy="Run it as a user of your own (SSH, sudo, AWX).",
        )
    return name


@verb
def propose(tx, *, service, kind, case_id, violation, persons, reason=None, note=None, terms=None):
    """Propose an enforcement, or agree to one that another person proposed.

    :param persons: how many different people must ask for it; 1 for what can be undone: a person says so once
    :param terms: how it is to be done when it is carried out, or None for what the policy says then
    :returns: the proposal; `already` True when this person asked before; status `confirmed` when enough have
    :raises InputError: no open case, nobody to name, or one that is open for another case
    """
    service = values.identifier(service, "service")
    reason, note = values.free_text(reason, "reason"), values.free_text(note, "note")
    name, case = _actor_name(tx, kind), find_case(tx, case_id)
    if case is None or case["status"] != "open":
        raise InputError("there is no open case %s." % case_id, target="case", remedy="Open it first (open_case).")
    present = proposals(tx, service, kind)
    if present and present[0]["case_id"] != case_id:
        raise InputError(
            "%s of service %s is proposed for case %s already." % (kind, service, present[0]["case_id"]),
            target="case",
            remedy="Confirm it with that case, or withdraw it: hosting.aup.lift with that case.",
        )
    if present and name in present[0]["by"]:
        return dict(present[0], already=True)
    refs = {"service": service, "kind": kind, "case": case_id, "violation": violation}
    if not present:
        number = tx.next_number(t.proposal.c.number)
        proposal_id = "P-%d" % number
        event = tx.append("enforcement_proposed", dict(refs, proposal=proposal_id), {"reason": reason, "note": note})
        tx.execute(
            t.proposal.insert().values(
                id=proposal_id,
                number=number,
                service=service,
                kind=kind,
                case_id=case_id,
                violation=violation,
                status="open",
                opened_at=tx.now,
                persons=persons,
                events=values.to_text([event]),
                terms=None if terms is None else values.to_text(terms),
            )
        )
        document = proposals(tx, service, kind)[0]
        tx.changed("proposal", proposal_id, None, {"service": service, "kind": kind, "status": "open"})
        return dict(document, already=False)
    document = present[0]
    of = t.proposal.c.id == document["id"]
    event = tx.append("enforcement_confirmed", dict(refs, proposal=document["id"]), {"note": note})
    before = tx.execute(sa.select(t.proposal.c.events).where(of)).scalar()
    tx.execute(t.proposal.update().where(of).values(events=values.to_text([*values.from_text(before), event])))
    document = dict(document, by=sorted({*document["by"], name}))
    # More may be asked for now than when it was proposed, and never fewer.
    if len(document["by"]) >= max(persons, document["persons"]):
        tx.execute(t.proposal.update().where(of).values(status="confirmed", closed_at=tx.now))
        document.update(status="confirmed", closed_at=tx.now)
        tx.changed("proposal", document["id"], {"status": "open"}, {"status": "confirmed"})
    return dict(document, already=False)


@reader
def find_proposal(tx, proposal_id):
    """An open proposal by its id, or None."""
    row = tx.execute(sa.select(t.proposal).where(t.proposal.c.id == proposal_id, t.proposal.c.status == "open")).first()
    return None if row is None else _document(tx, row)


@verb
def confirm(tx, proposal_id, note=None):
    """A person carries out what was proposed. Only for what can be undone; `terminate` is agreed to by `propose`.

    :raises InputError: not open, or nobody to name
    """
    document = find_proposal(tx, proposal_id)
    if document is None or document["kind"] == "terminate":
        raise InputError("proposal %s can't be confirmed." % proposal_id, target="proposal", remedy="hosting.aup.status lists them.")
    name = _actor_name(tx, document["kind"])
    of = t.proposal.c.id == proposal_id
    refs = {key: document[key] for key in ("service", "kind", "violation")}
    event = tx.append(
        "enforcement_confirmed",
        dict(refs, case=document["case_id"], proposal=proposal_id),
        {"note": values.free_text(note, "note")},
    )
    before = values.from_text(tx.execute(sa.select(t.proposal.c.events).where(of)).scalar())
    tx.execute(
        t.proposal.update().where(of).values(events=values.to_text([*before, event]), status="confirmed", closed_at=tx.now)
    )
    tx.changed("proposal", proposal_id, {"status": "open"}, {"status": "confirmed"})
    return dict(document, by=sorted({*document["by"], name}), status="confirmed", closed_at=tx.now)


@verb
def withdraw(tx, proposal_id, reason=None):
    """Take back a proposal that is still open. Returns it."""
    of = (t.proposal.c.id == proposal_id) & (t.proposal.c.status == "open")
    row = tx.execute(sa.select(t.proposal).where(of)).first()
    if row is None:
        raise InputError("there is no open proposal %s." % proposal_id, target="proposal", remedy="hosting.aup.status lists them.")
    document = _document(tx, row)
    tx.append(
        "proposal_withdrawn",
        {"proposal": proposal_id, "service": row.service, "case": row.case_id},
        {"reason": values.free_text(reason, "reason")},
    )
    tx.execute(t.proposal.update().where(of).values(status="withdrawn", closed_at=tx.now))
    tx.changed("proposal", proposal_id, {"status": "open"}, {"status": "withdrawn"})
    return dict(document, status="withdrawn", closed_at=tx.now)
