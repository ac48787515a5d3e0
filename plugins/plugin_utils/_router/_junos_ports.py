# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of Junos routers: firewall filters and policers of ours on logical units. Pure. PRIVATE to the collection.

A policer with `logical-interface-policer` counts all families of a unit together; it is bound family by family, as it can't
stand in a filter (Juniper, "Logical Interface (Aggregate) Policer Overview"). Only families that the unit has are acted on:
a filter under another one would switch that family on.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _filters, _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._running_ports import neighbor

PORT = r"(?:fe|ge|xe|et)-[0-9]{1,2}/[0-9]{1,2}/[0-9]{1,3}(?::[0-9]{1,2})?\.[0-9]{1,5}"
_UNIT = r"interfaces (?:fe|ge|xe|et)-[0-9]{1,2}/[0-9]{1,2}/[0-9]{1,3}(?::[0-9]{1,2})? unit [0-9]{1,5} family inet6?"
_TERM = r"set firewall family (inet6?) filter %s term [1-9][0-9]{0,4} " % _filters.NAME
_PREFIX = r"(?:%s|%s/0|%s)" % (_gate.PREFIX4, _gate.IPV4, _filters.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"(?:set|delete) %s filter (?:input|output) %s" % (_UNIT, _filters.NAME),
    r"(?:set|delete) %s policer (?:input|output) %s" % (_UNIT, _filters.CAP),
    _TERM + r"from (?:source|destination)-address %s" % _PREFIX, _TERM + r"from (?:protocol|next-header) (?:tcp|udp)",
    _TERM + r"from destination-port %s" % _filters.PORT, _TERM + r"then (?:accept|discard|reject tcp-reset|count aup-[1-9][0-9]{0,4})",
    r"delete firewall family inet6? filter %s" % _filters.NAME,
    r"set firewall policer %s (?:logical-interface-policer|then discard)" % _filters.CAP,
    r"set firewall policer %s if-exceeding (?:bandwidth-limit [1-9][0-9]{0,11}|burst-size-limit %s)" % (_filters.CAP, _gate.NUMBER),
    r"delete firewall policer %s" % _filters.CAP,
))
_FAMILY = {4: "inet", 6: "inet6"}
_SIDE = {"in": "input", "out": "output"}
_POLICERS = ("cap-in4", "cap-in6", "cap-out4", "cap-out6")


def unit(interface):
    """The path of a logical unit."""
    device, _dot, number = _filters.check_port(interface, PORT).rpartition(".")
    return "interfaces %s unit %s" % (device, number)


# -- building ------------------------------------------------------------------------------------------------------------


def define(key, name, texts):
    """Lines that define a filter or a policer."""
    if key.startswith("cap-"):
        _police, rate, burst = texts[0].split()
        path = "set firewall policer %s " % name
        return [path + "logical-interface-policer", path + "if-exceeding bandwidth-limit %d" % int(rate),
                path + "if-exceeding burst-size-limit %d" % int(burst), path + "then discard"]
    lines = []
    for number, text in enumerate(texts, 1):
        entry, term = _filters.Entry(text), "set firewall family %s filter %s term %d " % (_FAMILY[int(key[-1])], name, number)
        if entry.protocol != "ip":
            lines.append(term + "from %s %s" % ("protocol" if key.endswith("4") else "next-header", entry.protocol))
        lines += [term + "from %s-address %s" % (which, end) for which, end in (
            ("source", entry.source), ("destination", entry.destination)) if end != "any"]
        if entry.port:
            lines.append(term + "from destination-port %s" % entry.port)
        # A client of mail is told at once; everything else is dropped without a word.
        verdict = "accept" if entry.action == "permit" else "discard"
        if entry.action == "deny" and entry.protocol == "tcp" and key.startswith("in"):
            verdict = "reject tcp-reset"
        lines += [term + "then count aup-%d" % number, term + "then " + verdict]
    return lines


def _binding(interface, key, name):
    what, side = ("policer", key[4:-1]) if key.startswith("cap-") else ("filter", key[:-1])
    return "%s family %s %s %s %s" % (unit(interface), _FAMILY[int(key[-1])], what, _SIDE[side], name)


def bind(interface, key, name, _old):
    """Lines that bind it; it takes the place of what was there."""
    return ["set " + _binding(interface, key, name)]


def unbind(interface, key, name):
    """Lines that take it off the unit."""
    return ["delete " + _binding(interface, key, name)]


def undefine(key, name):
    """Lines that take away its definition."""
    if _filters.is_policer(key):
        return ["delete firewall policer " + name]
    return ["delete firewall family %s filter %s" % (_FAMILY[_filters.family(key)], name)]


# -- reading -------------------------------------------------------------------------------------------------------------


def _size(text):
    match = re.fullmatch(r"([0-9]+)([kmg]?)", text)
    return int(match.group(1)) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match.group(2)] if match else None


def _defined(firewall):
    """({(version, name): rules}, {name: [police line]}) from the active lines of `firewall`."""
    terms, policers = {}, {}
    for words in map(str.split, firewall):
        if words[1:2] == ["family"] and words[2] in ("inet", "inet6") and words[3:4] == ["filter"] and len(words) > 4:
            filters = terms.setdefault((4 if words[2] == "inet" else 6, words[4]), {})
            term = words[6] if words[5:6] == ["term"] and len(words) > 7 else ""
            filters.setdefault(term, []).append(" ".join(words[7:] if term else words[5:]))
        elif words[1:2] == ["policer"] and len(words) > 3:
            policers.setdefault(words[2], set()).add(" ".join(words[3:]))
    return ({key: [_rule(key[0], said) for said in found.values()] for key, found in terms.items()},
            {name: [_police(said)] for name, said in policers.items()})


def _police(said):
    values = {line.rsplit(" ", 1)[0]: _size(line.rsplit(" ", 1)[1]) for line in said if line.startswith("if-exceeding ")}
    rate, burst = values.get("if-exceeding bandwidth-limit"), values.get("if-exceeding burst-size-limit")
    plain = said - {line for line in said if line.startswith("if-exceeding ")}
    return "police %d %d" % (rate, burst) if rate and burst and plain == {"logical-interface-policer", "then discard"} else "changed"


def _rule(version, said):
    """One term in normal form, or `other …`."""
    parts, verdict = {}, None
    for line in said:
        words = line.split()
        if words[:2] == ["then", "count"]:
            continue
        if words[0] == "then":
            verdict = {"accept": "permit", "discard": "deny", "reject tcp-reset": "deny"}.get(" ".join(words[1:])) if verdict is None else ""
        elif words[0] == "from" and len(words) == 3 and words[1] not in parts:
            parts[words[1]] = words[2]
        else:
            verdict = ""
    protocol = parts.pop("protocol" if version == 4 else "next-header", "ip")
    port = parts.pop("destination-port", None)
    number = _filters.port_number(port) if port else None
    text = "%s %s %s %s%s" % (verdict, protocol, parts.pop("source-address", "any"), parts.pop("destination-address", "any"),
                              " eq %d" % number if number is not None else "")
    return "other " + "; ".join(said) if parts or not verdict or (port and number is None) else text


def look(interfaces, firewall, protocols, instances, ports, settings, statics, peers):
    """What is on ports and what would be, for `_ports.plan_ports`.

    :param interfaces: and the next three: active lines of these parts of the configuration, without `set`
    :param ports: terms of the ports wanted
    """
    filters, policers = _defined(firewall)
    units, devices = {}, {}
    for line in interfaces:
        words = line.split()
        if len(words) < 3:
            continue
        if words[2] == "unit" and len(words) > 3:
            units.setdefault("%s.%s" % (words[1], words[3]), []).append(" ".join(words[4:]))
        else:
            devices.setdefault(words[1], []).append(" ".join(words[2:]))
    seen, terms = {}, {port["interface"]: port for port in ports}
    for name in {*units, *terms}:
        body = units.get(name, [])
        bound, foreign = _on(name, body, filters, policers)
        found = _filters.lines_of({**bound, **_filters.leftovers(name, bound, filters, policers)})
        if name not in terms:
            if found:
                seen[name] = {"wanted": None, "found": found, "objection": None}
            continue
        families = [version for version, word in _FAMILY.items() if any(
            line.startswith(("family %s address " % word, "family %s unnumbered-address " % word)) for line in body)]
        caps = [key for key in _POLICERS if int(key[-1]) in families]
        lines = _filters.in_order(_filters.wanted(terms[name], families, caps, bound, {one for _version, one in filters}))
        seen[name] = {"wanted": lines, "found": found or (None if lines else []),
                      "objection": _objection(terms[name], body, devices, families, protocols, instances, settings, statics, peers,
                                              foreign, lines)}
    return seen


def _on(name, body, filters, policers):
    """({key: (name, rules)} of ours on a unit, {key: line} of others')."""
    bound, foreign = {}, {}
    for line in body:
        words = line.split()
        if words[:1] != ["family"] or words[1:2] not in (["inet"], ["inet6"]) or words[2:3] not in (["filter"], ["policer"]):
            continue
        version, side = (4 if words[1] == "inet" else 6), {"input": "in", "output": "out"}.get(words[3])
        if side and len(words) == 5 and _filters.is_ours(words[4], name):
            key = "%s%s%d" % ("cap-" if words[2] == "policer" else "", side, version)
            bound[key] = (words[4], (policers.get(words[4], []) if words[2] == "policer" else filters.get((version, words[4]), [])))
            continue
        sides = [side] if side else ["in" if words[3].startswith("input") else "out"] if words[3].startswith(("input", "output")) else [
            "in", "out"]
        for one in sides:
            foreign["%s%s%d" % ("cap-" if words[2] == "policer" else "", one, version)] = line
    return bound, foreign


def _objection(port, body, devices, families, protocols, instances, settings, statics, peers, foreign, lines):
    """Why a unit may not be acted on, or None."""
    name = port["interface"]
    device = name.rpartition(".")[0]
    if not body:
        return "the router has no unit of this name"
    for line in devices.get(device, ()):
        if " 802.3ad " in " %s " % line:
            return "it is a member of a LAG: %s" % line
    for line in [*body, *devices.get(device, ())]:
        if "ethernet-switching" in line or line.startswith(("family bridge", "encapsulation vlan-bridge", "encapsulation ethernet-bridge",
                                                            "encapsulation extended-vlan-bridge")):
            return "it is a port of a switch or bridge: %s" % line
        if line.startswith("apply-groups"):
            return "it takes configuration from a group, which isn't read: %s" % line
    if any(words[-2:] == ["interface", name] for words in map(str.split, instances)):
        return "it lies in a routing instance, and only the main tables are read"
    if not families:
        return "it has no address: it isn't a routed port"
    if {name, device} & set(settings.get("uplinks", ())):
        return "the catalogue calls it an uplink"
    talks = [line for line in protocols if " interface %s" % name in line + " " and re.search(
        r" interface %s(?: |$)" % re.escape(name), line) and line.split()[1] in ("ospf", "ospf3", "isis", "ldp", "rsvp", "mpls", "pim", "rip")]
    if talks and not any(line.endswith((" passive", " disable")) for line in talks):
        return "it has a neighbor: %s" % talks[0]
    networks = []
    for line in body:
        words = line.split()
        if words[:1] == ["family"] and words[2:3] == ["address"]:
            networks.append(ipaddress.ip_interface(words[3]).network)
    return neighbor(port, networks, statics, peers) or _filters.bound_by_others(lines, foreign)
