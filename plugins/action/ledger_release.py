# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import search_path
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import NODES, LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import release_files, retire
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy


def policies_named(default, catalogue, search):
    """(the default Policy, {key: Policy} of it, its other versions and all that services name).

    :param default: a policy's name or file, or a list: versions of one or more policies, the first's is the default
    :raises PolicyError: one can't be read, or is wrong; two are the same version, or begin on the same day
    """
    named = [default] if isinstance(default, str) else default
    if not isinstance(named, list) or not named or not all(isinstance(one, str) and one for one in named):
        raise InputError("aup_policy is neither a policy's name or file nor a list of them.", target="aup_policy", remedy="Set aup_policy.")
    loaded = [load_policy(str(one), search=search) for one in named]
    chosen, policies, begun = loaded[0], {}, {}
    for path, policy in zip(named, loaded):
        if policy.key in policies:
            raise PolicyError("%s is %s, and so is a file before it." % (path, policy.key), target="aup_policy",
                              remedy="Give each version a version of its own.")
        other = begun.setdefault((policy.name, policy.effective), policy)
        if other is not policy:
            raise PolicyError("%s and %s both come into force on %s." % (other.key, policy.key, policy.effective), target="aup_policy",
                              remedy="Set effective of the later one to its own day.")
        policies[policy.key] = policy
    names = {service["policy"] for service in catalogue["services"].values() if service.get("policy")}
    for name in sorted(names - {policy.name for policy in loaded} - set(policies)):
        policy = load_policy(name.partition("@")[0], search=search)
        policies[policy.key] = policy
    return chosen, policies


class ActionModule(LedgerAction):
    """Releases policy and catalogue; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        **NODES,
        "policy": {"type": "raw"},
        "catalogue": {"type": "str"},
        "mapping": {"type": "raw"},
        "accept_shrink": {"type": "bool", "default": False},
        "accept_older": {"type": "bool", "default": False},
        "accept_unannounced": {"type": "bool", "default": False},
        "retire": {"type": "str"},
    }
    CREATES = True

    def _read_files(self, args, task_vars):
        if args["retire"] is not None:
            self.CREATES = False  # a wrong aup_ledger_url is to be said, and not answered by an empty ledger there
            return
        for name in ("policy", "catalogue"):
            if not args[name]:
                raise InputError("%s is missing." % name, target="aup_%s" % name, remedy="Set aup_%s." % name)
        search = search_path(task_vars)
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
            lambda tx: release_files(tx, self._default, self._policies, self._catalogue, *accepted, known, args["accept_unannounced"]),
        )


def _found(path, search):
    """A relative path is looked for beside the inventory, then where Ansible was started."""
    path = os.path.expanduser(path)
    for directory in search:
        candidate = os.path.join(directory, path)
        if os.path.exists(candidate):
            return candidate
    return os.path.abspath(path)
