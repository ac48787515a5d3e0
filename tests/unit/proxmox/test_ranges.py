# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused everywhere but in some networks, as ranges of addresses, and what the stand-in server takes of those."""
from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall
from tests.proxmox import schema
from tests.proxmox.cluster import Cluster
from tests.proxmox.packets import Packet, verdict

RULE = "POST /cluster/firewall/groups/{group}"
LAST = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


def networks():
    """Of both families and any length, many of them in the corners and beside each other."""
    def one(family, number, length):
        bits = 32 if family == 4 else 128
        address = (ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address)(number % (1 << bits))
        return str(ipaddress.ip_network((address, length % (bits + 1)), strict=False))
    numbers = st.integers(0, (1 << 128) - 1) | st.integers(0, 9) | st.integers(1, 9).map(lambda back: (1 << 128) - back)
    lengths = st.sampled_from([31, 32, 127, 128, 126, 1, 0, 24, 64])
    return st.lists(st.builds(one, st.sampled_from([4, 6]), numbers, lengths), max_size=20)


def ends(text):
    first, dash, last = text.partition("-")
    assert first != last, "a range of one address stands alone"
    return ipaddress.ip_address(first), ipaddress.ip_address(last if dash else first)


@given(networks())
@example([])
@example(["0.0.0.0/0"])
@example(["::/0", "0.0.0.0/32", "255.255.255.255/32"])
@example(["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32"])
def test_an_address_is_in_a_range_if_and_only_if_it_is_in_no_network(spared):
    found = [ends(text) for text in _firewall.everything_but(spared)]
    parsed = [ipaddress.ip_network(text) for text in spared]
    for text, (first, last) in zip(_firewall.everything_but(spared), found):
        assert first.version == last.version and first <= last
        assert text == (str(first) if first == last else "%s-%s" % (first, last))
    for (_, before), (after, _) in itertools.pairwise(found):
        assert (before.version, after.version) == (4, 6) or (before.version == after.version and int(after) > int(before) + 1)
    # The borders of all networks and ranges are where it can be wrong.
    probes = {(4, 0), (4, LAST[4]), (6, 0), (6, LAST[6])}
    for first, last in [*found, *((network[0], network[-1]) for network in parsed)]:
        probes |= {(first.version, int(end) + by) for end in (first, last) for by in (-1, 0, 1) if 0 <= int(end) + by <= LAST[first.version]}
    for family, number in probes:
        address = (ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address)(number)
        assert sum(address.version == first.version and first <= address <= last for first, last in found) == (
            not any(address in network for network in parsed))
    for family in (4, 6):
        count = sum(first.version == family for first, _last in found)
        assert count <= sum(network.version == family for network in ipaddress_collapsed(parsed, family)) + 1


def ipaddress_collapsed(parsed, family):
    return list(ipaddress.collapse_addresses(network for network in parsed if network.version == family))


@given(networks())
def test_the_server_takes_every_range_alone(spared):
    for text in _firewall.everything_but(spared):
        assert schema.errors(RULE, {"group": "g1", "type": "out", "action": "REJECT", "dest": text}) == {}


# parse_address_list of PVE::Firewall, read; what Net::IP says (1.26), run.
@pytest.mark.parametrize(("text", "said"), [
    ("192.0.2.6-192.0.2.5", "invalid IP address: Begin address is greater than End address 192.0.2.6 - 192.0.2.5"),
    ("2001:db8::2-2001:db8::1", (
        "invalid IP address: Begin address is greater than End address "
        "2001:0db8:0000:0000:0000:0000:0000:0002 - 2001:0db8:0000:0000:0000:0000:0000:0001")),
    ("192.0.2.1-2001:db8::1", "invalid IP address: Not a valid IPv4 address 2001:db8::1"),
    ("192.0.2.1-192.0.2.5,192.0.2.9", "you can't use a range in a list"),
    ("192.0.2.9,2001:db8::1", "detected mixed ipv4/ipv6 addresses in address list '192.0.2.9,2001:db8::1'"),
])
def test_what_the_server_refuses(text, said):
    assert schema.errors(RULE, {"group": "g1", "type": "out", "action": "REJECT", "dest": text}) == {
        "dest": "invalid format - %s\n" % said}


def shared_of(smarthosts=(), rescue=()):
    return _firewall.Shared({"smtp": {"smarthosts": list(smarthosts)}, "rescue": list(rescue), "controls": {},
                             "fence": {"ledger": "11111111-2222"}})


SERVICE = {"smtp": {"mode": "enforce", "ports": [25]}, "hold": None, "controls": {}}


@given(networks(), st.sampled_from(["mail", "quarantine"]))
@example(["198.51.100.%d" % number for number in range(0, 60, 2)], "mail")
@example(["2001:db8::%x/128" % number for number in range(0, 60, 2)], "quarantine")
def test_rules_with_ranges_judge_as_the_set_does(spared, what):
    """Under few networks and under many, each address is refused if it is in none of them; nothing of ours accepts."""
    cluster = Cluster(("pve1",))
    cluster.firewall.cluster.options["enable"] = 1
    file = cluster.firewall.of_guest(100, "qemu")
    file.options.update(enable=1, policy_in="ACCEPT")
    shared = shared_of(smarthosts=spared) if what == "mail" else shared_of(rescue=spared)
    service = SERVICE if what == "mail" else dict(SERVICE, smtp={"mode": "off", "ports": []}, hold={"kind": "quarantine"})
    file.rules = _firewall.guest_rules(service, shared)
    for name, rules in shared.groups.items():
        assert all(rule["action"] in ("DROP", "REJECT") and rule["enable"] == 1 for rule in rules)
        cluster.firewall.cluster.groups[name] = {"comment": "", "rules": rules}
    for name, entries in shared.sets.items():
        cluster.firewall.cluster.ipsets[name] = {"comment": "", "entries": entries}
    parsed = [ipaddress.ip_network(text) for text in spared]
    for far in {"192.0.2.200", "2001:db8::1", *(str(end) for network in parsed for end in (network[0], network[-1]))}:
        left = any(ipaddress.ip_address(far) in network for network in parsed)
        assert (verdict(cluster, 100, Packet("out", far)) == "ACCEPT") == left
        if what == "quarantine":
            assert (verdict(cluster, 100, Packet("in", far)) == "ACCEPT") == left


def test_few_networks_are_ranges_and_many_a_set():
    few = ["198.51.100.%d" % number for number in range(0, 2 * _firewall.MOST_RANGES - 4, 2)]
    shared = shared_of([*few, *few])
    (rule,) = _firewall.guest_rules(SERVICE, shared)
    rules = shared.groups[rule["action"]]
    assert not shared.sets and len(rules) == _firewall.MOST_RANGES and all("+" not in one["dest"] for one in rules)
    shared = shared_of([*few, "203.0.113.9"])
    (rule,) = _firewall.guest_rules(SERVICE, shared)
    (one,) = shared.groups[rule["action"]]
    assert one["dest"] == "+dc/" + next(iter(shared.sets)) and one["dest"].startswith("+dc/aup-mail-")
    shared = shared_of()
    (rule,) = _firewall.guest_rules(SERVICE, shared)
    assert not shared.sets and ["dest" in one for one in shared.groups[rule["action"]]] == [False]
