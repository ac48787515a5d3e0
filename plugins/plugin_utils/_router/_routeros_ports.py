# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of a RouterOS router: filter rules, address lists and a queue of our own, by the port's name. Pure. PRIVATE to the collection.

The operator prepares one jump to the chain `aup-ports` before every other rule of filter `forward`, `input` and `output`, in both
families: so ours come before what accepts, and what is for the router itself and from it is held too, as on Linux. In `aup-ports`
lie two rules for each port, which jump to its own chains. Each rule of ours closes something by itself, none opens, so their order
among themselves says nothing; a change enters what is new before it removes what is old, and is never open between.

A line here is the command that adds it. Each rule's comment names its port and what the rule says (eight digits of its SHA-256), so
a `remove` hits that rule alone, whatever stands there by then.
"""
from __future__ import annotations

import hashlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._routeros_rows import MENUS, network_of, on, spelled, text_of
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NOTHING, NotUnderstood, of_family, within

PORT = r"[A-Za-z][A-Za-z0-9_.-]{0,30}"
PORT_IS = "the name of an Ethernet port or a VLAN interface (ether2, sfp-sfpplus1, vlan100)"
CHAIN = "aup-ports"
QUEUE = "/queue/simple"
ORDER = ".id,chain,action,jump-target,comment,disabled"
OURS = 'comment~"^aup:port:"'
JUMPS = "action=jump jump-target=%s" % CHAIN
QUEUES = ".id,name,target,dst,parent,max-limit,burst-limit,packet-marks,comment,disabled"
HOOKS = ("forward", "input", "output")
_MOST = 15  # numbers that one match takes
_MARK = re.compile(r"aup:port:(%s):[0-9a-f]{8}" % PORT)
_LIST = re.compile(r"aup-port-(%s)-(?:own|host)" % PORT)
_QUEUE = re.compile(r"aup-port-(%s)" % PORT)
_KEYS = ("chain", "action", "jump-target", "reject-with", "in-interface", "out-interface", "protocol", "dst-port", "src-address-list",
         "dst-address-list")
_BESIDE = frozenset((".id", ".nextid", "bytes", "packets", "log", "log-prefix", "disabled", "dynamic", "invalid", "inactive", "comment"))
_ANY = frozenset(("", "0.0.0.0/0", "::/0"))
_ACTION = r"action=(?:drop|passthrough|reject reject-with=tcp-reset)"
_NUMBERS = r"[0-9]{1,5}(?:,[0-9]{1,5}){0,14}"
_COMMENT = r'comment="aup:port:%s:[0-9a-f]{8}"' % PORT
GRAMMAR = tuple(re.compile(text) for text in (
    *(text for version, menu in MENUS.items() for text in (
        r'%s/filter/add chain=aup-port-%s-(?:from|to) action=drop %s' % (menu, PORT, _COMMENT),
        r'%s/filter/add chain=aup-port-%s-(?:from|to) %s protocol=(?:tcp|udp) dst-port=%s(?: dst-address-list=!aup-port-%s-host)? %s' % (
            menu, PORT, _ACTION, _NUMBERS, PORT, _COMMENT),
        r'%s/filter/add chain=aup-port-%s-from action=(?:drop|passthrough) src-address-list=!aup-port-%s-own %s' % (menu, PORT, PORT, _COMMENT),
        r'%s/filter/add chain=%s action=jump jump-target=aup-port-(%s)-from in-interface=\1 %s' % (menu, CHAIN, PORT, _COMMENT),
        r'%s/filter/add chain=%s action=jump jump-target=aup-port-(%s)-to out-interface=\1 %s' % (menu, CHAIN, PORT, _COMMENT),
        r'%s/filter/remove \[find where %s\]' % (menu, _COMMENT),
        r'%s/address-list/add list=aup-port-(%s)-(?:own|host) address=%s comment="aup:port:\1"' % (
            menu, PORT, _gate.PREFIX4 if version == 4 else _gate.PREFIX6),
        r'%s/address-list/remove \[find where list="aup-port-%s-(?:own|host)" address="%s"\]' % (
            menu, PORT, "(?:%s|%s)" % (_gate.PREFIX4, _gate.IPV4) if version == 4 else _gate.PREFIX6))),
    r'%s/add name=aup-port-(%s) target=\1 max-limit=([1-9][0-9]{0,12})/\2 comment="aup:port:\1:[0-9a-f]{8}"(?: place-before=\*[0-9A-F]{1,8})?' % (
        QUEUE, PORT),
    r'%s/remove \[find where name="aup-port-%s" comment~"\^aup:port:"\]' % (QUEUE, PORT)))
_ADDED = tuple((re.compile(text), remove) for text, remove in (
    (r'(\S+)/filter/add .* comment="(aup:port:\S+)"', '%s/filter/remove [find where comment="%s"]'),
    (r'(\S+)/address-list/add list=(\S+) address=(\S+) comment="\S+"', '%s/address-list/remove [find where list="%s" address="%s"]'),
    (r'(/queue/simple)/add name=(\S+) .*', '%s/remove [find where name="%s" comment~"^aup:port:"]')))


# -- what is wanted ------------------------------------------------------------------------------------------------------


def rules(port):
    """The lines of one port, in the order in which they are entered: lists, rules, queue, and the ways in at last.

    :param port: terms of `_routers._ports`
    :raises ValueError: no name of a port
    """
    name = port["interface"]
    if not isinstance(name, str) or not re.fullmatch(PORT, name):
        raise ValueError("interface %r" % (name,))
    found = [line for version in MENUS for line in _family(port, name, version)]
    if port["rate_bps"]:
        found.append(_queue(name, name, "%d/%d" % (int(port["rate_bps"]), int(port["rate_bps"]))))
    return in_order(found)


def _family(port, name, version):
    menu, sides, found = MENUS[version], {"from": [], "to": []}, []
    if port["dark"]:
        for side in sides.values():
            side.append({"action": "drop"})
    if port["guard"] != "off":
        own, entries = "aup-port-%s-own" % name, of_family([*port["own"], *NOTHING[version]], version)
        found += [_entry(menu, own, text, name) for text in entries]
        sides["from"].append({"action": "drop" if port["guard"] == "enforce" else "passthrough", "src-address-list": "!" + own})
    if port["smtp"]["mode"] != "off":
        closing = {"action": "reject", "reject-with": "tcp-reset"} if port["smtp"]["mode"] == "enforce" else {"action": "passthrough"}
        hosts, entries = "aup-port-%s-host" % name, of_family(port["smarthosts"], version)
        found += [_entry(menu, hosts, text, name) for text in entries]
        sides["from"] += [{**closing, "protocol": "tcp", "dst-port": numbers, **({"dst-address-list": "!" + hosts} if entries else {})}
                          for numbers in _chunks(port["smtp"]["ports"])]
    for block in port["blocks"]:
        sides["from" if block["direction"] == "out" else "to"] += [
            {"action": "drop", "protocol": block["protocol"], "dst-port": numbers} for numbers in _chunks(block["ports"])]
    for side, way in (("from", "in-interface"), ("to", "out-interface")):
        chain = "aup-port-%s-%s" % (name, side)
        found += [_rule(menu, name, {"chain": chain, **said}) for said in sides[side]]
        if sides[side]:
            found.append(_rule(menu, name, {"chain": CHAIN, "action": "jump", "jump-target": chain, way: name}))
    return found


def _digest(text):
    return hashlib.sha256(text.encode("ascii", "backslashreplace")).hexdigest()[:8]


def _rule(menu, name, said):
    text = "%s/filter/add %s" % (menu, " ".join("%s=%s" % (key, said[key]) for key in _KEYS if key in said))
    return '%s comment="aup:port:%s:%s"' % (text, name, _digest(text))


def _entry(menu, name, text, port):
    return '%s/address-list/add list=%s address=%s comment="aup:port:%s"' % (menu, name, text, port)


def _queue(name, target, limit):
    text = "%s/add name=aup-port-%s target=%s max-limit=%s" % (QUEUE, name, target, limit)
    return '%s comment="aup:port:%s:%s"' % (text, name, _digest(text))


def _chunks(numbers):
    numbers = ["%d" % number for number in sorted({int(number) for number in numbers})]
    return [",".join(numbers[at:at + _MOST]) for at in range(0, len(numbers), _MOST)]


def _stage(line):
    if "/address-list/" in line:
        return 0
    if line.startswith(QUEUE):
        return 2
    return 3 if " chain=%s " % CHAIN in line else 1


def in_order(lines):
    """Lines without repetition, in the order in which they are entered."""
    return sorted(set(lines), key=lambda line: (_stage(line), line))


def removal(line):
    """The command that removes what a line of ours added; a host of IPv4 is spelled as address lists print it.

    :raises ValueError: no line of ours
    """
    for pattern, remove in _ADDED:
        found = pattern.fullmatch(line)
        if found:
            return remove % tuple(spelled(part) for part in found.groups())
    raise ValueError("line %r" % (line,))


def commands(wanted, found, before=None):
    """Lines from what is there to what is wanted: what is new comes first and what is old goes last, except where a line is to be mended.

    :param wanted: lines, in order
    :param found: `{line as it was read: the command that removes it}`
    :param before: id of the queue that ours is put before
    """
    stale = {remove: line for line, remove in found.items() if line not in wanted}
    added = [line for line in wanted if line not in found or removal(line) in stale]
    mended = [remove for remove in (removal(line) for line in added) if remove in stale]
    mended = sorted(set(mended), key=mended.index)
    gone = [remove for remove, line in sorted(stale.items(), key=lambda entry: (-_stage(entry[1]), entry[1])) if remove not in mended]
    return mended + [line + (" place-before=" + before if before and line.startswith(QUEUE) else "") for line in added] + gone


# -- what is there -------------------------------------------------------------------------------------------------------


def has_ours(order):
    """Whether rules of ours are among these rows."""
    return any(_MARK.fullmatch(str(row.get("comment", ""))) for row in order)


def parse(order, full, lists, queues):
    """`{port: {line as `rules` gives it: the command that removes it}}` of what is ours; what differs in anything is another line.

    :param order: `{version: rows}` of all filter rules, `ORDER`
    :param full: `{version: rows}` of ours, with all that is set on them
    :param lists: `{version: rows}` of address lists
    :param queues: rows of simple queues, in order
    :raises NotUnderstood: a row of ours of unknown form
    """
    found = {}
    for version, menu in MENUS.items():
        idle = {row.get(".id") for row in order[version] if on(row)}
        for row in full[version]:
            mark = _MARK.fullmatch(str(row.get("comment", "")))
            if mark:
                said = {key: _value(key, value) for key, value in row.items() if key not in _BESIDE}
                words = ["%s=%s" % (key, said[key]) for key in (*_KEYS, *sorted(set(said) - set(_KEYS))) if key in said]
                words += ["disabled=yes"] if on(row) or row.get(".id") in idle else []
                line = '%s/filter/add %s comment="%s"' % (menu, " ".join(words), mark.group(0))
                found.setdefault(mark.group(1), {})[line] = '%s/filter/remove [find where comment="%s"]' % (menu, mark.group(0))
        for row in lists[version]:
            name = _LIST.fullmatch(str(row.get("list", "")))
            if name:
                network = network_of(row, version)
                line = _entry(menu, name.group(0), network, name.group(1))
                right = row.get("comment") == "aup:port:" + name.group(1) and not row.get("timeout") and not on(row)
                found.setdefault(name.group(1), {})[line if right else line + " changed"] = removal(line)
    first = None
    for row in queues:
        name = _QUEUE.fullmatch(str(row.get("name", "")))
        mark = _MARK.fullmatch(str(row.get("comment", "")))
        if not name or not mark:
            first = first or (None if on(row) else text_of(row.get("name", "")))
            continue
        line = "%s/add name=%s target=%s max-limit=%s" % (QUEUE, name.group(0), text_of(row.get("target", "")), _limit(row.get("max-limit")))
        rest = ["%s=%s" % (key, text_of(row[key])) for key, plain in (
            ("dst", _ANY), ("parent", {"", "none"}), ("burst-limit", {"", "0/0"}), ("packet-marks", {"", "no-mark"}))
            if text_of(row.get(key, "")) not in plain]
        rest += ["disabled=yes"] if on(row) else []
        rest += ["behind=%s" % first] if first else []
        line = " ".join([line, *rest, 'comment="%s"' % mark.group(0)])
        found.setdefault(name.group(1), {})[line] = '%s/remove [find where name="%s" comment~"^aup:port:"]' % (QUEUE, name.group(0))
    return found


def _value(key, value):
    text = text_of(value)
    if key != "dst-port" or not re.fullmatch(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:,[0-9]{1,5}(?:-[0-9]{1,5})?)*", text):
        return text
    numbers = set()
    for part in text.split(","):
        low, _dash, high = part.partition("-")
        numbers.update(range(int(low), int(high or low) + 1))
    return ",".join("%d" % number for number in sorted(numbers))


def _limit(value):
    """Bits a second each way, as numbers."""
    units = {"": 1, "k": 1000, "M": 1000000, "G": 1000000000}
    parts = re.fullmatch(r"([0-9]+)([kMG]?)[/,]([0-9]+)([kMG]?)", text_of(value))
    return "%d/%d" % (int(parts.group(1)) * units[parts.group(2)], int(parts.group(3)) * units[parts.group(4)]) if parts else text_of(value)


def place(queues):
    """The id of the first queue that is not ours, which ours is put before; None where there is none.

    :raises NotUnderstood: an id of unknown form
    """
    for row in queues:
        if not _QUEUE.fullmatch(str(row.get("name", ""))):
            if not re.fullmatch(r"\*[0-9A-F]{1,8}", str(row.get(".id", ""))):
                raise NotUnderstood("queue %s" % ascii(row)[:100])
            return row[".id"]
    return None


# -- may it be acted on --------------------------------------------------------------------------------------------------


def missing(order, jumps, fast, switched):
    """What stands between packets and our rules on this router, or None.

    :param order: `{version: rows}` of all filter rules
    :param jumps: `{version: rows}` of the jumps to our chain, with all that is set on them
    :param fast: rows of enabled rules that fasttrack
    :param switched: names of switch chips that route by themselves
    """
    if fast:
        return "a rule fasttracks connections past filter and queues; disable it"
    if switched:
        return "switch %s routes past the firewall (l3-hw-offloading=yes)" % ", ".join(text_of(name) for name in switched[:3])
    for version, menu in MENUS.items():
        for hook in HOOKS:
            rows = [row for row in order[version] if row.get("chain") == hook and not on(row) and row.get("action") not in ("passthrough", "log")]
            if not rows or (rows[0].get("action"), rows[0].get("jump-target")) != ("jump", CHAIN):
                line = "; before ours stands %s" % _shown(rows[0]) if rows else ""
                return "no jump before every other rule of %s%s; add: %s/filter/add chain=%s action=jump jump-target=%s place-before=0" % (
                    hook, line, menu, hook, CHAIN)
            jump = [row for row in jumps[version] if row.get(".id") == rows[0].get(".id")]
            more = sorted(set(jump[0]) - _BESIDE - {"chain", "action", "jump-target"}) if jump else ["?"]
            if more:
                return "the jump of %s %s to %s is not for every packet: %s" % (
                    menu, hook, CHAIN, ", ".join("%s=%s" % (text_of(key), text_of(jump[0].get(key, ""))) for key in more[:3]) if jump else "it was not read")
        for row in order[version]:
            ours = row.get("chain") == CHAIN or str(row.get("chain", "")).startswith("aup-port-")
            if ours and not on(row) and not _MARK.fullmatch(str(row.get("comment", ""))):
                return "a rule that isn't ours lies in our chain: %s" % _shown(row)
    return None


def _shown(row):
    return " ".join("%s=%s" % (key, text_of(row[key])) for key in ("chain", "action", "jump-target", "comment") if row.get(key))


def _words(value):
    return [word for word in text_of(value).split(",") if word]


def objection(port, seen, settings):
    """Why a port may not be acted on, or None.

    :param seen: rows of `interfaces`, `bridge`, `bonding`, `above` (what lies on a port), `vrf`, `addresses`, `defaults`, `neighbors`,
        `queues`; `routes` as `parse_routes` gives them, `peers` of BGP
    :param settings: of the router
    """
    name = port["interface"]
    kind = [text_of(row.get("type", "")) for row in seen["interfaces"] if row.get("name") == name]
    if not kind:
        return "the router has no interface of this name"
    if kind[0] not in ("ether", "vlan"):
        return "it is a %s" % (kind[0] or "?")
    for row in seen["bridge"]:
        if row.get("interface") == name and not on(row):
            return "it is a member of %s (interface=%s bridge=%s)" % (text_of(row.get("bridge")), name, text_of(row.get("bridge")))
    for row in seen["bonding"]:
        if name in _words(row.get("slaves", "")):
            return "it is a member of %s (bonding, slaves=%s)" % (text_of(row.get("name")), text_of(row.get("slaves")))
    above = sorted(text_of(row.get("name", row.get("service-name", "?"))) for row in seen["above"] if row.get("interface") == name)
    if above:
        return "it is a trunk: %s lie on it" % ", ".join(above[:5])
    for row in seen["vrf"]:
        if row.get("name") != "main" and name in _words(row.get("interfaces", "")):
            return "it is in the VRF %s" % text_of(row.get("name"))
    if name in settings.get("uplinks", ()):
        return "the catalogue calls it an uplink"
    return _neighbor(port, seen, settings) or (_other_queue(port, seen["queues"]) if port["rate_bps"] else None)


def _neighbor(port, seen, settings):
    name, own = port["interface"], [ipaddress.ip_network(text) for text in port["own"]]
    if any(word.rpartition("%")[2] == name for row in seen["defaults"] for word in _words(row.get("immediate-gw", ""))):
        return "it is an uplink: the default route leaves by it"
    try:
        connected = [ipaddress.ip_interface(str(row.get("address"))).network for row in seen["addresses"] if row.get("interface") == name]
    except ValueError as exc:
        raise NotUnderstood("addresses: %s" % exc) from exc
    for route in (route for route in seen["routes"] if not route["disabled"]):
        for hop, interface in route["ways"]:
            here = interface == name or hop and interface is None and within(hop, connected)
            if here and ipaddress.ip_network(route["prefix"]).prefixlen == 0:
                return "it is an uplink: the default route leaves by it: %s" % route["line"]
            if here and hop and not within(hop, own):
                return "it has a neighbor: %s is reached by %s: %s" % (route["prefix"], hop, route["line"])
    spoken = [(peer, "the BGP peer %s" % peer) for peer in seen["peers"]]
    spoken += [(str(row.get("address", "")), "the OSPF neighbor %s" % text_of(row.get("address", ""))) for row in seen["neighbors"]]
    for address, what in spoken:
        bare, _sign, interface = address.partition("%")
        try:
            network = ipaddress.ip_network(bare, strict=False)
        except ValueError as exc:
            raise NotUnderstood("neighbors: %s" % ascii(address)[:60]) from exc
        # Every port has the same link-local network: there the interface tells.
        here = interface == name if interface else any(network.version == one.version and network.overlaps(one) for one in connected)
        if here and not any(network.version == one.version and network.subnet_of(one) for one in own):
            return "it has a neighbor: %s" % what
    controller = [text for text in settings.get("controllers", ()) if within(text, connected) and not within(text, own)]
    return "this controller is reached through it (%s)" % controller[0] if controller else None


def _other_queue(port, queues):
    """A queue of others that would take this server's packets, or lose them to ours."""
    own = [ipaddress.ip_network(text) for text in port["own"]]
    for row in queues:
        if on(row) or _QUEUE.fullmatch(str(row.get("name", ""))) or text_of(row.get("parent", "none")) not in ("", "none"):
            continue
        for word in _words(row.get("target", "")) or [""]:
            try:
                network = ipaddress.ip_network(word)
            except ValueError:
                network = None  # an interface: its packets may be this server's
            if network is None or any(network.version == one.version and network.overlaps(one) for one in own):
                return "a queue of yours may hold its traffic already: name=%s target=%s" % (text_of(row.get("name")), text_of(row.get("target", "")))
    return None
