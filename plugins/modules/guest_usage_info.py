#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guest_usage_info
short_description: Read what the guests of a Proxmox VE cluster have transferred
version_added: 1.0.0
description:
  - Reads the counters of all running guests of a cluster with one call of its API, for M(hosting.aup.ledger_usage). Changes
    nothing.
  - A guest's counters begin at zero when it is started and when it has migrated. M(hosting.aup.ledger_usage) tells that by the
    guest's age, and counts nothing twice; see docs/obligations.md.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the controller, proxmoxer 2 and requests
  - An API token with C(VM.Audit) on the guests
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._attributes.info
  - hosting.aup._proxmox_api
seealso:
  - module: hosting.aup.ledger_usage
  - module: hosting.aup.kvm_usage
"""

EXAMPLES = r"""
- name: Read the counters of a cluster
  hosting.aup.guest_usage_info:
    api_user: svc@pve
    api_token_id: aup
    api_token_secret: "{{ vaulted_token_secret }}"
    ca_file: /etc/aup/pve-ca.pem
  register: aup_usage
"""

RETURN = r"""
taken_at:
  description: When they were read, by the controller's clock, in seconds since the epoch.
  returned: success
  type: int
samples:
  description: One per running guest, with the bytes that all its NICs together have received and sent since its start.
  returned: success
  type: list
  elements: dict
  contains:
    vmid:
      description: The guest's number.
      type: int
    name:
      description: Its name.
      type: str
    kind:
      description: V(qemu) or V(lxc).
      type: str
    place:
      description: The node of the cluster it runs on.
      type: str
    uptime:
      description: Its age in seconds.
      type: int
    received:
      description: Bytes it has received.
      type: int
    sent:
      description: Bytes it has sent.
      type: int
gaps:
  description: Guests that the cluster shows no counters of now, because their node is down or they were just started.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: failure
  type: dict
"""
