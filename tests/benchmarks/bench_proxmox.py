# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster behind an API that takes 60 ms a call: a first release to all its guests, an unchanged run, one suspension.

The stand-in server runs in a process of its own. What is needed: each guest read, written and read back, as many calls at a
time as are allowed. Beside it a loop of community.proxmox.proxmox_firewall over the same guests, which puts one reference to a
group on each: of its release 1.4.0, run here, 4 calls a guest were counted, and 3 where nothing was to be done (connect, list
all guests, read the rules, write one). That collection has no module for a guest's firewall options or its sets, so its loop
does less than is done here. With COMMUNITY_PROXMOX=FOLDER_OF_COLLECTIONS it is run over some of the guests, counted and timed.

    python tests/benchmarks/bench_proxmox.py [guests]
"""
from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import READS, WRITES_PER_NODE, Client
from figures import line

from tests.integration.proxmox.provider import SECRET, Provider, firewalled, guest, service, token
from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

NODES = 10
DELAY = 0.060
FIRST = 100
LOOPED = 10  # guests of nobody, for the loop of modules
READS_OF_A_GUEST = 4  # configuration, firewall options, rules, the set of its NIC
WRITES_TO_A_GUEST = 7  # options, a rule, a set with three entries made aside and renamed


def stand_in(place, guests, pipe):
    """The server's process: says where it answers, and ends when told to."""
    cluster = firewalled(Cluster(tuple("pve%d" % number for number in range(NODES)), pace=0.5))
    for number in range(guests):
        cluster.add(guest(FIRST + number, "lxc" if number % 4 == 3 else "qemu", node="pve%d" % (number % NODES)))
    for number in range(LOOPED):
        cluster.add(guest(FIRST + guests + number))
    with serve(cluster, place, {"svc@pve!aup": token()}) as server:
        server.api.delay = DELAY
        pipe.send((server.host, server.port, server.ca_file, server.fingerprint))
        while pipe.recv() == "count":
            pipe.send(len(server.api.seen))


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


def loop_of_modules(house, pipe, numbers):
    """(calls, seconds) of a playbook that loops over guests with the module of community.proxmox, twice."""
    task = {"api_host": house.server.host, "api_port": house.server.port, "api_user": "svc@pve", "api_token_id": "aup",
            "api_token_secret": SECRET, "validate_certs": False, "state": "present", "level": "vm", "vmid": "{{ item }}",
            "rules": [{"type": "group", "action": "aup-smtp", "enable": True, "pos": 0, "comment": "theirs"}]}
    (house.place / "loop.yml").write_text(json.dumps([{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "tasks": [{"name": "Rules", "community.proxmox.proxmox_firewall": task, "loop": numbers}]}]))
    found = []
    for _turn in range(2):
        pipe.send("count")
        before, began = pipe.recv(), time.monotonic()
        subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-e", "ansible_python_interpreter=" + sys.executable,
             str(house.place / "loop.yml")], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.environ["COMMUNITY_PROXMOX"], "ANSIBLE_HOME": str(house.place / "home")})
        took = time.monotonic() - began
        pipe.send("count")
        found.append((pipe.recv() - before, took))
    return found


def measure(house, guests, pipe):
    loop = []
    if os.environ.get("COMMUNITY_PROXMOX"):
        numbers = [FIRST + guests + number for number in range(LOOPED)]
        loop = loop_of_modules(house, pipe, numbers)
        for (number, took), what in zip(loop, ("first", "unchanged"), strict=True):
            print(line("community.proxmox in a loop over %d guests, rules alone, %s" % (LOOPED, what), "%.1f calls and %.2f s a guest" % (
                number / LOOPED, took / LOOPED)))
    first, unchanged = [number / LOOPED for number, _took in loop] or (4, 3)

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
    print(line("  community.proxmox in a loop, rules alone, one at a time", "%d calls, %.0f s" % (first * guests, first * guests * DELAY)))

    client, calls = house.counted()
    began = time.monotonic()
    assert house.again(client=client)["outcome"] == "unchanged"
    print(line("unchanged run", "%.1f s, %d calls" % (time.monotonic() - began, len(calls))))
    own = sum(call[2].startswith("/nodes/") for call in calls)
    print(line("  reads of each guest", "%.2f calls" % (own / guests), "at most 4 calls"))
    print(line("  reads besides: list, switch, each group and set in use", "%d calls" % (len(calls) - own), "at most 3 calls"))
    print(line("  community.proxmox in a loop, rules alone", "%d calls, %.0f s" % (unchanged * guests, unchanged * guests * DELAY)))

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
                measure(house, guests, ours)
        finally:
            ours.send("end")
            process.join(10)


if __name__ == "__main__":
    main()
