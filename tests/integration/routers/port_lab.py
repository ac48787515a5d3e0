# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linux router in a namespace with dedicated servers behind its ports. Imports nothing of the collection: stories use it, too."""
from __future__ import annotations

import socket

from tests.integration.routers.linux_lab import LinuxEdge

PORT, MAIL = 8080, 25
OUTSIDE = ("192.0.2.2", "2001:db8:1::2")
# server: (address of the router's end, its own, one that is not its own) in both families
SERVERS = {
    "srv-a": ("e-a", ("203.0.113.65", "2001:db8:100:a::1"), ("203.0.113.66", "2001:db8:100:a::2"),
              ("203.0.113.70", "2001:db8:100:a::7")),
    "srv-b": ("e-b", ("203.0.113.129", "2001:db8:100:b::1"), ("203.0.113.130", "2001:db8:100:b::2"),
              ("203.0.113.140", "2001:db8:100:b::7")),
}


class PortLab(LinuxEdge):
    """outside --- edge (Linux, under test) --- e-a: srv-a, e-b: srv-b, each alone behind its port."""

    def build(self, net):
        out, edge = net["out"], net["edge"]
        edge.ip("route add default via 192.0.2.2", "route add default via 2001:db8:1::2")
        for name, (interface, gateway, own, other) in SERVERS.items():
            server = net.add(name)
            net.veth(edge, interface, server, "eth")
            edge.ip("addr add %s/26 dev %s" % (gateway[0], interface), "addr add %s/64 dev %s nodad" % (gateway[1], interface))
            server.ip(*("addr add %s/26 dev eth" % a for a in (own[0], other[0])),
                      *("addr add %s/64 dev eth nodad" % a for a in (own[1], other[1])),
                      "route add default via %s src %s" % (gateway[0], own[0]), "route add default via %s src %s" % (gateway[1], own[1]))
            net.serve(server, PORT)
        net.serve(out, PORT, MAIL, 465)

    def edge(self, command):
        """A command of another operator on the router."""
        return self._net["edge"].check(command)

    def space(self, name):
        """A namespace."""
        return self._net[name]

    def state(self):
        """All that a person would compare: rules, routes and addresses."""
        return self.edge("nft -s list ruleset") + self.edge("ip route show") + self.edge("ip -6 route show") + self.edge("ip -o addr")

    def rules(self):
        """The table of ours as text, without counters; empty when there is none."""
        rc, out, _err = self._net["edge"].run(["nft", "-s", "list", "table", "inet", "hosting_aup_ports"])
        return out if rc == 0 else ""

    def out_to(self, name, port=PORT):
        """Outcomes of a connection from a server to the outside, IPv4 and IPv6."""
        return [self._net[name].try_tcp(address, port, 0.5) for address in OUTSIDE]

    def into(self, name):
        """Whether the outside reaches a server, IPv4 and IPv6."""
        return [self._net["out"].try_tcp(address, PORT, 0.5) == "open" for address in SERVERS[name][2]]

    def datagram(self, name, source, number):
        """Whether a datagram of the server with this source gets out."""
        family, address = (socket.AF_INET6, OUTSIDE[1]) if ":" in source else (socket.AF_INET, OUTSIDE[0])
        heard = self._net["out"].call(socket.socket, family, socket.SOCK_DGRAM)
        with heard, self._net[name].call(socket.socket, family, socket.SOCK_DGRAM) as sender:
            heard.bind((address, 9000 + number))
            sender.bind((source, 0))
            heard.settimeout(0.3)
            for _try in range(3):
                sender.sendto(b"x", (address, 9000 + number))
                try:
                    if heard.recvfrom(100)[1][0] == source:
                        return True
                except TimeoutError:
                    continue
        return False
