# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routers of vendors, as the manuals describe them: small, stateful, over real SSH on loopback.

They hold our reading of the manuals, no more: what a device does beside it, nobody saw here.
"""
from __future__ import annotations

import contextlib
import copy
import ipaddress
import re

from tests.unit.routers.fake_router import FakeRouter

OWN = {4: "192.0.2.1/28", 6: "2001:db8:1::1/64"}
PEERS = ("192.0.2.2", "2001:db8:1::2")


class Device(FakeRouter):
    """What all platforms share: routes in the running and the saved configuration, and a change that waits.

    :ivar running: `{prefix: [(target, tag)]}`; target `drop`, or a next hop
    :ivar lines: every line that was sent after the terminal was set up
    :ivar cut: `(pattern, "before" | "after")`: the connection ends at such a line, before or after it acts
    :ivar cuts: how often
    :ivar complaints: `{pattern: what is answered instead of taking a line}`
    """

    SETUP = re.compile("")

    def __init__(self, folder):
        super().__init__(folder)
        self.running, self.startup = {}, {}
        self.pending = None
        self.lines, self.complaints = [], {}
        self.cut, self.cuts = None, 0
        self.locked_by = None
        self.dead_rib = False  # routes are configured and don't act

    def put(self, prefix, target="drop", tag=None):
        """Somebody's own route, saved."""
        self.running.setdefault(prefix, []).append((target, tag))
        self.startup = copy.deepcopy(self.running)

    def arm(self, who, new):
        """A commit that waits to be confirmed."""
        self.pending = (who, copy.deepcopy(self.running))
        self.running = new

    def expire(self):
        """The timer of an unconfirmed change runs out."""
        if self.pending:
            self.running, self.pending = self.pending[1], None

    def written(self):
        """Lines that ask for more than reading."""
        return [line for line in self.lines if not line.startswith(self.READS)]

    def left_over(self):
        """What an aborted change of ours still occupies."""
        return []

    def serve(self, channel):
        """One session."""
        session = self.Session(self)
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(session.prompt())
            line = b""
            while True:
                byte = channel.recv(1)
                if not byte:
                    break
                if byte not in (b"\n", b"\r"):
                    line += byte
                    continue
                text, line = line.decode("ascii", "replace"), b""
                if not self._answer(channel, session, text):
                    break
        session.left()
        with contextlib.suppress(OSError, EOFError):
            channel.close()

    def _answer(self, channel, session, text):
        setup = not text or self.SETUP.fullmatch(text)
        if not setup:
            self.lines.append(text)
        cut = self.cut and self.cuts > 0 and not setup and re.fullmatch(self.cut[0], text)
        if cut:
            self.cuts -= 1
        if cut and self.cut[1] == "before":
            return False
        said = next((said for pattern, said in self.complaints.items() if re.fullmatch(pattern, text)), None)
        if said is None:
            said = session.line(text) if text else ""
        if said is None or cut:
            return False
        channel.sendall("%s\r\n%s%s" % (text, said.replace("\n", "\r\n"), session.prompt()))
        return True


def statics(running, version):
    """`[(network, target, tag)]` of one family, in order."""
    found = [(ipaddress.ip_network(prefix), target, tag) for prefix, routes in running.items() for target, tag in routes]
    return sorted((entry for entry in found if entry[0].version == version), key=lambda entry: (entry[0], entry[1]))
