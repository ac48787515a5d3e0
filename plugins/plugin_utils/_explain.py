# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a service is restricted, or not: what `resolve` decided, who opened it, and what was counted. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import open_connections_text

_COUNTED = {
    "smtp_outbound_refused": "packets to closed mail ports refused",
    "smtp_outbound_observed": "packets to mail ports that would have been refused",
    "anti_spoofing_refused": "packets with addresses of others refused",
    "anti_spoofing_observed": "packets with addresses of others that would have been refused",
    "mining_refused": "packets to mining pools or peers of a chain refused",
    "mining_observed": "packets to mining pools or peers of a chain observed",
    "irc_server_refused": "packets of IRC servers refused",
    "irc_server_observed": "packets of IRC servers that passed",
    "bittorrent_refused": "packets of BitTorrent refused",
    "bittorrent_observed": "packets of BitTorrent that would have been refused",
    "reflection_refused": "answers of amplifiers refused",
    "reflection_observed": "answers of amplifiers that would have been refused",
    "new_connections_refused": "beginnings of connections over the limit refused",
    "new_connections_observed": "beginnings of connections over the limit that would have been refused",
    "suspend": "packets cut by the suspension",
    "quarantine": "packets cut by the quarantine",
    "port_block": "packets to blocked ports dropped",
    "null_route": "packets from or to null-routed addresses dropped",
    "drop": "packets from or to remote addresses dropped",
}


def _restriction(name, reason, summaries):
    clause = reason["clause"]
    summary = summaries.get(clause)
    return "%s: %s%s%s; %s" % (
        name, reason["mode"], ", clause %s" % clause if clause else "", " (%s)" % summary if summary else "", reason["reason"])


def _enforcement(document):
    end = iso(document["ends_at"]) or "until it is %s" % ("remedied" if document["until"] == "remedied" else "lifted")
    said = open_connections_text(document.get("options") or {})
    return "%s: %s for %s, case %s, by %s, since %s, until %s, %s%s%s" % (
        document["id"], document["kind"], document["violation"], document["case_id"],
        document["actor"] or "someone whose name was erased", iso(document["starts_at"]), end,
        {"opened": "NOT YET SEEN on a node", "active": "verified on its node", "ending": "ending, not yet seen gone"}[document["status"]],
        ", prior state %s" % document["baseline"][:12] if document.get("baseline") else "", ", %s" % said if said else "")


def explain_service(service_id, views, enforcements, exemptions, events, seen):
    """Lines that answer "why is this service restricted?".

    :param views: `[{"node", "release", "reasons": {control: {"mode", "clause", "reason"}}, "summaries": {clause: text}}]`
    :param enforcements: open ones of this service
    :param exemptions: open ones of this service
    :param events: the ledger's history of this service
    :param seen: `{node: result of kvm_info, or None when it was not reached}`
    """
    lines = ["Service %s" % service_id]
    for view in views:
        lines.append("on %s by release %s:" % (view["node"], view["release"]))
        lines += ["  " + _restriction(name, reason, view["summaries"]) for name, reason in sorted(view["reasons"].items())]
        if view["node"] in seen:
            lines += ["  " + line for line in _evidence(service_id, seen[view["node"]])]
    for name in sorted(seen.keys() - {view["node"] for view in views}):  # nodes of a cluster
        lines.append("seen on %s:" % name)
        lines += ["  " + line for line in _evidence(service_id, seen[name])]
    if enforcements:
        lines.append("enforcements:")
        lines += ["  " + _enforcement(document) for document in enforcements]
    if exemptions:
        lines.append("exemptions:")
        lines += ["  %s: %s until %s: %s" % (e["id"], e["control"], iso(e["ends_at"]) or "it is revoked", e["reason"])
                  for e in exemptions]
    if events:
        lines.append("history:")
        lines += ["  %s %s%s" % (iso(event["at"]), event["kind"].replace("_", " "), _who(event)) for event in events]
    return lines


def _who(event):
    actor = ((event["detail"] or {}).get("actor") or {}).get("name")
    return " by %s" % actor if actor else ""


def _times(counter):
    if "first" not in counter:
        return ""
    if counter["first"] == counter["last"]:
        return ", seen %s" % iso(counter["first"])
    return ", first seen %s, last %s" % (iso(counter["first"]), iso(counter["last"]))


def _sample(text):
    """`203.0.113.7 . 6667` as people write it."""
    return text.replace(" . ", " ")


def _evidence(service_id, info):
    if info is None:
        return ["the node was not reached: no evidence read"]
    counted = info["counters"].get(service_id, {})
    lines = ["evidence: %d %s%s" % (counter["packets"], _COUNTED.get(name, name.replace("_", " ") + " packets"), _times(counter))
             for name, counter in sorted(counted.items()) if counter["packets"]]
    lines += ["samples of %s: %s" % (control, ", ".join(_sample(text) for text in sorted(found)))
              for control, found in sorted(info.get("samples", {}).get(service_id, {}).items())]
    if service_id in info.get("by_hand", {}):
        held = info["by_hand"][service_id]
        lines.append("held by hand on this node since %s by %s: %s; only `aup-node release` there ends it" % (
            iso(held["at"]), held["actor"] or "someone", held["reason"] or "no reason given"))
    lines += ["%s is switched off on this node (disarm)" % control for control in sorted(info["disarmed"])]
    return lines or ["evidence: nothing was refused or counted so far"]
