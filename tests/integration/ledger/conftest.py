# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ledger on each database: SQLite in a file, and a PostgreSQL server of our own on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L

NOW = 1_800_000_000


class Server:
    """A PostgreSQL server that belongs to this test session."""

    def __init__(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert found, "PostgreSQL is missing: apt-get install postgresql (make test does)"
        self.bin = found[-1].parent
        # Its own directory under /tmp: a Unix socket's path must be short, and postgres must be able to enter it.
        self.directory = Path(tempfile.mkdtemp(prefix="aup-pg-"))
        user = pwd.getpwnam("postgres")
        self.identity = {}
        if os.geteuid() == 0:
            self.identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "aup", "--no-sync")
        self.start()

    def start(self):
        options = "-c listen_addresses= -c fsync=off -k %s" % self.directory
        self.run("pg_ctl", "-D", self.data, "-o", options, "-l", self.directory / "log", "-w", "start")

    @property
    def data(self):
        return self.directory / "data"

    def run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60, **self.identity)

    def url(self, database):
        return "postgresql+psycopg://aup@/%s?host=%s" % (database, self.directory)

    def new_database(self):
        name = "aup_" + uuid.uuid4().hex[:12]
        self.run("createdb", "-h", self.directory, "-U", "aup", name)
        return self.url(name)

    def close(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.directory)


@pytest.fixture(scope="session")
def postgresql():
    server = Server()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return "sqlite:///%s" % (tmp_path / "ledger.db")
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def ledger(url):
    with L.open_ledger(url, create=True) as opened:
        yield opened


@pytest.fixture
def service():
    return {
        "id": "vps-1",
        "customer": "c-77",
        "account_type": "retail",
        "location": "main",
        "nodes": ["kvm1"],
        "pool": None,
        "guest": {"name": "g1", "uuid": "6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c1001"},
        "nics": [
            {
                "mac": "52:54:00:00:00:01",
                "addresses": ["192.0.2.10"],
                "prefixes": [],
                "shared": [],
                "floating": [],
            }
        ],
        "plan": {},
        "addons": [],
        "uses": {},
        "policy": None,
        "liable": None,
    }


@pytest.fixture
def provisioned(ledger, service):
    """A ledger with kvm1 carrying release 1, which has vps-1."""
    catalogue = {
        "format": 1,
        "generated_at": None,
        "prefixes": ["192.0.2.0/24"],
        "nodes": {"kvm1": {"backend": "kvm"}, "kvm2": {"backend": "kvm"}},
        "services": {"vps-1": service},
    }
    with ledger.transaction(actor="setup", now=NOW) as tx:
        release = tx.create_release({"house@1": {"name": "house"}}, "house@1", catalogue)
        tx.adopt("kvm1", release["id"])
        tx.set_node_release("kvm1", release["id"])
    return ledger


def open_hold(tx, service, case="T-1", kind="suspend", length=3600, **more):
    """Open a case where needed and an enforcement; returns the enforcement."""
    tx.open_case(
        case_id=case, service=service["id"], violation="spam", policy_key="house@1", note=more.get("note")
    )
    return tx.open_enforcement(
        service_doc=service,
        policy_key="house@1",
        kind=kind,
        case_id=case,
        violation="spam",
        reason="outgoing spam",
        starts_at=tx.now,
        ends_at=tx.now + length,
        **more,
    )


@pytest.fixture(name="open_hold")
def _open_hold():
    return open_hold
