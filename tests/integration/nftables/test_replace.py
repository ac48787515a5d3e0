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
THERE = _nftables.Observed({"bridge": "something"}, "", {}, {}, frozenset())


def frame(source, port, marker):
    return ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(source, V4["net"], tcp_syn(port, marker)))


@pytest.mark.parametrize("how", ["replaced", "rolled back"])
def test_flood_over_a_hundred_replacements(bare, how):
    """By a run, and by the process that puts former rules back which nobody confirmed."""
    port = bare.port("tapA")
    port.update(macs=[port["mac"]], controls={"anti_spoofing": {"mode": "enforce", "sources": [V4["a"]]}})
    bare.model["controls"] = {"anti_spoofing": PARAMETERS}
    for control in ("bittorrent", "irc_server", "reflection"):
        judge(bare, control, "enforce")
    # The flood is one of new connections: their limit stays out of its way and is judged all the same.
    judge(bare, "new_connections", "enforce", per_minute=10 ** 6, destinations_per_minute=10 ** 6, mail_per_minute=10 ** 6)
    changes, references = [], []
    for patterns in (["vnet*", "routed*"], ["vnet*"]):  # the shape changes: both tables are made anew
        bare.model["routed_interfaces"] = patterns
        ruleset = _nftables.build(bare.model)
        references.append(_nftables.reference(bare.host.run, ruleset))
        change = _nftables.plan(ruleset, THERE, references[-1])
        assert change.kind == "rebuild" and change.script.count("delete table") == 2
        changes.append(change)
    allowed = frame(V4["a"], 80, b"<allowed>")
    forbidden = [frame("203.0.113.9", 80, b"<forbidden>"), frame(V4["a"], 25, b"<forbidden>")] + [
        ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(V4["a"], V4["net"], segment, protocol=protocol))
        for protocol, segment in (
            (TCP, tcp(40000, 51413, b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0<forbidden>")),
            (TCP, tcp(40000, 7029, b"CAPAB START 1205\n<forbidden>")), (UDP, udp(19, 40000, b"<forbidden>")))]
    if how == "rolled back":
        back = []
        for number in range(2):
            _nftables.apply(bare.host.run, changes[number])
            text = _nftables.snapshot_script(bare.observe(), (None, references[number])[number])
            back.append(_nftables.rollback_scripts(text))
        assert [len(scripts) for scripts in back] == [3, 3]

    def replace(number):
        if how == "replaced":
            _nftables.apply(bare.host.run, changes[number % 2])
        else:
            for script in back[number % 2]:
                bare.host.check(["nft", "-f", "-"], script)

    sender, receiver = bare.sockets["a"], bare.sockets["net"]
    receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: nothing may be lost on the way to the test
    receiver.settimeout(0.05)
    ending = threading.Event()
    sent, seen = {"allowed": 0, "forbidden": 0}, {"allowed": 0, "forbidden": 0}

    def flood():
        while not ending.is_set():
            sender.send(allowed)
            for one in forbidden:
                sender.send(one)
            sent["allowed"] += 1
            sent["forbidden"] += len(forbidden)
            time.sleep(PAUSE)

    def count():
        end = None
        while end is None or time.monotonic() < end:
            try:
                data = receiver.recv(2048)
            except TimeoutError:
                data = b""
            for kind in seen:
                seen[kind] += ("<%s>" % kind).encode() in data
            if ending.is_set() and (end is None or data):
                end = time.monotonic() + 0.5

    threads = [threading.Thread(target=flood), threading.Thread(target=count)]
    for thread in threads:
        thread.start()
    try:
        for number in range(TIMES if how == "replaced" else TIMES // 2):
            replace(number)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert sent["allowed"] >= TIMES // 2, "fewer packets than replacements show nothing"
    assert seen == {"allowed": sent["allowed"], "forbidden": 0}
    assert bare.plan().kind == "none"


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
