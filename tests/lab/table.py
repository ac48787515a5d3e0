# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for a terminal: what each guest reaches, and two states side by side."""

from __future__ import annotations

from collections.abc import Mapping


def render(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Rows by name, columns by name. ``X`` and ``X/6`` (a target's two families) share a column, as ``IPv4 · IPv6``
    where they differ."""
    columns: list[str] = []
    for row in rows.values():
        columns += [name for name in row if not name.endswith("/6") and name not in columns]
    lines = [["", *columns]]
    for name, row in rows.items():
        cells = []
        for column in columns:
            four, six = row.get(column, ""), row.get(f"{column}/6")
            cells.append(four if six is None or six == four else f"{four} · {six}")
        lines.append([name, *cells])
    return _aligned(lines)


def compare(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, bool]:
    """Two states field by field, and whether they are the same throughout."""
    lines = [["field", "before", "after", ""]]
    for field in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(field, "(none)"), after.get(field, "(none)")
        lines.append([field, str(old), str(new), "same" if old == new else "DIFFERS"])
    return _aligned(lines), dict(before) == dict(after)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
