# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of cases by its digests, flags on cases, and disclosures. PRIVATE to the collection.

The rows and the log have digests, sizes and times. What a file was called, who added it, to whom it was given and on
what basis is in the details of the events alone, so that erasing those leaves chain and digests whole. The files
are not here but in a directory, see `_evidence_store`.
"""

from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _events
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import content
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

GENERAL = "general"
"""The class of what no class of the policy is for."""
FLAGS = ("legal_hold", "no_notice")
_DEFAULT = {"largest_mib": 256, "classes": {}}
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}/[a-z0-9][a-z0-9.+_-]{0,126}")


def released_policy(tx, key):
    """The policy document of a key, by the newest release that has it; {} when none does."""
    for row in tx.execute(sa.select(t.release.c.policies).order_by(t.release.c.id.desc())):
        found = values.from_text(row.policies).get(key)
        if found is not None:
            return content(tx, found)
    return {}


def class_of(rules, violation, wanted=None):
    """(name, terms) of the class that evidence of a violation has, or is wanted to have.

    :param rules: `evidence` of the policy
    :raises InputError: no such class; or a file would be kept of what the policy keeps the hash of alone
    """
    classes = rules.get("classes") or {}
    own = next((name for name, one in sorted(classes.items()) if violation in one["violations"]), None)
    name = wanted or own or GENERAL
    if name not in classes and name != GENERAL:
        raise InputError("class %r is not known." % (name,), target="class",
                         remedy="The case's policy has: %s." % ", ".join(sorted({GENERAL, *classes})))
    terms = classes.get(name) or {}
    if own is not None and classes[own].get("hash_only") and not terms.get("hash_only"):
        raise InputError("of a case about %s the policy keeps the hash alone (class %s), never a file." % (violation, own),
                         target="class", remedy="Leave class out.")
    return name, terms


def _case(tx, case_id):
    found = find_case(tx, str(case_id)) if case_id not in (None, "") else None
    if found is None:
        raise InputError("there is no case %r." % (case_id,), target="case", remedy="hosting.aup.status lists the open ones.")
    return found


def _person(tx, what):
    if not (tx.actor or {}).get("name") or tx.actor.get("source") == "none":
        raise InputError("%s needs to know who does it." % what, target="actor", remedy="Run it as a user of your own (SSH, sudo, AWX).")


@reader
def evidence_rules(tx, case_id, wanted=None):
    """How evidence of a case is kept: `{"class", "hash_only", "retention" (s or None), "largest" (bytes)}`.

    :raises InputError: no such case or class
    """
    case = _case(tx, case_id)
    rules = released_policy(tx, case["policy_key"]).get("evidence") or _DEFAULT
    name, terms = class_of(rules, case["violation"], wanted)
    kept = terms.get("retention")
    return {"class": name, "hash_only": bool(terms.get("hash_only")), "retention": parse_duration(kept) if kept else None,
            "largest": rules["largest_mib"] << 20}


def _document(tx, row):
    detail = _events.detail_of(tx, row.event_number)
    return {
        "id": row.id, "case": row.case_id, "service": row.service, "sha256": row.sha256, "size": row.size, "media_type": row.media_type,
        "class": getattr(row, "class"), "status": row.status, "retention": row.retention, "added_at": row.added_at,
        "removed_at": row.removed_at, "name": (detail or {}).get("name"), "added_by": ((detail or {}).get("actor") or {}).get("name"),
        "erased": detail is None, "event": row.event_number,
    }


@reader
def find_evidence(tx, *conditions):
    """Evidence that meets all conditions, as documents, oldest first."""
    rows = tx.execute(sa.select(t.evidence).where(*conditions).order_by(t.evidence.c.number)).all()
    return [_document(tx, row) for row in rows]


def _one(tx, evidence_id):
    found = find_evidence(tx, t.evidence.c.id == str(evidence_id))
    if not found:
        raise InputError("there is no evidence %r." % (evidence_id,), target="evidence", remedy="Its id looks like V-3; state=listed lists them.")
    return found[0]


def _brief(document):
    return {name: document[name] for name in ("id", "case", "sha256", "size", "media_type", "class", "status")}


def add_evidence(tx, *, case_id, sha256, size, media_type, name=None, wanted=None, service=None, note=None):
    """Put a digest into a case; its file, where one is kept, is put in place before the transaction ends.

    Not a verb: a file can't be replayed from a list of what was pending.

    :param wanted: the class; without it that of the case's violation
    :returns: the evidence with `already`
    :raises ConflictError: it was in the case and its file was removed
    """
    case, rules = _case(tx, case_id), evidence_rules(tx, case_id, wanted)
    _person(tx, "evidence")
    if not _MEDIA_TYPE.fullmatch(str(media_type)):
        raise InputError("media type %r is none." % (media_type,), target="media_type", remedy="Write it like text/plain.")
    present = find_evidence(tx, t.evidence.c.case_id == case["id"], t.evidence.c.sha256 == sha256)
    if present:
        if present[0]["status"] == "removed":
            raise ConflictError("this file was %s of case %s and was removed; it is not put back." % (present[0]["id"], case["id"]),
                                target=present[0]["id"], remedy="If it is needed again, open another case.")
        return dict(present[0], already=True)
    service = case["service"] if service in (None, "") else values.identifier(service, "service")
    number = tx.next_number(t.evidence.c.number)
    own, status = "V-%d" % number, "hash_only" if rules["hash_only"] else "kept"
    event = tx.append(
        "evidence_added",
        {"case": case["id"], "service": service, "evidence": own, "sha256": sha256, "size": size, "media_type": media_type,
         "class": rules["class"], "status": status},
        {"name": values.free_text(name, "name"), "note": values.free_text(note, "note")},
    )
    tx.execute(t.evidence.insert().values(**{
        "id": own, "number": number, "case_id": case["id"], "service": service, "sha256": sha256, "size": size, "media_type": media_type,
        "class": rules["class"], "status": status, "retention": rules["retention"], "added_at": tx.now, "event_number": event}))
    document = _one(tx, own)
    tx.changed("evidence", own, None, _brief(document))
    return dict(document, already=False)


def note_restored(tx, evidence_id, problem):
    """Write down that a file that was missing or damaged was put in place again, from a source with its digest."""
    found = _one(tx, evidence_id)
    tx.append("evidence_restored", {"case": found["case"], "service": found["service"], "evidence": found["id"], "why": problem})


def _remove(tx, document, why, reason=""):
    tx.append("evidence_removed", {"case": document["case"], "service": document["service"], "evidence": document["id"],
                                   "sha256": document["sha256"], "why": why}, {"reason": reason})
    tx.execute(t.evidence.update().where(t.evidence.c.id == document["id"]).values(status="removed", removed_at=tx.now))
    after = _one(tx, document["id"])
    tx.changed("evidence", document["id"], _brief(document), _brief(after))
    return after


@verb
def expire_evidence(tx):
    """Let go of evidence whose retention is over: counted from the closing of its case, and not under a legal hold.

    The rows stay, with their digests. Returns those let go.
    """
    held = sa.select(t.case_flag.c.case_id).where(t.case_flag.c.kind == "legal_hold", t.case_flag.c.released_at.is_(None))
    rows = tx.execute(
        sa.select(t.evidence).join(t.case, t.case.c.id == t.evidence.c.case_id)
        .where(t.evidence.c.status == "kept", t.evidence.c.retention.is_not(None), t.case.c.closed_at.is_not(None),
               t.case.c.closed_at + t.evidence.c.retention <= tx.now, t.evidence.c.case_id.not_in(held))
        .order_by(t.evidence.c.number)
    ).all()
    return [_remove(tx, _document(tx, row), "retention") for row in rows]


@verb
def remove_evidence(tx, evidence_id, reason):
    """Let go of one file by a person's decision; its row stays, with the digest.

    :returns: the evidence with `already`
    :raises ConflictError: its case is under a legal hold
    """
    reason, document = values.free_text(reason, "reason", needed=True), _one(tx, evidence_id)
    _person(tx, "a removal")
    if document["status"] != "kept":
        return dict(document, already=True)
    if standing_flags(tx, document["case"], "legal_hold"):
        raise ConflictError("case %s is under a legal hold." % document["case"], target=document["id"],
                            remedy="Who placed the hold releases it first: state=hold_released.")
    return dict(_remove(tx, document, "decision", reason), already=False)


@reader
def lost_files(tx):
    """Digests whose files are no longer wanted by any case: removed somewhere, kept nowhere."""
    kept = sa.select(t.evidence.c.sha256).where(t.evidence.c.status == "kept")
    return sorted(set(tx.execute(sa.select(t.evidence.c.sha256).where(t.evidence.c.status == "removed", t.evidence.c.sha256.not_in(kept))).scalars()))


@reader
def standing_flags(tx, case_id, kind=None):
    """Flags that stand on a case: `[{"id", "kind", "placed_at", "reason", "actor"}]`."""
    conditions = [t.case_flag.c.case_id == case_id, t.case_flag.c.released_at.is_(None)]
    conditions += [t.case_flag.c.kind == kind] if kind is not None else []
    rows = tx.execute(sa.select(t.case_flag).where(*conditions).order_by(t.case_flag.c.number)).all()
    found = []
    for row in rows:
        detail = _events.detail_of(tx, row.event_number) or {}
        found.append({"id": row.id, "kind": row.kind, "placed_at": row.placed_at, "reason": detail.get("reason"),
                      "actor": (detail.get("actor") or {}).get("name")})
    return found


def _flag_kind(kind):
    if kind not in FLAGS:
        raise InputError("flag %r is not known." % (kind,), target="kind", remedy="Use one of %s." % ", ".join(FLAGS))
    return kind


@verb
def place_flag(tx, case_id, kind, reason):
    """Put a case under a legal hold (`legal_hold`), or lock its notices so that nobody is tipped off (`no_notice`).

    :returns: `{"case", "kind", "already"}`
    """
    case, reason = _case(tx, case_id), values.free_text(reason, "reason", needed=True)
    _person(tx, "a hold or lock")
    if standing_flags(tx, case["id"], _flag_kind(kind)):
        return {"case": case["id"], "kind": kind, "already": True}
    number = tx.next_number(t.case_flag.c.number)
    event = tx.append("%s_placed" % kind, {"case": case["id"], "flag": "L-%d" % number}, {"reason": reason})
    tx.execute(t.case_flag.insert().values(id="L-%d" % number, number=number, case_id=case["id"], kind=kind, placed_at=tx.now, event_number=event))
    tx.changed("case flag", "L-%d" % number, None, {"case": case["id"], "kind": kind})
    return {"case": case["id"], "kind": kind, "already": False}


@verb
def release_flag(tx, case_id, kind, reason):
    """Release what `place_flag` placed, by a person and with a reason.

    :returns: `{"case", "kind", "already"}`
    """
    case, reason = _case(tx, case_id), values.free_text(reason, "reason", needed=True)
    _person(tx, "a release")
    standing = standing_flags(tx, case["id"], _flag_kind(kind))
    for one in standing:
        tx.append("%s_released" % kind, {"case": case["id"], "flag": one["id"]}, {"reason": reason})
        tx.execute(t.case_flag.update().where(t.case_flag.c.id == one["id"]).values(released_at=tx.now))
        tx.changed("case flag", one["id"], {"case": case["id"], "kind": kind}, None)
    return {"case": case["id"], "kind": kind, "already": not standing}


@verb
def record_disclosure(tx, case_id, reference, recipient, basis, evidence=None):
    """Write down that evidence of a case was given to somebody.

    :param reference: the letter or order; the same one is written down once
    :param recipient: to whom, likewise basis: on what ground; both in the event's detail
    :param evidence: ids; all of the case when left out
    :returns: the disclosure with `already`
    :raises ConflictError: the reference stands with other evidence
    """
    case, reference = _case(tx, case_id), values.identifier(reference, "reference")
    recipient, basis = values.free_text(recipient, "recipient", needed=True), values.free_text(basis, "basis", needed=True)
    _person(tx, "a disclosure")
    own = find_evidence(tx, t.evidence.c.case_id == case["id"])
    wanted = {str(one) for one in evidence} if evidence else {one["id"] for one in own}
    unknown = sorted(wanted - {one["id"] for one in own})
    if unknown or not wanted:
        raise InputError("case %s has no evidence%s." % (case["id"], " " + ", ".join(unknown) if unknown else ""), target="evidence",
                         remedy="state=listed lists what it has.")
    digests = sorted(one["sha256"] for one in own if one["id"] in wanted)
    present = [one for one in disclosures(tx, case["id"]) if one["reference"] == reference]
    if present:
        if present[0]["digests"] != digests:
            raise ConflictError("disclosure %s of case %s stands with other evidence." % (reference, case["id"]), target="reference",
                                remedy="Use another reference.")
        return dict(present[0], already=True)
    number = tx.next_number(t.disclosure.c.number)
    event = tx.append("evidence_disclosed", {"case": case["id"], "disclosure": "P-%d" % number, "evidence": sorted(wanted), "digests": digests},
                      {"recipient": recipient, "basis": basis, "reference": reference})
    tx.execute(t.disclosure.insert().values(id="P-%d" % number, number=number, case_id=case["id"], reference=reference,
                                            digests=values.to_text(digests), disclosed_at=tx.now, event_number=event))
    done = next(one for one in disclosures(tx, case["id"]) if one["reference"] == reference)
    tx.changed("disclosure", done["id"], None, {"case": case["id"], "digests": digests})
    return dict(done, already=False)


@reader
def disclosures(tx, case_id=None):
    """The register of disclosures, oldest first, of a case or all."""
    conditions = [] if case_id is None else [t.disclosure.c.case_id == case_id]
    found = []
    for row in tx.execute(sa.select(t.disclosure).where(*conditions).order_by(t.disclosure.c.number)).all():
        detail = _events.detail_of(tx, row.event_number) or {}
        found.append({
            "id": row.id, "case": row.case_id, "reference": row.reference, "digests": values.from_text(row.digests),
            "disclosed_at": row.disclosed_at, "recipient": detail.get("recipient"), "basis": detail.get("basis"),
            "actor": (detail.get("actor") or {}).get("name"),
        })
    return found


@reader
def evidence_problems(tx):
    """Rows that say something else than the events they were made with: `[{"evidence", "problem", "message"}]`."""
    said = {}
    rows = tx.execute(sa.select(t.event.c.refs).where(t.event.c.kind == "evidence_added"))
    for row in rows:
        refs = values.from_text(row.refs)
        said[refs["evidence"]] = refs
    found = []
    for one in find_evidence(tx):
        refs = said.pop(one["id"], None)
        if refs is None or any(refs[name] != one[name] for name in ("case", "sha256", "size", "class")):
            found.append({"evidence": one["id"], "problem": "changed", "message": "the row of %s is not what its event says." % one["id"]})
    found += [{"evidence": name, "problem": "row_missing", "message": "the row of %s is gone; its event is there." % name} for name in sorted(said)]
    return found
