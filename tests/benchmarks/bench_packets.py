# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a 64-byte packet costs on a bridge: no rules, ours with 10 and with 10,000 services, each control and all of
them, linear iptables.

Packets go from one namespace over a bridge to another, GRO off, in alternating rounds; the cost of a packet is
the time from the first one sent until the last one was counted on the far side. Needs root.

    PYTHONPATH=.build/dev python tests/benchmarks/bench_packets.py [pairs] [packets] [group]
"""
from __future__ import annotations

import os
import statistics
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), *parts) for parts in ((), ("..", "integration"))]

from control_models import CONTROLS, HERE, controlled
from frames import ethernet, ipv4, ipv6, tcp
from netns import Net, leave_on_signals

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

THERE = "52:54:00:00:00:02"
PART = 200  # packets of one measurement
LINEAR = 1000  # iptables with 10,000 rules takes too long for a benchmark; a thousand show the slope


def load_ours(host, services, controls=()):
    """Our rules for that many services; the sender is the last of them, exempt, so that mail passes."""
    ruleset = _nftables.build(controlled(services, controls))
    reference = _nftables.reference(host.run, ruleset)
    _nftables.apply(host.run, _nftables.plan(ruleset, _nftables.observe(host.run), reference))


def load_iptables(host, services):
    """The linear way: a rule for each service, through br_netfilter."""
    host.sysctl({"net.bridge.bridge-nf-call-iptables": 1, "net.bridge.bridge-nf-call-ip6tables": 1})
    rules = ["*filter", *("-A FORWARD -m physdev --physdev-in tap%d -p tcp --dport 25 -j DROP" % n for n in range(services)), "COMMIT"]
    for program in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        rc, _out, err = host.run([program], "\n".join(rules) + "\n")
        if rc != 0:
            raise RuntimeError("%s: %s" % (program, err[:300]))


def clear(host):
    """No rules at all."""
    host.check("nft flush ruleset")
    host.sysctl({"net.bridge.bridge-nf-call-iptables": 0, "net.bridge.bridge-nf-call-ip6tables": 0})


def received(there):
    """Packets the far side has got."""
    text = there.check("cat /proc/net/dev")
    line = next(line for line in text.splitlines() if "eth0:" in line)
    return int(line.split(":")[1].split()[1])


def burst(sock, frame, packets, there):
    """Nanoseconds per packet in the best of short parts: others' work on this machine hits some of them, not all."""
    before = received(there)
    send = sock.send
    best = None
    for _part in range(packets // PART):
        start = time.perf_counter_ns()
        for _packet in range(PART):
            send(frame)
        took = time.perf_counter_ns() - start
        best = took if best is None else min(best, took)
    time.sleep(0.02)
    arrived = received(there) - before
    if arrived < packets * 0.99:
        raise RuntimeError("only %d of %d packets arrived" % (arrived, packets))
    return best / PART


def main(pairs=8, packets=20000, only=""):
    """Measure and print.

    :param only: a group of controls, or nothing for all groups
    """
    if os.geteuid() != 0:
        raise SystemExit("needs root, for network namespaces")
    frames = {  # of connections that stand: beginning one is what new_connections limits
        "IPv4 web": ethernet(THERE, HERE, 0x0800, ipv4("192.0.2.10", "192.0.2.20", tcp(40000, 80, b"x" * 10))),
        "IPv6 web": ethernet(THERE, HERE, 0x86DD, ipv6("2001:db8::10", "2001:db8::20", tcp(40000, 80))),
        "IPv4 mail": ethernet(THERE, HERE, 0x0800, ipv4("192.0.2.10", "192.0.2.20", tcp(40000, 25, b"x" * 10))),
    }
    with Net() as net:
        host, here, there = net.add("host"), net.add("here"), net.add("there")
        host.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
        net.veth(host, "tapA", here, "eth0", HERE)
        net.veth(host, "eth1", there, "eth0", THERE)
        host.ip("link set tapA master br0", "link set eth1 master br0")
        host.check("bridge fdb replace %s dev eth1 master static" % THERE)
        for space, device in ((host, "tapA"), (host, "eth1"), (here, "eth0"), (there, "eth0")):
            space.gro_off(device)
        sock = here.packet_socket("eth0")
        groups = {"smtp_outbound": (), **{"and %s" % name: (name,) for name in CONTROLS}, "all controls": tuple(CONTROLS)}
        groups = {group: names for group, names in groups.items() if only in ("", group)}
        variants = {"no rules": lambda: None}
        for group, names in groups.items():
            for services, words in ((10, "10"), (10000, "10,000")):
                variants["%s, %s services" % (group, words)] = lambda names=names, services=services: load_ours(host, services, names)
        variants.update({
            "iptables, %d services" % LINEAR: lambda: load_iptables(host, LINEAR),
        })
        costs = {(name, kind): [] for name in variants for kind in frames}
        unavailable = {}
        for _pair in range(pairs):
            for name, load in variants.items():
                if name in unavailable:
                    continue
                clear(host)
                try:
                    load()
                except RuntimeError as exc:
                    unavailable[name] = str(exc)
                    continue
                for kind, frame in frames.items():
                    costs[name, kind].append(burst(sock, frame, packets, there))
                if name.startswith("iptables"):
                    for program in ("iptables-legacy", "ip6tables-legacy"):
                        host.check([program, "-F"])
        sock.close()
    sys.stdout.write("64-byte packets over a bridge, GRO off, ns per packet (sending included), best part of %d, median of %d pairs\n" % (
        packets, pairs))
    sys.stdout.write("%-34s" % "" + "".join("%14s" % kind for kind in frames) + "\n")
    for name in variants:
        cells = "".join("%14.0f" % statistics.median(costs[name, kind]) for kind in frames) if name not in unavailable else (
            "  not measured: " + unavailable[name])
        sys.stdout.write("%-34s%s\n" % (name, cells))
    for group in groups:
        ratios = "".join("%12.3f x" % statistics.median(
            many / few for many, few in zip(costs[group + ", 10,000 services", kind], costs[group + ", 10 services", kind]))
            for kind in frames)
        sys.stdout.write("%-34s%s   (at most %s x)\n" % (
            group + ", 10,000 against 10", ratios, "1.1" if group == "smtp_outbound" else "1.15"))


if __name__ == "__main__":
    leave_on_signals()
    main(*[int(word) if word.isdecimal() else word for word in sys.argv[1:]])
