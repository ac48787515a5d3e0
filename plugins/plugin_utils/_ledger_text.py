# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger in words. Pure. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemption_requests import request_line
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import FOR_A_PERSON, notice_line
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import enforcement_line

_SOON = 24 * 3600


def status_lines(status):
    """What is in force, where nodes stand, what is due within 24 hours.

    :param status: the document of the ledger's `status`
    """
    release = status["release"]
    lines = [
        "ledger %s, epoch %d, event %d" % (status["ledger"], status["epoch"], status["revision"]),
        (
            "newest release %d of %s: %s, %d services"
            % (
                release["id"],
                iso(release["created_at"]),
                ", ".join(release["policy_keys"]),
                release["services"],
            )
            if release
            else "no release yet: run hosting.aup.provision"
        ),
    ]
    lines += [_node_line(node, release) for node in status["nodes"]]
    lines += _held_lines(status)
    lines += [
        "  exemption %s: %s from %s until %s%s"
        % (e["id"], e["service"], e["control"], iso(e["ends_at"]) or "it is revoked", _due(e, status["now"]))
        for e in status["exemptions"]
    ]
    lines += ["  %s" % request_line(q) for q in status.get("requests", ())]
    lines += [
        "open case %s: %s%s" % (c["id"], c["violation"], " of %s" % c["service"] if c["service"] else "")
        for c in status["cases"]
    ]
    lines += [input_line(found, status["now"]) for found in status.get("inputs", ())]
    lines += _notice_lines(status.get("notices", ()))
    lines += ["  LATE: %s" % text for text in status.get("late", ())]
    return lines + [
        "  answer to notice %s of %s, case %s, %s %s" % (
            n["id"], n["service"], n["case_id"], "was due" if n["deadline_at"] <= status["now"] else "due", iso(n["deadline_at"]))
        for n in status.get("deadlines", ())
    ]


def _held_lines(status):
    """What is in force, what waits for a person, and what was done by hand on nodes."""
    lines = [
        "%d enforcements:" % len(status["enforcements"])
        if status["enforcements"]
        else "no enforcement is open" if status.get("by_hand") else "nothing is held"
    ]
    lines += [
        "  %s: %s, by %s%s"
        % (e["status"], enforcement_line(e), e["actor"] or "(erased)", _due(e, status["now"]))
        for e in status["enforcements"]
    ]
    lines += [
        "  proposed: %s of %s, case %s, by %s: waits for %s person (%s)"
        % (
            p["kind"], p["service"], p["case_id"], ", ".join(p["by"]) or "(erased)",
            "another" if p["persons"] > 1 else "a", p["id"],
        )
        for p in status.get("proposals", ())
    ]
    lines += [
        "  not yet reviewed: %s of %s by %s exceeded %s: %s (%s; another person runs hosting.aup.review)"
        % (
            b["kind"], ", ".join(b["services"]), b["actor"] or "(erased)", "; ".join(b["rules"]),
            b["reason"] or "(erased)", b["id"],
        )
        for b in status.get("unreviewed", ())
    ]
    lines += [
        "  held by hand on %s: %s since %s%s, by %s: %s; only `aup-node release` there ends it"
        % (h["node"], h["service"], iso(h["at"]), " until %s" % iso(h["until_at"]) if h["until_at"] else "",
           h["actor"] or "someone", h["reason"] or "no reason given")
        for h in status.get("by_hand", ())
    ]
    return lines


def due_lines(status, seconds):
    """What is due within this time, soonest first, and what is overdue. Pure.

    :param status: the document of the ledger's `status`
    """
    found = []
    for e in status["enforcements"]:
        if e["status"] != "ending":
            found.append((e["ends_at"], "ends: %s" % enforcement_line(e)))
            found.append((e["review_at"], "review: %s" % enforcement_line(e)))
            found.append(((e["options"] or {}).get("retention_ends_at"), "keeping its data ends: %s" % enforcement_line(e)))
    found += [(e["ends_at"], "exemption ends: %s of %s from %s" % (e["id"], e["service"], e["control"])) for e in status["exemptions"]]
    found += [
        (n["deadline_at"], "answer: to notice %s of %s, case %s" % (n["id"], n["service"], n["case_id"])) for n in status.get("deadlines", ())
    ]
    found += [(status["now"], "waits for a person: %s" % request_line(q)) for q in status.get("requests", ())]
    found += [(status["now"], "waits for a person: %s" % text) for text in status.get("late", ())]
    for n in status.get("notices", ()):
        waiting = n["status"] in FOR_A_PERSON
        found.append((status["now"] if waiting else n["next_at"], "%s: %s" % ("waits for a person" if waiting else "notice", notice_line(n))))
    return [
        "%s %s%s" % (iso(at), "(overdue) " if at < status["now"] else "", text)
        for at, text in sorted((pair for pair in found if pair[0] is not None), key=lambda pair: pair)
        if at <= status["now"] + seconds
    ]


def _notice_lines(notices):
    """Notices that wait for a person one by one, the others as a number."""
    lines = ["  notice %s" % notice_line(notice) for notice in notices if notice["status"] in FOR_A_PERSON]
    others = sum(notice["status"] not in FOR_A_PERSON for notice in notices)
    if lines:
        lines.insert(0, "%d notices wait for a person (hosting.aup.notices -e state=…):" % len(lines))
    if others:
        lines.append("%d notices are on their way: hosting.aup.notices sends what is due" % others)
    return lines


def input_line(found, now):
    """A dated input as a line; says when it is stale.

    :param found: as the ledger's `dated_inputs` gives it
    """
    figures = ", ".join("%s %s" % (found["summary"][key], key) for key in ("endpoints", "addresses", "refused")
                        if key in found["summary"])
    stale = ", STALE since %s: refresh it" % iso(found["stale_at"]) if found["stale_at"] <= now else ""
    return "data %s of %s: %s%s" % (found["name"], iso(found["at"]), figures or "recorded", stale)


def _node_line(node, newest):
    if node["release_id"] is None:
        return "node %s: not managed" % node["name"]
    behind = " (newest is %d)" % newest["id"] if newest and newest["id"] != node["release_id"] else ""
    return "node %s: release %d%s, last seen %s, last outcome %s" % (
        node["name"],
        node["release_id"],
        behind,
        iso(node["last_seen_at"]) or "never",
        node["last_outcome"] or "none",
    )


def _due(document, now):
    for name, text in (("ends_at", "ends"), ("review_at", "review")):
        at = document.get(name)
        if at is not None and at <= now + _SOON:
            return ", %s %s" % (text, "is due" if at <= now else "within 24 h")
    return ""


def history_lines(events):
    """The events of a service, one line each."""
    lines = []
    for event in events:
        said = "; ".join(
            "%s=%s" % (key, value) for key, value in sorted(event["refs"].items()) if value is not None
        )
        actor = ((event["detail"] or {}).get("actor") or {}).get("name", "(erased)")
        lines.append("%s %s by %s: %s" % (iso(event["at"]), event["kind"], actor, said))
    return lines
