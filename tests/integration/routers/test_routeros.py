# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only RouterOS does: no transaction, silence where nothing was found, errors with exit status 0."""
from __future__ import annotations

import re

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from tests.integration.routers.devices.base import OWN
from tests.integration.routers.devices.routeros import RouterOs
from tests.integration.routers.provider import Provider, codes, dedicated
from tests.integration.routers.vendor_lab import HOSTS, TAG, provided, router_of, target_of


@pytest.fixture
def device(tmp_path):
    with RouterOs(tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with provided(device, tmp_path) as made:
        yield made


def test_a_release_that_cannot_be_read_strictly_is_left_alone(device, provider):
    device.version = "7.16.2 (stable)"
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["prerequisite_missing"] and "7.17" in done["errors"][0]["remedy"] and not device.written()


def test_a_removal_that_silently_finds_nothing_is_told_of(device, provider):
    provider.null_route()
    provider.converge()
    provider.lift()
    provider.patience = 0.3
    device.complaints = {"/ip/route/remove .*": ""}
    done = provider.converge()
    assert codes(done) == ["not_removed"] and device.running == {"203.0.113.10/32": [("drop", TAG)]}
    device.complaints = {}
    done = provider.converge()
    assert not done["errors"] and device.running == {}


def test_one_that_was_entered_twice_goes_wholly(device, provider):
    provider.null_route()
    provider.converge()
    device.put("203.0.113.10/32", "drop", TAG)
    provider.lift()
    done = provider.converge()
    assert not done["errors"] and device.running == {}


def test_a_route_of_others_that_appears_between_read_and_write(device, provider):
    """RouterOS takes any number of routes for one destination: theirs stays, is told of, and ours goes as it came."""
    provider.null_route()
    rows = device.rows

    def appearing(menu, properties, where):
        said = rows(menu, properties, where)
        if menu == "/routing/bgp/connection" and "203.0.113.10/32" not in device.running:
            device.put("203.0.113.10/32", "192.0.2.9")  # the last of what is read
        return said

    device.rows = appearing
    done = provider.converge()
    assert device.running["203.0.113.10/32"] == [("192.0.2.9", None), ("drop", TAG)]
    assert any("another route is there as well" in note and "192.0.2.9" in note for note in done["notes"]), done
    provider.lift()
    assert not provider.converge()["errors"] and device.running == {"203.0.113.10/32": [("192.0.2.9", None)]}


def test_a_router_that_restarts_half_way(device, provider):
    """What was entered stays, what was not is entered by the next run."""
    provider.null_route()
    device.cut, device.cuts = ("/ipv6/route/add .*", "before"), 2
    done = provider.converge()
    assert done["state"] == "unknown" and device.running == {"203.0.113.10/32": [("drop", TAG)]}
    assert any(line.startswith("/ipv6/route/add") for line in done["may_have_acted"])
    device.lines.clear()
    assert provider.converge()["state"] == "applied" and device.running == HOSTS
    assert len(device.written()) == 1


def test_its_own_addresses_stay_reachable(device, provider, monkeypatch):
    monkeypatch.setitem(OWN, 4, "203.0.113.10/26")
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["router_address"] and set(device.running) == {"2001:db8:100::10/128"}
    assert "the router's own address 203.0.113.10" in str(done["errors"])


# -- drops: what has an end goes by itself ---------------------------------------------------------------------------------

BAD, GOOD, MINE = ("198.51.100.7", "2001:db8:bad::7"), ("198.51.100.8", "2001:db8:bad::8"), ("203.0.113.10", "2001:db8:100::10")


def dark(device, sources):
    """Whether packets from these to the service are dropped, and back."""
    return [device.dropped(*way) for source, mine in zip(sources, MINE, strict=True) for way in ((source, mine), (mine, source))]


def test_drops_go_by_themselves_and_are_given_back(device, provider):
    held = provider.drop(list(BAD))
    check = provider.converge(check=True)
    assert check["steps"] and not device.written()
    done = provider.converge()
    assert (done["state"], done["errors"], done["plan_hash"]) == ("applied", [], check["plan_hash"]), done
    assert provider.status(held) == "active" and dark(device, BAD) == [True] * 4 and dark(device, GOOD) == [False] * 4
    entry = next(line for line in device.lines if "-in address=198.51.100.7/32" in line)
    assert " timeout=59m" in entry or " timeout=1h" in entry, entry
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    # A second case adds its own; the first stays as it is.
    provider.drop(["198.51.100.8/32"], case="T-2", direction="in")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [True, False, False, False]
    assert not any("198.51.100.7" in line for line in device.written())
    provider.lift(case="T-2")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [False] * 4 and dark(device, BAD) == [True] * 4
    # No controller any more: an hour later nothing is dropped.
    device.clock = 3700
    assert dark(device, BAD) == [False] * 4
    provider.late = 3700
    provider.ask(requests.end_what_is_due)
    assert not provider.converge()["errors"] and provider.status(held) in ("ending", "ended")
    assert device.lists == {4: [], 6: []} and all(len(rows) == 1 for rows in device.raw.values())


def test_a_restart_forgets_entries_and_the_next_run_enters_them_until_the_same_end(device, provider):
    provider.drop(list(BAD))
    provider.converge()
    device.lists = {version: [entry for entry in rows if entry[2] is None] for version, rows in device.lists.items()}
    provider.late = device.clock = 1800
    assert dark(device, BAD) == [False] * 4
    assert provider.converge()["state"] == "applied" and dark(device, BAD) == [True] * 4
    ends = {round((end - device.now()) / 600) for rows in device.lists.values() for _name, _prefix, end, _comment in rows if end}
    assert ends == {6}, "the driver counts by the controller's clock, which was not moved"


@pytest.mark.parametrize("missing", ["jump", "order", "fasttrack"])
def test_where_entries_would_drop_nothing_none_are_made(device, provider, missing):
    if missing == "jump":
        device.raw[6] = []
    elif missing == "order":
        device.raw[4].insert(0, {"chain": "prerouting", "action": "accept", "disabled": "false"})
    else:
        device.fasttrack = True
    provider.patience = 0.3
    provider.drop(list(BAD))
    done = provider.converge()
    assert codes(done) == ["not_applied"] and device.lists == {4: [], 6: []} and not device.written()
    assert ("fasttracks" if missing == "fasttrack" else "jump-target=aup-drops") in str(done["errors"])


def test_what_somebody_changes_in_our_lists_is_mended(device, provider):
    provider.drop(list(BAD))
    provider.converge()
    device.lists[4] = [(name, prefix, None if name.endswith("-in") else end, comment) for name, prefix, end, comment in device.lists[4]]
    device.raw[6][-1]["disabled"] = "true"
    done = provider.converge()
    assert done["state"] == "applied" and dark(device, BAD) == [True] * 4
    assert all(end for name, _prefix, end, _comment in device.lists[4] if name.endswith("-in"))


# -- ports of dedicated servers --------------------------------------------------------------------------------------------

OWN_A, OWN_B, OUT = ("203.0.113.66", "2001:db8:100:a::2"), ("203.0.113.130",), ("198.51.100.9", "2001:db8:9::9")


@pytest.fixture
def servers(device, tmp_path):
    device.ready()
    # The operator's own, which nothing may touch.
    for rows in device.filter.values():
        rows.append(device.made({"chain": "forward", "action": "drop", "src-address-list": "bogons", "comment": "ours, since 2019"}))
    device.lists[4].append(("bogons", "192.168.0.0/16", None, "RFC 1918"))
    device.queues.append(device.made({"name": "office", "target": "203.0.113.192/26", "max-limit": "50M/50M", "parent": "none"}))
    device.pristine = device.on_ports()
    with Provider(tmp_path, target_of(device), router_of(device), [dedicated("srv-a", "ether2", OWN_A, 5), dedicated("srv-bb", "vlan100", OWN_B, 6)]) as made:
        done = made.provision()
        assert done["errors"] == [] and done["outcome"] == "changed", done
        # At first it is only counted.
        assert device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 25) == device.verdict("ether2", "ether1", OWN_B[0], OUT[0]) == "accept"
        made.late = 30 * 86400
        assert made.converge()["state"] == "applied"
        made.patience = 0.3
        device.lines.clear()
        yield made


def ways(device, port="ether2", own=OWN_A, **packet):
    """What becomes of packets from and to a server, IPv4 and IPv6."""
    return [device.verdict(*way, **packet) for mine, other in zip(own, OUT, strict=False) for way in (
        (port, "ether1", mine, other), ("ether1", port, other, mine))]


FREE, SHUT = ["accept"] * 4, ["drop"] * 4


def test_a_router_with_no_servers_is_asked_nothing_of_ports(device, provider):
    provider.null_route()
    assert provider.converge()["state"] == "applied"
    assert not any(word in line for line in device.lines for word in ("detail", "/queue", "/interface", "/ospf", "/vrf"))


def neighbor_is_free(device):
    return ways(device, port="vlan100", own=OWN_B) == ["accept"] * 2


def test_policy_on_ports_and_each_enforcement_in_and_out(device, servers):
    assert servers.converge()["outcome"] == "unchanged" and device.lines and not device.written()
    policy = device.on_ports()
    assert ways(device) == FREE and neighbor_is_free(device)
    # Mail to elsewhere is refused; what is not its own doesn't leave, also as the neighbor's, also not to the router itself.
    assert device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 25) == device.verdict("ether2", "ether1", OWN_A[1], OUT[1], 25) == "reject"
    assert device.verdict("ether2", "ether1", OWN_B[0], OUT[0]) == device.verdict("ether2", "ether1", "2001:db8::7", OUT[1]) == "drop"
    assert device.verdict("ether2", None, OWN_B[0], "203.0.113.65") == "drop"
    assert device.verdict("ether2", None, "fe80::2", "fe80::1") == device.verdict("ether2", None, "0.0.0.0", "255.255.255.255", 67, "udp") == "accept"
    for kind, options, shown in (
            ("suspend", {}, lambda: ways(device) == ways(device, established=True) == SHUT and "drop" == device.verdict(
                "ether2", None, OWN_A[0], "203.0.113.65") == device.verdict(None, "ether2", "203.0.113.65", OWN_A[0])),
            ("port_block", {"ports": "6667", "direction": "in"}, lambda: ways(device) == FREE
             and device.verdict("ether1", "ether2", OUT[0], OWN_A[0], 6667) == device.verdict("ether1", "ether2", OUT[1], OWN_A[1], 6667) == "drop"
             and device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 6667) == "accept"),
            ("port_block", {"ports": ",".join(str(number) for number in range(7000, 7020)), "direction": "out", "protocol": "udp"},
             lambda: device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 7019, "udp") == "drop"
             and device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 7019) == device.verdict("ether1", "ether2", OUT[0], OWN_A[0], 7019, "udp") == "accept"),
            ("smtp_block", {"ports": "25,2525"}, lambda: device.verdict("ether2", "ether1", OWN_A[0], OUT[0], 2525) == "reject"),
            ("bandwidth_cap", {"rate": "10 Mbit/s"}, lambda: (device.rate("ether2"), device.queues[0]["name"]) == ("10000000/10000000", "aup-port-ether2"))):
        held = servers.hold(kind, case="T-" + kind, **options)
        check = servers.converge(check=True)
        assert check["steps"] and device.on_ports() == policy
        device.lines.clear()
        done = servers.converge()
        assert (done["state"], done["errors"]) == ("applied", []) and done["plan_hash"] == check["plan_hash"], done
        assert servers.status(held) == "active" and shown() and neighbor_is_free(device), (kind, device.filter)
        device.lines.clear()
        assert servers.converge()["outcome"] == "unchanged" and not device.written()
        servers.lift("srv-a")
        done = servers.converge()
        assert servers.status(held) == "ended" and device.on_ports() == policy and not done["errors"]
    done = servers.converge(absent=True)
    assert not done["errors"] and device.on_ports() == device.pristine


SUSPENDED = [
    '/ip/firewall/filter/add chain=aup-port-ether2-from action=drop comment="aup:port:ether2:X"',
    '/ip/firewall/filter/add chain=aup-port-ether2-to action=drop comment="aup:port:ether2:X"',
    '/ipv6/firewall/filter/add chain=aup-port-ether2-from action=drop comment="aup:port:ether2:X"',
    '/ipv6/firewall/filter/add chain=aup-port-ether2-to action=drop comment="aup:port:ether2:X"',
    '/ip/firewall/filter/add chain=aup-ports action=jump jump-target=aup-port-ether2-to out-interface=ether2 comment="aup:port:ether2:X"',
    '/ipv6/firewall/filter/add chain=aup-ports action=jump jump-target=aup-port-ether2-to out-interface=ether2 comment="aup:port:ether2:X"',
]


def golden_of(lines):
    return [re.sub(r":[0-9a-f]{8}(?=\")", ":X", line) for line in lines]


def test_what_is_sent_for_a_suspension_and_a_cap_and_what_takes_them_back(device, servers):
    servers.hold("suspend")
    servers.converge()
    assert golden_of(device.written()) == SUSPENDED
    device.lines.clear()
    servers.lift("srv-a")
    servers.converge()
    # The ways in go first.
    removed = golden_of(device.written())
    assert removed == [
        "%s/firewall/filter/remove [find where comment=\"aup:port:ether2:X\"]" % menu for menu in ("/ip", "/ipv6", "/ip", "/ip", "/ipv6", "/ipv6")]
    device.lines.clear()
    first = device.queues[0][".id"]
    servers.hold("bandwidth_cap", rate="10 Mbit/s")
    servers.converge()
    assert golden_of(device.written()) == [
        '/queue/simple/add name=aup-port-ether2 target=ether2 max-limit=10000000/10000000 comment="aup:port:ether2:X" place-before=%s' % first]
    # Another queue that somebody puts before ours takes its packets: ours goes before it again.
    device.queues.insert(0, device.made({"name": "new", "target": "203.0.113.240/28", "max-limit": "1M/1M", "parent": "none"}))
    assert servers.converge()["state"] == "applied" and [row["name"] for row in device.queues] == ["aup-port-ether2", "new", "office"]
    device.queues[0]["max-limit"] = "20M/20M"
    assert servers.converge()["state"] == "applied" and device.rate("ether2") == "10000000/10000000"
    device.queues[0]["max-limit"] = "10M/10M"  # the same rate, as it may be printed
    device.lines.clear()
    assert servers.converge()["outcome"] == "unchanged" and not device.written()


def test_ports_that_are_not_a_servers_are_left_alone(device, servers):
    servers.hold("suspend")
    before = device.on_ports()

    def said_of(said, **named):
        done = servers.converge(**named)
        assert "port_refused" in codes(done) and said in str(done["errors"]), (said, done["errors"])
        assert device.on_ports() == before and not device.written() and ways(device) == FREE

    for menu, row, said in (
            ("/interface/bridge/port", {"interface": "ether2", "bridge": "br0", "disabled": "false"}, "a member of br0 (interface=ether2 bridge=br0)"),
            ("/interface/bonding", {"name": "bond2", "slaves": "ether2,ether3"}, "a member of bond2 (bonding, slaves=ether2,ether3)"),
            ("/interface/vlan", {"name": "vlan7", "interface": "ether2"}, "it is a trunk: vlan7"),
            ("/interface/vrrp", {"name": "vrrp1", "interface": "ether2"}, "it is a trunk: vrrp1"),
            ("/interface/pppoe-server/server", {"service-name": "dsl", "interface": "ether2"}, "it is a trunk: dsl"),
            ("/ip/vrf", {"name": "blue", "interfaces": ["ether2", "ether4"]}, "in the VRF blue"),
            ("/routing/ospf/neighbor", {"address": "203.0.113.80"}, "the OSPF neighbor 203.0.113.80"),
            ("/routing/ospf/neighbor", {"address": "fe80::77%ether2"}, "the OSPF neighbor fe80::77%ether2")):
        device.around[menu].append(row)
        said_of(said)
        device.around[menu].remove(row)
    names = device.around["/interface"]
    device.around["/interface"] = [row for row in names if row["name"] != "ether2"]
    said_of("no interface of this name")
    device.around["/interface"] = [dict(row, type="bridge") if row["name"] == "ether2" else row for row in names]
    said_of("it is a bridge")
    device.around["/interface"] = names
    route = {".id": "*B", "dst-address": "198.51.100.0/24", "gateway": "203.0.113.80", "distance": 1, "routing-table": "main", "disabled": "false",
             "active": "true"}
    for row, said in ((route, "it has a neighbor: 198.51.100.0/24 is reached by 203.0.113.80: 198.51.100.0/24 gateway="),
                      (dict(route, **{"dst-address": "0.0.0.0/0", "gateway": "ether2"}), "it is an uplink: the default route leaves by it: 0.0.0.0/0")):
        device.extra_routes[4] = [row]
        said_of(said)
    device.extra_routes[4] = [dict(route, gateway=OWN_A[0])]  # to a network behind the server: that is no neighbor
    device.defaults[6] = [{"immediate-gw": ["fe80::9%ether1", "fe80::8%ether2"]}]
    said_of("it is an uplink: the default route")
    device.defaults[6] = [{"immediate-gw": "fe80::9%ether1"}]
    assert servers.converge()["state"] == "applied" and ways(device) == SHUT


def test_where_others_let_packets_past_ours_nothing_is_entered_and_the_line_is_shown(device, servers):
    held = servers.hold("suspend")
    before = device.on_ports()
    accept = device.made({"chain": "forward", "action": "accept", "comment": "defconf: established"})
    inside = device.made({"chain": "aup-ports", "action": "accept", "comment": "let me through"})
    jump = device.filter[4][0]
    for change, back, said in (
            (lambda: device.filter[4].insert(0, accept), lambda: device.filter[4].remove(accept),
             'before ours stands chain=forward action=accept comment=defconf: established; add: /ip/firewall/filter/add chain=forward action=jump'),
            (lambda: device.filter[6].remove(device.filter[6][1]), lambda: device.filter[6].insert(1, device.made(
                {"chain": "input", "action": "jump", "jump-target": "aup-ports"})), "add: /ipv6/firewall/filter/add chain=input action=jump"),
            (lambda: jump.update({"src-address": "10.0.0.0/8"}), lambda: jump.pop("src-address"), "is not for every packet: src-address=10.0.0.0/8"),
            (lambda: device.filter[6].append(dict(inside)), lambda: device.filter[6].pop(), "isn't ours lies in our chain: chain=aup-ports action=accept"),
            (lambda: setattr(device, "fasttrack", True), lambda: setattr(device, "fasttrack", False), "fasttracks"),
            (lambda: setattr(device, "switches", ["switch1"]), lambda: setattr(device, "switches", []), "switch switch1 routes past the firewall")):
        change()
        device.lines.clear()
        done = servers.converge()
        assert codes(done) and said in str(done["errors"]), (said, done["errors"])
        assert not device.written() and servers.status(held) == "opened"
        back()
        assert device.on_ports() == before
    # What is none of it: rules that decide nothing, disabled ones, and packets of other chains.
    device.filter[4].insert(0, device.made({"chain": "forward", "action": "passthrough"}))
    device.filter[4].insert(0, dict(accept, disabled="true"))
    assert servers.converge()["state"] == "applied" and ways(device) == SHUT
    # Once in force: what is put before it later is told of, and what is ours stays.
    device.filter[4].insert(0, device.made({"chain": "forward", "action": "accept", "connection-state": "established"}))
    there = device.on_ports()
    done = servers.converge()
    assert codes(done) == ["not_applied"] and "before ours stands chain=forward action=accept" in str(done["errors"]) and device.on_ports() == there
    device.filter[4].pop(0)
    assert not servers.converge()["errors"] and ways(device) == SHUT


@pytest.mark.parametrize(("target", "taken"), [("ether2", True), ("0.0.0.0/0", True), ("203.0.113.64/26", True), ("ether1", True),
                                               ("203.0.113.192/26", False), ("2001:db8:100:a::/64", True)])
def test_a_cap_is_refused_beside_a_queue_that_may_hold_its_traffic(device, servers, target, taken):
    device.queues.append(device.made({"name": "fair", "target": target, "max-limit": "50M/50M", "parent": "none"}))
    before = device.on_ports()
    servers.hold("bandwidth_cap", rate="10 Mbit/s")
    done = servers.converge()
    assert ("name=fair target=%s" % target in str(done["errors"])) == taken == (device.on_ports() == before)
    assert ("port_refused" in codes(done)) == taken and (device.rate("ether2") == "10000000/10000000") != (taken)


def test_damage_is_mended_and_nothing_of_others_is_touched(device, servers):
    servers.hold("suspend")
    servers.converge()
    whole = device.on_ports()

    def ours(version, chain):
        return next(row for row in device.filter[version] if row["chain"] == chain and row.get("comment", "").startswith("aup:port:ether2:"))

    for damage in (
            lambda: device.filter[4].remove(ours(4, "aup-port-ether2-to")),
            lambda: ours(6, "aup-port-ether2-from").update({"src-address": "2001:db8::1/128"}),
            lambda: ours(4, "aup-ports").update({"disabled": "true"}),
            lambda: ours(6, "aup-ports").update({"out-interface": "ether5"}),
            lambda: device.filter[4].append(dict(ours(4, "aup-port-ether2-from"), **{".id": "*FFF"})),
            lambda: device.lists.update({4: [entry for entry in device.lists[4] if entry[1] != OWN_A[0] + "/32"]}),
            lambda: device.lists[6].append(("aup-port-ether2-own", "2001:db8:dead::/48", None, "let me through"))):
        damage()
        damaged = device.on_ports()
        assert damaged != whole
        device.lines.clear()
        done = servers.converge()
        twice = len(damaged[0]) > len(whole[0])
        assert not done["errors"] and (device.on_ports() == whole or twice) and ways(device) == SHUT, (done, device.written())
        assert twice or len(device.written()) <= 2
    servers.lift("srv-a")
    assert not servers.converge()["errors"] and ways(device) == FREE
    assert not servers.converge(absent=True)["errors"] and device.on_ports() == device.pristine


def test_a_line_that_is_refused_takes_its_port_back_and_nothing_else_along(device, servers):
    policy = device.on_ports()
    servers.hold("suspend")
    servers.null_route(case="T-2")
    device.complaints = {r"/ipv6/firewall/filter/add chain=aup-ports .*": "failure: not enough permissions (9)\n"}
    done = servers.converge()
    assert codes(done) == ["not_applied"] and "not enough permissions" in str(done["errors"]) and "was taken back" in str(done["errors"])
    assert device.running == HOSTS and device.on_ports() == policy and ways(device) == FREE
    # What is not to be had back is named.
    device.complaints[r"/ip/firewall/filter/remove .*"] = "failure: busy\n"
    done = servers.converge()
    assert "but this stays done: /ip/firewall/filter/add chain=aup-port" in str(done["errors"]), done["errors"]
    device.complaints = {}
    assert servers.converge()["state"] == "applied" and ways(device) == SHUT


def test_a_line_that_is_taken_and_does_nothing_is_told_of(device, servers):
    servers.hold("suspend")
    device.complaints = {r"/ipv6/firewall/filter/add chain=aup-port-ether2-to .*": ""}
    done = servers.converge()
    assert codes(done) == ["not_applied"] and "1 of its " in str(done["errors"]) and "chain=aup-port-ether2-to" in str(done["errors"])
    assert "taken back" not in str(done["errors"]) and ways(device) == ["drop", "drop", "drop", "accept"]
    device.complaints = {}
    assert servers.converge()["state"] == "applied" and ways(device) == SHUT


def test_cut_at_each_step_the_next_run_goes_on(device, servers):
    policy = device.on_ports()
    for step, line in enumerate(SUSPENDED):
        held = servers.hold("suspend", case="T-%d" % step)
        pattern = re.escape(line).replace(":X", ":[0-9a-f]{8}")
        device.cut, device.cuts = (pattern, "before" if step % 2 else "after"), 2
        done = servers.converge()
        assert done["state"] in ("applied", "unknown"), done
        if done["state"] == "unknown":
            assert any(re.fullmatch(pattern, sent) for sent in done["may_have_acted"])
            assert servers.converge()["state"] == "applied"
        assert ways(device) == SHUT and servers.status(held) == "active" and neighbor_is_free(device)
        # And while it is given back.
        servers.lift("srv-a")
        device.cut, device.cuts, device.lines = (r"/ip(?:v6)?/firewall/filter/remove .*", "before" if step % 2 else "after"), 2, []
        done = servers.converge()
        assert done["state"] in ("applied", "unknown") and not servers.converge()["errors"]
        assert device.on_ports() == policy and servers.status(held) == "ended"


def test_a_change_of_a_held_port_never_opens_it(device, servers):
    servers.hold("suspend")
    servers.hold("port_block", case="T-2", ports="6667", direction="out")
    servers.hold("bandwidth_cap", case="T-3", rate="10 Mbit/s")
    servers.converge()
    seen, filtering = [], device.filtering

    def watched(text, version):
        said = filtering(text, version)
        seen.append((text, ways(device) == SHUT, device.verdict("ether2", "ether1", OWN_B[0], OUT[0])))
        return said

    device.filtering = watched
    servers.lift("srv-a", case="T-2")
    servers.hold("port_block", case="T-4", ports="6697", direction="in")
    servers.hold("bandwidth_cap", case="T-5", rate="5 Mbit/s")
    assert servers.converge()["state"] == "applied" and len(seen) >= 6 and all(entry[1:] == (True, "drop") for entry in seen), seen
    assert device.rate("ether2") == "5000000/5000000"
