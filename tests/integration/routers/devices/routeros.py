# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""RouterOS: one command for each channel, what is entered is kept at once, errors are text with exit status 0."""
from __future__ import annotations

import contextlib
import copy
import ipaddress
import json
import re
import time

from tests.integration.routers.devices.base import OWN, PEERS, Device

_READ = re.compile(r":put \[:serialize to=json options=json\.no-string-conversion "
                   r"value=\[(\S+)/print (?:detail as-value|as-value proplist=(\S+?))(?: where ([^\]]+))?\]\]")
_WORDS = re.compile(r'([a-z-]+)=(?:"([^"]*)"|(\S+))')


class Session:
    def __init__(self, device):
        self.device = device

    def line(self, text):
        device = self.device
        if text == ":put [/system/resource/get version]":
            return device.version + "\n"
        match = _READ.fullmatch(text)
        if match:
            return device.rows(*match.groups())
        match = re.fullmatch(r'/(ip|ipv6)/route/add dst-address=(\S+) blackhole comment="aup:([0-9]+)"', text)
        if match:
            # Another one for the same destination is no error.
            device.running.setdefault(str(ipaddress.ip_network(match.group(2))), []).append(("drop", int(match.group(3))))
            return ""
        match = re.fullmatch(
            r'/(ip|ipv6)/route/remove \[find where dst-address="(\S+)" comment="aup:([0-9]+)" blackhole dynamic=no\]', text)
        if match:
            prefix, mark = match.group(2), int(match.group(3))
            rest = [pair for pair in device.running.pop(prefix, []) if pair != ("drop", mark)]
            if rest:
                device.running[prefix] = rest
            return ""  # nor is nothing found
        return device.firewall(text)


class RouterOs(Device):
    platform = "routeros"
    Session = Session
    READS = (":put ",)
    ADDED = ['/ip/route/add dst-address=203.0.113.10/32 blackhole comment="aup:41666"',
             '/ipv6/route/add dst-address=2001:db8:100::10/128 blackhole comment="aup:41666"']
    REMOVED = ['/ip/route/remove [find where dst-address="203.0.113.10/32" comment="aup:41666" blackhole dynamic=no]',
               '/ipv6/route/remove [find where dst-address="2001:db8:100::10/128" comment="aup:41666" blackhole dynamic=no]']
    COMPLAINT = "failure: route already exists\n"
    ONE_LINE = re.escape(ADDED[0])
    COMMITS = CONFIRMS = None

    def __init__(self, folder):
        super().__init__(folder)
        self.version = "7.20.4 (stable)"
        self.clock = 0
        self.lists = {4: [], 6: []}  # (list, prefix, end or None, comment)
        self.raw = {version: [{"chain": "prerouting", "action": "jump", "jump-target": "aup-drops", "disabled": "false"}]
                    for version in (4, 6)}
        self.filter = {version: [self.made({"chain": "forward", "action": "accept", "connection-state": "established,related"})]
                       for version in (4, 6)}
        self.queues = []
        self.around = {
            "/interface": [{"name": "ether%d" % number, "type": "ether"} for number in range(1, 9)] + [
                {"name": "vlan100", "type": "vlan"}, {"name": "br0", "type": "bridge"}, {"name": "bond1", "type": "bond"}],
            "/interface/vlan": [{"name": "vlan100", "interface": "ether7"}],
            "/interface/bridge/port": [{"interface": "ether8", "bridge": "br0", "disabled": "false"}],
            "/interface/bonding": [{"name": "bond1", "slaves": "ether5,ether6"}], "/interface/vrrp": [], "/interface/macvlan": [],
            "/interface/pppoe-server/server": [], "/ip/vrf": [{"name": "main", "interfaces": "all"}], "/routing/ospf/neighbor": []}
        self.addresses = {4: [{"address": "203.0.113.65/26", "interface": "ether2"}, {"address": "203.0.113.129/26", "interface": "vlan100"}],
                          6: [{"address": "2001:db8:100:a::1/64", "interface": "ether2"}, {"address": "fe80::1/64", "interface": "ether2"}]}
        self.defaults = {4: [{"immediate-gw": "192.0.2.9%ether1"}], 6: [{"immediate-gw": "fe80::9%ether1"}]}
        self.extra_routes = {4: [], 6: []}  # static ones in the form of rows
        self.switches = None  # names of switch chips that route by themselves; None: there is no such menu

    @property
    def fasttrack(self):
        """Whether a rule takes connections past everything."""
        return any(row["action"] == "fasttrack-connection" and row["disabled"] == "false" for rows in self.filter.values() for row in rows)

    @fasttrack.setter
    def fasttrack(self, wanted):
        for row in [row for row in self.filter[4] if row["action"] == "fasttrack-connection"]:
            self.filter[4].remove(row)
        if wanted:
            self.filter[4].append(self.made({"chain": "forward", "action": "fasttrack-connection"}))

    def made(self, row):
        """A row of a menu, with an id of its own."""
        self.counted = getattr(self, "counted", 256) + 1
        return {".id": "*%X" % self.counted, "disabled": "false", **row}

    def ready(self):
        """What the operator prepares for ports: a jump before every other rule of each chain."""
        for rows in self.filter.values():
            rows[:0] = [self.made({"chain": chain, "action": "jump", "jump-target": "aup-ports"}) for chain in ("forward", "input", "output")]

    def on_ports(self):
        """All that is in filter, in lists and in queues, without ids, to compare."""
        rows = [(version, *sorted((key, str(value)) for key, value in row.items() if key != ".id"))
                for version in (4, 6) for row in self.filter[version]]
        return (sorted(rows), sorted(map(repr, self.live(4) + self.live(6))),
                [{key: value for key, value in row.items() if key != ".id"} for row in self.queues])

    def now(self):
        """The device's own time."""
        return time.time() + self.clock

    def live(self, version):
        """Entries of address lists that have not gone by themselves."""
        self.lists[version] = [entry for entry in self.lists[version] if entry[2] is None or entry[2] > self.now()]
        return self.lists[version]

    def firewall(self, text):
        """Address lists and raw rules."""
        version = 6 if text.startswith("/ipv6") else 4
        match = re.fullmatch(r'/ip(?:v6)?/firewall/address-list/add list=(\S+) address=(\S+)(?: timeout=(\S+))? comment="(\S+)"', text)
        if match:
            name, prefix, timeout, comment = match.groups()
            if any(entry[:2] == (name, prefix) for entry in self.live(version)):
                return "failure: already have such entry\n"
            units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
            left = sum(int(number) * units[unit] for number, unit in re.findall("([0-9]+)([dhms])", timeout or ""))
            self.lists[version].append((name, prefix, self.now() + left if timeout else None, comment))
            return ""
        match = re.fullmatch(r'/ip(?:v6)?/firewall/address-list/remove \[find where list="(\S+?)"(?: address="(\S+)")?\]', text)
        if match:
            gone = [entry for entry in self.live(version) if entry[0] == match.group(1) and (
                match.group(2) is None or self.spelled(entry[1]) == match.group(2))]
            self.lists[version] = [entry for entry in self.lists[version] if entry not in gone]
            return ""
        match = re.fullmatch(r'/ip(?:v6)?/firewall/raw/add chain=(\S+) action=drop src-address-list=(\S+) dst-address-list=(\S+) comment="(\S+)"', text)
        if match:
            chain, source, target, comment = match.groups()
            self.raw[version].append({"chain": chain, "action": "drop", "src-address-list": source, "dst-address-list": target,
                                      "comment": comment, "disabled": "false"})
            return ""
        match = re.fullmatch(r'/ip(?:v6)?/firewall/raw/remove \[find where chain="(\S+)" comment="(\S+)"\]', text)
        if match:
            self.raw[version] = [row for row in self.raw[version] if (row["chain"], row.get("comment")) != match.groups()]
            return ""
        return self.filtering(text, version)

    def filtering(self, text, version):
        """Filter rules and queues."""
        said = {key: quoted or plain for key, quoted, plain in _WORDS.findall(text)}
        if re.fullmatch(r"/ip(?:v6)?/firewall/filter/add .*", text):
            self.filter[version].append(self.made(said))
            return ""
        match = re.fullmatch(r'/ip(?:v6)?/firewall/filter/remove \[find where comment="(\S+)"\]', text)
        if match:
            self.filter[version] = [row for row in self.filter[version] if row.get("comment") != match.group(1)]
            return ""
        match = re.fullmatch(r"/queue/simple/add .*", text)
        if match:
            if any(row["name"] == said["name"] for row in self.queues):
                return "failure: already have such name\n"
            before = said.pop("place-before", None)
            at = [number for number, row in enumerate(self.queues) if row[".id"] == before]
            if before and not at:
                return "no such item (4)\n"
            self.queues.insert(at[0] if at else len(self.queues), self.made({"parent": "none", "packet-marks": "", "burst-limit": "0/0", **said}))
            return ""
        match = re.fullmatch(r'/queue/simple/remove \[find where name="(\S+)" comment~"\^aup:port:"\]', text)
        if match:
            self.queues = [row for row in self.queues if row["name"] != match.group(1) or not row.get("comment", "").startswith("aup:port:")]
            return ""
        return "bad command name %s (line 1 column 1)\n" % text.split("/")[-1][:20]

    def verdict(self, came, leaves, source, target, port=443, protocol="tcp", established=False):
        """What becomes of a packet: `accept`, `drop` or `reject`. Without an interface it is the router's own, or for it."""
        version = 6 if ":" in source else 4
        packet = {"in-interface": came, "out-interface": leaves, "protocol": protocol, "dst-port": port, "src-address-list": source,
                  "dst-address-list": target, "connection-state": "established" if established else "new"}
        return self.through("forward" if came and leaves else "input" if came else "output", version, packet) or "accept"

    def through(self, chain, version, packet):
        """The verdict of one chain, or None where it returns."""
        for row in self.filter[version]:
            if row["chain"] != chain or row["disabled"] == "true" or not all(self.matches(version, key, row[key], packet) for key in packet if key in row):
                continue
            if row["action"] == "jump":
                said = self.through(row["jump-target"], version, packet)
                if said:
                    return said
            elif row["action"] == "return":
                return None
            elif row["action"] != "passthrough":
                return row["action"]
        return None

    def matches(self, version, key, wanted, packet):
        """Whether a packet has what a rule asks for."""
        if key.endswith("-address-list"):
            name, inside = wanted.removeprefix("!"), ipaddress.ip_address(packet[key])
            return wanted.startswith("!") != any(name == entry[0] and inside in ipaddress.ip_network(entry[1]) for entry in self.live(version))
        return str(packet[key]) in wanted.split(",")

    def rate(self, interface):
        """Bits a second each way that the first queue for an interface leaves its packets; None without."""
        first = [row for row in self.queues if row["disabled"] == "false" and row["target"] in (interface, "0.0.0.0/0")][:1]
        return first[0]["max-limit"] if first else None

    @staticmethod
    def spelled(prefix):
        """How an address list prints a prefix."""
        return prefix.removesuffix("/32") if "." in prefix else prefix

    def dropped(self, source, target):
        """Whether a packet on its way through is dropped."""
        version = 6 if ":" in source else 4
        jump = [row for row in self.raw[version] if row["chain"] == "prerouting" and row["disabled"] == "false"][:1]
        if not jump or jump[0].get("jump-target") != "aup-drops":
            return False
        listed = [(name, ipaddress.ip_network(prefix)) for name, prefix, _end, _comment in self.live(version)]

        def in_list(address, name):
            return any(name == one and ipaddress.ip_address(address) in network for one, network in listed)

        return any(row["chain"] == "aup-drops" and row["disabled"] == "false" and in_list(source, row["src-address-list"])
                   and in_list(target, row["dst-address-list"]) for row in self.raw[version])

    @property
    def startup(self):
        """What a restart reads: all that was ever entered."""
        return copy.deepcopy(self.running)

    @startup.setter
    def startup(self, _value):
        """Nothing is saved apart."""

    def execute(self, channel, text):
        """One command."""
        with contextlib.suppress(OSError, EOFError):
            while channel.recv(1024):  # until the client has sent all, and has the answer to its request
                pass
        self.lines.append(text)
        said, cut = self.answer(Session(self), text)
        with contextlib.suppress(OSError, EOFError):
            if cut or said is None:
                channel.get_transport().close()
                return
            channel.sendall(said.replace("\n", "\r\n"))
            channel.send_exit_status(0)
            channel.close()

    def rows(self, menu, properties, where):
        """Rows of a menu as JSON, the properties that were asked for."""
        version, where = 6 if menu.startswith("/ipv6") else 4, where or ""
        if menu.endswith("/route"):
            found = self.routes(version)
            if where.startswith("blackhole"):
                found = [row for row in found if row["gateway"] == ""]
            if where.startswith("dst-address="):
                found = self.defaults[version]
        elif menu.endswith("/address"):
            found = [{"address": OWN[version], "interface": "ether1"}, *self.addresses[version]]
        elif menu.endswith("/firewall/raw"):
            found = self.raw[version]
        elif menu.endswith("/firewall/filter"):
            found = [row for row in self.filter[version] if (
                row.get("comment", "").startswith("aup:port:") if where.startswith("comment~") else row["action"] == "jump"
                and row["jump-target"] == "aup-ports" if where.startswith("action=jump") else row["action"] == "fasttrack-connection"
                and row["disabled"] == "false" if where else True)]
        elif menu == "/queue/simple":
            found = self.queues
        elif menu == "/interface/ethernet/switch":
            if self.switches is None:
                return "bad command name switch (line 1 column 91)\n"
            found = [{"name": name} for name in self.switches]
        elif menu in self.around:
            found = self.around[menu]
        elif menu.endswith("/firewall/address-list"):
            found = [{"list": name, "address": self.spelled(prefix), "comment": comment, **(
                {"timeout": "%d:%02d:%02d" % (left // 3600, left // 60 % 60, left % 60)} if end else {})}
                for name, prefix, end, comment in self.live(version) for left in [int((end or 0) - self.now())]]
        elif menu == "/routing/bgp/connection":
            found = [{"name": "up%d" % number, "remote.address": peer} for number, peer in enumerate(PEERS)]
        else:
            return "bad command name %s (line 1 column 1)\n" % menu
        if not properties:  # all that is set, and flags as releases before 7.20 have it
            return json.dumps([{name: value for name, value in row.items() if name != "disabled"} for row in found]) + "\n"
        names = properties.split(",")
        return json.dumps([{name: row[name] for name in names if name in row} for row in found]) + "\n"

    def routes(self, version):
        """All routes entered by hand, with every property."""
        found = []
        for prefix, routes in sorted(self.running.items()):
            for target, tag in routes:
                if ipaddress.ip_network(prefix).version == version:
                    drops = target == "drop"
                    found.append({
                        ".id": "*%X" % (len(found) + 16), "dst-address": prefix, "gateway": "" if drops else target, "distance": 1,
                        "routing-table": "main", "disabled": "false", "active": "false" if drops and self.dead_rib else "true",
                        **({"comment": "aup:%d" % tag} if tag else {})})
        found += self.extra_routes[version]
        found.append({".id": "*A", "dst-address": "0.0.0.0/0" if version == 4 else "::/0", "gateway": "192.0.2.99%ether9" if version == 4
                      else ["2001:db8:9::1", "fe80::1%ether9"], "distance": 1, "routing-table": "mgmt", "disabled": "false", "active": "true"})
        return found
