# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Amplifiers with real packets: their answers, clients that happen to use their ports, limited services."""
from __future__ import annotations

import socket

import pytest
from filter_lab import V4, V6
from frames import HOP_BY_HOP, UDP, options_header, udp
from traffic_lab import arrived, counted, frame, judge, marker, passes

SMALL, LARGE = 64, 400
REFUSED_LOW, REFUSED_HIGH = (17, 19, 137, 427, 520), (1900, 3283, 3702, 5353, 11211)


def answer(port, found, size, to=40000):
    return udp(port, to, found.ljust(size, b"\xee"))


@pytest.mark.parametrize("guest", ["a", "r"])
def test_answers_of_amplifiers_are_refused(traffic, guest):
    judge(traffic, "reflection", "enforce", guest)
    sizes = [(port, SMALL) for port in REFUSED_LOW] + [(port, LARGE) for port in REFUSED_HIGH]
    for number, (port, size) in enumerate(sizes):
        found = marker()
        assert not passes(traffic, guest, answer(port, found, size), found, protocol=UDP, version=6 if number % 2 else 4), port
        assert counted(traffic, guest, "reflection_refused") == number + 1
    found = marker()
    assert passes(traffic, "b", answer(19, found, SMALL), found, protocol=UDP)


@pytest.mark.parametrize("guest", ["a", "r"])
def test_clients_and_ordinary_servers_pass(traffic, guest):
    judge(traffic, "reflection", "enforce", guest)
    # A resolver's question from any port, an NTP client's, calls, games, answers from no amplifier's port.
    for source, port, size in [(port, 53, SMALL) for port in REFUSED_HIGH] + [
            (40000, 53, SMALL), (123, 123, 48), (40000, 123, 48), (10001, 20000, LARGE), (27015, 30000, LARGE),
            (443, 40000, 1200), (51820, 40000, 1200), (53, 40000, LARGE), (161, 40000, LARGE)]:
        for version in (4, 6):
            found = marker()
            assert passes(traffic, guest, answer(source, found, size, port), found, protocol=UDP, version=version), (source, port)
    assert counted(traffic, guest, "reflection_refused") == 0


def test_a_real_question_from_an_unlucky_port_is_answered(traffic):
    judge(traffic, "reflection", "enforce")
    for family, addresses in ((socket.AF_INET, V4), (socket.AF_INET6, V6)):
        asked = traffic.net["a"].call(socket.socket, family, socket.SOCK_DGRAM)
        resolver = traffic.net["net"].call(socket.socket, family, socket.SOCK_DGRAM)
        with asked, resolver:
            asked.bind(("", 11211))
            resolver.bind(("", 53))
            for sock in (asked, resolver):
                sock.settimeout(2)
            asked.sendto(b"q" * 60, (addresses["net"], 53))
            question, back = resolver.recvfrom(2048)
            resolver.sendto(b"a" * 1200, back)
            assert (question, asked.recv(2048)) == (b"q" * 60, b"a" * 1200)


def test_ntp_that_lists_its_clients_is_refused_and_time_is_not(traffic):
    judge(traffic, "reflection", "enforce")
    found = marker()
    assert passes(traffic, "a", udp(123, 40000, b"\x24" + found.ljust(47, b"\0")), found, protocol=UDP)
    assert not passes(traffic, "a", udp(123, 80, b"\xd7" + found.ljust(440, b"\0")), found, protocol=UDP)


@pytest.mark.parametrize("guest", ["a", "r"])
def test_limited_services_answer_up_to_the_rate_each(traffic, guest):
    # 80 kbit/s: 10,000 bytes a second; nft's bucket for bytes holds the rate and the burst.
    judge(traffic, "reflection", "enforce", guest, limited_rate="80 kbit/s")
    for number, port in enumerate((53, 389)):
        found = marker()
        frames = [frame(traffic, guest, answer(port, found, 972), protocol=UDP, version=6 if number else 4)] * 40
        assert 18 <= arrived(traffic, guest, frames, found) <= 26
    assert 28 <= counted(traffic, guest, "reflection_refused") <= 44
    found = marker()
    assert arrived(traffic, guest, [frame(traffic, guest, answer(40000, found, 972), protocol=UDP)] * 40, found) == 40


def test_observed_all_of_it_passes(traffic):
    judge(traffic, "reflection", "observe", limited_rate="80 kbit/s")
    found = marker()
    assert passes(traffic, "a", answer(11211, found, LARGE), found, protocol=UDP)
    assert arrived(traffic, "a", [frame(traffic, "a", answer(53, found, 972), protocol=UDP)] * 40, found) == 40
    assert 14 <= counted(traffic, "a", "reflection_observed") <= 23 and counted(traffic, "a", "reflection_refused") == 0
    listing = traffic.host.check("nft -n list table bridge hosting_aup")
    assert '"tapA" . %s . 11211' % V4["net"] in listing


def test_ports_are_the_policys(traffic):
    judge(traffic, "reflection", "enforce", ports=[11211, 27015], limited_ports=[53])
    for port, passed in ((19, True), (389, True), (27015, False), (11211, False)):
        found = marker()
        assert passes(traffic, "a", answer(port, found, LARGE), found, protocol=UDP) == passed, port
    # Another guest under other options of the same control.
    judge(traffic, "reflection", "enforce", "b", ports=[19])
    for guest, passed in (("a", True), ("b", False)):
        found = marker()
        assert passes(traffic, guest, answer(19, found, LARGE), found, protocol=UDP) == passed


def test_headers_before_it_and_tags_around_it_hide_nothing_and_discovery_at_home_passes(traffic):
    judge(traffic, "reflection", "enforce")
    found = marker()
    plain = answer(19, found, LARGE)
    for hidden in ({"tags": [(0x8100, 7)]}, {"options": b"\1" * 8}, {"more": True},
                   {"version": 6, "headers": options_header(UDP), "following": HOP_BY_HOP}):
        assert not passes(traffic, "a", plain, found, protocol=UDP, **hidden), hidden
    group = frame(traffic, "a", answer(5353, found, LARGE), protocol=UDP, target="224.0.0.251")
    assert traffic.crosses("a", bytes.fromhex("01005e0000fb") + group[6:], found)
