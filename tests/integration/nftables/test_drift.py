# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts, drift, others' tables, refusals and rollback, on the kernel."""
from __future__ import annotations

import re

import pytest
from filter_lab import ENFORCE, EXEMPT, MACS, OBSERVE

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError


def refused(lab, port):
    return lab.counters().get(port, {}).get("smtp_outbound_refused", {"packets": 0})["packets"]


@pytest.fixture
def counted(bare):
    """The base model in force, with something counted for a, r and the unknown guest."""
    bare.apply()
    for guest in "aru":
        bare.tcp(guest, "far", 25)
    bare.tcp("a", "net", 25)
    return bare


def test_counts_stay_over_unrelated_updates(counted):
    before = counted.counters()
    assert {"tapA", "vnetR", "unknown", MACS["a"]} <= set(before)
    counted.port("tapB")["smtp"] = dict(EXEMPT)
    counted.port("tapC")["hold"] = "dark"
    change = counted.apply()
    assert change.kind == "elements" and change.removed_counters == {}
    # A neighbour discovery of the host's own may be on its way through the port that is dark now.
    assert before.items() <= counted.counters().items()


def test_counts_stay_over_a_rebuild(counted):
    before = counted.counters()
    counted.model["routed_interfaces"] = ["vnet*", "routed*"]
    assert counted.apply().kind == "rebuild"
    assert counted.counters() == before


def test_removed_elements_hand_over_their_last_count(counted):
    before = counted.counters()
    counted.port("tapA")["smtp"] = dict(EXEMPT)
    change = counted.apply()
    assert change.removed_counters == {name: before[name] for name in ("tapA", MACS["a"])}
    assert not {"tapA", MACS["a"]} & set(counted.counters())


def test_removed_elements_hand_over_their_count_in_a_rebuild_too(counted):
    before = counted.counters()
    counted.port("tapA")["smtp"] = dict(OBSERVE)
    counted.model["smtp"]["unknown"] = dict(OBSERVE)
    change = counted.apply()
    assert change.kind == "rebuild"
    assert change.removed_counters == {name: before[name] for name in ("tapA", MACS["a"])}


def test_unchanged_is_none_and_says_so(counted):
    change = counted.plan()
    assert (change.kind, change.script, change.summary, change.before, change.after) == ("none", "", [], {}, {})


def test_flushed_ruleset_is_put_back(counted):
    counted.host.check("nft flush ruleset")
    assert not _nftables.present(counted.observe())
    assert counted.tcp("a", "net", 25) == "open"
    change = counted.apply()
    assert change.kind == "rebuild" and "not there" in change.summary[0]
    assert counted.tcp("a", "net", 25) == "silent"


HAND_EDITS = [
    "flush chain bridge hosting_aup smtp",
    "flush table bridge hosting_aup",
    "delete table inet hosting_aup",
    "flush set bridge hosting_aup smtp_enforce",
    "insert rule bridge hosting_aup smtp accept",
    "insert rule bridge hosting_aup forward meta l4proto tcp accept",
    "insert rule inet hosting_aup forward counter packets 5 bytes 300 accept",
    "add element bridge hosting_aup smtp_observe { \"tapA\" . 25 }",
    "add element bridge hosting_aup uplinks { \"tapA\" }",
    "add element bridge hosting_aup uplinks { \"odd,name}\" }",
    "delete element bridge hosting_aup smtp_enforce { \"tapA\" . 25 }",
    "add element inet hosting_aup smarthosts4 { 198.51.100.7-198.51.100.9 }",
    "add element bridge hosting_aup smarthosts4 { 0.0.0.0/0 }",
    "add chain bridge hosting_aup evil { type filter hook forward priority 0; policy drop; }",
    "add chain inet hosting_aup idle",
    "add set bridge hosting_aup smtp_more { type ifname; elements = { \"tapA\" }; }",
    "add map inet hosting_aup verdicts { type ifname : verdict; elements = { \"tapA\" : accept }; }",
    "add counter inet hosting_aup mine",
    "chain bridge hosting_aup forward { policy drop; }",
    "add table bridge hosting_aup { flags dormant; }",
    "add element bridge hosting_aup uplinks { \"tapA\" comment \"mine\" }",
]


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_edit_by_hand_is_found_and_mended(counted, edit):
    before = counted.counters()
    counted.host.check(["nft", "-f", "-"], edit + "\n")
    change = counted.plan()
    assert change.kind in ("elements", "rebuild") and change.summary
    counted.apply()
    assert counted.plan().kind == "none"
    assert counted.tcp("a", "net", 25) == "silent"
    assert counted.tcp("a", "net", 80) == "open"
    kept = counted.counters()
    assert not edit.startswith("add") or all(kept[name][c]["packets"] >= n["packets"]
                                             for name, controls in before.items() for c, n in controls.items())


def test_others_tables_are_neither_read_nor_touched(counted):
    theirs = ("add table inet filter\n"
              "add chain inet filter forward { type filter hook forward priority 0; policy accept; }\n"
              "add table ip hosting_aup\n"
              "add set ip hosting_aup s { type ipv4_addr; elements = { 192.0.2.77 }; }\n"
              "add table bridge filter\n"
              "add set bridge filter hosting_aup { type ifname; elements = { \"tapA\" }; }\n")
    counted.host.check(["nft", "-f", "-"], theirs)
    listed = [counted.host.check("nft list table " + name) for name in ("inet filter", "ip hosting_aup", "bridge filter")]
    assert counted.plan().kind == "none"
    counted.model["smtp"]["unknown"] = dict(OBSERVE)
    assert counted.apply().kind == "rebuild"
    change = _nftables.plan_teardown(counted.observe())
    assert change.kind == "remove" and change.removed_counters["tapA"]
    _nftables.apply(counted.host.run, change)
    assert not counted.observe().text
    assert _nftables.plan_teardown(counted.observe()).kind == "none"
    assert listed == [
        counted.host.check("nft list table " + name) for name in ("inet filter", "ip hosting_aup", "bridge filter")]


def test_refusing_nft_changes_nothing(counted):
    before = counted.observe()
    counted.port("tapB")["smtp"] = dict(EXEMPT)
    change = counted.plan()
    broken = change._replace(script=change.script + "add element bridge hosting_aup no_such_set { 1 }\n")
    with pytest.raises(NodeError, match="no_such_set") as caught:
        _nftables.apply(counted.host.run, broken)
    assert caught.value.code == "nft" and caught.value.remedy
    assert counted.observe() == before


def test_failing_listing_is_an_error_with_nfts_words(counted):
    with pytest.raises(NodeError, match="Operation not permitted"):
        _nftables.observe(lambda argv, stdin=None: (1, "", "Error: Operation not permitted\n"))


def test_change_between_observation_and_apply_is_refused_as_a_whole(counted):
    counted.port("tapA")["smtp"] = dict(EXEMPT)
    change = counted.plan()
    counted.host.check(["nft", "-f", "-"], "delete element bridge hosting_aup smtp_enforce { \"tapA\" . 25 }\n")
    before = counted.observe()
    with pytest.raises(NodeError) as caught:
        _nftables.apply(counted.host.run, change)
    assert caught.value.retryable
    assert counted.observe() == before
    counted.apply()


def bytecode(lab):
    """The rules as the kernel has them, without numbers that differ from load to load.

    Steps of one rule are sorted: nft puts the conditions it adds by itself before or after ours.
    """
    text = lab.host.check("nft --debug=netlink list ruleset").partition("\ntable ")[0]
    rules = re.findall(r"^(?:bridge|inet) hosting_aup \w+ .*\n(?:  \[.*\n)+", text, re.MULTILINE)
    plain = [re.sub(r"(__set)\d+", r"\1", re.sub(r"\A(\S+ \S+ \S+).*", r"\1", rule)) for rule in rules]
    return [sorted(rule.splitlines()) for rule in plain]


def test_snapshot_puts_back_exactly_what_was(counted):
    before, code = counted.observe(), bytecode(counted)
    assert len(code) > 80
    script = _nftables.snapshot_script(before)
    counted.model["smtp"]["unknown"] = dict(OBSERVE)
    counted.port("tapA")["hold"] = "dark"
    counted.apply()
    assert bytecode(counted) != code
    counted.host.check(["nft", "-f", "-"], script)
    after = counted.observe()
    assert (after.shape, after.elements, after.counters) == (before.shape, before.elements, before.counters)
    assert bytecode(counted) == code


def test_snapshot_of_nothing_is_nothing(bare):
    script = _nftables.snapshot_script(bare.observe())
    bare.apply()
    bare.host.check(["nft", "-f", "-"], script)
    assert not bare.observe().text


def test_reference_is_asked_once_per_shape(counted):
    ruleset = _nftables.build(counted.model)
    first = _nftables.reference(counted.host.run, ruleset)
    calls = []

    def watched(argv, stdin=None):
        calls.append(argv[0])
        return counted.host.run(argv, stdin)

    assert _nftables.reference(watched, ruleset, first) == first
    assert calls == ["nft"]
    counted.port("tapB")["smtp"] = dict(EXEMPT)
    assert _nftables.reference(watched, _nftables.build(counted.model), first) == first
    counted.model["smtp"]["unknown"] = dict(OBSERVE)
    assert _nftables.reference(watched, _nftables.build(counted.model), first)["key"] != first["key"]
    assert "unshare" in calls


def test_every_prefix_is_listed_as_it_is_written(bare):
    """The kernel's listing of intervals must be our spelling, or each run would find drift."""
    bare.model["rescue"] = [
        "0.0.0.0/0", "::/0"]
    bare.apply()
    bare.model["rescue"] = [
        "10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/24", "192.0.2.1", "255.0.0.0/8", "255.255.255.255", "0.0.0.0/32",
        "::1", "::ffff:192.0.2.1", "::192.0.2.1", "2001:db8::/33", "2001:db8:8000::/33", "ff00::/8", "fe80::/10",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1:0:0:2::/64", "64:ff9b::/96"]
    bare.apply()


def test_new_guest_in_force_by_one_small_transaction(counted):
    counted.model["ports"].append({"name": "newtap", "mac": MACS["u"], "bridge": "br0", "service": "vps-u",
                                   "smtp": dict(ENFORCE), "hold": None})
    change = counted.apply()
    assert change.kind == "elements"
    assert counted.tcp("u", "net", 25) == "silent"
    assert "newtap (service vps-u): nothing -> TCP 25 refused, guest port" in change.summary
