# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger at a glance, and its epoch. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._break_glass import unreviewed
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import case_document
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._dated import dated_inputs
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import active
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemptions import find_exemptions
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemption_requests import exemption_requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._journals import held_by_hand
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._nodes import node_document
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import late_announcements, notices, running_deadlines, without_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._proposals import proposals
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import current_release
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb


@reader
def nodes(tx):
    """All nodes the ledger has met, by name."""
    return [node_document(row) for row in tx.execute(sa.select(t.node).order_by(t.node.c.name))]


@reader
def cases(tx, status="open"):
    """Cases of a status, oldest first."""
    rows = tx.execute(sa.select(t.case).where(t.case.c.status == status).order_by(t.case.c.event_number))
    return [case_document(row) for row in rows]


@reader
def known_services(tx):
    """Ids of all services the ledger has ever met or held."""
    met = tx.execute(sa.select(t.adoption.c.service).union(sa.select(t.enforcement.c.service)))
    return set(met.scalars())


@reader
def status(tx):
    """Ledger, head, newest release, nodes, what holds which service, open exemptions, open cases, dated inputs."""
    return {
        "ledger": tx.ledger_id,
        "epoch": tx.epoch,
        "revision": tx.head_number,
        "now": tx.now,
        "release": current_release(tx),
        "nodes": nodes(tx),
        "enforcements": active(tx),
        "proposals": proposals(tx),
        "unreviewed": unreviewed(tx),
        "by_hand": held_by_hand(tx),
        "exemptions": find_exemptions(tx, t.exemption.c.status == "open"),
        "requests": exemption_requests(tx),
        "cases": cases(tx),
        "inputs": list(dated_inputs(tx).values()),
        "notices": [without_text(notice) for notice in notices(tx)],
        "deadlines": [without_text(notice) for notice in running_deadlines(tx)],
        "late": late_announcements(tx),
    }


@verb
def bump_epoch(tx, reason):
    """Begin a new epoch, after a restore from backup: its fences are then newer than any node has seen.

    :returns: the new epoch
    """
    reason = values.free_text(reason, "reason", needed=True)
    epoch = tx.epoch + 1
    tx.append("epoch_bumped", {"epoch": epoch}, {"reason": reason})
    tx.execute(t.meta.update().values(epoch=epoch))
    tx.changed("ledger", tx.ledger_id, {"epoch": tx.epoch}, {"epoch": epoch})
    tx.epoch = epoch
    return epoch
