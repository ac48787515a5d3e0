# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import API_ARGUMENTS, Client, target_of
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._usage import read_usage


class ActionModule(ActionBase):
    """Reads what the guests of one cluster have transferred; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(API_ARGUMENTS)
        try:
            client = Client(target_of(args, task_vars))
            return dict(result, changed=False, **read_usage(client, int(time.time())))
        except AupError as exc:
            return dict(result, failed=True, changed=False, msg=str(exc), error=exc.to_result())
