# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.plugin_utils._enforcement_options import NAMES as OPTION_NAMES
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import (
    end_what_is_due,
    hold,
    release_hold,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import carry_out, refuse_beside_proposal


class ActionModule(LedgerAction):
    """Opens, lifts and ends enforcements; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "state": {"type": "str", "choices": ["present", "lifted", "due"], "default": "present"},
        "kind": {"type": "str"},
        "service": {"type": "list", "elements": "str"},
        "violation": {"type": "str"},
        "case": {"type": "str"},
        "duration": {"type": "str"},
        "note": {"type": "str"},
        "break_glass": {"type": "str"},
        "proposal": {"type": "str"},
        **{name: {"type": "raw"} for name in OPTION_NAMES},
    }
    INPUTS = ("service", "violation", "case", "kind", "duration", "note", "break_glass", "proposal", *OPTION_NAMES)

    def _do(self, ledger, args, task_vars):
        del args["ledger_url"]
        state = args.pop("state")
        service = args.pop("service")
        if state == "due":
            return self._write(ledger, task_vars, lambda tx: end_what_is_due(tx, args["known_nodes"]))
        names = [] if service is None else service
        if state == "lifted":
            wanted = {name: args[name] for name in ("case", "kind", "note", "known_nodes")}
            return self._write(ledger, task_vars, lambda tx: release_hold(tx, names, **wanted))
        proposal = args.pop("proposal")
        if proposal:
            terms = {name: args.pop(name) for name in ("note", "break_glass", "known_nodes")}
            refuse_beside_proposal(service=names, **args)
            return self._write(ledger, task_vars, lambda tx: carry_out(tx, proposal, **terms))
        return self._write(ledger, task_vars, lambda tx: hold(tx, service=names, **args))
