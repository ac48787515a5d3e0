# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a decision to the dropped packet for 1, 100 and 20,000 remote addresses, and until all are dropped again after a flush of
the ruleset: ours, Debian's fail2ban, the CrowdSec firewall bouncer, and a bare `nft -f` of the same addresses.

Each has a namespace of its own with a cable to a sender. Up to twenty of the addresses, evenly spread, send a UDP packet each every
4 ms all the time; dropped is when the last of them was heard for the last time, or, if not all addresses are in the ruleset by then,
when they are. Real: nft, fail2ban with its own
action `nftables-allports` (blocktype drop), the bouncer in mode nftables, both as the distribution packages them and with files of
their own. Not real: the bouncer's LAPI, a stand-in of a few lines that serves the documented stream of decisions; its time begins
when that is asked, so the bouncer's own waiting for its next question (10 s unless configured otherwise) is left out. Ours is
a process of its own that plans, applies and looks again, as the module; of libvirt it has the test driver. Needs root.

    python tests/benchmarks/bench_peers.py [addresses …]
"""
from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / "integration"),
                str(Path(__file__).resolve().parent)]

import provider
from bench_enforce import enforcement
from bench_node import _DOMAIN, catalogue_of, desired_of
from figures import line
from netns import Net, leave_on_signals

HERE = Path(__file__).resolve().parent
BEAT = 0.004
PROBES = 20
SILENT = 0.4  # seconds without a packet, after which the last one was the last
PATIENCE = 25  # seconds for one measurement; fail2ban with 20,000 needs longer, which is then said
PORT = 4000
SERVER_MAC, SENDER_MAC = "52:54:02:00:00:01", "52:54:02:00:00:02"
SERVER, FIRST = "10.0.0.0", ipaddress.ip_address("100.64.0.1")  # the service's own address is provider.service(0)'s


def remotes(count: int) -> list[str]:
    """That many remote addresses."""
    return [str(FIRST + number) for number in range(count)]


def frame(source: str, moment: float) -> bytes:
    """A UDP packet from one of them that says when it was sent."""
    payload = struct.pack("!d", moment)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0,
                     ipaddress.ip_address(source).packed, ipaddress.ip_address(SERVER).packed)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    ethernet = bytes.fromhex(SERVER_MAC.replace(":", "") + SENDER_MAC.replace(":", "")) + b"\x08\x00"
    return ethernet + ip + struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload


class Probe:
    """Packets from some addresses all the time, and when each was heard last."""

    def __init__(self, sender, receiver, addresses: list[str]):
        last = len(addresses) - 1
        self.addresses = sorted({addresses[last * number // (PROBES - 1)] for number in range(PROBES)})
        self.heard = dict.fromkeys(self.addresses, 0.0)
        self._out = sender.packet_socket("eth0")
        self._in = receiver.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._in.bind(("0.0.0.0", PORT))
        self._in.settimeout(0.1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True), threading.Thread(target=self._listen, daemon=True)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        limit = time.monotonic() + 5
        while not all(self.heard.values()):
            if time.monotonic() > limit:
                raise RuntimeError("not all of %s are heard before they are dropped" % self.addresses)
            time.sleep(BEAT)
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._in.close()
        self._out.close()

    def _send(self):
        while not self._stop.wait(BEAT):
            for address in self.addresses:
                self._out.send(frame(address, time.monotonic()))

    def _listen(self):
        while not self._stop.is_set():
            try:
                data, (address, _port) = self._in.recvfrom(64)
            except TimeoutError:
                continue
            if address in self.heard:
                self.heard[address] = max(self.heard[address], struct.unpack("!d", data)[0])

    def silent_since(self, patience: float) -> float | None:
        """When the last packet was sent that came through; None if they still come after `patience` seconds."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            last = max(self.heard.values())
            if time.monotonic() - last > SILENT:
                return last
            time.sleep(0.02)
        return None

    def back(self, patience: float = 5) -> None:
        """Return when all are heard again."""
        begin = time.monotonic()
        while min(self.heard.values()) < begin:
            if time.monotonic() > begin + patience:
                raise RuntimeError("not all are heard again after a flush")
            time.sleep(BEAT)


class Side:
    """One of those compared: a namespace, a sender, and what carries decisions out."""

    label = ""
    program: str | None = None  # what has to be installed

    def __init__(self, net: Net, folder: Path, name: str):
        self.folder = folder / name
        self.folder.mkdir()
        self.sender, self.host = net.add(name + "-out"), net.add(name)
        self.wire(net)

    def wire(self, net: Net) -> None:
        """The sender beside the host itself."""
        net.veth(self.sender, "eth0", self.host, "eth0", SERVER_MAC)
        self.host.ip("addr add %s/8 dev eth0" % SERVER, "route add default dev eth0")
        self.host.sysctl({"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.eth0.rp_filter": 0})

    @property
    def receiver(self):
        return self.host

    def spawn(self, argv: list[str], **more) -> subprocess.Popen:
        """Start a program in the host's namespace."""
        return subprocess.Popen(["ip", "netns", "exec", self.host.name, *argv], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)

    def must(self, argv: list[str]) -> None:
        """Run a program there that has to succeed."""
        rc, out, err = self.host.run(argv)
        if rc:
            raise RuntimeError("%s: %s" % (argv[:4], (err or out)[-800:]))

    def elements(self) -> int:
        """How many of the addresses are in sets of the ruleset."""
        listed = self.host.check("nft -j list ruleset")
        return listed.count('"100.')

    def prepare(self, addresses: list[str]) -> None:
        """Before the decision."""

    def decide(self, addresses: list[str]) -> float:
        """Make the decision; returns the moment from which it counts."""
        raise NotImplementedError

    def reassert(self, addresses: list[str]) -> float:
        """All of it once more after a flush, the way this one has for it; returns the moment from which it counts."""
        raise NotImplementedError

    def clear(self, addresses: list[str]) -> None:
        """As before the decision."""

    def close(self) -> None:
        """End what still runs."""


class Bare(Side):
    """nft -f of one set and one rule."""

    label = "bare nft -f"

    def _script(self, addresses):
        return ("table inet bare {\n set remote { type ipv4_addr; elements = { %s }; }\n"
                " chain input { type filter hook input priority -1; ip saddr @remote drop; }\n}\n" % ", ".join(addresses))

    def decide(self, addresses):
        path = self.folder / "bare.nft"
        path.write_text(self._script(addresses))
        begin = time.monotonic()
        self.must(["nft", "-f", str(path)])
        return begin

    reassert = decide

    def clear(self, addresses):
        self.host.run(["nft", "flush", "ruleset"])


class Ours(Side):
    """One service on a bridge, under `drop`."""

    label = "ours, the module's call"

    def wire(self, net):
        one = provider.service(0)
        self.guest = net.add("guest")
        self.host.ip("link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0" % one["bridge"], "link set %s up" % one["bridge"])
        net.veth(self.sender, "eth0", self.host, "eth1")
        net.veth(self.host, one["tap"], self.guest, "eth0", SERVER_MAC)
        for port in ("eth1", one["tap"]):
            self.host.ip("link set %s master %s" % (port, one["bridge"]))
        self.guest.ip("addr add %s/8 dev eth0" % SERVER, "route add default dev eth0")
        self.guest.sysctl({"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.eth0.rp_filter": 0})
        xml = self.folder / "node.xml"
        xml.write_text("<node>" + _DOMAIN % dict(one, mac=SERVER_MAC) + "</node>")
        self.uri, self.revision = f"test://{xml}", 1
        self.catalogue, self.policy = catalogue_of(self.folder / "inventory", 1)
        self.catalogue["services"][one["id"]]["nics"][0]["mac"] = SERVER_MAC
        self.apply([])

    @property
    def receiver(self):
        return self.guest

    def _run(self, verb, desired="-"):
        tree = next(entry for entry in sys.path if entry.endswith(("/dev", "/collections")))
        self.must(["env", "PYTHONPATH=" + tree, "/usr/bin/python3", str(HERE / "peers_node.py"), verb, str(self.folder),
                   self.uri, str(desired)])

    def apply(self, addresses):
        """The desired state is made by the controller before; its time is Ansible's, which `suspend` measures."""
        self.revision += 1
        service = next(iter(self.catalogue["services"].values()))
        found = [dict(enforcement(service, "quarantine"), kind="drop", options={"sources": addresses, "direction": "in"})] if addresses else []
        path = self.folder / "desired.z"
        path.write_text(desired_of(self.catalogue, self.policy, found, self.revision), encoding="ascii")
        begin = time.monotonic()
        self._run("apply", path)
        return begin

    decide = apply

    def reassert(self, addresses):
        begin = time.monotonic()
        self._run("keep")
        return begin

    def clear(self, addresses):
        self.apply([])


class Fail2ban(Side):
    """A jail that is told by its client."""

    label = "fail2ban, banip and its nftables action"
    program = "fail2ban-server"

    def _client(self, *words):
        return ["fail2ban-client", "-c", str(self.folder / "etc"), "-s", str(self.folder / "sock"), "-p", str(self.folder / "pid"), *words]

    def prepare(self, addresses):
        etc = self.folder / "etc"
        if not etc.exists():
            shutil.copytree("/etc/fail2ban", etc)
            for path in (etc / "jail.d").iterdir():
                path.unlink()
            (self.folder / "log").touch()
            (etc / "fail2ban.local").write_text("[Definition]\nloglevel = ERROR\nlogtarget = %s\ndbfile = %s\n" % (
                self.folder / "f2b.log", self.folder / "f2b.sqlite3"))
            (etc / "filter.d/bench.conf").write_text("[Definition]\nfailregex = ^never <HOST>$\n")
            (etc / "jail.local").write_text(
                "[DEFAULT]\nbackend = polling\nusedns = no\n[bench]\nenabled = true\nfilter = bench\nlogpath = %s\n"
                "bantime = 1d\naction = nftables-allports[name=bench, blocktype=drop, protocol=\"tcp,udp\"]\n" % (self.folder / "log"))
        self.server = self.spawn(["fail2ban-server", *self._client()[1:], "-f", "start"])
        limit = time.monotonic() + 30
        while self.host.run(self._client("ping"))[0]:
            if time.monotonic() > limit:
                raise RuntimeError("fail2ban does not answer")
            time.sleep(0.1)

    def decide(self, addresses):
        begin = time.monotonic()
        self.asked = self.spawn(self._client("set", "bench", "banip", *addresses))  # with 20,000 it does not come back for minutes
        return begin

    def reassert(self, addresses):
        begin = time.monotonic()
        self.must(self._client("restart"))
        return begin

    def clear(self, addresses):
        self.close()
        for name in ("f2b.sqlite3", "sock", "pid"):
            (self.folder / name).unlink(missing_ok=True)
        self.host.run(["nft", "flush", "ruleset"])

    def close(self):
        pid = self.folder / "pid"
        if pid.exists():  # a restart has made another process
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(int(pid.read_text()), sign)
                except (ProcessLookupError, ValueError, FileNotFoundError):
                    break
                limit = time.monotonic() + 3
                while pid.exists() and time.monotonic() < limit:
                    time.sleep(0.05)
        for name in ("asked", "server"):
            if getattr(self, name, None):
                getattr(self, name).kill()
                getattr(self, name).wait()
                setattr(self, name, None)


class Lapi(BaseHTTPRequestHandler):
    """The stream of decisions: everything at start-up, then what is new since the last question."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        state = self.server.state
        new, begin = state["all"] if "startup=true" in self.path else state["new"], time.monotonic()
        body = json.dumps({"new": [
            {"id": number, "duration": "4h0m0s", "origin": "bench", "scenario": "bench", "scope": "Ip", "type": "ban", "value": value}
            for number, value in enumerate(new, 1)] or None, "deleted": None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if new:
            state["new"] = []
            state["answered"].append(begin)
        state["asked"] += 1

    def log_message(self, *_words):
        pass


class Bouncer(Side):
    """The CrowdSec firewall bouncer on a stand-in of its LAPI."""

    label = "CrowdSec bouncer, from its next question"
    program = "crowdsec-firewall-bouncer"

    def prepare(self, addresses):
        if not hasattr(self, "lapi"):
            self.lapi = self.host.call(ThreadingHTTPServer, ("127.0.0.1", 8080), Lapi)
            self.lapi.state = {"all": [], "new": [], "answered": [], "asked": 0}
            threading.Thread(target=self.lapi.serve_forever, daemon=True).start()
        (self.folder / "bouncer.yaml").write_text(
            "mode: nftables\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: file\nlog_dir: %s/\nlog_level: info\n"
            "api_url: http://127.0.0.1:8080/\napi_key: bench\ndeny_action: DROP\nsupported_decisions_types:\n  - ban\n"
            "blacklists_ipv4: crowdsec-blacklists\nblacklists_ipv6: crowdsec6-blacklists\n"
            "nftables:\n  ipv4: {enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}\n"
            "  ipv6: {enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}\n"
            "prometheus:\n  enabled: false\n" % self.folder)
        self.lapi.state.update(all=[], new=[])
        self._start()

    def _start(self):
        asked = self.lapi.state["asked"]
        self.running = self.spawn(["crowdsec-firewall-bouncer", "-c", str(self.folder / "bouncer.yaml")])
        limit = time.monotonic() + 20
        while self.lapi.state["asked"] == asked:
            if time.monotonic() > limit or self.running.poll() is not None:
                raise RuntimeError("the bouncer does not ask: see its log in %s" % self.folder)
            time.sleep(0.01)

    def decide(self, addresses):
        state = self.lapi.state
        answered = len(state["answered"])
        state["all"], state["new"] = addresses, addresses
        limit = time.monotonic() + 20
        while len(state["answered"]) == answered:
            if time.monotonic() > limit:
                raise RuntimeError("the bouncer does not ask again")
            time.sleep(0.001)
        return state["answered"][-1]

    def reassert(self, addresses):
        self.close()
        self.lapi.state["new"] = []
        begin = time.monotonic()
        self._start()
        return begin

    def clear(self, addresses):
        self.close()
        self.host.run(["nft", "flush", "ruleset"])

    def close(self):
        if getattr(self, "running", None):
            self.running.terminate()
            try:
                self.running.wait(10)
            except subprocess.TimeoutExpired:
                self.running.kill()
                self.running.wait()
            self.running = None


def once(side: Side, addresses: list[str]) -> dict[str, tuple[float | None, int]]:
    """`{what: (seconds or None, how many were in force)}` of one decision and one flush."""
    side.prepare(addresses)
    found = {}
    with Probe(side.sender, side.receiver, addresses) as probe:
        for what, act in (("decided", side.decide), ("flushed", side.reassert)):
            begin = act(addresses)
            last = probe.silent_since(PATIENCE - (time.monotonic() - begin))
            count = side.elements()
            while last is not None and count < len(addresses):  # those that are not asked for may be later
                last = time.monotonic()
                count = side.elements()
                if last > begin + PATIENCE:
                    last = None
            found[what] = (None if last is None else max(last + BEAT - begin, 0.0), count)
            if last is None:
                break
            side.must(["nft", "flush", "ruleset"])
            if what == "decided":
                probe.back()
    side.clear(addresses)
    return found


def main(sizes: list[int]) -> None:
    """Measure and print."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, for network namespaces")
    there = [(name, made) for name, made in (("bare", Bare), ("ours", Ours), ("f2b", Fail2ban), ("cs", Bouncer))
             if made.program is None or shutil.which(made.program)]
    for made in {Fail2ban, Bouncer} - {made for _name, made in there}:
        print("%s is not installed here and is left out" % made.program)
    with tempfile.TemporaryDirectory(prefix="aup-peers-") as place, Net() as net, ExitStack() as stack:
        sides = [made(net, Path(place), name) for name, made in there]
        for side in sides:
            stack.callback(side.close)
        for size in sizes:
            addresses = remotes(size)
            found = {side: once(side, addresses) for side in sides}
            for what, label in (("decided", "until dropped"), ("flushed", "after a flush, until dropped again")):
                base = found[sides[0]][what][0]
                print("%s remote address%s, %s" % (format(size, ","), "es" if size > 1 else "", label))
                for side in sides:
                    seconds, count = found[side].get(what, (None, 0))
                    text = ("%.3f s  %.1f x" % (seconds, seconds / base) if seconds is not None
                            else "not within %d s: %s in force" % (PATIENCE, format(count, ",")) if what in found[side] else "not tried")
                    print(line("  " + side.label, text))
            sys.stdout.flush()


if __name__ == "__main__":
    leave_on_signals()
    main([int(word) for word in sys.argv[1:]] or [1, 100, 20000])
