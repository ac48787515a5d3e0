#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_charge
short_description: Record, waive and export what cases cost
version_added: 1.0.0
description:
  - Fees that a policy fixes are charged by the ledger itself, with the case or with the first suspension seen in
    force. This is for sums within a range, for hours and transfer, for waiving, and for billing.
  - Each is charged once per case and account, which the database itself holds. Nothing is charged unless the fault
    of the case is the customer's.
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
    details: Everything is checked and done in a transaction that is rolled back; no file is written.
  diff_mode:
    support: full
    details: The rows before and after.
options:
  state:
    description:
      - V(listed) lists charges, V(no_credit) the hours for which a service has no credit.
      - V(recorded) charges, V(waived) lets an account off; what billing has taken is credited.
      - V(exported) gives billing all that it has not taken yet, and marks it taken.
    type: str
    choices: [listed, recorded, waived, exported, no_credit]
    default: listed
  case:
    description: The case, with V(listed) and V(recorded).
    type: str
  account:
    description: The customer's id. With V(recorded) only needed where the case concerns several.
    type: str
  service:
    description: The service, with V(listed) and V(no_credit).
    type: str
  fee:
    description: The fee by its name in the policy. Only needed where the case has several.
    type: str
  amount:
    description: The sum within the fee's range, like V(75.00), without currency.
    type: str
  worked:
    description: Time worked, like V(90m), for a fee by the hour. Hours begun are counted over the whole case.
    type: str
  quantity:
    description: A whole number of TB or TiB, for a fee by them.
    type: str
  reference:
    description: The work order or purchase. The same one is charged once.
    type: str
  charge:
    description: The charge to waive.
    type: str
  reason:
    description: Why it is waived. Recorded.
    type: str
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
  export:
    description: With V(exported), an earlier export to give once more instead of a new one.
    type: str
  path:
    description: With V(exported), a directory on the controller to write V(charges-B-1.json) and C(.csv) into.
    type: str
  begins:
    description: With V(no_credit), a date or time from which to look.
    type: str
  ends:
    description: With V(no_credit), a date or time until which to look.
    type: str
"""

EXAMPLES = r"""
- name: Write down an hour and a half of work on a delisting
  hosting.aup.ledger_charge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: recorded
    case: T-4711
    fee: delisting_hour
    worked: 90m
    reference: WO-88

- name: Give billing what it has not taken yet
  hosting.aup.ledger_charge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: exported
    path: /srv/billing/inbox
"""

RETURN = r"""
charges:
  description: The charges and credits concerned. Sums are text, never numbers.
  returned: all states but V(no_credit)
  type: list
  elements: dict
intervals:
  description: When enforcements were in force, with case and fault.
  returned: with O(state=no_credit)
  type: list
  elements: dict
no_credit:
  description: Outages by the customer's own fault, overlaps counted once.
  returned: with O(state=no_credit)
  type: list
  elements: dict
export:
  description: The export's id, or null when there was nothing to take.
  returned: with O(state=exported)
  type: str
json:
  description: The export as JSON text.
  returned: with O(state=exported)
  type: str
csv:
  description: The export as CSV text; what a spreadsheet would run begins with an apostrophe.
  returned: with O(state=exported)
  type: str
files:
  description: The files written.
  returned: with O(state=exported)
  type: list
  elements: str
what:
  description: What was written or found, as lines for people.
  returned: success
  type: list
  elements: str
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
