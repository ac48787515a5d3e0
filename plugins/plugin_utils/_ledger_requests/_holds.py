# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening enforcements, lifting them, and ending what is due. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._guard import check_count
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import NAMES as OPTION_NAMES, read_options
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    case_problem,
    end_due,
    expire_exemptions,
    known_services,
    lift,
    nodes,
    open_case,
    proposals,
    propose,
    start_run,
    withdraw,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import KINDS, nodes_concerned
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._runs import ROUTINE
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._values import free_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._measures import note_exceeded, open_planned, plan_measure, tell
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._problems import Problems, service_names
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._released import begin, check_known
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._deadlines import pass_deadlines
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import enforcement_line


def hold(
    tx,
    kind,
    service,
    violation,
    case=None,
    duration=None,
    note=None,
    break_glass=None,
    known_nodes=None,
    verb=None,
    **options,
):
    """Open enforcements of one kind on one or several services, for one case.

    :param service: an id, or a list of them
    :param duration: `48h`; without it what the policy's ladder, or else its terms of the kind, say
    :param break_glass: reason for going over the cap of services, or past an add-on that spares one
    :param known_nodes: the inventory's nodes; a service on another one is refused
    :param options: those of the kind (`_enforcement_options.OPTIONS`); over what the policy sets
    :returns: dict with run_id, nodes, enforcements, case_id, changed, what (lines for people)
    """
    problems, released = begin(tx)
    names = service_names(service, problems)
    if kind not in KINDS:
        problems.add("enforcement %r is not known." % (kind,), "kind", "Known are: %s." % ", ".join(KINDS))
    if not isinstance(violation, str) or not violation:
        problems.add(
            "violation is missing.", "violation", "Name one that the policy lists: -e violation=<name>."
        )
    seconds = problems.run(parse_duration, duration) if duration not in (None, "") else None
    problems.run(free_text, note, "note")
    unknown = sorted(set(options) - set(OPTION_NAMES))
    if unknown:
        problems.add("option %s is not known." % unknown[0], unknown[0], "Known are: %s." % ", ".join(OPTION_NAMES))
    given = read_options(kind, options, problems) if kind in KINDS else {}
    plans = []
    for name in names:
        found = problems.run(released.service, name)
        if found and kind in KINDS and isinstance(violation, str) and violation:
            plan = plan_measure(problems, released, kind, found, violation, seconds, break_glass, given, case=case, known_nodes=known_nodes)
            plans += [plan] if plan else []
            check_known(found[0]["nodes"] + released.routers(*found, kind), known_nodes, problems, name)
    reason_to_exceed = None
    for policy in {plan["policy"].key: plan["policy"] for plan in plans}.values():
        reason_to_exceed = (
            problems.run(check_count, policy, len(names), break_glass, kind=kind) or reason_to_exceed
        )
    if kind == "terminate":
        case = _terminate_terms(tx, problems, names, case, duration)
    if case is not None and str(case).strip() and isinstance(violation, str):
        trouble = case_problem(tx, str(case), violation)
        if trouble:
            problems.found.append(trouble)
    problems.stop()
    return _write_hold(tx, kind, violation, case, note, break_glass, reason_to_exceed, released, plans, verb or kind)


def _terminate_terms(tx, problems, names, case, duration):
    """The case to confirm, when none was named and one is proposed; what makes no sense is noted."""
    if duration not in (None, ""):
        problems.add("terminate has no end.", "duration", "Leave it out; suspend is what ends by itself.")
    if not (tx.actor or {}).get("name"):
        problems.add(
            "terminate needs to know who asks for it.", "actor", "Run it as a user of your own (SSH, sudo, AWX)."
        )
    if case is not None and str(case).strip():
        return case
    known = {proposal["case_id"] for name in names for proposal in proposals(tx, name, "terminate")}
    return known.pop() if len(known) == 1 else case


def _propose(tx, plan, kind, case_id, violation, note):
    """(proposal, lines for people): whether enough different people have asked for this now."""
    asked = propose(
        tx,
        service=plan["service"]["id"],
        kind=kind,
        case_id=case_id,
        violation=violation,
        persons=plan["policy"].guardrails.terminate_persons,
        reason=plan["reason"],
        note=note,
    )
    who = ", ".join(asked["by"]) or "(erased)"
    if asked["status"] == "confirmed":
        return asked, ["%s of %s confirmed (%s): asked for by %s" % (kind, asked["service"], asked["id"], who)]
    return asked, [
        "%s of %s is %sproposed by %s (%s), case %s: nothing is done until %d different people ask for it"
        % (
            kind,
            asked["service"],
            "already " if asked["already"] else "",
            who,
            asked["id"],
            case_id,
            max(asked["persons"], plan["policy"].guardrails.terminate_persons),
        )
    ]


def _write_hold(tx, kind, violation, case, note, break_glass, capped, released, plans, verb):
    names = [plan["service"]["id"] for plan in plans]
    run_id = start_run(
        tx,
        verb,
        {"kind": kind, "violation": violation, "case": case, "note": note, "break_glass": break_glass},
        services=names,
    )
    first = plans[0]
    opened = open_case(
        tx,
        case_id=str(case).strip() if case is not None and str(case).strip() else None,
        service=names[0] if len(names) == 1 else None,
        violation=violation,
        clause=first["clause"],
        fault=first["fault"],
        policy_key=first["policy"].key,
        note=note,
        customer=first["service"]["customer"] if len(names) == 1 else None,
        fees=first["fees"],
    )
    what = [] if opened["already"] else ["case %s opened for %s" % (opened["id"], violation)]
    what += note_exceeded(tx, run_id, kind, plans, capped, break_glass)
    enforcements, concerned, warnings, proposed = [], set(), [], []
    for plan in plans:
        if kind == "terminate" and not any(
            e["kind"] == kind and e["case_id"] == opened["id"] for e in active(tx, plan["service"]["id"])
        ):
            asked, lines = _propose(tx, plan, kind, opened["id"], violation, note)
            what += lines
            proposed.append(asked)
            if asked["status"] != "confirmed":
                continue
            what += _kept(tx, plan)
        document = open_planned(tx, plan, kind, opened["id"], violation, note)
        enforcements.append(document)
        concerned.update(released.provisioned(plan["service"]), plan["service"]["routers"])
        if document["already"]:
            text = (
                document["message"]
                + " Nothing new was written; for another end, lift it first or open another case."
            )
            warnings.append(text)
            what.append(text)
            continue
        what += _opened_lines(tx, plan, kind, violation, document)
    return {
        "run_id": run_id,
        "nodes": sorted(concerned),
        "enforcements": enforcements,
        "case_id": opened["id"],
        "changed": any(not document["already"] for document in enforcements + proposed),
        "proposals": proposed,
        "what": what,
        "warnings": warnings,
    }


def _kept(tx, plan):
    """Note until when the disks of a guest that is terminated are kept; lines for people."""
    kept = plan["options"].get("keep_data")
    if not kept:
        return []
    plan["options"]["retention_ends_at"] = tx.now + parse_duration(kept)
    return ["  its disks are kept until %s, and nothing of ours deletes them then" % iso(plan["options"]["retention_ends_at"])]


def _opened_lines(tx, plan, kind, violation, document):
    """What was opened and what follows from it, for people."""
    what = [enforcement_line(document), *plan["open_connections"]]
    if not plan["on_ladder"]:
        what.append("  policy %s does not list %s for %s: done by the operator's decision" % (plan["policy"].key, kind, violation))
    what += tell(tx, plan, document)
    others = [e for e in active(tx, document["service"]) if e["id"] != document["id"]]
    return what + ["  held as well: %s; the strictest is in force" % enforcement_line(other) for other in others]


def release_hold(tx, service, case=None, kind=None, note=None, known_nodes=None, verb="lift"):
    """Lift enforcements of services by decision. Never capped; also for services that left the catalogue.

    :param case: of which case; `all` for every one; needed when several hold the service
    :param kind: only this kind
    :returns: dict as `hold`'s
    """
    problems = Problems()
    names = service_names(service, problems)
    case = str(case).strip() if case is not None and str(case).strip() else None
    kind = kind or None
    if kind is not None and kind not in KINDS:
        problems.add("enforcement %r is not known." % (kind,), "kind", "Known are: %s." % ", ".join(KINDS))
    chosen, proposed = [], []
    for name in names:
        waiting = [p for p in proposals(tx, name, kind) if case in (None, "all") or p["case_id"] == case]
        proposed += waiting
        if not waiting or active(tx, name):
            chosen += _holding(tx, name, case, kind, problems)
    problems.stop()
    run_id = start_run(tx, verb, {"case": case, "kind": kind, "note": note}, services=names)
    enforcements, what = [], []
    for proposal in proposed:
        withdraw(tx, proposal_id=proposal["id"], reason=note)
        what.append("withdrawn: proposal %s to %s %s" % (proposal["id"], proposal["kind"], proposal["service"]))
    for document in chosen:
        if document["status"] == "ending":
            enforcements.append(document)
            what.append(
                "%s was ended already and is not seen gone from its node yet" % enforcement_line(document)
            )
            continue
        lifted = lift(tx, enforcement_id=document["id"], reason=note)["lifted"][0]
        enforcements.append(lifted)
        what.append("lifted: %s" % enforcement_line(lifted))
    for name in names:
        rest = [e for e in active(tx, name) if e["status"] != "ending"]
        what += ["  %s stays held: %s" % (name, enforcement_line(other)) for other in rest]
    concerned, warnings = _nodes_of(tx, enforcements, known_nodes)
    return {
        "run_id": run_id,
        "nodes": concerned,
        "enforcements": enforcements,
        "changed": bool(proposed) or any(document["status"] != "ending" for document in chosen),
        "what": what + warnings,
        "warnings": warnings,
    }


def _holding(tx, name, case, kind, problems):
    """The enforcements of a service that are meant; what is unclear is noted."""
    held = active(tx, name)
    matching = [
        e
        for e in held
        if (kind is None or e["kind"] == kind) and (case in (None, "all") or e["case_id"] == case)
    ]
    if not matching:
        if held:
            problems.add(
                "service %s is not held like that; what holds it: %s."
                % (name, "; ".join(enforcement_line(e) for e in held)),
                "service",
                "Name its case, or leave kind and case out.",
            )
        else:
            known = name in known_services(tx)
            problems.add(
                "service %s is not held by anything." % name if known else "service %r is not known." % name,
                "service",
                "hosting.aup.status lists what is held." if known else "Check the id.",
            )
        return []
    if case is None and len({e["case_id"] for e in matching if e["status"] != "ending"}) > 1:
        problems.add(
            "several cases hold service %s: %s." % (name, "; ".join(enforcement_line(e) for e in matching)),
            "case",
            "Say which with case=<id>, or case=all.",
        )
    return matching


def _nodes_of(tx, enforcements, known_nodes):
    """(nodes to converge, warnings about those that are not in the inventory)."""
    managed = {node["name"] for node in nodes(tx) if node["release_id"] is not None}
    concerned = {name for document in enforcements for name in nodes_concerned(document)} & managed
    outside = [] if known_nodes is None else sorted(concerned - set(known_nodes))
    warnings = [
        "node %s is not in the inventory: what it holds is given back when it is reconciled." % name
        for name in outside
    ]
    return sorted(concerned - set(outside)), warnings


def end_what_is_due(tx, known_nodes=None, verb="reconcile"):
    """Mark enforcements and exemptions whose end has come, and do what follows where an answer did not come."""
    due, expired = end_due(tx), expire_exemptions(tx)
    unanswered = pass_deadlines(tx)
    # Nothing due is nothing to say: run every minute for years, the log would grow without bound.
    run_id = start_run(tx, verb, {}, services=sorted({e["service"] for e in due})) if due or expired or unanswered["changed"] else ROUTINE
    concerned, warnings = _nodes_of(tx, due + unanswered["enforcements"], known_nodes)
    warnings += unanswered["warnings"]
    what = ["ended: %s" % enforcement_line(document) for document in due]
    what += ["exemption %s of %s from %s expired" % (e["id"], e["service"], e["control"]) for e in expired]
    what += unanswered["what"]
    return {
        "run_id": run_id,
        "nodes": concerned,
        "enforcements": due + unanswered["enforcements"],
        "proposals": unanswered["proposals"],
        "exemptions": expired,
        "changed": bool(due or expired or unanswered["changed"]),
        "what": what + warnings,
        "warnings": warnings,
    }
