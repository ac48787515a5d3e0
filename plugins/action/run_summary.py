# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hosting.aup.plugins.plugin_utils._summary import node_result, summarise

ARGUMENTS = {
    "opened": {"type": "dict", "required": True},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "variable": {"type": "str", "default": "aup_converged"},
}


class ActionModule(ActionBase):
    """Ends a runbook; see the module of the same name for its options."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        hostvars = task_vars["hostvars"]
        nodes = [node_result(name, hostvars[name].get(args["variable"])) for name in args["nodes"]]
        summary = summarise(args["opened"], nodes, bool(self._task.check_mode))
        lines = summary.pop("lines")
        Display().display("\n" + "\n".join(lines or ["Nothing to do."]) + "\n")
        stats = {"data": {"aup": summary}, "per_host": False, "aggregate": False}
        failed = [node["node"] for node in nodes if node["outcome"] not in ("changed", "unchanged")]
        result.update(
            changed=False, failed=not summary["ok"], ansible_stats=stats,
            msg="Not done on %s; the lines above say why, and what to do." % ", ".join(failed) if failed else "Done.",
        )
        if not failed:  # a failed task's result is printed as a whole, and all of it was just said
            result.update(summary=summary, lines=lines)
        return result
