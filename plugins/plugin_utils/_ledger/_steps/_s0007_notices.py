# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 7: the outbox of notices, and the clocks that their delivery starts. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa

_STATUSES = "'held', 'waiting', 'queued', 'sending', 'unknown', 'delivered', 'bounced', 'failed', 'cancelled'"


def _text(name, *more, null=False):
    return sa.Column(name, sa.Text, *more, nullable=null)


def _big(name, null=False):
    return sa.Column(name, sa.BigInteger, nullable=null)


def upgrade(op):
    """Make the table.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_notice",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        _big("number"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("enforcement_id", sa.ForeignKey("aup_enforcement.id"), null=True),
        _text("service"),
        _text("name"),
        _text("timing"),
        _text("status"),
        _text("message_id"),
        _text("facts", null=True),
        _big("opened_at"),
        _big("next_at"),
        sa.Column("attempts", sa.Integer, nullable=False),
        _text("claim", null=True),
        _text("stage", null=True),
        _big("lease_at", null=True),
        _text("role", null=True),
        _text("recipient", null=True),
        _text("subject", null=True),
        _text("body", null=True),
        _text("error", null=True),
        _text("receipt", null=True),
        _big("delivered_at", null=True),
        _big("answer_seconds", null=True),
        _big("deadline_at", null=True),
        _text("deadline", null=True),
        _big("closed_at", null=True),
        _big("erased_at", null=True),
        sa.Column("event_number", sa.BigInteger, sa.ForeignKey("aup_event.number"), nullable=False),
        sa.UniqueConstraint("number", name="aup_notice_number"),
        sa.UniqueConstraint("message_id", name="aup_notice_message"),
        sa.CheckConstraint("status IN (%s)" % _STATUSES, name="aup_notice_status"),
        sa.CheckConstraint("(status = 'sending') = (lease_at IS NOT NULL)", name="aup_notice_lease"),
        sa.CheckConstraint("status <> 'delivered' OR delivered_at IS NOT NULL", name="aup_notice_delivered"),
        # The clock of an answer runs from delivery and from nothing else.
        sa.CheckConstraint("deadline_at IS NULL OR delivered_at IS NOT NULL", name="aup_notice_clock"),
        sa.CheckConstraint("deadline IN ('running', 'answered', 'passed', 'stopped')", name="aup_notice_deadline"),
    )
    for name, columns, where in (
        ("aup_notice_of_enforcement", ["enforcement_id"], "enforcement_id IS NOT NULL"),
        ("aup_notice_of_case", ["case_id", "service", "name"], "enforcement_id IS NULL AND status <> 'cancelled'"),
    ):
        op.create_index(
            name, "aup_notice", columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
