# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our two tables should hold for a filter model. Pure. PRIVATE to the collection.

`bridge hosting_aup` judges guests on tenant bridges by the port they are plugged into;
`inet hosting_aup` judges routed taps, and guests on a bridge that use the host as their gateway.
The *shape* (chains, rules, set declarations) depends only on the node's settings and the mode for
unknown guests; everything about single guests is an element of a set, so a change of one guest is a
change of a few elements and a packet costs the same however many guests there are.
"""
from __future__ import annotations

import ipaddress
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _controls, _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import declaration, spec as _spec
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

TABLE = "hosting_aup"
GUARD = TABLE + "_guard"  # stands in while our tables are made anew; see `_plan`
FAMILIES = ("bridge", "inet")

# One bit of the packet mark carries "came from a port that may not speak for its MAC" from the bridge's
# input hook to the forward hook of the same packet, where it is cleared: the inet family sees only the
# bridge, and two families share no sets. It is set on SMTP packets only. Bits others use (Kubernetes,
# Calico, Cilium, Tailscale, Proxmox) are avoided.
MARK = 0x2000

_STRICTNESS = ("off", "exempt", "observe", "enforce")
_MODES = frozenset(_STRICTNESS)
_HOLDS = ("dark", "quarantine")
BLOCK_PROTOCOLS = ("tcp", "udp")
BLOCK_DIRECTIONS = ("out", "in")

Ruleset = namedtuple("Ruleset", "shape elements services")
Ruleset.__doc__ = """What the tables should be.

`shape`: script that makes both tables with empty sets; `elements`: `{(family, set): frozenset of elements
as nft lists them}`; `services`: `{port, or MAC: service id}`: whose the counters are.
"""


_ALWAYS = {
    "smtp_watched": _spec("inet_service"),      # every port some rule below cares for
    "unknown_ports": _spec("inet_service"),     # those refused (or counted) for guests nobody knows
    "uplinks": _spec("ifname"),
    "smarthosts4": _spec("ipv4_addr", interval=True),
    "smarthosts6": _spec("ipv6_addr", interval=True),
    "held_ports": _spec("ifname"),
    "dark_ports": _spec("ifname", counted=True),
    "quarantine_ports": _spec("ifname", counted=True),
    "rescue4": _spec("ipv4_addr", interval=True),
    "rescue6": _spec("ipv6_addr", interval=True),
    "known_ports": _spec("ifname"),
    "open_ports": _spec("ifname"),              # known ports with nothing refused
    "smtp_enforce": _spec("ifname . inet_service", counted=True),
    "smtp_observe": _spec("ifname . inet_service", counted=True),
    "blocked_out_ports": _spec("ifname"),       # ports whose guest may not send to some destination port
    "blocked_in_ports": _spec("ifname"),
    "block_out_tcp": _spec("ifname . inet_service", counted=True),
    "block_out_udp": _spec("ifname . inet_service", counted=True),
    "block_in_tcp": _spec("ifname . inet_service", counted=True),
    "block_in_udp": _spec("ifname . inet_service", counted=True),
    # What a guest does not hear from, or may not reach: single addresses by hash, prefixes in sets that cost more.
    "drop_in_ports": _spec("ifname"),
    "drop_out_ports": _spec("ifname"),
    "drop_in4": _spec("ifname . ipv4_addr", counted=True),
    "drop_in6": _spec("ifname . ipv6_addr", counted=True),
    "drop_out4": _spec("ifname . ipv4_addr", counted=True),
    "drop_out6": _spec("ifname . ipv6_addr", counted=True),
    "drop_in4_nets": _spec("ifname . ipv4_addr", counted=True, interval=True),
    "drop_in6_nets": _spec("ifname . ipv6_addr", counted=True, interval=True),
    "drop_out4_nets": _spec("ifname . ipv4_addr", counted=True, interval=True),
    "drop_out6_nets": _spec("ifname . ipv6_addr", counted=True, interval=True),
    "null4": _spec("ipv4_addr", counted=True, interval=True),
    "null6": _spec("ipv6_addr", counted=True, interval=True),
}
_OWN = {
    "bridge": dict(
        _ALWAYS,
        own_macs=_spec("ifname . ether_addr"),  # a port and the MACs of its own guest
        judged_macs=_spec("ether_addr"),        # MACs the inet table refuses something
        nameless_ports=_spec("ifname"),         # known ports whose guest's MAC isn't known
        held_macs=_spec("ether_addr"),
        dark_macs=_spec("ether_addr", counted=True),
        quarantine_macs=_spec("ether_addr", counted=True),
    ),
    "inet": dict(
        _ALWAYS,
        bridges=_spec("ifname"),
        same_bridge=_spec("ifname . ifname"),
        bridged_enforce=_spec("ifname . ether_addr . inet_service", counted=True),
        bridged_observe=_spec("ifname . ether_addr . inet_service", counted=True),
    ),
}
_OWN_COUNTERS = {
    "bridge": ("unknown_refused", "unknown_observed", "hidden_refused", "spoofed_refused"),
    "inet": ("unknown_refused", "unknown_observed", "hidden_refused"),
}
# All there can be; those of a control are there where it is in use.
SETS = {family: dict(found, **_controls.SETS) for family, found in _OWN.items()}
COUNTERS = {family: found + _controls.COUNTERS for family, found in _OWN_COUNTERS.items()}

# Counted sets: which control an element is evidence for.
CONTROL_OF_SET = {
    "smtp_enforce": "smtp_outbound_refused", "bridged_enforce": "smtp_outbound_refused",
    "smtp_observe": "smtp_outbound_observed", "bridged_observe": "smtp_outbound_observed",
    "dark_ports": "suspend", "dark_macs": "suspend",
    "quarantine_ports": "quarantine", "quarantine_macs": "quarantine",
    "block_out_tcp": "port_block", "block_out_udp": "port_block",
    "block_in_tcp": "port_block", "block_in_udp": "port_block",
    "null4": "null_route", "null6": "null_route",
    **{"drop_%s%d%s" % (way, version, kind): "drop" for way in BLOCK_DIRECTIONS for version in (4, 6) for kind in ("", "_nets")},
}
CONTROL_OF_SET.update(_controls.CONTROL_OF_SET)


# -- rules ----------------------------------------------------------------------------------------

# The bridge family must be told the protocol: left to itself nft takes the Ethernet type for it, which is the
# tag's in a tagged frame (it also forgets so when it reads its own listing: `_plan.snapshot_script`).
_BRIDGED_IP4 = "meta protocol ip "
_BRIDGED_IP6 = "meta protocol ip6 "

# What remains when neither another protocol, nor a readable TCP port, nor a later fragment was found:
# TCP cut before its ports, IPv6 extension headers split over fragments, an inner VLAN tag. A later
# fragment is harmless: without its first one, which was judged, nobody can put it together.
_HIDDEN = """\
        meta l4proto tcp th dport @smtp_watched goto smtp
        meta l4proto != tcp accept
        th dport & 0 == 0 accept
        ip frag-off & 0x1fff != 0 accept
        %smeta l4proto tcp frag frag-off != 0 accept
        meta protocol { ip, ip6, 8021q, 8021ad } goto hidden
"""

# ARP, neighbour discovery, MLD, RARP (announcement after a migration), DHCP: without them the guest can't
# be reached even from the rescue networks. Hop limits keep routers from carrying them anywhere.
_QUARANTINE = """\
    chain from_quarantine {
%(arp)s        %(icmpv6)sicmpv6 type 133-136 ip6 hoplimit 255 accept
        %(icmpv6)sicmpv6 type { 130-132, 143 } ip6 hoplimit 1 accept
        ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
        ip6 daddr { fe80::/10, ff02::/16 } udp sport 546 udp dport 547 accept
        ip daddr @rescue4 accept
        ip6 daddr @rescue6 accept
    }
    chain to_quarantine {
%(arp)s        %(icmpv6)sicmpv6 type 133-137 ip6 hoplimit 255 accept
        %(icmpv6)sicmpv6 type { 130-132, 143 } ip6 hoplimit 1 accept
        meta protocol ip udp sport 67 udp dport 68 accept
        ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
        ip saddr @rescue4 accept
        ip6 saddr @rescue6 accept
    }
"""
_SMARTHOSTS = """\
        ip daddr @smarthosts4 accept
        ip6 daddr @smarthosts6 accept
"""

# Addresses that are nobody's for now: what comes from them or goes to them, on whatever port.
_NULL_FROM = """\
        %(ip4)sip saddr @null4 drop
        %(ip6)sip6 saddr @null6 drop
"""
_NULL_TO = """\
        %(ip4)sip daddr @null4 drop
        %(ip6)sip6 daddr @null6 drop
"""
_DROPS = """\
    chain from_dropped {
        %(ip4)siifname . ip daddr @drop_out4 drop
        %(ip4)siifname . ip daddr @drop_out4_nets drop
        %(ip6)siifname . ip6 daddr @drop_out6 drop
        %(ip6)siifname . ip6 daddr @drop_out6_nets drop
    }
    chain to_dropped {
        %(ip4)soifname . ip saddr @drop_in4 drop
        %(ip4)soifname . ip saddr @drop_in4_nets drop
        %(ip6)soifname . ip6 saddr @drop_in6 drop
        %(ip6)soifname . ip6 saddr @drop_in6_nets drop
    }
"""
# A blocked port may not be hidden in a header that can't be read either; see _HIDDEN.
_BLOCKS = """\
    chain from_blocked {
        meta l4proto tcp iifname . th dport @block_out_tcp drop
        meta l4proto udp iifname . th dport @block_out_udp drop
        goto hidden_block
    }
    chain to_blocked {
        meta l4proto tcp oifname . th dport @block_in_tcp drop
        meta l4proto udp oifname . th dport @block_in_udp drop
        goto hidden_block
    }
    chain hidden_block {
        meta l4proto != { tcp, udp } return
        th dport & 0 == 0 return
        ip frag-off & 0x1fff != 0 return
        %(ip6)smeta l4proto { tcp, udp } frag frag-off != 0 return
        meta protocol { ip, ip6, 8021q, 8021ad } counter name "hidden_refused" drop
    }
"""

_BRIDGE = """\
    chain prerouting {
        type filter hook prerouting priority -310; policy accept;
%(null_from)s%(null_to)s%(controls_from)s        iifname @drop_out_ports jump from_dropped
        iifname @blocked_out_ports jump from_blocked
        iifname @held_ports goto from_held_port
        ether saddr @held_macs goto from_held_mac
    }
    chain postrouting {
        type filter hook postrouting priority -310; policy accept;
%(null_to)s%(controls_to)s        oifname @drop_in_ports jump to_dropped
        oifname @blocked_in_ports jump to_blocked
        oifname @held_ports goto to_held_port
        ether daddr @held_macs goto to_held_mac
    }
%(blocks)s%(quarantine)s    chain from_held_port {
        iifname @dark_ports drop
        jump from_quarantine
        iifname @quarantine_ports drop
    }
    chain to_held_port {
        oifname @dark_ports drop
        jump to_quarantine
        oifname @quarantine_ports drop
    }
    chain from_held_mac {
        iifname @uplinks accept
        ether saddr @dark_macs drop
        jump from_quarantine
        ether saddr @quarantine_macs drop
    }
    chain to_held_mac {
        oifname @uplinks accept
        ether daddr @dark_macs drop
        jump to_quarantine
        ether daddr @quarantine_macs drop
    }
    chain forward {
        type filter hook forward priority -210; policy accept;
%(hidden_rules)s    }
    chain smtp {
%(smarthosts)s        iifname @uplinks accept
        iifname . th dport @smtp_enforce drop
        iifname @known_ports goto smtp_open
        th dport != @unknown_ports accept
        oifname @uplinks goto unknown
        oifname @known_ports goto unknown
    }
    chain smtp_open {
        ether saddr @judged_macs iifname . ether saddr != @own_macs counter name "spoofed_refused" drop
        iifname . th dport @smtp_observe accept
    }
    chain unknown {
%(unknown)s    }
    chain hidden {
        iifname @uplinks accept
        iifname @open_ports accept
        iifname @known_ports counter name "hidden_refused" drop
%(unknown_hidden)s    }
    chain unknown_hidden {
        counter name "hidden_refused" drop
    }
    chain input {
        type filter hook input priority -210; policy accept;
%(input_rules)s    }
    chain smtp_to_host {
%(smarthosts)s        iifname @uplinks accept
        iifname . ether saddr @own_macs accept
        iifname @nameless_ports goto strange
        iifname . th dport @smtp_enforce drop
        iifname @known_ports goto smtp_open
        goto strange
    }
    chain hidden_to_host {
        iifname @uplinks accept
        iifname @open_ports accept
%(mark_hidden)s    }
    chain strange {
        meta mark set meta mark | %(mark)s
    }
"""

_INET = """\
    chain prerouting {
        type filter hook prerouting priority -310; policy accept;
%(null_from)s%(null_to)s%(controls_from)s        iifname @drop_out_ports jump from_dropped
        iifname @blocked_out_ports jump from_blocked
        iifname @held_ports goto from_held_port
    }
    chain postrouting {
        type filter hook postrouting priority 310; policy accept;
%(null_to)s%(controls_to)s        oifname @drop_in_ports jump to_dropped
        oifname @blocked_in_ports jump to_blocked
        oifname @held_ports goto to_held_port
    }
%(blocks)s%(quarantine)s    chain from_held_port {
        iifname @dark_ports drop
        jump from_quarantine
        iifname @quarantine_ports drop
    }
    chain to_held_port {
        oifname @dark_ports drop
        jump to_quarantine
        oifname @quarantine_ports drop
    }
    chain forward {
        type filter hook forward priority -10; policy accept;
%(hidden_rules)s    }
    chain smtp {
        meta mark & %(mark)s != 0 goto marked
%(smarthosts)s        iifname @uplinks accept
        iifname . th dport @smtp_enforce reject with tcp reset
        iifname . th dport @smtp_observe accept
        iifname @known_ports accept
        iifname . ether saddr . th dport @bridged_enforce reject with tcp reset
        iifname . oifname @same_bridge accept
        iifname . ether saddr . th dport @bridged_observe accept
        iifname @bridges accept
%(patterns)s    }
    chain marked {
        meta mark set meta mark & %(unmark)s
%(smarthosts)s        iifname @bridges th dport @unknown_ports goto unknown
    }
    chain unknown {
%(unknown)s    }
    chain hidden {
        meta mark & %(mark)s != 0 goto marked_hidden
        iifname @uplinks accept
        iifname @open_ports accept
        iifname @known_ports goto unknown_hidden
        iifname @bridges accept
%(patterns_hidden)s    }
    chain marked_hidden {
        meta mark set meta mark & %(unmark)s
        iifname @bridges goto unknown_hidden
    }
    chain unknown_hidden {
        counter name "hidden_refused" drop
    }
"""


def _lines(rules):
    return "".join("        %s\n" % rule for rule in rules)


def _unknown(mode, refuse):
    if mode == "enforce":
        return 'counter name "unknown_refused" %s' % refuse
    if mode == "observe":
        return 'counter name "unknown_observed" accept'
    return "accept"


def _shape(mode, patterns, model, controls):
    """Script of both tables with empty sets.

    :param mode: of guests nobody knows
    :param patterns: quoted patterns of routed taps
    :param controls: those in use
    """
    enforce = mode == "enforce"
    words = {
        "mark": "0x%08x" % MARK, "unmark": "0x%08x" % (0xFFFFFFFF ^ MARK),
        "smarthosts": _SMARTHOSTS,
        "input_rules": (_HIDDEN % _BRIDGED_IP6).replace("goto smtp\n", "goto smtp_to_host\n").replace(
            "goto hidden", "goto hidden_to_host"),
        "unknown_hidden": _lines([
            "oifname @uplinks goto unknown_hidden", "oifname @known_ports goto unknown_hidden"] if enforce else []),
        "mark_hidden": _lines(["goto strange"] if enforce else ["iifname @known_ports goto strange"]),
        "patterns": _lines("iifname %s th dport @unknown_ports goto unknown" % p for p in patterns),
        "patterns_hidden": _lines("iifname %s goto unknown_hidden" % p for p in patterns if enforce),
        "controls_from": _controls.jumps(controls, "from"), "controls_to": _controls.jumps(controls, "to"),
    }
    bridged = {"ip4": _BRIDGED_IP4, "ip6": _BRIDGED_IP6}
    routed = {"ip4": "", "ip6": ""}
    bodies = {
        "bridge": _BRIDGE % dict(
            words, null_from=_NULL_FROM % bridged, null_to=_NULL_TO % bridged, blocks=_DROPS % bridged + _BLOCKS % bridged,
            hidden_rules=_HIDDEN % _BRIDGED_IP6, unknown=_lines([_unknown(mode, "drop")]),
            quarantine=_QUARANTINE % {
                "icmpv6": _BRIDGED_IP6 + "meta l4proto ipv6-icmp ",
                "arp": _lines(["meta protocol { arp, 0x8035 } accept"])}),
        "inet": _INET % dict(
            words, null_from=_NULL_FROM % routed, null_to=_NULL_TO % routed, blocks=_DROPS % routed + _BLOCKS % routed,
            hidden_rules=_HIDDEN % "", unknown=_lines([_unknown(mode, "reject with tcp reset")]),
            quarantine=_QUARANTINE % {"icmpv6": "", "arp": ""}),
    }
    parts = []
    for family in FAMILIES:
        parts.append("table %s %s {\n" % (family, TABLE))
        parts.extend("    counter %s { }\n" % name for name in _OWN_COUNTERS[family])
        parts.extend("    counter %s { }\n" % name for control in controls for name in control.counters)
        # The chains first that elements of maps and rules name.
        parts.append(_controls.text(family, model, controls))
        parts.extend(declaration(name, one) for name, one in _sets_of(family, controls).items())
        parts.append(bodies[family])
        parts.append("}\n")
    return "".join(parts)


def _sets_of(family, controls):
    return dict(_OWN[family], **_controls.sets_of(controls))


# -- elements -------------------------------------------------------------------------------------

def _mode(smtp, what):
    mode = smtp["mode"]
    if mode not in _MODES:
        raise InputError("mode %r of smtp_outbound for %s is none of off, observe, enforce, exempt." % (mode, what),
                         target=what, remedy="Correct the desired state.")
    judged = mode in ("observe", "enforce")
    return mode, frozenset(_names.tcp_port(port) for port in smtp["ports"] if judged)


class _Elements:
    """Collects the elements of both tables."""

    def __init__(self, controls=()):
        self.controls = controls
        self.sets = {(family, name): set() for family in FAMILIES
                     for name, one in _sets_of(family, controls).items() if not one.dynamic}
        self.services = {}
        self._bridged = {}
        self._guest_macs = {}
        self._guest_ports = {}

    def both(self, name, elements):
        for family in FAMILIES:
            self.sets[family, name].update(elements)

    def add_port(self, port, unknown, uplinks):
        name = _names.interface(port["name"], "port")
        if name in self.sets["bridge", "known_ports"] or name in self.sets["inet", "known_ports"]:
            raise InputError("port %s is in the model twice." % port["name"], target=port["name"],
                             remedy="Each interface belongs to one guest.")
        if name in uplinks:
            raise InputError("port %s is declared an uplink and is also a guest's." % port["name"], target=port["name"],
                             remedy="Remove it from the node's uplinks.")
        mode, ports = _mode(port["smtp"], "port %s" % port["name"])
        family = "inet" if port["bridge"] is None else "bridge"
        sets = self.sets
        sets[family, "known_ports"].add(name)
        if port["service"] is not None:
            self.services[port["name"]] = port["service"]
        if ports:
            sets[family, "smtp_" + mode].update(["%s . %s" % (name, number) for number in ports])
            self.both("smtp_watched", ports)
        if mode != "enforce" or not ports:
            sets[family, "open_ports"].add(name)
        if port["hold"] is not None:
            if port["hold"] not in _HOLDS:
                raise InputError("hold %r of port %s is neither dark nor quarantine." % (port["hold"], port["name"]),
                                 target=port["name"], remedy="Correct the desired state.")
            sets[family, port["hold"] + "_ports"].add(name)
            sets[family, "held_ports"].add(name)
        for block in port.get("blocks", ()):
            self._add_block(block, family, name, port["name"])
        for direction, remotes in sorted((port.get("drops") or {}).items()):
            self._add_drops(direction, remotes, family, name, port["name"])
        if self.controls:
            for found, elements in _controls.port_elements(port, name, family, self.controls).items():
                sets[family, found].update(elements)
        if family == "bridge":
            self._add_bridged(port, name, mode, ports, unknown)

    def _add_block(self, block, family, quoted, name):
        protocol, direction = block["protocol"], block["direction"]
        if protocol not in BLOCK_PROTOCOLS or direction not in BLOCK_DIRECTIONS:
            raise InputError("block %r %r of port %s is none of tcp or udp, out or in." % (protocol, direction, name),
                             target=name, remedy="Correct the desired state.")
        self.sets[family, "block_%s_%s" % (direction, protocol)].update(
            "%s . %s" % (quoted, _names.tcp_port(number)) for number in block["ports"])
        self.sets[family, "blocked_%s_ports" % direction].add(quoted)

    def _add_drops(self, direction, remotes, family, quoted, name):
        """Remote prefixes of one direction; none of them contains another."""
        if direction not in BLOCK_DIRECTIONS:
            raise InputError("drop %r of port %s is neither out nor in." % (direction, name), target=name,
                             remedy="Correct the desired state.")
        for text in remotes:
            version, spelled = _names.remote(text)
            kind = "_nets" if "/" in spelled else ""
            self.sets[family, "drop_%s%d%s" % (direction, version, kind)].add("%s . %s" % (quoted, spelled))
        if remotes:
            self.sets[family, "drop_%s_ports" % direction].add(quoted)

    def add_null_routes(self, null_routes):
        """Addresses that are dark; each keeps its own count, unless another one contains it.

        Not merged with its neighbours: they are other services' evidence.
        """
        owner = {}
        for entry in sorted(null_routes, key=lambda entry: entry["service"], reverse=True):
            for found in _names.prefixes(entry["prefixes"], "null-routed prefix"):
                owner.update((ipaddress.ip_network(text), (text, entry["service"])) for text in found)
        widest = None  # what contains others comes before them
        for network in sorted(owner, key=lambda one: (one.version, one.network_address, one.prefixlen)):
            if widest is not None and widest.version == network.version and network.subnet_of(widest):
                continue
            widest, (text, service) = network, owner[network]
            self.both("null%d" % network.version, [text])
            self.services[text] = service

    def _add_bridged(self, port, name, mode, ports, unknown):
        bridge = _names.interface(port["bridge"], "bridge")
        self.sets["inet", "same_bridge"].add("%s . %s" % (bridge, bridge))
        if port["mac"] is None:
            # Behind the bridge the guest can't be told from others, so it is judged as the unknown one it is.
            if (mode, ports) == unknown:
                self.sets["bridge", "nameless_ports"].add(name)
            return
        address = _names.mac(port["mac"])
        # NICs of one guest may speak for each other (bonding), those of different guests may not.
        owner = (bridge, port["service"]) if port["service"] is not None else (bridge, None, name)
        self._guest_macs.setdefault(owner, set()).add(address)
        self._guest_ports.setdefault(owner, []).append(name)
        if port["service"] is not None:
            self.services[address] = port["service"]
        key = "%s . %s" % (bridge, address)
        before = self._bridged.get(key)
        if before is None or _STRICTNESS.index(before[0]) < _STRICTNESS.index(mode):
            self._bridged[key] = (mode, ports, address)

    def finish(self):
        """Elements that follow from all ports together; returns `{(family, set): frozenset}`."""
        own, judged = self.sets["bridge", "own_macs"], self.sets["bridge", "judged_macs"]
        for owner, names in self._guest_ports.items():
            addresses = self._guest_macs[owner]
            own.update(["%s . %s" % (name, address) for name in names for address in addresses])
        for key, (mode, ports, address) in self._bridged.items():
            if ports:
                self.sets["inet", "bridged_" + mode].update(["%s . %s" % (key, number) for number in ports])
                if mode == "enforce":
                    judged.add(address)
        return {key: frozenset(elements) for key, elements in self.sets.items()}


def build(model):
    """The ruleset for a filter model (docs: architecture, packet filter).

    :param model: `uplinks`, `bridges`, `routed_interfaces`, `ports`, `held_macs`, `smtp`, `rescue`; `null_routes`, `controls`
    :raises InputError: for any name, MAC, prefix or port that is not what it should be; nothing was touched
    """
    controls = _controls.chosen(model)
    collected = _Elements(controls)
    uplinks = {_names.interface(name, "uplink") for name in model["uplinks"]}
    collected.both("uplinks", uplinks)
    bridges = {_names.interface(name, "bridge") for name in model["bridges"]}
    collected.sets["inet", "bridges"].update(bridges)
    collected.sets["inet", "same_bridge"].update("%s . %s" % (name, name) for name in bridges)
    unknown = _mode(model["smtp"]["unknown"], "unknown guests")
    collected.both("unknown_ports", unknown[1])
    collected.both("smtp_watched", unknown[1])
    for port in sorted(model["ports"], key=lambda port: str(port["name"])):
        collected.add_port(port, unknown, uplinks)
    for hold in _HOLDS:
        addresses = {_names.mac(address) for address in model["held_macs"][hold]}
        collected.sets["bridge", hold + "_macs"].update(addresses)
        collected.sets["bridge", "held_macs"].update(addresses)
    for name, texts in (("smarthosts", model["smtp"]["smarthosts"]), ("rescue", model["rescue"])):
        for version, found in zip("46", _names.prefixes(texts, name)):
            collected.both(name + version, found)
    collected.add_null_routes(model.get("null_routes", ()))
    for control in controls:
        for name, elements in control.node_elements(model["controls"][control.name]).items():
            collected.both(name, elements)
    patterns = sorted({_names.interface_pattern(pattern) for pattern in model["routed_interfaces"]})
    mode = unknown[0] if unknown[1] else "off"
    return Ruleset(_shape(mode, patterns, model, controls), collected.finish(), collected.services)
