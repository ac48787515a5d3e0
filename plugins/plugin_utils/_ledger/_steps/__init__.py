# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's schema, one step per module; a released step is never changed. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0001_tables
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0002_append_only
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0003_proposals
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0004_charges
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0005_dated_inputs
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0006_responses
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0007_notices
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0008_node_journal
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0009_touched
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0010_usage
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0011_evidence
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0012_announcements
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import _s0013_usage_lives

# Literal imports: nothing is searched for on disk, so the steps also work from a packed collection.
STEPS = (
    (1, _s0001_tables.upgrade),
    (2, _s0002_append_only.upgrade),
    (3, _s0003_proposals.upgrade),
    (4, _s0004_charges.upgrade),
    (5, _s0005_dated_inputs.upgrade),
    (6, _s0006_responses.upgrade),
    (7, _s0007_notices.upgrade),
    (8, _s0008_node_journal.upgrade),
    (9, _s0009_touched.upgrade),
    (10, _s0010_usage.upgrade),
    (11, _s0011_evidence.upgrade),
    (12, _s0012_announcements.upgrade),
    (13, _s0013_usage_lives.upgrade),
)
