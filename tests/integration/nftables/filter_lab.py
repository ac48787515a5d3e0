# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a namespace with bridged and routed guests, a foreign bridge and an internet."""
from __future__ import annotations

import copy
import os
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

from netns import Net, crosses

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

MACS = {name: "52:54:00:00:00:0%d" % number for number, name in enumerate("abcu", 1)}
MACS["net"] = "52:54:00:00:00:99"
V4 = dict({name: "192.0.2.1%d" % number for number, name in enumerate("abcu", 1)}, net="192.0.2.200", far="203.0.113.2",
          host="192.0.2.1", r="10.9.1.2", x="10.9.2.2", d="172.17.0.2", e="172.17.0.3")
V6 = dict({name: "2001:db8::1%d" % number for number, name in enumerate("abcu", 1)}, net="2001:db8::200",
          far="2001:db8:f::2", host="2001:db8::1", r="2001:db8:9:1::2", x="2001:db8:9:2::2", d="2001:db8:d::2",
          e="2001:db8:d::3")
PORTS = (25, 587, 80)
BRIDGE_NETFILTER = os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables")
ENFORCE, OFF = {"mode": "enforce", "ports": [25]}, {"mode": "off", "ports": []}
OBSERVE, EXEMPT = {"mode": "observe", "ports": [25]}, {"mode": "exempt", "ports": [25]}


def base_model():
    """a and b enforced, c exempt on the bridge; r routed; u and x are guests nobody knows."""
    def port(name, guest, bridge, smtp):
        return {"name": name, "mac": MACS.get(guest, "52:54:00:00:09:01"), "bridge": bridge, "service": "vps-" + guest,
                "smtp": dict(smtp), "hold": None}
    return {
        "uplinks": ["up0", "eth1"], "bridges": ["br0"], "routed_interfaces": ["vnet*"],
        "ports": [port("tapA", "a", "br0", ENFORCE), port("tapB", "b", "br0", ENFORCE),
                  port("tapC", "c", "br0", EXEMPT), port("vnetR", "r", None, ENFORCE)],
        "held_macs": {"dark": [], "quarantine": []},
        "smtp": {"unknown": dict(ENFORCE), "smarthosts": []}, "rescue": [],
    }


class Lab:
    """The wired namespaces and the code under test."""

    def __init__(self, net):
        self.net = net
        self.host = net["host"]
        self.reference = None
        self.model = base_model()

    def port(self, name):
        """The model's port of that name."""
        return next(p for p in self.model["ports"] if p["name"] == name)

    def observe(self):
        return _nftables.observe(self.host.run)

    def plan(self):
        ruleset = _nftables.build(self.model)
        self.reference = _nftables.reference(self.host.run, ruleset, self.reference)
        return _nftables.plan(ruleset, self.observe(), self.reference)

    def apply(self):
        """Bring the host to the model; the read-back must want nothing more."""
        change = self.plan()
        _nftables.apply(self.host.run, change)
        assert self.plan().kind == "none"
        return change

    def counters(self):
        return _nftables.counters(self.observe())

    def tcp(self, guest, target, port):
        """Outcomes over IPv4 and IPv6; one word if they agree."""
        outcomes = [self.net[guest].try_tcp(family[target], port) for family in (V4, V6)]
        return outcomes[0] if outcomes[0] == outcomes[1] else tuple(outcomes)

    def opens(self, guest, target, port, patience=5):
        """Whether a connection opens; who was cut off before may have to look for his neighbours first."""
        limit = time.monotonic() + patience
        while (outcome := self.tcp(guest, target, port)) != "open" and time.monotonic() < limit:
            time.sleep(0.1)
        return outcome == "open"

    def crosses(self, guest, frame, marker, target="net", device="eth0"):
        """Whether a raw frame of a guest reaches the target's wire."""
        return crosses(self.sockets[guest], frame, self.sockets[target], marker)

    def bridge_netfilter(self, on):
        if BRIDGE_NETFILTER:
            self.host.sysctl({"net.bridge.bridge-nf-call-iptables": int(on), "net.bridge.bridge-nf-call-ip6tables": int(on)})


@pytest.fixture(scope="session")
def wired():
    """The namespaces, once for all tests."""
    with Net() as net:
        host = net.add("host")
        host.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1,
                     "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0,
                     "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0})
        for bridge in ("br0", "docker0"):
            host.ip("link add %s type bridge forward_delay 0 mcast_snooping 0" % bridge, "link set %s up" % bridge)
        host.ip("addr add 192.0.2.1/24 dev br0", "addr add 2001:db8::1/64 dev br0 nodad",
                "addr add 172.17.0.1/16 dev docker0", "addr add 2001:db8:d::1/64 dev docker0 nodad")
        plugs = (("a", "tapA", "br0"), ("b", "tapB", "br0"), ("c", "tapC", "br0"), ("u", "newtap", "br0"),
                 ("net", "up0", "br0"), ("d", "veth1", "docker0"), ("e", "veth2", "docker0"))
        for name, tap, bridge in plugs:
            net.veth(host, tap, net.add(name), "eth0", MACS.get(name))
            host.ip("link set %s master %s" % (tap, bridge))
            gateway = ("192.0.2.1", "2001:db8::1") if bridge == "br0" else ("172.17.0.1", "2001:db8:d::1")
            net[name].ip("addr add %s/%d dev eth0" % (V4[name], 24 if bridge == "br0" else 16),
                         "addr add %s/64 dev eth0 nodad" % V6[name],
                         "route add default via %s" % gateway[0], "route add ::/0 via %s" % gateway[1])
        # A frame to a MAC the bridge hasn't learned is flooded, and each copy is judged and counted.
        host.check("bridge fdb replace %s dev up0 master static" % MACS["net"])
        for number, (name, tap) in enumerate((("r", "vnetR"), ("x", "vnetX")), 1):
            net.veth(host, tap, net.add(name), "eth0")
            host.ip("addr add 10.9.%d.1/24 dev %s" % (number, tap), "addr add 2001:db8:9:%d::1/64 dev %s nodad" % (number, tap))
            net[name].ip("addr add %s/24 dev eth0" % V4[name], "addr add %s/64 dev eth0 nodad" % V6[name],
                         "route add default via 10.9.%d.1" % number, "route add ::/0 via 2001:db8:9:%d::1" % number)
        for name in ("a", "b", "c", "u", "net", "d", "e", "r", "x"):
            # Forged advertisements and redirects are sent here: nobody is to follow them into the next test.
            net[name].sysctl({"net.ipv6.conf.eth0.accept_ra": 0, "net.ipv6.conf.eth0.accept_redirects": 0,
                              "net.ipv4.conf.all.accept_redirects": 0})
        far = net.add("far")  # the internet behind a routed uplink
        net.veth(host, "eth1", far, "eth0")
        host.ip("addr add 203.0.113.1/24 dev eth1", "addr add 2001:db8:f::1/64 dev eth1 nodad")
        far.ip("addr add 203.0.113.2/24 dev eth0", "addr add 2001:db8:f::2/64 dev eth0 nodad",
               "route add default via 203.0.113.1", "route add ::/0 via 2001:db8:f::1")
        for name in ("a", "b", "c", "u", "net", "d", "e", "r", "x", "far", "host"):
            net.serve(net[name], *PORTS)
        sockets = {name: net[name].packet_socket("eth0") for name in ("a", "b", "c", "u", "net", "r", "far")}
        yield net, sockets
        for sock in sockets.values():
            sock.close()


def heal(net):
    """After forged answers and advertisements: everybody forgets what he was told and finds the others again."""
    lab = Lab(net)
    lab.host.check("nft flush ruleset")
    lab.bridge_netfilter(False)
    guests = ("a", "b", "c", "u", "net", "r", "x", "far")
    for name in (*guests, "host"):
        net[name].ip("neigh flush all")
    limit = time.monotonic() + 30
    for guest in guests:
        for target in (*guests, "host"):
            while guest != target and lab.tcp(guest, target, 80) != "open" and time.monotonic() < limit:
                time.sleep(0.1)


@pytest.fixture
def bare(wired):
    """The host without any rules, br_netfilter off."""
    net, sockets = wired
    lab = Lab(net)
    lab.sockets = sockets
    lab.host.check("nft flush ruleset")
    lab.bridge_netfilter(False)
    return lab


@pytest.fixture(params=[False, True] if BRIDGE_NETFILTER else [False], ids=lambda on: "brnf-on" if on else "brnf-off")
def lab(bare, request):
    """The host under the base model, with br_netfilter off and on."""
    bare.bridge_netfilter(request.param)
    bare.model = copy.deepcopy(base_model())
    bare.apply()
    return bare
