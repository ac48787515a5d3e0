# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of converging the packet filter of one node of a Proxmox VE cluster. PRIVATE.

The cluster is the ledger's node, and its API keeps the record. A node of it takes the same desired state; no result is
written of it, so that a cluster's services stand for what the API was seen to have done. What the node did without the ledger
is on record as what happened on that node, and ends nothing: a suspension that is over in its packet filter is one until the
API has given the guest back.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._proxmox._desired import for_cluster, with_numbers
from ansible_collections.hosting.aup.plugins.module_utils._proxmox._host import for_hosts
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import DONE, Converge
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import described_cluster


class HostConverge(Converge):
    """One node of a cluster, once; `wanted.node` is the cluster, `wanted.host` the node's name."""

    ENDED = "over in this node's packet filter since its time: %s; the guest is given back over the API"

    def _resolve(self, wanted, born=()):
        snapshot, desired, _orders = super()._resolve(wanted, born)
        node = None if wanted.absent else described_cluster(wanted.node, snapshot["catalogue"])
        desired = for_cluster(desired, snapshot, node, self.clock())
        if not wanted.absent:
            with self.ledger.read(now=self.clock()) as tx:
                desired = with_numbers(desired, {**tx.numbers_made(wanted.node), **wanted.numbers})
        return snapshot, for_hosts(desired), {}

    def _before_apply(self, wanted, plan, born):
        """Nothing: nothing is to be given back by a node."""

    def _take_journal(self, wanted, plan, notes):
        """As of any node; in check mode it is left where it is, since nothing is resolved otherwise for it."""
        return {} if self.check else super()._take_journal(wanted, plan, notes)

    @staticmethod
    def _take_in(tx, wanted, journal):
        return tx.take_host_journal(wanted.node, wanted.host or wanted.node, journal["journal"], journal["entries"])

    def _record(self, wanted, basis, result):
        """What is held on the node by hand, and nothing else; see the module."""
        if "by_hand" not in result:
            return
        host = wanted.host or wanted.node
        held = {} if wanted.absent and result["outcome"] in DONE else result["by_hand"]
        with self.ledger.read(now=self.clock()) as tx:
            known = any(one["node"] == host for one in tx.held_by_hand())
        if held or known:
            with self._transaction(rolled_back=False) as tx:
                tx.note_by_hand(host, held)
