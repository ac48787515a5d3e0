# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small internet in network namespaces: an FRR edge over its own sshd, FRR and BIRD upstreams, an ExaBGP witness.

inet --- up1 (FRR, AS 64501) ---+
   \\                            +--- edge (FRR, AS 64500, under test) --- cust: .10 victim, .20 neighbour
    +--- up2 (BIRD, AS 64502) --+
              wit (ExaBGP, AS 64503) hears what the edge really announces

All BGP stays between the namespaces; sshd listens on loopback only. Needs root, frr, bird2 and exabgp.
"""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.integration.netns import Net, run

_FRR = "/usr/lib/frr"
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_SERVICE = 8080  # what customers run

TAG, RTBH_TAG, TRIGGER = 41666, 41667, "64500:666"
BLACKHOLE, UP2_COMMUNITY, NO_EXPORT = "65535:666", "64502:666", "65535:65281"
V4, V6 = "203.0.113.0/24", "2001:db8:100::/48"
VICTIM, NEIGHBOUR = ("203.0.113.10", "2001:db8:100::10"), ("203.0.113.20", "2001:db8:100::20")
OUTSIDE = ("198.51.100.100", "2001:db8:f::100")
# namespace: (AS, edge's end, its end) of the link, on both families
LINKS = {
    "up1": (64501, ("192.0.2.1", "192.0.2.2"), ("2001:db8:1::1", "2001:db8:1::2")),
    "up2": (64502, ("192.0.2.5", "192.0.2.6"), ("2001:db8:2::1", "2001:db8:2::2")),
    "wit": (64503, ("192.0.2.9", "192.0.2.10"), ("2001:db8:3::1", "2001:db8:3::2")),
}
ROUTER = {
    "platform": "frr", "mark": TAG, "max_null_routes": 600, "save": "always", "protected": ["192.0.2.0/28"],
    "rtbh": {
        "tag": RTBH_TAG, "route_map": "RTBH", "trigger": TRIGGER,
        "upstreams": [
            {"name": "up1", "neighbors": ["192.0.2.2", "2001:db8:1::2"], "community": BLACKHOLE, "max": 20},
            {"name": "up2", "neighbors": ["192.0.2.6", "2001:db8:2::2"], "community": UP2_COMMUNITY, "max": 20},
        ],
    },
}


def eventually(what, check, seconds=15.0):
    """Poll until `check()` is true; its value. Never sleeps longer than needed.

    :raises AssertionError: not in time
    """
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, "not within %g s: %s" % (seconds, what)
        time.sleep(0.02)


def ended(pid):
    """Whether a process is no more, or waits only for its parent, which may take its time over that."""
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Sshd:
    """An sshd on loopback whose every login runs one program; a key pair and known_hosts file for it.

    :param addresses: of loopback, where it listens; $SSH_CONNECTION tells the program which one was called
    """

    def __init__(self, folder, login, name="sshd", addresses=("127.0.0.1",)):
        self.folder = folder
        self.port = free_port()
        self.key, self.known_hosts = folder / (name + "_user"), folder / (name + "_known_hosts")
        self.host_key, self.log = folder / (name + "_host"), folder / (name + ".log")
        for path in (self.key, self.host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        public = Path(str(self.host_key) + ".pub").read_text().split()
        self.known_hosts.write_text("".join("[%s]:%d %s %s\n" % (address, self.port, *public[:2]) for address in addresses))
        script = folder / (name + "_login")
        script.write_text("#!/bin/sh\n" + login)
        script.chmod(0o755)
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = folder / (name + ".conf")
        config.write_text("\n".join((
            *("ListenAddress %s" % address for address in addresses), "Port %d" % self.port, "HostKey %s" % self.host_key, "UsePAM no",
            "StrictModes no", "PidFile none", "MaxStartups 100:30:200", "AuthorizedKeysFile %s.pub" % self.key,
            "PermitRootLogin yes", "PasswordAuthentication yes", "ForceCommand %s" % script, "UseDNS no",
            "PrintMotd no", "PrintLastLog no", "MaxSessions 10",
            # bash, as root's shell, reads ~/.bashrc for each command, whatever this machine has in it; not at this depth.
            "SetEnv SHLVL=2")) + "\n")
        self._config, self._address = config, addresses[-1]
        self.start()

    def start(self):
        """Let it listen, for the first time or again."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._config)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=_die_with_parent)
        eventually("sshd listens", lambda: self._listens(self._address))

    def _listens(self, address):
        with socket.socket() as sock:
            return sock.connect_ex((address, self.port)) == 0

    def target(self, **changed):
        """How to reach it, as `_session.Target` takes it."""
        return {"name": "edge", "host": "127.0.0.1", "port": self.port, "user": "root", "password": None,
                "key_file": str(self.key), "known_hosts": str(self.known_hosts), "timeout": 60, **changed}

    def stop(self):
        """End it, and with it nothing else."""
        self.process.terminate()
        self.process.wait(5)


class Frr:
    """FRR's daemons in one namespace, with their own sockets and files."""

    def __init__(self, space, folder, name, config):
        self.space, self.folder, self.name = space, folder, name
        folder.mkdir()
        shutil.chown(folder, "frr", "frrvty")
        folder.chmod(0o2775)
        (folder / "vtysh.conf").write_text("hostname %s\nservice integrated-vtysh-config\n" % name)
        (folder / "frr.conf").write_text(config)
        for path in ("vtysh.conf", "frr.conf"):
            shutil.chown(folder / path, "frr", "frrvty")
        for daemon in ("zebra", "staticd", "bgpd"):
            self.start(daemon)
        self.load()

    def start(self, daemon):
        """Start one daemon and wait for its socket."""
        self.space.check([
            "%s/%s" % (_FRR, daemon), "-d", "-u", "frr", "-g", "frr", "-P", "0", "--vty_socket", str(self.folder),
            "-z", str(self.folder / "zserv.api"), "-i", str(self.folder / (daemon + ".pid")), "-f", "/dev/null",
            "--log", "file:%s" % (self.folder / (daemon + ".log"))])
        eventually("%s of %s" % (daemon, self.name), (self.folder / (daemon + ".vty")).exists)

    def load(self):
        """Give the daemons what frr.conf says."""
        rc, out, err = run([*self.argv, "-b"])
        assert rc == 0, out + err

    @property
    def argv(self):
        """vtysh for these daemons."""
        return ["vtysh", "--vty_socket", str(self.folder), "--config_dir", str(self.folder)]

    def vtysh(self, *commands):
        """Output of vtysh commands; as another operator at the console would type them."""
        _rc, out, err = run([*self.argv, *(part for command in commands for part in ("-c", command))])
        return out + err

    def json(self, command):
        """A show command's JSON document."""
        return json.loads(self.vtysh(command + " json"))

    def configure(self, *lines):
        """Configuration lines, by another operator."""
        return self.vtysh("configure terminal", *lines)

    @property
    def saved(self):
        """The configuration that a restart would load."""
        return (self.folder / "frr.conf").read_text()

    @property
    def running(self):
        """The configuration without the lines that vary."""
        return self.vtysh("show running-config")

    def statics(self):
        """The static routes in the running configuration, as lines."""
        return [line for line in self.running.splitlines() if line.startswith(("ip route ", "ipv6 route "))]

    def pid(self, daemon):
        """The daemon's pid."""
        return int((self.folder / (daemon + ".pid")).read_text())

    def kill(self, daemon):
        """SIGKILL one daemon, by its pid file."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            pid = self.pid(daemon)
            os.kill(pid, signal.SIGKILL)
            eventually("%s gone" % daemon, lambda: ended(pid))
        for name in (daemon + ".vty", daemon + ".pid"):
            (self.folder / name).unlink(missing_ok=True)

    def stop(self):
        """End the daemons by their pid files and wait until they are gone."""
        for daemon in ("bgpd", "staticd", "zebra"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pid = self.pid(daemon)
                os.kill(pid, signal.SIGTERM)
                eventually("%s of %s gone" % (daemon, self.name), lambda pid=pid: ended(pid))


def _edge_config():
    lines = [
        "frr defaults traditional", "hostname edge", "ip forwarding", "ipv6 forwarding",
        "bgp community-list standard TRIGGER seq 5 permit " + TRIGGER,
        "ip prefix-list OURS4 seq 5 permit " + V4, "ipv6 prefix-list OURS6 seq 5 permit " + V6,
        "ip prefix-list HOST4 seq 5 permit %s ge 32" % V4, "ipv6 prefix-list HOST6 seq 5 permit %s ge 64" % V6,
        "route-map RTBH permit 10", " match ip address prefix-list HOST4", " match tag %d" % RTBH_TAG,
        " set community " + TRIGGER, " set origin igp", "exit",
        "route-map RTBH permit 20", " match ipv6 address prefix-list HOST6", " match tag %d" % RTBH_TAG,
        " set community " + TRIGGER, " set origin igp", "exit",
        "route-map NOTHING deny 10", "exit",
    ]
    for name, community in (("UP1", BLACKHOLE), ("UP2", UP2_COMMUNITY), ("WIT", BLACKHOLE)):
        lines += ["route-map TO-%s permit 10" % name, " match community TRIGGER",
                  " set community %s %s" % (community, NO_EXPORT), "exit",
                  "route-map TO-%s permit 20" % name, " match ip address prefix-list OURS4", "exit",
                  "route-map TO-%s permit 30" % name, " match ipv6 address prefix-list OURS6", "exit"]
    lines += ["router bgp 64500", " bgp router-id 192.0.2.1", " no bgp default ipv4-unicast", " timers bgp 3 9"]
    for asn, v4, v6 in LINKS.values():
        for peer in (v4[1], v6[1]):
            if asn == 64503 and ":" in peer:
                continue
            lines += [" neighbor %s remote-as %d" % (peer, asn), " neighbor %s timers connect 1" % peer,
                      " neighbor %s advertisement-interval 0" % peer]
    for family, index, network in (("ipv4", 1, V4), ("ipv6", 2, V6)):
        lines += [" address-family %s unicast" % family, "  network " + network, "  redistribute static route-map RTBH"]
        for name, link in LINKS.items():
            peer = link[1][1] if name == "wit" else link[index][1]
            lines += ["  neighbor %s activate" % peer, "  neighbor %s route-map TO-%s out" % (peer, name.upper()),
                      "  neighbor %s route-map %s in" % (peer, "NOTHING" if name == "wit" else "ANY")]
        lines += [" exit-address-family"]
    lines += ["exit", "route-map ANY permit 10", "exit"]
    return "\n".join(lines) + "\n"


def _up1_config():
    lines = [
        "frr defaults traditional", "hostname up1", "ip forwarding", "ipv6 forwarding",
        "ip route 192.0.2.254/32 Null0", "ipv6 route 100::1/128 Null0",
        "bgp community-list standard BH seq 5 permit blackhole",
        "route-map IN permit 10", " match community BH", " set ip next-hop 192.0.2.254",
        " set ipv6 next-hop global 100::1", " set ipv6 next-hop prefer-global", "exit",
        "route-map IN permit 20", "exit", "route-map OUT permit 10", "exit",
        "router bgp 64501", " bgp router-id 192.0.2.2", " no bgp default ipv4-unicast", " timers bgp 3 9",
        " neighbor 192.0.2.1 remote-as 64500", " neighbor 192.0.2.1 disable-connected-check",
        " neighbor 192.0.2.1 timers connect 1",
        " neighbor 2001:db8:1::1 remote-as 64500", " neighbor 2001:db8:1::1 disable-connected-check",
        " neighbor 2001:db8:1::1 timers connect 1",
        " address-family ipv4 unicast", "  network 198.51.100.0/24", "  neighbor 192.0.2.1 activate",
        "  neighbor 192.0.2.1 route-map IN in", "  neighbor 192.0.2.1 route-map OUT out", " exit-address-family",
        " address-family ipv6 unicast", "  network 2001:db8:f::/64", "  neighbor 2001:db8:1::1 activate",
        "  neighbor 2001:db8:1::1 route-map IN in", "  neighbor 2001:db8:1::1 route-map OUT out",
        " exit-address-family", "exit",
    ]
    return "\n".join(lines) + "\n"


_BIRD = """
log stderr all;
router id 192.0.2.6;
protocol device {}
protocol kernel k4 { ipv4 { export where source = RTS_BGP; }; }
protocol kernel k6 { ipv6 { export where source = RTS_BGP; }; }
protocol static s4 { ipv4; route 198.51.100.0/24 via "up2-inet"; }
protocol static s6 { ipv6; route 2001:db8:f::/64 via "up2-inet"; }
filter from_customer {
  if (64502, 666) ~ bgp_community then dest = RTD_BLACKHOLE;
  accept;
}
protocol bgp e4 {
  local 192.0.2.6 as 64502; neighbor 192.0.2.5 as 64500; connect delay time 1; connect retry time 1; hold time 9;
  ipv4 { import filter from_customer; export where source = RTS_STATIC; next hop self; };
}
protocol bgp e6 {
  local 2001:db8:2::2 as 64502; neighbor 2001:db8:2::1 as 64500; connect delay time 1; connect retry time 1; hold time 9;
  ipv6 { import filter from_customer; export where source = RTS_STATIC; next hop self; };
}
"""

_WITNESS = """
import sys
with open(sys.argv[1], "a") as out:
    for line in iter(sys.stdin.readline, ""):
        out.write(line)
        out.flush()
"""

_EXABGP = """
process witness {
    run %(python)s %(script)s %(output)s;
    encoder json;
}
neighbor 192.0.2.9 {
    router-id 192.0.2.10;
    local-address 192.0.2.10;
    local-as 64503;
    peer-as 64500;
    hold-time 9;
    family { ipv4 unicast; ipv6 unicast; }
    api { processes [ witness ]; receive { parsed; update; } }
}
"""


class RouterLab:
    """The whole of it; a context manager that takes everything down whatever happens.

    :ivar edge: the FRR under test; `sshd` leads to it
    """

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._net = None

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exc):
        self._stack.close()

    def _build(self):
        # Not pytest's tmp_path: user frr must get there, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="auprt"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self._net = net = self._stack.enter_context(Net())
        for name in ("edge", "up1", "up2", "wit", "cust", "inet"):
            # Before there is an interface: the way out and the way back may differ here.
            net.add(name).sysctl({"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0})
        self._addresses(net)
        net.serve(net["cust"], _SERVICE)
        self.edge = self._frr("edge", _edge_config())
        self._frr("up1", _up1_config())
        self._bird()
        self._exabgp()
        vtysh = " ".join(self.edge.argv)
        self.sshd = Sshd(self.folder, 'if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec %s -c "$SSH_ORIGINAL_COMMAND"; fi\n'
                                      "exec %s\n" % (vtysh, vtysh))
        self._stack.callback(self.sshd.stop)
        self.wait_for_sessions()
        eventually("the victim is reachable", lambda: self.reach() == {"victim": [True, True], "neighbour": [True, True]})
        # As a router is found: what runs is what is saved.
        self.edge.vtysh("write memory")
        self.pristine = self.edge.running

    def _frr(self, name, config):
        daemon = Frr(self._net[name], self.folder / name, name, config)
        self._stack.callback(daemon.stop)
        return daemon

    def _addresses(self, net):
        for name, (_asn, v4, v6) in LINKS.items():
            net.veth(net["edge"], "e-" + name, net[name], name + "-e")
            net["edge"].ip("addr add %s/30 dev e-%s" % (v4[0], name), "addr add %s/64 dev e-%s nodad" % (v6[0], name))
            net[name].ip("addr add %s/30 dev %s-e" % (v4[1], name), "addr add %s/64 dev %s-e nodad" % (v6[1], name))
        net.veth(net["edge"], "e-cust", net["cust"], "cust-e")
        net["edge"].ip("addr add 203.0.113.1/24 dev e-cust", "addr add 2001:db8:100::1/48 dev e-cust nodad")
        for four, six in (VICTIM, NEIGHBOUR):
            net["cust"].ip("addr add %s/24 dev cust-e" % four, "addr add %s/48 dev cust-e nodad" % six)
        net["cust"].ip("route add default via 203.0.113.1", "route add default via 2001:db8:100::1")
        for number, name in ((1, "up1"), (2, "up2")):
            net.veth(net[name], name + "-inet", net["inet"], "inet-" + name)
            net[name].ip("addr add 198.51.100.%d/24 dev %s-inet" % (number, name),
                         "addr add 2001:db8:f::%d/64 dev %s-inet nodad" % (number, name))
        net["inet"].ip("link add br0 type bridge", "link set inet-up1 master br0", "link set inet-up2 master br0",
                       "link set br0 up", "addr add %s/24 dev br0" % OUTSIDE[0],
                       "addr add %s/64 dev br0 nodad" % OUTSIDE[1],
                       "route add default via 198.51.100.1", "route add default via 2001:db8:f::1")
        for name in ("edge", "up1", "up2"):
            net[name].sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})

    def _start(self, name, argv, env=None):
        log = (self.folder / (Path(argv[0]).name + ".log")).open("ab")
        process = subprocess.Popen(["ip", "netns", "exec", self._net[name].name, *argv], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, env=env, preexec_fn=_die_with_parent)
        log.close()

        def stop():
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.callback(stop)

    def _bird(self):
        config = self.folder / "bird.conf"
        config.write_text(_BIRD)
        self._start("up2", ["/usr/sbin/bird", "-f", "-c", str(config), "-s", str(self.folder / "bird.ctl")])

    def _exabgp(self):
        self.heard_file = self.folder / "heard"
        script, config = self.folder / "witness.py", self.folder / "exabgp.conf"
        script.write_text(_WITNESS)
        config.write_text(_EXABGP % {"python": "/usr/bin/python3", "script": script, "output": self.heard_file})
        self._start("wit", ["/usr/sbin/exabgp", str(config)], dict(
            os.environ, **{"exabgp.daemon.daemonize": "false", "exabgp.daemon.user": "root", "exabgp.api.cli": "false",
                           "exabgp.log.all": "false"}))

    def wait_for_sessions(self):
        """Until all five BGP sessions are up."""
        def up():
            peers = {}
            for family in ("ipv4", "ipv6"):
                peers.update(self.edge.json("show bgp %s unicast summary" % family).get("peers", {}))
            return len(peers) == 5 and all(peer["state"] == "Established" for peer in peers.values())
        eventually("BGP sessions", up, 30)

    def reset(self):
        """The edge as it was built, so that tests don't depend on one another."""
        for line in self.edge.statics():
            self.edge.configure("no " + line)
        self.edge.vtysh("write memory")
        eventually("the edge is as it was", lambda: self.edge.running == self.pristine)

    def in_namespace(self, space, command):
        """A command in one of the namespaces, that must succeed."""
        return self._net[space].check(command)

    # -- what is true out there --------------------------------------------------------------------------------------

    def answers(self, address):
        """Whether an address accepts a connection from the outside world."""
        return self._net["inet"].try_tcp(address, _SERVICE, timeout=0.5) == "open"

    def reach(self):
        """Who is reachable from outside, on v4 and v6."""
        return {"victim": [self.answers(a) for a in VICTIM], "neighbour": [self.answers(a) for a in NEIGHBOUR]}

    def kernel(self, space, prefix):
        """Type of the kernel's route for exactly this prefix in a namespace, or None."""
        family = "-6" if ":" in prefix else "-4"
        rows = json.loads(self._net[space].check(["ip", "-j", family, "route", "show", "exact", prefix]) or "[]")
        return rows[0].get("type", "unicast") if rows else None

    def heard(self):
        """{prefix: communities as `asn:value`, or None when withdrawn}, as the witness heard it last."""
        state = {}
        if not self.heard_file.exists():
            return state
        for line in self.heard_file.read_text().splitlines():
            try:
                message = json.loads(line)["neighbor"]["message"]["update"]
            except (ValueError, KeyError):
                continue
            community = ["%d:%d" % tuple(pair) for pair in message.get("attribute", {}).get("community", ())]
            for hops in message.get("announce", {}).values():
                for routes in hops.values():
                    state.update({_nlri(route): sorted(community) for route in routes})
            for routes in message.get("withdraw", {}).values():
                state.update({_nlri(route): None for route in routes})
        return state


def _nlri(route):
    return route["nlri"] if isinstance(route, dict) else route
