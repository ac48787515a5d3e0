# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 12: notices without a case (transfer, a new version), and requests for exemptions. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa

_STATUSES = "'held', 'waiting', 'queued', 'sending', 'unknown', 'delivered', 'bounced', 'failed', 'cancelled'"
_BEFORE = (
    "id", "number", "case_id", "enforcement_id", "service", "name", "timing", "status", "message_id", "facts", "opened_at", "next_at",
    "attempts", "claim", "stage", "lease_at", "role", "recipient", "subject", "body", "error", "receipt", "delivered_at",
    "answer_seconds", "deadline_at", "deadline", "closed_at", "erased_at", "event_number",
)
_ABOUT = "(case_id IS NULL) = (topic IS NOT NULL)"


def _text(name, *more, null=False):
    return sa.Column(name, sa.Text, *more, nullable=null)


def _big(name, *more, null=False):
    return sa.Column(name, sa.BigInteger, *more, nullable=null)


def upgrade(op):
    """Let a notice be about a topic instead of a case, each topic once, and make the table of requests.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    if op.get_context().dialect.name == "sqlite":
        _made_anew(op)
    else:
        op.alter_column("aup_notice", "case_id", nullable=True)
        op.add_column("aup_notice", _text("topic", null=True))
        op.create_check_constraint("aup_notice_about", "aup_notice", _ABOUT)
    op.create_index("aup_notice_topic", "aup_notice", ["topic"], unique=True)
    op.create_table(
        "aup_exemption_request",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        _big("number"),
        _text("service"),
        _text("control"),
        _text("reason", null=True),
        _text("asked_by", null=True),
        _text("domain", null=True),
        _big("seconds", null=True),
        _text("unmet", null=True),
        _text("status"),
        _big("opened_at"),
        _big("closed_at", null=True),
        _text("exemption_id", sa.ForeignKey("aup_exemption.id"), null=True),
        _big("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_exemption_request_number"),
        sa.CheckConstraint("status IN ('pending', 'approved', 'denied')", name="aup_exemption_request_status"),
        sa.CheckConstraint("(status = 'pending') = (closed_at IS NULL)", name="aup_exemption_request_closed"),
        sa.CheckConstraint("(status = 'approved') = (exemption_id IS NOT NULL)", name="aup_exemption_request_given"),
    )
    op.create_index(
        "aup_exemption_request_pending", "aup_exemption_request", ["service", "control"], unique=True,
        sqlite_where=sa.text("status = 'pending'"), postgresql_where=sa.text("status = 'pending'"),
    )


def _made_anew(op):
    """SQLite can't drop a NOT NULL: the table is made beside the old one, filled, and takes its name."""
    op.create_table(
        "aup_notice_new",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        _big("number"),
        _text("case_id", sa.ForeignKey("aup_case.id"), null=True),
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
        _big("event_number", sa.ForeignKey("aup_event.number")),
        _text("topic", null=True),
        sa.UniqueConstraint("number", name="aup_notice_number"),
        sa.UniqueConstraint("message_id", name="aup_notice_message"),
        sa.CheckConstraint("status IN (%s)" % _STATUSES, name="aup_notice_status"),
        sa.CheckConstraint("(status = 'sending') = (lease_at IS NOT NULL)", name="aup_notice_lease"),
        sa.CheckConstraint("status <> 'delivered' OR delivered_at IS NOT NULL", name="aup_notice_delivered"),
        sa.CheckConstraint("deadline_at IS NULL OR delivered_at IS NOT NULL", name="aup_notice_clock"),
        sa.CheckConstraint("deadline IN ('running', 'answered', 'passed', 'stopped')", name="aup_notice_deadline"),
        sa.CheckConstraint(_ABOUT, name="aup_notice_about"),
    )
    columns = ", ".join(_BEFORE)
    op.execute("INSERT INTO aup_notice_new (%s) SELECT %s FROM aup_notice" % (columns, columns))
    op.drop_table("aup_notice")
    op.rename_table("aup_notice_new", "aup_notice")
    for name, columns, where in (
        ("aup_notice_of_enforcement", ["enforcement_id"], "enforcement_id IS NOT NULL"),
        ("aup_notice_of_case", ["case_id", "service", "name"], "enforcement_id IS NULL AND status <> 'cancelled'"),
    ):
        op.create_index(name, "aup_notice", columns, unique=True, sqlite_where=sa.text(where))
