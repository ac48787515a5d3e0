# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only RouterOS does: no transaction, silence where nothing was found, errors with exit status 0."""
from __future__ import annotations

import pytest

from tests.integration.routers.devices.routeros import RouterOs
from tests.integration.routers.provider import Provider
from tests.integration.routers.test_vendors import HOSTS, TAG, codes, router_of, target_of


@pytest.fixture
def device(tmp_path):
    with RouterOs(tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with Provider(tmp_path, target_of(device), router_of(device)) as made:
        made.provision()
        device.lines.clear()
        yield made


def test_a_release_that_cannot_be_read_strictly_is_left_alone(device, provider):
    device.version = "7.16.2 (stable)"
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["prerequisite_missing"] and "7.17" in done["errors"][0]["remedy"] and not device.written()


def test_a_removal_that_silently_finds_nothing_is_told_of(device, provider):
    provider.null_route()
    provider.converge()
    provider.lift()
    provider.patience = 0.3
    device.complaints = {"/ip/route/remove .*": ""}
    done = provider.converge()
    assert codes(done) == ["not_removed"] and device.running == {"203.0.113.10/32": [("drop", TAG)]}
    device.complaints = {}
    done = provider.converge()
    assert not done["errors"] and device.running == {}


def test_one_that_was_entered_twice_goes_wholly(device, provider):
    provider.null_route()
    provider.converge()
    device.put("203.0.113.10/32", "drop", TAG)
    provider.lift()
    done = provider.converge()
    assert not done["errors"] and device.running == {}


def test_a_route_of_others_that_appears_between_read_and_write(device, provider):
    """RouterOS takes any number of routes for one destination: theirs stays, is told of, and ours goes as it came."""
    provider.null_route()
    rows = device.rows

    def appearing(menu, properties, where):
        said = rows(menu, properties, where)
        if menu == "/routing/bgp/connection" and "203.0.113.10/32" not in device.running:
            device.put("203.0.113.10/32", "192.0.2.9")  # the last of what is read
        return said

    device.rows = appearing
    done = provider.converge()
    assert device.running["203.0.113.10/32"] == [("192.0.2.9", None), ("drop", TAG)]
    assert any("another route is there as well" in note and "192.0.2.9" in note for note in done["notes"]), done
    provider.lift()
    assert not provider.converge()["errors"] and device.running == {"203.0.113.10/32": [("192.0.2.9", None)]}


def test_a_router_that_restarts_half_way(device, provider):
    """What was entered stays, what was not is entered by the next run."""
    provider.null_route()
    device.cut, device.cuts = ("/ipv6/route/add .*", "before"), 2
    done = provider.converge()
    assert done["state"] == "unknown" and device.running == {"203.0.113.10/32": [("drop", TAG)]}
    assert any(line.startswith("/ipv6/route/add") for line in done["may_have_acted"])
    device.lines.clear()
    assert provider.converge()["state"] == "applied" and device.running == HOSTS
    assert len(device.written()) == 1
