# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import search_path
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _refresh
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._data import Settings
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._names import read_resolver, resolve_names

_MOST_LISTS = 50


class ActionModule(LedgerAction):
    """Refreshes the data of mining pools; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "lists": {"type": "list", "elements": "str", "default": [_refresh.OWN]},
        "resolvers": {"type": "list", "elements": "str", "required": True},
        "spare": {"type": "list", "elements": "str", "default": []},
        "accept_networks": {"type": "list", "elements": "str", "default": []},
        "observe": {"type": "str", "default": "24h"},
        "keep": {"type": "str", "default": "24h"},
        "stale": {"type": "str", "default": "7d"},
        "most_addresses": {"type": "int", "default": 64},
        "accept_size": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 8},
    }

    def _read_files(self, args, task_vars):
        if not 1 <= len(args["lists"]) <= _MOST_LISTS:
            raise InputError("%d pool lists are given." % len(args["lists"]), target="lists",
                             remedy="Give 1 to %d." % _MOST_LISTS)
        search = search_path(task_vars)
        self._lists = [_refresh.read_list(path, search) for path in args["lists"]]
        self._resolvers = [read_resolver(text) for text in args["resolvers"]]
        self._settings = Settings(
            observe_seconds=_seconds(args, "observe"), keep_seconds=_seconds(args, "keep"),
            stale_seconds=max(1, _seconds(args, "stale")), most_addresses=args["most_addresses"],
            accept_size=args["accept_size"], accept_networks=_refresh.networks(args["accept_networks"], "accept_networks"))

    def _do(self, ledger, args, task_vars):
        # Asked before the transaction is begun: resolvers may be slow, and others write meanwhile.
        answers = resolve_names(_refresh.hosts_of(self._lists), self._resolvers, timeout=args["timeout"])

        def work(tx):
            spared = _refresh.spared_networks(tx, self._resolvers, args["spare"])
            return _refresh.refresh(tx, self._lists, answers, spared, self._settings)

        return self._write(ledger, task_vars, work)


def _seconds(args, name):
    return 0 if args[name] == "0" else parse_duration(args[name])
