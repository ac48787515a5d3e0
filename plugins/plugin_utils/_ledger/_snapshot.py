# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger says at one moment, as one document for `resolve`. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._dated import dated_documents
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import active
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemptions import exemptions_in_force
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._nodes import find_node, open_baselines, passed_along, touched_on
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import (
    content,
    current_release,
    find_release,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader

PRESENT, NEWEST = "present", "newest"


@reader
def snapshot(tx, node=None, release_id=None):
    """The ledger's side of a node's desired state.

    `policies`, `catalogue` and `inputs` are shared by all snapshots of a process: do not change them.

    :param node: None leaves out node, baselines and takes the newest release
    :param release_id: a release's id, `newest`, or None or `present` for the one that the node carries
    :returns: the document of docs/architecture.md; `release` is None when there is none
    :raises InputError: no release of this id
    """
    carried = find_node(tx, node) if node is not None else None
    release = _chosen(tx, node, carried, release_id)
    contents = _contents(tx, release)
    adoptions = tx.execute(
        sa.select(t.adoption.c.service, t.adoption.c.adopted_at)
        .where(t.adoption.c.adopted_at.is_not(None))
        .order_by(t.adoption.c.service)
    )
    return {
        "ledger": tx.ledger_id,
        "epoch": tx.epoch,
        "revision": tx.head_number,
        "node": (
            None
            if node is None
            else {
                "name": node,
                "release_id": carried["release_id"] if carried else None,
                "adopted_at": carried["adopted_at"] if carried else None,
            }
        ),
        **contents,
        "enforcements": [_enforcement(document) for document in active(tx)],
        "exemptions": exemptions_in_force(tx),
        "baselines": passed_along(tx, open_baselines(tx, node, contents["catalogue"])) if node is not None else [],
        "touched": touched_on(tx, node) if node is not None else {},
        "adoptions": dict(adoptions.all()),
        "inputs": dated_documents(tx),
    }


def _chosen(tx, node, carried, release_id):
    if release_id is None or release_id == PRESENT:
        if node is not None and (carried is None or carried["release_id"] is None):
            return None
        return find_release(tx, carried["release_id"]) if node is not None else current_release(tx)
    return current_release(tx) if release_id == NEWEST else find_release(tx, release_id)


def _contents(tx, release):
    if release is None:
        nothing = {"format": 1, "generated_at": None, "prefixes": [], "nodes": {}, "services": {}}
        return {"release": None, "policies": {}, "catalogue": nothing}
    return {
        "release": {
            "id": release["id"],
            "created_at": release["created_at"],
            "policy_keys": release["policy_keys"],
            "default_policy": release["default_policy"],
            "catalogue_digest": release["catalogue_digest"],
        },
        "policies": {key: content(tx, name) for key, name in sorted(release["policies"].items())},
        "catalogue": content(tx, release["catalogue_digest"]),
    }


_FIELDS = (
    "id",
    "service",
    "kind",
    "case_id",
    "clause",
    "violation",
    "reason",
    "starts_at",
    "ends_at",
    "until",
    "review_at",
    "status",
    "options",
    "actor",
    "snapshot",
)


def _enforcement(document):
    return {name: document[name] for name in _FIELDS}
