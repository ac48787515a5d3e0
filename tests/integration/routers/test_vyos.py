# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only VyOS does: its two ways to take a change back, commits that fail or half fail, announcing by FRR below."""
from __future__ import annotations

import copy

import pytest

from tests.integration.routers.devices.vyos import Vyos
from tests.integration.routers.provider import Provider
from tests.integration.routers.test_vendors import HOSTS, TAG, codes, router_of, target_of

@pytest.fixture
def device(tmp_path):
    with Vyos(tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with Provider(tmp_path, target_of(device), router_of(device)) as made:
        made.provision()
        device.lines.clear()
        yield made


def test_where_it_would_reboot_nothing_is_left_to_a_timer(device, provider):
    device.reload = False
    device.startup = copy.deepcopy(device.running)
    provider.null_route()
    done = provider.converge()
    assert done["state"] == "applied" and device.running == HOSTS == device.startup and not device.pending
    assert "commit" in device.lines and not any(line.startswith("commit-confirm") for line in device.lines)
    assert any("by a reboot" in note for note in done["notes"])


def test_a_router_that_says_reboot_after_all_is_told_no(device, provider):
    provider.null_route()
    said = "\ncommit-confirm will automatically reboot in 2 minutes unless changes\nare confirmed.\n\n\ncommit-confirm canceled\n"
    device.complaints = {"commit-confirm 2": said}
    done = provider.converge()
    assert codes(done) == ["not_applied"] and "y" not in device.lines and device.running == {} and not device.pending


@pytest.mark.parametrize("reload", [True, False])
def test_a_refused_commit_is_undone_and_its_timer_stopped(device, provider, reload):
    device.reload, device.refuses = reload, "Can not use both blackhole and reject for prefix 203.0.113.10/32!"
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["not_applied"] and "both blackhole and reject" in str(done["errors"])
    assert device.running == {} and not device.pending
    device.refuses = None
    assert provider.converge()["state"] == "applied" and device.running == HOSTS


def test_an_edit_of_others_between_read_and_write_is_not_taken_along(device, provider):
    provider.null_route()
    provider.converge()
    provider.lift()
    prefix, edits = "203.0.113.10/32", []
    shown = device.shown

    def edited(running):
        # Somebody adds a next hop to our route, right after it was read.
        if running is device.running and "configure" in device.lines and not edits:
            edits.append(device.put(prefix, "192.0.2.9"))
        return shown(running)

    device.lines.clear()
    device.shown = edited
    done = provider.converge()
    assert edits and device.running[prefix] == [("192.0.2.9", None)], "theirs stays, ours goes"
    assert "delete protocols static route %s blackhole" % prefix in device.lines and (done["state"], done["errors"]) == ("applied", [])
    # It was noticed within the session, before anything of the first reading was committed.
    first = device.lines.index("delete protocols static route %s blackhole" % prefix)
    assert device.lines[:first].count("configure") == 2 and not any(line.startswith("commit") for line in device.lines[:first])


def test_a_save_that_does_not_keep_is_told_of(device, provider):
    device.complaints = {"save": "OSError: [Errno 28] No space left on device\n"}
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["not_saved"] and "No space left" in str(done["errors"]) and device.running == HOSTS
    device.complaints = {}
    # The next run enters nothing, and saves what a restart would forget.
    device.lines.clear()
    done = provider.converge()
    assert not done["errors"] and not done["steps"] and device.startup == HOSTS


def test_somebody_who_was_quicker_with_his_timer_keeps_it(device, provider):
    provider.null_route()
    device.complaints = {"commit-confirm 2": "Another confirm is pending\n"}
    done = provider.converge()
    assert codes(done) == ["busy"] and done["errors"] and device.running == {} and "confirm" not in device.lines


def test_what_else_is_on_a_route_is_told_of_and_stays(device, provider):
    device.put("203.0.113.10/32", "drop", TAG)
    device.more = ["set protocols static route 203.0.113.10/32 description 'maintenance'"]
    provider.null_route()
    done = provider.converge()
    assert done["state"] == "applied" and any("another route is there as well" in note for note in done["notes"])
    device.more = ["set protocols static route 203.0.113.10/32 blackhole distance '200'"]
    done = provider.converge()
    assert codes(done) == ["route_collision"] and device.running["203.0.113.10/32"] == [("drop", TAG)]
