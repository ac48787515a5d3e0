# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for an exemption, and deciding on what was asked. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text, parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import decide_request, pending_request, request_exemption
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemption_requests import request_line
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._values import free_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import (
    begin,
    check_exemption,
    exempt,
    service_names,
)


def ask(tx, service, control, reason=None, duration=None, requested_by=None, domain=None, checked=None):
    """Keep requests for exemptions from one control; nothing is let through yet.

    What the policy forbids is refused at once; what it has looked up is kept with the request, met or not.

    :param checked: {service: what of the policy's checks is not met}; see `_ledger_requests.checks_due`
    :returns: dict with nodes (none), requests, changed, what
    """
    problems, released = begin(tx)
    names = service_names(service, problems)
    if not isinstance(control, str) or not control:
        problems.add("control is missing.", "control", "Name it: -e control=smtp_outbound.")
        control = None
    if not reason:
        problems.add("reason is missing.", "reason", "Say what the customer wants it for; it is recorded.")
    for text, what in ((reason, "reason"), (requested_by, "requested_by"), (domain, "domain")):
        problems.run(free_text, text, what)
    seconds = problems.run(parse_duration, duration) if duration not in (None, "") else None
    for name in names:
        found = problems.run(released.service, name)
        policy = found and problems.run(released.policy, *found)
        terms = policy and control and problems.run(policy.exemption, control)
        if terms:
            check_exemption(problems, policy, terms, seconds)
    problems.stop()
    requests = [
        request_exemption(tx, service=name, control=control, reason=reason, asked_by=requested_by, domain=domain, seconds=seconds,
                          unmet=(checked or {}).get(name))
        for name in names
    ]
    return {
        "run_id": None, "nodes": [], "exemptions": [], "requests": [_shown(one) for one in requests], "warnings": [],
        "changed": any(not one["already"] for one in requests), "what": [request_line(one) for one in requests],
    }


def _named(tx, request):
    if not request:
        raise InputError("request is missing.", target="request", remedy="Name it, like Q-3; hosting.aup.status lists those that wait.")
    return pending_request(tx, request)


def approve(tx, request, approved_by=None, waive=None, checked=None, known_nodes=None):
    """Give what was asked for, for as long as it was asked, under the policy as it binds now."""
    asked = _named(tx, request)
    done = exempt(
        tx, [asked["service"]], asked["control"], asked["reason"], duration_text(asked["seconds"]) if asked["seconds"] else None,
        known_nodes=known_nodes, approved_by=approved_by, waive=waive, checked=checked)
    after = decide_request(tx, request_id=asked["id"], exemption_id=done["exemptions"][0]["id"],
                           note="approved by %s" % approved_by if approved_by else None)
    return dict(done, requests=[_shown(after)], changed=True, what=["request %s is approved" % asked["id"], *done["what"]])


def deny(tx, request, reason=None):
    """Refuse what was asked for."""
    asked = _named(tx, request)
    if not reason:
        raise InputError("reason is missing.", target="reason", remedy="Say why it is denied; it is recorded.")
    after = decide_request(tx, request_id=asked["id"], note=reason)
    return {"run_id": None, "nodes": [], "exemptions": [], "requests": [_shown(after)], "warnings": [], "changed": True,
            "what": ["request %s of %s for %s is denied" % (asked["id"], asked["service"], asked["control"])]}


def _shown(document):
    return {name: value for name, value in document.items() if name not in ("reason", "asked_by")}
