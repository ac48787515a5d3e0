# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls and enforcements on a cluster: check, apply, check clean, apply clean, change; and all given back as it was."""

from __future__ import annotations

import pytest

def test_provision_in_five_steps(site):
    before = site.state()
    checked = site.provision(check=True)
    assert checked["changed"] and not checked["errors"] and site.state() == before
    done = site.provision()
    assert not done["errors"] and done["outcome"] == "changed"
    assert [step["why"] for step in done["steps"]] == [step["why"] for step in checked["steps"]]
    again = site.provision(check=True)
    assert not again["changed"] and not again["errors"]
    assert site.provision()["outcome"] == "unchanged"
    held = site.state()
    for sid, guest in held["guests"].items():
        assert (guest["options"]["enable"], guest["options"]["policy_in"], guest["options"]["policy_out"]) == ("1", "ACCEPT", "ACCEPT")
        (rule,) = guest["rules"]
        assert rule["type"] == "group" and rule["enable"] == 1
        group = held["cluster"]["groups"][rule["action"]]
        assert {(one["type"], one["action"], one["dport"], one["enable"]) for one in group} == {("out", "REJECT", "25", 1)}
        assert guest["sets"] == {f"ipfilter-net{number}": sorted([*nic["addresses"], "fe80::/10"])
                                 for number, nic in enumerate(site.services[sid]["nics"])}
    # All but the smarthosts, 192.0.2.200 and 2001:db8:1::200.
    assert [one["dest"] for one in group] == [
        "0.0.0.0-192.0.2.199", "192.0.2.201-255.255.255.255", "::-2001:db8:1::1ff",
        "2001:db8:1::201-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    assert held["cluster"]["sets"].keys() == before["cluster"]["sets"].keys()


def test_retire_leaves_the_cluster_as_found(site):
    before = site.state()
    site.provision()
    gone = site.retire()
    assert not gone["errors"], gone["errors"]
    assert site.state() == before


@pytest.mark.parametrize("who", ["vm", "vm2", "ct"])
def test_suspend_and_lift(site, who):
    """A VM is paused, a container stopped, both with their network down, and given back exactly."""
    site.provision()
    before, sid = site.state(), site.ids[who]
    done = site.enforce("suspend", sid)
    assert not done["errors"], done["errors"]
    one = site.guest(sid)
    assert one["power"] == ("stopped" if who == "ct" else "paused")
    assert one["config"].get("onboot", "0") == "0" and all("link_down=1" in v for k, v in one["config"].items() if k.startswith("net"))
    assert "aup-suspended" in one["config"]["tags"] and site.statuses(sid) == ["active"]
    assert site.again()["outcome"] == "unchanged"
    lifted = site.lift(sid)
    assert not lifted["errors"], lifted["errors"]
    assert site.statuses(sid) == []
    assert site.state() == before
    assert site.again()["outcome"] == "unchanged"


def test_bandwidth_cap_is_shared_and_keeps_the_plan(site):
    site.provision()
    before, both = site.state(), (site.ids["vm"], site.ids["vm2"])
    assert not site.enforce("bandwidth_cap", *both, rate="10 Mbit/s")["errors"]
    nets = {sid: [v for k, v in sorted(site.config(sid).items()) if k.startswith("net")] for sid in both}
    assert ["rate=0.5960464477" in text for text in nets[both[0]]] == [True, True]
    assert "rate=1.1920928955" in nets[both[1]][0] and "queues=4" in nets[both[1]][0]
    assert site.statuses(both[0]) == site.statuses(both[1]) == ["active"]
    assert not site.lift(*both)["errors"]
    assert site.state() == before


def test_cpu_throttle(site):
    site.provision()
    before = site.state()
    assert not site.enforce("cpu_throttle", *site.services, share="20%")["errors"]
    assert [site.config(sid)["cpulimit"] for sid in site.services] == ["0.4", "0.4", "0.4"]
    assert not site.lift(*site.services)["errors"]
    assert site.state() == before


def test_quarantine_smtp_block_and_port_block(site):
    site.provision()
    before, sid = site.state(), site.ids["vm"]
    assert not site.enforce("quarantine", sid, case="T-1")["errors"]
    assert not site.enforce("smtp_block", sid, case="T-2", ports=[25, 465, 587])["errors"]
    assert not site.enforce("port_block", sid, case="T-3", ports=[6667], protocol="tcp", direction="out")["errors"]
    first, second, third = site.rules(sid)
    assert first["action"].startswith("aup-quar") and (second["action"], second["dport"]) == ("DROP", "6667")
    assert site.rules(third["action"])[0]["dport"] == "25,465,587"
    assert site.statuses(sid) == ["active"] * 3
    assert not site.lift(sid, case="all")["errors"]
    assert site.state() == before


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_capped_throttled_and_cut_off_at_once(site, who):
    site.provision()
    before, sid = site.state(), site.ids[who]
    assert not site.enforce("bandwidth_cap", sid, case="A-1", rate="10 Mbit/s")["errors"]
    assert not site.enforce("cpu_throttle", sid, case="A-2", share="20%")["errors"]
    assert not site.enforce("quarantine", sid, case="A-3")["errors"]
    held = site.guest(sid)
    rate = "rate=0.5960464477" if who == "vm" else "rate=1.1920928955"
    assert rate in held["config"]["net0"] and held["config"]["cpulimit"] == "0.4" and held["rules"][0]["action"].startswith("aup-quar")
    assert not site.lift(sid, case="all")["errors"] and site.state() == before


def test_a_tenant_who_takes_rules_away_gets_them_back(site):
    site.provision()
    before = site.state()
    site.drop_rules(site.ids["vm"])
    done = site.again()
    assert done["outcome"] == "changed" and not done["errors"] and site.state() == before
