# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enforcements: what holds a service, for which case, until when. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _events
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import charge_what_is_owed
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemption_requests import erase_requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import erase_notices
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

HOLDING = ("opened", "active", "ending")
"""The statuses in which an enforcement may still be in force on some node."""

_COLUMNS = (
    "id",
    "service",
    "kind",
    "case_id",
    "clause",
    "violation",
    "reason",
    "policy_key",
    "status",
    "starts_at",
    "ends_at",
    "until",
    "review_at",
    "opened_at",
    "verified_at",
    "ending_at",
    "ended_at",
    "end_reason",
)


def enforcement_document(row, detail=None):
    """A row of the enforcement table as a document; `actor` is None once the event's detail was erased."""
    document = {name: getattr(row, name) for name in _COLUMNS}
    document["options"] = values.from_text(row.options)
    document["snapshot"] = values.from_text(row.snapshot)
    actor = (values.from_text(detail) or {}).get("actor") or {}
    document["actor"] = actor.get("name")
    return document


def find_enforcements(tx, *conditions):
    """Enforcements that meet all conditions, as documents, oldest first."""
    joined = t.enforcement.outerjoin(
        t.event_detail, t.event_detail.c.event_number == t.enforcement.c.event_number
    )
    rows = tx.execute(
        sa.select(t.enforcement, t.event_detail.c.body.label("detail"))
        .select_from(joined)
        .where(*conditions)
        .order_by(t.enforcement.c.number)
    )
    return [enforcement_document(row, row.detail) for row in rows]


@reader
def active(tx, service=None):
    """All enforcements that may still be in force (opened, active, ending), of one service or of all."""
    conditions = [t.enforcement.c.status.in_(HOLDING)]
    if service is not None:
        conditions.append(t.enforcement.c.service == service)
    return find_enforcements(tx, *conditions)


def service_snapshot(service_doc, policy_key):
    """What of a service must be known to hold it even when it has left the catalogue. No personal data."""
    return {
        **({"ports": service_doc["ports"]} if service_doc.get("ports") else {}),
        "guest": service_doc.get("guest"),
        "nics": service_doc.get("nics", []),
        "nodes": service_doc.get("nodes", []),
        "routers": service_doc.get("routers", []),
        "policy": policy_key,
        "location": service_doc.get("location"),
        "account_type": service_doc.get("account_type"),
    }


def nodes_concerned(document):
    """Names of the nodes and routers that an enforcement was opened for, sorted."""
    known = document["snapshot"]
    return sorted({*known["nodes"], *(known.get("routers") or ())})


@verb
def open_enforcement(
    tx,
    *,
    service_doc,
    policy_key,
    kind,
    case_id,
    violation,
    clause=None,
    reason,
    starts_at,
    ends_at=None,
    until="time",
    review_at=None,
    options=None,
    note=None,
):
    """Write down that a service is to be held.

    :param service_doc: the service as in the catalogue; what must outlast the catalogue is copied
    :param until: `time` (needs `ends_at`), `remedied` or `decision`
    :returns: the enforcement; `already` True when the same is in force already, with `message`
    :raises InputError: wrong kind, time or case
    """
    service = values.identifier(service_doc["id"], "service")
    reason, note = values.free_text(reason, "reason", needed=True), values.free_text(note, "note")
    starts_at, ends_at = values.moment(starts_at, "starts_at"), values.moment(
        ends_at, "ends_at", optional=True
    )
    review_at = values.moment(review_at, "review_at", optional=True)
    _check_terms(kind, starts_at, ends_at, until)
    case = find_case(tx, case_id)
    if case is None or case["status"] != "open":
        raise InputError(
            "there is no open case %s." % case_id, target="case", remedy="Open it first (open_case)."
        )
    present = find_enforcements(
        tx,
        t.enforcement.c.service == service,
        t.enforcement.c.kind == kind,
        t.enforcement.c.case_id == case_id,
        t.enforcement.c.status.in_(HOLDING),
    )
    if present:
        return dict(present[0], already=True, message=_already(present[0]))
    number = tx.next_number(t.enforcement.c.number)
    enforcement_id = "E-%d" % number
    terms = {
        "service": service,
        "kind": kind,
        "violation": violation,
        "clause": clause,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "until": until,
        "review_at": review_at,
    }
    event = tx.append(
        "enforcement_opened",
        {"enforcement": enforcement_id, "case": case_id, "policy": policy_key, **terms},
        {"note": note, "reason": reason, "customer": service_doc.get("customer")},
    )
    tx.execute(
        t.enforcement.insert().values(
            **terms,
            id=enforcement_id,
            number=number,
            case_id=case_id,
            reason=reason,
            policy_key=policy_key,
            status="opened",
            opened_at=tx.now,
            options=values.to_text(options or {}),
            snapshot=values.to_text(service_snapshot(service_doc, policy_key)),
            event_number=event,
        )
    )
    document = find_enforcements(tx, t.enforcement.c.id == enforcement_id)[0]
    tx.changed("enforcement", enforcement_id, None, _brief(document))
    return dict(document, already=False, message=None)


def _check_terms(kind, starts_at, ends_at, until):
    if kind not in KINDS:
        raise InputError(
            "enforcement %r is not known." % kind, target="kind", remedy="Known are: %s." % ", ".join(KINDS)
        )
    if until not in ("time", "remedied", "decision"):
        raise InputError(
            "until %r is not known." % until, target="until", remedy="Use time, remedied or decision."
        )
    if ends_at is not None and ends_at <= starts_at:
        raise InputError(
            "the end %s is not after the start %s." % (iso(ends_at), iso(starts_at)),
            target="ends_at",
            remedy="Give a later end.",
        )
    if until == "time" and ends_at is None:
        raise InputError(
            "an enforcement until a time needs that time.", target="ends_at", remedy="Give a duration."
        )


def _already(present):
    if present["status"] == "ending":
        when = "it was ended, but is not seen gone from its node yet"
    elif present["ends_at"] is None:
        when = "until it is %s" % ("remedied" if present["until"] == "remedied" else "decided otherwise")
    else:
        when = "until %s" % iso(present["ends_at"])
    return "service %s is already under %s for case %s (%s): %s." % (
        present["service"],
        present["kind"],
        present["case_id"],
        present["id"],
        when,
    )


def _brief(document):
    """The part of an enforcement worth a diff."""
    return {
        name: document[name]
        for name in (
            "service",
            "kind",
            "case_id",
            "clause",
            "status",
            "starts_at",
            "ends_at",
            "until",
            "end_reason",
        )
    }


def set_status(tx, document, status, event, detail=None, refs=None, **columns):
    """Move an enforcement to another status, with its event.

    :param refs: more for the event's references
    """
    tx.append(
        event,
        {
            "enforcement": document["id"],
            "service": document["service"],
            "case": document["case_id"],
            "from": document["status"],
            **({"why": columns["end_reason"]} if "end_reason" in columns else {}),
            **(refs or {}),
        },
        detail,
    )
    tx.execute(
        t.enforcement.update().where(t.enforcement.c.id == document["id"]).values(status=status, **columns)
    )
    after = dict(document, status=status, **columns)
    tx.changed("enforcement", document["id"], _brief(document), _brief(after))
    return after


@verb
def lift(tx, enforcement_id=None, service=None, kind=None, case_id=None, reason=None):
    """End enforcements by decision: by id, or all that match the service, kind and case given.

    The status is `ending` until a node was seen without it. One already ending stays as it is.

    :returns: `{"lifted": [enforcements now ending], "ending": [those that were ending already]}`
    :raises InputError: neither id nor service, or no such id
    """
    reason = values.free_text(reason, "reason")
    conditions = [
        column == value
        for column, value in (
            (t.enforcement.c.id, enforcement_id),
            (t.enforcement.c.service, service),
            (t.enforcement.c.kind, kind),
            (t.enforcement.c.case_id, case_id),
        )
        if value is not None
    ]
    if enforcement_id is None and service is None:
        raise InputError(
            "nothing names what to lift.", target="service", remedy="Give a service or an enforcement id."
        )
    found = find_enforcements(tx, *conditions)
    if enforcement_id is not None and not found:
        raise InputError(
            "there is no such enforcement %s." % enforcement_id,
            target="enforcement",
            remedy="ledger_info what=service lists those of a service.",
        )
    lifted = [
        _begin_end(tx, document, "lifted", {"reason": reason})
        for document in found
        if document["status"] in ("opened", "active")
    ]
    return {"lifted": lifted, "ending": [document for document in found if document["status"] == "ending"]}


@verb
def end_due(tx):
    """Mark as ending all enforcements whose end has come. Returns those it marked."""
    due = find_enforcements(
        tx, t.enforcement.c.status.in_(("opened", "active")), t.enforcement.c.ends_at <= tx.now
    )
    return [_begin_end(tx, document, "time") for document in due]


def _begin_end(tx, document, why, detail=None):
    """Mark as ending; what no managed node can carry ends at once, for there is nowhere to look for it."""
    document = set_status(
        tx, document, "ending", "enforcement_ending", detail, ending_at=tx.now, end_reason=why
    )
    return document if _may_carry(tx, document, _seen_states(tx, document)) else finish(tx, document)


def verified_in_force(tx, node, ids):
    """Record that a node was seen holding these. Returns the ids that became active by it."""
    activated = []
    for document in _chosen(tx, ids):
        _seen(tx, document["id"], node, "in_force")
        if document["status"] == "opened":
            set_status(tx, document, "active", "enforcement_active", verified_at=tx.now)
            activated.append(document["id"])
            charge_what_is_owed(tx, document["case_id"])
    return activated


def held_since(tx, services, event_number):
    """Those of these services for which an enforcement was opened after the event of this number."""
    if not services or event_number is None:
        return set()
    return set(tx.execute(
        sa.select(t.enforcement.c.service).where(
            t.enforcement.c.service.in_(list(services)),
            t.enforcement.c.event_number > event_number,
            t.enforcement.c.status.in_(HOLDING),
        )
    ).scalars())


def unseen(tx, node, ids, state):
    """Whether one of these is not on record yet as seen in this state on this node."""
    if not ids:
        return False
    on_node = (t.enforcement_node.c.enforcement_id == t.enforcement.c.id) & (t.enforcement_node.c.node == node)
    rows = tx.execute(
        sa.select(t.enforcement.c.status, t.enforcement_node.c.state)
        .select_from(t.enforcement.outerjoin(t.enforcement_node, on_node))
        .where(t.enforcement.c.id.in_(list(ids)))
    )
    moving = "opened" if state == "in_force" else "ending"
    return any(row.state != state or row.status == moving for row in rows)


def verified_gone(tx, node, ids):
    """Record that a node was seen without these.

    An enforcement ends when every managed node that may carry it was seen without it; in a migration
    pool that is more than one.

    :returns: (ids that ended, {id: nodes still to be seen})
    """
    ended, waiting = [], {}
    for document in _chosen(tx, ids):
        _seen(tx, document["id"], node, "gone")
        if document["status"] != "ending":
            continue
        missing = nodes_not_seen_gone(tx, document)
        if missing:
            waiting[document["id"]] = missing
        else:
            finish(tx, document)
            ended.append(document["id"])
    return ended, waiting


def finish(tx, document, ended_at=None, refs=None):
    """Close an ending enforcement: `ended`, or `cancelled` when no node was ever seen holding it.

    :param ended_at: when it was seen gone, if not now
    """
    status = "ended" if document["verified_at"] is not None else "cancelled"
    at = tx.now if ended_at is None else ended_at
    return set_status(tx, document, status, "enforcement_%s" % status, refs=refs, ended_at=at)


def ended_by_node(tx, node, enforcement_id, at, seen_at, held, latest):
    """Take in that a node ended an enforcement by itself because its time was over.

    :param at: the end that the node knew
    :param seen_at: when the node saw it gone, by its own clock
    :param held: whether the node saw it in force before
    :param latest: an end after this had not come yet, whatever the node's clock says
    :returns: `(whether it is ended now, why it was not taken in or None)`
    """
    document = next(iter(_chosen(tx, [enforcement_id])), None)
    if document is None:
        return False, "enforcement %s, which node %s ended, is not in this ledger" % (enforcement_id, node)
    if document["status"] not in HOLDING:
        return False, None
    if node not in _may_carry(tx, document, _seen_states(tx, document)):
        return False, "enforcement %s is not one of node %s" % (enforcement_id, node)
    if document["status"] != "ending":
        if document["ends_at"] is None or document["ends_at"] > at:
            return False, "%s was extended after node %s was reached last, and is put in force again" % (enforcement_id, node)
        if at > latest:
            return False, "node %s ended %s before its end: its clock is ahead" % (node, enforcement_id)
    by = {"node": node, "by": "keeper", "at_node": seen_at}
    if held and document["verified_at"] is None:
        verified_in_force(tx, node, [enforcement_id])
        document = _chosen(tx, [enforcement_id])[0]
    if document["status"] in ("opened", "active"):
        document = set_status(tx, document, "ending", "enforcement_ending", refs=by, ending_at=min(at, tx.now), end_reason="time")
    _seen(tx, enforcement_id, node, "gone")
    if nodes_not_seen_gone(tx, document):
        return False, None
    finish(tx, document, min(seen_at, tx.now), by)
    return True, None


def verified_in_force_by_id(tx, node, enforcement_id):
    """Take in that a node put an enforcement in force by itself. Returns the id in a list if it is active by that."""
    found = [document for document in _chosen(tx, [enforcement_id])
             if document["status"] in ("opened", "active") and node in _may_carry(tx, document, {})]
    return verified_in_force(tx, node, [document["id"] for document in found])


def nodes_not_seen_gone(tx, document):
    """Managed nodes that may carry this enforcement, not seen without it since it was ended."""
    seen = _seen_states(tx, document)
    return sorted(
        name
        for name in _may_carry(tx, document, seen)
        if name not in seen or seen[name].state != "gone" or seen[name].seen_at < document["ending_at"]
    )


def _seen_states(tx, document):
    of = t.enforcement_node.c.enforcement_id == document["id"]
    rows = tx.execute(sa.select(t.enforcement_node).where(of))
    return {row.node: row for row in rows}


def _may_carry(tx, document, seen):
    """Managed nodes and routers of the service when it was enforced, and those that were seen holding it."""
    managed = set(tx.execute(sa.select(t.node.c.name).where(t.node.c.release_id.is_not(None))).scalars())
    return managed & (
        set(nodes_concerned(document)) | {name for name, row in seen.items() if row.state == "in_force"}
    )


def _chosen(tx, ids):
    return find_enforcements(tx, t.enforcement.c.id.in_(list(ids))) if ids else []


def _seen(tx, enforcement_id, node, state):
    of = (t.enforcement_node.c.enforcement_id == enforcement_id) & (t.enforcement_node.c.node == node)
    done = tx.execute(t.enforcement_node.update().where(of).values(state=state, seen_at=tx.now))
    if not done.rowcount:
        tx.execute(
            t.enforcement_node.insert().values(
                enforcement_id=enforcement_id, node=node, state=state, seen_at=tx.now
            )
        )


@reader
def history(tx, service):
    """Everything the log says about a service, oldest first; `detail` is None when erased."""
    own = set(tx.execute(sa.select(t.enforcement.c.id).where(t.enforcement.c.service == service)).scalars())
    own |= set(tx.execute(sa.select(t.exemption.c.id).where(t.exemption.c.service == service)).scalars())
    cases = set(
        tx.execute(sa.select(t.enforcement.c.case_id).where(t.enforcement.c.service == service)).scalars()
    )
    needle = "%" + values.to_text(service).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    conditions = [t.event.c.refs.like(needle, escape="\\")]
    conditions += [t.event.c.refs.like("%" + values.to_text(case) + "%") for case in sorted(cases)]
    rows = tx.execute(
        sa.select(t.event.c.number, t.event.c.at, t.event.c.kind, t.event.c.refs, t.event_detail.c.body)
        .outerjoin(t.event_detail, t.event_detail.c.event_number == t.event.c.number)
        .where(sa.or_(*conditions))
        .order_by(t.event.c.number)
    )
    return [entry for entry in map(_entry, rows) if _concerns(entry["refs"], service, own, cases)]


def _entry(row):
    return {
        "number": row.number,
        "at": row.at,
        "kind": row.kind,
        "refs": values.from_text(row.refs),
        "detail": values.from_text(row.body),
    }


def _concerns(refs, service, own, cases):
    return (
        refs.get("service") == service
        or refs.get("enforcement") in own
        or refs.get("exemption") in own
        or (refs.get("case") in cases and not refs.get("service"))
        or service in (refs.get("services") or ())
    )


# The register of disclosures and the reasons of holds have to outlast what they are about; an event's number still erases them.
REGISTER = frozenset(("evidence_disclosed", "legal_hold_placed", "legal_hold_released", "no_notice_placed", "no_notice_released"))


def erasable_events(tx, service):
    """Numbers of the events about a service whose details are still there; not those that say to whom data was given."""
    return [entry["number"] for entry in history(tx, service) if entry["detail"] is not None and entry["kind"] not in REGISTER]


@verb
def erase_details(tx, *, service=None, events=None, reason):
    """Erase who and what people wrote from the events of a service, or the numbered ones.

    Of a service, also whom its notices went to and what they said.

    :returns: numbers of the events whose details were erased
    :raises InputError: neither is given, or an event does not exist
    """
    reason = values.free_text(reason, "reason", needed=True)
    if service is None and not events:
        raise InputError(
            "nothing names what to erase.", target="service", remedy="Give a service or event numbers."
        )
    numbers = erasable_events(tx, service) if service is not None else sorted(set(events))
    todo = [number for number in numbers if _events.detail_of(tx, number) is not None]
    unknown = [number for number in numbers if number > tx.head_number or number < 1]
    if unknown:
        raise InputError(
            "there is no event %s." % unknown[0],
            target="events",
            remedy="ledger_info what=history lists them.",
        )
    if service is not None:
        erase_notices(tx, service)
        erase_requests(tx, service)
    if todo:
        # The record and the erasure carry the same time: verify holds one against the other.
        tx.append("details_erased", {"events": todo}, {"reason": reason})
        tx.execute(
            t.event_detail.update()
            .where(t.event_detail.c.event_number.in_(todo))
            .values(salt=None, body=None, erased_at=tx.now)
        )
    return todo
