# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Echo requests from outside at a steady beat: when did the last answer come through?"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

from .namespace import Namespace


class Heartbeat:
    """Pings an IPv4 address every ``beat`` seconds while used as a context manager.

    ``last`` is when the newest answer came (``time.monotonic``), None before the first.
    """

    def __init__(self, namespace: Namespace, address: str, beat: float = 0.02):
        self.address = address
        self.beat = beat
        self.last: float | None = None
        self._socket = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=body, daemon=True) for body in (self._send, self._receive)]

    def __enter__(self) -> Heartbeat:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(self.beat):
            number = (number + 1) & 0xFFFF
            head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number)
            total = sum(struct.unpack("!4H", head))
            total = (total & 0xFFFF) + (total >> 16)
            check = ~(total + (total >> 16)) & 0xFFFF
            try:
                self._socket.sendto(head[:2] + struct.pack("!H", check) + head[4:], (self.address, 0))
            except OSError:
                continue

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                packet, (peer, _) = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            # An echo reply, behind an IPv4 header without options.
            if peer == self.address and packet[20] == 0:
                self.last = time.monotonic()
