# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""hosting.aup.provision with a policy version to come, as its user runs it: what --check says, and whom the real run tells, once.

A KVM host with three guests in namespaces, its packet filter and libvirt real. Needs root.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

from libvirt_node import missing

from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from tests.integration.soak import inside
from tests.integration.soak.host import ROOT, Host

POLICY = """schema: 1
name: p
version: "%s"
effective: %s
provider: {name: P, abuse_contact: desk@p.example}
extends: default
clauses: {p.1: {summary: Changes are told 30 days ahead.}}
amendments: {clauses: p.1, effective_on: publication, announced: 30d}
controls: {smtp_outbound: {options: {ports: [%s]}}}
"""


class Office:
    """The controller's folder, and ansible-playbook run in it on the host itself."""

    def __init__(self, host, folder):
        self.host, self.folder = host, folder
        self.ledger = str(folder / "ledger.db")
        catalogue = inside.catalogue(host.services)
        for service in catalogue["services"]:
            service["contact"] = "%s@customer.example" % service["customer"]
        catalogue["services"][2]["customer"] = catalogue["services"][1]["customer"]
        catalogue["services"][2]["contact"] = catalogue["services"][1]["contact"]
        (folder / "catalogue.json").write_text(json.dumps(catalogue))
        self.name("p1.yml")

    def name(self, policy):
        """The policy, or its versions, as the inventory has them from now on."""
        (self.folder / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": policy, "ledger_url": self.ledger,
            "connection_defaults": {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}}))

    def provision(self, *words):
        """What was said; it has to go well."""
        collections = next(path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "hosting")))
        done = subprocess.run(
            [*self.host.enter, str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "hosts.aup.yml"),
             str(ROOT / "playbooks/provision.yml"), *words],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.folder, timeout=240,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_HOME": str(self.folder / "home"), "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_LOCALHOST_WARNING": "false"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def known(self):
        """(notices as (service, timing), how many releases, how many events) in the ledger."""
        with L.open_ledger(self.ledger) as ledger, ledger.read() as tx:
            assert tx.verify()["ok"]
            notices = tx.execute(sa.select(t.notice.c.service, t.notice.c.timing).order_by(t.notice.c.number)).all()
            return [tuple(one) for one in notices], *(
                tx.execute(sa.select(sa.func.count()).select_from(table)).scalar() for table in (t.release, t.event))


def test_a_version_to_come_is_shown_by_check_and_told_once_by_the_run(tmp_path):
    lacking = missing()
    if lacking:
        pytest.skip("needs " + ", ".join(lacking))
    day = iso(int(time.time()) + 40 * 86400)[:10]
    (tmp_path / "p1.yml").write_text(POLICY % (1, "2026-01-01", "25"))
    (tmp_path / "p2.yml").write_text(POLICY % (2, day, "25, 465"))
    with Host(3) as host:
        office = Office(host, tmp_path)
        office.provision()
        before, rules = office.known(), host.seen()["rules"]
        assert before[0] == [] and before[1] == 1 and '"tap1" . 25' in rules

        office.name(["p1.yml", "p2.yml"])
        said = office.provision("--check")
        assert "in force from %s:" % day in said and "p@2" in said, said
        (changed,) = {line[line.index("control smtp_outbound"):] for line in said.splitlines() if "control smtp_outbound" in line}
        assert "ports 25)" in changed and "ports 25, 465)" in changed, changed
        assert "2 notices of p@2 to customers wait to be sent" in said, said
        assert office.known() == before and host.seen()["rules"] == rules, "a check leaves nothing behind"

        done = office.provision()
        assert changed in done and "in force from %s:" % day in done, done
        notices, releases, _events = office.known()
        # Two customers, of whom one has two services; what was told is told once, whatever is released after it.
        assert [timing for _service, timing in notices] == ["amendment"] * 2 and releases == 2
        assert host.seen()["rules"] == rules, "nothing changes before its day"

        for words in (["--check"], []):
            again = office.provision(*words)
            assert "notices of p@2" not in again, again
            assert office.known()[:2] == (notices, releases)
