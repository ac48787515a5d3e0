# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `resolve` decides for a cluster, with what its guests are known by. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._open_connections import blocks_of


def for_cluster(desired, snapshot, node, now, rules_on=()):
    """The desired state of a cluster: what `resolve` gave, each service with its guest's number, its NICs, its blocks and what is ours.

    :param desired: of `resolve`, or of `retired`
    :param snapshot: the ledger's; its `touched` is what we set on guests of this cluster and what it is to go back to
    :param node: the cluster's description in the released catalogue, with its section `proxmox`
    :param now: seconds since the epoch
    :param rules_on: names of the cluster's own nodes that were seen with their rules in this run
    """
    services = snapshot["catalogue"]["services"] if snapshot.get("catalogue") else {}
    enforced = {}
    for enforcement in snapshot["enforcements"]:
        enforced.setdefault(enforcement["service"], []).append(enforcement)
    touched = snapshot.get("touched") or {}
    entries, present = [], set()
    for entry in desired["services"]:
        sid = entry["id"]
        present.add(sid)
        source = services.get(sid) or (
            max(enforced[sid], key=lambda e: e["starts_at"])["snapshot"] if sid in enforced else None)
        guest, nics = dict(entry["guest"]), entry["nics"]
        if source:
            guest["vmid"], nics = source["guest"].get("vmid"), source["nics"]
        elif entry["baseline"]:
            guest["vmid"] = entry["baseline"]["fields"]["guest"].get("vmid")
        making = (touched.get(sid) or {}).get("making")
        numbered = bool(making) and guest.get("vmid") is None  # by us: nobody asked for this number
        if numbered:
            guest["vmid"] = making["vmid"]
        entries.append(dict(entry, guest=guest, nics=nics, numbered=numbered, touched=touched.get(sid) or {}, ending=sorted(
            {one["kind"] for one in enforced.get(sid, ()) if one["status"] == "ending"}),
            blocks=blocks_of(enforced.get(sid, ()), now) if desired["present"] else []))
    for sid in sorted(set(touched) - present):
        # Left the catalogue, or the cluster is retired: what we set there is still ours to take back.
        guest = touched[sid]["guest"]
        nics = [{"mac": mac} for mac in guest.get("macs") or ()]
        entries.append({"id": sid, "guest": guest, "nics": nics, "ending": [], "blocks": [], "smtp": {"mode": "off", "ports": []}, "controls": {},
                        "hold": None, "limits": {}, "baseline": None, "elsewhere": False, "touched": touched[sid]})
    return dict(desired, services=entries, now=now, rules_on=sorted(rules_on), proxmox=dict((node or {}).get("proxmox") or {}))


def with_numbers(desired, numbers):
    """The desired state with numbers for guests that the catalogue has none of: of those made by order, and about to be.

    :param numbers: `{service: number}`
    """
    return dict(desired, services=[
        dict(service, guest=dict(service["guest"], vmid=numbers[service["id"]]))
        if service["guest"].get("vmid") is None and service["id"] in numbers else service for service in desired["services"]])
