# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for exemptions: kept before anybody approves, and decided once. PRIVATE to the collection.

One request per service and control waits at a time. Who asked and why are in the row and in the event's detail, where
`erase_details` empties them; what was looked up in DNS is kept with it, and is looked up again before it is approved.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text, iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_COLUMNS = ("id", "service", "control", "reason", "asked_by", "domain", "seconds", "status", "opened_at", "closed_at", "exemption_id")


def find_requests(tx, *conditions):
    """Requests that meet all conditions, as documents, oldest first; `unmet` is a list, or None when nothing is looked up."""
    rows = tx.execute(sa.select(t.exemption_request).where(*conditions).order_by(t.exemption_request.c.number))
    return [dict({name: getattr(row, name) for name in _COLUMNS}, unmet=values.from_text(row.unmet)) for row in rows]


@reader
def exemption_requests(tx, status="pending"):
    """Requests of a status, oldest first."""
    return find_requests(tx, t.exemption_request.c.status == status)


@reader
def pending_request(tx, request_id):
    """A request that waits for a decision.

    :raises InputError: there is none of this id
    :raises ConflictError: it was decided
    """
    found = find_requests(tx, t.exemption_request.c.id == str(request_id))
    if not found:
        raise InputError("there is no request %s." % (request_id,), target="request", remedy="hosting.aup.status lists those that wait.")
    if found[0]["status"] != "pending":
        raise ConflictError("request %s was %s at %s." % (found[0]["id"], found[0]["status"], iso(found[0]["closed_at"])),
                            target="request", remedy="Nothing is to be decided; a new request can be made.")
    return found[0]


@verb
def request_exemption(tx, *, service, control, reason, asked_by=None, domain=None, seconds=None, unmet=None):
    """Keep a request until somebody decides.

    :param asked_by: the customer or who asks for them
    :param seconds: for how long it is asked for, from its approval; None for no end
    :param unmet: what of the policy's checks was not met when it was made; None when nothing was looked up
    :returns: the request; `already` True when the same service and control wait
    """
    service, control = values.identifier(service, "service"), values.identifier(control, "control")
    reason, asked_by = values.free_text(reason, "reason", needed=True), values.free_text(asked_by, "requested_by")
    waiting = find_requests(tx, t.exemption_request.c.service == service, t.exemption_request.c.control == control,
                            t.exemption_request.c.status == "pending")
    if waiting:
        return dict(waiting[0], already=True)
    number = tx.next_number(t.exemption_request.c.number)
    request_id = "Q-%d" % number
    event = tx.append("exemption_requested", {"request": request_id, "service": service, "control": control, "seconds": seconds},
                      {"reason": reason, "asked_by": asked_by, "domain": domain, "unmet": unmet})
    tx.execute(t.exemption_request.insert().values(
        id=request_id, number=number, service=service, control=control, reason=reason, asked_by=asked_by, domain=domain, seconds=seconds,
        unmet=values.to_text(unmet) if unmet is not None else None, status="pending", opened_at=tx.now, event_number=event))
    document = find_requests(tx, t.exemption_request.c.id == request_id)[0]
    tx.changed("exemption_request", request_id, None, _brief(document))
    return dict(document, already=False)


@verb
def decide_request(tx, *, request_id, exemption_id=None, note=None):
    """Close a request: approved with the exemption that was given, or else denied.

    :raises ConflictError: it was decided already
    """
    before = pending_request(tx, request_id)
    status = "denied" if exemption_id is None else "approved"
    tx.append("exemption_request_%s" % status, {"request": before["id"], "service": before["service"], "control": before["control"],
                                                "exemption": exemption_id}, {"note": values.free_text(note, "note")})
    tx.execute(t.exemption_request.update().where(t.exemption_request.c.id == before["id"]).values(
        status=status, closed_at=tx.now, exemption_id=exemption_id))
    after = find_requests(tx, t.exemption_request.c.id == before["id"])[0]
    tx.changed("exemption_request", before["id"], _brief(before), _brief(after))
    return after


def erase_requests(tx, service):
    """Empty who asked and why, of all decided requests of a service. Returns their ids."""
    found = [one["id"] for one in find_requests(tx, t.exemption_request.c.service == service, t.exemption_request.c.status != "pending",
                                                t.exemption_request.c.reason.is_not(None))]
    if found:
        tx.execute(t.exemption_request.update().where(t.exemption_request.c.id.in_(found)).values(
            reason=None, asked_by=None, domain=None, unmet=None))
    return found


def _brief(document):
    return {name: document[name] for name in ("id", "service", "control", "status", "opened_at", "closed_at", "exemption_id")}


def request_line(document):
    """A request as a line for people; without who asked and why."""
    checks = {True: "its preconditions are met", False: "not met: %s" % "; ".join(document["unmet"] or ())}
    return "request %s: %s from %s%s, asked at %s%s: hosting.aup.exempt -e request=%s -e state=approved or denied" % (
        document["id"], document["service"], document["control"],
        " for %s" % duration_text(document["seconds"]) if document["seconds"] else "", iso(document["opened_at"]),
        "" if document["unmet"] is None else ", " + checks[not document["unmet"]], document["id"])
