# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's list of guests, in which a node's guests are as they were at its last look, and have no name while it is down."""

from __future__ import annotations

import pytest

from tests.proxmox.cluster import Cluster

from .provider import firewalled, guest, maker_token, provider, service
from .test_orders import IMAGES, order, ordered, refuses_port_25, template


@pytest.fixture
def house(tmp_path):
    """The second virtual machine is known by its name alone."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    for one in (template(), template(9001, "lxc"), guest(100), guest(101, node="pve2")):
        cluster.add(one)
    with provider(tmp_path, cluster, grant=maker_token()) as made:
        made.services = {one["id"]: one for one in (service(100), service(101))}
        del made.services["vps-101"]["guest"]["vmid"]
        made.node.update(bridges=["vmbr1"], creation={
            "images": IMAGES, "resolvers": [], "storage": {"fast": {"storage": "local-lvm", "node": "pve1", "overcommit": False}}})
        yield made


def test_a_guest_without_a_name_is_not_gone(house):
    """What was set on it is given back when its node is there again."""
    before = house.state()
    assert not house.provision()["errors"] and house.state() != before
    house.cluster.nodes["pve2"] = "offline"
    assert {error["service"]: error["code"] for error in house.again()["errors"]} in ({}, {"vps-101": "guest_missing"})
    house.cluster.nodes["pve2"] = "online"
    assert not house.retire()["errors"] and house.state() == before


def test_guests_are_made_by_name_before_the_list_shows_them(house):
    house.cluster.resource(house.cluster.guests[100])
    house.cluster.gather = 3600.0  # no node looks any more
    order(house, ordered(None, number=300), ordered(None, "container", number=303))
    done = house.provision()
    assert not done["errors"] and len(done["created"]) == 2, done["errors"]
    for one in [one for one in house.cluster.guests.values() if one.name.startswith("web-")]:
        refuses_port_25(house, one.vmid)
        assert one.running and one.starts == 1 and "name" not in house.cluster.resource(one)
    assert house.provision()["outcome"] == "unchanged" and len(house.cluster.guests) == 6


def test_a_nic_is_not_plugged_anew_of_a_guest_that_was_just_started(house):
    one = house.cluster.guests[100]
    one.config["net0"] = one.config["net0"].replace(",firewall=1", "")
    one.running = False
    house.cluster.resource(one)
    house.cluster.gather = 3600.0
    house.cluster.start(one)
    before = dict(one.config)
    done = house.provision()
    assert [gap["service"] for gap in done["gaps"]] == ["vps-100"] and "replug" in done["gaps"][0]["gap"] and one.config == before
