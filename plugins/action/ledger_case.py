# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._charge_requests import decide
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import close_case
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import report_case


class ActionModule(LedgerAction):
    """Opens and closes cases; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "state": {"type": "str", "choices": ["open", "closed", "decided"], "default": "open"},
        "case": {"type": "str"},
        "service": {"type": "str"},
        "violation": {"type": "str"},
        "fault": {"type": "str"},
        "note": {"type": "str"},
    }
    INPUTS = ("case", "service", "violation", "fault", "note")

    def _do(self, ledger, args, task_vars):
        if args["state"] == "open":
            wanted = {name: args[name] for name in ("case", "service", "violation", "note")}
            return self._write(ledger, task_vars, lambda tx: report_case(tx, **wanted))
        if args["state"] == "decided":
            return self._write(ledger, task_vars, lambda tx: decide(tx, args["case"], args["fault"], args["note"]))
        if not args["case"]:
            raise InputError("case is missing.", target="case", remedy="Name the case to close.")
        return self._write(ledger, task_vars, lambda tx: self._close(tx, args))

    @staticmethod
    def _close(tx, args):
        case = close_case(tx, case_id=str(args["case"]), reason=args["note"])
        return {"case": case, "changed": not case["already"], "what": ["case %s is closed" % case["id"]]}
