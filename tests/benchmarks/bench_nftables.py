# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the packet filter's code costs beside bare nft, for 10,000 services with 1,000 exemptions.

Ratios of medians in one run, taken in turns, in a network namespace of this process's own. Needs root.

    PYTHONPATH=.build/dev python tests/benchmarks/bench_nftables.py [services] [rounds]
"""
from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables


def run(argv, stdin=None):
    """The runner: `(rc, stdout, stderr)`."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def model(services):
    """A node with that many services, a tenth of them exempt."""
    return {
        "uplinks": ["eth1"], "bridges": ["br0"], "routed_interfaces": ["vnet*"],
        "ports": [{
            "name": "tap%d" % n, "mac": "52:54:%02x:%02x:%02x:01" % (n >> 16, n >> 8 & 255, n & 255), "bridge": "br0",
            "service": "vps-%d" % n, "hold": None,
            "smtp": {"mode": "exempt" if n % 10 == 0 else "enforce", "ports": [25]},
        } for n in range(services)],
        "held_macs": {"dark": [], "quarantine": []},
        "smtp": {"unknown": {"mode": "enforce", "ports": [25]}, "smarthosts": ["192.0.2.25", "2001:db8::25"]},
        "rescue": ["192.0.2.0/28", "2001:db8:5::/64"],
    }


def must(argv, stdin=None):
    """Output of a command that has to work."""
    rc, out, err = run(argv, stdin)
    if rc != 0:
        raise SystemExit("%s: %s" % (" ".join(argv[:3]), err[:500]))
    return out


def timed(function, *args):
    """`(seconds, result)`."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def converge(wanted, cached):
    """What the node module does: observe, plan, apply, observe and plan again. Returns the kinds."""
    ruleset = _nftables.build(wanted)
    reference = _nftables.reference(run, ruleset, cached)
    change = _nftables.plan(ruleset, _nftables.observe(run), reference)
    _nftables.apply(run, change)
    after = _nftables.plan(ruleset, _nftables.observe(run), reference)
    return change.kind, after.kind


def unchanged(wanted, cached):
    """A run that finds nothing to do."""
    ruleset = _nftables.build(wanted)
    return _nftables.plan(ruleset, _nftables.observe(run), _nftables.reference(run, ruleset, cached)).kind


def bare_list():
    """The plain way to look: everything as JSON."""
    return must(["nft", "-j", "list", "ruleset"])


def bare_apply(script):
    """The plain way to list, load and list."""
    bare_list()
    must(["nft", "-f", "-"], script)
    bare_list()


def bare_parse():
    """List and parse."""
    return json.loads(bare_list())


def child_memory(services):
    """Peak memory of a process that converges from nothing, in MiB: itself, and the largest nft it ran."""
    script = ("import sys, resource; sys.path.insert(0, sys.argv[1]); import bench_nftables as b; "
              "kinds = b.converge(b.model(int(sys.argv[2])), None); assert kinds[1] == 'none', kinds; "
              "print(*[resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)])")
    out = must([sys.executable, "-c", script, os.path.dirname(os.path.abspath(__file__)), str(services)])
    return [int(word) / 1024 for word in out.split()]


def main(services=10000, rounds=7):
    """Measure and print."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, for a network namespace")
    if os.environ.get("AUP_BENCH_INSIDE") != "1":
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], dict(os.environ, AUP_BENCH_INSIDE="1"))
    memory, nft_memory = child_memory(services)
    wanted = model(services)
    ruleset = _nftables.build(wanted)
    cached = _nftables.reference(run, ruleset)
    script = _nftables.snapshot_script(_nftables.observe(run))  # what the child left: the same ruleset for bare nft
    one = json.loads(json.dumps(wanted))
    one["ports"][7]["hold"] = "dark"
    times = {name: [] for name in (
        "bare apply", "bare replace", "bare one", "first apply", "replace", "bare parse", "unchanged", "one hold")}
    for _round in range(rounds):
        must(["nft", "flush", "ruleset"])
        times["bare apply"].append(timed(bare_apply, script)[0])
        must(["nft", "flush", "ruleset"])
        took, kinds = timed(converge, wanted, cached)
        assert kinds == ("rebuild", "none"), kinds
        times["first apply"].append(took)
        times["bare replace"].append(timed(bare_apply, script)[0])
        must(["nft", "add", "chain", "inet", _nftables.TABLE, "drift"])
        took, kinds = timed(converge, wanted, cached)
        assert kinds == ("rebuild", "none"), kinds
        times["replace"].append(took)
        times["bare one"].append(timed(bare_apply, "add element bridge %s rescue4 { 198.51.100.%d }\n" % (_nftables.TABLE, _round))[0])
        must(["nft", "flush", "set", "bridge", _nftables.TABLE, "rescue4"])
        must(["nft", "add", "element", "bridge", _nftables.TABLE, "rescue4", "{ 192.0.2.0/28 }"])
        times["bare parse"].append(timed(bare_parse)[0])
        took, kind = timed(unchanged, wanted, cached)
        assert kind == "none"
        times["unchanged"].append(took)
        took, kinds = timed(converge, one, cached)
        assert kinds == ("elements", "none"), kinds
        times["one hold"].append(took)
    median = {name: statistics.median(values) for name, values in times.items()}
    rows = [
        ("nft -j list, nft -f, nft -j list: tables absent", median["bare apply"], None, None),
        ("  observe, plan, apply, observe, plan", median["first apply"], "bare apply", 2),
        ("nft -j list, nft -f, nft -j list: tables replaced", median["bare replace"], None, None),
        ("  observe, plan, apply, observe, plan after a hand edit", median["replace"], "bare replace", 2),
        ("nft -j list, nft -f, nft -j list: one element", median["bare one"], None, None),
        ("  observe, plan, apply, observe, plan: one hold", median["one hold"], "bare one", 2),
        ("nft -j list and parse", median["bare parse"], None, None),
        ("  unchanged: observe, plan", median["unchanged"], "bare parse", 2),
    ]
    sys.stdout.write("%d services, %d exempt, median of %d rounds\n" % (services, services // 10, rounds))
    for label, seconds, against, bound in rows:
        ratio = "%5.2f x (at most %d x)" % (seconds / median[against], bound) if against else ""
        sys.stdout.write("%-56s %7.3f s  %s\n" % (label, seconds, ratio))
    sys.stdout.write("%-56s %7.0f MiB (under 300 MiB), largest nft %.0f MiB\n" % ("peak memory of our process", memory, nft_memory))
    sys.stdout.write("%-56s %7.0f MiB\n" % ("this benchmark's own peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:]])
