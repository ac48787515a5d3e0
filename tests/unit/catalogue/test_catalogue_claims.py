# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contradictions between services, against a naive comparison of all with all, and the document's order."""
from __future__ import annotations

import ipaddress
import json
import random
import re
import tempfile
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_fields as fields
from catalogue_builders import BASE, catalogue, load, nic, service
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st


def shared(address, protocol, *ports):
    return {"address": address, "protocol": protocol, "ports": list(ports)}


CONTRADICTIONS = [
    ("address", [nic(1, addresses=["192.0.2.9"])], [nic(2, addresses=["192.0.2.9"])], "192.0.2.9 is claimed by"),
    ("other spelling", [nic(1, addresses=["2001:db8::9"])], [nic(2, addresses=["2001:DB8:0::09"])],
     "2001:db8::9 is claimed by"),
    ("MAC", [nic(1)], [{"mac": "5254.0000.0001"}], "the MAC 52:54:00:00:00:01 is claimed by"),
    ("nested prefixes", [nic(1, prefixes=["2001:db8:8::/48"])], [nic(2, prefixes=["2001:db8:8:1::/64"])],
     "2001:db8:8:1::/64, routed to service 'vps-2' (NIC 52:54:00:00:00:02), overlaps 2001:db8:8::/48"),
    ("same prefix", [nic(1, prefixes=["192.0.2.16/28"])], [nic(2, prefixes=["192.0.2.16/28"])], "overlaps"),
    ("address in a prefix", [nic(1, prefixes=["192.0.2.16/28"])], [nic(2, addresses=["192.0.2.31"])],
     "192.0.2.31 of service 'vps-2' (NIC 52:54:00:00:00:02) is inside 192.0.2.16/28"),
    ("floating in a prefix", [nic(1, prefixes=["192.0.2.16/28"])], [nic(2, floating=["192.0.2.16"])], "is inside"),
    ("own and floating", [nic(1, addresses=["192.0.2.9"])], [nic(2, floating=["192.0.2.9"])],
     "as an address of its own and by service 'vps-2' (NIC 52:54:00:00:00:02) as floating"),
    ("own and shared", [nic(1, addresses=["192.0.2.9"])], [nic(2, shared=[shared("192.0.2.9", "tcp", 80)])],
     "as an address of its own and by service 'vps-2' (NIC 52:54:00:00:00:02) as shared"),
    ("floating and shared", [nic(1, floating=["192.0.2.9"])], [nic(2, shared=[shared("192.0.2.9", "tcp", 80)])],
     "as floating and by"),
    ("ports", [nic(1, shared=[shared("192.0.2.9", "tcp", "80-90")])],
     [nic(2, shared=[shared("192.0.2.9", "tcp", 90)])], "192.0.2.9 tcp ports 80-90 of service 'vps-1'"),
]


@pytest.mark.parametrize(("one", "other", "words"), [case[1:] for case in CONTRADICTIONS],
                         ids=[case[0] for case in CONTRADICTIONS])
def test_a_contradiction_names_both(tmp_path, one, other, words):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, catalogue(service(1, nics=one), service(2, nics=other)))
    [problem] = caught.value.problems
    assert words in problem
    assert "service 'vps-1'" in problem and "service 'vps-2'" in problem


@pytest.mark.parametrize(("one", "other"), [
    ([nic(1, floating=["192.0.2.9"])], [nic(2, floating=["192.0.2.9"])]),
    ([nic(1, shared=[shared("192.0.2.9", "tcp", "80-90")])], [nic(2, shared=[shared("192.0.2.9", "tcp", "91-99")])]),
    ([nic(1, shared=[shared("192.0.2.9", "tcp", 80)])], [nic(2, shared=[shared("192.0.2.9", "udp", 80)])]),
    ([nic(1, prefixes=["192.0.2.16/28"], addresses=["192.0.2.17"])], [nic(2, addresses=["192.0.2.32"])]),
    ([nic(1, prefixes=["192.0.2.16/28", "192.0.2.16/29"])], [nic(2, prefixes=["192.0.2.32/28"])]),
])
def test_what_is_no_contradiction(tmp_path, one, other):
    assert len(load(tmp_path, catalogue(service(1, nics=one), service(2, nics=other)))["services"]) == 2


@pytest.mark.parametrize(("nics", "words"), [
    ([nic(1, addresses=["203.0.113.1"])], "203.0.113.1 of service 'vps-1' (NIC 52:54:00:00:00:01) is outside"),
    ([nic(1, floating=["2001:db9::"])], "2001:db9:: of service 'vps-1'"),
    ([nic(1, shared=[shared("203.0.113.1", "tcp", 1)])], "is outside the provider's prefixes"),
    ([nic(1, prefixes=["2001:db8::/31"])], "2001:db8::/31, routed to service 'vps-1'"),
])
def test_outside_the_providers_prefixes(tmp_path, nics, words):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, catalogue(service(1, nics=nics)))
    [problem] = caught.value.problems
    assert words in problem


def test_prefixes_side_by_side_are_one_range(tmp_path):
    load(tmp_path, catalogue(service(1, nics=[nic(1, prefixes=["192.0.2.0/24"])]),
                             prefixes=["192.0.2.0/25", "192.0.2.128/25"]))


def test_guests(tmp_path):
    uuid = "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c1001"

    def problems(*services):
        with pytest.raises(CatalogueError) as caught:
            load(tmp_path, catalogue(*services))
        return caught.value.problems
    same_name = problems(service(1, guest="x", node=None, pool="p"), service(2, guest="x", node=None, pool="p"))
    assert len(same_name) == 1 and "the guest 'x' on node kvm1 is claimed by service 'vps-1'" in same_name[0]
    [across] = problems(service(1, guest="x", node=None, pool="p"), service(2, guest="x", node="kvm2"))
    assert "node kvm2" in across
    [same_uuid] = problems(service(1, guest={"name": "x", "uuid": uuid}),
                           service(2, node="kvm3", guest={"name": "x", "uuid": uuid.upper()}))
    assert f"the guest UUID {uuid} is claimed by service 'vps-1' and by service 'vps-2'" in same_uuid
    load(tmp_path, catalogue(service(1, guest="x"), service(2, guest="x", node="kvm3")))


# ---- against the naive comparison -------------------------------------------------------------------------

V4 = st.integers(0, 15).map(lambda low: f"192.0.2.{low}")
V6 = st.integers(0, 7).map(lambda low: f"2001:db8::{low:x}")
ADDRESSES = V4 | V6
PREFIXES = (
    st.tuples(st.integers(28, 32), st.integers(0, 15)).map(lambda p: str(ipaddress.ip_network(
        (f"192.0.2.{p[1]}", p[0]), strict=False)))
    | st.tuples(st.integers(125, 128), st.integers(0, 7)).map(lambda p: str(ipaddress.ip_network(
        (f"2001:db8::{p[1]:x}", p[0]), strict=False))))
RANGES = st.tuples(st.integers(1, 12), st.integers(0, 4)).map(lambda r: [r[0], r[0] + r[1]])
SHARED = st.builds(lambda address, protocol, ports: shared(address, protocol, *ports), ADDRESSES,
                   st.sampled_from(["tcp", "udp"]), st.lists(RANGES, min_size=1, max_size=2))
NIC = st.fixed_dictionaries({}, optional={
    "addresses": st.lists(ADDRESSES, max_size=2), "prefixes": st.lists(PREFIXES, max_size=1),
    "shared": st.lists(SHARED, max_size=2), "floating": st.lists(ADDRESSES, max_size=1)})


@st.composite
def service_lists(draw):
    services, mac = [], 0
    for number in range(draw(st.integers(1, 5))):
        nics = []
        for body in draw(st.lists(NIC, min_size=1, max_size=2)):
            mac += 1
            nics.append(nic(mac, **body))
        services.append(service(number + 1, nics=nics))
    return services


def naive(services):
    """The ids of services that are part of a contradiction, by comparing all claims with all."""
    claims = []
    for entry in services:
        for card in entry["nics"]:
            owner = (entry["id"], card["mac"])
            claims += [("own", owner, ipaddress.ip_address(text), None) for text in set(card.get("addresses", ()))]
            claims += [("floating", owner, ipaddress.ip_address(text), None) for text in set(card.get("floating", ()))]
            claims += [("prefix", owner, ipaddress.ip_network(text), None) for text in set(card.get("prefixes", ()))]
            claims += [("shared", owner, ipaddress.ip_address(share["address"]), (share["protocol"], share["ports"]))
                       for share in card.get("shared", ())]
    found = set()
    for index, (kind, owner, what, ports) in enumerate(claims):
        for other_kind, other_owner, other, other_ports in claims[index + 1:]:
            if kind == other_kind == "prefix":
                wrong = owner != other_owner and what.version == other.version and what.overlaps(other)
            elif "prefix" in (kind, other_kind):
                inside = what in other if other_kind == "prefix" else other in what
                wrong = inside and owner[0] != other_owner[0]
            elif what != other:
                wrong = False
            elif kind != other_kind:
                wrong = True
            elif kind == "shared":
                wrong = owner != other_owner and ports[0] == other_ports[0] and any(
                    low <= other_high and other_low <= high
                    for low, high in ports[1] for other_low, other_high in other_ports[1])
            else:
                wrong = kind == "own" and owner != other_owner
            if wrong:
                found |= {owner[0], other_owner[0]}
    return found


def named_in(services):
    """The ids that loading these services complains of."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            load(Path(folder), catalogue(*services))
        except CatalogueError as exc:
            return set(re.findall(r"service '([^']+)'", "\n".join(exc.problems)))
    return set()


@hypothesis_settings(max_examples=400, deadline=None)
@given(service_lists())
def test_everyone_in_a_contradiction_is_named_and_nobody_else(services):
    assert named_in(services) == naive(services)


@hypothesis_settings(max_examples=100, deadline=None)
@given(service_lists(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_normal_form_is_its_own(services, random_order):
    # Each service in a block of its own, so that nothing contradicts.
    for index, entry in enumerate(services):
        text = json.dumps(entry["nics"]).replace("192.0.2.", f"10.{index}.2.").replace("2001:db8::", f"2001:db8:{index + 1}::")
        entry["nics"] = [{"mac": card["mac"], **{key: card[key] for key in ("addresses", "prefixes") if key in card}}
                         for card in json.loads(text)]
        own = [address for card in entry["nics"] for address in card.get("addresses", ())]
        if len(own) > 1:
            entry["nics"] = entry["nics"][:1]
        entry["nics"] = entry["nics"][:1] if any("prefixes" in card for card in entry["nics"]) else entry["nics"]
    data = catalogue(*services, prefixes=["10.0.0.0/8", "2001:db8::/32"])
    with tempfile.TemporaryDirectory() as folder:
        document = load(Path(folder), data)
        assert load(Path(folder), document) == document
        assert load(Path(folder), shuffled(data, random_order)) == document


def shuffled(value, order):
    """The same data with every mapping and every list in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    if isinstance(value, list):
        parts = [shuffled(part, order) for part in value]
        order.shuffle(parts)
        return parts
    return value


@hypothesis_settings(deadline=None)
@given(st.ip_addresses(v=6))
def test_addresses_have_the_text_form_of_the_standard_library(address):
    try:
        version, number, text = fields.address(address.exploded)
    except fields.Refused:
        assert address.is_multicast or address.is_link_local or int(address) >> 120 == 0
        return
    assert (version, number, text) == (6, int(address), str(address))
    assert fields.address(text) == (version, number, text)


@pytest.mark.parametrize("parse", [fields.mac, fields.uuid, fields.guest_name, fields.identifier, fields.token,
                                   fields.node_name, fields.interface, fields.interface_pattern, fields.address,
                                   fields.prefix, fields.ports, fields.plan, fields.uses, fields.node_vars,
                                   fields.free_text, fields.protocol, fields.node_address])
@hypothesis_settings(deadline=None, max_examples=60)
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                          lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))
def test_no_value_breaks_a_parser(parse, value):
    try:
        parse(value)
    except fields.Refused as exc:
        assert str(exc).isprintable()


def test_contradictions_among_many_are_found(tmp_path):
    order = random.Random(7)
    services = [service(number, nics=[nic(number, addresses=[f"10.0.{number >> 8}.{number & 255}"])])
                for number in range(1, 2001)]
    services[1500]["nics"][0]["addresses"] = ["10.0.0.5"]
    order.shuffle(services)
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, {**BASE, "prefixes": ["10.0.0.0/8"], "services": services})
    [problem] = caught.value.problems
    assert "'vps-5'" in problem and "'vps-1501'" in problem


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(RANGES, min_size=1, max_size=3), min_size=2, max_size=5))
def test_overlapping_port_ranges_of_one_address_are_all_named(ranges):
    services = [service(number, nics=[nic(number, shared=[shared("192.0.2.1", "tcp", *own)])])
                for number, own in enumerate(ranges, 1)]
    assert named_in(services) == naive(services)
