#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_case
short_description: Open or close a case
version_added: 1.0.0
description:
  - A case is the incident that explains enforcements. M(hosting.aup.ledger_enforcement) opens one by itself;
    this is for cases that hold nothing yet, and for closing.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.writes
options:
  state:
    description:
      - V(open) opens the case, V(closed) closes one that holds no service any more.
      - V(decided) writes down whose fault it is; what was charged and is not owed any more is waived or credited.
      - V(answered) writes down that the customer answered; the clocks of the case's notices stop.
    type: str
    choices: [open, closed, decided, answered]
    default: open
  case:
    description: Its id. Without it the ledger gives one, like C(C-2026-7).
    type: str
  service:
    description: The service it is about.
    type: str
  violation:
    description: What happened, by the name the service's policy has for it.
    type: str
  fault:
    description: With O(state=decided), V(customer), V(none) or V(unknown). O(note) then says why, and is needed.
    type: str
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
"""

EXAMPLES = r"""
- name: Close a case
  hosting.aup.ledger_case:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: closed
    case: T-4711
    note: customer reinstalled
"""

RETURN = r"""
case:
  description: The case.
  returned: success
  type: dict
charges:
  description: Charges made, waived or credited by the decision.
  returned: with O(state=decided)
  type: list
  elements: dict
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
    code: ledger_locked
    target: /var/lib/aup/ledger.db
    remedy: "Nothing was written: retry."
    retryable: true
    applied_steps: []
"""
