# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: all tables, and the rules that need no trigger. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa

_OPEN = "status IN ('opened', 'active', 'ending')"


def _number(name="number"):
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def _text(name, *more, null=False, **options):
    return sa.Column(name, sa.Text, *more, nullable=null, **options)


def _time(name, null=False):
    return sa.Column(name, sa.BigInteger, nullable=null)


def _counted(name="number", null=False):
    return sa.Column(name, sa.BigInteger, nullable=null)


def _event():
    return sa.Column("event_number", sa.BigInteger, sa.ForeignKey("aup_event.number"), nullable=False)


def _check(name, rule):
    return sa.CheckConstraint(rule, name="aup_" + name)


def _unique(name, *columns):
    return sa.UniqueConstraint(*columns, name="aup_" + name)


def _only_one(op, name, table, columns, where):
    op.create_index(
        "aup_" + name,
        "aup_" + table,
        columns,
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def upgrade(op):
    """Make the tables.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    _chain(op)
    _releases(op)
    _decisions(op)
    _records(op)


def _chain(op):
    op.create_table(
        "aup_meta",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        _text("ledger_id"),
        sa.Column("epoch", sa.Integer, nullable=False),
        _time("created_at"),
        _counted("head_number"),
        _text("head_digest"),
        _check("meta_one", "one = 1"),
        _check("meta_epoch", "epoch >= 1"),
    )
    op.create_table(
        "aup_event",
        _number(),
        _time("at"),
        _text("kind"),
        _text("refs"),
        _text("detail_digest"),
        _text("prev_digest"),
        _text("digest"),
        # The unique previous digest is what makes a fork of the chain impossible.
        _unique("event_prev", "prev_digest"),
        _unique("event_digest", "digest"),
        _check("event_number", "number >= 1"),
    )
    op.create_table(
        "aup_event_detail",
        sa.Column(
            "event_number",
            sa.BigInteger,
            sa.ForeignKey("aup_event.number"),
            primary_key=True,
            autoincrement=False,
        ),
        _text("salt", null=True),
        _text("body", null=True),
        _time("erased_at", null=True),
        _check(
            "detail_whole",
            "(erased_at IS NULL AND salt IS NOT NULL AND body IS NOT NULL)"
            " OR (erased_at IS NOT NULL AND salt IS NULL AND body IS NULL)",
        ),
    )


def _releases(op):
    op.create_table(
        "aup_content",
        _text("digest", primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        _time("created_at"),
    )
    op.create_table(
        "aup_release",
        _number("id"),
        _time("created_at"),
        _text("contents_digest"),
        _text("default_policy"),
        _text("policies"),
        _text("catalogue_digest", sa.ForeignKey("aup_content.digest")),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("services", sa.Integer, nullable=False),
    )
    op.create_table(
        "aup_node",
        _text("name", primary_key=True),
        sa.Column("release_id", sa.BigInteger, sa.ForeignKey("aup_release.id"), nullable=True),
        _time("adopted_at", null=True),
        _time("retired_at", null=True),
        _time("last_seen_at", null=True),
        _text("last_run_id", null=True),
        _text("last_outcome", null=True),
        _text("fence", null=True),
    )
    op.create_table(
        "aup_adoption",
        _text("service", primary_key=True),
        _text("node", sa.ForeignKey("aup_node.name")),
        _time("recorded_at"),
        _time("adopted_at", null=True),
    )


def _decisions(op):
    op.create_table(
        "aup_case",
        _text("id", primary_key=True),
        sa.Column("year", sa.Integer, nullable=True),
        _counted(null=True),
        _text("service", null=True),
        _text("violation"),
        _text("clause", null=True),
        _text("fault", null=True),
        _text("policy_key"),
        _text("status"),
        _time("opened_at"),
        _time("closed_at", null=True),
        _event(),
        _unique("case_number", "year", "number"),
        _check("case_status", "status IN ('open', 'closed')"),
        _check("case_closed", "(status = 'closed') = (closed_at IS NOT NULL)"),
    )
    op.create_table(
        "aup_enforcement",
        _text("id", primary_key=True),
        _counted(),
        _text("service"),
        _text("kind"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("violation"),
        _text("clause", null=True),
        _text("reason"),
        _text("policy_key"),
        _text("status"),
        _time("starts_at"),
        _time("ends_at", null=True),
        _text("until"),
        _time("review_at", null=True),
        _time("opened_at"),
        _time("verified_at", null=True),
        _time("ending_at", null=True),
        _time("ended_at", null=True),
        _text("end_reason", null=True),
        _text("options"),
        _text("snapshot"),
        _event(),
        _unique("enforcement_number", "number"),
        _check("enforcement_status", "status IN ('opened', 'active', 'ending', 'ended', 'cancelled')"),
        _check("enforcement_until", "until IN ('time', 'remedied', 'decision')"),
        _check("enforcement_times", "ends_at IS NULL OR ends_at > starts_at"),
        _check("enforcement_timed", "until <> 'time' OR ends_at IS NOT NULL"),
        _check("enforcement_verified", "status <> 'active' OR verified_at IS NOT NULL"),
        _check("enforcement_ended", "(status IN ('ended', 'cancelled')) = (ended_at IS NOT NULL)"),
    )
    _only_one(op, "enforcement_one", "enforcement", ["service", "kind", "case_id"], _OPEN)
    op.create_index("aup_enforcement_service", "aup_enforcement", ["service"])
    op.create_table(
        "aup_enforcement_node",
        _text("enforcement_id", sa.ForeignKey("aup_enforcement.id"), primary_key=True),
        _text("node", primary_key=True),
        _text("state"),
        _time("seen_at"),
        _check("enforcement_node_state", "state IN ('in_force', 'gone')"),
    )
    op.create_table(
        "aup_exemption",
        _text("id", primary_key=True),
        _counted(),
        _text("service"),
        _text("control"),
        _text("clause", null=True),
        _text("reason"),
        _text("status"),
        _time("starts_at"),
        _time("ends_at", null=True),
        _time("opened_at"),
        _time("closed_at", null=True),
        _event(),
        _unique("exemption_number", "number"),
        _check("exemption_status", "status IN ('open', 'revoked', 'expired')"),
        _check("exemption_times", "ends_at IS NULL OR ends_at > starts_at"),
        _check("exemption_closed", "(status = 'open') = (closed_at IS NULL)"),
    )
    _only_one(op, "exemption_one", "exemption", ["service", "control"], "status = 'open'")
    op.create_table(
        "aup_baseline",
        _number(),
        _text("service"),
        _text("node"),
        _text("digest"),
        _text("fields"),
        _time("captured_at"),
        _time("closed_at", null=True),
    )
    _only_one(op, "baseline_one", "baseline", ["service", "node"], "closed_at IS NULL")


def _records(op):
    op.create_table(
        "aup_run",
        _text("id", primary_key=True),
        _counted(),
        _text("verb"),
        _time("started_at"),
        _text("inputs_digest"),
        _event(),
        _unique("run_number", "number"),
    )
    op.create_table(
        "aup_node_result",
        _number(),
        _text("run_id", sa.ForeignKey("aup_run.id")),
        _text("node"),
        _text("service", null=True),
        _text("outcome"),
        _text("error", null=True),
        _time("recorded_at"),
        _text("summary", null=True),
    )
    op.create_index("aup_node_result_run", "aup_node_result", ["run_id"])
    op.create_index("aup_node_result_service", "aup_node_result", ["service"])
