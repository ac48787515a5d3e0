# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import NAMES as OPTION_NAMES
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

_EVIDENCE = ("persists", "unanswered", "harms_others")


class ActionModule(LedgerAction):
    """Takes the next step of a ladder; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "service": {"type": "list", "elements": "str"},
        "violation": {"type": "str"},
        "case": {"type": "str"},
        "kind": {"type": "str"},
        "confirm": {"type": "raw"},
        "proposal": {"type": "str"},
        "note": {"type": "str"},
        "break_glass": {"type": "str"},
        **{name: {"type": "raw"} for name in (*_EVIDENCE, *OPTION_NAMES)},
    }
    INPUTS = ("service", "violation", "case", "kind", "confirm", "proposal", "note", "break_glass", *_EVIDENCE, *OPTION_NAMES)

    def _do(self, ledger, args, task_vars):
        del args["ledger_url"]
        args["confirmed"] = args.pop("confirm")
        args["service"] = [] if args["service"] is None else args["service"]
        return self._write(ledger, task_vars, lambda tx: respond(tx, **args))
