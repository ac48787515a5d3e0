# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _evidence_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction

TAKES = {
    "listed": ("case",),
    "added": ("case", "file", "file_name", "media_type", "class", "service", "note"),
    "removed": ("evidence", "reason"),
    "expired": (),
    "erased": ("evidence", "reason"),
    "held": ("case", "reason"),
    "hold_released": ("case", "reason"),
    "notices_locked": ("case", "reason"),
    "notices_released": ("case", "reason"),
    "disclosed": ("case", "reference", "recipient", "basis", "evidence"),
    "verified": (),
}
"""Which options each state takes; another one given is a mistake, and refused."""
_OPTIONS = sorted({one for names in TAKES.values() for one in names})


class ActionModule(LedgerAction):
    """Keeps evidence of cases; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "state": {"type": "str", "choices": list(TAKES), "default": "listed"},
        "directory": {"type": "str"},
        **{name: {"type": "str"} for name in _OPTIONS},
    }
    INPUTS = ("state", *_OPTIONS)

    def _do(self, ledger, args, task_vars):
        state, directory = args["state"], args["directory"]
        if state not in TAKES:
            raise InputError("state %r is not known." % (state,), target="state", remedy="Use one of %s." % ", ".join(TAKES))
        given = {name: args[name] for name in _OPTIONS if args[name] not in (None, "")}
        unused = sorted(set(given) - set(TAKES[state]))
        if unused:
            raise InputError("%s does not go with state %s." % (unused[0], state), target=unused[0], remedy="Leave it out, or use another state.")
        for name, value in given.items():
            if not isinstance(value, (str, int)) and not (name == "evidence" and isinstance(value, list)):
                raise InputError("%s is not text." % name, target=name, remedy="Pass it like -e %s=…" % name)
            given[name] = value if isinstance(value, list) else str(value)
        if "class" in given:
            given["wanted"] = given.pop("class")
        return self._ask(ledger, task_vars, state, directory, given)

    def _ask(self, ledger, task_vars, state, directory, given):
        def write(work):
            return self._write(ledger, task_vars, work)

        if state in ("added", "removed", "expired"):
            function = {"added": requests.add, "removed": requests.remove, "expired": requests.expire}[state]
            return function(ledger, write, bool(self._task.check_mode), directory, **given)
        if state in ("disclosed", "erased"):
            function = requests.disclose if state == "disclosed" else requests.erase
            return write(lambda tx: function(tx, **given))
        if state not in ("listed", "verified"):
            return write(lambda tx: requests.flag(tx, state, **given))
        with ledger.read() as tx:
            if state == "listed":
                return requests.listed(tx, **given)
            found = requests.verify(ledger, tx, directory)
        lines = [one["message"] for one in found["problems"]]
        result = {"verified": found, "changed": False, "what": lines or ["%d files are what their digests say" % found["files"]]}
        if lines:
            result.update(failed=True, msg="Evidence is not intact: %s" % " ".join(lines[:5]))
        return result
