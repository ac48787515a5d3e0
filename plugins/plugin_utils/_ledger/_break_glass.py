# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guardrails that somebody exceeded with a reason: on record until another person has looked. PRIVATE.

The reason and who gave it are in the event's detail, which may be erased; that it happened is not.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _events
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb


def _document(tx, row):
    detail = _events.detail_of(tx, row.event_number) or {}
    return {
        "id": row.id, "run_id": row.run_id, "kind": row.kind, "services": values.from_text(row.services),
        "rules": values.from_text(row.rules), "opened_at": row.opened_at, "reviewed_at": row.reviewed_at,
        "actor": (detail.get("actor") or {}).get("name"), "reason": detail.get("reason"),
    }


@reader
def unreviewed(tx):
    """What exceeded a guardrail and nobody else has looked at yet, oldest first."""
    rows = tx.execute(sa.select(t.break_glass).where(t.break_glass.c.reviewed_at.is_(None)).order_by(t.break_glass.c.number))
    return [_document(tx, row) for row in rows.all()]


@verb
def exceed(tx, *, run_id, kind, services, rules, reason):
    """Note that a run exceeds guardrails, and why.

    :param rules: what was exceeded, each a text that names the rule
    :raises InputError: no reason
    """
    reason = values.free_text(reason, "break_glass", needed=True)
    number = tx.next_number(t.break_glass.c.number)
    name = "B-%d" % number
    services = sorted(values.identifier(service, "service") for service in services)
    event = tx.append(
        "guardrail_exceeded",
        {"break_glass": name, "run": run_id, "kind": kind, "services": services, "rules": sorted(rules)},
        {"reason": reason},
    )
    tx.execute(t.break_glass.insert().values(
        id=name, number=number, run_id=run_id, kind=kind, services=values.to_text(services),
        rules=values.to_text(sorted(rules)), opened_at=tx.now, event_number=event))
    tx.changed("break_glass", name, None, {"kind": kind, "services": services, "rules": sorted(rules)})
    return name


@verb
def review(tx, name, note=None):
    """Another person has looked at it. Reviewing one that is reviewed changes nothing.

    :raises InputError: none of this id; nobody to name, or the one who broke the glass
    """
    note = values.free_text(note, "note")
    row = tx.execute(sa.select(t.break_glass).where(t.break_glass.c.id == name)).first()
    if row is None:
        raise InputError("there is no break-glass %r." % (name,), target="break_glass",
                         remedy="hosting.aup.status lists those that wait for review, like B-1.")
    before = _document(tx, row)
    if before["reviewed_at"] is not None:
        return dict(before, already=True)
    reviewer = (tx.actor or {}).get("name")
    if not reviewer:
        raise InputError("a review needs to know who reviews.", target="actor",
                         remedy="Run it as a user of your own (SSH, sudo, AWX).")
    if reviewer == before["actor"]:
        raise InputError("%s exceeded the guardrail and can't review that." % reviewer, target="actor",
                         remedy="Another person runs it.")
    tx.append("guardrail_reviewed", {"break_glass": name, "run": row.run_id, "services": before["services"]}, {"note": note})
    tx.execute(t.break_glass.update().where(t.break_glass.c.id == name).values(reviewed_at=tx.now))
    tx.changed("break_glass", name, {"reviewed_at": None}, {"reviewed_at": tx.now})
    return dict(before, reviewed_at=tx.now, already=False)
