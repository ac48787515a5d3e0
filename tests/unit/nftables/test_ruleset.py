# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate for names, the elements of a model, and the differences between two models. No kernel."""
from __future__ import annotations

import copy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import _names, _observe
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, NodeError

NAMES = st.from_regex(r"\A[a-z][a-z0-9.]{0,11}\Z")
MACS = st.integers(0, 255).map(lambda n: "52:54:00:00:00:%02x" % n)
SMTP = st.builds(lambda mode, ports: {"mode": mode, "ports": sorted(ports)},
                 st.sampled_from(["off", "observe", "enforce", "exempt"]), st.sets(st.integers(1, 65535), max_size=3))
PREFIXES = st.lists(st.one_of(
    st.ip_addresses().map(str), st.builds(lambda n, bits: "%d.0.0.0/%d" % (n, bits), st.integers(0, 255), st.just(8))), max_size=5)

BLOCKS = st.builds(
    lambda protocol, direction, ports: {"protocol": protocol, "direction": direction, "ports": sorted(ports)},
    st.sampled_from(["tcp", "udp"]), st.sampled_from(["in", "out"]), st.sets(st.integers(1, 65535), min_size=1, max_size=3))


@st.composite
def models(draw):
    """Any model the node could give."""
    names = draw(st.lists(NAMES, unique=True, max_size=8))
    bridges = draw(st.lists(st.sampled_from(["br0", "br1"]), unique=True))
    split = draw(st.integers(0, len(names)))
    ports = [{
        "name": name, "mac": draw(st.none() | MACS), "bridge": draw(st.sampled_from([*bridges, None])),
        "service": draw(st.none() | st.sampled_from(["vps-1", "vps-2"])), "smtp": draw(SMTP),
        "hold": draw(st.sampled_from([None, "dark", "quarantine"])),
        "blocks": draw(st.lists(BLOCKS, max_size=2)),
    } for name in names[split:]]
    return {
        "uplinks": names[:split], "bridges": bridges, "routed_interfaces": draw(st.sampled_from([[], ["vnet*"], ["a", "b*"]])),
        "ports": ports,
        "held_macs": {"dark": draw(st.lists(MACS, max_size=2)), "quarantine": draw(st.lists(MACS, max_size=2))},
        "smtp": {"unknown": draw(SMTP), "smarthosts": draw(PREFIXES)}, "rescue": draw(PREFIXES),
        "null_routes": draw(st.lists(st.builds(
            lambda service, prefixes: {"service": service, "prefixes": prefixes}, st.sampled_from(["s1", "s2"]), PREFIXES), max_size=2)),
    }


def installed(ruleset, count=None):
    """What would be observed after applying a ruleset, and the reference to it."""
    elements = {
        key: {element: (count or (0, 0)) if _nftables.SETS[key[0]][key[1]].counted else None for element in found}
        for key, found in ruleset.elements.items()}
    texts = dict.fromkeys(_nftables.FAMILIES, ruleset.shape)
    counted = {(family, name): (0, 0) for family in _nftables.FAMILIES for name in _nftables.COUNTERS[family]}
    return _nftables.Observed(texts, ruleset.shape, elements, counted, frozenset()), {"key": "k", "shape": ruleset.shape}


NOTHING = _nftables.Observed({}, "", {}, {}, frozenset())


@given(models())
def test_what_is_there_needs_no_change(model):
    ruleset = _nftables.build(model)
    observed, reference = installed(ruleset)
    change = _nftables.plan(ruleset, observed, reference)
    assert (change.kind, change.script) == ("none", "")


@given(models())
def test_order_of_the_model_does_not_matter(model):
    turned = copy.deepcopy(model)
    for key in ("uplinks", "bridges", "ports", "routed_interfaces", "rescue"):
        turned[key].reverse()
    assert _nftables.build(turned) == _nftables.build(model)


STATEMENT = re.compile(r"(add|delete) element (\w+) hosting_aup (\w+) \{ (.*) \}")


@given(models(), models())
def test_element_changes_are_exact_and_minimal(old, new):
    new["smtp"]["unknown"], new["routed_interfaces"] = old["smtp"]["unknown"], old["routed_interfaces"]
    before, after = _nftables.build(old), _nftables.build(new)
    observed, reference = installed(before, (3, 180))
    change = _nftables.plan(after, observed, reference)
    have = {key: set(found) for key, found in before.elements.items()}
    touched = 0
    for line in change.script.splitlines():
        verb, family, name, elements = STATEMENT.fullmatch(line).groups()
        for element in elements.split(","):
            touched += 1
            if verb == "add":
                assert element not in have[family, name]
                have[family, name].add(element)
            else:
                have[family, name].remove(element)
    assert have == after.elements
    assert touched == sum(len(before.elements[key] ^ after.elements[key]) for key in have)
    assert (change.kind == "none") == (touched == 0)
    assert bool(change.summary) == bool(touched)
    lost = sum(len(before.elements[key] - after.elements[key]) for key in have if _nftables.SETS[key[0]][key[1]].counted)
    assert sum(c["packets"] for controls in change.removed_counters.values() for c in controls.values()) == 3 * lost


@given(models(), models())
def test_equal_digests_mean_equal_changes(old, new):
    observed, reference = installed(_nftables.build(old))
    ruleset = _nftables.build(new)
    reference = dict(reference, shape=ruleset.shape)
    first = _nftables.plan(ruleset, observed, reference)
    again = _nftables.plan(_nftables.build(copy.deepcopy(new)), observed, reference)
    assert first.digest == again.digest
    other = copy.deepcopy(new)
    other["rescue"] = ["2001:db8:aaaa::/48"]
    assert _nftables.plan(_nftables.build(other), observed, reference).digest != first.digest


@given(models())
def test_rebuild_carries_counts(model):
    ruleset = _nftables.build(model)
    observed, reference = installed(ruleset, (7, 420))
    change = _nftables.plan(ruleset, observed._replace(shape="something else"), reference)
    counted = sum(len(found) for (family, name), found in ruleset.elements.items() if _nftables.SETS[family][name].counted)
    assert change.kind == "rebuild"
    assert change.script.count("counter packets 7 bytes 420") == counted
    assert change.removed_counters == {}


@given(models())
def test_first_time(model):
    ruleset = _nftables.build(model)
    change = _nftables.plan(ruleset, NOTHING, {"key": "k", "shape": ruleset.shape})
    assert change.kind == "rebuild"
    assert change.script.count("delete table") == 2
    for family in _nftables.FAMILIES:
        assert change.script.index("add table %s hosting_aup\n" % family) < change.script.index(
            "delete table %s hosting_aup\n" % family) < change.script.index("table %s hosting_aup {" % family)


def test_diff_of_many_services_is_bounded():
    model = {"uplinks": ["up0"], "bridges": ["br0"], "routed_interfaces": [], "held_macs": {"dark": [], "quarantine": []},
             "smtp": {"unknown": {"mode": "off", "ports": []}, "smarthosts": []}, "rescue": []}
    model["ports"] = [{"name": "tap%d" % n, "mac": "52:54:00:00:%02x:%02x" % divmod(n, 256), "bridge": "br0", "hold": None,
                       "service": "vps-%d" % n, "smtp": {"mode": "enforce", "ports": [25]}} for n in range(10000)]
    ruleset = _nftables.build(model)
    change = _nftables.plan(ruleset, NOTHING, {"key": "k", "shape": ruleset.shape})
    assert len(repr((change.summary, change.before, change.after))) < 4000
    few = dict(model, ports=model["ports"][:300])
    observed, reference = installed(ruleset)
    change = _nftables.plan(_nftables.build(few), observed, reference)
    assert len(repr((change.summary, change.before, change.after))) < 4000
    model["ports"][3]["smtp"] = {"mode": "exempt", "ports": [25]}
    change = _nftables.plan(_nftables.build(model), observed, reference)
    assert "tap3 (service vps-3): TCP 25 refused -> nothing refused" in change.summary


# -- the gate ---------------------------------------------------------------------------------------

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,14}")
HOSTILE = ["", " ", "tap 1", "tap\n1", 'tap"1', "tap*", "tap\\", "tap1;", "tap{", "tap}", "tap,1", "a" * 16, "$(x)", "`id`", "{{x}}",
           "tap#", "-tap", ".", "..", "../x", "täp", "tap\0", "tap1\n", "@set", "tap'", "tap/1", "tap:1", "tap%d", None, 7, ["a"]]


@pytest.mark.parametrize("name", HOSTILE)
def test_odd_names_are_refused(name):
    assert not _nftables.is_interface_name(name)
    with pytest.raises(InputError) as caught:
        _names.interface(name)
    assert caught.value.remedy and repr(name)[:10] in caught.value.message


@given(st.text(max_size=18))
def test_the_gate_lets_pass_only_what_it_says(name):
    if SAFE.fullmatch(name):
        assert _names.interface(name) == '"%s"' % name
    else:
        with pytest.raises(InputError):
            _names.interface(name)


@pytest.mark.parametrize("pattern", ["*", "", "vn*t", "vnet**", "*vnet", 'v"*', "v *", "a" * 15 + "*", None])
def test_odd_patterns_are_refused(pattern):
    with pytest.raises(InputError):
        _names.interface_pattern(pattern)


@pytest.mark.parametrize("address", ["", "52:54:00:00:00", "52-54-00-00-00-01", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff",
                                     "00:00:00:00:00:00", "52:54:00:00:00:0g", "52:54:00:00:00:01 ", None, 5])
def test_odd_macs_are_refused(address):
    with pytest.raises(InputError):
        _names.mac(address)


@pytest.mark.parametrize("prefix", ["", "192.0.2.1/24", "192.0.2.0/33", "192.0.2", "192.0.2.0/24 }", "::/129", "fe80::1%eth0", "a", None, 5])
def test_odd_prefixes_are_refused(prefix):
    with pytest.raises(InputError):
        _names.prefixes([prefix])


@pytest.mark.parametrize("port", [0, -1, 65536, "25", 25.0, True, None])
def test_odd_ports_are_refused(port):
    with pytest.raises(InputError):
        _names.tcp_port(port)


@given(st.lists(st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str), max_size=20))
def test_prefixes_are_spelled_as_our_own_pattern_says(texts):
    four, six = _names.prefixes(texts)
    assert all(_names.element_pattern("ipv4_addr").fullmatch(text) for text in four)
    assert all(_names.element_pattern("ipv6_addr").fullmatch(text) for text in six)


def test_overlapping_prefixes_are_merged():
    assert _names.prefixes(["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "::1/128"]) == (
        frozenset({"10.0.0.0/24"}), frozenset({"::1"}))


@pytest.fixture
def model():
    """One enforced guest."""
    return {"uplinks": ["up0"], "bridges": ["br0"], "routed_interfaces": [], "held_macs": {"dark": [], "quarantine": []},
            "ports": [{"name": "tap1", "mac": "52:54:00:00:00:01", "bridge": "br0", "service": "vps-1", "hold": None,
                       "smtp": {"mode": "enforce", "ports": [25]}}],
            "smtp": {"unknown": {"mode": "enforce", "ports": [25]}, "smarthosts": []}, "rescue": []}


def test_a_port_twice_is_refused(model):
    model["ports"] *= 2
    with pytest.raises(InputError, match="twice"):
        _nftables.build(model)


@pytest.mark.parametrize(("key", "value"), [("hold", "paused"), ("smtp", {"mode": "block", "ports": [25]})])
def test_unknown_words_are_refused(model, key, value):
    model["ports"][0][key] = value
    with pytest.raises(InputError):
        _nftables.build(model)


def test_strictest_mode_of_a_shared_mac_is_in_force(model):
    for mode in ("exempt", "observe"):
        model["ports"].append(dict(model["ports"][0], name="tap-" + mode, smtp={"mode": mode, "ports": [25]}))
    elements = _nftables.build(model).elements
    assert elements["inet", "bridged_enforce"] == {'"br0" . 52:54:00:00:00:01 . 25'}
    assert not elements["inet", "bridged_observe"]


def test_two_nics_of_one_guest_may_use_each_others_mac(model):
    model["ports"].append(dict(model["ports"][0], name="tap2", mac="52:54:00:00:00:02"))
    model["ports"].append(dict(model["ports"][0], name="tap3", mac="52:54:00:00:00:03", service="vps-2"))
    own = _nftables.build(model).elements["bridge", "own_macs"]
    assert len(own) == 5
    assert '"tap3" . 52:54:00:00:00:01' not in own


def test_counters_of_a_port_are_added_up(model):
    observed, _reference = installed(_nftables.build(model), (2, 120))
    assert _nftables.counters(observed) == {
        "tap1": {"smtp_outbound_refused": {"packets": 2, "bytes": 120}},
        "52:54:00:00:00:01": {"smtp_outbound_refused": {"packets": 2, "bytes": 120}},
    }


def test_nft_missing_is_an_error_with_its_words():
    with pytest.raises(NodeError, match="command not found") as caught:
        _nftables.observe(lambda argv, stdin=None: (127, "", "nft: command not found"))
    assert caught.value.code == "nft"


def test_elements_spelled_otherwise_are_odd():
    spec = _nftables.SETS["bridge"]["smtp_enforce"]
    good = {"elem": {"val": {"concat": ["tap1", 25]}, "counter": {"packets": 1, "bytes": 60}}}
    assert _observe._parse_elements([good], spec) == ({'"tap1" . 25': (1, 60)}, False)
    for bad in (
        {"concat": ["tap1", 25]},
        {"elem": dict(good["elem"], timeout=5)},
        {"elem": {"val": {"concat": ["tap1"]}, "counter": {"packets": 1, "bytes": 60}}},
        {"elem": {"val": {"range": ["a", "b"]}, "counter": {"packets": 1, "bytes": 60}}},
    ):
        found, odd = _observe._parse_elements([bad], spec)
        assert odd and '"tap1" . 25' not in found
