# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.action import kvm_converge
from ansible_collections.hosting.aup.plugins.plugin_utils._converge_action import NUMBERS
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._host import HostConverge

_NOT_HERE = ("probes", "user_data_directory")


class ActionModule(kvm_converge.ActionModule):
    """Brings a Proxmox VE node's packet filter to its desired state; see the module of the same name for its options."""

    ARGUMENTS = dict({name: spec for name, spec in kvm_converge.ARGUMENTS.items() if name not in _NOT_HERE},
                     cluster={"type": "str", "required": True}, **NUMBERS)
    MODULE = "hosting.aup.proxmox_host"
    CONVERGE = HostConverge
