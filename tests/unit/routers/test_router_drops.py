# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on routers: what is wanted, what is changed, what a Linux router is sent; over generated inputs."""
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._routers import carries, outcomes, plan, resolve_router
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import handle
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _linux_drops
from tests.unit.routers.test_gate import NASTY
from tests.unit.routers.test_router_plan import NOW, POLICY, ROUTER, enforcement, observed

LINUX = {"name": "edge", "backend": "router", "location": "main", "address": "192.0.2.1", "router": {
    "platform": "linux", "mark": 66, "max_null_routes": 10, "max_drop_prefixes": 6, "save": "always", "protected": ["192.0.2.0/28"], "rtbh": None}}
REMOTES = ("198.51.100.7/32", "198.51.100.0/24", "198.51.101.0/24", "2001:db8:bad::/48", "2001:db8:bad:1::7/128")


def drop(number, service="vps-1", sources=REMOTES[:1], direction="both", **changed):
    return enforcement(number, service, kind="drop", options={"sources": list(sources), "direction": direction}, **changed)


def desired(*enforcements, router=LINUX, now=NOW, controllers=()):
    snapshot = {"ledger": "l", "epoch": 1, "revision": 7, "release": {"id": 1, "default_policy": POLICY.key},
                "enforcements": list(enforcements),
                "catalogue": {"prefixes": ["203.0.113.0/24", "2001:db8:100::/48", "192.0.2.0/24"], "nodes": {"edge": router}}}
    return resolve_router({POLICY.key: POLICY}, snapshot, router, now, controllers)


def seen(document):
    """What a router shows that carries exactly this."""
    return dict(observed(), drops={d["key"]: {"local": d["local"], "in": d["in"], "out": d["out"], "whole": True}
                                   for d in document["drops"]})


def test_cases_add_up_and_each_remote_has_its_end():
    document = desired(drop(1, sources=REMOTES[:1], ends_at=NOW + 50), drop(2, sources=REMOTES[:2], direction="in", ends_at=None))
    (entry,) = document["drops"]
    assert entry["local"] == ["203.0.113.10/32", "2001:db8:100:1::/64"]
    assert (entry["in"], entry["out"]) == (["198.51.100.0/24"], ["198.51.100.7/32"])
    assert entry["ends"] == {"198.51.100.7/32": None, "198.51.100.0/24": None} and entry["until_at"] is None
    assert entry["key"] == handle("vps-1") and entry["key"] != handle("vps-2")


@pytest.mark.parametrize(("more", "code"), [
    ([drop(2, "vps-2", sources=["198.51.100.%d" % n for n in range(3)], addresses=["203.0.113.20"])], "router_cap"),
    ([drop(2, "vps-2", addresses=["203.0.113.10"])], "guard_anothers_address"),
    ([drop(2, "vps-2", sources=["203.0.113.99/32"], addresses=["203.0.113.20"])], "guard_protected_address"),
    ([drop(2, "vps-2", sources=["192.0.2.3/32"], addresses=["203.0.113.20"])], "guard_protected_address"),
    ([drop(2, "vps-2", sources=["198.0.0.0/8"], addresses=["203.0.113.20"])], "guard_wide_drop"),
    ([drop(2, "vps-2", addresses=["198.18.0.1"])], "guard_foreign_address"),
])
def test_what_is_refused_spares_the_first(more, code):
    for one in more:
        one["snapshot"]["nics"][0]["prefixes"] = []
    document = desired(drop(1, sources=["198.51.100.7/32"]), *more)
    assert [d["service"] for d in document["drops"]] == ["vps-1"]
    assert [(r["service"], r["code"], r["prefix"]) for r in document["refused"]] == [("vps-2", code, "drop " + handle("vps-2"))]


def test_a_platform_without_drops_says_so_and_carries_nothing():
    document = desired(drop(1), router=ROUTER)
    assert not carries(ROUTER, "drop") and carries(ROUTER, "null_route")
    assert document["drops"] == [] == document["services"] and "drop is not carried on platform frr" in document["gaps"][0]["gap"]


def test_the_controller_is_spared_and_the_null_route_beside_it_goes_on():
    both = [drop(1, sources=["198.51.100.0/24"]), enforcement(2, kind="null_route")]
    document = desired(*both, controllers=("198.51.100.5", "2001:db8::1"))
    assert document["drops"] == [] and [r["code"] for r in document["refused"]] == ["guard_controller"] and document["null_routes"]


@given(st.lists(st.builds(drop, st.integers(1, 99), st.sampled_from(["vps-1", "vps-2"]), st.lists(st.sampled_from(REMOTES), min_size=1),
                          st.sampled_from(["in", "out", "both"])), max_size=4), st.sampled_from(["opened", "ending"]))
@settings(deadline=None)
def test_carried_out_it_wants_nothing_more_and_taken_off_everything_has_ended(enforcements, status):
    for number, one in enumerate(enforcements):
        one["id"] = "E-%d" % number
        one["snapshot"]["nics"] = [{"addresses": ["203.0.113.%d" % (10 if one["service"] == "vps-1" else 20)], "prefixes": [], "floating": []}]
    roomy = dict(LINUX, router=dict(LINUX["router"], max_drop_prefixes=1000))
    document = desired(*enforcements, router=roomy)
    done = plan(document, seen(document))
    assert done["changes"] == [] and all(state["in_force"] for state in done["states"])
    assert {s["service"] for s in outcomes(document, done, {})[0] if s["in_force"]} == {d["service"] for d in document["drops"]}
    ending = desired(*(dict(one, status=status) for one in enforcements), router=roomy, now=NOW + 1000)
    left = plan(ending, seen(document))
    assert [c["action"] for c in left["changes"]] == ["remove"] * len(document["drops"]) and left["states"] == []
    assert not any(outcomes(ending, left, {})[2].values()) or not document["drops"]
    clean = plan(ending, observed())
    ended = {number for numbers in outcomes(ending, clean, {})[2].values() for number in numbers}
    assert ended == ({one["id"] for one in enforcements} if status == "ending" else set())


texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=30), st.ip_addresses().map(str),
                  st.builds(lambda a, b: a + b, st.sampled_from(["198.51.100.7", "2001:db8::1"]), st.sampled_from([*NASTY, "/24", "/0", "/129"])))


@settings(max_examples=300, deadline=None)
@given(st.one_of(texts, st.just("d0123456789ab")), st.lists(texts, max_size=3), st.lists(texts, max_size=3), st.sampled_from(["add", "remove"]))
@example("d0123456789ab", ["203.0.113.10/32"], ["198.51.100.7 }\nflush ruleset"], "add")
def test_no_value_yields_a_line_that_was_not_meant(key, local, remote, action):
    change = {"action": action, "drop": key, "found": None,
              "wanted": {"key": key, "local": local, "in": remote, "out": []} if action == "add" else None}
    try:
        lines = [_linux_drops.pass_line(line) for line in _linux_drops.commands(change)]
    except (ValueError, InputError):
        return
    if action == "remove":
        assert not any(" element " in line for line in lines)
        return
    named = {word.rstrip(",") for line in lines if " element " in line for word in line.split("{")[1].split() if "." in word or ":" in word[:-1]}
    meant = {str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in map(ipaddress.ip_network, [*local, *remote])}
    assert named <= meant and all(line.startswith(("add ", "flush ", "delete ")) for line in lines)
