# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""retire takes all of ours off a node and leaves it as found. The last of the spine's tests."""

from __future__ import annotations

from pathlib import Path

from . import plan
from .spine import assert_same, domain, until
from .test_spine import assert_same_plan


def test_retire(spine, arrival):
    node, guest = spine.node, spine.lab.guest("vps-1002")
    guest.virsh("autostart")
    if not spine.rules(ours=False):  # another test has flushed them
        spine.load_theirs()
    found, theirs = domain(guest), spine.rules(ours=False)
    spine.suspend("vps-1002", "T-70").ok()
    before = spine.everything()
    unknown = spine.play("retire", {"node": "kvm9"})
    assert unknown.returncode and "kvm9" in unknown.said
    checked = spine.play("retire", {"node": "kvm1"}, check=True)
    spine.assert_untouched(before)
    done = spine.play("retire", {"node": "kvm1"}, arguments=("--diff",))
    assert_same_plan(checked, done)
    assert_same(found, domain(guest))
    assert spine.light(guest) and guest.tcp_all([(plan.SINK[0], 25), (plan.SINK[1], 25)]) == ["open", "open"]
    # No rules, no files, no process of ours; the rules of others are there.
    assert spine.rules(ours=True) == "" and spine.rules(ours=False) == theirs != ""
    assert not node.path("/var/lib/hosting_aup").exists()
    assert until(lambda: not list(node.path("/run").glob("hosting_aup*")), 3)
    left = [path for place in ("/var/lib", "/etc", "/run", "/var/tmp", "/tmp", "/home/aup", "/root")
            for path in node.path(place).glob("*aup*") if path.name not in ("aup",)]
    assert left == []
    assert not any(b"hosting" in read(entry / "cmdline") for entry in node.path("/proc").iterdir() if entry.name.isdigit())
    again = spine.play("retire", {"node": "kvm1"})
    assert again.returncode and "carries no release" in again.said
    refused = spine.suspend("vps-1001", "T-71")
    assert refused.returncode and "provision" in refused.said
    # It can come back under policy, and what the ledger still has in force is.
    back = spine.play("provision").ok()
    assert back.converged["changed"] and "vps-1002: suspend in force, verified" in back.stdout
    assert guest.state == "paused" and spine.dark(guest)
    spine.lift("vps-1002").ok()
    assert_same(found, domain(guest))
    guest.virsh("autostart", "--disable")
    spine.verify()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
