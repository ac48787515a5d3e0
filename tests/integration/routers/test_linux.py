# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain Linux router: iproute2 over SSH in a namespace of its own."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._router._check import check_router
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import RouterError, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._router._linux import Linux
from tests.integration.routers.linux_lab import ROUTER, LinuxLab
from tests.integration.routers.provider import Provider

HOSTS = ("203.0.113.10/32", "2001:db8:100::10/128")


@pytest.fixture
def lab():
    with LinuxLab() as made:
        yield made


@pytest.fixture
def provider(lab, tmp_path):
    with Provider(tmp_path, lab.sshd.target(), ROUTER) as made:
        made.provision()
        yield made


def test_in_and_out_again(lab, provider):
    assert lab.reach() == {10: [True, True], 20: [True, True]}
    held = provider.null_route()["enforcements"][0]["id"]
    check = provider.converge(check=True)
    assert lab.state() == lab.pristine
    done = provider.converge()
    assert done["outcome"] == "changed" and done["plan_hash"] == check["plan_hash"] and provider.status(held) == "active"
    assert [step["commands"] for step in done["steps"]] == [
        ["route add blackhole 203.0.113.10/32 proto 66"], ["route add blackhole 2001:db8:100::10/128 proto 66"]]
    assert lab.ours() == ["2001:db8:100::10", "203.0.113.10"]
    assert lab.reach() == {10: [False, False], 20: [True, True]}
    assert provider.converge()["outcome"] == "unchanged"
    provider.lift()
    assert provider.converge()["outcome"] == "changed"
    assert lab.state() == lab.pristine and lab.reach()[10] == [True, True]


@pytest.mark.parametrize("route", [
    "203.0.113.10/32 via 203.0.113.20 proto static", "203.0.113.10/32 via 203.0.113.20 proto 186",
    "blackhole 203.0.113.10/32 proto 67", "blackhole 203.0.113.10/32", "203.0.113.10/32 dev e-cust metric 500",
])
def test_a_route_of_others_is_left_alone(lab, provider, route):
    lab.ip("route add " + route)
    before = lab.ip("route show")
    provider.null_route()
    done = provider.converge()
    assert [error["code"] for error in done["errors"]] == ["route_collision"]
    assert lab.ip("route show") == before and lab.ours() == ["2001:db8:100::10"]
    provider.lift()
    provider.converge()
    assert lab.ip("route show") == before and not lab.ours()


def test_own_addresses_and_next_hops_stay_reachable(lab, provider):
    provider.null_route("vps-gw")
    provider.null_route("vps-11", case="T-2")
    done = provider.converge()
    said = " ".join(error["message"] for error in done["errors"])
    assert "own address 203.0.113.1 on e-cust" in said and "next hop 203.0.113.11 of 203.0.113.99/32" in said
    assert lab.ours() == ["2001:db8:100::11"]


def test_a_route_that_appears_between_read_and_write(lab, provider):
    class Edited(Linux):
        def apply(self, lines, *groups):
            if not lab.ip("route show 203.0.113.20/32"):
                lab.ip("route add 203.0.113.20/32 dev e-cust")
            return super().apply(lines, *groups)

    provider.platforms = {"linux": Edited}
    first = provider.null_route("vps-20")["enforcements"][0]["id"]
    second = provider.null_route("vps-10", case="T-2")["enforcements"][0]["id"]
    done = provider.converge()
    assert done["outcome"] == "failed" and lab.ours() == ["2001:db8:100::10", "2001:db8:100::20", "203.0.113.10"]
    assert (provider.status(first), provider.status(second)) == ("opened", "active")
    assert "dev e-cust" in lab.ip("route show 203.0.113.20/32")


def test_lost_routes_come_back_and_a_stranger_with_our_number_stays(lab, provider):
    provider.null_route()
    provider.converge()
    lab.ip("route del blackhole 203.0.113.10/32 proto 66")
    lab.ip("route add blackhole 203.0.113.77/32 proto 66")
    done = provider.converge()
    assert [step["prefix"] for step in done["steps"]] == [HOSTS[0]] and "203.0.113.77/32" in done["notes"][0]
    assert "203.0.113.77" in lab.ours()


def test_an_answer_that_is_not_understood_is_no_absence(lab, provider):
    class Garbled(Linux):
        def _batch(self, version, lines, *options):
            status, out, err = super()._batch(version, lines, *options)
            return status, out.replace('"dst"', '"to"'), err

    provider.null_route()
    provider.converge()
    provider.lift()
    provider.platforms = {"linux": Garbled}
    done = provider.converge()
    assert [error["code"] for error in done["errors"]] == ["bad_reply"] and len(lab.ours()) == 2


def test_without_the_right_to_change_routes(lab, provider):
    class Powerless(Linux):
        def _batch(self, version, lines, *options):
            if "-j" in options:
                return super()._batch(version, lines, *options)
            return 2, "", "RTNETLINK answers: Operation not permitted\nCommand failed -:1\n"

    provider.platforms = {"linux": Powerless}
    held = provider.null_route()["enforcements"][0]["id"]
    done = provider.converge()
    assert "Operation not permitted" in done["errors"][0]["message"] and provider.status(held) == "opened"
    assert done["state"] == "not_applied" and not lab.ours()


def test_a_check_reads_only(lab):
    lab.ip("route add blackhole 203.0.113.77/32 proto 66")
    before = lab.state()
    said = check_router("linux", Target(**{**lab.sshd.target(), "name": "edge"}))
    assert said["understood"] and said["ours"] == ["203.0.113.77/32"] and said["protected"], said
    assert lab.state() == before


def test_an_end_that_fails_on_a_router_is_said_and_the_next_run_goes_on(lab, provider):
    class Powerless(Linux):
        def apply(self, lines, *more):
            return {index: "RTNETLINK answers: Operation not permitted" for index, _line in enumerate(lines)}

    held = provider.null_route()["enforcements"][0]["id"]
    assert provider.converge()["errors"] == [] and provider.status(held) == "active"
    provider.late = 3700
    provider.ask(requests.end_what_is_due)
    # The host was first: dark at the edge alone is less than free and more than half of what was asked for, and it is said.
    provider.seen_gone_on_kvm([held])
    reachable, provider.target = provider.target, {**provider.target, "port": 1}
    done = provider.converge()
    assert done["outcome"] == "unreachable" and done["state"] == "not_applied" and provider.status(held) == "ending"
    provider.target, provider.platforms, provider.patience = reachable, {"linux": Powerless}, 0.3
    done = provider.converge()
    assert {error["code"] for error in done["errors"]} == {"not_removed"} and "Operation not permitted" in done["errors"][0]["message"]
    assert provider.status(held) == "ending" and len(lab.ours()) == 2 and lab.reach()[10] == [False, False]
    provider.platforms = None
    assert provider.converge()["errors"] == [] and provider.status(held) == "ended"
    assert lab.state() == lab.pristine and lab.reach()[10] == [True, True]


def test_an_end_that_the_host_has_not_seen_yet_is_not_over_for_the_router(lab, provider):
    held = provider.null_route()["enforcements"][0]["id"]
    provider.converge()
    provider.late = 3700
    provider.ask(requests.end_what_is_due)
    assert provider.converge()["errors"] == [] and not lab.ours() and provider.status(held) == "ending"
    assert provider.converge()["outcome"] == "unchanged"  # nothing comes back while it waits for the host
    provider.seen_gone_on_kvm([held])
    assert provider.status(held) == "ended"


def test_a_router_that_restarts_while_it_is_written_to(lab, provider):
    restarts = []

    class Restarting(Linux):
        def apply(self, lines, *more):
            if not restarts:
                restarts.append(super().apply(lines, *more))
                lab.sshd.stop()
                lab.ip("route flush proto 66")
                lab.ip("-6 route flush proto 66")
                raise RouterError("gone", code="closed", target="edge", remedy="-")
            return super().apply(lines, *more)

    provider.platforms = {"linux": Restarting}
    held = provider.null_route()["enforcements"][0]["id"]
    try:
        done = provider.converge()  # looked for once more at once, and not there
        assert done["state"] == "unknown" and provider.status(held) == "opened"
        assert done["may_have_acted"] == ["route add blackhole %s proto 66" % prefix for prefix in HOSTS]
        assert provider.converge()["outcome"] == "unreachable"
    finally:
        lab.sshd.start()
    assert provider.converge()["errors"] == [] and provider.status(held) == "active" and lab.reach()[10] == [False, False]
