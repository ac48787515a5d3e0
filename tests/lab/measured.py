# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every enforcement on real guests, measured where it acts, and the ladder's next step: chapters of ``make demo``."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import plan
from .guest import Guest
from .namespace import Namespace
from .spine import until
from .telling import Telling

KEPT, HELD, ROUTED, FAR = "vps-1001", "vps-1002", "vps-1003", "vps-1004"
CASE = "T-3"
_PATIENCE = 30
_DISK = "/var/lib/libvirt/images/demo.qcow2"


class Measured:
    """One case under which every enforcement is opened in turn, seen, and given back in one go."""

    def __init__(self, telling: Telling):
        self.telling = telling
        self.lab, self.spine = telling.lab, telling.spine
        self.chapter, self.must = telling.chapter, telling.must

    def enforce(self, verb: str, service: str, **inputs: Any) -> None:
        self.telling.playbook(verb, {"service": service, "violation": "compromised", "duration": "48h", "case": CASE, **inputs})

    def open(self, guest: Guest, address: str, port: int) -> bool:
        """Whether a guest gets a connection; a busy machine is given time."""
        return until(lambda: guest.tcp(address, port) == "open", _PATIENCE)

    def closed(self, guest: Guest, port: int) -> bool:
        """Whether a guest gets none to the mail servers outside, while it is awake."""
        return until(guest.responds, _PATIENCE) and "open" not in guest.tcp_all([(one, port) for one in plan.SINK])

    def tell(self) -> None:
        kept, held, routed, far = (self.lab.guest(name) for name in (KEPT, HELD, ROUTED, FAR))
        self.chapter("every other enforcement, measured while it is in force")
        with disk(held):
            self.enforce("bandwidth_cap", KEPT, rate="10 Mbit/s")
            with flood(self.lab.internet.namespace, kept.plan.ipv4) as sent:
                got, offered = rates(kept, sent)
                answers = until(lambda: self.lab.internet.ping(kept.plan.ipv4), _PATIENCE)
            self.must(f"of {offered:.0f} Mbit/s sent to {KEPT}, {got:.2f} Mbit/s arrive", offered > 12 and 9 < got < 10.3)
            self.must(f"{KEPT} answers pings meanwhile", answers)

            self.enforce("cpu_throttle", HELD, share="20%")
            share = busy(held)
            self.must(f"{HELD} computes without a pause and gets {share:.1%} of its processor", 0.1 < share < 0.21)

            self.enforce("io_throttle", HELD, iops=50)
            rate = reads(held)
            self.must(f"{HELD} reads its disk without a pause, {rate:.0f} times a second", 25 < rate < 55)

            self.enforce("smtp_block", KEPT)
            self.must(f"ports 25 and 587 are closed to {KEPT} in spite of its exemption, the web is not",
                      self.closed(kept, 25) and self.closed(kept, 587) and self.open(kept, plan.WEB[0], 80))

            self.enforce("port_block", ROUTED, ports="587")
            self.must(f"port 587 is closed to {ROUTED}, the web is not",
                      self.closed(routed, 587) and self.open(routed, plan.WEB[0], 80))

            self.enforce("drop", ROUTED, sources=",".join(plan.WEB))
            self.must(f"{ROUTED} and the web server don't hear each other, on both families; others are as before", self.open(
                routed, plan.SINK[0], 465) and "open" not in routed.tcp_all([(one, 80) for one in plan.WEB]))

            self.enforce("quarantine", FAR)
            self.must(f"{FAR} runs, dark but for the rescue desk", until(far.responds, _PATIENCE) and self.spine.dark(far) and until(
                lambda: self.lab.internet.tcp(far.plan.ipv4, 80, source=plan.RESCUE[0]) == "open", _PATIENCE))

            self.enforce("null_route", ROUTED)
            self.must(f"{ROUTED} runs, its addresses are dark on both families", until(routed.responds, _PATIENCE) and self.spine.dark(routed))
            self.telling.playbook("lift", {"service": [KEPT, HELD, ROUTED, FAR], "case": CASE})
            self.must("all four are reached again, and no limit is left",
                      all(until(lambda one=one: self.spine.light(one), _PATIENCE) for one in (kept, held, routed, far))
                      and busy(held, 3) > 0.3)

        self.chapter(f"terminate: {FAR}, by two people; nothing is deleted")
        contract = {"service": FAR, "violation": "spam", "case": "T-4"}
        self.telling.playbook("terminate", contract, env={"SUDO_UID": "4001"})
        self.must("one person alone has proposed it, and nothing else", far.state == "running" and until(lambda: self.spine.light(far), _PATIENCE))
        self.telling.playbook("terminate", contract, env={"SUDO_UID": "4002"})
        self.must(f"{FAR} is off and dark, its definition is there", far.state == "shut off" and self.spine.dark(far))
        self.telling.playbook("lift", {"service": FAR, "case": "T-4"})
        far.await_boot()
        self.must(f"{FAR} is back", until(lambda: self.spine.light(far), _PATIENCE))

        self.chapter(f"respond: {HELD} is attacked, and the policy's ladder says what to do")
        attack = {"service": HELD, "violation": "attack_target", "case": "T-5"}
        checked = self.telling.playbook("respond", attack, check=True)
        self.must("--check says which step, and what the next would be, and does nothing",
                  "step 1 of 2" in checked.said and "next: step 2" in checked.said and held.state == "running")
        self.telling.playbook("respond", attack)
        self.must(f"the first step: {HELD} is suspended", held.state == "paused")
        self.telling.playbook("respond", {**attack, "persists": True})
        self.must("the attack goes on, and it is null-routed as well", self.spine.statuses(HELD, "T-5") == ["active", "active"])
        self.telling.playbook("lift", {"service": HELD, "case": "T-5"})
        self.must(f"{HELD} is back", until(lambda: self.spine.light(held), _PATIENCE))


@contextmanager
def disk(guest: Guest) -> Iterator[None]:
    """A disk of 64 MiB for a guest, for as long as the block lasts."""
    guest.node.run(["mkdir", "-p", _DISK.rpartition("/")[0]])
    guest.node.run(["qemu-img", "create", "-q", "-f", "qcow2", _DISK, "64M"])
    guest.virsh("attach-disk", _DISK, "vda", "--driver", "qemu", "--subdriver", "qcow2", "--live", "--config")
    try:
        yield
    finally:
        guest.virsh("detach-disk", "vda", "--live", "--config")


@contextmanager
def flood(space: Namespace, target: str, mbit: float = 40) -> Iterator[list[int]]:
    """UDP from outside to a guest as long as the block lasts; yields one number, the bytes sent so far."""
    sent, over = [0], threading.Event()
    sock = space.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def send() -> None:
        began = time.monotonic()
        while not over.wait(0.002):
            while sent[0] * 8 < (time.monotonic() - began) * mbit * 1e6 and not over.is_set():
                sock.sendto(bytes(1400), (target, 9))
                sent[0] += 1442  # with the headers of UDP, IPv4 and Ethernet
    thread = threading.Thread(target=send, name="flood")
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()
        sock.close()


def rates(guest: Guest, sent: list[int], seconds: float = 5) -> tuple[float, float]:
    """(arriving, sent) in Mbit/s of Ethernet frames, over some seconds after the first burst."""
    def port() -> int:
        return int(guest.node.run(["cat", f"/sys/class/net/{guest.tap}/statistics/tx_bytes"]).stdout)
    time.sleep(1.5)
    began, before, offered = time.monotonic(), port(), sent[0]
    time.sleep(seconds)
    after, took = port(), time.monotonic() - began
    return (after - before) * 8 / took / 1e6, (sent[0] - offered) * 8 / took / 1e6


def busy(guest: Guest, seconds: float = 6) -> float:
    """The share of one processor that a guest with endless work gets."""
    def used() -> float:
        stats = guest.node.run(["virsh", "-q", "domstats", "--cpu-total", guest.name]).stdout
        return int(next(line for line in stats.splitlines() if "cpu.time" in line).split("=")[1]) / 1e9
    with working(guest, "burn", seconds + 2):
        time.sleep(1)
        began, before = time.monotonic(), used()
        time.sleep(seconds)
        return (used() - before) / (time.monotonic() - began)


def reads(guest: Guest, seconds: float = 5) -> float:
    """Requests a second that a guest's endless reading comes to."""
    def done() -> int:
        return int(next(line for line in guest.virsh("domblkstat", "vda").splitlines() if " rd_req " in line).split()[-1])
    with working(guest, "read", seconds + 2):
        time.sleep(1)
        began, before = time.monotonic(), done()
        time.sleep(seconds)
        return (done() - before) / (time.monotonic() - began)


@contextmanager
def working(guest: Guest, verb: str, seconds: float) -> Iterator[None]:
    """The guest does one thing for some seconds; the block runs beside it."""
    thread = threading.Thread(target=guest.ask, args=(verb, f"{seconds:.0f}"), kwargs={"timeout": seconds + 30})
    thread.start()
    try:
        yield
    finally:
        thread.join()
