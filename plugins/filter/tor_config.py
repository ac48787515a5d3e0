# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._tor_config import torrc

DOCUMENTATION = r"""
name: tor_config
short_description: The torrc of a Tor relay or bridge that never exits
version_added: 1.0.0
author:
  - hosting.aup contributors (@hosting-aup)
description:
  - Makes the whole torrc of a relay or bridge from a few options. All it can make keeps exits off for both families.
  - The role C(tor) writes it, and the same text goes into the vendor data of new services that declare a relay.
options:
  _input:
    description:
      - What to make, as a dictionary.
      - C(kind) is V(relay) or V(bridge); C(nickname), C(contact), C(or_port) (9001), C(address) (a list),
        C(bandwidth_rate) and C(bandwidth_burst) (like V(10 MBytes)), C(family) (fingerprints), C(transport_port) (a bridge's obfs4).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the torrc of a relay
  ansible.builtin.debug:
    msg: "{{ {'kind': 'relay', 'nickname': 'example', 'contact': 'tor@example.com'} | hosting.aup.tor_config }}"
"""

RETURN = r"""
_value:
  description: The torrc.
  type: str
"""


def tor_config(options):
    """The torrc for these options.

    :raises AnsibleFilterError: for options that are none
    """
    try:
        return torrc({str(name): value for name, value in dict(options).items() if value is not None})
    except (AupError, TypeError, ValueError) as exc:
        raise AnsibleFilterError("hosting.aup.tor_config: %s" % exc) from exc


class FilterModule:
    """The filter."""

    def filters(self):
        return {"tor_config": tor_config}
