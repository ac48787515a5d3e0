# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._converge_action import NUMBERS, arguments, finished, locks, numbers_of, refused, wanted_of
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import API_ARGUMENTS, Client, target_of
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._cluster import ProxmoxCluster
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import ClusterConverge

ARGUMENTS = arguments(
    services={"type": "list", "elements": "str"}, rules_on={"type": "list", "elements": "str", "default": []},
    only_numbers={"type": "bool", "default": False}, adopt_from_other_ledger={"type": "bool", "default": False},
    **NUMBERS, **API_ARGUMENTS)


def _diff(steps):
    """Fields before and after, for `--diff`."""
    sides = {"before": "", "after": ""}
    for step in steps:
        where = "%s: " % step["service"] if step["service"] else "cluster: "
        for side in sides:
            sides[side] += "".join("%s%s %s: %s\n" % (where, step["verb"], key, value) for key, value in sorted(step[side].items()))
    return sides


class ActionModule(ActionBase):
    """Brings one Proxmox VE cluster to its desired state; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        node = task_vars["inventory_hostname"]
        check = bool(self._task.check_mode)
        wanted = wanted_of(node, args, numbers=numbers_of(args), adopt_from_other_ledger=args["adopt_from_other_ledger"])
        try:
            client = Client(target_of(args, task_vars))
            with open_ledger(args["ledger_url"], create=check, check=check) as ledger:
                converge = ClusterConverge(
                    ledger, ProxmoxCluster(client, args["services"]), current_actor(os.environ, task_vars),
                    lambda: int(time.time()), check,
                    locks(), args["rules_on"])
                done = converge.number(wanted) if args["only_numbers"] else converge.run(wanted)
        except AupError as exc:
            return refused(result, args, exc)
        done.pop("touched", None)
        return finished(result, args, node, done, _diff(done.get("steps", ())))
