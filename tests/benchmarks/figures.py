# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How benchmarks say what they measured, and the table `make bench` ends with.

A line that has a target ends in figures and, in brackets, the target: `1.28 x (at most 2 x)`,
`+1.52 s (at most 3 s)`, `116 MiB (under 300 MiB)`. Of several figures in one line the worst counts.

    python tests/benchmarks/figures.py LOG
"""
from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

_TARGET = re.compile(r"\((?:at most|under|exactly) (?P<bound>[0-9.]+) (?P<unit>x|s|MiB|calls)\)")
_HEAD = re.compile(r"== (\S+)")


def line(label: str, figures: str, target: str = "") -> str:
    """One line of a benchmark's report."""
    return f"{label:<66} {figures:>24}  {f'({target})' if target else ''}".rstrip()


def spread(seconds: list[float]) -> str:
    """Median and, since the machine may be shared, the fastest and the slowest."""
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f} … {max(seconds):.2f}]"


def judged(text: str) -> list[tuple[str, str, str, str, str]]:
    """`(benchmark, what, figure, target, verdict)` of every line of a log that names a target."""
    rows, bench = [], ""
    for entry in text.splitlines():
        if head := _HEAD.match(entry):
            bench = head[1].removeprefix("bench_")
            continue
        target = _TARGET.search(entry)
        if not target:
            continue
        unit, bound = target["unit"], float(target["bound"])
        before = entry[:target.start()]
        found = list(re.finditer(rf"(?<![\w.,])([+-]?[0-9]+(?:\.[0-9]+)?) {unit}(?![\w])", before))
        if not found:
            continue
        figures = [float(match[1]) for match in found]
        # Seconds of the whole stand before the difference, which alone has a sign.
        signed = [float(match[1]) for match in found if match[1][0] in "+-"]
        value = max(signed or figures)
        reached = value == bound if "exactly" in target[0] else value <= bound if "at most" in target[0] else value < bound
        sign = "+" if signed and value >= 0 else ""
        shown = f"{sign}{value:g} {unit}"
        what = re.split(r"\s{2,}", before.strip())[0].rstrip(" :")
        rows.append((bench, what, shown, target[0].strip("()"), "reached" if reached else "NOT reached"))
    return rows


def table(text: str) -> str:
    """The closing table of a log."""
    rows = judged(text)
    if not rows:
        return "No figure with a target was measured."
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"{bench:<{widths[0]}}  {what:<{widths[1]}}  {shown:>{widths[2]}}  {target:<{widths[3]}}  {verdict}"
        for bench, what, shown, target, verdict in rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace")))
