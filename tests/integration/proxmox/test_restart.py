# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open connections, which outlive a new rule: left, or ended by a restart where the cluster's description says so."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _apply

from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule

from .provider import firewalled, guest, provider, service

VM, CT = 100, 203


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setattr(_apply, "RULES_SECONDS", 0.2)
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    for one in (guest(VM), guest(CT, "lxc")):
        cluster.add(one).started -= 10_000
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(VM), service(CT))}
        made.node["proxmox"]["open_connections"] = "restart"
        assert not made.provision()["errors"]
        assert [one.starts for one in cluster.guests.values()] == [0, 0]  # a control's rules are no reason
        yield made


@pytest.mark.parametrize("vmid", [VM, CT])
def test_once_for_each_new_block_and_never_for_what_is_lifted(house, vmid):
    sid, one, before = f"vps-{vmid}", house.cluster.guests[vmid], house.state()
    done = house.enforce("quarantine", sid)
    assert not done["errors"] and one.starts == 1 and one.running and house.statuses(sid) == ["active"]
    seen = [path.rpartition("/")[2] for _, method, path in house.api.seen if method == "POST" and f"/{vmid}/" in path]
    assert seen.index("rules") < seen.index("shutdown") < seen.index("start")
    assert house.again()["outcome"] == "unchanged"
    one.started -= 10_000
    assert not house.enforce("port_block", sid, case="T-2", ports=[6667])["errors"] and one.starts == 2
    assert house.again()["outcome"] == "unchanged"
    assert not house.lift(sid, case="T-1")["errors"] and not house.enforce("cpu_throttle", sid, case="T-3", share="20%")["errors"]
    assert not house.lift(sid, case="all")["errors"] and one.starts == 2
    assert house.state() == before and house.again()["outcome"] == "unchanged"


def test_left_by_default_and_said(house):
    del house.node["proxmox"]["open_connections"]
    house.provision()
    done = house.enforce("quarantine", "vps-100")
    assert any("outlive" in note for note in done["notes"]) and house.cluster.guests[VM].starts == 0


def test_one_that_is_off_stays_off_and_a_suspension_goes_before(house):
    house.cluster.stop(house.cluster.guests[VM])
    assert not house.enforce("quarantine", "vps-100", "vps-203")["errors"]
    assert not house.cluster.guests[VM].running and house.cluster.guests[CT].starts == 1
    assert not house.enforce("suspend", "vps-203", case="T-2")["errors"] and not house.cluster.guests[CT].running
    assert not house.lift("vps-203", case="all")["errors"] and house.cluster.guests[CT].running


@pytest.mark.parametrize("lifted", [False, True])
def test_what_stopped_half_way_is_started(house, lifted):
    """Not taken for done, and started by the next pass, also if the block is lifted by then."""
    one = house.cluster.guests[VM]
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/100/status/start", times=3, refuse=Refused(500, "start failed")))
    done = house.enforce("quarantine", "vps-100")
    assert done["errors"] and not one.running and house.statuses("vps-100") == ["opened"]
    house.api.rules.clear()
    result = house.lift("vps-100") if lifted else house.again()
    assert not result["errors"] and one.running and one.starts == 1
    assert house.statuses("vps-100") == ([] if lifted else ["active"]) and house.again()["outcome"] == "unchanged"
