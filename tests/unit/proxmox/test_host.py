# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's node is given and what it makes of its interfaces: now, as it boots, and of what is to come."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _host
from ansible_collections.hosting.aup.plugins.module_utils._standing import check_host
from ansible_collections.hosting.aup.plugins.module_utils._timeline import at

DESIRED = {"bridges": [], "uplinks": [], "services": []}
KINDS = ("port_block", "drop", "bandwidth_cap", "cpu_throttle", "null_route", "smtp_block")
LIMITS = st.dictionaries(st.sampled_from(KINDS), st.just({"enforcement_ids": ["E-1"]}))


def links(**masters):
    """`{interface: …}`; an interface that is only named as a master exists as well."""
    names = dict(masters, **{master: None for master in masters.values() if master and master not in masters})
    return {name: {"master": master, "mac": None} for name, master in names.items()}


NODE = links(eno1="vmbr0", eno2=None, tap100i0="fwbr100i0", fwln100i0="fwbr100i0", fwpr100p0="vmbr0", veth203i0="vmbr1", bond0="vmbr1")


def test_bridges_stay_tenants_bridges_as_long_as_they_are_there():
    found, kept = _host.located(DESIRED, NODE)
    assert found["bridges"] == ["fwbr100i0", "vmbr0", "vmbr1"] and found["uplinks"] == ["bond0", "eno1", "fwln100i0", "fwpr100p0"]
    assert kept == {"bridges": ["vmbr0", "vmbr1"], "uplinks": ["bond0", "eno1"]}, "nothing of a guest's own bridge is remembered"
    # The last guest goes, and vmbr1 as well.
    found, kept = _host.located(DESIRED, links(eno1="vmbr0", bond0=None), before=kept)
    assert found["bridges"] == ["vmbr0"] and found["uplinks"] == ["eno1"] and kept == {"bridges": ["vmbr0"], "uplinks": ["eno1"]}


@pytest.mark.parametrize("there", [{}, links(eno1=None), links(eno1=None, vmbr0=None), links(eno1="vmbr0")])
def test_while_the_node_boots_what_was_remembered_counts_and_is_remembered(there):
    _found, before = _host.located(DESIRED, NODE)
    found, kept = _host.located(DESIRED, there, before=before, booting=True)
    assert {"vmbr0", "vmbr1"} <= set(found["bridges"]) and {"eno1", "bond0"} <= set(found["uplinks"]) and kept == before


def test_an_interface_that_is_in_another_bridge_by_now_leads_out_of_none():
    _found, before = _host.located(DESIRED, NODE)
    found, _kept = _host.located(DESIRED, links(eno1="vmbr9"), before=before, booting=True)
    assert "eno1" not in found["uplinks"]


@given(now=LIMITS, then=st.lists(st.tuples(st.integers(1, 9), LIMITS | st.none()), max_size=4))
def test_a_node_is_given_rules_alone_at_any_time(now, then):
    later = sorted(({"at": time, **({} if limits is None else {"limits": limits}), "hold": None} for time, limits in then), key=lambda e: e["at"])
    service = {"id": "vps-1", "guest": {}, "nics": [], "smtp": {}, "controls": {}, "hold": None, "limits": now, "then": later,
               "baseline": {"fields": {}}, "touched": {"x": 1}}
    whole = {"services": [service], "proxmox": {}, "now": 0}
    given_to_node = _host.for_hosts(whole)
    assert given_to_node["host"] == "proxmox"
    for time in range(11):
        picked, all_of_it = (at(desired, time)["services"][0] for desired in (given_to_node, whole))
        assert picked["limits"] == {kind: terms for kind, terms in all_of_it["limits"].items() if kind in ("port_block", "drop")}
        assert picked["baseline"] is None and "touched" not in picked


def test_guests_as_last_seen_are_the_guests_that_were_seen():
    configs = {100: {"name": "a", "uuid": "u", "macs": {"net0": "bc:24:11:00:00:01"}}, 203: {"name": "b", "uuid": None, "macs": {"net0": None}}}
    seen = _host.guests_of(NODE, configs)
    assert [guest["vmid"] for guest in seen] == [100, 203] and _host.guests_of(NODE, _host.configs_of(seen)) == seen


def test_each_kind_of_host_refuses_what_was_made_for_another():
    check_host({"host": "proxmox"}, "proxmox")
    check_host({}, None)
    for desired, host in (({}, "proxmox"), ({"host": "proxmox"}, None), ({"host": "other"}, "proxmox")):
        with pytest.raises(NodeError) as caught:
            check_host(desired, host)
        assert caught.value.code == "desired_other"
