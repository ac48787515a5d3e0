# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbooks on a router, with a real ansible-playbook: provision, null_route, lift, reconcile."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.routers.router_lab import ROUTER, eventually

_REPOSITORY = Path(__file__).parents[3]
_COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(_REPOSITORY / ".build/dev")


@pytest.fixture
def play(lab, tmp_path):
    """`play(name, **extra)`: (return code, output) of one playbook."""
    (tmp_path / "catalogue.json").write_text(json.dumps({
        "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
        "nodes": {
            "edge": {"backend": "router", "location": "main", "address": "127.0.0.1", "vars": {"ansible_port": lab.sshd.port},
                     "router": {"platform": "frr", "protected": ROUTER["protected"], "rtbh": ROUTER["rtbh"]}},
            # Its guests can't be converged here; it is left out of every run.
            "kvm1": {"backend": "kvm", "location": "main", "bridges": ["br0"]},
        },
        "services": [{"id": "vps-10", "customer": "c-1", "account_type": "personal", "node": "kvm1", "guest": "vps-10",
                      "nics": [{"mac": "52:54:00:00:00:10", "addresses": ["203.0.113.10", "2001:db8:100::10"]}]}],
    }))
    (tmp_path / "hosts.aup.yml").write_text(json.dumps({
        "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "default",
        "ledger_url": "sqlite:///ledger.db",
        "connection_defaults": {"ansible_user": "root", "ansible_ssh_private_key_file": str(lab.sshd.key),
                                "aup_known_hosts": str(lab.sshd.known_hosts)}}))

    def run(name, *flags, **extra):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.aup.yml"),
             "hosting.aup." + name, *flags, "-e", json.dumps(extra)],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": _COLLECTIONS, "ANSIBLE_HOME": str(tmp_path / "home"),
                 "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_USER": "alice"})
        return done.returncode, done.stdout + done.stderr
    return run


def _managed(tmp_path, lab):
    """Let the ledger take the KVM host for managed, as if it had been provisioned."""
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

    with open_ledger("sqlite:///%s" % (tmp_path / "ledger.db")) as ledger, ledger.transaction() as tx:
        tx.set_node_release("kvm1", 1)


def test_a_null_route_by_runbook(lab, play, tmp_path):
    rc, out = play("provision", aup_nodes="edge")
    assert rc == 0 and "edge: as it should be, verified" in out, out
    _managed(tmp_path, lab)
    wanted = {"service": "vps-10", "violation": "attack_target", "duration": "1h", "case": "T-1", "rtbh": True}
    # Limited to the router: there is no KVM host here.
    rc, out = play("null_route", "--check", "--diff", "--limit", "localhost,edge", **wanted)
    assert "+ip route 203.0.113.10/32 blackhole tag 41667" in out and "vps-10: would be under null_route" in out, out
    assert lab.edge.running == lab.pristine
    rc, out = play("null_route", "--limit", "localhost,edge", **wanted)
    assert "vps-10: null_route in force, verified" in out and "edge: changed, verified" in out, out
    eventually("dark", lambda: lab.reach() == {"victim": [False, False], "neighbour": [True, True]})
    rc, out = play("reconcile", aup_nodes="edge")
    assert rc == 0 and "edge: as it should be, verified" in out and "changed=0" in out.split("edge ")[-1], out
    rc, out = play("lift", "--limit", "localhost,edge", service="vps-10", note="over")
    assert "vps-10: given back, verified" in out, out
    eventually("light", lambda: lab.reach()["victim"] == [True, True])
    rc, out = play("retire", node="edge")
    assert rc == 0 and lab.edge.running == lab.pristine, out


def test_a_router_that_is_not_reached_is_recorded_and_fails_the_run_at_the_end(lab, play, tmp_path):
    rc, out = play("provision", aup_nodes="edge")
    assert rc == 0, out
    rc, out = play("reconcile", aup_nodes="edge", aup_known_hosts="/nonexistent/known_hosts")
    assert rc != 0 and "edge: UNREACHABLE" in out and "does not exist" in out and "ssh-keyscan" in out, out
