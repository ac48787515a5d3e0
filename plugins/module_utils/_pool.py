# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest was before its first enforcement, while it moves between the nodes of its pool. Pure. PRIVATE to the collection.

A service has one prior state, wherever its guest is: the ledger gives each node of the pool the one that was recorded
first. A node's own copy is worth more only by its `touched`, and only as long as the ledger has the same one open and the
guest is there. What was set on the guest goes with it by way of the ledger too: each node says it of the guests that it has.
"""
from __future__ import annotations

_RUNS_NOT = ("paused", "off")


def keep_own(own, service, generation):
    """The node's own copy of a service's prior state, or None when it is not to be used any more.

    :param own: as kept on the node; `recorded` is the last generation in which the ledger had it, absent if none
    :param service: entry of the desired state
    :param generation: of that desired state, `[epoch, generation]`
    """
    if own is None or not service.get("elsewhere"):
        return own
    named = service["baseline"]
    if named is not None:
        return own if named["digest"] == own["digest"] else None
    recorded = own.get("recorded")
    if recorded is not None and list(generation) > list(recorded):
        return None  # it was given back on another node, and the ledger has closed it
    return own


def taken_over(service, boot_id):
    """What another node of the pool has set on a service's guest, for the node where it is now; None if nobody said.

    :param service: entry of the desired state
    :param boot_id: of this host: what was paused here by then was not lost with another host's reboot
    """
    touched = (service["baseline"] or {}).get("touched")
    if touched is None or not touched["power"]:
        return touched
    return dict(touched, power=dict(touched["power"], boot_id=boot_id))


def to_tell(services, baselines):
    """`{service: {"digest", "touched"}}` of the guests of pools that are here. Pure.

    :param services: what a pass found, each with `here` and `pooled`
    :param baselines: this node's copies
    """
    return {entry["service"]: {"digest": own["digest"], "touched": own["touched"]}
            for entry in services for own in [baselines.get(entry["service"])]
            if own and own["touched"] is not None and entry["here"] and entry.get("pooled")}


def looks_held(guest):
    """Whether a guest is as a hold leaves one: it does not run, and every link that it has is down."""
    links = [nic["link_config"] if nic["link_live"] is None else nic["link_live"] for nic in guest["nics"]]
    return guest["state"] in _RUNS_NOT and bool(links) and all(link == "down" for link in links)


def on_arrival(service, guest, todo):
    """A plan that would record the present state of a guest as prior, where it may have come from another node held or throttled.

    What needs no step needs no record: nothing is touched. The record of the node where it was comes with a later desired
    state, as the ledger has it before that node touches anything.

    :param guest: from `_libvirt.detail`
    :param todo: a `_hold.HoldPlan` with everything that is to be done to the guest
    """
    if todo.prior is None or not service.get("elsewhere"):
        return todo
    if not todo.steps:
        return todo._replace(prior=None)
    hold = service["hold"]
    if not hold or hold["kind"] == "quarantine" or not looks_held(guest):
        return todo
    error = {
        "service": service["id"], "code": "prior_unknown", "retryable": True,
        "message": "Guest %s came here %s with its links down: what it was before it was held is not known on this node yet."
                   % (guest["name"], guest["state"]),
        "remedy": "Run `reconcile` for all nodes of its pool. Was it like that before, resume it or put a link up, then reconcile.",
    }
    return todo._replace(steps=[], prior=None, errors=todo.errors + [error])
