# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`anti_spoofing` for one service: the addresses it may speak for. Pure. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._controls._terms import Terms


def sources(service):
    """All addresses and prefixes a service may send from, of all its NICs: its own, routed, floating and shared ones.

    NICs of one guest may speak for each other: bonding and weak host models do so.
    """
    found = {text for nic in service["nics"] for key in ("addresses", "prefixes", "floating") for text in nic.get(key) or ()}
    found.update(entry["address"] for nic in service["nics"] for entry in nic.get("shared") or ())
    return sorted(found)


STORM = 500  # broadcasts and multicasts a second of one port, where no policy says


class AntiSpoofing(Terms):
    """Never for ports nobody knows, and never enforced where the catalogue has no addresses."""

    name = "anti_spoofing"

    def judge(self, service, decision):
        if decision.mode == "enforce" and not sources(service):
            return decision._replace(mode="observe", reason="the catalogue has no address of this service: "
                                     "only observed, or it would be cut off (else enforce: %s)" % decision.reason)
        return decision

    def options(self, service, decision):
        return {"sources": sources(service)}

    def parameters(self, policies, snapshot, node, now):
        """Lengths of all prefixes here (each has a rule), and, of all policies, the widest limit and all gateways."""
        lengths = {4: set(), 6: set()}
        for service in snapshot["catalogue"]["services"].values():
            if node["name"] in service["nodes"]:
                for text in sources(service):
                    if "/" in text:
                        network = ipaddress.ip_network(text)
                        lengths[network.version].add(network.prefixlen)
        options = [policy.control(self.name, node["location"], account_type).options
                   for policy in policies.values() if node["location"] in policy.locations
                   for account_type in sorted(policy.account_types)]
        return {
            "lengths": {str(version): sorted(found) for version, found in lengths.items()},
            "gateways": sorted({gateway for one in options for gateway in one.get("gateways", ())}),
            "storm_per_second": max([one["storm_per_second"] for one in options if "storm_per_second" in one] or [STORM]),
        }
