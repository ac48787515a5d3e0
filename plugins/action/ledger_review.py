# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import review
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction


class ActionModule(LedgerAction):
    """Reviews what exceeded a guardrail; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {"exceeded": {"type": "str"}, "note": {"type": "str"}}
    INPUTS = ("exceeded", "note")

    def _do(self, ledger, args, task_vars):
        if not args["exceeded"]:
            raise InputError("exceeded is missing.", target="exceeded", remedy="Name it, like -e exceeded=B-1; hosting.aup.status lists them.")

        def work(tx):
            document = review(tx, args["exceeded"], note=args["note"])
            said = "was reviewed before" if document["already"] else "is reviewed"
            return {"changed": not document["already"], "exceeded": document, "what": ["%s %s: %s of %s" % (
                document["id"], said, document["kind"], ", ".join(document["services"]))]}

        return self._write(ledger, task_vars, work)
