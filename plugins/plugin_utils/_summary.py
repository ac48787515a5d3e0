# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one summary a runbook ends with: what, where, until when, verified or not. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import open_connections_text, option_text

_OUTCOMES = {
    "changed": "changed, verified", "unchanged": "as it should be, verified", "failed": "FAILED",
    "incomplete": "under policy, verified; NOT ALL ORDERED GUESTS MADE",
    "unreachable": "UNREACHABLE", "held_back": "held back, nothing was done",
}
_GAPS_SHOWN = 20
_PLANNED = {"changed": "would change", "unchanged": "as it should be"}


def _sentence(error):
    where = "%s: " % error["service"] if error["service"] else ""
    return "%s%s%s" % (where, error["message"], " %s" % error["remedy"] if error["remedy"] else "")


def node_result(name, converged):
    """What is kept of one node's converge result.

    :param converged: result of `kvm_converge`, or None if the task ended without one
    """
    if not converged or "outcome" not in converged:
        said = (converged or {}).get("msg") or "the task ended without a result; see its output above."
        return {"node": name, "outcome": "failed", "changed": False, "notes": [], "services": [], "steps": 0, "disarmed": [], "gaps": [], "nics": {},
                "errors": [{"service": None, "code": "no_result", "message": str(said), "remedy": "Run hosting.aup.reconcile."}]}
    return {
        "node": name, "outcome": converged["outcome"], "changed": bool(converged.get("changed")),
        "errors": list(converged.get("errors") or ()), "notes": list(converged.get("notes") or ()),
        "services": [
            {"service": s["service"], "hold": s["hold"], "here": s["here"],
             "verified": bool(s["in_force"] if s["hold"] else s["released"]),
             "limits": {kind: bool(limit["in_force"]) for kind, limit in sorted((s.get("limits") or {}).items())}}
            for s in converged.get("services") or ()
        ],
        "steps": len(converged.get("steps") or ()), "disarmed": sorted(converged.get("disarmed") or ()),
        "gaps": list(converged.get("gaps") or ()), "nics": dict(converged.get("nics") or {}),
        "by_hand": sorted(converged.get("by_hand") or ()),
    }


def summarise(opened, nodes, check):
    """The summary as data and as lines.

    :param opened: what the ledger was told: its result has `what`, lines about cases and enforcements
    :param nodes: results of `node_result`
    :param check: whether nothing was really done
    :returns: dict with run, ok, nodes, lines
    """
    lines = ["%s%s" % ("CHECK, nothing was done: " if check else "", line) for line in opened.get("what") or ()]
    for node in nodes:
        outcome = (_PLANNED if check else _OUTCOMES).get(node["outcome"]) or _OUTCOMES.get(node["outcome"], node["outcome"])
        lines.append("%s: %s%s" % (node["node"], outcome, ", %d steps" % node["steps"] if node["steps"] else ""))
        for service in node["services"]:
            lines.append("  %s: %s" % (service["service"], "; ".join(_states(service, check))))
        lines += ["  note: %s" % note for note in node["notes"]]
        if check and node["nics"]:
            lines.append("  NICs of guests: %s" % ", ".join("%d %s" % (n, kind) for kind, n in sorted(node["nics"].items())))
        lines += ["  gap: %s%s" % ("guest %s: " % gap["guest"] if gap["guest"] else "", gap["gap"]) for gap in node["gaps"][:_GAPS_SHOWN]]
        if len(node["gaps"]) > _GAPS_SHOWN:
            lines.append("  gap: %d more NICs; all are in the node's result" % (len(node["gaps"]) - _GAPS_SHOWN))
        lines += ["  %s is switched off here (disarm); rearm ends that" % control for control in node["disarmed"]]
        lines += ["  %s is held by hand on this node: only `aup-node release` there ends it" % sid for sid in node.get("by_hand", ())]
        lines += ["  error: %s" % _sentence(error) for error in node["errors"]]
    ok = all(node["outcome"] in ("changed", "unchanged") for node in nodes)
    return {"run": opened.get("run_id"), "check": check, "ok": ok, "nodes": nodes, "lines": lines}


def _states(service, check):
    """What is true of one service on one node, one text for each thing that binds it."""
    binding = dict(service["limits"])
    if service["hold"]:
        binding[service["hold"]] = service["verified"]
    if not service["here"] and "null_route" not in binding:
        return ["its guest is not on this node"]
    if check:
        return ["would be under %s" % ", ".join(sorted(binding)) if binding else "would be given back"]
    if not binding:
        return ["given back, verified" if service["verified"] else "NOT YET given back"]
    return ["%s %s" % (kind, "in force, verified" if verified else "NOT VERIFIED") for kind, verified in sorted(binding.items())]


def enforcement_line(document):
    """One enforcement as a line for people."""
    until = iso(document["ends_at"]) or {"remedied": "remedied, review %s" % iso(document["review_at"]),
                                         "decision": "it is lifted"}.get(document["until"], "it is lifted")
    says = ", ".join(filter(None, (option_text(document["kind"], document["options"]), open_connections_text(document["options"]))))
    return "%s of %s%s until %s, case %s, clause %s (%s)" % (
        document["kind"], document["service"], ", %s," % says if says else "", until, document["case_id"], document["clause"] or "none", document["id"])
