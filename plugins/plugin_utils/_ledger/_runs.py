# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs: what each one set out to do, and what it saw on each node. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import (
    held_since,
    unseen,
    verified_gone,
    verified_in_force,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._nodes import close_baselines, meet, unowned
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb


ROUTINE = "routine"
"""The run id of what is done again and again and usually changes nothing: it becomes a run when it has something to say."""
_REPEAT = 3600
"""Seconds after which a failure that stays the same goes on record again."""


@verb
def start_run(tx, verb, inputs=None, services=()):
    """Note that a run begins. Returns its id, `run-<number>`.

    :param verb: the runbook: suspend, reconcile …
    :param inputs: its inputs as given, kept in the event's erasable detail
    :param services: ids of the services it is about
    """
    number = tx.next_number(t.run.c.number)
    run_id = "run-%d" % number
    inputs_digest = digest(inputs or {})
    event = tx.append(
        "run_started",
        {"run": run_id, "verb": values.identifier(verb, "verb"), "services": sorted(services)},
        {"inputs": inputs or {}},
    )
    tx.execute(
        t.run.insert().values(
            id=run_id,
            number=number,
            verb=verb,
            started_at=tx.now,
            inputs_digest=inputs_digest,
            event_number=event,
        )
    )
    return run_id


@verb
def record_result(
    tx, run_id, node, outcome, fence=None, services=(), ended_ids=(), baselines_closed=(), summary=None, absent=()
):
    """Record what a run saw on a node. "Active" and "ended" come from here alone.

    :param outcome: changed, unchanged, failed, unreachable … (a word)
    :param fence: the fence the node now holds; None when it was not reached: then it does not count as seen
    :param services: [{"service", "enforcement_ids": verified in force, "ended_ids": verified gone,
        "outcome", "error"}]; only services there is something to say about
    :param ended_ids: more enforcements verified gone
    :param baselines_closed: services that are again as their baseline says
    :param absent: services whose guest is on another node of the pool, or on none: their prior state is closed from here
        only when that is true of all its nodes
    :returns: `{"activated": [ids], "ended": [ids], "waiting": {id: [nodes still to be seen]},
        "baselines_closed": [services]}`
    :param run_id: None for a node converged on its own, which is then a run by itself; `ROUTINE` for one of many, on
        record only with news: a change, a failure, or one that is over. What stays the same touches the node's row alone
    :raises InputError: no such run
    """
    outcome = values.identifier(outcome, "outcome")
    seen = {"last_outcome": outcome}
    if fence is not None:
        seen.update(last_seen_at=tx.now, fence=values.to_text(fence))
    kept = {name: (summary or {}).get(name) for name in ("errors", "gaps", "disarmed")}
    said = digest({"outcome": outcome, "summary": kept, "services": [
        [entry["service"], entry.get("outcome"), entry.get("error")] for entry in services if entry.get("error")]})
    if run_id == ROUTINE:
        row = meet(tx, node)
        repeated = row["recorded_digest"] == said and (outcome == "unchanged" or tx.now < (row["recorded_at"] or 0) + _REPEAT)
        if outcome != "changed" and repeated and not _news(
                tx, node, services, ended_ids, [*baselines_closed, *unowned(tx, node, absent)]):
            tx.execute(t.node.update().where(t.node.c.name == node).values(**seen))
            return {"activated": [], "ended": [], "waiting": {}, "baselines_closed": []}
        run_id = start_run(tx, "reconcile", {"node": node})
    if run_id is None:
        run_id = start_run(tx, "converge", {"node": node})
    if not tx.execute(sa.select(t.run.c.id).where(t.run.c.id == run_id)).first():
        raise InputError("there is no run %s." % run_id, target="run_id", remedy="start_run comes first.")
    meet(tx, node)
    tx.append(
        "node_result",
        {
            "run": run_id,
            "node": node,
            "outcome": outcome,
            "fence": fence,
            "failed": sorted(entry["service"] for entry in services if entry.get("error")),
        },
    )
    activated = verified_in_force(
        tx, node, [i for entry in services for i in entry.get("enforcement_ids") or ()]
    )
    ended, waiting = verified_gone(
        tx, node, [*ended_ids, *(i for entry in services for i in entry.get("ended_ids") or ())]
    )
    # Somebody may have opened another enforcement since this run read the ledger: the prior state is that one's now.
    later = held_since(tx, [*baselines_closed, *absent], (fence or {}).get("generation"))
    closed = close_baselines(tx, node, sorted({*baselines_closed, *unowned(tx, node, absent)} - later))
    number = tx.next_number(t.node_result.c.number)
    rows = [_row(tx, run_id, node, None, outcome, None, summary)]
    rows += [
        _row(tx, run_id, node, entry["service"], entry.get("outcome") or outcome, entry.get("error"), None)
        for entry in services
    ]
    tx.execute(t.node_result.insert(), [dict(row, number=number + index) for index, row in enumerate(rows)])
    seen.update(last_run_id=run_id, recorded_at=tx.now, recorded_digest=said)
    tx.execute(t.node.update().where(t.node.c.name == node).values(**seen))
    return {"activated": activated, "ended": ended, "waiting": waiting, "baselines_closed": closed}


def _news(tx, node, services, ended_ids, baselines_closed):
    """Whether what was seen moves an enforcement or a baseline on."""
    if baselines_closed:
        return True
    in_force = [number for entry in services for number in entry.get("enforcement_ids") or ()]
    gone = [*ended_ids, *(number for entry in services for number in entry.get("ended_ids") or ())]
    return unseen(tx, node, in_force, "in_force") or unseen(tx, node, gone, "gone")


def _row(tx, run_id, node, service, outcome, error, summary):
    return {
        "run_id": run_id,
        "node": node,
        "service": service,
        "outcome": outcome,
        "error": None if error is None else error if isinstance(error, str) else values.to_text(error),
        "recorded_at": tx.now,
        "summary": None if summary is None else values.to_text(summary),
    }


@reader
def run_failed(tx, run_id):
    """Whether a node of this run failed or could not be reached, by its last result."""
    if run_id in (None, ROUTINE):
        return False
    return any(
        node["outcome"] in ("failed", "unreachable") for node in run_summary(tx, run_id)["nodes"].values()
    )


@reader
def run_summary(tx, run_id):
    """What a run saw on each node.

    `{"run", "verb", "started_at", "nodes": {node: {"outcome", "at", "summary", "services": [...]}}}`.

    A node that was recorded twice (a retry) shows its last result.

    :raises InputError: no such run
    """
    run = tx.execute(sa.select(t.run).where(t.run.c.id == run_id)).first()
    if run is None:
        raise InputError(
            "there is no run %s." % run_id,
            target="run_id",
            remedy="ledger_info what=nodes names the last runs.",
        )
    nodes = {}
    for row in tx.execute(
        sa.select(t.node_result).where(t.node_result.c.run_id == run_id).order_by(t.node_result.c.number)
    ):
        if row.service is None:
            nodes[row.node] = {
                "outcome": row.outcome,
                "at": row.recorded_at,
                "summary": values.from_text(row.summary),
                "services": [],
            }
        else:
            nodes[row.node]["services"].append(
                {"service": row.service, "outcome": row.outcome, "error": row.error}
            )
    return {
        "run": run.id,
        "verb": run.verb,
        "started_at": run.started_at,
        "inputs_digest": run.inputs_digest,
        "nodes": nodes,
    }
