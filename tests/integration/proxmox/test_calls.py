# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many calls a run takes, and what it says of that which it didn't read."""

from __future__ import annotations

import pytest


class Counted:
    """A client and its calls."""

    def __init__(self, site):
        self.calls: list[tuple[str, str]] = []
        self.client = site.client(say=lambda method, path: self.calls.append((method, path)))


def test_an_unchanged_run_reads_four_things_a_guest_and_one_set_for_each_further_nic(site):
    """And what all share: the guests' list, the switch, and each group and set in use, here one group."""
    site.provision()
    counted = Counted(site)
    assert site.again(client=counted.client)["outcome"] == "unchanged"
    assert {method for method, _ in counted.calls} == {"GET"}
    common = [path for _, path in counted.calls if path.startswith("/cluster/")]
    nics = sum(len(one["nics"]) for one in site.services.values())
    assert len(counted.calls) - len(common) == 3 * len(site.services) + nics and len(set(counted.calls)) == len(counted.calls)
    assert len(common) == 3


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_suspending_one_guest_takes_six_calls(site, who):
    site.provision()
    sid, counted = site.ids[who], Counted(site)
    done = site.enforce("suspend", sid, only=[sid], client=counted.client)
    assert not done["errors"] and site.statuses(sid) == ["active"]
    first_wait = next(number for number, (_, path) in enumerate(counted.calls) if "/tasks/" in path)
    assert first_wait <= 6 and [method for method, _ in counted.calls[:first_wait]].count("GET") <= 4
    others = [site.path(one) + "/" for one in site.services if one != sid]
    assert not any("/firewall" in path or path.startswith(tuple(others)) for _, path in counted.calls)
    assert any("not verified" in note for note in done["notes"])


def test_a_narrowed_run_reads_the_firewall_where_something_stands_on_it(site):
    site.provision()
    before, sid = site.state(), site.ids["vm"]
    assert not site.enforce("quarantine", sid, only=[sid])["errors"] and site.statuses(sid) == ["active"]
    assert not site.enforce("cpu_throttle", sid, case="T-2", share="20%", only=[sid])["errors"]
    lifted = site.lift(sid, case="T-1", only=[sid])
    assert not lifted["errors"] and len(site.statuses(sid)) == 1
    assert not site.lift(sid, case="T-2", only=[sid])["errors"]
    assert not site.provision()["errors"] and site.state() == before  # groups in no use go with the next provision


def test_a_changed_guest_alone_is_read_again(site):
    site.provision()
    counted = Counted(site)
    assert not site.enforce("suspend", site.ids["vm"], client=counted.client)["errors"]
    read = [path for method, path in counted.calls if path.endswith("/pending")]
    assert len(read) == len(site.services) + 1


def test_a_container_without_a_limit_gets_none_back(site):
    """Written down as 0, which can't be written while it runs."""
    site.provision()
    sid = site.ids["ct"]
    site.power(sid, "stop")
    site.edit(sid, cpulimit="0")
    site.power(sid, "start")
    assert not site.enforce("cpu_throttle", sid, share="20%")["errors"]
    assert site.config(sid)["cpulimit"] == "0.4"
    assert not site.lift(sid)["errors"] and "cpulimit" not in site.config(sid)
    assert site.again()["outcome"] == "unchanged"
