# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shlex
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Converge
from ansible_collections.hosting.aup.plugins.plugin_utils._converge_action import arguments, finished, numbers_of, own_addresses, refused, wanted_of
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

ARGUMENTS = arguments(
    probes={"type": "list", "elements": "dict", "default": [],
            "options": {"host": {"type": "str", "required": True}, "port": {"type": "int", "required": True}}},
    confirm_seconds={"type": "int", "default": 30},
    user_data_directory={"type": "path"},
    adopt_from_other_ledger={"type": "bool", "default": False},
)
_CRASHED = "Run again with -vvv for the traceback; the node may be half changed, and hosting.aup.reconcile finishes it."


def _flat(prefix, value):
    """`{path: text}` of a nested value."""
    if not isinstance(value, dict):
        return {prefix: ", ".join(map(str, value)) if isinstance(value, list) else str(value)}
    return {path: text for key in value for path, text in _flat("%s: %s" % (prefix, key), value[key]).items()}


def _lines(result):
    """The plan as lines, for `--diff`."""
    before, after = [], []
    for step in result["steps"]:
        where = "%s: %s" % (step["service"] or "packet filter", step["verb"])
        if step.get("mac"):
            where += " %s %s" % (step["mac"], step["scope"])
        old, new = _flat(where, step["before"]), _flat(where, step["after"])
        before += ["%s: %s" % (path, old[path]) for path in sorted(old) if new.get(path) != old[path]]
        after += ["%s: %s" % (path, new[path]) for path in sorted(new) if old.get(path) != new[path]]
    return {"before": "".join(line + "\n" for line in before), "after": "".join(line + "\n" for line in after)}


class ActionModule(ActionBase):
    """Brings one KVM host to its desired state; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False
    ARGUMENTS = ARGUMENTS
    MODULE = "hosting.aup.kvm_node"
    CONVERGE = Converge

    def _call(self, task_vars):
        def call(**args):
            try:
                result = self._execute_module(module_name=self.MODULE, module_args=args, task_vars=task_vars)
            except AnsibleConnectionFailure as exc:
                raise NodeError("the node can't be reached: %s." % exc.message.strip().rstrip("."), code="unreachable", retryable=True,
                                remedy="Mend the connection, then run hosting.aup.reconcile.") from exc
            if result.get("failed"):
                error = result.get("error") or {}
                raise NodeError(
                    error.get("message") or _crash(result), code=error.get("code", "node"), target=error.get("target"),
                    remedy=error.get("remedy") or _CRASHED, retryable=error.get("retryable", False))
            return result
        return call

    def _confirm(self, path):
        """Remove the rollback file over a new connection: only that proves that the node is still reachable."""
        try:
            if self._connection.transport != "local":
                self._connection.reset()
            # Gone without having been claimed: confirmed here, or taken over by another run in between.
            command = "rm -f -- %s && test ! -e %s" % (shlex.quote(path), shlex.quote(path + ".claimed"))
            return self._low_level_execute_command(command, sudoable=True)["rc"] == 0
        except AnsibleConnectionFailure:
            return False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(self.ARGUMENTS)
        node = task_vars["inventory_hostname"]
        wanted = wanted_of(
            args.get("cluster", node), args, adopt_from_other_ledger=args["adopt_from_other_ledger"],
            confirm_seconds=args["confirm_seconds"], probes=args.get("probes", ()),
            user_data_directory=args.get("user_data_directory"), numbers=numbers_of(args), host=node if "cluster" in args else None,
            controller_addresses=() if self._connection.transport == "local"
            else own_addresses(self._play_context.remote_addr or node),
        )
        try:
            check = self._task.check_mode
            with open_ledger(args["ledger_url"], create=check, check=check) as ledger:
                done = self.CONVERGE(
                    ledger, self._call(task_vars), self._confirm, current_actor(os.environ, task_vars),
                    lambda: int(time.time()), check,
                ).run(wanted)
        except AupError as exc:
            return refused(result, args, exc)
        return finished(result, args, node, done, _lines(done))


def _crash(result):
    """What to say of a module that ended without an answer of ours; Ansible names the same in different places."""
    texts = [result.get(key) for key in ("msg", "exception", "module_stderr", "module_stdout")]
    said = [text.strip() for text in texts if isinstance(text, str) and text.strip()]  # newer cores hold an object in some
    return "the module on the node ended without an answer: %s" % (" | ".join(dict.fromkeys(said)) or "nothing was said")
