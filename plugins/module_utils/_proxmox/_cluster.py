# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a whole cluster, and what is true of its services. Pure. PRIVATE to the collection."""
from __future__ import annotations

import re
from collections import Counter, namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical, digest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest, _order

Plan = namedtuple("Plan", "steps priors touched closed services errors notes gaps creating created plan_hash")
Plan.__doc__ = """Everything one pass wants; the same code judges before and after.

`touched`: `{service: document}` to keep before the steps are carried out; `closed`: services given back in full;
`creating`: services whose guest is to be made, `created`: `{service: what of}` those whose guest was being made and runs.
"""

CARRIED = ("smtp_outbound", "anti_spoofing", "mining", "reflection", "irc_server")
# What of a control isn't carried, where it is to be enforced; of all others, all of it.
_LEFT_OUT = {
    "reflection": "the rates of limited ports aren't kept, and NTP's private mode passes",
    "irc_server": "links between servers aren't seen, as no rule reads what is in a packet",
}


def concerned(service):
    """Whether anything of ours is or may be on a service's guest, so that it has to be looked at."""
    return bool(service["hold"] or service.get("limits") or service["baseline"] or service["touched"]
                or service["smtp"]["mode"] != "off" or service.get("controls"))


_ON_FIREWALL = frozenset(("quarantine", "smtp_block", "port_block"))


def without_firewall(service):
    """Whether what a service is under needs no rule: held off or limited only, and no block of it is ending."""
    hold, limits = service["hold"], set(service.get("limits") or {})
    kinds = limits | ({hold["kind"]} if hold else set())
    return bool(kinds) and not (kinds | set(service.get("ending") or ())) & _ON_FIREWALL


def plan(desired, cluster):
    """What a cluster needs.

    :param desired: of `_desired.for_cluster`
    :param cluster: observed: `rows` and `guests` by number, `groups` and `sets` by name that are this ledger's or may be taken
        away, `others`: `{group: ledger}` of those that aren't, `spared`: `{name: why}` of what must stay although nothing of
        this ledger refers to it, `firewall_on`, and in `orders` what `_making` says of services whose guest is to be made
    """
    facts = {"firewall_on": cluster["firewall_on"], "settings": desired["proxmox"], "now": desired["now"], "present": desired["present"],
             "rules_on": desired.get("rules_on") or (), "others": cluster["others"]}
    shared = _firewall.Shared(desired)
    steps, priors, touched, closed, services, errors, notes, gaps = [], [], {}, [], [], [], [], []
    creating, created = [], {}
    for service in desired["services"]:
        sid = service["id"]
        making, order = service["touched"].get("making"), cluster["orders"].get(sid)
        if making and order is None and desired.get("present", True):
            notes.append("%s: its guest %s is being made; hosting.aup.provision goes on with it" % (sid, making["vmid"]))
            continue
        if order is not None and order["done"] is None:
            notes += ["%s: %s" % (sid, note) for note in order["notes"]]
            errors += order["errors"]
            if order["guest"] is not None:
                # Rules of another ledger's came with the template; the guest is nobody's but ours.
                todo = _guest.plan(dict(service, guest=dict(service["guest"], uuid=None)), order["guest"], dict(facts, others={}), shared)
                errors += [dict(error, part="create") for error in todo.errors]
                if not todo.errors:
                    creating.append(sid)
                    steps += order["first"] + todo.steps + order["last"]
                    touched[sid] = dict(todo.touched, making=order["record"])
            continue
        if order is not None:
            created[sid] = order["done"]
        row, problems = _guest.find(service, cluster["rows"])
        held = bool(service["hold"] or service.get("limits"))
        gone = bool(problems) and problems[0]["code"] == "guest_missing" and cluster["certain"]
        if problems and not held and (gone or not service["touched"]):
            notes += ["%s: %s" % (sid, problem["message"]) for problem in problems]
            problems = []
            if gone and (service["touched"] or service["baseline"]):
                closed, services = _forget(service, touched, closed, services)
                continue
        guest = cluster["guests"].get(row["vmid"]) if row else None
        if row and guest is None:
            errors.append(dict(cluster["unread"][row["vmid"]], service=sid))
            # Nothing is known of it: not that it is held, and as little that it was given back.
            services.append(_entry(service, False))
            continue
        errors += problems
        if guest and sid in cluster["unmade"] and _guest.identity(service, guest):
            errors.append(_order.error(sid, _order.taken({"service": sid, "vmid": service["guest"].get("vmid")}, row)))
            continue
        todo = _guest.plan(service, guest, facts, shared)
        if not held and any(error["code"] == "guest_replaced" for error in todo.errors) and not _as_recorded(service, guest):
            closed, services = _forget(service, touched, closed, services)
            if service["smtp"]["mode"] != "off" or service.get("controls"):
                errors += todo.errors  # the catalogue is wrong: this one's controls are not in force
            else:
                notes += ["%s: %s" % (sid, error["message"]) for error in todo.errors]
            continue
        errors += todo.errors
        notes += ["%s: %s" % (sid, note) for note in todo.notes]
        gaps += [{"guest": service["guest"]["name"], "service": sid, "mac": None, "gap": gap} for gap in todo.gaps]
        steps += todo.steps
        if todo.prior is not None:
            priors.append({"service": sid, "fields": todo.prior, "digest": digest(todo.prior)})
        if todo.touched is not None and (service["touched"] or any(found for key, found in todo.touched.items() if key != "guest")):
            touched[sid] = todo.touched
        settled = not problems and not todo.errors and all(step["part"] in ("filter", "spoof") for step in todo.steps)
        if service["baseline"] and not held and settled:
            closed.append(sid)
        if held or service["baseline"] or service["touched"] or todo.steps:
            services.append(_entry(service, todo.here or row is not None))
    idle, partly = _not_carried(desired["services"])
    if desired["proxmox"].get("hosts"):
        # Their packet filter carries all controls; whether it does is in those nodes' own results.
        notes += ["left to the rules on the nodes: %s" % sentence.partition("does not: ")[2] for sentence in idle]
    else:
        notes += idle
        gaps += [{"guest": None, "service": None, "mac": None, "gap": gap} for gap in [*partly, *shared.gaps]]
    shared_steps, leftover = _shared_steps(shared, cluster, steps)
    notes += ["group %s stays: %s" % item for item in sorted(cluster["spared"].items())]
    left = {}
    for one in [*shared_steps, *steps, *errors]:
        left.setdefault(one["service"], set()).add(one.get("part", "hold"))
    for entry in services:
        _judge(entry, left.get(entry["service"], set()))
    # A guest that couldn't be read may refer to any of them, and a rule whose group is gone is left out silently.
    steps = shared_steps + steps + ([] if cluster["unread"] else leftover)
    return Plan(steps, priors, touched, closed, services, errors, notes, gaps, creating, created,
                _hash(steps, priors, shared.plain))


def _hash(steps, priors, plain):
    """The plan's digest, by names that are the same for all ledgers: the first `--check` of all has one of its own, kept nowhere."""
    text = canonical({"steps": steps, "priors": [prior["digest"] for prior in priors]}).decode("ascii")
    return digest(re.sub("|".join(map(re.escape, sorted(plain))), lambda found: plain[found[0]], text))


def _as_recorded(service, guest):
    """Whether a guest is the one that things were set on: then the catalogue names another by mistake, and they stay known."""
    known = (service["touched"].get("guest") or {}).get("uuid")
    return bool(known and guest["uuid"]) and known.lower() == guest["uuid"].lower()


def _forget(service, touched, closed, services):
    """The guest is no more, and what was set on it went with it: nothing is left to be given back."""
    touched[service["id"]] = {"guest": dict(service["guest"]), "fields": {}, "sets": [], "rules": False}
    return closed + [service["id"]] * bool(service["baseline"]), services + [_entry(service, False)]


def _not_carried(services):
    """What of the controls a cluster can't do: `(notes, gaps)`, a sentence for all that observe, one for each that enforces."""
    without = Counter()
    for service in services:
        modes = {"smtp_outbound": service["smtp"]["mode"],
                 **{control: terms["mode"] for control, terms in (service.get("controls") or {}).items()}}
        without.update((control, mode) for control, mode in modes.items() if mode in ("observe", "enforce"))
    found = ", ".join("%s in observe (services: %d)" % (control, number)
                      for (control, mode), number in sorted(without.items()) if mode == "observe")
    gaps = ["%s in enforce (services: %d): %s" % (control, number, _LEFT_OUT.get(control, "the cluster's firewall has no rule for it"))
            for (control, mode), number in sorted(without.items())
            if mode == "enforce" and (control not in CARRIED or control in _LEFT_OUT)]
    return ["what a cluster can't do, and does not: %s" % found] if found else [], gaps


def _entry(service, here):
    hold = service["hold"]
    return {"service": service["id"], "here": here, "hold": hold and hold["kind"],
            "enforcement_ids": hold["enforcement_ids"] if hold else [],
            "limits": {kind: {"enforcement_ids": terms["enforcement_ids"], "in_force": False}
                       for kind, terms in (service.get("limits") or {}).items()}}


def _judge(entry, parts):
    """Say what is in force and, in `open`, for which kinds something is still to be done."""
    entry["open"] = sorted(kind for kind in _guest.PARTS if parts & _guest.PARTS[kind])
    entry["in_force"] = bool(entry["hold"]) and entry["here"] and entry["hold"] not in entry["open"]
    entry["released"] = not entry["hold"] and not parts & {"hold", "guest"}
    for kind, limit in entry["limits"].items():
        limit["in_force"] = kind in _guest.PARTS and kind not in entry["open"] and entry["here"]


def _shared_steps(shared, cluster, guest_steps):
    """Groups and sets that are missing or not as they should be, and those that nothing refers to any more.

    What guests are to refer to must be there first: a rule that names a missing set is left out silently.
    """
    first, last = [], []
    for verb, wanted, there in (("cluster_set", shared.sets, cluster["sets"]), ("group", shared.groups, cluster["groups"])):
        for name in sorted(wanted, key=shared.plain.get):
            if there.get(name) != wanted[name]:
                first.append({"engine": "proxmox", "verb": verb, "service": None, "part": "shared", "name": name,
                              "comment": _firewall.mark_of(shared.ledger),
                              "before": {name: there.get(name)}, "after": {name: wanted[name]}, "why": "%s %s" % (verb, name)})
    used = {rule["action"] for guest in cluster["guests"].values() for rule in guest["rules"] if rule["type"] == "group"}
    used -= {rule["action"] for step in guest_steps if step["verb"] == "rules" for rule in step["before"]["rules"]}
    used |= set(cluster["spared"])
    gone = [name for name in sorted(cluster["groups"]) if name not in shared.groups and name not in used]
    for name in gone:
        last.append({"engine": "proxmox", "verb": "group", "service": None, "part": "leftover", "name": name,
                     "before": {name: cluster["groups"][name]}, "after": {name: None}, "why": "group %s, unused" % name})
    needed = {str(rule.get(key, "")).rpartition("/")[2] for name, rules in cluster["groups"].items() if name not in gone
              for rule in shared.groups.get(name, rules) for key in ("source", "dest")}
    for name in sorted(cluster["sets"]):
        if name not in shared.sets and name not in needed:
            last.append({"engine": "proxmox", "verb": "cluster_set", "service": None, "part": "leftover", "name": name,
                         "before": {name: cluster["sets"][name]}, "after": {name: None}, "why": "set %s, unused" % name})
    return first, last
