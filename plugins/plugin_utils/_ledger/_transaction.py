# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger and its transactions. PRIVATE to the collection."""

from __future__ import annotations

import functools
import inspect
import time
import uuid
from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _database, _events, _migrations
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

NOBODY = {"name": "unknown", "source": "none"}


class Transaction:
    """One transaction on the ledger. Verbs take it as their first argument, or are called as its methods.

    :ivar now: time of everything written in it, seconds since the epoch
    :ivar actor: who acts, as `_actor.identify` says it
    :ivar check: True when it will be rolled back
    :ivar pending: in check mode, the verbs that were run, for `_pending.replay`
    :ivar changes: rows changed, `{"what", "id", "before", "after"}`, for diff mode
    """

    def __init__(self, connection, now, actor, check=False):
        self._connection = connection
        self.now = now
        self.actor = actor
        self.check = check
        self.pending = []
        self.changes = []
        self._depth = 0
        meta = self.execute(sa.select(t.meta)).one()
        self.ledger_id = meta.ledger_id
        self.epoch = meta.epoch
        self.head_number = meta.head_number
        self.head_digest = meta.head_digest

    def __getattr__(self, name):
        function = VERBS.get(name) or READERS.get(name)
        if function is None:
            raise AttributeError(name)
        return functools.partial(function, self)

    def execute(self, statement, rows=None):
        """Run one statement; with `rows`, once for each of them."""
        return (
            self._connection.execute(statement, rows)
            if rows is not None
            else self._connection.execute(statement)
        )

    def append(self, kind, refs, detail=None):
        """Add an event; see `_events.append`."""
        return _events.append(self, kind, refs, detail)

    def next_number(self, column, *conditions):
        """The number after the highest in `column`. Safe because writers are one at a time."""
        return (self.execute(sa.select(sa.func.max(column)).where(*conditions)).scalar() or 0) + 1

    @contextmanager
    def attempt(self):
        """A part that may fail and be given up, error and all, without the rest of the transaction."""
        kept = self.head_number, self.head_digest, self.epoch
        pending, changes = len(self.pending), len(self.changes)
        savepoint = self._connection.begin_nested()
        try:
            yield
        except BaseException:
            savepoint.rollback()
            self.head_number, self.head_digest, self.epoch = kept
            del self.pending[pending:], self.changes[changes:]
            raise
        savepoint.commit()

    def changed(self, what, name, before, after):
        """Note a changed row for diff mode."""
        self.changes.append({"what": what, "id": name, "before": before, "after": after})

    def run(self, name, verb, arguments, packed):
        """Run a verb; in check mode remember the outermost one, so that it can be replayed."""
        self._depth += 1
        try:
            result = verb(self, **arguments)
        finally:
            self._depth -= 1
        if self.check and self._depth == 0:
            self.pending.append({"verb": name, "args": packed(arguments) if packed else arguments})
        return result


VERBS = {}
"""The verbs that write, by name: what a pending list may name, and methods of each transaction."""
READERS = {}
"""The verbs that only read, by name: methods of each transaction too."""


def reader(function):
    """Declare a function `f(tx, …)` that reads, so that it is a method of each transaction as well."""
    READERS[function.__name__] = function
    return function


def verb(function=None, *, pack=None, unpack=None):
    """Declare a function `f(tx, …)` of JSON arguments as a verb that check mode can record and replay.

    :param pack: makes the arguments small enough to travel in a task's result
    :param unpack: the reverse
    """
    if function is None:
        return functools.partial(verb, pack=pack, unpack=unpack)

    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(tx, *positional, **named):
        # By name, because a pending list carries them as a mapping.
        arguments = dict(signature.bind(tx, *positional, **named).arguments)
        arguments.pop("tx")
        return tx.run(function.__name__, function, arguments, pack)

    run.unpack = unpack or (lambda arguments: arguments)
    VERBS[function.__name__] = run
    return run


class Ledger:
    """An open ledger. Holds no connection between transactions, so it may be kept and shared by forks."""

    def __init__(self, url, behind=False):
        self._url = url
        self._engine = _database.make_engine(url)
        self._behind = behind
        self.place = _database.shown(url)

    @property
    def in_memory(self):
        """True when it stands in for a ledger that does not exist yet (check mode)."""
        return self._url.database == _database.MEMORY

    @property
    def file(self):
        """The path of a ledger in a file, or None."""
        return self._url.database if self._url.drivername == "sqlite" and not self.in_memory else None

    def close(self):
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    @contextmanager
    def _connected(self, writes):
        with _database.explained(self._url), self._engine.connect() as connection:
            yield connection.execution_options(aup_writes=writes)

    def prepare(self, now=None):
        """Make the tables of an empty database, or update older ones. Returns the steps that ran."""
        now = int(time.time()) if now is None else now
        with self._connected(writes=True) as connection, connection.begin():
            return self._bring_up_to_date(connection, now)

    def _bring_up_to_date(self, connection, now):
        ran = _migrations.migrate(connection, self.place, now)
        if not connection.execute(sa.select(t.meta.c.one)).first():
            ledger_id = str(uuid.uuid4())
            connection.execute(
                t.meta.insert().values(
                    one=1,
                    ledger_id=ledger_id,
                    epoch=1,
                    created_at=now,
                    head_number=0,
                    head_digest=_events.genesis(ledger_id),
                )
            )
            Transaction(connection, now, NOBODY).append(
                "ledger_created", {"ledger": ledger_id, "schema": _migrations.NEWEST}
            )
        elif ran:
            Transaction(connection, now, NOBODY).append("schema_migrated", {"steps": ran})
        return ran

    def step(self):
        """The schema step the database is at; 0 when there is no ledger in it."""
        with self._connected(writes=False) as connection, connection.begin():
            return _migrations.schema_step(connection, self.place)

    @contextmanager
    def transaction(self, check=False, actor=None, now=None):
        """A transaction that writes: all or nothing, one writer at a time.

        :param check: run everything, then roll back
        :param actor: a name or the document of `_actor.identify`
        :param now: seconds since the epoch; the controller's clock when left out
        :raises LedgerError: ledger_locked after 10 s behind another writer, ledger_readonly …
        """
        now = int(time.time()) if now is None else int(now)
        with self._connected(writes=True) as connection, connection.begin() as begun:
            if self._behind:
                self._bring_up_to_date(connection, now)
            try:
                yield Transaction(connection, now, _actor_document(actor), check)
            finally:
                if check:
                    begun.rollback()

    @contextmanager
    def read(self, now=None):
        """A transaction that sees one state of the ledger and writes nothing."""
        if self._behind:
            with self.transaction(check=True, now=now) as tx:
                yield tx
            return
        with self._connected(writes=False) as connection, connection.begin() as begun:
            yield Transaction(connection, int(time.time()) if now is None else int(now), NOBODY, check=True)
            begun.rollback()

    def run_failed(self, run_id):
        """Whether a node of this run failed or could not be reached so far."""
        with self.read() as tx:
            return tx.run_failed(run_id)


def _actor_document(actor):
    if actor is None:
        return dict(NOBODY)
    return {"name": str(actor), "source": "given"} if isinstance(actor, str) else dict(actor)


def open_ledger(url, create=False, check=False):
    """Open the ledger at `url`, bringing its schema up to date.

    :param url: a file path, `sqlite:////path` or `postgresql+psycopg://user@host/database`
    :param create: make it when it does not exist
    :param check: write nothing: a missing ledger is stood in for by one in memory (with `create`),
        an older schema is brought up to date inside each transaction, and rolled back with it
    :raises LedgerError: codes ledger_url, ledger_missing, ledger_missing_library, ledger_newer,
        ledger_corrupt, ledger_readonly, ledger_locked, ledger_unreachable
    """
    parsed = _database.parse_url(url)
    missing = _database.file_is_missing(parsed)
    if missing and create and not check:
        _database.create_file(parsed)
    if missing and not create:
        raise _absent(_database.shown(parsed))
    if missing and check:
        return _in_memory()
    ledger = Ledger(parsed)
    try:
        step = 0 if missing else ledger.step()
        if step == 0 and not create:
            raise _absent(ledger.place)
        if step == 0 and check:
            ledger.close()
            return _in_memory()
        if step < _migrations.NEWEST:
            if check:
                ledger.close()
                return Ledger(parsed, behind=True)
            ledger.prepare()
    except LedgerError:
        ledger.close()
        raise
    return ledger


def _in_memory():
    ledger = Ledger(_database.memory_url())
    ledger.prepare()
    return ledger


def _absent(place):
    return LedgerError(
        "there is no ledger at %s." % place,
        code="ledger_missing",
        target=place,
        remedy="The first run of hosting.aup.provision makes it; if there was one, check aup_ledger_url"
        " or restore the backup.",
    )
