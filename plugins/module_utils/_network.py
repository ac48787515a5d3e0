# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caps and null routes of a KVM host, beside its packet filter. PRIVATE to the collection.

Nothing is imported or asked of the kernel unless a service wants it, or something of ours may be left.
"""
from __future__ import annotations

import ipaddress
import re
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._backends import _routes, _tc
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError

NetworkPlan = namedtuple("NetworkPlan", "steps errors notes capped")
NetworkPlan.__doc__ = """What `plan` returns: steps in order, errors, notes, and `capped`: services with a port to cap."""


def local_addresses(fib="/proc/net/fib_trie", six="/proc/net/if_inet6"):
    """The host's own addresses, IPv4 and IPv6 as plain text, from procfs."""
    found, last = set(), None
    with open(fib, encoding="ascii") as handle:
        for line in handle:
            address = re.match(r"\s+[|+]-- ([0-9.]+)", line)
            if address:
                last = address.group(1)
            elif "/32 host LOCAL" in line and last:
                found.add(last)
    try:
        with open(six, encoding="ascii") as handle:
            for line in handle:
                digits = line.split()[0]
                found.add(":".join(digits[i:i + 4] for i in range(0, 32, 4)))
    except FileNotFoundError:
        pass  # a host without IPv6
    return found


def check_not_own_addresses(desired, own):
    """Refuse to null-route an address of the host itself.

    :param own: `local_addresses`
    :raises NodeError: code `holds_host`
    """
    own = [ipaddress.ip_address(address) for address in own]
    for service in desired["services"]:
        for prefix in (service.get("limits") or {}).get("null_route", {}).get("prefixes", ()):
            network = ipaddress.ip_network(prefix)
            hit = next((address for address in own if address in network), None)
            if hit is not None:
                raise NodeError(
                    "service %s is to be null-routed, but %s is this host's own address." % (service["id"], hit),
                    code="holds_host", target=service["id"],
                    remedy="Correct the addresses in the catalogue and provision, then run again.")


def wanted_caps(desired, guests, links, owners, made=()):
    """`{service: {"rate_bps", "devices"}}` of the services to cap that have ports here. Pure.

    :param made: services whose guest was made by us: nobody else keeps their plan's rate
    """
    caps = {}
    for service in desired["services"]:
        rates = [service["rate_bps"]] if service["id"] in made and service.get("rate_bps") else []
        if "bandwidth_cap" in (service.get("limits") or {}):
            rates.append(service["limits"]["bandwidth_cap"]["rate_bps"])
        if rates:
            caps[service["id"]] = {"rate_bps": min(rates), "devices": set()}
    for guest in guests if caps else ():
        for nic in guest["nics"]:
            service = owners.of_nic(guest, nic)
            if service and service["id"] in caps and nic["device"] in links and nic["kind"] in ("bridge", "routed"):
                caps[service["id"]]["devices"].add(nic["device"])
    return {sid: dict(cap, devices=sorted(cap["devices"])) for sid, cap in caps.items() if cap["devices"]}


def made_here(state):
    """Services whose guest was made, or is being made, on this node."""
    return {*state["creating"], *state["created"]}


class Network:
    """The host's traffic control and routes, opened when needed."""

    @staticmethod
    def shape(service, rate_bps, ports, state):
        """Keep a rate on ports that have just come, before anything passes them.

        :raises NodeError: as `_tc` has them
        """
        found = set(state["tc"]["found"])
        state["tc"]["used"] = True
        try:
            with _tc.Tc() as tc:
                steps, errors = _tc.plan({service: {"rate_bps": rate_bps, "devices": ports}}, tc.observe(), found)
                for step in steps:
                    if step["service"] == service and step["verb"] in ("shape", "lead"):
                        tc.apply(step, found)
        finally:
            state["tc"]["found"] = sorted(found)
        if errors:
            raise NodeError(errors[0]["message"], code=errors[0]["code"], target=service, remedy=errors[0]["remedy"])

    def plan(self, desired, observation, owners, state):
        """What the host's caps and null routes need.

        :param state: of the node: `tc` remembers ports whose clsact was there before us, `routes` that there are routes
        :returns: NetworkPlan
        """
        caps = wanted_caps(desired, observation.guests, observation.links, owners, made_here(state))
        nulls = {s["id"]: _routes.canonical(s["limits"]["null_route"]["prefixes"])
                 for s in desired["services"] if "null_route" in (s.get("limits") or {})}
        steps, errors, notes = [], [], []
        if caps or state["tc"]["used"] or any(_tc.is_ours(name) for name in observation.links):
            self._plan_caps(caps, state, steps, errors, [s["id"] for s in desired["services"]])
        if nulls or state["routes"]["used"]:
            self._plan_routes(nulls, steps, errors, notes)
        return NetworkPlan(steps, errors, notes, set(caps))

    @staticmethod
    def _plan_caps(caps, state, steps, errors, services):
        try:
            with _tc.Tc() as tc:
                more, refused = _tc.plan(caps, tc.observe(), state["tc"]["found"], services)
        except NodeError as exc:
            errors += [_error(sid, "bandwidth_cap", exc) for sid in sorted(caps)]
            return
        steps += more
        errors += refused

    @staticmethod
    def _plan_routes(nulls, steps, errors, notes):
        prefixes = [prefix for found in nulls.values() for prefix in found]
        try:
            with _routes.Routes() as routes:
                more, said = _routes.plan(nulls, routes.observe(prefixes))
        except NodeError as exc:
            if exc.code != "pyroute2_missing":
                errors += [_error(sid, "null_route", exc) for sid in sorted(nulls)]
            else:
                notes += ["%s: no route: %s The packet filter makes it dark all the same." % (sid, exc.message) for sid in sorted(nulls)]
            return
        steps += more
        notes += said

    @staticmethod
    def remember(state, steps):
        """Before any step: that there may be something of ours from now on."""
        state["tc"]["used"] = state["tc"]["used"] or any(step["engine"] == "tc" for step in steps)
        state["routes"]["used"] = state["routes"]["used"] or any(step["engine"] == "routes" for step in steps)

    @staticmethod
    def settle(state, desired, left):
        """After a pass: whether there is still something of ours.

        :param left: steps and errors that remain
        """
        kinds = {kind for service in desired["services"] for kind in service.get("limits") or ()}
        made = made_here(state)
        if any(service.get("rate_bps") and service["id"] in made for service in desired["services"]):
            kinds.add("bandwidth_cap")
        open_parts = {one.get("part") for one in left}
        for key, kind in (("tc", "bandwidth_cap"), ("routes", "null_route")):
            state[key]["used"] = kind in kinds or (state[key]["used"] and kind in open_parts)

    @staticmethod
    def apply(steps, state):
        """Carry out steps of ours; those of a service after a failed one are left out, others go on.

        :returns: `{service: error}`
        """
        failures = {}
        # Devices that nothing is led to any more go last: the kernel takes its time over them, and nobody waits for that.
        idle = [step for step in steps if step["engine"] == "tc" and step["verb"] == "unshape"]
        for opened, mine in ((_tc.Tc, [step for step in steps if step["engine"] == "tc" and step["verb"] != "unshape"]),
                             (_routes.Routes, [step for step in steps if step["engine"] == "routes"]),
                             (_tc.Tc, idle)):
            if not mine:
                continue
            found = set(state["tc"]["found"])
            try:
                with opened() as backend:
                    if mine is idle and len(idle) > 1 and backend.unshape_all(idle):
                        continue
                    for step in mine:
                        if (step["service"], step["part"]) in failures:
                            continue
                        try:
                            backend.apply(step, *((found,) if opened is _tc.Tc else ()))
                        except AupError as exc:
                            failures[step["service"], step["part"]] = _error(step["service"], step["part"], exc)
            finally:
                state["tc"]["found"] = sorted(found)
        return list(failures.values())


def _error(service, part, exc):
    return {"service": service, "part": part, "code": exc.code, "message": exc.message, "remedy": exc.remedy}
