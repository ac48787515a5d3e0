# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The append-only event log: each event's digest covers the one before. PRIVATE to the collection.

The chain holds what happened to which ids and when. Who did it and what they wrote is in the event's
detail, of which the chain holds only a salted digest: erasing a detail leaves the chain whole.
"""

from __future__ import annotations

import hashlib
import json
import secrets

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical, digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

HEAD_FORMAT = 1
_MOST_PROBLEMS = 100


def genesis(ledger_id):
    """What the first event names as its previous digest: it ties the chain to one ledger."""
    return hashlib.sha256(("hosting.aup ledger %s" % ledger_id).encode("utf-8")).hexdigest()


def event_digest(number, at, kind, refs, detail_digest, prev_digest):
    """SHA-256 over everything an event says; `refs` is the stored text, so that no byte of it can change."""
    return digest(
        {"number": number, "at": at, "kind": kind, "refs": refs, "detail": detail_digest, "prev": prev_digest}
    )


def detail_digest(salt, body):
    """SHA-256 over the salt and the stored text of a detail; salted, so that a note can't be guessed."""
    return hashlib.sha256(("%s\n%s" % (salt, body)).encode("utf-8")).hexdigest()


def append(tx, kind, refs, detail=None):
    """Add one event to the chain. Returns its number.

    :param refs: ids, times and states, never personal data
    :param detail: what may have to be erased one day: notes, customer; the actor is added here
    """
    salt = secrets.token_hex(16)
    body = canonical(dict(detail or {}, actor=tx.actor)).decode("ascii")
    refs = canonical(refs).decode("ascii")
    number, previous = tx.head_number + 1, tx.head_digest
    of_detail = detail_digest(salt, body)
    own = event_digest(number, tx.now, kind, refs, of_detail, previous)
    tx.execute(
        t.event.insert().values(
            number=number,
            at=tx.now,
            kind=kind,
            refs=refs,
            detail_digest=of_detail,
            prev_digest=previous,
            digest=own,
        )
    )
    tx.execute(t.event_detail.insert().values(event_number=number, salt=salt, body=body))
    tx.execute(t.meta.update().values(head_number=number, head_digest=own))
    tx.head_number, tx.head_digest = number, own
    return number


def head(tx):
    """The chain's head as a document to keep elsewhere, as proof of everything before it."""
    at = tx.execute(sa.select(t.event.c.at).where(t.event.c.number == tx.head_number)).scalar()
    return {
        "format": HEAD_FORMAT,
        "ledger": tx.ledger_id,
        "epoch": tx.epoch,
        "number": tx.head_number,
        "digest": tx.head_digest,
        "at": iso(at),
    }


def detail_of(tx, number):
    """The detail of an event as a dict, or None when it was erased."""
    body = tx.execute(
        sa.select(t.event_detail.c.body).where(t.event_detail.c.event_number == number)
    ).scalar()
    return json.loads(body) if body is not None else None


class _Walk:
    """Collects what is wrong while the chain is walked."""

    def __init__(self):
        self.problems = []
        self.count = 0

    def add(self, number, problem, message):
        self.count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append({"number": number, "problem": problem, "message": message})

    def check_order(self, row, expected, previous):
        """Note an event that is not the next one, or not as it was written.

        :param expected: the number of the next one
        :param previous: the digest of the one before
        """
        if row.number != expected:
            self.add(expected, "missing", "event %d is missing; the next one there is %d." % (expected, row.number))
        elif row.prev_digest != previous:
            self.add(row.number, "fork", "event %d does not follow from the event before it." % row.number)
        if event_digest(row.number, row.at, row.kind, row.refs, row.detail_digest, row.prev_digest) != row.digest:
            self.add(row.number, "changed", "event %d was changed after it was written." % row.number)


def verify(tx, head=None):
    """Walk the whole chain and say where it breaks.

    :param head: a head exported earlier; proves that the ledger still contains it
    :returns: `{"ok", "events", "erased", "problem_count",
        "problems": [{"number", "problem", "message"}], "head"}`
    """
    walk, wanted = _Walk(), _checked_head(head)
    expected, previous, epoch = 1, genesis(tx.ledger_id), 1
    erased, erasures, found = {}, {}, None
    rows = tx.execute(
        sa.select(
            t.event,
            t.event_detail.c.event_number.label("has_detail"),
            t.event_detail.c.salt,
            t.event_detail.c.body,
            t.event_detail.c.erased_at,
        )
        .outerjoin(t.event_detail, t.event_detail.c.event_number == t.event.c.number)
        .order_by(t.event.c.number)
    )
    for row in rows:
        walk.check_order(row, expected, previous)
        _check_detail(walk, row, erased)
        if row.kind in ("details_erased", "epoch_bumped"):
            refs = _refs(row.refs)
            epoch = refs.get("epoch", epoch)
            erasures.update((number, row.at) for number in refs.get("events", ()))
        if wanted and row.number == wanted["number"]:
            found = row.digest
        previous, expected = row.digest, row.number + 1
    _check_without_event(walk, tx)
    for number, at in erased.items():
        if erasures.get(number) != at:
            walk.add(
                number,
                "detail_erased_unrecorded",
                "the detail of event %d was erased, and no event says so." % number,
            )
    if (tx.head_number, tx.head_digest) != (expected - 1, previous):
        walk.add(
            tx.head_number,
            "missing",
            "the log ends at event %d, the ledger's head is %d: the end was cut off,"
            " added to or changed." % (expected - 1, tx.head_number),
        )
    if epoch != tx.epoch:
        walk.add(
            tx.head_number, "changed", "the ledger is in epoch %d, its events say %d." % (tx.epoch, epoch)
        )
    if wanted:
        _check_head(walk, tx, wanted, found)
    return {
        "ok": not walk.count,
        "events": expected - 1,
        "erased": len(erased),
        "problem_count": walk.count,
        "problems": walk.problems,
        "head": {
            "ledger": tx.ledger_id,
            "epoch": tx.epoch,
            "number": tx.head_number,
            "digest": tx.head_digest,
        },
    }


def _check_without_event(walk, tx):
    orphans = tx.execute(
        sa.select(t.event_detail.c.event_number).where(
            t.event_detail.c.event_number.not_in(sa.select(t.event.c.number))
        )
    )
    for number in orphans.scalars():
        walk.add(number, "detail_changed", "there is a detail of event %s, but no such event." % number)


def _refs(text):
    try:
        refs = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return refs if isinstance(refs, dict) else {}


def _check_detail(walk, row, erased):
    if row.has_detail is None:
        walk.add(
            row.number,
            "detail_missing",
            "the detail of event %d was removed; an erased one leaves its row." % row.number,
        )
    elif row.erased_at is not None:
        erased[row.number] = row.erased_at
        if row.body is not None or row.salt is not None:
            walk.add(
                row.number,
                "detail_changed",
                "the detail of event %d is marked erased, but is still there." % row.number,
            )
    elif detail_digest(row.salt, row.body) != row.detail_digest:
        walk.add(
            row.number,
            "detail_changed",
            "the detail of event %d was changed after it was written." % row.number,
        )


def _checked_head(document):
    if document is None:
        return None
    wrong = (
        not isinstance(document, dict)
        or document.get("format") != HEAD_FORMAT
        or not (
            isinstance(document.get("ledger"), str)
            and isinstance(document.get("number"), int)
            and isinstance(document.get("epoch"), int)
            and isinstance(document.get("digest"), str)
        )
    )
    if wrong:
        raise InputError(
            "head is not an exported head of a ledger.",
            target="head",
            remedy="Give the document that ledger_info what=head returned.",
        )
    return document


def _check_head(walk, tx, wanted, found):
    if wanted["ledger"] != tx.ledger_id:
        walk.add(
            wanted["number"],
            "head",
            "the head is of ledger %s, this is ledger %s." % (wanted["ledger"], tx.ledger_id),
        )
    elif wanted["epoch"] > tx.epoch:
        walk.add(
            wanted["number"],
            "head",
            "the head is of epoch %d, the ledger is still in epoch %d: it was restored from"
            " an older backup." % (wanted["epoch"], tx.epoch),
        )
    elif found is None:
        walk.add(
            wanted["number"],
            "head",
            "the ledger does not reach event %d of the head: it was cut off or restored from"
            " an older backup." % wanted["number"],
        )
    elif found != wanted["digest"]:
        walk.add(
            wanted["number"],
            "head",
            "event %d is not the one the head was made of: history was rewritten." % wanted["number"],
        )
