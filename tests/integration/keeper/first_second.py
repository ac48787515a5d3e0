# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a test node: a capped guest started into a flood, and what had reached its port when; as JSON.

    python -m tests.integration.keeper.first_second
"""
from __future__ import annotations

import json
import os
import socket
import threading
import time

import libvirt

from tests.integration.soak import inside, pairs

FRAME = 1514
FLOOD_BPS = 60_000_000
SECONDS = 1.2
PROCESS = "/run/libvirt/qemu/vps-1.pid"
PORT = "/sys/class/net/tap1/statistics/"


def flood(stop):
    """Frames to the guest's MAC out of the bridge, paced well above the cap."""
    mac = bytes.fromhex(inside.service(1)["mac"].replace(":", ""))
    frame = mac + bytes.fromhex("020000000099") + b"\x88\xb5" + bytes(FRAME - 14)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("br0", 0))
        begin, sent = time.monotonic(), 0
        while not stop.is_set():
            while sent * FRAME * 8 < (time.monotonic() - begin) * FLOOD_BPS:
                try:
                    sock.send(frame)
                except OSError:
                    pass  # the queue is full
                sent += 1
            time.sleep(0.001)


def reached():
    """Frames that came to the guest's port, taken by the guest or not."""
    count = 0
    for name in ("tx_packets", "tx_dropped"):
        try:
            with open(PORT + name, encoding="ascii") as handle:
                count += int(handle.read())
        except OSError:
            return 0  # not there yet
    return count


def watch(domain):
    """Start the guest; `(bytes, seconds)`: what its port has got since there is a process that could take it.

    libvirt makes the port half a second before, and what floods it then is nobody's yet.
    """
    starting = threading.Thread(target=domain.create)
    starting.start()
    # Both are of the last look that saw no process.
    before, since, end, seen = reached(), time.monotonic(), None, (0, 0.0)
    limit = time.monotonic() + 30
    while time.monotonic() < limit and (end is None or time.monotonic() < end):
        count, now = reached(), time.monotonic()
        if not os.path.exists(PROCESS):
            before, since = count, now
        else:
            end = end or since + SECONDS
            seen = (count - before) * FRAME, now - since
        time.sleep(0.005)
    starting.join()
    return seen


def told():
    """What of ours is in traffic control."""
    links = [link for link in inside.observe(1)["links"] if link.startswith("aup")]
    return {"links": len(links), "led": inside.run(["tc", "filter", "show", "dev", "tap1", "ingress"])[1].count("mirred")
            + inside.run(["tc", "filter", "show", "dev", "tap1", "egress"])[1].count("mirred")}


def main():
    house, found = pairs.House(), {}
    house.converge(["bandwidth_cap"])
    domain = libvirt.open("qemu:///system").lookupByName("vps-1")
    hook, aside = "/etc/libvirt/hooks/qemu.d/50-hosting-aup", "/etc/libvirt/hooks/aside"
    stop = threading.Event()
    flooding = threading.Thread(target=flood, args=(stop,))
    flooding.start()
    try:
        for name in ("devices left", "no devices", "no hook"):
            domain.destroy()
            if name != "devices left":  # a pass took them off meanwhile
                house.node.keep(pairs.NOW)
            if name == "no hook":
                os.rename(hook, aside)
            size, seconds = watch(domain)
            found[name] = {"bytes": size, "seconds": seconds, **told()}
            begun = time.monotonic()
            done = house.node.keep(pairs.NOW)
            found[name].update(steps=[step["verb"] for step in done["steps"] if step["engine"] == "tc"], errors=done["errors"],
                               took=time.monotonic() - begun)
        os.rename(aside, hook)
    finally:
        stop.set()
        flooding.join()
    house.converge([])
    found["lifted"] = told()
    print(json.dumps(dict(found, wrong=house.errors)))


if __name__ == "__main__":
    main()
