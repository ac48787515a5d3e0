# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask of the ledger: checked, then written. PRIVATE to the collection.

Every function takes a transaction and plain values, collects all that is wrong with them into one error,
and writes only when nothing is.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._cases import report_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._exemptions import check_exemption, checks_due, exempt
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._holds import end_what_is_due, hold, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._measures import (
    note_exceeded,
    notice_lines,
    open_planned,
    plan_measure,
    tell,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._problems import Problems, service_names
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._released import Released, begin, check_known
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._releases import release_files, retire

__all__ = [
    "Problems",
    "Released",
    "begin",
    "check_exemption",
    "check_known",
    "checks_due",
    "end_what_is_due",
    "exempt",
    "hold",
    "note_exceeded",
    "notice_lines",
    "open_planned",
    "plan_measure",
    "release_files",
    "release_hold",
    "report_case",
    "retire",
    "service_names",
    "tell",
]
