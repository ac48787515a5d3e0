# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster behind an API that takes 60 ms a call: a first release to all its guests, an unchanged run, one suspension.

The stand-in server runs in a process of its own. What is needed: each guest read, written and read back, as many calls at a
time as are allowed. Loops of community.proxmox modules are not run; their calls are counted by reading its source: each
module connects anew (one call), looks the guest up in the list of all guests (one), reads the rules (one) and writes each.
That collection has no module for a guest's firewall options or its sets, so its loop does less than is done here.

    python tests/benchmarks/bench_proxmox.py [guests]
"""
from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import READS, WRITES_PER_NODE, Client
from figures import line

from tests.integration.proxmox.provider import Provider, firewalled, guest, service, token
from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

NODES = 10
DELAY = 0.060
FIRST = 100
READS_OF_A_GUEST = 4  # configuration, firewall options, rules, the set of its NIC
WRITES_TO_A_GUEST = 7  # options, a rule, a set with three entries made aside and renamed


def stand_in(place, guests, pipe):
    """The server's process: says where it answers, and ends when told to."""
    cluster = firewalled(Cluster(tuple("pve%d" % number for number in range(NODES)), pace=0.5))
    for number in range(guests):
        cluster.add(guest(FIRST + number, "lxc" if number % 4 == 3 else "qemu", node="pve%d" % (number % NODES)))
    with serve(cluster, place, {"svc@pve!aup": token()}) as server:
        server.api.delay = DELAY
        pipe.send((server.host, server.port, server.ca_file, server.fingerprint))
        pipe.recv()


class Bench(Provider):
    """A provider whose cluster is in another process."""

    def document(self):
        return dict(super().document(), prefixes=["198.18.0.0/15", "2001:db8:1::/48"])

    def counted(self):
        calls = []
        return Client(self.client().target, say=lambda method, path: calls.append((time.monotonic(), method, path))), calls


def one_of(number):
    """A service with addresses of its own."""
    made = service(FIRST + number)
    made["nics"][0]["addresses"] = ["198.18.%d.%d" % (number // 250, number % 250 + 1), "2001:db8:1::%x" % (number + 1)]
    return made


def measure(house, guests):
    client, calls = house.counted()
    began = time.monotonic()
    done = house.provision(client=client)
    took = time.monotonic() - began
    assert done["outcome"] == "changed" and not done["errors"], done["errors"][:3]
    common = [call for call in calls if not call[2].startswith("/nodes/")]
    needed = DELAY * (len(common) + 2 * READS_OF_A_GUEST * guests / READS + WRITES_TO_A_GUEST * guests / NODES / WRITES_PER_NODE)
    print(line("first release to %d guests on %d nodes" % (guests, NODES), "%.1f s, %d calls" % (took, len(calls))))
    print(line("  what its needed calls take, %d reads, %d writes a node" % (READS, WRITES_PER_NODE), "%.1f s" % needed))
    print(line("first release beside what its needed calls take", "%.2f x" % (took / needed), "at most 1.3 x"))
    print(line("  community.proxmox in a loop, rules alone, one at a time", "%d calls, %.0f s" % (4 * guests, 4 * guests * DELAY)))

    client, calls = house.counted()
    began = time.monotonic()
    assert house.again(client=client)["outcome"] == "unchanged"
    print(line("unchanged run", "%.1f s, %d calls" % (time.monotonic() - began, len(calls))))
    own = sum(call[2].startswith("/nodes/") for call in calls)
    print(line("  reads of each guest", "%.2f calls" % (own / guests), "at most 4 calls"))
    print(line("  reads besides: list, switch, each group and set in use", "%d calls" % (len(calls) - own), "at most 3 calls"))
    print(line("  community.proxmox in a loop, rules alone", "%d calls, %.0f s" % (3 * guests, 3 * guests * DELAY)))

    client, calls = house.counted()
    sid = "vps-%d" % FIRST
    began = time.monotonic()
    done = house.enforce("suspend", sid, only=[sid], client=client)
    assert not done["errors"], done["errors"]
    wait = next(number for number, call in enumerate(calls) if "/tasks/" in call[2])
    print(line("suspend of one guest, seen in force", "%.2f s, %d calls" % (time.monotonic() - began, len(calls))))
    print(line("  before its task is waited for", "%d calls" % wait, "at most 6 calls"))


def main():
    guests = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=stand_in, args=(place, guests, theirs), daemon=True)
        process.start()
        try:
            host, port, ca_file, fingerprint = ours.recv()
            server = SimpleNamespace(host=host, port=port, ca_file=ca_file, fingerprint=fingerprint, api=SimpleNamespace(cluster=None))
            with open_ledger(str(place / "ledger.sqlite3"), create=True) as ledger:
                house = Bench(ledger, server, place)
                house.timeout = 60
                house.services = {one["id"]: one for one in map(one_of, range(guests))}
                measure(house, guests)
        finally:
            ours.send("end")
            process.join(10)


if __name__ == "__main__":
    main()
