# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer of services, counted from samples of their ports' counters. PRIVATE to the collection.

Samples are cumulative, so the ledger keeps each counter as last seen and adds what it has grown by, in the same
transaction: a sample taken twice, or by two controllers, adds nothing the second time.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _usage as pure
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_COLUMNS = ("service", "begins_at", "ends_at", "received", "sent", "sampled_at", "told", "case_id", "capped_over", "closed_at")


@reader
def usage_windows(tx, *conditions, service=None):
    """Windows of transfer as documents, by service and beginning."""
    wanted = [t.usage_window.c.service == service] if service is not None else []
    rows = tx.execute(sa.select(t.usage_window).where(*conditions, *wanted).order_by(t.usage_window.c.service, t.usage_window.c.begins_at))
    return [{name: getattr(row, name) for name in _COLUMNS} for row in rows]


@reader
def began_metering(tx, service):
    """When the first sample of a service was taken, or None."""
    return tx.execute(sa.select(t.usage_meter.c.began_at).where(t.usage_meter.c.service == service)).scalar()


@verb
def record_usage(tx, node, taken_at, samples):
    """Count what the ports of a node have carried since they were last looked at.

    :param taken_at: when, by the node's clock
    :param samples: `[{"service", "anchor" or None, "mac", "counter", "received", "sent"}]`; without an anchor windows
        begin on the day of the service's first sample
    :returns: `{"services": [those counted], "refused": [{"service", "mac", "why", "message", "remedy"}]}`
    :raises InputError: from the future, or not numbers of bytes; then nothing of it is counted
    """
    node, taken_at = values.identifier(node, "node"), values.moment(taken_at, "taken_at")
    if taken_at > tx.now + pure.AHEAD:
        raise InputError(
            "node %s: its samples are of %s, which is %d s ahead of the controller's clock."
            % (node, iso(taken_at), taken_at - tx.now),
            target=node, remedy="Set the clocks (NTP) and meter again; nothing of it was counted.",
        )
    _check(node, samples)
    counted, refused = set(), []
    known = _last_seen(tx, [one["counter"] for one in samples])
    metered = set(tx.execute(sa.select(t.usage_meter.c.service).where(
        t.usage_meter.c.service.in_({one["service"] for one in samples}))).scalars())
    for one in sorted(samples, key=lambda s: s["counter"]):
        row = known.get(one["counter"])
        last = None if row is None else (row.taken_at, row.received, row.sent)
        what, received, sent = pure.judge(last, taken_at, one["received"], one["sent"], one["service"] in metered)
        if what == "refused":
            refused.append(_refuse(tx, node, taken_at, one, row, received))
        elif what == "count":
            _keep(tx, node, taken_at, one, row)
            if one["service"] not in metered and began_metering(tx, one["service"]) is None:
                tx.execute(t.usage_meter.insert().values(service=one["service"], began_at=taken_at))
            _add(tx, one, taken_at, received, sent)
            counted.add(one["service"])
    return {"services": sorted(counted), "refused": refused}


def _check(node, samples):
    seen = set()
    for one in samples:
        values.identifier(one["service"], "service")
        counter = values.identifier(one["counter"], "counter")
        whole = all(isinstance(one[name], int) and not isinstance(one[name], bool) and 0 <= one[name] <= pure.LARGEST
                    for name in ("received", "sent"))
        if not whole or counter in seen:
            wrong = "counter %s is there twice" % counter if whole else "%r and %r are not numbers of bytes" % (
                one["received"], one["sent"])
            raise InputError(
                "node %s, NIC %s of %s: %s." % (node, one["mac"], one["service"], wrong),
                target=node, remedy="Read the node again with hosting.aup.kvm_usage; nothing of it was counted.")
        seen.add(counter)


def _last_seen(tx, counters):
    found = {}
    for first in range(0, len(counters), 500):
        rows = tx.execute(sa.select(t.usage_counter).where(t.usage_counter.c.counter.in_(counters[first:first + 500])))
        found.update((row.counter, row) for row in rows)
    return found


def _refuse(tx, node, taken_at, one, row, why):
    place = "node %s, NIC %s of %s (counter %s)" % (node, one["mac"], one["service"], one["counter"])
    if why == "older":
        message = "%s: the sample is of %s, and one of %s was counted." % (place, iso(taken_at), iso(row.taken_at))
        remedy = "Nothing is lost: the newer one has it all. If it stays so, the node's clock was set back; wait or set it (NTP)."
    else:
        message = "%s: it went back from %d and %d bytes to %d and %d." % (place, row.received, row.sent, one["received"], one["sent"])
        remedy = "Counters of a port only grow: look who resets them. Nothing is counted until it is past its former value."
        said = "%d %d" % (one["received"], one["sent"])
        if row.refused is None:
            tx.append("usage_refused", {"service": one["service"], "node": node, "mac": one["mac"], "counter": one["counter"],
                                        "from": [row.received, row.sent], "to": [one["received"], one["sent"]]})
        tx.execute(t.usage_counter.update().where(t.usage_counter.c.counter == one["counter"]).values(refused=said))
    return {"service": one["service"], "mac": one["mac"], "why": why, "message": message, "remedy": remedy}


def _keep(tx, node, taken_at, one, row):
    seen = {"service": one["service"], "mac": one["mac"], "node": node, "taken_at": taken_at, "received": one["received"],
            "sent": one["sent"], "refused": None}
    if row is None:
        tx.execute(t.usage_counter.insert().values(counter=one["counter"], **seen))
    else:
        tx.execute(t.usage_counter.update().where(t.usage_counter.c.counter == one["counter"]).values(**seen))


def _add(tx, one, taken_at, received, sent):
    anchor = one.get("anchor")
    begin, end = pure.window(began_metering(tx, one["service"]) if anchor is None else anchor, taken_at)
    of = (t.usage_window.c.service == one["service"]) & (t.usage_window.c.begins_at == begin)
    columns = t.usage_window.c
    done = tx.execute(t.usage_window.update().where(of).values(
        received=columns.received + received, sent=columns.sent + sent,
        sampled_at=sa.case((columns.sampled_at < taken_at, taken_at), else_=columns.sampled_at)))
    if not done.rowcount:
        tx.execute(t.usage_window.insert().values(
            service=one["service"], begins_at=begin, ends_at=end, received=received, sent=sent, sampled_at=taken_at, told=0))


@reader
def usage_lives(tx, node):
    """`{guest's number: document}`: how the counters of a cluster's guests were seen last (`_usage_lives.follow`)."""
    rows = tx.execute(sa.select(t.usage_life.c.guest, t.usage_life.c.document).where(t.usage_life.c.node == node))
    return {guest: values.from_text(document) for guest, document in rows}


@verb
def keep_usage_lives(tx, node, documents):
    """Keep how counters were seen.

    :param documents: `{guest's number: document}` of those that changed; as text, which check mode makes of them
    """
    for guest in sorted(documents, key=int):
        of = (t.usage_life.c.node == node) & (t.usage_life.c.guest == int(guest))
        text = values.to_text(documents[guest])
        if not tx.execute(t.usage_life.update().where(of).values(document=text)).rowcount:
            tx.execute(t.usage_life.insert().values(node=node, guest=int(guest), document=text))


@verb
def note_threshold(tx, service, begins_at, percent, used, allowance):
    """Write down that a service has reached a part of its allowance, once. Returns whether it is new."""
    of = (t.usage_window.c.service == service) & (t.usage_window.c.begins_at == begins_at)
    if tx.execute(sa.select(t.usage_window.c.told).where(of)).scalar() >= percent:
        return False
    tx.append("usage_threshold", {"service": service, "begins_at": begins_at, "percent": percent, "bytes": used, "allowance": allowance})
    tx.execute(t.usage_window.update().where(of).values(told=percent))
    return True


@verb
def note_exceeded(tx, service, begins_at, case_id, capped_over=None):
    """Tie a window to the case about it, and remember above which allowance the service was capped."""
    of = (t.usage_window.c.service == service) & (t.usage_window.c.begins_at == begins_at)
    new = {"case_id": case_id} if capped_over is None else {"case_id": case_id, "capped_over": capped_over}
    tx.execute(t.usage_window.update().where(of).values(**new))


@verb
def close_window(tx, service, begins_at):
    """Close a window that is over, with its sums in the log."""
    of = (t.usage_window.c.service == service) & (t.usage_window.c.begins_at == begins_at)
    row = tx.execute(sa.select(t.usage_window).where(of)).one()
    tx.append("usage_window_closed", {"service": service, "case": row.case_id, "begins_at": begins_at, "ends_at": row.ends_at,
                                      "received": row.received, "sent": row.sent})
    tx.execute(t.usage_window.update().where(of).values(closed_at=tx.now))
