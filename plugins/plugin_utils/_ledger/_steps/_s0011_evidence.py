# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 11: evidence of cases, flags on cases, and to whom evidence was disclosed. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def _text(name, *more, null=False, **options):
    return sa.Column(name, sa.Text, *more, nullable=null, **options)


def _number(name, *more, null=False, **options):
    return sa.Column(name, sa.BigInteger, *more, nullable=null, autoincrement=False, **options)


def upgrade(op):
    """Make the tables. Names and people are in the details of the events alone, where they can be erased.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table(
        "aup_evidence",
        _text("id", primary_key=True),
        _number("number"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("service", null=True),
        _text("sha256"),
        _number("size"),
        _text("media_type"),
        _text("class"),
        _text("status"),
        _number("retention", null=True),
        _number("added_at"),
        _number("removed_at", null=True),
        _number("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_evidence_number"),
        sa.UniqueConstraint("case_id", "sha256", name="aup_evidence_once"),
        sa.CheckConstraint("status IN ('kept', 'hash_only', 'removed')", name="aup_evidence_status"),
        sa.CheckConstraint("(status = 'removed') = (removed_at IS NOT NULL)", name="aup_evidence_removed"),
        sa.CheckConstraint("length(sha256) = 64 AND size >= 0", name="aup_evidence_digest"),
    )
    op.create_index("aup_evidence_file", "aup_evidence", ["sha256", "status"])
    op.create_table(
        "aup_case_flag",
        _text("id", primary_key=True),
        _number("number"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("kind"),
        _number("placed_at"),
        _number("released_at", null=True),
        _number("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_case_flag_number"),
        sa.CheckConstraint("kind IN ('legal_hold', 'no_notice')", name="aup_case_flag_kind"),
    )
    op.create_index(
        "aup_case_flag_standing", "aup_case_flag", ["case_id", "kind"], unique=True,
        sqlite_where=sa.text("released_at IS NULL"), postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "aup_disclosure",
        _text("id", primary_key=True),
        _number("number"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("reference"),
        _text("digests"),
        _number("disclosed_at"),
        _number("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_disclosure_number"),
        sa.UniqueConstraint("case_id", "reference", name="aup_disclosure_once"),
    )
