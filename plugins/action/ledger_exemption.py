# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._dns_checks import look_up
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import checks_due, exempt

UNKNOWN = "unknown"  # what kvm_info counts the guests under that no service is known for


def observed_services(seen, control):
    """Services of which a control in `observe` counted what it would have refused.

    :param seen: `{node: result of kvm_info}`
    :raises InputError: a node was not read, so its services would be missing
    """
    silent = sorted(node for node, info in seen.items() if not info or "counters" not in info)
    if silent:
        raise InputError("node %s was not read." % ", ".join(silent), target="observed_on",
                         remedy="Mend the connection, or leave the node out with -e aup_nodes=<others>.")
    return sorted({
        service for info in seen.values() for service, counters in info["counters"].items()
        if service != UNKNOWN and counters.get("%s_observed" % control, {}).get("packets")
    })


class ActionModule(LedgerAction):
    """Records and revokes exemptions; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "state": {"type": "str", "choices": ["present", "revoked"], "default": "present"},
        "service": {"type": "list", "elements": "str"},
        "control": {"type": "str"},
        "reason": {"type": "str"},
        "duration": {"type": "str"},
        "observed_on": {"type": "list", "elements": "str"},
        "variable": {"type": "str", "default": "aup_seen"},
        "approved_by": {"type": "str"},
        "waive": {"type": "str"},
        "domain": {"type": "str"},
        "resolvers": {"type": "list", "elements": "str", "default": []},
        "resolver_port": {"type": "int", "default": 53},
    }
    INPUTS = ("service", "control", "reason", "duration", "state", "approved_by", "waive", "domain")

    def _do(self, ledger, args, task_vars):
        del args["ledger_url"]
        nodes, variable = args.pop("observed_on"), args.pop("variable")
        if nodes is not None:
            seen = {node: task_vars["hostvars"][node].get(variable) for node in nodes}
            args["service"] = observed_services(seen, args["control"])
            if not args["service"]:
                return {"run_id": None, "nodes": [], "exemptions": [], "changed": False, "warnings": [], "pending": [],
                        "what": ["no service was seen doing what %s would refuse" % args["control"]]}
        args["service"] = [] if args["service"] is None else args["service"]
        domain, resolvers, port = args.pop("domain"), args.pop("resolvers"), args.pop("resolver_port")
        if args["state"] == "present" and not args["waive"]:
            # DNS is asked while nobody waits for the ledger.
            with ledger.read() as tx:
                due = checks_due(tx, args["service"], args["control"])
            if due:
                args["checked"] = look_up(due, domain, resolvers, port)
        return self._write(ledger, task_vars, lambda tx: exempt(tx, **args))
