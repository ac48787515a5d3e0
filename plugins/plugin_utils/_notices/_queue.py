# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which notice a case, a measure, used transfer or a new version owes, put into the outbox in the same transaction. PRIVATE.

Nothing personal is written here: who the customer is, is looked up when the notice is sent.
"""

from __future__ import annotations

import hashlib

from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration
from ansible_collections.hosting.aup.plugins.module_utils._versions import announced_seconds, effective_at
from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import option_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import queue_notice
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._words import (
    measure_text,
    span,
    transfer_follows,
)

_MEASURES = {
    "suspend": "the service is suspended",
    "quarantine": "the service is cut off from the network, except for what is needed to repair it",
    "null_route": "traffic to the service's addresses is discarded",
    "drop": "traffic between the service and certain remote addresses is discarded",
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


_TELL_THEM = "The service is used by a customer of yours. Please pass this on to them."


def _topic(*parts):
    """What a notice without a case is about, as a name of the ledger: the same parts give the same name."""
    text = "/".join(parts)
    return text if len(text) <= 128 else "%s/%s" % (parts[0], hashlib.sha256(text.encode()).hexdigest())


def _without_case(policy, timing, clause, values):
    name, subject, text, unknown = policy.notice_without_case(timing)
    return name, {
        "subject": subject, "text": text, "unknown": unknown, "policy": policy.key, "contact": policy.provider.get("abuse_contact"),
        "pass_on": _TELL_THEM,
        "values": {"provider": policy.provider["name"], "clause": clause or "none",
                   "clause_text": policy.clause_summary(clause) or "no clause is named", **values},
    }


def queue_for_transfer(tx, policy, terms, violation, service, window, percent, used, allowance):
    """Queue what tells that a service has used so much of its transfer: once per service, window and percent.

    :param terms: of `Policy.transfer()`
    :param violation: the Violation that follows above the allowance
    :param window: as `usage_windows` gives it
    :param used: in words, as is the allowance
    """
    name, facts = _without_case(policy, "transfer", terms["clause"], {
        "service": service, "percent": str(percent), "used": used, "allowance": allowance, "begins": iso(window["begins_at"]),
        "ends": iso(window["ends_at"]), "action": transfer_follows(policy, terms, violation),
    })
    return queue_notice(tx, topic=_topic("transfer", service, iso(window["begins_at"])[:10], str(percent)), service=service,
                        name=name, timing="transfer", facts=facts)


def queue_for_version(tx, old, new, rows, services, lines_of):
    """Queue what tells customers of a version to come: once per version and customer, or reseller who answers for them.

    Nothing where the present version neither promises it (`amendments.announced`) nor names a notice.

    :param old: the Policy that binds them now; its promise and its text count
    :param rows: as `concerned_services` returns them
    :param services: {id: service} of the whole catalogue; what is personal in it stays out of the ledger
    :param lines_of: rows -> what changes for them, as lines
    :returns: the notices, each with `already`
    """
    amendments = old.document.get("amendments") or {}
    if not amendments.get("announced") and not amendments.get("notice"):
        return []
    to = {}
    for row in rows:
        service = services[row["service"]]
        liable = (service.get("liable") or {}).get("contact")
        # Who a reseller is stays out of the ledger: only that it is the same one.
        whom = hashlib.sha256(("%s %s" % (tx.ledger_id, liable)).encode()).hexdigest()[:24] if liable else "customer/%s" % service["customer"]
        to.setdefault(whom, []).append(row)
    grace = amendments.get("grace")
    found = []
    for whom, own in sorted(to.items()):
        name, facts = _without_case(old, "amendment", amendments["clauses"][0], {
            "service": own[0]["service"], "policy": new.key, "prior": old.key, "effective": new.effective,
            "services": ", ".join(row["service"] for row in own), "changes": "\n".join("  - %s" % line for line in lines_of(own)),
            "grace": "Who terminates because of it keeps the prior version for %s." % span(parse_duration(grace)) if grace else "",
        })
        del facts["values"]["clause_text"]
        facts.update(effective_at=effective_at(new), announced=announced_seconds(old))
        found.append(queue_notice(tx, topic=_topic("amendment", new.key, whom), service=own[0]["service"], name=name,
                                  timing="amendment", facts=facts))
    return found
