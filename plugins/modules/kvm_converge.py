#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_converge
short_description: Bring a KVM host to its desired state
version_added: 1.0.0
description:
  - Resolves policy, services and ledger into the desired state of this node, plans on the node, records the prior
    state in the ledger, applies the plan or nothing, reads the node back, and records the result.
  - Everything goes this way, provisioning, suspending, lifting, and mending what was changed by hand.
  - The node is written to only where the plan differs from what it has. A second run changes nothing.
  - New packet filter rules undo themselves unless the controller confirms them over a new connection.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the node, the distribution's C(python3-libvirt) and nftables 1.0.2 or later
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
  probes:
    description: What must still accept a TCP connection from the controller afterwards.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Name or address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  user_data_directory:
    description:
      - Directory on the controller that holds the customers' own cloud-init data, in the files that orders name.
      - A file is read when its guest is made, put into that guest's seed and kept nowhere else. Remove it afterwards.
      - Orders are carried out only together with O(release).
    type: path
seealso:
  - module: hosting.aup.run_summary
  - module: hosting.aup.kvm_info
"""

EXAMPLES = r"""
- name: Mark what is due
  hosting.aup.ledger_enforcement:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: due
  register: opened
  delegate_to: localhost
  run_once: true

- name: Put a node back to the release it has
  hosting.aup.kvm_converge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    run_id: "{{ opened.run_id }}"
    pending: "{{ opened.pending }}"
  become: true
"""

RETURN = r"""
outcome:
  description:
    - What came of it. V(incomplete) means that the node is as its release says, and that guests ordered there could not be made.
    - Such a node holds back neither its release nor other nodes, and still fails the task or run.
  returned: always
  type: str
  sample: changed
steps:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
errors:
  description: What failed, with code, message and remedy; for a service, or for the node as a whole.
  returned: always
  type: list
  elements: dict
services:
  description: What is true of each service that is held or being given back.
  returned: success
  type: list
  elements: dict
notes:
  description: What was left as it is, and why.
  returned: success
  type: list
  elements: str
gaps:
  description: NICs of guests on this node that can't be served, with the reason.
  returned: success
  type: list
  elements: dict
nics:
  description: How the NICs of all guests are connected, each kind with its number; what is neither V(bridge) nor V(routed) is in RV(gaps).
  returned: success
  type: dict
  sample: {"bridge": 12, "routed": 3, "unsupported:vhostuser": 1}
plan_hash:
  description: Names the plan; equal in check mode and the real run.
  returned: success
  type: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
"""
