# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Junos: shared candidate, exclusive lock, `commit confirmed`; a commit is what a restart reads."""
from __future__ import annotations

import copy
import ipaddress
import json
import re

from tests.integration.routers.devices.base import OWN, PEERS, Device, statics
from tests.integration.routers.devices.ports import SERVERS, junos_passes, junos_verdict, set_line, undefined

_PATH = r"routing-options (?:rib inet6\.0 )?static route (\S+)"


def _data(value):
    return [{"data": value}]


class Session:
    def __init__(self, device):
        self.device, self.candidate = device, None

    def prompt(self):
        return "\r\n[edit]\r\naup@mx1# " if self.candidate is not None else "\r\n{master}\r\naup@mx1> "

    def left(self):
        if self.candidate is not None:
            self.candidate = None

    def line(self, text):
        if text.startswith("set cli"):
            words = text.split()
            return {"screen-width": "Screen width set to 511\n", "screen-length": "Screen length set to 0\n"}.get(
                words[2], "Disabling complete-on-space\n")
        return self._operational(text) if self.candidate is None else self._configuration(text)

    def _operational(self, text):
        device = self.device
        if text == "configure exclusive":
            if device.locked_by:
                return ("error: configuration database locked by:\n  %s terminal p0 (pid 4711) on since 2026-11-21 15:00:00 UTC\n"
                        "      exclusive [edit]\n" % device.locked_by)
            if device.modified:
                return "error: configuration database modified\n"
            device.interfere()
            self.candidate = copy.deepcopy(device.running)
            return "warning: uncommitted changes will be discarded on exit\nEntering configuration mode\n"
        if text == "show system commit":
            return device.history()
        if text == "show configuration routing-options | display set":
            return device.shown()
        if text == "show configuration interfaces | display set":
            return ("set interfaces ge-0/0/0 unit 0 description \"to up1\"\nset interfaces ge-0/0/0 unit 0 family inet address %s\n"
                    "set interfaces ge-0/0/0 unit 0 family inet6 address %s\n" % (OWN[4], OWN[6])
                    + device.sets("interfaces"))
        match = re.fullmatch(r"show configuration (firewall|routing-instances|protocols) \| display set", text)
        if match:
            return device.sets(match.group(1)) + (device.bgp() if match.group(1) == "protocols" else "")
        if text == "show configuration protocols bgp | display set":
            return device.bgp()
        if text == "show configuration policy-options | display set":
            return device.policies()
        if text == "show bgp summary | display json":
            return json.dumps({"bgp-information": [{"attributes": {"xmlns": "x"}, "bgp-peer": [
                {"peer-address": _data(peer + "+179"), "peer-as": _data("64501"),
                 "peer-state": _data("Idle" if peer in device.down else "Established")} for peer in PEERS]}]}) + "\n"
        match = re.fullmatch(r"show route advertising-protocol bgp (\S+) (\S+) exact detail \| display json", text)
        if match:
            return device.advertised(*match.groups())
        if text == "show route protocol static | display json":
            return device.rib()
        return "           ^\nunknown command.\n"

    def _configuration(self, text):
        device = self.device
        match = re.fullmatch(r"(set|delete) %s(?: (discard|tag ([0-9]+)))?" % _PATH, text)
        if match:
            verb, prefix, what, tag = match.groups()
            prefix = str(ipaddress.ip_network(prefix))
            if verb == "delete":
                return "" if self.candidate.pop(prefix, None) else "warning: statement not found\n"
            (target, old), = self.candidate.get(prefix) or [("none", None)]
            self.candidate[prefix] = [("drop", old) if what == "discard" else (target, int(tag))]
            return ""
        if re.match(r"(?:set|delete|insert) (?:interfaces|firewall|policy-options prefix-list) ", text):
            return set_line(self.candidate, text)
        if text == "rollback 0":
            self.candidate = copy.deepcopy(device.running)
            return "load complete\n"
        if text == "exit configuration-mode":
            self.left()
            return "Exiting configuration mode\n"
        if text == "commit check":
            said = undefined(self.candidate) or device.objects_to(self.candidate.sets)
            return said or "configuration check succeeds\n"
        match = re.fullmatch(r"commit confirmed ([0-9]+) comment (\S+)", text)
        if match:
            device.arm(match.group(2), copy.deepcopy(self.candidate))
            device.commits.insert(0, ("commit confirmed, rollback in %smins" % match.group(1), match.group(2)))
            return ("commit confirmed will be automatically rolled back in %s minutes unless confirmed\ncommit complete\n\n"
                    "# commit confirmed will be rolled back in %s minutes\n" % (match.group(1), match.group(1)))
        if text == "commit":
            device.running, device.pending = copy.deepcopy(self.candidate), None
            device.startup = copy.deepcopy(device.running)
            device.commits.insert(0, ("", ""))
            return "commit complete\n"
        return "                ^\nsyntax error, expecting <command>.\n"


class Junos(Device):
    platform = "junos"
    Session = Session
    READS = ("show ",)
    SETUP = re.compile(r"set cli .*")
    ADDED = [
        "configure exclusive",
        "set routing-options static route 203.0.113.10/32 discard",
        "set routing-options static route 203.0.113.10/32 tag 41666",
        "set routing-options rib inet6.0 static route 2001:db8:100::10/128 discard",
        "set routing-options rib inet6.0 static route 2001:db8:100::10/128 tag 41666",
        "commit check", "commit confirmed 2 comment hosting-aup", "exit configuration-mode",
        "configure exclusive", "commit", "exit configuration-mode",
    ]
    REMOVED = [
        "configure exclusive", "delete routing-options static route 203.0.113.10/32",
        "delete routing-options rib inet6.0 static route 2001:db8:100::10/128",
        "commit check", "commit confirmed 2 comment hosting-aup", "exit configuration-mode",
        "configure exclusive", "commit", "exit configuration-mode",
    ]
    SUSPENDED = [
        "configure exclusive",
        "set firewall family inet filter aup-ge_0_0_2_100-in4-X term 1 then count aup-1",
        "set firewall family inet filter aup-ge_0_0_2_100-in4-X term 1 then discard",
        "set firewall family inet6 filter aup-ge_0_0_2_100-in6-X term 1 then count aup-1",
        "set firewall family inet6 filter aup-ge_0_0_2_100-in6-X term 1 then discard",
        "set firewall family inet filter aup-ge_0_0_2_100-out4-X term 1 then count aup-1",
        "set firewall family inet filter aup-ge_0_0_2_100-out4-X term 1 then discard",
        "set firewall family inet6 filter aup-ge_0_0_2_100-out6-X term 1 then count aup-1",
        "set firewall family inet6 filter aup-ge_0_0_2_100-out6-X term 1 then discard",
        "set interfaces ge-0/0/2 unit 100 family inet filter input aup-ge_0_0_2_100-in4-X",
        "set interfaces ge-0/0/2 unit 100 family inet6 filter input aup-ge_0_0_2_100-in6-X",
        "set interfaces ge-0/0/2 unit 100 family inet filter output aup-ge_0_0_2_100-out4-X",
        "set interfaces ge-0/0/2 unit 100 family inet6 filter output aup-ge_0_0_2_100-out6-X",
        "delete firewall family inet filter aup-ge_0_0_2_100-in4-X",
        "delete firewall family inet6 filter aup-ge_0_0_2_100-in6-X",
        "commit check", "commit confirmed 2 comment hosting-aup", "exit configuration-mode",
        "configure exclusive", "commit", "exit configuration-mode",
    ]
    COMPLAINT = "                          ^\nsyntax error, expecting <command>.\n"
    ONE_LINE = r"set routing-options static route 203\.0\.113\.10/32 discard"
    COMMITS = "commit confirmed .*"
    CONFIRMS = "commit"

    def __init__(self, folder):
        super().__init__(folder)
        self.modified = False
        self.commits = [("", "")]

    def face(self, number):
        return "ge-0/0/%d.100" % number

    def equip(self):
        for number, ends, _own in SERVERS.values():
            path = "interfaces ge-0/0/%d " % number
            self.running.sets += [path + "vlan-tagging", path + "unit 100 vlan-id 100"] + [
                path + "unit 100 family %s address %s" % (word, end) for word, end in zip(("inet", "inet6"), ends)]

    def sets(self, part):
        """A part of the configuration as `display set` shows it; Junos shortens what policers count."""
        return "".join("set %s\n" % re.sub(r"(bandwidth-limit [0-9]+)000000$", r"\1m", line) for line in self.running.sets
                       if line.startswith(part + " "))

    def prepare(self, *parts):
        """What an operator makes for drops: filters (`4`, `6`) and their bindings (`4 in`, …)."""
        for part in parts:
            version, _space, side = part.partition(" ")
            family, name = ("inet", "aup-drop") if version == "4" else ("inet6", "aup-drop6")
            self.running.sets.append(
                "interfaces ge-0/0/0 unit 0 family %s filter %s %s" % (family, {"in": "input", "out": "output"}[side], name) if side
                else "firewall family %s filter %s term rest then accept" % (family, name))

    def forwards(self, source, target):
        """Whether what the uplink's filter says lets a packet pass."""
        family, name = ("inet6", "aup-drop6") if ":" in source else ("inet", "aup-drop")
        return junos_verdict(self.running, family, name, "tcp", source, target, 443)

    def passes(self, *packet):
        """Whether a packet passes a filter: unit, side, protocol, source, target, port."""
        return junos_passes(self.running, *packet)

    def history(self):
        """`show system commit`."""
        text = ""
        for number, (said, comment) in enumerate(self.commits):
            text += "%d   2026-11-21 15:%02d:07 UTC by aup via cli%s\n" % (number, 59 - number, " " + said if said else "")
            text += "    %s\n" % comment if comment else ""
            text += "    rollback pending\n" if number == 0 and self.pending else ""
        return text

    def told(self):
        """On Junos the upstream's own policy finds the static route; nothing marks it inside."""
        saved, self.redistribute = self.redistribute, dict.fromkeys(self.redistribute, "any")
        self.maps["any"] = [("tag", 41667, "")]
        found, self.redistribute = super().told(), saved
        self.maps.pop("any")
        return found

    def bgp(self):
        """`show configuration protocols bgp | display set`."""
        text = ""
        for number, peer in enumerate(PEERS):
            where = "set protocols bgp group %s neighbor %s" % ("up1" if number < 2 else "up2", peer)
            text += "%s peer-as 6450%d\n" % (where, number) + ("%s export %s\n" % (where, self.out[peer]) if self.out.get(peer) else "")
        return text

    def policies(self):
        """`show configuration policy-options | display set`."""
        text = "set policy-options prefix-list OTHERS 198.51.100.0/24\n" + self.sets("policy-options")
        for name, entries in self.maps.items():
            term = "set policy-options policy-statement %s term rtbh " % name
            for kind, _value, said in entries if name.startswith("TO-") else ():
                assert kind == "community"
                text += "".join(term + line + "\n" for line in (
                    "from protocol static", "from tag 41667", "then community add C-" + name, "then accept"))
                text += "".join("set policy-options community C-%s members %s\n" % (name, one) for one in said.split())
        return text

    def advertised(self, peer, prefix):
        """`show route advertising-protocol bgp … detail | display json`."""
        heard = self.told().get(prefix, ([], {}))[1].get(peer)
        tables = [] if heard is None else [{"table-name": _data("inet.0" if "." in prefix else "inet6.0"), "rt": [{
            "rt-destination": _data(prefix), "rt-entry": [{
                "protocol-name": _data("BGP"), "nh": [{"to": _data("Self")}], "as-path": _data("[64500] I"),
                "communities": [{"community": [{"data": one} for one in heard]}]}]}]}]
        return json.dumps({"route-information": [{"attributes": {"xmlns": "x"}, "route-table": tables}]}) + "\n"

    def arm_foreign(self):
        """Another operator's commit waits."""
        self.arm("jdoe", copy.deepcopy(self.running))
        self.commits.insert(0, ("commit confirmed, rollback in 10mins", "CHG-7"))

    def shown(self):
        """`show configuration routing-options | display set`."""
        text = "set routing-options router-id 192.0.2.1\n"
        for version in (6, 4):
            for network, target, tag in statics(self.running, version):
                path = "set routing-options %sstatic route %s " % ("rib inet6.0 " if version == 6 else "", network)
                text += path + ("discard" if target == "drop" else "next-hop %s" % target) + "\n"
                text += path + "tag %d\n" % tag if tag else ""
        return text

    def rib(self):
        """`show route protocol static | display json`."""
        tables = []
        for version, name in ((4, "inet.0"), (6, "inet6.0")):
            routes = [{"rt-destination": _data(str(network)), "rt-entry": [{
                "active-tag": _data("*"), "current-active": [{"data": [None]}], "protocol-name": _data("Static"),
                "preference": _data("5"), "age": [{"data": "00:00:03", "attributes": {"junos:seconds": "3"}}],
                **({"nh-type": _data("Discard")} if target == "drop" else {"nh": [{"to": _data(target)}]})}]}
                for network, target, _tag in statics(self.running, version) if not (self.dead_rib and target == "drop")]
            tables.append({"attributes": {"xmlns": "http://xml.juniper.net/x"}, "table-name": _data(name), "rt": routes})
        return json.dumps({"route-information": [{"route-table": tables}]}, indent=4) + "\n"
