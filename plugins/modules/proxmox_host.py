#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_host
short_description: Plan or apply the packet filter of a Proxmox VE node (private)
version_added: 1.0.0
description:
  - The node's half of M(hosting.aup.proxmox_host_converge), which is the action to use in playbooks.
  - PRIVATE to the collection. Its options change without notice.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - nftables 1.0.2 or later
extends_documentation_fragment:
  - hosting.aup._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: M(hosting.aup.proxmox_host_converge) renders the difference from the plan.
options:
  mode:
    description: V(plan) observes and says what would be done. V(apply) does exactly that plan, or nothing.
    type: str
    choices: [plan, apply]
    required: true
  desired:
    description: The desired state as the collection packs it.
    type: str
    required: true
  plan_hash:
    description: The plan to apply. Required with O(mode=apply).
    type: str
  adopt:
    description: Take a desired state from another ledger than the one this node belongs to.
    type: bool
    default: false
  confirm_seconds:
    description:
      - New rules undo themselves unless confirmed within this many seconds.
      - With V(0) no confirmation is needed.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Plan (playbooks use hosting.aup.proxmox_host_converge instead)
  hosting.aup.proxmox_host:
    mode: plan
    desired: "{{ packed }}"
"""

RETURN = r"""
steps:
  description: What is to be done, or was done, in order.
  returned: success
  type: list
  elements: dict
errors:
  description: What failed.
  returned: success
  type: list
  elements: dict
plan_hash:
  description: Names this plan.
  returned: with O(mode=plan)
  type: str
"""

import gc

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hosting.aup.plugins.module_utils._node_module import on_node
from ansible_collections.hosting.aup.plugins.module_utils._pve_host import PveHost


def main():
    gc.disable()  # as in kvm_node
    module = AnsibleModule(
        argument_spec={
            "mode": {"type": "str", "choices": ["plan", "apply"], "required": True},
            "desired": {"type": "str", "required": True},
            "plan_hash": {"type": "str"},
            "adopt": {"type": "bool", "default": False},
            "confirm_seconds": {"type": "int", "default": 30},
        },
        required_if=[("mode", "apply", ("plan_hash",))],
        supports_check_mode=True,
    )
    params = module.params

    def work(node):
        if params["mode"] == "plan":
            return node.plan(params["desired"], advance=not module.check_mode, adopt=params["adopt"])
        if module.check_mode:
            return {"changed": True}
        return node.apply(params["desired"], params["plan_hash"], params["confirm_seconds"], params["adopt"])

    module.exit_json(**on_node(module, work, make=lambda run, nft: PveHost(run, nft=nft)))


if __name__ == "__main__":
    main()
