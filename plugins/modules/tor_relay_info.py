#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: tor_relay_info
short_description: Tor relays in the provider's prefixes, and which can exit
version_added: 1.0.0
description:
  - Reads a consensus of Tor's directory authorities and, if given, relays' own descriptors, and names the relays whose addresses
    lie in the provider's prefixes. A relay can exit by its flag, by the summary of its policy, or by its own policy for IPv4 or IPv6.
  - No firewall can tell an exit's packets from others. This is how exits are found; relays and bridges are welcome.
  - A consensus counts when more than half of the authorities signed it, with keys that their identity keys certified. One that is
    truncated, wrongly signed, more than a day past its end or from the future is refused. A descriptor that its own key did not sign,
    that can't be read or is not of these two days is left out and named in RV(warnings).
  - Bridges are in no consensus, so they are not seen. A relay that exits from another address than it announces is not matched by it.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
attributes:
  check_mode:
    support: full
    details: Changes nothing.
  diff_mode:
    support: none
    details: Changes nothing.
options:
  consensus:
    description: File or URL of a consensus (C(/tor/status-vote/current/consensus) of an authority or mirror).
    type: str
    required: true
  descriptors:
    description: Files or URLs of server descriptors (C(/tor/server/all), or those of single relays). Exits over IPv6 alone show only there.
    type: list
    elements: str
    default: []
  certificates:
    description: File or URL of the authorities' certificates (C(/tor/keys/all)). Needed with O(verify).
    type: str
  authorities:
    description: Identities of the authorities that count. By default those of the public network that stem knows.
    type: list
    elements: str
  verify:
    description: Check the consensus' signatures.
    type: bool
    default: true
  prefixes:
    description: The provider's prefixes. By default those of the newest release.
    type: list
    elements: str
  timeout:
    description: Seconds to wait for an answer.
    type: int
    default: 60
requirements:
  - stem >= 1.8.2 (on the controller)
  - cryptography (on the controller)
"""

EXAMPLES = r"""
- name: Look for exits
  hosting.aup.tor_relay_info:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    consensus: https://collector.example.com/consensus
    descriptors: [/var/lib/aup/server-descriptors]
    certificates: /var/lib/aup/tor-keys
  register: tor
"""

RETURN = r"""
relays:
  description:
    - The relays in the prefixes, exits first, each with fingerprint, nickname, addresses, flags, whether it can exit and why,
      and the services whose addresses these are, with what they declared (C(uses.tor) of the catalogue).
  returned: success
  type: list
  elements: dict
exits:
  description: Those that can exit.
  returned: success
  type: list
  elements: dict
lines:
  description: One line a relay, for people.
  returned: success
  type: list
  elements: str
consensus:
  description: When it is valid, who signed it, how many relays it names.
  returned: success
  type: dict
warnings:
  description: Descriptors left out, and what was not looked at.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when a document, an input or the ledger was refused
  type: dict
  sample:
    code: bad_input
    target: consensus
    remedy: Fetch it again, from another mirror.
    retryable: false
    applied_steps: []
"""
