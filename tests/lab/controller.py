# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that Ansible runs on: reaches the nodes' management addresses by SSH and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import inventory
from .namespace import Namespace
from .node import Node
from .process import LabError, run

CHECKOUT = Path(__file__).resolve().parents[2]
CLOCK = CHECKOUT / ".build/guest/clock.so"
_OFFSET = re.compile(r"([+-]\d+)([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class PlaybookRun:
    """What one ``ansible-playbook`` did: exit code, what it printed, and how long it took."""

    command: list[str]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    recap: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """The sum of ``changed`` over the hosts of the recap."""
        return sum(host.get("changed", 0) for host in self.recap.values())

    def must_succeed(self) -> PlaybookRun:
        if self.returncode:
            raise LabError(f"exit {self.returncode}: {' '.join(self.command)}\n"
                           f"{self.stdout[-6000:]}\n{self.stderr[-3000:]}")
        return self


def collections_path(checkout: Path = CHECKOUT) -> Path:
    """The installed collection; with AUP_DEV=1 the checkout itself."""
    return checkout / ".build" / ("dev" if os.environ.get("AUP_DEV") == "1" else "collections")


class Controller:
    """The namespace, login key, known hosts, inventory and ledger of the one who runs Ansible."""

    def __init__(self, state: Path, identity: str):
        self.state = state
        self.namespace = Namespace("controller", identity)
        self.inventory = state / "inventory/hosts.aup.yml"
        self.ledger_url = f"sqlite:///{state}/ledger/ledger.sqlite3"

    def start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "ledger").mkdir(mode=0o700, exist_ok=True)
        self.namespace.create()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "aup-lab", "-f", str(self.state / "id")])
        (self.state / "ansible.cfg").write_text(
            "[defaults]\nhost_key_checking = True\nretry_files_enabled = False\n"
            "[ssh_connection]\npipelining = True\n"
        )

    def stop(self) -> None:
        self.namespace.delete()

    @property
    def login_key(self) -> str:
        return (self.state / "id.pub").read_text().strip()

    def know(self, nodes: list[Node]) -> None:
        """Write the nodes' host keys, so that connections can insist on them, and the inventory."""
        lines = [f"{node.plan.management} {node.host_key}" for node in nodes]
        (self.state / "known_hosts").write_text("\n".join(lines) + "\n")
        self.write_inventory(self.inventory.parent, nodes)

    def write_inventory(self, target: Path, nodes: list[Node]) -> Path:
        """Write inventory, catalogue and policy for these nodes into a directory; returns what ``-i`` wants."""
        return inventory.write(target, nodes, self.state, self.ledger_url)

    def environment(self) -> dict[str, str]:
        venv = CHECKOUT / ".build/venv"
        return {
            "PATH": f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.state),
            "USER": os.environ.get("USER", "root"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self.state / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.state / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
            # A Unix socket's path may have 107 characters; the lab's directory alone can be longer.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/{self.namespace.name}",
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_NOCOLOR": "1",
        }

    def run(
        self,
        command: list[str],
        *,
        at: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the controller does; never checks the exit code.

        ``at`` (``+49h``, ``+10d``, ``-5m``) moves the clock this command sees, and nobody else's: the nodes keep
        the machine's time.
        """
        environment = {**self.environment(), **(env or {})}
        if at is not None:
            environment["LD_PRELOAD"] = str(CLOCK)
            environment["AUPLAB_CLOCK_OFFSET"] = str(offset_seconds(at))
        return run([*self.namespace.enter, *command], check=False, env=environment, timeout=timeout)

    def ansible_playbook(
        self,
        playbook: str,
        extra_vars: Mapping[str, Any] | None = None,
        *,
        at: str | None = None,
        arguments: tuple[str, ...] = (),
        inventory_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> PlaybookRun:
        """Run a playbook by FQCN or path against the lab's inventory, variables passed as one JSON document."""
        command = ["ansible-playbook", "-i", str(inventory_path or self.inventory), playbook, *arguments]
        if extra_vars:
            command += ["-e", json.dumps(dict(extra_vars))]
        began = time.monotonic()
        done = self.run(command, at=at, env=env, timeout=timeout)
        return PlaybookRun(command, done.returncode, done.stdout, done.stderr, time.monotonic() - began,
                           _recap(done.stdout))


def offset_seconds(at: str) -> int:
    """``+49h`` as seconds."""
    match = _OFFSET.fullmatch(at)
    if match is None:
        raise ValueError(f"not an offset of the clock: {at!r}; write e.g. +49h")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _recap(text: str) -> dict[str, dict[str, int]]:
    hosts = {}
    for line in text.partition("PLAY RECAP")[2].splitlines():
        if match := re.fullmatch(r"(\S+)\s*:((?:\s+\w+=\d+)+)\s*", line):
            hosts[match[1]] = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match[2])}
    return hosts
