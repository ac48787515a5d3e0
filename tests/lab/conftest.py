# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for the tests of a module; where there can be none, they are skipped and say why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from .controller import CHECKOUT
from .lab import IMAGE, Lab
from .spine import Spine, prepare


def _obstacle() -> str | None:
    asked = subprocess.run(
        [str(CHECKOUT / "scripts/preflight"), "--tools"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        cwd=CHECKOUT, check=False)
    if asked.returncode:
        return asked.stderr.strip()
    return None if (IMAGE / "clock.so").exists() else "there is no guest image: run scripts/setup"


@pytest.fixture(scope="session")
def can_run_labs() -> None:
    """Skips the test where this machine can't run a lab."""
    if obstacle := _obstacle():
        pytest.skip(obstacle)


@pytest.fixture(scope="module")
def lab(can_run_labs: None) -> Iterator[Lab]:
    """A lab of one node, with no policy applied yet; the tests of a module share it."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def arrival(can_run_labs: None) -> Iterator[dict]:
    """A lab for the tests of a module, and how it came under policy: in check mode, really, and once more."""
    with Lab() as made:
        spine = prepare(made)
        seen = {"spine": spine, "before": spine.everything()}
        seen["checked"] = spine.play("provision", check=True)
        seen["after check"] = spine.everything()
        seen["provisioned"] = spine.play("provision", arguments=("--diff",))
        seen["again"] = spine.play("provision", arguments=("--diff",))
        yield seen


@pytest.fixture
def spine(arrival: dict) -> Iterator[Spine]:
    """The provisioned lab; whatever a test does to it, the next one finds nothing held."""
    spine = arrival["spine"]
    arrival["provisioned"].ok()
    yield spine
    spine.tidy()
