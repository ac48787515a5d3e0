# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `test_lives.py` found, each as a small story; and answers of an API that no sane server gives."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold

from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule

from .provider import Provider, firewalled, guest, provider, service

EVERYBODY = ("vps-100", "vps-101", "vps-203")


@pytest.fixture
def house(tmp_path):
    """Two virtual machines on two nodes, one of which takes no change of its NICs while it runs, and a container."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.0, lock_timeout=0.3))
    cluster.add(guest(100))
    cluster.add(guest(101, node="pve2", hotplug="disk,usb"))
    cluster.add(guest(203, "lxc"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100), service(101), service(203, "lxc"))}
        assert not made.provision()["errors"]
        yield made


def codes(result: dict) -> dict[str | None, str]:
    return {error["service"]: error["code"] for error in result["errors"]}


# -- what random lives found -------------------------------------------------------------------------------------------


def test_what_waits_for_a_restart_is_not_in_force(house):
    """With hotplug off a NIC's new rate stands in the configuration alone, and its reading shows it there as if it were so."""
    before, one = house.state(), house.cluster.guests[101]
    done = house.enforce("bandwidth_cap", "vps-100", "vps-101", rate="10 Mbit/s")
    assert codes(done) == {"vps-101": "pending"} and "stopped and started" in done["errors"][0]["message"]
    assert house.statuses("vps-101") == ["opened"] and house.statuses("vps-100") == ["active"]
    assert "rate" in one.pending["net0"] and codes(house.again()) == {"vps-101": "pending"}
    one.apply_pending()  # stopped and started
    assert not house.again()["errors"] and house.statuses("vps-101") == ["active"]
    done = house.lift("vps-100", "vps-101")
    assert not done["errors"] and any("the former net0.rate of guest 101 waits" in note for note in done["notes"])
    assert "rate" not in house.cluster.config(one)["net0"] and house.again()["outcome"] == "unchanged"
    one.apply_pending()
    assert house.state() == before


def test_a_firewall_switch_that_waits_for_a_restart_is_in_the_way(house):
    one = house.cluster.guests[101]
    one.pending["net0"], one.config["net0"] = one.config["net0"], one.config["net0"].replace(",firewall=1", "")
    assert codes(house.enforce("quarantine", "vps-101")) == {"vps-101": "firewall_off"}
    one.apply_pending()
    assert not house.again()["errors"] and house.statuses("vps-101") == ["active"]


def test_a_paused_guest_needs_no_cable(house):
    """Its cable can't be taken while it runs; it is paused, which is what counts."""
    done = house.enforce("suspend", "vps-101")
    assert not done["errors"] and house.cluster.guests[101].paused and house.statuses("vps-101") == ["active"]
    assert any("net0.link_down" in note for note in done["notes"])


def test_the_hash_of_a_retiring_is_that_of_its_check(house):
    run = house.write(lambda tx: tx.start_run("retire"))
    checked = house.converge(run, check=True, absent=True)
    assert house.converge(run, absent=True)["plan_hash"] == checked["plan_hash"]


def test_retiring_is_not_done_while_a_group_of_ours_is_left(house):
    """Its removal isn't heard of, and by then no service has anything of ours any more."""
    rule = Rule("DELETE", "/cluster/firewall/groups/.*", refuse=Refused(596, "Connection timed out"))
    house.api.rules.append(rule)
    done = house.retire()
    assert rule.times == 0 and not done["errors"] and not house.cluster.firewall.cluster.groups


@pytest.mark.parametrize("first", ["/nodes/pve1/qemu/100/firewall/rules", "/cluster/firewall/groups"])
def test_two_controllers_lose_nothing_of_each_other(house, first):
    """The other one acts and is done between what this one read and what it writes on record."""
    before = house.state()
    (house.place / "other").mkdir()
    other = Provider(house.ledger, house.server, house.place / "other")

    def meanwhile():
        other.clock, other.cluster = house.clock, house.cluster
        assert not other.enforce("suspend", "vps-100", case="T-2")["errors"]
    opened = house.write(hold, "cpu_throttle", ["vps-100"], "attack_target", case="T-1", duration="48h", share="20%")
    house.api.rules.append(Rule("GET", first, before=meanwhile))
    assert not house.converge(opened["run_id"])["errors"]
    one = house.cluster.guests[100]
    assert one.paused and one.config["onboot"] == "0" and one.config["cpulimit"] == "0.4"
    assert not house.lift("vps-100", case="all")["errors"] and house.statuses("vps-100") == []
    assert house.state() == before
