# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes: their release, their adoption, their baselines. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import (
    HOLDING,
    find_enforcements,
    finish,
    nodes_concerned,
    nodes_not_seen_gone,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import (
    content,
    current_release,
    find_release,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_AT_ONCE = 500  # values in one condition
_LOOKED = ("changed", "unchanged", "incomplete")
_COLUMNS = (
    "name", "release_id", "adopted_at", "retired_at", "last_seen_at", "last_run_id", "last_outcome", "recorded_at",
    "recorded_digest",
)


@reader
def find_node(tx, name):
    """A node as a document, or None when the ledger has not met it."""
    row = tx.execute(sa.select(t.node).where(t.node.c.name == name)).first()
    return node_document(row) if row else None


def node_document(row):
    """A row of the node table as a document."""
    return dict({name: getattr(row, name) for name in _COLUMNS}, fence=values.from_text(row.fence))


def meet(tx, name):
    """The node's document; its row is made when it is new."""
    name = values.identifier(name, "node")
    node = find_node(tx, name)
    if node is None:
        tx.execute(t.node.insert().values(name=name))
        node = find_node(tx, name)
    return node


@verb
def adopt(tx, node, release_id=None, services=None):
    """Note which services were there when the node came under policy.

    Services present at the node's first adoption get `adopted_at` now; services first met later get none:
    they are born under policy. A service keeps what it got first, on whatever node.

    :param release_id: the release whose catalogue says which services may live on this node
    :param services: their ids, when they are known otherwise
    :returns: `{"node_adopted", "adopted": [ids], "born": [ids]}`
    """
    before = meet(tx, node)
    if services is None:
        catalogue = content(tx, find_release(tx, release_id)["catalogue_digest"])
        services = [name for name, service in catalogue["services"].items() if node in service["nodes"]]
    first = before["adopted_at"] is None
    known = set(tx.execute(sa.select(t.adoption.c.service)).scalars())
    new = sorted(values.identifier(service, "service") for service in set(services) - known)
    if first:
        tx.execute(t.node.update().where(t.node.c.name == node).values(adopted_at=tx.now, retired_at=None))
        tx.changed("node", node, {"adopted_at": None}, {"adopted_at": tx.now})
    if first or new:
        tx.append("node_adopted" if first else "services_met", {"node": node, "services": new})
    if new:
        tx.execute(
            t.adoption.insert(),
            [
                {
                    "service": service,
                    "node": node,
                    "recorded_at": tx.now,
                    "adopted_at": tx.now if first else None,
                }
                for service in new
            ],
        )
    return {"node_adopted": first, "adopted": new if first else [], "born": [] if first else new}


@verb
def set_node_release(tx, node, release_id):
    """Say which release a node is to carry from now on. Returns whether that changed.

    :raises InputError: no such release
    """
    find_release(tx, release_id)
    before = meet(tx, node)
    if before["release_id"] == release_id:
        return False
    tx.append("node_released", {"node": node, "release": release_id, "before": before["release_id"]})
    tx.execute(t.node.update().where(t.node.c.name == node).values(release_id=release_id, retired_at=None))
    tx.changed("node", node, {"release_id": before["release_id"]}, {"release_id": release_id})
    return True


@verb
def forget_node(tx, node):
    """Take a node out of management: it carries no release, and nothing waits for it any more.

    :returns: whether it was managed
    """
    before = find_node(tx, node)
    if before is None or (before["release_id"] is None and before["adopted_at"] is None):
        return False
    tx.append("node_retired", {"node": node, "release": before["release_id"]})
    tx.execute(
        t.node.update()
        .where(t.node.c.name == node)
        .values(release_id=None, adopted_at=None, retired_at=tx.now)
    )
    _hand_over(tx, node)
    tx.execute(
        t.baseline.update()
        .where(t.baseline.c.node == node, t.baseline.c.closed_at.is_(None))
        .values(closed_at=tx.now)
    )
    tx.execute(t.touched.delete().where(t.touched.c.node == node))
    for document in find_enforcements(tx, t.enforcement.c.status == "ending"):
        if not nodes_not_seen_gone(tx, document):
            finish(tx, document)
    tx.changed("node", node, {"release_id": before["release_id"]}, {"release_id": None})
    return True


def _hand_over(tx, node):
    """Give prior states of guests that are held on other nodes to one of these, for this node is about to go."""
    rows = tx.execute(sa.select(t.baseline).where(t.baseline.c.node == node, t.baseline.c.closed_at.is_(None))).all()
    catalogues = _catalogues(tx, node) if rows else ()
    for row in rows:
        heirs = [name for name in _others(tx, node, row.service, catalogues, node) if name in nodes_of(tx, row.service)]
        taken = sa.select(t.baseline.c.number).where(
            t.baseline.c.service == row.service, t.baseline.c.node.in_(heirs), t.baseline.c.closed_at.is_(None))
        if heirs and not tx.execute(taken).first():
            tx.append("baseline_recorded", {"service": row.service, "node": heirs[0], "digest": row.digest})
            tx.execute(t.baseline.update().where(t.baseline.c.number == row.number).values(node=heirs[0]))


def _shared(tx, node, catalogue, services):
    """Open prior states of other nodes' guests that live on this node now, or may: `[row]`, oldest first."""
    others = tx.execute(
        sa.select(t.baseline.c.number, t.baseline.c.service).where(
            t.baseline.c.node != node, t.baseline.c.closed_at.is_(None), *_among(services))).all()
    if not others:
        return []
    catalogues = [catalogue] if catalogue is not None else _catalogues(tx, node)
    here = [row.number for row in others
            if any(node in known["services"].get(row.service, {}).get("nodes", ()) for known in catalogues)]
    rows = []
    for first in range(0, len(here), _AT_ONCE):
        rows += tx.execute(sa.select(t.baseline).where(t.baseline.c.number.in_(here[first:first + _AT_ONCE])))
    # A router's prior states are of its own routes.
    return sorted((row for row in rows if "guest" in values.from_text(row.fields)), key=lambda row: row.number)


def _among(services):
    return [t.baseline.c.service.in_(list(services))] if services is not None and len(services) <= _AT_ONCE else []


def _catalogues(tx, node):
    """The catalogue that a node is under, and the newest."""
    carried, newest = find_node(tx, node), current_release(tx)
    found = [find_release(tx, carried["release_id"])] if carried and carried["release_id"] is not None else []
    return [content(tx, release["catalogue_digest"]) for release in [*found, *([newest] if newest else [])]]


def _open_rows(tx, node, catalogue=None, services=None):
    """`{service: [rows]}`; of several, the node's own first, then the oldest. Asked for few services, it reads few."""
    own = tx.execute(sa.select(t.baseline).where(t.baseline.c.node == node, t.baseline.c.closed_at.is_(None), *_among(services)))
    found = {}
    for row in [*own, *_shared(tx, node, catalogue, services)]:
        found.setdefault(row.service, []).append(row)
    return found


def open_baselines(tx, node, catalogue=None, services=None):
    """What the services of a node had before the first enforcement held them, while one does.

    It follows the guest: what was recorded on another node of a service's pool, or where it was before, is given too.

    :param catalogue: which services live on the node; None for the one it is under, and the newest
    :param services: those wanted; None for all
    """
    wanted = None if services is None else set(services)
    return [
        {
            "service": service,
            "node": rows[0].node,
            "digest": rows[0].digest,
            "captured_at": rows[0].captured_at,
            "fields": values.from_text(rows[0].fields),
        }
        for service, rows in sorted(_open_rows(tx, node, catalogue, wanted).items()) if wanted is None or service in wanted
    ]


@verb
def record_baselines(tx, node, baselines):
    """Keep prior states before anything is changed. The first open one of a service, in all its pool, wins.

    :param baselines: [{"service", "fields", "digest"}]
    :returns: the open baselines of these services, as kept
    """
    meet(tx, node)
    present = {baseline["service"]: baseline for baseline in open_baselines(tx, node)}
    number = tx.next_number(t.baseline.c.number)
    for wanted in sorted(baselines, key=lambda baseline: baseline["service"]):
        service = values.identifier(wanted["service"], "service")
        if service in present:
            continue
        tx.execute(
            t.baseline.insert().values(
                number=number,
                service=service,
                node=node,
                digest=wanted["digest"],
                fields=values.to_text(wanted["fields"]),
                captured_at=tx.now,
            )
        )
        tx.append("baseline_recorded", {"service": service, "node": node, "digest": wanted["digest"]})
        number += 1
    wanted = {baseline["service"] for baseline in baselines}
    return [baseline for baseline in open_baselines(tx, node) if baseline["service"] in wanted]


@verb
def keep_touched(tx, node, documents, seen):
    """Keep what is set on guests of a node that has no place of ours, before it is set. No event: baselines are the record.

    :param documents: `{service: document}`; one that says nothing any more but whose guest it was is forgotten
    :param seen: those that the run had read before it decided on these; where another run has kept something else since,
        nothing is kept, or what that one has to give back would be lost
    :returns: services of which another run has kept something else
    """
    overtaken = []
    for service in sorted(documents):
        mine = (t.touched.c.node == node) & (t.touched.c.service == values.identifier(service, "service"))
        known = tx.execute(sa.select(t.touched.c.document).where(mine)).scalar()
        text = _touched_text(documents[service])
        if text == known:
            continue
        if known != _touched_text(seen.get(service)):
            overtaken.append(service)
            continue
        tx.execute(t.touched.delete().where(mine))
        if text is not None:
            tx.execute(t.touched.insert().values(node=node, service=service, document=text, changed_at=tx.now))
    return overtaken


def _touched_text(document):
    """As it is kept; None for one that says nothing but whose guest it is."""
    return values.to_text(document) if any(found for key, found in (document or {}).items() if key != "guest") else None


@reader
def touched_on(tx, node):
    """`{service: document}` that `keep_touched` was given for a node."""
    rows = tx.execute(sa.select(t.touched.c.service, t.touched.c.document).where(t.touched.c.node == node))
    return {service: values.from_text(text) for service, text in rows}


@verb
def note_set_in_pool(tx, node, told):
    """Note what is set on guests of pools that are on a node now, so that it goes with them when they move. No event.

    :param told: `{service: {"digest": of its prior state, "touched": document}}`
    """
    for service in sorted(told):
        _forget_set_in_pool(tx, values.identifier(service, "service"))
        tx.execute(t.touched.insert().values(node=node, service=service, document=values.to_text(told[service]), changed_at=tx.now))


def _forget_set_in_pool(tx, service):
    """One node has the guest, so one says this; what a cluster keeps of a guest has no digest, and is its own."""
    rows = tx.execute(sa.select(t.touched.c.node, t.touched.c.document).where(t.touched.c.service == service)).all()
    for row in rows:
        if "digest" in values.from_text(row.document):
            tx.execute(t.touched.delete().where((t.touched.c.node == row.node) & (t.touched.c.service == service)))


def passed_along(tx, baselines):
    """Open prior states, each with what is set on its guest as its node said last.

    :param baselines: of `open_baselines`
    """
    rows = tx.execute(sa.select(t.touched.c.service, t.touched.c.document)).all() if baselines else ()
    told = {row.service: document for row in rows for document in [values.from_text(row.document)] if "digest" in document}
    return [dict(one, touched=told[one["service"]]["touched"])
            if told.get(one["service"], {}).get("digest") == one["digest"] else one for one in baselines]


@verb
def close_baselines(tx, node, services):
    """Close the open baselines of services that are as they were again, wherever recorded. Returns those services."""
    present = _open_rows(tx, node, services=set(services)) if services else {}
    closed = sorted(set(services) & set(present))
    for row in [row for service in closed for row in present[service]]:
        _close(tx, row)
    return closed


def _close(tx, row):
    tx.append("baseline_closed", {"service": row.service, "node": row.node, "digest": row.digest})
    tx.execute(t.baseline.update().where(t.baseline.c.number == row.number).values(closed_at=tx.now))
    _forget_set_in_pool(tx, row.service)


def unowned(tx, node, services):
    """Those of these services, absent from a node, whose guest is on no node of the pool any more.

    Nothing binds them, and each other node was looked at since the prior state was recorded, without failure, and did not
    give it back.
    """
    if not services:
        return []
    present = _open_rows(tx, node, services=set(services))
    catalogues = _catalogues(tx, node) if present else ()
    return [service for service in sorted(set(services) & set(present))
            if not nodes_of(tx, service) and all(_looked_since(tx, other, row) for row in present[service]
                                                 for other in _others(tx, node, service, catalogues, row.node))]


def _others(tx, node, service, catalogues, recorded_on):
    """Managed nodes besides this one that the guest of a service may be on."""
    names = {name for known in catalogues for name in known["services"].get(service, {}).get("nodes", ())} | {recorded_on}
    return sorted(tx.execute(sa.select(t.node.c.name).where(
        t.node.c.name.in_(sorted(names - {node})), t.node.c.release_id.is_not(None))).scalars())


def _looked_since(tx, node, row):
    recorded = tx.execute(sa.select(sa.func.max(t.event.c.number)).where(
        t.event.c.kind == "baseline_recorded", t.event.c.refs.like('%"' + row.digest + '"%'))).scalar()
    known = find_node(tx, node)
    return bool(known["fence"]) and known["fence"]["generation"] >= (recorded or 0) and known["last_outcome"] in _LOOKED


def nodes_of(tx, service):
    """Managed nodes that a service's enforcements concern."""
    names = set()
    for document in find_enforcements(
        tx, t.enforcement.c.service == service, t.enforcement.c.status.in_(HOLDING)
    ):
        names.update(nodes_concerned(document))
    return sorted(names)
