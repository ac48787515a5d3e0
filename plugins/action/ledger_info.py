# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._evidence_requests import verify as verify_evidence
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    evidence_problems,
    find_exemptions,
    head,
    history,
    known_services,
    nodes,
    run_summary,
    status,
    verify,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import due_lines, history_lines, status_lines


class ActionModule(LedgerAction):
    """Reads the ledger; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "what": {
            "type": "str",
            "choices": ["status", "service", "history", "nodes", "run", "head", "verify"],
            "default": "status",
        },
        "service": {"type": "str"},
        "run_id": {"type": "str"},
        "head": {"type": "dict"},
        "due": {"type": "str"},
    }
    INPUTS = ("service", "run_id", "due")

    def _do(self, ledger, args, task_vars):
        what = args["what"]
        with ledger.read(now=int(time.time())) as tx:
            if what == "verify":
                return dict(self._verify(ledger, tx, args), changed=False)
            return dict(getattr(self, "_" + what)(tx, args), changed=False)

    @staticmethod
    def _status(tx, args):
        found = status(tx)
        if args["due"]:
            seconds = parse_duration(args["due"])
            lines = due_lines(found, seconds) or ["nothing is due within %s" % args["due"]]
        else:
            lines = status_lines(found)
        return {"status": found, "lines": lines, "text": "\n".join(lines)}

    @staticmethod
    def _service(tx, args):
        name = _named(tx, args)
        return {
            "service": name,
            "enforcements": active(tx, name),
            "exemptions": [e for e in find_exemptions(tx) if e["service"] == name],
        }

    @staticmethod
    def _history(tx, args):
        events = history(tx, _named(tx, args))
        lines = history_lines(events)
        return {"events": events, "lines": lines, "text": "\n".join(lines)}

    @staticmethod
    def _nodes(tx, _args):
        return {"nodes": nodes(tx)}

    @staticmethod
    def _run(tx, args):
        if not args["run_id"]:
            raise InputError("run_id is missing.", target="run_id", remedy="Name the run, like run-12.")
        return {"run": run_summary(tx, str(args["run_id"]))}

    @staticmethod
    def _head(tx, _args):
        return {"head": head(tx)}

    @staticmethod
    def _verify(ledger, tx, args):
        verified = verify(tx, args["head"])
        # Files beside a ledger in a database server are in a directory that ledger_evidence is told.
        verified["evidence"] = verify_evidence(ledger, tx)["problems"] if ledger.file else evidence_problems(tx)
        result = {"verified": verified}
        if not verified["ok"]:
            result.update(
                failed=True,
                msg="The ledger's event log is not intact: %s Compare it with a backup before writing again."
                % " ".join(problem["message"] for problem in verified["problems"][:5]),
            )
        elif verified["evidence"]:
            result.update(failed=True, msg="The log is intact, evidence is not: %s" % " ".join(one["message"] for one in verified["evidence"][:5]))
        return result


def _named(tx, args):
    name = args["service"]
    if not name:
        raise InputError("service is missing.", target="service", remedy="Name the service.")
    if name not in known_services(tx):
        raise InputError(
            "the ledger has not met service %r." % (name,), target="service", remedy="Check the id."
        )
    return str(name)
