# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: enforcements that are proposed and wait for another person. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_proposal",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("case_id", sa.Text, sa.ForeignKey("aup_case.id"), nullable=False),
        sa.Column("violation", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger, nullable=True),
        sa.Column("persons", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.UniqueConstraint("number", name="aup_proposal_number"),
        sa.CheckConstraint("status IN ('open', 'confirmed', 'withdrawn')", name="aup_proposal_status"),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="aup_proposal_closed"),
    )
    op.create_index(
        "aup_proposal_one",
        "aup_proposal",
        ["service", "kind"],
        unique=True,
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )
