# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a guest may begin flows, and with how many others. Pure. PRIVATE to the collection.

The bridge family tracks no connections, so a new flow is told by the packet: TCP with SYN and without ACK, or with
neither SYN, ACK nor RST (FIN, NULL and XMAS scans), or cut before its flags; UDP from a port that isn't a well-known
service's to a destination and port not seen for a minute; an echo request. What a server answers is none of these.

A destination is remembered for a minute in a set of bounded size. Each guest's own limit bounds what it can add: over the
limit nothing is added for a second. When the set is full all the same, what is new passes unjudged and is counted:
one guest's scan must not become another one's limit.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._profiled import (
    ProfiledControl,
    chain,
    number,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec

MAIL_PORTS = (25, 465, 587)
# `add` and not `update`: an element that isn't renewed takes the limit of a new profile in ten minutes.
_METER = "size 16384; flags dynamic,timeout; timeout 10m;"
_OVER = "size 16384; flags dynamic,timeout; timeout 1s;"
# The kernel takes the memory of a set's size at once, about a megabyte here.
_SEEN = "size 65536; flags dynamic,timeout; timeout 1m;"
# nft forgets the protocol where the address implies it, and then takes the Ethernet type for it.
_RELOAD = tuple(
    ("\t\t" + rule, "\t\tmeta protocol %s %s" % (protocol, rule))
    for protocol, version in (("ip", "4"), ("ip6", "6"))
    for rule in ("iifname . %s daddr @new_connections_seen%s " % (protocol, version),
                 "iifname . %s daddr . th dport @new_connections_udp%s " % (protocol, version),
                 "add @new_connections_seen%s " % version, "add @new_connections_udp%s " % version,
                 "meta l4proto %s update @new_connections_pace " % {"4": "1", "6": "58"}[version])
) + (
    ("\t\tmeta l4proto 17 frag ", "\t\tmeta protocol ip6 meta l4proto 17 frag "),
    ("\t\tip frag-off & 8191 != 0 goto new_connections_later", "\t\tmeta protocol ip ip frag-off & 0x1fff != 0 goto new_connections_later"),
)


class NewConnections(ProfiledControl):
    """Options of a profile: `per_minute`, `destinations_per_minute`, `mail_per_minute`; each minute's worth at once."""

    name = "new_connections"
    letter = "n"
    sets = {
        "new_connections_profile_from": spec("ifname : verdict"),
        "new_connections_flows": spec("ifname", dynamic=_METER),
        "new_connections_mail": spec("ifname", dynamic=_METER),
        "new_connections_destinations": spec("ifname", dynamic=_METER),
        "new_connections_over_flows": spec("ifname", dynamic=_OVER),
        "new_connections_over_destinations": spec("ifname", dynamic=_OVER),
        "new_connections_seen4": spec("ifname . ipv4_addr", dynamic=_SEEN),
        "new_connections_seen6": spec("ifname . ipv6_addr", dynamic=_SEEN),
        "new_connections_udp4": spec("ifname . ipv4_addr . inet_service", dynamic=_SEEN),
        "new_connections_udp6": spec("ifname . ipv6_addr . inet_service", dynamic=_SEEN),
    }
    counters = ("new_connections_by_flows", "new_connections_by_mail", "new_connections_by_destinations",
                "new_connections_unjudged")
    samples = (
        ("targets4", "meta protocol ip meta l4proto { tcp, udp }", "ip daddr . th dport", "ipv4_addr . inet_service"),
        ("targets6", "meta protocol ip6 meta l4proto { tcp, udp }", "ip6 daddr . th dport", "ipv6_addr . inet_service"),
        ("pinged4", "meta protocol ip meta l4proto icmp", "ip daddr", "ipv4_addr"),
        ("pinged6", "meta protocol ip6 meta l4proto ipv6-icmp", "ip6 daddr", "ipv6_addr"),
    )
    reload = _RELOAD

    def rules(self, family, direction, parameters):
        """Most packets carry ACK and are done with two comparisons."""
        return [("meta l4proto vmap { tcp : goto new_connections_tcp, udp : goto new_connections_datagram,"
                " icmp : goto new_connections_echo4, ipv6-icmp : goto new_connections_echo6 }")]

    def chains(self, family, parameters):
        """What is new, for all profiles."""
        new = "goto new_connections_new"
        # The inet family lists what it needs of itself; see `_RELOAD` for the bridge's.
        later6 = "%smeta l4proto %%s frag frag-off != 0 return" % ("meta protocol ip6 " if family == "bridge" else "")
        udp = []
        for version, protocol in (("4", "ip"), ("6", "ip6")):
            key = "iifname . %s daddr . th dport" % protocol
            udp.append(chain("new_connections_udp%s" % version, [
                "meta protocol %s %s @new_connections_udp%s return" % (protocol, key, version),
            ] + [later6 % "udp"] * (version == "6") + [
                'iifname @new_connections_over_flows counter name "new_connections_by_flows" goto ' + self.hit("from"),
                "meta protocol %s add @new_connections_udp%s { %s } %s" % (protocol, version, key, new),
                'counter name "new_connections_unjudged"',
            ]))
        return super().chains(family, parameters) + "".join(udp) + chain("new_connections_tcp", [
            "tcp flags & (ack | rst) != 0 return",
            # A later fragment is harmless without the first one, which was judged. In IPv6 it must be sorted out before
            # the flags are: the kernel finds no TCP header in it and reads the IPv6 header for one.
            later6 % "tcp",
            "@th,104,8 & 0 == 0 " + new,
            "meta protocol ip ip frag-off & 0x1fff != 0 goto new_connections_later",
            new,
        ]) + chain("new_connections_later", []) + chain("new_connections_datagram", [
            "meta pkttype { broadcast, multicast } return",
            "udp sport < 1024 return",
            "th dport & 0 == 0 meta protocol vmap { ip : goto new_connections_udp4, ip6 : goto new_connections_udp6 }",
        ]) + chain("new_connections_echo4", [
            "meta pkttype { broadcast, multicast } return",
            "@th,0,8 8 " + new,
        ]) + chain("new_connections_echo6", [
            "meta pkttype { broadcast, multicast } return",
            "@th,0,8 128 " + new,
        ]) + chain("new_connections_new", [self.by_profile("from", parameters)])

    def profile_chains(self, family, direction, name, options):
        """Limits: flows, mail, destinations."""
        hit = "goto " + self.hit(direction)

        def meter(which, limit, also=""):
            rate = number(limit, which + "_per_minute")
            return ("add @new_connections_%s { iifname limit rate over %s/minute burst %s packets } %s"
                    'counter name "new_connections_by_%s" %s' % (which, rate, rate, also, which, hit))

        parts = [chain(name, [
            meter("flows", options["per_minute"], "add @new_connections_over_flows { iifname } "),
            "tcp dport { %s } " % ", ".join(map(str, MAIL_PORTS)) + meter("mail", options["mail_per_minute"]),
            "meta protocol vmap { ip : goto %s_4, ip6 : goto %s_6 }" % (name, name),
        ])]
        for version, protocol in (("4", "ip"), ("6", "ip6")):
            key = "iifname . %s daddr" % protocol
            parts.append(chain("%s_%s" % (name, version), [
                "meta protocol %s %s @new_connections_seen%s return" % (protocol, key, version),
                "iifname @new_connections_over_destinations counter name \"new_connections_by_destinations\" " + hit,
                "meta protocol %s add @new_connections_seen%s { %s } goto %s_d" % (protocol, version, key, name),
                'counter name "new_connections_unjudged"',
            ]))
        # Chains must be there before a rule leads to them: within one table nft looks at all of it.
        parts.append(chain(name + "_d", [
            meter("destinations", options["destinations_per_minute"], "add @new_connections_over_destinations { iifname } ")]))
        return "".join(parts)
