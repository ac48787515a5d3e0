# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""IOS-XE: lines act at once, a revert timer over all of them, running and startup configuration."""
from __future__ import annotations

import copy
import difflib
import ipaddress
import re

from tests.integration.routers.devices.base import OWN, PEERS, Device, statics

_CODES = ("Codes: L - local, C - connected, S - static, R - RIP, M - mobile, B - BGP\n"
          "       D - EIGRP, EX - EIGRP external, O - OSPF, IA - OSPF inter area\n")


class Session:
    def __init__(self, device):
        self.device, self.inside = device, False

    def prompt(self):
        return "edge-router-of-fra1(config)#" if self.inside else "edge-router-of-fra1#"

    def left(self):
        """What was entered stays, until the timer runs out."""

    def line(self, text):
        device = self.device
        if text.startswith("terminal "):
            return ""
        if self.inside:
            return self._configuration(text)
        match = re.fullmatch("configure terminal revert timer ([0-9]+)", text)
        if match:
            if device.locked_by:
                return "Configuration mode is locked by process '99' user '%s' from terminal '2'. Please try later.\n" % device.locked_by
            if not device.archive:
                return "% Error: Archive configuration is required\n"
            device.arm("aup", copy.deepcopy(device.running))
            self.inside = True
            return ("Rollback Confirmed Change: Backing up current running config to bootflash:aup-1\n\n"
                    "Enter configuration commands, one per line.  End with CNTL/Z.\n")
        if text == "configure confirm" and device.pending:
            device.pending = None
            return ""
        if text == "configure revert now" and device.pending:
            device.expire()
            return "Rollback Confirmed Change: Rolling to:bootflash:aup-1\n\nTotal number of passes: 1\nRollback Done\n\n"
        if text == "write memory":
            device.startup = copy.deepcopy(device.running)
            return "Building configuration...\n[OK]\n"
        return device.show(text)

    def _configuration(self, text):
        device = self.device
        match = re.fullmatch(r"(no )?(?:ip route (\S+) (\S+)|ipv6 route (\S+)) Null0(?: tag ([0-9]+))?", text)
        if match:
            no, address, mask, six, tag = match.groups()
            prefix = six or str(ipaddress.ip_network("%s/%s" % (address, mask)))
            there = device.running.pop(prefix, [])
            rest = [pair for pair in there if pair[0] != "drop"] + ([] if no else [("drop", int(tag) if tag else None)])
            if rest:
                device.running[prefix] = rest
            return "%No matching route to delete\n" if no and len(rest) == len(there) else ""
        if text == "end":
            self.inside = False
            return ""
        return "                ^\n% Invalid input detected at '^' marker.\n\n"


class IosXe(Device):
    platform = "iosxe"
    Session = Session
    READS = ("show ",)
    SETUP = re.compile(r"terminal (?:width|length) .*")
    _SET = ["configure terminal revert timer 2"], ["end", "configure confirm", "write memory"]
    ADDED = [*_SET[0], "ip route 203.0.113.10 255.255.255.255 Null0 tag 41666", "ipv6 route 2001:db8:100::10/128 Null0 tag 41666",
             *_SET[1]]
    REMOVED = [*_SET[0], "no ip route 203.0.113.10 255.255.255.255 Null0", "no ipv6 route 2001:db8:100::10/128 Null0", *_SET[1]]
    COMPLAINT = "                          ^\n% Invalid input detected at '^' marker.\n\n"
    ONE_LINE = r"ip route 203\.0\.113\.10 255\.255\.255\.255 Null0 tag 41666"
    COMMITS = "configure terminal revert .*"
    CONFIRMS = "configure confirm"

    def __init__(self, folder):
        super().__init__(folder)
        self.archive = True

    def arm_foreign(self):
        """Another operator's timer runs."""
        self.arm("jdoe", copy.deepcopy(self.running))

    def show(self, text):
        """Reading."""
        if text == "show running-config":
            return "Building configuration...\n\nCurrent configuration : 4711 bytes\n" + self.shown(self.running)
        if text == "show archive config rollback timer":
            return "%No Rollback Confirmed Change pending\n" if not self.pending else (
                "Time configured(in 24 hours, HH:MM:SS): 15:59:07 UTC Sat Nov 21 2026\nTimer type: absolute timer\n"
                "Timer value: 2 min\nUser: %s\n" % self.pending[0])
        if text.startswith("show archive config differences"):
            found = [line for line in difflib.ndiff(self.shown(self.startup).splitlines(True), self.shown(self.running).splitlines(True))
                     if line[:1] in "+-"]
            return "!Contextual Config Diffs:\n" + "".join(line[0] + line[2:] for line in found)
        return {"show ip route static": self.rib4, "show ipv6 route static": self.rib6}.get(
            text, lambda: "% Invalid input detected at '^' marker.\n")()

    def shown(self, running):
        """The configuration as text."""
        interface = ipaddress.ip_interface(OWN[4])
        text = "!\nversion 17.9\nhostname edge-router-of-fra1\n!\n"
        text += "archive\n path bootflash:aup\n maximum 5\n!\n" if self.archive else ""
        text += ("interface GigabitEthernet1\n ip address %s %s\n ipv6 address %s\n!\nrouter bgp 64500\n"
                 % (interface.ip, interface.netmask, OWN[6].upper()))
        text += "".join(" neighbor %s remote-as 6450%d\n" % (peer, number) for number, peer in enumerate(PEERS, 1)) + "!\n"
        for version in (4, 6):
            for network, target, tag in statics(running, version):
                where = "ip route %s %s" % (network.network_address, network.netmask) if version == 4 else \
                    "ipv6 route %s" % str(network).upper()
                text += "%s %s%s\n" % (where, "Null0" if target == "drop" else target, " tag %d" % tag if tag else "")
        return text + "!\nend\n"

    def _used(self, version):
        return [entry for entry in statics(self.running, version) if not (self.dead_rib and entry[1] == "drop")]

    def rib4(self):
        """`show ip route static`."""
        used = self._used(4)
        text = _CODES + "\nGateway of last resort is not set\n\n"
        if {network.prefixlen for network, _target, _tag in used} == {32}:
            text += "      203.0.113.0/32 is subnetted, %d subnets\n" % len(used)
            shown = [(str(network.network_address), target) for network, target, _tag in used]
        else:
            text += "      203.0.113.0/24 is variably subnetted, %d subnets, 2 masks\n" % len(used) if used else ""
            shown = [(str(network), target) for network, target, _tag in used]
        for network, target in shown:
            text += "S        %s %s\n" % (network, "is directly connected, Null0" if target == "drop" else "[1/0] via " + target)
        return text

    def rib6(self):
        """`show ipv6 route static`."""
        text = "IPv6 Routing Table - default - 7 entries\n" + _CODES
        for network, target, tag in self._used(6):
            text += "S   %s [1/0]%s\n     via %s\n" % (str(network).upper(), ", tag %d" % tag if tag else "",
                                                     "Null0, directly connected" if target == "drop" else target.upper())
        return text
