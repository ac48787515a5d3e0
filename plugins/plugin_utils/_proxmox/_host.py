# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of converging the packet filter of one node of a Proxmox VE cluster. PRIVATE.

The cluster is the ledger's node, and its API keeps the record. A node of it takes the same desired state; nothing is
written of it, so that a cluster's services stand for what the API was seen to have done.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._proxmox._desired import for_cluster, with_numbers
from ansible_collections.hosting.aup.plugins.module_utils._proxmox._host import for_hosts
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Converge
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import described_cluster


class HostConverge(Converge):
    """One node of a cluster, once; `wanted.node` is the cluster."""

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

    def _record(self, wanted, basis, result):
        """Nothing; see the module."""
