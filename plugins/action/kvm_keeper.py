# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tempfile
from pathlib import Path

from ansible.plugins.action import ActionBase

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import build, version_of

ARGUMENTS = {"dest": {"type": "str", "default": "/usr/lib/hosting_aup/aup-node"},
             "host": {"type": "str", "choices": ["kvm", "proxmox"], "default": "kvm"}}
_COLLECTION = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """Copies the keeper's program to a host; see the module of the same name for its options."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        try:
            version, packed = version_of(_COLLECTION), build(_COLLECTION, host=args["host"])
        except AupError as exc:
            return dict(result, failed=True, msg=str(exc), error=exc.to_result())
        with tempfile.NamedTemporaryFile(prefix="aup-node-") as local:
            local.write(packed)
            local.flush()
            task = self._task.copy()
            task.args = {"src": local.name, "dest": args["dest"], "owner": "root", "group": "root", "mode": "0755"}
            task.diff = False  # a packed file says nothing to people
            copy = self._shared_loader_obj.action_loader.get(
                "ansible.legacy.copy", task=task, connection=self._connection, play_context=self._play_context, loader=self._loader,
                templar=self._templar, shared_loader_obj=self._shared_loader_obj)
            done = copy.run(task_vars=task_vars)
        result.update(done)
        result.update(version=version, dest=args["dest"])
        return result
