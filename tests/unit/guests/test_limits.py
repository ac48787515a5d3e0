# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throttles begin, change and end in any order, the panel changes its mind meanwhile: what is not ours always wins."""
from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _hold, _limits

QUOTAS = st.none() | st.integers(1000, 400000)
PERCENTS = st.integers(1, 100)
NUMBERS = st.integers(1, 10**6)
TUNES = st.one_of(
    st.just({}), st.fixed_dictionaries({}, optional={
        "total_bytes_sec": NUMBERS, "total_iops_sec": NUMBERS, "total_bytes_sec_max": NUMBERS}),
    st.fixed_dictionaries({}, optional={"read_bytes_sec": NUMBERS, "write_bytes_sec": NUMBERS, "read_iops_sec": NUMBERS}))
CPU = st.one_of(
    st.builds(lambda percent: {"percent": percent, "enforcement_ids": ["E-1"]}, PERCENTS),
    st.builds(lambda percent, cores: {"percent": percent, "millicores": cores, "enforcement_ids": ["E-1"]},
              st.none() | PERCENTS, st.integers(1, 400).map(lambda n: n * 10)))
IO = st.builds(lambda iops, rate: {"iops": iops, "bytes_per_second": rate, "enforcement_ids": ["E-2"]},
               st.none() | NUMBERS, NUMBERS)
LIMITS = st.fixed_dictionaries({}, optional={"cpu_throttle": CPU, "io_throttle": IO})
EVENTS = st.lists(st.one_of(
    st.tuples(st.just("limits"), LIMITS), st.tuples(st.just("panel quota"), QUOTAS), st.tuples(st.just("panel tune"), TUNES),
    st.tuples(st.just("restart"), st.none())), max_size=8)


def guest(quota=None, tune=None, vcpus=2):
    scheduler = {"quota": quota, "period": None, "vcpus": vcpus}
    return {"name": "g", "uuid": "u", "state": "running", "persistent": True, "autostart": True, "nics": [],
            "scheduler": {"live": dict(scheduler), "config": dict(scheduler)},
            "disks": {"vda": {"live": dict(tune or {}), "config": dict(tune or {})}}}


def apply(seen, step):
    if step["verb"] == "set_quota":
        seen["scheduler"][step["scope"]]["quota"] = step["after"]
    else:
        seen["disks"][step["target"]][step["scope"]] = copy.deepcopy(step["after"])


class Node:
    """A guest, and what the node keeps of it between passes."""

    def __init__(self, seen):
        self.guest, self.fields, self.touched, self.limits = seen, None, None, {}

    def reconcile(self, stop_after=None):
        """One pass; killed after so many steps when that is given."""
        if self.fields is None and not self.limits:
            return
        if self.fields is None:
            self.fields, self.touched = _limits.capture(copy.deepcopy(self.guest)), _hold.untouched()
        service = {"id": "s", "limits": self.limits}
        steps, errors = _limits.plan(service, self.guest, self.fields, self.touched)
        assert not errors
        self.touched = _limits.record(self.touched, steps)
        for step in steps[:stop_after]:
            apply(self.guest, step)
        if stop_after is not None and stop_after < len(steps):
            return
        assert _limits.plan(service, self.guest, self.fields, self.touched) == ([], [])
        self.touched = _limits.forget(self.touched, self.limits)
        if not self.limits:
            self.fields = self.touched = None

    def values(self):
        return ({scope: one["quota"] for scope, one in self.guest["scheduler"].items()}, self.guest["disks"])


@given(QUOTAS, TUNES, st.lists(LIMITS, max_size=5), st.integers(0, 4))
def test_any_order_of_throttles_gives_back_exactly_what_was_there(quota, tune, sequence, killed_after):
    node = Node(guest(quota, tune))
    before = copy.deepcopy(node.values())
    for limits in [*sequence, {}]:
        node.limits = limits
        node.reconcile(stop_after=killed_after)
        node.reconcile()
    assert node.values() == before


@given(QUOTAS, TUNES, EVENTS)
def test_in_force_and_never_looser_than_the_plan_and_the_panel_wins_in_the_end(quota, tune, events):
    node = Node(guest(quota, tune))
    base = {"quota": quota, "tune": tune}
    for what, value in events:
        if what == "limits":
            node.limits = value
        elif what == "restart":
            node.guest["scheduler"]["live"] = dict(node.guest["scheduler"]["config"])
            node.guest["disks"]["vda"]["live"] = copy.deepcopy(node.guest["disks"]["vda"]["config"])
        elif what == "panel quota":
            if value is not None and value in [one["quota"] for one in node.guest["scheduler"].values()]:
                continue  # what we set ourselves can't be told from the panel's
            for one in node.guest["scheduler"].values():
                one["quota"] = value
            base["quota"] = value
        else:
            if value in node.guest["disks"]["vda"].values():
                continue
            node.guest["disks"]["vda"] = {"live": dict(value), "config": dict(value)}
            base["tune"] = value
        node.reconcile()
        for scope in _limits.SCOPES:
            now, disk = node.guest["scheduler"][scope]["quota"], node.guest["disks"]["vda"][scope]
            if "cpu_throttle" in node.limits:
                assert now <= _limits.quota(node.limits["cpu_throttle"], 2)
                assert base["quota"] is None or now <= base["quota"]
            else:
                assert now == base["quota"]
            if "io_throttle" in node.limits:
                rate = node.limits["io_throttle"]["bytes_per_second"]
                total = disk.get("total_bytes_sec") or disk["read_bytes_sec"] + disk["write_bytes_sec"]
                assert total <= max(rate, 2) and not any(name.endswith("bytes_sec_max") for name in disk)
            else:
                assert disk == base["tune"]


@given(QUOTAS, PERCENTS)
def test_a_node_that_lost_its_copy_gives_back_by_the_baseline(quota, percent):
    node = Node(guest(quota))
    node.limits = {"cpu_throttle": {"percent": percent, "enforcement_ids": ["E-1"]},
                   "io_throttle": {"iops": 50, "bytes_per_second": None, "enforcement_ids": ["E-2"]}}
    before = copy.deepcopy(node.values())
    node.reconcile()
    node.touched = None
    service = {"id": "s", "limits": node.limits}
    assert _limits.plan(service, node.guest, node.fields, None) == ([], [])
    for step in _limits.plan({"id": "s", "limits": {}}, node.guest, node.fields, None)[0]:
        apply(node.guest, step)
    assert node.values() == before


def test_a_baseline_of_before_throttles_existed_still_gives_back_what_the_node_remembers():
    node = Node(guest(50000))
    node.fields, node.touched = {"power": "running"}, _hold.untouched()
    node.limits = {"cpu_throttle": {"percent": 10, "enforcement_ids": ["E-1"]}}
    node.reconcile()
    assert node.guest["scheduler"]["live"]["quota"] == 20000
    node.limits = {}
    node.reconcile()
    assert node.guest["scheduler"]["config"]["quota"] == 50000


@pytest.mark.parametrize("percent, vcpus, period, wanted", [
    (20, 1, None, 20000), (20, 4, None, 80000), (100, 2, None, 200000), (1, 1, None, 1000), (1, 1, 50000, 1000), (50, 3, 50000, 75000)])
def test_a_share_of_all_processors_together(percent, vcpus, period, wanted):
    assert _limits.quota({"percent": percent}, vcpus, period) == wanted


def test_a_guest_without_disks_is_said_to_have_none():
    seen = guest()
    seen["disks"] = {}
    steps, errors = _limits.plan({"id": "s", "limits": {"io_throttle": {"iops": 1, "bytes_per_second": None, "enforcement_ids": []}}},
                                 seen, _limits.capture(seen), _hold.untouched())
    assert not steps and errors[0]["code"] == "no_disk"


@pytest.mark.parametrize("terms, vcpus, period, wanted", [
    ({"percent": None, "millicores": 500}, 1, None, 50_000), ({"percent": None, "millicores": 500}, 8, None, 50_000),
    ({"percent": None, "millicores": 500}, 8, 20_000, 10_000), ({"percent": None, "millicores": 4000}, 2, None, 200_000),
    ({"percent": 20, "millicores": 500}, 2, None, 40_000), ({"percent": 20, "millicores": 500}, 8, None, 50_000),
    ({"percent": None, "millicores": 10}, 1, None, 1000), ({"percent": 20}, 2, None, 40_000)])
def test_cores_are_the_hosts_and_a_share_is_the_guests_and_the_tighter_counts(terms, vcpus, period, wanted):
    assert _limits.quota(terms, vcpus, period) == wanted
