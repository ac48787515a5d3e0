# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_requests import list_usage, meter


class ActionModule(LedgerAction):
    """Counts transfer and lists it; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "state": {"type": "str", "choices": ["listed", "metered"], "default": "listed"},
        "nodes": {"type": "list", "elements": "str"},
        "variable": {"type": "str", "default": "aup_usage"},
        "service": {"type": "str"},
    }
    INPUTS = ("service",)

    def _do(self, ledger, args, task_vars):
        if args["state"] == "listed":
            service = args["service"]
            if service is not None and not isinstance(service, str):
                raise InputError("service is not one id.", target="service", remedy="Name one: -e service=<id>.")
            with ledger.read() as tx:
                return list_usage(tx, service)
        if args["nodes"] is None:
            raise InputError("nodes is missing.", target="nodes", remedy="Name the nodes that were read.")
        seen = {}
        for node in args["nodes"]:
            found = task_vars["hostvars"][node].get(args["variable"]) or {}
            seen[node] = {name: found[name] for name in ("taken_at", "samples")} if "samples" in found else None
        return self._write(ledger, task_vars, lambda tx: meter(tx, seen, args["known_nodes"]))
