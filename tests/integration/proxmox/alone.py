# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in in a process of its own, known by its address alone, as a real cluster is.

    python -m tests.integration.proxmox.alone DIRECTORY

Says on one line where it answers and what is there, as the environment that the tests take, and ends with its input; with
status 1 if then anything differs from how it began: its guests are other people's. What their nodes list of them is as old as
STANDIN_GATHER says, in seconds; on a real cluster up to ten.
"""
from __future__ import annotations

import difflib
import json
import os
import sys
from pathlib import Path

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import Token, serve

from .provider import SECRET, firewalled, guest, maker_token

SMALL = SECRET.replace("1", "2")


def template(vmid: int, kind: str):
    """A template as operators have them."""
    disks = {"scsi0": "local-lvm:base-9000-disk-0,size=10G", "ide2": "local-lvm:vm-9000-cloudinit,media=cdrom", "boot": "order=scsi0"} \
        if kind == "qemu" else {"rootfs": "local-lvm:base-9001-disk-0,size=4G"}
    return guest(vmid, kind, running=False, template="1", onboot=None, **disks)


def inhabited() -> Cluster:
    """A cluster with guests, rules and sets of others."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=2))
    cluster.chatter, cluster.gather = 1000, float(os.environ.get("STANDIN_GATHER", "0.3"))
    for one in (template(9000, "qemu"), template(9001, "lxc"), guest(100, description="hands off"), guest(203, "lxc", node="pve2")):
        cluster.add(one)
    wall = cluster.firewall
    wall.cluster.ipsets["office"] = {"comment": "", "entries": [{"cidr": "198.51.100.0/24"}]}
    wall.cluster.groups["web"] = {"comment": "theirs", "rules": [{"type": "in", "action": "ACCEPT", "macro": "HTTP", "enable": 1}]}
    theirs = wall.of_guest(100, "qemu")
    theirs.options.update(enable=1, policy_in="DROP")
    theirs.rules.append({"type": "group", "action": "web", "enable": 1, "comment": "mine"})
    return cluster


def written(cluster: Cluster) -> list[str]:
    """All there is in it that a call can change."""
    guests = [f"{vmid} {one.kind} {one.node} {one.config!r} {one.pending!r} {one.gone!r} running {one.running} paused {one.paused} "
              f"started {one.started} HA {one.ha}" for vmid, one in sorted(cluster.guests.items())]
    files = [f"{vmid}.fw {file.render()}" for vmid, file in sorted(cluster.firewall.guests.items()) if file.render()]
    return [*guests, *files, cluster.firewall.cluster.render(), f"{cluster.options!r} {cluster.ha!r} {cluster.pools!r}"]


def main() -> int:
    """Serve until standard input ends."""
    cluster = inhabited()
    found = written(cluster)
    token, small = maker_token(), Token(SMALL, {"/": {"VM.Audit", "Sys.Audit"}})
    token.acl["/"] |= {"VM.Allocate"}
    with serve(cluster, Path(sys.argv[1]), {"svc@pve!aup": token, "svc@pve!small": small}) as server:
        print(json.dumps({
            "PROXMOX_URL": f"https://{server.host}:{server.port}", "PROXMOX_TOKEN": f"svc@pve!aup={SECRET}",
            "PROXMOX_SMALL_TOKEN": f"svc@pve!small={SMALL}",
            "PROXMOX_FINGERPRINT": server.fingerprint, "PROXMOX_TEMPLATE": "9000", "PROXMOX_CT_TEMPLATE": "9001",
            "PROXMOX_STORAGE": "local-lvm", "PROXMOX_BRIDGE": "vmbr0", "PROXMOX_STANDIN": "1"}), flush=True)
        sys.stdin.read()
    left = list(difflib.unified_diff(found, written(cluster), "found", "left", lineterm="", n=0))
    sys.stderr.writelines(line + "\n" for line in left)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
