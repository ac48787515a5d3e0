#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_respond
short_description: Take the next step of a policy's ladder
version_added: 1.0.0
description:
  - Reads the ladder that the service's policy has for a violation, the service's add-ons and the history of the case, and
    writes the next step into the ledger. What is on nodes and routers changes only when M(hosting.aup.kvm_converge) and
    M(hosting.aup.router_converge) run next.
  - One call is one step. It is done at once where the policy says C(mode=act); otherwise it is proposed, and a person carries
    it out with O(proposal). A person who runs it may also decide at once with O(confirm).
  - C(terminate) is only ever proposed, and another person carries it out.
  - When no step is due it changes nothing, and says why and what would come next.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.nodes
  - hosting.aup._enforcement_options
attributes:
  check_mode:
    support: full
    details: Says which step, why, and what the next would be. RV(pending) carries it to the next task.
  diff_mode:
    support: full
    details: The rows before and after.
options:
  service:
    description: Ids of the services. Several may also stand in one text with commas between.
    type: list
    elements: str
  violation:
    description: What happened, by the name the service's policy has for it. Required without O(proposal).
    type: str
  case:
    description:
      - Id of the case, as the ticket system has it. A case that is not known yet is opened.
      - Without it, the newest open case of this violation and service; without one, a new one.
    type: str
  kind:
    description: Which alternative of the step, where the policy lists several. Without it the first that can be done for this service.
    type: str
  confirm:
    description:
      - V(true) when a person decides that a step is done that the policy leaves at a proposal.
      - Automation leaves it out. It makes nothing of C(terminate).
    type: raw
  proposal:
    description:
      - Carry out what was proposed under this id, like V(P-3). Guardrails are asked again.
      - Beside it only O(note) and O(break_glass) are taken.
    type: str
  persists:
    description: V(true) when it goes on after the step before. On record in the case.
    type: raw
  unanswered:
    description: V(true) when the customer did not answer in time. On record in the case.
    type: raw
  harms_others:
    description: V(true) when other customers suffer. On record in the case.
    type: raw
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
  break_glass:
    description: Reason for going over the policy's number of services in one run. It stays in the status until it is reviewed.
    type: str
seealso:
  - module: hosting.aup.ledger_enforcement
  - module: hosting.aup.ledger_review
  - module: hosting.aup.run_summary
"""

EXAMPLES = r"""
- name: A service is attacked
  hosting.aup.ledger_respond:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    service: vps-1002
    violation: attack_target
    case: T-4711

- name: The attack goes on
  hosting.aup.ledger_respond:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    service: vps-1002
    violation: attack_target
    case: T-4711
    persists: true

- name: A person carries out what automation proposed
  hosting.aup.ledger_respond:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    proposal: P-3
"""

RETURN = r"""
run_id:
  description: The run that was begun in the ledger; V(routine) when nothing was to be done.
  returned: success
  type: str
  sample: run-12
nodes:
  description: The nodes to converge now, sorted.
  returned: success
  type: list
  elements: str
what:
  description: Which step, why, and what the next would be, as lines for people.
  returned: success
  type: list
  elements: str
decisions:
  description:
    - For each service C(action) (V(act), V(propose) or V(nothing)), C(step) counted from 1, C(kind), C(why), C(passed), C(fault),
      C(case), C(waits_until) and C(next).
    - Times in seconds since the epoch.
  returned: success
  type: list
  elements: dict
enforcements:
  description: The enforcements opened.
  returned: success
  type: list
  elements: dict
proposals:
  description: What was proposed or carried out now; C(by) names the people.
  returned: success
  type: list
  elements: dict
case_id:
  description: The case.
  returned: success
  type: str
warnings:
  description: What was not done, and why.
  returned: success
  type: list
  elements: str
pending:
  description: In check mode, what the ledger would have been told. Empty in a real run.
  returned: success
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
