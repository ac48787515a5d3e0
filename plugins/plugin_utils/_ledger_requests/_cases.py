# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a case that holds nothing yet. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._exemptions import strike
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._measures import allowed_text, fees_of, notice_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._released import begin
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._queue import queue_for_report


def report_case(tx, case=None, service=None, violation=None, note=None):
    """Open a case without holding anything yet."""
    problems, released = begin(tx)
    found = problems.run(released.service, service) if service else None
    if not service:
        problems.add("service is missing.", "service", "Name the service the case is about.")
    policy = found and problems.run(released.policy, *found, case)
    if not violation:
        problems.add("violation is missing.", "violation", "Name one that the policy lists.")
    subject = (found[0]["location"], found[0]["account_type"], found[0]["addons"]) if found else ()
    named = policy and violation and problems.run(policy.violation, violation, *subject)
    if named and named.allowed:
        problems.add(allowed_text(named, found[0]), "violation", "There is no case to open for it here.")
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
