# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import bump_epoch, nodes, start_run
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction


def begin_epoch(tx, reason):
    """A new epoch and the run that brings it to the nodes."""
    epoch = bump_epoch(tx, reason)
    managed = [node["name"] for node in nodes(tx) if node["release_id"] is not None]
    return {
        "epoch": epoch,
        "changed": True,
        "run_id": start_run(tx, "epoch", {"reason": reason}),
        "nodes": managed,
        "what": ["the ledger is in epoch %d: reconcile now, so that the nodes follow it" % epoch],
    }


class ActionModule(LedgerAction):
    """Begins a new epoch after a restore; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {"reason": {"type": "str"}}
    INPUTS = ("reason",)

    def _do(self, ledger, args, task_vars):
        if not args["reason"]:
            raise InputError(
                "reason is missing.", target="reason", remedy="Say which backup was restored, and why."
            )
        return self._write(ledger, task_vars, lambda tx: begin_epoch(tx, args["reason"]))
