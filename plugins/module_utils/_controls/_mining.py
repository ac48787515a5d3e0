# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`mining`: what is forbidden to a service, and where pools are. Pure. PRIVATE to the collection.

The addresses are a dated input of the ledger (`refresh_pools`); nothing here or on a node resolves a name.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._controls._terms import Terms

POOLS = "pools"
# What can be told by addresses and ports. Plotting can't: it writes to disks, and is throttled there.
ON_THE_WIRE = ("farming", "mining", "nodes")


def activities(decision):
    """The forbidden activities that packets show, sorted."""
    return sorted(set(decision.options.get("activities", ())).intersection(ON_THE_WIRE))


def endpoints(document, now):
    """`(enforced, observed)` of a document of pools: lists of [address, port or None].

    :param document: as `plugin_utils/_pools/_data.py` makes it
    :param now: an address that is younger than the document's time of observation is only observed
    """
    enforced, observed = [], []
    for entry in document["endpoints"]:
        old = entry["first_seen"] + document["observe_seconds"] <= now
        (enforced if old else observed).append([entry["address"], entry["port"]])
    return enforced, observed


class Mining(Terms):
    """Each service by the activities its location forbids; plotting alone is none that packets show."""

    name = "mining"

    def judge(self, service, decision):
        if decision.mode in ("observe", "enforce") and not activities(decision):
            return decision._replace(mode="off", reason="only plotting is forbidden, which no packet shows: "
                                     "io_throttle is the means (policy: %s)" % decision.reason)
        return decision

    def options(self, service, decision):
        return {"activities": activities(decision)}

    def parameters(self, policies, snapshot, node, now):
        found = (snapshot.get("inputs") or {}).get(POOLS)
        if found is None:
            return {"at": None, "pools": [], "new_pools": [], "ports": {}}
        enforced, observed = endpoints(found["document"], now)
        return {"at": found["at"], "pools": enforced, "new_pools": observed, "ports": found["document"]["ports"]}
