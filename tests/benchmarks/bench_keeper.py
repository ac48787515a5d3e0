# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper's idle pass over 1,000 services, and as many ends at one instant, in a namespace of this process's own.

First all are exempt from port 25 and will not be; then each is under one enforcement, which ends: a bandwidth cap, a null route,
a port block or a quarantine, a quarter each. Real: nft, traffic control, routes, the ports, the desired state, the files.
libvirt is its own test driver in this process, with every guest running, so its daemon's share is not in the figure.
Counted is the processor time of this process and of nft. Needs root.

    python tests/benchmarks/bench_keeper.py [services] [rounds]
"""
from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from bench_nftables import must, run
import provider
from bench_enforce import enforcement
from bench_node import NOW, catalogue_of, converge, desired_of, desired_state, make_host
from figures import line, spread

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack, unpack

END = NOW + 1000
KINDS = ("bandwidth_cap", "null_route", "port_block", "quarantine")


def processor_seconds() -> float:
    """Of this process and of the programs it has started and waited for."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def ends_of_all_kinds(folder: Path, services: int, uri: str) -> tuple[float, float, dict[str, int]]:
    """Seconds and processor seconds of the one pass in which an enforcement of each service ends, and its steps by kind."""
    catalogue, policy = catalogue_of(folder / "inventory", services)
    held = [dict(enforcement(catalogue["services"][provider.service(number)["id"]], KINDS[number % len(KINDS)]), until="time", ends_at=END)
            for number in range(services)]
    packed, node = desired_of(catalogue, policy, held), _kvm_node.KvmNode(run, uri=uri, root=str(folder / "other"))
    done = node.apply(packed, node.plan(packed)["plan_hash"])
    if done["errors"] or done["unverified"]:
        raise SystemExit(f"not achieved: {(done['errors'] + done['unverified'])[:2]}")
    os.unlink(done["confirm"])
    assert not node.keep(END - 1)["changed"]
    before, began = processor_seconds(), time.perf_counter()
    passed = node.keep(END)
    took, spent = time.perf_counter() - began, processor_seconds() - before
    assert len(passed["ended"]) == services and not passed["errors"], (len(passed["ended"]), passed["errors"][:2])
    assert not node.keep(END)["changed"]
    return took, spent, Counter(f"{step['engine']} {step['verb']}" for step in passed["steps"])


def main(services: int = 1000, rounds: int = 5) -> None:
    """Measure and print."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, for a network namespace")
    if os.environ.get("AUP_BENCH_INSIDE") != "1":
        os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv], dict(os.environ, AUP_BENCH_INSIDE="1"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        desired = unpack(desired_state(folder / "inventory", services))
        for service in desired["services"]:  # every one is exempt and will not be
            service["then"] = [{"at": END, "smtp": {"mode": "enforce", "ports": [25]}}]
            service["smtp"] = {"mode": "exempt", "ports": [25]}
        packed, uri = pack(desired), make_host(folder, services)
        gc.disable()
        node = _kvm_node.KvmNode(run, uri=uri, root=str(folder))
        converge(node, packed, "rebuild")
        node.keep(NOW)
        idle, took = [], []
        for _ in range(rounds):
            before, began = processor_seconds(), time.perf_counter()
            assert not node.keep(NOW)["changed"]
            took.append(time.perf_counter() - began)
            idle.append(processor_seconds() - before)
        began = time.perf_counter()
        assert node.keep(END)["changed"]
        ends = time.perf_counter() - began
        assert not node.keep(END)["changed"]
        must(["nft", "flush", "ruleset"])
        whole, spent, steps = ends_of_all_kinds(folder, services, uri)
    print(f"{services} services, all guests running; median of {rounds} rounds; elapsed {spread(took)}")
    print(line("idle pass of the keeper, processor time", f"{statistics.median(idle):.2f} s", "under 1 s"))
    print(line(f"{services} ends at one instant, in the packet filter alone", f"{ends:.2f} s", "under 5 s"))
    print("  " + ", ".join(f"{count} x {name}" for name, count in sorted(steps.items())))
    print(line(f"{services} enforcements of {len(KINDS)} kinds end, processor time {spent:.2f}", f"{whole:.2f} s", "under 5 s"))


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:]])
