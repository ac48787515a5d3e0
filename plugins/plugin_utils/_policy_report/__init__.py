# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What policies say, for people: coverage, outcomes, differences, pages. Pure. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._coverage import (
    Served,
    coverage,
    coverage_lines,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._diff import (
    concerned_services,
    difference,
    diff_lines,
    released_version,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import (
    grouped,
    matrix,
    matrix_lines,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._course import course
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._pages import index_page, matrix_page, page
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._side_by_side import outcome, side_by_side

__all__ = [
    "Served",
    "concerned_services",
    "course",
    "coverage",
    "coverage_lines",
    "diff_lines",
    "difference",
    "grouped",
    "index_page",
    "matrix",
    "matrix_lines",
    "matrix_page",
    "outcome",
    "page",
    "released_version",
    "side_by_side",
]
