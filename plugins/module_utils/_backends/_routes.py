# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blackhole routes of null-routed services, marked by a routing protocol of our own. PRIVATE to the collection.

The packet filter makes an address dark by itself; the route spares the host the work and keeps what
the host sends. A prefix that somebody else has routed here is left to the packet filter alone.
"""
from __future__ import annotations

import errno
import ipaddress
import socket

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

PROTOCOL = 187  # none of those iproute2 knows; `ip route show proto 187` lists ours
_MAIN = 254
_BLACKHOLE = 6
_FIB_MATCH = 0x2000


def plan(wanted, observed):
    """Steps and notes from what is to what should be. Pure.

    :param wanted: `{service: [prefixes]}`
    :param observed: what `observe` returned
    """
    steps, notes, keep = [], [], set()
    for service in sorted(wanted):
        for prefix in wanted[service]:
            keep.add(prefix)
            if prefix in observed["ours"]:
                continue
            if prefix in observed["others"]:
                notes.append("%s: %s is routed on this host by somebody else: dark by the packet filter alone." % (service, prefix))
                continue
            steps.append(_step("add", service, prefix, None, "blackhole"))
    owner = {prefix: service for service in wanted for prefix in wanted[service]}
    steps += [_step("remove", owner.get(prefix), prefix, "blackhole", None) for prefix in sorted(observed["ours"] - keep)]
    return steps, notes


def _step(verb, service, prefix, before, after):
    return {"engine": "routes", "part": "null_route", "verb": verb, "service": service, "device": prefix,
            "why": "null_route" if verb == "add" else "no longer null-routed", "before": before, "after": after}


def canonical(prefixes):
    """Prefixes with their length, as routes have them; each once, sorted."""
    return sorted({str(ipaddress.ip_network(prefix)) for prefix in prefixes})


class Routes:
    """An open netlink socket. Use as a context manager.

    :raises NodeError: code `pyroute2_missing`
    """

    def __init__(self):
        try:
            from pyroute2 import IPRoute
            from pyroute2.netlink.exceptions import NetlinkError
        except ImportError:
            raise NodeError(
                "the Python library pyroute2 is not installed.", code="pyroute2_missing", target="pyroute2",
                remedy="Install the distribution's package python3-pyroute2 on the node; the role hosting.aup.kvm_host does.")
        self._error = NetlinkError
        # The kernel then leaves out what we didn't ask for: a host with the Internet's routes has a million.
        self._ip = IPRoute(strict_check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._ip.close()

    def observe(self, prefixes):
        """`{"ours": {prefixes}, "others": {prefixes that somebody else has routed}}`.

        :param prefixes: those of interest
        """
        ours = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in self._ip.get_routes(family=family, table=_MAIN, proto=PROTOCOL):
                if route["proto"] == PROTOCOL and route["type"] == _BLACKHOLE and route.get_attr("RTA_TABLE") == _MAIN:
                    default = "0.0.0.0" if family == socket.AF_INET else "::"
                    ours.add(str(ipaddress.ip_network("%s/%d" % (route.get_attr("RTA_DST") or default, route["dst_len"]))))
        return {"ours": ours, "others": {prefix for prefix in prefixes if prefix not in ours and self._taken(prefix)}}

    def _taken(self, prefix):
        """Whether a route at least as narrow as this prefix leads to its first address."""
        network = ipaddress.ip_network(prefix)
        try:
            found = self._ip.route("get", dst=str(network.network_address), flags=_FIB_MATCH,
                                   family=socket.AF_INET if network.version == 4 else socket.AF_INET6)
        except self._error as exc:
            return exc.code in (errno.EINVAL, errno.EACCES, errno.EHOSTUNREACH)  # blackhole, prohibit, unreachable
        return any(route["dst_len"] >= network.prefixlen for route in found)

    def apply(self, step):
        """Carry out one step.

        :raises NodeError: code `route`, with the kernel's words
        """
        network = ipaddress.ip_network(step["device"])
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        try:
            self._ip.route("add" if step["verb"] == "add" else "del", dst=str(network), family=family, type=_BLACKHOLE,
                           proto=PROTOCOL, table=_MAIN)
        except self._error as exc:
            if (step["verb"], exc.code) in (("add", errno.EEXIST), ("remove", errno.ESRCH)):
                return  # somebody was quicker; the next look says who
            raise NodeError("route to %s: the kernel says: %s." % (network, exc), code="route", target=step["service"] or str(network),
                            retryable=True, remedy="Check `ip route show proto %d` on the node, then run `reconcile`." % PROTOCOL)
