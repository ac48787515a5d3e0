#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: router_check
short_description: Read a router and say whether everything is understood
version_added: 1.0.0
description:
  - Asks the router what M(hosting.aup.router_converge) asks before every change, over the same connection, and reports
    what was found, what is missing on the router, and the first answer that was not understood. Needs no ledger.
  - Sends nothing that changes the router.
author:
  - hosting.aup contributors (@hosting-aup)
requirements:
  - On the controller, netmiko 4
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
attributes:
  check_mode:
    support: full
    details: It only reads.
  diff_mode:
    support: none
options:
  platform:
    description: The router's platform.
    type: str
    required: true
    choices: [eos, frr, iosxe, junos, linux, routeros, vyos]
  mark:
    description: The number that marks our routes. Without it, the platform's default.
    type: int
  known_hosts:
    description: The managed file of SSH host keys on the controller.
    type: path
    default: ~/.ssh/known_hosts
  timeout:
    description: Seconds for logging in and for each answer.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Is this router understood?
  hosting.aup.router_check:
    platform: junos
"""

RETURN = r"""
understood:
  description: Whether every answer was understood.
  returned: always
  type: bool
platform:
  description: The platform it was read as.
  returned: always
  type: str
missing:
  description: Configuration lines that writing needs and the router lacks.
  returned: always
  type: list
  elements: str
notes:
  description: What else to know, such as a running configuration that differs from the saved one.
  returned: always
  type: list
  elements: str
routes:
  description: How many static routes were read.
  returned: always
  type: int
ours:
  description: Prefixes whose route carries our mark.
  returned: always
  type: list
  elements: str
in_use:
  description: Prefixes that the router drops.
  returned: always
  type: list
  elements: str
protected:
  description: Addresses that no null route may cover, and what they are.
  returned: always
  type: list
  elements: str
error:
  description: Why it could not be read or was not understood, with code, message and remedy.
  returned: always
  type: dict
"""
