# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that did not come: the ladder's next step, proposed or taken as the policy says. PRIVATE to the collection.

A deadline exists only from the moment a mail server took the notice, so mail that isn't sent starts no clock. Mail
that isn't received can't be seen from here: so time alone takes no more steps in any hour than the policy's
`guardrails.max_steps_per_hour`; what is over that stays due, for a later hour or for a person.
"""

from __future__ import annotations

from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    deadline_passed,
    find_case,
    running_deadlines,
    steps_taken_by_time,
    stop_notices,
)

SOURCE = "deadline"


def pass_deadlines(tx):
    """Do what follows for each deadline that has passed.

    :returns: {"nodes", "enforcements", "proposals", "changed", "what", "warnings"}
    """
    # respond stands on the ledger's requests, which call this.
    from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

    result = {"nodes": set(), "enforcements": [], "proposals": [], "changed": False, "what": [], "warnings": []}
    due = [notice for notice in running_deadlines(tx) if notice["deadline_at"] <= tx.now]
    for notice in due:
        case = find_case(tx, notice["case_id"])
        if case["status"] != "open":
            stop_notices(tx, case_id=case["id"])
            result["changed"] = True
            continue
        told = "no answer to notice %s of case %s until %s" % (notice["id"], case["id"], iso(notice["deadline_at"]))
        try:
            policy = _policy_of(tx, notice["service"], case["id"])
            taken, most = steps_taken_by_time(tx), policy.guardrails.max_steps_per_hour
            if taken >= most:
                result["warnings"].append(
                    "%s: not acted on: time alone took %d steps within an hour, the most that policy %s allows"
                    " (guardrails.max_steps_per_hour). Check that answers arrive; hosting.aup.respond -e unanswered=true acts by hand."
                    % (told, taken, policy.key)
                )
                continue
            with tx.attempt(), _as_time(tx, notice):
                done = respond(
                    tx, service=[notice["service"]], violation=case["violation"], case=case["id"], unanswered=True, note=told)
        except AupError as exc:
            result["warnings"].append("%s: nothing was done: %s" % (told, exc))
            continue
        what = "taken" if done["enforcements"] else "proposed" if done["proposals"] else "nothing"
        deadline_passed(tx, notice_id=notice["id"], what=what)
        result["changed"] = True
        result["nodes"].update(done["nodes"])
        result["enforcements"] += done["enforcements"]
        result["proposals"] += done["proposals"]
        result["what"] += ["%s:" % told, *("  %s" % line for line in done["what"])]
    return dict(result, nodes=sorted(result["nodes"]))


def _policy_of(tx, service, case_id):
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import Released

    released = Released(tx)
    return released.policy(*released.service(service), case_id)


@contextmanager
def _as_time(tx, notice):
    """Time acts, not the person whose timer runs: it must not count among those who agree to a termination."""
    actor = tx.actor
    tx.actor = {"name": "deadline of %s" % notice["id"], "source": SOURCE}
    try:
        yield
    finally:
        tx.actor = actor
