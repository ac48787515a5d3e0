# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exemptions: recorded permissions that relax one control for one service. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_COLUMNS = (
    "id",
    "service",
    "control",
    "clause",
    "reason",
    "status",
    "starts_at",
    "ends_at",
    "opened_at",
    "closed_at",
)


def find_exemptions(tx, *conditions):
    """Exemptions that meet all conditions, as documents, oldest first."""
    rows = tx.execute(
        sa.select(*(t.exemption.c[name] for name in _COLUMNS))
        .where(*conditions)
        .order_by(t.exemption.c.number)
    )
    return [{str(name): value for name, value in row.items()} for row in rows.mappings()]


@reader
def exemptions_of(tx, service):
    """Open exemptions of a service, oldest first."""
    return find_exemptions(tx, t.exemption.c.service == service, t.exemption.c.status == "open")


def exemptions_in_force(tx):
    """Open exemptions that have begun and not ended now, as the snapshot carries them."""
    rows = tx.execute(
        sa.select(
            *(
                t.exemption.c[name]
                for name in ("id", "service", "control", "reason", "clause", "starts_at", "ends_at")
            )
        )
        .where(
            t.exemption.c.status == "open",
            t.exemption.c.starts_at <= tx.now,
            sa.or_(t.exemption.c.ends_at.is_(None), t.exemption.c.ends_at > tx.now),
        )
        .order_by(t.exemption.c.number)
    )
    return [{str(name): value for name, value in row.items()} for row in rows.mappings()]


@verb
def add_exemption(tx, *, service, control, clause=None, reason, starts_at=None, ends_at=None, note=None):
    """Permit a service what a control forbids.

    :returns: the exemption; `already` True when the service has an open one for that control, with `message`
    :raises InputError: no reason, or an end that is not after the start or already past
    """
    service, control = values.identifier(service, "service"), values.identifier(control, "control")
    reason, note = values.free_text(reason, "reason", needed=True), values.free_text(note, "note")
    starts_at = tx.now if starts_at is None else values.moment(starts_at, "starts_at")
    ends_at = values.moment(ends_at, "ends_at", optional=True)
    if ends_at is not None and ends_at <= max(starts_at, tx.now):
        raise InputError(
            "the end %s is not after the start, or past." % iso(ends_at),
            target="ends_at",
            remedy="Give a later end.",
        )
    present = find_exemptions(
        tx, t.exemption.c.service == service, t.exemption.c.control == control, t.exemption.c.status == "open"
    )
    if present and (present[0]["ends_at"] is None or present[0]["ends_at"] > tx.now):
        return dict(
            present[0],
            already=True,
            message="service %s already has exemption %s from %s, %s."
            % (
                service,
                present[0]["id"],
                control,
                "without end" if present[0]["ends_at"] is None else "until %s" % iso(present[0]["ends_at"]),
            ),
        )
    for outdated in present:
        _close(tx, outdated, "expired", "exemption_expired")
    number = tx.next_number(t.exemption.c.number)
    exemption_id = "X-%d" % number
    terms = {"service": service, "control": control, "clause": clause, "starts_at": starts_at, "ends_at": ends_at}
    event = tx.append("exemption_added", {"exemption": exemption_id, **terms}, {"reason": reason, "note": note})
    tx.execute(
        t.exemption.insert().values(
            **terms,
            id=exemption_id,
            number=number,
            reason=reason,
            status="open",
            opened_at=tx.now,
            event_number=event,
        )
    )
    document = find_exemptions(tx, t.exemption.c.id == exemption_id)[0]
    tx.changed("exemption", exemption_id, None, document)
    return dict(document, already=False, message=None)


def _close(tx, document, status, event, detail=None):
    tx.append(
        event,
        {"exemption": document["id"], "service": document["service"], "control": document["control"]},
        detail,
    )
    tx.execute(
        t.exemption.update().where(t.exemption.c.id == document["id"]).values(status=status, closed_at=tx.now)
    )
    after = dict(document, status=status, closed_at=tx.now)
    tx.changed("exemption", document["id"], document, after)
    return after


@verb
def revoke_exemption(tx, service=None, control=None, exemption_id=None, reason=None):
    """Take back an open exemption, by id or by service and control. Returns those revoked.

    :raises InputError: neither is given
    """
    reason = values.free_text(reason, "reason")
    if exemption_id is None and (service is None or control is None):
        raise InputError(
            "nothing names the exemption.", target="service", remedy="Give service and control, or its id."
        )
    conditions = [
        column == value
        for column, value in (
            (t.exemption.c.id, exemption_id),
            (t.exemption.c.service, service),
            (t.exemption.c.control, control),
        )
        if value is not None
    ]
    return [
        _close(tx, document, "revoked", "exemption_revoked", {"reason": reason})
        for document in find_exemptions(tx, t.exemption.c.status == "open", *conditions)
    ]


@verb
def expire_exemptions(tx):
    """Close all exemptions whose end has come. Returns them."""
    return [
        _close(tx, document, "expired", "exemption_expired")
        for document in find_exemptions(tx, t.exemption.c.status == "open", t.exemption.c.ends_at <= tx.now)
    ]
