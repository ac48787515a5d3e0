# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the vendors' routers: filters and policers of ours on them, in one form for all. Pure. PRIVATE.

A suspension is a filter that passes nothing, not a port that is shut: a shut port carries no mark, so it could not be told
from one that an operator shut, and giving it back would open what he closed. What is ours is told by its name,
`aup-<port>-<side>-<digest>`. The digest is of the rules: changed rules are a new filter, bound in place of the old one, so
a port is never without one while lines are entered one by one.

Lines that `_ports.plan_ports` compares are `<key> <name> <text>`: the keys `in4`, `in6`, `out4`, `out6` for filters (`in` is what
the server sends), `cap-…` for policers, `left…` for what is defined and bound nowhere. Filters act on the first rule that
fits: `<permit|deny> <ip|tcp|udp> <source> <destination> [eq <port>]`.
"""
from __future__ import annotations

import hashlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import LEAST_BURST, NOTHING, of_family

NAME = r"aup-[A-Za-z0-9_]{1,40}-(?:in|out)[46]-[0-9a-f]{8}"
CAP = r"aup-[A-Za-z0-9_]{1,40}-cap-[1-9][0-9]{0,11}"
PREFIX6 = r"(?:%s|[0-9a-f:]{2,39}/0)" % _gate.PREFIX6
PORT = r"[1-9][0-9]{0,4}"
MOST = 2000
"""Most rules of one filter; beyond it the port is refused, as tables of routers are small."""

# Names that routers print in place of numbers (IANA's, and Cisco's list of its "ip access-list extended" command).
_SERVICES = {
    "echo": 7, "discard": 9, "daytime": 13, "chargen": 19, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37,
    "nameserver": 42, "nicname": 43, "whois": 43, "tacacs": 49, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70,
    "finger": 79, "www": 80, "http": 80, "pop2": 109, "pop3": 110, "sunrpc": 111, "ident": 113, "nntp": 119, "ntp": 123,
    "msrpc": 135, "netbios-ns": 137, "netbios-dgm": 138, "netbios-ss": 139, "netbios-ssn": 139, "imap": 143, "snmp": 161,
    "snmptrap": 162, "bgp": 179, "irc": 194, "ldap": 389, "https": 443, "isakmp": 500, "exec": 512, "login": 513, "who": 513,
    "cmd": 514, "syslog": 514, "lpd": 515, "rip": 520, "uucp": 540, "klogin": 543, "kshell": 544, "submission": 587, "ldaps": 636,
    "imaps": 993, "pop3s": 995, "non500-isakmp": 4500,
}


def port_number(word):
    """The number of a port as a router prints it; None when it is not known."""
    if word.isdigit() and int(word) <= 65535:
        return int(word)
    return _SERVICES.get(word)


def rules(port, version):
    """`{"in": rules, "out": rules}` of one family; a side on which everything passes has none.

    :param port: terms of `_routers._ports`
    """
    if port["dark"]:
        return {"in": ["deny ip any any"], "out": ["deny ip any any"]}
    own = of_family(port["own"], version)
    strict = port["guard"] == "enforce"
    senders = own if strict else ["any"]
    found = _blocked(port, "out")
    if port["smtp"]["mode"] != "off":
        for number in sorted(port["smtp"]["ports"]):
            found += ["permit tcp %s %s eq %d" % (sender, host, number) for host in of_family(port["smarthosts"], version)
                      for sender in senders]
            if port["smtp"]["mode"] == "enforce":
                found.append("deny tcp any any eq %d" % number)
            else:  # counted, and passed on
                found += ["permit tcp %s any eq %d" % (sender, number) for sender in senders]
    if port["guard"] != "off":
        found += ["permit ip %s any" % source for source in [*own, *NOTHING[version]]]
    if strict:
        found.append("deny ip any any")
    elif found:
        found.append("permit ip any any")
    inward = _blocked(port, "in")
    return {"in": found, "out": inward + (["permit ip any any"] if inward else [])}


def _blocked(port, direction):
    return ["deny %s any any eq %d" % (block["protocol"], number) for block in port["blocks"] if block["direction"] == direction
            for number in sorted(block["ports"])]


def burst_of(rate):
    """Bytes that may pass at once beside a rate: a tenth of a second, at least two large packets' worth."""
    return max(rate // 80, LEAST_BURST)


def stem(interface):
    """The part of a name that stands for a port."""
    return "aup-" + re.sub(r"[^A-Za-z0-9]", "_", interface)


def is_ours(name, interface):
    """Whether a filter or policer has a name of ours for this port."""
    return bool(re.fullmatch("(?:%s)|(?:%s)" % (NAME, CAP), name)) and name.startswith(stem(interface) + "-")


def _digest(texts, generation):
    return hashlib.sha256("\n".join([*texts, str(generation)]).encode("ascii")).hexdigest()[:8]


def wanted(port, families, caps, bound, defined):
    """Lines that one port is to carry.

    :param families: families that are routed on it
    :param caps: keys of its policers, such as `cap-in`; none where the platform has no policer
    :param bound: `{key: (name, rules)}` of ours that is there
    :param defined: names of all filters there are, as a name that is taken by other rules isn't used again
    """
    found = []
    for version in families:
        sides = rules(port, version)
        for side in ("in", "out"):
            key, texts = "%s%d" % (side, version), sides[side]
            if not texts:
                continue
            name, there = bound.get(key, (None, None))
            if there != texts:
                name = next(name for name in ("%s-%s-%s" % (stem(port["interface"]), key, _digest(texts, generation))
                                              for generation in range(1000)) if name not in defined)
            found += ["%s %s %s" % (key, name, text) for text in texts]
    if port["rate_bps"]:
        rate = port["rate_bps"]
        found += ["%s %s-cap-%d police %d %d" % (key, stem(port["interface"]), rate, rate, burst_of(rate)) for key in caps]
    return found


def leftovers(interface, bound, filters, caps):
    """What is defined with a name of ours and bound nowhere: `{key: (name, rules)}`.

    :param filters: `(version, name)` of all filters
    :param caps: names of all policers
    """
    used = {name for name, _texts in bound.values()}
    found = [("left%d/%s" % (version, name), name) for version, name in filters] + [("left-cap/" + name, name) for name in caps]
    return {key: (name, ["is bound nowhere"]) for key, name in found if is_ours(name, interface) and name not in used}


def is_policer(key):
    """Whether a key is that of a policer."""
    return key.startswith(("cap-", "left-cap/"))


def family(key):
    """The family of a filter's key, 4 or 6."""
    return int(key.partition("/")[0][-1])


def lines_of(bound):
    """`{key: (name, rules)}` as lines."""
    return ["%s %s %s" % (key, name, text) for key in sorted(bound) for name, texts in [bound[key]] for text in texts or ["undefined"]]


def bound_by_others(lines, foreign):
    """Why wanted lines can't be entered for what others have bound to the port, or are too many; None when they can.

    :param foreign: `{key: line of the configuration}` of others' filters and policers
    """
    if len(lines) > MOST:
        return "its filters would have %d rules, more than %d" % (len(lines), MOST)
    return next(("a filter or policer of others is bound to it: %s" % foreign[key] for key in split(lines) if key in foreign), None)


def in_order(lines):
    """Lines in one normal order: keys sorted, the rules of each as they are."""
    return sorted(lines, key=lambda line: line.split(" ", 1)[0])


def split(lines):
    """Lines as `{key: (name, rules)}`; the opposite of `lines_of`."""
    found = {}
    for line in lines or ():
        key, name, text = line.split(" ", 2)
        found.setdefault(key, (name, []))[1].append(text)
    return found


class Entry:
    """A rule, taken apart.

    :raises ValueError: not one of ours
    """

    _FORM = re.compile(r"(permit|deny) (ip|tcp|udp) (\S+) (\S+)(?: eq ([1-9][0-9]{0,4}))?")

    def __init__(self, text):
        match = self._FORM.fullmatch(text)
        if not match:
            raise ValueError("rule %s" % ascii(text[:80]))
        self.action, self.protocol, self.source, self.destination, self.port = match.groups()
        for end in (self.source, self.destination):
            if end != "any" and str(ipaddress.ip_network(end)) != end:
                raise ValueError("rule %s" % ascii(text[:80]))
        if self.port is not None and (self.protocol == "ip" or int(self.port) > 65535):
            raise ValueError("rule %s" % ascii(text[:80]))


def check_port(interface, form):
    """The name of an interface that is to stand in a line.

    :raises ValueError: not of the platform's form
    """
    if not re.fullmatch(form, interface):
        raise ValueError("interface %s" % ascii(interface[:60]))
    return interface


def commands(platform, change):
    """The lines that change one port: new filters are defined, then bound, then what they replace is taken away.

    :param platform: a module with `define(key, name, rules)`, `bind(interface, key, name, old)`, `unbind(interface, key, name)` and
        `undefine(key, name)`, lists of lines each
    """
    interface, before, after = change["port"], split(change["before"]), split(change["wanted"])
    lines, done = [], set()
    for key, (name, texts) in after.items():
        if before.get(key) != (name, texts) and name not in done:
            done.add(name)
            lines += platform.define(key, name, texts)
    bindings = []
    for key, (name, _texts) in after.items():
        old = before.get(key, (None, None))[0]
        if old != name:
            bindings += platform.bind(interface, key, name, old)
    for key, (name, _texts) in before.items():
        if key not in after and not key.startswith("left"):
            bindings += platform.unbind(interface, key, name)
    # The line that says which port it is about is needed once.
    lines += [line for at, line in enumerate(bindings) if not (at and line == "interface " + interface)]
    kept = {name for name, _texts in after.values()}
    for key, (name, _texts) in before.items():
        if name not in kept:
            kept.add(name)
            lines += platform.undefine(key, name)
    return lines
