# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools refused, observed and untouched, per port, with real packets of both families."""
from __future__ import annotations

import pytest
from filter_lab import MACS, V4, V6, base_model
from frames import TCP, ethernet, ipv4, ipv6, options_header, tcp_syn

from ansible_collections.hosting.aup.plugins.module_utils import _ports
from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError


def under(mode="enforce", activities=("mining",)):
    return {"mining": {"mode": mode, "activities": list(activities)}}


def pools(*endpoints, new=(), ports=None):
    return {"mining": {"at": 1, "pools": [list(one) for one in endpoints], "new_pools": [list(one) for one in new],
                       "ports": ports or {}}}


def at(name, port):
    return [(V4[name], port), (V6[name], port)]


@pytest.mark.parametrize("guest, tap", [("a", "tapA"), ("r", "vnetR")])
def test_by_address_and_port_and_by_address_alone(lab, guest, tap):
    lab.port(tap)["controls"] = under()
    lab.model["controls"] = pools(*at("far", 80), *at("net", None))
    lab.apply()
    assert lab.tcp(guest, "far", 80) == "silent" and lab.opens(guest, "far", 587)
    assert lab.tcp(guest, "net", 80) == lab.tcp(guest, "net", 587) == "silent"
    # Everybody else, and the other direction, are as they were.
    assert lab.opens("b", "far", 80) and lab.opens("c", "net", 587) and lab.opens("u", "far", 80)
    assert lab.opens("far", guest, 587)
    counted = lab.counters()
    assert counted[tap]["mining_refused"]["packets"] >= 6 and "mining_observed" not in counted[tap]
    samples = lab.observe().samples
    assert any(V4["far"] in element and "80" in element for (_family, name), found in samples.items() if name == "mining_seen4"
               for element in found)
    # Exempt: the port leaves the control, and what it counted is handed over.
    del lab.port(tap)["controls"]
    change = lab.apply()
    assert lab.opens(guest, "far", 80)
    assert change.removed_counters[tap]["mining_refused"]["packets"] >= 6


def test_observe_counts_and_lets_pass_and_so_does_what_is_new(lab):
    lab.port("tapA")["controls"] = under("observe")
    lab.port("tapB")["controls"] = under("enforce")
    lab.model["controls"] = pools(*at("far", 80), new=at("far", 587))
    lab.apply()
    assert lab.opens("a", "far", 80) and lab.tcp("b", "far", 80) == "silent"
    assert lab.opens("b", "far", 587)
    counted = lab.counters()
    assert counted["tapA"]["mining_observed"]["packets"] and "mining_refused" not in counted["tapA"]
    assert counted["tapB"]["mining_observed"]["packets"] and counted["tapB"]["mining_refused"]["packets"]
    # The time of observation is over: elements move, nothing else changes.
    lab.model["controls"] = pools(*at("far", 80), *at("far", 587))
    assert lab.apply().kind == "elements"
    assert lab.tcp("b", "far", 587) == "silent" and lab.opens("a", "far", 587)


def test_each_activity_by_itself(lab):
    lab.port("tapA")["controls"] = under(activities=["nodes"])
    lab.port("tapB")["controls"] = under(activities=["farming"])
    lab.port("tapC")["controls"] = under(activities=["mining"])
    lab.model["controls"] = pools(*at("far", 25), ports={"nodes": {"tcp": [80]}, "farming": {"tcp": [587]}})
    lab.apply()
    assert [lab.tcp(g, "far", 80) for g in "abc"] == ["silent", "open", "open"]
    assert [lab.tcp(g, "far", 587) for g in "abc"] == ["open", "silent", "open"]
    assert lab.tcp("c", "far", 25) == "silent"
    # A server behind such a port answers its clients all the same.
    assert lab.opens("far", "a", 80)


def test_neither_a_vlan_tag_nor_extension_headers_hide_a_pool(lab):
    marker = b"aup-mining-marker"
    lab.port("tapA")["controls"] = under()

    def shapes(port):
        plain = ipv6(V6["a"], V6["net"], tcp_syn(port, marker))
        extended = ipv6(V6["a"], V6["net"], options_header(TCP) + tcp_syn(port, marker), following=60)
        return [ethernet(MACS["net"], MACS["a"], 0x86DD, plain), ethernet(MACS["net"], MACS["a"], 0x86DD, plain, tags=((0x8100, 5),)),
                ethernet(MACS["net"], MACS["a"], 0x86DD, extended),
                ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(V4["a"], V4["net"], tcp_syn(port, marker)), tags=((0x8100, 5),))]

    lab.model["controls"] = pools(*at("net", 3333))
    lab.apply()
    for number, frame in enumerate(shapes(3333)):
        assert not lab.crosses("a", frame, marker), number
    for number, frame in enumerate(shapes(3334)):
        assert lab.crosses("a", frame, marker), number
    lab.model["controls"] = pools(*at("net", None))
    lab.apply()
    for number, frame in enumerate(shapes(3334)):
        assert not lab.crosses("a", frame, marker), number


def test_the_rules_put_back_by_a_rollback_are_the_same(lab):
    lab.port("tapA")["controls"] = under()
    lab.model["controls"] = pools(*at("far", 80), *at("net", None), new=at("far", 587), ports={"nodes": {"tcp": [8333]}})
    lab.apply()
    script = _nftables.snapshot_script(lab.observe())
    rc, _out, err = lab.host.run(["nft", "-f", "-"], script)
    assert rc == 0, err
    assert lab.plan().kind == "none"
    assert lab.tcp("a", "far", 80) == "silent" and lab.tcp("a", "net", 587) == "silent"


@pytest.mark.parametrize("endpoint", [("0.0.0.0", 80), ("::", None), ("127.0.0.1", 1), ("224.0.0.1", 1), ("a.example.com", 1),
                                      ("192.0.2.1", 0), ("192.0.2.1", "1 }; flush ruleset"), ("fe80::1%eth0", 1), ("10.0.0.0/8", 1)])
def test_hostile_data_never_reaches_nft(bare, endpoint):
    model = base_model()
    model["controls"] = pools(endpoint)
    with pytest.raises(InputError):
        _nftables.build(model)


def test_disarmed_it_is_gone():
    assert _ports.controls_of({"unknown_controls": {}}, {"controls": under()}, False, {"mining"}) == {}
