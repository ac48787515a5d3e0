# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dedicated servers: what policy and enforcements ask of the router ports they hang on. Pure: no I/O, no clock. PRIVATE."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._controls import TERMS
from ansible_collections.hosting.aup.plugins.module_utils._fold import fold_hold, fold_limits, in_force
from ansible_collections.hosting.aup.plugins.module_utils._resolve import decide, versions_of, withdraw
from ansible_collections.hosting.aup.plugins.module_utils._versions import version_at

ACTS_ON_PORTS = frozenset(("suspend", "terminate", "quarantine", "bandwidth_cap", "smtp_block", "port_block"))
"""Kinds of enforcement that a router carries out on a dedicated server's port."""
CONTROLS = ("smtp_outbound", "anti_spoofing")
PORT_PLATFORMS = {
    "linux": ACTS_ON_PORTS | frozenset(CONTROLS),
    "junos": (ACTS_ON_PORTS | frozenset(CONTROLS)) - {"quarantine"},
    "iosxe": (ACTS_ON_PORTS | frozenset(CONTROLS)) - {"quarantine"},
    "eos": (ACTS_ON_PORTS | frozenset(CONTROLS)) - {"quarantine", "bandwidth_cap"},
    "vyos": (ACTS_ON_PORTS | frozenset(CONTROLS)) - {"quarantine"},
    "routeros": (ACTS_ON_PORTS | frozenset(CONTROLS)) - {"quarantine"},
}
"""What each platform's driver carries out on ports: kinds of enforcement and controls; what is not here is a gap."""
_KEY = "port %s"


def is_dedicated(service):
    """Whether a service is a server on router ports instead of a guest (catalogue or snapshot)."""
    return bool(service.get("ports"))


def ports_on(service, router):
    """Interfaces of a router that a service hangs on."""
    return sorted(port["interface"] for port in service.get("ports") or () if port["router"] == router["name"])


def acts_here(enforcement, router):
    """Whether an enforcement was opened for a port of this router."""
    return enforcement["kind"] in ACTS_ON_PORTS and bool(ports_on(enforcement["snapshot"], router))


def collapsed(prefixes):
    """Prefixes in one normal form: merged, IPv4 first."""
    networks = [ipaddress.ip_network(text) for text in prefixes]
    return [str(network) for version in (4, 6)
            for network in ipaddress.collapse_addresses(n for n in networks if n.version == version)]


def _decisions(policies, snapshot, service, now):
    versions = versions_of(policies, snapshot["release"], service.get("policy"))
    policy = version_at(versions, now, service.get("terminated_on"))
    exemptions = {e["control"]: e for e in snapshot.get("exemptions") or () if e["service"] == service["id"]}
    adopted_at = (snapshot.get("adoptions") or {}).get(service["id"])
    found = {}
    for control in CONTROLS:
        setting = policy.control(control, service["location"], service["account_type"])
        one = decide(setting, exemptions.get(control), adopted_at, now)
        found[control] = TERMS[control].judge(service, one) if control in TERMS else one
    return found


def _supported(decisions, can):
    """The decisions without the controls that the platform can't carry."""
    if not decisions:
        return decisions
    return {name: one if name in can else one._replace(mode="off") for name, one in decisions.items()}


def _asks(control, decisions):
    """Whether a decision asks something of the port."""
    return bool(decisions) and _acts(decisions[control].mode) != "off" and (
        control != "smtp_outbound" or bool(decisions[control].options.get("ports")))


def _acts(mode):
    return mode if mode in ("observe", "enforce") else "off"


def _terms(interface, service, decisions, hold, limits, smarthosts, rescue=()):
    """What one port is to do; None when nothing is asked of it.

    :param rescue: what reaches a server in quarantine, and what it reaches
    """
    smtp = withdraw(decisions["smtp_outbound"], limits.get("smtp_block")) if decisions else None
    if smtp is None and "smtp_block" in limits:
        mail = {"mode": "enforce", "ports": limits["smtp_block"]["ports"]}
    elif smtp is not None and smtp.options.get("ports"):
        mail = {"mode": _acts(smtp.mode), "ports": sorted(smtp.options["ports"])}
    else:
        mail = {"mode": "off", "ports": []}
    guard = _acts(decisions["anti_spoofing"].mode) if decisions else "off"
    own = TERMS["anti_spoofing"].options(service, None)["sources"] if decisions else []
    terms = {
        "interface": interface, "service": service["id"], "own": own,
        "dark": bool(hold) and hold["kind"] != "quarantine",
        **({"rescue": list(rescue)} if hold and hold["kind"] == "quarantine" else {}), "guard": guard if own else "off", "smtp": mail, "smarthosts": smarthosts,
        "blocks": limits.get("port_block", {}).get("blocks", []),
        "rate_bps": limits.get("bandwidth_cap", {}).get("rate_bps"),
    }
    idle = not (hold or terms["blocks"] or terms["rate_bps"]) and terms["guard"] == "off" and mail["mode"] == "off"
    return None if idle else terms


def desired_ports(policies, snapshot, router, mine, now):
    """What the ports of one router are to do.

    :param mine: the enforcements that concern ports of this router
    :returns: `{"ports": [terms], "known": {interface: service}, "bound": {service: …}, "gaps", "refused", "decisions"}`
    """
    services = snapshot["catalogue"].get("services") or {}
    here = {sid: service for sid, service in services.items() if ports_on(service, router)}
    owner = {interface: sid for sid, service in here.items() for interface in ports_on(service, router)}
    current, known, bound, gaps, refused, said = {}, dict(owner), {}, [], [], {}
    for enforcement in mine:
        for interface in ports_on(enforcement["snapshot"], router):
            known.setdefault(interface, enforcement["service"])
        if in_force(enforcement, now):
            current.setdefault(enforcement["service"], []).append(enforcement)
    smarthosts = collapsed({prefix for policy in policies.values() for prefix in policy.networks("smarthosts")})
    rescue = collapsed({prefix for policy in policies.values() for prefix in policy.rescue_prefixes()})
    ports = []
    for sid in sorted(set(here) | set(current)):
        held = current.get(sid, [])
        service = here.get(sid)
        decisions = _decisions(policies, snapshot, service, now) if service else None
        if service is None:
            # It left the catalogue, or this router, while held: as it was when the newest was opened.
            newest = max(held, key=lambda e: (e["starts_at"], e["id"]))["snapshot"]
            service = {"id": sid, "nics": newest["nics"], "ports": newest["ports"]}
        else:
            said[sid] = decisions
        hold, limits = fold_hold(held), fold_limits(held)
        if held:
            newest = max(held, key=lambda e: (e["starts_at"], e["id"]))
            bound[sid] = {
                "enforcement_ids": sorted(e["id"] for e in held), "hold": hold["kind"] if hold else None,
                "limits": sorted(limits), "clause": newest["clause"], "cases": sorted({e["case_id"] for e in held}),
                "until_at": None if any(e["ends_at"] is None for e in held) else max(e["ends_at"] for e in held)}
        for interface in ports_on(service, router):
            if owner.get(interface, sid) != sid:
                refused.append(_refusal(sid, interface, "port_of_another", "service %s has it now" % owner[interface],
                                        "Lift what was opened for %s there; another service is never held for it." % sid))
                continue
            platform = router["router"]["platform"]
            can = PORT_PLATFORMS.get(platform, frozenset())
            terms = _terms(interface, service, _supported(decisions, can), hold if hold and hold["kind"] in can else None,
                           {kind: limit for kind, limit in limits.items() if kind in can}, smarthosts, rescue)
            if terms is not None:
                ports.append(terms)
            beyond = sorted({e["kind"] for e in held} - can)
            if beyond:
                refused.append(_refusal(sid, interface, "not_supported", "%s can't carry %s on it" % (platform, ", ".join(beyond)),
                                        "Use null_route, or set it on the router by hand; docs/routers.md lists the verbs."))
            gaps += [{"guest": "%s, port %s" % (sid, interface), "service": sid, "mac": None, "gap":
                      "%s is not carried on platform %s: not_supported. Set it on the router by hand, or use a Linux router."
                      % (name, platform)} for name in CONTROLS if name not in can and _asks(name, decisions)]
    return {"ports": sorted(ports, key=lambda p: p["interface"]), "known": known, "bound": bound, "gaps": gaps,
            "refused": refused, "decisions": said}


def _refusal(service, interface, code, why, remedy):
    return {"service": service, "prefix": _KEY % interface, "code": code,
            "message": "port %s is left as it is: %s." % (interface, why), "remedy": remedy}


def plan_ports(desired, observed):
    """Changes, states and refusals of ports, in the shape of those of routes (`prefix` is `port <interface>`).

    :param observed: `{interface: {"wanted": lines or None, "found": lines or None, "objection": text or None}}` (and `"why"`: what is
        missing, `"stays"`: what is there is not taken back) of all ports that are wanted or carry something of ours; lines are the driver's, in one normal form
    """
    wanted = {port["interface"]: port for port in desired["ports"]}
    changes, states, refused, left, notes = [], [], [], [], []
    known = desired["port_services"]
    for interface in sorted(observed):
        seen = observed[interface]
        key, port = _KEY % interface, wanted.get(interface)
        found = seen["found"]
        if port is None:
            service = known.get(interface)
            changes.append({"action": "remove", "prefix": key, "service": service, "port": interface, "before": found,
                            "wanted": None})
            if service:
                left.append({"prefix": key, "service": service})
            continue
        service = port["service"]
        change = {"action": "add", "prefix": key, "service": service, "port": interface, "before": found or [],
                  "wanted": seen["wanted"]}
        acts = found == seen["wanted"]
        if seen["objection"]:
            # What acts already is not taken down for what came later, and giving back is always allowed.
            if found is not None and set(seen["wanted"]) <= set(found):
                notes.append("%s: %s; what is on it of ours stays." % (key, seen["objection"]))
            else:
                refused.append(_refusal(service, interface, "port_refused", seen["objection"],
                                        "Only a port with nothing but this server behind it is acted on. Correct the catalogue."))
                if found is not None:
                    left.append({"prefix": key, "service": service})
                continue
        if not acts:
            changes.append(change)
        states.append({"prefix": key, "service": service, "in_force": acts, "announced": True, "configured": acts,
                       "why": None if acts else seen.get("why") or "its rules are not there as wanted", "stays": seen.get("stays", False)})
    if changes and not wanted:
        changes[-1]["last"] = True
    return {"changes": changes, "states": states, "refused": refused, "left": left, "notes": notes}


def port_keys(snapshot, router):
    """What an enforcement on ports may have left on a router."""
    return [_KEY % interface for interface in ports_on(snapshot, router)]
