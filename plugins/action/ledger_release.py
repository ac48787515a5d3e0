# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import release_files, retire
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy


def policies_named(default, catalogue, search):
    """(the default Policy, {key: Policy} of it and all that services name).

    :raises PolicyError: one can't be read, or is wrong
    """
    chosen = load_policy(default, search=search)
    policies = {chosen.key: chosen}
    names = {service["policy"] for service in catalogue["services"].values() if service.get("policy")}
    for name in sorted(names - {chosen.name, chosen.key}):
        policy = load_policy(name.partition("@")[0], search=search)
        policies[policy.key] = policy
    return chosen, policies


class ActionModule(LedgerAction):
    """Releases policy and catalogue; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "policy": {"type": "str"},
        "catalogue": {"type": "str"},
        "mapping": {"type": "raw"},
        "accept_shrink": {"type": "bool", "default": False},
        "accept_older": {"type": "bool", "default": False},
        "retire": {"type": "str"},
    }
    CREATES = True

    def _read_files(self, args, task_vars):
        if args["retire"] is not None:
            return
        for name in ("policy", "catalogue"):
            if not args[name]:
                raise InputError("%s is missing." % name, target="aup_%s" % name, remedy="Set aup_%s." % name)
        search = [path for path in (task_vars.get("inventory_dir"), os.getcwd()) if path]
        mapping = args["mapping"]
        if isinstance(mapping, str):
            mapping = _found(mapping, search)
        self._catalogue = load_catalogue(_found(args["catalogue"], search), mapping)
        self._default, self._policies = policies_named(args["policy"], self._catalogue, search)

    def _do(self, ledger, args, task_vars):
        known = args["known_nodes"]
        if args["retire"] is not None:
            return self._write(ledger, task_vars, lambda tx: retire(tx, args["retire"], known))
        accepted = args["accept_shrink"], args["accept_older"]
        return self._write(
            ledger,
            task_vars,
            lambda tx: release_files(tx, self._default, self._policies, self._catalogue, *accepted, known),
        )


def _found(path, search):
    """A relative path is looked for beside the inventory, then where Ansible was started."""
    path = os.path.expanduser(path)
    for directory in search:
        candidate = os.path.join(directory, path)
        if os.path.exists(candidate):
            return candidate
    return os.path.abspath(path)
