# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import exempt


class ActionModule(LedgerAction):
    """Records and revokes exemptions; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "state": {"type": "str", "choices": ["present", "revoked"], "default": "present"},
        "service": {"type": "list", "elements": "str"},
        "control": {"type": "str"},
        "reason": {"type": "str"},
        "duration": {"type": "str"},
    }
    INPUTS = ("service", "control", "reason", "duration", "state")

    def _do(self, ledger, args, task_vars):
        del args["ledger_url"]
        args["service"] = [] if args["service"] is None else args["service"]
        return self._write(ledger, task_vars, lambda tx: exempt(tx, **args))
