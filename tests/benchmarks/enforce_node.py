# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node, with its own Python: enforces as the module does, and by the bare calls; prints seconds as JSON.

    python3 enforce_node.py FOLDER ROUNDS [profile]

FOLDER has `free-N.z` and `held-N.z`: desired states in the order in which they are applied.
"""
from __future__ import annotations

import cProfile
import gc
import json
import os
import pstats
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
from pyroute2 import IPRoute

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
SCOPE = {"live": LIVE, "config": CONFIG}
URI = "qemu:///system"
AT_ONCE = 5  # as many requests as libvirtd works on for one client, for both sides
loaded = []  # what nft was given to load


def run(argv, stdin=None):
    """The runner of the module; remembers what was loaded."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if stdin is not None and "-f" in argv:
        loaded.append(stdin)
    return done.returncode, done.stdout, done.stderr


def timed(function, *args):
    """`(seconds, result)`."""
    begin = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - begin, result


def converge(node, packed):
    """`(seconds of planning, seconds of applying, the steps)`; whatever was not achieved is an error."""
    planning, plan = timed(node.plan, packed)
    applying, done = timed(node.apply, packed, plan["plan_hash"])
    if done["unverified"] or done["errors"]:
        raise SystemExit("not achieved: %s" % json.dumps((done["errors"] + done["unverified"])[:3]))
    if done["confirm"] and os.path.exists(done["confirm"]):
        os.unlink(done["confirm"])
    return planning, applying, done["steps"]


# -- the bare calls ---------------------------------------------------------------------------------------------------


def link_xml(domain, flags, state):
    """What a NIC's link is changed by: its own XML with another state, as `virsh domif-setlink` does it."""
    text = domain.XMLDesc(flags)
    text = text[text.index("<interface"):text.index("</interface>")]
    for old in ("<link state='up'/>", "<link state='down'/>"):
        text = text.replace(old, "")
    return text + "<link state='%s'/></interface>" % state


def bare_guest(connection, steps, back):
    """libvirt's calls for one guest.

    :param back: give back instead
    """
    domain = connection.lookupByUUIDString(steps[0]["guest_uuid"])
    for step in steps:
        verb, flag = step["verb"], SCOPE.get(step.get("scope"))
        if verb == "pause":
            domain.resume() if back else domain.suspend()
        elif verb == "set_link":
            seen = libvirt.VIR_DOMAIN_XML_INACTIVE if flag == CONFIG else 0
            domain.updateDeviceFlags(link_xml(domain, seen, "up" if back else "down"), flag)
        elif verb == "set_quota":
            domain.setSchedulerParametersFlags({"global_quota": (-1 if flag == LIVE else 0) if back else step["after"]}, flag)
        elif verb == "set_iotune":
            domain.setBlockIoTune(step["target"], dict.fromkeys(step["after"], 0) if back else step["after"], flag)
        else:
            raise SystemExit("no bare call for %s" % verb)


def bare_libvirt(steps, back=False):
    """All guests, as many at once as the module does."""
    connection = libvirt.open(URI)
    by_guest = {}
    for step in steps:
        if step["engine"] == "libvirt":
            by_guest.setdefault(step["guest_uuid"], []).append(step)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda mine: bare_guest(connection, mine, back), by_guest.values()))
    connection.close()


def shape(ip, device, rate_bps):
    """A device of ours with its classes."""
    ip.link("add", ifname=device, kind="ifb")
    index, rate = socket.if_nametoindex(device), rate_bps // 8
    ip.link("set", index=index, txqlen=64)
    ip.tc("add", "htb", index, 0x10000, default=0x20)
    for handle, parent, assured in ((0x10001, 0x10000, rate), (0x10010, 0x10001, rate // 10), (0x10020, 0x10001, rate - rate // 10)):
        ip.tc("add-class", "htb", index, handle, parent=parent, rate=assured, ceil=rate, burst=rate // 25, cburst=rate // 25)
    for number, (protocol, key) in enumerate(((0x0800, "0x0001/0x00ff+8"), (0x86DD, "0x3a00/0xff00+6"), (0x0806, "0x0/0x0+0")), 1):
        ip.tc("add-filter", "u32", index, parent=0x10000, prio=number, protocol=protocol, target=0x10010, keys=[key])
    ip.link("set", index=index, state="up")


def bare_network(steps):
    """pyroute2's calls for caps and null routes."""
    tapped = set()
    with IPRoute() as ip:
        for step in steps:
            if step["engine"] == "tc" and step["verb"] == "shape":
                shape(ip, step["device"], step["rate_bps"])
            elif step["engine"] == "tc":
                index, inward = socket.if_nametoindex(step["device"]), step["direction"] == "to_guest"
                if step["device"] not in tapped:
                    tapped.add(step["device"])
                    ip.tc("add", "clsact", index)
                ip.tc("add-filter", "u32", index, parent=0xFFFFFFF3 if inward else 0xFFFFFFF2, prio=0x4156 if inward else 0x4155,
                      protocol=0x0003, target=0x10000, keys=["0x0/0x0+0"],
                      action=[{"kind": "mirred", "direction": "egress", "action": "redirect",
                               "ifindex": socket.if_nametoindex(step["after"])}])
            elif step["engine"] == "routes":
                ip.route("add", dst=step["device"], family=socket.AF_INET6 if ":" in step["device"] else socket.AF_INET,
                         type="blackhole", proto=187, table=254)


def bare_network_back(steps):
    """Undo that."""
    with IPRoute() as ip:
        for step in steps:
            if step["engine"] == "tc" and step["verb"] == "shape":
                ip.link("del", index=socket.if_nametoindex(step["device"]))
            elif step["engine"] == "tc" and step["direction"] == "to_guest":
                ip.tc("del", "clsact", socket.if_nametoindex(step["device"]))
            elif step["engine"] == "routes":
                ip.route("del", dst=step["device"], family=socket.AF_INET6 if ":" in step["device"] else socket.AF_INET,
                         type="blackhole", proto=187, table=254)


def bare_look():
    """Everything the module looks at, by the bare calls: each guest's XML, the rules."""
    connection = libvirt.open(URI)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda domain: domain.XMLDesc(0), connection.listAllDomains(0)))
    connection.close()
    run(["nft", "-j", "list", "ruleset"])


def must_load(script):
    """nft -f."""
    rc, _out, err = run(["nft", "-f", "-"], script)
    if rc:
        raise SystemExit(err[:500])


def main(folder, rounds, profile):
    """Measure in turns."""
    gc.disable()  # as the module does
    node = _kvm_node.KvmNode(run, uri=URI)

    def state(name):
        return Path(folder, name + ".z").read_text(encoding="ascii")

    converge(node, state("free-0"))
    seconds = {name: [] for name in ("plan", "apply", "nft", "network", "libvirt", "look", "lift")}
    steps = []
    for number in range(rounds):
        loaded.clear()
        if profile and number == rounds - 1:
            profiler = cProfile.Profile()
            profiler.enable()
        planning, applying, steps = converge(node, state("held-%d" % number))
        if profile and number == rounds - 1:
            profiler.disable()
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(70)
        script = loaded[0]
        seconds["plan"].append(planning)
        seconds["apply"].append(applying)
        seconds["lift"].append(converge(node, state("free-%d" % (number + 1)))[1])
        # The same with bare calls, from the same state.
        seconds["nft"].append(timed(must_load, script)[0])
        seconds["network"].append(timed(bare_network, steps)[0])
        seconds["libvirt"].append(timed(bare_libvirt, steps)[0])
        seconds["look"].append(timed(bare_look)[0])
        bare_libvirt(steps, back=True)
        bare_network_back(steps)
        converge(node, state("free-%d" % (number + 1)))
    counts = {}
    for step in steps:
        name = "%s %s" % (step["engine"], step["verb"])
        counts[name] = counts.get(name, 0) + 1
    print(json.dumps({"seconds": seconds, "steps": counts}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "profile" in sys.argv)
