# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls that a cluster's firewall can express, each on a virtual machine and a container: check, apply, check clean, apply
clean, change; and all given back as it was. What it can't express is said."""

from __future__ import annotations

import time

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox._firewall import MOST_POOL_SETS, MOST_POOLS, pools_by_ports, port_lists
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import record_input
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import exempt
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from hypothesis import given
from hypothesis import strategies as st

from tests.proxmox.cluster import Cluster

from .provider import POLICY, Provider, firewalled, guest, provider, service

VM, CT = 100, 203
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
def cluster():
    made = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    made.add(guest(VM))
    made.add(guest(CT, "lxc", node="pve2"))
    return made


def under(house: Provider, text: str) -> None:
    """Go on under another policy."""
    (house.place / "lab.yml").write_text(text)
    house.policy = load_policy(str(house.place / "lab.yml"))


def refresh(house: Provider, *endpoints: tuple[str, int | None, int], ports: dict | None = None) -> None:
    """Pools as refresh_pools writes them: address, port, first seen."""
    house.write(record_input, "pools", {
        "observe_seconds": 86400, "ports": ports or {},
        "endpoints": [{"address": address, "port": port, "first_seen": seen} for address, port, seen in endpoints]}, 10**9, {"addresses": len(endpoints)})


def group(house: Provider, vmid: int) -> list[dict]:
    """Rules of the one group that a guest's rules refer to."""
    (rule,) = house.cluster.firewall.guests[vmid].rules
    assert rule["type"] == "group" and rule["enable"] == 1
    return house.cluster.firewall.cluster.groups[rule["action"]]["rules"]


def told(rules: list[dict]) -> list[tuple]:
    return [(rule["type"], rule["action"], rule.get("proto"), rule.get("dport")) for rule in rules if rule["enable"] == 1]


def entries(house: Provider, rule: dict) -> set[str]:
    found = house.cluster.firewall.cluster.ipsets[rule["dest"].removeprefix("+dc/")]["entries"]
    return {("!" if entry.get("nomatch") else "") + entry["cidr"] for entry in found}


@pytest.mark.parametrize("control", sorted(SETTINGS))
@pytest.mark.parametrize("vmid", [VM, CT])
def test_each_control_in_five_steps_and_given_back(cluster, tmp_path, control, vmid):
    first, second = SETTINGS[control]
    with provider(tmp_path, cluster, policy(**{control: first})) as house:
        house.services = {f"vps-{vmid}": service(vmid, "lxc" if vmid == CT else "qemu")}
        refresh(house, ("198.51.100.1", 3333, OLD), ports={"nodes": {"tcp": [8333]}})
        found = house.state()
        checked = house.provision(check=True)
        assert checked["changed"] and not checked["errors"] and house.state() == found
        done = house.provision()
        assert done["outcome"] == "changed" and not done["errors"], done["errors"]
        assert done["plan_hash"] == checked["plan_hash"]
        again = house.provision(check=True)
        assert not again["changed"] and not again["errors"] and house.provision()["outcome"] == "unchanged"
        file = house.cluster.firewall.guests[vmid]
        assert (file.options["enable"], file.options["policy_in"], file.options["policy_out"]) == (1, "ACCEPT", "ACCEPT")
        assert bool(file.ipsets) == (control == "anti_spoofing") and bool(file.rules) == (control != "anti_spoofing")
        held = house.state()
        under(house, policy(2, **{control: second}))
        assert house.provision()["outcome"] == "changed" and house.state() != held
        assert house.provision()["outcome"] == "unchanged"
        assert not house.retire()["errors"] and house.state() == found


def test_pools_by_address_and_port_and_what_is_new_or_whole(cluster, tmp_path):
    """A list that changes is changed in its place: no guest's rules are written, nor is anything left over."""
    with provider(tmp_path, cluster, policy(mining=SETTINGS["mining"][0], smtp_outbound=SETTINGS["smtp_outbound"][0])) as house:
        house.services = {f"vps-{vmid}": service(vmid) for vmid in (VM, CT)}
        found, now = house.state(), int(time.time())
        refresh(house, ("198.51.100.1", 3333, OLD), ("198.51.100.2", 3333, OLD), ("198.51.100.1", 14444, OLD),
                ("2001:DB8:9:0:0:0:0:1", 3333, OLD), ("198.51.100.3", None, OLD), ("198.51.100.4", 3333, now),
                ports={"nodes": {"tcp": [8333, 8334, 8335, 30303]}, "farming": {"tcp": [8444]}})
        assert not house.provision()["errors"]
        rules = group(house, VM)
        assert rules == group(house, CT)
        assert told(rules[:4]) == [("out", "REJECT", "tcp", "25")] * 4  # a range each, around the smarthosts
        del rules[:4]
        assert told(rules) == [
            ("out", "REJECT", "tcp", "8333:8335,30303"), ("out", "REJECT", "tcp", "8444"),
            ("out", "REJECT", "tcp", None), ("out", "REJECT", "udp", None),
            ("out", "REJECT", "tcp", "3333"), ("out", "REJECT", "udp", "3333"),
            ("out", "REJECT", "tcp", "3333,14444"), ("out", "REJECT", "udp", "3333,14444")]
        assert [sorted(entries(house, rule)) for rule in rules[3::2]] == [
            ["198.51.100.3"], ["198.51.100.2", "2001:db8:9::1"], ["198.51.100.1"]]
        before = {vmid: file.render() for vmid, file in house.cluster.firewall.guests.items()}
        refresh(house, ("198.51.100.2", 3333, OLD), ("198.51.100.4", 3333, OLD), ("198.51.100.9", 5555, OLD))
        del house.api.seen[:]
        done = house.again()
        assert done["outcome"] == "changed", done["errors"]
        assert not [path for _, method, path in house.api.seen if method != "GET" and path.startswith("/nodes/")]
        rules = group(house, VM)
        assert told(rules)[4:] == [("out", "REJECT", proto, port) for port in ("3333", "5555") for proto in ("tcp", "udp")]
        assert entries(house, rules[4]) == {"198.51.100.2", "198.51.100.4"}
        assert {vmid: file.render() for vmid, file in house.cluster.firewall.guests.items()} == before
        assert house.again()["outcome"] == "unchanged"
        assert not house.retire()["errors"] and house.state() == found


def test_amplifiers_are_refused_their_questions_and_networks_their_discovery_is_left(cluster, tmp_path):
    with provider(tmp_path, cluster, policy(reflection=SETTINGS["reflection"][0])) as house:
        house.services = {f"vps-{VM}": service(VM)}
        done = house.provision()
        rules = group(house, VM)
        assert set(told(rules)) == {("in", "DROP", "udp", "17,19,137,427,520,1900,3283,3702,5353,11211")}
        assert [rule["dest"] for rule in rules] == [
            "0.0.0.0-223.255.255.255", "240.0.0.0-255.255.255.254", "::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        (gap,) = [one["gap"] for one in done["gaps"]]
        assert gap.startswith("reflection in enforce (services: 1): the rates of limited ports")


def test_what_no_rule_can_say_is_a_gap_and_changes_nothing(cluster, tmp_path):
    enforced = "{mode: enforce, clause: house.5, adoption: {mode: enforce}}"
    text = policy(irc_server=enforced, bittorrent=enforced, new_connections=enforced, mining="{mode: observe}")
    with provider(tmp_path, cluster, text) as house:
        house.services = {f"vps-{vmid}": service(vmid) for vmid in (VM, CT)}
        found = house.state()
        done = house.provision()
        assert done["outcome"] == "unchanged" and house.state() == found
        said = [gap["gap"] for gap in done["gaps"]]
        assert [one.partition(" in ")[0] for one in said] == ["bittorrent", "irc_server", "new_connections"]
        assert all("(services: 2)" in one for one in said)
        assert "what a cluster can't do, and does not: mining in observe (services: 2)" in done["notes"]


def test_controls_beside_a_tenants_own_rules_and_an_exemption(cluster, tmp_path):
    """All controls of a guest are one line in its rules, above the tenant's; another guest's may be others."""
    both = {"smtp_outbound": SETTINGS["smtp_outbound"][0], "reflection": SETTINGS["reflection"][0]}
    with provider(tmp_path, cluster, policy(**both)) as house:
        house.services = {f"vps-{vmid}": service(vmid) for vmid in (VM, CT)}
        theirs = {"type": "in", "action": "DROP", "proto": "tcp", "dport": "3306", "enable": 1, "comment": "mine"}
        wall = cluster.firewall.of_guest(CT, "lxc")
        wall.options.update(enable=1, policy_in="DROP")
        wall.rules.append(dict(theirs))
        found = house.state()
        assert not house.provision()["errors"]
        assert [rule["comment"] for rule in wall.rules] == ["hosting.aup smtp_outbound, reflection", "mine"]
        assert wall.options == {"enable": 1, "policy_in": "DROP"}
        opened = house.write(exempt, [f"vps-{CT}"], "smtp_outbound", "a relay", "30d")
        assert not house.converge(opened["run_id"])["errors"]
        assert [rule["comment"] for rule in wall.rules] == ["hosting.aup reflection", "mine"]
        assert told(group(house, VM))[0] == ("out", "REJECT", "tcp", "25")
        assert len(cluster.firewall.cluster.groups) == 2
        assert not house.retire()["errors"] and house.state() == found


PORTS = st.lists(st.integers(1, 65535), max_size=256)


@given(PORTS)
def test_lists_of_ports_are_what_the_server_takes_and_say_the_same(ports):
    seen: list[int] = []
    for text in port_lists(ports):
        assert len(text.replace(":", ",").split(",")) <= 15
        for item in text.split(","):
            first, _, last = item.partition(":")
            seen += range(int(first), int(last or first) + 1)
    assert seen == sorted(set(ports))


@given(st.lists(st.tuples(st.integers(1, 40), st.none() | st.integers(1, 90)), max_size=400))
def test_pools_are_kept_by_their_ports_up_to_a_limit(pairs):
    endpoints = [[f"198.51.100.{number}", port] for number, port in pairs]
    kept, left = pools_by_ports(endpoints)
    wanted: dict[str, set] = {}
    for address, port in endpoints:
        wanted.setdefault(address, set()).add(port)
    found = {address: ports for ports, addresses in kept.items() for address in addresses}
    assert all((ports is None) == (None in wanted[address]) and (ports is None or set(ports) == wanted[address])
               for address, ports in found.items())
    assert len(found) + left == len(wanted) and len(kept) <= MOST_POOL_SETS and (left == 0 or len(kept) == MOST_POOL_SETS)


def test_more_pools_than_the_cluster_is_given():
    whole = [[f"10.{number >> 8}.{number & 255}.1", 3333] for number in range(MOST_POOLS + 5)]
    kept, left = pools_by_ports([*whole, ["192.0.2.1", None]])
    assert left == 6 and kept[None] == ["192.0.2.1"] and len(kept[3333,]) == MOST_POOLS - 1
