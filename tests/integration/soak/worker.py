# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One controller of the soak, on the node itself: takes actions line by line and does them through the action plugins.

    python -m tests.integration.soak.worker <ledger url> <seconds to be ahead>
"""
from __future__ import annotations

import json
import os
import sys
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

from ansible_collections.hosting.aup.plugins.action import kvm_converge, ledger_enforcement, ledger_exemption, ledger_respond
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import release_files
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from tests.integration.soak import inside

NODE = "kvm1"


class Converge(kvm_converge.ActionModule):
    """The plugin, with the node's module run in this process: what kills the controller kills the module too."""

    def _call(self, task_vars):
        def call(**args):
            node = inside.node()
            try:
                if args["mode"] == "plan":
                    return node.plan(args["desired"], advance=True, adopt=args["adopt"])
                return node.apply(args["desired"], args["plan_hash"], args["confirm_seconds"], args["adopt"])
            except NodeError:
                raise
            except AupError as exc:
                raise NodeError(exc.message, code=exc.code, target=exc.target, remedy=exc.remedy, retryable=exc.retryable) from exc
        return call

    def _confirm(self, path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return not os.path.exists(path + ".claimed")


def act(plugin, name, **args):
    """Run an action plugin as a task does."""
    task = SimpleNamespace(args=args, action="hosting.aup." + name, check_mode=False, diff=False, async_val=0, name=name)
    connection = MagicMock()
    connection.transport = "local"
    one = plugin(task=task, connection=connection, play_context=MagicMock(check_mode=False), loader=MagicMock(), templar=MagicMock(),
                 shared_loader_obj=MagicMock())
    return one.run(task_vars={"inventory_hostname": NODE})


class Controller:
    """Does one action after another."""

    def __init__(self, url):
        self.url = url

    def _both(self, opened):
        if opened.get("failed"):
            return {"said": False, "why": opened["msg"]}
        outcome = None
        if opened["nodes"] or opened.get("always"):
            outcome = act(Converge, "kvm_converge", ledger_url=self.url, run_id=opened["run_id"], on_failure="record")
        return {"said": True, "outcome": outcome and outcome["outcome"], "changed": opened["changed"],
                "errors": [error["message"] for error in (outcome or {}).get("errors", ())]}

    def hold(self, **args):
        return self._both(act(ledger_enforcement.ActionModule, "ledger_enforcement", ledger_url=self.url, **args))

    def lift(self, **args):
        return self._both(act(ledger_enforcement.ActionModule, "ledger_enforcement", ledger_url=self.url, state="lifted", **args))

    def respond(self, **args):
        return self._both(act(ledger_respond.ActionModule, "ledger_respond", ledger_url=self.url, **args))

    def exempt(self, **args):
        return self._both(act(ledger_exemption.ActionModule, "ledger_exemption", ledger_url=self.url, **args))

    def reconcile(self):
        opened = act(ledger_enforcement.ActionModule, "ledger_enforcement", ledger_url=self.url, state="due")
        return self._both(dict(opened, always=True))

    def provision(self, catalogue):
        policy = load_policy("default")
        with open_ledger(self.url, create=True) as ledger, ledger.transaction(actor="setup") as tx:
            opened = release_files(tx, policy, {policy.key: policy}, load_catalogue(catalogue))
        done = act(Converge, "kvm_converge", ledger_url=self.url, run_id=opened["run_id"], release=opened["release_id"])
        return {"said": True, "outcome": done["outcome"]}


def main(url, ahead):
    real = time.time
    time.time = lambda: real() + ahead
    # Standard output belongs to the master; whatever a plugin says goes elsewhere.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.set_inheritable(answers.fileno(), False)
    controller = Controller(url)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        action = json.loads(line)
        os.environ["SUDO_UID"] = action["person"]  # whom the ledger takes this controller for
        done = getattr(controller, action["verb"])(**action["args"])
        print(json.dumps(done), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
