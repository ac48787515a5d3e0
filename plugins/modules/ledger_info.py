#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: Read the ledger
version_added: 1.0.0
description:
  - Says what is in force, what happened to a service, what a run saw, and whether the event log is intact.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
options:
  what:
    description:
      - V(status) gives all that is in force, and the nodes.
      - V(service) gives what holds one service, and its exemptions.
      - V(history) gives the events about one service.
      - V(nodes) gives the nodes.
      - V(run) gives what one run saw on each node.
      - V(head) gives the head of the event log, to keep elsewhere.
      - V(verify) walks the event log and fails when it is not intact.
    type: str
    choices: [status, service, history, nodes, run, head, verify]
    default: status
  service:
    description: The service's id, with V(service) and V(history).
    type: str
  run_id:
    description: The run's id, with V(run).
    type: str
  due:
    description:
      - With V(status), a duration like C(24h). RV(lines) and RV(text) are then only what is due within it, soonest first, the ends
        of enforcements, their reviews, answers to notices, exemptions, and notices that wait.
    type: str
  head:
    description: A head exported earlier, with V(verify); proves that the ledger still contains it.
    type: dict
"""

EXAMPLES = r"""
- name: Export the head of the event log
  hosting.aup.ledger_info:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    what: head
  register: ledger

- name: Prove later that nothing before it was changed
  hosting.aup.ledger_info:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    what: verify
    head: "{{ ledger.head }}"
"""

RETURN = r"""
status:
  description: Ledger, release, nodes, enforcements, exemptions and open cases.
  returned: with O(what=status)
  type: dict
lines:
  description: The same for people.
  returned: with O(what=status) and O(what=history)
  type: list
  elements: str
text:
  description: RV(lines) as one text.
  returned: with O(what=status) and O(what=history)
  type: str
service:
  description: The service's id.
  returned: with O(what=service)
  type: str
enforcements:
  description: What holds the service.
  returned: with O(what=service)
  type: list
  elements: dict
exemptions:
  description: All exemptions of the service, also former ones.
  returned: with O(what=service)
  type: list
  elements: dict
events:
  description: The events; C(detail) is null where it was erased.
  returned: with O(what=history)
  type: list
  elements: dict
nodes:
  description: The nodes with their release, adoption and last result.
  returned: with O(what=nodes)
  type: list
  elements: dict
run:
  description: What the run saw on each node.
  returned: with O(what=run)
  type: dict
head:
  description: Ledger, epoch, number and digest of the last event.
  returned: with O(what=head)
  type: dict
verified:
  description:
    - Whether the log is intact, how many events it has, and where it breaks; and in C(evidence) what is wrong with
      evidence, with its files where the ledger is in a file.
  returned: with O(what=verify)
  type: dict
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
  sample:
    code: ledger_locked
    target: /var/lib/aup/ledger.db
    remedy: "Nothing was written: retry."
    retryable: true
    applied_steps: []
"""
