#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_disarm
short_description: Switch controls off on a host, at once and without the ledger, or on again
version_added: 1.0.0
description:
  - The way out when a control harms customers. It needs neither ledger nor controller files, only the node.
  - What is disarmed stays so over reboots and M(hosting.aup.kvm_converge) until it is rearmed.
  - V(all) removes our packet filter from the node as a whole. Suspended guests stay paused or off with their
    links down, since libvirt holds these; end a suspension with the playbook C(hosting.aup.lift).
  - On a Proxmox VE node that carries rules of ours it does the same. What the cluster's API has set stays in force beside them.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - on a KVM host libvirt bindings for Python (the distribution's C(python3-libvirt))
  - nftables 1.0.2 or later
extends_documentation_fragment:
  - hosting.aup._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: V(disarmed) switches off, V(armed) switches on again.
    type: str
    choices: [disarmed, armed]
    default: disarmed
  controls:
    description: The controls, or V(all).
    type: list
    elements: str
    choices: [smtp_outbound, anti_spoofing, mining, tor_exit, irc_server, bittorrent, reflection, new_connections, all]
    default: [all]
  reason:
    description: Why, for the next person who looks. Kept on the node.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Stop closing port 25 on this host, now
  hosting.aup.kvm_disarm:
    controls: [smtp_outbound]
    reason: case T-991, mail of a customer refused by mistake
  become: true

- name: Back to what policy says
  hosting.aup.kvm_disarm:
    state: armed
    controls: [smtp_outbound]
  become: true
"""

RETURN = r"""
disarmed:
  description: What is switched off on this node now, since when and why.
  returned: success
  type: dict
steps:
  description: What was changed in the packet filter.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hosting.aup.plugins.module_utils._node_module import on_node
from ansible_collections.hosting.aup.plugins.module_utils._this_host import this_host

CONTROLS = ["smtp_outbound", "anti_spoofing", "mining", "tor_exit", "irc_server", "bittorrent", "reflection", "new_connections", "all"]


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["disarmed", "armed"], "default": "disarmed"},
            "controls": {"type": "list", "elements": "str", "choices": CONTROLS, "default": ["all"]},
            "reason": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )

    params = module.params
    result = on_node(module, lambda node: node.set_disarmed(
        params["controls"], params["state"] == "armed", params["reason"], module.check_mode), make=this_host)
    before, after = result.pop("before"), result.pop("after")
    module.exit_json(
        disarmed=after, diff={"before": {"disarmed": before}, "after": {"disarmed": after, "steps": result["steps"]}}, **result)


if __name__ == "__main__":
    main()
