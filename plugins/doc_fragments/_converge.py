# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """What the actions that bring a node to its desired state have in common, whatever kind of node."""

    DOCUMENTATION = r"""
options:
  run_id:
    description: The run this belongs to, as M(hosting.aup.ledger_enforcement) and the like return it.
    type: str
    required: true
  pending:
    description: In check mode, what the ledger would have been told before; as the ledger modules return it.
    type: list
    elements: dict
    default: []
  release:
    description: The release to bring the node to. Without it, the release it has.
    type: int
  state:
    description: V(absent) takes all of ours off the node, which gives back what we hold there.
    type: str
    choices: [present, absent]
    default: present
  stop_after_failure:
    description: Do nothing when another node of the same run has failed.
    type: bool
    default: false
  on_failure:
    description:
      - V(fail) fails the task.
      - V(record) leaves it to M(hosting.aup.run_summary) to fail the run, so that every node gets its turn and its record.
    type: str
    choices: [fail, record]
    default: fail
"""

    # For nodes with a packet filter of ours.
    FILTER = r"""
options:
  confirm_seconds:
    description: How long the node waits for the controller's confirmation of new rules. V(0) waits for none.
    type: int
    default: 30
  adopt_from_other_ledger:
    description: Take over a node that belongs to another ledger.
    type: bool
    default: false
"""
