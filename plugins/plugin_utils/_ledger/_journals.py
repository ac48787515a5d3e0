# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes did by themselves, taken in at the next contact. PRIVATE to the collection.

A journal comes from a host where customers' code runs: it may say that something is over whose end had
come, and what was done by hand, and nothing else. An entry is taken in once, whoever brings it.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import (
    ended_by_node,
    find_enforcements,
    verified_in_force_by_id,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._nodes import close_baselines, meet, open_baselines
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

AHEAD_SECONDS = 60  # a node whose clock is further ahead than this ended nothing in time
_BY_HAND = ("held", "released", "disarmed", "rearmed")


def _row(tx, node):
    return tx.execute(sa.select(t.node_journal).where(t.node_journal.c.node == node)).first()


def _write(tx, node, **columns):
    if _row(tx, node) is None:
        tx.execute(t.node_journal.insert().values(**{"node": node, "journal": None, "number": 0, "by_hand": "{}", **columns}))
    else:
        tx.execute(t.node_journal.update().where(t.node_journal.c.node == node).values(**columns))


@verb
def take_journal(tx, node, journal, entries):
    """Take in a node's journal.

    :param journal: its name, as the node gives it
    :param entries: `[{"number", "at", "what", …}]`
    :returns: `{"ended": [ids], "began": [ids], "given_back": [services], "refused": [sentences], "number": taken up to}`
    :raises InputError: it has no usable name
    """
    meet(tx, node)
    return _take_in(tx, node, journal, entries, _take)


@verb
def take_host_journal(tx, cluster, host, journal, entries):
    """Take in the journal of one node of a cluster.

    What is over in its packet filter is on record then, and no more: of a cluster's services the ledger keeps what its API was
    seen to have done, and that ends them.

    :param cluster: the ledger's node
    :param host: the node's name; it is none of the ledger's nodes
    :returns: as `take_journal`; `ended` and `began` are what the packet filter of this node did
    """
    def take(tx, host, entry, done):
        _take_of_host(tx, cluster, host, entry, done)

    return _take_in(tx, values.identifier(host, "host"), journal, entries, take)


def _take_in(tx, node, journal, entries, take):
    """Each entry that is new, once.

    :param take: `take(tx, node, entry, done)`
    """
    journal = values.identifier(journal, "journal")
    row = _row(tx, node)
    taken = row.number if row and row.journal == journal else 0
    done = {"ended": [], "began": [], "given_back": [], "refused": [], "number": taken}
    for entry in sorted(entries, key=lambda entry: entry["number"]):
        if entry["number"] <= taken:
            continue
        try:
            take(tx, node, entry, done)
        except (InputError, KeyError, TypeError) as exc:
            done["refused"].append("entry %d is not one of a journal: %s" % (entry["number"], exc))
        done["number"] = entry["number"]
    if done["number"] != taken:
        tx.append("journal_taken", {"node": node, "journal": journal, "number": done["number"],
                                    "refused": len(done["refused"])})
        _write(tx, node, journal=journal, number=done["number"])
    return done


def _take_of_host(tx, cluster, host, entry, done):
    what = entry["what"]
    if what not in ("ended", "began"):
        _take(tx, host, entry, done)
        return
    number = values.identifier(entry["enforcement_id"], "enforcement")
    document = next(iter(find_enforcements(tx, t.enforcement.c.id == number)), None)
    if document is None or cluster not in document["snapshot"]["nodes"]:
        done["refused"].append("enforcement %s, of which %s speaks, is not one of %s" % (number, host, cluster))
        return
    tx.append("packet_filter_" + what, {
        "node": host, "enforcement": number, "service": document["service"],
        "at": values.moment(entry["at"], "at"), "at_node": values.moment(entry["seen_at"], "seen_at")})
    done[what].append(number)


def _take(tx, node, entry, done):
    what, at = entry["what"], values.moment(entry["at"], "at")
    if what == "ended":
        seen_at = values.moment(entry["seen_at"], "seen_at")
        number = values.identifier(entry["enforcement_id"], "enforcement")
        ended, why = ended_by_node(tx, node, number, at, seen_at, bool(entry["held"]), tx.now + AHEAD_SECONDS)
        if ended:
            done["ended"].append(number)
        if why:
            done["refused"].append(why)
    elif what == "began":
        number = values.identifier(entry["enforcement_id"], "enforcement")
        done["began"] += verified_in_force_by_id(tx, node, number)
    elif what == "given_back":
        service, digest = values.identifier(entry["service"], "service"), entry["digest"]
        kept = open_baselines(tx, node, services=[service])
        if kept and kept[0]["digest"] == digest:
            done["given_back"] += close_baselines(tx, node, [service])
    elif what in _BY_HAND:
        refs = {"node": node, "what": what, "at_node": at}
        if entry.get("service") is not None:
            refs["service"] = values.identifier(entry["service"], "service")
        if entry.get("controls"):
            refs["controls"] = [values.identifier(control, "control") for control in entry["controls"]]
        tx.append("node_by_hand", refs, {
            "reason": values.free_text(entry.get("reason"), "reason"), "by": values.free_text(entry.get("actor"), "actor"),
            "until_at": values.moment(entry.get("until_at"), "until_at", optional=True)})
    elif what == "mended":
        steps = [values.free_text("; ".join(map(str, step)) if isinstance(step, list) else str(step), "step")[:500]
                 for step in entry["steps"][:20]]
        tx.append("node_mended", {"node": node, "at_node": at}, {"steps": steps})
    else:
        done["refused"].append("entry %d says %r, which this release does not know" % (entry["number"], what))


@verb
def note_by_hand(tx, node, held):
    """Keep what is held on a node by hand, so that it is not forgotten. Returns whether that changed.

    :param held: `{service: {"id", "at", "until_at", "power", "reason", "actor"}}`
    """
    kept = {
        values.identifier(service, "service"): {
            "at": values.moment(terms["at"], "at"), "until_at": values.moment(terms["until_at"], "until_at", optional=True),
            "reason": values.free_text(terms["reason"], "reason"), "actor": values.free_text(terms["actor"], "actor")}
        for service, terms in held.items()
    }
    row = _row(tx, node)
    if values.to_text(kept) == (row.by_hand if row else "{}"):
        return False
    _write(tx, node, by_hand=values.to_text(kept))
    return True


@reader
def held_by_hand(tx):
    """`[{"node", "service", "at", "until_at", "reason", "actor"}]`, as the nodes said when they were seen last."""
    rows = tx.execute(sa.select(t.node_journal).order_by(t.node_journal.c.node))
    return [dict(terms, node=row.node, service=service)
            for row in rows for service, terms in sorted(values.from_text(row.by_hand).items())]
