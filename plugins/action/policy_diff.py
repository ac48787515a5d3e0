# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._inputs import search_path
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import (
    concerned_services,
    diff_lines,
    difference,
    released_version,
)

ARGUMENTS = {
    "new": {"type": "str", "required": True},
    "old": {"type": "str"},
    "ledger_url": {"type": "str"},
    "show": {"type": "bool", "default": True},
}


def present_release(url, now):
    """(release, {key: Policy}, catalogue) of the newest release in the ledger.

    :raises InputError: it holds none
    """
    with open_ledger(url, check=True) as ledger, ledger.read(now=now) as tx:
        release = tx.current_release()
        if release is None:
            raise InputError(
                "the ledger holds no release yet.", target="ledger_url", remedy="Run hosting.aup.provision first."
            )
        _release, documents, catalogue = tx.release_contents(release["id"])
    policies = {key: Policy.from_released(document) for key, document in documents.items()}
    return release, policies, catalogue


class ActionModule(ActionBase):
    """Says what a new version of a policy changes; see the module of the same name for its options."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Run the action."""
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        search = search_path(task_vars)
        try:
            if not (args["old"] or args["ledger_url"]):
                raise InputError(
                    "neither old nor ledger_url is given.",
                    target="old",
                    remedy="Name the older policy file, or the ledger whose present release holds it.",
                )
            new = load_policy(args["new"], search=search)
            present = present_release(args["ledger_url"], int(time.time())) if args["ledger_url"] else None
            old = load_policy(args["old"], search=search) if args["old"] else released_version(new, *present[:2])
            found = difference(old, new)
            services = concerned_services(found, new, old, *present) if present else None
        except AupError as exc:
            return dict(result, failed=True, changed=False, msg=str(exc), error=exc.to_result())
        lines = diff_lines(found, services)
        if args["show"]:
            Display().display("\n" + "\n".join(lines) + "\n")
        return dict(result, changed=False, difference=found, services=services, lines=lines)
