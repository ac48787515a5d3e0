# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with a ledger's place: each is one clear error, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _database, _migrations
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._steps import STEPS
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t


def refused(code, url, **how):
    """The error of opening and writing."""
    with pytest.raises(LedgerError) as caught:
        with L.open_ledger(url, **how) as ledger, ledger.transaction() as tx:
            tx.start_run("reconcile")
    assert caught.value.code == code and caught.value.remedy, caught.value
    return caught.value


def test_a_new_ledger_is_its_owners_alone(tmp_path):
    path = tmp_path / "ledger.db"
    with L.open_ledger(str(path), create=True) as ledger, ledger.transaction() as tx:
        tx.start_run("reconcile")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with L.open_ledger("sqlite:///%s" % path) as ledger, ledger.read() as tx:
        assert tx.verify()["events"] == 2


def test_missing(tmp_path):
    assert "provision" in refused("ledger_missing", str(tmp_path / "none.db")).remedy
    refused("ledger_unreachable", str(tmp_path / "no" / "dir.db"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_postgresql_database_is_no_ledger(postgresql):
    refused("ledger_missing", postgresql.new_database())


def test_garbage_and_foreign_databases(tmp_path):
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(os.urandom(4096))
    refused("ledger_corrupt", str(garbage), create=True)
    foreign = tmp_path / "foreign.db"
    sqlite3.connect(foreign).execute("CREATE TABLE panel (id)").connection.close()
    before = foreign.read_bytes()
    refused("ledger_corrupt", str(foreign), create=True)
    assert foreign.read_bytes() == before


def test_a_damaged_page(tmp_path):
    path = tmp_path / "ledger.db"
    with L.open_ledger(str(path), create=True):
        pass
    with open(path, "r+b") as handle:
        handle.seek(100)
        handle.write(b"\xff" * 2000)
    refused("ledger_corrupt", str(path))


def test_newer(ledger, url):
    with ledger.transaction() as tx:
        tx.execute(t.schema.insert().values(step=_migrations.NEWEST + 1, applied_at=1))
    error = refused("ledger_newer", url)
    assert str(_migrations.NEWEST + 1) in str(error) and not error.retryable


def test_an_older_schema_is_brought_up_to_date(url):
    """As written by the first step alone; in check mode inside the transaction, and rolled back."""
    place = _database.parse_url(url)
    _database.create_file(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_migrations, "STEPS", STEPS[:1])
        L.Ledger(place).prepare(now=5)
    with L.open_ledger(url, check=True) as ledger:
        assert ledger.step() == 1
        with ledger.read() as tx:
            assert tx.verify()["ok"]
        assert ledger.step() == 1
    with L.open_ledger(url) as ledger:
        assert ledger.step() == _migrations.NEWEST
        with ledger.read() as tx:
            assert tx.verify()["ok"]
            assert tx.execute(sa.select(t.event.c.kind).order_by(t.event.c.number)).scalars().all() == [
                "ledger_created",
                "schema_migrated",
            ]


def test_a_notice_of_before_outlives_the_step_that_makes_its_table_anew(url):
    place = _database.parse_url(url)
    _database.create_file(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_migrations, "STEPS", STEPS[:11])
        with L.Ledger(place) as older:
            older.prepare(now=5)
            with older.transaction(now=6) as tx:
                tx.open_case(case_id="T-1", service="vps-1", violation="spam", policy_key="house@1")
                tx.execute(sa.text(
                    "INSERT INTO aup_notice (id, number, case_id, service, name, timing, status, message_id, opened_at, next_at, attempts,"
                    " event_number) VALUES ('N-1', 1, 'T-1', 'vps-1', 'n', 'with', 'queued', 'm', 6, 6, 0, 1)"))
    with L.open_ledger(url) as ledger, ledger.transaction(now=7) as tx:
        (notice,) = L.notices(tx)
        assert (notice["id"], notice["case_id"], notice["topic"], notice["message_id"]) == ("N-1", "T-1", None, "m")
        assert tx.verify()["ok"] and tx.queue_notice(service="vps-1", name="n", timing="transfer", facts={}, topic="t/1")["id"] == "N-2"
        assert tx.queue_notice(case_id="T-1", service="vps-1", name="n", timing="before", facts={})["already"]


def test_locked(ledger, url, monkeypatch):
    monkeypatch.setattr(_database, "BUSY_SECONDS", 1)
    with ledger.transaction():
        error = refused("ledger_locked", url)
    assert error.retryable and "retry" in error.remedy and "another run" in error.message
    with L.open_ledger(url) as again, again.transaction() as tx:
        assert tx.start_run("reconcile") == "run-1"


def test_a_reader_is_not_in_the_way(ledger, url):
    with ledger.transaction() as tx:
        tx.start_run("reconcile")
        with L.open_ledger(url) as other, other.read() as seen:
            assert seen.verify()["events"] == 1


NOBODY = """
import os, sys
from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
import sqlalchemy.dialects.sqlite
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with L.open_ledger(sys.argv[1]) as ledger, ledger.transaction() as tx:
        tx.start_run("reconcile")
except LedgerError as exc:
    print(exc.code)
"""


@pytest.mark.parametrize("mode, code", [(0o444, "ledger_readonly"), (0o000, "ledger_unreachable")])
def test_a_file_of_somebody_else(mode, code):
    """As nobody, who may enter the directory, but not write there."""

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="aup-ledger-") as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "ledger.db")
        L.open_ledger(path, create=True).close()
        os.chmod(path, mode)
        before = Path(path).read_bytes()
        done = subprocess.run(
            [sys.executable, "-c", NOBODY, path],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.stdout.strip() == code, done.stderr
        assert Path(path).read_bytes() == before


def test_postgresql_out_of_reach_and_its_password_unsaid(tmp_path):
    url = "postgresql+psycopg://aup:hunter22@127.0.0.1:1/aup?password=hunter22"
    error = refused("ledger_unreachable", url)
    assert error.retryable and "hunter22" not in "%s %s %s" % (error, error.to_result(), error.__cause__)
    assert error.__suppress_context__
    for bad in ("mysql://u:hunter22@h/d", "postgresql+psycopg://u:hunter22@h:x/d", "://hunter22", ""):
        assert "hunter22" not in str(refused("ledger_url", bad))


def test_postgresql_that_may_only_read(postgresql):
    url = postgresql.new_database()
    L.open_ledger(url, create=True).close()
    refused("ledger_readonly", url + "&options=-c%20default_transaction_read_only%3Don")


def test_check_mode_writes_not_one_byte(tmp_path, service, open_hold):
    path = tmp_path / "ledger.db"
    with L.open_ledger(str(path), create=True) as ledger:
        with ledger.transaction() as tx:
            tx.start_run("reconcile")
        before, listed = path.read_bytes(), sorted(tmp_path.iterdir())
        with ledger.transaction(check=True, actor="alice") as tx:
            for number in range(300):
                open_hold(tx, dict(service, id="vps-%d" % number), case="T-%d" % number, note="x" * 3000)
            assert len(tx.active()) == 300
        assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == listed
        with pytest.raises(RuntimeError), ledger.transaction(check=True) as tx:
            tx.start_run("reconcile")
            raise RuntimeError("in the middle")
        assert path.read_bytes() == before


def test_check_mode_without_a_ledger_works_in_memory(tmp_path):
    path = tmp_path / "ledger.db"
    with L.open_ledger(str(path), create=True, check=True) as ledger:
        with ledger.transaction(check=True) as tx:
            assert tx.start_run("provision") == "run-1"
    assert list(tmp_path.iterdir()) == []


def test_a_creation_that_was_killed_can_go_on(tmp_path):
    path = tmp_path / "ledger.db"
    path.touch()
    refused("ledger_missing", str(path))
    L.open_ledger(str(path), create=True).close()
    L.open_ledger(str(path)).close()


def test_an_error_in_a_transaction_undoes_all_of_it(ledger):
    with pytest.raises(RuntimeError), ledger.transaction() as tx:
        tx.start_run("reconcile")
        raise RuntimeError("in the middle")
    with ledger.read() as tx:
        assert tx.verify()["events"] == 1


def test_damaged_content_is_not_used(provisioned):
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _releases

    with provisioned.transaction() as tx:
        tx.execute(t.content.update().values(body=b"damaged"))
    _releases._contents.clear()
    with pytest.raises(LedgerError, match="damaged"), provisioned.read() as tx:
        tx.snapshot("kvm1")
