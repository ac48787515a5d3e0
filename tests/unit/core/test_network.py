# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caps and null routes: what they need, whose they are, and what they must not touch. No kernel."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _network
from ansible_collections.hosting.aup.plugins.module_utils._backends import _routes, _tc
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._ports import Owners
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import ended_on_node
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import node_result, summarise

MAC = "52:54:00:00:00:0%d"


def service(sid, number, **limits):
    return {"id": sid, "guest": {"name": "g%d" % number, "uuid": "u%d" % number},
            "nics": [{"mac": MAC % number, "addresses": []}], "hold": None, "limits": limits}


def guest(number, *devices):
    return {"name": "g%d" % number, "uuid": "u%d" % number,
            "nics": [{"mac": MAC % number, "kind": "bridge", "bridge": "br0", "device": device} for device in devices]}


def test_all_ports_of_the_service_are_capped_also_one_that_was_plugged_in_and_no_other():
    desired = {"services": [service("s1", 1, bandwidth_cap={"rate_bps": 8000}), service("s2", 2)]}
    guests = [guest(1, "tap1", "tap1b"), guest(2, "tap2")]
    guests[0]["nics"].append({"mac": "52:54:00:00:00:99", "kind": "bridge", "bridge": "br0", "device": "hot"})
    guests[0]["nics"].append({"mac": MAC % 1, "kind": "unsupported:direct", "bridge": None, "device": "macvtap0"})
    links = {name: {} for name in ("tap1", "tap1b", "tap2", "hot", "macvtap0")}
    caps = _network.wanted_caps(desired, guests, links, Owners(desired["services"]))
    assert caps == {"s1": {"rate_bps": 8000, "devices": ["hot", "tap1", "tap1b"]}}
    assert _network.wanted_caps(desired, [], links, Owners(desired["services"])) == {}


@pytest.mark.parametrize("own, refused", [("192.0.2.9", True), ("2001:db8::9", True), ("192.0.3.1", False), ("2001:db9::1", False)])
def test_the_hosts_own_address_is_never_null_routed(own, refused):
    desired = {"services": [service("s1", 1, null_route={"prefixes": ["192.0.2.0/28", "2001:db8::/64"]})]}
    if refused:
        with pytest.raises(NodeError, match="this host's own address") as caught:
            _network.check_not_own_addresses(desired, {own})
        assert caught.value.code == "holds_host"
    else:
        _network.check_not_own_addresses(desired, {own})


def test_own_addresses_are_read_from_the_kernel(tmp_path):
    (tmp_path / "fib").write_text("Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n"
                                  "     |-- 192.0.2.1\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n")
    (tmp_path / "six").write_text("20010db8000000000000000000000001 02 40 00 80     eth0\n")
    assert _network.local_addresses(tmp_path / "fib", tmp_path / "six") == {
        "192.0.2.1", "2001:0db8:0000:0000:0000:0000:0000:0001"}
    assert _network.local_addresses(tmp_path / "fib", tmp_path / "none") == {"192.0.2.1"}


def seen(caps, found=()):
    """What would be observed with these caps in force."""
    ports = {port: {"slot": "clsact", "led": {d: [name] for d, name in _tc.names(sid).items()}, "foreign": [], "index": 1}
             for sid, cap in caps.items() for port in cap["devices"]}
    return {"shapers": {name: {"rate_bps": cap["rate_bps"]} for sid, cap in caps.items() for name in _tc.names(sid).values()},
            "ports": ports}


def carried_out(observed, steps):
    for step in steps:
        name = step["device"]
        if step["verb"] == "shape":
            observed["shapers"][name] = {"rate_bps": step["rate_bps"]}
        elif step["verb"] == "unshape":
            assert not any(name in names for port in observed["ports"].values() for names in port["led"].values())
            del observed["shapers"][name]
        elif step["verb"] == "lead":
            assert step["after"] in observed["shapers"]
            port = observed["ports"].setdefault(name, {"slot": "clsact", "led": {}, "foreign": [], "index": 1})
            port["led"][step["direction"]] = [step["after"]]
        else:
            del observed["ports"][name]
    return observed


CAPS = st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), st.integers(8, 10**9), max_size=3).map(
    lambda rates: {sid: {"rate_bps": rate, "devices": ["tap-%s" % sid, "tap-%s-b" % sid]} for sid, rate in rates.items()})


@given(CAPS, CAPS, st.data())
def test_from_any_caps_to_any_others_also_when_killed_in_between_and_never_led_nowhere(before, after, data):
    observed = seen(before)
    steps, errors = _tc.plan(after, observed, services=["s1", "s2", "s3"])
    assert not errors and all(step["service"] for step in steps)
    carried_out(observed, steps[:data.draw(st.integers(0, len(steps)))])
    carried_out(observed, _tc.plan(after, observed)[0])
    assert observed == seen(after) and _tc.plan(after, observed) == ([], [])


def test_who_is_refused_keeps_what_caps_it_and_others_are_served():
    caps = {"s1": {"rate_bps": 8000, "devices": ["tap1"]}, "s2": {"rate_bps": 8000, "devices": ["tap2"]}}
    observed = seen(caps)
    observed["ports"]["tap1"]["foreign"] = ["from guest bpf, priority 1"]
    caps["s1"]["rate_bps"] = caps["s2"]["rate_bps"] = 16000
    steps, errors = _tc.plan(caps, observed)
    assert {step["service"] for step in steps} == {"s2"} and [error["service"] for error in errors] == ["s1"]


@given(st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_routes_of_others_are_never_touched(wanted, ours, others):
    def prefixes(numbers):
        return {"192.0.2.%d/32" % number for number in numbers}
    steps, notes = _routes.plan({"s1": sorted(prefixes(wanted))}, {"ours": prefixes(ours), "others": prefixes(others - ours)})
    assert not {step["device"] for step in steps} & prefixes(others - ours)
    assert {s["device"] for s in steps if s["verb"] == "add"} == prefixes(wanted - ours - others)
    assert {s["device"] for s in steps if s["verb"] == "remove"} == prefixes(ours - wanted)
    assert len(notes) == len(wanted & (others - ours))


def test_one_kind_ends_although_another_is_still_to_be_given_back():
    def ending(number, kind):
        return {"id": "E-%d" % number, "service": "s1", "kind": kind, "status": "ending", "snapshot": {"nodes": ["kvm1"]}}
    entry = {"service": "s1", "hold": None, "in_force": False, "released": True, "open": ["cpu_throttle"], "limits": {}}
    both = [ending(1, "cpu_throttle"), ending(2, "port_block"), ending(3, "suspend")]
    assert ended_on_node("kvm1", both, [entry]) == {"s1": ["E-2", "E-3"]}


def test_a_check_classifies_all_nics_and_names_the_gaps():
    gaps = [{"guest": "g%d" % n, "mac": MAC % 1, "gap": "NIC %d is macvtap: controls on it are not in force." % n} for n in range(25)]
    result = {"outcome": "unchanged", "gaps": gaps, "nics": {"bridge": 3, "unsupported:direct": 25}}
    lines = summarise({}, [node_result("kvm1", result)], check=True)["lines"]
    assert "  NICs of guests: 3 bridge, 25 unsupported:direct" in lines
    assert "  gap: guest g7: NIC 7 is macvtap: controls on it are not in force." in lines
    assert lines[-1] == "  gap: 5 more NICs; all are in the node's result" and len(lines) == 23


def test_the_summary_says_of_each_kind_whether_it_was_seen():
    entry = {"service": "s1", "hold": "suspend", "here": True, "in_force": True, "released": False,
             "limits": {"port_block": {"in_force": True}, "bandwidth_cap": {"in_force": False}}}
    lines = summarise({}, [node_result("kvm1", {"outcome": "changed", "services": [entry]})], check=False)["lines"]
    assert lines[-1] == "  s1: bandwidth_cap NOT VERIFIED; port_block in force, verified; suspend in force, verified"
