# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions that converge a node have in common: arguments, what a run wants, results. PRIVATE to the collection."""
from __future__ import annotations

import os
import socket

from ansible import constants

from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted

_ARGUMENTS = {
    "ledger_url": {"type": "str", "required": True},
    "run_id": {"type": "str", "required": True},
    "release": {"type": "int"},
    "pending": {"type": "list", "elements": "dict", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "stop_after_failure": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["fail", "record"], "default": "fail"},
}
NUMBERS = {"numbers": {"type": "dict", "default": {}}}
"""What the actions take that have to do with guests of a cluster that are about to be made."""


def numbers_of(args):
    """`{service: number}` of an action that takes `NUMBERS`."""
    return {str(service): int(number) for service, number in (args.get("numbers") or {}).items()}


def arguments(**own):
    """The argument spec of one of these actions.

    :param own: those that it alone has
    """
    return {**_ARGUMENTS, **own}


def wanted_of(node, args, **own):
    """What one run wants of one node, from validated arguments."""
    return Wanted(node=node, run_id=args["run_id"], release_id=args["release"], pending=args["pending"],
                  absent=args["state"] == "absent", stop_after_failure=args["stop_after_failure"], **own)


def locks():
    """Folder for this controller's locks."""
    return os.path.join(str(constants.config.get_config_value("ANSIBLE_HOME")), "hosting_aup")


def own_addresses(host):
    """The address this controller reaches `host` from, so that no runbook holds it. Sends nothing."""
    found = set()
    try:
        for family, kind, proto, _name, address in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, proto) as probe:
                probe.connect(address)
                found.add(probe.getsockname()[0])
    except OSError:
        pass  # not a name this controller resolves: a jump host is in between
    return found


def refused(result, args, exc):
    """The result of an action that could not begin."""
    return dict(result, failed=args["on_failure"] == "fail", outcome="failed", msg=str(exc), error=exc.to_result(),
                errors=[{"service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy}])


def finished(result, args, node, done, diff):
    """The result of an action from what became of its node.

    :param done: what `Converge.run` returned
    """
    result.update(done, node=node, diff=diff)
    if done["errors"]:
        result["msg"] = "; ".join("%s%s" % (e["service"] + ": " if e["service"] else "", e["message"]) for e in done["errors"])
        result["failed"] = args["on_failure"] == "fail"
    return result
