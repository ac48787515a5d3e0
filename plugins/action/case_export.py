# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import re
from typing import ClassVar

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._case_page import case_page
from ansible_collections.hosting.aup.plugins.plugin_utils._files import check_directory, write_file
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction


def file_stem(case_id, view, account):
    """A file's name of letters, digits and dashes; two cases or accounts never share one."""
    parts = ["case", case_id, view] + ([account] if account else [])
    stem = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts)[:120]
    exact = "-".join(parts)
    return stem if stem == exact else "%s-%s" % (stem, hashlib.sha256(exact.encode("utf-8")).hexdigest()[:8])


class ActionModule(LedgerAction):
    """Writes one case as JSON and HTML; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "case": {"type": "str"},
        "view": {"type": "str", "choices": ["internal", "customer"], "default": "internal"},
        "account": {"type": "str"},
        "path": {"type": "str"},
    }
    INPUTS = ("case", "view", "account")

    def _do(self, ledger, args, task_vars):
        if args["case"] in (None, ""):
            raise InputError("case is missing.", target="case", remedy="Name the case: -e case=<id>.")
        account = None if args["account"] in (None, "") else str(args["account"])
        path = args["path"]
        if path is not None:
            check_directory(path)
        with ledger.read() as tx:
            document = tx.case_file(str(args["case"]), args["view"], account)
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
        result = {"document": document, "json": text, "html": case_page(document), "files": [], "changed": False,
                  "what": ["case %s, %s view: %d measures, %d events" % (
                      document["case"]["id"], document["view"], len(document["enforcements"]), len(document["timeline"]))]}
        if path is not None:
            stem = file_stem(document["case"]["id"], document["view"], document["account"])
            for kind in ("json", "html"):
                name = "%s/%s.%s" % (path.rstrip("/"), stem, kind)
                result["files"].append(name)
                result["changed"] = self._put(name, result[kind].encode("utf-8")) or result["changed"]
        return result

    def _put(self, name, data):
        """Write a file unless it is the same already. Returns whether it was not."""
        try:
            with open(name, "rb") as stream:
                if stream.read(len(data) + 1) == data:
                    return False
        except OSError:
            pass  # not there, or not ours to read: writing says which
        if not self._task.check_mode:
            write_file(name, data)
        return True
