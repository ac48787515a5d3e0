# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What FRR prints: understood exactly, or an error; never taken for "absent"."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _frr
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

# As FRR 8.4.4 prints it.
RUNNING = """Building configuration...

Current configuration:
!
frr version 8.4.4
frr defaults traditional
hostname edge
service integrated-vtysh-config
!
ip route 203.0.113.10/32 blackhole tag 41667
ip route 203.0.113.11/32 192.0.2.2
ip route 203.0.113.12/32 192.0.2.2 e-up1 tag 5 20
ip route 203.0.113.13/32 Null0
ip route 203.0.113.14/32 blackhole tag 41667 50
ipv6 route 2001:db8:100::10/128 blackhole tag 41667
!
vrf blue
 ip route 203.0.113.20/32 blackhole tag 41667
exit-vrf
!
end
"""


def test_static_routes_with_what_makes_them_ours():
    found = {s["prefix"]: s for s in _frr.parse_running(RUNNING)["statics"]}
    assert sorted(found) == ["2001:db8:100::10/128", *("203.0.113.1%d/32" % n for n in range(5))]
    assert [p for p, s in sorted(found.items()) if s["exact"]] == ["2001:db8:100::10/128", "203.0.113.10/32"]
    assert found["203.0.113.12/32"]["tag"] == 5 and found["203.0.113.12/32"]["distance"] == 20
    assert found["203.0.113.14/32"]["distance"] == 50


@pytest.mark.parametrize("text", [
    "", "% Unknown command: show running-config\n", RUNNING.replace("end\n", ""), RUNNING[40:], "Building configuration...\n",
    RUNNING.replace("ip route 203.0.113.11/32 192.0.2.2\n", "ip route 203.0.113.11\n"),
    RUNNING.replace("ip route 203.0.113.11/32 192.0.2.2\n", "ip route 203.0.113.11/24 192.0.2.2\n"),
    RUNNING.replace("blackhole tag 41667\nip", "blackhole tag 41667 shiny\nip"),
    RUNNING.replace("tag 41667\nip", "tag many\nip"),
])
def test_a_running_configuration_that_is_not_whole_or_not_known(text):
    with pytest.raises(NotUnderstood):
        _frr.parse_running(text)


@pytest.mark.parametrize(("parse", "text"), [
    (parse, text) for parse in (_frr.parse_rib, _frr.parse_interfaces, _frr.parse_summary, _frr.parse_bgp)
    for text in ("", "% Command incomplete\n", "% BGP instance not found\n", "{\"a\": ", "[1]", "\"text\"", "staticd is not running\n")
])
def test_an_answer_that_is_no_document_is_an_error(parse, text):
    with pytest.raises(NotUnderstood):
        parse(text)


def test_absent_is_only_what_says_so():
    assert _frr.parse_rib("{}") == {} and _frr.parse_bgp("{}\n") == {"to": [], "communities": []}
    assert _frr.parse_summary(json.dumps({"ipv4Unicast": {"peers": {"192.0.2.2": {"state": "Active"}}},
                                          "ipv6Unicast": {"peers": {"2001:db8::2": {"state": "Established"}}}})) == {
        "192.0.2.2": False, "2001:db8::2": True}
    with pytest.raises(NotUnderstood):
        _frr.parse_rib('{"203.0.113.10": 5}')


def test_a_route_counts_only_when_it_is_used():
    route = {"protocol": "static", "selected": True, "installed": True, "nexthops": [{"blackhole": True}]}
    assert _frr.in_use([route]) == {"blackhole": True, "installed": True}
    assert not _frr.in_use([{**route, "selected": False}])["blackhole"]
    assert not _frr.in_use([{**route, "nexthops": [{"ip": "192.0.2.2"}]}])["blackhole"]
    assert not _frr.in_use([{**route, "installed": False}])["installed"]
    assert not _frr.in_use([])["blackhole"]


def test_golden_lines():
    add = {"action": "add", "prefix": "203.0.113.10/32", "mark": 41666, "before": []}
    assert _frr.commands(add) == ["ip route 203.0.113.10/32 blackhole tag 41666"]
    assert _frr.undo(add) == ["no ip route 203.0.113.10/32 blackhole tag 41666"]
    change = {**add, "before": ["ip route 203.0.113.10/32 blackhole tag 41667"]}
    assert _frr.undo(change) == change["before"]
    remove = {"action": "remove", "prefix": "2001:db8::1/128", "mark": 7, "before": ["ipv6 route 2001:db8::1/128 blackhole tag 7"]}
    assert _frr.commands(remove) == ["no ipv6 route 2001:db8::1/128 blackhole tag 7"] and _frr.undo(remove) == remove["before"]
