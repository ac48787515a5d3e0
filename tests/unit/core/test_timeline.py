# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A desired state knows its future: what it says of a later time is what `resolve` says then."""
from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_resolve import NODE, NOW, FixedPolicy, enforcement, entry, run, service, snapshot

from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS, POWER_ORDER
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.module_utils._timeline import at, bound, instants, passed
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack, unpack

times = st.integers(NOW - 100, NOW + 100)
enforcements = st.lists(st.builds(
    enforcement, number=st.integers(1, 10**6), sid=st.sampled_from(["a", "b", "gone"]), kind=st.sampled_from(KINDS),
    ends_at=st.none() | times, status=st.sampled_from(["opened", "active", "ending"]), starts_at=times,
    power=st.sampled_from(POWER_ORDER), rate=st.sampled_from(["10 Mbit/s", "1Gbit/s"]),
), max_size=7, unique_by=lambda e: e["id"])
exemption = st.builds(
    lambda sid, ends_at: {"id": "X-%s" % sid, "service": sid, "control": "smtp_outbound", "reason": "r", "clause": None,
                          "starts_at": 0, "ends_at": ends_at}, st.sampled_from("ab"), st.none() | times)
snapshots = st.builds(
    lambda active, exempt, adopted, node_at: snapshot(
        [service("a"), service("b")], enforcements=active, exemptions=exempt, adoptions=adopted,
        node={"name": "kvm1", "release_id": 1, "adopted_at": node_at}),
    enforcements, st.lists(exemption, max_size=2, unique_by=lambda e: e["service"]),
    st.dictionaries(st.sampled_from("ab"), times), st.none() | times)
policies = st.builds(lambda mode, seconds: FixedPolicy(mode, ("observe", seconds)),
                     st.sampled_from(["off", "observe", "enforce"]), st.integers(0, 150))


def same_but_for_time(desired):
    """A desired state without when it was made, what comes later and the format that needs; services of which nothing is said left out."""
    stripped = {key: value for key, value in desired.items() if key not in ("now", "then", "format", "services")}
    plain = [{key: value for key, value in s.items() if key != "then"} for s in desired["services"]]
    return stripped, [s for s in plain if s["id"] != "gone" or s["hold"] or s["limits"]]


@given(snapshots, policies, times, st.integers(0, 250))
@settings(max_examples=300)
def test_what_it_says_of_later_is_what_resolve_says_then(snap, policy, now, later):
    made = run(snap, policy, now=now).desired
    picked = at(unpack(pack(made)), now + later)
    assert same_but_for_time(picked) == same_but_for_time(run(snap, policy, now=now + later).desired)
    assert all(instant > now + later for instant in instants(picked))


@given(snapshots, policies, times, st.lists(st.integers(0, 250), max_size=4))
def test_in_steps_or_at_once_is_the_same(snap, policy, now, steps):
    made = run(snap, policy, now=now).desired
    stepped = made
    for step in sorted(steps):
        stepped = at(stepped, now + step)
    assert stepped == at(made, now + max(steps, default=0))


@given(snapshots, policies, times)
@example(snapshot([service("a")]), FixedPolicy(), NOW)
def test_the_past_is_not_known(snap, policy, now):
    made = run(snap, policy, now=now).desired
    assert at(made, now - 10**6) is made and at(made, now) is made


@given(snapshots, times, st.integers(0, 250))
def test_what_passed_is_the_difference_in_who_binds(snap, now, later):
    made = run(snap, now=now).desired
    before = {s["id"]: bound(s) for s in made["services"]}
    after = {s["id"]: bound(s) for s in at(made, now + later)["services"]}
    found = passed(made, now + later)
    ended = {(p["service"], p["enforcement_id"]) for p in found if not p["began"]}
    began = {(p["service"], p["enforcement_id"]) for p in found if p["began"]}
    assert began == {(sid, number) for sid in after for number in after[sid].keys() - before[sid].keys()}
    assert ended >= {(sid, number) for sid in before for number in before[sid].keys() - after[sid].keys()}
    assert all(now < p["at"] <= now + later for p in found)
    ends = {(e["service"], e["id"]): e["ends_at"] for e in snap["enforcements"]}
    assert all(p["at"] == ends[p["service"], p["enforcement_id"]] for p in found if not p["began"])


def test_only_what_changes_carries_a_timeline():
    held = [enforcement(1, "a", ends_at=NOW + 60), enforcement(2, "a", kind="bandwidth_cap", ends_at=NOW + 30)]
    made = run(snapshot([service("a"), service("b")], enforcements=held)).desired
    assert "then" not in entry_of(made, "b") and "then" not in made
    first, second = entry_of(made, "a")["then"]
    assert first == {"at": NOW + 30, "limits": {}} and second == {"at": NOW + 60, "hold": None}
    assert entry_of(at(made, NOW + 30), "b") is entry_of(made, "b")


def test_one_that_is_to_begin_later_is_known_beforehand():
    later = enforcement(1, "a", status="opened", starts_at=NOW + 10, ends_at=NOW + 20)
    made = run(snapshot([service("a")], enforcements=[later])).desired
    assert [entry_of(at(made, NOW + t), "a")["hold"] is not None for t in (0, 9, 10, 19, 20)] == [False, False, True, True, False]


@pytest.mark.parametrize("made_in", ["Europe/Berlin", "America/New_York", "UTC"])
def test_summer_time_changes_nothing(made_in, monkeypatch):
    """Times are seconds since the epoch: 48 hours are 48 hours in the night the clocks go back."""
    monkeypatch.setenv("TZ", made_in)
    night = 1_792_886_400  # 2026-10-25T00:00:00Z
    held = enforcement(1, "a", starts_at=night, ends_at=night + 48 * 3600)
    desired = resolve({"house@1": FixedPolicy()}, snapshot([service("a")], enforcements=[held]), NODE, night).desired
    assert entry_of(at(desired, night + 48 * 3600 - 1), "a")["hold"] and not entry_of(at(desired, night + 48 * 3600), "a")["hold"]


def test_reasons_are_those_of_now():
    resolution = run(snapshot([service("a")], enforcements=[enforcement(1, "a", ends_at=NOW)]))
    assert "suspend" not in resolution.reasons["a"] and entry(resolution, "a")["hold"] is None


def entry_of(desired, sid):
    return next(s for s in desired["services"] if s["id"] == sid)
