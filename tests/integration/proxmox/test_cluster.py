# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls and enforcements on a cluster: check, apply, check clean, apply clean, change; and all given back as it was."""

from __future__ import annotations

import pytest

from tests.proxmox.cluster import Cluster

from .provider import Provider, firewalled, guest, provider, service

SMTP = {"type": "group", "enable": 1}


@pytest.fixture
def house(tmp_path):
    """Two virtual machines and a container, each with its port 25 open so far."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(100, nics=2))
    cluster.add(guest(101, node="pve2", cpulimit="1", net0="virtio=BC:24:11:00:00:65,bridge=vmbr0,firewall=1,queues=4,rate=12.5"))
    cluster.add(guest(203, "lxc"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100, nics=2), service(101), service(203, "lxc"))}
        yield made


def rules(house: Provider, vmid: int) -> list[dict]:
    return house.cluster.firewall.guests[vmid].rules


def test_provision_in_five_steps(house):
    before = house.state()
    checked = house.provision(check=True)
    assert checked["changed"] and not checked["errors"] and house.state() == before
    done = house.provision()
    assert not done["errors"] and done["outcome"] == "changed"
    assert [step["why"] for step in done["steps"]] == [step["why"] for step in checked["steps"]]
    again = house.provision(check=True)
    assert not again["changed"] and not again["errors"]
    assert house.provision()["outcome"] == "unchanged"
    for vmid in (100, 101, 203):
        file = house.cluster.firewall.guests[vmid]
        assert file.options["enable"] == 1 and file.options["policy_in"] == file.options["policy_out"] == "ACCEPT"
        (rule,) = file.rules
        assert rule["type"] == "group" and rule["enable"] == 1
        group = house.cluster.firewall.cluster.groups[rule["action"]]["rules"]
        assert [(one["type"], one["action"], one["dport"], one["enable"]) for one in group] == [("out", "REJECT", "25", 1)]
    opened = house.cluster.firewall.cluster.ipsets[group[0]["dest"].rpartition("/")[2]]["entries"]
    assert {e["cidr"] for e in opened if e.get("nomatch")} == {"192.0.2.200", "2001:db8:1::200"}
    assert set(house.cluster.firewall.guests[100].ipsets) == {"ipfilter-net0", "ipfilter-net1"}
    assert {e["cidr"] for e in house.cluster.firewall.guests[101].ipsets["ipfilter-net0"]["entries"]} == {
        "192.0.2.11", "2001:db8:1::101", "fe80::/10"}


def test_retire_leaves_the_cluster_as_found(house):
    before = house.state()
    house.provision()
    gone = house.retire()
    assert not gone["errors"], gone["errors"]
    assert house.state() == before


@pytest.mark.parametrize("vmid", [100, 101, 203])
def test_suspend_and_lift(house, vmid):
    """A VM is paused, a container stopped, both with their network down, and given back exactly."""
    house.provision()
    before, sid = house.state(), f"vps-{vmid}"
    done = house.enforce("suspend", sid)
    assert not done["errors"], done["errors"]
    one = house.cluster.guests[vmid]
    assert one.paused if vmid < 203 else not one.running
    assert one.config["onboot"] == "0" and all("link_down=1" in v for k, v in one.config.items() if k.startswith("net"))
    assert house.statuses(sid) == ["active"]
    assert house.again()["outcome"] == "unchanged"
    lifted = house.lift(sid)
    assert not lifted["errors"], lifted["errors"]
    assert house.statuses(sid) == []
    assert house.state() == before
    assert house.again()["outcome"] == "unchanged"


def test_bandwidth_cap_is_shared_and_keeps_the_plan(house):
    house.provision()
    before = house.state()
    assert not house.enforce("bandwidth_cap", "vps-100", "vps-101", rate="10 Mbit/s")["errors"]
    nets = {vmid: [v for k, v in sorted(house.cluster.guests[vmid].config.items()) if k.startswith("net")] for vmid in (100, 101)}
    assert ["rate=0.5960464477" in text for text in nets[100]] == [True, True]
    assert "rate=1.1920928955" in nets[101][0] and "queues=4" in nets[101][0]
    assert house.statuses("vps-100") == house.statuses("vps-101") == ["active"]
    assert not house.lift("vps-100", "vps-101")["errors"]
    assert house.state() == before


def test_cpu_throttle(house):
    house.provision()
    before = house.state()
    assert not house.enforce("cpu_throttle", "vps-100", "vps-101", "vps-203", share="20%")["errors"]
    assert [house.cluster.guests[vmid].config["cpulimit"] for vmid in (100, 101, 203)] == ["0.4", "0.4", "0.4"]
    assert not house.lift("vps-100", "vps-101", "vps-203")["errors"]
    assert house.state() == before


def test_quarantine_smtp_block_and_port_block(house):
    house.provision()
    before = house.state()
    assert not house.enforce("quarantine", "vps-100", case="T-1")["errors"]
    assert not house.enforce("smtp_block", "vps-100", case="T-2", ports=[25, 465, 587])["errors"]
    assert not house.enforce("port_block", "vps-100", case="T-3", ports=[6667], protocol="tcp", direction="out")["errors"]
    first, second, third = rules(house, 100)
    assert first["action"].startswith("aup-quar") and (second["action"], second["dport"]) == ("DROP", "6667")
    assert house.cluster.firewall.cluster.groups[third["action"]]["rules"][0]["dport"] == "25,465,587"
    assert house.statuses("vps-100") == ["active"] * 3
    assert not house.lift("vps-100", case="all")["errors"]
    assert house.state() == before
