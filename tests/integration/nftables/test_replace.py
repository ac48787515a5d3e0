# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacing the rules under a flood: no forbidden packet gets out meanwhile, no allowed one is lost."""
from __future__ import annotations

import socket
import threading
import time

import pytest
from filter_lab import MACS, V4
from frames import TCP, UDP, ethernet, ipv4, tcp, tcp_syn, udp
from test_anti_spoofing import PARAMETERS
from traffic_lab import judge

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

TIMES, PAUSE = 100, 0.0002
ENOUGH = 400  # replacements without a guard, by which something must have come through
THERE = _nftables.Observed({"bridge": "something"}, "", {}, {}, frozenset())
HOWS = ["replaced", "rolled back"]
# Somebody else's chain at our place. Made after our tables, it is asked before them, and what comes later before it: so a packet
# is in it for a while between the new rules and the former ones, and a switch meanwhile lets it through both. Without it that takes
# tens of nanoseconds, and a flood may not meet them in a hundred replacements.
_STEPS = "".join("meta mark 0x%x counter\n" % number for number in range(0x51000, 0x51000 + 1500))
SLOW = "add table bridge slow\ndelete table bridge slow\ntable bridge slow {\n%s}\n" % "".join(
    "chain %s {\ntype filter hook %s priority %d; policy accept;\n%s}\n" % (hook, hook, priority, _STEPS)
    for hook, priority in (("prerouting", -310), ("forward", -210)))


def frame(source, port, marker):
    return ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(source, V4["net"], tcp_syn(port, marker)))


class Flood:
    """Packets of a guest's, allowed and forbidden ones, and those of them that came through."""

    def __init__(self, bare):
        self.sender, self.receiver = bare.sockets["a"], bare.sockets["net"]
        self.receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: nothing may be lost on the way to the test
        self.receiver.settimeout(0.05)
        self.allowed = frame(V4["a"], 80, b"<allowed>")
        self.forbidden = [frame("203.0.113.9", 80, b"<forbidden>"), frame(V4["a"], 25, b"<forbidden>")] + [
            ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(V4["a"], V4["net"], segment, protocol=protocol))
            for protocol, segment in (
                (TCP, tcp(40000, 51413, b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0<forbidden>")),
                (TCP, tcp(40000, 7029, b"CAPAB START 1205\n<forbidden>")), (UDP, udp(19, 40000, b"<forbidden>")))]
        self.sent, self.seen = {"allowed": 0, "forbidden": 0}, {"allowed": 0, "forbidden": 0}
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        while not self._ending.is_set():
            self.sender.send(self.allowed)
            for one in self.forbidden:
                self.sender.send(one)
            self.sent["allowed"] += 1
            self.sent["forbidden"] += len(self.forbidden)
            time.sleep(PAUSE)

    def _count(self):
        end = None
        while end is None or time.monotonic() < end:
            try:
                data = self.receiver.recv(2048)
            except TimeoutError:
                data = b""
            for kind in self.seen:
                self.seen[kind] += ("<%s>" % kind).encode() in data
            if self._ending.is_set() and (end is None or data):
                end = time.monotonic() + 0.5


@pytest.fixture
def house(bare):
    """The host with a guest whose packets several controls judge."""
    port = bare.port("tapA")
    port.update(macs=[port["mac"]], controls={"anti_spoofing": {"mode": "enforce", "sources": [V4["a"]]}})
    bare.model["controls"] = {"anti_spoofing": PARAMETERS}
    for control in ("bittorrent", "irc_server", "reflection"):
        judge(bare, control, "enforce")
    # The flood is one of new connections: their limit stays out of its way and is judged all the same.
    judge(bare, "new_connections", "enforce", per_minute=10 ** 6, destinations_per_minute=10 ** 6, mail_per_minute=10 ** 6)
    yield bare
    bare.host.run(["nft", "delete", "table", "bridge", "slow"])


def replacements(bare, how, guarded=True):
    """`f(number)` that puts other rules in the place of those that are there, each time of another shape."""
    changes, references = [], []
    for patterns in (["vnet*", "routed*"], ["vnet*"]):  # the shape changes: both tables are made anew
        bare.model["routed_interfaces"] = patterns
        ruleset = _nftables.build(bare.model)
        references.append(_nftables.reference(bare.host.run, ruleset))
        change = _nftables.plan(ruleset, THERE, references[-1])
        assert change.kind == "rebuild" and change.script.count("delete table") == 2 and change.guard
        changes.append(change if guarded else change._replace(guard=""))
    back = []
    if how == "rolled back":
        for number in range(2):
            _nftables.apply(bare.host.run, changes[number])
            text = _nftables.snapshot_script(bare.observe(), (None, references[number])[number])
            back.append(_nftables.rollback_scripts(text))
        assert [len(scripts) for scripts in back] == [3, 3]

    def replace(number):
        bare.host.check(["nft", "-f", "-"], SLOW)
        if how == "replaced":
            _nftables.apply(bare.host.run, changes[number % 2])
            return
        scripts = back[number % 2]
        for script in scripts if guarded else scripts[1:2]:
            bare.host.check(["nft", "-f", "-"], script)

    _nftables.apply(bare.host.run, changes[1])
    return replace


@pytest.mark.parametrize("how", HOWS)
def test_flood_over_a_hundred_replacements(house, how):
    """By a run, and by the process that puts former rules back which nobody confirmed."""
    replace = replacements(house, how)
    with Flood(house) as flood:
        for number in range(TIMES if how == "replaced" else TIMES // 2):
            replace(number)
    assert flood.sent["allowed"] >= TIMES // 2, "fewer packets than replacements show nothing"
    assert flood.seen == {"allowed": flood.sent["allowed"], "forbidden": 0}
    assert house.plan().kind == "none"


@pytest.mark.parametrize("how", HOWS)
def test_without_its_guard_the_flood_is_let_through(house, how):
    """Otherwise the test above would show nothing of the guard."""
    replace, number = replacements(house, how, guarded=False), 0
    with Flood(house) as flood:
        while not flood.seen["forbidden"] and number < ENOUGH:
            replace(number)
            number += 1
    assert flood.seen["forbidden"], "%d replacements" % number


def test_a_guard_that_was_left_is_found_and_goes(bare):
    """Killed between the switch and the end: the next pass sees the second set of rules, says so and takes it off."""
    bare.apply()
    bare.model["routed_interfaces"] = ["else*"]
    ruleset = _nftables.build(bare.model)
    reference = _nftables.reference(bare.host.run, ruleset)
    change = _nftables.plan(ruleset, bare.observe(), reference)
    bare.host.check(["nft", "-f", "-"], change.guard)
    bare.host.check(["nft", "-f", "-"], change.script)
    left = _nftables.plan(ruleset, bare.observe(), reference)
    assert left.kind == "elements" and "killed" in left.summary[0]
    _nftables.apply(bare.host.run, left)
    assert _nftables.plan(ruleset, bare.observe(), reference).kind == "none"
    bare.host.check(["nft", "-f", "-"], change.guard)
    _nftables.apply(bare.host.run, _nftables.plan_teardown(bare.observe()))
    assert "hosting_aup" not in bare.host.check(["nft", "list", "tables"])
