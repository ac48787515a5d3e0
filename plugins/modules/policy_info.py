#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: policy_info
short_description: Say how each clause of a policy is held, and what follows from which violation
version_added: 1.0.0
description:
  - Prints for each clause what carries it out, whether this version does so in truth, and the tests that show it.
  - Prints the outcome of each violation by location, account type and add-on, with first step, fault, fees and notice.
  - Reads the policy file alone, on the controller; neither ledger nor node is asked.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
options:
  policy:
    description: A shipped policy's name, or the path of a policy file; relative paths are looked for beside the inventory first.
    type: str
    required: true
  violation:
    description: Only outcomes of this violation.
    type: str
  location:
    description: Only outcomes at this location.
    type: str
  account_type:
    description: Only outcomes for this account type.
    type: str
  addons:
    description: Only outcomes for a service with exactly these add-ons; an empty list means one without any.
    type: list
    elements: str
  show:
    description: Print it as well as returning it.
    type: bool
    default: true
seealso:
  - module: hosting.aup.policy_diff
"""

EXAMPLES = r"""
- name: How is each clause held, and what follows from what?
  hosting.aup.policy_info:
    policy: alteron

- name: What follows from an attack on a service with mitigation?
  hosting.aup.policy_info:
    policy: alteron
    violation: attack_target
    addons: [ddos_mitigation]
"""

RETURN = r"""
policy_key:
  description: Name and version of the policy.
  returned: success
  type: str
  sample: alteron@1
clauses:
  description: Every clause with its carriers.
  returned: success
  type: list
  elements: dict
  contains:
    clause:
      description: Its number.
      type: str
    summary:
      description: What it says.
      type: str
    state:
      description:
        - V(held) by code; V(partly), with something missing; by a V(person); a V(gap); or V(unstated), when the policy
          doesn't say what carries it out.
      type: str
    carriers:
      description: What carries it out, each with kind, text, state and tests.
      type: list
      elements: dict
matrix:
  description: One entry per violation, location, account type and set of add-ons.
  returned: success
  type: list
  elements: dict
lines:
  description: The same for people.
  returned: success
  type: list
  elements: str
"""
