#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: policy_diff
short_description: Say what a new version of a policy changes, and for which services
version_added: 1.0.0
description:
  - Compares two versions of a policy by what they mean, clause by clause, control by control per location and account
    type, violation by violation, fee by fee; and prints what the old version promises about changes.
  - With a ledger it names the services of the present release for which something changes.
  - Changes nothing. What would change on nodes is what C(provision --check) prints.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
options:
  new:
    description: The new version; a shipped policy's name, or the path of a policy file.
    type: str
    required: true
  old:
    description:
      - The old version; likewise.
      - Without it, the one of the same name in the ledger's present release, or else that release's default.
    type: str
  ledger_url:
    description:
      - Where the ledger is, as an SQLAlchemy URL; see M(hosting.aup.ledger_info).
      - Without it only the policies are compared, and O(old) is required.
    type: str
  show:
    description: Print it as well as returning it.
    type: bool
    default: true
requirements:
  - SQLAlchemy >= 2.0 (on the controller, with O(ledger_url))
seealso:
  - module: hosting.aup.policy_info
"""

EXAMPLES = r"""
- name: What does the new version change for our customers?
  hosting.aup.policy_diff:
    new: ./policies/acme.yml
    ledger_url: sqlite:////var/lib/aup/ledger.db

- name: Compare two files
  hosting.aup.policy_diff:
    old: ./policies/acme-2026-01.yml
    new: ./policies/acme.yml
"""

RETURN = r"""
difference:
  description:
    - What changes, by clauses, locations, account types, controls, violations, fees, exemptions, evidence and guardrails, each
      with before and after; and in C(owed) what the old version promises about changes.
  returned: success
  type: dict
services:
  description:
    - Services of the present release for which something changes, with customer and the names of controls, violations, fees and exemptions;
      C(refused) says why the new version takes a service not at all. Null without a ledger.
  returned: success
  type: list
  elements: dict
lines:
  description: The same for people.
  returned: success
  type: list
  elements: str
"""
