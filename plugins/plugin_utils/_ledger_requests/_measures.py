# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holding one service means by its policy, whether that can be, and what follows from it. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils import _open_connections
from ansible_collections.hosting.aup.plugins.module_utils._guard import check_duration, check_enforcement, check_not_anothers, check_remotes
from ansible_collections.hosting.aup.plugins.module_utils._routers import ACTS_ON_PORTS, ACTS_ON_ROUTERS, PORT_PLATFORMS, is_dedicated
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import complete_options
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import exceed, find_case, open_enforcement
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._exemptions import strike
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._queue import queue_for_measure


def _on_open_connections(released, found, options, known_nodes):
    """(names of routers, lines for people): who ends connections that are open when a block begins on a cluster.

    Nothing here refuses the block: it must not fail to happen because of what is to happen beside it.

    :param options: those of the enforcement; what says nothing where the service lives is taken out
    """
    clusters = released.clusters(*found)
    if not clusters:
        options.pop(_open_connections.OPTION, None)
    if options.get(_open_connections.OPTION) != "null_route":
        return [], []
    if all(clusters.values()):
        return [], ["  open connections: no null route, as the rules on the nodes of %s end them" % ", ".join(sorted(clusters))]
    routers = released.routers(*found, "null_route")
    absent = [name for name in routers if known_nodes is not None and name not in known_nodes]
    routers = [name for name in routers if name not in absent]
    lines = ["  gap: router %s is not in the inventory, so it null-routes nothing: open connections by way of it go on" % name for name in absent]
    if routers:
        return routers, lines + ["  open connections: %s null-route%s all of its addresses for %d minutes, then reconcile ends that" % (
            ", ".join(routers), "s" if len(routers) == 1 else "", _open_connections.NULL_ROUTE_SECONDS // 60)]
    return [], lines or ["  gap: no provisioned router of %s could null-route it, so open connections go on" % found[0]["location"]]


def plan_measure(problems, released, kind, found, violation, seconds, break_glass, given, step=None, case=None, known_nodes=None):
    """What holding one service means by its policy; None when something is wrong, which is then noted.

    :param known_nodes: the inventory's, or None
    :param step: (LadderStep, Measure) of the ladder, when it is known which one is meant
    """
    service, release_id = found
    policy = problems.run(released.policy, service, release_id, case)
    terms = policy and problems.run(policy.enforcement, kind)
    subject = service["location"], service["account_type"], service["addons"]
    named = terms and problems.run(policy.violation, violation, *subject)
    if not named:
        return None
    if named.allowed:
        problems.add(allowed_text(named, service), "violation", "Nothing is to be held for it here.")
        return None
    measure = step[1] if step is not None else policy.measure(violation, kind, *subject)
    if seconds is not None:
        until, length = "time", seconds
    elif measure is not None:
        until, length = measure.until, measure.seconds
    else:
        until, length = ("time", terms.default_seconds) if terms.default_seconds else ("decision", None)
    problems.run(check_duration, policy, kind, length)
    catalogue = released.catalogue(release_id)
    addresses = [node["address"] for node in catalogue["nodes"].values() if _is_address(node.get("address"))]
    addresses += [prefix for node in catalogue["nodes"].values() for prefix in (node.get("router") or {}).get("protected", ())]
    problems.run(check_enforcement, policy, service, catalogue["prefixes"], kind, addresses)
    problems.run(check_not_anothers, service, kind, catalogue["services"])
    if kind == "drop":
        problems.run(check_remotes, policy, given.get("sources", ()), catalogue["prefixes"], addresses)
        _check_drop_can(problems, service, catalogue, released.routers(service, release_id, kind))
    _check_ports_can(problems, kind, service, catalogue)
    sparing = _sparing(named, kind, service)
    if sparing and (not break_glass or kind == "terminate"):
        problems.add(
            "the add-on %s of service %s spares it from %s for %s (policy %s, violations.%s.ladder)."
            % (", ".join(sparing), service["id"], kind, violation, policy.key, violation),
            "service",
            "Use another enforcement of that ladder, or say why with break_glass: the reason is recorded.",
        )
    options = dict(terms.options, **(measure.options if measure is not None else {}))
    options.update(given)
    problems.run(complete_options, kind, options, policy.key)
    beside, lines = _on_open_connections(released, found, options, known_nodes)
    clauses = [one.clause for one in named.ladder if any(m.enforcement == kind for m in one.alternatives)]
    clause = step[0].clause if step is not None else clauses[0] if clauses else named.clause
    return {
        "service": dict(service, routers=released.routers(service, release_id, kind) + beside),
        "open_connections": lines,
        "policy": policy,
        "until": until,
        "seconds": length,
        "review": measure.review_seconds if measure is not None and seconds is None else None,
        "options": options,
        "clause": clause,
        "fault": named.fault,
        "fees": fees_of(policy, named),
        "reason": named.summary or policy.clause_summary(clause) or violation,
        "on_ladder": measure is not None,
        "spared_by": sparing,
        "named": named,
    }


def _check_ports_can(problems, kind, service, catalogue):
    """Note what can't be done to a dedicated server: there is no guest, and not every router acts on ports."""
    if not is_dedicated(service) or kind in ACTS_ON_ROUTERS:
        return
    if kind not in ACTS_ON_PORTS:
        problems.add("not_supported: %s acts on a guest, and service %s is a dedicated server." % (kind, service["id"]), "service",
                     "Use one of %s." % ", ".join(sorted(ACTS_ON_PORTS | ACTS_ON_ROUTERS)))
        return
    for port in service["ports"]:
        platform = catalogue["nodes"][port["router"]]["router"]["platform"]
        if kind not in PORT_PLATFORMS.get(platform, ()):
            problems.add(
                "not_supported: %s of service %s, as router %s (%s) can't carry it on a port." % (kind, service["id"], port["router"], platform),
                "service", "Use null_route, or do it on the router by hand; docs/routers.md lists what each platform does.")


def _check_drop_can(problems, service, catalogue, routers):
    """Note a drop that nobody could carry out: no KVM host, and no router of the location whose platform has it."""
    if routers or any(catalogue["nodes"].get(name, {}).get("backend", "kvm") == "kvm" for name in service["nodes"]):
        return
    problems.add(
        "not_supported: drop of service %s, as it lives on no KVM host and no router of %s carries drops." % (service["id"], service["location"]),
        "service", "Use null_route, or block the addresses on the router by hand; docs/routers.md lists what each platform does.")


def fees_of(policy, violation):
    """`{name: fee}` that a violation may cost, as its policy has them."""
    return {name: policy.fee(name) for name in violation.fees}


def allowed_text(named, service):
    """Why there is no case: what happened is allowed where the service is."""
    return "%s is allowed for service %s by clause %s (%s)." % (
        named.name,
        service["id"],
        named.clause,
        named.reason,
    )


def _is_address(text):
    """False for a node reached by name: names are not resolved here."""
    try:
        return bool(ipaddress.ip_address(text or ""))
    except ValueError:
        return False


def _sparing(violation, kind, service):
    """The service's add-ons because of which every step of the ladder with this kind leaves it alone."""
    steps = [step for step in violation.ladder if any(m.enforcement == kind for m in step.alternatives)]
    spared = [sorted(set(step.unless) & set(service["addons"])) for step in steps]
    return spared[0] if spared and all(spared) else []


def note_exceeded(tx, run_id, kind, plans, capped, break_glass):
    """Put on record that guardrails were exceeded, for somebody else to review. Returns lines for people."""
    rules = ["%s, guardrails.max_services_per_run" % plan["policy"].key for plan in plans if capped]
    rules += ["%s, spared by %s" % (plan["policy"].key, ", ".join(plan["spared_by"])) for plan in plans if plan["spared_by"]]
    if not rules:
        return []
    rules = sorted(set(rules))
    name = exceed(tx, run_id=run_id, kind=kind, services=[plan["service"]["id"] for plan in plans], rules=rules,
                  reason=break_glass)
    return ["%s: exceeds %s; stays in status until another person reviews it (hosting.aup.review)" % (name, "; ".join(rules))]


def open_planned(tx, plan, kind, case_id, violation, note):
    """Open the enforcement that a plan means."""
    return open_enforcement(
        tx,
        service_doc=plan["service"],
        policy_key=plan["policy"].key,
        kind=kind,
        case_id=case_id,
        violation=violation,
        clause=plan["clause"],
        reason=plan["reason"],
        starts_at=tx.now,
        ends_at=None if plan["seconds"] is None else tx.now + plan["seconds"],
        until=plan["until"],
        review_at=None if plan["review"] is None else tx.now + plan["review"],
        options=plan["options"],
        note=note,
    )


def tell(tx, plan, document):
    """What follows from a measure just opened: the notice it owes, and exemptions it costs. Returns lines for people."""
    case = find_case(tx, document["case_id"])
    return strike(
        tx, plan["policy"], document["service"], case["id"], document["violation"], plan["clause"], case["fault"]
    ) + notice_lines(queue_for_measure(tx, plan["policy"], plan["named"], document))


def notice_lines(notice):
    """What was put into the outbox, for people."""
    if notice is None or notice["already"]:
        return []
    waits = {"held": "is held back until a person releases it", "waiting": "goes out once the measure is seen in force"}
    return ["  notice %s (%s) %s" % (notice["id"], notice["name"], waits.get(notice["status"], "waits to be sent: hosting.aup.notices"))]
