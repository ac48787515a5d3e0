# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbooks on a dedicated server, with a real ansible-playbook: provision, suspend, lift."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.routers.port_lab import SERVERS, PortLab

_REPOSITORY = Path(__file__).parents[3]
_COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(_REPOSITORY / ".build/dev")


def test_a_dedicated_server_is_suspended_and_given_back_by_runbook(tmp_path):
    with PortLab() as lab:
        (tmp_path / "catalogue.json").write_text(json.dumps({
            "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
            "nodes": {"edge": {"backend": "router", "location": "main", "address": "127.0.0.1", "vars": {"ansible_port": lab.sshd.port},
                               "uplinks": ["e-out"], "router": {"platform": "linux"}}},
            "services": [{"id": "srv-a", "customer": "c-1", "account_type": "personal", "ports": [{"router": "edge", "interface": "e-a"}],
                          "nics": [{"mac": "52:54:00:00:01:01", "addresses": list(SERVERS["srv-a"][2])}]}]}))
        (tmp_path / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "default", "ledger_url": "sqlite:///ledger.db",
            "connection_defaults": {"ansible_user": "root", "ansible_ssh_private_key_file": str(lab.sshd.key),
                                    "aup_known_hosts": str(lab.sshd.known_hosts), "ansible_become": False}}))

        def play(name, **extra):
            done = subprocess.run(
                [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.aup.yml"), "hosting.aup." + name,
                 "-e", json.dumps(extra)],
                capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=tmp_path,
                env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": _COLLECTIONS, "ANSIBLE_HOME": str(tmp_path / "home"),
                     "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_USER": "alice"})
            return done.returncode, done.stdout + done.stderr

        rc, out = play("provision")
        assert rc == 0 and "edge: changed, verified" in out and "from-e-a" in lab.rules(), out
        rc, out = play("suspend", service="srv-a", violation="attack_target", duration="1h", case="T-1")
        assert rc == 0 and "srv-a: suspend in force, verified" in out and lab.into("srv-a") == [False, False], out
        rc, out = play("lift", service="srv-a", note="over")
        assert rc == 0 and "srv-a: given back, verified" in out and lab.into("srv-a") == [True, True], out
        # The ladder's step acts on the server's port, as it does on a guest.
        rc, out = play("respond", service="srv-a", violation="attack_source", case="T-2", confirm=True)
        assert rc == 0 and "srv-a: quarantine in force, verified" in out and lab.into("srv-a") == [False, False], out
