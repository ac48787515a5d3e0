# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's disk full, its server gone in the middle: said clearly, all or nothing, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import Server

from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L

# In a mount namespace of its own: a ledger on a disk of 1 MiB that somebody fills.
_FULL = """
import os, subprocess, sys
from ansible_collections.hosting.aup.plugins.module_utils._errors import LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
disk = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
with L.open_ledger(disk + "/ledger.db", create=True) as ledger:
    with ledger.transaction(actor="alice") as tx:
        tx.start_run("reconcile")
    with ledger.read() as tx:
        before = L.head(tx)
    filler = os.open(disk + "/filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(filler, b"x" * 4096)
    except OSError:
        pass
    codes = []
    for attempt in range(2):
        try:
            with ledger.transaction(actor="alice") as tx:
                for number in range(40):
                    tx.start_run("suspend", {"note": "y" * 4000})
        except LedgerError as exc:
            codes.append(exc.code)
            print(exc)
    assert codes == ["ledger_full"] * 2, codes
    with ledger.read() as tx:
        assert L.head(tx) == before and tx.verify()["ok"]
    os.close(filler)
    os.unlink(disk + "/filler")
    with ledger.transaction(actor="alice") as tx:
        assert tx.start_run("suspend", {"note": "y" * 4000}) == "run-2"
    with ledger.read() as tx:
        assert tx.verify()["ok"] and tx.head_number == before["number"] + 1
"""


def test_disk_full_and_room_made(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, for a disk of its own")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _FULL, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert "no room left" in done.stdout and "make room on its disk" in done.stdout


def test_postgresql_stopped_in_the_middle_of_a_transaction():
    server = Server()
    try:
        with L.open_ledger(server.new_database(), create=True) as ledger:
            with ledger.transaction(actor="alice") as tx:
                tx.start_run("reconcile")
            with pytest.raises(LedgerError) as caught, ledger.transaction(actor="alice") as tx:
                assert tx.start_run("suspend") == "run-2"
                server.run("pg_ctl", "-D", server.data, "-m", "immediate", "-w", "stop")
                tx.start_run("suspend")
            assert caught.value.code == "ledger_unreachable" and caught.value.retryable and "then retry" in caught.value.remedy
            with pytest.raises(LedgerError) as caught, ledger.transaction(actor="alice"):
                pass
            assert caught.value.code == "ledger_unreachable"
            server.start()
            with ledger.transaction(actor="alice") as tx:
                assert tx.start_run("suspend") == "run-2", "nothing of the broken transaction is there"
            with ledger.read() as tx:
                assert tx.verify()["ok"]
    finally:
        server.close()
