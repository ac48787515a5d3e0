# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node knows beyond the desired state it was given: how far time has gone, who is held by hand. Pure. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._fold import HOLDS, POWER_ORDER
from ansible_collections.hosting.aup.plugins.module_utils._timeline import at, instants

FORMAT = 2  # of the newest desired state this code can read; 2: there may be drops, and processor throttles in cores


def check_format(desired):
    """Refuse a desired state of a later collection: what it does not say here may matter.

    :raises NodeError: code `desired_newer`
    """
    if desired["format"] > FORMAT:
        raise NodeError(
            "the desired state on this node has format %r; this program reads up to %d." % (desired["format"], FORMAT),
            code="desired_newer", remedy="Install the keeper of the newer collection: run the role kvm_host, or proxmox_host.")


def check_host(desired, host):
    """Refuse a desired state that was made for another kind of host: a KVM host asks libvirt for what a Proxmox VE node knows by names.

    :param host: what those for this kind say of themselves
    :raises NodeError: code `desired_other`
    """
    if desired.get("host") != host:
        raise NodeError(
            "the desired state on this node is for %s, this program for %s."
            % tuple({None: "a KVM host", "proxmox": "a Proxmox VE node"}.get(one, one) for one in (desired.get("host"), host)),
            code="desired_other", remedy="Install the keeper of the node's kind: run the role proxmox_host, or kvm_host.")


def check_hold_by_hand(service, power, desired):
    """Refuse what can't be held.

    :raises InputError: another power, or no such service on this node
    """
    if power not in POWER_ORDER:
        raise InputError("power %r is not known." % (power,), target="power", remedy="Use %s." % ", ".join(POWER_ORDER))
    known = [] if desired is None else [one["id"] for one in desired["services"]]
    if service not in known:
        near = [sid for sid in known if service in sid][:5] or known[:5]
        raise InputError("no service %r is known on this node." % (service,), target="service",
                         remedy="Known are, among others: %s." % ", ".join(near) if near else "Provision the node first.")


def generation(desired):
    """What tells one accepted desired state from another."""
    return [desired["fence"]["epoch"], desired["fence"]["generation"]]


def reach(reached, desired, moment):
    """How far time has gone for this desired state: never back, and not on while no clock can be trusted.

    :param reached: `{"generation", "at"}` as the node keeps it, or None
    :param moment: seconds since the epoch, or None
    :returns: the instant last passed, to be kept; None before the first
    """
    known = reached["at"] if reached and reached["generation"] == generation(desired) else None
    if moment is None:
        return known
    gone = [instant for instant in instants(desired) if instant <= moment]
    return max([one for one in (known, gone[-1] if gone else None) if one is not None], default=None)


def _with_hand(service, hand):
    hold = service["hold"]
    kind, power = "suspend", hand["power"]
    numbers, until = [hand["id"]], hand["until_at"]
    if hold:
        numbers = sorted(set(numbers) | set(hold["enforcement_ids"]))
        if hold["kind"] == "suspend":
            power = max(power, hold["power"] or POWER_ORDER[0], key=POWER_ORDER.index)
            until = None if None in (until, hold["until_at"]) else max(until, hold["until_at"])
        elif HOLDS.index(hold["kind"]) > HOLDS.index(kind):
            kind, power, until = hold["kind"], hold["power"], hold["until_at"]
    return dict(service, hold={"kind": kind, "power": power, "enforcement_ids": numbers, "until_at": until})


def standing(desired, reached, held, given_back, own):
    """The desired state that is in force on the node.

    :param desired: as accepted
    :param reached: what `reach` returned
    :param held: `{service: terms}` held on this node by hand
    :param given_back: `{service: digest}` of prior states that the node gave back by itself and that the
        desired state may still name
    :param own: services whose prior state the node keeps itself
    """
    picked = desired if reached is None else at(desired, reached)
    if not desired["present"]:
        return picked  # it is to be left as found
    services = []
    for service in picked["services"]:
        sid, baseline = service["id"], service["baseline"]
        if baseline and sid not in own and given_back.get(sid) == baseline["digest"]:
            service = dict(service, baseline=None)
        services.append(_with_hand(service, held[sid]) if sid in held else service)
    return dict(picked, services=services)


def is_gone(entry, kind):
    """Whether an enforcement of this kind is seen gone from a service.

    :param entry: what the node says of the service after looking; None when it has nothing to say: then it holds nothing
    """
    if entry is None:
        return True
    if kind not in HOLDS:
        return kind not in entry["open"]
    if entry.get("away"):
        return True  # its guest is on another node of its pool, which says what is in force there
    return entry["in_force"] if entry["hold"] else entry["released"]
