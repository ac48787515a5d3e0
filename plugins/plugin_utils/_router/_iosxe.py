# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cisco IOS-XE. PRIVATE to the collection. Never tried on a device.

No candidate: a line acts when it is entered. `configure terminal revert timer` saves the running configuration first
and rolls back to it unless `configure confirm` comes; it needs `archive` with a `path`, so without that nothing is
written. A `no` without `Null0` would remove every route of the prefix; ours always names it.
"""
from __future__ import annotations

import contextlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _running, _running_bgp, _running_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import VendorDriver, announces_now
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route

NAME = "iosxe"
_ROUTE = r"(?:ip route %s %s|ipv6 route %s) Null0" % (_gate.IPV4, _gate.IPV4, _gate.PREFIX6)
DIFFERENCES = "show archive config differences nvram:startup-config system:running-config"
GRAMMAR = tuple(re.compile(text) for text in (
    r"%s tag %s" % (_ROUTE, _gate.NUMBER), r"no %s" % _ROUTE, re.escape(DIFFERENCES),
    r"show running-config", r"show archive config rollback timer", r"show (?:ip|ipv6) route static",
    r"show bgp ipv[46] unicast summary", r"show bgp ipv4 unicast %s" % _gate.PREFIX4, r"show bgp ipv6 unicast %s" % _gate.PREFIX6,
    r"show bgp ipv4 unicast neighbors %s advertised-routes" % _gate.IPV4,
    r"show bgp ipv6 unicast neighbors [0-9a-f:]{2,39} advertised-routes",
    r"configure terminal revert timer [1-9][0-9]?", r"configure (?:confirm|revert now)", r"end", r"write memory",
))
PORT = r"[A-Za-z]{0,20}(?:Ethernet|GigE)[0-9]{1,3}(?:/[0-9]{1,3}){0,3}(?:\.[1-9][0-9]{0,9})?"
PORTS = _running_ports.Dialect(True, PORT, ("cap-in", "cap-out"))
_HEAD4 = re.compile(r"\s+[0-9.]+/([0-9]+) is (variably )?subnetted, .*")
_ROUTE4 = re.compile(r"S[* ]*\s+([0-9.]+)(/[0-9]+)? (is directly connected, (\S+)|\[[0-9/]+\].*)")
_ROUTE6 = re.compile(r"S\s+([0-9A-Fa-f:]+/[0-9]+) \[[0-9/]+\](?:, tag [0-9]+)?")
_ADVERTISED = re.compile(r" ?[*>sdhirmbSVINfxactRr ]{0,6} ([0-9A-Fa-f:.]+/[0-9]{1,3})(?: |$)")
_MORE = re.compile(r"\s+(\[[0-9/]+\] via .*|via .*|is directly connected, .*)")


def _prefix(words):
    if words[0] == "ip":
        return ipaddress.ip_network("%s/%s" % (words[2], words[3])), words[4:]
    return ipaddress.ip_network(words[2]), words[3:]


def parse_running(text):
    """`{"lines", "statics", "own", "peers", "archive"}` of a running configuration."""
    lines = _running.whole(text)
    return {"lines": lines, "statics": _running.statics(lines, _prefix), "own": _running.own(lines), "peers": _running.peers(lines),
            "archive": _archives(lines)}


def _archives(lines):
    inside = False
    for line in lines:
        if not line.startswith(" "):
            inside = line == "archive"
        elif inside and line.startswith(" path "):
            return True
    return False


def parse_rib4(text):
    """`{prefix: {"blackhole", "installed"}}` of `show ip route static`."""
    body = text.partition("Gateway of last resort")
    if not body[1] or not text.lstrip().startswith("Codes:"):
        raise NotUnderstood("the routing table has no head: %s" % ascii(text.strip()[:80]))
    rib, length = {}, None
    for line in body[2].splitlines()[1:]:
        head, route = _HEAD4.fullmatch(line.rstrip()), _ROUTE4.fullmatch(line.rstrip())
        if head:
            length = None if head.group(2) else head.group(1)
        elif route:
            # Where all subnets have one length, only the head says it.
            size = route.group(2) or (length and "/" + length)
            try:
                prefix = str(ipaddress.ip_network("%s%s" % (route.group(1), size)))
            except ValueError as exc:
                raise NotUnderstood("route %s" % ascii(line.strip()[:80])) from exc
            drops = route.group(4) == "Null0"
            rib[prefix] = {"blackhole": drops, "installed": drops}
        elif line.strip() and not _MORE.fullmatch(line.rstrip()):
            raise NotUnderstood("route %s" % ascii(line.strip()[:80]))
    return rib


def parse_rib6(text):
    """The same of `show ipv6 route static`."""
    if not text.lstrip().startswith("IPv6 Routing Table"):
        raise NotUnderstood("the routing table has no head: %s" % ascii(text.strip()[:80]))
    rib, prefix = {}, None
    for line in text.lstrip().splitlines()[1:]:
        route = _ROUTE6.fullmatch(line.rstrip())
        if route:
            prefix = str(ipaddress.ip_network(route.group(1)))
            rib[prefix] = {"blackhole": False, "installed": False}
        elif prefix is None and (line.startswith(("Codes:", "   ")) or not line.strip()):
            continue
        elif prefix is not None and line.startswith("  ") and line.strip().startswith("via "):
            if line.strip() == "via Null0, directly connected":
                rib[prefix] = {"blackhole": True, "installed": True}
        elif line.strip():
            raise NotUnderstood("route %s" % ascii(line.strip()[:80]))
    return rib


def parse_summary(text):
    """BGP neighbors with a session, from `show bgp … summary`; a long address stands on a line of its own."""
    if text.strip().startswith("% BGP not active"):
        return set()
    head, _found, body = text.partition("State/PfxRcd")
    if not _found or "local AS number" not in head:
        raise NotUnderstood("BGP summary: %s" % ascii(text.strip()[:80]))
    up, alone = set(), None
    for line in body.splitlines()[1:]:
        words = line.split()
        if not words:
            continue
        if alone is None:
            alone, words = words[0].lstrip("*"), words[1:]
        try:
            peer = str(ipaddress.ip_address(alone))
        except ValueError as exc:
            raise NotUnderstood("BGP summary: %s" % ascii(line.strip()[:80])) from exc
        if words:
            if len(words) < 9:
                raise NotUnderstood("BGP summary: %s" % ascii(line.strip()[:80]))
            up |= {peer} if words[8].isdigit() else set()
            alone = None
    return up


def parse_bgp(text):
    """Communities of one prefix's paths; None when BGP does not carry it."""
    if text.strip() == "% Network not in table":
        return None
    if not text.lstrip().startswith("BGP routing table entry for "):
        raise NotUnderstood("BGP entry: %s" % ascii(text.strip()[:80]))
    return sorted({word for line in text.splitlines() if line.strip().startswith("Community: ")
                   for word in line.split()[1:]})


def parse_advertised(text):
    """Prefixes that a neighbor is told; what has no length in the listing is none of ours."""
    if not text.lstrip().startswith("BGP table version is "):
        if text.strip() in ("", "Total number of prefixes 0"):
            return set()
        raise NotUnderstood("advertised routes: %s" % ascii(text.strip()[:80]))
    _head, found, body = text.partition("Next Hop")
    if not found or not re.search(r"^Total number of prefixes [0-9]+ *$", body, re.MULTILINE):
        raise NotUnderstood("advertised routes that do not end")
    said = set()
    for line in body.splitlines()[1:]:
        match = _ADVERTISED.match(line)
        if match:
            with contextlib.suppress(ValueError):  # host bits: never ours
                said.add(str(ipaddress.ip_network(match.group(1))))
    return said


def parse_timer(text):
    """User whose change waits to be confirmed, or None."""
    if text.strip() == "%No Rollback Confirmed Change pending":
        return None
    found = re.search(r"^\s*User: *(\S+)\s*$", text, re.MULTILINE)
    if not found or "Timer" not in text:
        raise NotUnderstood("rollback timer: %s" % ascii(text.strip()[:80]))
    return found.group(1)


def parse_differences(text):
    """A listing of differences."""
    if not text.lstrip().startswith("!"):
        raise NotUnderstood("differences: %s" % ascii(text.strip()[:80]))
    return text


class IosXe(VendorDriver):
    """One connection to one IOS-XE router."""

    name = NAME
    announces = True
    DEVICE_TYPE = "cisco_xe"
    GRAMMAR = GRAMMAR + PORTS.grammar
    PORT, PORTS = PORT, PORTS
    PORT_IS = "GigabitEthernet0/0/1 or TenGigabitEthernet0/0/1.100, in full"

    def __init__(self, target):
        super().__init__(target)
        self._looked = False
        self._listed = {}  # what each neighbor is told, by this look

    def _look(self, desired):
        running = self._read("show running-config", parse_running)
        self.missing = [] if running.pop("archive") else ["archive", " path bootflash:aup-archive", " maximum 5"]
        if not self.missing:
            user = self._read("show archive config rollback timer", parse_timer)
            self.waiting = user is not None and user == self.target.user
            self.foreign_wait = None if self.waiting else user
        if not self._looked:
            self._looked = True
            self.compare_saved(self._read(DIFFERENCES, parse_differences), desired)
        rib = self._read("show ip route static", parse_rib4)
        rib.update(self._read("show ipv6 route static", parse_rib6))
        rtbh = desired["settings"].get("rtbh")
        if rtbh and announces_now(desired):
            self._listed = {}
            running["rtbh"] = self._announcements(desired, _running_bgp.missing_for_rtbh(running["lines"], rtbh, False))
        running["ports"] = PORTS.look(running["lines"], desired["ports"], desired["settings"], running["statics"], running["peers"])
        return dict(running, rib=rib)

    def _sessions(self, version):
        return self._read("show bgp ipv%d unicast summary" % version, parse_summary)

    def _told(self, prefix, version, rtbh, up):
        communities = self._read("show bgp ipv%d unicast %s" % (version, prefix), parse_bgp)
        if communities is None:
            return {"to": [], "trigger": False}
        told = []
        for _upstream, peer in self._peers(rtbh, version, up):
            if peer not in self._listed:
                line = "show bgp ipv%d unicast neighbors %s advertised-routes" % (version, peer)
                self._listed[peer] = self._read(line, parse_advertised)
            told += [peer] if prefix in self._listed[peer] else []
        return {"to": told, "trigger": bool(_running_bgp.community_texts(rtbh["trigger"]).intersection(communities))}

    def _lines(self, action, prefix, mark, there):
        network = checked_route(prefix, mark)
        if network.version == 4:
            route = "ip route %s %s Null0" % (network.network_address, network.netmask)
        else:
            route = "ipv6 route %s Null0" % network
        return _running.route_lines(route, action, mark, there)

    def _begin(self):
        if self.missing:
            raise self.target.error("prerequisite_missing", "it can't take a change back by itself.",
                                    "Add these lines to it, then run again:\n" + "\n".join(self.missing))
        said = self._ask("configure terminal revert timer %d" % min(self.minutes, 99))
        if "Enter configuration commands" not in said or re.search(r"^\s*%", said, re.MULTILINE):
            raise self.refused("it does not enter configuration mode", said)
        self.waiting = True

    def _abandon(self):
        self._ask("end")
        said = self._ask("configure revert now")
        if "Rollback Done" not in said:
            raise self.refused("it does not take the change back", said, "not_reverted",
                               "It does so by itself within %d min." % self.minutes)
        self.waiting = False

    def _commit(self):
        self._ask("end")

    def _confirm(self):
        said = self._ask("configure confirm")
        if said.strip():
            raise self.refused("it does not confirm", said, "not_confirmed")

    def save(self):
        """Write the running configuration to where a restart reads it; all of it, others' edits too."""
        self._write_memory("[OK]")
