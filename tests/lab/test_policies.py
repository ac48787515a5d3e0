# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each policy from trigger to closed case: the stories of ``make demo POLICY=…``, told silently. On real guests where it has VPS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import story_asergo
from .lab import Lab
from .stories import PLACES, STORIES, tell
from .telling import Telling


@pytest.fixture(scope="module")
def telling(can_run_labs: None) -> Iterator[Telling]:
    with Lab(nodes=len(PLACES)) as made:
        yield Telling(made, loud=False)


@pytest.mark.parametrize("policy", STORIES)
def test_from_trigger_to_closed_case(telling, policy):
    try:
        tell(telling, policy)
    finally:
        telling.spine.tidy()
    assert telling.spine.holding() == []
    telling.spine.verify()


def test_from_trigger_to_closed_case_on_a_dedicated_servers_port(can_run_labs):
    story_asergo.tell(loud=False)
