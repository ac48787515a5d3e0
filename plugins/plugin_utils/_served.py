# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this version carries out, told from the code that does it. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._resolve import CONTROLS
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import KINDS
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import Served

SERVED = Served(frozenset(CONTROLS), frozenset(KINDS))
