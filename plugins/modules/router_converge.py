#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: router_converge
short_description: Bring a router to its desired state
version_added: 1.0.0
description:
  - Resolves policy, services and ledger into the null routes and the port rules of dedicated servers that this router is to carry, reads the router, and
    changes only what is ours, over one SSH connection. Then it reads configuration, routes and announcements back,
    takes back what was entered and does not act, saves, and records the result.
  - A route of somebody else at the same prefix, an address of the router itself, a next hop or a BGP neighbor is
    never touched or covered. Null routes with our mark that are on no record are left as they are.
  - Whether routes are announced needs route maps that the operator provides once. What is missing is said, as lines
    to add; it is never added.
  - Everything goes this way, null-routing, lifting, and mending what was changed by hand. An unchanged run only reads.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the controller, netmiko 4, SQLAlchemy 2 and Alembic
  - On the router, FRR 8.4 or later with C(vtysh) as the login, or Linux with iproute2 5 or later; Junos, EOS and IOS-XE
    were never tried on a device
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._converge
attributes:
  check_mode:
    support: full
    details: Only reads the router. The plan hash of check mode is that of the real run.
  diff_mode:
    support: full
    details: Shows the lines that are there and the exact commands.
options:
  known_hosts:
    description:
      - The managed file of SSH host keys on the controller. A router whose key is not in it is refused, and so is one
        whose key differs.
    type: path
    default: ~/.ssh/known_hosts
  timeout:
    description: Seconds for logging in, and for each answer of the router.
    type: int
    default: 60
seealso:
  - module: hosting.aup.kvm_converge
  - module: hosting.aup.run_summary
"""

EXAMPLES = r"""
- name: Mark what is due
  hosting.aup.ledger_enforcement:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: due
  register: opened
  delegate_to: localhost
  run_once: true

- name: Put a router back to what the ledger says
  hosting.aup.router_converge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    run_id: "{{ opened.run_id }}"
    pending: "{{ opened.pending }}"
    known_hosts: /etc/aup/known_hosts
"""

RETURN = r"""
outcome:
  description: What came of it.
  returned: always
  type: str
  sample: changed
state:
  description: >-
    Whether what is wanted is there. V(unknown) when the connection ended after something had been sent and the
    router could not be read again; RV(may_have_acted) then lists it.
  returned: success
  type: str
  sample: applied
steps:
  description: What was done, or in check mode would be done, in order, with the lines that were there and the commands.
  returned: success
  type: list
  elements: dict
  sample:
    - action: add
      prefix: 203.0.113.10/32
      service: vps-1002
      mark: 41667
      before: []
      commands: [ip route 203.0.113.10/32 blackhole tag 41667]
may_have_acted:
  description: Commands that were sent when the router was lost.
  returned: when the router was lost
  type: list
  elements: str
errors:
  description: What failed, with code, message and remedy; for a service, or for the router as a whole.
  returned: always
  type: list
  elements: dict
services:
  description: What is true of each service that this router has to do with.
  returned: success
  type: list
  elements: dict
notes:
  description: What was left as it is, and why.
  returned: success
  type: list
  elements: str
saved:
  description: Whether the router's configuration was saved.
  returned: success
  type: bool
plan_hash:
  description: Names the plan; equal in check mode and the real run.
  returned: success
  type: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
"""
