# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports in running configurations of the industry's usual form, as EOS and IOS-XE write them. Pure. PRIVATE.

IOS-XE: `ip access-list extended`, wildcards, `ipv6 traffic-filter`, `policy-map` on both sides. EOS: `ip access-list`, prefix
lengths, `ipv6 access-group`; no policer of ours (a shaper has no name, so it could not be told from an operator's).
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _filters, _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._running_bgp import sections
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import within

_PEERING = re.compile(r"(?:ip(?:v6)? )?(?:ospf|router (?:isis|ospf|eigrp|rip)|eigrp|isis|rip|pim|mpls|ldp|igmp static-oif)\b.*|no switchport trunk.*")
_POLICE = re.compile(r"police (?:cir )?([0-9]+)(?: bps)?(?: bc)? ([0-9]+)(?: bytes?)?\s+conform-action transmit\s+exceed-action drop")


class Dialect:
    """How one of the two writes what both can say."""

    def __init__(self, wildcard, port, caps):
        self.wildcard, self.port, self.caps = wildcard, port, caps
        self.head4 = "ip access-list extended " if wildcard else "ip access-list "
        self.bind6 = "ipv6 traffic-filter " if wildcard else "ipv6 access-group "
        a4 = r"(?:any|host %s|%s %s)" % (_gate.IPV4, _gate.IPV4, _gate.IPV4) if wildcard else r"(?:any|host %s|%s)" % (
            _gate.IPV4, _gate.PREFIX4)
        a6 = r"(?:any|host [0-9a-f:]{2,39}|%s)" % _gate.PREFIX6
        lines = [
            r"interface %s" % port, r"(?:no )?%s%s" % (self.head4, _filters.NAME), r"(?:no )?ipv6 access-list %s" % _filters.NAME,
            r"(?:no )?(?:ip access-group |%s)%s (?:in|out)" % (self.bind6, _filters.NAME),
            r"(?:permit|deny) ip %s %s" % (a4, a4), r"(?:permit|deny) ipv6 %s %s" % (a6, a6),
            r"(?:permit|deny) (?:tcp|udp) (?:%s %s|%s %s)(?: eq %s)?" % (a4, a4, a6, a6, _filters.PORT)]
        if not wildcard:
            lines.append("counters per-entry")
        if caps:
            lines += [r"(?:no )?policy-map %s" % _filters.CAP, "class class-default",
                      r"police cir %s bc %s conform-action transmit exceed-action drop" % (r"[1-9][0-9]{0,11}", _gate.NUMBER),
                      r"(?:no )?service-policy (?:input|output) %s" % _filters.CAP]
        self.grammar = tuple(re.compile(text) for text in lines)

    # -- building

    def _end(self, text):
        if text == "any":
            return text
        network = ipaddress.ip_network(text)
        if network.prefixlen == network.max_prefixlen:
            return "host %s" % network.network_address
        return "%s %s" % (network.network_address, network.hostmask) if network.version == 4 and self.wildcard else str(network)

    def entry(self, text, version):
        """A rule as the router takes it."""
        entry = _filters.Entry(text)
        protocol = "ipv6" if version == 6 and entry.protocol == "ip" else entry.protocol
        line = "%s %s %s %s" % (entry.action, protocol, self._end(entry.source), self._end(entry.destination))
        return line + (" eq %s" % entry.port if entry.port else "")

    def define(self, key, name, texts):
        """Lines that define a filter or a policer."""
        if key.startswith("cap-"):
            _police, rate, burst = texts[0].split()
            return ["policy-map %s" % name, "class class-default",
                    "police cir %d bc %d conform-action transmit exceed-action drop" % (int(rate), int(burst))]
        version = int(key[-1])
        head = [self.head4 + name if version == 4 else "ipv6 access-list " + name] + (["counters per-entry"] if not self.wildcard else [])
        return head + [self.entry(text, version) for text in texts]

    def _bound(self, key, name):
        if key.startswith("cap-"):
            return "service-policy %s %s" % ({"cap-in": "input", "cap-out": "output"}[key], name)
        return "%s%s %s" % ("ip access-group " if key.endswith("4") else self.bind6, name, key[:-1])

    def bind(self, interface, key, name, old):
        """Lines that bind it; a policer must make room first, a filter takes the other's place."""
        lines = ["interface " + _filters.check_port(interface, self.port)]
        if old and key.startswith("cap-"):
            lines.append("no " + self._bound(key, old))
        return [*lines, self._bound(key, name)]

    def unbind(self, interface, key, name):
        """Lines that take it off the port."""
        return ["interface " + _filters.check_port(interface, self.port), "no " + self._bound(key, name)]

    def undefine(self, key, name):
        """Lines that take away its definition."""
        if _filters.is_policer(key):
            return ["no policy-map " + name]
        return ["no " + (self.head4 + name if _filters.family(key) == 4 else "ipv6 access-list " + name)]

    # -- reading

    def look(self, lines, ports, settings, statics, peers):
        """What is on ports and what would be, for `_ports.plan_ports`.

        :param ports: terms of the ports wanted
        :param statics: static routes and peers: BGP neighbors, as read from the same configuration
        """
        there = sections(lines)
        faces = {header.split(" ", 1)[1]: [line.strip() for line in body] for header, body in there.items()
                 if header.startswith("interface ")}
        filters, caps = self._defined(there)
        seen, terms = {}, {port["interface"]: port for port in ports}
        for name in {*faces, *terms}:
            bound, foreign = self._on(name, faces.get(name, ()), filters, caps)
            found = _filters.lines_of({**bound, **_filters.leftovers(name, bound, filters, caps)})
            if name not in terms:
                if found:
                    seen[name] = {"wanted": None, "found": found, "objection": None}
                continue
            families = [version for version, word in ((4, "ip"), (6, "ipv6")) if any(
                line.startswith((word + " address ", word + " unnumbered ", word + " enable")) for line in faces.get(name, ()))]
            lines_wanted = _filters.in_order(_filters.wanted(terms[name], families, self.caps, bound, {one for _v, one in filters}))
            seen[name] = {"wanted": lines_wanted, "found": found or (None if lines_wanted else []),
                          "objection": self._objection(terms[name], faces, families, settings, statics, peers, foreign, lines_wanted)}
        return seen

    def _defined(self, there):
        """({(version, name): rules}, {name: [police line]}) of filters and policers, ours or not."""
        filters, caps = {}, {}
        for header, body in there.items():
            words = header.split()
            if words[1:2] == ["access-list"] and words[0] in ("ip", "ipv6") and words[2:3] not in (["standard"], []):
                version = 4 if words[0] == "ip" else 6
                filters[version, words[-1]] = [text for text in (self.rule(line.split(), version) for line in body) if text]
            elif words[0] == "policy-map" and re.fullmatch(_filters.CAP, words[-1]):
                match = _POLICE.fullmatch(" ".join(" ".join(body).split()).replace("class class-default ", "", 1))
                caps[words[-1]] = ["police %s %s" % match.groups() if match else "changed"]
        return filters, caps

    def rule(self, words, version):
        """One rule in normal form; what isn't one of ours in form is `other …`, a setting of the list nothing."""
        words = words[1:] if words[:1] == ["sequence"] else words
        words = words[1:] if words and words[0].isdigit() else words
        words = words[:-2] if words[-2:-1] == ["sequence"] else words  # older releases write it behind
        if words[:1] not in (["permit"], ["deny"]):
            return None if " ".join(words) in ("counters per-entry", "statistics per-entry") else "other " + " ".join(words)
        rest, raw = words[2:], "other " + " ".join(words)
        try:
            source, rest = _address(rest, version)
            target, rest = _address(rest, version)
        except (ValueError, IndexError):
            return raw
        number = _filters.port_number(rest[1]) if rest[:1] == ["eq"] and len(rest) == 2 else None
        if rest and number is None:
            return raw
        return "%s %s %s %s%s" % (words[0], "ip" if words[1] == "ipv6" else words[1], source, target,
                                  " eq %d" % number if number is not None else "")

    def _on(self, name, body, filters, caps):
        """({key: (name, rules)} of ours on a port, {key: line} of others')."""
        bound, foreign = {}, {}
        for line in body:
            words = line.split()
            if words[:2] == ["ip", "access-group"] or line.startswith(self.bind6):
                version = 4 if words[0] == "ip" else 6
                key, one = "%s%d" % (words[-1], version), words[2]
                texts = filters.get((version, one), [])
            elif words[:1] == ["service-policy"] and words[-2:-1] in (["input"], ["output"]):
                key, one = "cap-in" if words[-2] == "input" else "cap-out", words[-1]
                texts = caps.get(one, [])
            else:
                continue
            if _filters.is_ours(one, name) and key not in bound:
                bound[key] = (one, texts)
            else:
                foreign[key] = line
        return bound, foreign

    def _objection(self, port, faces, families, settings, statics, peers, foreign, lines):
        """Why a port may not be acted on, or None."""
        name = port["interface"]
        body = faces.get(name)
        if body is None:
            return "the router has no interface of this name"
        parent = name.partition(".")[0]
        for line in [*body, *(faces.get(parent, ()) if parent != name else ())]:
            if line.startswith("channel-group "):
                return "it is a member of a LAG: %s" % line
            if line.startswith(("switchport mode trunk", "switchport trunk allowed")) and parent == name:
                return "it is a trunk: %s" % line
            if line.startswith(("switchport", "bridge-group", "service instance", "xconnect", "bridge-domain")):
                return "it is a port of a switch or bridge: %s" % line
        if any(line.startswith(("vrf forwarding ", "ip vrf forwarding ", "vrf ")) for line in body):
            return "it lies in a VRF, and only the main tables are read"
        above = sorted(other for other in faces if other.startswith(name + "."))
        if above:
            return "it is a trunk: %s lie on it" % ", ".join(above[:5])
        if not families:
            return "it has no address: it isn't a routed port"
        if name in settings.get("uplinks", ()) or parent in settings.get("uplinks", ()):
            return "the catalogue calls it an uplink"
        peering = next((line for line in body if _PEERING.fullmatch(line) and not line.endswith("passive")), None)
        if peering:
            return "it has a neighbor: %s" % peering
        return neighbor(port, _networks(body), statics, peers) or _filters.bound_by_others(lines, foreign)


def _address(words, version):
    """(normal form of one end of a rule, the words behind it)."""
    if words[0] == "any":
        return "any", words[1:]
    if words[0] == "host":
        return str(ipaddress.ip_network(words[1].lower())), words[2:]
    if "/" in words[0]:
        return str(ipaddress.ip_network(words[0].lower())), words[1:]
    if version == 6:
        raise ValueError(words[0])
    network = ipaddress.ip_network("%s/%s" % (words[0], words[1]))  # a wildcard, as `ipaddress` takes a host mask
    if str(network.hostmask) != words[1]:
        raise ValueError(words[1])
    return str(network), words[2:]


def _networks(body):
    """Networks that a port is connected to."""
    found = []
    for line in body:
        words = line.split()
        if words[:2] not in (["ip", "address"], ["ipv6", "address"]):
            continue
        for at, word in enumerate(words[2:], 2):
            text = word if "/" in word else "%s/%s" % (word, words[at + 1]) if "." in word and len(words) > at + 1 else None
            try:
                found += [ipaddress.ip_interface(text).network] if text else []
            except ValueError:
                continue
    return found


def neighbor(port, networks, statics, peers):
    """What else than the server is behind a port, or None; from static routes, as parsers give them, and BGP neighbors."""
    own = [ipaddress.ip_network(text) for text in port["own"]]

    for peer in peers:
        if within(peer, networks):
            return "it has a neighbor: BGP peer %s" % peer
    for route in statics:
        through = [hop for hop in route["hops"] if within(hop, networks)]
        named = port["interface"] in route["line"].split()
        if not through and not named:
            continue
        if route["prefix"] in ("0.0.0.0/0", "::/0"):
            return "it is an uplink: the default route leaves by it"
        others = [hop for hop in through or route["hops"] if not within(hop, own)]
        if others:
            return "it has a neighbor: %s is reached by %s" % (route["prefix"], others[0])
    return None
