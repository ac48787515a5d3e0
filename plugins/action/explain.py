# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import describe_node
from ansible_collections.hosting.aup.plugins.plugin_utils._explain import explain_service
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import raw_inputs
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

ARGUMENTS = {
    "ledger_url": {"type": "str", "required": True},
    "service": {"type": "str"},
    "inputs": {"type": "list", "elements": "str", "default": []},
    "seen_on": {"type": "list", "elements": "str"},
    "variable": {"type": "str", "default": "aup_seen"},
}


def views_of(tx, service_id, now):
    """What is decided for the service on each node it may be on, and the enforcements and exemptions in force."""
    newest = tx.snapshot(None, "newest")
    if newest["release"] is None:
        raise InputError("the ledger holds no release yet.", target="service", remedy="Run hosting.aup.provision first.")
    held = [e for e in newest["enforcements"] if e["service"] == service_id]
    service = newest["catalogue"]["services"].get(service_id)
    names = list(service["nodes"]) if service else sorted({n for e in held for n in e["snapshot"]["nodes"]})
    if not names:
        raise InputError("service %r is neither in release %s nor under any enforcement." % (service_id, newest["release"]["id"]),
                         target="service", remedy="hosting.aup.status lists the enforcements in force.")
    views = []
    for name in names:
        known = tx.find_node(name)
        if known is None or known["release_id"] is None:
            continue
        snapshot = tx.snapshot(name, None)
        policies = {key: Policy.from_released(document) for key, document in snapshot["policies"].items()}
        reasons = resolve(policies, snapshot, describe_node(name, snapshot["catalogue"]), now).reasons.get(service_id, {})
        clauses = {reason["clause"] for reason in reasons.values() if reason["clause"]}
        summaries = {c: p.clause_summary(c) for p in policies.values() for c in clauses if p.clause_summary(c)}
        views.append({"node": name, "release": snapshot["release"]["id"], "reasons": reasons, "summaries": summaries})
    exemptions = [e for e in newest["exemptions"] if e["service"] == service_id]
    return names, views, held, exemptions


class ActionModule(ActionBase):
    """Explains one service; see the module of the same name for its options."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        now = int(time.time())
        try:
            service_id = raw_inputs(task_vars, args["inputs"]).get("service", args["service"])
            if not isinstance(service_id, str) or not service_id:
                raise InputError("no service was named.", target="service", remedy="Add -e service=<id>.")
            with open_ledger(args["ledger_url"], check=True) as ledger, ledger.read(now=now) as tx:
                names, views, held, exemptions = views_of(tx, service_id, now)
                events = tx.history(service_id)
        except AupError as exc:
            return dict(result, failed=True, msg=str(exc), error=exc.to_result())
        seen = {}
        for name in args["seen_on"] or ():
            info = task_vars["hostvars"][name].get(args["variable"])
            seen[name] = info if info and "counters" in info else None
        lines = explain_service(service_id, views, held, exemptions, events, seen)
        if args["seen_on"] is not None:
            Display().display("\n" + "\n".join(lines) + "\n")
        return dict(result, changed=False, nodes=names, lines=lines, enforcements=held, exemptions=exemptions, views=views)
