# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""resolve: what one node is to look like, and why."""
from __future__ import annotations

import copy
import ipaddress
from collections import namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._fold import (
    share_of_processors,
    HOLDS,
    KINDS,
    POWER_ORDER,
    fold_hold,
    fold_limits,
    in_force,
)
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve, retired
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack, unpack

Setting = namedtuple("Setting", "mode options clause reason adoption_mode adoption_seconds")
NOW = 1_800_000_000


class FixedPolicy:
    """The part of Policy that resolve asks, with one answer for all controls that do without options of their own."""

    locations, account_types = frozenset({"fra"}), frozenset({"personal"})

    def __init__(self, mode="enforce", adoption=("enforce", 0), name="house"):
        self.name = name
        self._setting = Setting(mode, {"ports": [25]}, "house.1", "the usual rule", *adoption)

    def control(self, name, location, account_type):
        if location == "nowhere":
            raise PolicyError("location 'nowhere' is not in the policy")
        return self.unknown_port(name, location)

    def unknown_port(self, name, location):
        if name in ("irc_server", "reflection", "new_connections"):
            return Setting("off", {}, None, "says nothing of it", "observe", None)
        return self._setting

    def networks(self, name):
        return {"smarthosts": ["192.0.2.25/32"]}[name]

    def rescue_prefixes(self):
        return ["198.51.100.0/28"]


def service(sid, nodes=("kvm1",), **more):
    number = abs(hash(sid)) % 250
    return dict({
        "id": sid, "customer": "c1", "account_type": "personal", "location": "fra", "nodes": list(nodes), "pool": None,
        "guest": {"name": sid, "uuid": None}, "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None,
    }, **more)


def enforcement(number, sid, kind="suspend", ends_at=NOW + 3600, status="active", starts_at=NOW - 10, **options):
    known = service(sid)
    return {
        "id": "E-%d" % number, "service": sid, "kind": kind, "case_id": "C-%d" % number, "clause": "house.2", "violation": "v",
        "reason": "", "starts_at": starts_at, "ends_at": ends_at, "until": "time", "review_at": None, "status": status,
        "options": dict({"power": "pause", "rate": "10 Mbit/s", "share": "20%", "iops": 500, "ports": [25, 80],
                         "sources": ["198.51.100.0/24", "2001:db8:bad::7/128"]}, **options), "actor": "a",
        "snapshot": {"guest": known["guest"], "nics": known["nics"], "nodes": known["nodes"], "policy": "house@1",
                     "location": "fra", "account_type": "personal"},
    }


def snapshot(services=(), **more):
    return dict({
        "ledger": "L", "epoch": 1, "revision": 7, "node": {"name": "kvm1", "release_id": 1, "adopted_at": None},
        "release": {"id": 1, "created_at": 0, "policy_keys": ["house@1"], "default_policy": "house@1",
                    "catalogue_digest": "d"},
        "policies": {}, "catalogue": {"prefixes": ["192.0.2.0/24"], "nodes": {}, "services": {s["id"]: s for s in services}},
        "enforcements": [], "exemptions": [], "baselines": [], "adoptions": {},
    }, **more)


NODE = {"name": "kvm1", "location": "fra", "uplinks": ["eth1"], "bridges": ["br0"], "routed_interfaces": []}


def run(snap, policy=None, node=NODE, now=NOW):
    return resolve({"house@1": policy or FixedPolicy()}, snap, node, now)


def entry(resolution, sid):
    return next(s for s in resolution.desired["services"] if s["id"] == sid)


def test_policy_binds_each_service_of_the_node_and_no_other():
    resolution = run(snapshot([service("a"), service("b", nodes=["kvm2"]), service("c", nodes=["kvm1", "kvm2"])]))
    assert [s["id"] for s in resolution.desired["services"]] == ["a", "c"]
    assert entry(resolution, "a")["smtp"] == {"mode": "enforce", "ports": [25]}
    assert entry(resolution, "a")["elsewhere"] is False and entry(resolution, "c")["elsewhere"] is True
    assert resolution.reasons["a"]["smtp_outbound"] == {"mode": "enforce", "clause": "house.1", "reason": "the usual rule"}


def test_exemption_opens_one_service_and_says_until_when():
    exemption = {"id": 3, "service": "a", "control": "smtp_outbound", "reason": "r", "clause": None,
                 "starts_at": 0, "ends_at": NOW + 60}
    resolution = run(snapshot([service("a"), service("b")], exemptions=[exemption]))
    assert entry(resolution, "a")["smtp"]["mode"] == "exempt"
    assert entry(resolution, "b")["smtp"]["mode"] == "enforce"
    assert "exemption 3 until 20" in resolution.reasons["a"]["smtp_outbound"]["reason"]


ADDRESSED = [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.5", "2001:db8::5"], "prefixes": ["2001:db8:5::/56"],
              "floating": ["192.0.2.77"], "shared": [{"address": "192.0.2.9", "protocol": "tcp", "ports": "1000-1999"}]}]


def test_a_service_speaks_for_all_its_addresses():
    desired = run(snapshot([service("a", nics=ADDRESSED)])).desired
    assert desired["services"][0]["controls"]["anti_spoofing"] == {"mode": "enforce", "sources": [
        "192.0.2.5", "192.0.2.77", "192.0.2.9", "2001:db8:5::/56", "2001:db8::5"]}
    assert desired["controls"]["anti_spoofing"]["lengths"] == {"4": [], "6": [56]}
    assert "anti_spoofing" not in desired["unknown_controls"]["new"], "never for guests nobody knows"


def test_a_service_without_addresses_is_observed_and_told_why():
    resolution = run(snapshot([service("a")]))
    assert entry(resolution, "a")["controls"]["anti_spoofing"]["mode"] == "observe"
    assert "no address" in resolution.reasons["a"]["anti_spoofing"]["reason"]


def test_each_control_has_its_own_exemption():
    exemption = {"id": 3, "service": "a", "control": "anti_spoofing", "reason": "r", "clause": None,
                 "starts_at": 0, "ends_at": NOW + 60}
    resolution = run(snapshot([service("a", nics=ADDRESSED)], exemptions=[exemption]))
    assert entry(resolution, "a")["smtp"]["mode"] == "enforce" and entry(resolution, "a")["controls"].get("anti_spoofing") is None
    assert resolution.reasons["a"]["anti_spoofing"]["mode"] == "exempt"
    (later,) = entry(resolution, "a")["then"]
    assert later["at"] == NOW + 60 and later["controls"]["anti_spoofing"]["mode"] == "enforce"
    assert "anti_spoofing" in resolution.desired["controls"], "the node is told before the exemption ends"


def test_what_nobody_is_under_does_not_travel():
    desired = run(snapshot([service("a", nics=ADDRESSED)]), FixedPolicy("off")).desired
    assert desired["controls"] == {} and desired["services"][0]["controls"] == {}


def test_an_exemption_of_another_control_opens_nothing():
    exemption = {"id": 3, "service": "a", "control": "mining", "reason": "r", "clause": None, "starts_at": 0, "ends_at": None}
    assert entry(run(snapshot([service("a")], exemptions=[exemption])), "a")["smtp"]["mode"] == "enforce"


@pytest.mark.parametrize(("adopted_at", "mode"), [
    (None, "enforce"), (NOW - 10, "observe"), (NOW - 86400, "enforce"), (NOW - 86399, "observe"),
])
def test_what_was_here_at_adoption_is_only_observed_for_its_time(adopted_at, mode):
    policy = FixedPolicy(adoption=("observe", 86400))
    snap = snapshot([service("a")], adoptions={"a": adopted_at} if adopted_at else {})
    assert entry(run(snap, policy), "a")["smtp"]["mode"] == mode


def test_unknown_guests_that_were_here_at_adoption_are_only_observed_and_new_ones_are_not():
    policy = FixedPolicy(adoption=("observe", 86400))
    snap = snapshot([], node={"name": "kvm1", "release_id": 1, "adopted_at": NOW})
    assert run(snap, policy).desired["smtp"]["unknown_adopted"] == {"mode": "observe", "ports": [25]}
    assert run(snap, policy).desired["smtp"]["unknown"] == {"mode": "enforce", "ports": [25]}
    assert run(snap, policy, now=NOW + 86400).desired["smtp"]["unknown_adopted"]["mode"] == "enforce"


def test_an_enforcement_ends_at_its_time_and_not_before():
    held = enforcement(1, "a", ends_at=NOW + 1)
    assert entry(run(snapshot([service("a")], enforcements=[held])), "a")["hold"]["until_at"] == NOW + 1
    assert entry(run(snapshot([service("a")], enforcements=[held]), now=NOW + 1), "a")["hold"] is None


def test_a_service_that_left_the_catalogue_stays_held_as_the_ledger_knew_it():
    resolution = run(snapshot([], enforcements=[enforcement(1, "gone")]))
    held = entry(resolution, "gone")
    assert held["hold"]["kind"] == "suspend" and held["guest"]["name"] == "gone"
    assert held["smtp"]["mode"] == "enforce"
    assert "no longer in the catalogue" in resolution.reasons["gone"]["smtp_outbound"]["reason"]


def test_a_baseline_left_over_brings_its_service_back_into_view():
    baseline = {"service": "gone", "node": "kvm1", "digest": "x", "captured_at": 0,
                "fields": {"guest": {"name": "gone", "uuid": "u"}, "links": {"52:54:00:00:00:01": {}}}}
    left = entry(run(snapshot([], baselines=[baseline])), "gone")
    assert left["hold"] is None and left["baseline"]["digest"] == "x"
    assert left["nics"] == [{"mac": "52:54:00:00:00:01", "addresses": []}]


def test_an_unknown_location_is_an_error_and_never_a_default():
    with pytest.raises(PolicyError):
        run(snapshot([service("a", location="nowhere")]))
    with pytest.raises(CatalogueError, match="kvm1 has no location"):
        run(snapshot(), node=dict(NODE, location=None))


def test_a_service_may_name_its_own_policy_but_only_a_released_one():
    with pytest.raises(PolicyError, match="is not in release 1"):
        run(snapshot([service("a", policy="other")]))
    assert entry(run(snapshot([service("a", policy="house")])), "a")["smtp"]["mode"] == "enforce"


def test_retired_has_nothing_left_but_what_must_be_given_back():
    baseline = {"service": "a", "node": "kvm1", "digest": "x", "captured_at": 0,
                "fields": {"guest": {"name": "a", "uuid": "u"}, "links": {"52:54:00:00:00:01": {}}}}
    desired = retired(snapshot([service("a"), service("b")], baselines=[baseline]), NODE)
    assert desired["present"] is False
    assert [(s["id"], s["hold"], s["baseline"]["digest"]) for s in desired["services"]] == [("a", None, "x")]


enforcements = st.lists(st.builds(
    enforcement, number=st.integers(1, 10**6), sid=st.sampled_from("abc"), kind=st.sampled_from(KINDS),
    ends_at=st.none() | st.integers(NOW - 100, NOW + 100), status=st.sampled_from(["opened", "active", "ending"]),
    starts_at=st.integers(NOW - 200, NOW + 50), power=st.sampled_from(POWER_ORDER),
), max_size=8, unique_by=lambda e: e["id"])


@given(enforcements, st.randoms())
def test_fold_does_not_depend_on_order_and_is_never_weaker_than_any_part(active, random):
    shuffled = copy.deepcopy(active)
    random.shuffle(shuffled)
    assert (fold_hold(active), fold_limits(active)) == (fold_hold(shuffled), fold_limits(shuffled))
    whole, limits = fold_hold(active), fold_limits(active)
    for part in active:
        if part["kind"] in HOLDS:
            assert HOLDS.index(whole["kind"]) >= HOLDS.index(part["kind"])
            assert part["id"] in whole["enforcement_ids"]
            same = whole if whole["kind"] == part["kind"] else None
        else:
            same = limits[part["kind"]]
            assert part["id"] in same["enforcement_ids"]
        if same and same["until_at"] is not None:
            assert part["ends_at"] is not None and part["ends_at"] <= same["until_at"]


@given(st.lists(st.builds(enforcement, number=st.integers(1, 10**6), sid=st.just("a"), kind=st.sampled_from(
    ["bandwidth_cap", "cpu_throttle", "io_throttle", "port_block", "smtp_block"]),
    rate=st.sampled_from(["10 Mbit/s", "1Gbit/s", "512 kbit/s"]), share=st.sampled_from(["20%", "100%", "1%", "0.5 cores", "2cores"]),
    iops=st.none() | st.integers(1, 1000), ports=st.lists(st.integers(1, 9), min_size=1)), min_size=1))
def test_limits_are_the_tightest_any_case_asks_for(active):
    limits = fold_limits(active)
    asked = {"10 Mbit/s": 10_000_000, "1Gbit/s": 1_000_000_000, "512 kbit/s": 512_000}
    for part in active:
        terms, options = limits[part["kind"]], part["options"]
        if part["kind"] == "bandwidth_cap":
            assert terms["rate_bps"] <= asked[options["rate"]]
        elif part["kind"] == "cpu_throttle":
            unit, number = share_of_processors(options["share"])
            assert terms[unit] <= number and ("millicores" in terms) == any(
                "cores" in one["options"]["share"] for one in active if one["kind"] == "cpu_throttle")
        elif part["kind"] == "io_throttle" and options["iops"]:
            assert terms["iops"] <= options["iops"]
        elif part["kind"] == "port_block":
            assert set(options["ports"]) <= set(terms["blocks"][0]["ports"])
        elif part["kind"] == "smtp_block":
            assert set(options["ports"]) <= set(terms["ports"])


def test_only_drops_and_throttles_in_cores_now_or_later_need_the_format_an_older_keeper_leaves_alone():
    def made(*active):
        return run(snapshot([service("a")], enforcements=list(active))).desired["format"]

    cores = {"kind": "cpu_throttle", "share": "0.5 cores"}
    assert made() == made(enforcement(1, "a", "cpu_throttle")) == made(enforcement(1, "a", ends_at=NOW - 1, **cores)) == 1
    assert made(enforcement(1, "a", **cores)) == 2
    assert made(enforcement(1, "a", "drop", sources=["203.0.113.9"])) == 2
    assert made(enforcement(1, "a", "suspend"), enforcement(2, "a", status="opened", starts_at=NOW + 60, **cores)) == 2


def test_an_smtp_block_closes_what_policy_or_exemption_left_open():
    exemption = {"id": "X-1", "service": "a", "control": "smtp_outbound", "reason": "r", "clause": None, "starts_at": 0, "ends_at": None}
    for policy in (FixedPolicy("off"), FixedPolicy("observe"), FixedPolicy()):
        snap = snapshot([service("a")], exemptions=[exemption], enforcements=[enforcement(1, "a", kind="smtp_block", ports=[25, 587])])
        resolution = run(snap, policy)
        assert entry(resolution, "a")["smtp"] == {"mode": "enforce", "ports": [25, 587]}
        assert "closed by enforcement E-1 until 20" in resolution.reasons["a"]["smtp_outbound"]["reason"]


REMOTES = ["198.51.100.0/24", "198.51.100.7/32", "198.51.100.128/25", "198.51.101.0/24", "2001:db8:bad::/48", "2001:db8:bad:1::7/128"]


@given(st.lists(st.builds(enforcement, number=st.integers(1, 10**6), sid=st.just("a"), kind=st.just("drop"),
                          direction=st.sampled_from(["in", "out", "both"]), sources=st.lists(st.sampled_from(REMOTES), min_size=1)), min_size=1))
def test_a_drop_covers_what_any_case_asks_for_and_nothing_else(active):
    terms = fold_limits(active)["drop"]
    for way in ("in", "out"):
        found = [ipaddress.ip_network(text) for text in terms[way]]
        asked = [ipaddress.ip_network(text) for part in active for text in part["options"]["sources"]
                 if part["options"]["direction"] in (way, "both")]
        assert set(found) <= set(asked)
        assert all(sum(one.version == other.version and one.subnet_of(other) for other in found) == 1 for one in asked)
        assert not any(one != other and one.version == other.version and one.overlaps(other) for one in found for other in found)


@given(enforcements, st.integers(NOW - 300, NOW + 300))
@settings(max_examples=200)
def test_a_service_is_held_exactly_while_something_in_force_holds_it(active, now):
    resolution = run(snapshot([service(s) for s in "abc"], enforcements=active), now=now)
    for sid in "abc":
        binding = [e for e in active if e["service"] == sid and in_force(e, now)]
        holding = [e for e in binding if e["kind"] in HOLDS]
        found = entry(resolution, sid)
        assert (found["hold"] is not None) == bool(holding)
        if holding:
            assert found["hold"]["enforcement_ids"] == sorted(e["id"] for e in holding)
            assert found["hold"]["kind"] in resolution.reasons[sid]
        assert set(found["limits"]) == {e["kind"] for e in binding} - set(HOLDS)
        assert set(found["limits"]) <= set(resolution.reasons[sid])


@given(enforcements)
def test_ending_one_leaves_the_others(active):
    snap = snapshot([service(s) for s in "abc"], enforcements=active)
    for index, ended in enumerate(active):
        without = active[:index] + active[index + 1:]
        lifted = [dict(e, status="ending") if e is ended else e for e in active]
        one = run(dict(snap, enforcements=lifted)).desired
        other = run(dict(snap, enforcements=without)).desired
        assert canonical(one) == canonical(other)


@given(enforcements)
def test_the_desired_state_survives_the_wire(active):
    desired = run(snapshot([service(s) for s in "abc"], enforcements=active)).desired
    assert unpack(pack(desired)) == desired


def test_smarthosts_of_all_policies_are_one_list_without_overlaps():
    wide, narrow = FixedPolicy(), FixedPolicy()
    wide.networks = lambda name: ["192.0.2.0/24", "2001:db8::/64"]
    narrow.name = "other"
    narrow.networks = lambda name: ["192.0.2.25/32", "2001:db8::25/128"]
    resolution = resolve({"house@1": wide, "other@1": narrow}, snapshot(), NODE, NOW)
    assert resolution.desired["smtp"]["smarthosts"] == ["192.0.2.0/24", "2001:db8::/64"]


def pool_data(*endpoints, at=NOW - 86400 * 2, observe=86400):
    return {"pools": {"at": at, "stale_at": at + 86400 * 7, "document": {
        "format": 1, "observe_seconds": observe, "ports": {"nodes": {"tcp": [8333]}, "farming": {"tcp": [8444]}},
        "endpoints": [{"address": address, "port": port, "activity": "mining", "hosts": ["h"], "first_seen": first, "last_seen": at}
                      for address, port, first in endpoints]}}}


def by_location():
    from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

    return load_policy("location")


def test_mining_follows_the_location_and_plotting_alone_needs_no_block():
    policy = by_location()
    snap = snapshot([service("fin", location="finland"), service("mos", location="moscow")],
                    inputs=pool_data(("45.9.1.1", 3333, NOW - 86400 * 2)))
    resolution = run(snap, policy, dict(NODE, location="finland"))
    assert entry(resolution, "fin")["controls"]["mining"] == {
        "mode": "enforce", "activities": ["farming", "mining", "nodes"]}
    assert "mining" not in entry(resolution, "mos")["controls"]
    assert resolution.desired["controls"]["mining"]["pools"] == [["45.9.1.1", 3333]]

    setting = Setting("enforce", {"activities": ["plotting"]}, "house.9", "rule", "enforce", 0)

    class Plotting(FixedPolicy):
        def control(self, name, location, account_type):
            return setting if name == "mining" else super().control(name, location, account_type)

        def unknown_port(self, name, location):
            return setting if name == "mining" else super().unknown_port(name, location)

    alone = run(snapshot([service("a")], inputs=pool_data()), Plotting())
    assert "mining" not in entry(alone, "a")["controls"] and "mining" not in alone.desired["controls"]
    assert alone.reasons["a"]["mining"]["mode"] == "off" and "io_throttle" in alone.reasons["a"]["mining"]["reason"]


def test_a_new_address_of_a_pool_is_observed_before_it_is_enforced():
    snap = snapshot([service("fin", location="finland")], inputs=pool_data(("45.9.1.1", 3333, NOW - 86400), ("45.9.1.2", None, NOW - 86399)))
    for now, enforced, observed in ((NOW, [["45.9.1.1", 3333]], [["45.9.1.2", None]]),
                                    (NOW + 1, [["45.9.1.1", 3333], ["45.9.1.2", None]], [])):
        found = run(snap, by_location(), dict(NODE, location="finland"), now).desired["controls"]["mining"]
        assert (found["pools"], found["new_pools"]) == (enforced, observed)


def test_without_data_mining_blocks_nothing():
    found = run(snapshot([service("fin", location="finland")]), by_location(), dict(NODE, location="finland"))
    assert found.desired["controls"]["mining"] == {"at": None, "pools": [], "new_pools": [], "ports": {}}
