# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relays in the provider's prefixes, and whether they can exit. Pure. PRIVATE to the collection.

The flag Exit alone says too little: it needs two of the ports 80 and 443 over a /8 (dir-spec), and says nothing of IPv6. So
the summary of the policy, the descriptor's own policy and its IPv6 policy count as well.
"""

from __future__ import annotations

import ipaddress


def exit_reasons(entry, descriptor):
    """Why a relay can exit; empty when it can't.

    :param entry: its entry of the consensus (stem), or None
    :param descriptor: its own descriptor (stem), or None
    """
    reasons = []
    if entry is not None:
        if "Exit" in entry.flags:
            reasons.append("flag Exit")
        if "BadExit" in entry.flags:
            reasons.append("flag BadExit: clients avoid it, it can exit all the same")
        if entry.exit_policy is not None and entry.exit_policy.is_exiting_allowed():
            reasons.append("policy summary: %s" % str(entry.exit_policy)[:80])
    if descriptor is not None:
        if descriptor.exit_policy is not None and descriptor.exit_policy.is_exiting_allowed():
            reasons.append("its own exit policy accepts over IPv4")
        if descriptor.exit_policy_v6 is not None and descriptor.exit_policy_v6.is_exiting_allowed():
            reasons.append("its own exit policy accepts over IPv6: %s" % str(descriptor.exit_policy_v6)[:80])
    return reasons


def _addresses(*documents):
    found = set()
    for document in documents:
        if document is not None:
            found.add(str(ipaddress.ip_address(document.address)))
            found.update(str(ipaddress.ip_address(one[0])) for one in document.or_addresses)
    return sorted(found)


def relays_in(prefixes, consensus, descriptors, services=None):
    """The relays whose addresses lie in our prefixes, exits first.

    :param prefixes: the provider's, as text
    :param consensus: `{fingerprint: entry}`
    :param descriptors: `{fingerprint: descriptor}`
    :param services: the catalogue's, to name whose address it is
    """
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    owners = list(_owned(services or {}))
    found = []
    for fingerprint in sorted(set(consensus) | set(descriptors)):
        entry, descriptor = consensus.get(fingerprint), descriptors.get(fingerprint)
        addresses = _addresses(entry, descriptor)
        ours = [one for one in addresses
                if any(ipaddress.ip_address(one) in network for network in networks if network.version == ipaddress.ip_address(one).version)]
        if not ours:
            continue
        mine = sorted({sid for address in ours for network, sid in owners
                       if network.version == ipaddress.ip_address(address).version and ipaddress.ip_address(address) in network})
        reasons = exit_reasons(entry, descriptor)
        found.append({
            "fingerprint": fingerprint, "nickname": (entry or descriptor).nickname, "addresses": ours,
            "flags": sorted(entry.flags) if entry is not None else [], "can_exit": bool(reasons), "why": reasons,
            "in_consensus": entry is not None, "descriptor_read": descriptor is not None, "services": mine,
            "declared": {sid: services[sid].get("uses", {}).get("tor") for sid in mine} if services else {},
        })
    return sorted(found, key=lambda one: (not one["can_exit"], one["fingerprint"]))


def _owned(services):
    for sid, service in services.items():
        for nic in service["nics"]:
            for key in ("addresses", "prefixes", "floating"):
                for text in nic.get(key) or ():
                    yield ipaddress.ip_network(text, strict=False), sid


def lines(relays):
    """One line a relay, for people."""
    return ["%s %s (%s)%s: %s" % (
        "EXIT" if one["can_exit"] else "relay", one["nickname"], ", ".join(one["addresses"]),
        " of %s" % ", ".join(one["services"]) if one["services"] else "",
        "; ".join(one["why"]) or ("can't exit" if one["descriptor_read"] else "no IPv4 exit; IPv6 unknown without its descriptor"))
        for one in relays]
