# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose rules spare networks by sets comes to rules with ranges, closed at every moment on the way, and back again
where the networks become many."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

from tests.proxmox.cluster import Cluster
from tests.proxmox.packets import Packet, verdict
from tests.proxmox.server import Rule

from .provider import POLICY, firewalled, guest, provider, service

HELD, FREE = 100, 203
FAR, RELAYS, RESCUE = ("198.51.100.25", "2001:db8:9::25"), ("192.0.2.200", "2001:db8:1::200"), ("203.0.113.7", "2001:db8:aa::7")


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(HELD))
    cluster.add(guest(FREE, "lxc", node="pve2"))
    with provider(tmp_path, cluster) as made:
        made.services = {f"vps-{vmid}": service(vmid) for vmid in (HELD, FREE)}
        yield made


def judge(house):
    """Refused is what has to be, and nothing that has to be open."""
    for far in FAR:
        assert verdict(house.cluster, FREE, Packet("out", far)) == "REJECT"
        assert verdict(house.cluster, FREE, Packet("out", far, port=443)) == verdict(house.cluster, FREE, Packet("in", far)) == "ACCEPT"
        for direction in ("in", "out"):
            assert verdict(house.cluster, HELD, Packet(direction, far, port=443)) == "DROP"
    for far in RELAYS:
        assert verdict(house.cluster, FREE, Packet("out", far)) == "ACCEPT"
    for far in RESCUE:
        for direction in ("in", "out"):
            assert verdict(house.cluster, HELD, Packet(direction, far, port=443)) == "ACCEPT"


def watched(house, run):
    """A run with its outcome, and how many writes were judged before they were carried out."""
    seen = []
    rules = [Rule(method, ".*", times=-1, before=lambda: seen.append(judge(house))) for method in ("POST", "PUT", "DELETE")]
    house.api.rules += rules
    done = run()
    house.api.rules[:] = [one for one in house.api.rules if one not in rules]
    judge(house)
    assert not done["errors"], done["errors"]
    return done["outcome"], len(seen)


def test_from_sets_to_ranges_without_an_open_moment(house, monkeypatch):
    found, wall = house.state(), house.cluster.firewall.cluster
    with monkeypatch.context() as patch:
        patch.setattr(_firewall, "MOST_RANGES", 0)
        assert not house.provision()["errors"] and not house.enforce("quarantine", f"vps-{HELD}")["errors"]
        judge(house)
        sets = sorted(wall.ipsets)
        assert [name[:9] for name in sets] == ["aup-mail-", "aup-resc-"] and house.again()["outcome"] == "unchanged"
    outcome, writes = watched(house, house.again)
    assert outcome == "changed" and writes and not wall.ipsets
    assert {rule["comment"] for rules in wall.groups.values() for rule in rules["rules"]} == {
        "hosting.aup smtp_outbound", "hosting.aup quarantine"}
    assert len(wall.groups) == 2 and house.again()["outcome"] == "unchanged"
    # The set is what many networks still need, and it is there before a rule names it.
    many = ", ".join(f"192.0.2.{number}" for number in range(200, 240, 2))
    (house.place / "lab.yml").write_text(POLICY.replace('version: "1"', 'version: "2"').replace(
        'smarthosts: [192.0.2.200,', f"smarthosts: [{many},"))
    house.policy = load_policy(str(house.place / "lab.yml"))
    outcome, writes = watched(house, house.provision)
    assert outcome == "changed" and writes and [name[:9] for name in wall.ipsets] == ["aup-mail-"]
    assert verdict(house.cluster, FREE, Packet("out", "192.0.2.238")) == "ACCEPT"
    assert house.again()["outcome"] == "unchanged"
    assert not house.lift(f"vps-{HELD}")["errors"] and not house.retire()["errors"] and house.state() == found


def test_who_empties_or_deletes_what_is_there_opens_nothing_but_the_group(house):
    """A rule with ranges needs no set. What is left to be opened from outside is the group, and the next run puts it back."""
    assert not house.provision()["errors"] and not house.enforce("quarantine", f"vps-{HELD}")["errors"]
    wall = house.cluster.firewall.cluster
    wall.ipsets.clear()
    judge(house)
    held = house.state()
    for group in wall.groups.values():
        group["rules"].clear()
    assert verdict(house.cluster, FREE, Packet("out", FAR[0])) == "ACCEPT"
    assert house.again()["outcome"] == "changed" and house.state() == held
    judge(house)
