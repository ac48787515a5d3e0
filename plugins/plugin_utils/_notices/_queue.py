# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which notice a case or a measure owes, put into the outbox with the same transaction. PRIVATE.

Nothing personal is written here: who the customer is, is looked up when the notice is sent.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import option_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import queue_notice
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import measure_text

_MEASURES = {
    "suspend": "the service is suspended",
    "quarantine": "the service is cut off from the network, except for what is needed to repair it",
    "null_route": "traffic to the service's addresses is discarded",
    "bandwidth_cap": "the service's bandwidth is limited",
    "cpu_throttle": "the service's processors are limited",
    "io_throttle": "the service's disk access is limited",
    "smtp_block": "outgoing mail is blocked",
    "port_block": "ports are blocked",
    "terminate": "the service is terminated",
}
_ENDS = {"remedied": "until the cause is remedied", "decision": "until we decide otherwise"}
_NO_REMEDY = "Remove the cause, and tell us what you did."
_VICTIM = "Nothing: you are not at fault."


def enforcement_text(document):
    """A measure in force and how long it lasts, for the customer."""
    says = option_text(document["kind"], document["options"])
    text = "%s%s" % (_MEASURES[document["kind"]], " (%s)" % says if says else "")
    if document["kind"] == "terminate":
        return text
    if document["ends_at"] is not None:
        return "%s, until %s" % (text, iso(document["ends_at"]))
    return "%s, %s" % (text, _ENDS[document["until"]])


def answer_seconds(policy, named, after_step):
    """How long the customer has to answer after a notice: what the next step of the ladder waits for, or None.

    :param named: the Violation
    :param after_step: number of the step that was taken, or -1 before the first
    """
    following = named.ladder[after_step + 1:after_step + 2]
    if not following:
        return None
    step, condition = following[0], following[0].after or {}
    notice = policy.notice(step.notice) if step.notice is not None else {}
    waits = policy.wait_seconds(step.notice) if notice.get("timing") == "before" else None
    if condition.get("condition") == "unanswered":
        return condition["seconds"] if condition["seconds"] is not None else waits
    # A first step without a condition waits for the notice that goes out before it.
    return waits if after_step < 0 and not condition else None


def step_of(named, kind):
    """Number of the first step of the ladder with this kind of measure, or None."""
    return next(
        (n for n, step in enumerate(named.ladder) if any(m.enforcement == kind for m in step.alternatives)), None
    )


def _facts(policy, named, service_id, case, clause, action, opened, notice):
    subject, text = policy.notice_text(notice)
    what = named.summary or policy.clause_summary(clause) or named.name
    return {
        "subject": subject,
        "text": text,
        "unknown": policy.notice(notice).get("unknown", "ask"),
        "policy": policy.key,
        "contact": policy.provider.get("abuse_contact"),
        "values": {
            "provider": policy.provider["name"],
            "case": case,
            "service": service_id,
            "violation": named.name,
            "what": what,
            "clause": clause or "none",
            "clause_text": policy.clause_summary(clause) or "no clause is named",
            "action": action,
            "remedy": named.remedy or (_VICTIM if named.fault == "none" else _NO_REMEDY),
            "opened": iso(opened),
        },
    }


def queue_for_report(tx, policy, named, service_id, case):
    """Queue what goes out before a case's first measure; None where the policy has no such notice.

    :param case: the case's document
    """
    name = named.ladder[0].notice if named.ladder else named.notice
    if name is None or policy.notice(name)["timing"] != "before":
        return None
    action = "nothing follows by itself"
    if named.ladder:
        first = named.ladder[0]
        action = "the service is %s" % ", or ".join(map(measure_text, first.alternatives))
        if first.mode == "propose":
            action = "we decide whether %s" % action
    waits = answer_seconds(policy, named, -1)
    return queue_notice(
        tx, case_id=case["id"], service=service_id, name=name, timing="before",
        facts=_facts(policy, named, service_id, case["id"], case["clause"], action, case["opened_at"], name),
        answer_seconds=policy.wait_seconds(name) if waits is None else waits,
    )


def queue_for_measure(tx, policy, named, document):
    """Queue what tells of a measure just opened, as the policy times it; None where it owes none.

    :param document: the enforcement
    """
    number = step_of(named, document["kind"])
    step = None if number is None else named.ladder[number]
    name = policy.notice_of_action(step.notice if step is not None else named.notice)
    if name is None:
        return None
    return queue_notice(
        tx, case_id=document["case_id"], service=document["service"], enforcement_id=document["id"], name=name,
        timing=policy.notice(name)["timing"],
        facts=_facts(policy, named, document["service"], document["case_id"], document["clause"], enforcement_text(document), tx.now, name),
        answer_seconds=None if number is None else answer_seconds(policy, named, number),
    )
