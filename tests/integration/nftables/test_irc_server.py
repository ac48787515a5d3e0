# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""IRC with real packets: links between servers, listeners, clients and bouncers."""
from __future__ import annotations

import pytest
from filter_lab import MACS, V4, V6
from frames import ACK, SYN, ethernet, ipv4, ipv6, tcp
from traffic_lab import counted, judge, marker, passes

LINKS = [b"CAPAB START 1205\n", b"CAPAB :QS EX CHW IE\r\n", b"SVINFO 6 6 0 :1700000000\r\n",
         b"PROTOCTL EAUTH=irc.example SID=001\r\n"]
CLIENT = [b"CAP LS 302\r\n", b"NICK someone\r\n", b"USER s 0 * :S\r\n", b"PASS secret\r\n", b"PROTOCTL NAMESX\r\n",
          b"PRIVMSG #x :SERVER is down\r\n", b"SERVICES\r\n", b"CAPABILITIES\r\n"]


@pytest.mark.parametrize("guest", ["a", "r"])
def test_links_between_servers_are_refused_on_any_port_and_clients_pass(traffic, guest):
    judge(traffic, "irc_server", "enforce", guest)
    for number, words in enumerate(LINKS):
        found = marker()
        assert not passes(traffic, guest, tcp(40000, 7029, words + found), found, version=6 if number % 2 else 4), words
        assert counted(traffic, guest, "irc_server_refused") == number + 1
    for number, words in enumerate(CLIENT):
        for port in (6667, 6697, 7000):
            found = marker()
            assert passes(traffic, guest, tcp(40000, port, words + found), found, version=6 if number % 2 else 4), words
    assert counted(traffic, guest, "irc_server_refused") == len(LINKS)


def test_server_alone_is_a_sign_only_on_irc_ports(traffic):
    judge(traffic, "irc_server", "enforce")
    for ports, passed in (((40000, 6667), False), ((6667, 40000), False), ((40000, 80), True), ((80, 40000), True)):
        found = marker()
        assert passes(traffic, "a", tcp(*ports, b"SERVER irc.example 1 :x\r\n" + found), found) == passed, ports


def test_what_another_server_says_to_the_guest_is_looked_at(traffic):
    judge(traffic, "irc_server", "enforce")
    for version in (4, 6):
        found = marker()
        packet = (ipv4(V4["net"], V4["a"], tcp(40000, 7029, LINKS[2] + found)) if version == 4 else
                  ipv6(V6["net"], V6["a"], tcp(40000, 7029, LINKS[2] + found)))
        sent = ethernet(MACS["a"], MACS["net"], 0x0800 if version == 4 else 0x86DD, packet)
        assert not traffic.crosses("net", sent, found, "a")
    assert counted(traffic, "a", "irc_server_refused") == 2


@pytest.mark.parametrize("guest", ["a", "r"])
def test_a_listener_is_counted_and_refused_only_where_the_policy_says_so(traffic, guest):
    answer = SYN | ACK
    judge(traffic, "irc_server", "enforce", guest)
    for port, times in ((6667, 1), (6697, 2), (443, 2)):
        found = marker()
        assert passes(traffic, guest, tcp(port, 40000, found, answer), found)
        assert counted(traffic, guest, "irc_server_observed") == times
    judge(traffic, "irc_server", "enforce", guest, listeners_refused=True)
    for port, passed in ((6667, False), (443, True)):
        found = marker()
        assert passes(traffic, guest, tcp(port, 40000, found, answer), found) == passed
    assert counted(traffic, guest, "irc_server_refused") == 1
    listing = traffic.host.check("nft -n list table %s hosting_aup" % ("inet" if guest == "r" else "bridge"))
    assert ". %s . 6667 . " % V4[guest] in listing


def test_clients_are_refused_only_where_the_policy_says_so(traffic):
    judge(traffic, "irc_server", "enforce")
    found = marker()
    assert passes(traffic, "a", tcp(40000, 6667, found, SYN), found)
    judge(traffic, "irc_server", "enforce", clients_allowed=False)
    for port, passed in ((6667, False), (6697, False), (443, True)):
        found = marker()
        assert passes(traffic, "a", tcp(40000, port, found, SYN), found) == passed


def test_observed_it_passes(traffic):
    judge(traffic, "irc_server", "observe", listeners_refused=True, clients_allowed=False)
    for segment in (tcp(40000, 7029, LINKS[0]), tcp(6667, 40000, b"", SYN | ACK), tcp(40000, 6667, b"", SYN)):
        found = marker()
        assert passes(traffic, "a", segment + found, found)
    assert counted(traffic, "a", "irc_server_observed") == 3 and counted(traffic, "a", "irc_server_refused") == 0


def test_tags_and_tcp_options_hide_nothing_and_exempt_it_passes(traffic):
    judge(traffic, "irc_server", "enforce")
    found = marker()
    for segment, more in ((tcp(1, 2, LINKS[1] + found), {"tags": [(0x8100, 7)]}),
                          (tcp(1, 2, LINKS[1] + found, options=b"\1" * 12), {})):
        assert not passes(traffic, "a", segment, found, **more)
    del traffic.port("tapA")["controls"]["irc_server"]
    assert traffic.apply().kind == "elements"
    assert passes(traffic, "a", tcp(1, 2, LINKS[1] + found), found)
