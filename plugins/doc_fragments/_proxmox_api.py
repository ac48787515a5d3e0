# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """How the API of a Proxmox VE cluster is reached; `_client.API_ARGUMENTS` are the same as arguments."""

    DOCUMENTATION = r"""
options:
  api_host:
    description: Where the API answers. Without it, the host's address in the inventory.
    type: str
  api_port:
    description: The port of the API.
    type: int
    default: 8006
  api_user:
    description: The user the token belongs to, with realm, as V(svc@pve).
    type: str
    required: true
  api_token_id:
    description: The name of the token.
    type: str
    required: true
  api_token_secret:
    description: The secret of the token.
    type: str
    required: true
  ca_file:
    description: PEM file of the CA that signed the API's certificate. Without it, the CAs of the controller.
    type: path
  fingerprint:
    description: SHA-256 fingerprint of the API's certificate, in place of a CA.
    type: str
  timeout:
    description:
      - Seconds to wait for an answer. The server itself waits 10 for a guest's lock and 30 for another node.
    type: int
    default: 60
"""
