# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only VyOS does: its two ways to take a change back, commits that fail or half fail, announcing by FRR below."""
from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _vyos_ports
from tests.integration.routers.devices.vyos import Vyos
from tests.integration.routers.provider import Provider, codes, dedicated
from tests.integration.routers.vendor_lab import HOSTS, TAG, provided, router_of, target_of

@pytest.fixture
def device(tmp_path):
    with Vyos(tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with provided(device, tmp_path) as made:
        yield made


def test_where_it_would_reboot_nothing_is_left_to_a_timer(device, provider):
    device.reload = False
    device.startup = copy.deepcopy(device.running)
    provider.null_route()
    done = provider.converge()
    assert done["state"] == "applied" and device.running == HOSTS == device.startup and not device.pending
    assert "commit" in device.lines and not any(line.startswith("commit-confirm") for line in device.lines)
    assert any("by a reboot" in note for note in done["notes"])


def test_a_router_that_says_reboot_after_all_is_told_no(device, provider):
    provider.null_route()
    said = "\ncommit-confirm will automatically reboot in 2 minutes unless changes\nare confirmed.\n\n\ncommit-confirm canceled\n"
    device.complaints = {"commit-confirm 2": said}
    done = provider.converge()
    assert codes(done) == ["not_applied"] and "y" not in device.lines and device.running == {} and not device.pending


@pytest.mark.parametrize("reload", [True, False])
def test_a_refused_commit_is_undone_and_its_timer_stopped(device, provider, reload):
    device.reload, device.refuses = reload, "Can not use both blackhole and reject for prefix 203.0.113.10/32!"
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["not_applied"] and "both blackhole and reject" in str(done["errors"])
    assert device.running == {} and not device.pending
    device.refuses = None
    assert provider.converge()["state"] == "applied" and device.running == HOSTS


def test_an_edit_of_others_between_read_and_write_is_not_taken_along(device, provider):
    provider.null_route()
    provider.converge()
    provider.lift()
    prefix, edits = "203.0.113.10/32", []
    shown = device.shown

    def edited(running, more):
        # Somebody adds a next hop to our route, right after it was read.
        if running is device.running and "configure" in device.lines and not edits:
            edits.append(device.put(prefix, "192.0.2.9"))
        return shown(running, more)

    device.lines.clear()
    device.shown = edited
    done = provider.converge()
    assert edits and device.running[prefix] == [("192.0.2.9", None)], "theirs stays, ours goes"
    assert "delete protocols static route %s blackhole" % prefix in device.lines and (done["state"], done["errors"]) == ("applied", [])
    # It was noticed within the session, before anything of the first reading was committed.
    first = device.lines.index("delete protocols static route %s blackhole" % prefix)
    assert device.lines[:first].count("configure") == 2 and not any(line.startswith("commit") for line in device.lines[:first])


def test_a_save_that_does_not_keep_is_told_of(device, provider):
    device.complaints = {"save": "OSError: [Errno 28] No space left on device\n"}
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["not_saved"] and "No space left" in str(done["errors"]) and device.running == HOSTS
    device.complaints = {}
    # The next run enters nothing, and saves what a restart would forget.
    device.lines.clear()
    done = provider.converge()
    assert not done["errors"] and not done["steps"] and device.startup == HOSTS


def test_somebody_who_was_quicker_with_his_timer_keeps_it(device, provider):
    provider.null_route()
    device.complaints = {"commit-confirm 2": "Another confirm is pending\n"}
    done = provider.converge()
    assert codes(done) == ["busy"] and done["errors"] and device.running == {} and "confirm" not in device.lines


def test_what_else_is_on_a_route_is_told_of_and_stays(device, provider):
    device.put("203.0.113.10/32", "drop", TAG)
    device.more = ["set protocols static route 203.0.113.10/32 description 'maintenance'"]
    provider.null_route()
    done = provider.converge()
    assert done["state"] == "applied" and any("another route is there as well" in note for note in done["notes"])
    device.more = ["set protocols static route 203.0.113.10/32 blackhole distance '200'"]
    done = provider.converge()
    assert codes(done) == ["route_collision"] and device.running["203.0.113.10/32"] == [("drop", TAG)]


def test_its_own_addresses_stay_reachable(device, provider):
    device.more = device.kept = ["set high-availability vrrp group web address 203.0.113.10/28"]
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["router_address"] and set(device.running) == {"2001:db8:100::10/128"}
    assert "the router's own address 203.0.113.10" in str(done["errors"])


# -- ports of dedicated servers --------------------------------------------------------------------------------------------

OWN = ("203.0.113.66", "2001:db8:100:a::2")
OUT = ("198.51.100.9", "2001:db8:9::9")


@pytest.fixture
def servers(device, tmp_path):
    device.more = ["set " + " ".join(line) for line in _vyos_ports.READY]
    device.kept = list(device.more)
    with Provider(tmp_path, target_of(device), router_of(device), [
            dedicated("srv-a", "eth1", OWN, 5), dedicated("srv-bb", "eth2.100", ("203.0.113.130",), 6)]) as made:
        made.provision()
        # At first it is only counted.
        assert any("action 'continue'" in line for line in device.more) and not any("'drop'" in line for line in device.more)
        assert device.verdict("eth1", "eth0", OWN[0], OUT[0], 25) == device.verdict("eth1", "eth0", "203.0.113.130", OUT[0]) == "accept"
        made.late = 30 * 86400
        assert made.converge()["state"] == "applied"
        device.lines.clear()
        yield made


def ways(device, port="eth1", own=OWN, **packet):
    """What becomes of packets from and to a server, IPv4 and IPv6."""
    return [device.verdict(*way, **packet) for mine, other in zip(own, OUT, strict=False) for way in (
        (port, "eth0", mine, other), ("eth0", port, other, mine))]


def test_policy_on_ports_and_each_enforcement_in_and_out(device, servers):
    assert servers.converge()["outcome"] == "unchanged" and not device.pending and device.kept == device.more
    policy = sorted(device.more)
    pass_all = ["accept"] * 4
    assert ways(device) == pass_all and ways(device, port="eth2.100", own=("203.0.113.130",)) == ["accept"] * 2
    # Mail to elsewhere is refused; what is not its own doesn't leave, also as the neighbor's.
    assert device.verdict("eth1", "eth0", OWN[0], OUT[0], 25) == device.verdict("eth1", "eth0", OWN[1], OUT[1], 25) == "reject"
    assert device.verdict("eth1", "eth0", "203.0.113.130", OUT[0]) == device.verdict("eth1", "eth0", "2001:db8::7", OUT[1]) == "drop"
    for kind, options, shown in (
            ("suspend", {}, lambda: ways(device) == ["drop"] * 4),
            ("port_block", {"ports": "6667", "direction": "in"}, lambda: ways(device) == pass_all and "drop" == device.verdict(
                "eth0", "eth1", OUT[0], OWN[0], 6667)),
            ("smtp_block", {"ports": "25,2525"}, lambda: device.verdict("eth1", "eth0", OWN[0], OUT[0], 2525) == "reject"),
            ("bandwidth_cap", {"rate": "10 Mbit/s"}, lambda: "set qos interface eth1 egress 'aup-eth1-cap'" in device.more
             and "set qos policy limiter aup-eth1-cap default bandwidth '10000000bit'" in device.more)):
        held = servers.hold(kind, case="T-" + kind, **options)
        check = servers.converge(check=True)
        assert check["steps"] and sorted(device.more) == policy
        device.lines.clear()
        done = servers.converge()
        assert (done["state"], done["errors"]) == ("applied", []) and done["plan_hash"] == check["plan_hash"], done
        assert servers.status(held) == "active" and shown(), (kind, device.more)
        assert sum(line.startswith("commit-confirm") for line in device.lines) == 1 and device.kept == device.more
        assert ways(device, port="eth2.100", own=("203.0.113.130",)) == ["accept"] * 2
        servers.lift("srv-a")
        done = servers.converge()
        assert servers.status(held) == "ended" and sorted(device.more) == policy and not done["errors"]
    done = servers.converge(absent=True)
    assert not done["errors"] and sorted(device.more) == sorted("set " + " ".join(line) for line in _vyos_ports.READY)


def test_ports_that_are_not_a_servers_are_left_alone(device, servers):
    servers.converge()
    servers.hold("suspend")
    ready = list(device.more)
    for lines, said in (
            (["set interfaces bridge br0 member interface eth1"], "a member of br0"),
            (["set interfaces ethernet eth1 vif 7 address '192.0.2.65/30'"], "it is a trunk"),
            (["set interfaces ethernet eth1 vrf 'blue'"], "in a VRF"),
            (["set protocols ospf interface eth1 cost '1'"], "a routing protocol"),
            (["set qos interface eth1 egress 'FS'"], "has a QoS policy already (FS)"),
            (["set protocols bgp neighbor 203.0.113.80 remote-as '64999'"], "the BGP peer 203.0.113.80"),
            (["set firewall global-options state-policy established action 'accept'"], "before any rule"),
            (["set firewall ipv6 forward filter rule 1 state 'new'"], "does more than jump")):
        device.more = [*ready, *lines]
        done = servers.converge()
        assert "port_refused" in codes(done) and said in str(done["errors"]), (said, done["errors"])
        assert device.more == [*ready, *lines]
    device.more = [line for line in ready if "forward filter" not in line]
    done = servers.converge()
    assert "set firewall ipv4 forward filter rule 1 jump-target aup-ports" in str(done["errors"])
    device.more = ready
    device.put("198.51.100.0/24", "203.0.113.80")
    device.hops = {"198.51.100.0/24": "eth1"}
    assert "it has a neighbor: 198.51.100.0/24" in str(servers.converge()["errors"])
    device.running.clear()
    assert servers.converge()["state"] == "applied" and ways(device) == ["drop"] * 4


def test_what_somebody_changes_in_our_rules_is_mended_and_a_lost_confirmation_taken_back(device, servers):
    servers.converge()
    servers.hold("suspend")
    before = sorted(device.more)
    device.cut, device.cuts = ("confirm", "before"), 2
    done = servers.converge()
    assert done["state"] == "unknown" and ways(device) == ["drop"] * 4
    device.expire()
    assert sorted(device.more) == before
    assert servers.converge()["state"] == "applied" and ways(device) == ["drop"] * 4
    device.more = [line for line in device.more if "name aup-eth1-to rule" not in line]
    assert ways(device) == ["drop", "accept"] * 2
    assert servers.converge()["state"] == "applied" and ways(device) == ["drop"] * 4


def test_a_line_of_a_port_that_is_refused_takes_no_route_along(device, servers):
    servers.converge()
    policy = sorted(device.more)
    servers.hold("suspend")
    servers.null_route(case="T-2")
    device.complaints = {"set firewall ipv6 name aup-eth1-to .*": "\n  Configuration path: [firewall] is not valid\n  Set failed\n\n"}
    done = servers.converge()
    assert codes(done) == ["not_applied"] and device.running == HOSTS and sorted(device.more) == policy


# -- drops -----------------------------------------------------------------------------------------------------------------

BAD, GOOD, MINE = ("198.51.100.7", "2001:db8:bad::7"), ("198.51.100.8", "2001:db8:bad::8"), ("203.0.113.10", "2001:db8:100::10")


def dark(device, sources):
    """Whether packets from these to the service are dropped, and back."""
    return [device.verdict("eth0", "eth5", *way) == "drop" for source, mine in zip(sources, MINE, strict=True)
            for way in ((source, mine), (mine, source))]


def test_drops_of_two_cases_in_and_out(device, provider):
    device.more = device.kept = ["set " + " ".join(line) for line in _vyos_ports.READY]
    ready = sorted(device.more)
    held = provider.drop(list(BAD))
    check = provider.converge(check=True)
    assert check["steps"] and sorted(device.more) == ready
    done = provider.converge()
    assert (done["state"], done["errors"], done["plan_hash"]) == ("applied", [], check["plan_hash"]), done
    assert provider.status(held) == "active" and dark(device, BAD) == [True] * 4 and dark(device, GOOD) == [False] * 4
    assert device.kept == device.more
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    provider.drop(["198.51.100.8/32"], case="T-2", direction="in")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [True, False, False, False]
    assert not any("198.51.100.7" in line for line in device.written())
    provider.lift(case="T-2")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [False] * 4 and dark(device, BAD) == [True] * 4
    device.more = [line for line in device.more if "action 'drop'" not in line]
    assert provider.converge()["state"] == "applied" and dark(device, BAD) == [True] * 4
    provider.lift()
    assert not provider.converge()["errors"] and sorted(device.more) == ready


def test_drops_that_no_packet_would_come_by_are_refused_and_routes_are_not(device, provider):
    provider.patience = 0.3
    provider.drop(list(BAD))
    provider.null_route(case="T-2")
    done = provider.converge()
    assert codes(done) == ["not_applied"] and "firewall isn't prepared" in str(done["errors"])
    assert device.running == HOSTS and not device.more
