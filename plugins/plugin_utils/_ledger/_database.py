# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the ledger is, how to connect to it, and what its errors mean. PRIVATE to the collection."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa, sa_exc

BUSY_SECONDS = 10
MEMORY = ":memory:"
# One lock for all writers of a PostgreSQL database; the number has no meaning beyond being ours.
_WRITER_LOCK = 0x6175706C6564
_FORMS = "Give a file path, sqlite:////absolute/path, or postgresql+psycopg://user@host/database."


def parse_url(url):
    """The SQLAlchemy URL of `url`: a file path, `sqlite:////path` or `postgresql://…`.

    :raises LedgerError: code `ledger_url`; the text of the URL is never repeated, it may hold a password
    """
    if sa is None:
        raise LedgerError(
            "the ledger needs the Python packages SQLAlchemy (2.0 or newer) and alembic on the controller.",
            code="ledger_missing_library",
            remedy="Install them for the Python that runs Ansible.",
        )
    text = str(url or "").strip()
    if not text or "\x00" in text:
        raise LedgerError("no ledger is named.", code="ledger_url", target="ledger_url", remedy=_FORMS)
    if "://" not in text:
        return _file_url(text)
    try:
        parsed = sa.engine.make_url(text)
    except (sa_exc.ArgumentError, ValueError):
        raise LedgerError(
            "ledger_url is not a database URL.", code="ledger_url", target="ledger_url", remedy=_FORMS
        ) from None
    if parsed.drivername == "sqlite":
        if parsed.query or parsed.host or not parsed.database:
            raise LedgerError(
                "ledger_url names SQLite without a plain file path.",
                code="ledger_url",
                target="ledger_url",
                remedy=_FORMS,
            )
        return _file_url(parsed.database)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise LedgerError(
        "a ledger in %r is not supported." % parsed.drivername,
        code="ledger_url",
        target="ledger_url",
        remedy=_FORMS,
    )


def _file_url(path):
    return sa.engine.URL.create("sqlite", database=os.path.abspath(os.path.expanduser(path)))


def memory_url():
    """The URL of a ledger that lives in this process alone."""
    return sa.engine.URL.create("sqlite", database=MEMORY)


def shown(url):
    """The URL for people: without password and query, which may also hold secrets."""
    if url.drivername == "sqlite":
        return url.database
    return url.set(query={}).render_as_string(hide_password=True)


def make_engine(url):
    """An engine for `url` that opens a connection per transaction and keeps none."""
    if url.drivername == "sqlite":
        pool = sa.pool.StaticPool if url.database == MEMORY else sa.pool.NullPool
        # Autocommit in the driver: BEGIN is ours to say, see below.
        engine = sa.create_engine(
            url,
            poolclass=pool,
            hide_parameters=True,
            connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
    else:
        _require_psycopg()
        connect = {"connect_timeout": BUSY_SECONDS, "application_name": "hosting.aup"}
        engine = sa.create_engine(
            url,
            poolclass=sa.pool.NullPool,
            hide_parameters=True,
            connect_args={name: value for name, value in connect.items() if name not in url.query},
        )
    sa.event.listen(engine, "begin", _begin)
    return engine


def _require_psycopg():
    try:
        import psycopg
    except ImportError:
        psycopg = None
    if psycopg is None:
        raise LedgerError(
            "a PostgreSQL ledger needs the Python package psycopg on the controller.",
            code="ledger_missing_library",
            remedy="Install psycopg[binary] for the Python that runs Ansible.",
        )


def _prepare_sqlite(connection, _record):
    connection.execute("PRAGMA foreign_keys = ON")
    # An uncommitted page must never reach the file: a check run leaves it byte for byte as it was.
    connection.execute("PRAGMA cache_spill = OFF")


def _begin(connection):
    """Begin. Writers queue here, so that two can never both read the chain's head."""
    writes = connection.get_execution_options().get("aup_writes", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '%ds'" % BUSY_SECONDS)
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%d)" % _WRITER_LOCK)
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def create_file(url):
    """Make the ledger's empty file, readable by its owner only, unless it exists.

    :raises LedgerError: `ledger_unreachable` when the directory is missing or closed to us
    """
    if url.drivername != "sqlite" or url.database == MEMORY:
        return
    directory = os.path.dirname(url.database)
    if not os.path.isdir(directory):
        raise LedgerError(
            "the directory %s of the ledger does not exist." % directory,
            code="ledger_unreachable",
            target=url.database,
            remedy="Create it (mode 0700), or correct the ledger's URL.",
        )
    try:
        os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as exc:
        raise LedgerError(
            "the ledger %s can't be created: %s." % (url.database, exc.strerror),
            code="ledger_unreachable",
            target=url.database,
            remedy="Give this user the right to write in that directory.",
        ) from exc


def file_is_missing(url):
    """True when `url` names a file that does not exist or is still empty (a creation that was killed)."""
    if url.drivername != "sqlite" or url.database == MEMORY:
        return False
    try:
        return os.stat(url.database).st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as exc:
        raise LedgerError(
            "the ledger %s can't be looked at: %s." % (url.database, exc.strerror),
            code="ledger_unreachable",
            target=url.database,
            remedy="Run as the user that owns the ledger.",
        ) from exc


@contextmanager
def explained(url):
    """Turn what the database says into a LedgerError that a person can act on.

    The driver's exception is not chained: its text may repeat connection parameters.
    """
    try:
        yield
    except sa_exc.DBAPIError as exc:
        raise _explain(exc.orig, url) from None
    except (sqlite3.Error, UnicodeEncodeError) as exc:
        raise _explain(exc, url) from None


def _explain(error, url):
    place = shown(url)
    text = _without_password(" ".join(str(error).split()), url)
    if isinstance(error, sqlite3.Error):
        return _explain_sqlite(error, place, text)
    return _explain_postgresql(error, place, text)


def _without_password(text, url):
    if url.password:
        text = text.replace(str(url.password), "***")
    return re.sub(r"(?i)(password\s*=\s*)('[^']*'|\S+)", r"\1***", text)


def _locked(place, text):
    return LedgerError(
        "the ledger %s stayed locked by another run for %d s (%s)." % (place, BUSY_SECONDS, text),
        code="ledger_locked",
        target=place,
        retryable=True,
        remedy="Nothing was written: retry.",
    )


def _readonly(place, text):
    return LedgerError(
        "the ledger %s can't be written (%s)." % (place, text),
        code="ledger_readonly",
        target=place,
        remedy="Let this user write the file and its directory, or the database, then run again.",
    )


def _refused(place, text):
    return ConflictError(
        "the ledger %s refused a row by its own rules (%s)." % (place, text),
        target=place,
        remedy="Nothing was written. See ledger_info for what is in force.",
    )


def _corrupt(place, text):
    return LedgerError(
        "the ledger %s can't be read as a ledger (%s)." % (place, text),
        code="ledger_corrupt",
        target=place,
        remedy="Check the path; if it is right, restore the last backup and then run"
        " hosting.aup.ledger_epoch.",
    )


def _unreachable(place, text):
    return LedgerError(
        "the ledger %s can't be reached (%s)." % (place, text),
        code="ledger_unreachable",
        target=place,
        retryable=True,
        remedy="Check that the database runs and that this user may connect, then retry.",
    )


def _full(place, text):
    return LedgerError(
        "there is no room left for the ledger %s (%s)." % (place, text),
        code="ledger_full",
        target=place,
        retryable=True,
        remedy="Nothing was written: make room on its disk, then run again.",
    )


_SQLITE = {
    sqlite3.SQLITE_BUSY: _locked,
    sqlite3.SQLITE_LOCKED: _locked,
    sqlite3.SQLITE_READONLY: _readonly,
    sqlite3.SQLITE_PERM: _readonly,
    sqlite3.SQLITE_CORRUPT: _corrupt,
    sqlite3.SQLITE_NOTADB: _corrupt,
    sqlite3.SQLITE_CONSTRAINT: _refused,
    sqlite3.SQLITE_CANTOPEN: _unreachable,
    sqlite3.SQLITE_IOERR: _unreachable,
    sqlite3.SQLITE_FULL: _full,
}


def _explain_sqlite(error, place, text):
    # Extended result codes keep the primary one in the low byte.
    explain = _SQLITE.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
    if explain is None:
        return LedgerError(
            "the ledger %s failed: %s." % (place, text), target=place, remedy="Nothing was written."
        )
    return explain(place, text)


_POSTGRESQL = {"53100": _full, "55P03": _locked, "40P01": _locked, "40001": _locked, "25006": _readonly, "42501": _readonly}


def _explain_postgresql(error, place, text):
    state = getattr(error, "sqlstate", None)
    if state in _POSTGRESQL:
        return _POSTGRESQL[state](place, text)
    if state and state.startswith("23"):
        return _refused(place, text)
    if state is None or state[:2] in ("08", "28", "3D", "53", "57"):
        return _unreachable(place, text)
    return LedgerError(
        "the ledger %s failed: %s." % (place, text), target=place, remedy="Nothing was written."
    )
