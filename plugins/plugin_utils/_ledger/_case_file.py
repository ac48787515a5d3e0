# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that the ledger has about one case, in one document. PRIVATE to the collection.

The same ledger gives the same document: it carries no clock but those of the events, and says at which event it was
made. There are two views. `internal` has everything that was not erased; `customer` is for one account, and has of
the case what is about its own services, no node, no person, nothing that people wrote to each other, and nothing of
anyone else.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _events
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import case_accounts, charges
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import find_enforcements
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._evidence import disclosures, find_evidence, released_policy, standing_flags
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemptions import find_exemptions
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import find_notices
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader

FORMAT = 1
VIEWS = ("internal", "customer")

# What a customer's view may say of an event: ids, clauses and times of what is their own. No node, no list of services.
_SAID_TO_CUSTOMERS = frozenset((
    "case", "service", "violation", "clause", "fault", "policy", "enforcement", "kind", "starts_at", "ends_at", "until",
    "review_at", "from", "to", "why", "charge", "credit_of", "fee", "amount", "currency", "quantity", "exemption", "control",
    "notice", "percent", "bytes", "allowance", "timing", "deadline_at", "delivered_at",
))  # fmt: skip
# Events that concern the case as a whole, and so each account in it.
_OF_ALL = frozenset(("case_opened", "case_fault_decided", "case_closed"))
# The kinds of events that a customer is told; every other one, of today or later, stays in the house.
_TOLD = _OF_ALL | frozenset((
    "enforcement_opened", "enforcement_active", "enforcement_ending", "enforcement_ended", "enforcement_cancelled",
    "charge_recorded", "charge_waived", "charge_credited", "exemption_added", "exemption_revoked", "exemption_expired",
    "notice_delivered", "usage_threshold", "usage_window_closed",
))  # fmt: skip


@reader
def case_file(tx, case_id, view="internal", account=None):
    """One case as a document.

    :param view: `internal` or `customer`
    :param account: whose view; only needed where the case concerns several accounts
    :raises InputError: no such case, view or account
    :raises ConflictError: a customer's view of a case whose notices are locked
    """
    if view not in VIEWS:
        raise InputError("view %r is not known." % (view,), target="view", remedy="Use internal or customer.")
    case = find_case(tx, case_id)
    if case is None:
        raise InputError("there is no case %r." % (case_id,), target="case", remedy="hosting.aup.status lists the open ones.")
    accounts = case_accounts(tx, case_id)
    own = None
    if view == "customer":
        if standing_flags(tx, case_id, "no_notice"):
            raise ConflictError("the notices of case %s are locked: its customer is not to know of it." % case_id, target="view",
                                remedy="Release the lock first: hosting.aup.evidence -e state=notices_released.")
        account = _whose(case_id, accounts, account)
        own = set(accounts[account])
    elif account is not None:
        raise InputError("account only goes with the customer's view.", target="account", remedy="Add -e view=customer.")
    enforcements = [e for e in find_enforcements(tx, t.enforcement.c.case_id == case_id) if own is None or e["service"] in own]
    services = sorted({e["service"] for e in enforcements} | {s for names in accounts.values() for s in names if own is None or s in own}
                      | ({case["service"]} if case["service"] and (own is None or case["service"] in own) else set()))
    charged = charges(tx, case_id=case_id, account=account)
    exemptions = [e for e in find_exemptions(tx, t.exemption.c.service.in_(services)) if _overlaps(e, case)]
    policy = released_policy(tx, case["policy_key"])
    clauses = policy.get("clauses", {})
    document = {
        "format": FORMAT,
        "view": view,
        "account": account,
        "ledger": {"id": tx.ledger_id, "epoch": tx.epoch, "event": tx.head_number, "digest": tx.head_digest},
        "case": {
            "id": case["id"], "status": case["status"], "violation": case["violation"], "clause": case["clause"],
            "fault": case["fault"] or "unknown", "policy": case["policy_key"],
            "provider": (policy.get("provider") or {}).get("name"), "services": services,
            "accounts": sorted(accounts) if own is None else [account],
            "opened_at": iso(case["opened_at"]), "closed_at": iso(case["closed_at"]),
        },
        "enforcements": [_enforcement(tx, one, own is None) for one in enforcements],
        "notices": _notices(tx, case_id, own),
        "evidence": _evidence(tx, case_id, own, len(accounts)),
        "charges": [_charge(one) for one in charged],
        "exemptions": [_exemption(one, own is None) for one in exemptions],
    }
    if own is None:
        document["flags"] = [dict(one, placed_at=iso(one["placed_at"])) for one in standing_flags(tx, case_id)]
        document["disclosures"] = [dict(one, disclosed_at=iso(one["disclosed_at"])) for one in disclosures(tx, case_id)]
    document["timeline"] = _timeline(tx, case_id, document, own)
    named = {case["clause"], *(e["clause"] for e in enforcements), *(c["clause"] for c in charged), *(e["clause"] for e in exemptions)}
    document["clauses"] = [{"clause": one, "summary": clauses[one]["summary"]} for one in sorted(named - {None}) if one in clauses]
    return document


def _whose(case_id, accounts, account):
    known = sorted(accounts)
    if account is None and len(known) == 1:
        return known[0]
    if account not in accounts:
        raise InputError(
            "case %s is about %s; whose view?" % (case_id, "several accounts" if known else "no account that is still known")
            if account is None else "case %s is not about account %r." % (case_id, account),
            target="account", remedy="Name one of: %s." % ", ".join(known) if known else "Use the internal view.")
    return account


def _overlaps(exemption, case):
    """Whether an exemption was in force at any time while the case was open."""
    ends = [at for at in (exemption["closed_at"], exemption["ends_at"]) if at is not None]
    return (not ends or min(ends) >= case["opened_at"]) and (case["closed_at"] is None or exemption["starts_at"] <= case["closed_at"])


def _enforcement(tx, one, internal):
    document = {
        "id": one["id"], "service": one["service"], "kind": one["kind"], "status": one["status"], "clause": one["clause"],
        "reason": one["reason"], "options": one["options"], "until": one["until"],
        "end_reason": one["end_reason"],
        **{name: iso(one[name]) for name in ("opened_at", "starts_at", "ends_at", "review_at", "verified_at", "ending_at", "ended_at")},
        "prior_state": _prior_state(tx, one, internal),
    }
    if internal:
        seen = tx.execute(sa.select(t.enforcement_node).where(t.enforcement_node.c.enforcement_id == one["id"])
                          .order_by(t.enforcement_node.c.node))
        document["nodes"] = [{"node": row.node, "state": row.state, "seen_at": iso(row.seen_at)} for row in seen]
        document["actor"] = one["actor"]
    return document


def _prior_state(tx, one, internal):
    """Digests of the states the service was given back from: recorded before it was first touched."""
    rows = tx.execute(sa.select(t.baseline).where(t.baseline.c.service == one["service"]).order_by(t.baseline.c.number))
    return [
        {"digest": row.digest, "captured_at": iso(row.captured_at), "given_back_at": iso(row.closed_at), **({"node": row.node} if internal else {})}
        for row in rows
        if (row.closed_at is None or row.closed_at >= one["opened_at"]) and (one["ended_at"] is None or row.captured_at <= one["ended_at"])
    ]


def _charge(one):
    return {
        **{name: one[name] for name in ("id", "kind", "credit_of", "account", "service", "fee", "clause", "amount", "currency",
                                        "quantity", "unit", "reference", "status")},
        "charged_at": iso(one["opened_at"]),
    }


def _exemption(one, internal):
    document = {name: one[name] for name in ("id", "service", "control", "clause", "status")}
    document.update(starts_at=iso(one["starts_at"]), ends_at=iso(one["ends_at"]))
    return dict(document, reason=one["reason"]) if internal else document


def _notices(tx, case_id, own):
    """Notices of the case; of one that was not delivered a customer's view says nothing, not even that there is one."""
    found = []
    for one in find_notices(tx, t.notice.c.case_id == case_id):
        if own is not None and (one["service"] not in own or one["delivered_at"] is None):
            continue
        document = {name: one[name] for name in ("id", "service", "name", "timing", "status", "subject", "body", "deadline")}
        document.update(delivered_at=iso(one["delivered_at"]), deadline_at=iso(one["deadline_at"]))
        found.append(dict(document, recipient=one["recipient"]) if own is None else document)
    return found


def told_evidence(found, own, accounts):
    """Of evidence what its customer may be told of: what is about their own services, and no prohibited content."""
    return [one for one in found if one["status"] != "hash_only"
            and (one["service"] in own if one["service"] is not None else accounts == 1)]


def _evidence(tx, case_id, own, accounts):
    found = find_evidence(tx, t.evidence.c.case_id == case_id)
    if own is not None:
        return [{"sha256": one["sha256"], "media_type": one["media_type"], "added_at": iso(one["added_at"])}
                for one in told_evidence(found, own, accounts)]
    names = ("id", "service", "name", "sha256", "size", "media_type", "class", "status", "added_by", "erased")
    return [{**{name: one[name] for name in names}, "added_at": iso(one["added_at"]), "removed_at": iso(one["removed_at"])} for one in found]


def _timeline(tx, case_id, document, own):
    """The events of the case in order, each with what proves its place in the chain."""
    ids = {
        "case": {case_id},
        "enforcement": {e["id"] for e in document["enforcements"]},
        "charge": {c["id"] for c in document["charges"]},
        "exemption": {e["id"] for e in document["exemptions"]},
        "notice": {n["id"] for n in document["notices"]},
    }
    services = set(document["case"]["services"])
    begins = tx.execute(sa.select(t.case.c.event_number).where(t.case.c.id == case_id)).scalar()
    needles = sorted({one for names in ids.values() for one in names} | services)
    likes = [t.event.c.refs.like("%" + _like(one) + "%", escape="\\") for one in needles]
    rows = tx.execute(
        sa.select(t.event, t.event_detail.c.body, t.event_detail.c.salt)
        .outerjoin(t.event_detail, t.event_detail.c.event_number == t.event.c.number)
        .where(sa.or_(*likes)).order_by(t.event.c.number)
    )
    found = []
    for row in rows:
        refs = values.from_text(row.refs)
        if _belongs(row, refs, ids, services, begins, document) and (own is None or _tellable(row.kind, refs, ids, own)):
            found.append(_entry(row, refs, own))
    return found


def _like(text):
    return values.to_text(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _belongs(row, refs, ids, services, begins, document):
    if any(refs.get(name) in known for name, known in ids.items() if name != "exemption"):
        return True
    if refs.get("exemption") in ids["exemption"]:
        return True
    if ids["charge"] & set(refs.get("charges") or ()):
        return True
    # What was recorded of a service's state while the case held it.
    closed = document["case"]["closed_at"]
    return (row.kind in ("baseline_recorded", "baseline_closed") and refs.get("service") in services and row.number > begins
            and (closed is None or iso(row.at) <= closed))


def _tellable(kind, refs, ids, own):
    if kind not in _TOLD:
        return False
    if kind in _OF_ALL:
        return True
    if refs.get("service") is not None:
        return refs["service"] in own
    return any(refs.get(name) in ids[name] for name in ("enforcement", "charge", "exemption", "notice"))


def _entry(row, refs, own):
    entry = {"event": row.number, "at": iso(row.at), "kind": row.kind, "digest": row.digest, "previous": row.prev_digest}
    if own is not None:
        # A case that began with another customer's service names it in its first event.
        told = {name: value for name, value in refs.items() if name != "service" or value in own}
        entry["refs"] = {name: _readable(name, value) for name, value in sorted(told.items())
                         if name in _SAID_TO_CUSTOMERS and value is not None and not isinstance(value, (list, dict))}
        return entry
    detail = values.from_text(row.body)
    entry["refs"] = {name: _readable(name, value) for name, value in sorted(refs.items()) if value is not None}
    entry["intact"] = _intact(row)
    entry["erased"] = detail is None
    entry["actor"] = ((detail or {}).get("actor") or {}).get("name")
    entry["said"] = {name: value for name, value in sorted((detail or {}).items()) if name != "actor" and value not in (None, "")}
    return entry


def _intact(row):
    """Whether event and detail are what their digests say."""
    own = _events.event_digest(row.number, row.at, row.kind, row.refs, row.detail_digest, row.prev_digest)
    return own == row.digest and (row.body is None or _events.detail_digest(row.salt, row.body) == row.detail_digest)


def _readable(name, value):
    return iso(value) if name.endswith("_at") and isinstance(value, int) else value
