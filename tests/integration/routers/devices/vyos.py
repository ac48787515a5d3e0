# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VyOS: sessions of their own, `commit-confirm` with a timer beside the configuration, running and saved configuration."""
from __future__ import annotations

import copy
import ipaddress
import json
import re

from tests.integration.routers.devices.base import OWN, PEERS, Device, statics

_PATH = r"protocols static (?:route|route6) (\S+)"


class Session:
    def __init__(self, device):
        self.device, self.candidate, self.asked, self.more = device, None, None, []

    def prompt(self):
        if self.asked:
            return ""
        return "[edit]\r\naup@edge# " if self.candidate is not None else "aup@edge:~$ "

    def left(self):
        """What was not committed goes with the session."""
        self.candidate = None

    def line(self, text):
        if text.startswith("set terminal"):
            return ""
        if self.candidate is None:
            return self._operational(text)
        return self._answered(text) if self.asked else self._configuration(text)

    def _operational(self, text):
        device = self.device
        if text == "configure":
            self.candidate, self.more = copy.deepcopy(device.running), list(device.more)
            return ""
        return device.show(text)

    def _configuration(self, text):
        device = self.device
        match = re.fullmatch(r"set %s blackhole tag ([0-9]+)" % _PATH, text)
        if match:
            prefix = str(ipaddress.ip_network(match.group(1)))
            rest = [pair for pair in self.candidate.get(prefix, []) if pair[0] != "drop"]
            self.candidate[prefix] = [*rest, ("drop", int(match.group(2)))]
            return ""
        match = re.fullmatch(r"delete %s( blackhole)?" % _PATH, text)
        if match:
            there = self.candidate.pop(match.group(1), None)
            rest = [pair for pair in there or () if match.group(2) and pair[0] != "drop"]
            if rest:
                self.candidate[match.group(1)] = rest
            return "" if there else "  Nothing to delete (the specified node does not exist)\n\n"
        match = re.fullmatch(r"(set|delete) ((?:firewall|qos) .+)", text)
        if match:
            return self._other(*match.groups())
        if text.startswith("run "):
            return device.show(text[4:])
        if text == "compare":
            same = (self.candidate, sorted(self.more)) == (device.running, sorted(device.more))
            return ("No changes between working and active configurations.\n\n" if same else
                    "[protocols static]\n+ route 203.0.113.10/32 {\n+     blackhole {\n+     }\n+ }\n\n")
        if text == "commit":
            return self._commit()
        match = re.fullmatch("commit-confirm ([0-9]+)", text)
        if match:
            if device.pending:
                return "Another confirm is pending\n"
            self.asked = match.group(1)
            return "\ncommit-confirm will automatically %s in %s minutes unless changes\nare confirmed.\n\n\nProceed ? [Y/n] " % (
                "reload previous config" if device.reload else "reboot", self.asked)
        if text == "confirm":
            if not device.pending:
                return "No confirm pending\n\n"
            device.pending = None
            return "Reload timer stopped\n\n"
        if text == "save":
            device.startup, device.kept = copy.deepcopy(device.running), list(device.more)
            return ""
        if text == "exit discard":
            self.candidate = None
            return "exit\n"
        return "\n  Configuration path: [%s] is not valid\n  Set failed\n\n" % text.partition(" ")[2]

    def _other(self, verb, path):
        """The firewall and QoS, as lines."""
        if verb == "set":
            before, _space, last = path.rpartition(" ")
            self.more = [*self.more, "set %s '%s'" % (before, last)]
            return ""
        rest = [line for line in self.more if not (line.replace("'", "") + " ").startswith("set %s " % path)]
        gone, self.more = len(rest) < len(self.more), rest
        return "" if gone else "  Nothing to delete (the specified node does not exist)\n\n"

    def _answered(self, text):
        minutes, self.asked = self.asked, None
        if text != "y":
            return "commit-confirm canceled\n\n"
        self.device.arm("aup", copy.deepcopy(self.device.running))
        return "Initialized commit-confirm; %s minutes to confirm before reload\n%s" % (minutes, self._commit())

    def _commit(self):
        device = self.device
        if device.locked_by:
            return "Configuration system temporarily locked due to another commit in progress\n\n"
        if device.refuses:
            return "[ protocols static ]\n%s\n\n[[protocols static]] failed\nCommit failed\n\n" % device.refuses
        device.running, device.more = copy.deepcopy(self.candidate), list(self.more)
        return ""


class Vyos(Device):
    platform = "vyos"
    Session = Session
    READS = ("show ", "vtysh ", "systemctl ", "cat ", "vyos-config-to-commands ")
    SETUP = re.compile(r"set terminal .*")
    _IN = ["configure", "run show configuration commands"]
    _OUT = ["commit-confirm 2", "y", "compare", "exit discard", "configure", "confirm", "exit discard", "configure", "save",
            "exit discard"]
    ADDED = [*_IN, "set protocols static route 203.0.113.10/32 blackhole tag 41666",
             "set protocols static route6 2001:db8:100::10/128 blackhole tag 41666", *_OUT]
    REMOVED = [*_IN, "delete protocols static route 203.0.113.10/32", "delete protocols static route6 2001:db8:100::10/128", *_OUT]
    COMPLAINT = "\n  Configuration path: [protocols static route] is not valid\n  Set failed\n\n"
    ONE_LINE = r"set protocols static route 203\.0\.113\.10/32 blackhole tag 41666"
    COMMITS = "commit-confirm .*"
    CONFIRMS = "confirm"

    def __init__(self, folder):
        super().__init__(folder)
        self.reload, self.refuses, self.more, self.kept, self.hops = True, None, [], [], {}

    def equip(self):
        """Ports of servers stand among the lines of `shown`."""

    def arm(self, who, new):
        super().arm(who, new)
        self.pending = (*self.pending, list(self.more))

    def expire(self):
        if self.pending:
            self.more = self.pending[2]
        super().expire()

    def arm_foreign(self):
        """Another operator's commit waits."""
        self.arm("jdoe", copy.deepcopy(self.running))

    def show(self, text):
        """Reading, and the shell's commands."""
        if text == "systemctl is-active commit-confirm.timer":
            return "active\n" if self.pending else "inactive\n"
        if text == "cat /tmp/commit-rev-entry":
            return "|1795276800|%s|cli|commit|\n" % self.pending[0] if self.pending else "cat: /tmp/commit-rev-entry: No such file or directory\n"
        if text == "show configuration commands":
            return self.shown(self.running, self.more)
        if text == "vyos-config-to-commands /config/config.boot":
            return self.shown(self.startup, self.kept)
        asked = re.findall(r'-c "([^"]+)"', text)
        if not text.startswith("vtysh ") or not asked:
            return "\n  Invalid command: [%s]\n\n" % text
        return "".join(json.dumps(self.vtysh(one), indent=2) + "\n" for one in asked)

    def vtysh(self, text):
        """What FRR below answers."""
        match = re.fullmatch("show (ip|ipv6) route (static|kernel|connected) json", text)
        if match:
            version = 4 if match.group(1) == "ip" else 6
            if match.group(2) == "connected":
                return {str(ipaddress.ip_interface(OWN[version]).network): [{"protocol": "connected", "selected": True}]}
            if match.group(2) == "kernel":
                return {}
            return {str(network): [{
                "prefix": str(network), "protocol": "static", "selected": True, "installed": True, "tag": tag,
                "nexthops": [{"blackhole": True, "active": True} if target == "drop" else
                             {"ip": target, "active": True, "interfaceName": self.hops.get(str(network), "eth0")}]}]
                for network, target, tag in statics(self.running, version) if not (self.dead_rib and target == "drop")}
        if text == "show interface json":
            return {"eth0": {"administrativeStatus": "up", "ipAddresses": [{"address": OWN[4]}, {"address": OWN[6]}]}}
        return self.bgp(text)

    def bgp(self, text):
        """What BGP carries and whom it tells."""
        if text == "show bgp summary json":
            return {"ipv%dUnicast" % version: {"peers": {
                peer: {"state": "Idle" if peer in self.down else "Established"} for peer in PEERS
                if ipaddress.ip_address(peer).version == version}} for version in (4, 6)}
        match = re.fullmatch(r"show bgp ipv[46] unicast (\S+) json", text)
        said = self.told().get(match.group(1))
        return {"prefix": match.group(1), "advertisedTo": {peer: {} for peer in said[1]}, "paths": [{
            "community": {"list": said[0], "string": " ".join(said[0])}}]} if said else {}

    def shown(self, running, more):
        """A configuration as `set` commands."""
        text = "set interfaces ethernet eth0 address '%s'\nset interfaces ethernet eth0 address '%s'\n" % (OWN[4], OWN[6])
        text += "set interfaces ethernet eth0 description 'to up1, its uplink'\nset interfaces loopback lo\n"
        text += "set interfaces ethernet eth1 address '203.0.113.65/26'\nset interfaces ethernet eth2 vif 100 address '203.0.113.129/26'\n"
        for name, entries in self.maps.items():
            for number, (kind, value, said) in enumerate(entries, 1):
                rule = "set policy route-map %s rule %d0 " % (name, number)
                text += rule + "action 'permit'\n" + rule + "match %s '%s'\n" % (
                    "community community-list" if kind == "community" else kind, value)
                text += "".join(rule + "set community replace '%s'\n" % word for word in said.split())
        for version in (4, 6):
            if self.redistribute.get(version):
                text += "set protocols bgp address-family ipv%d-unicast redistribute static route-map '%s'\n" % (
                    version, self.redistribute[version])
        for number, peer in enumerate(PEERS, 1):
            text += "set protocols bgp neighbor %s remote-as '6450%d'\n" % (peer, number)
            if self.out.get(peer):
                text += "set protocols bgp neighbor %s address-family ipv%d-unicast route-map export '%s'\n" % (
                    peer, ipaddress.ip_address(peer).version, self.out[peer])
        text += "set protocols bgp system-as '64500'\n"
        for version in (4, 6):
            for network, target, tag in statics(running, version):
                path = "set protocols static %s %s" % ("route" if version == 4 else "route6", network)
                if target == "drop":
                    text += path + (" blackhole tag '%d'\n" % tag if tag else " blackhole\n")
                else:
                    text += path + " next-hop %s\n" % target
        text += "set system config-management commit-revisions '100'\n"
        text += "set system config-management commit-confirm action 'reload'\n" if self.reload else ""
        text += "set vrf name MGMT protocols static route 203.0.113.10/32 blackhole tag '41666'\n"
        return text + "".join(line + "\n" for line in more)

    def verdict(self, inbound, outbound, source, destination, port=80, protocol="tcp"):
        """What becomes of a packet on its way through: `forward`, with the meaning the manual gives to actions."""
        family = "ipv4" if "." in source else "ipv6"
        chains, groups = {}, {}
        for line in self.more:
            words = line.replace("'", "").split()[1:]
            if words[:2] == ["firewall", family] and "rule" in words:
                at = words.index("rule")
                chains.setdefault(" ".join(words[2:at]), {}).setdefault(int(words[at + 1]), []).append(words[at + 2:])
            elif words[:2] == ["firewall", family]:
                chains.setdefault(" ".join(words[2:4]), {})["default"] = words[-1]
            elif words[:2] == ["firewall", "group"]:
                groups.setdefault(words[3], []).append(ipaddress.ip_network(words[-1]))
        about = {"inbound-interface": inbound, "outbound-interface": outbound}

        def matches(said):
            for one in said:
                if one[0] in about and one[-1] != about[one[0]]:
                    return False
                if one[0] == "protocol" and one[1] != protocol:
                    return False
                if one[:2] == ["destination", "port"] and str(port) not in one[2].split(","):
                    return False
                address = {"source": source, "destination": destination}.get(one[0])
                if one[1:2] == ["group"] and not any(ipaddress.ip_address(address) in network for network in groups[one[3]]):
                    return False
            return True

        def walk(name):
            entries = dict(chains.get(name, {}))
            otherwise = entries.pop("default", "return" if name.startswith("name ") else "accept")
            for _number, said in sorted(entries.items()):
                if not matches(said):
                    continue
                action = next(one[1] for one in said if one[0] == "action")
                if action == "jump":
                    found = walk("name " + next(one[1] for one in said if one[0] == "jump-target"))
                    if found:
                        return found
                elif action == "return":
                    return None
                elif action != "continue":
                    return action
            return None if otherwise == "return" else otherwise

        return walk("forward filter")
