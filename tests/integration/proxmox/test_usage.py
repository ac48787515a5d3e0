# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer of a cluster's guests: read in one call, counted once, and the policy's cap carried out there.

What counters do is the stand-in's to say; what a guest's own chatter does to them is seen on any cluster.
"""

from __future__ import annotations

import copy
import itertools
import json
import time

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._usage import read_usage
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_requests import list_usage, meter

from tests.proxmox.cluster import Cluster

from .provider import Provider, firewalled, guest, provider, service

TB = 10**12


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(100, nics=2))
    cluster.add(guest(203, "lxc", node="pve2"))
    cluster.add(guest(104, running=False))
    cluster.add(guest(9000, running=False, template="1"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100, nics=2), service(203, "lxc"), service(104))}
        del made.services["vps-203"]["guest"]["vmid"]  # known by its name
        document = copy.deepcopy(load_policy("alteron").document)
        document.update(name="lab", locations=["main"])
        document["transfer"]["mode"] = "cap"
        made.policy = Policy.from_document(document)
        for one in made.services.values():
            one["plan"] = {"transfer_bytes": 2 * TB}
            one["account_type"] = "personal"
        done = made.provision()
        assert not [error for error in done["errors"] if error["code"] != "firewall_off"], done["errors"]
        yield made


def look(house: Provider, **ages: int) -> dict:
    """One pass of the meter; `age100=…` makes a guest that old by then."""
    now = next(house.clock)
    for name, age in ages.items():
        house.cluster.guests[int(name[3:])].started = time.time() - age
    seen = read_usage(house.client(), now)
    with house.ledger.transaction(actor="timer", now=now) as tx:
        return meter(tx, {"pve": json.loads(json.dumps(seen))}, ["pve"])


def used(house: Provider, sid: str) -> tuple[int, int]:
    with house.ledger.read() as tx:
        (window,) = list_usage(tx, sid)["windows"]
    return window["received"], window["sent"]


def carry(house: Provider, vmid: int, received: int, sent: int) -> None:
    one = house.cluster.guests[vmid]
    one.netin, one.netout = one.netin + received, one.netout + sent


def later(house: Provider, seconds: int) -> None:
    house.clock = itertools.count(next(house.clock) + seconds)


def test_counted_over_restart_and_migration_and_capped(house):
    carry(house, 100, 5 * TB, TB)
    before = len(house.api.seen)
    assert look(house, age100=10_000, age203=5_000)["counted"] == ["vps-100", "vps-203"]
    assert [path for _at, _method, path in house.api.seen[before:]] == ["/cluster/resources"]
    assert used(house, "vps-100") == (0, 0), "what was before the first look is nobody's debt"
    carry(house, 100, 1000, 2000)
    carry(house, 203, 7, 8)
    later(house, 300)
    look(house, age100=10_300, age203=5_300)
    again = look(house, age100=10_301, age203=5_301)
    assert used(house, "vps-100") == (1000, 2000) and used(house, "vps-203") == (7, 8) and not again["problems"]
    # Stopped and started, and then moved: each time from zero, all of it counted, none of it twice.
    later(house, 300)
    machine = house.cluster.guests[100]
    machine.netin, machine.netout = 50, 60
    look(house, age100=20, age203=5_600)
    assert used(house, "vps-100") == (1050, 2060)
    later(house, 7200)
    look(house, age100=7_220, age203=12_800)
    later(house, 300)
    machine.node, machine.netin, machine.netout = "pve2", 5, 6
    look(house, age100=100, age203=13_100)
    assert used(house, "vps-100") == (1055, 2066)
    # Its node is down: nothing is shown, nothing lost.
    house.cluster.nodes["pve2"] = "offline"
    later(house, 300)
    assert "vps-100" not in look(house)["counted"]
    house.cluster.nodes["pve2"] = "online"
    carry(house, 100, 10, 10)
    later(house, 300)
    look(house, age100=700, age203=13_700)
    assert used(house, "vps-100") == (1065, 2076)
    # Above its allowance it is capped over the API.
    carry(house, 100, 0, 3 * TB)
    later(house, 300)
    done = look(house, age100=1000, age203=14_000)
    assert done["nodes"] == ["pve"] and any("bandwidth_cap" in line for line in done["what"]), done["what"]
    assert not house.converge(done["run_id"])["errors"]
    assert all("rate=" in machine.config[name] for name in ("net0", "net1"))


def test_counters_that_go_back_while_a_guest_runs_are_said(house):
    look(house, age100=1000)
    carry(house, 100, 500, 500)
    later(house, 300)
    look(house, age100=1300)
    house.cluster.guests[100].netin = 20
    later(house, 300)
    done = look(house, age100=1600)
    assert any("went back while it ran" in line for line in done["what"]) and used(house, "vps-100") == (500, 500)
    carry(house, 100, 1, 1)
    later(house, 300)
    look(house, age100=1900)
    assert used(house, "vps-100") == (501, 501)


def test_what_guests_carry_by_themselves_is_counted_over_a_restart_and_capped(site):
    """Each speaks as it starts, to learn its network; the second virtual machine may carry a single byte."""
    document = copy.deepcopy(load_policy("alteron").document)
    document.update(name="lab", locations=["main"])
    document["transfer"]["mode"] = "cap"
    site.policy = Policy.from_document(document)
    chatty = site.ids["vm2"]
    for sid, one in site.services.items():
        one["plan"] = {"transfer_bytes": 1 if sid == chatty else 2 * TB}
    site.clock = itertools.count(int(time.time()) - 600)
    assert not site.provision()["errors"]
    limit = time.monotonic() + 120  # the list of guests has counters of a guest some ten seconds after its start

    def metered() -> tuple[dict, set]:
        """One pass of the meter, and who was seen, at the time that it is."""
        now = int(time.time())
        site.clock = itertools.count(now + 1)
        seen = read_usage(site.client(), now)
        with site.ledger.transaction(actor="timer", now=now) as tx:
            return meter(tx, {"pve": json.loads(json.dumps(seen))}, ["pve"]), {one["name"] for one in seen["samples"]}
    while not set(site.services) <= metered()[1]:
        assert time.monotonic() < limit
        time.sleep(0.5)
    site.power(chatty, "stop")
    site.power(chatty, "start")
    while not (done := metered()[0])["nodes"]:
        assert time.monotonic() < limit, done
        time.sleep(0.5)
    assert 0 < sum(used(site, chatty)) < TB and not done["problems"]
    assert any("bandwidth_cap" in line for line in done["what"])
    assert not site.converge(done["run_id"])["errors"] and site.statuses(chatty) == ["active"]
    assert "rate=12.5" not in site.config(chatty)["net0"] and site.statuses(site.ids["vm"]) == []


def test_what_is_not_shown_is_a_gap_and_a_blind_token_an_error(house):
    house.cluster.nodes["pve2"] = "offline"
    seen = read_usage(house.client(), 1)
    assert [one["vmid"] for one in seen["samples"]] == [100] and "guest 203" in seen["gaps"][0]
    house.api.tokens["svc@pve!aup"].acl = {}
    with pytest.raises(AupError, match="sees no guest"):
        read_usage(house.client(), 1)
