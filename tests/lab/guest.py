# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of the lab: a real qemu domain (TCG), asked and driven over its second serial port."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from . import plan
from .process import LabError

if TYPE_CHECKING:
    from .node import Node


@dataclass(frozen=True)
class Uptime:
    """One boot of a guest: its id, seconds since boot as the guest counts them, and its own one-second ticks."""

    boot_id: str
    seconds: float
    ticks: int


class Guest:
    """One domain. Its answers come from inside the guest, never from the host's opinion of it."""

    _number = itertools.count(1)

    def __init__(self, guest_plan: plan.GuestPlan, node: Node):
        self.plan = guest_plan
        self.name = guest_plan.name
        self.node = node
        self._port = threading.Lock()

    # -- libvirt ------------------------------------------------------------------------------------------------

    def xml(self) -> str:
        """The domain as the provider's panel would define it (no ``/dev/kvm`` under the lab's machine: TCG)."""
        p = self.plan
        if p.routed:
            source = (
                f"<source><ip address='{p.gateways[0]}' family='ipv4' prefix='32' peer='{p.ipv4}'/>"
                f"<ip address='{p.gateways[1]}' family='ipv6' prefix='64'/></source>"
            )
            kind = "ethernet"
        else:
            source, kind = f"<source bridge='{plan.BRIDGE}'/>", "bridge"
        target = f"<target dev='{p.tap}'/>" if p.tap else ""
        return f"""<domain type='qemu'>
  <name>{p.name}</name>
  <uuid>{p.uuid}</uuid>
  <memory unit='MiB'>96</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/var/lib/libvirt/boot/vmlinuz</kernel>
    <initrd>/var/lib/libvirt/boot/initrd.img</initrd>
    <cmdline>console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable no_timer_check mitigations=off {p.kernel_words}</cmdline>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>preserve</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <interface type='{kind}'>
      <mac address='{p.mac}'/>
      {source}
      {target}
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'><source path='/var/log/libvirt/{p.name}.console'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='/run/lab/{p.name}'/><target port='1'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""

    def virsh(self, verb: str, *arguments: str) -> str:
        """``virsh VERB NAME …`` on the node."""
        return self.node.run(["virsh", "-q", verb, self.name, *arguments]).stdout.strip()

    def define(self) -> None:
        self.node.run(["virsh", "-q", "define", "/dev/stdin"], text_in=self.xml())

    def start(self) -> None:
        self.virsh("start")

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``shut off`` …"""
        return self.virsh("domstate")

    @property
    def autostart(self) -> bool:
        return "enable" in next(line for line in self.virsh("dominfo").splitlines() if line.startswith("Autostart"))

    @property
    def tap(self) -> str | None:
        """The name of its port on the host now, from live XML (None: it has none)."""
        target = ElementTree.fromstring(self.virsh("dumpxml")).find("./devices/interface/target")
        return None if target is None else target.get("dev")

    @property
    def link(self) -> str:
        """``up`` or ``down``: the state of its cable as libvirt has it."""
        link = ElementTree.fromstring(self.virsh("dumpxml")).find("./devices/interface/link")
        return "up" if link is None else link.get("state", "up")

    # -- from inside --------------------------------------------------------------------------------------------

    def ask(self, *words: str, timeout: float = 10) -> str:
        """Say one request to the guest's agent and return its answer; :class:`LabError` if it is silent."""
        return self.ask_all([words], timeout)[0]

    def ask_all(self, requests: Sequence[Sequence[str]], timeout: float = 10) -> list[str]:
        """Say several requests at once, which the guest works on side by side; their answers, in order."""
        waiting: dict[str, int] = {}
        # A line that was cut off earlier (asked while the guest was paused) ends here.
        text = "\n"
        for place, words in enumerate(requests):
            if any(set(word) & set("\r\n") for word in words):
                raise ValueError(f"not words of a request: {words!r}")
            number = f"{os.getpid()}.{next(self._number)}"
            waiting[number] = place
            text += f"{number} {' '.join(words)}\n"
        answers = [""] * len(waiting)
        limit = time.monotonic() + timeout
        # The serial port has one listener at a time.
        with self._port, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(timeout)
            try:
                agent.connect(str(self.node.path(f"/run/lab/{self.name}")))
                agent.sendall(text.encode())
                heard = b""
                while waiting and (left := limit - time.monotonic()) > 0:
                    agent.settimeout(left)
                    piece = agent.recv(4096)
                    if not piece:
                        break
                    *lines, heard = (heard + piece).split(b"\n")
                    for line in lines:
                        number, _, answer = line.decode("utf-8", "replace").partition(" ")
                        if number in waiting:
                            answers[waiting.pop(number)] = answer.strip()
            except (TimeoutError, OSError) as error:
                raise LabError(f"{self.name} does not answer {requests[0][0]!r}: {error}") from error
        if waiting:
            raise LabError(f"{self.name} does not answer {requests[0][0]!r} within {timeout:g} s")
        return answers

    def await_boot(self, patience: float = 60) -> None:
        """Return when the guest's agent says hello."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit and self.node.running:
            try:
                if self.ask("hello", timeout=1) == f"hello {self.name}":
                    return
            except LabError:
                time.sleep(0.1)
        if not self.node.running:
            raise LabError(f"{self.name} can't boot: {self.node.name} has ended")
        log = self.node.path(f"/var/log/libvirt/{self.name}.console")
        raise LabError(f"{self.name} did not boot in {patience:g} s:\n{log.read_text(errors='replace')[-1500:]}")

    def responds(self, timeout: float = 1.5) -> bool:
        """Whether the guest's own program runs at all (a paused one doesn't)."""
        try:
            return self.ask("hello", timeout=timeout).startswith("hello")
        except LabError:
            return False

    def tcp(self, address: str, port: int, timeout: int = 3) -> str:
        """Try a connection from inside: ``open``, ``refused``, ``unreachable``, ``timeout``, ``stalled``."""
        return self.tcp_all([(address, port)], timeout)[0]

    def tcp_all(self, targets: Sequence[tuple[str, int]], timeout: int = 3) -> list[str]:
        """:meth:`tcp` to several targets at the same time."""
        requests = [("tcp", address, str(port), str(timeout)) for address, port in targets]
        return [answer.split()[0] for answer in self.ask_all(requests, timeout=timeout + 8)]

    def mail(self, address: str, port: int = 25, subject: str = "hello") -> str:
        """Send one message from inside: ``accepted …``, ``refused``, ``timeout`` or ``failed: …``."""
        return self.ask("mail", address, str(port), subject, timeout=15)

    def open(self, label: str, address: str, port: int) -> str:
        """Open a connection under a label and keep it: ``open <banner>``, ``timeout`` or ``closed …``."""
        return self.ask("open", label, address, str(port), timeout=12)

    def say(self, label: str, line: str = "NOOP") -> str:
        """Say a line on a kept connection: ``answer <line>``, ``silent`` or ``closed``."""
        return self.ask("say", label, line, timeout=12)

    def uptime(self) -> Uptime:
        boot_id, seconds, ticks = self.ask("uptime").split()
        return Uptime(boot_id, float(seconds), int(ticks))
