# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all action plugins on the ledger share. PRIVATE to the collection."""

from __future__ import annotations

import os
from typing import ClassVar

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import raw_inputs
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

_COMMON = {
    "ledger_url": {"type": "str", "required": True},
    "inputs": {"type": "list", "elements": "str", "default": []},
}
NODES = {"known_nodes": {"type": "list", "elements": "str"}}


def diff_of(changes):
    """Rows before and after, for `--diff`."""
    before, after = {}, {}
    for change in changes:
        name = "%s %s" % (change["what"], change["id"])
        before.setdefault(name, change["before"])
        after[name] = change["after"]
    return {
        "before": {name: row for name, row in before.items() if row is not None},
        "after": {name: row for name, row in after.items() if row is not None},
    }


class LedgerAction(ActionBase):
    """Base of the action plugins: a subclass gives `ARGUMENTS`, `_do`, and `INPUTS` that runbooks pass on.

    :cvar CREATES: make the ledger when there is none
    """

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    TRANSFERS_FILES = False
    ARGUMENTS: ClassVar[dict] = {}
    INPUTS = ()
    CREATES = False

    def _read_files(self, args, task_vars):
        """Read and check what is needed beside the ledger, before the ledger is opened or made."""

    def _do(self, ledger, args, task_vars):
        """Do it; returns the result's keys."""
        raise NotImplementedError

    def run(self, tmp=None, task_vars=None):
        """Run the action; see the module of the same name for its options."""
        result = super().run(tmp, task_vars)
        arguments = dict(_COMMON, **self.ARGUMENTS)
        if not self.INPUTS:
            del arguments["inputs"]
        _validated, args = self.validate_argument_spec(arguments)
        try:
            self._take_inputs(args, task_vars)
            self._read_files(args, task_vars)
            with open_ledger(args["ledger_url"], self.CREATES, self._task.check_mode) as ledger:
                result.update(self._do(ledger, args, task_vars))
        except AupError as exc:
            result.update(failed=True, changed=False, msg=str(exc), error=exc.to_result())
        return result

    def _take_inputs(self, args, task_vars):
        wanted = args.pop("inputs", ())
        unknown = sorted(set(wanted) - set(self.INPUTS))
        if unknown:
            raise InputError(
                "inputs %s can't be taken." % ", ".join(unknown),
                target="inputs",
                remedy="Known are: %s." % ", ".join(self.INPUTS),
            )
        args.update(raw_inputs(task_vars, wanted))

    def _write(self, ledger, task_vars, work):
        """Run `work(tx)` in a transaction, rolled back in check mode; adds pending and diff."""
        check = bool(self._task.check_mode)
        with ledger.transaction(check=check, actor=current_actor(os.environ, task_vars)) as tx:
            done = work(tx)
            done = dict(done, pending=tx.pending if check else [])
            if self._task.diff:
                done["diff"] = diff_of(tx.changes)
        return done
