# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls as `resolve` sends them to nodes, beside `smtp_outbound`. Pure. PRIVATE to the collection.

What a node does with them is in `_backends/_nftables/_controls`; its docstring says how to add one.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._controls._anti_spoofing import AntiSpoofing
from ansible_collections.hosting.aup.plugins.module_utils._controls._mining import Mining
from ansible_collections.hosting.aup.plugins.module_utils._controls._terms import Decision, Terms
from ansible_collections.hosting.aup.plugins.module_utils._controls._traffic import BitTorrent, IrcServer, NewConnections, Reflection

__all__ = ["TERMS", "Decision", "Terms"]

_ALL = (AntiSpoofing(), Mining(), Reflection(), BitTorrent(), IrcServer(), NewConnections())

TERMS = {terms.name: terms for terms in _ALL}
