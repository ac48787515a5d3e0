# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of a Linux router in nftables: one table of ours, two chains for each port. Pure. PRIVATE to the collection.

The table is `inet hosting_aup_ports`. Its base chains look the port up in a map and jump to the port's chains; one
port is changed in one transaction, which touches no other port. The port itself is never set down: that would make
the kernel forget its IPv6 addresses and static routes, which nobody gives back.

All of it is at the layer of IP: lengths that a cap counts are those of IP packets, header included, in both directions
and both families together. `prerouting` at raw priority sees a packet before anything else does, `postrouting` at
300 after everything else, address translation included.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import LEAST_BURST, NOTHING, NotUnderstood, of_family

TABLE = "hosting_aup_ports"
INTERFACE = r"[A-Za-z_][A-Za-z0-9_.-]{0,14}"

# What else passes a quarantine: broadcasts of DHCP, and on the link alone neighbours, routers and groups.
_BESIDE_RESCUE = {4: ("255.255.255.255/32",), 6: ("fe80::/10", "ff02::/16")}

_T = "inet " + TABLE
_ADDRESSES = r"\{ [0-9a-f:.]+(?:/[0-9]{1,3})?(?:, [0-9a-f:.]+(?:/[0-9]{1,3})?){0,4000} \}"
_NUMBERS = r"\{ [0-9]{1,5}(?:, [0-9]{1,5}){0,300} \}"
_END = r'counter(?: drop| reject with tcp reset)? comment "[a-z]{1,20}"'
_CHAIN = r"(?:from|to)-" + INTERFACE
_BASE = (
    "add table %s" % _T,
    "add map %s from_port { type ifname : verdict; }" % _T,
    "add map %s to_port { type ifname : verdict; }" % _T,
    "add chain %s prerouting { type filter hook prerouting priority -300; }" % _T,
    "add chain %s postrouting { type filter hook postrouting priority 300; }" % _T,
    "flush chain %s prerouting" % _T,
    "flush chain %s postrouting" % _T,
    "add rule %s prerouting iifname vmap @from_port" % _T,
    "add rule %s postrouting oifname vmap @to_port" % _T,
)
ALLOWED = '{}"!;'  # nft reads the lines from its standard input; no shell sees them
LONGEST = 100000
GRAMMAR = tuple(re.compile(text) for text in (
    *(re.escape(line) for line in _BASE), re.escape("delete table %s" % _T),
    r"(?:add|flush|delete) chain %s %s" % (_T, _CHAIN),
    r'(?:add|delete) element %s (from|to)_port \{ "(%s)" : jump \1-\2 \}' % (_T, INTERFACE),
    r"add rule %s %s %s" % (_T, _CHAIN, _END),
    r"add rule %s %s ip6? [sd]addr != %s %s" % (_T, _CHAIN, _ADDRESSES, _END),
    r"add rule %s %s (?:meta l4proto (?:!= )?58 )?ip6? ([sd])addr != %s (?:fib \1addr type != local )?%s" % (_T, _CHAIN, _ADDRESSES, _END),
    r"add rule %s %s (?:tcp|udp) dport %s %s" % (_T, _CHAIN, _NUMBERS, _END),
    r"add rule %s %s tcp dport %s ip6? daddr != %s %s" % (_T, _CHAIN, _NUMBERS, _ADDRESSES, _END),
    r"add rule %s %s tcp dport %s meta nfproto ipv[46] %s" % (_T, _CHAIN, _NUMBERS, _END),
    r"add rule %s %s limit rate over %s bytes/second burst %s bytes %s" % (_T, _CHAIN, _gate.NUMBER, _gate.NUMBER, _END),
))


def pass_line(line):
    """The line, if it may be sent; see `_gate.pass_line`."""
    return _gate.pass_line(line, GRAMMAR, allowed=ALLOWED, longest=LONGEST)


# -- what is wanted ------------------------------------------------------------------------------------------------------


def _set(values):
    return "{ %s }" % ", ".join(values)


def _plain(prefixes, version, more=()):
    """Prefixes of one family as nftables prints them, merged."""
    found = [ipaddress.ip_network(text) for text in of_family([*prefixes, *more], version)]
    return [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in found]


def rules(port):
    """The rules of one port: `["from …", "to …"]`, each `<side> <rule>`, in order.

    :param port: terms of `_routers._ports`
    """
    found, end = [], {"enforce": " drop", "observe": ""}
    if port["dark"]:
        found += ['from counter drop comment "suspend"', 'to counter drop comment "suspend"']
    if "rescue" in port:
        for side, field in (("from", "d"), ("to", "s")):
            open4, open6 = (_set(_plain(port["rescue"], version, _BESIDE_RESCUE[version])) for version in (4, 6))
            found.append('%s ip %saddr != %s counter drop comment "quarantine"' % (side, field, open4))
            # The server's neighbour is the router; ICMPv6 with it is how both find one another.
            found.append('%s meta l4proto != 58 ip6 %saddr != %s counter drop comment "quarantine"' % (side, field, open6))
            found.append('%s meta l4proto 58 ip6 %saddr != %s fib %saddr type != local counter drop comment "quarantine"' % (
                side, field, open6, field))
    if port["guard"] != "off":
        for version, word in ((4, "ip"), (6, "ip6")):
            allowed = _set(_plain(port["own"], version, NOTHING[version]))
            found.append('from %s saddr != %s counter%s comment "guard"' % (word, allowed, end[port["guard"]]))
    if port["smtp"]["mode"] != "off":
        closed = _set(str(number) for number in sorted(port["smtp"]["ports"]))
        verdict = " reject with tcp reset" if port["smtp"]["mode"] == "enforce" else ""
        for version, word, family in ((4, "ip", "ipv4"), (6, "ip6", "ipv6")):
            hosts = _plain(port["smarthosts"], version)
            where = "%s daddr != %s" % (word, _set(hosts)) if hosts else "meta nfproto %s" % family
            found.append('from tcp dport %s %s counter%s comment "smtp"' % (closed, where, verdict))
    for block in port["blocks"]:
        side = "from" if block["direction"] == "out" else "to"
        found.append('%s %s dport %s counter drop comment "block"' % (
            side, block["protocol"], _set(str(number) for number in sorted(block["ports"]))))
    if port["rate_bps"]:
        rate = port["rate_bps"] // 8
        cap = 'limit rate over %d bytes/second burst %d bytes counter drop comment "cap"' % (rate, max(rate // 10, LEAST_BURST))
        found += ["from " + cap, "to " + cap]
    return found


def commands(change):
    """The lines that change one port, for one transaction."""
    name = change["port"]
    if not re.fullmatch(INTERFACE, name):
        raise ValueError("interface %r" % name)
    element = 'element %s %s_port { "%s" : jump %s-%s }'
    lines = list(_BASE)
    for side in ("from", "to"):
        lines += ["add chain %s %s-%s" % (_T, side, name), "flush chain %s %s-%s" % (_T, side, name),
                  "add " + element % (_T, side, name, side, name)]
    if change["action"] == "remove":
        # What is missing by now was added first, so that deleting can't fail.
        for side in ("from", "to"):
            lines += ["delete " + element % (_T, side, name, side, name), "delete chain %s %s-%s" % (_T, side, name)]
        return lines + (["delete table %s" % _T] if change.get("last") else [])
    for rule in change["wanted"]:
        side, _space, rest = rule.partition(" ")
        lines.append("add rule %s %s-%s %s" % (_T, side, name, rest))
    return lines


# -- what is there -------------------------------------------------------------------------------------------------------


def parse_table(document):
    """`{interface: rules as `rules` gives them}` of what `nft -j list table` printed.

    A port whose way in is missing has the line `not reached` in front, so that it is never taken for right.

    :raises NotUnderstood: not nftables' JSON
    """
    if not isinstance(document, dict) or not isinstance(document.get("nftables"), list):
        raise NotUnderstood("no list of nftables")
    ports, jumps, base = {}, set(), {"prerouting": [], "postrouting": []}
    hooked = set()
    for entry in document["nftables"]:
        kind, body = next(iter(entry.items()))
        if kind == "map":
            for element in body.get("elem") or ():
                jumps.add((body["name"], _text(element)))
        elif kind == "chain":
            side, _dash, name = body["name"].partition("-")
            if side in ("from", "to") and name:
                ports.setdefault(name, {"from": [], "to": [], "chains": set()})["chains"].add(side)
            elif body.get("hook") == body["name"] and body.get("prio") == {"prerouting": -300, "postrouting": 300}.get(body["name"]):
                hooked.add(body["name"])
        elif kind == "rule":
            side, _dash, name = body["chain"].partition("-")
            if name:
                ports[name][side].append(_rule(body))
            else:
                base.setdefault(body["chain"], []).append(_text(body.get("expr")))
        elif kind not in ("metainfo", "table"):
            raise NotUnderstood("%s in table %s" % (kind, TABLE))
    right = hooked == {"prerouting", "postrouting"} and base == {
        "prerouting": [_text([{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@from_port"}}])],
        "postrouting": [_text([{"vmap": {"key": {"meta": {"key": "oifname"}}, "data": "@to_port"}}])]}
    found = {}
    for name, port in ports.items():
        reached = right and port["chains"] == {"from", "to"} and all(
            ("%s_port" % side, _text([name, {"jump": {"target": "%s-%s" % (side, name)}}])) in jumps for side in ("from", "to"))
        found[name] = ([] if reached else ["not reached"]) + [
            "%s %s" % (side, rule) for side, rule in _interleaved(port)]
    return found


def _interleaved(port):
    return [(side, rule) for side in ("from", "to") for rule in port[side]]


def normal(lines):
    """Rules as `parse_table` orders them: those of one side together."""
    return [line for side in ("from ", "to ") for line in lines if line.startswith(side)]


def _text(value):
    return repr(value)


def _rule(body):
    try:
        words = [_expression(expr) for expr in body["expr"]]
    except (KeyError, TypeError, ValueError, IndexError):
        words = ["unknown"]
    comment = body.get("comment")
    return " ".join([word for word in words if word] + (['comment "%s"' % comment] if comment else []))


def _expression(expr):
    """One expression as text, in the forms that `rules` writes.

    :raises ValueError: another form
    """
    (kind, body), = expr.items()
    if kind == "counter":
        return "counter"
    if kind == "drop":
        return "drop"
    if kind == "reject" and body == {"type": "tcp reset"}:
        return "reject with tcp reset"
    if kind == "limit":
        units = {"bytes": 1, "kbytes": 1024, "mbytes": 1024**2}
        if body["per"] != "second" or not body.get("inv"):
            raise ValueError("limit")
        return "limit rate over %d bytes/second burst %d bytes" % (
            body["rate"] * units[body["rate_unit"]], body["burst"] * units[body["burst_unit"]])
    if kind != "match":
        raise ValueError(kind)
    left, right, sign = body["left"], body["right"], body["op"]
    if "meta" in left and left["meta"] == {"key": "nfproto"} and sign == "==":
        return "meta nfproto %s" % right
    if "meta" in left and left["meta"] == {"key": "l4proto"} and right in (58, "ipv6-icmp", "icmpv6"):
        return "meta l4proto %s58" % {"==": "", "!=": "!= "}[sign]
    if "fib" in left and left["fib"]["result"] == "type" and len(left["fib"]["flags"]) == 1 and right == "local" and sign == "!=":
        return "fib %s type != local" % left["fib"]["flags"][0]
    protocol, field = left["payload"]["protocol"], left["payload"]["field"]
    values = right["set"] if isinstance(right, dict) and "set" in right else [right]
    if field == "dport" and sign == "==":
        return "%s dport %s" % (protocol, _set(str(number) for number in sorted(_numbers(values))))
    if field in ("saddr", "daddr") and sign == "!=":
        version = {"ip": 4, "ip6": 6}[protocol]
        networks = [network for value in values for network in _networks(value)]
        return "%s %s != %s" % (protocol, field, _set(_plain([str(n) for n in networks], version)))
    raise ValueError(field)


def _numbers(values):
    for value in values:
        if isinstance(value, dict):
            yield from range(value["range"][0], value["range"][1] + 1)
        else:
            yield int(value)


def _networks(value):
    if not isinstance(value, dict):
        return [ipaddress.ip_network(value)]
    if "prefix" in value:
        return [ipaddress.ip_network("%s/%d" % (value["prefix"]["addr"], value["prefix"]["len"]))]
    return list(ipaddress.summarize_address_range(*(ipaddress.ip_address(end) for end in value["range"])))


# -- may it be acted on --------------------------------------------------------------------------------------------------


def objection(port, links, routes, uplinks=(), controllers=()):
    """Why a port may not be acted on, or None.

    :param links: every entry of `ip -j -d link show`
    :param routes: `(destination, gateway or None)` of the routes through the port
    :param controllers: interfaces by which the router reaches the controller
    """
    name = port["interface"]
    entry = next((link for link in links if link.get("ifname") == name), None)
    if entry is None:
        return "the router has no interface of this name"
    info = entry.get("linkinfo") or {}
    kind = info.get("info_kind")
    if kind in ("bridge", "bond", "team", "vrf") or "LOOPBACK" in entry.get("flags", ()):
        return "it is a %s" % (kind or "loopback")
    if entry.get("master"):
        return "it is a member of %s (%s)" % (entry["master"], info.get("info_slave_kind") or "bridge, bond or VRF")
    above = sorted(link["ifname"] for link in links if link.get("link") == name
                   and (link.get("linkinfo") or {}).get("info_kind") in ("vlan", "macvlan", "ipvlan"))
    if above:
        return "it is a trunk: %s lie on it" % ", ".join(above[:5])
    if name in controllers:
        return "this controller is reached through it"
    if name in uplinks:
        return "the catalogue calls it an uplink"
    own = [ipaddress.ip_network(text) for text in port["own"]]
    for destination, gateway in routes:
        if destination in ("default", "0.0.0.0/0", "::/0"):
            return "it is an uplink: the default route leaves by it"
        if gateway is None:
            continue
        address = ipaddress.ip_address(gateway)
        if not any(address.version == network.version and address in network for network in own):
            return "it has a neighbor: %s is reached by %s" % (destination, gateway)
    return None
