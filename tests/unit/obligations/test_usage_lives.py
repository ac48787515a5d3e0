# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of a cluster's guests: whatever restarts, moves, is plugged anew or answered late, nothing is counted twice."""

from __future__ import annotations

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils import _usage_lives as lives
from hypothesis import given, settings
from hypothesis import strategies as st

WAIT = st.sampled_from([1, 9, 10, 30, 61, 120, 300, 301, 700, 5000, 90000])
BYTES = st.integers(0, 10**12)
CALM = st.one_of(
    st.tuples(st.just("wait"), WAIT), st.tuples(st.just("traffic"), BYTES, BYTES), st.tuples(st.just("restart")),
    st.tuples(st.just("migrate"), st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 5, 400])), st.tuples(st.just("look")))
WILD = st.one_of(CALM, st.tuples(st.just("replug"), st.floats(0, 1)), st.tuples(st.just("look twice")))
# Late answers and a clock that is set meanwhile, not both within the same minute: then nobody can tell.
LATE = st.one_of(WILD, st.tuples(st.just("look late")), st.tuples(st.just("look mixed")))
SET = st.one_of(WILD, st.tuples(st.just("clock"), st.sampled_from([-5000, -90, -2, 3, 70, 4000, 100000])))


class World:
    """A guest, what it really carried, and what a cluster shows of it."""

    def __init__(self):
        self.time, self.clock, self.place, self.began, self.raw, self.ever = 1_000_000, 0, "a", 990_000, [500, 300], [500, 300]
        self.shown, self.life, self.base, self.seen_ever = [], None, None, None
        self.number, self.tops, self.unsure = 0, {}, False
        self.note()

    def note(self):
        """What each node of the cluster told the others last; some of it is asked for later."""
        self.shown.append((self.time, self.number, self.place, self.time - self.began, list(self.raw), list(self.ever)))

    def do(self, event):
        verb, *rest = event
        if verb == "wait":
            self.time += rest[0]
        elif verb == "traffic":
            for one in (0, 1):
                self.raw[one] += rest[one]
                self.ever[one] += rest[one]
        elif verb in ("restart", "migrate"):
            self.place, self.began = (rest[0], self.time - rest[1]) if rest else (self.place, self.time)
            self.raw, self.number = [0, 0], self.number + 1
        elif verb == "replug":
            self.raw = [int(number * rest[0]) for number in self.raw]
        elif verb == "clock":
            self.clock += rest[0]
        else:
            self.look(verb)
            return
        self.note()

    def look(self, how):
        now = (self.time, self.number, self.place, self.time - self.began, list(self.raw), list(self.ever))
        older = [one for one in self.shown if one[0] >= self.time - 10]
        if how in ("look late", "look mixed"):
            now = older[0]
        place = self.place if how == "look mixed" else now[2]
        for _ in range(2 if how == "look twice" else 1):
            before = self.life
            self.life, verdict = lives.follow(self.life, {
                "service": "s", "place": place, "uptime": now[3], "at": self.time + self.clock, "received": now[4][0], "sent": now[4][1]})
            if before is None:
                self.base = now[5]
                self.seen_ever = now[5]
                self.tops = {now[1]: (list(now[4]), list(now[4]))}
            elif verdict != "stale":
                first, _last = self.tops.get(now[1], ([0, 0], None))
                if now[1] not in self.tops and before["uptime"] - now[3] <= lives.STALE:
                    self.unsure = True  # as old as the one before: a new start can't be told
                self.tops[now[1]] = (first, list(now[4]))
            elif now[1] not in self.tops:
                self.unsure = True
            self.seen_ever = [max(pair) for pair in zip(self.seen_ever, now[5], strict=True)]

    def counted(self):
        start = self.tops[min(self.tops)][0]
        return [self.life["counted"][one] - start[one] for one in (0, 1)]


@settings(max_examples=400)
@given(st.lists(LATE, max_size=40) | st.lists(SET, max_size=40))
def test_nothing_is_ever_counted_twice(events):
    world = World()
    first = True
    for event in events:
        world.do(event)
        if world.life is not None:
            if first:
                start, first = list(world.life["counted"]), False
            for one in (0, 1):
                assert 0 <= world.life["counted"][one] - start[one] <= world.seen_ever[one] - world.base[one]


@settings(max_examples=400)
@given(st.lists(CALM, max_size=40))
def test_all_that_was_seen_is_counted(events):
    """Lost is only what a guest carried after the last look and before it went; and where a start can't be told by its age."""
    world = World()
    for event in events:
        world.do(event)
    if world.life is None or world.unsure:
        return
    expected = [sum(last[one] - start[one] for start, last in world.tops.values()) for one in (0, 1)]
    assert world.counted() == expected


@pytest.mark.parametrize("change, verdict, counted", [
    ({"uptime": 1300, "at": 300, "received": 150}, "grown", 50), ({"uptime": 100, "at": 300, "received": 40}, "restarted", 40),
    ({"uptime": 100, "at": 300, "received": 140, "place": "b"}, "restarted", 140),
    # Shown at its new place with the numbers of the old one.
    ({"uptime": 1295, "at": 300, "received": 150, "place": "b"}, "grown", 50), ({"uptime": 995, "at": 5, "received": 90}, "stale", 0),
    ({"uptime": 1300, "at": 300, "received": 30}, "lowered", 0), ({"uptime": 1300, "at": -10, "received": 150}, "stale", 0),
    ({"uptime": 90000, "at": 5, "received": 900}, "stale", 0), ({"uptime": 90000, "at": 4000, "received": 900}, "grown", 800),
    # Its age went back by less than a clock that was set could explain, and it can't have been started since.
    ({"uptime": 800, "at": 300, "received": 150}, "stale", 0), ({"service": "t", "uptime": 1300, "at": 300, "received": 150}, "first", 0)])
def test_what_a_look_says(change, verdict, counted):
    now = {"service": "s", "place": "a", "uptime": 1000, "at": 0, "received": 100, "sent": 0}
    first, said = lives.follow(None, now)
    assert said == "first" and first["counted"] == [100, 0]
    after, said = lives.follow(first, {**now, **change})
    assert said == verdict and after["counted"][0] - 100 == counted
    if verdict == "stale":
        assert after == first
