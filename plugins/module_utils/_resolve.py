# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node is to look like, and why. Pure: no I/O, no clock. PRIVATE to the collection.

`resolve` is the only place where policy, services and ledger meet. What it decides is carried out
by the node and printed by `explain`; nothing decides it a second time.
"""
from __future__ import annotations

import ipaddress
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._controls import TERMS, Decision
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._fold import fold_hold, fold_limits, in_force, over
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.module_utils._versions import changes, version_at
from ansible_collections.hosting.aup.plugins.module_utils._timeline import THEN, timeline

FORMAT = 1
FORMAT_2 = 2  # with drops, or a processor throttle in cores: an older keeper would fail on them, or take them for none
CONTROLS = ("smtp_outbound", *TERMS)

Resolution = namedtuple("Resolution", "desired reasons")
Resolution.__doc__ = """What `resolve` returns.

`desired` is the document sent to the node; `reasons` maps service id to
`{control: {"mode", "clause", "reason"}}` and stays on the controller.
"""


def versions_of(policies, release, name):
    """The versions of the policy a service is under: its own by name or key, else the release's default.

    :param policies: `{key: Policy}` of the release
    :param name: what the service names, or None; by its key a version is the only one
    :raises PolicyError: if the release holds no such policy
    """
    if name is not None and name in policies:
        return [policies[name]]
    wanted = policies[release["default_policy"]].name if name is None else name
    found = [policies[key] for key in sorted(policies) if policies[key].name == wanted]
    if not found:
        raise PolicyError(
            "policy %r is not in release %s, which holds %s." % (name, release["id"], ", ".join(sorted(policies))),
            target=name, remedy="Name one of these in the service, or provision with that policy.",
        )
    return found


def policy_of(policies, release, service, now):
    """The policy that binds a service at a time, in the version in force for its customer.

    :param service: of the catalogue: its `policy` and, of a customer who left, `terminated_on`
    :raises PolicyError: if the release holds no such policy
    """
    return version_at(versions_of(policies, release, service.get("policy")), now, service.get("terminated_on"))


def grace_end(setting, adopted_at):
    """When what was found running at adoption is bound like the rest; None if it has no grace."""
    if setting.mode != "enforce" or setting.adoption_mode != "observe" or adopted_at is None:
        return None
    return adopted_at + setting.adoption_seconds


def _within_adoption(setting, adopted_at, now):
    end = grace_end(setting, adopted_at)
    return end is not None and now < end


def decide(setting, exemption, adopted_at, now):
    """Mode of a control for one service, with clause and reason.

    :param setting: what the policy says for its location and account type
    :param exemption: the exemption in force, or None
    :param adopted_at: when the service was found running at adoption; None if it was born under policy
    """
    options = setting.options
    if setting.mode == "off":
        return Decision("off", options, setting.clause, setting.reason)
    if exemption is not None and (exemption["ends_at"] is None or now < exemption["ends_at"]):
        until = iso(exemption["ends_at"]) or "it is revoked"
        return Decision("exempt", options, setting.clause,
                        "exemption %s until %s" % (exemption["id"], until))
    if _within_adoption(setting, adopted_at, now):
        until = iso(adopted_at + setting.adoption_seconds)
        return Decision("observe", options, setting.clause,
                        "was here when the node was adopted: only observed until %s" % until)
    return Decision(setting.mode, options, setting.clause, setting.reason)


def _ports(decision):
    return sorted(decision.options.get("ports", ()))


def withdraw(decision, block):
    """The decision under an `smtp_block`: closed, whatever policy or exemption say; None leaves it as it is."""
    if block is None:
        return decision
    ports = sorted(set(block["ports"]) | (set(_ports(decision)) if decision.mode == "enforce" else set()))
    return Decision("enforce", {"ports": ports}, decision.clause, "closed by enforcement %s until %s" % (
        ", ".join(block["enforcement_ids"]), iso(block["until_at"]) or "it is lifted"))


def _unknown_port(policy, location, node_adopted_at, now):
    decision = decide(policy.unknown_port("smtp_outbound", location), None, node_adopted_at, now)
    return {"mode": decision.mode, "ports": _ports(decision)}


def _sent(service, decisions):
    """What a node needs to know of controls, `smtp_outbound` aside: those that observe or enforce.

    :param service: None for guests nobody knows
    :param decisions: `{control: Decision}`
    """
    return {control: dict(TERMS[control].options(service, one), mode=one.mode)
            for control, one in decisions.items() if one.mode in ("observe", "enforce")}


def _unknown_controls(policy, location, node_adopted_at, now):
    """What binds guests nobody knows, `smtp_outbound` aside."""
    settings = {name: policy.unknown_port(name, location) for name, terms in TERMS.items() if terms.binds_unknown}
    return {side: _sent(None, {name: decide(setting, None, adopted_at, now) for name, setting in settings.items()})
            for side, adopted_at in (("new", None), ("adopted", node_adopted_at))}


def _in_use(documents):
    """Names of the controls that observe or enforce something on the node now or later, `smtp_outbound` aside."""
    used = set()
    for document in documents:
        for view in [document, *document.get(THEN, ())]:
            used.update(view.get("controls", ()))
            for found in view.get("unknown_controls", {}).values():
                used.update(found)
    return [name for name in TERMS if name in used]


def _united(prefix_lists):
    """Prefixes of all policies of the release as one list in which none overlaps another."""
    networks = [ipaddress.ip_network(prefix) for prefixes in prefix_lists for prefix in prefixes]
    return [str(network) for version in (4, 6)
            for network in ipaddress.collapse_addresses(n for n in networks if n.version == version)]


def own_prefixes(service):
    """Addresses and prefixes that are this service's alone: those of its NICs, routed and floating ones."""
    own = {text for nic in service["nics"] for key in ("addresses", "prefixes", "floating") for text in nic.get(key) or ()}
    shared = {entry["address"] for nic in service["nics"] for entry in nic.get("shared") or ()}
    return sorted(own - shared)


_FREE = {"smtp": {"mode": "off", "ports": []}, "controls": {}, "hold": None, "limits": {}}


def _service_entry(service, state, baseline):
    """:param state: what of a service changes with time"""
    order = service.get("order")
    rate = {"rate_bps": order["rate_bit_per_second"]} if order and order["rate_bit_per_second"] else {}
    return {
        **rate,
        **state,
        "id": service["id"],
        "guest": {"name": service["guest"]["name"], "uuid": service["guest"].get("uuid")},
        "nics": [{"mac": nic["mac"], "addresses": nic.get("addresses", [])} for nic in service["nics"]],
        "baseline": baseline,
        "elsewhere": len(service["nodes"]) > 1 or bool(service.get("moved")),
    }


def _prior(baseline):
    """A service's prior state for a node; with what another node of its pool had set when it last said so."""
    return {key: baseline[key] for key in ("digest", "fields", "touched") if baseline.get(key) is not None}


def _reason(enforcements):
    """Why a service is under enforcements of one kind: the clause of the one that ends last, and all cases."""
    last = max(enforcements, key=lambda e: (e["ends_at"] is None, e["ends_at"] or 0, e["id"]))
    return {"mode": "in force", "clause": last["clause"],
            "reason": "case %s until %s" % (", ".join(sorted({e["case_id"] for e in enforcements})),
                                            iso(last["ends_at"]) or "it is lifted")}


def _departed(service_id, held, baseline, known_as=None):
    """A service that left the catalogue, or this node, while held: as the ledger knew it when it was enforced.

    :param known_as: the service in the catalogue, if it is on other nodes now
    """
    moved = bool(known_as)
    if held:
        known = max(held, key=lambda e: e["starts_at"])["snapshot"]
        return {"id": service_id, "guest": known["guest"], "nics": known["nics"], "nodes": known["nodes"],
                "location": known["location"], "account_type": known["account_type"], "policy": known["policy"], "moved": moved}
    fields = baseline["fields"]
    return {"id": service_id, "guest": fields["guest"], "nics": [{"mac": mac} for mac in sorted(fields["links"])],
            "nodes": [baseline["node"]], "location": None, "account_type": None, "policy": None, "moved": moved}


def _settings_at(versions, service):
    """`f(time) -> {control: ControlSetting}` of a service, by the version that binds it then."""
    known = {}

    def settings(time):
        policy = version_at(versions, time, service.get("terminated_on"))
        if id(policy) not in known:
            known[id(policy)] = {control: policy.control(control, service["location"], service["account_type"])
                                 for control in CONTROLS}
        return known[id(policy)]

    return settings


def resolve(policies, snapshot, node, now):
    """The desired state of one node.

    :param policies: `{key: Policy}` of the release
    :param snapshot: the ledger's snapshot for this node (see docs/architecture.md)
    :param node: the node's own description: name, location, uplinks, bridges, routed_interfaces
    :param now: seconds since the epoch
    :returns: Resolution; what will be otherwise later is in the desired state too (see `_timeline`)
    :raises PolicyError: a location or account type the policy doesn't know
    :raises CatalogueError: the node has a location nowhere stated
    """
    name, release, catalogue = node["name"], snapshot["release"], snapshot["catalogue"]
    if not node.get("location"):
        raise CatalogueError("node %s has no location." % name, target=name,
                             remedy="Set `location` of the node in the catalogue, or `aup_location` in the inventory.")
    defaults = versions_of(policies, release, None)
    default = version_at(defaults, now)
    node_adopted_at = (snapshot.get("node") or {}).get("adopted_at")
    unknown = _unknown_port(default, node["location"], None, now)
    graces = [grace_end(default.unknown_port(control, node["location"]), node_adopted_at) for control in CONTROLS]
    graces += changes(defaults)
    smarthosts = _united(p.networks("smarthosts") for p in policies.values())

    exemptions = {(e["service"], e["control"]): e for e in snapshot["exemptions"]}
    adoptions = snapshot["adoptions"]
    baselines = {b["service"]: b for b in snapshot["baselines"]}
    coming = {}  # what binds now or will
    for enforcement in snapshot["enforcements"]:
        if not over(enforcement, now):
            coming.setdefault(enforcement["service"], []).append(enforcement)

    entries, reasons, present = [], {}, set()

    def add(service, decide, instants=()):
        """:param decide: `decide(time) -> {control: Decision}`, which may change at these instants"""
        sid = service["id"]
        present.add(sid)
        mine = coming.get(sid, ())

        def judge(time):
            binding = [e for e in mine if in_force(e, time)]
            hold, limits = (fold_hold(binding), fold_limits(binding)) if binding else (None, {})
            if "null_route" in limits:
                limits["null_route"]["prefixes"] = own_prefixes(service)
            decisions = decide(time)
            decisions["smtp_outbound"] = withdraw(decisions["smtp_outbound"], limits.get("smtp_block"))
            return decisions, hold, limits

        def view(time):
            decisions, hold, limits = judge(time)
            smtp = decisions.pop("smtp_outbound")
            return {"smtp": {"mode": smtp.mode, "ports": _ports(smtp)}, "controls": _sent(service, decisions),
                    "hold": hold, "limits": limits}

        instants = [*instants, *(e[key] for e in mine for key in ("starts_at", "ends_at"))]
        baseline = baselines.get(sid)
        base, then = timeline(instants, now, view)
        entry = _service_entry(service, base, baseline and _prior(baseline))
        if then:
            entry[THEN] = then
        entries.append(entry)
        decisions, hold, limits = judge(now)
        reasons[sid] = {control: {"mode": one.mode, "clause": one.clause, "reason": one.reason}
                        for control, one in decisions.items()}
        for kind in ([hold["kind"]] if hold else []) + sorted(limits):
            reasons[sid][kind] = _reason([e for e in mine if e["kind"] == kind and in_force(e, now)])

    def decider(service, settings_at):
        sid = service["id"]
        adopted_at = adoptions.get(sid)

        def decisions(time):
            found = {}
            for control, setting in settings_at(time).items():
                one = decide(setting, exemptions.get((sid, control)), adopted_at, time)
                found[control] = TERMS[control].judge(service, one) if control in TERMS else one
            return found

        return decisions

    for sid, service in catalogue["services"].items():
        if name in service["nodes"]:
            versions = versions_of(policies, release, service.get("policy"))
            settings_at = _settings_at(versions, service)
            turns = changes(versions, service.get("terminated_on"))
            ends = [exemptions[sid, control]["ends_at"] for control in CONTROLS if (sid, control) in exemptions]
            add(service, decider(service, settings_at),
                [*ends, *turns, *(grace_end(setting, adoptions.get(sid)) for time in [now, *turns]
                                  for setting in settings_at(time).values())])

    strangers = {sid for sid in coming if any(name in e["snapshot"]["nodes"] for e in coming[sid])} | set(baselines)
    alone = Decision(unknown["mode"], {"ports": unknown["ports"]}, None,
                     "no longer in the catalogue for this node: treated like an unknown guest")
    for sid in sorted(strangers - present):
        add(_departed(sid, coming.get(sid), baselines.get(sid), catalogue["services"].get(sid)), lambda _time: {"smtp_outbound": alone})

    entries.sort(key=lambda entry: entry["id"])
    strange, then = timeline(graces, now, lambda time: {
        "smtp": {"unknown": _unknown_port(version_at(defaults, time), node["location"], None, time),
                 "unknown_adopted": _unknown_port(version_at(defaults, time), node["location"], node_adopted_at, time),
                 "smarthosts": smarthosts},
        "unknown_controls": _unknown_controls(version_at(defaults, time), node["location"], node_adopted_at, time)})
    desired = {
        "format": FORMAT,
        "node": name,
        "present": True,
        "now": now,
        "fence": {"ledger": snapshot["ledger"], "epoch": snapshot["epoch"], "generation": snapshot["revision"]},
        "release": {"id": release["id"], "policies": sorted(release["policy_keys"]),
                    "catalogue": release["catalogue_digest"]},
        "uplinks": sorted(node.get("uplinks") or ()),
        "bridges": sorted(node.get("bridges") or ()),
        "routed_interfaces": sorted(node.get("routed_interfaces") or ()),
        "prefixes": catalogue["prefixes"],
        "smtp": strange["smtp"],
        "unknown_controls": strange["unknown_controls"],
        "rescue": _united(p.rescue_prefixes() for p in policies.values()),
        "services": entries,
    }
    if then:
        desired[THEN] = then
    if any(_is_of_format_2(view) for entry in entries for view in [entry, *entry.get(THEN, ())]):
        desired["format"] = FORMAT_2
    desired["controls"] = {control: TERMS[control].parameters(policies, snapshot, node, now)
                           for control in _in_use([desired, *entries])}
    return Resolution(desired, reasons)


def _is_of_format_2(view):
    limits = view.get("limits") or {}
    return "drop" in limits or "millicores" in limits.get("cpu_throttle", ())


def _elsewhere(snapshot, node, baseline):
    """The service of a prior state in the catalogue, if other nodes carry it too."""
    service = snapshot["catalogue"]["services"].get(baseline["service"])
    return service if service and set(service["nodes"]) - {node["name"]} else None


def retired(snapshot, node):
    """The desired state that takes all of ours off a node and leaves it as found."""
    return {
        "format": FORMAT,
        "node": node["name"],
        "present": False,
        "fence": {"ledger": snapshot["ledger"], "epoch": snapshot["epoch"], "generation": snapshot["revision"]},
        "release": None,
        "uplinks": [], "bridges": [], "routed_interfaces": [], "prefixes": [],
        "smtp": {"unknown": {"mode": "off", "ports": []}, "unknown_adopted": {"mode": "off", "ports": []},
                 "smarthosts": []},
        "controls": {}, "unknown_controls": {"new": {}, "adopted": {}},
        "rescue": [],
        "services": [
            _service_entry(_departed(b["service"], None, b, _elsewhere(snapshot, node, b)), _FREE, _prior(b))
            for b in sorted(snapshot["baselines"], key=lambda b: b["service"])
        ],
    }
