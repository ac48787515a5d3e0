# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._router._converge import RouterConverge
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target

ARGUMENTS = {
    "ledger_url": {"type": "str", "required": True},
    "run_id": {"type": "str", "required": True},
    "release": {"type": "int"},
    "pending": {"type": "list", "elements": "dict", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "known_hosts": {"type": "path", "default": "~/.ssh/known_hosts"},
    "timeout": {"type": "int", "default": 60},
    "stop_after_failure": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["fail", "record"], "default": "fail"},
}


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
        wanted = Wanted(node=node, run_id=args["run_id"], release_id=args["release"], pending=args["pending"],
                        absent=args["state"] == "absent", stop_after_failure=args["stop_after_failure"])
        try:
            target = self._target(node, args)
            with open_ledger(args["ledger_url"], create=check, check=check) as ledger:
                done = RouterConverge(
                    ledger, target, current_actor(os.environ, task_vars), time.time, check,
                    os.path.join(str(constants.config.get_config_value("ANSIBLE_HOME")), "hosting_aup")).run(wanted)
        except AupError as exc:
            return dict(result, failed=args["on_failure"] == "fail", outcome="failed", msg=str(exc), error=exc.to_result(),
                        errors=[{"service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy}])
        result.update(done, node=node, diff=_diff(done["steps"]))
        if done["errors"]:
            result["msg"] = "; ".join(
                "%s%s" % (e["service"] + ": " if e["service"] else "", e["message"]) for e in done["errors"])
            result["failed"] = args["on_failure"] == "fail"
        return result


def _key(path):
    return os.path.expanduser(str(path)) if path else None
