#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pool_data
short_description: Refresh the addresses of mining pools in the ledger
version_added: 1.0.0
description:
  - Reads lists of pools, asks the given resolvers for the addresses of their names (both families, with their TTL), takes
    away what belongs to the provider, to its policies' networks, to resolvers and to networks that many share, and
    records the result in the ledger with its date. Nodes act on it at their next pass where a policy has the control
    C(mining); neither that nor the node's keeper resolves a name.
  - A new address is only observed for a time before it is enforced.
  - An update that shrank by half or more, or more than doubled, is refused, and the former data stays. The same holds when
    most names get no answer.
  - A name that has no address, gives too many, or gives only addresses that are refused keeps its former addresses until
    they are stale, and is named in RV(warnings).
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
attributes:
  check_mode:
    support: full
    details: Names are resolved and everything is judged in a transaction that is rolled back; RV(pending) carries it to the next task.
  diff_mode:
    support: full
    details: Date, digest and figures before and after.
options:
  lists:
    description:
      - Lists of pools as paths of files. C(shipped) is the collection's own short list.
      - Hosts one a line, with or without port, hosts files, URLs (C(stratum+tcp://host:port)), AdBlock and dnsmasq rules,
        and tables in CSV with the columns C(domain) and C(port) are told apart by themselves. Fetch them with
        M(ansible.builtin.get_url).
      - A host without a port, or on port 25, 80 or 443, is covered by its address, whatever the port.
    type: list
    elements: str
    default: [shipped]
  resolvers:
    description: Addresses of the resolvers to ask, such as C(192.0.2.53) or C([2001:db8::53]:5353). They are asked in this order.
    type: list
    elements: str
    required: true
  spare:
    description: Further prefixes whose addresses never become data, beside the shipped ones of CDNs and public resolvers.
    type: list
    elements: str
    default: []
  accept_networks:
    description: Networks that are not public and are taken all the same, for laboratories.
    type: list
    elements: str
    default: []
  observe:
    description: How long a new address is observed before it is enforced; V(0) for not at all.
    type: str
    default: 24h
  keep:
    description: How long an address stays that its name no longer gives. Names rotate through their addresses.
    type: str
    default: 24h
  stale:
    description: After what time without a refresh the data is called stale, and how long addresses of a name stay that can't be resolved.
    type: str
    default: 7d
  most_addresses:
    description: A name that gives more addresses than this is refused.
    type: int
    default: 64
  accept_size:
    description: Take an update although its size is outside the band.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for one answer, over all resolvers.
    type: int
    default: 8
requirements:
  - dnspython >= 2.6 (on the controller)
"""

EXAMPLES = r"""
- name: Refresh the pools from our own list and a published one
  hosting.aup.pool_data:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    lists: [shipped, /var/lib/aup/watchlist.csv]
    resolvers: [192.0.2.53]
"""

RETURN = r"""
what:
  description: What was written, as lines for people.
  returned: success
  type: list
  elements: str
warnings:
  description: Lines, names and addresses that were refused, each with place and remedy; the first 30.
  returned: success
  type: list
  elements: str
input:
  description: Name, time, digest of the recorded data, and when it is stale.
  returned: success
  type: dict
figures:
  description: Numbers of names, endpoints, addresses, of what was added, removed, kept and refused.
  returned: success
  type: dict
pending:
  description:
    - In check mode, what the ledger would have been told, for O(hosting.aup.kvm_converge#module:pending).
    - Empty in a real run.
  returned: success
  type: list
  elements: dict
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger, an input or the update was refused
  type: dict
  sample:
    code: bad_input
    target: lists
    remedy: "The former data stays. Look at lists and resolvers; accept_size takes it all the same."
    retryable: false
    applied_steps: []
"""
