# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._actor import current_actor
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import due_notices, ready_notices
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import notice_line, without_text
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._notices import _requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._deliver import Outbox, Receipts
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._smtp import TLS, Server

STATES = ("list", "sent", "released", "cancelled", "delivered", "bounced")


class ActionModule(LedgerAction):
    """Sends notices and settles what waits for a person; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "state": {"type": "str", "choices": list(STATES), "default": "list"},
        "notice": {"type": "str"},
        "note": {"type": "str"},
        "mail": {"type": "path"},
        "catalogue": {"type": "path"},
        "mapping": {"type": "raw"},
        "sender": {"type": "str"},
        "sender_name": {"type": "str"},
        "receipts": {"type": "path"},
        "most": {"type": "int", "default": 100},
        "smtp_host": {"type": "str"},
        "smtp_port": {"type": "int"},
        "smtp_tls": {"type": "str", "choices": list(TLS), "default": "starttls"},
        "smtp_ca_file": {"type": "path"},
        "smtp_username": {"type": "str"},
        "smtp_password": {"type": "str", "no_log": True},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 60},
    }
    INPUTS = ("state", "notice", "note", "mail")

    def _do(self, ledger, args, task_vars):
        if args["state"] not in STATES:
            raise InputError("state %r is not known." % (args["state"],), target="state", remedy="Use one of %s." % ", ".join(STATES))
        if args["state"] == "list":
            with ledger.read(now=int(time.time())) as tx:
                return requests.listed(tx)
        if args["state"] == "sent":
            return self._send(ledger, args, task_vars)
        return self._write(ledger, task_vars, lambda tx: getattr(requests, args["state"])(tx, args))

    def _send(self, ledger, args, task_vars):
        for name in ("catalogue", "sender", "smtp_host"):
            if not args[name]:
                raise InputError("%s is missing." % name, target=name, remedy="The playbook notices takes it from aup_%s." % name)
        if not 1 <= args["timeout"] <= 600:
            raise InputError("timeout %d is not between 1 and 600 seconds." % args["timeout"], target="timeout", remedy="60 suits most servers.")
        server = Server(
            args["smtp_host"], args["smtp_port"], args["smtp_tls"], args["smtp_ca_file"], args["validate_certs"],
            args["smtp_username"], args["smtp_password"], args["timeout"], 5 * args["timeout"],
        )
        services = load_catalogue(args["catalogue"], args["mapping"])["services"]
        if self._task.check_mode:
            with ledger.transaction(check=True, now=int(time.time())) as tx:
                ready_notices(tx)
                due = due_notices(tx)
            return {
                "changed": bool(due), "notices": [without_text(n) for n in due],
                "what": ["would send: %s" % notice_line(n) for n in due],
            }
        outbox = Outbox(
            ledger, server, services, args["sender"], args["sender_name"],
            Receipts(args["receipts"]), current_actor(os.environ, task_vars),
        )
        result = {}
        try:
            outbox.run(args["most"])
        except AupError as exc:
            result.update(failed=True, msg=str(exc), error=exc.to_result())
        with ledger.read(now=int(time.time())) as tx:
            left = requests.listed(tx)
        result.update(changed=outbox.changed, counts=outbox.counts, what=outbox.lines, notices=left["notices"])
        return result
