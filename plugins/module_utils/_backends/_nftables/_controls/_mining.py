# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mining pools by address and port, peers of chains by port. Pure. PRIVATE to the collection.

All services share the sets of pools; a port's own elements say which activities are forbidden to it and whether that is
enforced, so locations may differ on one node. A packet costs the same few lookups however many pools there are. What is
new in the data is counted for every port under the control and refused to none.

Not seen: pools on addresses nobody listed, and what goes through a tunnel or a proxy. Later fragments carry no port and
pass; without their first one, which is judged, they are of no use.
"""
from __future__ import annotations

import socket

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _names
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._control import Control, chain
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._sets import spec
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_ACTIVITIES = ("farming", "mining", "nodes")
_IP = (("4", "ip"), ("6", "ip6"))
# First bytes of what is no station elsewhere: this network, loopback, multicast and reserved.
_GROUPS = {socket.AF_INET: frozenset([0, 127, *range(224, 256)]), socket.AF_INET6: frozenset([255])}
_LOOPBACK6 = b"\0" * 15 + b"\1"


def _address(text):
    """(version, address as nft lists it): the C library's form.

    :raises InputError: for what is no address of one station elsewhere
    """
    family = socket.AF_INET6 if isinstance(text, str) and ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
        if not any(packed) or packed[0] in _GROUPS[family] or packed == _LOOPBACK6:
            raise ValueError("not the address of a station elsewhere")
    except (OSError, TypeError, ValueError) as exc:
        raise InputError("pool address %r: %s." % (text, exc), target=str(text),
                         remedy="Refresh the data of pools (hosting.aup.refresh_pools).")
    return "4" if family == socket.AF_INET else "6", socket.inet_ntop(family, packed)


def pool_elements(endpoints, prefix):
    """`{set: elements}`: pairs of address and port, and whole addresses.

    :param endpoints: [[address, port or None]]
    :param prefix: `mining_` or `mining_new_`
    """
    found = {"%s%s%s" % (prefix, kind, version): set() for kind in ("pools", "hosts") for version in "46"}
    for address, port in endpoints:
        version, text = _address(address)
        if port is None:
            found["%shosts%s" % (prefix, version)].add(text)
        else:
            found["%spools%s" % (prefix, version)].add("%s . %s" % (text, _names.tcp_port(port)))
    return found


class Mining(Control):
    """See the module."""

    name = "mining"
    letter = "m"
    sets = dict(
        {"mining_for_%s" % activity: spec("ifname") for activity in _ACTIVITIES},
        mining_new=spec("ifname", counted=True),
        mining_peers_farming=spec("inet_service"), mining_peers_nodes=spec("inet_service"),
        **{"mining_%s%s%s" % (new, kind, version): spec("ipv%s_addr%s" % (version, " . inet_service" if kind == "pools" else ""))
           for new in ("", "new_") for kind in ("pools", "hosts") for version in "46"})
    samples = tuple(
        ("seen" + version, "meta protocol %s" % ip, "%s daddr . th dport" % ip, "ipv%s_addr . inet_service" % version)
        for version, ip in _IP)
    phrases = {"mining_pools4": "pool %s", "mining_pools6": "pool %s", "mining_hosts4": "pool %s", "mining_hosts6": "pool %s"}
    reload = tuple(
        ("\t\t%s daddr . th dport @mining_" % ip, "\t\tmeta protocol %s %s daddr . th dport @mining_" % (ip, ip))
        for _version, ip in _IP
    ) + tuple(("\t\t%s daddr @mining_" % ip, "\t\tmeta protocol %s %s daddr @mining_" % (ip, ip)) for _version, ip in _IP)

    def rules(self, family, direction, parameters):
        """Peers by their port (new connections only: any port may be an answer's), then pools by address."""
        hit = "goto " + self.hit(direction)
        rules = ["meta l4proto != { tcp, udp } return"]
        rules += ["tcp dport @mining_peers_%s tcp flags & (syn | ack) == syn iifname @mining_for_%s %s" % (activity, activity, hit)
                  for activity in ("nodes", "farming")]
        rules.append("iifname != @mining_for_mining return")
        for new, where in (("", hit), ("new_", "goto mining_new_from")):
            for version, ip in _IP:
                match = ("meta protocol %s " % ip if family == "bridge" else "") + "%s daddr" % ip
                rules.append("%s . th dport @mining_%spools%s %s" % (match, new, version, where))
                rules.append("%s @mining_%shosts%s %s" % (match, new, version, where))
        return rules

    def chains(self, family, parameters):
        """What is only observed because it is new."""
        return chain("mining_new_from", [
            "%s update @mining_%s { iifname . %s counter }" % (match, name, key) for name, match, key, _kind in self.samples
        ] + ["iifname @mining_new return"])

    def port_elements(self, port, quoted, family):
        """Its activities."""
        wanted = port["controls"]["mining"]["activities"]
        if not wanted or not set(wanted) <= set(_ACTIVITIES):
            raise InputError("activities %r of port %s are none of %s." % (wanted, port["name"], ", ".join(_ACTIVITIES)),
                             target=port["name"], remedy="Correct the desired state.")
        return dict({"mining_for_%s" % activity: {quoted} for activity in wanted}, mining_new={quoted})

    def node_elements(self, parameters):
        """Pools of both ages, and the ports of peers."""
        found = pool_elements(parameters["pools"], "mining_")
        found.update(pool_elements(parameters["new_pools"], "mining_new_"))
        for activity in ("nodes", "farming"):
            found["mining_peers_" + activity] = {
                _names.tcp_port(port) for port in (parameters["ports"].get(activity) or {}).get("tcp", ())}
        return found

    def control_of_set(self):
        """What is new is only observed, in whatever mode."""
        return dict(super().control_of_set(), mining_new="mining_observed")
