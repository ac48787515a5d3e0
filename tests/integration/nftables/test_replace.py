# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacing the rules under a flood: no forbidden packet gets out meanwhile, no allowed one is lost."""
from __future__ import annotations

import socket
import threading
import time

from filter_lab import MACS, V4
from frames import ethernet, ipv4, tcp_syn
from test_anti_spoofing import PARAMETERS

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

TIMES, PAUSE = 100, 0.0002
NOTHING = _nftables.Observed({}, "", {}, {}, frozenset())


def frame(source, port, marker):
    return ethernet(MACS["net"], MACS["a"], 0x0800, ipv4(source, V4["net"], tcp_syn(port, marker)))


def test_flood_over_a_hundred_replacements(bare):
    port = bare.port("tapA")
    port.update(macs=[port["mac"]], controls={"anti_spoofing": {"mode": "enforce", "sources": [V4["a"]]}})
    bare.model["controls"] = {"anti_spoofing": PARAMETERS}
    bare.apply()
    scripts = []
    for patterns in (["vnet*", "routed*"], ["vnet*"]):  # the shape changes: both tables are made anew
        bare.model["routed_interfaces"] = patterns
        ruleset = _nftables.build(bare.model)
        change = _nftables.plan(ruleset, NOTHING, _nftables.reference(bare.host.run, ruleset))
        assert change.kind == "rebuild" and change.script.count("delete table") == 2
        scripts.append(change.script)
    allowed = frame(V4["a"], 80, b"<allowed>")
    forbidden = [frame("203.0.113.9", 80, b"<forbidden>"), frame(V4["a"], 25, b"<forbidden>")]
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
            sent["forbidden"] += 2
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
        for number in range(TIMES):
            bare.host.check(["nft", "-f", "-"], scripts[number % 2])
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert sent["allowed"] >= TIMES, "fewer packets than replacements show nothing"
    assert seen == {"allowed": sent["allowed"], "forbidden": 0}
    assert bare.plan().kind == "none"
