# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of services that attackers use to amplify floods. Pure. PRIVATE to the collection.

Judged by what a guest sends, by its UDP source port. Below 1024 no client sends from the ports in question. From 1024
up a resolver or a call may: Unbound, PowerDNS and others take any port. So there a packet is refused only if it is
larger than a question is: what passes doesn't amplify. NTP's private mode, which clients query from elsewhere,
answers with `monlist`, the only use left of it (US-CERT TA14-013A).
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._profiled import (
    ProfiledControl,
    braced,
    chain,
    number,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec

# UDP length, header included. A question over DNS is smaller, the answers of SSDP, WS-Discovery, ARD are larger.
QUESTION = 200
_METER = "size 32768; flags dynamic,timeout; timeout 10m;"


class Reflection(ProfiledControl):
    """Options of a profile: `ports`, `limited_ports`, `limited_bytes` a second."""

    name = "reflection"
    letter = "r"
    sets = {
        "reflection_profile_from": spec("ifname : verdict"),
        "reflection_meter": spec("ifname . inet_service", dynamic=_METER),
    }
    samples = (
        ("targets4", "meta protocol ip", "ip daddr . th sport", "ipv4_addr . inet_service"),
        ("targets6", "meta protocol ip6", "ip6 daddr . th sport", "ipv6_addr . inet_service"),
    )

    def rules(self, family, direction, parameters):
        """UDP to single stations: discovery within a network is multicast and broadcast, and no router carries it on."""
        return ["meta l4proto != udp return", "meta pkttype { broadcast, multicast } return", self.by_profile(direction, parameters)]

    def profile_chains(self, family, direction, name, options):
        """Refused ports, then limited ones."""
        hit = " goto " + self.hit(direction)
        limited = set(options["limited_ports"])
        refused = set(options["ports"]) - limited
        rules = []
        if {port for port in refused if port < 1024}:
            rules.append("udp sport " + braced(port for port in refused if port < 1024) + hit)
        if {port for port in refused if port >= 1024}:
            rules.append("udp sport %s udp length > %d" % (braced(port for port in refused if port >= 1024), QUESTION) + hit)
        if 123 in limited:
            rules.append("udp sport 123 @ih,5,3 7" + hit)
        if limited:
            rate = number(options["limited_bytes"], "limited_rate")
            # `add` and not `update`: an element that isn't renewed takes the rate of a new profile in ten minutes.
            rules.append("udp sport %s add @reflection_meter { iifname . udp sport limit rate over %s bytes/second"
                         " burst %s bytes }" % (braced(limited), rate, rate) + hit)
        return chain(name, rules)
