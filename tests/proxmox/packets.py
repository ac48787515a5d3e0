# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a new connection's first packet under a guest's rule file, as pve-firewall compiles it. Pure.

A rule that names a set or a group which isn't there is left out; of a set's entries the longest prefix decides (ipset's
`nomatch`); a rule with addresses is for their family alone.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from .cluster import Cluster
from .firewall import File


@dataclass(frozen=True)
class Packet:
    """The first of a connection, `out` or `in` seen from the guest; `far` is the other side's address."""

    direction: str
    far: str
    protocol: str = "tcp"
    port: int = 25


def verdict(cluster: Cluster, vmid: int, packet: Packet) -> str:
    """`ACCEPT`, `DROP` or `REJECT`; the guest's NIC has the firewall on."""
    wall = cluster.firewall
    file = wall.guests.get(vmid)
    if file is None or not _on(wall.cluster.options) or not _on(file.options):
        return "ACCEPT"
    for rule in file.rules:
        if not rule.get("enable") or rule.get("iface", "net0") != "net0":
            continue
        if rule["type"] != "group":
            inside = [rule]
        else:
            inside = wall.cluster.groups.get(rule["action"], {"rules": []})["rules"]
        for one in inside:
            if one.get("enable") and one["type"] == packet.direction and _fits(wall.cluster, file, one, packet):
                return one["action"]
    return file.options.get("policy_" + packet.direction, "DROP" if packet.direction == "in" else "ACCEPT")


def _on(options: dict[str, Any]) -> bool:
    return str(options.get("enable", 0)) not in ("0", "")


def _fits(shared: File, file: File, rule: dict[str, Any], packet: Packet) -> bool:
    if rule.get("proto", packet.protocol) != packet.protocol:
        return False
    if "dport" in rule and not any(
            int(first) <= packet.port <= int(last or first) for first, _, last in (item.partition(":") for item in rule["dport"].split(","))):
        return False
    near, other = ("source", "dest") if packet.direction == "out" else ("dest", "source")
    if near in rule:
        # Of a rule on what comes in, to which of the guest's addresses: unicast ones, here.
        unicast = "192.0.2.10" if ":" not in packet.far else "2001:db8:1::10"
        if not _has(shared, file, rule[near], unicast):
            return False
    return other not in rule or _has(shared, file, rule[other], packet.far)


def _has(shared: File, file: File, text: str, far: str) -> bool:
    address = ipaddress.ip_address(far)
    if text.startswith("+"):
        scope, _, name = text[1:].rpartition("/")
        found = (file.ipsets.get(name) if scope != "dc" else None) or shared.ipsets.get(name)
        hits = [(ipaddress.ip_network(entry["cidr"], strict=False).prefixlen, not entry.get("nomatch"))
                for entry in (found or {"entries": []})["entries"] if address in ipaddress.ip_network(entry["cidr"], strict=False)]
        return bool(hits) and max(hits)[1]
    for item in text.split(","):
        first, dash, last = item.partition("-")
        if dash:
            ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
            if ends[0].version == address.version and ends[0] <= address <= ends[1]:
                return True
        elif address in ipaddress.ip_network(item, strict=False):
            return True
    return False
