#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_keeper
short_description: Put the keeper's program on a host
version_added: 1.0.0
description:
  - Packs the node's half of this collection into one file that the host's own Python runs, and copies it there.
  - The roles P(hosting.aup.kvm_host#role) and P(hosting.aup.proxmox_host#role) use it, and install the units beside it.
  - Equal releases of the collection make equal files, so a second run changes nothing.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The program is a packed file.
options:
  dest:
    description: Where the program lies on the host. Its directory has to exist.
    type: str
    default: /usr/lib/hosting_aup/aup-node
  host:
    description: What the program is to serve, a KVM host with libvirt or a node of a Proxmox VE cluster.
    type: str
    choices: [kvm, proxmox]
    default: kvm
"""

EXAMPLES = r"""
- name: Install the keeper's program
  hosting.aup.kvm_keeper:
  become: true
"""

RETURN = r"""
version:
  description: The collection's version the program was packed from.
  returned: success
  type: str
dest:
  description: Where it lies.
  returned: success
  type: str
"""
