#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_info
short_description: What a KVM host, or a node of a Proxmox VE cluster, holds and has counted
version_added: 1.0.0
description:
  - Reads, on the node and without the ledger, which release it has, which services it holds, which
    controls are disarmed, and how many packets each control refused or would have refused per service.
  - Of a Proxmox VE node that is what its packet filter holds; the rest is the cluster's.
  - Counters live as long as the service is on this host. They go on over rule updates and restarts of a guest.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - nftables 1.0.2 or later
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.info
options:
  services:
    description: Only these services. All of them when empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See what was refused to one service
  hosting.aup.kvm_info:
    services: [vps-1002]
  become: true
  register: seen
"""

RETURN = r"""
counters:
  description:
    - Packets and bytes per service. V(smtp_outbound_refused) counts refused packets, V(smtp_outbound_observed)
      those that would have been refused, V(suspend) and V(quarantine) what was cut. The service V(unknown) stands for guests that no service is known for.
    - In each, C(first) and C(last) are the times, in seconds since the epoch, of the passes that saw the count grow.
  returned: success
  type: dict
  sample: {"vps-1002": {"smtp_outbound_refused": {"packets": 12, "bytes": 720, "first": 1793900000, "last": 1793986400}}}
samples:
  description:
    - Samples of what a control refused or observed, per service and control, the newest 16, with first and last time. Addresses and
      ports only, never what is in a packet.
  returned: success
  type: dict
  sample: {"vps-1002": {"anti_spoofing": {"198.51.100.9": {"first": 1793900000, "last": 1793900000}}}}
held:
  description: Services held on this node, with kind, enforcements and end.
  returned: success
  type: list
  elements: dict
fence:
  description: Ledger, epoch and generation of the desired state last accepted. None before the first.
  returned: success
  type: dict
release:
  description: Release, policies and catalogue digest the node was last given.
  returned: success
  type: dict
disarmed:
  description: Controls that are switched off on this node, since when and why.
  returned: success
  type: dict
by_hand:
  description: Services held on this node by hand, since when, until when, by whom and why.
  returned: success
  type: dict
journal:
  description: How many entries of the node's journal no ledger has taken in yet.
  returned: success
  type: int
rules_present:
  description: Whether our tables are loaded.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hosting.aup.plugins.module_utils._node_module import on_node
from ansible_collections.hosting.aup.plugins.module_utils._this_host import this_host


def main():
    module = AnsibleModule(
        argument_spec={"services": {"type": "list", "elements": "str", "default": []}},
        supports_check_mode=True,
    )

    info = on_node(module, lambda node: node.info(), make=this_host)
    wanted = set(module.params["services"])
    if wanted:
        info["counters"] = {sid: seen for sid, seen in info["counters"].items() if sid in wanted}
        info["samples"] = {sid: seen for sid, seen in info["samples"].items() if sid in wanted}
        info["held"] = [held for held in info["held"] if held["service"] in wanted]
    info.pop("ports")
    module.exit_json(changed=False, **info)


if __name__ == "__main__":
    main()
