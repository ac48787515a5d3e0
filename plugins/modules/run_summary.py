#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: run_summary
short_description: End a runbook with one summary, and fail it if anything failed
version_added: 1.0.0
description:
  - Says on screen, and as data for C(set_stats) under C(aup), what was done where, until when, and whether it was verified.
  - Fails when any node failed or was not reached. Nodes are only recorded until then, so that each gets its turn.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
options:
  opened:
    description: Result of the task that told the ledger what is to be done.
    type: dict
    required: true
  nodes:
    description: The nodes that were to be converged.
    type: list
    elements: str
    default: []
  variable:
    description: The variable under which each node's M(hosting.aup.kvm_converge) result was registered.
    type: str
    default: aup_converged
"""

EXAMPLES = r"""
- name: Summary
  hosting.aup.run_summary:
    opened: "{{ aup_opened }}"
    nodes: "{{ groups['aup_targets'] }}"
"""

RETURN = r"""
summary:
  description: The run's id, whether all is well, and each node's outcome, services, notes and errors.
  returned: success
  type: dict
lines:
  description: The summary as it is shown.
  returned: success
  type: list
  elements: str
"""
