# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: the event log is append-only in the database itself. PRIVATE to the collection."""

from __future__ import annotations

_REFUSED = "the ledger is append-only: events are never changed or removed"
_REFUSED_DETAIL = "event details are never changed or removed, only erased as a whole"
# What an erasure may do to a detail, and nothing else.
_ERASURE = (
    "OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL AND NEW.salt IS NULL AND NEW.body IS NULL"
    " AND NEW.event_number = OLD.event_number"
)

_SQLITE = (
    (
        f"CREATE TRIGGER aup_event_no_update BEFORE UPDATE ON aup_event"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    ),
    (
        f"CREATE TRIGGER aup_event_no_delete BEFORE DELETE ON aup_event"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_update BEFORE UPDATE ON aup_event_detail WHEN NOT ({_ERASURE})"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSED_DETAIL}'); END"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_delete BEFORE DELETE ON aup_event_detail"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSED_DETAIL}'); END"
    ),
    # INSERT OR REPLACE would remove the old row without asking the triggers above.
    (
        f"CREATE TRIGGER aup_event_no_replace BEFORE INSERT ON aup_event"
        f" WHEN EXISTS (SELECT 1 FROM aup_event WHERE number = NEW.number OR digest = NEW.digest"
        f" OR prev_digest = NEW.prev_digest) BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_replace BEFORE INSERT ON aup_event_detail"
        f" WHEN EXISTS (SELECT 1 FROM aup_event_detail WHERE event_number = NEW.event_number)"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSED_DETAIL}'); END"
    ),
)

_POSTGRESQL = (
    (
        "CREATE FUNCTION aup_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = ''restrict_violation''; END'"
    ),
    (
        f"CREATE TRIGGER aup_event_no_change BEFORE UPDATE OR DELETE ON aup_event FOR EACH ROW"
        f" EXECUTE FUNCTION aup_refuse('{_REFUSED}')"
    ),
    (
        f"CREATE TRIGGER aup_event_no_truncate BEFORE TRUNCATE ON aup_event FOR EACH STATEMENT"
        f" EXECUTE FUNCTION aup_refuse('{_REFUSED}')"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_update BEFORE UPDATE ON aup_event_detail FOR EACH ROW"
        f" WHEN (NOT ({_ERASURE}))"
        f" EXECUTE FUNCTION aup_refuse('{_REFUSED_DETAIL}')"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_delete BEFORE DELETE ON aup_event_detail FOR EACH ROW"
        f" EXECUTE FUNCTION aup_refuse('{_REFUSED_DETAIL}')"
    ),
    (
        f"CREATE TRIGGER aup_detail_no_truncate BEFORE TRUNCATE ON aup_event_detail FOR EACH STATEMENT"
        f" EXECUTE FUNCTION aup_refuse('{_REFUSED_DETAIL}')"
    ),
)


def upgrade(op):
    """Add the triggers.

    :param op: alembic.operations.Operations on a connection inside a transaction
    """
    connection = op.get_bind()
    statements = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    for statement in statements:
        connection.exec_driver_sql(statement)
