# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the imitated routers: interfaces, filters and policers as configuration, and what passes them."""
from __future__ import annotations

import ipaddress
import re

# server: (its number on a router, the router's end, its own addresses)
SERVERS = {"srv-a": (2, ("203.0.113.65/26", "2001:db8:100:a::1/64"), ("203.0.113.66", "2001:db8:100:a::2")),
           "srv-b": (3, ("203.0.113.129/26", "2001:db8:100:b::1/64"), ("203.0.113.130", "2001:db8:100:b::2"))}
_NAMES = {"smtp": 25, "irc": 194, "www": 80}


def number(word):
    """A port, by number or name."""
    return _NAMES[word] if word in _NAMES else int(word)


class Running(dict):
    """Routes, as a dictionary, and beside them what is on ports.

    :ivar faces: `{interface: lines below it}`
    :ivar lists: `{(version, name): rules}`
    :ivar caps: `{name: police line}`
    :ivar sets: lines of `display set` about interfaces and firewall, for Junos
    """

    def __init__(self, routes=(), like=None):
        super().__init__(routes)
        self.faces = {name: list(body) for name, body in like.faces.items()} if like else {}
        self.lists = {key: list(rules) for key, rules in like.lists.items()} if like else {}
        self.caps = dict(like.caps) if like else {}
        self.sets = list(like.sets) if like else []

    def ports(self):
        """All that is on ports, to compare."""
        return self.faces, self.lists, self.caps, sorted(self.sets)


class Context:
    """Configuration mode of EOS and IOS-XE: which block the next line belongs to.

    :param wildcard: IOS-XE's form of addresses and of lists
    """

    def __init__(self, wildcard):
        self.wildcard, self.at = wildcard, None
        self.head4 = "ip access-list extended " if wildcard else "ip access-list "
        self.bind6 = "ipv6 traffic-filter" if wildcard else "ipv6 access-group"

    def line(self, running, text):
        """What the router says to a line about ports; None when it isn't one."""
        no, bare = text.startswith("no "), text.removeprefix("no ")
        for head, version in ((self.head4, 4), ("ipv6 access-list ", 6)):
            if bare.startswith(head):
                return self._list(running, (version, bare.removeprefix(head)), no)
        if text.startswith("interface "):
            self.at = ("interface", text.partition(" ")[2])
            return "" if self.at[1] in running.faces else "% Invalid interface\n"
        if bare.startswith("policy-map "):
            return self._policy(running, bare.split()[1], no)
        if self.at is None:
            return None
        kind, name = self.at
        if kind == "list" and re.match(r"no [0-9]+$|[0-9]+ (?:permit|deny) ", text):
            return self._numbered(running.lists[name], text)
        if kind == "list" and text.startswith(("permit ", "deny ", "counters ")):
            return self._rule(running.lists[name], text, name[0])
        if kind == "interface" and bare.startswith(("ip access-group ", self.bind6 + " ", "service-policy ")):
            return self._bind(running.faces[name], bare, no)
        if kind == "policy" and text == "class class-default":
            return ""
        if kind == "policy" and re.fullmatch(r"police cir [0-9]+ bc [0-9]+ conform-action transmit exceed-action drop", text):
            running.caps[name] = text
            return ""
        return None

    def _list(self, running, key, no):
        if no:
            self.at = None
            return "" if running.lists.pop(key, None) is not None else "% No such list\n"
        self.at = ("list", key)
        running.lists.setdefault(key, [])
        return ""

    def _policy(self, running, name, no):
        self.at = None if no else ("policy", name)
        if not no:
            running.caps.setdefault(name, "")
        elif any(line.endswith(" " + name) for body in running.faces.values() for line in body):
            return "%% Policy-map %s is being used\n" % name
        else:
            running.caps.pop(name)
        return ""

    @staticmethod
    def _numbered(rules, text):
        """A rule with a number of its own, as EOS keeps them."""
        at = text.split()[1] if text.startswith("no ") else text.split()[0]
        there = [rule for rule in rules if rule.split()[0] == at]
        if text.startswith("no "):
            if not there:
                return "% No such rule\n"
            rules.remove(there[0])
            return ""
        if there:
            return "% Duplicate sequence number\n"
        rules.append(text)
        rules.sort(key=lambda rule: int(rule.split()[0]))
        return ""

    def _rule(self, rules, text, version):
        if text == "counters per-entry":
            rules[:] = [text, *rules] if text not in rules else rules
            return ""
        words = text.split()
        if words[1] not in (("ip", "tcp", "udp") if version == 4 else ("ipv6", "tcp", "udp")):
            return "% Invalid input detected at '^' marker.\n"
        # As devices do: names for ports, capitals in IPv6 on IOS-XE.
        shown = text.replace(" eq 25", " eq smtp")
        rules.append(re.sub(r"[0-9a-f:]*:[0-9a-f:/]*", lambda m: m.group(0).upper(), shown) if self.wildcard and version == 6 else shown)
        return ""

    def _bind(self, body, bare, no):
        words = bare.split()
        same = [line for line in body if line.split()[0] == words[0] and line.split()[1] == words[1]
                and (line.split()[-1] == words[-1] if words[0] != "service-policy" else True)]
        if no:
            if bare not in body:
                return "% Not bound\n"
            body.remove(bare)
            return ""
        if words[0] == "service-policy" and same:
            return "%% Policy map %s is already attached\n" % same[0].split()[-1]
        for line in same:
            body.remove(line)
        body.append(bare)
        return ""

    def shown(self, running, indent):
        """These parts of `show running-config`."""
        text = "".join("policy-map %s\n%sclass class-default\n%s%s\n!\n" % (name, indent, indent * 2, line)
                       for name, line in running.caps.items())
        for name, body in running.faces.items():
            text += "interface %s\n" % name + "".join(indent + line + "\n" for line in body) + "!\n"
        for (version, name), rules in running.lists.items():
            text += (self.head4 if version == 4 else "ipv6 access-list ") + name + "\n"
            for at, rule in enumerate((rule for rule in rules if not rule.startswith("counters")), 1):
                number_ = "" if rule[0].isdigit() else "%s%d " % ("sequence " if version == 6 and self.wildcard else "", at * 10)
                text += indent + number_ + rule + "\n"
            text += "".join(indent + rule + "\n" for rule in rules if rule.startswith("counters")) + "!\n"
        return text

    def passes(self, running, face, side, protocol, source, target, port):
        """Whether a packet passes the filter on one side of an interface."""
        version = ipaddress.ip_address(source).version
        word = "ip access-group" if version == 4 else self.bind6
        bound = [line.split()[2] for line in running.faces[face] if line.startswith(word + " ") and line.endswith(" " + side)]
        if not bound or (version, bound[0]) not in running.lists:
            return True
        return self.verdict(running.lists[version, bound[0]], protocol, source, target, port)

    def verdict(self, rules, protocol, source, target, port):
        """What a list does with a packet."""
        for rule in rules:
            words = rule.lower().split()
            words = words[1:] if words[0].isdigit() else words
            if words[0] == "counters":
                continue
            first, rest = self._end(words[2:])
            second, rest = self._end(rest)
            if words[1] in ("ip", "ipv6", protocol) and _within(source, first) and _within(target, second) and (
                    not rest or number(rest[1]) == port):
                return words[0] == "permit"
        return False

    def _end(self, words):
        if words[0] == "any":
            return None, words[1:]
        if words[0] == "host":
            return words[1], words[2:]
        if "/" in words[0]:
            return words[0], words[1:]
        return "%s/%s" % (words[0], ipaddress.ip_network("%s/%s" % tuple(words[:2])).prefixlen), words[2:]


def _within(address, network):
    return network is None or ipaddress.ip_address(address) in ipaddress.ip_network(network)


_SINGLE = (" filter input ", " filter output ", " policer input ", " policer output ", " bandwidth-limit ", " burst-size-limit ")


def set_line(running, text):
    """`set` or `delete` of a line about interfaces or firewall on Junos; what it says."""
    verb, path = text.split(" ", 1)
    if verb == "insert":
        path, end = path.split(" before ")
        head = path[:path.index(" term ")] + " " + end
        mine = [line for line in running.sets if line.startswith(path + " ")]
        rest = [line for line in running.sets if not line.startswith(path + " ")]
        at = next(i for i, line in enumerate(rest) if line.startswith(head + " "))
        running.sets[:] = rest[:at] + mine + rest[at:]
        return "" if mine else "error: statement not found\n"
    if verb == "delete":
        rest = [line for line in running.sets if line != path and not line.startswith(path + " ")]
        said = "" if len(rest) < len(running.sets) else "warning: statement not found\n"
        running.sets[:] = rest
        return said
    head = next((path[:path.index(word) + len(word)] for word in _SINGLE if word in path), None)
    if head:
        running.sets[:] = [line for line in running.sets if not line.startswith(head)]
    if path not in running.sets:
        running.sets.append(path)
    return ""


def undefined(running):
    """What Junos says of filters and policers that are bound and not there."""
    there = {line.split()[4] for line in running.sets if line.startswith("firewall family ")}
    there |= {line.split()[2] for line in running.sets if line.startswith("firewall policer ")}
    for line in running.sets:
        words = line.split()
        if words[0] == "interfaces" and words[-3:-2] in (["filter"], ["policer"]) and words[-1] not in there | {"CUSTOMERS"}:
            return "[edit interfaces %s unit %s]\n  'filter'\n    Referenced '%s' is not defined\nerror: configuration check-out failed\n" % (
                words[1], words[3], words[-1])
    return ""


def junos_passes(running, face, side, protocol, source, target, port):
    """Whether a packet passes the filter on one side of a unit."""
    device, _dot, number_ = face.rpartition(".")
    family = "inet" if ipaddress.ip_address(source).version == 4 else "inet6"
    head = "interfaces %s unit %s family %s filter %s " % (device, number_, family, {"in": "input", "out": "output"}[side])
    bound = next((line.split()[-1] for line in running.sets if line.startswith(head)), None)
    return True if bound is None else junos_verdict(running, family, bound, protocol, source, target, port)


def junos_verdict(running, family, bound, protocol, source, target, port):
    """What a filter does with a packet."""
    terms = {}

    def listed(address, name):
        return name is None or any(_within(address, line.split()[-1]) for line in running.sets
                                   if line.startswith("policy-options prefix-list %s " % name))

    for line in running.sets:
        if line.startswith("firewall family %s filter %s term " % (family, bound)):
            terms.setdefault(line.split()[6], []).append(line.split()[7:])
    for said in terms.values():
        want = {words[1]: words[2] for words in said if words[0] == "from"}
        verdict = next(words[1] for words in said if words[0] == "then" and words[1] != "count")
        if want.get("protocol", want.get("next-header", protocol)) == protocol and _within(source, want.get("source-address")) and _within(
                target, want.get("destination-address")) and listed(source, want.get("source-prefix-list")) and listed(
                target, want.get("destination-prefix-list")) and number(want.get("destination-port", port)) == port:
            return verdict == "accept"
    return False
