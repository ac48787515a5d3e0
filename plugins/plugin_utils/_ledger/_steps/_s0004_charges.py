# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: charges, each once, and what billing took of them. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa

_KEPT = "a charge is never changed or removed: waive it, and it is not billed or credited"
_FIXED = (
    "id, number, kind, credit_of, account, case_id, service, violation, fee, clause, policy_key, amount, currency,"
    " quantity, unit, reference, opened_at, event_number"
)


def _text(name, *more, null=False, **options):
    return sa.Column(name, sa.Text, *more, nullable=null, **options)


def _number(name, *more, null=False):
    return sa.Column(name, sa.BigInteger, *more, nullable=null)


def upgrade(op):
    """Make the tables.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    # What the case may cost, as the policy said for that service when it was opened.
    op.add_column("aup_case", _text("fees", null=True))
    op.create_table(
        "aup_billing_export",
        _text("id", primary_key=True),
        _number("number"),
        _number("at"),
        _number("charges"),
        _number("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_billing_export_number"),
    )
    op.create_table(
        "aup_charge",
        _text("id", primary_key=True),
        _number("number"),
        _text("kind"),
        _text("credit_of", sa.ForeignKey("aup_charge.id"), null=True),
        _text("account"),
        _text("case_id", sa.ForeignKey("aup_case.id")),
        _text("service", null=True),
        _text("violation"),
        _text("fee"),
        _text("clause"),
        _text("policy_key"),
        _text("amount"),
        _text("currency"),
        _text("quantity", null=True),
        _text("unit"),
        _text("reference"),
        _text("status"),
        _number("opened_at"),
        _number("waived_at", null=True),
        _text("export_id", sa.ForeignKey("aup_billing_export.id"), null=True),
        _number("event_number", sa.ForeignKey("aup_event.number")),
        sa.UniqueConstraint("number", name="aup_charge_number"),
        sa.UniqueConstraint("credit_of", name="aup_charge_credited_once"),
        sa.CheckConstraint("kind IN ('charge', 'credit')", name="aup_charge_kind"),
        sa.CheckConstraint("(kind = 'credit') = (credit_of IS NOT NULL)", name="aup_charge_credit"),
        sa.CheckConstraint("status IN ('open', 'exported', 'waived')", name="aup_charge_status"),
        sa.CheckConstraint("(status = 'exported') = (export_id IS NOT NULL)", name="aup_charge_exported"),
        sa.CheckConstraint("(status = 'waived') = (waived_at IS NOT NULL)", name="aup_charge_waived"),
        sa.CheckConstraint("amount NOT LIKE '-%' AND length(currency) = 3", name="aup_charge_amount"),
    )
    op.create_index(
        "aup_charge_once",
        "aup_charge",
        ["case_id", "account", "fee", "reference"],
        unique=True,
        sqlite_where=sa.text("kind = 'charge'"),
        postgresql_where=sa.text("kind = 'charge'"),
    )
    connection = op.get_bind()
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)


_SQLITE = (
    (
        f"CREATE TRIGGER aup_charge_no_update BEFORE UPDATE OF {_FIXED} ON aup_charge"
        f" BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
    ),
    (
        f"CREATE TRIGGER aup_charge_taken_once BEFORE UPDATE OF export_id, status ON aup_charge"
        f" WHEN OLD.status <> 'open' BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
    ),
    (
        f"CREATE TRIGGER aup_charge_no_delete BEFORE DELETE ON aup_charge"
        f" BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
    ),
    # INSERT OR REPLACE would remove the old row without asking the trigger above.
    (
        f"CREATE TRIGGER aup_charge_no_replace BEFORE INSERT ON aup_charge"
        f" WHEN EXISTS (SELECT 1 FROM aup_charge WHERE id = NEW.id OR number = NEW.number)"
        f" BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
    ),
)

_POSTGRESQL = (
    (
        f"CREATE TRIGGER aup_charge_no_update BEFORE UPDATE OF {_FIXED} ON aup_charge FOR EACH ROW"
        f" EXECUTE FUNCTION aup_refuse('{_KEPT}')"
    ),
    (
        f"CREATE TRIGGER aup_charge_taken_once BEFORE UPDATE OF export_id, status ON aup_charge FOR EACH ROW"
        f" WHEN (OLD.status <> 'open') EXECUTE FUNCTION aup_refuse('{_KEPT}')"
    ),
    (
        f"CREATE TRIGGER aup_charge_no_delete BEFORE DELETE ON aup_charge FOR EACH ROW"
        f" EXECUTE FUNCTION aup_refuse('{_KEPT}')"
    ),
    (
        f"CREATE TRIGGER aup_charge_no_truncate BEFORE TRUNCATE ON aup_charge FOR EACH STATEMENT"
        f" EXECUTE FUNCTION aup_refuse('{_KEPT}')"
    ),
)
