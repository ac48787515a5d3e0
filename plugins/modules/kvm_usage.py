#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_usage
short_description: Read what the ports of a node's guests have carried
version_added: 1.0.0
description:
  - Reads the counters of all ports of running guests, for M(hosting.aup.ledger_usage). Changes nothing.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.info
options: {}
requirements:
  - python3-libvirt (on the node)
"""

EXAMPLES = r"""
- name: Read the counters
  hosting.aup.kvm_usage:
  become: true
  register: aup_usage
"""

RETURN = r"""
taken_at:
  description: When they were read, by the node's clock, in seconds since the epoch.
  returned: success
  type: int
samples:
  description: >-
    One per port: guest, MAC, the counter's name (boot id, network namespace and interface index), and the bytes the guest has received
    and sent since the port was made.
  returned: success
  type: list
  elements: dict
gaps:
  description: NICs of running guests that the host has no counter for.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the node could not be read
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hosting.aup.plugins.module_utils._node_module import on_node


def main():
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, **on_node(module, lambda node: node.usage()))


if __name__ == "__main__":
    main()
