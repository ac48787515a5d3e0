# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Null routes that end open connections of a cluster's guest: beside what holds the service, and by themselves over in time."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._open_connections import NULL_ROUTE_SECONDS
from ansible_collections.hosting.aup.plugins.module_utils._routers import gaps, outcomes, plan, reasons, resolve_router, retired_router
from tests.unit.routers.test_router_plan import NOW, POLICY, ROUTER, SETTINGS, desired, enforcement, observed, route, wanted

HOST = "203.0.113.10/32"


def block(number, begun=0, kind="quarantine", choice="null_route", prefixes=(), **changed):
    """A block that began so many seconds ago."""
    one = enforcement(number, kind=kind, options={"open_connections": choice, "ports": [25]}, starts_at=NOW - begun, **changed)
    one["snapshot"]["nics"][0]["prefixes"] = list(prefixes)
    return one


def entry(document):
    (only,) = document["services"]
    return only


@given(st.integers(0, 2 * NULL_ROUTE_SECONDS), st.sampled_from(["opened", "active", "ending"]),
       st.sampled_from(["leave", "restart", "null_route", "node_filter"]), st.sampled_from(["quarantine", "smtp_block", "port_block", "suspend"]))
def test_wanted_while_the_block_is_new_and_known_as_long_as_it_may_lie_there(begun, status, choice, kind):
    document = desired(block(1, begun, kind, choice, status=status))
    asked = choice == "null_route" and kind != "suspend"
    window = asked and begun < NULL_ROUTE_SECONDS and status != "ending"
    assert wanted(document) == ([HOST] if window else [])
    assert document["known"] == ([{"prefix": HOST, "service": "vps-1"}] if asked else [])
    assert bool(document["services"]) == (window or asked and status == "ending")
    assert plan(document, observed(route(HOST), rib=[HOST]))["left"] == ([] if window or not asked else [{"prefix": HOST, "service": "vps-1"}])


def test_it_neither_holds_the_service_nor_lets_it_count_as_held():
    document = desired(block(1))
    services, errors, ended = outcomes(document, plan(document, observed(route(HOST), rib=[HOST])), {})
    assert services == [{"service": "vps-1", "here": True, "hold": None, "in_force": False, "released": False, "enforcement_ids": [],
                         "limits": {"open_connections": {"in_force": True}}}] and not errors and not ended
    assert reasons(document)["vps-1"]["open_connections"]["mode"] == "null-routed"
    # Not used by the router: said as an error, and of nothing else.
    services, errors, _ended = outcomes(document, plan(document, observed(route(HOST))), {})
    assert [e["code"] for e in errors] == ["not_applied"] and services[0]["limits"] == {"open_connections": {"in_force": False}}


def test_what_stands_in_its_way_is_a_gap_and_no_error():
    document = desired(block(1, addresses=("203.0.113.10", "192.0.2.9"), prefixes=["203.0.113.64/29"]))
    assert wanted(document) == [HOST, "203.0.113.64/29"]
    planned = plan(document, observed(route("203.0.113.64/29", ours=False)))
    assert [c["prefix"] for c in planned["changes"]] == [HOST]
    found = gaps(planned)
    assert len(found) == 2 and all(one["gap"].startswith("open_connections: ") for one in found)
    assert [e["code"] for e in outcomes(document, planned, {})[1]] == ["not_applied"]  # of the one that is to be set, until it is


def test_the_cap_spares_the_null_routes_that_hold():
    few = {**ROUTER, "router": {**SETTINGS, "max_null_routes": 1}}
    document = desired(block(1, begun=500), enforcement(2, service="vps-2", addresses=("203.0.113.20",), starts_at=NOW), router=few)
    assert wanted(document) == ["203.0.113.20/32"] and [r.get("open_connections") for r in document["refused"]] == [True]


def test_beside_a_null_route_of_the_same_service():
    both = desired(block(1, prefixes=["203.0.113.64/29"]), enforcement(2, options={"rtbh": True}))
    assert [(r["prefix"], r["rtbh"], r.get("open_connections")) for r in both["null_routes"]] == [
        (HOST, True, None), ("203.0.113.64/29", False, True)]
    said = {HOST: {"to": ["192.0.2.2"], "trigger": True}}
    services, errors, _ended = outcomes(both, plan(both, observed(route(HOST, 41667), rib=[HOST], announced=said)), {})
    # What is only for open connections isn't there: the null route is in force all the same.
    assert services[0]["in_force"] and services[0]["enforcement_ids"] == ["E-2"]
    assert services[0]["limits"] == {"open_connections": {"in_force": False}} and len(errors) == 1


def test_lifted_early_it_ends_early_and_stays_while_another_block_asks():
    alone = desired(block(1, status="ending"))
    _services, errors, ended = outcomes(alone, plan(alone, observed(route(HOST))), {})
    assert wanted(alone) == [] and not ended and [e["code"] for e in errors] == ["not_removed"]
    services, errors, ended = outcomes(alone, plan(alone, observed()), {})
    assert ended == {"vps-1": ["E-1"]} and services[0]["released"] and not errors
    shared = desired(block(1, status="ending"), block(2, kind="smtp_block", begun=100), block(3, choice="restart"))
    _services, errors, ended = outcomes(shared, plan(shared, observed(route(HOST), rib=[HOST])), {})
    assert wanted(shared) == [HOST] and ended == {"vps-1": ["E-1"]} and not errors


def test_over_it_is_given_back_once_and_then_not_spoken_of():
    snapshot = {"ledger": "l", "epoch": 1, "revision": 7, "release": {"id": 1, "default_policy": POLICY.key},
                "enforcements": [block(1, NULL_ROUTE_SECONDS, status="active")], "baselines": [{"service": "vps-1"}],
                "catalogue": {"prefixes": ["203.0.113.0/24"], "nodes": {"edge": ROUTER}}}
    document = resolve_router({POLICY.key: POLICY}, snapshot, ROUTER, NOW)
    services, errors, _ended = outcomes(document, plan(document, observed()), {})
    assert services[0]["released"] and not errors
    assert resolve_router({POLICY.key: POLICY}, dict(snapshot, baselines=[]), ROUTER, NOW)["services"] == []


def test_only_the_routers_of_its_beginning_and_a_retired_one_gives_it_up():
    other = {**ROUTER, "name": "later"}
    assert desired(block(1), router=other)["services"] == []
    moved = desired(block(1), router={**ROUTER, "location": "elsewhere"})
    assert wanted(moved) == [] and [k["prefix"] for k in moved["known"]] == [HOST]
    retired = retired_router(desired(block(1)))
    assert wanted(retired) == [] and entry(retired)["open_connections"] is None
    assert outcomes(retired, plan(retired, observed()), {})[0][0]["released"]
