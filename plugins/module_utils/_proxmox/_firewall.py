# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups, sets and rules on a Proxmox VE cluster. Pure. PRIVATE to the collection.

Nothing of ours ever accepts: a rule of ours either ends a packet or leaves it to the tenant's own rules. Networks that stay
open (smarthosts, rescue) are left out of what is refused: a rule for each range of addresses between them, as the server
takes one range in a rule and no "not". Where they are many, it is one rule with a set that has them as `nomatch` entries.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

MARK = "hosting.aup"
_EVERYTHING = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")  # the server takes no /0
_KEYS = ("type", "action", "macro", "proto", "source", "dest", "sport", "dport", "iface", "log", "icmp-type", "enable", "comment")
_PREFIX = "aup-"
_MARKED = re.compile(re.escape(MARK) + r"(?: (\S{1,8}))?")
MOST_IN_LIST = 15  # numbers in one list of ports, a range counts as two (PVE::Firewall)
# All sets of a cluster are one file, of which each change writes the whole, and it may have 1 MiB at most.
MOST_POOLS = 8192
MOST_POOL_SETS = 64
# To many stations at once: discovery within a network, which no router carries on.
_LOUD = ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")
# What eight relays with an address of each family leave. A rule with ranges stands for itself; one with a set is left out
# silently when somebody deletes the set, matches nothing when he empties it, and the set has to be read each run. But each
# range is a rule for each list of ports, through which all new connections go, and which people have to read.
MOST_RANGES = 18


def ours(rule):
    """Whether a rule carries our mark. A tenant may write it, too; what he marks so, we take away."""
    return str(rule.get("comment", "")).startswith(MARK)


def bare(rule):
    """A rule as listed, without position, digest and what the server adds; numbers as numbers."""
    found = {key: rule[key] for key in _KEYS if key in rule and rule[key] not in ("", None)}
    found["enable"] = int(found.get("enable", 0))
    found["comment"] = str(found.get("comment", "")).strip()
    return found


def name_of(label, content, ledger):
    """The name of a group or set: ours, what it is for, and a hash over whose it is and what decides its content.

    At most 18 characters, as many as a group's name may have. No two ledgers have one in common: each takes away what its own
    guests don't refer to.
    """
    return "%s%s-%s" % (_PREFIX, label[:5], digest([ledger, content])[:8])


def is_ours(name):
    """Whether a group or set has a name of ours, of whichever ledger."""
    return name.startswith(_PREFIX)


def mark_of(ledger):
    """The comment of a ledger's groups and sets."""
    return "%s %s" % (MARK, ledger[:8])


def owner_of(name, comment):
    """Whose a group or set is: the beginning of a ledger's id, "" where an earlier version made it, None if nobody's of us."""
    found = _MARKED.fullmatch((comment or "").strip()) if is_ours(name) else None
    return found and (found.group(1) or "")


def everything_but(networks):
    """Ranges of all addresses of both families that are in none of these networks, ascending, none next to another.

    A single address stands alone: the nftables-based firewall's older parser wants a range's ends to differ.

    :param networks: texts, also of networks within or beside each other

    >>> everything_but(["192.0.2.200", "192.0.2.202", "::/0"])
    ['0.0.0.0-192.0.2.199', '192.0.2.201', '192.0.2.203-255.255.255.255']
    """
    ranges = []
    parsed = [ipaddress.ip_network(text) for text in networks]
    for address in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        begin, beyond = 0, 1 << address(0).max_prefixlen
        spared = ipaddress.collapse_addresses(network for network in parsed if network.version == address(0).version)
        for first, last in [(int(network[0]), int(network[-1])) for network in spared] + [(beyond, beyond)]:
            if first - begin > 1:
                ranges.append("%s-%s" % (address(begin), address(first - 1)))
            elif first - begin == 1:
                ranges.append(str(address(begin)))
            begin = last + 1
    return ranges


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


def port_lists(ports):
    """Ports as lists that the server takes: three and more in a row as a range, at most 15 numbers in each.

    >>> port_lists([25, 465, 587])
    ['25,465,587']
    >>> port_lists([194, 6660, 6661, 6662])
    ['194,6660:6662']
    """
    runs = []
    for port in sorted(set(ports)):
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    items = []
    for first, last in runs:
        items += ["%d:%d" % (first, last)] if last - first > 1 else [str(port) for port in range(first, last + 1)]
    lists, room = [], 0
    for item in items:
        size = 1 + item.count(":")
        if size > room:
            lists.append([])
            room = MOST_IN_LIST
        lists[-1].append(item)
        room -= size
    return [",".join(one) for one in lists]


def _pool(text):
    """A pool's address as the server stores it.

    :raises InputError: for what is no address of one station elsewhere
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.is_multicast or address.is_loopback or address.is_unspecified or getattr(address, "scope_id", None):
        raise InputError("pool address %r is not that of one station elsewhere." % (text,), target=str(text),
                         remedy="Refresh the data of pools (hosting.aup.refresh_pools).")
    return str(address)


def pools_by_ports(endpoints):
    """`({ports or None: [address]}, how many are left out)`: what is refused on the same ports is one set.

    :param endpoints: [[address, port or None]]; None: on every port
    """
    ports_of = {}
    for text, port in endpoints:
        ports_of.setdefault(_pool(text), set()).add(port)
    found = {}
    for address, ports in ports_of.items():
        found.setdefault(None if None in ports else tuple(sorted(ports)), []).append(address)
    kept, left = {}, 0
    # Whole addresses first, then the sets with most in them; what is left out is said.
    for ports in sorted(found, key=lambda one: (one is not None, -len(found[one]), one)):
        room = MOST_POOLS - sum(map(len, kept.values())) if len(kept) < MOST_POOL_SETS else 0
        addresses = sorted(found[ports])
        if room > 0:
            kept[ports] = addresses[:room]
        left += max(0, len(addresses) - max(0, room))
    return kept, left


def _rule(direction, action, comment, **more):
    return dict({"type": direction, "action": action, "enable": 1, "comment": "%s %s" % (MARK, comment)}, **more)


class Shared:
    """Groups and sets of the cluster that its guests' rules refer to, gathered while guests are planned.

    The group of controls is named by what is decided for a guest, and so are the sets of pools by their ports: data that
    changes, as pools do every few hours, is changed in their place, and no guest's rules with it.

    :ivar gaps: sentences on what of the data isn't carried
    :ivar ledger: the id of the ledger whose they are
    :ivar plain: `{name or mark: one that is the same for all ledgers}`
    """

    def __init__(self, desired):
        self.ledger = desired["fence"]["ledger"]
        self._smarthosts = desired["smtp"]["smarthosts"]
        self._rescue = desired["rescue"]
        self._parameters = desired.get("controls") or {}
        self.groups, self.sets, self.gaps = {}, {}, []
        self.plain = {mark_of(self.ledger): MARK}

    def _named(self, label, content):
        name = name_of(label, content, self.ledger)
        self.plain[name] = name_of(label, content, "")
        return name

    def _set(self, label, entries, key=None):
        name = self._named(label, entries if key is None else key)
        self.sets[name] = entries
        return name

    def _group(self, label, rules, key=None):
        name = self._named(label, rules if key is None else key)
        self.groups[name] = rules
        return name

    def _elsewhere(self, label, networks):
        """What a rule's `source` or `dest` has to be for all but these networks: one rule for each."""
        ranges = everything_but(networks)
        return ranges if len(ranges) <= MOST_RANGES else ["+dc/" + self._set(label, _all_but(networks))]

    def controls(self, service):
        """`(group, controls in it)` of all that is in force for this service; None for neither."""
        decided = {}
        if service["smtp"]["mode"] == "enforce" and service["smtp"]["ports"]:
            decided["smtp_outbound"] = {"ports": sorted(service["smtp"]["ports"])}
        for name, read in (("mining", self._of_mining), ("reflection", self._of_profile), ("irc_server", self._of_profile)):
            terms = (service.get("controls") or {}).get(name)
            if terms and terms["mode"] == "enforce":
                decided[name] = read(name, terms)
        rules_of = {"smtp_outbound": self._smtp, "mining": self._mining, "reflection": self._reflection, "irc_server": self._irc_server}
        group = self._named("ctrl", decided)
        if group in self.groups:
            rules = self.groups[group]
        else:
            rules = [rule for name in rules_of if name in decided for rule in rules_of[name](decided[name])]
            if rules:
                self.groups[group] = rules
        names = {rule["comment"].rpartition(" ")[2] for rule in rules}
        return (group, [name for name in rules_of if name in names]) if rules else (None, [])

    @staticmethod
    def _of_mining(_name, terms):
        return {"activities": sorted(terms["activities"])}

    def _of_profile(self, name, terms):
        return self._parameters[name]["profiles"][terms["profile"]]

    def _smtp(self, options):
        """These destination ports, save towards the smarthosts."""
        places = [{"dest": dest} for dest in self._elsewhere("mail", self._smarthosts)] if self._smarthosts else [{}]
        return [_rule("out", "REJECT", "smtp_outbound", proto="tcp", dport=ports, **place)
                for ports in port_lists(options["ports"]) for place in places]

    def _mining(self, options):
        """Pools by address and port, or address alone; peers of chains by port, as connections are judged when they begin."""
        parameters, rules = self._parameters["mining"], []
        for activity in ("nodes", "farming"):
            peers = (parameters["ports"].get(activity) or {}).get("tcp", ()) if activity in options["activities"] else ()
            rules += [_rule("out", "REJECT", "mining", proto="tcp", dport=ports) for ports in port_lists(peers)]
        if "mining" not in options["activities"]:
            return rules
        pools, left = pools_by_ports(parameters["pools"])
        if left:
            said = "mining: the data names more pools than the cluster's file is given, and %d addresses are left out" % left
            self.gaps += [said] if said not in self.gaps else []
        for ports, addresses in pools.items():
            name = self._set("pool", sorted(({"cidr": one, "nomatch": 0} for one in addresses), key=by_cidr), {"ports": ports})
            for protocol in ("tcp", "udp"):
                rules += [_rule("out", "REJECT", "mining", proto=protocol, dest="+dc/" + name, **more)
                          for more in ([{"dport": text} for text in port_lists(ports)] if ports else [{}])]
        return rules

    def _reflection(self, options):
        """What amplifiers are asked: an answer belongs to its question here, so the question is what can be refused."""
        return [_rule("in", "DROP", "reflection", proto="udp", dport=ports, dest=dest)
                for ports in port_lists(options["ports"]) for dest in everything_but(_LOUD)]

    @staticmethod
    def _irc_server(options):
        """Listeners and clients by port, where the policy has them refused."""
        rules = []
        if options["listeners_refused"]:
            rules += [_rule("in", "DROP", "irc_server", proto="tcp", dport=ports) for ports in port_lists(options["ports"])]
        if not options["clients_allowed"]:
            rules += [_rule("out", "REJECT", "irc_server", proto="tcp", dport=ports) for ports in port_lists(options["ports"])]
        return rules

    def quarantine(self):
        """The group that leaves the rescue networks alone."""
        if not self._rescue:
            return self._group("quar", [_rule("in", "DROP", "quarantine"), _rule("out", "DROP", "quarantine")])
        elsewhere = self._elsewhere("resc", self._rescue)
        return self._group("quar", [_rule(direction, "DROP", "quarantine", **{key: one})
                                    for direction, key in (("in", "source"), ("out", "dest")) for one in elsewhere])


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
        rules += [_rule(block["direction"], "DROP", "port_block", proto=block["protocol"], dport=ports)
                  for ports in port_lists(block["ports"])]
    group, names = shared.controls(service)
    if group:
        rules.append(_refer(group, ", ".join(names)))
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
