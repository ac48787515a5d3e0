#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: explain
short_description: Say why a service is restricted, or why not
version_added: 1.0.0
description:
  - Prints what is decided for a service on its nodes, with clause and reason, who opened each enforcement, since when,
    until when, and the evidence counted on the node.
  - Uses the very decision that converge carries out.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
options:
  service:
    description: The service's id.
    type: str
  seen_on:
    description: Nodes whose M(hosting.aup.kvm_info) result is to be shown as evidence. With it, the explanation is printed.
    type: list
    elements: str
  variable:
    description: The variable under which that result was registered.
    type: str
    default: aup_seen
"""

EXAMPLES = r"""
- name: Explain a service
  hosting.aup.explain:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    service: vps-1002
    seen_on: []
"""

RETURN = r"""
nodes:
  description: Nodes the service may be on.
  returned: success
  type: list
  elements: str
lines:
  description: The explanation.
  returned: success
  type: list
  elements: str
enforcements:
  description: Open enforcements on the service.
  returned: success
  type: list
  elements: dict
exemptions:
  description: Exemptions of the service in force.
  returned: success
  type: list
  elements: dict
views:
  description: What is decided per node, with release, clause and reason.
  returned: success
  type: list
  elements: dict
"""
