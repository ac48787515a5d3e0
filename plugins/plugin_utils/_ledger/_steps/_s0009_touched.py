# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 9: what we set on guests of nodes that keep nothing of ours themselves. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_touched",
        sa.Column("node", sa.Text, primary_key=True, nullable=False),
        sa.Column("service", sa.Text, primary_key=True, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
