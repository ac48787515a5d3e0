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
                   r"value=\[(\S+)/print as-value proplist=(\S+?)(?: where ([^\]]+))?\]\]")


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
        self.clock, self.fasttrack = 0, False
        self.lists = {4: [], 6: []}  # (list, prefix, end or None, comment)
        self.raw = {version: [{"chain": "prerouting", "action": "jump", "jump-target": "aup-drops", "disabled": "false"}]
                    for version in (4, 6)}

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
        return "bad command name %s (line 1 column 1)\n" % text.split("/")[-1][:20]

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

    def equip(self):
        """No ports of servers."""

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
        version = 6 if menu.startswith("/ipv6") else 4
        if menu.endswith("/route"):
            found = self.routes(version)
            if where.startswith("blackhole"):
                found = [row for row in found if row["gateway"] == ""]
        elif menu.endswith("/address"):
            found = [{"address": OWN[version], "interface": "ether1"}]
        elif menu.endswith("/firewall/raw"):
            found = self.raw[version]
        elif menu.endswith("/firewall/filter"):
            found = [{".id": "*7"}] if self.fasttrack else []
        elif menu.endswith("/firewall/address-list"):
            found = [{"list": name, "address": self.spelled(prefix), "comment": comment, **(
                {"timeout": "%d:%02d:%02d" % (left // 3600, left // 60 % 60, left % 60)} if end else {})}
                for name, prefix, end, comment in self.live(version) for left in [int((end or 0) - self.now())]]
        elif menu == "/routing/bgp/connection":
            found = [{"name": "up%d" % number, "remote.address": peer} for number, peer in enumerate(PEERS)]
        else:
            return "bad command name %s (line 1 column 1)\n" % menu
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
        found.append({".id": "*A", "dst-address": "0.0.0.0/0" if version == 4 else "::/0", "gateway": "192.0.2.99%ether9" if version == 4
                      else ["2001:db8:9::1", "fe80::1%ether9"], "distance": 1, "routing-table": "mgmt", "disabled": "false", "active": "true"})
        return found
