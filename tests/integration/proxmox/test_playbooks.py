# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbooks on a cluster, with a real ansible-playbook and the inventory plugin, against the stand-in."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .provider import POLICY, SECRET, firewalled, guest, service, token

_REPOSITORY = Path(__file__).parents[3]
_COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(_REPOSITORY / ".build/dev")


class House:
    """A cluster behind the stand-in, and an inventory that names it."""

    def __init__(self, server, place: Path, hosts: dict[str, str] | None = None, within: tuple[str, ...] = ()):
        """:param hosts: nodes of the cluster in the catalogue
        :param within: words before each command
        """
        self.server, self.cluster, self.place, self.within = server, server.api.cluster, place, within
        numbers = {100: "qemu", 203: "lxc"}
        services = []
        for vmid in numbers:
            one = service(vmid)
            services.append({"id": one["id"], "customer": one["customer"], "account_type": "personal", "node": "pve",
                             "guest": {"name": f"guest{vmid}", "vmid": vmid},
                             "nics": [{key: nic[key] for key in ("mac", "addresses")} for nic in one["nics"]]})
        (place / "lab.yml").write_text(POLICY)
        (place / "catalogue.json").write_text(json.dumps({
            "prefixes": ["192.0.2.0/24", "2001:db8:1::/48"],
            "nodes": {"pve": {"backend": "proxmox", "location": "main", "address": "127.0.0.1",
                              **({"proxmox": {"hosts": hosts}} if hosts else {})}}, "services": services}))
        (place / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "lab.yml", "ledger_url": "sqlite:///ledger.db"}))
        # As docs/proxmox.md has it: beside the inventory, the secret in a file of its own.
        variables = place / "group_vars" / "aup_proxmox_clusters"
        variables.mkdir(parents=True)
        (variables / "api.json").write_text(json.dumps({
            "aup_proxmox_user": "svc@pve", "aup_proxmox_token_id": "aup", "aup_proxmox_port": server.port,
            "aup_proxmox_ca_file": str(server.ca_file), "aup_proxmox_timeout": 20}))
        (variables / "vault.json").write_text(json.dumps({"aup_proxmox_token_secret": SECRET}))

    def play(self, name: str, *flags: str, **extra) -> tuple[int, str]:
        """(return code, output) of one playbook."""
        done = subprocess.run(
            [*self.within, str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.place / "hosts.aup.yml"),
             "hosting.aup." + name, *flags, "-e", json.dumps(extra)],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.place,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": _COLLECTIONS, "ANSIBLE_HOME": str(self.place / "home"),
                 "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_USER": "alice"})
        return done.returncode, done.stdout + done.stderr

    def state(self):
        """What a customer or an operator sees."""
        wall = self.cluster.firewall
        return ({vmid: (dict(one.config), one.running, one.paused) for vmid, one in sorted(self.cluster.guests.items())},
                {vmid: file.render() for vmid, file in sorted(wall.guests.items()) if file.render()}, wall.cluster.render())

    def since(self, number: int) -> list[str]:
        """Calls after the first `number`."""
        return ["%s %s" % (method, path) for _at, method, path in self.server.api.seen[number:]]


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(100))
    cluster.add(guest(203, "lxc", node="pve2"))
    (tmp_path / "tls").mkdir()
    with serve(cluster, tmp_path / "tls", {"svc@pve!aup": token()}) as server:
        yield House(server, tmp_path)


def test_the_runbooks_on_a_cluster(house):
    found = house.state()
    rc, out = house.play("provision", "--check", "--diff")
    assert rc == 0 and "pve: would change" in out and house.state() == found, out
    assert SECRET not in out
    rc, out = house.play("provision")
    assert rc == 0 and "pve: changed, verified" in out, out
    assert "note: what a cluster can't do, and does not: mining in observe (services: 2), "  in out, out
    before = house.state()
    assert before != found

    calls = len(house.server.api.seen)
    rc, out = house.play("suspend", service="vps-100", violation="attack_target", duration="48h", case="T-1")
    assert rc == 0 and "vps-100: suspend in force, verified" in out and "vps-203" not in out, out
    assert house.cluster.guests[100].paused
    # Asked for one service, the run leaves the others' guests alone.
    assert [call for call in house.since(calls) if "/203" in call] == []

    rc, out = house.play("status")
    assert rc == 0 and "suspend of vps-100" in out and "pve" in out, out
    rc, out = house.play("explain", service="vps-100")
    assert rc == 0 and "T-1" in out and "was not reached" not in out, out

    house.cluster.guests[100].paused = False  # the tenant resumes it
    rc, out = house.play("reconcile")
    assert rc == 0 and "pve: changed, verified" in out and house.cluster.guests[100].paused, out
    rc, out = house.play("reconcile")
    assert rc == 0 and "pve: as it should be, verified" in out, out

    rc, out = house.play("lift", service="vps-100", note="answered")
    assert rc == 0 and "vps-100: given back, verified" in out and house.state() == before, out
    house.cluster.guests[100].netout = 1000
    rc, out = house.play("meter")
    assert rc == 0, out
    house.cluster.guests[100].netout = 4321
    rc, out = house.play("meter")
    assert rc == 0, out
    rc, out = house.play("usage", service="vps-100")
    assert rc == 0 and "(3321 bytes)" in out, out
    rc, out = house.play("retire", node="pve")
    assert rc == 0 and house.state() == found, out


def test_a_token_that_is_refused_is_said_and_fails_the_run_at_its_end(house):
    rc, out = house.play("provision", aup_proxmox_token_secret="00000000-0000-4000-8000-000000000000")
    assert rc != 0 and "pve: UNREACHABLE" in out and "the API refused the token" in out, out
    assert "00000000-0000-4000" not in out


def test_a_node_that_is_not_reached_is_said_and_the_api_acts_all_the_same(house):
    catalogue = json.loads((house.place / "catalogue.json").read_text())
    catalogue["nodes"]["pve"]["proxmox"] = {"hosts": {"pve1": "127.0.0.1"}}
    (house.place / "catalogue.json").write_text(json.dumps(catalogue))
    rc, out = house.play("provision", ansible_port=1, aup_nodes="pve")
    assert rc != 0 and "pve1: UNREACHABLE" in out and "pve: changed, verified" in out, out
