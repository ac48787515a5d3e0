# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.action.router_converge import ActionModule as _RouterConverge
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._router._check import check_router
from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import PLATFORMS

ARGUMENTS = {
    "platform": {"type": "str", "required": True, "choices": sorted(PLATFORMS)},
    "mark": {"type": "int"},
    "known_hosts": {"type": "path", "default": "~/.ssh/known_hosts"},
    "timeout": {"type": "int", "default": 60},
}


class ActionModule(_RouterConverge):
    """Reads a router; see the module of the same name for its options."""

    def run(self, tmp=None, task_vars=None):
        result = ActionBase.run(self, tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        try:
            target = self._target(task_vars["inventory_hostname"], args)
        except AupError as exc:
            return dict(result, failed=True, msg=str(exc))
        result.update(check_router(args["platform"], target, args["mark"]), changed=False, platform=args["platform"])
        if result["error"]:
            result.update(failed=True, msg="%s %s" % (result["error"]["message"], result["error"]["remedy"]))
        return result
