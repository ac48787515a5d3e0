# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arista EOS. PRIVATE to the collection. Never tried on a device.

A configure session with a name of its own, `commit timer`, read back, `configure session … commit`, `write memory`.
A commit copies the whole session over the running configuration, so a session lives only for the seconds between
reading and committing, and is aborted on any error: a handful of pending ones block the next.
"""
from __future__ import annotations

import ipaddress
import re
import secrets

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _running, _running_bgp, _running_drops, _running_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import VendorDriver, announces_now
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, parse_json

NAME = "eos"
JSON = " | json"
_OURS = r"aup-[0-9a-f]{8}"
_ROUTE = r"(?:ip route %s|ipv6 route %s) Null0" % (_gate.PREFIX4, _gate.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"%s tag %s" % (_ROUTE, _gate.NUMBER), r"no %s" % _ROUTE,
    r"show running-config", r"show running-config diffs", r"show (?:ip|ipv6) route static \| json",
    r"show configuration sessions \| json", r"configure session %s(?: commit| abort)?" % _OURS,
    r"show (?:ip|ipv6) bgp summary \| json", r"show ip bgp %s detail \| json" % _gate.PREFIX4,
    r"show ipv6 bgp %s detail \| json" % _gate.PREFIX6,
    r"commit timer 00:[0-5][0-9]:00", r"abort", r"write memory",
))
PORT = r"Ethernet[0-9]{1,3}(?:/[0-9]{1,3}){0,2}(?:\.[1-9][0-9]{0,3})?"
PORTS = _running_ports.Dialect(False, PORT, ())
DROPS = _running_drops.Drops(PORTS)
_STATES = {"pending": False, "completed": False, "aborted": False, "pendingCommitTimer": True}


def _prefix(words):
    return ipaddress.ip_network(words[2]), words[3:]


def parse_running(text):
    """`{"lines", "statics", "own", "peers"}` of a running configuration."""
    lines = _running.whole(text)
    return {"lines": lines, "statics": _running.statics(lines, _prefix), "own": _running.own(lines), "peers": _running.peers(lines)}


def parse_rib(text):
    """`{prefix: {"blackhole", "installed"}}` of the static routes of the default VRF."""
    document = parse_json(text)
    try:
        # Older releases print IPv6 without the level of VRFs.
        table = document["vrfs"].get("default", {"routes": {}}) if "vrfs" in document else document
        rib = {}
        for prefix, route in table["routes"].items():
            drops = route["routeAction"] == "drop" and route["routeType"].startswith("static")
            written = [route[key] for key in ("kernelProgrammed", "hardwareProgrammed") if key in route]
            rib[str(ipaddress.ip_network(prefix))] = {"blackhole": drops, "installed": bool(written) and all(written)}
        return rib
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("routes: %s" % exc) from exc


def parse_summary(text):
    """BGP neighbors of the default VRF with a session."""
    try:
        peers = parse_json(text)["vrfs"].get("default", {"peers": {}})["peers"]
        return {str(ipaddress.ip_address(peer)) for peer, about in peers.items() if about["peerState"] == "Established"}
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("BGP summary: %s" % exc) from exc


def parse_bgp(text):
    """`{"to": neighbors that are told, "communities"}` of one prefix; both empty when BGP does not carry it."""
    try:
        entries = parse_json(text)["vrfs"].get("default", {"bgpRouteEntries": {}})["bgpRouteEntries"]
        told, communities = set(), set()
        for entry in entries.values():
            for group in entry["bgpAdvertisedPeerGroups"].values():
                told.update(str(ipaddress.ip_address(peer)) for peer in group["peerList"])
            for path in entry["bgpRoutePaths"]:
                communities.update(path["routeDetail"]["communityList"] if path["routeType"]["active"] else ())
        return {"to": sorted(told), "communities": sorted(communities)}
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("BGP entry: %s" % exc) from exc


def _no_complaint(text):
    if text.lstrip().startswith("%"):
        raise NotUnderstood(ascii(text.strip()[:80]))
    return text


def parse_sessions(text):
    """(names of sessions whose commit waits to be confirmed, names of those never committed)."""
    try:
        found = {True: [], False: []}
        for name, about in parse_json(text)["sessions"].items():
            waits = _STATES[about["state"]]
            if waits or about["state"] == "pending":
                found[waits].append(name)
        return sorted(found[True]), sorted(found[False])
    except (KeyError, TypeError, AttributeError) as exc:
        raise NotUnderstood("configuration sessions: %s" % exc) from exc


class Eos(VendorDriver):
    """One connection to one EOS router."""

    name = NAME
    announces = True
    DEVICE_TYPE = "arista_eos"
    GRAMMAR = GRAMMAR + PORTS.grammar + DROPS.grammar
    DROPS = DROPS
    PORT, PORTS = PORT, PORTS
    PORT_IS = "Ethernet1, Ethernet1/1 or Ethernet1.100, in full"
    TAILS = (JSON,)

    def __init__(self, target):
        super().__init__(target)
        self._session, self._looked, self._left = None, False, []

    def _look(self, desired):
        waits, left = self._read("show configuration sessions" + JSON, parse_sessions)
        self._left = [name for name in left if re.fullmatch(_OURS, name)]
        mine = [name for name in waits if re.fullmatch(_OURS, name)]
        self.waiting, self._session = bool(mine), mine[0] if mine else None
        self.foreign_wait = ", ".join(sorted(set(waits) - set(mine))) or None
        running = self._read("show running-config", parse_running)
        if not self._looked:
            self._looked = True
            self.compare_saved(self._read("show running-config diffs", _no_complaint), desired)
        rib = {}
        for family in ("ip", "ipv6"):
            rib.update(self._read("show %s route static%s" % (family, JSON), parse_rib))
        rtbh = desired["settings"].get("rtbh")
        if rtbh and announces_now(desired):
            running["rtbh"] = self._announcements(desired, _running_bgp.missing_for_rtbh(running["lines"], rtbh, True))
        running["ports"] = PORTS.look(running["lines"], desired["ports"], desired["settings"], running["statics"], running["peers"])
        running["drops"], running["drop_objections"] = DROPS.look(
            running["lines"], desired.get("drops", ()), [entry["key"] for entry in desired.get("known_drops", ())])
        return dict(running, rib=rib)

    def _sessions(self, version):
        return self._read("show %s bgp summary%s" % ("ip" if version == 4 else "ipv6", JSON), parse_summary)

    def _told(self, prefix, version, rtbh, _up):
        said = self._read("show %s bgp %s detail%s" % ("ip" if version == 4 else "ipv6", prefix, JSON), parse_bgp)
        return {"to": said["to"], "trigger": bool(_running_bgp.community_texts(rtbh["trigger"]).intersection(said["communities"]))}

    def _lines(self, action, prefix, mark, there):
        network = checked_route(prefix, mark)
        route = "%s route %s Null0" % ("ip" if network.version == 4 else "ipv6", network)
        return _running.route_lines(route, action, mark, there)

    def _begin(self):
        while self._left:
            # Left by a connection that was cut; nothing of it ever acted.
            self._ask("configure session %s abort" % self._left.pop())
        self._session = "aup-" + secrets.token_hex(4)
        said = self._ask("configure session " + self._session)
        if "Maximum number of pending sessions" in said:
            raise self.target.error("busy", "too many configure sessions are pending on it.",
                                    "See `show configuration sessions`; abort what is left over.", retryable=True)
        if said.strip():
            raise self.refused("it opens no configure session", said)

    def _abandon(self):
        self._ask("abort")

    def _commit(self):
        said = self._ask("commit timer 00:%02d:00" % self.minutes)
        if said.strip():
            return said
        self.waiting = True
        return None

    def _confirm(self):
        said = self._ask("configure session %s commit" % self._session)
        if said.strip():
            raise self.refused("it does not confirm", said, "not_confirmed")

    def save(self):
        """Write the running configuration to where a restart reads it; all of it, others' edits too."""
        self._write_memory("Copy completed successfully.")
