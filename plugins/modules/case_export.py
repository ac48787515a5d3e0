#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: case_export
short_description: Write one case as JSON and as an HTML page
version_added: 1.0.0
description:
  - All that the ledger has about one case, from trigger to closing, each event with its digest and place in the log.
  - The page is one file that fetches nothing and runs nothing, to read, print or send. The same ledger gives the same files.
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
    details: Returns everything and writes no file.
  diff_mode:
    support: none
    details: The files are made anew.
options:
  case:
    description: The case's id.
    type: str
  view:
    description:
      - V(internal) has everything that was not erased.
      - V(customer) is for one account. It has what is about that account's services, and no node, no person, no internal
        note, and nothing of other customers.
    type: str
    choices: [internal, customer]
    default: internal
  account:
    description: With V(customer), whose view. Only needed where the case concerns several accounts.
    type: str
  path:
    description: A directory on the controller to write the two files into, with mode 0600.
    type: str
"""

EXAMPLES = r"""
- name: The case for the customer
  hosting.aup.case_export:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    case: T-4711
    view: customer
    path: /srv/cases
"""

RETURN = r"""
document:
  description: The case; docs/obligations.md has the format.
  returned: success
  type: dict
json:
  description: The same as text, as written.
  returned: success
  type: str
html:
  description: The page.
  returned: success
  type: str
files:
  description: The files of O(path).
  returned: success
  type: list
  elements: str
what:
  description: What it contains, as lines for people.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
  sample:
    code: bad_input
    target: case
    remedy: hosting.aup.status lists the open ones.
    retryable: false
    applied_steps: []
"""
