# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving exemptions and taking them back. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import PERMITS
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    add_exemption,
    decide_request,
    exemption_requests,
    exemptions_of,
    revoke_exemption,
    start_run,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._values import free_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._problems import Problems, service_names
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._released import Released, begin, check_known


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
    problems, released = begin(tx)
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
        what += _given_lines(document, policy, terms, approver, waive)
    return {
        "run_id": run_id,
        "nodes": _nodes_with(released, names),
        "exemptions": exemptions,
        "changed": any(not document["already"] for document in exemptions),
        "what": what,
        "warnings": [],
    }


def _given_lines(document, policy, terms, approver, waive):
    """What an exemption just given says, for people."""
    if document["already"]:
        return [document["message"]]
    what = ["exemption %s of %s from %s until %s (policy %s, clause %s)" % (
        document["id"], document["service"], terms.control, iso(document["ends_at"]) or "it is revoked", policy.key, terms.clause or "none")]
    what.append("  approved by %s%s" % (approver, " (policy: %s)" % terms.approver if terms.approver else ""))
    what += ["  required by the policy: %s" % text for text in terms.requires]
    if terms.checks:
        what.append("  %s: %s" % (", ".join(terms.checks), "waived: %s" % waive if waive else "checked in DNS"))
    if terms.control in PERMITS:
        what.append("  it is on record and relaxes no control")
    return what


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
