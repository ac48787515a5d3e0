# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From ledger to desired state to changes: pure, so over generated inputs too."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.module_utils._routers import outcomes, plan, resolve_router, retired_router
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
POLICY = load_policy("default")
SETTINGS = {"platform": "frr", "mark": 41666, "max_null_routes": 10, "save": "always", "protected": ["192.0.2.0/28"],
            "rtbh": {"tag": 41667, "route_map": "RTBH", "trigger": "64500:666", "upstreams": [
                {"name": "up", "neighbors": ["192.0.2.2", "2001:db8:1::2"], "community": "65535:666", "max": 2}]}}
ROUTER = {"name": "edge", "backend": "router", "location": "main", "address": "192.0.2.1", "router": SETTINGS}


def enforcement(number, service="vps-1", addresses=("203.0.113.10",), **changed):
    document = {
        "id": "E-%d" % number, "service": service, "kind": "null_route", "case_id": "C-%d" % number, "clause": "house.10",
        "starts_at": NOW - 100 + number, "ends_at": NOW + 100, "status": "opened", "options": {},
        "snapshot": {"nics": [{"addresses": list(addresses), "prefixes": ["2001:db8:100:1::/64"], "floating": []}],
                     "nodes": ["kvm1"], "routers": ["edge"], "location": "main", "policy": POLICY.key}}
    document.update(changed)
    return document


def desired(*enforcements, router=ROUTER, now=NOW):
    snapshot = {"ledger": "l", "epoch": 1, "revision": 7, "release": {"id": 1, "default_policy": POLICY.key},
                "enforcements": list(enforcements),
                "catalogue": {"prefixes": ["203.0.113.0/24", "2001:db8:100::/48", "192.0.2.0/24"], "nodes": {"edge": router}}}
    return resolve_router({POLICY.key: POLICY}, snapshot, router, now)


def observed(*routes, rib=(), taken=(), occupied=None, missing=(), announced=None, up=("192.0.2.2", "2001:db8:1::2")):
    return {"routes": list(routes), "rib": {p: {"blackhole": True, "installed": True} for p in rib},
            "taken": [{"prefix": p, "what": "something"} for p in taken], "occupied": occupied or {},
            "rtbh": {"missing": {"4": list(missing), "6": list(missing)}, "announced": announced or {}, "up": list(up)}}


def route(prefix, mark=41666, ours=True, **changed):
    return {"prefix": prefix, "ours": ours, "blackhole": True, "mark": mark, "exact": ours, "line": "line of %s" % prefix,
            **changed}


def wanted(document):
    return [r["prefix"] for r in document["null_routes"]]


@pytest.mark.parametrize(("changed", "expected"), [
    ({}, ["203.0.113.10/32"]), ({"status": "active"}, ["203.0.113.10/32"]), ({"status": "ending"}, []),
    ({"ends_at": NOW}, []), ({"ends_at": None}, ["203.0.113.10/32"]), ({"starts_at": NOW + 1}, []),
    ({"kind": "suspend"}, []), ({"options": {"routed_prefixes": True}}, ["203.0.113.10/32", "2001:db8:100:1::/64"]),
])
def test_what_is_wanted(changed, expected):
    assert wanted(desired(enforcement(1, **changed))) == expected


def test_another_location_takes_no_part_but_gives_up_what_it_has():
    moved = dict(ROUTER, location="elsewhere")
    document = desired(enforcement(1), router=moved)
    assert wanted(document) == [] and document["known"] == [{"prefix": "203.0.113.10/32", "service": "vps-1"}]
    other = enforcement(1)
    other["snapshot"]["routers"] = []
    assert desired(other, router=moved)["known"] == []
    with pytest.raises(CatalogueError):
        desired(router={**ROUTER, "router": None})


@pytest.mark.parametrize(("address", "code"), [
    ("198.51.100.1", "guard_foreign_address"), ("192.0.2.1", "guard_protected_address"),
    ("192.0.2.9", "guard_protected_address"),
])
def test_guardrails_hold_on_the_router_too(address, code):
    document = desired(enforcement(1, addresses=("203.0.113.10", address)))
    assert wanted(document) == ["203.0.113.10/32"] and [r["code"] for r in document["refused"]] == [code]


def test_the_upstreams_limit_counts_per_family_and_spares_the_oldest():
    many = [enforcement(n, "vps-%d" % n, ("203.0.113.%d" % n, "2001:db8:100::%d" % n), options={"rtbh": True}) for n in (1, 2, 3)]
    document = desired(*many)
    assert wanted(document) == ["203.0.113.1/32", "203.0.113.2/32", "2001:db8:100::1/128", "2001:db8:100::2/128"]
    assert [r["service"] for r in document["refused"]] == ["vps-3", "vps-3"]
    # Not announced, there is room.
    assert len(wanted(desired(*many[:2], enforcement(3, "vps-3", ("203.0.113.3",))))) == 5


def test_announced_needs_every_upstream_that_is_up_and_at_least_one():
    document = desired(enforcement(1, options={"rtbh": True}))
    mine = route("203.0.113.10/32", 41667)
    for announced, up, missing in (
            ({"to": ["192.0.2.2"], "trigger": True}, ("192.0.2.2",), None),
            ({"to": [], "trigger": True}, ("192.0.2.2",), "not announced to 192.0.2.2"),
            ({"to": [], "trigger": True}, (), "no upstream has a session"),
            ({"to": ["192.0.2.2"], "trigger": False}, ("192.0.2.2",), "64500:666")):
        seen = observed(mine, rib=["203.0.113.10/32"], announced={"203.0.113.10/32": announced}, up=up)
        planned = plan(document, seen)
        services, errors, _ended = outcomes(document, planned, {})
        assert planned["changes"] == [] and services[0]["in_force"] is (missing is None)
        assert missing is None or (errors[0]["code"] == "not_announced" and missing in errors[0]["message"])


def test_one_that_acts_is_not_taken_down_for_what_came_later():
    document = desired(enforcement(1, options={"rtbh": True}))
    theirs = route("203.0.113.10/32", None, ours=False)
    seen = observed(route("203.0.113.10/32", 41667), theirs, rib=["203.0.113.10/32"], missing=["route-map …"],
                    occupied={"203.0.113.10/32": "a kernel route"}, announced={})
    planned = plan(document, seen)
    assert not planned["changes"] and not planned["refused"] and "another route is there as well" in planned["notes"][-1]


def test_one_that_covers_the_router_itself_goes_at_once():
    document = desired(enforcement(1))
    planned = plan(document, observed(route("203.0.113.10/32"), rib=["203.0.113.10/32"], taken=["203.0.113.10"]))
    assert [c["action"] for c in planned["changes"]] == ["remove"] and planned["refused"][0]["code"] == "router_address"


def test_ended_is_what_lies_there_no_more():
    ending = enforcement(1, status="ending")
    document = desired(ending)
    there = plan(document, observed(route("203.0.113.10/32")))
    services, errors, ended = outcomes(document, there, {"203.0.113.10/32": "busy"})
    assert not ended and not services[0]["released"] and errors[0]["code"] == "not_removed" and "busy" in errors[0]["message"]
    services, errors, ended = outcomes(document, plan(document, observed()), {})
    assert ended == {"vps-1": ["E-1"]} and services[0]["released"] and not errors
    # Ended for one case, wanted by another: the case ends, the route stays.
    both = desired(ending, enforcement(2))
    services, _errors, ended = outcomes(both, plan(both, observed(route("203.0.113.10/32"), rib=["203.0.113.10/32"])), {})
    assert ended == {"vps-1": ["E-1"]} and services[0]["in_force"]


def test_retiring_leaves_nothing_known():
    document = retired_router(desired(enforcement(1)))
    planned = plan(document, observed(route("203.0.113.10/32"), route("203.0.113.99/32")))
    assert [c["prefix"] for c in planned["changes"]] == ["203.0.113.10/32"]


_HOSTS = ["203.0.113.%d/32" % n for n in range(1, 6)]


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(1, 5)), st.sets(st.integers(1, 5)), st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=6))
def test_only_known_and_ours_is_ever_removed_and_a_second_plan_wants_nothing(bind, end, lying):
    document = desired(*[enforcement(n, "vps-%d" % n, ("203.0.113.%d" % n,), status="opened" if n in bind else "ending")
                         for n in bind | end])
    routes = [route(_HOSTS[n - 1], ours=ours) for n, ours in dict(lying).items()]
    planned = plan(document, observed(*routes))
    ours = {r["prefix"] for r in routes if r["ours"]}
    foreign = {r["prefix"] for r in routes if not r["ours"]}
    added = {c["prefix"] for c in planned["changes"] if c["action"] == "add"}
    removed = {c["prefix"] for c in planned["changes"] if c["action"] == "remove"}
    known = {entry["prefix"] for entry in document["known"]}
    assert removed == (ours & known) - set(wanted(document)) and not removed & foreign
    assert added == set(wanted(document)) - ours - foreign
    after = [r for r in routes if r["prefix"] not in removed] + [route(p) for p in added]
    assert not plan(document, observed(*after, rib=[r["prefix"] for r in after]))["changes"]
