# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._converge_action import arguments, finished, locks, own_addresses, refused, wanted_of
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._router._converge import RouterConverge
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target

ARGUMENTS = arguments(
    known_hosts={"type": "path", "default": "~/.ssh/known_hosts"},
    timeout={"type": "int", "default": 60},
)


def _text(value):
    """An option of the connection as plain text, or None."""
    return None if value is None or value == "" else str(value)


def _diff(steps):
    """Lines before and after, and the exact commands, for `--diff`."""
    before = "".join(line + "\n" for step in steps for line in step["before"])
    after = "".join(command + "\n" for step in steps for command in step["commands"])
    return {"before_header": "lines now", "after_header": "commands", "before": before, "after": after}


class ActionModule(ActionBase):
    """Brings one router to its desired state; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def _target(self, node, args):
        """How to reach the router, from the same variables that Ansible's own SSH takes.

        :raises InputError: the node's connection is not SSH
        """
        option = self._connection.get_option
        try:
            return Target(
                name=node, host=_text(option("host")) or node, port=int(option("port") or 22),
                user=_text(option("remote_user")) or _text(self._play_context.remote_user),
                password=_text(option("password")), key_file=_key(option("private_key_file")),
                known_hosts=args["known_hosts"], timeout=args["timeout"], become=bool(self._play_context.become))
        except KeyError as exc:
            raise InputError("router %s has connection %s, which is not SSH." % (node, self._connection.transport),
                             target=node, remedy="Leave ansible_connection out for routers.") from exc

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        node = task_vars["inventory_hostname"]
        check = bool(self._task.check_mode)
        try:
            target = self._target(node, args)
            wanted = wanted_of(node, args, controller_addresses=own_addresses(target.host))
            with open_ledger(args["ledger_url"], create=check, check=check) as ledger:
                done = RouterConverge(
                    ledger, target, current_actor(os.environ, task_vars), time.time, check,
                    locks()).run(wanted)
        except AupError as exc:
            return refused(result, args, exc)
        return finished(result, args, node, done, _diff(done["steps"]))


def _key(path):
    return os.path.expanduser(str(path)) if path else None
