# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with 1,000 services, 100 of them enforced at once in all ways by one call of the module, beside the bare calls.

Real: a node of the lab with its own libvirtd and control groups, the guests under enforcement running in qemu with a disk each,
nft, traffic control, routes, policy, catalogue and `resolve`. The other guests are defined and off; their taps are in the
bridges. Both sides run on the node with the distribution's Python, in one process, in turns; Ansible's start is in neither.
Bare are the calls that change something (the same text for `nft -f`, the same netlink messages, the same calls of
libvirt, as many of these at once), and with them, as in the other benchmarks, a bare look before and after: each guest's XML
and `nft -j list`. Needs root.

    python tests/benchmarks/bench_enforce.py [services] [enforced] [rounds] [profile]
"""
from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import provider
from bench_node import NOW, catalogue_of, desired_of
from figures import line

from tests.lab.process import run

HERE = Path(__file__).resolve().parent
OPTIONS = {
    "suspend": {"power": "pause"}, "quarantine": {}, "bandwidth_cap": {"rate": "10 Mbit/s"}, "cpu_throttle": {"share": "20%"},
    "io_throttle": {"iops": 50}, "null_route": {}, "port_block": {"ports": [6667], "protocol": "tcp", "direction": "out"},
    "smtp_block": {"ports": [587]},
}


def enforcement(service: dict, kind: str) -> dict:
    """One of the ledger's, on record and begun."""
    return {"id": f"E-{kind}-{service['id']}", "service": service["id"], "kind": kind, "case_id": "T-" + kind, "clause": None,
            "violation": "spam", "reason": "r", "starts_at": NOW, "ends_at": None, "until": "decision", "review_at": None,
            "status": "active", "options": OPTIONS[kind], "actor": "a",
            "snapshot": {**{key: service[key] for key in ("guest", "nics", "nodes", "location", "account_type")}, "policy": None}}


def write_states(folder: Path, services: int, enforced: int, rounds: int) -> None:
    """The desired states that `enforce_node.py` applies in turn."""
    catalogue, policy = catalogue_of(folder / "inventory", services)
    chosen = [catalogue["services"][provider.service(number)["id"]] for number in range(enforced)]
    held = [enforcement(service, kind) for service in chosen for kind in OPTIONS]
    revision = 0
    for number in range(rounds + 1):
        for name, enforcements in ((f"free-{number}", []), (f"held-{number}", held)):
            revision += 1
            (folder / f"{name}.z").write_text(desired_of(catalogue, policy, enforcements, revision), encoding="ascii")


def report(services: int, enforced: int, found: dict) -> None:
    """Print."""
    seconds = found["seconds"]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    bare = [sum(parts) for parts in zip(seconds["nft"], seconds["network"], seconds["libvirt"], strict=True)]
    looked = [one + 2 * look for one, look in zip(bare, seconds["look"], strict=True)]
    base = statistics.median(bare)
    print(f"{services} services, {enforced} of them under {len(OPTIONS)} kinds each, their guests running in qemu; median of {len(bare)} rounds")
    print("  " + ", ".join(f"{count} x {name}" for name, count in sorted(found["steps"].items())))
    print(line("bare calls that change: nft -f, pyroute2, libvirt",
               f"{base:.2f} s ({median['nft']:.2f}, {median['network']:.2f}, {median['libvirt']:.2f})"))
    print(line("  one call of the module (looks, plans, applies, looks again)",
               f"{median['apply']:.2f} s  {median['apply'] / base:.2f} x"))
    print(line("  the same beside them with a bare look before and after",
               f"{statistics.median(looked):.2f} s  {median['apply'] / statistics.median(looked):.2f} x", "at most 1.5 x"))
    print(line("  planning it, a call of its own", f"{median['plan']:.2f} s"))
    print(line("  giving all of it back in one call", f"{median['lift']:.2f} s"))


def main(services: int = 1000, enforced: int = 100, rounds: int = 3, profile: bool = False) -> None:
    """Measure and print."""
    with provider.host() as lab, tempfile.TemporaryDirectory() as place:
        node, began = lab.nodes[0], time.monotonic()
        write_states(Path(place), services, enforced, rounds)
        provider.make_ports(node, 0, services, enforced)
        provider.define_guests(node, 0, services, enforced, paused=False, disks=True)
        lab.say(f"{services} guests, {enforced} of them running, in {time.monotonic() - began:.0f} s")
        into = node.path("/run/enforce")
        into.mkdir()
        for state in Path(place).glob("*.z"):
            (into / state.name).write_bytes(state.read_bytes())
        done = run([*node.enter, "/usr/bin/env", "PYTHONPATH=" + next(entry for entry in sys.path if entry.endswith(("/dev", "/collections"))),
                    "/usr/bin/python3", str(HERE / "enforce_node.py"), "/run/enforce", str(rounds), *(["profile"] if profile else [])],
                   timeout=600, check=False)
        sys.stderr.write(done.stderr)
        if done.returncode:
            raise SystemExit(f"on the node: exit status {done.returncode}")
        report(services, enforced, json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    words = sys.argv[1:]
    main(*[int(word) for word in words if word.isdigit()], profile="profile" in words)
