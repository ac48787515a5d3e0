# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scans, floods and bursts of mail with real packets, and busy guests that do none of it."""
from __future__ import annotations

import pytest
from frames import ACK, FIN, FRAGMENT, PUSH, RST, SYN, TCP, UDP, fragment_header, tcp, udp
from traffic_lab import arrived, counted, frame, judge, marker

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

LIMITS = {"per_minute": 60, "destinations_per_minute": 20, "mail_per_minute": 10}
ICMP, ICMP6 = 1, 58


def others(guest, version, count, first=1):
    """Addresses behind the far side's wire, one after the other."""
    if version == 4:
        return [("203.0.113.2" if guest == "r" else "192.0.2.200")] if count == 1 else [
            "198.51.100.%d" % number for number in range(first, first + count)]
    return ["2001:db8:5::%x" % number for number in range(first, first + count)]


@pytest.fixture
def roads(traffic):
    """Routes to the addresses that are scanned, for the routed guest."""
    traffic.host.ip("route replace 198.51.100.0/24 via 203.0.113.2", "route replace 2001:db8:5::/64 via 2001:db8:f::2")
    yield traffic
    traffic.host.ip("route del 198.51.100.0/24", "route del 2001:db8:5::/64")


def scan(traffic, guest, version, count, make, protocol=TCP, first=1, **more):
    """How many of as many new destinations are reached."""
    found = marker()
    return arrived(traffic, guest, [frame(traffic, guest, make(found), protocol, version, target=target, **more)
                                for target in others(guest, version, count, first)], found)


@pytest.mark.parametrize("guest", ["a", "r"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_scan_of_many_ends_at_the_limit(roads, guest, version):
    judge(roads, "new_connections", "enforce", guest, **LIMITS)
    assert 20 <= scan(roads, guest, version, 50, lambda found: tcp(40000, 22, found, SYN)) <= 25
    assert 25 <= counted(roads, guest, "new_connections_refused") <= 30
    # Who was reached before can be reached again, and neighbours have limits of their own.
    found = marker()
    target = others(guest, version, 50)[3]
    assert arrived(roads, guest, [frame(roads, guest, tcp(1, 22, found, SYN), version=version, target=target)], found) == 1
    assert scan(roads, "b", version, 50, lambda found: tcp(40000, 22, found, SYN)) == 50


@pytest.mark.parametrize("what, protocol, make", [
    ("FIN scan", TCP, lambda found: tcp(40000, 22, found, FIN)),
    ("NULL scan", TCP, lambda found: tcp(40000, 22, found, 0)),
    ("XMAS scan", TCP, lambda found: tcp(40000, 22, found, FIN | PUSH | 32)),
    ("datagrams", UDP, lambda found: udp(40000, 1900, found)),
    ("pings", ICMP, lambda found: b"\x08\x00\0\0\0\1\0\1" + found),
])
def test_other_scans_end_at_the_limit_too(roads, what, protocol, make):
    judge(roads, "new_connections", "enforce", **LIMITS)
    assert 20 <= scan(roads, "a", 4, 50, make, protocol) <= 25, what


def test_cut_before_its_flags_a_segment_counts_as_new(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    cut = lambda found: tcp(40000, 22, b"", SYN)[:4] + found[-8:]
    found = marker()
    frames = [frame(roads, "a", cut(found), target=target, more=True) for target in others("a", 4, 50)]
    assert 20 <= arrived(roads, "a", frames, found[-8:]) <= 25
    # Its later fragments aren't new.
    later = [frame(roads, "a", found * 3, target=target, offset=1480) for target in others("a", 4, 50, 60)]
    assert arrived(roads, "a", later, found) == 50
    later = [frame(roads, "a", found * 3, version=6, target=target, headers=fragment_header(TCP, offset=1480),
                   following=FRAGMENT) for target in others("a", 6, 50, 60)]
    assert arrived(roads, "a", later, found) == 50


def test_a_flood_of_connections_to_one_ends_at_the_limit(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    found = marker()
    frames = [frame(roads, "a", tcp(1024 + number, 80, found, SYN)) for number in range(100)]
    assert 60 <= arrived(roads, "a", frames, found) <= 72
    assert 28 <= roads.observe().counters["bridge", "new_connections_by_flows"][0] <= 40


def test_a_scan_of_one_hosts_udp_ports_ends_at_the_limit(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    found = marker()
    frames = [frame(roads, "a", udp(40000, 1 + number, found), UDP) for number in range(100)]
    assert 60 <= arrived(roads, "a", frames, found) <= 72


def test_mail_has_a_limit_of_its_own(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    roads.port("tapA")["smtp"] = {"mode": "off", "ports": []}
    roads.apply()
    found = marker()
    frames = [frame(roads, "a", tcp(1024 + number, 25, found, SYN)) for number in range(30)]
    assert 10 <= arrived(roads, "a", frames, found) <= 12
    assert arrived(roads, "a", [frame(roads, "a", tcp(1, 80, found, SYN))], found) == 1


@pytest.mark.parametrize("guest", ["a", "r"])
def test_what_servers_and_busy_clients_send_is_not_limited(roads, guest):
    """Nothing here is new: answers, data, what goes on with those known, and discovery at home."""
    judge(roads, "new_connections", "enforce", guest, **LIMITS)
    for version in (4, 6):
        assert scan(roads, guest, version, 80, lambda found: tcp(80, 40000, found, SYN | ACK)) == 80
        assert scan(roads, guest, version, 80, lambda found: tcp(80, 40000, found, PUSH | ACK)) == 80
        assert scan(roads, guest, version, 80, lambda found: tcp(80, 40000, found, RST)) == 80
        assert scan(roads, guest, version, 80, lambda found: udp(53, 40000, found), UDP) == 80
        assert scan(roads, guest, version, 80, lambda found: udp(443, 40000, found), UDP) == 80
    found = marker()
    call = [frame(roads, guest, udp(40000, 3478, found), UDP)] * 120
    assert arrived(roads, guest, call, found) == 120
    assert counted(roads, guest, "new_connections_refused") == 0


def test_observed_all_of_it_passes_and_is_counted_with_whom(roads):
    judge(roads, "new_connections", "observe", **LIMITS)
    assert scan(roads, "a", 4, 50, lambda found: tcp(40000, 22, found, SYN)) == 50
    assert 25 <= counted(roads, "a", "new_connections_observed") <= 30
    assert counted(roads, "a", "new_connections_refused") == 0
    assert '"tapA" . 198.51.100.' in roads.host.check("nft -n list set bridge hosting_aup new_connections_targets4")


def test_the_defaults_let_a_busy_guest_work(roads):
    judge(roads, "new_connections", "enforce")
    for version in (4, 6):
        assert scan(roads, "a", version, 120, lambda found: tcp(40000, 443, found, SYN)) == 120
    assert counted(roads, "a", "new_connections_refused") == 0


def test_when_the_sets_are_full_nobody_is_refused_for_it(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    elements = ",".join('"other" . 10.%d.%d.%d' % (n >> 16, n >> 8 & 255, n & 255) for n in range(65536))
    roads.host.check(["nft", "-f", "-"], "add element bridge hosting_aup new_connections_seen4 { %s }" % elements)
    assert scan(roads, "a", 4, 50, lambda found: tcp(40000, 22, found, SYN)) == 50
    assert roads.observe().counters["bridge", "new_connections_unjudged"][0] == 50
    assert counted(roads, "a", "new_connections_refused") == 0
    # Flows are limited all the same.
    found = marker()
    frames = [frame(roads, "a", tcp(1024 + number, 80, found, SYN)) for number in range(50)]
    assert arrived(roads, "a", frames, found) <= 20


def test_tags_hide_nothing_also_after_a_rollback_and_exempt_it_passes(roads):
    judge(roads, "new_connections", "enforce", **LIMITS)
    assert 20 <= scan(roads, "a", 4, 50, lambda found: tcp(40000, 22, found, SYN), tags=[(0x8100, 7)]) <= 25
    roads.host.check(["nft", "-f", "-"], _nftables.snapshot_script(roads.observe()))
    assert roads.plan().kind == "none", (roads.plan().summary, roads.plan().before, roads.plan().after)
    for version in (4, 6):
        assert scan(roads, "b", version, 50, lambda found: udp(40000, 22, found), UDP, tags=[(0x8100, 7)]) == 50
        # Meters aren't in a snapshot: what was used up is had anew.
        assert 20 <= scan(roads, "a", version, 50, lambda found: udp(40000, 22, found), UDP, tags=[(0x8100, 7)]) <= 25
        roads.host.check("nft flush set bridge hosting_aup new_connections_destinations")
        roads.host.check("nft flush set bridge hosting_aup new_connections_flows")
        roads.host.check("nft flush set bridge hosting_aup new_connections_over_destinations")
    del roads.port("tapA")["controls"]["new_connections"]
    assert roads.apply().kind == "elements"
    assert scan(roads, "a", 4, 50, lambda found: tcp(40000, 22, found, SYN), first=100) == 50
