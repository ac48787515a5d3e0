# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's controller as docs/proxmox.md has it: an inventory, a catalogue, and a real ansible-playbook on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .provider import POLICY, SECRET, service

_REPOSITORY = Path(__file__).parents[3]
COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(_REPOSITORY / ".build/dev")


class Controller:
    """Its files in a directory.

    :ivar settings: of the cluster in the inventory plugin's configuration
    """

    def __init__(self, place: Path, address: str, api: dict[str, Any], secret: str, services: list[dict[str, Any]],
                 hosts: dict[str, str] | None = None, within: tuple[str, ...] = ()):
        """:param api: variables of the cluster, without `aup_proxmox_`
        :param hosts: nodes of the cluster in the catalogue
        :param within: words before each command
        """
        self.place, self.within, self.secret = place, within, secret
        self.settings = {key: value for key, value in api.items() if value is not None}
        catalogued = [{"id": one["id"], "customer": one["customer"], "account_type": "personal", "node": "pve",
                       "guest": {key: value for key, value in one["guest"].items() if value is not None},
                       "nics": [{key: nic[key] for key in ("mac", "addresses")} for nic in one["nics"]]} for one in services]
        (place / "lab.yml").write_text(POLICY)
        (place / "catalogue.json").write_text(json.dumps({
            "prefixes": ["192.0.2.0/24", "2001:db8:1::/48"],
            "nodes": {"pve": {"backend": "proxmox", "location": "main", "address": address,
                              **({"proxmox": {"hosts": hosts}} if hosts else {})}}, "services": catalogued}))
        (place / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "lab.yml", "ledger_url": "sqlite:///ledger.db"}))
        # Beside the inventory, the secret in a file of its own.
        variables = place / "group_vars" / "aup_proxmox_clusters"
        variables.mkdir(parents=True)
        (variables / "api.json").write_text(json.dumps({f"aup_proxmox_{key}": value for key, value in self.settings.items()}))
        (variables / "vault.json").write_text(json.dumps({"aup_proxmox_token_secret": secret}))

    def catalogue(self) -> dict[str, Any]:
        return json.loads((self.place / "catalogue.json").read_text())

    def _run(self, command: str, *words: str, **environ: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*self.within, str(Path(sys.executable).parent / command), "-i", str(self.place / "hosts.aup.yml"), *words],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.place,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "ANSIBLE_HOME": str(self.place / "home"),
                 "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_USER": "alice", **environ})

    def play(self, name: str, *flags: str, **extra: Any) -> tuple[int, str]:
        """(return code, output) of one of the collection's playbooks."""
        return self.book("hosting.aup." + name, *flags, **extra)

    def book(self, name: str, *flags: str, **extra: Any) -> tuple[int, str]:
        """(return code, output) of a playbook."""
        done = self._run("ansible-playbook", name, *flags, "-e", json.dumps(extra))
        return done.returncode, done.stdout + done.stderr

    def inventory(self, environ: dict[str, str], **settings: Any) -> subprocess.CompletedProcess:
        """What the inventory plugin shows of the cluster, whose secret comes by the environment or a file."""
        vault = self.place / "group_vars" / "aup_proxmox_clusters" / "vault.json"
        vault.unlink(missing_ok=True)
        (self.place / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "clusters": {"pve": {**self.settings, **settings}},
            "keyed_groups": [{"key": "aup_guests | map(attribute='kind') | unique | list", "prefix": "has"}]}))
        return self._run("ansible-inventory", "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true", **environ)


class House(Controller):
    """A controller whose cluster is the stand-in in this process, with two guests."""

    def __init__(self, server, place: Path, hosts: dict[str, str] | None = None, within: tuple[str, ...] = ()):
        self.server, self.cluster = server, server.api.cluster
        super().__init__(place, "127.0.0.1", {
            "user": "svc@pve", "token_id": "aup", "port": server.port, "ca_file": str(server.ca_file), "timeout": 20}, SECRET,
            [service(100), service(203, "lxc")], hosts, within)

    def since(self, number: int) -> list[str]:
        """Calls after the first `number`."""
        return ["%s %s" % (method, path) for _at, method, path in self.server.api.seen[number:]]
