# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: dated inputs, as the addresses of mining pools. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_dated_input",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("stale_at", sa.BigInteger, nullable=False),
        # Not a foreign key: of older inputs only the digest is kept.
        sa.Column("content_digest", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("event_number", sa.BigInteger, sa.ForeignKey("aup_event.number"), nullable=False),
        sa.CheckConstraint("stale_at > taken_at", name="aup_dated_input_times"),
    )
    op.create_index("aup_dated_input_name", "aup_dated_input", ["name", "number"])
