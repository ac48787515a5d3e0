# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls that a cluster's firewall can express, each on a virtual machine and a container: check, apply, check clean, apply
clean, change; and all given back as it was. What it can't express is said."""

from __future__ import annotations

import time

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import record_input
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import exempt

from .provider import POLICY
from .site import Site

OLD = 1_000_000_000
NAMES = POLICY.replace("  smtp_outbound: {adoption: {mode: enforce}}\n  anti_spoofing: {adoption: {mode: enforce}}\n", "%s").replace(
    'version: "1"', 'version: "%d"')
SETTINGS = {
    "smtp_outbound": ("{mode: enforce, adoption: {mode: enforce}}", "{mode: enforce, options: {ports: [25, 2525]}, adoption: {mode: enforce}}"),
    "anti_spoofing": ("{mode: enforce, adoption: {mode: enforce}}", "{mode: observe}"),
    "mining": ("{mode: enforce, adoption: {mode: enforce}}", "{mode: enforce, options: {activities: [nodes]}, adoption: {mode: enforce}}"),
    "reflection": ("{mode: enforce, adoption: {mode: enforce}}",
                   "{mode: enforce, options: {ports: [19], limited_ports: [53]}, adoption: {mode: enforce}}"),
    "irc_server": ("{mode: enforce, clause: house.5, options: {clients_allowed: false, listeners_refused: true}, adoption: {mode: enforce}}",
                   "{mode: enforce, clause: house.5, options: {listeners_refused: true}, adoption: {mode: enforce}}"),
}


def policy(version: int = 1, **settings: str) -> str:
    """The lab's policy with these controls and no other in force."""
    base = {name: '{mode: "off"}' for name in (*SETTINGS, "bittorrent", "new_connections")}
    base["tor_exit"] = '{mode: "off"}'
    base.update(settings)
    return NAMES % (version, "".join(f"  {name}: {text}\n" for name, text in base.items()))


@pytest.fixture
def house(site):
    """A virtual machine and a container."""
    site.services = {site.ids[who]: site.services[site.ids[who]] for who in ("vm", "ct")}
    return site


def refresh(house: Site, *endpoints: tuple[str, int | None, int], ports: dict | None = None) -> None:
    """Pools as refresh_pools writes them: address, port, first seen."""
    house.write(record_input, "pools", {
        "observe_seconds": 86400, "ports": ports or {},
        "endpoints": [{"address": address, "port": port, "first_seen": seen} for address, port, seen in endpoints]}, 10**9, {"addresses": len(endpoints)})


def group(house: Site, who: str) -> list[dict]:
    """Rules of the one group that a guest's rules refer to."""
    (rule,) = house.rules(house.ids[who])
    assert rule["type"] == "group" and rule["enable"] == 1
    return house.rules(rule["action"])


def told(rules: list[dict]) -> list[tuple]:
    return [(rule["type"], rule["action"], rule.get("proto"), rule.get("dport")) for rule in rules if rule["enable"] == 1]


def entries(house: Site, rule: dict) -> set[str]:
    return set(house.entries("cluster", "firewall", "ipset", rule["dest"].removeprefix("+dc/")))


@pytest.mark.parametrize("control", sorted(SETTINGS))
@pytest.mark.parametrize("who", ["vm", "ct"])
def test_each_control_in_five_steps_and_given_back(house, control, who):
    first, second = SETTINGS[control]
    sid = house.ids[who]
    house.services = {sid: house.services[sid]}
    house.under(policy(**{control: first}))
    refresh(house, ("198.51.100.1", 3333, OLD), ports={"nodes": {"tcp": [8333]}})
    found = house.state()
    checked = house.provision(check=True)
    assert checked["changed"] and not checked["errors"] and house.state() == found
    done = house.provision()
    assert done["outcome"] == "changed" and not done["errors"], done["errors"]
    assert done["plan_hash"] == checked["plan_hash"]
    again = house.provision(check=True)
    assert not again["changed"] and not again["errors"] and house.provision()["outcome"] == "unchanged"
    held = house.state()
    guest = held["guests"][sid]
    assert (guest["options"]["enable"], guest["options"]["policy_in"], guest["options"]["policy_out"]) == ("1", "ACCEPT", "ACCEPT")
    assert bool(guest["sets"]) == (control == "anti_spoofing") and bool(guest["rules"]) == (control != "anti_spoofing")
    house.under(policy(2, **{control: second}))
    assert house.provision()["outcome"] == "changed" and house.state() != held
    assert house.provision()["outcome"] == "unchanged"
    assert not house.retire()["errors"] and house.state() == found


def test_pools_by_address_and_port_and_what_is_new_or_whole(house):
    """A list that changes is changed in its place: no guest's rules are written, nor is anything left over."""
    house.under(policy(mining=SETTINGS["mining"][0], smtp_outbound=SETTINGS["smtp_outbound"][0]))
    found, now = house.state(), int(time.time())
    refresh(house, ("198.51.100.1", 3333, OLD), ("198.51.100.2", 3333, OLD), ("198.51.100.1", 14444, OLD),
            ("2001:DB8:9:0:0:0:0:1", 3333, OLD), ("198.51.100.3", None, OLD), ("198.51.100.4", 3333, now),
            ports={"nodes": {"tcp": [8333, 8334, 8335, 30303]}, "farming": {"tcp": [8444]}})
    assert not house.provision()["errors"]
    rules = group(house, "vm")
    assert rules == group(house, "ct")
    assert told(rules[:4]) == [("out", "REJECT", "tcp", "25")] * 4  # a range each, around the smarthosts
    del rules[:4]
    assert told(rules) == [
        ("out", "REJECT", "tcp", "8333:8335,30303"), ("out", "REJECT", "tcp", "8444"),
        ("out", "REJECT", "tcp", None), ("out", "REJECT", "udp", None),
        ("out", "REJECT", "tcp", "3333"), ("out", "REJECT", "udp", "3333"),
        ("out", "REJECT", "tcp", "3333,14444"), ("out", "REJECT", "udp", "3333,14444")]
    assert [sorted(entries(house, rule)) for rule in rules[3::2]] == [
        ["198.51.100.3"], ["198.51.100.2", "2001:db8:9::1"], ["198.51.100.1"]]
    before, calls = house.state()["guests"], []
    refresh(house, ("198.51.100.2", 3333, OLD), ("198.51.100.4", 3333, OLD), ("198.51.100.9", 5555, OLD))
    done = house.again(client=house.client(say=lambda method, path: calls.append((method, path))))
    assert done["outcome"] == "changed", done["errors"]
    assert not [path for method, path in calls if method != "GET" and path.startswith("/nodes/")]
    rules = group(house, "vm")
    assert told(rules)[4:] == [("out", "REJECT", proto, port) for port in ("3333", "5555") for proto in ("tcp", "udp")]
    assert entries(house, rules[4]) == {"198.51.100.2", "198.51.100.4"}
    assert house.state()["guests"] == before
    assert house.again()["outcome"] == "unchanged"
    assert not house.retire()["errors"] and house.state() == found


def test_amplifiers_are_refused_their_questions_and_networks_their_discovery_is_left(house):
    house.under(policy(reflection=SETTINGS["reflection"][0]))
    del house.services[house.ids["ct"]]
    done = house.provision()
    rules = group(house, "vm")
    assert set(told(rules)) == {("in", "DROP", "udp", "17,19,137,427,520,1900,3283,3702,5353,11211")}
    assert [rule["dest"] for rule in rules] == [
        "0.0.0.0-223.255.255.255", "240.0.0.0-255.255.255.254", "::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    (gap,) = [one["gap"] for one in done["gaps"]]
    assert gap.startswith("reflection in enforce (services: 1): the rates of limited ports")


def test_what_no_rule_can_say_is_a_gap_and_changes_nothing(house):
    enforced = "{mode: enforce, clause: house.5, adoption: {mode: enforce}}"
    house.under(policy(irc_server=enforced, bittorrent=enforced, new_connections=enforced, mining="{mode: observe}"))
    found = house.state()
    done = house.provision()
    assert done["outcome"] == "unchanged" and house.state() == found
    said = [gap["gap"] for gap in done["gaps"]]
    assert [one.partition(" in ")[0] for one in said] == ["bittorrent", "irc_server", "new_connections"]
    assert all("(services: 2)" in one for one in said)
    assert "what a cluster can't do, and does not: mining in observe (services: 2)" in done["notes"]


def test_controls_beside_a_tenants_own_rules_and_an_exemption(house):
    """All controls of a guest are one line in its rules, above the tenant's; another guest's may be others."""
    house.under(policy(smtp_outbound=SETTINGS["smtp_outbound"][0], reflection=SETTINGS["reflection"][0]))
    sid = house.ids["ct"]
    house.wall(sid, enable=1, policy_in="DROP")
    house.add_rule(sid, type="in", action="DROP", proto="tcp", dport="3306", enable=1, comment="mine")
    found = house.state()
    assert not house.provision()["errors"]
    assert [rule["comment"] for rule in house.rules(sid)] == ["hosting.aup smtp_outbound, reflection", "mine"]
    assert house.options(sid) == {"enable": "1", "policy_in": "DROP"}
    opened = house.write(exempt, [sid], "smtp_outbound", "a relay", "30d")
    assert not house.converge(opened["run_id"])["errors"]
    assert [rule["comment"] for rule in house.rules(sid)] == ["hosting.aup reflection", "mine"]
    assert told(group(house, "vm"))[0] == ("out", "REJECT", "tcp", "25")
    assert len(house.shared()["groups"]) == 2
    assert not house.retire()["errors"] and house.state() == found
