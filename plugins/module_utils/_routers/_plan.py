# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a router has to what it is to have: changes, refusals, and what is true by now. Pure. PRIVATE.

What a router has comes normalised from its driver, the same for every platform:

`routes`: every configured route, `{"prefix", "ours", "blackhole", "mark", "exact", "line"}`. `mark`: route tag or
protocol number, what the platform has; `ours`: it is one of ours, and the route drops. `exact`: nothing on it beyond what we set.
`rib`: `{prefix: {"blackhole", "installed"}}` of drop routes really in use.
`taken`: `[{"prefix", "what"}]`, addresses that must not be cut off: the router's own, next hops, BGP peers.
`occupied`: `{prefix: what}`, routes that win over ours, or that ours would displace.
`rtbh`: None, or `{"missing": {"4": [lines], "6": [lines]}, "announced": {prefix: {"to": [peers], "trigger": bool,
"wrong": {peer: community that it should hear and doesn't}}}, "up": [peers with a session]}`; `wrong` where the platform
shows what a neighbor is told, else left out.
`drops`: groups of remote prefixes that are dropped, `drop_objections`: lines that they need and the router lacks, see
`_drops.plan_drops`; both left out by platforms that carry none.
`ports`: what is on ports and what would be, see `_ports.plan_ports`; left out by platforms that don't act on ports.
"""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._open_connections import OPTION
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import is_drop, plan_drops
from ansible_collections.hosting.aup.plugins.module_utils._routers._ports import plan_ports


def _refusal(route, code, message, remedy):
    return {"service": route["service"], "prefix": route["prefix"], "code": code, "message": message, "remedy": remedy}


class _Taken:
    """What must stay reachable, looked up by the prefix that would cover it."""

    def __init__(self, entries):
        self._of = {4: [], 6: []}
        for entry in entries:
            network = ipaddress.ip_network(entry["prefix"])
            self._of[network.version].append((int(network.network_address), int(network.broadcast_address), entry["what"]))

    def within(self, prefix):
        """What a prefix would cut off, or None."""
        network = ipaddress.ip_network(prefix)
        first, last = int(network.network_address), int(network.broadcast_address)
        return next((what for low, high, what in self._of[network.version] if low <= last and first <= high), None)


def _objection(route, observed, taken, at_prefix, acts):
    """Why a wanted route can't be set, or None. One that acts already is not taken down for what came later."""
    prefix = route["prefix"]
    foreign = [r for r in at_prefix if not r["ours"]]
    if foreign and not acts:
        return _refusal(route, "route_collision", "%s is not set: another route is there: %s." % (prefix, foreign[0]["line"]),
                        "Remove that route, or hold the service in another way; it is never replaced.")
    what = taken.within(prefix)
    if what:
        return _refusal(route, "router_address", "%s is not set: it holds %s." % (prefix, what),
                        "That must stay reachable. Correct the catalogue, or hold the service in another way.")
    if prefix in observed["occupied"] and not acts:
        return _refusal(route, "route_collision", "%s is not set: the router has %s."
                        % (prefix, observed["occupied"][prefix]), "A null route would do nothing beside it.")
    if route["rtbh"] and not any(r["ours"] for r in at_prefix):
        missing = observed["rtbh"]["missing"][str(ipaddress.ip_network(prefix).version)]
        if missing:
            return _refusal(route, "rtbh_missing", "%s is not set: the router is not ready to announce it." % prefix,
                            "Add these lines to it, then run again:\n" + "\n".join(missing))
    return None


def _state(route, mark, observed, mine):
    """(in force, what is missing) of a wanted route."""
    if not any(r["exact"] and r["mark"] == mark for r in mine):
        return False, "it is not in the configuration"
    rib = observed["rib"].get(route["prefix"])
    if not rib or not rib["blackhole"]:
        return False, "the router does not use it"
    if not rib["installed"]:
        return False, "it is not in the forwarding table"
    return True, None


def _announced(route, settings, observed):
    """What is missing of a route's announcement, or None; upstreams without a session are not waited for."""
    version = ipaddress.ip_network(route["prefix"]).version
    said = observed["rtbh"]["announced"].get(route["prefix"]) or {"to": [], "trigger": False}
    if not said["trigger"]:
        return "BGP does not carry it with the community %s" % settings["rtbh"]["trigger"]
    peers = [peer for upstream in settings["rtbh"]["upstreams"] for peer in upstream["neighbors"]
             if ipaddress.ip_address(peer).version == version]
    silent = [peer for peer in peers if peer in observed["rtbh"]["up"] and peer not in said["to"]]
    if silent:
        return "it is not announced to %s" % ", ".join(silent)
    wrong = sorted((peer, community) for peer, community in (said.get("wrong") or {}).items() if peer in said["to"])
    if wrong:
        return "it is announced without its community: %s" % ", ".join("%s to %s" % (text, peer) for peer, text in wrong)
    if not any(peer in said["to"] for peer in peers):
        return "no upstream has a session to hear it"
    return None


def plan(desired, observed):
    """What to change, and what is true already.

    :returns: `{"changes": [{"action": "add|remove", "prefix", "service", "mark", "before": [lines]}], additions
        first, "states": [{"prefix", "service", "in_force", "announced", "why"}] of what is wanted, "refused",
        "notes", "left": [{"prefix", "service"}] of ours that lies there unwanted}`
    """
    settings = desired["settings"]
    at, changes, states, refused, notes = {}, [], [], [], list(desired["notes"])
    for route in observed["routes"]:
        at.setdefault(route["prefix"], []).append(route)
    wanted, taken = {}, _Taken(observed["taken"])
    for route in desired["null_routes"]:
        prefix = route["prefix"]
        here = at.get(prefix, [])
        mine = [r for r in here if r["ours"]]
        mark = settings["rtbh"]["tag"] if route["rtbh"] else settings["mark"]
        acts, why = _state(route, mark, observed, mine)
        no = _objection(route, observed, taken, here, acts)
        if no:
            refused.append(dict(no, **{OPTION: True}) if route.get(OPTION) else no)
            continue
        wanted[prefix] = route
        notes += ["%s: another route is there as well: %s" % (prefix, r["line"]) for r in here if not r["ours"]]
        configured = any(r["exact"] and r["mark"] == mark for r in mine)
        if not configured:
            changes.append({"action": "add", "prefix": prefix, "service": route["service"], "mark": mark,
                            "before": [r["line"] for r in mine]})
        silent = _announced(route, settings, observed) if route["rtbh"] else None
        states.append({"prefix": prefix, "service": route["service"], "in_force": acts, "announced": silent is None,
                       "configured": configured, "why": why or silent, **({OPTION: True} if route.get(OPTION) else {})})
    known = {entry["prefix"]: entry["service"] for entry in desired["known"]}
    left, strays = [], []
    for prefix in sorted(at, key=_order):
        for route in at[prefix]:
            if not route["ours"] or prefix in wanted:
                continue
            if prefix not in known:
                strays.append(prefix)
                continue
            left.append({"prefix": prefix, "service": known[prefix]})
            changes.append({"action": "remove", "prefix": prefix, "service": known[prefix], "mark": route["mark"],
                            "before": [route["line"]]})
    if strays:
        notes.append("%d null routes carry our mark but are on no record (%s%s): left as they are."
                     % (len(strays), ", ".join(strays[:5]), ", …" if len(strays) > 5 else ""))
    down = _down(settings, observed) if any(r["rtbh"] for r in desired["null_routes"]) else []
    if down:
        notes.append("no BGP session with %s: what is announced is not heard there." % ", ".join(down))
    ports = plan_ports(desired, observed.get("ports") or {})
    drops = plan_drops(desired, observed.get("drops") or {}, observed.get("drop_objections") or {})
    return {"changes": changes + drops["changes"] + ports["changes"], "states": states + drops["states"] + ports["states"],
            "refused": desired["refused"] + refused + drops["refused"] + ports["refused"], "notes": notes + drops["notes"] + ports["notes"],
            "left": left + drops["left"] + ports["left"]}


def outcomes(desired, planned, failed):
    """What is true of each service, and what went wrong, from the last plan.

    :param failed: `{prefix: the router's complaint}` of what was tried in vain
    :returns: (services, errors, ended): `services` as `run_summary` takes them, `ended` `{service: [ids]}` of
        enforcements that were to end and of which nothing lies here any more
    """
    states, left = {}, {}
    for state in planned["states"]:
        states.setdefault(state["service"], []).append(state)
    for entry in planned["left"]:
        left.setdefault(entry["service"], set()).add(entry["prefix"])
    errors = [{"service": r["service"], "code": r["code"], "message": r["message"], "remedy": r["remedy"]}
              for r in planned["refused"] if not r.get(OPTION)]
    services, ended = [], {}
    for entry in desired["services"]:
        sid, bound = entry["service"], entry["bound"]
        mine, remains = states.get(sid, []), left.get(sid, set())
        refused = any(r["service"] == sid and not r.get(OPTION) for r in planned["refused"])
        beside, own = [s for s in mine if s.get(OPTION)], [s for s in mine if not s.get(OPTION)]
        for state in mine:
            if not state["in_force"]:
                said = failed.get(state["prefix"]) or state["why"] or "it does not act"
                errors.append({"service": sid, "code": "not_applied",
                               "message": "%s is not in force: %s." % (_named(state["prefix"]), said),
                               "remedy": "%sCheck the router, then run again." % (
                                   "" if state.get("stays") else "What was entered for it was taken back. ")})
            elif not state["announced"]:
                errors.append({"service": sid, "code": "not_announced",
                               "message": "%s is dropped here, but %s." % (state["prefix"], state["why"]),
                               "remedy": "Check the session and the route maps, then run again."})
        errors += [{"service": sid, "code": "not_removed", "message": "%s still has what is to be given back%s."
                    % (_named(prefix), ": " + failed[prefix] if prefix in failed else ""), "remedy": "Run again."}
                   for prefix in sorted(remains)]
        waiting = remains | {state["prefix"] for state in mine if _is_whole(state) and not state["in_force"]}
        gone = [e["id"] for e in entry["enforcements"] if e["status"] == "ending" and not waiting.intersection(e["prefixes"])]
        if gone:
            ended[sid] = gone
        acts = bool(bound and own and not refused and all(s["in_force"] and s["announced"] for s in own))
        limits = {kind: {"in_force": acts} for kind in bound["limits"] if kind != _hold(bound)} if bound else {}
        if entry.get(OPTION):
            # It holds nobody: what it is for is in force where the guest is, or not.
            limits[OPTION] = {"in_force": bool(beside) and all(s["in_force"] for s in beside)}
        services.append({
            "service": sid, "here": True, "hold": _hold(bound), "in_force": acts, "limits": limits,
            "released": not bound and not entry.get(OPTION) and not remains and not any(_is_whole(s) and not s["in_force"] for s in mine),
            "enforcement_ids": bound["enforcement_ids"] if bound else [],
        })
    # Ports of services that nothing holds: policy alone asks something of them.
    held = {entry["service"] for entry in desired["services"]}
    errors += [{"service": s["service"], "code": "not_applied", "message": "%s is not in force: %s." % (
        _named(s["prefix"]), failed.get(s["prefix"]) or s["why"]), "remedy": "Check the router, then run again."}
        for s in planned["states"] if s["service"] not in held and not s["in_force"]]
    return services, errors, ended


def gaps(planned):
    """What of null routes for open connections can't be done, as gaps: nothing that holds a service stands on it."""
    return [{"guest": r["service"], "service": r["service"], "mac": None, "gap": "%s: %s What was open when the block began may go on. %s" % (
        OPTION, r["message"], r["remedy"])} for r in planned["refused"] if r.get(OPTION)]


def settles(desired, planned):
    """Whether something that the ledger has not seen carried out is so by now: then it must outlast a restart."""
    services, _errors, _ended = outcomes(desired, planned, {})
    done = {s["service"] for s in services if s["in_force"] or s["released"]}
    return any(entry["service"] in done and any(e["status"] in ("opened", "ending") for e in entry["enforcements"])
               for entry in desired["services"])


def _hold(bound):
    """What a service is shown as held by: its hold, or the null route where that is all there is."""
    if not bound:
        return None
    return bound["hold"] or ("null_route" if bound["limits"] == ["null_route"] else None)


def _is_whole(state):
    """Whether several enforcements share it, so that one of them has only ended when all of it is as wanted."""
    return state["prefix"].startswith("port ") or is_drop(state)


def _named(prefix):
    if prefix.startswith("drop "):
        return "the list of what is dropped (%s)" % prefix
    return "what is wanted on %s" % prefix if prefix.startswith("port ") else "the null route of %s" % prefix


def _down(settings, observed):
    return [peer for upstream in settings["rtbh"]["upstreams"] for peer in upstream["neighbors"]
            if peer not in observed["rtbh"]["up"]]


def _order(prefix):
    network = ipaddress.ip_network(prefix)
    return network.version, int(network.network_address), network.prefixlen
