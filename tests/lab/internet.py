# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies outside the provider: mail and web servers on both families, and the eyes that look at guests."""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from . import plan
from .namespace import Namespace
from .process import run


@dataclass(frozen=True)
class Message:
    """One message a sink took: who sent it (address), where to (address, port), and its envelope and text."""

    peer: str
    address: str
    port: int
    sender: str
    recipient: str
    text: str


class _Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64
    messages: list[Message]


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


class _Smtp(socketserver.StreamRequestHandler):
    """Enough SMTP (RFC 5321) to take a message, also pipelined; stays as long as the client does."""

    server: _Server
    timeout = 600

    def reply(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        sender = recipient = ""
        try:
            self.reply("220 sink.internet.example ESMTP")
            while raw := self.rfile.readline(2048):
                line = raw.decode("utf-8", "replace").strip()
                verb = line.upper()
                if verb.startswith(("EHLO", "HELO")):
                    self.reply("250 sink.internet.example")
                elif verb.startswith("MAIL FROM:"):
                    sender = line[10:].strip()
                    self.reply("250 2.1.0 Ok")
                elif verb.startswith("RCPT TO:"):
                    recipient = line[8:].strip()
                    self.reply("250 2.1.5 Ok")
                elif verb == "DATA":
                    self.reply("354 End data with <CR><LF>.<CR><LF>")
                    self.reply(f"250 2.0.0 Ok: queued as {self.take(sender, recipient)}")
                elif verb == "QUIT":
                    self.reply("221 2.0.0 Bye")
                    return
                elif verb in ("NOOP", "RSET"):
                    self.reply("250 2.0.0 Ok")
                else:
                    self.reply("502 5.5.2 Command not recognized")
        except OSError:
            return

    def take(self, sender: str, recipient: str) -> int:
        lines = []
        while (raw := self.rfile.readline(65536)) and raw.rstrip(b"\r\n") != b".":
            lines.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
        here = self.request.getsockname()
        message = Message(_plain(self.client_address[0]), _plain(here[0]), here[1], sender, recipient, "\n".join(lines))
        self.server.messages.append(message)
        return len(self.server.messages)


class _Web(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 30

    def handle(self) -> None:
        try:
            if self.rfile.readline(2048):
                body = b"the internet\n"
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            return


def serve(namespace: Namespace, port: int, handler: type[socketserver.StreamRequestHandler], messages: list[Message]) -> _Server:
    """A server on all addresses of a namespace, in a thread of its own; what it takes goes into ``messages``."""
    server = namespace.call(lambda: _Server(("::", port), handler))
    server.messages = messages
    threading.Thread(target=server.serve_forever, args=(0.1,), name=f"sink-{port}", daemon=True).start()
    return server


@contextmanager
def mail_on_loopback() -> Iterator[tuple[int, list[Message]]]:
    """A mail server on 127.0.0.1 of the machine itself, for stories without guests: its port, and what it takes."""
    server = _Server(("::ffff:127.0.0.1", 0), _Smtp)
    server.messages = []
    threading.Thread(target=server.serve_forever, args=(0.1,), name="mail", daemon=True).start()
    try:
        yield server.server_address[1], server.messages
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mail_desk(namespace: Namespace) -> Iterator[list[Message]]:
    """A mail server on port 25 of a namespace's own loopback, and what it takes."""
    messages: list[Message] = []
    server = serve(namespace, 25, _Smtp, messages)
    try:
        yield messages
    finally:
        server.shutdown()
        server.server_close()


class Internet:
    """The namespace outside: router of the provider's addresses, sinks on 25, 465 and 587, web on 80."""

    def __init__(self, identity: str) -> None:
        self.namespace = Namespace("internet", identity)
        self.messages: list[Message] = []
        self._servers: list[_Server] = []

    def start(self) -> None:
        self.namespace.create()
        self.namespace.sysctl("net.ipv4.ip_forward", 1)
        self.namespace.sysctl("net.ipv6.conf.all.forwarding", 1)
        ip = self.namespace.ip
        ip("link add wan type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        ip("link set wan up")
        for address in plan.GATEWAYS_WITH_LENGTH:
            ip(f"address add {address} dev wan")
        for address in plan.OUTSIDE_ADDRESSES:
            ip(f"address add {address} dev lo")
        for ports, handler in ((plan.MAIL_PORTS, _Smtp), (plan.WEB_PORTS, _Web)):
            for port in ports:
                self._servers.append(serve(self.namespace, port, handler, self.messages))

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()
        self.namespace.delete()

    def tcp(self, address: str, port: int, timeout: float = 3.0, source: str | None = None) -> str:
        """Try a guest from outside: ``open``, ``refused``, ``unreachable`` or ``timeout``."""

        def attempt() -> str:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout)
                if source:
                    probe.bind((source, 0))
                try:
                    probe.connect((address, port))
                except TimeoutError:
                    return "timeout"
                except ConnectionRefusedError:
                    return "refused"
                except OSError as error:
                    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES):
                        return "unreachable"
                    raise
                return "open"

        return self.namespace.call(attempt)

    def ping(self, address: str, timeout: int = 2, source: str | None = None) -> bool:
        """Whether one echo request from outside is answered within ``timeout`` seconds."""
        family = "-6" if ":" in address else "-4"
        origin = ["-I", source] if source else []
        command = ["busybox", "ping", family, "-q", "-c", "1", "-W", str(timeout), *origin, address]
        return run([*self.namespace.enter, *command], check=False).returncode == 0
