# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `router` of a catalogue: defaults, one normal form, and every slip named."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue, technical_slice

RTBH = {"route_map": "RTBH", "trigger": "64500:666",
        "upstreams": [{"name": "up1", "neighbors": ["2001:db8:1::2", "192.0.2.2"]}]}


def load(tmp_path, router, backend="router"):
    node = {"backend": backend, "location": "fra", "address": "192.0.2.1", "router": router}
    if backend == "kvm":
        node["bridges"] = ["br0"]
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"prefixes": ["192.0.2.0/24"], "nodes": {"edge": node}, "services": []}))
    return load_catalogue(path)


def test_defaults_and_the_normal_form_survive_the_release(tmp_path):
    document = load(tmp_path, {"platform": "frr", "protected": ["192.0.2.1", "192.0.2.0/28"], "rtbh": RTBH})
    found = technical_slice(document)["nodes"]["edge"]["router"]
    assert found == {
        "platform": "frr", "mark": 41666, "max_null_routes": 1000, "save": "always",
        "protected": ["192.0.2.0/28", "192.0.2.1/32"],
        "rtbh": {"tag": 41667, "route_map": "RTBH", "trigger": "64500:666", "upstreams": [
            {"name": "up1", "neighbors": ["192.0.2.2", "2001:db8:1::2"], "community": "65535:666", "max": 50}]},
    }


@pytest.mark.parametrize(("router", "said"), [
    ({}, "platform: is required"),
    ({"platform": "ios-xr"}, "none of eos, frr, iosxe, junos, linux, routeros, vyos"),
    ({"platform": "frr", "shell": "x"}, "unknown key"),
    ({"platform": "frr", "protocol": 66}, "unknown key"),
    ({"platform": "linux", "tag": 66}, "unknown key"),
    ({"platform": "frr", "tag": True}, "whole number from 1"),
    ({"platform": "frr", "tag": 2**32}, "whole number from 1"),
    ({"platform": "linux", "protocol": 4}, "from 5 to 255"),
    ({"platform": "frr", "save": "sometimes"}, "none of always, never"),
    ({"platform": "frr", "protected": ["192.0.2.1/24"]}, "without host bits"),
    ({"platform": "frr", "protected": ["0.0.0.0/0"]}, "without host bits"),
    ({"platform": "linux", "rtbh": RTBH}, "linux announces nothing"),
    ({"platform": "frr", "tag": 41667, "rtbh": RTBH}, "they must differ"),
    ({"platform": "frr", "rtbh": {**RTBH, "upstreams": []}}, "a list of upstreams"),
    ({"platform": "frr", "rtbh": {**RTBH, "trigger": 42}}, "is not a community"),
    ({"platform": "frr", "rtbh": {**RTBH, "trigger": "64500:70000"}}, "is not a community"),
    ({"platform": "frr", "rtbh": {**RTBH, "route_map": "RTBH\nno router bgp"}}, "is not a name"),
    ({"platform": "frr", "rtbh": {**RTBH, "upstreams": [{"name": "a", "neighbors": ["up1.example"]}]}}, "BGP neighbor"),
    ({"platform": "frr", "rtbh": {**RTBH, "upstreams": [{"name": "a", "neighbors": []}]}}, "addresses of its BGP"),
])
def test_a_slip_is_named(tmp_path, router, said):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, router)
    assert said in str(caught.value) and "node 'edge'" in str(caught.value)


def test_only_routers_have_the_section(tmp_path):
    with pytest.raises(CatalogueError, match="is for nodes with backend: router"):
        load(tmp_path, {"platform": "frr"}, backend="kvm")
