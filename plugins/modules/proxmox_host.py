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
  - hosting.aup._node_plan
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: M(hosting.aup.proxmox_host_converge) renders the difference from the plan.
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

from ansible_collections.hosting.aup.plugins.module_utils._node_module import PLAN_ARGUMENTS, PLAN_REQUIRES, on_node, plan_or_apply
from ansible_collections.hosting.aup.plugins.module_utils._pve_host import PveHost


def main():
    gc.disable()  # as in kvm_node
    module = AnsibleModule(
        argument_spec=PLAN_ARGUMENTS,
        required_if=PLAN_REQUIRES,
        supports_check_mode=True,
    )
    module.exit_json(**on_node(module, plan_or_apply(module), make=lambda run, nft: PveHost(run, nft=nft)))


if __name__ == "__main__":
    main()
