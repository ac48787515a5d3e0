# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain Linux router over SSH in a namespace of its own. Imports nothing of the collection: stories use it, too."""
from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.integration.netns import Net
from tests.integration.routers.router_lab import Sshd

ROUTER = {"platform": "linux", "mark": 66, "max_null_routes": 600, "save": "always",
          "protected": ["192.0.2.0/28"], "rtbh": None}
_PORT = 8080


class LinuxEdge:
    """outside --- edge (Linux, under test) --- what a subclass puts behind it.

    :ivar pristine: the router's state as it was built
    """

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="auprt"))
        self._net = net = Net()
        net.__enter__()
        out, edge = net.add("out"), net.add("edge")
        net.veth(out, "o-edge", edge, "e-out")
        out.ip("addr add 192.0.2.2/30 dev o-edge", "addr add 2001:db8:1::2/64 dev o-edge nodad",
               "route add default via 192.0.2.1", "route add default via 2001:db8:1::1")
        edge.ip("addr add 192.0.2.1/30 dev e-out", "addr add 2001:db8:1::1/64 dev e-out nodad")
        edge.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        self.build(net)
        self.sshd = Sshd(self.folder, 'exec ip netns exec %s /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n' % edge.name)
        self.pristine = self.state()
        return self

    def __exit__(self, *_exc):
        self.sshd.stop()
        self._net.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def build(self, net):
        """Put what this lab has behind the router."""
        raise NotImplementedError

    def state(self):
        """All that a person would compare, as text."""
        raise NotImplementedError


class LinuxLab(LinuxEdge):
    """outside --- edge (Linux, under test) --- cust: .10 victim, .20 neighbour."""

    def build(self, net):
        edge, cust = net["edge"], net.add("cust")
        net.veth(edge, "e-cust", cust, "c-edge")
        edge.ip("addr add 203.0.113.1/24 dev e-cust", "addr add 2001:db8:100::1/48 dev e-cust nodad",
                "route add 203.0.113.99/32 via 203.0.113.11 proto static")
        for number in (10, 20):
            cust.ip("addr add 203.0.113.%d/24 dev c-edge" % number, "addr add 2001:db8:100::%d/48 dev c-edge nodad" % number)
        cust.ip("route add default via 203.0.113.1", "route add default via 2001:db8:100::1")
        net.serve(cust, _PORT)

    def ip(self, command):
        """An `ip` command of another operator on the router."""
        return self._net["edge"].check("ip " + command)

    def inside(self, space, function):
        """What a function returns that is called in one of the namespaces."""
        return self._net[space].call(function)

    def connect(self, address, port):
        """A connection from outside: (outcome, socket or None)."""
        return self._net["out"].connect(address, port)

    def state(self):
        """All routes of the main table, as text."""
        return self.ip("route show") + self.ip("-6 route show")

    def ours(self):
        """Prefixes with our protocol number in the kernel."""
        return sorted(entry["dst"] for family in ("-4", "-6")
                      for entry in json.loads(self.ip("-j %s route show proto 66" % family) or "[]"))

    def reach(self):
        """{last part of the address: answers on v4, v6}."""
        return {number: [self._net["out"].try_tcp(text % number, _PORT, 0.5) == "open"
                         for text in ("203.0.113.%d", "2001:db8:100::%d")] for number in (10, 20)}
