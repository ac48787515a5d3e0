# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guest is suspended or quarantined, and given back exactly. Pure. PRIVATE to the collection.

Three documents meet here, all plain JSON values:

`guest`
    what `_backends._libvirt.detail` observed just now.
`baseline`
    what `capture` recorded before the first enforcement. It never changes afterwards; the ledger keeps it.
`touched`
    per field what we set and what it is to go back to: the last value that was not ours. It is kept
    on the node beside the baseline. A guest that somebody starts while it is suspended is held
    again, and still their change wins in the end; the baseline alone could not tell that. Without
    it (the node's copy is lost) ownership is inferred from the baseline.

The caller stores `record(touched, steps, boot_id)` *before* it applies the steps: then a run killed
between any two of them is finished or undone by the next one. When a plan for a quarantine has no
steps left, everything is given back and `untouched()` takes its place.
The network is cut and opened by the packet filter, not here.
"""
from __future__ import annotations

from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils import _limits

HoldPlan = namedtuple("HoldPlan", "steps prior notes errors")
HoldPlan.__doc__ = """What `plan_hold` returns.

steps: plain dicts in the order to apply; prior: fields to store as baseline, None if there is one;
notes: sentences for the operator; errors: dicts service, code, message, remedy, retryable.
"""
ReleasePlan = namedtuple("ReleasePlan", "steps notes")
ReleasePlan.__doc__ = """What `plan_release` returns.

steps: in the order to apply; notes: sentences for the operator.
"""

FORMAT = 1
SHUTDOWN_SECONDS = 120  # how long a guest may take over an ACPI shutdown, unless the hold says otherwise

_EXECUTING = ("running", "shutting_down")
# A guest paused for one of these is about to leave that state by itself: not a prior state to record.
_IN_BETWEEN = ("migration", "postcopy", "starting_up", "saving", "dumping", "snapshot")
# Off for one of these without anybody having wished it.
_FAULTS = ("crashed", "daemon")


def untouched():
    """A `touched` document of a guest on which nothing was set."""
    return {"power": None, "autostart": None, "links": {}}


def record(touched, steps, boot_id):
    """`touched` as it has to be stored before `steps` are applied.

    :param touched: as stored; None (unknown) stays None
    :param steps: of one service, from `plan_hold` or `plan_release`
    :param boot_id: the host's boot id now
    """
    if touched is None:
        return None
    new = _copy(touched)
    for step in steps:
        verb, before, after = step["verb"], step["before"], step["after"]
        if verb == "set_link" and after == "down":
            new["links"].setdefault(step["mac"], {})[step["scope"]] = {"set": after, "back": before}
        elif verb == "set_autostart" and after is False:
            new["autostart"] = {"set": after, "back": before}
        elif verb in ("pause", "shutdown", "destroy"):
            former = new["power"]
            if former is not None and before in former["set"]:
                # From one way of holding to a stricter one: until that is done, both are ours.
                ours, back = sorted(set(former["set"]) | {after}), former["back"]
            else:
                ours, back = [after], "off" if before == "shutting_down" and verb != "pause" else "running"
            new["power"] = {"set": ours, "back": back, "boot_id": boot_id}
    return new


def capture(guest, boot_id):
    """The fields of a guest that a hold may change, as they are now.

    :param guest: from `_libvirt.detail`
    :param boot_id: the host's boot id
    """
    links = {}
    for nic in guest["nics"]:
        links[nic["mac"]] = {"live": nic["link_live"], "config": nic["link_config"]}
    tuning = _limits.capture(guest) if "scheduler" in guest else {}
    return {
        **tuning,
        "format": FORMAT,
        "guest": {"name": guest["name"], "uuid": guest["uuid"]},
        "power": guest["state"],
        "persistent": guest["persistent"],
        "autostart": guest["autostart"],
        "links": links,
        "boot_id": boot_id,
    }


def lost_on_hold(hold, guest):
    """What lifting the hold can't bring back, as sentences to be said before it begins.

    :param hold: `{"kind", "power"}`
    :param guest: from `_libvirt.detail`, or None if it isn't known
    """
    if hold["kind"] == "quarantine":
        return [("Connections to other than the rescue networks are cut; "
                 "what times out meanwhile does not come back.")]
    lost = ["Open network sessions time out while the guest is suspended."]
    if guest is not None and guest["state"] not in _EXECUTING:
        return lost
    power = _power_of(hold)
    if power != "pause" and (guest is None or guest["persistent"]):
        lost.append("The guest is powered off: what is only in its memory is lost, "
                    "it boots anew when given back.")
        if power == "destroy":
            lost.append("It is not asked to shut down: what it has not yet written to disk is lost.")
        elif power == "shutdown":
            lost.append("If it does not shut down in time it is powered off, and unwritten data is lost.")
    else:
        lost.append("The guest's clock stands still while it is paused; "
                    "if the host reboots meanwhile its memory is lost and it boots anew.")
    return lost


def plan_hold(service, guest, baseline, boot_id, touched=None):
    """Steps from the present state to the held one.

    :param service: entry of the desired state: id, guest, hold `{"kind", "power", …}`
    :param guest: from `_libvirt.detail`, or None if there is no such guest here
    :param baseline: fields stored when the first hold began, or None
    :param boot_id: the host's boot id now
    :param touched: as stored on the node; None if unknown
    :returns: HoldPlan; empty steps mean the guest is held as wanted
    """
    errors, notes = identity(service, guest, baseline)
    if errors or guest is None:
        return HoldPlan([], None, notes, errors)
    in_between = guest["state"] == "unknown" or (
        guest["state"] == "paused" and guest["reason"] in _IN_BETWEEN)
    if in_between:
        errors = [_error(
            service, "guest_busy",
            "Guest %s is %s by libvirt itself (%s): its own state can't be told yet."
            % (guest["name"], guest["state"], guest["reason"]),
            "Run `reconcile` when that has ended.", retryable=True)]
        if baseline is None:
            return HoldPlan([], None, notes, errors)
    prior = capture(guest, boot_id) if baseline is None else None
    fields = baseline if prior is None else prior
    if prior is not None:
        owned = untouched()
        notes += lost_on_hold(service["hold"], guest)
    else:
        owned = _ownership(touched, fields, guest)
    if service["hold"]["kind"] != "quarantine":
        steps = _suspend(service, guest, owned, notes, in_between)
    else:
        steps = _give_back(service, guest, fields, owned, boot_id, notes)
    return HoldPlan(steps, prior, notes, errors)


def plan_release(service, guest, baseline, boot_id, touched=None):
    """Steps that give the guest back: each field that still holds what we set, and no other.

    A guest that is gone, or another one under the same name, needs no step and is no error:
    otherwise a hold on it could never be lifted.

    :param service: entry of the desired state; its hold is not read
    :param guest: from `_libvirt.detail`, or None
    :param baseline: fields stored when the first hold began
    :param boot_id: the host's boot id now
    :param touched: as stored on the node; None if unknown
    :returns: ReleasePlan; empty steps mean that everything is given back
    """
    errors, notes = identity(service, guest, baseline)
    if errors or guest is None:
        notes += ["%s Nothing of it is given back." % error["message"] for error in errors]
        return ReleasePlan([], notes)
    owned = _ownership(touched, baseline, guest)
    return ReleasePlan(_give_back(service, guest, baseline, owned, boot_id, notes), notes)


def _power_of(hold):
    return hold.get("power") or "pause"


def _error(service, code, message, remedy, retryable=False):
    return {"service": service["id"], "code": code, "message": message, "remedy": remedy,
            "retryable": retryable}


def identity(service, guest, baseline):
    """Errors and notes about whether `guest` (by name and UUID) is the one this service's enforcements are about."""
    name = service["guest"]["name"]
    if guest is None:
        if service.get("elsewhere"):
            return [], ["Guest %s is not on this node of its pool." % name]
        return [_error(service, "guest_missing", "Guest %s is not defined on this node." % name,
                       "Correct the service's node or guest in the catalogue, or lift the enforcement.")], []
    recorded = (baseline or {}).get("guest", {}).get("uuid")
    known = {uuid.lower() for uuid in (service["guest"].get("uuid"), recorded) if uuid}
    if known - {guest["uuid"]}:
        return [_error(
            service, "guest_changed", "Guest %s has UUID %s, but the service's is %s: it is another guest."
            % (guest["name"], guest["uuid"], ", ".join(sorted(known - {guest["uuid"]}))),
            "If it is the service's new guest, correct the catalogue, lift the enforcement and open it again."
        )], []
    if guest["name"] != name and not known:
        return [_error(
            service, "guest_changed",
            "The service's guest is %s, but its MAC is that of guest %s." % (name, guest["name"]),
            "Correct guest or MAC in the catalogue.")], []
    if guest["name"] != name:
        return [], ["Guest %s is now called %s (same UUID)." % (name, guest["name"])]
    return [], []


def _ownership(touched, baseline, guest):
    """A copy of `touched`, completed by what follows from it; inferred if there is none."""
    owned = _inferred(baseline, guest) if touched is None else _copy(touched)
    for nic in guest["nics"]:
        # A guest started while we hold its links down in the configuration has them down by our doing.
        scopes = owned["links"].get(nic["mac"], {})
        was_live = baseline["links"].get(nic["mac"], {}).get("live")
        if nic["link_live"] == "down" and was_live is None and "config" in scopes and "live" not in scopes:
            scopes["live"] = {"set": "down", "back": scopes["config"]["back"]}
    return owned


def _copy(touched):
    return dict(touched, links={mac: dict(scopes) for mac, scopes in touched["links"].items()})


def _inferred(baseline, guest):
    owned = untouched()
    present = {nic["mac"]: nic for nic in guest["nics"]}
    all_down = True
    for mac, was in baseline["links"].items():
        for scope in ("live", "config"):
            value = present[mac]["link_" + scope] if mac in present else None
            if mac in present and scope == "live" and guest["state"] == "off":
                value = "down"  # and so it stays when the guest starts, unless it is given back
            if was[scope] == "up" and value == "down":
                owned["links"].setdefault(mac, {})[scope] = {"set": "down", "back": "up"}
            elif was[scope] == "up" and value == "up":
                all_down = False
    if baseline["autostart"] and not guest["autostart"]:
        owned["autostart"] = {"set": False, "back": True}
    # We cut the links before the power: with one of them up, the power is not our doing.
    if all_down and baseline["power"] in _EXECUTING and guest["state"] in ("paused", "off"):
        owned["power"] = {"set": [guest["state"]], "back": "running", "boot_id": baseline["boot_id"]}
    return owned


def _step(service, guest, verb, why, before, after, **more):
    step = {"engine": "libvirt", "verb": verb, "service": service["id"], "guest_uuid": guest["uuid"],
            "guest_name": guest["name"], "why": why, "before": before, "after": after}
    step.update(more)
    return step


def _suspend(service, guest, owned, notes, in_between):
    hold = service["hold"]
    why = "%s by enforcement %s" % (hold["kind"], ", ".join(str(number) for number in hold["enforcement_ids"]))
    steps = []
    for nic in guest["nics"]:
        for scope in ("live", "config"):
            if nic["link_" + scope] != "up":
                continue
            if not nic["link_settable"]:
                if scope == "live":
                    notes.append("%s Its link can't be taken down either: only the guest's power holds it."
                                 % nic["gap"])
                continue
            steps.append(_step(service, guest, "set_link", why, "up", "down", mac=nic["mac"], scope=scope))
    if not in_between:
        steps += _power_off_or_pause(service, guest, owned["power"], notes, why)
    if guest["persistent"] and guest["autostart"]:
        steps.append(_step(service, guest, "set_autostart", why, True, False))
    return steps


def _power_off_or_pause(service, guest, owned, notes, why):
    hold, state, power = service["hold"], guest["state"], _power_of(service["hold"])
    if power != "pause" and not guest["persistent"] and state in _EXECUTING + ("paused",):
        notes.append("Guest %s is transient: powered off it would cease to exist, so it is paused instead."
                     % guest["name"])
        power = "pause"
    ours = owned is not None and state in owned["set"]
    if state == "off" or (state == "paused" and ours and power == "pause"):
        return []
    if state not in _EXECUTING and not (state == "paused" and ours):
        notes.append("Guest %s was found %s (%s), not by us: it does not run and is left so."
                     % (guest["name"], state, guest["reason"]))
        return []
    more = {"deadline_seconds": hold.get("deadline_seconds", SHUTDOWN_SECONDS)} if power == "shutdown" else {}
    return [_step(service, guest, power, why, state, "paused" if power == "pause" else "off", **more)]


def _give_back(service, guest, baseline, owned, boot_id, notes):
    why = "given back"
    verb = _power_to_give_back(guest, baseline, owned["power"], boot_id, notes)
    steps = []
    if verb == "start":
        # The configured links are still down now, so the guest never runs with a link it should not have.
        steps.append(_step(service, guest, "start", why, guest["state"], "running"))
    steps += _links_to_give_back(service, guest, baseline, owned["links"], verb == "start", notes, why)
    if verb == "resume":
        steps.append(_step(service, guest, "resume", why, guest["state"], "running"))
    autostart = owned["autostart"]
    if autostart and guest["persistent"] and guest["autostart"] == autostart["set"] != autostart["back"]:
        steps.append(_step(service, guest, "set_autostart", why, autostart["set"], autostart["back"]))
    return steps


def _power_to_give_back(guest, baseline, power, boot_id, notes):
    """`resume`, `start` or None."""
    state, name = guest["state"], guest["name"]
    if power is None or power["back"] == "off" or state in _EXECUTING:
        return None
    verb = None
    if state in power["set"]:
        verb = "resume" if state == "paused" else "start"
    elif state == "off" and power["boot_id"] != boot_id:
        verb = "start"
        notes.append("Guest %s was paused by us and the host rebooted meanwhile: it is booted, "
                     "its memory of before is lost." % name)
    elif state == "off" and guest["reason"] in _FAULTS:
        verb = "start"
        notes.append("Guest %s was paused by us and its process ended by a fault (%s): it is booted."
                     % (name, guest["reason"]))
    else:
        did = "powered off" if "off" in power["set"] else "paused"
        notes.append("Guest %s was %s by us and is now %s (%s): somebody changed that meanwhile, it stays so."
                     % (name, did, state, guest["reason"]))
    if verb and baseline["power"] not in _EXECUTING:
        notes.append("Guest %s was %s when the hold began, but somebody started it meanwhile: it runs on."
                     % (name, baseline["power"]))
    return verb


def _links_to_give_back(service, guest, baseline, links, starting, notes, why):
    present = {nic["mac"]: nic for nic in guest["nics"]}
    live, config = [], []
    for mac in sorted(links):
        scopes, nic = links[mac], present.get(mac)
        if nic is None:
            notes.append("Guest %s no longer has the NIC %s: nothing to give back there."
                         % (guest["name"], mac))
            continue
        now, back = nic["link_live"], None
        if starting:
            now = nic["link_config"]  # what the guest starts with; up here means that somebody changed it
            if now == "down":
                back = _live_link_after_start(scopes, baseline["links"].get(mac, {}).get("live"))
        elif "live" in scopes and now == scopes["live"]["set"]:
            back = scopes["live"]["back"]
        if back is not None and back != now:
            live.append(_step(service, guest, "set_link", why, now, back, mac=mac, scope="live"))
        if "config" in scopes and nic["link_config"] == scopes["config"]["set"] != scopes["config"]["back"]:
            config.append(_step(service, guest, "set_link", why, nic["link_config"], scopes["config"]["back"],
                                mac=mac, scope="config"))
    return live + config


def _live_link_after_start(scopes, was_live):
    if "live" in scopes:
        return scopes["live"]["back"]
    return was_live or scopes["config"]["back"]
