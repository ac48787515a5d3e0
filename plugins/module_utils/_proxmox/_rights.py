# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which privileges a plan needs, and which of them a token lacks. Pure. PRIVATE to the collection.

The server checks a change of a guest key by key, and a NIC's bridge although it stays the same.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _nics

_OPTIONS = ("onboot", "tag", "protection")


def needed(steps, guests):
    """`{(path, privilege)}` for these steps.

    :param guests: observed, by number
    """
    found = set()
    for step in steps:
        if step["part"] in ("shared", "leftover"):
            found.add(("/", "Sys.Modify"))
            continue
        if step["part"] == "create":
            continue  # judged with its order, which is all that waits for them
        path = "/vms/%s" % step["vmid"]
        if step["verb"] == "power":
            found.add((path, "VM.PowerMgmt"))
        elif step["verb"] in ("options", "rules", "ipset"):
            found.add((path, "VM.Config.Network"))
        for field in step["after"] if step["verb"] == "set" else ():
            nic = guests[step["vmid"]]["nics"].get(field.partition(".")[0])
            if nic is not None:
                found.add((path, "VM.Config.Network"))
                if _nics.bridge_path(nic["text"]):
                    found.add((_nics.bridge_path(nic["text"]), "SDN.Use"))
            else:
                found.add((path, "VM.Config.Options" if field in _OPTIONS else "VM.Config.CPU"))
    return found


def missing(wanted, held, pooled=None):
    """Those of `wanted` that the token doesn't have, in order.

    What is given on a pool is in force on its guests, beside what is given on them. A guest that is being copied is in no
    pool before its copy is complete (qemu-server 9.2, `clone_vm`), so that seeing it has to come from elsewhere.

    :param held: of `GET /access/permissions`: `{path: {privilege: 1, or 0 if it doesn't reach further down}}`, each path
        with all that is in force there
    :param pooled: `{path of a guest: path of the pool that it will be in}`
    """
    pooled = pooled or {}
    return sorted((path, privilege) for path, privilege in wanted if not _may(held, path, privilege) and not (
        path in pooled and privilege != "VM.Audit" and _may(held, pooled[path], privilege)))


def _may(held, path, privilege):
    if privilege in held.get(path, ()):
        return True
    while path != "/":
        if path in held:
            return bool(held[path].get(privilege))
        path = path.rpartition("/")[0] or "/"
    return bool(held.get("/", {}).get(privilege))
