# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No protected, foreign or shared address gets past the guard, in either family."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import GuardError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._guard import (
    check_count,
    check_duration,
    check_enforcement,
    check_not_anothers,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_cases import DOCUMENT, changed

HOUSE = Policy.from_document(DOCUMENT)
PROVIDER = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]


def service(addresses=(), prefixes=(), shared=(), floating=()):
    return {
        "id": "vps-1",
        "nics": [
            {
                "mac": "52:54:00:00:00:01",
                "addresses": list(addresses),
                "prefixes": list(prefixes),
                "shared": [
                    {"address": address, "protocol": "tcp", "ports": [[1000, 1009]]} for address in shared
                ],
                "floating": list(floating),
            }
        ],
    }


def refusal(*args, **kwargs):
    with pytest.raises(GuardError) as caught:
        check_enforcement(*args, **kwargs)
    assert caught.value.remedy
    return caught.value


def networks(version):
    bits = 32 if version == 4 else 128
    cls = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    # Near the provider's prefixes half of the time, or chance would never meet them.
    bases = [
        int(ipaddress.ip_network(text).network_address)
        for text in PROVIDER
        if (":" in text) == (version == 6)
    ]
    near = st.builds(lambda base, low: base + low, st.sampled_from(bases), st.integers(0, 1023))
    return st.builds(
        lambda number, length: cls((number >> (bits - length) << (bits - length), length)),
        near | st.integers(0, 2**bits - 1),
        st.integers(0, bits),
    )


# A policy writes an IPv4 address as one: what is mapped into IPv6 can't be protected, it is refused when read.
any_network = (networks(4) | networks(6)).filter(
    lambda network: network.version == 4 or network.prefixlen < 96 or network.network_address.ipv4_mapped is None
)
everything = st.sampled_from([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])


@settings(deadline=None)
@given(
    st.lists(any_network | everything, max_size=3),
    st.lists(any_network | everything, max_size=3),
    st.lists(any_network, max_size=2),
    st.sampled_from(["suspend", "quarantine", "null_route"]),
)
def test_whatever_is_let_through_is_the_providers_own_and_not_protected(own, protected, nodes, kind):
    document = changed(("guardrails", "protected"), [str(network) for network in protected])
    document["networks"] = {}
    policy = Policy.from_document(document)
    try:
        acted_on = check_enforcement(
            policy, service(prefixes=map(str, own)), PROVIDER, kind, [str(network) for network in nodes]
        )
    except GuardError:
        return
    assert set(acted_on) == {str(network) for network in own}
    forbidden = [*protected, *nodes]
    for text in acted_on:
        network = ipaddress.ip_network(text)
        assert any(
            network.version == ipaddress.ip_network(prefix).version
            and network.subnet_of(ipaddress.ip_network(prefix))
            for prefix in PROVIDER
        )
        assert not any(network.version == other.version and network.overlaps(other) for other in forbidden)


@settings(deadline=None)
@given(st.sampled_from(["192.0.2.77", "192.0.2.64/26", "2001:db8:7::/48", "2001:db8:9::1"]), st.data())
def test_a_service_of_the_providers_that_touches_nothing_protected_is_let_through(own, data):
    elsewhere = data.draw(
        st.lists(
            st.sampled_from(["203.0.113.0/24", "192.0.2.1", "192.0.2.0/26", "2001:db8::/64", "fd00::/8"]),
            max_size=3,
        )
    )
    policy = Policy.from_document(changed(("guardrails", "protected"), elsewhere))
    assert check_enforcement(
        policy, service([own] if "/" not in own else [], [own] if "/" in own else []), PROVIDER, "suspend"
    ) == [str(ipaddress.ip_network(own))]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "192.0.0.0/16",
        "2001:d00::/24",
        "8.8.8.8",
        "fe80::1",
        "::ffff:192.0.2.7",
    ],
)
@pytest.mark.parametrize("key", ["addresses", "prefixes", "floating"])
def test_a_foreign_address_is_refused_wherever_the_service_lists_it(address, key):
    error = refusal(HOUSE, service(**{key: [address]}), PROVIDER, "suspend")
    assert error.code == "guard_foreign_address"
    assert "outside the provider's prefixes" in str(error)
    assert "vps-1" in str(error)


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        ({"addresses": ["192.0.2.1"]}, "guardrails.protected"),
        ({"prefixes": ["192.0.2.0/28"]}, "guardrails.protected"),
        ({"prefixes": ["2001:db8::/64"]}, "guardrails.protected"),
        ({"floating": ["2001:db8::1"]}, "guardrails.protected"),
        ({"addresses": ["192.0.2.25"]}, "networks.smarthosts"),
        ({"prefixes": ["198.51.100.0/24"]}, "networks.rescue"),
        ({"addresses": ["192.0.2.9"]}, "the addresses of the nodes"),
        ({"prefixes": ["2001:db8:9::/64"]}, "the addresses of the nodes"),
    ],
)
def test_a_protected_address_is_refused_and_the_rule_named(own, rule):
    error = refusal(HOUSE, service(**own), PROVIDER, "suspend", ["192.0.2.9", "2001:db8:9::9"])
    assert error.code == "guard_protected_address"
    assert rule in str(error)


def test_adjacent_prefixes_of_the_provider_count_as_one():
    halves = ["192.0.2.0/25", "192.0.2.128/25"]
    policy = Policy.from_document(changed(("guardrails", "protected"), []))
    policy.document["networks"]["smarthosts"] = []
    assert check_enforcement(policy, service(prefixes=["192.0.2.0/24"]), halves, "suspend") == [
        "192.0.2.0/24"
    ]


@pytest.mark.parametrize("prefixes", [[], ["0.0.0.0/0"], ["192.0.2.0/24", "::/0"], ["nonsense"], [1]])
def test_a_list_of_provider_prefixes_that_tells_nothing_is_refused(prefixes):
    assert refusal(HOUSE, service(["192.0.2.7"]), prefixes, "suspend").code in (
        "guard_no_prefixes",
        "guard_bad_prefix",
    )


@pytest.mark.parametrize(
    "address", ["", "192.0.2", "192.0.2.7; reboot", "{{ x }}", None, 3221225985, "192.0.2.7/24"]
)
def test_what_is_no_address_is_refused(address):
    assert refusal(HOUSE, service([address]), PROVIDER, "suspend").code == "guard_bad_address"


def test_a_shared_address_is_left_out_for_the_guest_and_refused_as_a_target():
    nat = service(["192.0.2.7"], shared=["192.0.2.1"])
    assert check_enforcement(HOUSE, nat, PROVIDER, "suspend") == ["192.0.2.7/32"]
    assert refusal(HOUSE, nat, PROVIDER, "suspend", targets=["192.0.2.1"]).code == "guard_shared_address"
    only_shared = service(shared=["192.0.2.30"])
    assert check_enforcement(HOUSE, only_shared, PROVIDER, "suspend") == []
    assert refusal(HOUSE, only_shared, PROVIDER, "null_route").code == "guard_no_address"
    within = service(prefixes=["192.0.2.64/28"], shared=["192.0.2.65"])
    assert refusal(HOUSE, within, PROVIDER, "null_route").code == "guard_shared_address"


@pytest.mark.parametrize("target", ["192.0.2.0/24", "192.0.2.8", "2001:db8::/32", "0.0.0.0/0", "::/0"])
def test_a_target_beyond_the_services_own_is_refused(target):
    error = refusal(
        HOUSE, service(["192.0.2.7"], ["2001:db8:7::/48"]), PROVIDER, "null_route", targets=[target]
    )
    assert error.code == "guard_wider_than_assigned"


def test_a_narrower_target_is_taken():
    assert check_enforcement(
        HOUSE, service(prefixes=["2001:db8:7::/48"]), PROVIDER, "null_route", targets=["2001:db8:7::1"]
    ) == ["2001:db8:7::1/128"]


def test_an_unknown_enforcement_is_refused():
    with pytest.raises(PolicyError, match="enforcement 'ban'"):
        check_enforcement(HOUSE, service(["192.0.2.7"]), PROVIDER, "ban")


def test_the_cap_needs_a_reason_and_never_hinders_lifting():
    assert check_count(HOUSE, 2) is None
    assert check_count(HOUSE, 2, break_glass="not needed") is None
    for reason in (None, "", "  \n", True):
        with pytest.raises(GuardError) as caught:
            check_count(HOUSE, 3, break_glass=reason)
        assert "at most 2" in str(caught.value)
        assert "break_glass" in caught.value.remedy
    assert check_count(HOUSE, 3, break_glass=" worm outbreak ") == "worm outbreak"
    assert check_count(HOUSE, 10000, lifting=True) is None
    with pytest.raises(GuardError, match="terminate for 3 services"):
        check_count(HOUSE, 3, break_glass="worm outbreak", kind="terminate")


def test_a_duration_is_held_to_the_tightest_limit():
    check_duration(HOUSE, "suspend", None)
    check_duration(HOUSE, "suspend", 10 * 86400)
    check_duration(HOUSE, "quarantine", 30 * 86400)
    with pytest.raises(
        GuardError, match=r"at most 240h \(policy house@3, enforcements.suspend.max_duration\)"
    ):
        check_duration(HOUSE, "suspend", 10 * 86400 + 60)
    with pytest.raises(GuardError, match=r"guardrails.max_duration"):
        check_duration(HOUSE, "quarantine", 30 * 86400 + 60)
    for seconds in (0, -3600, True, "48h", 1.5):
        with pytest.raises(GuardError):
            check_duration(HOUSE, "suspend", seconds)


def test_a_node_known_by_name_does_not_hinder():
    nodes = ["kvm1.example.net", "192.0.2.9"]
    assert check_enforcement(HOUSE, service(["192.0.2.7"]), PROVIDER, "suspend", nodes) == ["192.0.2.7/32"]
    assert (
        refusal(HOUSE, service(["192.0.2.9"]), PROVIDER, "suspend", nodes).code == "guard_protected_address"
    )


def of(name, *prefixes):
    return dict(service(prefixes=[str(prefix) for prefix in prefixes]), id=name)


@settings(deadline=None)
@given(any_network, st.lists(any_network, max_size=4))
def test_no_null_route_of_what_another_customer_has(own, others):
    """Another's address, one inside another's prefix, a prefix over several customers: in either family."""
    services = {"vps-1": of("vps-1", own), **{"vps-%d" % n: of("vps-%d" % n, other) for n, other in enumerate(others, 2)}}
    hit = any(other.version == own.version and other.overlaps(own) for other in others)
    if not hit:
        check_not_anothers(services["vps-1"], "null_route", services)
        return
    with pytest.raises(GuardError) as caught:
        check_not_anothers(services["vps-1"], "null_route", services)
    assert caught.value.code == "guard_anothers_address" and caught.value.remedy and "vps-" in caught.value.message
    check_not_anothers(services["vps-1"], "suspend", services)


SINGLED_OUT = {"gateway": "192.0.2.1", "gateway 6": "2001:db8::1", "controller": "192.0.2.200", "controller 6": "2001:db8:c::1",
               "router loopback": "198.51.100.255", "router loopback 6": "2001:db8:f::1", "everything": "0.0.0.0/0", "everything 6": "::/0",
               "the provider's own": "192.0.2.0/24", "the provider's own 6": "2001:db8::/32"}


@pytest.mark.parametrize("what", sorted(SINGLED_OUT))
@pytest.mark.parametrize("kind", ["suspend", "quarantine", "null_route", "bandwidth_cap", "port_block", "terminate"])
def test_no_kind_reaches_what_must_stay_up_and_the_refusal_says_what_to_do(what, kind):
    nodes = ["192.0.2.200", "2001:db8:c::1", "198.51.100.255", "2001:db8:f::1"]
    error = refusal(HOUSE, service(prefixes=[SINGLED_OUT[what]]), PROVIDER, kind, nodes)
    assert error.code in ("guard_protected_address", "guard_foreign_address") and error.remedy and error.target == "vps-1"


@given(st.integers(0, 10**6), st.sampled_from(["suspend", "null_route", "terminate", None]), st.sampled_from([None, "", " ", "a worm"]))
def test_caps_never_hinder_lifting_and_glass_is_only_for_what_can_be_undone(number, kind, reason):
    assert check_count(HOUSE, number, reason, lifting=True, kind=kind) is None
    cap = HOUSE.guardrails.max_services_per_run
    if number <= cap:
        assert check_count(HOUSE, number, reason, kind=kind) is None
    elif kind != "terminate" and reason == "a worm":
        assert check_count(HOUSE, number, reason, kind=kind) == reason
    else:
        with pytest.raises(GuardError) as caught:
            check_count(HOUSE, number, reason, kind=kind)
        assert "max_services_per_run" in caught.value.message and caught.value.remedy
