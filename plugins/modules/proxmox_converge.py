#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_converge
short_description: Bring a Proxmox VE cluster to its desired state
version_added: 1.0.0
description:
  - Resolves policy, services and ledger into what each guest of the cluster is to have, virtual machines and
    containers, reads the guests concerned over the API, and changes only what differs. Then it reads them again and
    records the result; what is not seen is failed.
  - Finds each guest's node afresh in each run. A guest that moves meanwhile is followed once.
  - What is set is kept in the ledger before it is set. A field goes back only while it holds what was set; where a
    tenant or the panel changed it meanwhile, their value stays or comes back.
  - Tenants' own firewall rules and options are never touched. The firewall of a guest is switched on only where its
    tenant has none of either, with both policies C(ACCEPT) in the same call. The switch of the whole cluster and that
    of a NIC are reported as gaps with what to do.
  - Before anything is changed, the token's privileges are compared with what the changes need, and each missing one is
    named with its path.
  - A guest that high availability manages is stopped and started through it, never paused.
  - What somebody else changed between reading and writing is not written over. The run looks again, up to three times.
  - With O(release) it also makes the guests that the catalogue orders and that are not there, copied from a template or
    unpacked from an archive. They are started once their rules have been read back; one order's error leaves the others alone.
  - Connections that are open already outlive new rules on this backend. C(open_connections) of the policy's enforcements says
    what becomes of them.
  - Several ledgers may have guests on one cluster. Each knows its groups and sets by the beginning of its id in their comment, and
    leaves the others'.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the controller, proxmoxer 2, requests, SQLAlchemy 2 and Alembic
  - Proxmox VE 8.4 or later, and an API token
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._converge
  - hosting.aup._proxmox_api
attributes:
  check_mode:
    support: full
    details: Only reads the cluster. The plan hash of check mode is that of the real run.
  diff_mode:
    support: full
    details: Shows each field before and after.
options:
  services:
    description:
      - Look at the guests of these services only, which takes a handful of calls however large the cluster is.
      - The firewall of a guest that is suspended, terminated or throttled, and nothing else, is then left unread. A note
        says that it is not verified; a run over all guests reads it.
      - Without it, all guests are looked at.
    type: list
    elements: str
  rules_on:
    description:
      - Names of the cluster's own nodes (C(hosts) under C(proxmox) of the catalogue) that were seen with their rules in this run.
      - On a guest that runs there, nothing has to be done about connections that are open when a block begins.
    type: list
    elements: str
    default: []
  numbers:
    description: Numbers that were reserved in this run for guests that are to be made, by service, of O(only_numbers).
    type: dict
    default: {}
  only_numbers:
    description:
      - Only reserve numbers for guests that are to be made and have none in the catalogue, and return them. Nothing is written
        to the cluster.
      - Where the cluster's nodes have rules of ours, these are to know a guest before it is made.
    type: bool
    default: false
  adopt_from_other_ledger:
    description:
      - Take over guests that have rules of another ledger, one that is lost. Without it they are refused (C(other_ledger)).
      - The groups and sets of other ledgers go where no guest of the whole cluster refers to them any more, for which the rules of all
        guests are read; else a note says why one stays.
      - What the lost ledger had set on guests besides (power, NICs, limits) isn't known here, and stays.
    type: bool
    default: false
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

- name: Put a cluster back to what the ledger says
  hosting.aup.proxmox_converge:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    run_id: "{{ opened.run_id }}"
    pending: "{{ opened.pending }}"
    api_user: svc@pve
    api_token_id: aup
    api_token_secret: "{{ vaulted_token_secret }}"
    ca_file: /etc/aup/pve-ca.pem
"""

RETURN = r"""
outcome:
  description: What came of it.
  returned: always
  type: str
  sample: changed
steps:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
  sample:
    - verb: set
      service: vps-1002
      vmid: 1002
      before: {onboot: "1"}
      after: {onboot: "0"}
services:
  description: What is true of each service that is held or limited, or is being given back.
  returned: success
  type: list
  elements: dict
numbers:
  description: Numbers of guests that are to be made, by service.
  returned: with O(only_numbers)
  type: dict
  sample: {vps-1009: 103}
gaps:
  description: What can't be held on this cluster as it is, each with the remedy.
  returned: success
  type: list
  elements: dict
notes:
  description: What to know, as sentences.
  returned: success
  type: list
  elements: str
plan_hash:
  description: Names this plan; that of check mode and of the real run are the same.
  returned: success
  type: str
errors:
  description: What failed, service by service.
  returned: always
  type: list
  elements: dict
  sample:
    - service: vps-1002
      code: guest_locked
      message: "guest 1002 is locked (backup) by another task of the cluster."
      remedy: Wait until it has ended, then run hosting.aup.reconcile.
error:
  description: Why nothing could be done at all.
  returned: failure
  type: dict
"""
