# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask of the ledger: checked, then written. PRIVATE to the collection.

Every function takes a transaction and plain values, collects all that is wrong with them into one error,
and writes only when nothing is.
"""

from __future__ import annotations

import difflib
import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._errors import (
    AupError,
    CatalogueError,
    InputError,
    PolicyError,
)
from ansible_collections.hosting.aup.plugins.module_utils._guard import (
    check_count,
    check_duration,
    check_enforcement,
    check_not_anothers,
    check_remotes,
)
from ansible_collections.hosting.aup.plugins.module_utils import _open_connections
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import PERMITS
from ansible_collections.hosting.aup.plugins.module_utils._resolve import policy_of, versions_of
from ansible_collections.hosting.aup.plugins.module_utils._routers import (
    ACTS_ON_PORTS,
    ACTS_ON_ROUTERS,
    PORT_PLATFORMS,
    carries,
    is_dedicated,
    routers_of,
)
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration
from ansible_collections.hosting.aup.plugins.module_utils._versions import announced_seconds, effective_at, version_at
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import (
    check_not_older,
    check_shrink,
    technical_slice,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import (
    NAMES as OPTION_NAMES,
    complete_options,
    read_options,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    add_exemption,
    case_problem,
    create_release,
    current_release,
    decide_request,
    end_due,
    exceed,
    exemption_requests,
    exemptions_of,
    expire_exemptions,
    find_case,
    find_node,
    known_services,
    lift,
    nodes,
    open_case,
    open_enforcement,
    policy_released,
    proposals,
    propose,
    release_contents,
    revoke_exemption,
    start_run,
    withdraw,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import KINDS, nodes_concerned
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._runs import ROUTINE
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._values import free_text
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._deadlines import pass_deadlines
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._queue import queue_for_measure, queue_for_report, queue_for_version
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._diff import concerned_services, diff_lines, difference, lines_for
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import enforcement_line


_GROUPS = {"kvm": "aup_kvm_nodes", "proxmox": "aup_proxmox_clusters"}  # of the inventory; a router may be left out of it
MOST_CHANGES = 30  # lines about a new version in one summary


class Problems:
    """What is wrong with the inputs, all of it, before anything is touched."""

    def __init__(self):
        self.found = []

    def add(self, message, target, remedy=None):
        """Note one problem."""
        self.found.append(InputError(message, target=target, remedy=remedy))

    def run(self, function, *arguments, **named):
        """The function's result, or None when it refused: then its error is noted."""
        try:
            return function(*arguments, **named)
        except AupError as exc:
            self.found.append(exc)
            return None

    def stop(self):
        """Raise all problems as one error, if there are any."""
        if not self.found:
            return
        first = self.found[0]
        if len(self.found) == 1:
            raise first
        texts = list(dict.fromkeys(str(error) for error in self.found))
        raise type(first)(
            "%d inputs are wrong, nothing was changed:\n%s"
            % (len(texts), "\n".join("- %s" % t for t in texts)),
            target=first.target,
            code=first.code,
        )


def service_names(value, problems):
    """Service ids from what was given: one, a list, or several with commas between. Each once, in order."""
    parts = value if isinstance(value, list) else [value]
    names = []
    for part in parts:
        if not isinstance(part, (str, int)) or isinstance(part, bool):
            problems.add("service %r is not a service's id." % (part,), "service")
            continue
        names += [name for name in str(part).replace(",", " ").split() if name]
    if not names and not problems.found:
        problems.add("service is missing.", "service", "Name it: -e service=<id>, or a list.")
    return list(dict.fromkeys(names))


class Released:
    """Services and policies as the nodes carry them now: each service by its own nodes' present release."""

    def __init__(self, tx):
        self.tx = tx
        self.nodes = {
            node["name"]: node["release_id"] for node in nodes(tx) if node["release_id"] is not None
        }
        self._releases = {}
        for release_id in sorted(set(self.nodes.values()), reverse=True):
            release, policies, catalogue = release_contents(tx, release_id)
            self._releases[release_id] = (release, policies, catalogue)
        self._policies = {}

    def any(self):
        """Whether anything was provisioned at all.

        :raises InputError: nothing was
        """
        if not self._releases:
            raise InputError(
                "no node carries a release yet.", target="ledger", remedy="Run hosting.aup.provision."
            )

    def service(self, name):
        """(service document, release id) by the release that one of its nodes carries.

        :raises InputError: unknown, or on no provisioned node
        """
        elsewhere = None
        for release_id, (_release, _policies, catalogue) in self._releases.items():
            service = catalogue["services"].get(name)
            if service is None:
                continue
            if any(self.nodes.get(node) == release_id for node in service["nodes"]):
                return service, release_id
            elsewhere = service
        if elsewhere is not None:
            raise InputError(
                "service %s lives on %s, which was not provisioned with it."
                % (name, ", ".join(elsewhere["nodes"])),
                target="service",
                remedy="Run hosting.aup.provision for that node first.",
            )
        known = {one for _r, _p, catalogue in self._releases.values() for one in catalogue["services"]}
        near = difflib.get_close_matches(name, known, n=3)
        raise InputError(
            "service %r is not in the released catalogue." % name,
            target="service",
            remedy=(
                "Did you mean %s?" % " or ".join(near)
                if near
                else "Check the id, or provision the new catalogue."
            ),
        )

    def policy(self, service, release_id, case_id=None):
        """The Policy that binds a service now; in an open case, the version that it was opened under.

        :param case_id: of the case, or None; one that is not there yet changes nothing
        """
        release, documents, _catalogue = self._releases[release_id]
        policy = policy_of(
            {key: self._policy(documents[key]) for key in documents}, release, service, self.tx.now
        )
        case = find_case(self.tx, str(case_id)) if case_id else None
        if case is None or case["policy_key"] in (None, policy.key) or case["policy_key"].partition("@")[0] != policy.name:
            return policy
        document = documents.get(case["policy_key"]) or policy_released(self.tx, case["policy_key"])
        return policy if document is None else self._policy(document)

    def _policy(self, document):
        key = "%s@%s" % (document["name"], document["version"])
        found = self._policies.get(key)
        if found is None or found.document != document:
            found = self._policies[key] = Policy.from_released(document)
        return found

    def catalogue(self, release_id):
        """The catalogue document of a release."""
        return self._releases[release_id][2]

    def provisioned(self, service):
        """The service's nodes that carry a release, sorted."""
        return sorted(name for name in service["nodes"] if name in self.nodes)

    def routers(self, service, release_id, kind):
        """Provisioned routers of the service's location, if this kind of enforcement acts on routers."""
        if kind not in ACTS_ON_ROUTERS:
            return []
        catalogue = self.catalogue(release_id)
        return [name for name in routers_of(catalogue, service["location"])
                if name in self.nodes and carries(catalogue["nodes"][name], kind)]

    def clusters(self, service, release_id):
        """The service's nodes that are clusters: `{name: whether rules on its nodes are ours to set}`."""
        described = self.catalogue(release_id)["nodes"]
        return {name: bool((described[name].get("proxmox") or {}).get("hosts"))
                for name in service["nodes"] if described.get(name, {}).get("backend") == "proxmox"}


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


def check_known(names, known_nodes, problems, service):
    """Note nodes that the inventory lacks: a service held on some of its nodes would be half held."""
    if known_nodes is None:
        return
    for name in names:
        if name not in known_nodes:
            problems.add(
                "node %s of service %s is not in the inventory (groups aup_kvm_nodes, aup_proxmox_clusters, aup_routers)." % (name, service),
                "service",
                "Add it to the inventory: holding a service on some of its nodes would be half a hold.",
            )


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
    problems, released = Problems(), Released(tx)
    problems.run(released.any)
    problems.stop()
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
        problems.add(_allowed(named, service), "violation", "Nothing is to be held for it here.")
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


def _allowed(named, service):
    """Why there is no case: what happened is allowed where the service is."""
    return "%s is allowed for service %s by clause %s (%s)." % (
        named.name,
        service["id"],
        named.clause,
        named.reason,
    )


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
            kept = plan["options"].get("keep_data")
            if kept:
                plan["options"]["retention_ends_at"] = tx.now + parse_duration(kept)
                what.append(
                    "  its disks are kept until %s, and nothing of ours deletes them then"
                    % iso(plan["options"]["retention_ends_at"])
                )
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
        what += [enforcement_line(document), *plan["open_connections"]]
        if not plan["on_ladder"]:
            what.append(
                "  policy %s does not list %s for %s: done by the operator's decision"
                % (plan["policy"].key, kind, violation)
            )
        what += tell(tx, plan, document)
        others = [e for e in active(tx, document["service"]) if e["id"] != document["id"]]
        what += [
            "  held as well: %s; the strictest is in force" % enforcement_line(other) for other in others
        ]
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


def exempt(
    tx, service, control, reason=None, duration=None, state="present", known_nodes=None, verb="exempt",
    approved_by=None, waive=None, checked=None,
):
    """Record or revoke exemptions of services from one control, as far as the policy allows them.

    :param control: a control, or a permission that is only recorded
    :param approved_by: the person who approved; whoever asks, when left out
    :param waive: reason for giving it although a check in DNS failed
    :param checked: {service: what of the policy's checks is not met}; see `checks_due`
    :returns: dict with run_id, nodes, exemptions, changed, what
    """
    problems, released = Problems(), Released(tx)
    problems.run(released.any)
    problems.stop()
    names = service_names(service, problems)
    if not isinstance(control, str) or not control:
        problems.add("control is missing.", "control", "Name it: -e control=smtp_outbound.")
        control = None
    if state not in ("present", "revoked"):
        problems.add("state %r is not known." % (state,), "state", "Use present or revoked.")
    if state == "present" and not reason:
        problems.add("reason is missing.", "reason", "Say why the exemption is given; it is recorded.")
    seconds = problems.run(parse_duration, duration) if duration not in (None, "") else None
    plans = []
    for name in names:
        if state == "revoked":
            plans.append((name, None, None))
            continue
        found = problems.run(released.service, name)
        policy = found and problems.run(released.policy, *found)
        terms = policy and control and problems.run(policy.exemption, control)
        if terms:
            check_exemption(problems, policy, terms, seconds)
            if terms.allowed and terms.checks and not waive:
                _check_preconditions(problems, name, terms, checked)
            check_known(found[0]["nodes"], known_nodes, problems, name)
            plans.append((name, policy, terms))
    problems.stop()
    problems.run(free_text, waive, "waive")
    approver = problems.run(free_text, approved_by, "approved_by") or (tx.actor or {}).get("name") or ""
    problems.stop()
    run_id = start_run(tx, verb, {"control": control, "reason": reason, "state": state}, services=names)
    if state == "revoked":
        return _revoked(tx, released, names, control, reason, run_id, known_nodes)
    exemptions, what = [], []
    for name, policy, terms in plans:
        document = add_exemption(
            tx,
            service=name,
            control=control,
            clause=terms.clause,
            reason=reason,
            ends_at=None if seconds is None else tx.now + seconds,
            note="; ".join(["approved by %s" % approver, *(["checks waived: %s" % waive] if waive and terms.checks else [])]),
        )
        exemptions.append(document)
        what.append(
            document["message"]
            or "exemption %s of %s from %s until %s (policy %s, clause %s)"
            % (
                document["id"],
                name,
                control,
                iso(document["ends_at"]) or "it is revoked",
                policy.key,
                terms.clause or "none",
            )
        )
        if not document["already"]:
            what.append("  approved by %s%s" % (approver, " (policy: %s)" % terms.approver if terms.approver else ""))
            what += ["  required by the policy: %s" % text for text in terms.requires]
            if terms.checks:
                what.append("  %s: %s" % (", ".join(terms.checks), "waived: %s" % waive if waive else "checked in DNS"))
            if control in PERMITS:
                what.append("  it is on record and relaxes no control")
    return {
        "run_id": run_id,
        "nodes": _nodes_with(released, names),
        "exemptions": exemptions,
        "changed": any(not document["already"] for document in exemptions),
        "what": what,
        "warnings": [],
    }


def checks_due(tx, service, control):
    """What must be looked up in DNS before an exemption: {service id: (service, checks)}; wrong inputs are left to `exempt`."""
    problems, released = Problems(), Released(tx)
    due = {}
    for name in service_names(service, problems):
        found = problems.run(released.service, name)
        policy = found and problems.run(released.policy, *found)
        terms = policy and isinstance(control, str) and problems.run(policy.exemption, control)
        if terms and terms.allowed and terms.checks:
            due[name] = found[0], terms.checks
    return due


def _check_preconditions(problems, name, terms, checked):
    unmet = (checked or {}).get(name)
    if unmet is None:
        problems.add("%s of service %s was not checked in DNS." % (", ".join(terms.checks), name), "service",
                     "Use hosting.aup.exempt, or say with waive why it is given all the same.")
    elif unmet:
        problems.add(
            "service %s does not meet what an exemption from %s asks for: %s (%s)." % (name, terms.control, "; ".join(unmet), terms.reason),
            "service", "Have it put in order, or say with waive why it is given all the same; the reason is recorded.")


def strike(tx, policy, service, case_id, violation, clause, fault):
    """Take back the exemptions that a case costs its customer, and deny those asked for. Returns lines for people.

    Those resting on the clause of the case, and those that the policy says this violation revokes; only where the
    fault is the customer's.
    """
    if fault != "customer":
        return []
    lines = []
    for exemption in exemptions_of(tx, service):
        try:
            revoked_by = policy.exemption(exemption["control"]).revoked_by
        except PolicyError:
            revoked_by = ()  # a control that this collection no longer knows
        if violation in revoked_by or clause is not None and exemption["clause"] == clause:
            revoke_exemption(tx, exemption_id=exemption["id"], reason="strike: case %s, %s" % (case_id, violation))
            lines.append("  exemption %s of %s from %s is revoked by this" % (exemption["id"], service, exemption["control"]))
    for asked in exemption_requests(tx):
        try:
            terms = policy.exemption(asked["control"])
        except PolicyError:
            continue
        if asked["service"] == service and (violation in terms.revoked_by or clause is not None and terms.clause == clause):
            decide_request(tx, request_id=asked["id"], note="strike: case %s, %s" % (case_id, violation))
            lines.append("  request %s of %s for %s is denied by this" % (asked["id"], service, asked["control"]))
    return lines


def check_exemption(problems, policy, terms, seconds):
    """Note where the policy allows no such exemption, or none for so long."""
    if not terms.allowed:
        problems.add(
            "%s may not be relaxed for a service (%s)." % (terms.control, terms.reason),
            "control",
            "Another policy version would have to allow it.",
        )
    elif terms.max_seconds is not None and (seconds is None or seconds > terms.max_seconds):
        problems.add(
            "an exemption from %s ends after at most %d days (%s)."
            % (terms.control, terms.max_seconds // 86400, terms.reason),
            "duration",
            "Give a duration within that, like 90d.",
        )


def _nodes_with(released, names):
    concerned = set()
    for name in names:
        try:
            service, _release = released.service(name)
        except InputError:
            continue  # it left the catalogue: no node has it any more
        concerned.update(released.provisioned(service))
    return sorted(concerned)


def _revoked(tx, released, names, control, reason, run_id, known_nodes):
    exemptions, what = [], []
    for name in names:
        found = revoke_exemption(tx, service=name, control=control, reason=reason)
        exemptions += found
        what += ["revoked: exemption %s of %s from %s" % (e["id"], name, control) for e in found] or [
            "%s has no exemption from %s" % (name, control)
        ]
    concerned = _nodes_with(released, names)
    return {
        "run_id": run_id,
        "nodes": [n for n in concerned if known_nodes is None or n in known_nodes],
        "exemptions": exemptions,
        "changed": bool(exemptions),
        "what": what,
        "warnings": [],
    }


def check_services(catalogue, policies, release):
    """Refuse a catalogue with services whose location, account type or policy their policy does not know.

    :param policies: {key: Policy}
    :raises CatalogueError: lists the first 20
    """
    problems = []
    for name, service in sorted(catalogue["services"].items()):
        try:
            versions = versions_of(policies, release, service.get("policy"))
        except PolicyError as exc:
            problems.append("service %s: %s" % (name, exc.message))
            continue
        for policy in versions:
            if service["location"] not in policy.locations:
                problems.append(
                    "service %s: location %r is not declared by policy %s (%s)."
                    % (name, service["location"], policy.key, ", ".join(sorted(policy.locations)))
                )
            if service["account_type"] not in policy.account_types:
                problems.append(
                    "service %s: account type %r is not declared by policy %s (%s)."
                    % (name, service["account_type"], policy.key, ", ".join(sorted(policy.account_types)))
                )
    if problems:
        more = "" if len(problems) <= 20 else "\nand %d more" % (len(problems) - 20)
        raise CatalogueError(
            "catalogue and policy do not fit:\n%s%s"
            % ("\n".join("- %s" % text for text in problems[:20]), more),
            target="aup_catalogue",
            remedy="Declare it in the policy, or correct the service.",
        )


def retire(tx, node, known_nodes=None):
    """Check that a node can be retired, and begin the run that does it."""
    problems = Problems()
    present = find_node(tx, node) if isinstance(node, str) else None
    if present is None or present["release_id"] is None:
        problems.add("node %r carries no release." % (node,), "node", "hosting.aup.status lists the nodes.")
    elif known_nodes is not None and node not in known_nodes:
        problems.add(
            "node %s is not in the inventory (group aup_kvm_nodes)." % node, "node", "Add it to retire it."
        )
    problems.stop()
    held = [e for e in active(tx) if node in nodes_concerned(e)]
    run_id = start_run(tx, "retire", {"node": node})
    what = ["retire node %s" % node]
    what += ["  it gives back: %s" % enforcement_line(document) for document in held]
    return {"run_id": run_id, "nodes": [node], "changed": True, "what": what, "warnings": []}


def check_amendments(tx, present, policies, accept_unannounced, problems):
    """Note versions that come into force sooner than was promised, or later than the last one that was named.

    :param present: the newest release, or None
    :returns: what each new version changes, as lines for people
    """
    if present is None:
        return []
    lines = []
    _release, documents, _catalogue = release_contents(tx, present["id"])
    known = {key: Policy.from_released(document) for key, document in documents.items()}
    for key, new in sorted(policies.items()):
        before = [policy for policy in known.values() if policy.name == new.name]
        if key in known:
            if announced_seconds(known[key]) and not accept_unannounced and _material(difference(known[key], new)):
                problems.add(
                    "policy %s was released with other words, and promises to tell of material changes." % key, "aup_policy",
                    "Give the change a version of its own; or, where nobody is worse off, -e aup_accept_unannounced=true.")
            continue
        if not before:
            continue
        old = version_at(before, tx.now)
        found = difference(old, new)
        changed = diff_lines(found)
        lines += ["%s, in force from %s:" % (changed[0], new.effective), *("  %s" % line for line in changed[1:MOST_CHANGES])]
        lines += ["  and %d more: hosting.aup.policy_diff" % (len(changed) - MOST_CHANGES)] if len(changed) > MOST_CHANGES else []
        others = [policy for policy in policies.values() if policy.name == new.name]
        if effective_at(new) > tx.now and all(effective_at(policy) > tx.now for policy in others):
            problems.add(
                "policy %s is in force only from %s, and no version that is in force until then is named." % (key, new.effective),
                "aup_policy", "Name %s as well: aup_policy is a list then." % old.key)
        told = announced_seconds(old)
        if told and not accept_unannounced and effective_at(new) < tx.now + told and _material(found):
            problems.add(
                "policy %s comes into force on %s, and %s promises to tell of material changes %d days ahead."
                % (key, new.effective, old.key, told // 86400),
                "aup_policy", "Set effective to %s or later; or, where nobody is worse off, -e aup_accept_unannounced=true."
                % iso(tx.now + told + 86399)[:10])
    return lines


def announce(tx, present, policies, catalogue):
    """Queue the notices of versions that the release before did not have, to the customers they concern. Lines for people.

    :param present: the release before, or None
    :param policies: {key: Policy} of the new release
    :param catalogue: the whole catalogue
    """
    if present is None:
        return []
    release, documents, before = release_contents(tx, present["id"])
    known = {key: Policy.from_released(document) for key, document in documents.items()}
    lines, pending = [], len(tx.pending)
    for key, new in sorted(policies.items()):
        versions = [policy for policy in known.values() if policy.name == new.name]
        if not versions or key in known:
            continue
        old = version_at(versions, tx.now)
        found = difference(old, new)
        if not _material(found):
            continue
        services = {name: one for name, one in catalogue["services"].items() if name in before["services"]}
        rows = concerned_services(found, new, old, release, known, {"services": services})
        notices = queue_for_version(tx, old, new, rows, services, lambda own, found=found: lines_for(found, own))
        if notices:
            lines.append("  %d notices of %s to customers wait to be sent: hosting.aup.notices" % (len(notices), key))
    # A check run's nodes replay what is pending. None of their plans depends on a notice, and there may be thousands.
    del tx.pending[pending:]
    return lines


def _material(found):
    return any(found[part] for part in ("controls", "violations", "fees", "exemptions"))


def release_files(
    tx, default, policies, catalogue, accept_shrink=False, accept_older=False, known_nodes=None, accept_unannounced=False
):
    """Release policies and catalogue, after all checks against what was released before.

    :param default: the Policy for services that name none
    :param policies: {key: Policy}
    :param catalogue: the whole catalogue document; what is personal in it does not go into the release
    :returns: dict with run_id, release_id, release, nodes, services, changed, what, warnings
    """
    problems = Problems()
    present = current_release(tx)
    before = release_contents(tx, present["id"])[2] if present else None
    limit = 1.0 if accept_shrink else default.guardrails.catalogue_shrink_percent / 100.0
    problems.run(check_shrink, before, catalogue, limit)
    if not accept_older:
        problems.run(check_not_older, before, catalogue)
    wanted = {"id": "to be made", "default_policy": default.key}
    problems.run(check_services, catalogue, policies, wanted)
    changes = check_amendments(tx, present, policies, accept_unannounced, problems)
    problems.stop()
    run_id = start_run(tx, "provision", {"policies": sorted(policies), "default": default.key})
    documents = {key: policy.document for key, policy in policies.items()}
    release = create_release(tx, documents, default.key, technical_slice(catalogue))
    told = announce(tx, present, policies, catalogue)
    names = sorted(catalogue["nodes"])
    outside = [] if known_nodes is None else sorted(set(names) - set(known_nodes))
    warnings = [
        "node %s of the catalogue is not in the inventory (group %s): not provisioned." % (name, _GROUPS[catalogue["nodes"][name]["backend"]])
        for name in outside
        if catalogue["nodes"][name]["backend"] in _GROUPS
    ]
    what = [
        "release %d: %s, %d services on %d nodes%s"
        % (
            release["id"],
            ", ".join(release["policy_keys"]),
            release["services"],
            release["nodes"],
            "" if release["created"] else " (as before)",
        )
    ] + changes + told
    return {
        "run_id": run_id,
        "release_id": release["id"],
        "release": release,
        "nodes": [name for name in names if name not in outside],
        "services": release["services"],
        "changed": release["created"],
        "what": what + warnings,
        "warnings": warnings,
    }


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


def report_case(tx, case=None, service=None, violation=None, note=None):
    """Open a case without holding anything yet."""
    problems, released = Problems(), Released(tx)
    problems.run(released.any)
    problems.stop()
    found = problems.run(released.service, service) if service else None
    if not service:
        problems.add("service is missing.", "service", "Name the service the case is about.")
    policy = found and problems.run(released.policy, *found, case)
    if not violation:
        problems.add("violation is missing.", "violation", "Name one that the policy lists.")
    subject = (found[0]["location"], found[0]["account_type"], found[0]["addons"]) if found else ()
    named = policy and violation and problems.run(policy.violation, violation, *subject)
    if named and named.allowed:
        problems.add(_allowed(named, found[0]), "violation", "There is no case to open for it here.")
    problems.stop()
    document = open_case(
        tx,
        case_id=str(case) if case else None,
        service=service,
        violation=violation,
        clause=named.clause,
        fault=named.fault,
        policy_key=policy.key,
        note=note,
        customer=found[0]["customer"],
        fees=fees_of(policy, named),
    )
    state = "is open already" if document["already"] else "opened"
    notice = queue_for_report(tx, policy, named, service, document)
    struck = strike(tx, policy, service, document["id"], violation, document["clause"], document["fault"])
    return {
        "case": document,
        "notice": notice,
        "changed": not document["already"] or bool(struck) or bool(notice and not notice["already"]),
        "what": ["case %s %s: %s of %s" % (document["id"], state, violation, service), *struck, *notice_lines(notice)],
    }
