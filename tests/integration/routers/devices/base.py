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

from tests.integration.routers.devices.ports import SERVERS, Running
from tests.unit.routers.fake_router import FakeRouter

OWN = {4: "192.0.2.1/28", 6: "2001:db8:1::1/64"}
PEERS = ("192.0.2.2", "2001:db8:1::2", "192.0.2.3", "2001:db8:1::3")
RTBH = {"tag": 41667, "route_map": "RTBH", "trigger": "64500:666", "upstreams": [
    {"name": "up1", "neighbors": list(PEERS[:2]), "community": "65535:666", "max": 50},
    {"name": "up2", "neighbors": list(PEERS[2:]), "community": "64502:999", "max": 50}]}


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
        self._running = Running()
        self.equip()
        self.startup, self.pending = copy.deepcopy(self.running), None
        self.before_entering = None  # what another operator does between our read and our write
        self.refuse_commit = {}  # `{pattern of a configuration line: what the router says of it when it is to act}`
        self.lines, self.complaints = [], {}
        self.cut, self.cuts = None, 0
        self.locked_by = None
        self.dead_rib = False  # routes are configured and don't act
        # BGP's part of the configuration; what is announced follows from it.
        self.redistribute = {4: "RTBH", 6: "RTBH"}
        self.maps = {"RTBH": [("tag", RTBH["tag"], RTBH["trigger"])]}
        self.maps.update({"TO-" + up["name"]: [("community", "TRIGGER", up["community"] + " no-export")] for up in RTBH["upstreams"]})
        self.out = {peer: "TO-" + up["name"] for up in RTBH["upstreams"] for peer in up["neighbors"]}
        self.down, self.deaf = set(), set()  # without a session; not told for no reason one can see

    @property
    def running(self):
        """The configuration that acts: routes, and beside them what is on ports."""
        return self._running

    @running.setter
    def running(self, value):
        self._running = value if isinstance(value, Running) else Running(value, self._running)

    @property
    def startup(self):
        """The configuration that a restart reads."""
        return self._startup

    @startup.setter
    def startup(self, value):
        self._startup = value if isinstance(value, Running) else Running(value, self._running)

    def equip(self):
        """Interfaces of servers, where the imitation has any."""

    def equip_faces(self):
        """The same as blocks of a running configuration."""
        for number, ends, _own in SERVERS.values():
            body = []
            for end in ends:
                interface = ipaddress.ip_interface(end)
                body.append("ipv6 address %s" % end if interface.version == 6 else "ip address %s" % (
                    end if self.platform == "eos" else "%s %s" % (interface.ip, interface.netmask)))
            self.running.faces[self.face(number)] = ["no switchport"] * (self.platform == "eos") + body

    def face(self, number):
        """Name of an interface."""
        raise NotImplementedError(number)

    def objects_to(self, lines):
        """What is said of a commit that holds a line which is to be refused."""
        return "".join(said for pattern, said in self.refuse_commit.items() if any(re.search(pattern, line) for line in lines))

    def interfere(self):
        """Another operator's edit, once."""
        act, self.before_entering = self.before_entering, None
        if act:
            act()

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

    def told(self):
        """`{prefix: (communities in BGP, {peer: communities that it hears})}`."""
        found = {}
        for prefix, routes in self.running.items():
            version = ipaddress.ip_network(prefix).version
            entries = self.maps.get(self.redistribute.get(version), ())
            marked = [text for target, tag in routes for kind, value, text in entries if (target, kind, value) == ("drop", "tag", tag)]
            if marked and not self.dead_rib:
                found[prefix] = (marked[0].split(), {
                    peer: text.split() for peer in PEERS if peer not in self.down | self.deaf
                    and ipaddress.ip_address(peer).version == version for _kind, _value, text in self.maps.get(self.out.get(peer), ())})
        return found

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

    def answer(self, session, text):
        """(what is said to a line, whether the connection ends); None where it ends before the line was heard."""
        cut = self.cut and self.cuts > 0 and re.fullmatch(self.cut[0], text)
        if cut:
            self.cuts -= 1
            if self.cut[1] == "before":
                return None, True
        said = next((said for pattern, said in self.complaints.items() if re.fullmatch(pattern, text)), None)
        return session.line(text) if said is None else said, bool(cut)

    def _answer(self, channel, session, text):
        setup = not text or self.SETUP.fullmatch(text)
        if not setup:
            self.lines.append(text)
        said, cut = (session.line(text) if text else "", False) if setup else self.answer(session, text)
        if said is None or cut:
            return False
        channel.sendall("%s\r\n%s%s" % (text, said.replace("\n", "\r\n"), session.prompt()))
        return True


def bgp_lines(device, indent, six=str):
    """The configuration of BGP as EOS and IOS-XE write it, from `router bgp` on, and the route maps."""
    lines = ["router bgp 64500"]
    lines += [indent + "neighbor %s remote-as 6450%d" % (six(peer), number) for number, peer in enumerate(PEERS, 1)]
    for version in (4, 6):
        mine = [peer for peer in PEERS if ipaddress.ip_address(peer).version == version]
        lines += [indent + "!", indent + "address-family ipv%d" % version]
        body = ["redistribute static route-map %s" % self for self in [device.redistribute.get(version)] if self]
        for peer in mine:
            body += ["neighbor %s %s" % (six(peer), what) for what in ("activate", "send-community")]
            body += ["neighbor %s route-map %s out" % (six(peer), device.out[peer])] if device.out.get(peer) else []
        lines += [indent * 2 + line for line in body] + [indent + "exit-address-family"] * (indent == " ")
    for name, entries in device.maps.items():
        for number, (kind, value, text) in enumerate(entries, 1):
            lines += ["!", "route-map %s permit %d" % (name, number * 10), indent + "match %s %s" % (kind, value),
                      indent + "set community " + text]
    return "".join(line + "\n" for line in lines)


def statics(running, version):
    """`[(network, target, tag)]` of one family, in order."""
    found = [(ipaddress.ip_network(prefix), target, tag) for prefix, routes in running.items() for target, tag in routes]
    return sorted((entry for entry in found if entry[0].version == version), key=lambda entry: (entry[0], entry[1]))
