# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _charge_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._fees import billing_csv, billing_json
from ansible_collections.hosting.aup.plugins.plugin_utils._files import check_directory, write_file
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction

TAKES = {
    "listed": ("case", "account", "service"),
    "recorded": ("case", "fee", "amount", "worked", "quantity", "reference", "account", "note"),
    "waived": ("charge", "reason"),
    "exported": ("export",),
    "no_credit": ("service", "begins", "ends"),
}
"""Which options each state takes; another one given is a mistake, and refused."""


class ActionModule(LedgerAction):
    """Lists, records, waives and exports charges; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "state": {"type": "str", "choices": list(TAKES), "default": "listed"},
        "path": {"type": "str"},
        **{name: {"type": "str"} for name in sorted({one for names in TAKES.values() for one in names})},
    }
    INPUTS = ("state", *sorted({one for names in TAKES.values() for one in names}))

    def _do(self, ledger, args, task_vars):
        del args["ledger_url"]
        state, path = args.pop("state"), args.pop("path")
        if state not in TAKES:
            raise InputError("state %r is not known." % (state,), target="state", remedy="Use one of %s." % ", ".join(TAKES))
        given = {name: value for name, value in args.items() if value not in (None, "")}
        unused = sorted(set(given) - set(TAKES[state]))
        if unused:
            raise InputError("%s does not go with state %s." % (unused[0], state), target=unused[0],
                             remedy="Leave it out, or use another state.")
        if state in ("listed", "no_credit"):
            with ledger.read() as tx:
                function = requests.list_charges if state == "listed" else requests.credit_view
                return function(tx, **given)
        if state == "exported":
            return self._export(ledger, task_vars, given, path)
        function = requests.record_fee if state == "recorded" else requests.waive
        return self._write(ledger, task_vars, lambda tx: function(tx, **given))

    def _export(self, ledger, task_vars, given, path):
        if path is not None:
            check_directory(path)
        done = self._write(ledger, task_vars, lambda tx: requests.take_export(tx, **given))
        done.update(json=billing_json(done["export"], done["charges"]), csv=billing_csv(done["charges"]), files=[])
        if path is not None and done["export"]:
            for kind in ("json", "csv"):
                name = "%s/charges-%s.%s" % (path.rstrip("/") or "", done["export"], kind)
                done["files"].append(name)
                if not self._task.check_mode:
                    write_file(name, done[kind].encode("utf-8"))
        return done
