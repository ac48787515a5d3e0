#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_host_converge
short_description: Bring the packet filter of a Proxmox VE node to its desired state
version_added: 1.0.0
description:
  - Sets on a node of a Proxmox VE cluster, over SSH, the rules that a KVM host has, in tables of our own beside the cluster's
    firewall. They bind guests that nobody knows, observe and count, and end connections that are open.
  - Each node has the rules of all guests of the cluster, so a guest that migrates or starts is bound before its first packet.
  - Power, rates and what is to be given back are done by M(hosting.aup.proxmox_converge), over the API.
  - Nothing of this is recorded in the ledger, as the node isn't one of its nodes; what failed is in the result and the summary.
  - New packet filter rules undo themselves unless the controller confirms them over a new connection.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the node, nftables 1.0.2 or later
  - On the controller, SQLAlchemy 2 and Alembic
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._converge
  - hosting.aup._converge.filter
attributes:
  check_mode:
    support: full
    details: The plan hash of check mode is that of the real run.
  diff_mode:
    support: full
options:
  cluster:
    description: The cluster's name in the catalogue.
    type: str
    required: true
  release:
    description: The release to bring the node to. Without it, the release the cluster has.
    type: int
  numbers:
    description:
      - Numbers of guests that are about to be made and that have none in the catalogue, by service, as
        M(hosting.aup.proxmox_converge) reserved them in this run. The rules bind their ports before they are there.
      - Those of guests that were made before are in the ledger.
    type: dict
    default: {}
seealso:
  - module: hosting.aup.proxmox_converge
"""

EXAMPLES = r"""
- name: Bring a node of a cluster to what the ledger says
  hosting.aup.proxmox_host_converge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    run_id: "{{ opened.run_id }}"
    pending: "{{ opened.pending }}"
    cluster: pve
  become: true
"""

RETURN = r"""
outcome:
  description: What came of it.
  returned: always
  type: str
  sample: changed
steps:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
errors:
  description: What failed, with code, message and remedy.
  returned: always
  type: list
  elements: dict
gaps:
  description: NICs that no rule on this node reaches.
  returned: success
  type: list
  elements: dict
unknown_ports:
  description: Ports of guests that nobody knows, which the policy's rules for unknown guests bind.
  returned: success
  type: list
  elements: str
plan_hash:
  description: Names this plan; that of check mode and of the real run are the same.
  returned: success
  type: str
"""
