#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_exemption
short_description: Permit a service what a control forbids, or take that back
version_added: 1.0.0
description:
  - Records an exemption of services from one control, as far as the policy of their release allows it.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
  - hosting.aup._ledger.nodes
  - hosting.aup._ledger.writes
options:
  state:
    description:
      - V(present) records the exemption, V(revoked) takes it back.
      - V(requested) keeps a request until somebody decides, with what was found in DNS; nothing is let through yet.
      - V(approved) looks again and gives what O(request) asks for. V(denied) refuses it.
    type: str
    choices: [present, revoked, requested, approved, denied]
    default: present
  service:
    description: Ids of the services. Several may also stand in one text with commas between.
    type: list
    elements: str
  control:
    description:
      - The control to relax, such as V(smtp_outbound), or a permission that is only put on record and relaxes none,
        V(pen_test), V(bulk_mail), V(reseller) or V(vpn).
    type: str
  reason:
    description: Why. Recorded; required with O(state=present), O(state=requested) and O(state=denied).
    type: str
  duration:
    description: How long, like V(90d). Needed where the policy limits it.
    type: str
  request:
    description: The request to decide, like V(Q-3).
    type: str
  requested_by:
    description: Who asks, with O(state=requested). Kept with the request, never in the event log's open part.
    type: str
  approved_by:
    description: Who approved it. Without it, whoever runs this.
    type: str
  domain:
    description: The domain that the service sends mail from, where the policy has SPF or DMARC looked up.
    type: str
  waive:
    description: Why the exemption is given although what the policy has looked up in DNS is not met, or is not looked up. Recorded.
    type: str
  resolvers:
    description: Addresses of the resolvers to ask. The controller's own when left out.
    type: list
    elements: str
    default: []
  resolver_port:
    description: Their port.
    type: int
    default: 53
  observed_on:
    description:
      - Instead of O(service), all services that these nodes saw doing what the control would have refused.
      - Takes over who sent mail before the control is enforced. A node that was not read is an error.
    type: list
    elements: str
  variable:
    description: With O(observed_on), the variable under which each node's M(hosting.aup.kvm_info) result was registered.
    type: str
    default: aup_seen
"""

EXAMPLES = r"""
- name: Open port 25 for a mail server
  hosting.aup.ledger_exemption:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    service: vps-1001
    control: smtp_outbound
    reason: company mail server, ticket T-4600
    duration: 365d

- name: Keep a request until the abuse desk decides
  hosting.aup.ledger_exemption:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: requested
    service: vps-1001
    control: smtp_outbound
    domain: shop.example
    reason: newsletters of a shop
    requested_by: ticket T-4600
    duration: 365d
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
exemptions:
  description: The exemptions concerned.
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
requests:
  description: The requests concerned, without who asked and why.
  returned: with O(state=requested), O(state=approved) or O(state=denied)
  type: list
  elements: dict
"""
