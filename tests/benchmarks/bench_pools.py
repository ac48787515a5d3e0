# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an update of 20,000 addresses of mining pools costs beside bare nft, and what making that data costs.

Ratios of medians in one run, taken in turns, in a network namespace of this process's own. Needs root.

    PYTHONPATH=.build/dev python tests/benchmarks/bench_pools.py [addresses] [rounds] [services]
"""
from __future__ import annotations

import ipaddress
import os
import statistics
import sys

from bench_nftables import bare_apply, converge, model, must, run, timed

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _data
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._lists import Endpoint, PoolList
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._names import Answer

NOW = 1_800_000_000


def endpoints(count, first=0):
    """That many addresses, half of each family, with a port."""
    four, six = int(ipaddress.ip_address("45.9.0.0")), int(ipaddress.ip_address("2a01:4f8::"))
    return [[str(ipaddress.ip_address((four if n % 2 else six) + n)), 3333 + n % 100] for n in range(first, first + count)]


def with_pools(services, pools):
    """A node on which everybody is under the control."""
    found = model(services)
    for port in found["ports"]:
        port["controls"] = {"mining": {"mode": "enforce", "activities": ["farming", "mining", "nodes"]}}
    found["controls"] = {"mining": {"at": NOW, "pools": pools, "new_pools": [], "ports": {"nodes": {"tcp": [8333]}}}}
    return found


def bare_script(pools):
    """The plain way: empty the sets and fill them, in one transaction."""
    lines = []
    for family in ("bridge", "inet"):
        for version, colon in (("4", False), ("6", True)):
            name = "%s %s mining_pools%s" % (family, _nftables.TABLE, version)
            found = ["%s . %d" % (address, port) for address, port in pools if (":" in address) == colon]
            lines.append("flush set %s\nadd element %s { %s }\n" % (name, name, ", ".join(found)))
    return "".join(lines)


def made_from_answers(count, former):
    """What the controller does with answers: judge each address against what is spared."""
    hosts = ["h%d.example.com" % n for n in range(count // 20)]
    lists = [PoolList("bench", "0" * 64, frozenset(Endpoint(host, 3333, "mining") for host in hosts), {}, [])]
    found = [address for address, _port in endpoints(count)]
    answers = {host: Answer(tuple(found[20 * n:20 * n + 20]), 60, None) for n, host in enumerate(hosts)}
    spared = _data.Spared([("10.%d.0.0/16" % n, "the provider's own prefixes") for n in range(200)])
    return _data.update(former, lists, answers, spared, NOW, _data.Settings(86400, 86400, 7 * 86400, 64, False, ())).document


def main(addresses=20000, rounds=5, services=200):
    """Measure and print."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, for a network namespace")
    if os.environ.get("AUP_BENCH_INSIDE") != "1":
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], dict(os.environ, AUP_BENCH_INSIDE="1"))
    none, old = with_pools(services, []), with_pools(services, endpoints(addresses))
    new = with_pools(services, endpoints(addresses, first=addresses))
    fifth = with_pools(services, endpoints(addresses, first=addresses // 5))
    cached = _nftables.reference(run, _nftables.build(none))
    converge(none, cached)
    times = {name: [] for name in ("bare first", "first", "bare all", "all", "fifth")}
    for _round in range(rounds):
        for name, wanted in (("first", old), ("fifth", fifth), ("all", new)):
            took, kinds = timed(converge, wanted, cached)
            assert kinds == ("elements", "none"), kinds
            times[name].append(took)
        times["bare all"].append(timed(bare_apply, bare_script(old["controls"]["mining"]["pools"]))[0])
        assert converge(none, cached)[1] == "none"
        times["bare first"].append(timed(bare_apply, bare_script(old["controls"]["mining"]["pools"]))[0])
        assert converge(none, cached)[1] == "none"
    making, document = timed(made_from_answers, addresses, None)
    again, _same = timed(made_from_answers, addresses, document)
    median = {name: statistics.median(values) for name, values in times.items()}
    must(["nft", "flush", "ruleset"])
    sys.stdout.write("%d addresses in both tables, %d services, median of %d rounds\n" % (addresses, services, rounds))
    for label, name, against in (
            ("nft -j list, nft -f, nft -j list: sets filled", "bare first", None),
            ("  observe, plan, apply, observe, plan: all new", "first", "bare first"),
            ("nft -j list, nft -f, nft -j list: sets emptied and filled", "bare all", None),
            ("  observe, plan, apply, observe, plan: all others", "all", "bare all"),
            ("  observe, plan, apply, observe, plan: a fifth others", "fifth", "bare all")):
        ratio = "%5.2f x (at most 2 x)" % (median[name] / median[against]) if against else ""
        sys.stdout.write("%-60s %7.3f s  %s\n" % (label, median[name], ratio))
    sys.stdout.write("%-60s %7.3f s, against the former data %.3f s\n" % ("data from answers (controller, without DNS)", making, again))


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:]])
