# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a test node: two cases of every pair of kinds on one guest, begun and ended in both orders; what was seen, as JSON.

    python -m tests.integration.soak.pairs
"""
from __future__ import annotations

import gc
import itertools
import json
import os
import re
import time

import libvirt

from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from tests.integration.soak import inside

NOW = 1_800_000_000
OPTIONS = {"suspend": {"power": "pause"}, "bandwidth_cap": {"rate": "10 Mbit/s"}, "cpu_throttle": {"share": "20%"},
           "io_throttle": {"iops": 50}, "port_block": {"ports": [6667], "protocol": "tcp", "direction": "out"},
           "smtp_block": {"ports": [587]}, "terminate": {}, "drop": {"sources": ["198.51.100.7/32", "2001:db8:bad::/48"]}}


class House:
    """Desired states as the ledger would have them made."""

    def __init__(self):
        with open("/run/catalogue.json", "w", encoding="utf-8") as handle:
            json.dump(inside.catalogue(2), handle)
        self.catalogue, self.policy = load_catalogue("/run/catalogue.json"), load_policy("default")
        self.generation, self.node, self.errors = 0, inside.node(), []
        self.options = dict(OPTIONS)
        self.now, self.ends = NOW, {}  # what ends by its time, by kind

    def enforcement(self, kind, name):
        service = self.catalogue["services"][name]
        return {"id": "E-" + kind, "service": name, "kind": kind, "case_id": "T-" + kind, "clause": None, "violation": "spam",
                "reason": "r", "starts_at": self.now, "ends_at": self.ends.get(kind), "until": "decision", "review_at": None, "status": "active",
                "options": self.options.get(kind, {}), "actor": "a",
                "snapshot": {**{key: service[key] for key in ("guest", "nics", "nodes", "location", "account_type")}, "policy": None}}

    def converge(self, kinds, name="vps-1"):
        """Bring the host there with these on one service; what a second plan still wants goes to `errors`."""
        self.converge_all({name: kinds})

    def converge_all(self, wanted):
        """:param wanted: `{service: kinds}`"""
        self.generation += 1
        snapshot = {
            "ledger": "l", "epoch": 1, "revision": self.generation, "node": {"name": "kvm1", "release_id": 1, "adopted_at": NOW},
            "release": {"id": 1, "created_at": NOW, "policy_keys": [self.policy.key], "default_policy": self.policy.key,
                        "catalogue_digest": "0" * 64},
            "policies": {}, "catalogue": self.catalogue, "enforcements": [self.enforcement(kind, name) for name, kinds in wanted.items() for kind in kinds],
            "baselines": [], "adoptions": {}, "exemptions": []}
        node = dict(self.catalogue["nodes"]["kvm1"], name="kvm1")
        packed = pack(resolve({self.policy.key: self.policy}, snapshot, node, self.now).desired)
        plan = self.node.plan(packed)
        done = self.node.apply(packed, plan["plan_hash"])
        if done.get("confirm"):
            os.unlink(done["confirm"])
        wrong = [one["why"] for one in done["unverified"]] + [one["message"] for one in done["errors"]]
        if wrong:
            self.errors.append([{name: list(kinds) for name, kinds in wanted.items()}, wrong])


def rates_of(domain):
    """The rates of a guest's plan and what holds it, as libvirt and the kernel have them."""
    live, found = domain.isActive(), {}
    if not live:
        found["quota"] = domain.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG)["global_quota"]
    for scope, flag in (("live", libvirt.VIR_DOMAIN_AFFECT_LIVE), ("config", libvirt.VIR_DOMAIN_AFFECT_CONFIG)) if live else ():
        found["iops " + scope] = domain.blockIoTune("vda", flag)["total_iops_sec"]
    if live:
        found["inbound"] = domain.interfaceParameters("tap1", libvirt.VIR_DOMAIN_AFFECT_CONFIG)["inbound.average"]
        found["kernel"] = re.findall(r"tbf .* rate (\S+)", inside.run(["tc", "qdisc", "show", "dev", "tap1"])[1])
        found["shaped"] = sorted(set(re.findall(r"class htb 1:1 root rate (\S+)", "".join(
            inside.run(["tc", "class", "show", "dev", link])[1] for link in inside.observe(2)["links"] if link.startswith("aup")))))
    return found


def upgraded(house):
    """A plan is upgraded while it is capped: by a panel in libvirt, and in the catalogue for a guest that was made here."""
    connection = libvirt.open("qemu:///system")
    running, off = connection.lookupByName("vps-1"), connection.lookupByName("vps-2")

    def panel(inbound, iops, quota):
        # A live rate by libvirt needs a queue (sfq) that not every kernel has: the panel's script sets it at the port.
        running.setInterfaceParameters("tap1", {"inbound.average": inbound}, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        inside.run(["tc", "qdisc", *(["replace", "dev", "tap1", "root", "tbf", "rate", "%dkbit" % (8 * inbound), "burst", "20kb",
                                      "latency", "50ms"] if inbound else ["del", "dev", "tap1", "root"])])
        for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
            running.setBlockIoTune("vda", {"total_iops_sec": iops}, flag)
        off.setSchedulerParametersFlags({"global_quota": quota}, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    told = {}
    panel(500, 200, 60000)
    for when, kinds in (("before", {}), ("capped", {"vps-1": ["bandwidth_cap", "io_throttle"], "vps-2": ["cpu_throttle"]})):
        house.converge_all(kinds)
        told[when] = {"vps-1": rates_of(running), "vps-2": rates_of(off)}
    panel(4000, 900, 90000)
    house.converge_all(kinds)
    told["upgraded"] = {"vps-1": rates_of(running), "vps-2": rates_of(off)}
    house.converge_all({})
    told["lifted"] = {"vps-1": rates_of(running), "vps-2": rates_of(off)}
    panel(0, 0, 0)

    # Nobody but us keeps the rate of a guest that was made here.
    order = {"create": True, "rate_bit_per_second": 4_000_000}
    state = house.node.state.load()
    house.node.state.save(dict(state, created={"vps-1": {"guest_uuid": running.UUIDString(), "image": None, "disk": None, "at": NOW}}))
    for when, rate, kinds in (("made", 4_000_000, []), ("made, capped", 4_000_000, ["bandwidth_cap"]),
                              ("made, upgraded", 80_000_000, ["bandwidth_cap"]), ("made, lifted", 80_000_000, [])):
        house.catalogue["services"]["vps-1"]["order"] = dict(order, rate_bit_per_second=rate)
        house.converge(kinds)
        told[when] = rates_of(running)["shaped"]
    return told


def flushed(house):
    """What a reboot or somebody's hand takes: all rules, traffic control and routes; then one pass of the keeper."""
    house.converge(["bandwidth_cap", "null_route", "port_block", "quarantine"])
    there = seen(inside.observe(2))
    inside.run(["nft", "flush", "ruleset"])
    for link in there["links"]:
        inside.run(["ip", "link", "del", link] if link.startswith("aup") else ["tc", "qdisc", "del", "dev", link, "clsact"])
    for family in ("-4", "-6"):
        inside.run(["ip", family, "route", "flush", "proto", "187"])
    gone = seen(inside.observe(2))
    done = house.node.keep(NOW)
    back = seen(inside.observe(2))
    again = house.node.keep(NOW)
    house.converge([])
    return {"there": there, "gone": gone, "back": back, "errors": done["errors"], "again": again["steps"], "free": seen(inside.observe(2))}


def seen(document):
    return {key: document[key] for key in ("services", "routes", "links", "qdiscs", "rules")}


def main():
    gc.disable()
    house, start = House(), time.monotonic()
    house.converge([])
    free = seen(inside.observe(2))
    alone, pairs = {name: {} for name in ("vps-1", "vps-2")}, []
    for name, kinds in (("vps-1", [kind for kind in KINDS if kind != "cpu_throttle"]), ("vps-2", KINDS)):
        for kind in kinds:
            house.converge([kind], name)
            alone[name][kind] = seen(inside.observe(2))
        house.converge([])
    for number, (one, other) in enumerate(itertools.combinations(KINDS, 2)):
        # Begun in turn; ended in the order they began, or the other way round, by turns.
        first, left = (one, other) if number % 2 else (other, one)
        # A running guest's quota needs control groups, which this node has none of; the lab's has. The other guest is off.
        name = "vps-2" if "cpu_throttle" in (one, other) else "vps-1"
        house.converge([one], name)
        house.converge([one, other], name)
        both = seen(inside.observe(2))
        house.converge([left], name)
        rest = seen(inside.observe(2))
        house.converge([])
        pairs.append({"pair": [one, other], "guest": name, "both": both, "left": left, "ended": first, "rest": rest,
                      "free": seen(inside.observe(2))})
    # A suspension that ended beside a throttle that stands: what the customer does from then on is not ours.
    house.converge(["io_throttle", "suspend"])
    house.converge(["io_throttle"])
    domain = libvirt.open("qemu:///system").lookupByName("vps-1")
    domain.suspend()
    house.converge(["io_throttle"])
    paused = inside.observe(2)["services"]["vps-1"]
    domain.resume()
    house.converge([])
    flush = flushed(house)
    upgrade = upgraded(house)
    print(json.dumps({"flush": flush, "upgrade": upgrade, "paused": paused,
                      "free": free, "alone": alone, "pairs": pairs, "errors": house.errors, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main()
