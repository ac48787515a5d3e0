# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one guest of a Proxmox VE cluster needs. Pure. PRIVATE to the collection.

A guest is a number of fields: `onboot`, `net0.rate`, `firewall.enable`, `power` … Each is wanted at a value, or not wanted.
What we set is kept in the ledger as `touched`: `{field: {"set": [values], "back"}}`, before it is set. A field goes back to
`back` only while it holds one of `set`: two, where a run that changes ours may have been killed before its write. Where a
tenant or the panel changed it meanwhile, and we change it again because it is still wanted, their value is what it goes
back to. Nobody's marks on the guest decide anything: a tenant can edit those.

A write that wasn't answered may still be carried out, minutes later, and its digest doesn't keep it off once all was given
back: the configuration is then what it was when the write was sent. So while one may be on its way (`unanswered`), what is
given back carries a mark with a number, which makes another digest of it, and what we had set is watched for and given
back again.
"""
from __future__ import annotations

import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils import _open_connections
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _nics, _units
from ansible_collections.hosting.aup.plugins.module_utils._time import iso

GuestPlan = namedtuple("GuestPlan", "here steps prior touched notes errors gaps")
GuestPlan.__doc__ = """What `plan` returns.

`here`: there is such a guest; `steps` in order, each with its part; `prior` to keep before the first change, or None;
`touched` as it must be kept before the steps are carried out; notes and gaps are sentences; errors as dicts.
"""

TAG = "aup-suspended"
LIFTED = "aup-lifted"
ASIDE = "aup-"  # before the name of a set that is being filled
_MARK = re.compile("(?:%s|%s)(?:-[0-9]+)?" % (TAG, LIFTED))
# How long a write without an answer is waited for: a worker waits 10 s for a guest's lock, and calls queue up for workers.
LATE_SECONDS = 600
FORMAT = 1
# What each kind of enforcement stands on.
PARTS = {
    "suspend": frozenset(("hold", "guest")),
    "terminate": frozenset(("hold", "guest")),
    "quarantine": frozenset(("filter", "guest")),
    "smtp_block": frozenset(("filter", "guest")),
    "port_block": frozenset(("filter", "guest")),
    "bandwidth_cap": frozenset(("bandwidth_cap", "guest")),
    "cpu_throttle": frozenset(("cpu_throttle", "guest")),
}
NOT_HERE = {
    "null_route": "a cluster has no routes of its guests: the routers of the location carry null_route",
    "drop": "the cluster's firewall is not made for long lists of addresses: routers of the location carry drop",
    "io_throttle": "disk limits are not set over the API",
}
_FILTERED = ("quarantine", "smtp_block", "port_block")


def limits_of(service):
    """The limits of a service that a cluster can carry."""
    return {kind: terms for kind, terms in (service.get("limits") or {}).items() if kind in PARTS}


def _error(service, code, message, remedy, part="guest", retryable=False):
    return {"service": service["id"], "part": part, "code": code, "message": message, "remedy": remedy, "retryable": retryable}


def capture(guest):
    """The fields an enforcement may change, as they are, for the ledger."""
    config = guest["config"]
    return {
        "format": FORMAT,
        "guest": {"name": guest["name"], "uuid": guest["uuid"], "vmid": guest["vmid"], "kind": guest["kind"]},
        "power": guest["power"], "onboot": config.get("onboot"), "cpulimit": config.get("cpulimit"),
        "tags": config.get("tags"), "protection": config.get("protection"),
        "links": {nic["mac"] or name: {"nic": name, "link_down": _nics.value_of(nic["text"], "link_down"),
                                       "rate": _nics.value_of(nic["text"], "rate")}
                  for name, nic in sorted(guest["nics"].items())},
    }


def find(service, rows):
    """The cluster's row of a service's guest.

    :param rows: `{vmid: row}` of all guests
    :returns: `(row or None, errors)`
    """
    vmid = service["guest"].get("vmid")
    if vmid is None:
        named = [row for row in rows.values() if row.get("name") == service["guest"]["name"]]
        if len(named) == 1:
            return named[0], []
        return None, [_error(
            service, "guest_missing" if not named else "guest_ambiguous",
            "the cluster has %s guest named %s." % ("no" if not named else "more than one", service["guest"]["name"]),
            "Give the guest's number in the catalogue: guest: {name: …, vmid: …}.")]
    if vmid not in rows:
        return None, [_error(service, "guest_missing", "the cluster has no guest %s." % vmid,
                             "Correct the catalogue, or lift with hosting.aup.lift if the guest was deleted.")]
    return rows[vmid], []


def identity(service, guest):
    """Why a guest is not the service's, as errors: its number may have been given to another one.

    :param guest: observed
    """
    wanted, errors = service["guest"], []
    recorded = ((service.get("baseline") or {}).get("fields") or {}).get("guest") or {}
    uuid = wanted.get("uuid") or recorded.get("uuid")
    macs = {nic["mac"] for nic in service["nics"]} | set(
        ((service.get("baseline") or {}).get("fields") or {}).get("links") or ())
    same_mac = bool(macs & {nic["mac"] for nic in guest["nics"].values()})
    if uuid and guest["uuid"] and uuid.lower() != guest["uuid"].lower():
        errors.append(_error(
            service, "guest_replaced", "guest %s has UUID %s, and service %s is %s: its number was given to another guest."
            % (guest["vmid"], guest["uuid"], service["id"], uuid), "Correct the catalogue, then provision."))
    elif not (uuid and guest["uuid"]) and macs and not same_mac:
        errors.append(_error(
            service, "guest_changed", "guest %s has none of the MACs of service %s: its number was given to another guest."
            % (guest["vmid"], service["id"]), "Correct the catalogue, then provision."))
    if guest["template"]:
        errors.append(_error(service, "guest_template", "guest %s is a template." % guest["vmid"], "Correct the catalogue."))
    return errors


# -- fields ---------------------------------------------------------------------------------------------------


def _on(value):
    return str(value or "0").lower() in ("1", "on", "yes", "true")


def _fields(guest):
    """`{field: value}` as observed; None where it isn't set."""
    config = guest["config"]
    found = {key: config.get(key) for key in ("onboot", "cpulimit", "protection")}
    for name, nic in guest["nics"].items():
        for key in ("link_down", "rate", "firewall"):
            found["%s.%s" % (name, key)] = _nics.value_of(nic["text"], key)
    for key in ("enable", "policy_in", "policy_out") if guest["firewall_read"] else ():
        found["firewall." + key] = guest["options"].get(key)
    found["tag"] = next((tag for tag in tags_of(config.get("tags")) if is_mark(tag)), None)
    found["power"] = guest["power"]
    return found


def printable(value):
    """What a guest or its tenant said, for a sentence."""
    return "".join(c if c.isprintable() else "?" for c in str(value))[:200]


def tags_of(text):
    """A guest's tags as a list."""
    return [tag for tag in str(text or "").replace(",", ";").replace(" ", ";").split(";") if tag]


def is_mark(tag):
    """Whether a tag is one of ours."""
    return bool(_MARK.fullmatch(tag))


def unanswered(service, now):
    """What is known of writes that may still be carried out: `{"at", "known", "count"}`, or None.

    :param now: seconds since the epoch
    """
    record = service["touched"].get("unanswered")
    return record if record and now < record["at"] + LATE_SECONDS else None


def _satisfied(field, value, wanted):
    kind = field.rpartition(".")[2]
    if kind == "rate" or field == "cpulimit":
        now = _units.number(value)
        return now is not None and 0 < now <= _units.number(wanted)
    if field == "power":
        return value == wanted or (wanted == "paused" and value == "stopped")
    if field == "tag" and wanted.startswith(TAG):
        return bool(value) and value.startswith(TAG)
    if kind in ("onboot", "link_down", "protection", "enable") or field.endswith(".firewall"):
        return _on(value) == _on(wanted)
    return value == wanted


def _still(field, value, former):
    """The one of our values that a field holds, in a list; an empty one if it holds another's."""
    return [one for one in former["set"] if _holds(field, value, one)]


def _holds(field, value, was_set):
    if field.endswith("rate") or field == "cpulimit":
        return _units.equal(value, was_set)
    if field == "power":
        # A guest that was paused when its host went down is off now.
        return value == was_set or (was_set == "paused" and value == "stopped")
    return str(value) == str(was_set)


def _wanted(service, guest, switch, late):
    """`{field: (value, part)}` that the service's enforcements and controls want.

    :param switch: whether the firewall is to work for this guest: fields of it that are ours to set
    :param late: of `unanswered`
    """
    wanted, hold, limits = {}, service["hold"], limits_of(service)
    number = "-%d" % late["count"] if late and late["known"] else ""
    if number:
        wanted["tag"] = (LIFTED + number, "mark")
    if hold and hold["kind"] in ("suspend", "terminate"):
        wanted["onboot"] = ("0", "hold")
        wanted["tag"] = (TAG + number, "mark")
        for name in guest["nics"]:
            wanted[name + ".link_down"] = ("1", "hold")
        # High availability isn't told of a pause, and starts the guest anew where its node fails: it is asked to stop it.
        pause = hold["kind"] == "suspend" and hold.get("power") == "pause" and guest["kind"] == "qemu" and not guest["ha"]
        wanted["power"] = ("paused" if pause else "stopped", "hold")
        if hold["kind"] == "terminate":
            wanted["protection"] = ("1", "hold")
    if "bandwidth_cap" in limits and guest["nics"]:
        rate = _units.rate_text(limits["bandwidth_cap"]["rate_bps"], len(guest["nics"]))
        for name in guest["nics"]:
            wanted[name + ".rate"] = (rate, "bandwidth_cap")
    if "cpu_throttle" in limits:
        wanted["cpulimit"] = (_units.processors_text(limits["cpu_throttle"], guest["processors"]), "cpu_throttle")
    wanted.update(switch)
    return wanted


def _switch(service, guest, facts, need):
    """What the firewall needs to work for a guest, as fields to set, and what stands in the way.

    :param need: whether there are rules or sets of ours to be in force
    :returns: `(fields, gaps)`
    """
    if not need:
        return {}, []
    fields, gaps = {}, []
    if not facts["firewall_on"]:
        gaps.append("the cluster's firewall is off, so no rule of any guest is in force; switching it on closes the hosts' own "
                    "inbound ports unless they have rules: Datacenter > Firewall > Options, with policy_in ACCEPT first")
    for name, nic in sorted(guest["nics"].items()):
        if _nics.is_on(nic["text"], "firewall"):
            running = (guest["live"] or guest)["nics"].get(name)
            if running and not _nics.is_on(running["text"], "firewall") and guest["power"] != "stopped":
                gaps.append("firewall=1 of %s waits for the guest to be stopped and started, as it can't be changed while it runs" % name)
            continue
        if guest["power"] == "stopped" or facts["settings"].get("replug"):
            fields[name + ".firewall"] = ("1", "filter")
        else:
            gaps.append("%s has no firewall=1: setting it plugs the NIC anew, a moment without network; "
                        "allow it with proxmox: {replug: true}, or do it while the guest is off" % name)
    if _on(guest["options"].get("enable")):
        return fields, gaps
    foreign = [rule for rule in guest["rules"] if not _firewall.ours(rule)]
    settled = [key for key in guest["options"] if key not in ("digest", "enable") and not str(key).startswith("log_level")]
    mine = service["touched"].get("fields") or {}
    theirs = [key for key in settled if "firewall." + key not in mine]
    if foreign or theirs:
        gaps.append("the tenant has %s with the guest's firewall switched off; switching it on would put them in force"
                    % ("rules of its own" if foreign else "options of its own (%s)" % printable(", ".join(sorted(theirs)))))
        return fields, gaps
    # All in one call: the switch alone would cut everything inbound.
    fields["firewall.enable"] = ("1", "filter")
    for key in ("policy_in", "policy_out"):
        if guest["options"].get(key) is None:
            fields["firewall." + key] = ("ACCEPT", "filter")
    return fields, gaps


def obstacles(service, guest, facts, shared):
    """What keeps rules and sets of a service from being in force on a guest, as sentences; none if it needs none.

    :param shared: one that nothing else is gathered in
    """
    need = bool(_firewall.guest_rules(service, shared) or _firewall.spoof_sets(service, guest))
    return _switch(service, guest, facts, need)[1]


def _sticky(service, switch, need):
    """Fields of the firewall that stay as we set them, since what they are for is still wanted."""
    if not need:
        return set()
    return {field for field in service["touched"].get("fields") or {} if field.startswith("firewall.") or field.endswith(".firewall")
            } - set(switch)


def plan(service, guest, facts, shared):
    """Steps from the present state of a guest to the wanted one.

    :param service: entry of `_desired.for_cluster`
    :param guest: observed, or None
    :param facts: of the cluster: `firewall_on`, `settings`, `now`, whether it is to stay `present`, `rules_on`, its nodes that
        were seen with rules of their own in this run, and `others`, `{group: ledger}` of groups that aren't this ledger's
    :param shared: `_firewall.Shared`, which notes the groups and sets this guest refers to
    """
    touched = {"guest": dict(service["guest"]), "fields": dict(service["touched"].get("fields") or {}),
               "sets": list(service["touched"].get("sets") or []), "rules": bool(service["touched"].get("rules")),
               "restart": service["touched"].get("restart")}
    known = touched["fields"] or touched["sets"] or touched["rules"] or touched["restart"]
    if guest is None:
        return GuestPlan(False, [], None, touched if known else None, [], [], [])
    late = unanswered(service, facts["now"])
    touched["unanswered"] = late
    errors = identity(service, guest)
    if errors:
        touched["guest"] = dict(service["touched"].get("guest") or touched["guest"])
        return GuestPlan(True, [], None, touched if known else None, [], errors, [])
    touched["guest"].update(vmid=guest["vmid"], uuid=guest["uuid"], name=guest["name"], macs=sorted(
        {nic["mac"] for nic in guest["nics"].values() if nic["mac"]}))
    gaps, notes, in_the_way = [], [], []
    claimed = _claimed(guest, facts.get("others") or {})
    if claimed and service["touched"].get("rules"):
        notes.append("guest %s also had %s, which is taken away: this ledger has the guest. Another has it in its catalogue as well, "
                     "or its tenant wrote that" % (guest["vmid"], claimed))
    elif claimed:
        errors += [] if not facts["present"] else [_error(
            service, "other_ledger", "guest %s has %s." % (guest["vmid"], claimed),
            "Take the guest out of one of the two catalogues, and run there. If that ledger is lost, take its guests over: "
            "hosting.aup.provision -e aup_adopt_from_other_ledger=true.", part="filter" if known else "guest")]
        if not known:
            return GuestPlan(True, [], None, None, [], errors, [])
        guest = dict(guest, firewall_read=False)  # the rest of what is ours there goes on, and is given back
    if guest["firewall_read"]:
        rules = _firewall.guest_rules(service, shared)
        sets = _firewall.spoof_sets(service, guest)
        switch, in_the_way = _switch(service, guest, facts, bool(rules or sets))
        gaps += in_the_way
        kept = _sticky(service, switch, bool(rules or sets))
        steps = _set_steps(service, guest, sets, gaps)
        touched["sets"] = sorted(
            {name for name, one in guest["sets"].items() if one["ours"]} | {step["name"] for step in steps})
        steps += _rule_steps(service, guest, rules)
        touched["rules"] = bool(rules) or any(_firewall.ours(rule) for rule in guest["rules"])
    else:
        if not claimed:
            notes.append("not verified: the firewall of guest %s was not read in this run" % guest["vmid"])
        rules, switch, steps = [], {}, []
        kept = _sticky(service, switch, True)
    wanted = _wanted(service, guest, switch, late)
    back = {field: former for field, former in touched["fields"].items() if field not in wanted and field not in kept}
    steps += _field_steps(service, guest, wanted, kept, touched["fields"], bool(late))
    _waits(service, guest, wanted, back, notes, errors)
    if guest["firewall_read"]:
        resumed = any(step["verb"] == "power" and step["how"] == "resume" for step in steps)
        placed = not any(step["verb"] == "rules" for step in steps)
        steps += _end_open(service, guest, facts, touched, in_the_way, resumed, placed, notes, gaps)
    steps = _possible(service, guest, steps, errors)
    if any(step["verb"] in ("set", "power") for step in steps):
        # Until all of them are answered: a run may be killed over them.
        touched["unanswered"] = dict(late or {"known": False, "count": 0}, at=facts["now"])
    if late and late["known"]:
        said = "a write to guest %s was not answered, and may still be carried out until %s" % (
            guest["vmid"], iso(late["at"] + LATE_SECONDS))
        notes.append(said)
        if not facts["present"]:
            errors.append(_error(service, "late_write", said + ".", "Retire again after that: all else is given back.",
                                 part="late", retryable=True))
    filtered = [kind for kind in _FILTERED if kind in limits_of(service) or (service["hold"] and service["hold"]["kind"] == kind)]
    if filtered and in_the_way:
        errors.append(_error(service, "firewall_off", "%s is not in force: %s." % (", ".join(filtered), "; ".join(in_the_way)),
                             "Remove the obstacle, then run hosting.aup.reconcile.", part="filter"))
    if any(step["verb"] == "rules" for step in steps) and rules and guest["power"] != "stopped" and not _by_its_node(
            guest, facts) and not any(block["choice"] in ("restart", "null_route") for block in service.get("blocks") or ()):
        notes.append("connections that are open already outlive new rules on this backend")
    enforced = bool(service["hold"] or limits_of(service))
    prior = capture(guest) if enforced and not service["baseline"] else None
    for kind, why in NOT_HERE.items():
        if kind in (service.get("limits") or {}):
            gaps.append("%s: %s" % (kind, why))
    return GuestPlan(True, _ordered(steps), prior, touched, notes, errors, gaps)


def _claimed(guest, others):
    """What of another ledger's a guest's rules refer to, in words; None if nothing.

    Only groups tell, as a tenant can't make them.
    """
    found = sorted({rule["action"] for rule in guest["rules"]
                    if rule["type"] == "group" and _firewall.ours(rule) and rule["action"] in others})
    return found and "rules of ledger %s (group %s)" % (others[found[0]], ", ".join(found)) or None


def _by_its_node(guest, facts):
    """Whether the node that a guest is on was seen with its own rules in this run: they end what is open."""
    return among(guest["node"], facts.get("rules_on", ()))


def among(node, names):
    """Whether a node of a cluster is one of these in the inventory, where it may have its domain besides."""
    return node in {name.partition(".")[0] for name in names} | set(names)


def _end_open(service, guest, facts, touched, in_the_way, resumed, placed, notes, gaps):
    """Steps that end open connections by a restart, where blocks in force that are new here ask for that.

    `touched["restart"]` says for what connections were ended, by a restart or otherwise, and whether a restart that was
    begun is done: one that a killed run left half done is finished, also when nothing is blocked any more.

    :param resumed: the guest is paused, and another step of this plan resumes it
    :param placed: its rules are in place
    """
    record, power, blocks = touched.get("restart"), guest["power"], service.get("blocks") or ()
    if service["hold"] and service["hold"]["kind"] in ("suspend", "terminate"):
        return []
    if record and not record["done"] and power == "running" and guest.get("uptime") is not None:
        record = dict(record, done=guest["uptime"] < record["uptime"] or facts["now"] - guest["uptime"] > record["at"])
    asked, done, reached = _open_connections.refused(blocks), set(record["for"] if record else ()), _by_its_node(guest, facts)
    found = _open_connections.endings(
        blocks, done, guest["node"], bool(facts["settings"].get("hosts")), reached, power == "stopped", placed, facts["now"])
    if in_the_way and not reached:
        found = _open_connections.Endings(set(), set(), [], [])  # nothing is refused yet, and that is said
    notes += found.notes
    gaps += found.gaps
    begun, kept = bool(record) and not record["done"], sorted(done & asked | found.ended)
    if begun and power == "stopped":
        touched["restart"] = dict(record, **{"for": kept})
        return [_restart_step(service, guest, "start")]
    if found.restart and power == "paused" and not resumed:
        found = found._replace(restart=set())  # nothing goes on meanwhile; once it runs, it is restarted
    if found.restart:
        touched["restart"] = {"at": facts["now"], "uptime": guest.get("uptime") or 0, "done": False, "for": sorted({*kept, *found.restart})}
        return [_restart_step(service, guest, "restart")]
    begun = begun and not reached and any(
        set(block["refuses"]) & done for block in blocks if block["choice"] == "restart")
    touched["restart"] = {**(record or {"at": facts["now"], "uptime": 0}), "done": not begun, "for": kept} if kept else None
    return [_restart_step(service, guest, "restart")] if begun and power == "running" else []


def _restart_step(service, guest, how):
    return {"engine": "proxmox", "verb": "power", "service": service["id"], "vmid": guest["vmid"], "part": "filter", "how": how,
            "before": {"power": guest["power"]}, "after": {"power": "running"},
            "why": "%s guest %s, which ends connections that are open" % (how, guest["vmid"])}


def _possible(service, guest, steps, errors):
    """The steps that the guest's lock and its state in high availability leave; an error says what has to wait."""
    barred = [step for step in steps if step["verb"] in ("set", "power")]
    if not barred:
        return steps
    if guest["ha"] in ("fence", "error", "recovery"):
        errors.append(_error(
            service, "ha_" + guest["ha"], "high availability has guest %s in state %s and takes no request for it."
            % (guest["vmid"], guest["ha"]), "Look at Datacenter > HA; then run hosting.aup.reconcile.", retryable=True))
    elif guest["lock"] in ("suspended", "suspending"):
        errors.append(_error(
            service, "guest_locked", "guest %s is hibernated (locked: %s), and can't be changed until it is started."
            % (guest["vmid"], printable(guest["lock"])), "It is off. Start it, or discard its saved state, then run hosting.aup.reconcile.",
            retryable=True))
    elif guest["lock"]:
        errors.append(_error(service, "guest_locked", "guest %s is locked (%s) by another task of the cluster." % (
            guest["vmid"], printable(guest["lock"])), "Wait until it has ended, then run hosting.aup.reconcile.", retryable=True))
        # A pause is possible during a backup, and what it stops shouldn't go on for hours.
        barred = [step for step in barred if not (guest["lock"] == "backup" and step.get("how") in ("suspend", "resume"))]
    else:
        return steps
    return [step for step in steps if step not in barred]


def _field_steps(service, guest, wanted, kept, touched, late=False):
    """Steps for single fields; `touched` is changed to what must be kept before they are carried out.

    :param late: a write of ours may still come, so what was given back is watched
    """
    present, steps = _fields(guest), []
    for field, (value, part) in wanted.items():
        now = present.get(field)
        if _satisfied(field, now, value):
            continue
        former = touched.get(field)
        ours = _still(field, now, former) if former else []
        touched[field] = {"set": ours + [value], "back": former["back"] if ours else now, "part": part}
        steps.append(_field_step(service, guest, field, now, value, part))
    for field in sorted(set(touched) - set(wanted) - kept):
        former, now = touched[field], present.get(field)
        part = former.get("part", "hold")
        if late and field in present and field != "tag" and str(now) == str(former["back"]):
            continue
        if field not in present or not _still(field, now, former) or str(now) == str(former["back"]):
            touched.pop(field)  # changed by somebody else, or back already
            continue
        steps.append(_field_step(service, guest, field, now, former["back"], part))
    return steps


def _waits(service, guest, wanted, back, notes, errors):
    """Say what stands in the configuration and not yet in the guest that runs, as where hotplug is off or failed.

    :param wanted: of `_wanted`
    :param back: what had been set and goes back, as touched
    """
    if not guest["live"] or guest["power"] == "stopped":
        return
    present, running = _fields(guest), _fields(dict(guest, **guest["live"]))
    missing = [(field, part) for field, (value, part) in wanted.items() if field in running
               and _satisfied(field, present.get(field), value) and not _satisfied(field, running[field], value)]
    given = [field for field, former in back.items() if field in running
             and not _still(field, present.get(field), former) and _still(field, running[field], former)]
    said = "%s of guest %s waits for it to be stopped and started, as it can't be changed while it runs (hotplug)"
    for field, part in missing:
        if guest["power"] == "paused" and part == "hold":
            notes.append(said % (field, guest["vmid"]))
        elif part != "filter":  # of which the switches say it
            errors.append(_error(service, "pending", said % (field, guest["vmid"]) + ".",
                                 "Stop and start the guest, or switch hotplug on; then run hosting.aup.reconcile.", part=part))
    notes += ["the former " + said % (field, guest["vmid"]) for field in given]


def _field_step(service, guest, field, before, after, part):
    verb = "power" if field == "power" else "options" if field.startswith("firewall.") else "set"
    step = {"engine": "proxmox", "verb": verb, "service": service["id"], "vmid": guest["vmid"], "part": part,
            "before": {field: before}, "after": {field: after},
            "why": "%s %s of guest %s: %s instead of %s" % (
                "give back" if after is None else "set", field, guest["vmid"], after, printable(before))}
    if verb == "power":
        step["how"] = _how(service, guest, before, after)
    return step


def _how(service, guest, before, after):
    """The call that brings a guest from one power state to another."""
    if after == "running":
        return "resume" if before == "paused" else "start"
    if guest["ha"]:
        return "stop"  # becomes a request to high availability, which shuts it down and leaves it off
    if after == "paused":
        return "suspend"
    return "stop" if (service["hold"] or {}).get("power") == "destroy" or before == "paused" else "shutdown"


def _rule_steps(service, guest, wanted):
    """One step, if our rules are not the first ones as wanted, or there are more of ours."""
    seen = [_firewall.bare(rule) for rule in guest["rules"]]
    mine = [rule for rule in seen if _firewall.ours(rule)]
    if seen[:len(wanted)] == [_firewall.bare(rule) for rule in wanted] and len(mine) == len(wanted):
        return []
    return [{"engine": "proxmox", "verb": "rules", "service": service["id"], "vmid": guest["vmid"], "part": "filter",
             "before": {"rules": mine}, "after": {"rules": wanted}, "why": "rules of guest %s" % guest["vmid"]}]


def _set_steps(service, guest, sets, gaps):
    """Steps for the sets that bind a NIC to its addresses."""
    steps = []
    wanted = sets or {}
    for name in sorted(set(wanted) | set(guest["sets"])):
        there = guest["sets"].get(name)
        if there is not None and not there["ours"]:
            if name in wanted:
                gaps.append("%s is a set of the tenant's own; it is left as it is" % name)
            continue
        before = sorted(there["entries"]) if there else None
        after = wanted.get(name)
        if before != after:
            steps.append({"engine": "proxmox", "verb": "ipset", "service": service["id"], "vmid": guest["vmid"], "part": "spoof",
                          "name": name, "before": {name: before}, "after": {name: after},
                          "why": "addresses of %s of guest %s" % (name.partition("-")[2], guest["vmid"])})
    return steps


# A set is complete before the firewall works, the network is cut before the guest is touched, power comes last.
_ORDER = {"ipset": 0, "options": 2, "rules": 1, "set": 3, "power": 4}


def _ordered(steps):
    return sorted(steps, key=lambda step: _ORDER[step["verb"]])
