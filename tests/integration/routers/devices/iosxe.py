# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""IOS-XE: lines act at once, a revert timer over all of them, running and startup configuration."""
from __future__ import annotations

import copy
import difflib
import ipaddress
import re

from tests.integration.routers.devices.base import OWN, PEERS, Device, bgp_lines, statics
from tests.integration.routers.devices.ports import Context

_CODES = ("Codes: L - local, C - connected, S - static, R - RIP, M - mobile, B - BGP\n"
          "       D - EIGRP, EX - EIGRP external, O - OSPF, IA - OSPF inter area\n")


class Session:
    def __init__(self, device):
        self.device, self.inside = device, False
        self.context = Context(True)

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
            device.interfere()
            self.context.at = None
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
        refused = self.context.at and device.objects_to(["%s %s" % (self.context.at[1], text)])
        said = refused or self.context.line(device.running, text)
        if said is not None:
            return said
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
    SUSPENDED = [
        *_SET[0],
        "ip access-list extended aup-GigabitEthernet0_0_2-in4-X", "deny ip any any",
        "ipv6 access-list aup-GigabitEthernet0_0_2-in6-X", "deny ipv6 any any",
        "ip access-list extended aup-GigabitEthernet0_0_2-out4-X", "deny ip any any",
        "ipv6 access-list aup-GigabitEthernet0_0_2-out6-X", "deny ipv6 any any",
        "interface GigabitEthernet0/0/2",
        "ip access-group aup-GigabitEthernet0_0_2-in4-X in", "ipv6 traffic-filter aup-GigabitEthernet0_0_2-in6-X in",
        "ip access-group aup-GigabitEthernet0_0_2-out4-X out", "ipv6 traffic-filter aup-GigabitEthernet0_0_2-out6-X out",
        "no ip access-list extended aup-GigabitEthernet0_0_2-in4-X", "no ipv6 access-list aup-GigabitEthernet0_0_2-in6-X",
        *_SET[1],
    ]
    COMPLAINT = "                          ^\n% Invalid input detected at '^' marker.\n\n"
    ONE_LINE = r"ip route 203\.0\.113\.10 255\.255\.255\.255 Null0 tag 41666"
    COMMITS = "configure terminal revert .*"
    CONFIRMS = "configure confirm"

    def __init__(self, folder):
        super().__init__(folder)
        self.archive = True

    def equip(self):
        self.equip_faces()

    def face(self, number):
        return "GigabitEthernet0/0/%d" % number

    def passes(self, *packet):
        """Whether a packet passes a filter: interface, side, protocol, source, target, port."""
        return Context(True).passes(self.running, *packet)

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
        match = re.fullmatch(r"show bgp ipv([46]) unicast (?:(summary)|neighbors (\S+) advertised-routes|(\S+))", text)
        if match:
            version, summary, peer, prefix = match.groups()
            return self.summary(int(version)) if summary else self.advertised(peer) if peer else self.carried(prefix)
        return {"show ip route static": self.rib4, "show ipv6 route static": self.rib6}.get(
            text, lambda: "% Invalid input detected at '^' marker.\n")()

    def shown(self, running):
        """The configuration as text."""
        interface = ipaddress.ip_interface(OWN[4])
        text = "!\nversion 17.9\nhostname edge-router-of-fra1\n!\n"
        text += "archive\n path bootflash:aup\n maximum 5\n!\n" if self.archive else ""
        text += ("interface GigabitEthernet1\n ip address %s %s\n ipv6 address %s\n!\n"
                 % (interface.ip, interface.netmask, OWN[6].upper()))
        text += Context(True).shown(running, " ") + bgp_lines(self, " ", str.upper) + "!\n"
        for version in (4, 6):
            for network, target, tag in statics(running, version):
                where = "ip route %s %s" % (network.network_address, network.netmask) if version == 4 else \
                    "ipv6 route %s" % str(network).upper()
                text += "%s %s%s\n" % (where, "Null0" if target == "drop" else target, " tag %d" % tag if tag else "")
        return text + "!\nend\n"

    def summary(self, version):
        """`show bgp … summary`; long addresses stand on a line of their own."""
        text = ("BGP router identifier 192.0.2.1, local AS number 64500\nBGP table version is 5, main routing table version 5\n\n"
                "Neighbor        V           AS MsgRcvd MsgSent   TblVer  InQ OutQ Up/Down  State/PfxRcd\n")
        for number, peer in enumerate(PEERS, 1):
            if ipaddress.ip_address(peer).version == version:
                name = peer.upper()
                text += name.ljust(16) if version == 4 else name + "\n" + " " * 16
                text += "4        6450%d      20      22        5    0    0 %s\n" % (
                    number, "never    Idle (Admin)" if peer in self.down else "00:05:00        2")
        return text

    def carried(self, prefix):
        """`show bgp … <prefix>`."""
        said = self.told().get(prefix)
        return "% Network not in table\n" if not said else (
            "BGP routing table entry for %s, version 5\nPaths: (1 available, best #1, table default)\n"
            "  Advertised to update-groups:\n     1          2         \n  Refresh Epoch 1\n  Local\n"
            "    0.0.0.0 from 0.0.0.0 (192.0.2.1)\n"
            "      Origin incomplete, metric 0, localpref 100, weight 32768, valid, sourced, best\n"
            "      Community: %s\n      rx pathid: 0, tx pathid: 0x0\n" % (prefix.upper(), " ".join(said[0])))

    def advertised(self, peer):
        """`show bgp … neighbors <peer> advertised-routes`."""
        heard = [prefix for prefix, said in self.told().items() if peer in said[1]]
        text = ("BGP table version is 5, local router ID is 192.0.2.1\nStatus codes: s suppressed, d damped, h history, * valid, "
                "> best, i - internal,\nOrigin codes: i - IGP, e - EGP, ? - incomplete\n\n"
                "     Network          Next Hop            Metric LocPrf Weight Path\n *>   198.51.100.0     0.0.0.0              "
                "    0         32768 i\n")
        for prefix in heard:
            text += " *>   %s" % prefix.upper() + (" 0.0.0.0" if "." in prefix else "\n                       ::") + \
                "                  0         32768 ?\n"
        return text + "\nTotal number of prefixes %d\n" % (len(heard) + 1)

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
