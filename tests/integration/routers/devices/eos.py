# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""EOS: named configure sessions, commit timer, running and startup configuration."""
from __future__ import annotations

import copy
import difflib
import ipaddress
import json
import re

from tests.integration.routers.devices.base import OWN, PEERS, Device, bgp_lines, statics
from tests.integration.routers.devices.ports import Context


class Session:
    def __init__(self, device):
        self.device, self.candidate, self.name = device, None, None
        self.context = Context(False)

    def prompt(self):
        return "sw1(config-s-%s)#" % self.name[:6] if self.candidate is not None else "sw1#"

    def left(self):
        """An open session stays pending, as on the device."""

    def line(self, text):
        device = self.device
        if text == "terminal width 511":
            return "Width set to 511 columns.\n"
        if text == "terminal length 0":
            return "Pagination disabled.\n"
        if self.candidate is not None:
            return self._configuration(text)
        if text == "show running-config":
            return device.shown(device.running)
        if text == "show running-config diffs":
            return "".join(difflib.unified_diff(
                device.shown(device.startup).splitlines(True), device.shown(device.running).splitlines(True),
                "flash:/startup-config", "system:/running-config"))
        match = re.fullmatch(r"show (ip|ipv6) route static \| json", text)
        if match:
            return device.rib(4 if match.group(1) == "ip" else 6)
        match = re.fullmatch(r"show (ip|ipv6) bgp (summary|(\S+) detail) \| json", text)
        if match:
            return device.carried(match.group(3)) if match.group(3) else device.summary(4 if match.group(1) == "ip" else 6)
        if text == "show configuration sessions | json":
            return json.dumps({"maxSavedSessions": 1, "maxOpenSessions": 5, "sessions": {
                name: {"state": state, "commitUser": "", "description": "", "instances": {}}
                for name, state in device.sessions.items()}}, indent=4) + "\n"
        match = re.fullmatch(r"configure session (\S+?)( commit| abort)?", text)
        if match:
            return self._session(*match.groups())
        if text == "write memory":
            device.startup = copy.deepcopy(device.running)
            return "Copy completed successfully.\n"
        return f"% Invalid input (at token 0: '{text.split()[0]}')\n"

    def _session(self, name, verb):
        device = self.device
        if verb is None:
            if device.locked_by:
                return "%% Configuration is locked by user %s.\n" % device.locked_by
            if sum(state == "pending" for state in device.sessions.values()) >= 5:
                return "% Maximum number of pending sessions has been reached\n"
            device.interfere()
            self.context.at = None
            device.sessions[name] = "pending"
            self.name, self.candidate = name, copy.deepcopy(device.running)
        elif verb == " commit" and device.sessions.get(name) == "pendingCommitTimer":
            device.sessions[name], device.pending = "completed", None
        elif verb == " abort" and device.sessions.get(name) == "pending":
            device.sessions.pop(name)
        else:
            return "% No such session\n"
        return ""

    def _configuration(self, text):
        device = self.device
        match = re.fullmatch(r"(no )?(?:ip|ipv6) route (\S+) Null0(?: tag ([0-9]+))?", text)
        if match:
            no, prefix, tag = match.groups()
            prefix = str(ipaddress.ip_network(prefix))
            rest = [pair for pair in self.candidate.pop(prefix, []) if pair[0] != "drop"]
            if not no:
                rest.append(("drop", int(tag) if tag else None))
            if rest:
                self.candidate[prefix] = rest
            return ""
        said = self.context.line(self.candidate, text)
        if said is not None:
            return said
        if text == "abort":
            device.sessions.pop(self.name)
            self.candidate = None
            return ""
        if text.startswith("commit timer "):
            said = device.objects_to("%s %s" % (name, line) for name, body in self.candidate.faces.items() for line in body)
            if said:
                return said
            device.arm(self.name, self.candidate)
            device.sessions[self.name], self.candidate = "pendingCommitTimer", None
            return ""
        return f"% Invalid input (at token 0: '{text.split()[0]}')\n"


class Eos(Device):
    platform = "eos"
    Session = Session
    READS = ("show ",)
    SETUP = re.compile(r"terminal (?:width|length) .*")
    ADDED = [
        "configure session aup-X",
        "ip route 203.0.113.10/32 Null0 tag 41666", "ipv6 route 2001:db8:100::10/128 Null0 tag 41666",
        "commit timer 00:02:00", "configure session aup-X commit", "write memory",
    ]
    REMOVED = [
        "configure session aup-X",
        "no ip route 203.0.113.10/32 Null0", "no ipv6 route 2001:db8:100::10/128 Null0",
        "commit timer 00:02:00", "configure session aup-X commit", "write memory",
    ]
    SUSPENDED = [
        "configure session aup-X",
        "ip access-list aup-Ethernet2-in4-X", "counters per-entry", "deny ip any any",
        "ipv6 access-list aup-Ethernet2-in6-X", "counters per-entry", "deny ipv6 any any",
        "ip access-list aup-Ethernet2-out4-X", "counters per-entry", "deny ip any any",
        "ipv6 access-list aup-Ethernet2-out6-X", "counters per-entry", "deny ipv6 any any",
        "interface Ethernet2",
        "ip access-group aup-Ethernet2-in4-X in", "ipv6 access-group aup-Ethernet2-in6-X in",
        "ip access-group aup-Ethernet2-out4-X out", "ipv6 access-group aup-Ethernet2-out6-X out",
        "no ip access-list aup-Ethernet2-in4-X", "no ipv6 access-list aup-Ethernet2-in6-X",
        "commit timer 00:02:00", "configure session aup-X commit", "write memory",
    ]
    COMPLAINT = "% Invalid input (at token 3: 'Null0')\n"
    ONE_LINE = r"ip route 203\.0\.113\.10/32 Null0 tag 41666"
    COMMITS = "commit timer .*"
    CONFIRMS = "configure session .* commit"

    def __init__(self, folder):
        super().__init__(folder)
        self.sessions, self.uplink = {}, []

    def equip(self):
        self.equip_faces()

    def face(self, number):
        return "Ethernet%d" % number

    def prepare(self, *parts):
        """What an operator makes for drops: lists (`4`, `6`) and their bindings (`4 in`, …)."""
        for part in parts:
            version, _space, side = part.partition(" ")
            word, name = ("ip", "aup-drop") if version == "4" else ("ipv6", "aup-drop6")
            if side:
                self.uplink.append("%s access-group %s %s" % (word, name, side))
            else:
                self.running.lists[int(version), name] = ["4000000000 permit %s any any" % word]

    def forwards(self, source, target):
        """Whether what the uplink's list says lets a packet pass."""
        version = 6 if ":" in source else 4
        rules = self.running.lists[version, "aup-drop" if version == 4 else "aup-drop6"]
        return Context(False).verdict(rules, "tcp", source, target, 443)

    def passes(self, *packet):
        """Whether a packet passes a filter: interface, side, protocol, source, target, port."""
        return Context(False).passes(self.running, *packet)

    def expire(self):
        if self.pending:
            self.sessions.pop(self.pending[0], None)
        super().expire()

    def left_over(self):
        return [name for name, state in self.sessions.items() if state == "pending"]

    def arm_foreign(self):
        """Another operator's session waits."""
        self.arm("maint", copy.deepcopy(self.running))
        self.sessions["maint"] = "pendingCommitTimer"

    def shown(self, running):
        """`show running-config`."""
        text = ("! Command: show running-config\n! device: sw1 (vEOS-lab, EOS-4.32.1F)\n!\nhostname sw1\n!\ninterface Ethernet1\n"
                "   no switchport\n   ip address %s\n   ipv6 address %s\n!\n" % (OWN[4], OWN[6]))
        text = text.removesuffix("!\n") + "".join("   %s\n" % line for line in self.uplink) + "!\n"
        text += Context(False).shown(running, "   ")
        for version, word in ((4, "ip"), (6, "ipv6")):
            text += "%s routing\n!\n" % word if version == 4 else "ipv6 unicast-routing\n!\n"
            for network, target, tag in statics(running, version):
                text += "%s route %s %s%s\n" % (word, network, "Null0" if target == "drop" else target,
                                                " tag %d" % tag if tag else "")
        text += "ip route vrf MGMT 0.0.0.0/0 192.0.2.99\n!\n"
        return text + bgp_lines(self, "   ") + "!\nend\n"

    def summary(self, version):
        """`show ip bgp summary | json`."""
        peers = {peer: {"peerState": "Idle" if peer in self.down else "Established", "prefixReceived": 2} for peer in PEERS
                 if ipaddress.ip_address(peer).version == version}
        return json.dumps({"vrfs": {"default": {"vrf": "default", "routerId": "192.0.2.1", "asn": 64500, "peers": peers}}}) + "\n"

    def carried(self, prefix):
        """`show ip bgp <prefix> detail | json`."""
        said, entries = self.told().get(prefix), {}
        if said:
            entries = {prefix: {
                "bgpAdvertisedPeerGroups": {"": {"peerList": sorted(said[1])}} if said[1] else {}, "maskLength": 32,
                "bgpRoutePaths": [{"routeType": {"valid": True, "active": True}, "nextHop": "",
                                   "routeDetail": {"origin": "Incomplete", "communityList": said[0]}}]}}
        return json.dumps({"vrfs": {"default": {"vrf": "default", "routerId": "192.0.2.1", "bgpRouteEntries": entries}}}) + "\n"

    def rib(self, version):
        """`show ip route static | json`."""
        routes = {str(network): {
            "kernelProgrammed": True, "hardwareProgrammed": True, "directlyConnected": target == "drop", "routeType": "static",
            "routeAction": "drop" if target == "drop" else "forward", "preference": 1, "metric": 0,
            "vias": [] if target == "drop" else [{"nexthopAddr": target, "interface": "Ethernet1"}]}
            for network, target, _tag in statics(self.running, version) if not (self.dead_rib and target == "drop")}
        return json.dumps({"vrfs": {"default": {"routes": routes, "allRoutesProgrammedKernel": True}}}, indent=4) + "\n"
