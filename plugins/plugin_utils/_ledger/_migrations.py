# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a ledger's schema up to date, inside the caller's transaction. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import STEPS
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

NEWEST = STEPS[-1][0]


def schema_step(connection, place):
    """The last step this database has had: 0 for an empty one.

    :raises LedgerError: `ledger_newer` when a newer release of the collection made it, `ledger_corrupt`
        when the database belongs to something else
    """
    names = set(sa.inspect(connection).get_table_names())
    if t.schema.name not in names:
        if names and connection.dialect.name == "sqlite" or any(name.startswith("aup_") for name in names):
            raise LedgerError(
                "%s is a database, but not a ledger of hosting.aup." % place,
                code="ledger_corrupt",
                target=place,
                remedy="Correct the ledger's URL.",
            )
        return 0
    step = connection.execute(sa.select(sa.func.max(t.schema.c.step))).scalar() or 0
    if step > NEWEST:
        raise LedgerError(
            "the ledger %s has schema %d; this release of hosting.aup knows schemas up to %d."
            % (place, step, NEWEST),
            code="ledger_newer",
            target=place,
            remedy="Run a release of hosting.aup that is at least as new as the one"
            " that last wrote this ledger. Nothing was changed.",
        )
    return step


def migrate(connection, place, now):
    """Run the missing steps, oldest first. Returns the numbers of those that ran."""
    # Imported here, because only a new or outdated ledger needs it and each run would pay for it.
    try:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
    except ImportError:
        raise LedgerError(
            "the ledger's schema must be brought up to date, which needs the Python package alembic.",
            code="ledger_missing_library",
            remedy="Install it for the Python that runs Ansible.",
        ) from None
    done = schema_step(connection, place)
    if done == 0:
        t.schema.create(connection)
    ran = []
    for number, upgrade in STEPS:
        if number > done:
            upgrade(Operations(MigrationContext.configure(connection)))
            connection.execute(t.schema.insert().values(step=number, applied_at=now))
            ran.append(number)
    return ran
