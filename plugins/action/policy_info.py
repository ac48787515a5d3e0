# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import search_path
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import (
    coverage,
    coverage_lines,
    matrix,
    matrix_lines,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._served import SERVED

ARGUMENTS = {
    "policy": {"type": "str", "required": True},
    "violation": {"type": "str"},
    "location": {"type": "str"},
    "account_type": {"type": "str"},
    "addons": {"type": "list", "elements": "str"},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Says what a policy holds and what follows from what; see the module of the same name for its options."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Run the action."""
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        search = search_path(task_vars)
        try:
            policy = load_policy(args["policy"], search=search)
            clauses = coverage(policy, SERVED)
            outcomes = matrix(policy, args["violation"], args["location"], args["account_type"], args["addons"])
        except AupError as exc:
            return dict(result, failed=True, changed=False, msg=str(exc), error=exc.to_result())
        lines = [*coverage_lines(policy, clauses), *matrix_lines(outcomes)]
        if args["show"]:
            Display().display("\n" + "\n".join(lines) + "\n")
        return dict(result, changed=False, policy_key=policy.key, clauses=clauses, matrix=outcomes, lines=lines)
