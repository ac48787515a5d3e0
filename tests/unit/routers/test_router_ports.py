# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of dedicated servers: from catalogue and ledger to rules and back, over generated inputs too."""
from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._routers import outcomes, plan, resolve_router, retired_router
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _linux_ports

NOW = 1_800_000_000
POLICY = load_policy("default")
OWN = ["203.0.113.10", "2001:db8:100::10"]


def load(tmp_path, *services, **router):
    node = {"backend": "router", "location": "fra", "address": "192.0.2.1", "uplinks": ["up0"],
            "router": {"platform": "linux", **router}}
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"prefixes": ["203.0.113.0/24", "2001:db8:100::/48"], "services": list(services), "nodes": {
        "edge": node, "bare": {"backend": "router", "location": "ams"},
        "far": {**node, "location": "ams"}, "kvm1": {"backend": "kvm", "location": "fra", "bridges": ["br0"]}}}))
    return load_catalogue(path)


def server(number=1, interface="eth2.7", router="edge", **changed):
    return {"id": "ded-%d" % number, "customer": "c", "account_type": "business", "ports": [{"router": router, "interface": interface}],
            "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": ["203.0.113.%d" % number]}], **changed}


def test_a_server_lives_on_its_routers(tmp_path):
    found = load(tmp_path, server(), server(2, "eth3"))["services"]["ded-1"]
    assert found["nodes"] == ["edge"] and found["location"] == "fra" and found["guest"] == {"name": None, "uuid": None}
    assert found["ports"] == [{"router": "edge", "interface": "eth2.7"}]


@pytest.mark.parametrize(("services", "router", "said"), [
    ([server(interface="up0")], {}, "declared as uplink"),
    ([server()], {"trunks": ["eth2.7"]}, "declared as trunk"),
    ([server()], {"lags": ["eth2.7"]}, "declared as lag"),
    ([server()], {"peerings": ["eth2.7"]}, "declared as peering"),
    ([server(), server(2)], {}, "claimed by service 'ded-1' and by service 'ded-2'"),
    ([server(interface="eth0\nreboot")], {}, "is not an interface"),
    ([server(interface="Vlan100")], {"platform": "eos"}, "no port of platform eos: Ethernet1"),
    ([server(interface="Port-Channel1.100")], {"platform": "eos"}, "no port of platform eos"),
    ([server(interface="ge-0/0/1")], {"platform": "junos"}, "a unit like ge-0/0/1.100 is expected"),
    ([server(interface="irb.100")], {"platform": "junos"}, "no port of platform junos"),
    ([server(interface="Gi0/0/1")], {"platform": "iosxe"}, "no port of platform iosxe"),
    ([server(interface="GigabitEthernet0/0/1.100")], {}, "no port of platform linux"),
    ([server(interface='e"; flush ruleset')], {}, "is not an interface"),
    ([server(router="kvm1")], {}, "is no router"),
    ([server(router="bare")], {}, "no section `router`"),
    ([server(guest="web")], {}, "stands beside `ports`"),
    ([server(node="kvm1")], {}, "stands beside `ports`"),
    ([server(ports=[])], {}, "a list of ports is expected"),
    ([server(ports=[{"router": "edge", "interface": "a"}, {"router": "far", "interface": "a"}])], {}, "in one location"),
    ([server(ports=[{"router": "edge", "interface": "a"}] * 2)], {}, "listed twice"),
    ([server(ports=[{"router": "edge", "interface": "a", "vlan": 7}])], {}, "unknown key"),
])
def test_a_slip_is_named(tmp_path, services, router, said):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, *services, **router)
    assert said in str(caught.value)


KINDS = {"suspend": {}, "terminate": {}, "smtp_block": {"ports": [25, 465]}, "bandwidth_cap": {"rate": "10 Mbit/s"},
         "port_block": {"ports": [6667], "direction": "in"}, "null_route": {}, "quarantine": {},
         "drop": {"sources": ["198.51.100.7/32", "2001:db8:bad::/48"]}}


def router_of(platform):
    return {"name": "edge", "backend": "router", "location": "main", "address": "192.0.2.1", "router": {
        "platform": platform, "mark": 66, "max_null_routes": 10, "save": "always", "protected": [], "rtbh": None}}


SERVICE = {"id": "ded-1", "customer": "c", "account_type": min(POLICY.account_types), "location": min(POLICY.locations), "nodes": ["edge"],
           "nics": [{"mac": "52:54:00:00:00:01", "addresses": OWN, "prefixes": [], "floating": [], "shared": []}],
           "ports": [{"router": "edge", "interface": "eth2"}], "policy": None}


def enforcement(number, kind, status="active"):
    return {"id": "E-%d" % number, "service": "ded-1", "kind": kind, "case_id": "C-%d" % number, "clause": "house.1", "starts_at": NOW - 10,
            "ends_at": None, "status": status, "options": KINDS[kind],
            "snapshot": {"nics": SERVICE["nics"], "ports": SERVICE["ports"], "nodes": ["edge"], "routers": ["edge"], "location": "main",
                         "policy": POLICY.key}}


def resolved(*enforcements, platform="linux", services=(SERVICE,)):
    router = router_of(platform)
    snapshot = {"ledger": "l", "epoch": 1, "revision": 7, "release": {"id": 1, "default_policy": POLICY.key, "policy_keys": [POLICY.key]},
                "enforcements": list(enforcements), "exemptions": [], "adoptions": {},
                "catalogue": {"prefixes": ["203.0.113.0/24", "2001:db8:100::/48"], "nodes": {"edge": router},
                              "services": {s["id"]: s for s in services}}}
    return resolve_router({POLICY.key: POLICY}, snapshot, router, NOW)


def look(document, state, objection=None):
    """What a driver would read where `state` is `{interface: rules}`."""
    seen = {name: {"wanted": None, "found": lines, "objection": None} for name, lines in state.items()}
    for port in document["ports"]:
        seen[port["interface"]] = {"wanted": _linux_ports.normal(_linux_ports.rules(port)), "found": state.get(port["interface"]),
                                   "objection": objection}
    return {"routes": [], "rib": {r["prefix"]: {"blackhole": True, "installed": True} for r in document["null_routes"]}, "taken": [],
            "occupied": {}, "rtbh": None, "ports": seen}


def carried_out(document, state):
    state = dict(state)
    for change in plan(document, look(document, state))["changes"]:
        if "port" in change:
            state.pop(change["port"], None)
            if change["action"] == "add":
                state[change["port"]] = change["wanted"]
    return state


@settings(max_examples=60, deadline=None)
@given(st.permutations(sorted(KINDS)), st.data())
def test_any_order_of_enforcements_gives_back_exactly(kinds, data):
    state = before = carried_out(resolved(), {})
    assert before["eth2"]
    numbered = dict(enumerate(kinds[: data.draw(st.integers(1, len(kinds)))]))
    held = {}
    for number, kind in numbered.items():
        held[number] = enforcement(number, kind)
        document = resolved(*held.values())
        state = carried_out(document, state)
        assert not [c for c in plan(document, look(document, state))["changes"] if "port" in c]
        assert ("from counter drop comment \"suspend\"" in state["eth2"]) == any(
            e["kind"] in ("suspend", "terminate") for e in held.values())
    for number in data.draw(st.permutations(sorted(held))):
        held[number] = dict(held[number], status="ending")
        document = resolved(*held.values())
        state = carried_out(document, state)
        _services, _errors, ended = outcomes(document, plan(document, look(document, state)), {})
        assert "E-%d" % number in ended["ded-1"]
        del held[number]
    assert state == before and carried_out(retired_router(resolved()), state) == {}


def test_a_port_with_an_objection_takes_nothing_new_and_gives_back():
    held, document = enforcement(1, "suspend"), resolved(enforcement(1, "suspend"))
    policy_only = carried_out(resolved(), {})
    for state in ({}, policy_only):
        planned = plan(document, look(document, state, "it is a bridge"))
        assert [r["code"] for r in planned["refused"]] == ["port_refused"] and not planned["changes"]
        assert outcomes(document, planned, {})[0][0]["in_force"] is False
    acting = carried_out(document, policy_only)
    assert not plan(document, look(document, acting, "it is a bridge"))["refused"]
    ending = resolved(dict(held, status="ending"))
    assert [c["wanted"] for c in plan(ending, look(ending, acting, "it is a bridge"))["changes"]] == [policy_only["eth2"]]


def test_a_platform_without_ports_says_so():
    document = resolved(platform="frr")
    assert document["ports"] == [] and [g["gap"].split(" ")[0] for g in document["gaps"]] == ["smtp_outbound", "anti_spoofing"]
    document = resolved(enforcement(1, "suspend"), platform="frr")
    assert [(r["code"], r["service"]) for r in document["refused"]] == [("not_supported", "ded-1")]
    services, errors, _ended = outcomes(document, plan(document, look(document, {})), {})
    assert not services[0]["in_force"] and errors


def test_a_port_that_is_another_services_by_now_is_not_held():
    other = dict(SERVICE, id="ded-2")
    document = resolved(enforcement(1, "suspend"), services=(other,))
    assert [r["code"] for r in document["refused"]] == ["port_of_another"]
    assert [(p["service"], p["dark"]) for p in document["ports"]] == [("ded-2", False)]
    gone = resolved(enforcement(1, "suspend"), services=())
    assert [(p["service"], p["dark"], p["guard"]) for p in gone["ports"]] == [("ded-1", True, "off")]


TEXT = st.text(max_size=20) | st.sampled_from(["e-a", "eth2.107", "a b", 'e"', "e;f", "e\nflush ruleset", "e}", "-e", "e" * 16])


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_no_name_yields_a_line_that_was_not_meant(name):
    for action, wanted in (("add", ['from counter drop comment "suspend"']), ("remove", None)):
        try:
            lines = _linux_ports.commands({"action": action, "port": name, "wanted": wanted, "last": True})
        except ValueError:
            continue
        for line in lines:
            assert _linux_ports.pass_line(line) == line and "\n" not in line and "hosting_aup_ports" in line


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.sampled_from([
    "flush ruleset", "delete table inet filter", 'add rule inet hosting_aup_ports from-e counter drop comment "x"; flush ruleset',
    "add rule inet filter from-e counter drop comment \"x\""]))
def test_the_gate_passes_nothing_else(line):
    with pytest.raises(InputError):
        _linux_ports.pass_line(line)
