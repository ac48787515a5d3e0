# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs of runbooks, taken as text and never as templates. PRIVATE to the collection.

What a responder, a survey or an alert passes with `-e` may come from a ticket that a stranger
wrote. Handed on as `"{{ note }}"` such text would be evaluated; read from the variables as it
stands it stays text.
"""
from __future__ import annotations

import os
from collections.abc import Mapping

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError


def _plain(value, name):
    """The value without Ansible's tags: str, bool, int, float, None, or lists of these."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)[:]
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    kind = "a mapping" if isinstance(value, Mapping) else "a %s" % type(value).__name__
    raise InputError("%s is %s, expected text or a list of texts." % (name, kind), target=name,
                     remedy="Pass it like -e %s=…" % name)


def raw_inputs(task_vars, names):
    """`{name: value}` of the variables that are set, untemplated.

    :param task_vars: what an action plugin is given
    :param names: the inputs a runbook takes
    :raises InputError: for a value that is neither text, number nor list
    """
    return {name: _plain(task_vars[name], name) for name in names if name in task_vars}


def search_path(task_vars):
    """Where files named by a relative path are looked for: beside the inventory, then where Ansible was started."""
    return [path for path in ((task_vars or {}).get("inventory_dir"), os.getcwd()) if path]
