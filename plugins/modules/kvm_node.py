#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_node
short_description: Plan or apply a desired state on this KVM host (private)
version_added: 1.0.0
description:
  - The node's half of M(hosting.aup.kvm_converge), which is the action to use in playbooks.
  - PRIVATE to the collection. Its options change without notice.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - libvirt bindings for Python (the distribution's C(python3-libvirt))
  - nftables 1.0.2 or later
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._node_plan
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: M(hosting.aup.kvm_converge) renders the difference from the plan.
options:
  orders:
    description: Guests to make if they aren't there, packed likewise.
    type: str
  user_data:
    description: The customers' own cloud-init data for new guests, packed likewise.
    type: str
  libvirt_uri:
    description: Where libvirt is reached.
    type: str
    default: qemu:///system
"""

EXAMPLES = r"""
- name: Plan (playbooks use hosting.aup.kvm_converge instead)
  hosting.aup.kvm_node:
    mode: plan
    desired: "{{ packed }}"
"""

RETURN = r"""
steps:
  description: What is to be done, or was done, in order.
  returned: success
  type: list
  elements: dict
services:
  description: What is true of each service that is held or being given back.
  returned: success
  type: list
  elements: dict
errors:
  description: What failed, service by service.
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


def main():
    gc.disable()  # its documents hold no cycles; looking for some in 10,000 services takes a tenth of the run
    module = AnsibleModule(
        argument_spec={
            **PLAN_ARGUMENTS,
            "orders": {"type": "str"},
            "user_data": {"type": "str", "no_log": True},
            "libvirt_uri": {"type": "str", "default": "qemu:///system"},
        },
        required_if=PLAN_REQUIRES,
        supports_check_mode=True,
    )
    module.exit_json(**on_node(module, plan_or_apply(module), module.params["libvirt_uri"]))


if __name__ == "__main__":
    main()
