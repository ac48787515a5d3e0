# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to an API on which calls or their answers get stuck: TLS goes through it unread, so that any cluster can stand behind.

The server does what reaches it; what it answered, or when a call reaches it, is the relay's.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Takes connections on a port of 127.0.0.1 until the block ends."""

    def __init__(self, host: str, port: int):
        self._to = host, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._guard = threading.Condition()
        self._open: set[int] = set()
        self._calls_kept: set[int] = set()
        self._answers_lost: set[int] = set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
        for one in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def keep_calls(self) -> None:
        """What is sent from now on over the connections there are reaches the server only with `release`."""
        with self._guard:
            self._calls_kept |= self._open

    def lose_answers(self) -> None:
        """What is sent over the connections there are is done, and nothing is heard of it."""
        with self._guard:
            self._answers_lost |= self._open

    def release(self) -> None:
        """Let the calls that were kept go on to the server, whether anybody waits for their answers or not."""
        with self._guard:
            self._answers_lost |= self._calls_kept
            self._calls_kept = set()
            self._guard.notify_all()

    def _accept(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._server.accept()
                server = socket.create_connection(self._to)
                self._sockets += [client, server]
                number += 1
                with self._guard:
                    self._open.add(number)
                for source, sink, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(number, source, sink, answers), daemon=True).start()

    def _pump(self, number: int, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._guard:
                    self._guard.wait_for(lambda: answers or number not in self._calls_kept)
                    lost = answers and number in self._answers_lost
                if not lost:
                    sink.sendall(data)
        # A call that was kept is on its way although its sender has gone.
        with self._guard:
            self._open.discard(number)
            self._guard.wait_for(lambda: answers or number not in self._calls_kept)
            lost = not answers and number in self._answers_lost
        if not lost:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
