# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on Junos and EOS: the same promises on each, by what the prepared filter lets pass."""
from __future__ import annotations

import copy

import pytest

from tests.integration.routers.provider import Provider, codes
from tests.integration.routers.test_drops import BAD, GOOD
from tests.integration.routers.vendor_lab import DEVICES, provided, router_of, target_of

READY = ("4", "4 in", "4 out", "6", "6 in", "6 out")
GUEST, NEIGHBOUR = ("203.0.113.10", "2001:db8:100::10"), ("203.0.113.20", "2001:db8:100::20")


@pytest.fixture(params=["eos", "junos"])
def device(request, tmp_path):
    with DEVICES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with provided(device, tmp_path, max_drop_prefixes=100) as made:
        made.patience = 0.3
        yield made


def hears(device, sources, targets=GUEST):
    return [device.forwards(source, target) for source, target in zip(sources, targets)]


def reaches(device, targets, sources=GUEST):
    return hears(device, sources, targets)


def test_listed_sources_are_dark_for_one_service_and_all_is_given_back(device, provider):
    device.prepare(*READY)
    before = copy.deepcopy(device.running.ports())
    held = provider.drop(list(BAD))
    check = provider.converge(check=True)
    assert check["steps"] and not device.written()
    done = provider.converge()
    assert (done["errors"], done["state"], done["plan_hash"]) == ([], "applied", check["plan_hash"]), done
    assert hears(device, BAD) == reaches(device, BAD) == [False, False] and provider.status(held) == "active"
    assert hears(device, GOOD) == reaches(device, GOOD) == hears(device, BAD, NEIGHBOUR) == [True, True]
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    # A second case adds its own, and goes without them; a second service has its own group.
    provider.drop("198.51.100.8,2001:db8:bad::/64", case="T-2", direction="in")
    provider.drop("198.51.100.7", service="vps-20", case="T-3")
    assert provider.converge()["errors"] == []
    assert hears(device, GOOD) == [False, False] and reaches(device, GOOD) == [True, True] and hears(device, BAD, NEIGHBOUR) == [False, True]
    provider.lift(case="T-2")
    assert provider.converge()["errors"] == [] and hears(device, GOOD) == [True, True] and hears(device, BAD) == [False, False]
    provider.lift(case="T-1")
    provider.lift(service="vps-20", case="T-3")
    assert provider.converge()["errors"] == [] and device.running.ports() == before == device.startup.ports()


def test_what_is_missing_is_listed_and_nothing_is_entered(device, provider):
    provider.drop(list(BAD))
    said = {"eos": ["4000000000 permit ip any any", "ip access-group aup-drop in", "ipv6 access-group aup-drop6 out"],
            "junos": ["set firewall family inet filter aup-drop term rest then accept", "family inet filter input aup-drop",
                      "family inet6 filter output aup-drop6"]}[device.platform]
    done = provider.converge()
    assert codes(done) == ["drop_missing"] and not device.written()
    assert all(line in done["errors"][0]["remedy"] for line in said), done["errors"]
    device.prepare(*READY[:-1])
    done = provider.converge()
    assert codes(done) == ["drop_missing"] and not device.written() and said[-1] in done["errors"][0]["remedy"]
    assert said[0] not in done["errors"][0]["remedy"]
    device.prepare(READY[-1])
    assert provider.converge()["errors"] == [] and hears(device, BAD) == [False, False]


def test_what_somebody_changed_is_put_right(device, provider):
    device.prepare(*READY)
    provider.drop(list(BAD))
    provider.converge()
    right = copy.deepcopy(device.running.ports())
    if device.platform == "junos":
        # A term that lost what it asks for would fit everything.
        device.running.sets = [line for line in device.running.sets if not line.endswith("in4") or "source-prefix-list" not in line]
        assert not device.forwards(GOOD[0], GUEST[0])
        end = "firewall family inet6 filter aup-drop6 term rest then accept"
        device.running.sets = [end, *(line for line in device.running.sets if line != end)]  # before all of ours
        assert hears(device, BAD)[1]
    else:
        device.running.lists[4, "aup-drop"] = device.running.lists[4, "aup-drop"][1:]
        device.running.lists[6, "aup-drop6"] = [rule.replace("bad::7", "bad::77") for rule in device.running.lists[6, "aup-drop6"]]
        assert hears(device, BAD) == [True, True]
    assert provider.converge()["errors"] == []
    assert hears(device, BAD) == [False, False] and hears(device, GOOD) == [True, True]
    assert sorted(map(repr, device.running.ports()[1].items())) == sorted(map(repr, right[1].items())) and device.running.ports()[3] == right[3]


def test_a_refused_line_takes_the_group_back_and_a_null_route_goes_on(device, provider):
    device.prepare(*READY)
    before = copy.deepcopy(device.running.ports())
    provider.drop(list(BAD))
    provider.null_route(service="vps-20", case="T-2")
    device.complaints = {r".*2001:db8:bad::7.*": "% Invalid input\n"}
    done = provider.converge()
    assert codes(done) == ["not_applied"] and {error["service"] for error in done["errors"]} == {"vps-10"}, done["errors"]
    assert device.running.ports() == before and "203.0.113.20/32" in device.running
    device.complaints = {}
    assert provider.converge()["errors"] == [] and hears(device, BAD) == [False, False]


def test_iosxe_says_that_it_can_not(tmp_path):
    with DEVICES["iosxe"](tmp_path) as device, Provider(tmp_path, target_of(device), router_of(device)) as provider:
        provider.provision()
        provider.drop(list(BAD))  # its host can
        done = provider.converge()
        assert done["errors"] == [] and ["drop is not carried on platform iosxe" in gap["gap"] for gap in done["gaps"]] == [True]


def test_more_than_there_is_room_for(tmp_path):
    with DEVICES["eos"](tmp_path) as device, Provider(tmp_path, target_of(device), router_of(device, max_drop_prefixes=5000)) as provider:
        device.prepare(*READY)
        provider.provision()
        provider.drop(["198.%d.%d.0/24" % (second, third) for second in (18, 19, 51, 52) for third in range(101, 201)]
             + ["192.88.%d.0/24" % third for third in range(188)] + ["100.64.%d.0/24" % third for third in range(250)]
             + ["100.65.%d.0/24" % third for third in range(250)])
        done = provider.converge()
        assert codes(done) == ["drop_missing"] and "there is room for 1000" in done["errors"][0]["remedy"] and not device.written()
