# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many calls a run takes, and what it says of that which it didn't read."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client

from tests.proxmox.cluster import Cluster

from .provider import firewalled, guest, provider, service

GUESTS = 8


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    ids = [(100 + number, "lxc" if number % 4 == 3 else "qemu") for number in range(GUESTS)]
    for number, (vmid, kind) in enumerate(ids):
        cluster.add(guest(vmid, kind, node="pve%d" % (1 + number % 2)))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(vmid, kind) for vmid, kind in ids)}
        assert not made.provision()["errors"]
        yield made


class Counted:
    """A client and its calls."""

    def __init__(self, house):
        self.calls: list[tuple[str, str]] = []
        self.client = Client(house.client().target, say=lambda method, path: self.calls.append((method, path)))


def test_an_unchanged_run_reads_four_things_a_guest(house):
    """And what all share: the guests' list, the switch, and each group and set in use, here one of each."""
    counted = Counted(house)
    assert house.again(client=counted.client)["outcome"] == "unchanged"
    assert {method for method, _ in counted.calls} == {"GET"}
    common = [path for _, path in counted.calls if path.startswith("/cluster/")]
    assert len(counted.calls) - len(common) == 4 * GUESTS and len(set(counted.calls)) == len(counted.calls)
    assert len(common) == 4


@pytest.mark.parametrize("vmid", [100, 103])
def test_suspending_one_guest_takes_six_calls(house, vmid):
    sid, counted = f"vps-{vmid}", Counted(house)
    done = house.enforce("suspend", sid, only=[sid], client=counted.client)
    assert not done["errors"] and house.statuses(sid) == ["active"]
    first_wait = next(number for number, (_, path) in enumerate(counted.calls) if "/tasks/" in path)
    assert first_wait <= 6 and [method for method, _ in counted.calls[:first_wait]].count("GET") <= 4
    assert not any("/firewall" in path for _, path in counted.calls)
    assert any("not verified" in note for note in done["notes"])


def test_a_narrowed_run_reads_the_firewall_where_something_stands_on_it(house):
    before = house.state()
    assert not house.enforce("quarantine", "vps-100", only=["vps-100"])["errors"] and house.statuses("vps-100") == ["active"]
    assert not house.enforce("cpu_throttle", "vps-100", case="T-2", share="20%", only=["vps-100"])["errors"]
    lifted = house.lift("vps-100", case="T-1", only=["vps-100"])
    assert not lifted["errors"] and len(house.statuses("vps-100")) == 1
    assert not house.lift("vps-100", case="T-2", only=["vps-100"])["errors"]
    assert not house.provision()["errors"] and house.state() == before  # groups in no use go with the next provision


def test_a_changed_guest_alone_is_read_again(house):
    counted = Counted(house)
    assert not house.enforce("suspend", "vps-100", client=counted.client)["errors"]
    read = [path for method, path in counted.calls if path.endswith("/pending")]
    assert len(read) == GUESTS + 1


def test_a_container_without_a_limit_gets_none_back(house):
    house.cluster.guests[103].config["cpulimit"] = "0"
    assert not house.enforce("cpu_throttle", "vps-103", share="20%")["errors"]
    assert house.cluster.guests[103].config["cpulimit"] == "0.4"
    assert not house.lift("vps-103")["errors"] and "cpulimit" not in house.cluster.guests[103].config
    assert house.again()["outcome"] == "unchanged"
