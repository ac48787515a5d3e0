# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests that all tests of a cluster use, as they were made by order: with their rules, and left to the customer in the end."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall

from .site import GUESTS


@pytest.mark.parametrize("who", sorted(GUESTS))
def test_a_guest_is_made_with_its_rules(site, told, who):
    sid = site.ids[who]
    assert sorted(told.checked["creating"]) == sorted(told.done["created"]) == sorted(site.catalogue) and not told.checked_made
    seen, service = told.state["guests"][sid], site.services[sid]
    assert seen["power"] == "running" and seen["options"]["enable"] == "1" and not seen["pending"]
    first = seen["rules"][0]
    rules = told.state["cluster"]["groups"][first["action"]]
    assert (first["type"], first["enable"]) == ("group", 1) and rules
    assert {(rule["action"], rule["dport"], rule["enable"]) for rule in rules} == {("REJECT", "25", 1)}
    assert seen["sets"] == {f"ipfilter-net{number}": sorted([*nic["addresses"], "fe80::/10"])
                            for number, nic in enumerate(service["nics"])}
    rate = {"vm": "rate=4.768371582", "vm2": "rate=12.5", "ct": "rate=9.536743164"}[who]  # shared by the NICs
    for number, nic in enumerate(service["nics"]):
        net = seen["config"][f"net{number}"]
        assert "firewall=1" in net and rate in net and "bridge=" + site.bridge in net and nic["mac"] in net.lower()
    assert seen["config"]["onboot"] == "1" and sid in seen["config"]["description"]


def test_a_second_run_found_nothing_to_do(site, told):
    assert not told.checked_again["changed"] and not told.checked_again["errors"] and told.again["outcome"] == "unchanged"


def test_retire_took_the_rules_and_left_the_guests(site, told):
    assert not told.retired["errors"]
    now = site.state()
    assert not now["cluster"]["groups"] and not now["cluster"]["sets"]
    for seen in now["guests"].values():
        assert seen["power"] == "running" and not seen["sets"] and not any(_firewall.ours(rule) for rule in seen["rules"])
        assert seen["options"].get("enable", "0") == "0"


def test_what_is_not_of_the_tests_is_left_alone(site):
    """Others' guests, and the rules of the cluster, around all that a run does; ten of them, or on a large cluster it took long."""
    others = [row for row in site.rows() if int(row["vmid"]) not in site.numbers.values() and row["status"] != "unknown"][:10]

    def seen() -> list:
        found = []
        for row in others:
            place = "nodes", row["node"], row["type"], row["vmid"]
            found += [site.api.get(*place, "pending"), [rule for rule in site.api.get(*place, "firewall", "rules")],
                      site.api.get(*place, "firewall", "options"), site.api.get(*place, "firewall", "ipset")]
            found.append({key: site.api.get(*place, "status", "current").get(key) for key in ("status", "qmpstatus", "pid", "tags")})
        wall = "cluster", "firewall"
        return [*found, site.api.get(*wall, "options"), site.api.get(*wall, "rules"), site.api.get(*wall, "groups"),
                site.api.get(*wall, "ipset"), site.api.get(*wall, "aliases")]
    before = seen()
    assert others and not site.provision()["errors"]
    assert not site.enforce("suspend", site.ids["vm"])["errors"] and not site.enforce("quarantine", site.ids["ct"])["errors"]
    assert not site.lift(site.ids["vm"], site.ids["ct"])["errors"] and not site.retire()["errors"]
    assert seen() == before
