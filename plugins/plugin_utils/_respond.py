# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder on the ledger: take its next step, or carry out what was proposed. PRIVATE to the collection.

What is decided comes from `_ladder.next_step`; here the ledger is asked, the guardrails are asked, and it is written.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS
from ansible_collections.hosting.aup.plugins.module_utils._guard import check_count
from ansible_collections.hosting.aup.plugins.module_utils._ladder import (
    ACT,
    EVIDENCE,
    NOTHING,
    Subject,
    ahead_text,
    next_step,
)
from ansible_collections.hosting.aup.plugins.module_utils._open_connections import KINDS as CHOOSING, OPTION
from ansible_collections.hosting.aup.plugins.module_utils._proxmox._guest import PARTS as PROXMOX_PARTS
from ansible_collections.hosting.aup.plugins.module_utils._routers import ACTS_ON_PORTS, ACTS_ON_ROUTERS
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import OPTIONS, read_flag, read_options
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    case_problem,
    confirm,
    find_proposal,
    ladder_history,
    open_case,
    open_case_of,
    propose,
    record_step,
    start_run,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._runs import ROUTINE
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._values import free_text
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import enforcement_line

# What each kind of node can carry out for the services that live on it.
# A dedicated server lives on routers; what the platform of its port lacks is noted when the step is planned.
ENGINES = {"kvm": KINDS, "proxmox": tuple(kind for kind in KINDS if kind in PROXMOX_PARTS),
           "router": tuple(kind for kind in KINDS if kind in ACTS_ON_PORTS | ACTS_ON_ROUTERS)}
_TERMS = ("seconds", "until", "review", "options", "clause")


def respond(
    tx,
    service=None,
    violation=None,
    case=None,
    note=None,
    kind=None,
    confirmed=None,
    proposal=None,
    break_glass=None,
    known_nodes=None,
    persists=None,
    unanswered=None,
    harms_others=None,
    **options,
):
    """Take the next step of the ladder of a violation for one or several services.

    :param case: of which case; without it the service's newest open case of this violation, or else a new one
    :param kind: which of a step's alternatives; without it the first that can be done
    :param confirmed: a person decides that the step is done where the policy leaves it at a proposal
    :param proposal: id of what was proposed, to carry that out; then nothing else is needed
    :param break_glass: reason for going over the cap of services; only where the step can be undone
    :param persists, unanswered, harms_others: what the caller vouches for; it goes on record in the case
    :param options: options of the enforcement that the policy doesn't set
    :returns: dict as that of `_ledger_requests.hold`, with `decisions`
    """
    if proposal not in (None, ""):
        refuse_beside_proposal(service=service, violation=violation, case=case, kind=kind, confirm=confirmed, persists=persists,
                               unanswered=unanswered, harms_others=harms_others, **options)
        return carry_out(tx, str(proposal), note, break_glass, known_nodes)
    problems, released = requests.begin(tx)
    names = requests.service_names(service, problems)
    evidence = _evidence(problems, {"persists": persists, "unanswered": unanswered, "harms_others": harms_others})
    confirmed = bool(confirmed not in (None, "") and problems.run(read_flag, "confirm", confirmed))
    kind = kind or None
    if kind is not None and kind not in KINDS:
        problems.add("enforcement %r is not known." % (kind,), "kind", "Known are: %s." % ", ".join(KINDS))
    if not isinstance(violation, str) or not violation:
        problems.add("violation is missing.", "violation", "Name one that the policy lists: -e violation=<name>.")
    problems.run(free_text, note, "note")
    case = str(case).strip() if case is not None and str(case).strip() else None
    if case is not None and isinstance(violation, str) and violation:
        trouble = case_problem(tx, case, violation)
        if trouble:
            problems.found.append(trouble)
    found = {name: problems.run(released.service, name) for name in names}
    problems.stop()
    steps = [
        _Step(tx, problems, released, found[name], violation, case, evidence, kind, confirmed, options, known_nodes)
        for name in names
    ]
    due = [step for step in steps if step.plan is not None]
    capped = None
    for policy in {step.policy.key: step.policy for step in due}.values():
        kinds = {step.kind for step in due}
        capped = problems.run(check_count, policy, len(due), break_glass,
                              kind="terminate" if "terminate" in kinds else None) or capped
    problems.stop()
    return _write(tx, released, steps, violation, case, note, evidence, break_glass, capped)


def _evidence(problems, given):
    found = {name: value not in (None, "") and problems.run(read_flag, name, value) for name, value in given.items()}
    return {name: bool(found[name]) for name in EVIDENCE}


class _Step:
    """What is due for one service.

    :ivar decision: of the ladder
    :ivar plan: what it means, as `_ledger_requests` plans it; None when nothing is to be done
    """

    def __init__(self, tx, problems, released, found, violation, case, evidence, kind, confirmed, options, known_nodes):
        self.service, release_id = found
        self.name, self.plan, self.kind, self.decision = self.service["id"], None, None, None
        self.case_id = case or open_case_of(tx, self.name, violation)
        self.policy = problems.run(released.policy, self.service, release_id, self.case_id)
        if self.policy is None:
            return
        subject = Subject(self.service["location"], self.service["account_type"], self.service["addons"])
        history = ladder_history(tx, self.name, violation, self.case_id)
        catalogue = released.catalogue(release_id)

        def plan_of(noting, step, measure):
            given = {name: value for name, value in options.items() if name in OPTIONS.get(measure.enforcement, ())}
            trouble = _no_engine(catalogue, self.service, measure.enforcement, released.routers(*found, measure.enforcement))
            if trouble:
                noting.add(trouble, "service", "Name another alternative of the step, if it has one.")
                return None
            return requests.plan_measure(noting, released, measure.enforcement, found, violation, None, None,
                                         read_options(measure.enforcement, given, noting), step=(step, measure),
                                         case=self.case_id, known_nodes=known_nodes)

        def can(measure):
            noting = requests.Problems()
            plan_of(noting, _step_of(self.policy, violation, subject, measure), measure)
            return " ".join(dict.fromkeys(str(error) for error in noting.found)) or None

        decision = self.decision = problems.run(
            next_step, self.policy, violation, subject, history, evidence, tx.now, kind=kind, can=can, confirmed=confirmed)
        if decision is None:
            return
        if decision.action == NOTHING:
            if decision.number is not None and decision.measure is None:
                # None of its alternatives can be done: each says by its own rule why.
                for measure in decision.step.alternatives:
                    if kind in (None, measure.enforcement):
                        plan_of(problems, decision.step, measure)
            return
        self.kind = decision.measure.enforcement
        self.plan = plan_of(problems, decision.step, decision.measure)
        concerned = self.service["nodes"] + released.routers(self.service, release_id, self.kind)
        requests.check_known(concerned, known_nodes, problems, self.name)


def _step_of(policy, violation, subject, measure):
    return next(step for step in policy.violation(violation, *subject).ladder if measure in step.alternatives)


def _no_engine(catalogue, service, kind, routers):
    """Why a kind can't be carried out for a service where it lives, or None. Routers carry what a cluster can't."""
    for name in service["nodes"]:
        backend = catalogue["nodes"].get(name, {}).get("backend", "kvm")
        if kind not in ENGINES.get(backend, ()) and not (routers and backend == "proxmox"):
            return "%s is not carried out on node %s (%s)." % (kind, name, backend)
    return None


def _write(tx, released, steps, violation, case, note, evidence, break_glass, capped):
    due = [step for step in steps if step.plan is not None]
    vouched = sorted(name for name, is_so in evidence.items() if is_so)
    result = {"run_id": ROUTINE, "nodes": [], "enforcements": [], "proposals": [], "case_id": case, "changed": False,
              "what": [], "warnings": [], "decisions": []}
    concerned = set()
    if due:
        result["run_id"] = start_run(
            tx, "respond", {"violation": violation, "case": case, "note": note, "evidence": vouched, "break_glass": break_glass},
            services=[step.name for step in due])
        result["what"] += requests.note_exceeded(
            tx, result["run_id"], "respond", [step.plan for step in due], capped, break_glass)
    result["what"] += _open_cases(tx, due, violation, note)
    for step in steps:
        decision = step.decision
        result["what"].append("%s: %s" % (step.name, decision.why))
        result["what"] += ["  %s" % text for text in decision.passed]
        if step.plan is not None:
            done = _act(tx, step, violation, note, result) if decision.action == ACT else _propose(
                tx, step, violation, note, result)
            record_step(
                tx, service=step.name, case_id=step.case_id, violation=violation, step=decision.number + 1,
                action=decision.action, kind=step.kind, policy_key=step.policy.key, evidence=vouched, why=decision.why,
                subject_id=done["id"], note=note)
            result["changed"] = True
            if decision.action == ACT:
                concerned.update(released.provisioned(step.plan["service"]), step.plan["service"]["routers"])
        else:
            # What an earlier, killed run opened is carried out now.
            for held in active(tx, step.name):
                if held["case_id"] == step.case_id and held["status"] != "active":
                    concerned.update(held["snapshot"]["nodes"], held["snapshot"].get("routers") or ())
        if decision.ahead is not None or step.plan is not None:
            result["what"].append("  next: %s" % ahead_text(decision.ahead))
        result["case_id"] = result["case_id"] or step.case_id
        result["decisions"].append(_as_data(step))
    result["nodes"] = sorted(concerned & set(released.nodes))
    return result


def _open_cases(tx, due, violation, note):
    """Each case that is not open yet; services without one share a new one. Returns lines for people."""
    groups, lines = {}, []
    for step in due:
        groups.setdefault(step.case_id, []).append(step)
    for case_id, members in groups.items():
        first, alone = members[0], len(members) == 1
        opened = open_case(
            tx, case_id=case_id, service=first.name if alone else None, violation=violation, clause=first.plan["clause"],
            fault=first.plan["fault"], policy_key=first.policy.key, note=note,
            customer=first.service["customer"] if alone else None, fees=first.plan["fees"])
        if not opened["already"]:
            lines.append("case %s opened for %s, fault: %s" % (opened["id"], violation, opened["fault"]))
        for step in members:
            step.case_id = opened["id"]
    return lines


def _act(tx, step, violation, note, result):
    document = requests.open_planned(tx, step.plan, step.kind, step.case_id, violation, note)
    result["enforcements"].append(document)
    result["what"] += ["  %s" % enforcement_line(document), *step.plan["open_connections"]]
    result["what"] += requests.tell(tx, step.plan, document)
    others = [e for e in active(tx, step.name) if e["id"] != document["id"]]
    result["what"] += ["  held as well: %s; the strictest is in force" % enforcement_line(other) for other in others]
    return document


def _propose(tx, step, violation, note, result):
    terminate = step.kind == "terminate"
    document = propose(
        tx, service=step.name, kind=step.kind, case_id=step.case_id, violation=violation,
        persons=step.policy.guardrails.terminate_persons if terminate else 1,
        reason=step.plan["reason"], note=note, terms={name: step.plan[name] for name in _TERMS})
    result["proposals"].append(document)
    result["what"].append("  proposed: %s of %s (%s), nothing is done; %s carries it out: hosting.aup.respond -e proposal=%s" % (
        step.kind, step.name, document["id"], "another person" if terminate else "a person", document["id"]))
    return document


def _as_data(step):
    decision, ahead = step.decision, step.decision.ahead
    return {
        "service": step.name, "case": step.case_id, "action": decision.action, "kind": step.kind, "why": decision.why,
        "step": None if decision.number is None else decision.number + 1, "fault": decision.violation.fault,
        "waits_until": decision.waits_until, "passed": list(decision.passed),
        "next": None if ahead is None else {
            "step": ahead.number + 1, "kinds": list(ahead.kinds), "action": ahead.mode, "needs": ahead.needs,
            "earliest_at": ahead.earliest_at},
    }


def refuse_beside_proposal(**given):
    """What was proposed is done as it was proposed: nothing else is said beside it but note and break_glass.

    :raises InputError: names the input, which would have been passed over
    """
    for name, value in sorted(given.items()):
        if value not in (None, "", []):
            raise InputError("%s is given beside proposal." % name, target=name,
                             remedy="Leave it out: a proposal is carried out as it was made. For something else, enforce it by hand.")


def carry_out(tx, proposal, note=None, break_glass=None, known_nodes=None):
    """Do what was proposed, as a person. `terminate` needs another person than the one who proposed it.

    :param proposal: its id
    :returns: dict as that of `respond`
    """
    document = find_proposal(tx, proposal)
    if document is None:
        raise InputError("there is no open proposal %s." % proposal, target="proposal", remedy="hosting.aup.status lists them.")
    if document["kind"] == "terminate":
        return requests.hold(tx, "terminate", document["service"], document["violation"], case=document["case_id"], note=note,
                             break_glass=break_glass, known_nodes=known_nodes)
    problems, released = requests.Problems(), requests.Released(tx)
    found = problems.run(released.service, document["service"])
    problems.run(free_text, note, "note")
    trouble = case_problem(tx, document["case_id"], document["violation"])
    if trouble:
        problems.found.append(trouble)
    # Guardrails are asked again: much may have changed since. What was proposed without a word of open connections leaves them.
    given = dict({OPTION: "leave"} if document["kind"] in CHOOSING else {}, **(document["terms"] or {}).get("options") or {})
    plan = found and requests.plan_measure(
        problems, released, document["kind"], found, document["violation"], None, break_glass,
        given, case=document["case_id"], known_nodes=known_nodes)
    if found:
        concerned = found[0]["nodes"] + released.routers(*found, document["kind"])
        requests.check_known(concerned, known_nodes, problems, document["service"])
    problems.stop()
    plan.update(document["terms"] or {})
    asked = confirm(tx, proposal, note)
    run_id = start_run(tx, "respond", {"proposal": proposal, "note": note}, services=[document["service"]])
    result = {"run_id": run_id, "proposals": [asked], "enforcements": [], "case_id": document["case_id"], "changed": True,
              "what": ["%s of %s carried out as proposed (%s), asked for by %s" % (
                  document["kind"], document["service"], proposal, ", ".join(asked["by"]))],
              "warnings": [], "decisions": []}
    held = requests.open_planned(tx, plan, document["kind"], document["case_id"], document["violation"], note)
    result["enforcements"].append(held)
    result["what"].append(held["message"] if held["already"] else "  %s" % enforcement_line(held))
    result["what"] += [] if held["already"] else [*plan["open_connections"], *requests.tell(tx, plan, held)]
    result["nodes"] = sorted({*released.provisioned(plan["service"]), *plan["service"]["routers"]})
    return result
