# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._usage import read_usage

ARGUMENTS = {
    "api_host": {"type": "str"},
    "api_port": {"type": "int", "default": 8006},
    "api_user": {"type": "str", "required": True},
    "api_token_id": {"type": "str", "required": True},
    "api_token_secret": {"type": "str", "required": True, "no_log": True},
    "ca_file": {"type": "path"},
    "fingerprint": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
}


class ActionModule(ActionBase):
    """Reads what the guests of one cluster have transferred; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        host = args["api_host"] or str(task_vars.get("ansible_host") or task_vars["inventory_hostname"])
        try:
            client = Client(Target(
                host=host, port=args["api_port"], user=args["api_user"], token_name=args["api_token_id"],
                token_value=args["api_token_secret"], ca_file=args["ca_file"], fingerprint=args["fingerprint"], timeout=args["timeout"]))
            return dict(result, changed=False, **read_usage(client, int(time.time())))
        except AupError as exc:
            return dict(result, failed=True, changed=False, msg=str(exc), error=exc.to_result())
