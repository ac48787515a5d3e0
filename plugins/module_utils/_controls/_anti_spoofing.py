# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`anti_spoofing` for one service: the addresses it may speak for. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._controls._terms import Terms


def sources(service):
    """All addresses and prefixes a service may send from, of all its NICs: its own, routed, floating and shared ones.

    NICs of one guest may speak for each other: bonding and weak host models do so.
    """
    found = {text for nic in service["nics"] for key in ("addresses", "prefixes", "floating") for text in nic.get(key) or ()}
    found.update(entry["address"] for nic in service["nics"] for entry in nic.get("shared") or ())
    return sorted(found)


class AntiSpoofing(Terms):
    """Never for ports nobody knows, and never enforced where the catalogue has no addresses."""

    name = "anti_spoofing"

    def judge(self, service, decision):
        if decision.mode == "enforce" and not sources(service):
            return decision._replace(mode="observe", reason="the catalogue has no address of this service: "
                                     "only observed, or it would be cut off (else enforce: %s)" % decision.reason)
        return decision

    def options(self, service, decision):
        return {"sources": sources(service)} if decision.mode in ("observe", "enforce") else {}
