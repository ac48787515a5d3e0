# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to an API on which calls or their answers get stuck: TLS goes through it unread, so any cluster can stand behind it.

The server does what reaches it; when a call does, and whether its answer comes back, is the relay's.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter

_PATIENCE = 60


class Relay:
    """Takes connections on a port of 127.0.0.1 until the block ends.

    :ivar delay: seconds by which answers come later; a handshake doesn't
    """

    def __init__(self, host: str, port: int):
        self._to = host, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.delay = 0.0
        self._guard = threading.Condition()
        self._open: set[int] = set()
        self._kept: set[int] = set()
        self._lost: set[int] = set()
        self._waiting: set[int] = set()  # connections with a call in hand that is kept
        self._unheard: set[int] = set()  # connections on which the server answered, and nobody heard it
        self._sent: Counter[int] = Counter()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._guard:
            self._kept = set()
            self._guard.notify_all()
        for one in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def keep_calls(self) -> None:
        """What is sent from now on over the connections there are reaches the server only with `release`."""
        with self._guard:
            self._kept |= self._open

    def lose_answers(self) -> None:
        """What is sent over the connections there are is done, and nothing is heard of it."""
        with self._guard:
            self._lost |= self._open

    def release(self) -> bool:
        """Let the calls that were kept go on to the server, whose answers nobody hears; whether it answered all of them."""
        with self._guard:
            asked, self._waiting = self._waiting, set()
            self._lost |= self._kept
            self._kept = set()
            self._guard.notify_all()
            return self._guard.wait_for(lambda: asked <= self._unheard, _PATIENCE) and bool(asked)

    def unheard(self) -> bool:
        """Whether the server answered something that nobody heard."""
        with self._guard:
            return self._guard.wait_for(lambda: bool(self._unheard & self._lost), _PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._server.accept()
                server = socket.create_connection(self._to)
                number = len(self._sockets)
                self._sockets += [client, server]
                with self._guard:
                    self._open.add(number)
                threading.Thread(target=self._calls, args=(number, client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(number, server, client), daemon=True).start()

    def _calls(self, number: int, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                with self._guard:
                    if number in self._kept:
                        self._waiting.add(number)
                    self._guard.wait_for(lambda: number not in self._kept)
                    self._sent[number] += 1
                server.sendall(data)
        with self._guard:
            self._open.discard(number)
            stuck = number in self._kept or number in self._lost
        if not stuck:  # else the server's end stays open until it has answered
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)

    def _answers(self, number: int, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if self._sent[number] > 1:
                    time.sleep(self.delay)
                with self._guard:
                    lost = number in self._lost
                    if lost:
                        self._unheard.add(number)
                        self._guard.notify_all()
                if not lost:
                    client.sendall(data)
        with self._guard:
            self._unheard.add(number)
            self._guard.notify_all()
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
