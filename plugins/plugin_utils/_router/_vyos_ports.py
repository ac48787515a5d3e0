# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of a VyOS router: rule-sets, groups and QoS policies of our own, by the port's name. Pure. PRIVATE to the collection.

The operator prepares one rule-set `aup-ports` and a jump to it before every other rule of `forward`; in it lie our two rules
for each port, which jump to the port's own rule-sets. Nothing is negated, as `!` means history to the shell that VyOS's
command line is: what may pass returns before what drops. The port is not disabled: its `disable` would be nobody's, and lifting
would enable what the operator had disabled himself.

A configuration line is the tuple of its words here, without `set` and quotes; the number of a rule in `aup-ports` is `*`.
"""
from __future__ import annotations

import contextlib
import ipaddress
import re
from itertools import pairwise

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import LEAST_BURST, within

PORT = r"(?:eth|bond)[0-9]{1,3}(?:\.[0-9]{1,4}){0,2}"
PORT_IS = "an Ethernet port or a sub-interface (eth1, eth1.100, bond0.100)"
ENTRY = "aup-ports"
_FAMILIES = {4: ("ipv4", "network-group"), 6: ("ipv6", "ipv6-network-group")}
_OURS = re.compile(r"aup-(%s)-(?:from|to|mail|own|host|cap)[46]?" % PORT)
_NAME = r"aup-%s-" % PORT
_NUMBERS = r"[0-9]{1,5}(?:,[0-9]{1,5}){0,14}"
_NET = {4: _gate.PREFIX4, 6: _gate.PREFIX6}
_BITS = r"[1-9][0-9]{0,12}"
_RULE = r"rule [1-9][0-9]{0,5}"
GRAMMAR = tuple(re.compile(text) for text in (
    *(text for version, (family, group) in _FAMILIES.items() for text in (
        r"delete firewall %s name %s(?:from|to|mail)" % (family, _NAME),
        r"set firewall %s name %s(?:from|to|mail) default-action (?:return|drop|reject)" % (family, _NAME),
        r"set firewall %s name %s(?:from|to|mail) %s action (?:return|drop|continue|jump)" % (family, _NAME, _RULE),
        r"set firewall %s name %s(?:from|to|mail) %s jump-target %smail" % (family, _NAME, _RULE, _NAME),
        r"set firewall %s name %s(?:from|to|mail) %s protocol (?:tcp|udp)" % (family, _NAME, _RULE),
        r"set firewall %s name %s(?:from|to|mail) %s destination port %s" % (family, _NAME, _RULE, _NUMBERS),
        r"set firewall %s name %s(?:from|to|mail) %s (?:source|destination) group network-group %s(?:own|host)%d" % (
            family, _NAME, _RULE, _NAME, version),
        r"set firewall group %s %s(?:own|host)%d network %s" % (group, _NAME, version, _NET[version]),
        r"delete firewall group %s %s(?:own|host)%d" % (group, _NAME, version),
        r"set firewall %s name %s %s action jump" % (family, ENTRY, _RULE),
        r"set firewall %s name %s %s jump-target %s(?:from|to)" % (family, ENTRY, _RULE, _NAME),
        r"set firewall %s name %s %s (?:inbound|outbound)-interface name %s" % (family, ENTRY, _RULE, PORT),
        r"delete firewall %s name %s %s" % (family, ENTRY, _RULE))),
    r"set qos policy limiter %scap default (?:bandwidth %sbit|burst %s)" % (_NAME, _BITS, _BITS),
    r"set qos policy rate-control %scap (?:bandwidth %sbit|burst %s)" % (_NAME, _BITS, _BITS),
    r"delete qos policy (?:limiter|rate-control) %scap" % _NAME,
    r"set qos interface %s (?:ingress|egress) %scap" % (PORT, _NAME), r"delete qos interface %s (?:ingress|egress)" % PORT,
))
READY = tuple(tuple(text.split()) for family, _group in _FAMILIES.values() for text in (
    "firewall %s name %s default-action return" % (family, ENTRY),
    "firewall %s forward filter rule 1 action jump" % family, "firewall %s forward filter rule 1 jump-target %s" % (family, ENTRY)))


# -- what is wanted ------------------------------------------------------------------------------------------------------


def rules(port):
    """The configuration lines of one port.

    :param port: terms of `_routers._ports`
    :raises ValueError: no name of a port
    """
    name = port["interface"]
    if not re.fullmatch(PORT, name):
        raise ValueError("interface %r" % (name,))
    found = []
    for version in _FAMILIES:
        found += _family(port, "aup-%s-" % name, version)
    if port["rate_bps"]:
        rate, burst = int(port["rate_bps"]), max(int(port["rate_bps"]) // 80, LEAST_BURST)
        cap = "aup-%s-cap" % name
        for kind, inside in (("limiter", ("default",)), ("rate-control", ())):
            found += [("qos", "policy", kind, cap, *inside, "bandwidth", "%dbit" % rate),
                      ("qos", "policy", kind, cap, *inside, "burst", "%d" % burst)]
        found += [("qos", "interface", name, "ingress", cap), ("qos", "interface", name, "egress", cap)]
    return sorted(" ".join(line) for line in found)


def _family(port, prefix, version):
    family, group = _FAMILIES[version]
    sides, found = {"from": [], "to": []}, []
    if port["dark"]:
        for side in sides.values():
            side.append([("action", "drop")])
    if port["smtp"]["mode"] != "off":
        mail, hosts = prefix + "mail", _of(port["smarthosts"], version)
        chain = [[("action", "return"), ("destination", "group", "network-group", "%shost%d" % (prefix, version))]] if hosts else []
        chain += [[("action", "continue")]] if port["smtp"]["mode"] == "observe" else []
        found += [("firewall", "group", group, "%shost%d" % (prefix, version), "network", host) for host in hosts]
        found += _chain(family, mail, chain, "reject" if port["smtp"]["mode"] == "enforce" else "return")
        sides["from"] += [[("action", "jump"), ("jump-target", mail), ("protocol", "tcp"), ("destination", "port", numbers)]
                          for numbers in _chunks(port["smtp"]["ports"])]
    for block in port["blocks"]:
        sides["from" if block["direction"] == "out" else "to"] += [
            [("action", "drop"), ("protocol", block["protocol"]), ("destination", "port", numbers)] for numbers in _chunks(block["ports"])]
    if port["guard"] != "off":
        # Last: what is its own returns, and nothing after it is looked at.
        own = _of(port["own"], version)
        found += [("firewall", "group", group, "%sown%d" % (prefix, version), "network", text) for text in own]
        sides["from"] += [[("action", "return"), ("source", "group", "network-group", "%sown%d" % (prefix, version))]] if own else []
        sides["from"].append([("action", "drop" if port["guard"] == "enforce" else "continue")])
    for side, way in (("from", "inbound"), ("to", "outbound")):
        if sides[side]:
            found += _chain(family, prefix + side, sides[side], "return")
            found += [("firewall", family, "name", ENTRY, "rule", "*", *rest) for rest in (
                ("action", "jump"), ("jump-target", prefix + side), (way + "-interface", "name", port["interface"]))]
    return found


def _chain(family, name, entries, otherwise):
    lines = [("firewall", family, "name", name, "default-action", otherwise)]
    return lines + [("firewall", family, "name", name, "rule", "%d" % (10 * number), *said)
                    for number, entry in enumerate(entries, 1) for said in entry]


def _of(prefixes, version):
    return [str(network) for network in (ipaddress.ip_network(text) for text in prefixes) if network.version == version]


def _chunks(numbers):
    """Ports fifteen at a time, as many as one match takes."""
    numbers = ["%d" % int(number) for number in sorted(numbers)]
    return [",".join(numbers[at:at + 15]) for at in range(0, len(numbers), 15)]


def commands(wanted, found, slots):
    """Commands that make a port's configuration what is wanted: what is ours goes, what is wanted comes, in one commit.

    :param wanted: lines
    :param found: lines that are there, rules of `aup-ports` with their numbers
    :param slots: numbers for its two rules there
    """
    gone = sorted({_node(line) for line in found})
    numbers = {"from": "%d" % slots[0], "to": "%d" % slots[1]}
    lines = ["delete " + " ".join(node) for node in gone]
    return lines + ["set " + " ".join(line) for line in _numbered([tuple(line.split(" ")) for line in wanted], numbers)]


def _numbered(lines, numbers):
    entries = [line for line in lines if "*" in line]
    for family in ("ipv4", "ipv6"):
        mine = [line for line in entries if line[1] == family]
        for side, way in (("from", "inbound-interface"), ("to", "outbound-interface")):
            if any(line[6] == way for line in mine):
                (target,) = (line for line in mine if line[6] == "jump-target" and line[7].endswith("-" + side))
                (way_line,) = (line for line in mine if line[6] == way)
                yield from ((*line[:5], numbers[side], *line[6:]) for line in (
                    ("firewall", family, "name", ENTRY, "rule", "*", "action", "jump"), target, way_line))
    yield from (line for line in lines if "*" not in line)


def _node(line):
    """The node to delete that a line of ours is part of."""
    if line[:2] == ("firewall", "group") or line[:2] == ("qos", "policy"):
        return line[:4]
    if line[0] == "qos":
        return line[:4]
    return line[:6] if line[3] == ENTRY else line[:4]


# -- what is there -------------------------------------------------------------------------------------------------------


def parse(lines):
    """`({port: its lines, sorted, with `*` for numbers}, {port: the same lines as they are}, numbers in use of `aup-ports`)`."""
    rows, plain, used = {}, {}, {}
    for line in lines:
        if line[:1] == ("firewall",) and line[2:4] == ("name", ENTRY) and line[4:5] == ("rule",) and len(line) > 5:
            used.setdefault((line[1], line[5]), []).append(line)
    for entry in used.values():
        target = next((line[7] for line in entry if line[6:7] == ("jump-target",) and len(line) == 8), "")
        match = _OURS.fullmatch(target)
        for line in entry if match else ():
            _put(rows, plain, match.group(1), line, (*line[:5], "*", *line[6:]))
    for line in lines:
        name = line[3] if line[:1] == ("firewall",) and len(line) > 3 else line[3] if line[:2] == ("qos", "policy") and len(line) > 3 else \
            line[4] if line[:2] == ("qos", "interface") and len(line) == 5 else ""
        match = _OURS.fullmatch(name)
        if match:
            _put(rows, plain, match.group(1), line, line)
    return {port: sorted(" ".join(line) for line in found) for port, found in rows.items()}, plain, {number for _family, number in used}


def is_ours(line):
    """Whether a configuration line is part of what is on ports."""
    return any(_OURS.fullmatch(word) for word in line) or line[3:5] == (ENTRY, "rule")


def _put(rows, plain, port, line, normal):
    rows.setdefault(port, []).append(normal)
    plain.setdefault(port, []).append(line)


def slots(ports, plain, used):
    """`{port: (number, number)}` in `aup-ports`: those it has, else the next that are free."""
    taken, found = {int(number) for number in used if number.isdigit()}, {}
    for port in sorted(set(ports) | set(plain)):
        mine = {}
        for line in plain.get(port, ()):
            if line[3] == ENTRY and line[6] == "jump-target":
                mine[line[7].rpartition("-")[2]] = int(line[5])
        if set(mine) != {"from", "to"}:
            first = next(number for number in range(10, 900000, 10) if not {number, number + 5} & taken)
            mine = {"from": mine.get("from", first), "to": mine.get("to", first + 5)}
        taken |= set(mine.values())
        found[port] = (mine["from"], mine["to"])
    return found


# -- may it be acted on --------------------------------------------------------------------------------------------------


def missing(lines):
    """What the operator has to prepare: lines, or what stands before ours."""
    there = set(lines)
    lacking = ["set " + " ".join(line) for line in READY if line not in there]
    if lacking:
        return "the firewall isn't prepared; add: " + "; ".join(lacking)
    for family in ("ipv4", "ipv6"):
        first = [line for line in lines if line[:5] == ("firewall", family, "forward", "filter", "rule") and line[5] == "1"]
        if len(first) != 2:
            return "%s forward filter rule 1 does more than jump to %s" % (family, ENTRY)
    if any(line[:4] == ("firewall", "global-options", "state-policy", "established") and line[-1] == "accept" for line in lines):
        return "global-options state-policy accepts what is established before any rule; accept it in a rule behind ours"
    if any(line[0] == "firewall" and line[-2:] == ("action", "offload") for line in lines):
        return "a rule offloads connections past the firewall (flowtable)"
    return None


def objection(port, lines, routes, peers, uplinks=()):
    """Why a port may not be acted on, or None.

    :param lines: the running configuration
    :param routes: `[(prefix, next hop or None, interface)]` of what is in use
    :param peers: BGP neighbors
    """
    name = port["interface"]
    base, _dot, below = name.partition(".")
    mine = [line for line in lines if line[0] == "interfaces" and len(line) > 2 and line[2] == base]
    for number in below.split(".") if below else ():
        mine = [(*line[:3], *line[5:]) for line in mine if line[3:4] in (("vif",), ("vif-s",), ("vif-c",)) and line[4:5] == (number,)]
    if not mine:
        return "the router has no interface of this name"
    kind = mine[0][1]
    if not below and kind != "ethernet":
        return "it is a LAG" if kind == "bonding" else "it is a %s" % kind
    for line in lines:
        if line[0] == "interfaces" and line[-1] == name and line[3:5] == ("member", "interface") or line[3:6] == ("member", "interface", name):
            return "it is a member of %s" % line[2]
        if line[0] == "protocols" and len(line) > 3 and ("interface", name) in pairwise(line) and line[1] in (
                "ospf", "ospfv3", "isis", "rip", "ripng", "babel", "eigrp"):
            return "a routing protocol runs on it (%s)" % line[1]
        if line[:3] == ("qos", "interface", name) and len(line) == 5 and not _OURS.fullmatch(line[4]):
            return "it has a QoS policy already (%s)" % line[4]
    if any(line[3:4] in (("vif",), ("vif-s",)) for line in mine):
        return "it is a trunk: sub-interfaces lie on it"
    if any(line[3:4] == ("vrf",) for line in mine):
        return "it is in a VRF"
    if name in uplinks:
        return "the catalogue calls it an uplink"
    own = [ipaddress.ip_network(text) for text in port["own"]]
    for prefix, hop, interface in routes:
        if interface == name and prefix in ("0.0.0.0/0", "::/0"):
            return "it is an uplink: the default route leaves by it"
        if interface == name and hop and not within(hop, own):
            return "it has a neighbor: %s is reached by %s" % (prefix, hop)
    connected = []
    for line in mine:
        with contextlib.suppress(ValueError):
            connected += [ipaddress.ip_interface(line[4]).network] if line[3:4] == ("address",) and len(line) == 5 else []
    peer = next((peer for peer in peers if within(peer, connected) and not within(peer, own)), None)
    return "it has a neighbor: the BGP peer %s" % peer if peer else None
