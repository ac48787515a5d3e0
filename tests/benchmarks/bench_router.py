# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Null routes on a real FRR: one, beside a bare netmiko script; 500 in one call, beside pasting them through vtysh.

Both sides connect anew, end when the kernel has the route, and save. Ours also reads the ledger, the router before and
after, and records the result.

    python tests/benchmarks/bench_router.py [rounds]
"""
from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import line, spread
from netmiko import ConnectHandler

from tests.integration.netns import leave_on_signals, run
from tests.integration.routers.provider import Provider, service_of
from tests.integration.routers.router_lab import ROUTER, RouterLab

MANY = 500


def in_kernel(lab, count):
    """Wait until the edge's kernel has this many blackholes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        have = sum(lab.in_namespace("edge", "ip %s route show type blackhole" % family).count("\n") for family in ("-4", "-6"))
        if have == count:
            return
        time.sleep(0.005)
    raise SystemExit("the kernel never had %d null routes" % count)


def bare(lab, lines):
    """What a careful script does with netmiko: enter the lines with an error pattern, look, save."""
    target = lab.sshd.target()
    began = time.monotonic()
    with ConnectHandler(device_type="cisco_ios", host=target["host"], port=target["port"], username="root", use_keys=True,
                        key_file=target["key_file"], ssh_strict=True, alt_host_keys=True, alt_key_file=target["known_hosts"],
                        read_timeout_override=60) as device:
        device.send_config_set(lines, error_pattern=r"%")
        shown = device.send_command("show running-config")
        assert all(line in shown for line in lines)
        in_kernel(lab, len(lines))
        device.send_command("write memory")
    return time.monotonic() - began


def pasted(lab, lines):
    """The lines on vtysh's standard input over SSH, as one would paste them, then saved."""
    target = lab.sshd.target()
    text = "\n".join(["configure terminal", *lines, "end", "write memory", ""])
    began = time.monotonic()
    subprocess.run(["ssh", "-tt", "-q", "-i", target["key_file"], "-o", "UserKnownHostsFile=" + target["known_hosts"], "-p",
                    str(target["port"]), "root@127.0.0.1"], input=text + "exit\n", text=True, check=False,
                   stdout=subprocess.DEVNULL, timeout=120)
    in_kernel(lab, len(lines))
    return time.monotonic() - began


def ours(lab, provider, count):
    """One call of router_converge."""
    began = time.monotonic()
    done = provider.converge()
    spent = time.monotonic() - began
    assert done["outcome"] == "changed" and not done["errors"] and len(done["steps"]) == count, done["errors"]
    in_kernel(lab, count)
    return spent


def clean(lab):
    """Take all static routes off, quickly."""
    lines = ["no " + line for line in lab.edge.statics()]
    path = lab.edge.folder / "clean.conf"
    path.write_text("\n".join(lines) + "\n")
    run([*lab.edge.argv, "-f", str(path)])
    in_kernel(lab, 0)


def main():
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    hosts = ["203.0.113.%d" % n for n in range(2, 252)] + ["2001:db8:100::%x" % n for n in range(2, 252)]
    lines = ["%s route %s/%d blackhole tag 41666" % (("ipv6", h, 128) if ":" in h else ("ip", h, 32)) for h in hosts]
    half = MANY // 2
    many = [service_of("vps-m%d" % n, n) for n in range(half)]
    for n, service in enumerate(many):
        service["nics"][0].update(addresses=[hosts[n], hosts[half + n]])
    figures = {"bare": [], "one": [], "pasted": [], "many": [], "unchanged": []}
    router = {**ROUTER, "rtbh": None}
    with RouterLab() as lab, tempfile.TemporaryDirectory() as folder:
        for index in range(rounds):
            clean(lab)
            figures["bare"].append(bare(lab, lines[:1]))
            clean(lab)
            # A service with one address, so that both sides set one route.
            (Path(folder) / str(index)).mkdir()
            single = service_of("vps-one", 41)
            single["nics"][0].update(addresses=hosts[:1])
            with Provider(Path(folder) / str(index), lab.sshd.target(), router, [single]) as provider:
                provider.provision()
                provider.null_route("vps-one")
                figures["one"].append(ours(lab, provider, 1))
                began = time.monotonic()
                assert provider.converge()["outcome"] == "unchanged"
                figures["unchanged"].append(time.monotonic() - began)
        for index in range(max(2, rounds // 2)):
            clean(lab)
            figures["pasted"].append(pasted(lab, lines))
            clean(lab)
            place = Path(folder) / ("many%d" % index)
            place.mkdir()
            with Provider(place, lab.sshd.target(), router) as provider:
                provider.services = {}
                provider.more = many
                provider.provision()
                provider.null_route([service["id"] for service in many], break_glass="benchmark")
                figures["many"].append(ours(lab, provider, MANY))
    median = {name: statistics.median(values) for name, values in figures.items()}
    one, more = median["one"] / median["bare"], median["many"] / median["pasted"]
    print(line("one null route, call to kernel, read back and saved", spread(figures["one"])))
    print(line("... a bare netmiko script", spread(figures["bare"])))
    print(line("one null route beside a bare netmiko script", "%.2f x" % one, "at most 1.5 x"))
    print(line("an unchanged run", spread(figures["unchanged"])))
    print(line("%d null routes in one call" % MANY, spread(figures["many"])))
    print(line("... pasted through vtysh", spread(figures["pasted"])))
    print(line("%d null routes beside pasting the lines through vtysh" % MANY, "%.2f x" % more, "at most 2 x"))


if __name__ == "__main__":
    leave_on_signals()
    main()
