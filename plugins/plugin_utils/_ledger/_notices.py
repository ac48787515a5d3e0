# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox: notices to customers, who sends which of them now, and the clocks of answers. PRIVATE.

A notice goes `queued` → `sending` (claimed by one sender, for the time of its lease) → `delivered` (a mail
server took it) → perhaps `bounced`. `held` waits for a person, `waiting` for its measure to be seen in force,
`unknown`, `failed` and `bounced` wait for a person too. Its Message-ID never changes.

While it is `sending`, `stage` says how far: `claimed`, or `dot`, recorded before the one line that makes a
server take the mail. A sender that vanished before that has sent nothing; one that vanished after it may
have, and nobody but a receipt or a person can tell.

Who it goes to and what it says are in the row alone, never in the log, and can be erased.
"""

from __future__ import annotations

import secrets

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text, iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

# For a mail server that doesn't take it now: half an hour, then twice that each time (RFC 5321, 4.5.4.1).
FIRST_RETRY, LONGEST_RETRY, GIVE_UP = 1800, 8 * 3600, 5 * 86400
OPEN = ("held", "waiting", "queued", "sending", "unknown")
FOR_A_PERSON = ("held", "unknown", "bounced", "failed")

_COLUMNS = (
    "id", "case_id", "enforcement_id", "service", "name", "timing", "status", "message_id", "opened_at", "next_at",
    "attempts", "role", "recipient", "subject", "body", "error", "receipt", "delivered_at", "answer_seconds",
    "deadline_at", "deadline", "erased_at", "topic",
)
_BRIEF = ("id", "service", "case_id", "name", "timing", "status", "delivered_at", "deadline_at", "deadline")


def _document(row):
    document = {name: getattr(row, name) for name in _COLUMNS}
    document["facts"] = values.from_text(row.facts)
    return document


def find_notices(tx, *conditions):
    """Notices that meet all conditions, as documents, oldest first."""
    rows = tx.execute(sa.select(t.notice).where(*conditions).order_by(t.notice.c.number))
    return [_document(row) for row in rows]


def _one(tx, notice_id):
    found = find_notices(tx, t.notice.c.id == str(notice_id))
    if not found:
        raise InputError(
            "there is no notice %s." % (notice_id,), target="notice", remedy="ledger_notice state=list lists them."
        )
    return found[0]


@reader
def notices(tx, status=None, case_id=None):
    """Notices, oldest first: of these statuses (all that are not done), of a case."""
    conditions = [t.notice.c.status.in_(OPEN + FOR_A_PERSON if status is None else status)]
    if case_id is not None:
        conditions.append(t.notice.c.case_id == case_id)
    locked = set(tx.execute(_locked_cases()).scalars())
    return [dict(document, locked=document["case_id"] in locked) for document in find_notices(tx, *conditions)]


def _locked_cases():
    """Cases whose customers must not be told that anybody looks at them, until a person releases the lock."""
    return sa.select(t.case_flag.c.case_id).where(t.case_flag.c.kind == "no_notice", t.case_flag.c.released_at.is_(None))


def _locked(tx, case_id):
    return case_id is not None and case_id in set(tx.execute(_locked_cases()).scalars())


@reader
def running_deadlines(tx):
    """Delivered notices that wait for an answer, the next to pass first."""
    rows = tx.execute(sa.select(t.notice).where(t.notice.c.deadline == "running").order_by(t.notice.c.deadline_at, t.notice.c.number))
    return [_document(row) for row in rows]


def _brief(document):
    return {name: document[name] for name in _BRIEF}


def _set(tx, before, event, refs=None, detail=None, **columns):
    """Change a notice, with its event."""
    if event is not None:
        tx.append(
            event,
            {"notice": before["id"], "service": before["service"], "case": before["case_id"], **(refs or {})},
            detail,
        )
    tx.execute(t.notice.update().where(t.notice.c.id == before["id"]).values(**columns))
    after = _one(tx, before["id"])
    tx.changed("notice", before["id"], _brief(before), _brief(after))
    return after


@verb
def queue_notice(tx, *, case_id=None, service, name, timing, facts, enforcement_id=None, answer_seconds=None, topic=None):
    """Put a notice into the outbox, once per enforcement, or per case, service and name, or per topic.

    :param name: the policy's name of the notice
    :param topic: what a notice without a case is about; the ledger has each topic once, for ever
    :param facts: what its text is made from, nothing personal
    :param answer_seconds: how long the customer has after delivery, or None
    :returns: the notice; `already` True when it is there
    """
    service, name = values.identifier(service, "service"), values.identifier(name, "notice")
    if topic is not None:
        same = (t.notice.c.topic == values.identifier(topic, "topic"),)
    elif enforcement_id is None:
        same = (
            t.notice.c.case_id == case_id, t.notice.c.service == service, t.notice.c.name == name,
            t.notice.c.enforcement_id.is_(None), t.notice.c.status != "cancelled",
        )
    else:
        same = (t.notice.c.enforcement_id == enforcement_id,)
    present = find_notices(tx, *same)
    if present:
        return dict(present[0], already=True)
    status = {"held": "held", "after": "waiting"}.get(timing, "queued")
    number = tx.next_number(t.notice.c.number)
    notice_id = "N-%d" % number
    event = tx.append(
        "notice_%s" % ("held" if status == "held" else "queued"),
        {"notice": notice_id, "service": service, "case": case_id, "enforcement": enforcement_id, "name": name, "timing": timing,
         **({} if topic is None else {"topic": topic})},
    )
    tx.execute(
        t.notice.insert().values(
            id=notice_id, number=number, case_id=case_id, enforcement_id=enforcement_id, service=service, name=name,
            timing=timing, status=status, facts=values.to_text(facts), opened_at=tx.now, next_at=tx.now, attempts=0,
            # The ledger's id keeps it apart from other ledgers', the domain is the sender's and put on when sent.
            message_id="%s.%s" % (notice_id, tx.ledger_id), answer_seconds=answer_seconds, event_number=event,
            topic=topic,
        )
    )
    document = _one(tx, notice_id)
    tx.changed("notice", notice_id, None, _brief(document))
    return dict(document, already=False)


@verb
def ready_notices(tx):
    """Let those go whose measure is in force now, and drop those whose measure was never applied."""
    joined = t.notice.join(t.enforcement, t.enforcement.c.id == t.notice.c.enforcement_id)
    rows = tx.execute(
        sa.select(t.notice.c.id, t.enforcement.c.status, t.enforcement.c.verified_at)
        .select_from(joined)
        .where(t.notice.c.status.in_(("waiting", "queued", "held")))
    ).all()
    changed = []
    for row in rows:
        document = _one(tx, row.id)
        if row.status == "cancelled" and document["attempts"] == 0:
            changed.append(
                _set(tx, document, "notice_cancelled", {"why": "measure never applied"}, status="cancelled", closed_at=tx.now)
            )
        elif document["status"] == "waiting" and row.verified_at is not None:
            changed.append(_set(tx, document, "notice_released", {"why": "measure in force"}, status="queued", next_at=tx.now))
    return changed


@reader
def due_notices(tx):
    """Notices that may be sent now, oldest first; none of a case whose notices are locked."""
    return find_notices(tx, t.notice.c.status == "queued", t.notice.c.next_at <= tx.now,
                        sa.or_(t.notice.c.case_id.is_(None), t.notice.c.case_id.not_in(_locked_cases())))


@reader
def expired_claims(tx):
    """[(notice, claim)] of senders that did not come back within their lease."""
    rows = tx.execute(
        sa.select(t.notice).where(t.notice.c.status == "sending", t.notice.c.lease_at <= tx.now).order_by(t.notice.c.number)
    ).all()
    return [dict(_document(row), claim=row.claim, stage=row.stage) for row in rows]


@verb
def claim_notice(tx, *, notice_id, lease, role, recipient, subject, body):
    """Take a queued notice for sending; nobody else has it until the lease is over.

    What was written at the first attempt stays, so that one Message-ID never has two texts. The recipient
    may have been corrected since.

    :returns: the notice with its `claim`, or None when somebody else was faster
    """
    document = _one(tx, notice_id)
    if document["status"] != "queued" or document["next_at"] > tx.now or _locked(tx, document["case_id"]):
        return None
    claim = secrets.token_hex(8)
    if document["body"] is not None:
        subject, body = document["subject"], document["body"]
    after = _set(
        tx, document, None, status="sending", claim=claim, stage="claimed", lease_at=tx.now + lease,
        attempts=document["attempts"] + 1, role=role, recipient=recipient, subject=subject, body=body, error=None,
    )
    return dict(after, claim=claim)


@verb
def record_dot(tx, *, notice_id, claim, lease):
    """Record that the next line makes the server take the mail.

    :raises ConflictError: the lease is over and the notice no longer ours, or its case was locked meanwhile: don't send it
    """
    if _locked(tx, _one(tx, notice_id)["case_id"]):
        raise ConflictError("the notices of case %s are locked." % _one(tx, notice_id)["case_id"], target=notice_id,
                            remedy="Nothing was sent. Who locked them releases the lock: ledger_evidence state=notices_released.")
    done = tx.execute(
        t.notice.update()
        .where(t.notice.c.id == notice_id, t.notice.c.claim == claim, t.notice.c.status == "sending", t.notice.c.lease_at > tx.now)
        .values(stage="dot", lease_at=tx.now + lease)
    )
    if not done.rowcount:
        raise ConflictError(
            "notice %s is no longer this sender's: its lease is over." % notice_id, target=notice_id,
            remedy="Nothing was sent by it. Raise lease if the mail server is that slow.",
        )


@verb
def notice_delivered(tx, *, notice_id, claim=None, receipt=None, at=None, note=None):
    """Record that a mail server took a notice; the clock of its answer starts then.

    :param claim: the sender's; without it a person says so of one that is unknown
    :param at: when it was taken; now, when left out
    """
    document = _one(tx, notice_id)
    if document["status"] == "delivered":
        return document
    _check_claim(tx, document, claim, ("sending", "unknown"), "unknown")
    at = tx.now if at is None else min(values.moment(at, "at"), tx.now)
    columns = {}
    if document["answer_seconds"] is not None and find_case(tx, document["case_id"])["status"] == "open":
        columns = {"deadline_at": at + document["answer_seconds"], "deadline": "running"}
    return _set(
        tx, document, "notice_delivered", {"at": at, "until": columns.get("deadline_at"), "by": "server" if claim else "person"},
        {"note": values.free_text(note, "note")}, status="delivered", delivered_at=at, receipt=values.free_text(receipt, "receipt")[:500] or None,
        lease_at=None, claim=None, stage=None, error=None, closed_at=tx.now, **columns,
    )


def _check_claim(tx, document, claim, statuses, by_person):
    own = tx.execute(sa.select(t.notice.c.claim).where(t.notice.c.id == document["id"])).scalar()
    if claim is not None and document["status"] in statuses and own == claim:
        return
    if claim is None and document["status"] == by_person:
        return
    raise ConflictError(
        "notice %s is %s." % (document["id"], document["status"]), target=document["id"],
        remedy="ledger_notice state=list says what it waits for.",
    )


@verb
def notice_refused(tx, *, notice_id, claim, error, permanent):
    """Record that a server did not take a notice: it is tried again later, or goes to a person."""
    document = _one(tx, notice_id)
    _check_claim(tx, document, claim, ("sending",), None)
    error = values.free_text(error, "error")[:1000]
    wait = min(FIRST_RETRY * 2 ** min(document["attempts"] - 1, 10), LONGEST_RETRY)
    if permanent or tx.now + wait > document["opened_at"] + GIVE_UP and document["attempts"] > 1:
        return _set(
            tx, document, "notice_failed", {"attempts": document["attempts"]}, {"error": error}, status="failed",
            error=error, lease_at=None, claim=None, stage=None,
        )
    return _set(
        tx, document, None, status="queued", error=error, next_at=tx.now + wait, lease_at=None, claim=None, stage=None
    )


@verb
def notice_returned(tx, *, notice_id, claim, error=None):
    """Give a claimed notice back unsent, as if it had not been tried: no server was reached at all."""
    document = _one(tx, notice_id)
    _check_claim(tx, document, claim, ("sending",), None)
    return _set(
        tx, document, None, status="queued", error=error, attempts=document["attempts"] - 1, lease_at=None, claim=None, stage=None
    )


@verb
def notice_unknown(tx, *, notice_id, claim, resend=False, error=None):
    """Record that a server may or may not have taken a notice.

    :param resend: send it again with the same Message-ID, instead of asking a person
    """
    document = _one(tx, notice_id)
    _check_claim(tx, document, claim, ("sending",), None)
    error = error or "the sender vanished after the last line was sent and before the server's answer was recorded"
    if resend:
        return _set(
            tx, document, "notice_sent_again", {"why": "unknown"}, {"error": error}, status="queued",
            next_at=tx.now, error=error, lease_at=None, claim=None, stage=None,
        )
    # The claim stays: should the sender live after all, its answer settles it.
    return _set(tx, document, "notice_unknown", None, {"error": error}, status="unknown", error=error, lease_at=None, stage=None)


@verb
def notice_unaddressed(tx, *, notice_id, error):
    """Record that nobody is known whom a queued notice could be sent to: a person's task."""
    document = _one(tx, notice_id)
    if document["status"] != "queued":
        return document
    return _set(tx, document, "notice_failed", {"attempts": document["attempts"]}, {"error": error}, status="failed", error=error)


@verb
def release_notice(tx, notice_id, reason=None):
    """Let a notice go by a person's decision: one held back, or once more one that failed, bounced or is unknown.

    :raises ConflictError: it waits for nobody
    """
    document = _one(tx, notice_id)
    reason = values.free_text(reason, "reason")
    if document["status"] not in FOR_A_PERSON:
        raise ConflictError(
            "notice %s is %s and waits for nobody's decision." % (document["id"], document["status"]),
            target=document["id"], remedy="ledger_notice state=list says what it waits for.",
        )
    if _locked(tx, document["case_id"]):
        raise ConflictError("the notices of case %s are locked." % document["case_id"], target=document["id"],
                            remedy="Release the lock first: hosting.aup.evidence -e state=notices_released.")
    again = document["status"] != "held"
    return _set(
        tx, document, "notice_sent_again" if again else "notice_released", {"from": document["status"]}, {"reason": reason},
        status="queued", next_at=tx.now, error=None, claim=None, closed_at=None,
        **({"delivered_at": None, "deadline_at": None, "deadline": None} if again else {}),
    )


@verb
def cancel_notice(tx, notice_id, reason=None):
    """Drop a notice that was not sent. One being sent can't be."""
    document = _one(tx, notice_id)
    if document["status"] == "cancelled":
        return dict(document, already=True)
    if document["status"] in ("sending", "delivered"):
        raise ConflictError(
            "notice %s is %s." % (document["id"], document["status"]), target=document["id"], remedy="It can't be called back."
        )
    after = _set(
        tx, document, "notice_cancelled", {"why": "decision"}, {"reason": values.free_text(reason, "reason")},
        status="cancelled", closed_at=tx.now, deadline="stopped" if document["deadline"] == "running" else document["deadline"],
    )
    return dict(after, already=False)


@verb
def notice_bounced(tx, *, message_id=None, notice_id=None, error=None):
    """Record that a notice came back. Its clock stops: nobody was told.

    :returns: the notice with `already`, or None when no notice has this Message-ID
    """
    if notice_id is None:
        local = str(message_id).strip().strip("<>").partition("@")[0]
        found = find_notices(tx, t.notice.c.message_id == local)
    else:
        found = [_one(tx, notice_id)]
    if not found:
        return None
    document = found[0]
    if document["status"] == "bounced":
        return dict(document, already=True)
    if document["status"] not in ("delivered", "unknown", "sending", "queued"):
        raise ConflictError(
            "notice %s is %s and can't have come back." % (document["id"], document["status"]), target=document["id"],
            remedy="ledger_notice state=list lists them.",
        )
    error = values.free_text(error, "error")[:1000] or "it came back"
    after = _set(
        tx, document, "notice_bounced", None, {"error": error}, status="bounced", error=error, lease_at=None, claim=None,
        stage=None, deadline="stopped" if document["deadline"] == "running" else document["deadline"],
    )
    return dict(after, already=False)


@reader
def told_at(tx, case_id, service):
    """When the newest notice of a case that asks for an answer was delivered to this service's customer, or None."""
    return tx.execute(
        sa.select(sa.func.max(t.notice.c.delivered_at)).where(
            t.notice.c.case_id == case_id, t.notice.c.service == service, t.notice.c.status == "delivered",
            t.notice.c.answer_seconds.is_not(None),
        )
    ).scalar()


@verb
def answer_case(tx, case_id, note=None):
    """Record that the customer answered: the clocks of the case's notices stop.

    :returns: {"case", "stopped": ids of notices, "already"}
    """
    if find_case(tx, case_id) is None:
        raise InputError("there is no case %s." % case_id, target="case", remedy="ledger_info lists the open cases.")
    running = find_notices(tx, t.notice.c.case_id == case_id, t.notice.c.deadline == "running")
    # A notice that is still on its way asks for what was answered already.
    coming = find_notices(
        tx, t.notice.c.case_id == case_id, t.notice.c.answer_seconds.is_not(None), t.notice.c.delivered_at.is_(None),
        t.notice.c.status.in_(OPEN),
    )
    if not running and not coming:
        return {"case": case_id, "stopped": [], "already": True}
    tx.append(
        "case_answered", {"case": case_id, "notices": [n["id"] for n in running + coming]}, {"note": values.free_text(note, "note")}
    )
    for document in running:
        _set(tx, document, None, deadline="answered")
    for document in coming:
        _set(tx, document, None, answer_seconds=None)
    return {"case": case_id, "stopped": [n["id"] for n in running + coming], "already": False}


@verb
def stop_notices(tx, case_id):
    """What a case that is closed leaves undone: unsent notices are dropped and clocks stop."""
    for document in find_notices(tx, t.notice.c.case_id == case_id, t.notice.c.deadline == "running"):
        _set(tx, document, None, deadline="stopped")
    return [
        _set(tx, document, "notice_cancelled", {"why": "case closed"}, status="cancelled", closed_at=tx.now)
        for document in find_notices(
            tx, t.notice.c.case_id == case_id, t.notice.c.status.in_(("queued", "held", "waiting")),
            t.notice.c.timing == "before", t.notice.c.attempts == 0,
        )
    ]


@verb
def deadline_passed(tx, *, notice_id, what):
    """Record that a deadline passed unanswered, and what followed: `proposed`, `taken` or `nothing`."""
    document = _one(tx, notice_id)
    if document["deadline"] != "running" or document["deadline_at"] > tx.now:
        raise ConflictError(
            "the deadline of notice %s is not due." % document["id"], target=document["id"], remedy="Nothing is to be done."
        )
    return _set(tx, document, "deadline_passed", {"what": what, "until": document["deadline_at"]}, deadline="passed")


@reader
def steps_taken_by_time(tx, seconds=3600):
    """How many steps time alone has taken in the last `seconds`."""
    rows = tx.execute(
        sa.select(t.event.c.refs).where(t.event.c.kind == "deadline_passed", t.event.c.at > tx.now - seconds)
    )
    return sum(values.from_text(row.refs).get("what") == "taken" for row in rows)


def erase_notices(tx, service):
    """Empty whom the notices of a service went to and what they said. Returns their ids."""
    found = [
        document["id"]
        for document in find_notices(tx, t.notice.c.service == service, t.notice.c.erased_at.is_(None))
        if document["status"] not in ("queued", "sending")
    ]
    empty_notices(tx, found)
    return found


def empty_notices(tx, ids):
    """Empty whom these notices went to and what they said."""
    for first in range(0, len(ids), 500):
        tx.execute(
            t.notice.update().where(t.notice.c.id.in_(ids[first:first + 500])).values(
                facts=None, recipient=None, subject=None, body=None, error=None, receipt=None, erased_at=tx.now
            )
        )


def without_text(document):
    """A notice as results show it: neither what it says nor whom it goes to."""
    return {name: value for name, value in document.items() if name not in ("facts", "recipient", "subject", "body")}


@reader
def late_announcements(tx):
    """Customers told of a version to come later than was promised, one sentence each, while that still matters."""
    rows = find_notices(tx, t.notice.c.timing == "amendment", t.notice.c.status != "cancelled", t.notice.c.facts.is_not(None))
    return [sentence for sentence in (told_late(document, tx.now) for document in rows) if sentence]


def told_late(document, now):
    """What is wrong with the time of a notice about a version to come; None when it is in time. Pure.

    In time is delivered, or still to be, as long before the day the version applies as was promised. Once the promised
    time has gone by since its delivery, nobody is bound too early any more.
    """
    facts = document["facts"]
    at = document["delivered_at"] if document["status"] == "delivered" else None
    told, promised = now if at is None else at, facts.get("announced") or 0
    if not promised or told <= facts["effective_at"] - promised or at is not None and now >= at + promised:
        return None
    return (
        "%s told of %s later than promised: notice %s %s, and it applies from %s; owed is %s ahead."
        " Move its effective to %s or later, or name %s as policy of its services." % (
            document["service"], facts["values"]["policy"], document["id"],
            "is not delivered yet" if at is None else "was delivered %s" % iso(at), facts["values"]["effective"],
            duration_text(promised), iso(told + promised + 86399)[:10], facts["values"]["prior"]))


def notice_line(document):
    """One notice as a line for people; without its address."""
    about = "case %s" % document["case_id"] if document["case_id"] is not None else "about %s" % document["topic"]
    parts = ["%s %s: %s of %s, %s" % (document["status"], document["id"], document["name"], document["service"], about)]
    if document["status"] == "queued" and document["attempts"]:
        parts.append("tried %d times, again at %s" % (document["attempts"], iso(document["next_at"])))
    if document.get("locked") and document["status"] in OPEN:
        parts.append("not sent: the case's notices are locked")
    if document["deadline"]:
        parts.append("answer due %s (%s)" % (iso(document["deadline_at"]), document["deadline"]))
    if document["error"]:
        parts.append(" ".join(document["error"].split())[:200])
    return "; ".join(parts)
