#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_release
short_description: Release policy and catalogue in the ledger
version_added: 1.0.0
description:
  - Reads policy and catalogue, checks them against each other and against the newest release, and keeps them in the
    ledger as a new release. The same contents make no new one.
  - No node changes by it. M(hosting.aup.kvm_converge) brings nodes to a release, one batch after the other.
  - Makes the ledger when there is none.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.writes
options:
  policy:
    description:
      - Name of a shipped policy, or path of a file. Services may name others.
      - A list holds several versions of it, or other policies; the first's name is the default. Each version binds from its
        C(effective) on, and a customer who terminated over a change (C(terminated_on) in the catalogue) keeps the one before
        for the time that it promises (C(amendments.grace)).
    type: raw
  catalogue:
    description: Path of the catalogue. A relative one is looked for beside the inventory, then where Ansible was started.
    type: str
  mapping:
    description: For a panel's export, the mapping onto the catalogue, as a dictionary or as the path of its file.
    type: raw
  accept_shrink:
    description: Accept that more services are gone than the policy's limit. An empty catalogue is refused all the same.
    type: bool
    default: false
  accept_older:
    description: Accept a catalogue that was generated before the released one.
    type: bool
    default: false
  accept_unannounced:
    description: Accept a new version that comes into force sooner than the one before promised to tell of material changes.
    type: bool
    default: false
  known_nodes:
    description: The nodes of the inventory. Others of the catalogue are named in RV(warnings).
    type: list
    elements: str
  retire:
    description: Instead of a release, check that this node can be retired, and begin the run that does it.
    type: str
"""

EXAMPLES = r"""
- name: Release policy and catalogue
  hosting.aup.ledger_release:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    policy: default
    catalogue: catalogue.yml
  register: release
"""

RETURN = r"""
run_id:
  description: The run that was begun in the ledger.
  returned: success
  type: str
  sample: run-12
nodes:
  description: The nodes to converge now, sorted.
  returned: success
  type: list
  elements: str
what:
  description: What was written, as lines for people.
  returned: success
  type: list
  elements: str
warnings:
  description: What was not done, and why.
  returned: success
  type: list
  elements: str
pending:
  description:
    - In check mode, what the ledger would have been told, for O(hosting.aup.kvm_converge#module:pending).
    - Empty in a real run.
  returned: success
  type: list
  elements: dict
release_id:
  description: The release's number.
  returned: without O(retire)
  type: int
release:
  description: The release, with the keys of its policies and the digests of its contents.
  returned: without O(retire)
  type: dict
services:
  description: Number of services in the release.
  returned: without O(retire)
  type: int
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
