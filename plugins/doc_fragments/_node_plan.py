# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """Options of the private modules that plan and apply on a node; `_node_module.PLAN_ARGUMENTS` are the same as arguments."""

    DOCUMENTATION = r"""
options:
  mode:
    description: V(plan) observes and says what would be done. V(apply) does exactly that plan, or nothing.
    type: str
    choices: [plan, apply]
    required: true
  desired:
    description: The desired state as the collection packs it.
    type: str
    required: true
  plan_hash:
    description: The plan to apply. Required with O(mode=apply).
    type: str
  adopt:
    description: Take a desired state from another ledger than the one this node belongs to.
    type: bool
    default: false
  confirm_seconds:
    description:
      - New rules undo themselves unless confirmed within this many seconds.
      - With V(0) no confirmation is needed.
    type: int
    default: 30
  taken:
    description:
      - Up to where the ledger has taken in this node's journal. What it has taken in is dropped here.
    type: dict
    suboptions:
      journal:
        description: The journal's name.
        type: str
        required: true
      number:
        description: The number of the last entry that was taken in.
        type: int
        required: true
"""
