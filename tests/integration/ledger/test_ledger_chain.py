# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of events: writers at once never fork it, and no single change of it goes unseen."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

NOW = 1_800_000_000

WRITER = """
import sys
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = L.open_ledger(url)
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    with ledger.transaction(actor=name) as tx:
        tx.start_run("reconcile", {"writer": name, "number": number})
"""

HOLDER = """
import sys
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
ledger = L.open_ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
service = {"id": "vps-1", "nodes": ["kvm1"], "nics": [], "guest": None, "customer": "c"}
with ledger.transaction(actor=sys.argv[2]) as tx:
    tx.open_case(case_id="T-1", violation="spam", policy_key="house@1")
    held = tx.open_enforcement(service_doc=service, policy_key="house@1", kind="suspend", case_id="T-1",
                               violation="spam", reason="spam", starts_at=tx.now, ends_at=tx.now + 60)
print("already" if held["already"] else "won", flush=True)
"""

KILLED = """
import sys, time
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
ledger = L.open_ledger(sys.argv[1])
with ledger.transaction(actor="victim") as tx:
    for number in range(200):
        tx.start_run("reconcile", {"number": number})
    print("inside", flush=True)
    time.sleep(60)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def let_go(processes):
    """All at once, after all are ready; returns what each said last."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


def test_four_writers_never_fork_the_chain(ledger, url):
    let_go([start(WRITER, url, "writer %d" % number, "50") for number in range(4)])
    with ledger.read() as tx:
        verified = tx.verify()
        assert verified["ok"] and verified["events"] == 201, verified["problems"]
        runs = tx.execute(sa.select(t.run.c.id)).scalars().all()
        assert len(set(runs)) == 200


def test_the_same_hold_is_won_once(provisioned, url):
    said = let_go([start(HOLDER, url, "responder %d" % number) for number in range(4)])
    assert sorted(said) == ["already", "already", "already", "won"]
    with provisioned.read() as tx:
        assert len(tx.active("vps-1")) == 1 and tx.verify()["ok"]


def test_sigkill_in_a_transaction_leaves_nothing_of_it(ledger, url):
    process = start(KILLED, url)
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with L.open_ledger(url) as again:
        with again.transaction() as tx:
            assert tx.start_run("reconcile") == "run-1"
        with again.read() as tx:
            assert tx.verify()["ok"] and tx.verify()["events"] == 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A SQLite ledger with some history, its triggers taken off as somebody with the file could."""
    path = tmp_path_factory.mktemp("chain") / "ledger.db"
    with L.open_ledger(str(path), create=True) as ledger:
        for number in range(4):
            with ledger.transaction(actor="alice", now=NOW + number) as tx:
                tx.open_case(violation="spam", policy_key="house@1", note="note %d" % number)
        with ledger.transaction(actor="alice", now=NOW + 9) as tx:
            tx.erase_details(events=[2], reason="asked for")
            tx.bump_epoch("test")
        with ledger.read() as tx:
            head = tx.head()
            assert tx.verify(head)["ok"]
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute("DROP TRIGGER %s" % name)
    connection.commit()
    connection.close()
    return path, head


def tampered(written, tmp_path, *statements):
    """The verdict on a copy on which statements were run."""
    path = tmp_path / "copy.db"
    shutil.copy(written[0], path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    changed = sum(connection.execute(*statement).rowcount for statement in statements)
    connection.commit()
    connection.close()
    assert changed > 0, "the tampering itself must do something"
    with L.open_ledger(str(path)) as ledger, ledger.read() as tx:
        return tx.verify()


def test_the_tampering_harness_finds_an_untouched_ledger_whole(written):
    with L.open_ledger(str(written[0])) as ledger, ledger.read() as tx:
        assert tx.verify()["ok"]


COLUMNS = st.sampled_from(["number", "at", "kind", "refs", "detail_digest", "prev_digest", "digest"])
VALUES = st.one_of(st.integers(-5, 1 << 40), st.text(max_size=12), st.sampled_from(["{}", "0" * 64]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 7), column=COLUMNS, value=VALUES)
def test_any_changed_field_of_any_event_is_found(written, tmp_path, number, column, value):
    value = str(value).encode("utf-8", "replace").decode() if column not in ("number", "at") else value
    if column in ("number", "at") and not isinstance(value, int):
        value = 77
    connection = sqlite3.connect(written[0])
    (old,) = connection.execute("SELECT %s FROM aup_event WHERE number = ?" % column, (number,)).fetchone()
    taken = (
        column == "number"
        and connection.execute("SELECT 1 FROM aup_event WHERE number = ?", (value,)).fetchone()
    )
    connection.close()
    if old == value or taken:
        return
    assert not tampered(
        written, tmp_path, ("UPDATE aup_event SET %s = ? WHERE number = ?" % column, (value, number))
    )["ok"]


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM aup_event WHERE number = ?",
        "DELETE FROM aup_event_detail WHERE event_number = ?",
        "UPDATE aup_event_detail SET body = replace(body, 'alice', 'mallory') || ' ' WHERE event_number = ?",
        "UPDATE aup_event_detail SET salt = '00' WHERE event_number = ?",
        "UPDATE aup_event_detail SET salt = NULL, body = NULL, erased_at = 5 WHERE event_number = ?",
        "UPDATE aup_event_detail SET event_number = 99 WHERE event_number = ?",
    ],
)
def test_removed_events_and_altered_details_are_found(written, tmp_path, number, statement):
    if "salt = '00'" in statement or "body = replace" in statement:
        number = {2: 3}.get(number, number)  # the detail of event 2 was erased: there is nothing to alter
    verified = tampered(written, tmp_path, (statement, (number,)))
    assert not verified["ok"] and verified["problems"][0]["message"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE aup_meta SET epoch = 1",
        "UPDATE aup_meta SET ledger_id = '0'",
        "UPDATE aup_meta SET head_number = 6",
        "UPDATE aup_meta SET head_digest = '0'",
        "INSERT INTO aup_event SELECT 8, at, kind, refs, detail_digest, digest, 'made up' FROM aup_event WHERE number = 7",
        "INSERT INTO aup_event_detail VALUES (99, 'salt', '{}', NULL)",
    ],
)
def test_a_changed_head_or_an_event_too_many_is_found(written, tmp_path, statement):
    assert not tampered(written, tmp_path, (statement,))["ok"]


def test_a_rewritten_history_is_found_by_the_exported_head(written, tmp_path):
    path = tmp_path / "cut.db"
    shutil.copy(written[0], path)
    connection = sqlite3.connect(path)
    connection.executescript("""
        DELETE FROM aup_event_detail WHERE event_number > 5; DELETE FROM aup_case WHERE event_number > 5;
        DELETE FROM aup_event WHERE number > 5;
        UPDATE aup_event_detail SET salt = 's', body = '{}', erased_at = NULL WHERE event_number = 2;
        UPDATE aup_meta SET epoch = 1, head_number = 5, head_digest = (SELECT digest FROM aup_event WHERE number = 5);
    """)
    connection.close()
    with L.open_ledger(str(path)) as ledger, ledger.read() as tx:
        assert "restored from an older backup" in str(tx.verify(written[1])["problems"])
