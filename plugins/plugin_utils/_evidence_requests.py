# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask about evidence: file and row together, whatever dies in between. PRIVATE to the collection.

A file is put in place within the transaction that writes its row. Whoever dies before its end leaves a file without
a row, which `verify` names; never a row without a file. With removal the row comes first and the file after it, so
there is never a row that says kept of a file that is gone.
"""

from __future__ import annotations

import mimetypes
import os
from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._case_page import visible
from ansible_collections.hosting.aup.plugins.plugin_utils._evidence_store import Store, digest_of
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

_TYPES = mimetypes.MimeTypes()  # Python's own table: the same on every controller
_LONGEST_NAME = 255
_FLAGS = {
    "held": ("legal_hold", True), "hold_released": ("legal_hold", False),
    "notices_locked": ("no_notice", True), "notices_released": ("no_notice", False),
}


def store_of(ledger, tx, directory=None):
    """The store of a ledger: the directory named, else the one beside a ledger in a file.

    :raises InputError: a ledger in a database server, and no directory named
    """
    if directory in (None, "") and ledger.file is None:
        raise InputError("directory is missing: this ledger is no file that evidence could be kept beside.", target="directory",
                         remedy="Name one of its own on the controller: aup_evidence_dir.")
    return Store(str(directory) if directory not in (None, "") else ledger.file + ".evidence", tx.ledger_id)


def shown_name(path, given=None):
    """What a file is to be called: plain, visible text and nothing that is a path."""
    name = given if given not in (None, "") else os.path.basename(path)
    name = visible(str(name).encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", "\\u000a").replace("\t", "\\u0009"))
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME - 1] + "…"


def line(one):
    """One piece of evidence as a line for people."""
    what = {"kept": "kept", "hash_only": "hash alone", "removed": "removed %s" % iso(one["removed_at"])}[one["status"]]
    return "%s of case %s: %s, %d bytes, %s, SHA-256 %s, class %s, %s" % (
        one["id"], one["case"], "name erased" if one["erased"] else one["name"] or "no name", one["size"], one["media_type"], one["sha256"],
        one["class"], what)


def listed(tx, case=None):
    """Evidence, standing flags and disclosures of a case; without one, all evidence."""
    if case in (None, ""):
        found, flags, given = L.find_evidence(tx), [], L.disclosures(tx)
    else:
        L.evidence_rules(tx, str(case))
        found, flags, given = L.find_evidence(tx, t.evidence.c.case_id == str(case)), L.standing_flags(tx, str(case)), L.disclosures(tx, str(case))
    what = [line(one) for one in found]
    what += ["%s since %s, by %s: %s" % ({"legal_hold": "legal hold", "no_notice": "notices locked"}[one["kind"]], iso(one["placed_at"]),
                                         one["actor"], one["reason"]) for one in flags]
    what += ["disclosed %s (%s) to %s, %s: %d digests" % (
        iso(one["disclosed_at"]), one["reference"], one["recipient"] or "erased", one["basis"] or "erased", len(one["digests"]))
        for one in given]
    return {"evidence": found, "flags": flags, "disclosures": given, "changed": False, "what": what or ["no evidence"]}


@contextmanager
def _taken(store, path, rules, check):
    """(SHA-256, size, partial name): copied where a file is to be kept, only hashed otherwise and in check mode."""
    if rules["hash_only"] or check:
        yield (*digest_of(path, rules["largest"]), None)
    else:
        with store.staged(path, rules["largest"]) as staged:
            yield staged


def add(ledger, write, check, directory=None, case=None, file=None, file_name=None, media_type=None, note=None, service=None, wanted=None):
    """Attach a file to a case.

    :param write: `write(work)` runs `work(tx)` in a transaction that writes
    """
    if file in (None, ""):
        raise InputError("file is missing.", target="file", remedy="Name it: -e file=/absolute/path.")
    with ledger.read() as tx:
        rules = L.evidence_rules(tx, case, wanted or None)
        store = None if rules["hash_only"] else store_of(ledger, tx, directory)
    name = shown_name(file, file_name)
    media_type = media_type or _TYPES.guess_type(name)[0] or "application/octet-stream"
    with _taken(store, file, rules, check) as (sha, size, partial):

        def work(tx):
            done = L.add_evidence(tx, case_id=case, sha256=sha, size=size, media_type=media_type, name=name, wanted=wanted or None,
                                  service=service, note=note)
            problem = store.problem(sha, size) if done["already"] and done["status"] == "kept" and store is not None else None
            if problem:
                L.note_restored(tx, done["id"], problem)
            if partial is not None and done["status"] == "kept" and (problem or not done["already"]):
                store.place(sha, partial)
            said = line(done) + ("; its file was %s and is in place again" % problem if problem else "; it was there already" if done["already"] else "")
            return {"evidence": [done], "changed": not done["already"] or bool(problem), "what": [said]}

        return write(work)


def flag(tx, state, case=None, reason=None):
    """Place or release a legal hold or a lock on notices."""
    kind, place = _FLAGS[state]
    done = (L.place_flag if place else L.release_flag)(tx, case_id=case, kind=kind, reason=reason)
    word = {"legal_hold": "a legal hold", "no_notice": "a lock on its notices"}[kind]
    stands = "is under %s" if place else "is not under %s"
    return {"flags": L.standing_flags(tx, done["case"]), "changed": not done["already"],
            "what": ["case %s %s%s" % (done["case"], stands % word, ", as before" if done["already"] else "")]}


def disclose(tx, case=None, reference=None, recipient=None, basis=None, evidence=None):
    """Write a disclosure down."""
    if isinstance(evidence, str):
        evidence = [one.strip() for one in evidence.split(",") if one.strip()]
    done = L.record_disclosure(tx, case_id=case, reference=reference, recipient=recipient, basis=basis, evidence=evidence)
    return {"disclosures": [done], "changed": not done["already"],
            "what": ["%s of case %s: %d digests disclosed%s" % (
                done["id"], done["case"], len(done["digests"]), ", written down before" if done["already"] else "")]}


def erase(tx, evidence=None, reason=None):
    """Erase what a file was called and who added it."""
    found = L.find_evidence(tx, t.evidence.c.id == str(evidence))
    if not found:
        raise InputError("there is no evidence %r." % (evidence,), target="evidence", remedy="Its id looks like V-3.")
    done = L.erase_details(tx, events=[found[0]["event"]], reason=reason)
    after = L.find_evidence(tx, t.evidence.c.id == str(evidence))
    return {"evidence": after, "changed": bool(done), "what": [line(after[0])]}


def remove(ledger, write, check, directory=None, evidence=None, reason=None):
    """Remove one file by a person's decision."""
    def work(tx):
        done = L.remove_evidence(tx, evidence_id=evidence, reason=reason)
        return {"evidence": [done], "changed": not done["already"], "what": [line(done)]}

    return _and_files(ledger, write, check, directory, work)


def expire(ledger, write, check, directory=None):
    """Remove the files whose retention is over, and the personal data whose time is."""
    def work(tx):
        gone, personal = L.expire_evidence(tx), L.expire_personal(tx)
        what = [line(one) for one in gone]
        if personal["notices"] or personal["events"]:
            what.append("personal data emptied: %d notices, %d entries of the log, cases %s" % (
                len(personal["notices"]), personal["events"], ", ".join(personal["cases"]) or "none"))
        return {"evidence": gone, "changed": bool(what), "what": what or ["no retention is over"]}

    return _and_files(ledger, write, check, directory, work)


def _and_files(ledger, write, check, directory, work):
    with ledger.read() as tx:
        store = store_of(ledger, tx, directory)
    done = write(work)
    if not check:
        # A transaction of its own, that keeps writers away: the rows say so for certain before a file goes.
        with ledger.transaction() as tx:
            removed = store.remove(L.lost_files(tx))
        done["changed"] = done["changed"] or bool(removed)
        done["files"] = removed
    return done


def verify(ledger, tx, directory=None):
    """What is wrong with evidence: rows against the log, files against their digests.

    :returns: `{"files", "problems": [{"evidence", "problem", "message"}]}`
    """
    problems, kept = L.evidence_problems(tx), L.find_evidence(tx, t.evidence.c.status == "kept")
    if not kept and directory in (None, "") and ledger.file is None:
        return {"files": 0, "problems": problems}
    store = store_of(ledger, tx, directory)
    words = {"missing": "is missing", "damaged": "is not what its digest says", "open": "can be read by others"}
    checked = {}
    for one in kept:
        problem = checked.setdefault(one["sha256"], store.problem(one["sha256"], one["size"]))
        if problem:
            problems.append({"evidence": one["id"], "problem": problem, "message": "the file of %s (%s) %s." % (one["id"], one["sha256"], words[problem])})
    there, strange = store.digests()
    removed = set(L.lost_files(tx))
    for sha in sorted(set(there) - set(checked)):
        problem, why = ("left", "is there though it was removed; state=expired removes it") if sha in removed else (
            "unrecorded", "is in no case: its run was killed, or an older ledger was restored; add it again")
        problems.append({"evidence": None, "problem": problem, "message": "the file %s %s." % (sha, why)})
    problems += [{"evidence": None, "problem": "strange", "message": "%r is no file of evidence." % name} for name in strange]
    return {"files": len(checked), "problems": problems}
