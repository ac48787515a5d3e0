# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Null routes and their announcement on a real FRR, with real upstreams. Every wait is a poll with a deadline."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router._check import check_router
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._router._frr import Frr
from tests.integration.routers.provider import codes, service_of
from tests.integration.routers.router_lab import BLACKHOLE, NO_EXPORT, RTBH_TAG, TAG, eventually

HOSTS = ("203.0.113.10/32", "2001:db8:100::10/128")
LIGHT = {"victim": [True, True], "neighbour": [True, True]}
DARK = {"victim": [False, False], "neighbour": [True, True]}


@pytest.fixture
def rtbh(provider):
    """An opened, announced null route: (provider, enforcement id)."""
    return provider, provider.null_route(rtbh="true")["enforcements"][0]["id"]


def test_in_and_out_again_as_upstreams_see_it(lab, provider):
    planned, pending = provider.null_route(rtbh="true", check=True)
    assert planned["nodes"] == ["edge", "kvm1"]
    check = provider.converge(check=True, pending=pending)
    assert [step["commands"] for step in check["steps"]] == [
        ["ip route 203.0.113.10/32 blackhole tag %d" % RTBH_TAG], ["ipv6 route 2001:db8:100::10/128 blackhole tag %d" % RTBH_TAG]]
    saved = lab.edge.saved
    assert lab.edge.running == lab.pristine and lab.reach() == LIGHT

    opened = provider.null_route(rtbh="true")
    held = opened["enforcements"][0]["id"]
    done = provider.converge(run_id=opened["run_id"])
    assert done["outcome"] == "changed" and done["state"] == "applied" and not done["errors"], done
    assert done["plan_hash"] == check["plan_hash"]
    assert provider.status(held) == "active"
    eventually("the victim is dark", lambda: lab.reach() == DARK)
    for space in ("up1", "up2"):
        for prefix in HOSTS:
            eventually("%s drops %s" % (space, prefix), lambda s=space, p=prefix: lab.kernel(s, p) == "blackhole")
    eventually("heard", lambda: all(lab.heard().get(p) == sorted((BLACKHOLE, NO_EXPORT)) for p in HOSTS))
    assert lab.edge.saved != saved and all("%s blackhole tag %d" % (p, RTBH_TAG) in lab.edge.saved for p in HOSTS)

    changed_at = (lab.edge.folder / "frr.conf").stat().st_mtime_ns
    again = provider.converge()
    assert again["outcome"] == "unchanged" and not again["steps"] and not again["saved"]
    assert (lab.edge.folder / "frr.conf").stat().st_mtime_ns == changed_at

    provider.lift()
    gone = provider.converge()
    assert gone["outcome"] == "changed" and not gone["errors"]
    eventually("all answer", lambda: lab.reach() == LIGHT)
    eventually("withdrawn", lambda: all(lab.heard().get(p) is None for p in HOSTS))
    for space in ("up1", "up2"):
        eventually("%s forwards" % space, lambda s=space: all(lab.kernel(s, p) is None for p in HOSTS))
    assert lab.edge.running == lab.pristine and "blackhole" not in lab.edge.saved.replace(" set community blackhole", "")
    assert provider.status(held) == "ending", "its KVM host was not seen without it yet"
    provider.seen_gone_on_kvm([held])
    assert provider.status(held) == "ended"


def test_the_end_needs_every_router_too(lab, rtbh):
    provider, held = rtbh
    provider.converge()
    provider.lift()
    provider.seen_gone_on_kvm([held])
    assert provider.status(held) == "ending"
    provider.converge()
    assert provider.status(held) == "ended"


def test_not_announced_without_rtbh(lab, provider):
    provider.null_route()
    assert provider.converge()["outcome"] == "changed"
    eventually("the victim is dark", lambda: lab.reach() == DARK)
    assert lab.edge.statics() == ["ip route 203.0.113.10/32 blackhole tag %d" % TAG,
                                  "ipv6 route 2001:db8:100::10/128 blackhole tag %d" % TAG]
    assert not lab.edge.json("show bgp ipv4 unicast 203.0.113.10/32")
    assert lab.heard().get(HOSTS[0]) is None and lab.kernel("up1", HOSTS[0]) is None


def test_it_ends_when_its_time_is_over(lab, rtbh):
    provider, _held = rtbh
    provider.converge()
    provider.late = 3000
    assert not provider.converge()["steps"]
    provider.late = 3601
    due = provider.ask(requests.end_what_is_due)
    assert due["nodes"] == ["edge", "kvm1"]
    provider.converge()
    eventually("all answer", lambda: lab.reach() == LIGHT)
    assert lab.edge.running == lab.pristine


def test_a_second_case_is_announced_and_leaves_the_first(lab, provider):
    provider.null_route(case="T-1")
    provider.converge()
    provider.null_route(case="T-2", rtbh="yes")
    done = provider.converge()
    assert [step["before"] for step in done["steps"]] == [
        ["ip route 203.0.113.10/32 blackhole tag %d" % TAG], ["ipv6 route 2001:db8:100::10/128 blackhole tag %d" % TAG]]
    assert len(lab.edge.statics()) == 2 and all(str(RTBH_TAG) in line for line in lab.edge.statics())
    eventually("heard", lambda: lab.heard().get(HOSTS[0]))
    provider.lift(case="T-2")
    provider.converge()
    assert all(str(TAG) in line for line in lab.edge.statics())
    eventually("withdrawn", lambda: lab.heard().get(HOSTS[0]) is None)
    assert lab.reach() == DARK


def test_routed_prefixes_only_where_policy_or_the_operator_say_so(lab, provider):
    provider.more = [service_of("vps-net", 30, ["2001:db8:100:1::/64"])]
    provider.provision()
    provider.null_route("vps-net")
    done = provider.converge()
    assert any("2001:db8:100:1::/64 not covered" in note for note in done["notes"])
    provider.null_route("vps-net", case="T-2", routed_prefixes="true")
    done = provider.converge()
    assert [step["prefix"] for step in done["steps"]] == ["2001:db8:100:1::/64"]
    assert eventually("it drops", lambda: lab.kernel("edge", "2001:db8:100:1::/64")) == "blackhole"


# -- what is in the way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [
    "ip route 203.0.113.10/32 192.0.2.2",
    "ip route 203.0.113.10/32 192.0.2.2 200",
    "ip route 203.0.113.10/32 blackhole tag 666",
    "ip route 203.0.113.10/32 blackhole",
    "ip route 203.0.113.10/32 blackhole tag %d 50" % TAG,
    "ip route 203.0.113.10/32 e-cust",
])
def test_a_route_of_others_is_left_alone(lab, provider, line):
    lab.edge.configure(line)
    before = lab.edge.statics()
    held = provider.null_route()["enforcements"][0]["id"]
    for check in (True, False):
        done = provider.converge(check=check)
        assert codes(done) == ["route_collision"] and before[0] in done["errors"][0]["message"]
    assert done["outcome"] == "failed" and provider.status(held) == "opened"
    # The other family has nothing in its way and is set.
    assert lab.edge.statics() == [*before, "ipv6 route 2001:db8:100::10/128 blackhole tag %d" % TAG]
    provider.lift()
    provider.converge()
    assert lab.edge.statics() == before


def test_a_wider_route_with_host_bits_is_not_taken_for_ours(lab, provider):
    lab.edge.configure("ip route 203.0.113.10/25 blackhole tag %d" % TAG)
    provider.null_route()
    done = provider.converge()
    assert not done["errors"] and any("on no record (203.0.113.0/25)" in note for note in done["notes"])
    provider.lift()
    provider.converge()
    assert lab.edge.statics() == ["ip route 203.0.113.0/25 blackhole tag %d" % TAG]


def test_ours_by_the_mark_but_on_no_record_is_left(lab, provider):
    lab.edge.configure("ip route 203.0.113.99/32 blackhole tag %d" % RTBH_TAG)
    done = provider.converge()
    assert done["outcome"] == "unchanged" and "203.0.113.99/32" in done["notes"][0]
    assert len(lab.edge.statics()) == 1


def test_the_router_stays_reachable(lab, provider):
    provider.null_route("vps-gw")
    done = provider.converge()
    assert codes(done) == ["router_address"] and "203.0.113.1 on e-cust" in done["errors"][0]["message"]
    assert lab.edge.running == lab.pristine and lab.reach() == LIGHT


def test_a_next_hop_stays_reachable(lab, provider):
    lab.edge.configure("ip route 203.0.113.128/25 203.0.113.11")
    provider.null_route("vps-11")
    done = provider.converge()
    assert "next hop 203.0.113.11" in done["errors"][0]["message"] and codes(done) == ["router_address"]


def test_what_announcing_needs_is_listed_not_added(lab, rtbh):
    provider, _held = rtbh
    lab.edge.configure("router bgp 64500", "address-family ipv4 unicast", "no redistribute static",
                       "no neighbor 192.0.2.6 route-map TO-UP2 out")
    try:
        done = provider.converge()
        assert codes(done) == ["rtbh_missing"]
        text = done["errors"][0]["remedy"]
        assert "  redistribute static route-map RTBH" in text and "  neighbor 192.0.2.6 route-map TO-up2 out" in text
        assert " set community 64502:666 no-export" in text and "192.0.2.2" not in text
        assert [line.split()[0] for line in lab.edge.statics()] == ["ipv6"]
    finally:
        lab.edge.configure("router bgp 64500", "address-family ipv4 unicast", "redistribute static route-map RTBH",
                           "neighbor 192.0.2.6 route-map TO-UP2 out")
    assert not provider.converge()["errors"]


def test_an_upstream_without_a_session_is_said_and_not_waited_for(lab, rtbh):
    provider, held = rtbh
    lab.edge.configure("router bgp 64500", "neighbor 192.0.2.6 shutdown")
    try:
        done = provider.converge()
        assert not done["errors"] and any("no BGP session with 192.0.2.6" in note for note in done["notes"])
        assert provider.status(held) == "active"
    finally:
        lab.edge.configure("router bgp 64500", "no neighbor 192.0.2.6 shutdown")
        lab.wait_for_sessions()


def test_caps_keep_the_oldest(lab, provider):
    provider.router = {**provider.router, "max_null_routes": 3}
    provider.provision()
    provider.null_route("vps-10")
    provider.late = 10
    provider.null_route("vps-20", case="T-2")
    done = provider.converge()
    assert codes(done) == ["router_cap"] and len(lab.edge.statics()) == 3
    assert {line.split()[2] for line in lab.edge.statics()} >= set(HOSTS)


# -- faults ------------------------------------------------------------------------------------------------------------


class _Bad(Frr):
    """Enters a line that the router does not take for one prefix."""

    def commands(self, change):
        lines = super().commands(change)
        return ["ip route 203.0.113.10/32 blackhole tag 9999999999"] if change["prefix"] == HOSTS[0] else lines


def test_a_bad_command_in_the_middle(lab, provider):
    provider.platforms = {"frr": _Bad}
    first = provider.null_route("vps-10")["enforcements"][0]["id"]
    second = provider.null_route("vps-20", case="T-2")["enforcements"][0]["id"]
    done = provider.converge()
    assert done["outcome"] == "failed" and done["state"] == "not_applied"
    assert codes(done) == ["not_applied"] and "% Unknown command" in done["errors"][0]["message"]
    assert sorted(line.split()[2] for line in lab.edge.statics()) == [
        "2001:db8:100::10/128", "2001:db8:100::20/128", "203.0.113.20/32"]
    assert (provider.status(first), provider.status(second)) == ("opened", "active")
    provider.platforms = None
    assert not provider.converge()["errors"]
    assert provider.status(first) == "active" and len(lab.edge.statics()) == 4


def _operator(lab, *lines):
    class Edited(Frr):
        """Somebody else edits between our reading and our writing."""

        def apply(self, wanted, *groups):
            said = lab.edge.configure(*lines) if lines else ""
            assert "%" not in said, said
            return super().apply(wanted, *groups)
    return Edited


def test_another_operators_route_between_read_and_write(lab, provider):
    provider.platforms = {"frr": _operator(lab, "ip route 203.0.113.10/32 192.0.2.2")}
    held = provider.null_route()["enforcements"][0]["id"]
    done = provider.converge()
    assert done["outcome"] == "failed" and provider.status(held) == "opened"
    assert sorted(lab.edge.statics()) == ["ip route 203.0.113.10/32 192.0.2.2",
                                          "ipv6 route 2001:db8:100::10/128 blackhole tag %d" % TAG]


def test_their_route_that_wins_takes_ours_back_out(lab, provider):
    """A kernel route of theirs is preferred by FRR: ours would lie there and do nothing until theirs goes."""
    class Edited(Frr):
        def apply(self, wanted, *groups):
            if any(line.startswith("ip ") for line in wanted):
                lab.in_namespace("edge", "ip route add 203.0.113.10/32 via 203.0.113.20 metric 0")
                eventually("zebra knows", lambda: lab.edge.json("show ip route kernel"))
            return super().apply(wanted, *groups)

    provider.platforms = {"frr": Edited}
    provider.null_route()
    try:
        done = provider.converge()
        assert done["outcome"] == "failed" and "203.0.113.10/32" in done["errors"][0]["message"], done["errors"]
        assert not any(line.startswith("ip ") for line in lab.edge.statics())
        assert "203.0.113.10/32 blackhole" not in lab.edge.saved
    finally:
        lab.in_namespace("edge", "ip route del 203.0.113.10/32 via 203.0.113.20")


def test_a_lift_while_we_act_is_followed(lab, provider):
    lifted = []

    class Slow(Frr):
        def apply(self, wanted, *groups):
            said = super().apply(wanted, *groups)
            if not lifted:
                lifted.append(provider.lift())
            return said

    provider.platforms = {"frr": Slow}
    provider.null_route()
    done = provider.converge()
    assert done["outcome"] == "changed" and lab.edge.running == lab.pristine
    assert [step["action"] for step in done["steps"]] == ["add", "add", "remove", "remove"]


def _cutting(counter, after, again):
    """A platform whose connection ends when the `after`th line of the run was sent, answer unheard."""
    class Cut(Frr):
        def __init__(self, target):
            if counter["cut"] and not again:
                raise target.error("unreachable", "gone", "wait", retryable=True)
            super().__init__(target)
            ask = self.cli.ask

            def counted(line):
                counter["asked"] += 1
                counter["lines"].append(line)
                if counter["asked"] == after:
                    counter["cut"] = True
                    self.cli._channel.sendall((line + "\n").encode())
                    self.cli.close()
                return ask(line)
            self.cli.ask = counted
    return Cut


def _steps(lab, provider):
    """The lines of one whole run."""
    counter = {"asked": 0, "cut": False, "lines": []}
    provider.platforms = {"frr": _cutting(counter, 0, True)}
    assert not provider.converge()["errors"]
    return counter["lines"]


def test_a_connection_cut_after_each_step(lab, rtbh):
    provider, held = rtbh
    lines = _steps(lab, provider)
    first = lines.index("configure terminal")
    assert lines[-1] == "write memory" and len(lines) > first + 10
    lab.reset()
    written = [*range(first + 1, first + 6), (first + 6 + len(lines)) // 2, len(lines)]
    for after in [1, first, *written]:
        for again in (True, False):
            provider.platforms = {"frr": _cutting({"asked": 0, "cut": False, "lines": []}, after, again)}
            done = provider.converge()
            where = "cut at %d (%s), again %s: %s" % (after, lines[after - 1], again, done["errors"])
            if after <= first:
                assert done["outcome"] == "failed" and done["state"] == "not_applied" and not lab.edge.statics(), where
            elif again:
                assert done["outcome"] == "changed" and len(lab.edge.statics()) == 2 and not done["errors"], where
            else:
                assert done["state"] == "unknown" and done["may_have_acted"] and done["outcome"] == "unreachable", where
                provider.platforms = None
                assert not provider.converge()["errors"], where
            if after > first:
                assert len(lab.edge.statics()) == 2, where
                assert provider.status(held) == "active", where
                if again:
                    assert "%s blackhole tag %d" % (HOSTS[1], RTBH_TAG) in lab.edge.saved, where
            lab.reset()


def test_a_run_killed_before_saving_is_saved_by_the_next(lab, rtbh):
    provider, held = rtbh
    for line in ("ip route 203.0.113.10/32 blackhole tag %d", "ipv6 route 2001:db8:100::10/128 blackhole tag %d"):
        lab.edge.configure(line % RTBH_TAG)
    eventually("announced", lambda: lab.heard().get(HOSTS[1]))
    done = provider.converge()
    assert not done["steps"] and done["saved"] and provider.status(held) == "active"
    assert "%s blackhole" % HOSTS[0] in lab.edge.saved


def test_a_daemon_that_is_gone_and_comes_back(lab, rtbh):
    provider, _held = rtbh
    provider.converge()
    lab.edge.kill("staticd")
    try:
        done = provider.converge()
        assert done["outcome"] == "failed" and done["errors"], done
    finally:
        lab.edge.start("staticd")
    eventually("the routes are gone", lambda: not lab.edge.statics())
    done = provider.converge()
    assert done["outcome"] == "changed" and not done["errors"] and len(lab.edge.statics()) == 2
    eventually("heard", lambda: lab.heard().get(HOSTS[0]))


def test_retiring_takes_all_of_ours_off(lab, rtbh):
    provider, _held = rtbh
    provider.converge()
    done = provider.converge(absent=True)
    assert done["outcome"] == "changed" and lab.edge.running == lab.pristine


# -- getting in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changed", "code"), [
    ({"key_file": None, "password": "wrong"}, "auth"),
    ({"known_hosts": "/dev/null/none"}, "known_hosts"),
    ({"port": 1}, "unreachable"),
])
def test_errors_on_the_way_in_are_told_apart(lab, provider, changed, code):
    held = provider.null_route()["enforcements"][0]["id"]
    provider.target = {**provider.target, **changed}
    done = provider.converge()
    assert (done["outcome"], codes(done), done["state"]) == ("unreachable", [code], "not_applied")
    assert "wrong" not in str(done) and provider.status(held) == "opened"


def test_unknown_and_changed_host_keys_are_refused(lab, provider, tmp_path):
    provider.null_route()
    empty = tmp_path / "empty"
    empty.write_text("")
    known = lab.sshd.known_hosts.read_text().split()
    other = tmp_path / "other"
    # The user's public key is a valid key, only not this host's.
    public = (lab.sshd.key.parent / (lab.sshd.key.name + ".pub")).read_text().split()
    other.write_text("%s %s %s\n" % (known[0], public[0], public[1]))
    for path, code in ((empty, "host_key_unknown"), (other, "host_key_changed")):
        before = path.read_text()
        provider.target = {**provider.target, "known_hosts": str(path)}
        done = provider.converge()
        assert codes(done) == [code] and path.read_text() == before
    assert lab.edge.running == lab.pristine


def test_a_check_reads_only(lab):
    before = lab.edge.running
    said = check_router("frr", Target(**{**lab.sshd.target(), "name": "edge"}))
    assert said["understood"] and not said["ours"] and said["protected"], said
    assert lab.edge.running == before
