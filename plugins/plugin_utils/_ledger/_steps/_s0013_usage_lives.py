# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 13: how a cluster's guests' counters were seen last. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_usage_life",
        sa.Column("node", sa.Text, primary_key=True, nullable=False),
        sa.Column("guest", sa.BigInteger, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
