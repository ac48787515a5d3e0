#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_review
short_description: Review what exceeded a guardrail
version_added: 1.0.0
description:
  - A run that went over a guardrail with a reason (C(break_glass)) stays in the status until another person has reviewed it.
  - Who exceeded it can't review it.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.writes
options:
  exceeded:
    description: Its id as the status shows it, like V(B-1).
    type: str
  note:
    description: What the review found. Never evaluated, and erasable later.
    type: str
seealso:
  - module: hosting.aup.ledger_enforcement
  - module: hosting.aup.ledger_respond
"""

EXAMPLES = r"""
- name: It was right to hold them together
  hosting.aup.ledger_review:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    exceeded: B-1
    note: one worm on eight guests, agreed
"""

RETURN = r"""
exceeded:
  description: What was reviewed, with the rules exceeded, the services, the actor and the reason.
  returned: success
  type: dict
what:
  description: What was written, as lines for people.
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
    code: bad_input
    target: actor
    remedy: Another person runs it.
    retryable: false
    applied_steps: []
"""
