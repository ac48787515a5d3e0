#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_usage
short_description: Count the transfer of services, and act on it as the policy says
version_added: 1.0.0
description:
  - Adds what ports have carried since they were last read to the 30 days' window of their service.
  - A service over its allowance (C(plan.transfer_bytes) of the catalogue) gets a case, and is billed or capped as the
    policy's C(transfer) says. Never more services within an hour than the policy's C(max_services_per_run).
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
attributes:
  check_mode:
    support: full
    details: Everything is counted and done in a transaction that is rolled back; RV(pending) carries it to the next task.
  diff_mode:
    support: full
    details: The rows before and after.
options:
  state:
    description: V(listed) lists transfer by window, V(metered) counts what M(hosting.aup.kvm_usage) read.
    type: str
    choices: [listed, metered]
    default: listed
  nodes:
    description: With V(metered), the nodes that were read. One that could not be is reported, and the others are counted.
    type: list
    elements: str
  variable:
    description: The variable under which each node's M(hosting.aup.kvm_usage) result was registered.
    type: str
    default: aup_usage
  service:
    description: With V(listed), only this service.
    type: str
  known_nodes:
    description:
      - The nodes of the inventory.
      - A service that also lives on another node is not capped, rather than capped in part.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Count
  hosting.aup.ledger_usage:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: metered
    nodes: "{{ groups['aup_kvm_nodes'] }}"
"""

RETURN = r"""
windows:
  description: Transfer by service and window, in bytes.
  returned: with O(state=listed)
  type: list
  elements: dict
counted:
  description: Services of which something was counted.
  returned: with O(state=metered)
  type: list
  elements: str
told:
  description: Services that have newly reached a part of their allowance of which the policy tells them.
  returned: with O(state=metered)
  type: list
  elements: dict
problems:
  description: What was refused, with target, message, remedy and code. The rest was counted.
  returned: with O(state=metered)
  type: list
  elements: dict
run_id:
  description: The run that was begun in the ledger, if a node is to be converged.
  returned: with O(state=metered)
  type: str
nodes:
  description: The nodes to converge now, sorted.
  returned: with O(state=metered)
  type: list
  elements: str
pending:
  description:
    - In check mode, what the ledger would have been told, for O(hosting.aup.kvm_converge#module:pending).
    - Empty in a real run.
  returned: with O(state=metered)
  type: list
  elements: dict
what:
  description: What was found and done, as lines for people.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
"""
