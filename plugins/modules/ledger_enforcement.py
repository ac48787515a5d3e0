#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_enforcement
short_description: Hold services, lift what holds them, end what is due
version_added: 1.0.0
description:
  - Writes enforcements into the ledger. What is on the nodes changes only when M(hosting.aup.kvm_converge) runs next.
  - Policy and catalogue are those of the release that the service's node carries, never the files.
  - All inputs are checked first; one message names all that is wrong, and then nothing is written.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.nodes
  - hosting.aup._ledger.writes
  - hosting.aup._enforcement_options
options:
  state:
    description:
      - V(present) opens an enforcement of O(kind) for each service, for one case.
      - V(lifted) ends by decision what holds the services.
      - V(due) ends every enforcement and exemption whose time is over.
    type: str
    choices: [present, lifted, due]
    default: present
  kind:
    description:
      - V(suspend), V(quarantine), V(smtp_block), V(port_block), V(null_route), V(drop), V(bandwidth_cap), V(cpu_throttle),
        V(io_throttle) or V(terminate).
      - V(terminate) is proposed by the first person who asks for it and begins when another person asks for it as well.
      - Required with O(state=present); with O(state=lifted) it narrows what is lifted.
    type: str
  service:
    description: Ids of the services. Several may also stand in one text with commas between.
    type: list
    elements: str
  violation:
    description: What happened, by the name the service's policy has for it. Required with O(state=present).
    type: str
  case:
    description:
      - Id of the case, as the ticket system has it. A case that is not known yet is opened.
      - Without it, O(state=present) opens a new case.
      - With O(state=lifted) it is needed when several cases hold a service; V(all) means all of them.
    type: str
  duration:
    description: How long, like V(30m), V(48h) or V(7d). Without it what the policy says.
    type: str
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
  break_glass:
    description: Reason for going over the policy's number of services in one run, or past an add-on that spares a service.
    type: str
  proposal:
    description:
      - With O(state=present), carry out what was proposed under this id, like V(P-3), as it was proposed. Guardrails are asked again.
      - Beside it only O(note) and O(break_glass) are taken. M(hosting.aup.ledger_respond) does the same.
    type: str
seealso:
  - module: hosting.aup.kvm_converge
  - module: hosting.aup.run_summary
"""

EXAMPLES = r"""
- name: Hold a service for 48 hours
  hosting.aup.ledger_enforcement:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    kind: suspend
    service: vps-1002
    violation: attack_target
    case: T-4711
    duration: 48h

- name: Give it back
  hosting.aup.ledger_enforcement:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: lifted
    service: vps-1002
    case: T-4711
"""

RETURN = r"""
run_id:
  description: The run that was begun in the ledger.
  returned: success
  type: str
  sample: run-12
nodes:
  description: The nodes to converge now, sorted.
  returned: success
  type: list
  elements: str
what:
  description: What was written, as lines for people.
  returned: success
  type: list
  elements: str
warnings:
  description: What was not done, and why.
  returned: success
  type: list
  elements: str
pending:
  description:
    - In check mode, what the ledger would have been told, for O(hosting.aup.kvm_converge#module:pending).
    - Empty in a real run.
  returned: success
  type: list
  elements: dict
enforcements:
  description:
    - The enforcements concerned, as the ledger has them; times in seconds since the epoch.
    - C(already) is true for one that was in force before.
  returned: success
  type: list
  elements: dict
proposals:
  description: What was proposed or confirmed now; C(by) names the people.
  returned: with O(state=present)
  type: list
  elements: dict
case_id:
  description: The case.
  returned: with O(state=present)
  type: str
exemptions:
  description: The exemptions that expired.
  returned: with O(state=due)
  type: list
  elements: dict
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
