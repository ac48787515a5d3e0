# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lists and resolvers said, made into data that nodes may act on. Pure: no I/O, no clock. PRIVATE to the collection.

A pool's name belongs to a stranger, who may point it anywhere. So an address is refused where it would hurt others, a name
where it says nonsense, and the whole update where it is not like the one before.
"""

from __future__ import annotations

import ipaddress
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

FORMAT = 1
NAME = "pools"
# Ports that carry everybody's traffic: a pool there is told by its address alone.
COMMON_PORTS = frozenset((25, 80, 443))
_SMALL = 20
_KEPT_NOTES = 200

Settings = namedtuple("Settings", "observe_seconds keep_seconds stale_seconds most_addresses accept_size accept_networks")
Settings.__doc__ = """How an update is judged.

`observe_seconds`: how long a new address is only observed; `keep_seconds`: how long one stays that its name no longer gives
(names rotate); `stale_seconds`: after which the data is called stale, and how long addresses of a name stay that
can't be resolved; `most_addresses`: of one name; `accept_size`: take an update of another size all the same;
`accept_networks`: networks that are not public and yet taken (a lab's).
"""

Update = namedtuple("Update", "document summary notes")
Update.__doc__ = """The new document, its figures, and what was refused: each note with place and remedy."""

# Ranges that carry another address inside, which is what counts there.
_CARRIERS = tuple((ipaddress.ip_network(prefix), what) for prefix, what in (
    ("64:ff9b::/96", "NAT64 (RFC 6052): the resolver does DNS64"),
    ("64:ff9b:1::/48", "local NAT64 (RFC 8215): the resolver does DNS64"),
    ("2002::/16", "6to4 (RFC 3056)"), ("2001::/32", "Teredo (RFC 4380)"), ("::ffff:0:0/96", "an IPv4 address in IPv6")))


class Spared:
    """Networks whose addresses never become data, each with what it is."""

    def __init__(self, networks):
        """:param networks: `[(prefix, what)]`"""
        self._by_length = {}
        for prefix, what in networks:
            network = ipaddress.ip_network(str(prefix), strict=False)
            self._by_length.setdefault((network.version, network.prefixlen), {})[int(network.network_address)] = what

    def find(self, address):
        """What the address belongs to, or None.

        :param address: ipaddress object
        """
        for (version, length), networks in self._by_length.items():
            if version == address.version:
                bits = address.max_prefixlen - length
                found = networks.get(int(address) >> bits << bits)
                if found is not None:
                    return found
        return None


def refusal(address, spared, accept_networks=()):
    """Why an address may not become data, or None.

    :param address: as text
    :param spared: Spared
    """
    parsed = ipaddress.ip_address(address)
    found = spared.find(parsed)
    if found is not None:
        return "belongs to %s" % found
    if any(parsed in network for network in accept_networks if network.version == parsed.version):
        return None
    for network, what in _CARRIERS:
        if parsed in network:
            return "is %s" % what
    if parsed.is_multicast or parsed.is_reserved or not parsed.is_global:
        return "is no public address"
    return None


def update(former, lists, answers, spared, now, settings):
    """The next state of the data.

    :param former: the document before, or None
    :param lists: [PoolList]
    :param answers: `{host: Answer}`
    :param spared: Spared
    :param now: seconds since the epoch
    :param settings: Settings
    :returns: Update
    :raises InputError: the update as a whole is not believed; the former state stays
    """
    notes = [note for found in lists for note in found.notes]
    listed = {endpoint for found in lists for endpoint in found.endpoints}
    _check_size("the lists name", len(listed), (former or {}).get("listed"), "endpoints", settings)
    failed = sum(1 for answer in answers.values() if answer.problem == "failed")
    if answers and failed * 2 > len(answers):
        raise InputError(
            "%d of %d names got no usable answer: the resolvers are at fault, not the pools." % (failed, len(answers)),
            target="resolvers", remedy="Check the resolvers and refresh again. The former data stays.")

    usable, unsure = {}, set()
    for host, answer in sorted(answers.items()):
        addresses, problem = _judge(host, answer, spared, settings)
        notes += problem
        if addresses is None:
            unsure.add(host)
        else:
            usable[host] = addresses

    found = {}
    for endpoint in listed:
        port = None if endpoint.port in COMMON_PORTS else endpoint.port
        for address in usable.get(endpoint.host, ()):
            found.setdefault((address, port, endpoint.activity), set()).add(endpoint.host)
    entries = {key: {"first_seen": now, "last_seen": now, "hosts": sorted(hosts)} for key, hosts in found.items()}

    kept = _kept(former, entries, listed, unsure, spared, now, settings)
    _check_size("the names have", len(entries), (former or {}).get("size"), "addresses", settings)
    if not entries and not any(found.ports for found in lists):
        raise InputError("no address is left of %d endpoints." % len(listed), target="lists",
                         remedy="See the notes: %s" % "; ".join(notes[:5]))
    before = {_key(entry) for entry in (former or {}).get("endpoints", ())}
    document = {
        "format": FORMAT,
        "at": now,
        "observe_seconds": settings.observe_seconds,
        "listed": len(listed),
        "size": len(entries),
        "lists": [{"name": one.name, "sha256": one.sha256, "endpoints": len(one.endpoints)} for one in lists],
        "ports": _united_ports(lists),
        "endpoints": [
            {"address": address, "port": port, "activity": activity, **entries[address, port, activity]}
            for address, port, activity in sorted(entries, key=lambda key: (key[0], key[1] or 0, key[2]))
        ],
    }
    summary = {
        "names": len(answers), "unresolved": len(unsure), "endpoints": len(entries),
        "added": len(set(entries) - before), "removed": len(before - set(entries)), "kept": kept,
        "addresses": len({key[0] for key in entries}),
        "refused": len(notes), "notes": notes[:_KEPT_NOTES],
    }
    return Update(document, summary, notes)


def _key(entry):
    return entry["address"], entry["port"], entry["activity"]


def _judge(host, answer, spared, settings):
    """(addresses or None, notes): None leaves the name's former addresses in place."""
    if answer.problem == "failed":
        return None, ["%s: the resolvers gave no usable answer; its former addresses stay for now" % host]
    if answer.problem == "nothing":
        return None, ["%s: has no address; its former ones stay for now. Remove it from the list if it is gone" % host]
    if len(answer.addresses) > settings.most_addresses:
        return None, ["%s: gives %d addresses, more than %d; refused, its former ones stay. Raise most_addresses if it is right"
                      % (host, len(answer.addresses), settings.most_addresses)]
    good, notes = [], []
    for address in answer.addresses:
        why = refusal(address, spared, settings.accept_networks)
        if why is None:
            good.append(address)
        else:
            notes.append("%s: %s %s; refused. Block the service's port by hand if this is a pool after all"
                         % (host, address, why))
    return (good, notes) if good else (None, notes)


def _kept(former, entries, listed, unsure, spared, now, settings):
    """Take over what the new answers don't hold any longer but may still be so; returns how many."""
    hosts = {(endpoint.host, None if endpoint.port in COMMON_PORTS else endpoint.port, endpoint.activity) for endpoint in listed}
    kept = 0
    for entry in (former or {}).get("endpoints", ()):
        key = _key(entry)
        if key in entries:
            entries[key]["first_seen"] = entry["first_seen"]
            continue
        still = [host for host in entry["hosts"] if (host, key[1], key[2]) in hosts]
        if not still or refusal(key[0], spared, settings.accept_networks) is not None:
            continue
        for_long = settings.stale_seconds if any(host in unsure for host in still) else settings.keep_seconds
        if now < entry["last_seen"] + for_long:
            entries[key] = {"first_seen": entry["first_seen"], "last_seen": entry["last_seen"], "hosts": still}
            kept += 1
    return kept


def _check_size(what, size, before, unit, settings):
    if not before or settings.accept_size:
        return
    if size * 2 <= before:
        change = "shrank by half or more"
    elif before >= _SMALL and size > before * 2:
        change = "more than doubled"
    else:
        return
    raise InputError(
        "%s %d %s, %d before: %s." % (what, size, unit, before, change), target="lists",
        remedy="The former data stays. Look at lists and resolvers; accept_size takes it all the same.")


def _united_ports(lists):
    united = {}
    for found in lists:
        for activity, by_protocol in found.ports.items():
            for protocol, ports in by_protocol.items():
                united.setdefault(activity, {}).setdefault(protocol, set()).update(ports)
    return {a: {p: sorted(ports) for p, ports in sorted(by.items())} for a, by in sorted(united.items())}
