# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 10: counters of ports as last seen, and transfer by window. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def _text(name, *more, null=False, **options):
    return sa.Column(name, sa.Text, *more, nullable=null, **options)


def _number(name, null=False, **options):
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False, **options)


def upgrade(op):
    """Make the tables.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    op.create_table("aup_usage_meter", _text("service", primary_key=True), _number("began_at"))
    op.create_table(
        "aup_usage_counter",
        _text("counter", primary_key=True),
        _text("service"),
        _text("mac"),
        _text("node"),
        _number("taken_at"),
        _number("received"),
        _number("sent"),
        _text("refused", null=True),
        sa.CheckConstraint("received >= 0 AND sent >= 0", name="aup_usage_counter_bytes"),
    )
    op.create_table(
        "aup_usage_window",
        _text("service", primary_key=True),
        _number("begins_at", primary_key=True),
        _number("ends_at"),
        _number("received"),
        _number("sent"),
        _number("sampled_at"),
        _number("told"),
        _text("case_id", sa.ForeignKey("aup_case.id"), null=True),
        _number("capped_over", null=True),
        _number("closed_at", null=True),
        sa.CheckConstraint("received >= 0 AND sent >= 0", name="aup_usage_window_bytes"),
        sa.CheckConstraint("ends_at > begins_at", name="aup_usage_window_times"),
    )
    op.create_index("aup_usage_window_open", "aup_usage_window", ["closed_at", "ends_at"])
