# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the catalogue's orders to what a node is to make. Pure; the controller runs it. PRIVATE to the collection.

Orders travel beside the desired state and only with `provision`: what a node keeps, and what reconciles it, knows
of none, so nothing else can ever make a guest.
"""
from __future__ import annotations

import hashlib
import json
import uuid

from ansible_collections.hosting.aup.plugins.module_utils._tor_config import vendor_part

# Of names made for guests of ours that the catalogue gives no UUID: the same on every run.
_NAMESPACE = uuid.UUID("8f0f5b0e-5a0c-4f43-9d0b-3c1f2b6f7a31")


def tap_name(service, mac):
    """The port of a NIC: the same over restarts, at most 15 characters (Linux), not beginning `vnet` (libvirt's own)."""
    return "tap" + hashlib.sha256(("%s %s" % (service, mac)).encode("utf-8")).hexdigest()[:11]


def guest_uuid(service, ledger):
    """The UUID of the guest ordered for a service: the catalogue's, or one that follows from ledger and id."""
    return service["guest"].get("uuid") or str(uuid.uuid5(_NAMESPACE, "%s/%s" % (ledger, service["id"])))


def _notice(service, entry, _policy):
    """What of the house's rules a guest is told of itself: which mail ports are closed, and through whom to send."""
    smtp = entry["smtp"]
    said = {"service": service["id"], "smtp_outbound": {"mode": smtp["mode"], "ports": smtp["ports"]}}
    return {"write_files": [{"path": "/etc/hosting-aup.json", "permissions": "0644",
                             "content": json.dumps(said, sort_keys=True, indent=1) + "\n"}]}


def _tor(service, _entry, _policy):
    """A declared relay or bridge is born with a torrc that never exits."""
    return vendor_part(service.get("uses"))


# Each is given service, its entry of the desired state and its policy, and returns a part of a cloud-config document
# (or nothing). Lists of the parts are joined; what the customer's own user data says of a key wins (cloud-init's rule).
PARTS = (_notice, _tor)


def vendor_data(service, entry, policy, parts=PARTS):
    """The house's defaults for a new guest, as a cloud-config document."""
    document = {}
    for part in parts:
        for key, value in (part(service, entry, policy) or {}).items():
            if isinstance(value, list):
                document.setdefault(key, []).extend(value)
            else:
                document[key] = value
    return document


def orders(snapshot, desired, node, policy_of):
    """What of this node's services may be made if it isn't there.

    :param snapshot: the ledger's snapshot
    :param desired: the node's desired state
    :param node: the released node
    :param policy_of: `policy_of(service) -> Policy`
    :returns: `{service: order}`, whole in itself: what is not on the node under its name is None
    """
    entries = {entry["id"]: entry for entry in desired["services"]}
    means = node.get("creation") or {}
    found = {}
    for sid, service in snapshot["catalogue"]["services"].items():
        order = service.get("order")
        if not order or not order["create"] or service["nodes"] != [node["name"]] or sid not in entries:
            continue
        disk, cloud = order["disk"], order["cloud_init"]
        found[sid] = {
            "service": sid,
            "guest": {"name": service["guest"]["name"], "uuid": guest_uuid(service, snapshot["ledger"]),
                      "given": bool(service["guest"].get("uuid"))},
            "guest_type": means.get("guest_type"), "vcpus": order["vcpus"], "memory_bytes": order["memory_bytes"],
            "disk": {"size_bytes": disk["size_bytes"], "image": disk["image"], "storage": disk["storage"]},
            "image": (means.get("images") or {}).get(disk["image"]),
            "image_directory": means.get("image_directory"),
            "storage": (means.get("storage") or {}).get(disk["storage"]),
            "bridges": node.get("bridges") or [],
            "nics": [dict(nic, tap=tap_name(sid, nic["mac"])) for nic in order["nics"]],
            "rate_bps": order["rate_bit_per_second"],
            "hostname": cloud["hostname"] or _label(sid), "ssh_keys": cloud["ssh_keys"], "user_data": cloud["user_data"],
            "resolvers": means.get("resolvers") or [],
            "vendor_data": vendor_data(service, entries[sid], policy_of(service)),
        }
    return found


def _label(sid):
    """A service's id as a host name."""
    text = "".join(c if c.isascii() and c.isalnum() else "-" for c in sid.lower())
    return text.strip("-")[:63].strip("-") or "guest"
