# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""MikroTik RouterOS 7. PRIVATE to the collection. Never tried on a device.

Each command is an SSH `exec` of its own: the interactive console repaints its line for every character, so where an answer
ends there is guessed (netmiko issue 3498, gnetcli's recorded session); an exec has neither echo nor prompt, and its end is the
channel's. What is read is asked for as JSON, which escapes what `as-value` does not (`:serialize` with
`json.no-string-conversion`, 7.17). Flags are asked for by name, as releases before 7.20 leave them out otherwise.

There is no candidate. Safe mode is not used: what it takes back are everybody's changes, and beyond a hundred it ends
without a word. A line acts at once and is kept at once; what it did is read back. The exit status is 0 for errors too, so a
change that says anything at all was refused. `remove` names its route by destination, comment and kind in one command, so an
edit of somebody else in between can't make it hit another. A change of a port whose line is refused is taken back line by line.
"""
from __future__ import annotations

import ipaddress
import json
import re
import time

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _routeros_drops, _routeros_ports, _routeros_rows
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import VendorDriver
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Shell
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, is_address

NAME = "routeros"
LEAST = (7, 17)
LONGEST = 400  # of what is asked, with the names of what is wanted of it
VERSION = ":put [/system/resource/get version]"
MENUS = {4: "/ip", 6: "/ipv6"}


def reading(menu, properties, where=""):
    """The command that prints rows of a menu as JSON; without properties all that are set."""
    return ":put [:serialize to=json options=json.no-string-conversion value=[%s/print %s%s]]" % (
        menu, "as-value proplist=" + properties if properties else "detail as-value", " where " + where if where else "")


ROUTES = {version: reading(menu + "/route", ".id,dst-address,gateway,distance,routing-table,comment,disabled,active", "dynamic=no")
          for version, menu in MENUS.items()}
DROPS = {version: reading(menu + "/route", ".id", "blackhole dynamic=no") for version, menu in MENUS.items()}
ADDRESSES = {version: reading(menu + "/address", "address,interface") for version, menu in MENUS.items()}
RAW, LISTS, FAST = ({version: reading(menu + "/" + where, properties, which) for version, menu in _routeros_rows.MENUS.items()}
                    for where, properties, which in (("raw", _routeros_drops.RAW, ""),
                                                     ("address-list", _routeros_drops.LISTS, _routeros_drops.WHICH),
                                                     ("filter", ".id", "action=fasttrack-connection disabled=no")))
PEERS = reading("/routing/bgp/connection", "name,remote.address")
ORDER, OURS, JUMPS = ({version: reading(menu + "/filter", properties, which) for version, menu in _routeros_rows.MENUS.items()}
                      for properties, which in ((_routeros_ports.ORDER, ""), ("", _routeros_ports.OURS), ("", _routeros_ports.JUMPS)))
QUEUES = reading(_routeros_ports.QUEUE, _routeros_ports.QUEUES)
SWITCHES = reading("/interface/ethernet/switch", "name", "l3-hw-offloading=yes")
DEFAULTS = {4: reading("/ip/route", "immediate-gw", 'dst-address="0.0.0.0/0"'), 6: reading("/ipv6/route", "immediate-gw", 'dst-address="::/0"')}
# What tells a server's port from others; asked where a port is wanted.
AROUND = {
    "interfaces": (reading("/interface", "name,type"),),
    "bridge": (reading("/interface/bridge/port", "interface,bridge,disabled"),),
    "bonding": (reading("/interface/bonding", "name,slaves"),),
    "above": (*(reading("/interface/" + kind, "name,interface") for kind in ("vlan", "vrrp", "macvlan")),
              reading("/interface/pppoe-server/server", "service-name,interface")),
    "vrf": (reading("/ip/vrf", "name,interfaces"),),
    "neighbors": (reading("/routing/ospf/neighbor", "address"),),
    "defaults": tuple(DEFAULTS.values()),
}
_NO_SWITCH = re.compile(r"bad command name switch \(line 1 column [0-9]+\)")
_COMMENT = r'comment="aup:%s"' % _gate.NUMBER
GRAMMAR = tuple(re.compile(text) for text in (
    *(re.escape(line) for lines in (ROUTES, DROPS, ADDRESSES, RAW, LISTS, FAST, ORDER, OURS, JUMPS) for line in lines.values()),
    *(re.escape(line) for line in (VERSION, PEERS, QUEUES, SWITCHES, *(line for lines in AROUND.values() for line in lines))),
    *(pattern.pattern for part in (_routeros_drops, _routeros_ports) for pattern in part.GRAMMAR),
    r"/ip/route/add dst-address=%s blackhole %s" % (_gate.PREFIX4, _COMMENT),
    r"/ipv6/route/add dst-address=%s blackhole %s" % (_gate.PREFIX6, _COMMENT),
    r'/ip/route/remove \[find where dst-address="%s" %s blackhole dynamic=no\]' % (_gate.PREFIX4, _COMMENT),
    r'/ipv6/route/remove \[find where dst-address="%s" %s blackhole dynamic=no\]' % (_gate.PREFIX6, _COMMENT),
))
_OURS = re.compile(r"aup:(%s)" % _gate.NUMBER)


# -- strict parsers --------------------------------------------------------------------------------------------------


def parse_version(text):
    """`(7, 20)` of `7.20.4 (stable)`."""
    found = re.fullmatch(r"([0-9]+)\.([0-9]+)(?:\.[0-9]+|(?:beta|rc)[0-9]+)?(?: \([a-z-]+\))?", text.strip())
    if not found:
        raise NotUnderstood("the version: %s" % ascii(text.strip()[:80]))
    return int(found.group(1)), int(found.group(2))


def parse_rows(text):
    """The rows of a menu.

    :raises NotUnderstood: no list of rows; an error is one line of plain text
    """
    try:
        rows = json.loads(text)
    except ValueError as exc:
        raise NotUnderstood("no JSON: %s" % ascii(text.strip()[:80])) from exc
    if rows == {}:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NotUnderstood("rows are expected")
    return rows


def _flag(row, name):
    value = row.get(name)
    if value in (True, "true", "yes"):
        return True
    if value in (False, "false", "no"):
        return False
    raise NotUnderstood("%s is %s" % (name, ascii(value)[:40]))


def _text(row, name, usual=""):
    value = row.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise NotUnderstood("%s is %s" % (name, ascii(value)[:40]))
    return str(value)


def _ways(value):
    """`[(address or None, interface or None)]` of gateways; one of several, each with an interface or a table behind it."""
    found = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            raise NotUnderstood("gateway %s" % ascii(entry)[:40])
        for word in entry.split(","):
            first, _sign, interface = word.partition("@")[0].partition("%")
            hop = first if is_address(first) else None
            found += [(hop, interface or (None if hop else first))] if word else []
    return found


def parse_routes(rows, drops, version):
    """Routes entered by hand, of all tables.

    :param rows: of `ROUTES`
    :param drops: of `DROPS`
    """
    dropping = {_text(row, ".id") for row in drops}
    if "" in dropping:
        raise NotUnderstood("a row without .id")
    found = []
    for row in rows:
        try:
            network = ipaddress.ip_network(_text(row, "dst-address", "0.0.0.0/0" if version == 4 else "::/0"))
            distance = int(float(_text(row, "distance", "1") or 1))
        except ValueError as exc:
            raise NotUnderstood("route %s" % ascii(row)[:100]) from exc
        if network.version != version or not _text(row, ".id"):
            raise NotUnderstood("route %s" % ascii(row)[:100])
        comment, ways = _text(row, "comment"), _ways(row.get("gateway", ""))
        hops = [hop for hop, _interface in ways if hop]
        table = _text(row, "routing-table", "main") or "main"
        disabled, drops_it = _flag(row, "disabled"), row[".id"] in dropping
        mark = _OURS.fullmatch(comment)
        found.append({
            "prefix": str(network), "blackhole": drops_it, "hops": hops, "ways": ways, "table": table, "active": _flag(row, "active"),
            "mark": int(mark.group(1)) if mark else None, "disabled": disabled,
            "exact": bool(mark) and drops_it and not disabled and not hops and distance == 1,
            "line": " ".join([str(network), "blackhole" if drops_it else "gateway=%s" % ascii(row.get("gateway", ""))[:60],
                              "distance=%d" % distance, 'comment="%s"' % ascii(comment)[1:-1][:60]]
                             + ["disabled"] * disabled + ["routing-table=%s" % ascii(table)[1:-1]] * (table != "main"))})
    return found


def parse_addresses(rows):
    """`[(address, network)]` of interfaces, disabled ones too."""
    try:
        found = [ipaddress.ip_interface(_text(row, "address")) for row in rows]
    except ValueError as exc:
        raise NotUnderstood("addresses: %s" % exc) from exc
    return [(str(one.ip), str(one.network)) for one in found]


def parse_peers(rows):
    """BGP neighbors; those of a whole prefix too."""
    try:
        return sorted({str(ipaddress.ip_network(_text(row, "remote.address"), strict=False)) for row in rows
                       if row.get("remote.address")})
    except ValueError as exc:
        raise NotUnderstood("BGP neighbors: %s" % exc) from exc


def parse_switches(text):
    """Switch chips that route by themselves; a router without any has no such menu."""
    return [] if _NO_SWITCH.fullmatch(text.strip()) else parse_rows(text)


# -- the platform ----------------------------------------------------------------------------------------------------


class RouterOs(VendorDriver):
    """One connection to one RouterOS."""

    name = NAME
    GRAMMAR = GRAMMAR
    ALLOWED = '[]"~^!*'
    PORT, PORT_IS = _routeros_ports.PORT, _routeros_ports.PORT_IS
    apart = frozenset()

    _lacking = None
    _routes = _addresses = _peers = ()
    _on_port, _before = {}, None

    def _connect(self):
        return Shell(self.target)

    def _passed(self, line):
        return _gate.pass_line(line, self.GRAMMAR, self.TAILS, self.ALLOWED, LONGEST)

    def _ask(self, line, question=None):
        _status, out, err = self.cli.run(self._passed(line))  # the status says nothing
        return (out + err).replace("\r", "")

    # -- reading

    def _rows(self, line, parse, *more):
        return self._read(line, lambda text: parse(parse_rows(text), *more))

    def _look(self, desired):
        version = self._read(VERSION, parse_version)
        if version < LEAST:
            raise self.target.error("prerequisite_missing", "it runs RouterOS %d.%d." % version, "Upgrade it to %d.%d or later: before, "
                                    "it can't print what it has so that it can be told apart." % LEAST)
        routes, own, addresses = [], [], []
        for family in (4, 6):
            drops = self._rows(DROPS[family], list)
            routes += self._rows(ROUTES[family], parse_routes, drops, family)
            rows, found = self._rows(ADDRESSES[family], lambda rows: (rows, parse_addresses(rows)))
            addresses, own = addresses + rows, own + found
        statics = [route for route in routes if route["table"] == "main"]
        rib = {}
        for route in statics:
            drops = route["blackhole"] and route["active"]
            if drops or route["prefix"] not in rib:
                rib[route["prefix"]] = {"blackhole": drops, "installed": drops}
        # Next hops of other tables are kept reachable all the same.
        hops = [(hop, None) for route in routes if route["table"] != "main" for hop in route["hops"]]
        self._routes, self._addresses, self._peers = routes, addresses, self._rows(PEERS, parse_peers)
        return {"statics": statics, "rib": rib, "own": own + hops, "peers": self._peers}

    def observe(self, desired):
        """What the router has, for `_plan.plan`."""
        seen = super().observe(desired)
        raw = {version: self._rows(line, list) for version, line in RAW.items()}
        fast = [row for line in FAST.values() for row in self._rows(line, list)] if desired["drops"] or desired["ports"] else []
        self._lacking = _routeros_drops.lacking(raw, fast)
        lists = {version: self._rows(line, list) for version, line in LISTS.items()}
        seen["drops"] = self._understood(
            LISTS[4], lambda: _routeros_drops.parse(raw, lists, desired["drops"], self._lacking is None, time.time()))
        seen["ports"] = self._understood(ORDER[4], lambda: self._ports(desired, lists, fast))
        return seen

    def _ports(self, desired, lists, fast):
        """What is on ports and what would be, for `_ports.plan_ports`."""
        order = {version: self._rows(line, list) for version, line in ORDER.items()}
        # Nothing more is asked of a router that has to do with no server.
        full = {version: self._rows(line, list) if _routeros_ports.has_ours(order[version]) else [] for version, line in OURS.items()}
        queues = self._rows(QUEUES, list) if desired["ports"] or desired.get("port_services") or any(full.values()) else []
        self._on_port = _routeros_ports.parse(order, full, lists, queues)
        self._before = _routeros_ports.place(queues) if any(port["rate_bps"] for port in desired["ports"]) else None
        found = {name: _routeros_ports.in_order(lines) for name, lines in self._on_port.items()}
        seen = {name: {"wanted": None, "found": lines, "objection": None} for name, lines in found.items()}
        if not desired["ports"]:
            return seen
        jumps = {version: self._rows(line, list) for version, line in JUMPS.items()}
        around = {what: [row for line in lines for row in self._rows(line, list)] for what, lines in AROUND.items()}
        around.update(addresses=self._addresses, routes=self._routes, peers=self._peers, queues=queues)
        idle = _routeros_ports.missing(order, jumps, fast, [row.get("name", "") for row in self._read(SWITCHES, parse_switches)])
        for port in desired["ports"]:
            name, wanted = port["interface"], _routeros_ports.rules(port)
            there = found.get(name)
            lost = [line for line in wanted if line not in (there or ())]
            why = "%d of its %d lines are not there as wanted, the first: %s; what is there stays" % (len(lost), len(wanted), lost[0]) if lost else None
            seen[name] = {"wanted": wanted, "found": there if there is None or not idle else ["not reached: " + idle, *there],
                          "objection": _routeros_ports.objection(port, around, desired["settings"]) or idle, "why": idle or why, "stays": True}
        return seen

    # -- building

    def commands(self, change):
        """Lines of one change; `until` of an entry becomes its `timeout` when it is sent."""
        if "port" in change:
            return _routeros_ports.commands(change["wanted"] or [], self._on_port.get(change["port"], {}), self._before)
        return _routeros_drops.commands(change) if "drop" in change else super().commands(change)

    def _lines(self, action, prefix, mark, there):
        network = checked_route(prefix, mark)
        menu = MENUS[network.version] + "/route"
        remove = '%s/remove [find where dst-address="%s" comment="aup:%d" blackhole dynamic=no]' % (menu, network, mark)
        if action == "remove":
            return [remove]
        return ([remove] if there else []) + ['%s/add dst-address=%s blackhole comment="aup:%d"' % (menu, network, mark)]

    def _mark_of(self, line):
        return int(_OURS.search(line).group(1))

    # -- changing

    def apply(self, lines, groups):
        """Carry out lines one by one; `{index of a line: complaint}`. After a refused one the rest of its group is left out.

        Of a port, what was added before is then taken back.
        """
        lines = [_routeros_drops.at_last(line, time.time()) for line in lines]
        for line in lines:
            self._passed(line)
        refused, bad = {}, set()
        for index, line in enumerate(lines):
            if groups[index] in bad:
                continue
            # Without the way in, entries would drop nothing; what is there may always go.
            idle = self._lacking if groups[index].startswith("drop ") and "/remove " not in line else None
            said = idle or self._complaint(self._ask(line))
            if said:
                refused[index] = said[:200]
                bad.add(groups[index])
                if groups[index].startswith("port "):
                    refused[index] += self._taken_back([lines[at] for at in range(index) if groups[at] == groups[index]])
        return refused

    def _taken_back(self, entered):
        """Remove what was added of a port, and tell what was not to be had back."""
        lost = [line for line in entered if "/remove " in line]
        for line in reversed([line for line in entered if "/add " in line]):
            if self._complaint(self._ask(_routeros_ports.removal(line))):
                lost.append(line)
        return "; what was entered before was taken back%s" % (", but this stays done: " + "; ".join(lost) if lost else "")

    def confirm(self):
        """Nothing to confirm: what was entered stays."""
