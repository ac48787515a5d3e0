# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all controls have in common where desired states are made. Pure. PRIVATE to the collection."""
from __future__ import annotations

from collections import namedtuple

Decision = namedtuple("Decision", "mode options clause reason")
Decision.__doc__ = """One control for one service: mode (off, observe, enforce, exempt), the policy's options, clause, reason."""


class Terms:
    """How one control is sent to nodes; the plain one sends the mode alone.

    :cvar name: as policies call it
    :cvar binds_unknown: whether ports of no known service are judged as the policy's unknown ports
    """

    name = ""
    binds_unknown = False

    def judge(self, service, decision):
        """The decision as this service can have it; may only loosen it, with the reason why. Called for all services."""
        return decision

    def options(self, service, decision):
        """What the node needs to know of this service beside the mode; plain data, small."""
        return {}

    def parameters(self, policies, snapshot, node, now):
        """What the node needs to know once for all services; plain data.

        :param policies: `{key: Policy}` of the release
        :param snapshot: the ledger's (docs/architecture.md)
        :param node: the node's own description
        :param now: seconds since the epoch
        """
        return {}
