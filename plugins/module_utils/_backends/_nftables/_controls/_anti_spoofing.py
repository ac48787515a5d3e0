# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`anti_spoofing`: a port speaks for its own MACs and addresses only (BCP 38, SAVI). Pure. PRIVATE to the collection.

One lookup of port, MAC and source together lets an ordinary packet go on; what follows is for the rest and for what
is refused whatever its source: router advertisements and redirects (RFC 6105), answers of DHCP servers, source
routes (RFC 5095, IPv4 LSRR and SSRR), tags and shims inside of a tag, neighbour discovery in fragments (RFC 6980),
header chains that end in a later fragment (RFC 7112), and more broadcasts and multicasts a second than a guest needs.

Prefixes are looked up by length, in hash sets: masks of the source beside port and MAC. Interval sets of such keys
would cost more the more services there are.
"""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._control import Control, chain
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_TARGET = "@th,64,128"  # of a neighbour solicitation or advertisement; nft before 1.0.8 has no name for it

# What can carry addresses past the rules: a second tag, MPLS, PPPoE, Ethernet in Ethernet, IP in 802.3 frames.
_SHIMS = "{ 0x8100, 0x88a8, 0x9100, 0x9200, 0x8847, 0x8848, 0x8864, 0x6558, 0x0001, 0x0004 }"

_WHOLE = {4: 32, 6: 128}


def _mask(version, length):
    """` & mask` for a match on a prefix of this length; nothing for a whole address."""
    if length == _WHOLE[version]:
        return ""
    return " & %s" % ipaddress.ip_network("%s/%d" % ("0.0.0.0" if version == 4 else "::", length)).netmask


def _lengths(parameters, version):
    """Lengths looked up: whole addresses first."""
    return sorted({_WHOLE[version], *(n for n in parameters["lengths"][str(version)] if n)}, reverse=True)


class AntiSpoofing(Control):
    """Ports are judged by name, MAC and source; see the module."""

    name = "anti_spoofing"
    letter = "a"
    sets = {
        "anti_spoofing_v4": spec("ifname . ether_addr . ipv4_addr"),
        "anti_spoofing_v6": spec("ifname . ether_addr . ipv6_addr"),
        "anti_spoofing_macs": spec("ifname . ether_addr"),
        "anti_spoofing_targets": spec("ifname . integer", declared="typeof iifname . " + _TARGET),
        "anti_spoofing_gateways": spec("ipv6_addr"),
        "anti_spoofing_routers": spec("integer", declared="typeof " + _TARGET),
        "anti_spoofing_storm": spec("ifname", dynamic="size 65536; flags dynamic,timeout; timeout 1m;"),
    }
    samples = (
        ("seen4", "meta protocol ip", "ip saddr", "ipv4_addr", "source "),
        ("seen6", "meta protocol ip6", "ip6 saddr", "ipv6_addr", "source "),
        ("seen_mac", None, "ether saddr", "ether_addr", "MAC "),
        ("seen_arp", None, "arp saddr ip", "ipv4_addr", "ARP sender "),
        ("seen_storm", None, "ether daddr", "ether_addr", "too much to "),
    )

    def rules(self, family, direction, parameters):
        lines = ["meta pkttype 1-2 jump anti_spoofing_loud"]
        for version, word in ((4, "ip"), (6, "ip6")):
            lines += ["meta protocol %s iifname . ether saddr . %s saddr%s @anti_spoofing_v%d goto anti_spoofing_own%d" % (
                word, word, _mask(version, length), version, version) for length in _lengths(parameters, version)]
        lines.append("iifname . ether saddr != @anti_spoofing_macs goto anti_spoofing_bad_mac")
        if family == "bridge":
            lines.append("meta protocol arp goto anti_spoofing_arp")
        lines += [
            # Before a guest has an address: DHCP, IGMP; duplicate address detection, MLD, looking for routers.
            "meta protocol ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 return",
            "meta protocol ip ip saddr 0.0.0.0 meta l4proto 2 return",
            "meta protocol ip6 ip6 saddr fe80::/10 goto anti_spoofing_link_local",
            "meta protocol ip6 ip6 saddr :: meta l4proto 58 exthdr frag missing goto anti_spoofing_no_address",
            "meta protocol { ip, ip6 } goto " + self.hit("from"),
            "meta protocol %s goto %s" % (_SHIMS, self.hit("from")),
        ]
        return lines

    def chains(self, family, parameters):
        hit = "goto " + self.hit("from")
        targets = [
            "meta protocol ip6 iifname . %s%s @anti_spoofing_targets return" % (
                _TARGET, "" if length == 128 else " & 0x%x" % int(ipaddress.ip_network("::/%d" % length).netmask))
            for length in _lengths(parameters, 6)]
        found = [
            chain("anti_spoofing_loud", [
                "update @anti_spoofing_storm { iifname limit rate over %d/second burst %d packets } goto anti_spoofing_flood" % (
                    parameters["storm_per_second"], parameters["storm_per_second"])]),
            chain("anti_spoofing_flood", [self._sample("seen_storm", "ether daddr"), *self.verdict("from", family)]),
            chain("anti_spoofing_bad_mac", [self._sample("seen_mac", "ether saddr"), *self.verdict("from", family)]),
            chain("anti_spoofing_own4", [
                "meta protocol ip udp sport 67 udp dport 68 " + hit,
                "meta protocol ip ip hdrlength 5 return",
                "meta protocol ip ip option lsrr exists " + hit,
                "meta protocol ip ip option ssrr exists " + hit,
            ]),
            chain("anti_spoofing_own6", [
                "meta protocol ip6 ip6 nexthdr 6 return",
                "meta protocol ip6 ip6 nexthdr 17 udp dport != 546 return",
                "meta protocol ip6 rt type { 0, 4 } " + hit,
                "meta protocol ip6 meta l4proto 58 goto anti_spoofing_icmp6",
                "meta protocol ip6 udp sport 547 udp dport 546 " + hit,
                "meta protocol ip6 exthdr frag missing return",
                "meta protocol ip6 frag frag-off != 0 return",
                # The first fragment, whose upper header must be in it.
                "meta protocol ip6 meta l4proto 59 return",
                "meta protocol ip6 th dport & 0 == 0 return",
                "meta protocol ip6 " + hit,
            ]),
            # A link-local address of a guest's own choice is ordinary, that of a router is not.
            chain("anti_spoofing_link_local", [
                "meta protocol ip6 ip6 saddr @anti_spoofing_gateways " + hit,
                "goto anti_spoofing_own6",
            ]),
            chain("anti_spoofing_no_address", [
                "meta protocol ip6 icmpv6 type { 131, 132, 133, 143 } return",
                "meta protocol ip6 icmpv6 type 135 goto anti_spoofing_target",
                hit,
            ]),
            chain("anti_spoofing_icmp6", [
                "meta protocol ip6 frag frag-off != 0 return",
                "meta protocol ip6 icmpv6 type { 134, 137 } " + hit,
                "meta protocol ip6 exthdr frag exists icmpv6 type 133-137 " + hit,
                "meta protocol ip6 icmpv6 type 136 goto anti_spoofing_target",
                "meta protocol ip6 icmpv6 type 0-255 return",
                hit,  # its type can't be read
            ]),
            chain("anti_spoofing_target", [
                "meta protocol ip6 meta l4proto 58 %s @anti_spoofing_routers %s" % (_TARGET, hit),
                "meta protocol ip6 meta l4proto 58 @th,64,16 & 0xffc0 == 0xfe80 return",
                *(line.replace("meta protocol ip6 ", "meta protocol ip6 meta l4proto 58 ", 1) for line in targets),
                hit,
            ]),
        ]
        if family == "bridge":
            arp = "meta protocol arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
            found.append(chain("anti_spoofing_arp", [
                # Probes for a duplicate address (RFC 5227) speak for nobody.
                arp + "iifname . arp saddr ether @anti_spoofing_macs arp saddr ip 0.0.0.0 return",
                *("%siifname . arp saddr ether . arp saddr ip%s @anti_spoofing_v4 return" % (arp, _mask(4, length))
                  for length in _lengths(parameters, 4)),
                "meta protocol arp " + self._sample("seen_arp", "arp saddr ip"),
                *self.verdict("from", family),
            ]))
        return "".join(found)

    def port_elements(self, port, quoted, family):
        setting = port["controls"][self.name]
        macs = sorted({_names.mac(address) for address in port.get("macs") or ([port["mac"]] if port["mac"] else ())})
        found = {"anti_spoofing_macs": {"%s . %s" % (quoted, mac) for mac in macs},
                 "anti_spoofing_v4": set(), "anti_spoofing_v6": set(), "anti_spoofing_targets": set()}
        for text in setting["sources"]:
            try:
                network = ipaddress.ip_network(text)
            except ValueError as exc:
                raise InputError("source %r of port %s is no prefix: %s." % (text, port["name"], exc), target=port["name"],
                                 remedy="Correct the desired state.")
            spelled = _names.address(network.network_address)
            found["anti_spoofing_v%d" % network.version].update("%s . %s . %s" % (quoted, mac, spelled) for mac in macs)
            if network.version == 6:
                found["anti_spoofing_targets"].add("%s . 0x%x" % (quoted, int(network.network_address)))
        return found

    def node_elements(self, parameters):
        gateways = [ipaddress.IPv6Address(text) for text in parameters["gateways"]]
        return {"anti_spoofing_gateways": {_names.address(one) for one in gateways},
                "anti_spoofing_routers": {"0x%x" % int(one) for one in gateways}}
