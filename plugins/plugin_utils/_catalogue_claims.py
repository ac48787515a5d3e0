# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who claims which address, prefix, MAC and guest, and where claims contradict. PRIVATE to the collection.

Sorting and sweeping, never comparing all with all. Not every contradicting pair is reported, but everyone who
is part of one is named at least once, together with somebody it contradicts.
"""
from __future__ import annotations

from bisect import bisect_right
from itertools import groupby

ADDRESS, SHARED, FLOATING = "an address of its own", "shared", "floating"


class Claims:
    """Collects the claims of services, then finds the contradictions.

    Addresses are `(version, number, text)`, prefixes `(version, first, last, text)`.
    """

    def __init__(self):
        self._addresses = {4: {}, 6: {}}
        self._prefixes = {4: [], 6: []}
        self._macs = {}
        self._uuids = {}
        self._guests = {}
        self._ports = {}

    def guest(self, service, nodes, name, uuid, vmid=None):
        """`service` is the guest `name` on each of `nodes`; where guests have numbers, names may be shared."""
        if uuid:
            self._uuids.setdefault(uuid, []).append(service)
        for node in nodes:
            self._guests.setdefault((node, name if vmid is None else f"number {vmid}"), []).append(service)

    def port(self, service, router, interface):
        """`service` is what hangs on a router's port."""
        self._ports.setdefault((router, interface), []).append(service)

    def nic(self, service, mac):
        """`service` has a NIC with `mac`."""
        self._macs.setdefault(mac, []).append(service)

    def address(self, kind, service, mac, address, protocol=None, ports=()):
        """The NIC `mac` of `service` answers for `address`; protocol and ports of a shared one."""
        version, number, text = address
        claim = (kind, service, mac, text, protocol, ports)
        found = self._addresses[version]
        if number in found:
            found[number].append(claim)
        else:
            found[number] = [claim]

    def prefix(self, service, mac, prefix):
        """`prefix` is routed to the NIC `mac` of `service`."""
        self._prefixes[prefix[0]].append((prefix[1], -prefix[2], service, mac, prefix[3]))

    def contradictions(self, provider):
        """One sentence per contradiction, naming both services.

        :param provider: the provider's own prefixes, as the parser gives them
        """
        yield from self._twice()
        for version in (4, 6):
            inside = _inside(sorted((found[1], found[2]) for found in provider if found[0] == version))
            prefixes = sorted(self._prefixes[version])
            yield from self._outside(version, prefixes, inside)
            for number in sorted(key for key, claims in self._addresses[version].items() if len(claims) > 1):
                yield from _address_claims(self._addresses[version][number])
            yield from self._nested(version, prefixes)

    def _twice(self):
        for what, found in (("the MAC %s", self._macs), ("the guest UUID %s", self._uuids)):
            for value in sorted(value for value, services in found.items() if len(services) > 1):
                first, *others = sorted(found[value])
                for other in others:
                    yield f"{what % value} is claimed by service '{first}' and by service '{other}'"
        for (router, interface), services in sorted(self._ports.items()):
            first, *others = sorted(services)
            for other in others:
                yield f"port {interface} of router {router} is claimed by service '{first}' and by service '{other}'"
        # A pool's guests meet on each of its nodes; once is enough to say so.
        said = set()
        for node, name in sorted(key for key, services in self._guests.items() if len(services) > 1):
            first, *others = sorted(self._guests[node, name])
            for other in others:
                if (first, other) not in said:
                    said.add((first, other))
                    yield (f"the guest {name!r} on node {node} is claimed by service '{first}' "
                           f"and by service '{other}'")

    def _outside(self, version, prefixes, inside):
        for number, claims in self._addresses[version].items():
            if not inside(number, number):
                for _kind, service, mac, text, _protocol, _ports in claims:
                    yield f"{text} of service '{service}' (NIC {mac}) is outside the provider's prefixes"
        for first, minus_last, service, mac, text in prefixes:
            if not inside(first, -minus_last):
                yield f"{text}, routed to service '{service}' (NIC {mac}), is outside the provider's prefixes"

    def _nested(self, version, prefixes):
        """Prefixes inside another's, and addresses inside another service's prefix."""
        parents, stack = [], []
        for index, (first, minus_last, service, mac, text) in enumerate(prefixes):
            while stack and -prefixes[stack[-1]][1] < first:
                stack.pop()
            parents.append(stack[-1] if stack else None)
            stack.append(index)
            above = parents[index]
            while above is not None and prefixes[above][2:4] == (service, mac):
                above = parents[above]
            if above is not None:
                _first, _last, other, other_mac, other_text = prefixes[above]
                yield (f"{text}, routed to service '{service}' (NIC {mac}), overlaps {other_text}, "
                       f"routed to service '{other}' (NIC {other_mac})")
        if not prefixes:
            return
        starts = [prefix[0] for prefix in prefixes]
        for number, claims in self._addresses[version].items():
            around = bisect_right(starts, number) - 1
            around = around if around >= 0 else None
            while around is not None and -prefixes[around][1] < number:
                around = parents[around]
            if around is None:
                continue
            for _kind, service, mac, text, _protocol, _ports in claims:
                above = around
                while above is not None and prefixes[above][2] == service:
                    above = parents[above]
                if above is not None:
                    _first, _last, other, other_mac, other_text = prefixes[above]
                    yield (f"{text} of service '{service}' (NIC {mac}) is inside {other_text}, "
                           f"routed to service '{other}' (NIC {other_mac})")


def _inside(ranges):
    """A test whether a range lies in the union of `ranges`, which are sorted."""
    merged = []
    for first, last in ranges:
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    starts = [first for first, _last in merged]

    def test(first, last):
        index = bisect_right(starts, first) - 1
        return index >= 0 and last <= merged[index][1]
    return test


def _address_claims(claims):
    """The contradictions among the claims of one address."""
    claims = sorted(claims, key=_claim_order)
    by_kind = {kind: [claim for claim in claims if claim[0] == kind] for kind in (ADDRESS, FLOATING, SHARED)}
    owned, floating, shared = by_kind[ADDRESS], by_kind[FLOATING], by_kind[SHARED]
    if owned:
        for other in owned[1:] + floating + shared:
            yield _both(owned[0], other)
    elif floating and shared:
        for other in shared:
            yield _both(floating[0], other)
        for other in floating[1:]:
            yield _both(shared[0], other)
    for _protocol, same in groupby(shared, key=lambda claim: claim[4]):
        yield from _port_claims(list(same))


def _claim_order(claim):
    return claim[4] or "", claim[1], claim[2]


def _both(one, other):
    return (f"{one[3]} is claimed by service '{one[1]}' (NIC {one[2]}) as {one[0]} "
            f"and by service '{other[1]}' (NIC {other[2]}) as {other[0]}")


def _port_claims(claims):
    """Overlapping port ranges of different NICs, each against the range begun before that reaches furthest.

    A NIC's own ranges are merged, so where that one is its own, none of another reaches as far either.
    """
    ranges = sorted((low, high, claim[1], claim[2]) for claim in claims for low, high in claim[5])
    text, protocol = claims[0][3], claims[0][4]
    furthest = ranges[0] if ranges else None
    for current in ranges[1:]:
        if furthest[1] >= current[0]:
            yield (f"{text} {protocol} ports {_ports(furthest)} of service '{furthest[2]}' "
                   f"(NIC {furthest[3]}) overlap {_ports(current)} of service '{current[2]}' (NIC {current[3]})")
        if current[1] > furthest[1]:
            furthest = current


def _ports(claim):
    return str(claim[0]) if claim[0] == claim[1] else f"{claim[0]}-{claim[1]}"
