# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ladder needs to know of a case, and its steps on record. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._ladder import History
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import find_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import HOLDING, find_enforcements
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._proposals import proposals
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import told_at
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb


def _cases_of(tx, service, violation):
    """Rows of the cases of this violation that are about a service or held it, oldest first."""
    held = sa.select(t.enforcement.c.case_id).where(t.enforcement.c.service == service)
    return tx.execute(
        sa.select(t.case)
        .where(t.case.c.violation == violation, sa.or_(t.case.c.service == service, t.case.c.id.in_(held)))
        .order_by(t.case.c.opened_at, t.case.c.event_number)
    ).all()


@reader
def open_case_of(tx, service, violation):
    """Id of the newest open case of this violation and service, or None."""
    return next((row.id for row in reversed(_cases_of(tx, service, violation)) if row.status == "open"), None)


@reader
def ladder_history(tx, service, violation, case_id):
    """What happened so far, for `_ladder.next_step`.

    :param case_id: None for a case that is yet to be opened
    :returns: History
    """
    case = find_case(tx, case_id) if case_id is not None else None
    taken = [] if case is None else find_enforcements(
        tx, t.enforcement.c.service == service, t.enforcement.c.case_id == case_id, t.enforcement.c.status != "cancelled")
    return History(
        opened_at=case and case["opened_at"],
        taken=tuple({"kind": e["kind"], "at": e["starts_at"], "in_force": e["status"] in HOLDING, "until_at": e["ends_at"]}
                    for e in taken),
        proposed=tuple((p["kind"], p["id"]) for p in proposals(tx, service) if p["case_id"] == case_id),
        occurrences=tuple(row.opened_at for row in _cases_of(tx, service, violation)),
        notified_at=None if case_id is None else told_at(tx, case_id, service),
    )


@verb
def record_step(tx, *, service, case_id, violation, step, action, kind, policy_key, evidence, why, subject_id, note=None):
    """Put a step of the ladder into the case: what was done or proposed, on which evidence.

    :param evidence: names of what the caller vouched for
    :param subject_id: id of the enforcement or proposal
    """
    return tx.append(
        "ladder_step",
        {"service": values.identifier(service, "service"), "case": case_id, "violation": violation, "step": step,
         "action": action, "kind": kind, "policy": policy_key, "evidence": sorted(evidence), "subject": subject_id},
        {"why": why, "note": values.free_text(note, "note")},
    )
