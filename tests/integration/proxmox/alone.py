# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in in a process of its own, known by its address alone, as a real cluster is.

    python -m tests.integration.proxmox.alone DIRECTORY

Says on one line where it answers and what is there, as the environment that test_anywhere.py takes, and ends with its input.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .provider import SECRET, firewalled, guest, maker_token


def template(vmid: int, kind: str):
    """A template as operators have them."""
    disks = {"scsi0": "local-lvm:base-9000-disk-0,size=10G", "ide2": "local-lvm:vm-9000-cloudinit,media=cdrom", "boot": "order=scsi0"} \
        if kind == "qemu" else {"rootfs": "local-lvm:base-9001-disk-0,size=4G"}
    return guest(vmid, kind, running=False, template="1", onboot=None, **disks)


def main() -> int:
    """Serve until standard input ends."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.05, lock_timeout=2))
    for one in (template(9000, "qemu"), template(9001, "lxc"), guest(100), guest(203, "lxc", node="pve2")):
        cluster.add(one)
    token = maker_token()
    token.acl["/"] |= {"VM.Allocate"}
    with serve(cluster, Path(sys.argv[1]), {"svc@pve!aup": token}) as server:
        print(json.dumps({
            "PROXMOX_URL": f"https://{server.host}:{server.port}", "PROXMOX_TOKEN": f"svc@pve!aup={SECRET}",
            "PROXMOX_FINGERPRINT": server.fingerprint, "PROXMOX_TEMPLATE": "9000", "PROXMOX_CT_TEMPLATE": "9001",
            "PROXMOX_STORAGE": "local-lvm", "PROXMOX_BRIDGE": "vmbr0"}), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
