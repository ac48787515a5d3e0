# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each enforcement on a virtual machine and a container: check, apply, check clean, apply clean, what its tenant undoes put
back, change; and all given back as it was."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold

from tests.proxmox.cluster import Cluster

from .provider import firewalled, guest, provider, service

VM, CT = 100, 203
OPTIONS = {
    "suspend": ({}, ("terminate", {})),
    "terminate": ({}, ("cpu_throttle", {"share": "20%"})),
    "quarantine": ({}, ("suspend", {})),
    "bandwidth_cap": ({"rate": "10 Mbit/s"}, ("bandwidth_cap", {"rate": "5 Mbit/s"})),
    "cpu_throttle": ({"share": "20%"}, ("cpu_throttle", {"share": "10%"})),
    "smtp_block": ({"ports": [25, 465]}, ("smtp_block", {"ports": [25, 587]})),
    "port_block": ({"ports": list(range(1000, 1060, 2))}, ("port_block", {"ports": [6667], "protocol": "udp", "direction": "in"})),
}


def undone(house, vmid: int) -> None:
    """What a tenant with rights on his guest can undo."""
    one = house.cluster.guests[vmid]
    if not one.running or one.paused:
        house.cluster.start(one)
    one.config["net0"] = ",".join(part for part in one.config["net0"].split(",") if not part.startswith(("link_down=", "rate=")))
    one.config.update(onboot="1")
    one.config.pop("cpulimit", None)
    house.cluster.firewall.guests[vmid].rules.clear()


@pytest.mark.parametrize("vmid", [VM, CT])
@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_each_in_five_steps_put_back_and_given_back(tmp_path, kind, vmid):
    options, (other, others) = OPTIONS[kind]
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(VM))
    cluster.add(guest(CT, "lxc", node="pve2"))
    with provider(tmp_path, cluster) as house:
        house.services = {f"vps-{one}": service(one) for one in (VM, CT)}
        house.provision()
        before, sid = house.state(), f"vps-{vmid}"

        def enforce(which, case, **given):
            duration = None if which == "terminate" else "48h"
            if which == "terminate":
                house.write(hold, which, [sid], "attack_target", case=case, duration=duration, **given)
                with house.ledger.transaction(actor="another", now=next(house.clock)) as tx:
                    return hold(tx, which, [sid], "attack_target", case=case, duration=duration, **given)["run_id"]
            return house.write(hold, which, [sid], "attack_target", case=case, duration=duration, **given)["run_id"]

        run = enforce(kind, "T-1", **options)
        checked = house.converge(run, check=True)
        assert checked["changed"] and not checked["errors"] and house.state() == before
        done = house.converge(run)
        assert done["outcome"] == "changed" and not done["errors"] and done["plan_hash"] == checked["plan_hash"]
        assert house.statuses(sid) == ["active"]
        held = house.state()
        assert not house.again(check=True)["changed"] and house.again()["outcome"] == "unchanged"
        undone(house, vmid)
        assert house.again()["outcome"] == "changed" and house.statuses(sid) == ["active"]
        assert house.state()["guests"][vmid]["config"] == held["guests"][vmid]["config"] and house.state()["files"] == held["files"]
        assert not house.converge(enforce(other, "T-2", **others))["errors"] and house.state() != held
        assert house.again()["outcome"] == "unchanged"
        other_vmid = CT if vmid == VM else VM
        assert house.state()["guests"][other_vmid] == before["guests"][other_vmid]
        assert not house.lift(sid, case="all")["errors"] and house.statuses(sid) == []
        assert house.again()["outcome"] == "unchanged" and house.provision()["outcome"] in ("changed", "unchanged")
        assert house.state() == before
