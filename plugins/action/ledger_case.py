# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._charge_requests import decide
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    answer_case,
    close_case,
    find_case,
    stop_notices,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import report_case


class ActionModule(LedgerAction):
    """Opens and closes cases; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "state": {"type": "str", "choices": ["open", "closed", "decided", "answered"], "default": "open"},
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
            raise InputError("case is missing.", target="case", remedy="Name the case.")
        work = self._close if args["state"] == "closed" else self._answered
        return self._write(ledger, task_vars, lambda tx: work(tx, args))

    @staticmethod
    def _close(tx, args):
        case = close_case(tx, case_id=str(args["case"]), reason=args["note"])
        dropped = [] if case["already"] else stop_notices(tx, case["id"])
        return {
            "case": case,
            "changed": not case["already"],
            "what": ["case %s is closed" % case["id"], *("notice %s was not sent and is dropped" % n["id"] for n in dropped)],
        }

    @staticmethod
    def _answered(tx, args):
        done = answer_case(tx, case_id=str(args["case"]), note=args["note"])
        said = "; the clock of %s stops" % ", ".join(done["stopped"]) if done["stopped"] else "; no clock ran"
        return {"case": find_case(tx, done["case"]), "changed": not done["already"], "what": ["case %s was answered%s" % (done["case"], said)]}
