# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: a proposal's terms, guardrails that were exceeded, and when a node's state was last put on record.

PRIVATE to the collection.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table and add the columns.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.add_column("aup_proposal", sa.Column("terms", sa.Text, nullable=True))
    op.add_column("aup_node", sa.Column("recorded_at", sa.BigInteger, nullable=True))
    op.add_column("aup_node", sa.Column("recorded_digest", sa.Text, nullable=True))
    op.create_table(
        "aup_break_glass",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, sa.ForeignKey("aup_run.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("services", sa.Text, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("event_number", sa.BigInteger, sa.ForeignKey("aup_event.number"), nullable=False),
        sa.Column("reviewed_at", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("number", name="aup_break_glass_number"),
    )
