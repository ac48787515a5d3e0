# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces that the lab makes, and nothing but those."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .process import LabError, end, run

PREFIX = "auplab"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


class Namespace:
    """One network namespace, named ``auplab-<identity of the lab>-<role>``."""

    def __init__(self, role: str, identity: str):
        self.role = role
        self.name = f"{PREFIX}-{identity}-{role}"

    @property
    def path(self) -> Path:
        return Path("/run/netns", self.name)

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs in this namespace."""
        return ["nsenter", f"--net={self.path}"]

    def create(self) -> None:
        run(["ip", "netns", "add", self.name])
        self.ip("link set lo up")
        self.sysctl("net.ipv6.conf.all.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.accept_ra", 0)

    def delete(self) -> None:
        """End every process in the namespace, then remove it; its interfaces go with it."""
        if self.path.exists():
            end(self.pids())
            run(["ip", "netns", "delete", self.name], check=False)

    def pids(self) -> list[int]:
        return [int(word) for word in run(["ip", "netns", "pids", self.name], check=False).stdout.split()]

    def ip(self, arguments: str) -> str:
        """``ip`` with these arguments in the namespace; returns what it printed."""
        return run(["ip", "-n", self.name, *arguments.split()]).stdout

    def sysctl(self, key: str, value: int) -> None:
        run([*self.enter, "sh", "-c", f"echo {value} >/proc/sys/{key.replace('.', '/')}"])

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run a function in a thread that has joined the namespace. Sockets it makes stay in the namespace."""
        result: list[_Result] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                with self.path.open() as handle:
                    if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                        raise LabError(f"cannot enter {self.name}: {os.strerror(ctypes.get_errno())}")
                result.append(function())
            except BaseException as error:  # noqa: B902 - carried over to the calling thread
                failure.append(error)

        thread = threading.Thread(target=body, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]


def connect(one: Namespace, device: str, other: Namespace, other_device: str) -> None:
    """A cable between two namespaces; neither end is ever seen in the machine's own."""
    run(["ip", "-n", one.name, "link", "add", device, "type", "veth", "peer", "name", other_device,
         "netns", other.name])
    one.ip(f"link set {device} up")
    other.ip(f"link set {other_device} up")


def stale() -> list[Namespace]:
    """Namespaces of labs whose process is gone."""
    found = []
    for entry in sorted(Path("/run/netns").glob(f"{PREFIX}-*")):
        if orphaned(entry.name):
            _, identity, role = entry.name.split("-", 2)
            found.append(Namespace(role, identity))
    return found


def orphaned(name: str) -> bool:
    """Whether ``auplab-<identity>-…`` belongs to a lab whose process is gone (identity: its pid, ``.2`` if it is the
    second of that process)."""
    owner = name.split("-")[1].split(".")[0]
    return owner.isdigit() and not Path("/proc", owner).exists()
