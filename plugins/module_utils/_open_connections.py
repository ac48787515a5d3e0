# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of connections that are open when a block begins on a cluster, whose rules they outlive. Pure. PRIVATE to the collection.

The policy chooses for each kind of enforcement, and the choice is kept in the enforcement's terms. So it is decided from
the ledger alone: a later policy changes nothing about an enforcement in force.
"""
from __future__ import annotations

import ipaddress
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._fold import fold_hold, fold_limits, in_force

CHOICES = ("leave", "restart", "null_route", "node_filter")
KINDS = ("quarantine", "smtp_block", "port_block")
"""The kinds of enforcement that refuse by rules while the guest runs on."""
OPTION = "open_connections"
NULL_ROUTE_SECONDS = 1200
"""How long addresses are null-routed. Linux gives up a connection in use after about 924 s without an answer (tcp(7),
tcp_retries2 = 15); RFC 1122, 4.2.3.5 asks for at least 100 s."""

Endings = namedtuple("Endings", "restart ended notes gaps")
Endings.__doc__ = """What `endings` returns.

`restart`: things refused for whose sake the guest has to be restarted; `ended`: those of which nothing is open any more
without that; notes and gaps are sentences.
"""


def choice(enforcement):
    """What an enforcement's terms say of open connections; `leave` where they say nothing, as those of older records."""
    return enforcement["options"].get(OPTION, "leave") if enforcement["kind"] in KINDS else "leave"


def null_routers(enforcement):
    """Names of the routers that null-route the service for an enforcement's beginning; none, if it asks for no such thing."""
    return list(enforcement["snapshot"].get("routers") or ()) if choice(enforcement) == "null_route" else []


def null_routed(enforcement, now):
    """Whether its routers have to null-route the service now.

    :param now: seconds since the epoch
    """
    return bool(null_routers(enforcement)) and in_force(enforcement, now) and now < enforcement["starts_at"] + NULL_ROUTE_SECONDS


def null_route_targets(enforcement):
    """Prefixes of that null route: all that is the service's alone, as it was when the enforcement was opened."""
    nics = enforcement["snapshot"]["nics"]
    own = {str(ipaddress.ip_network(text)) for nic in nics for key in ("addresses", "prefixes", "floating") for text in nic.get(key) or ()}
    shared = {str(ipaddress.ip_network(entry["address"])) for nic in nics for entry in nic.get("shared") or ()}
    return sorted(own - shared)


def _refuses(enforcement):
    """What an enforcement refuses, each thing by a name, so that two that refuse the same have the same."""
    if enforcement["kind"] == "quarantine":
        return ["quarantine"] if fold_hold([enforcement]) else []
    limits = fold_limits([enforcement])
    found = {"tcp out %d" % port for port in limits.get("smtp_block", {}).get("ports", ())}
    for block in limits.get("port_block", {}).get("blocks", ()):
        found.update("%s %s %d" % (block["protocol"], block["direction"], port) for port in block["ports"])
    return sorted(found)


def blocks_of(enforcements, now):
    """The blocks in force on a service: `[{"id", "choice", "routers", "until", "refuses"}]`; `until` the end of a null route.

    :param enforcements: of one service
    :param now: seconds since the epoch
    """
    return [{"id": one["id"], "choice": choice(one), "routers": null_routers(one), "until": one["starts_at"] + NULL_ROUTE_SECONDS, "refuses": _refuses(one)}
            for one in sorted(enforcements, key=lambda e: e["id"]) if one["kind"] in KINDS and in_force(one, now)]


def refused(blocks):
    """All that is refused by blocks that don't leave open connections alone, and what stands for their null routes."""
    return {thing for block in blocks if block["choice"] != "leave" for thing in [*block["refuses"], *_by_routers(block)]}


def _by_routers(block):
    """What stands for the null route of a block: it ends less than a restart, which another block may ask for."""
    return ["null route for %s" % block["id"]] if block["routers"] else []


def endings(blocks, done, node, hosts, reached, stopped, placed, now):
    """What is still to be done about connections that are open on a guest.

    :param blocks: of `blocks_of`
    :param done: things refused of which nothing is open any more
    :param node: of the cluster, where the guest runs
    :param hosts: whether the catalogue names the cluster's nodes, which then have rules of their own
    :param reached: whether that node was seen to have them in this run
    :param stopped: the guest is off
    :param placed: the rules that refuse it are seen in place
    :param now: seconds since the epoch
    """
    restart, ended, notes, gaps = set(), set(), [], []
    for block in blocks:
        new, chosen = set(block["refuses"]) - set(done), block["choice"]
        if chosen == "leave" or not new:
            continue
        if reached or stopped:
            ended |= new
            if reached and not stopped and chosen == "restart":
                notes.append("%s: no restart for %s: the rules on node %s end what is open" % (OPTION, block["id"], node))
        elif chosen == "restart":
            restart |= new
            if hosts:
                notes.append("%s: node %s was not seen with its rules in this run, so %s restarts the guest" % (OPTION, node, block["id"]))
        elif hosts:
            gaps.append("%s: node %s was not seen with its rules in this run, so what was open when %s began may go on: mend the "
                        "node's connection, then run hosting.aup.reconcile" % (OPTION, node, block["id"]))
        elif chosen == "node_filter":
            gaps.append("%s: %s relies on rules on the cluster's nodes, and its entry in the catalogue names none, so what was open "
                        "when it began goes on: name them (proxmox: {hosts: …}), or restart the guest by hand" % (OPTION, block["id"]))
        elif not block["routers"]:
            gaps.append("%s: no router could null-route the service for %s, so what was open when it began goes on: restart the guest "
                        "by hand, or let the policy say restart" % (OPTION, block["id"]))
        elif set(_by_routers(block)) <= set(done):
            continue
        elif now >= block["until"]:
            gaps.append("%s: the rules of %s came when its null route was over, so what was open when it began goes on: restart the "
                        "guest by hand" % (OPTION, block["id"]))
        elif placed:
            ended.update(_by_routers(block))
    if restart:  # ends all there is, whatever was to end it
        return Endings(refused(blocks) - set(done), set(), notes, [])
    return Endings(set(), ended, notes, gaps)
