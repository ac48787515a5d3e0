# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router's command line over SSH on loopback that misbehaves on request; as small as netmiko lets it be."""
from __future__ import annotations

import contextlib
import socket
import threading

import paramiko

PROMPT = "edge# "


class _Server(paramiko.ServerInterface):
    def __init__(self, owner):
        self.owner = owner

    def check_auth_password(self, username, password):
        good = (username, password) == ("aup", "secret-of-the-test")
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username):
        return "password"

    def check_channel_request(self, kind, chanid):
        if self.owner.behaviour == "no_channel":
            return paramiko.OPEN_FAILED_RESOURCE_SHORTAGE
        return paramiko.OPEN_SUCCEEDED

    def check_channel_pty_request(self, *_args):
        return True

    def check_channel_exec_request(self, channel, command):
        if not hasattr(self.owner, "execute"):
            return False
        threading.Thread(target=self.owner.execute, args=(channel, command.decode()), daemon=True).start()
        return True

    def check_channel_shell_request(self, channel):
        threading.Thread(target=self.owner.serve, args=(channel,), daemon=True).start()
        return True


class FakeRouter:
    """A context manager; `answers` maps a line to what is printed for it.

    :param behaviour: `no_banner`, `no_channel`, `silent` (never answers a line in `answers` with None) or None
    """

    def __init__(self, folder, behaviour=None, answers=None, prompt=PROMPT):
        self.prompt = prompt
        self.behaviour, self.answers, self.heard = behaviour, answers or {}, []
        self._key = paramiko.ECDSAKey.generate()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.known_hosts = folder / ("known_hosts_%d" % self.port)
        self.known_hosts.write_text("[127.0.0.1]:%d %s %s\n" % (self.port, self._key.get_name(), self._key.get_base64()))
        self._open = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # or the thread in accept() would keep it listening
        self._sock.close()
        for thing in self._open:
            with contextlib.suppress(OSError):
                thing.close()

    def _accept(self):
        while True:
            try:
                client, _address = self._sock.accept()
            except OSError:
                return
            if self.behaviour == "no_banner":
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(client)
            self._open.append(transport)
            transport.add_server_key(self._key)
            # A client that refuses our key resets the connection; that must not end this thread.
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Server(self))

    def serve(self, channel):
        """The command line: echoes each line, prints its answer and the prompt."""
        channel.sendall(self.prompt)
        line = b""
        while True:
            try:
                byte = channel.recv(1)
            except OSError:
                return
            if not byte:
                return
            if byte not in (b"\n", b"\r"):
                line += byte
                continue
            text, line = line.decode("ascii", "replace"), b""
            self.heard.append(text)
            answer = self.answers.get(text, "")
            if answer is None:
                channel.sendall(text + "\r\n")
                continue
            if answer == "<close>":
                channel.close()
                return
            shown = "something else" if answer == "<other echo>" else text
            answer = "" if answer == "<other echo>" else answer
            channel.sendall("%s\r\n%s%s" % (shown, answer.replace("\n", "\r\n"), self.prompt))
