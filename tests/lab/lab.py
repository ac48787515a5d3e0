# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole lab: one internet, one controller, KVM hosts with real guests; made, used, and cleared away."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from . import namespace, plan
from .controller import CHECKOUT, Controller, PlaybookRun
from .guest import Guest
from .internet import Internet, Message
from .node import Node, cgroup_mounts, group_in_use, remove_group
from .process import LabError, run, start_ticks

LABS = CHECKOUT / ".build/lab"
IMAGE = CHECKOUT / ".build/guest"

# What a guest is asked to reach, as (name, address, port); the names are the columns of :meth:`Lab.reach_table`.
TARGETS = tuple(
    (f"{name}{'' if family == 0 else '/6'}", addresses[family], port)
    for name, addresses, port in (("smtp 25", plan.SINK, 25), ("submit 587", plan.SINK, 587), ("web 80", plan.WEB, 80))
    for family in (0, 1)
)


_number = itertools.count(1)


def quiet(_text: str) -> None:
    """A listener for those who want no progress."""


class Progress:
    """Prints one line per step with the seconds since it was made."""

    def __init__(self, stream=None):
        self._began = time.monotonic()
        self._stream = stream or sys.stderr

    def __call__(self, text: str) -> None:
        self._stream.write(f"[{time.monotonic() - self._began:6.1f} s] {text}\n")
        self._stream.flush()


class Lab:
    """Use it as a context manager: it is up inside, and leaves nothing behind however the block ends."""

    def __init__(self, nodes: int = 1, say: Callable[[str], None] = quiet):
        self.say = say
        number = next(_number)
        self.identity = f"{os.getpid()}" if number == 1 else f"{os.getpid()}.{number}"
        self.state = LABS / self.identity
        self.internet = Internet(self.identity)
        self.controller = Controller(self.state / "controller", self.identity)
        self.nodes = [Node(node, self.state / node.name, IMAGE, self.identity) for node in plan.nodes(nodes)]
        self._handlers: dict[int, Any] = {}
        self._up = False

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Make everything and return when every guest answers. Fails with nothing left behind."""
        if os.geteuid():
            raise LabError("the lab makes network namespaces and guests: run it as root (sudo)")
        for name in ("vmlinuz", "initrd.img", "clock.so"):
            if not (IMAGE / name).exists():
                raise LabError(f"{IMAGE / name} is missing: run scripts/setup")
        sweep()
        self._up = True
        self._catch_signals()
        atexit.register(self.stop)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self.state.mkdir(parents=True, mode=0o700)
        (self.state / "owner").write_text(json.dumps({"pid": os.getpid(), "started": start_ticks(os.getpid())}))
        self.say("networks: internet, controller, " + ", ".join(node.name for node in self.nodes))
        self.internet.start()
        self.controller.start()
        for node in self.nodes:
            node.prepare(self.controller.login_key)
            outside = f"to-{node.name}"
            namespace.connect(node.namespace, plan.UPLINK, self.internet.namespace, outside)
            self.internet.namespace.ip(f"link set {outside} master wan")
            namespace.connect(node.namespace, plan.MANAGEMENT, self.controller.namespace, f"to-{node.name}")
            self.controller.namespace.ip(f"address add {node.plan.controller}/24 dev to-{node.name}")
            node.wire()
            node.boot()
        self._route_to_guests()
        self.say("hosts: libvirtd and sshd on " + ", ".join(node.name for node in self.nodes))
        with ThreadPoolExecutor() as pool:
            try:
                list(pool.map(Node.await_services, self.nodes))
                self.say("guests: " + ", ".join(guest.name for guest in self.guests))
                list(pool.map(_define_and_start, self.guests))
                self.controller.know(self.nodes)
                list(pool.map(Guest.await_boot, self.guests))
            except BaseException:
                # Whoever interrupts does not wait until all guests have booted: what the threads wait for ends.
                pool.shutdown(wait=False, cancel_futures=True)
                for node in self.nodes:
                    node.end()
                raise
        self.say(f"up: {len(self.guests)} guests answer")
        (self.state / "up").write_text(json.dumps(self.describe()))

    def _route_to_guests(self) -> None:
        for node in self.nodes:
            for guest in node.guests:
                if guest.plan.routed:
                    via4, via6 = node.plan.bridge_addresses
                    self.internet.namespace.ip(f"route add {guest.plan.ipv4}/32 via {via4}")
                    self.internet.namespace.ip(f"-6 route add {guest.plan.gateways[1]}/64 via {via6}")

    def stop(self) -> None:
        """Clear everything away; a second call does nothing."""
        if not self._up:
            return
        self._up = False
        atexit.unregister(self.stop)
        # A second Ctrl-C must not leave half a lab behind.
        for sign in self._handlers:
            signal.signal(sign, signal.SIG_IGN)
        self.say("down")
        try:
            for node in self.nodes:
                node.stop()
            self.controller.stop()
            self.internet.stop()
            shutil.rmtree(f"/tmp/{self.controller.namespace.name}", ignore_errors=True)
            shutil.rmtree(self.state, ignore_errors=True)
        finally:
            for sign, handler in self._handlers.items():
                signal.signal(sign, handler)

    def _catch_signals(self) -> None:
        def leave(sign: int, _frame: object) -> None:
            raise SystemExit(128 + sign)

        for sign in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[sign] = signal.signal(sign, leave)
        self._handlers[signal.SIGINT] = signal.getsignal(signal.SIGINT)

    # -- use ----------------------------------------------------------------------------------------------------

    @property
    def guests(self) -> list[Guest]:
        return [guest for node in self.nodes for guest in node.guests]

    def guest(self, name: str) -> Guest:
        for guest in self.guests:
            if guest.name == name:
                return guest
        raise KeyError(f"the lab has no guest {name}; it has {', '.join(g.name for g in self.guests)}")

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"the lab has no node {name}")

    @property
    def messages(self) -> list[Message]:
        """The mail that the sinks outside have taken, oldest first."""
        return self.internet.messages

    def inventory(self, target: Path | None = None) -> Path:
        """Write an inventory into a directory (default: the controller's own); returns what ``-i`` wants."""
        return self.controller.write_inventory(target or self.controller.inventory.parent, self.nodes)

    def ansible_playbook(self, playbook: str, extra_vars: Mapping[str, Any] | None = None, **options) -> PlaybookRun:
        """Run a playbook on the controller; options as :meth:`Controller.ansible_playbook`, e.g. ``at="+49h"``."""
        return self.controller.ansible_playbook(playbook, extra_vars, **options)

    def reach(self, name: str) -> dict[str, str]:
        """What one guest reaches, and from where it is reached: column name to word."""
        guest = self.guest(name)
        with ThreadPoolExecutor() as pool:
            inside = pool.submit(self._reach_from, guest)
            outside = {
                "web in": pool.submit(self.internet.tcp, guest.plan.ipv4, 80),
                "web in/6": pool.submit(self.internet.tcp, guest.plan.ipv6, 80),
                "ping in": pool.submit(self.internet.ping, guest.plan.ipv4),
                "ping in/6": pool.submit(self.internet.ping, guest.plan.ipv6),
            }
            row = inside.result()
            for column, answer in outside.items():
                word = answer.result()
                row[column] = {True: "open", False: "timeout"}[word] if isinstance(word, bool) else word
        return row

    @staticmethod
    def _reach_from(guest: Guest) -> dict[str, str]:
        if not guest.responds():
            return {column: "silent" for column, _, _ in TARGETS}
        words = guest.tcp_all([(address, port) for _, address, port in TARGETS])
        return {column: word for (column, _, _), word in zip(TARGETS, words, strict=True)}

    def reach_table(self, names: list[str] | None = None) -> dict[str, dict[str, str]]:
        """:meth:`reach` of several guests (default: all), at the same time."""
        names = names or [guest.name for guest in self.guests]
        with ThreadPoolExecutor() as pool:
            return dict(zip(names, pool.map(self.reach, names), strict=True))

    def describe(self) -> dict[str, Any]:
        """What someone at a terminal needs to find their way about, as plain data."""
        return {
            "pid": os.getpid(),
            "state": str(self.state),
            "inventory": str(self.controller.inventory),
            "namespaces": [n.name for n in self._namespaces],
            "nodes": {node.name: {"pid": node.pid, "management": node.plan.management} for node in self.nodes},
            "guests": {guest.name: {"node": guest.node.name, "addresses": guest.plan.addresses, "tap": guest.tap}
                       for guest in self.guests},
        }

    @property
    def _namespaces(self) -> list[namespace.Namespace]:
        return [self.internet.namespace, self.controller.namespace, *(node.namespace for node in self.nodes)]


def _define_and_start(guest: Guest) -> None:
    guest.define()
    guest.start()


def sweep() -> None:
    """Clear away what labs left that were killed outright: their processes have died with them."""
    for space in namespace.stale():
        space.delete()
    # Those just killed need a moment to leave their control groups. Containers may share the groups but not the
    # process numbers: one that stays in use is nobody's orphan.
    limit = time.monotonic() + 2
    for _, place, _ in cgroup_mounts():
        for group in filter(lambda path: namespace.orphaned(path.name), Path(place).glob(f"{namespace.PREFIX}-*")):
            while group_in_use(group) and time.monotonic() < limit:
                time.sleep(0.05)
            if not group_in_use(group):
                remove_group(group)
    for control in Path("/tmp").glob(f"{namespace.PREFIX}-*-controller"):
        if namespace.orphaned(control.name):
            shutil.rmtree(control, ignore_errors=True)
    for directory in LABS.glob("*"):
        if not owner_alive(directory):
            shutil.rmtree(directory, ignore_errors=True)


def owner_alive(directory: Path) -> bool:
    """Whether the process that made a lab's directory still runs (and its pid is not another's by now)."""
    try:
        owner = json.loads((directory / "owner").read_text())
    except (FileNotFoundError, ValueError):
        return Path("/proc", directory.name.split(".")[0]).exists()
    return owner["started"] is not None and start_ticks(owner["pid"]) == owner["started"]


def machine_network() -> dict[str, str]:
    """The machine's own links, addresses, routes and rules: the same before and after a lab."""
    commands = {
        "links": ["ip", "-o", "link"],
        "addresses": ["ip", "-o", "address"],
        "routes": ["ip", "route", "show", "table", "all"],
        "routes6": ["ip", "-6", "route", "show", "table", "all"],
        "rules": ["ip", "rule"],
        "ruleset": ["nft", "list", "ruleset"],
    }
    return {name: run(command, check=False).stdout for name, command in commands.items()}
