# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _exemption_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._dns_checks import look_up
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import pending_request
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
    """Records exemptions and requests for them, decides and revokes; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "state": {"type": "str", "choices": ["present", "revoked", "requested", "approved", "denied"], "default": "present"},
        "service": {"type": "list", "elements": "str"},
        "control": {"type": "str"},
        "reason": {"type": "str"},
        "duration": {"type": "str"},
        "observed_on": {"type": "list", "elements": "str"},
        "variable": {"type": "str", "default": "aup_seen"},
        "request": {"type": "str"},
        "requested_by": {"type": "str"},
        "approved_by": {"type": "str"},
        "waive": {"type": "str"},
        "domain": {"type": "str"},
        "resolvers": {"type": "list", "elements": "str", "default": []},
        "resolver_port": {"type": "int", "default": 53},
    }
    INPUTS = ("service", "control", "reason", "duration", "state", "approved_by", "waive", "domain", "request", "requested_by")

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
        asked = {name: args.pop(name) for name in ("request", "requested_by", "domain", "resolvers", "resolver_port")}
        if args["state"] == "denied":
            return self._write(ledger, task_vars, lambda tx: requests.deny(tx, asked["request"], args["reason"]))
        checked = self._looked_up(ledger, args, asked)
        if args["state"] == "requested":
            return self._write(ledger, task_vars, lambda tx: requests.ask(
                tx, args["service"], args["control"], args["reason"], args["duration"], asked["requested_by"], asked["domain"], checked))
        if args["state"] == "approved":
            return self._write(ledger, task_vars, lambda tx: requests.approve(
                tx, asked["request"], args["approved_by"], args["waive"], checked, args["known_nodes"]))
        return self._write(ledger, task_vars, lambda tx: exempt(tx, **args, checked=checked))

    @staticmethod
    def _looked_up(ledger, args, asked):
        """What of the policy's checks is not met: asked of DNS while nobody waits for the ledger."""
        if args["state"] == "revoked" or args["waive"]:
            return None
        service, control, domain = args["service"], args["control"], asked["domain"]
        with ledger.read() as tx:
            if args["state"] == "approved" and asked["request"]:
                found = pending_request(tx, asked["request"])
                service, control, domain = [found["service"]], found["control"], domain or found["domain"]
            due = checks_due(tx, service, control)
        return look_up(due, domain, asked["resolvers"], asked["resolver_port"]) if due else None
