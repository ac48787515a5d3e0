# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that were made by order: who made which from what, and that they are born under policy. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

KIND = "service_created"


@verb
def bear(tx, node, services):
    """Take the grace of those found running from services whose guest is made only now.

    :returns: those that had one
    """
    graced = tx.execute(
        sa.select(t.adoption.c.service)
        .where(t.adoption.c.service.in_(list(services)), t.adoption.c.adopted_at.is_not(None))
        .order_by(t.adoption.c.service)
    )
    found = list(graced.scalars())
    if found:
        tx.append("services_born", {"node": node, "services": found})
        tx.execute(t.adoption.update().where(t.adoption.c.service.in_(found)).values(adopted_at=None))
    return found


@verb
def record_creations(tx, run_id, node, created):
    """Note guests that a node says were made there; each is noted once, by the run that heard of it first.

    :param created: `{service: {"guest_uuid", "image", "disk", "at"}}`, of a cluster with the guest's number as `vmid`
    :returns: the services noted now
    """
    seen = tx.execute(sa.select(t.event.c.refs).where(t.event.c.kind == KIND)).scalars()
    known = {(refs["service"], refs["guest_uuid"]) for refs in map(values.from_text, seen)}
    noted = []
    for service in sorted(created):
        made = created[service]
        if (service, made["guest_uuid"]) in known:
            continue
        tx.append(KIND, {
            "service": values.identifier(service, "service"), "node": node, "run": run_id,
            "guest_uuid": made["guest_uuid"], "image": made["image"], "disk": made["disk"], "created_at": made["at"],
            **({"vmid": made["vmid"]} if "vmid" in made else {}),
        })
        noted.append(service)
    return noted


@verb
def record_numbers(tx, run_id, node, numbers):
    """Note numbers that a cluster is to give to guests that are to be made. As an event, so that what a run resolved before
    it is older than what nodes are told with them, and refused there.

    :param numbers: `{service: number}` reserved now
    """
    tx.append("numbers_reserved", {"run": run_id, "node": node, "numbers": {
        values.identifier(service, "service"): int(number) for service, number in sorted(numbers.items())}})


@reader
def creations(tx, node):
    """`{service: UUID}` of the guests that were made on a node by order, whatever became of them."""
    seen = tx.execute(sa.select(t.event.c.refs).where(t.event.c.kind == KIND).order_by(t.event.c.number)).scalars()
    return {refs["service"]: refs["guest_uuid"] for refs in map(values.from_text, seen) if refs["node"] == node}


@reader
def numbers_made(tx, node):
    """`{service: number}` of the guests that were made by order in a cluster, the last one of each service."""
    seen = tx.execute(sa.select(t.event.c.refs).where(t.event.c.kind == KIND).order_by(t.event.c.number)).scalars()
    return {refs["service"]: refs["vmid"] for refs in map(values.from_text, seen) if refs["node"] == node and "vmid" in refs}
