# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 8: how far each node's journal was taken in, and what is held there by hand. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_node_journal",
        sa.Column("node", sa.Text, primary_key=True, nullable=False),
        sa.Column("journal", sa.Text, nullable=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("by_hand", sa.Text, nullable=False),
        sa.CheckConstraint("number >= 0", name="aup_node_journal_number"),
    )
