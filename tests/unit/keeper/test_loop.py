# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the keeper makes a pass, on a clock that the test moves: never early, at most five seconds late."""
from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._keeper._clock import Clock, kernel_is_synchronised
from ansible_collections.hosting.aup.plugins.module_utils._keeper._loop import INTERVAL, STEP, Keeper

NOW = 1_800_000_000


class World:
    """A machine: its clock as it shows, the seconds that really pass, and whether NTP has an answer."""

    def __init__(self, synchronised=True):
        self.real, self.offset, self.synchronised = 1000.0, NOW - 1000.0, synchronised
        self.clock = Clock(False, lambda: self.real + self.offset, lambda: self.real, lambda: self.synchronised)
        self.said = []

    @property
    def wall(self):
        return self.real + self.offset


class Node:
    """What the keeper asks of KvmNode; remembers the passes."""

    def __init__(self, instants=(), seconds=0.1):
        self.due, self.seconds = list(instants), seconds
        self.world, self.mark, self.passes, self.errors, self.deferred = None, 1, [], [], 0
        self.raises = None

    def desired_mark(self):
        return self.mark

    def instants(self):
        return sorted(self.due)

    def keep(self, moment):
        self.passes.append((self.world.real, moment))
        self.world.real += self.seconds
        if self.raises:
            raise self.raises
        deferred, self.deferred = self.deferred, max(0, self.deferred - 8)
        return {"changed": False, "steps": [], "errors": self.errors, "ended": [], "began": [], "deferred": deferred, "idle": False}


def made(node, world):
    node.world = world
    return Keeper(node, world.clock, world.said.append)


def go(keeper, world, seconds, woken=None):
    """Let time pass as the program does: a step, then a wait no longer than it says."""
    end = world.real + seconds
    while world.real < end:
        patience = keeper.step()
        assert 0 < patience <= STEP
        world.real += min(patience, max(0.01, end - world.real))


def first_after(node, instant):
    return next((moment for _real, moment in node.passes if moment is not None and moment >= instant), None)


@given(st.lists(st.floats(0.5, 300), min_size=1, max_size=6), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_each_end_starts_in_time_and_none_early(after, seconds):
    world, instants = World(), sorted({int(NOW + one) for one in after})
    node = Node(instants, seconds)
    keeper = made(node, world)
    go(keeper, world, 310)
    for instant in instants:
        assert instant <= first_after(node, instant) < instant + 5
    assert len(node.passes) <= 1 + len(instants) + 310 / INTERVAL + 1, "nothing else calls for a pass"


def test_idle_it_looks_once_in_an_interval():
    world, node = World(), Node()
    go(made(node, world), world, 10 * INTERVAL)
    assert len(node.passes) in (10, 11)


def test_a_clock_set_forward_before_ntp_ends_nothing():
    """A host boots with the clock of its battery: a year ahead. Nothing ends until NTP has put that right."""
    world = World(synchronised=False)
    world.offset += 365 * 86400
    node = Node([NOW + 100])
    keeper = made(node, world)
    go(keeper, world, 60)
    assert {moment for _real, moment in node.passes} == {None} and "not synchronised" in world.said[0]
    world.offset -= 365 * 86400
    world.synchronised = True
    go(keeper, world, 60)
    assert NOW + 100 <= first_after(node, NOW + 100) < NOW + 105
    assert min(moment for _real, moment in node.passes if moment) < NOW + 100, "and it looked as soon as it could tell the time"


@pytest.mark.parametrize("jump", [-86400, -30, 30, 86400])
def test_a_clock_set_by_hand_is_not_believed_and_time_goes_on(jump):
    """Whoever sets the clock makes the kernel say that it isn't disciplined (clock_settime(2), ntp_clear)."""
    world, node = World(), Node([NOW + 100])
    keeper = made(node, world)
    go(keeper, world, 20)
    world.offset += jump
    world.synchronised = False
    go(keeper, world, 120)
    real = next(real for real, moment in node.passes if moment is not None and moment >= NOW + 100)
    assert 1100 <= real < 1105 and "held over" in "".join(world.said)


def test_ntp_that_was_lost_for_hours_makes_it_late_and_not_early():
    world, node = World(), Node([NOW + 6 * 3600])
    keeper = made(node, world)
    go(keeper, world, 5)
    world.synchronised = False
    go(keeper, world, 6 * 3600 + 10)
    real = next(real for real, moment in node.passes if moment >= NOW + 6 * 3600)
    assert 0 <= real - 1000 - 6 * 3600 < 5


def test_a_machine_that_was_suspended_ends_at_once_what_ended_meanwhile():
    world, node = World(), Node([NOW + 100])
    keeper = made(node, world)
    go(keeper, world, 20)
    world.real += 7200  # CLOCK_BOOTTIME and the wall clock count it, the wait does not
    woke = world.real
    go(keeper, world, 10)
    assert any(woke <= real < woke + 5 for real, moment in node.passes)


def test_a_clock_that_ntp_steps_back_calls_for_nothing_again():
    world, node = World(), Node([NOW + 100])
    keeper = made(node, world)
    go(keeper, world, 110)
    world.offset -= 60
    count = len(node.passes)
    go(keeper, world, 100)
    assert len(node.passes) <= count + 3


def test_a_new_desired_state_is_noticed():
    world, node = World(), Node([])
    keeper = made(node, world)
    go(keeper, world, 5)
    node.due, node.mark = [NOW + 20], 2
    go(keeper, world, 30)
    assert NOW + 20 <= first_after(node, NOW + 20) < NOW + 25


def test_events_are_gathered_and_a_storm_does_not_starve_the_machine():
    world, node = World(), Node([], seconds=1.0)
    keeper = made(node, world)
    go(keeper, world, 3)
    begin, count = world.real, len(node.passes)
    keeper.nudge()
    go(keeper, world, 4)
    assert len(node.passes) == count + 1 and node.passes[-1][0] - begin <= 2.5
    begin = world.real
    while world.real < begin + 60:
        keeper.nudge()
        patience = keeper.step()
        world.real += min(patience, 0.2)
    assert sum(1 for real, _moment in node.passes if real >= begin) <= 60 / 3 + 2, "at most a third of the time"


def test_boots_go_on_in_batches():
    world, node = World(), Node([NOW + 10])
    keeper = made(node, world)
    go(keeper, world, 9)
    node.deferred = 40
    go(keeper, world, 30)
    times = [real for real, moment in node.passes if moment >= NOW + 10]
    assert len(times) == 6 and all(1.9 <= b - a <= 4 for a, b in itertools.pairwise(times))


def test_trouble_is_said_once_and_tried_again_less_and_less_often():
    world, node = World(), Node([NOW + 400])
    keeper = made(node, world)
    node.errors = [{"service": "vps-1", "message": "no", "remedy": "."}]
    go(keeper, world, 390)
    assert world.said.count("error: vps-1: no") == 1 and len(node.passes) < 14
    go(keeper, world, 20)
    assert NOW + 400 <= first_after(node, NOW + 400) < NOW + 405, "one service's trouble makes no other late"


def test_a_host_that_can_not_be_looked_at_is_tried_again():
    world, node = World(), Node([NOW + 10])
    keeper = made(node, world)
    node.raises = NodeError("nft is broken.", code="nft")
    go(keeper, world, 20)
    node.raises = None
    go(keeper, world, 70)
    assert keeper.last is not None and world.said.count("error: nft is broken.") == 1


def test_the_kernel_can_be_asked():
    assert kernel_is_synchronised() in (True, False)


def test_a_trusted_clock_is_taken_as_it_is():
    assert Clock(True, lambda: 5.0, lambda: 1.0, lambda: False).moment() == 5.0
