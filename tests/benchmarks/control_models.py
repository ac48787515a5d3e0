# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter models with controls, of any size: what the benchmarks load. A new control adds an entry to CONTROLS."""
from __future__ import annotations

from bench_nftables import model

POOLS = 20000
HERE = "52:54:00:00:00:01"
OWN = ["192.0.2.10", "2001:db8::/64"]  # what the sender of the benchmarks sends from


def _pools():
    return [["100.%d.%d.%d" % (64 + (n >> 16), n >> 8 & 255, n & 255), 3333] for n in range(POOLS)]


def _profiled(options):
    return lambda _number: {"mode": "enforce", "profile": "0" * 12}, lambda: {"profiles": {"0" * 12: options}}


# name: (what a port is told, by its number; what the node is told)
CONTROLS = {
    "anti_spoofing": (
        lambda number: {"mode": "enforce", "sources": OWN if number is None else [
            "10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255), "2001:db8:%x:%x::/64" % (1 + (number >> 16), number & 65535)]},
        lambda: {"lengths": {"4": [], "6": [64]}, "gateways": ["fe80::1"], "storm_per_second": 1000000}),
    "mining": (
        lambda _number: {"mode": "enforce", "activities": ["farming", "mining", "nodes"]},
        lambda: {"at": 0, "pools": _pools(), "new_pools": [],
                 "ports": {"nodes": {"tcp": [8333, 30303]}, "farming": {"tcp": [8444, 8447]}}}),
    "reflection": _profiled({"ports": [17, 19, 111, 161, 1900, 11211], "limited_ports": [53, 123, 389], "limited_bytes": 1250000}),
    "bittorrent": (lambda _number: {"mode": "enforce"}, dict),
    "irc_server": _profiled({"ports": [194, 6667, 6697], "listeners_refused": False, "clients_allowed": True}),
    "new_connections": _profiled({"per_minute": 600, "destinations_per_minute": 600, "mail_per_minute": 60}),
}


def controlled(services, names):
    """A model of that many services under the named controls; the last one is the sender `tapA`, whose mail is exempt.

    :param names: of CONTROLS; may be empty
    """
    wanted = model(services - 1)
    wanted["ports"].append({"name": "tapA", "mac": HERE, "bridge": "br0", "service": "vps-a", "hold": None,
                            "smtp": {"mode": "exempt", "ports": [25]}})
    wanted["controls"] = {name: CONTROLS[name][1]() for name in names}
    for number, port in enumerate(wanted["ports"]):
        port["macs"] = [port["mac"]]
        port["controls"] = {name: CONTROLS[name][0](None if port["name"] == "tapA" else number) for name in names}
    return wanted
