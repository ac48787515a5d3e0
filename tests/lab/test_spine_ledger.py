# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger locked, read-only, too new, another one, restored; and two who act at once."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from .controller import CHECKOUT
from .spine import assert_same, domain


def refused(spine, done, code, *words):
    """The run ended at the ledger: nothing of the lab was touched, and it says what to do next."""
    assert done.returncode == 2 and done.of("kvm_converge") == []
    assert done.error["code"] == code and done.error["remedy"], done.error
    said = f"{done.error['message']} {done.error['remedy']}"
    for word in words:
        assert word in said, said
    assert "Traceback" not in done.said


def test_locked(spine):
    before = spine.everything()
    other = sqlite3.connect(spine.ledger_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused(spine, spine.suspend("vps-1002", "T-50"), "ledger_locked", str(spine.ledger_file), "retry")
    finally:
        other.execute("ROLLBACK")
        other.close()
    spine.assert_untouched(before)


def test_read_only(spine, tmp_path):
    """A file system that is read-only, which stops root as well."""
    before = spine.everything()
    wrapper = tmp_path / "ansible-playbook"
    wrapper.write_text('#!/bin/sh\nexec unshare --mount sh -c \'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"\' '
                       f'"{spine.ledger_file.parent}" "{CHECKOUT}/.build/venv/bin/ansible-playbook" "$@"\n')
    wrapper.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{spine.controller.environment()['PATH']}"}
    refused(spine, spine.suspend("vps-1002", "T-51", env=path), "ledger_readonly", str(spine.ledger_file))
    # Reading goes on.
    assert "kvm1" in spine.play("status", env=path).ok().stdout
    spine.assert_untouched(before)


def test_from_a_newer_collection(spine, tmp_path):
    before = spine.everything()
    newer = tmp_path / "ledger.sqlite3"
    shutil.copy(spine.ledger_file, newer)
    with sqlite3.connect(newer) as database:
        database.execute("insert into aup_schema (step, applied_at) values (999, 0)")
    database.close()
    for verb, wanted in (("suspend", {"service": "vps-1002", "violation": "attack_target"}), ("reconcile", {})):
        refused(spine, spine.play(verb, {**wanted, "aup_ledger_url": str(newer)}), "ledger_newer", "999")
    spine.assert_untouched(before)


def test_missing(spine, tmp_path):
    """A mistyped path is no reason to begin a new ledger in a runbook."""
    nowhere = tmp_path / "none.sqlite3"
    refused(spine, spine.suspend("vps-1002", "T-52", variables={"aup_ledger_url": str(nowhere)}), "ledger_missing", str(nowhere))
    assert not nowhere.exists()


def test_the_same_catalogue_with_a_fresh_ledger(spine, tmp_path):
    """The node belongs to the ledger it knows: another one can't release what that one holds."""
    guest = spine.lab.guest("vps-1002")
    spine.suspend("vps-1002", "T-53").ok()
    before = spine.everything()
    fresh = {"aup_ledger_url": str(tmp_path / "fresh.sqlite3")}
    done = spine.play("provision", fresh)
    assert done.returncode == 2
    (error,) = done.converged["errors"]
    assert error["code"] == "fence_ledger" and "aup_adopt_from_other_ledger" in error["remedy"]
    assert "kvm1: FAILED" in done.stdout
    spine.assert_untouched(before)
    assert guest.state == "paused"
    spine.lift("vps-1002").ok()


def test_restored_from_a_backup(spine, tmp_path):
    """What was decided after the backup is lost; the node refuses the past until a new epoch begins, then follows."""
    guest = spine.lab.guest("vps-1002")
    found = domain(guest)
    backup = spine.ledger_file.read_bytes()
    spine.suspend("vps-1002", "T-54").ok()
    assert guest.state == "paused"
    spine.ledger_file.write_bytes(backup)
    done = spine.play("reconcile")
    assert done.returncode == 2
    (error,) = done.converged["errors"]
    assert error["code"] == "fence_old" and "hosting.aup.new_epoch" in error["remedy"]
    assert guest.state == "paused", "a ledger from the past releases nobody"
    assert spine.play("new_epoch").returncode == 2
    spine.play("new_epoch", {"reason": "restored from the backup of the test"}).ok()
    after = spine.play("reconcile").ok()
    assert after.converged["outcome"] == "changed" and spine.holding() == [] and spine.open_baselines() == []
    assert_same(found, domain(guest))
    assert spine.light(guest)
    # And it goes on as ever.
    spine.suspend("vps-1002", "T-54").ok()
    assert guest.state == "paused" and spine.statuses("vps-1002", "T-54") == ["active"]
    spine.lift("vps-1002").ok()
    assert_same(found, domain(guest))
    spine.verify()


@pytest.fixture
def two():
    with ThreadPoolExecutor(2) as pool:
        yield lambda *acts: [future.result() for future in [pool.submit(act) for act in acts]]


def test_two_runbooks_at_once_on_one_service(spine, two):
    """Both are done, or one is told who and why; never half of each."""
    guest = spine.lab.guest("vps-1002")
    found = domain(guest)
    for run in two(lambda: spine.suspend("vps-1002", "T-55"), lambda: spine.suspend("vps-1002", "T-56")):
        run.ok()
    assert sorted(e[2:] for e in spine.holding()) == [("T-55", "active"), ("T-56", "active")]
    assert guest.state == "paused" and spine.open_baselines() == ["vps-1002"]
    first, second = two(lambda: spine.suspend("vps-1002", "T-57"), lambda: spine.suspend("vps-1002", "T-57", duration="24h"))
    assert first.returncode == second.returncode == 0
    already = [run.of("ledger_enforcement")[0]["enforcements"][0]["already"] for run in (first, second)]
    assert sorted(already) == [False, True] and spine.statuses("vps-1002", "T-57") == ["active"]
    # One takes back what another one opens beside it.
    for run in two(lambda: spine.lift("vps-1002", variables={"case": "T-55"}), lambda: spine.play("reconcile")):
        run.ok()
    for run in two(lambda: spine.lift("vps-1002", variables={"case": "T-56"}),
                   lambda: spine.lift("vps-1002", variables={"case": "T-57"})):
        run.ok()
    if spine.holding():
        spine.play("reconcile").ok()
    assert spine.holding() == [] and spine.open_baselines() == []
    assert_same(found, domain(guest))
    spine.verify()
