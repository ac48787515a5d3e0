# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only RouterOS does: no transaction, silence where nothing was found, errors with exit status 0."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from tests.integration.routers.devices.base import OWN
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


def test_its_own_addresses_stay_reachable(device, provider, monkeypatch):
    monkeypatch.setitem(OWN, 4, "203.0.113.10/26")
    provider.null_route()
    done = provider.converge()
    assert codes(done) == ["router_address"] and set(device.running) == {"2001:db8:100::10/128"}
    assert "the router's own address 203.0.113.10" in str(done["errors"])


# -- drops: what has an end goes by itself ---------------------------------------------------------------------------------

BAD, GOOD, MINE = ("198.51.100.7", "2001:db8:bad::7"), ("198.51.100.8", "2001:db8:bad::8"), ("203.0.113.10", "2001:db8:100::10")


def drop(provider, sources, case="T-1", **options):
    return provider.ask(requests.hold, "drop", "vps-10", "attack_target", case=case, duration="1h", known_nodes=["kvm1", "edge"],
                        sources=sources, **options)["enforcements"][0]["id"]


def dark(device, sources):
    """Whether packets from these to the service are dropped, and back."""
    return [device.dropped(*way) for source, mine in zip(sources, MINE, strict=True) for way in ((source, mine), (mine, source))]


def test_drops_go_by_themselves_and_are_given_back(device, provider):
    held = drop(provider, list(BAD))
    check = provider.converge(check=True)
    assert check["steps"] and not device.written()
    done = provider.converge()
    assert (done["state"], done["errors"], done["plan_hash"]) == ("applied", [], check["plan_hash"]), done
    assert provider.status(held) == "active" and dark(device, BAD) == [True] * 4 and dark(device, GOOD) == [False] * 4
    entry = next(line for line in device.lines if "-in address=198.51.100.7/32" in line)
    assert " timeout=59m" in entry or " timeout=1h" in entry, entry
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    # A second case adds its own; the first stays as it is.
    drop(provider, ["198.51.100.8/32"], case="T-2", direction="in")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [True, False, False, False]
    assert not any("198.51.100.7" in line for line in device.written())
    provider.lift(case="T-2")
    assert provider.converge()["state"] == "applied" and dark(device, GOOD) == [False] * 4 and dark(device, BAD) == [True] * 4
    # No controller any more: an hour later nothing is dropped.
    device.clock = 3700
    assert dark(device, BAD) == [False] * 4
    provider.late = 3700
    provider.ask(requests.end_what_is_due)
    assert not provider.converge()["errors"] and provider.status(held) in ("ending", "ended")
    assert device.lists == {4: [], 6: []} and all(len(rows) == 1 for rows in device.raw.values())


def test_a_restart_forgets_entries_and_the_next_run_enters_them_until_the_same_end(device, provider):
    drop(provider, list(BAD))
    provider.converge()
    device.lists = {version: [entry for entry in rows if entry[2] is None] for version, rows in device.lists.items()}
    provider.late = device.clock = 1800
    assert dark(device, BAD) == [False] * 4
    assert provider.converge()["state"] == "applied" and dark(device, BAD) == [True] * 4
    ends = {round((end - device.now()) / 600) for rows in device.lists.values() for _name, _prefix, end, _comment in rows if end}
    assert ends == {6}, "the driver counts by the controller's clock, which was not moved"


@pytest.mark.parametrize("missing", ["jump", "order", "fasttrack"])
def test_where_entries_would_drop_nothing_none_are_made(device, provider, missing):
    if missing == "jump":
        device.raw[6] = []
    elif missing == "order":
        device.raw[4].insert(0, {"chain": "prerouting", "action": "accept", "disabled": "false"})
    else:
        device.fasttrack = True
    provider.patience = 0.3
    drop(provider, list(BAD))
    done = provider.converge()
    assert codes(done) == ["not_applied"] and device.lists == {4: [], 6: []} and not device.written()
    assert ("fasttracks" if missing == "fasttrack" else "jump-target=aup-drops") in str(done["errors"])


def test_what_somebody_changes_in_our_lists_is_mended(device, provider):
    drop(provider, list(BAD))
    provider.converge()
    device.lists[4] = [(name, prefix, None if name.endswith("-in") else end, comment) for name, prefix, end, comment in device.lists[4]]
    device.raw[6][-1]["disabled"] = "true"
    done = provider.converge()
    assert done["state"] == "applied" and dark(device, BAD) == [True] * 4
    assert all(end for name, _prefix, end, _comment in device.lists[4] if name.endswith("-in"))
