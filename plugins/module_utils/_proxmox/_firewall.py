# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups, sets and rules on a Proxmox VE cluster. Pure. PRIVATE to the collection.

Nothing of ours ever accepts: a rule of ours either ends a packet or leaves it to the tenant's own rules. Networks that stay
open (smarthosts, rescue) are left out of the set that is refused, as `nomatch` entries of it.
"""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest

MARK = "hosting.aup"
SWITCHED = MARK + " firewall switched on; it was off"
_EVERYTHING = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")  # the server takes no /0
_KEYS = ("type", "action", "macro", "proto", "source", "dest", "sport", "dport", "iface", "log", "icmp-type", "enable", "comment")
_PREFIX = "aup-"


def ours(rule):
    """Whether a rule carries our mark. A tenant may write it, too; what he marks so, we take away."""
    return str(rule.get("comment", "")).startswith(MARK)


def bare(rule):
    """A rule as listed, without position, digest and what the server adds; numbers as numbers."""
    found = {key: rule[key] for key in _KEYS if key in rule and rule[key] not in ("", None)}
    found["enable"] = int(found.get("enable", 0))
    found["comment"] = str(found.get("comment", "")).strip()
    return found


def name_of(label, content):
    """The name of a group or set: ours, what it is for, and a hash over what decides its content; at most 18 characters."""
    return "%s%s-%s" % (_PREFIX, label[:5], digest(content)[:6])


def is_ours(name):
    """Whether a group or set has a name of ours."""
    return name.startswith(_PREFIX)


def _all_but(networks):
    """Entries of a set that has every address except these networks."""
    entries = [{"cidr": cidr, "nomatch": 0} for cidr in _EVERYTHING] + [{"cidr": _single(text), "nomatch": 1} for text in networks]
    return sorted(entries, key=by_cidr)


def by_cidr(entry):
    """The order in which entries of a set are compared."""
    return entry["nomatch"], entry["cidr"]


def _single(text):
    """A network as the server stores it: one address without a length."""
    network = ipaddress.ip_network(text)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _rule(direction, action, comment, **more):
    return dict({"type": direction, "action": action, "enable": 1, "comment": "%s %s" % (MARK, comment)}, **more)


class Shared:
    """Groups and sets of the cluster that its guests' rules refer to, gathered while guests are planned."""

    def __init__(self, desired):
        self._smarthosts = desired["smtp"]["smarthosts"]
        self._rescue = desired["rescue"]
        self.groups, self.sets = {}, {}

    def _set(self, label, entries):
        name = name_of(label, entries)
        self.sets[name] = entries
        return name

    def _group(self, label, rules):
        name = name_of(label, rules)
        self.groups[name] = rules
        return name

    def smtp(self, ports):
        """The group that refuses these destination ports, save towards the smarthosts."""
        more = {"proto": "tcp", "dport": ",".join(str(port) for port in ports)}
        if self._smarthosts:
            more["dest"] = "+dc/" + self._set("mail", _all_but(self._smarthosts))
        return self._group("smtp", [_rule("out", "REJECT", "smtp_outbound", **more)])

    def quarantine(self):
        """The group that leaves the rescue networks alone."""
        if not self._rescue:
            return self._group("quar", [_rule("in", "DROP", "quarantine"), _rule("out", "DROP", "quarantine")])
        name = self._set("resc", _all_but(self._rescue))
        return self._group("quar", [_rule("in", "DROP", "quarantine", source="+dc/" + name),
                                    _rule("out", "DROP", "quarantine", dest="+dc/" + name)])


def _refer(group, why):
    return {"type": "group", "action": group, "enable": 1, "comment": "%s %s" % (MARK, why)}


def guest_rules(service, shared):
    """The rules of ours that a guest is to have, first to last; they stand before the tenant's.

    :param service: entry of the desired state
    :param shared: `Shared`, which notes what they refer to
    """
    rules = []
    limits = service.get("limits") or {}
    if service["hold"] and service["hold"]["kind"] == "quarantine":
        rules.append(_refer(shared.quarantine(), "quarantine"))
    for block in limits.get("port_block", {}).get("blocks", ()):
        rules.append(_rule(block["direction"], "DROP", "port_block", proto=block["protocol"],
                           dport=",".join(str(port) for port in block["ports"])))
    if service["smtp"]["mode"] == "enforce" and service["smtp"]["ports"]:
        rules.append(_refer(shared.smtp(service["smtp"]["ports"]), "smtp_outbound"))
    return rules


def spoof_sets(service, guest):
    """`{set name: [cidr]}` of the addresses each NIC may speak for, or None where the control isn't enforced.

    :param guest: observed guest; its NICs are told apart by MAC
    """
    control = (service.get("controls") or {}).get("anti_spoofing")
    if not control or control["mode"] != "enforce":
        return None
    by_mac = {nic["mac"]: nic for nic in service["nics"]}
    sets = {}
    for name, nic in guest["nics"].items():
        known = by_mac.get(nic["mac"])
        if known is None:
            continue
        own = [text for key in ("addresses", "prefixes", "floating") for text in known.get(key) or ()]
        own += [entry["address"] for entry in known.get("shared") or ()]
        if own:
            # Without an entry of a family the server drops all of that family; link-local ones are never refused.
            sets["ipfilter-" + name] = sorted({_single(text) for text in own} | {"fe80::/10"})
    return sets
