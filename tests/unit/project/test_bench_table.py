# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that `make bench` ends with says of each figure whether its target was reached, and of none a wrong thing."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from figures import judged, table


@pytest.mark.parametrize(("text", "shown", "verdict"), [
    ("observe, plan, apply      0.812 s   1.28 x (at most 2 x)", "1.28 x", "reached"),
    ("observe, plan, apply      0.812 s   2.01 x (at most 2 x)", "2.01 x", "NOT reached"),
    ("provision   9.80 s [9.10 … 12.00]  +7.90 s  (at most 8 s)", "+7.9 s", "reached"),
    ("provision   9.80 s [9.10 … 12.00]  +8.20 s  (at most 8 s)", "+8.2 s", "NOT reached"),
    ("provision   0.80 s [0.10 … 2.00]  -0.20 s  (at most 3 s)", "-0.2 s", "reached"),
    ("peak memory      116 MiB (under 300 MiB), largest nft 900 MiB", "116 MiB", "reached"),
    ("peak memory      300 MiB (under 300 MiB)", "300 MiB", "NOT reached"),
    ("10,000 against 10    1.012 x    1.120 x    0.990 x   (at most 1.1 x)", "1.12 x", "NOT reached"),
    ("module calls      2 calls  (exactly 2 calls)", "2 calls", "reached"),
    ("module calls      3 calls  (exactly 2 calls)", "3 calls", "NOT reached"),
])
def test_a_figure_and_its_verdict(text, shown, verdict):
    ((bench, _what, figure, _target, said),) = judged("== node (at 3 s)\n" + text)
    assert (bench, figure, said) == ("node", shown, verdict)


def test_lines_without_a_target_are_left_out():
    assert judged("== node\nbare   0.6 s\nrounds (at most as many as fit)\n") == []
    assert "No figure" in table("nothing")
