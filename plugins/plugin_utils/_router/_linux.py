# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain Linux router through iproute2 and nftables. PRIVATE to the collection.

Values go to `ip -batch -` on stdin, so no shell ever sees one, and its exit status is true. The kernel honours the
protocol number on delete, so a route of others can't be hit. Nothing here survives a reboot of the router; the next
reconcile sets it again. A routing daemon that is told to leave routes of other protocols alone leaves ours alone.
"""
from __future__ import annotations

import ipaddress
import json
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _linux_drops, _linux_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Shell
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, json_documents

NAME = "linux"
_PREFIX = r"(?:%s|%s)" % (_gate.PREFIX4, _gate.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"route (?:add|del) blackhole %s proto %s" % (_PREFIX, _gate.NUMBER),
    r"route show table main proto %s" % _gate.NUMBER, r"route show table main exact %s" % _PREFIX,
    r"route show table main dev %s" % _linux_ports.INTERFACE, r"address show", r"link show",
    r"route get (?:%s|%s)" % (_gate.IPV4, _gate.IPV6),
))
_TYPES = {"1": "unicast", "6": "blackhole", "7": "unreachable", "8": "prohibit"}
_BOOT = 3
_BY_HAND = (_BOOT, 4)  # protocol numbers of routes made by hand: boot, static
_FAILED = re.compile(r"Command failed -:(\d+)")


def route_line(verb, prefix, protocol):
    """The batch line of a null route.

    :raises ValueError: no canonical prefix, or a protocol number out of range
    """
    checked_route(prefix, protocol, 5, 255)
    return "route %s blackhole %s proto %d" % (verb, prefix, protocol)


def parse_documents(text, count):
    """The JSON lists that a batch of `count` show commands prints, one each, empty where nothing was found.

    :raises NotUnderstood: anything else
    """
    documents = json_documents(text)
    if not all(isinstance(document, list) for document in documents):
        raise NotUnderstood("a list is expected")
    if len(documents) != count:
        raise NotUnderstood("%d answers to %d questions" % (len(documents), count))
    return documents


def parse_route(entry, version, protocol=None):
    """`{"prefix", "blackhole", "protocol", "line", "gateways"}` of one route as `ip -j -N` prints it.

    :param protocol: the one that was asked for
    """
    try:
        text = entry["dst"]
        everything = "0.0.0.0/0" if version == 4 else "::/0"
        network = ipaddress.ip_network(everything if text == "default" else text)
        kind = _TYPES.get(str(entry.get("type", "unicast")), str(entry.get("type")))
        # `ip` says nothing of a protocol that was asked for, nor of boot.
        protocol = str(entry.get("protocol", _BOOT)) if protocol is None else str(protocol)
    except (KeyError, TypeError, ValueError) as exc:
        raise NotUnderstood("route %s" % str(entry)[:100]) from exc
    about = [protocol if key == "protocol" else entry.get(key) for key in ("gateway", "dev", "protocol", "metric")]
    about = " ".join("%s %s" % pair for pair in zip(("via", "dev", "proto", "metric"), about) if pair[1] is not None)
    hops = [entry["gateway"]] if "gateway" in entry else []
    hops += [hop["gateway"] for hop in entry.get("nexthops", ()) if "gateway" in hop]
    return {"prefix": str(network), "blackhole": kind == "blackhole", "protocol": protocol,
            "line": "%s %s %s" % (kind, network, about), "gateways": hops}


class Linux:
    """One connection to one Linux router."""

    name = NAME
    announces = False
    MARK = ("protocol", 5, 255, 66)
    """The option that marks a route as ours: name, least, most, default. Lower numbers are the kernel's."""
    apart = frozenset(("port", "drop"))
    """Changes that are carried out by `apply_apart`, each in a transaction of its own."""
    waiting = unsaved = False
    notes = missing = ()
    PORT = _linux_ports.INTERFACE
    PORT_IS = "the name of an interface (up to 15 characters)"

    def __init__(self, target):
        self.target = target
        self.shell = Shell(target)

    def close(self):
        """Leave the router."""
        self.shell.close()

    def _batch(self, version, lines, *options):
        stdin = "".join(_gate.pass_line(line, GRAMMAR) + "\n" for line in lines)
        command = " ".join(("ip", *options, "-%d" % version, "-batch", "-"))
        return self.shell.run("sudo -n " + command if self.target.become else command, stdin)

    def _show(self, version, lines, *options):
        status, out, err = self._batch(version, lines, "-j", "-N", *options)
        if status != 0:
            raise self.target.error("bad_reply", "ip -%d ended with %d: %s" % (version, status, err.strip()[:120]),
                                    "Nothing is concluded from it. Check the user's rights and iproute2.")
        try:
            return parse_documents(out, len(lines))
        except NotUnderstood as exc:
            raise self._odd(exc) from exc

    def _odd(self, exc):
        return self.target.error("bad_reply", "its answer was not understood: %s." % exc,
                                 "Nothing is concluded from it. Report it with the version of iproute2.")

    def observe(self, desired):
        """What the router has, for `_plan.plan`."""
        protocol = desired["settings"]["mark"]
        wanted = {4: [], 6: []}
        for route in desired["null_routes"]:
            wanted[ipaddress.ip_network(route["prefix"]).version].append(route["prefix"])
        routes, rib, taken, seen = [], {}, [], set()
        for version, prefixes in wanted.items():
            asked = [protocol, *_BY_HAND] + [None] * len(prefixes)
            lines = ["route show table main proto %d" % number for number in asked if number is not None]
            lines += ["route show table main exact %s" % prefix for prefix in prefixes]
            # In one command: each costs a round trip and a login's shell.
            *answers, addresses = self._show(version, [*lines, "address show"])
            taken += [one for entry in addresses for one in _addresses(entry)]
            for number, entry in [(number, entry) for number, document in zip(asked, answers) for entry in document]:
                try:
                    route = parse_route(entry, version, number)
                except NotUnderstood as exc:
                    raise self._odd(exc) from exc
                for gateway in route["gateways"]:
                    taken.append({"prefix": gateway, "what": "the next hop %s of %s" % (gateway, route["prefix"])})
                ours = route["protocol"] == str(protocol) and route["blackhole"]
                if (version, route["line"]) in seen:
                    continue
                seen.add((version, route["line"]))
                routes.append({"prefix": route["prefix"], "ours": ours, "blackhole": route["blackhole"],
                               "mark": protocol if ours else None, "exact": ours, "line": route["line"]})
                if ours:
                    rib[route["prefix"]] = {"blackhole": True, "installed": True}
        return {"routes": routes, "rib": rib, "occupied": {}, "taken": taken, "rtbh": None,
                **self._filtered(desired)}

    def _nft(self, arguments, stdin=""):
        return self.shell.run("%snft %s" % ("sudo -n " if self.target.become else "", arguments), stdin)

    def _filtered(self, desired):
        """What our tables of nftables hold."""
        there = self._tables(desired["ports"] or desired["drops"])
        return {"drops": self._listed(_linux_drops, there), "ports": self._ports(desired, self._listed(_linux_ports, there))}

    def _tables(self, wanted):
        """Which tables there are; none where nothing is wanted and nftables can't be read."""
        status, out, err = self._nft("-j list tables")
        if status != 0 and not wanted:
            return []
        if status != 0:
            raise self.target.error("bad_reply", "nft ended with %d: %s" % (status, err.strip()[:120]),
                                    "Nothing is concluded from it. Install nftables and check the user's rights.")
        try:
            return [(table["family"], table["name"]) for table in (e["table"] for e in json.loads(out)["nftables"] if "table" in e)]
        except (ValueError, KeyError, TypeError) as exc:
            raise self._odd(exc) from exc

    def _listed(self, layout, there):
        """A table of ours, parsed.

        :param layout: the file that knows it
        """
        if ("inet", layout.TABLE) not in there:
            return {}
        status, out, err = self._nft("-j list table inet %s" % layout.TABLE)
        if status != 0:
            raise self.target.error("bad_reply", "nft ended with %d: %s" % (status, err.strip()[:120]), "Run again.")
        try:
            return layout.parse_table(json.loads(out))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise self._odd(exc) from exc

    def _ports(self, desired, found):
        """What is on ports and what would be, for `_ports.plan_ports`."""
        ports = desired["ports"]
        if not ports and not found:
            return {}
        links = self._show(4, ["link show"], "-d")[0] if ports else []
        routes = {port["interface"]: [] for port in ports}
        there = [name for name in routes if any(link.get("ifname") == name for link in links)]
        for version in (4, 6) if there else ():
            answers = self._show(version, ["route show table main dev %s" % name for name in there])
            for name, document in zip(there, answers):
                routes[name] += [(entry.get("dst"), hop.get("gateway")) for entry in document
                                 for hop in (entry.get("nexthops") or [entry])]
        seen = {name: {"wanted": None, "found": lines, "objection": None} for name, lines in found.items()}
        ways = self._ways_to(desired["settings"].get("controllers", ())) if ports else ()
        for port in ports:
            name = port["interface"]
            seen[name] = {"wanted": _linux_ports.normal(_linux_ports.rules(port)), "found": found.get(name),
                          "objection": _linux_ports.objection(port, links, routes[name], desired["settings"].get("uplinks", ()), ways)}
        return seen

    def _ways_to(self, addresses):
        """Interfaces by which the router reaches addresses; one without a route to it was reached in another way."""
        found = set()
        for address in addresses:
            status, out, _err = self._batch(6 if ":" in address else 4, ["route get %s" % ipaddress.ip_address(address)], "-j", "-N")
            try:
                found.update(entry["dev"] for document in parse_documents(out, 1) for entry in document) if status == 0 else None
            except (NotUnderstood, KeyError, TypeError) as exc:
                raise self._odd(exc) from exc
        return found

    def commands(self, change):
        """Lines of one change."""
        if "port" in change:
            return _linux_ports.commands(change)
        if "drop" in change:
            return _linux_drops.commands(change)
        return [route_line("add" if change["action"] == "add" else "del", change["prefix"], change["mark"])]

    def undo(self, change):
        """Lines that put back what was before a change."""
        return [route_line("del" if change["action"] == "add" else "add", change["prefix"], change["mark"])]

    def apply(self, lines, _groups=()):
        """Carry out lines; `{index of a line: complaint}` of those refused. The kernel takes each at once."""
        refused = {}
        for version in (4, 6):
            mine = [(index, line) for index, line in enumerate(lines) if (":" in line) == (version == 6)]
            while mine:
                # Without -force it stops at a refused line and names it, so what acted and what not is known.
                status, _out, err = self._batch(version, [line for _index, line in mine])
                if status == 0:
                    break
                found = _FAILED.search(err)
                if found is None or not 1 <= int(found.group(1)) <= len(mine):
                    raise self.target.error("bad_reply", "ip ended with %d: %s" % (status, err.strip()[:120]),
                                            "Check the user's rights on the router.")
                at = int(found.group(1)) - 1
                refused[mine[at][0]] = err.strip().splitlines()[0][:200]
                mine = mine[at + 1:]
        return refused

    def confirm(self):
        """Nothing to confirm: what was entered stays."""

    def apply_apart(self, step):
        """Carry out the lines of one port or drop in one transaction; the complaint if it was refused as a whole, or None."""
        pass_line = (_linux_ports if "port" in step else _linux_drops).pass_line
        stdin = "".join(pass_line(line) + "\n" for line in step["commands"])
        status, _out, err = self._nft("-f -", stdin)
        return None if status == 0 else (err.strip().splitlines() or ["nft ended with %d" % status])[0][:200]

    def save(self):
        """Nothing to save: the kernel's routes don't outlive it."""


def _addresses(entry):
    return [{"prefix": about["local"], "what": "the router's own address %s on %s" % (about["local"], entry.get("ifname"))}
            for about in entry.get("addr_info", ()) if "local" in about]
