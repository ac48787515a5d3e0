#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_epoch
short_description: Begin a new epoch after the ledger was restored from a backup
version_added: 1.0.0
description:
  - Nodes refuse a desired state that is older than what they carry. After a restore the ledger is behind them,
    so that all it says would be refused. A new epoch is newer than anything the nodes have seen.
  - Reconcile after it. What was decided between backup and restore is lost from the ledger; what the nodes hold of
    it is given back then, so look at RV(hosting.aup.ledger_info#module:events) and the nodes' own journals first.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.writes
options:
  reason:
    description: Which backup was restored, and why. Recorded.
    type: str
"""

EXAMPLES = r"""
- name: Let the nodes follow the restored ledger
  hosting.aup.ledger_epoch:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    reason: disk of the controller failed, backup of last night
"""

RETURN = r"""
epoch:
  description: The new epoch.
  returned: success
  type: int
run_id:
  description: The run that was begun in the ledger.
  returned: success
  type: str
nodes:
  description: The nodes to reconcile.
  returned: success
  type: list
  elements: str
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
