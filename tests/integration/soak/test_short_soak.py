# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short soak of every `make test`; `make soak` is the long one. A failure names its seed."""
from __future__ import annotations

import random

import pytest
from libvirt_node import missing

from tests.integration.soak.soak import HOLDS, LIMITS, plan_actions, soak


def test_thirty_actions_from_four_controllers_that_are_killed():
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    seed = random.SystemRandom().randrange(10**6)
    try:
        figures = soak(None, seed, actions=30, services=6, controllers=4, playbooks=1)
    except AssertionError as exc:
        pytest.fail("seed %d: %s" % (seed, exc))
    assert sum(figures["became"].values()) == 30


def test_a_seed_is_the_same_actions_and_kills():
    one, other = (plan_actions(random.Random(11), 200, 20, 10) for _ in range(2))
    assert one == other != plan_actions(random.Random(12), 200, 20, 10)
    assert sum(action.playbook is not None for action in one) == 10
    assert 20 < sum(action.kill is not None for action in one) < 80
    assert {action.verb for action in one} == {"hold", "respond", "exempt", "lift", "reconcile"}
    kinds = {action.args.get("kind") for action in one if action.verb == "hold"}
    assert kinds == {*HOLDS, *LIMITS, "terminate"}
