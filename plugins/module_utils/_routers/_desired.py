# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one router is to carry, and why. Pure: no I/O, no clock. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, CatalogueError
from ansible_collections.hosting.aup.plugins.module_utils._fold import fold_limits, in_force
from ansible_collections.hosting.aup.plugins.module_utils._guard import check_enforcement
from ansible_collections.hosting.aup.plugins.module_utils._open_connections import (
    NULL_ROUTE_SECONDS,
    OPTION,
    null_routed,
    null_route_targets,
    null_routers,
)
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import DROP_PLATFORMS, desired_drops, drop_key, known_drops
from ansible_collections.hosting.aup.plugins.module_utils._routers._ports import acts_here, desired_ports, port_keys
from ansible_collections.hosting.aup.plugins.module_utils._time import iso

FORMAT = 1
ACTS_ON_ROUTERS = frozenset(("null_route", "drop"))
"""Kinds of enforcement that routers carry out for all services of their location."""


def carries(router, kind):
    """Whether the platform of a router can carry out a kind that acts on all routers of a location."""
    return kind in ACTS_ON_ROUTERS and (kind != "drop" or router["router"]["platform"] in DROP_PLATFORMS)


def routers_of(catalogue, location):
    """Names of the routers of a location that are ours to write to, sorted."""
    return sorted(name for name, node in catalogue["nodes"].items()
                  if node.get("router") and node["location"] == location)


def concerns(enforcement, router):
    """Whether an enforcement is this router's to carry out, or may still lie on it.

    The location counts, so that a router added later takes part; the routers of the time when it was
    opened count too, so that one that was moved gives it up.
    """
    if acts_here(enforcement, router) or router["name"] in null_routers(enforcement):
        return True
    if not carries(router, enforcement["kind"]):
        return False
    known = enforcement["snapshot"]
    return router["name"] in (known.get("routers") or ()) or known.get("location") == router["location"]


def targets(enforcement):
    """Prefixes that a null route of this enforcement covers: host routes, and routed prefixes where policy says so.

    From the service as it was when the enforcement was opened, so that it ends exactly where it began.
    """
    found = []
    wide = enforcement["options"].get("routed_prefixes", False)
    for nic in enforcement["snapshot"]["nics"]:
        found += [_host(text) for text in [*nic.get("addresses", ()), *nic.get("floating", ())]]
        found += [str(ipaddress.ip_network(text)) for text in nic.get("prefixes") or () if wide or _is_host(text)]
    return list(dict.fromkeys(found))


def left_out(enforcement):
    """Routed prefixes of the service that its null route does not cover: there a guest can move on."""
    if enforcement["options"].get("routed_prefixes", False):
        return []
    return sorted(text for nic in enforcement["snapshot"]["nics"] for text in nic.get("prefixes") or ()
                  if not _is_host(text))


def _host(text):
    address = ipaddress.ip_address(text)
    return "%s/%d" % (address, address.max_prefixlen)


def _is_host(text):
    network = ipaddress.ip_network(text)
    return network.prefixlen == network.max_prefixlen


def _order(prefix):
    network = ipaddress.ip_network(prefix)
    return network.version, int(network.network_address), network.prefixlen


def _node_addresses(catalogue, router):
    found = list(router.get("router", {}).get("protected", ()))
    for node in catalogue["nodes"].values():
        found += [node["address"]] if node.get("address") else []
        found += (node.get("router") or {}).get("protected", ())
    return found


def _guarded(policy, service, catalogue, router, wanted):
    """(prefixes allowed, refusals) of what a service's null routes want."""
    allowed, refused = [], []
    addresses = _node_addresses(catalogue, router)
    try:
        return check_enforcement(policy, service, catalogue["prefixes"], "null_route", addresses, wanted), refused
    except AupError:
        pass  # now one by one, so that one refused address does not spare the others
    for prefix in wanted:
        try:
            allowed += check_enforcement(policy, service, catalogue["prefixes"], "null_route", addresses, [prefix])
        except AupError as exc:
            refused.append({"service": service["id"], "prefix": prefix, "code": exc.code, "message": exc.message,
                            "remedy": exc.remedy})
    return allowed, refused


def _policy_for(policies, release, key):
    return policies[key] if key in policies else policies[release["default_policy"]]


def _capped(routes, settings):
    """(routes within the caps, refusals): those that began first stay, the newest are refused, before them what is for open connections."""
    routes = sorted(routes, key=lambda r: (OPTION in r, r["starts_at"], _order(r["prefix"])))
    kept, refused, announced = [], [], {4: 0, 6: 0}
    most = settings["max_null_routes"]
    rtbh = settings.get("rtbh")
    limit = min((upstream["max"] for upstream in rtbh["upstreams"]), default=0) if rtbh else 0
    for route in routes:
        version = _order(route["prefix"])[0]
        if len(kept) >= most:
            why = "more than %d null routes on this router (max_null_routes)" % most
        elif route["rtbh"] and announced[version] >= limit:
            why = "more than %d announced IPv%d routes: an upstream's session would trip its limit (max)" % (limit, version)
        else:
            kept.append(route)
            announced[version] += 1 if route["rtbh"] else 0
            continue
        refused.append({"service": route["service"], "prefix": route["prefix"], "code": "router_cap",
                        "message": "%s is not set: %s." % (route["prefix"], why),
                        "remedy": "Lift what is no longer needed, or raise the cap of the router in the catalogue."})
    return kept, refused


def _null_routes(policies, snapshot, router, sid, current):
    """(routes, what binds the service, refusals, notes) of one service's null routes that are in force here."""
    announcing, notes = router["router"].get("rtbh"), []
    terms = fold_limits(current)["null_route"]
    newest = max(current, key=lambda e: (e["starts_at"], e["id"]))
    policy = _policy_for(policies, snapshot["release"], newest["snapshot"]["policy"])
    service = {"id": sid, "nics": newest["snapshot"]["nics"]}
    wanted = sorted({prefix for e in current for prefix in targets(e)}, key=_order)
    allowed, refused = _guarded(policy, service, snapshot["catalogue"], router, wanted)
    rtbh = any(e["options"].get("rtbh", False) for e in current)
    if rtbh and not announcing:
        notes.append("%s: %s announces nothing (no rtbh in the catalogue); the traffic is dropped here only."
                     % (sid, router["name"]))
    open_prefixes = sorted({p for e in current for p in left_out(e)} - set(allowed))
    if open_prefixes:
        notes.append("%s: %s not covered: a guest can move on within it. Policy: null_route, routed_prefixes: true."
                     % (sid, ", ".join(open_prefixes)))
    bound = {"enforcement_ids": terms["enforcement_ids"], "until_at": terms["until_at"], "hold": None, "limits": ["null_route"],
             "clause": newest["clause"], "cases": sorted({e["case_id"] for e in current})}
    routes = [{
        "prefix": prefix, "service": sid, "enforcement_ids": terms["enforcement_ids"],
        "cases": bound["cases"], "rtbh": bool(rtbh and announcing),
        "starts_at": min(e["starts_at"] for e in current if prefix in targets(e)),
    } for prefix in allowed]
    return routes, bound, refused, notes


def resolve_router(policies, snapshot, router, now, controllers=()):
    """The desired state of one router.

    :param policies: `{key: Policy}` of the release
    :param snapshot: the ledger's snapshot for this router (docs/architecture.md)
    :param router: its description in the released catalogue, with `name`
    :param now: seconds since the epoch
    :param controllers: addresses the controller connects from: nothing that would cut them off is wanted
    :returns: plain document: `null_routes`, `drops` (see `_drops`) and `ports` wanted, `known` prefixes and `known_drops` that may be ours to remove, `refused`
        ones with the rule, `services` with the enforcements that concern this router, `notes`, `gaps`
    :raises CatalogueError: the node is no router
    """
    settings = router.get("router")
    if router["backend"] != "router" or not settings:
        raise CatalogueError("node %s is not a router." % router["name"], target=router["name"],
                             remedy="Give it backend: router and a section router in the catalogue.")
    mine = [e for e in snapshot["enforcements"] if concerns(e, router)]
    bound, by_service = {}, {}
    for enforcement in mine:
        by_service.setdefault(enforcement["service"], []).append(enforcement)
    routes, refused, notes = [], [], []
    for sid in sorted(by_service):
        current = [e for e in by_service[sid] if e["kind"] == "null_route" and _binds(e, router, now)]
        if not current:
            continue
        added, bound[sid], no, said = _null_routes(policies, snapshot, router, sid, current)
        routes += added
        refused += no
        notes += said
    beside = {sid: found for sid, found in ((sid, [e for e in held if router["name"] in null_routers(e)])
                                            for sid, held in by_service.items()) if found}
    for sid, held in beside.items():
        added, no = _for_open_connections(policies, snapshot, router, sid, [e for e in held if _begins(e, router, now)],
                                          {route["prefix"] for route in routes})
        routes += added
        refused += no
    kept, over = _capped(routes, settings)
    refused += over
    dropping = {sid: found for sid, found in ((sid, [e for e in held if e["kind"] == "drop" and _binds(e, router, now)])
                                              for sid, held in by_service.items()) if found}
    on_drops = desired_drops(lambda key: _policy_for(policies, snapshot["release"], key), snapshot["catalogue"], router,
                             _node_addresses(snapshot["catalogue"], router), dropping)
    refused += on_drops["refused"]
    for sid, held in dropping.items():
        last = max(held, key=lambda e: (e["starts_at"], e["id"]))
        terms = dict(fold_limits(held)["drop"], hold=None, limits=["drop"], clause=last["clause"], cases=sorted({e["case_id"] for e in held}))
        bound[sid] = _joined(bound[sid], terms) if sid in bound else {key: terms[key] for key in _BOUND}
    on_ports = desired_ports(policies, snapshot, router, [e for e in mine if acts_here(e, router)], now)
    refused += on_ports["refused"]
    for sid, terms in on_ports["bound"].items():
        bound[sid] = _joined(bound[sid], terms) if sid in bound else terms
    known = {}
    for enforcement in mine:
        for prefix in _prefixes(enforcement, router):
            known.setdefault(prefix, enforcement["service"])
    wanted, cut = spare_controllers({"null_routes": kept, "drops": on_drops["drops"], "ports": on_ports["ports"]}, controllers)
    refused = _marked(refused + cut, routes)
    bound_beside = {sid: terms for sid, terms in ((sid, _began(held, router, now)) for sid, held in beside.items()) if terms}
    return {
        "format": FORMAT, "router": router["name"], "present": True,
        "settings": dict(settings, uplinks=list(router.get("uplinks") or ()), controllers=sorted(controllers)),
        "fence": {"ledger": snapshot["ledger"], "epoch": snapshot["epoch"], "generation": snapshot["revision"]},
        "null_routes": sorted(wanted["null_routes"], key=lambda r: _order(r["prefix"])),
        "known": [{"prefix": prefix, "service": known[prefix]} for prefix in sorted(known, key=_order)],
        "drops": wanted["drops"],
        "known_drops": known_drops(mine),
        "ports": wanted["ports"],
        "port_services": on_ports["known"],
        "gaps": on_ports["gaps"] + _gaps(snapshot, router, now),
        "decisions": {sid: {control: {"mode": one.mode, "clause": one.clause, "reason": one.reason}
                            for control, one in found.items()} for sid, found in on_ports["decisions"].items()},
        "services": [{"service": sid, "enforcements": [_brief(e, router) for e in sorted(by_service[sid], key=lambda e: e["id"])],
                      "bound": bound.get(sid), OPTION: bound_beside.get(sid)}
                     for sid in sorted(by_service) if sid in bound_beside or not _is_past(by_service[sid], beside.get(sid, ()), snapshot, sid)],
        "refused": refused,
        "notes": notes,
    }


def _begins(enforcement, router, now):
    """Whether a block begins, and this router null-routes the service for it."""
    return null_routed(enforcement, now) and enforcement["snapshot"].get("location") == router["location"]


def _for_open_connections(policies, snapshot, router, sid, held, covered):
    """(routes, refusals) for connections of a cluster's guest that are open when blocks begin: beside what enforcements ask by themselves.

    :param held: the service's blocks that begin
    :param covered: prefixes with a null route of an enforcement's own
    """
    if not held:
        return [], []
    newest = max(held, key=lambda e: (e["starts_at"], e["id"]))
    policy = _policy_for(policies, snapshot["release"], newest["snapshot"]["policy"])
    wanted = sorted({prefix for e in held for prefix in null_route_targets(e)} - covered, key=_order)
    allowed, refused = _guarded(policy, {"id": sid, "nics": newest["snapshot"]["nics"]}, snapshot["catalogue"], router, wanted) \
        if wanted else ([], [])
    return [{"prefix": prefix, "service": sid, "enforcement_ids": sorted(e["id"] for e in held), "cases": sorted({e["case_id"] for e in held}),
             "rtbh": False, "starts_at": min(e["starts_at"] for e in held), OPTION: True} for prefix in allowed
            ], [dict(entry, **{OPTION: True}) for entry in refused]


def _marked(refused, routes):
    """Refusals, each of a route that is only for open connections marked as such: nothing that holds the service fails by it."""
    beside = {(route["service"], route["prefix"]) for route in routes if route.get(OPTION)}
    return [dict(entry, **{OPTION: True}) if (entry["service"], entry["prefix"]) in beside else entry for entry in refused]


def _began(held, router, now):
    """Until when and for what this router null-routes a service for open connections; None if it doesn't."""
    found = [e for e in held if _begins(e, router, now)]
    if not found:
        return None
    return {"until_at": max(e["starts_at"] for e in found) + NULL_ROUTE_SECONDS, "cases": sorted({e["case_id"] for e in found}),
            "clause": max(found, key=lambda e: (e["starts_at"], e["id"]))["clause"]}


def _is_past(held, beside, snapshot, sid):
    """Whether all that concerns this router of a service is blocks whose beginning is over and given back: nothing to be said of them."""
    return len(beside) == len(held) and not any(e["status"] == "ending" for e in held) and sid not in {
        baseline["service"] for baseline in snapshot.get("baselines") or ()}


def _prefixes(enforcement, router):
    """Prefixes of an enforcement's null routes on a router."""
    if router["name"] in null_routers(enforcement):
        return null_route_targets(enforcement)
    return targets(enforcement) if enforcement["kind"] == "null_route" else []


def spare_controllers(wanted, controllers):
    """`(wanted without what would cut off the controller, refusals)`.

    A port by which the controller comes is found on the router, not here: see the drivers.

    :param wanted: `{"null_routes", "drops", "ports"}` of a desired state
    :param controllers: addresses as text
    """
    mine = [ipaddress.ip_network(text) for text in controllers]
    if not mine:
        return wanted, []

    def hit(texts):
        networks = [ipaddress.ip_network(text) for text in texts]
        return any(one.version == other.version and one.overlaps(other) for one in mine for other in networks)

    held = {"null_routes": lambda e: [e["prefix"]], "drops": lambda e: [*e["in"], *e["out"]],
            "ports": lambda e: e["own"] if e["dark"] or e.get("rescue") is not None else ()}
    keys = {"null_routes": lambda e: e["prefix"], "drops": lambda e: drop_key(e["service"]), "ports": lambda e: "port " + e["interface"]}
    kept, refused = {}, []
    for kind, entries in wanted.items():
        cut = [entry for entry in entries if hit(held[kind](entry))]
        kept[kind] = [entry for entry in entries if entry not in cut]
        if kind == "ports":  # policy goes on holding there
            kept[kind] = sorted(kept[kind] + [_unheld(entry) for entry in cut], key=lambda e: e["interface"])
        refused += [{"service": entry["service"], "prefix": keys[kind](entry), "code": "guard_controller",
                     "message": "%s is not done: it would cut off the address that this controller connects from." % keys[kind](entry),
                     "remedy": "Run from a controller outside of that service and of what is dropped; rule: never the controller."}
                    for entry in cut]
    return kept, refused


def _unheld(port):
    """A port's terms without its hold."""
    return {key: False if key == "dark" else value for key, value in port.items() if key != "rescue"}


_BOUND = ("enforcement_ids", "hold", "limits", "clause", "cases", "until_at")


def _binds(enforcement, router, now):
    return in_force(enforcement, now) and enforcement["snapshot"].get("location") == router["location"]


def _gaps(snapshot, router, now):
    """What the platform can't carry out of what acts on all routers of its location."""
    found = sorted({(e["service"], e["kind"]) for e in snapshot["enforcements"]
                    if e["kind"] in ACTS_ON_ROUTERS and not carries(router, e["kind"]) and _binds(e, router, now)})
    return [{"guest": sid, "service": sid, "mac": None,
             "gap": "%s is not carried on platform %s: not_supported. It acts on the service's host, and on routers that can."
             % (kind, router["router"]["platform"])} for sid, kind in found]


def _joined(one, other):
    """What binds a service by route, by drop and by port at once."""
    ends = [one["until_at"], other["until_at"]]
    return {"enforcement_ids": sorted({*one["enforcement_ids"], *other["enforcement_ids"]}), "clause": other["clause"],
            "cases": sorted({*one["cases"], *other["cases"]}), "until_at": None if None in ends else max(ends),
            "hold": other["hold"] or one["hold"], "limits": sorted({*one["limits"], *other["limits"]})}


def _brief(enforcement, router):
    if enforcement["kind"] == "drop":
        prefixes = [drop_key(enforcement["service"])]
    else:
        prefixes = _prefixes(enforcement, router) or port_keys(enforcement["snapshot"], router)
    return {"id": enforcement["id"], "status": enforcement["status"], "prefixes": prefixes}


def reasons(desired):
    """`{service: {what: {"mode", "clause", "reason"}}}`, as `explain` prints it."""
    found = {sid: dict(controls) for sid, controls in desired["decisions"].items()}
    for entry in desired["services"]:
        bound = entry["bound"]
        for kind in _kinds(bound) if bound else ():
            found.setdefault(entry["service"], {})[kind] = {
                "mode": "in force", "clause": bound["clause"],
                "reason": "case %s until %s" % (", ".join(bound["cases"]), iso(bound["until_at"]) or "it is lifted")}
        if entry[OPTION]:
            found.setdefault(entry["service"], {})[OPTION] = {
                "mode": "null-routed", "clause": entry[OPTION]["clause"],
                "reason": "case %s until %s" % (", ".join(entry[OPTION]["cases"]), iso(entry[OPTION]["until_at"]))}
    return found


def _kinds(bound):
    return ([bound["hold"]] if bound["hold"] else []) + bound["limits"]


def retired_router(desired):
    """The same router with nothing of ours on it."""
    return dict(desired, present=False, null_routes=[], drops=[], ports=[], refused=[], notes=[], gaps=[], decisions={},
                services=[dict(entry, bound=None, **{OPTION: None}) for entry in desired["services"]])
