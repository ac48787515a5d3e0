# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Tor network of our own on loopback: one directory authority and relays that never leave this machine."""
from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

TOR = shutil.which("tor") or "/usr/sbin/tor"
COMMON = """\
TestingTorNetwork 1
DataDirectory {data}
SocksPort 0
AssumeReachable 1
AddressDisableIPv6 0
ExitPolicyRejectPrivate 0
DirAuthority auth orport={orport} v3ident={v3} no-v2 127.0.0.1:{dirport} {fingerprint}
Log notice file {data}/log
"""
AUTHORITY = """\
Nickname auth
Address 127.0.0.1
ContactInfo auth@example.com
ORPort 127.0.0.1:{orport} IPv4Only
DirPort 127.0.0.1:{dirport}
ExitRelay 0
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 4
V3AuthDistDelay 4
TestingMinExitFlagThreshold 0
AuthDirTestReachability 0
TestingAuthDirTimeToLearnReachability 0
"""


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class TorNetwork:
    """`relays`: {nickname: (address, options)}; `documents()` gives what the authority serves."""

    def __init__(self, directory, relays):
        self.directory, self.running = directory, []
        self.orport, self.dirport, *ports = free_ports(2 + len(relays))
        self._make_authority()
        try:
            self._start("auth", AUTHORITY.format(orport=self.orport, dirport=self.dirport))
            for (nickname, (address, options)), port in zip(relays.items(), ports):
                self._start(nickname, "Nickname %s\nAddress %s\nORPort %s:%d NoListen\nORPort 127.0.0.1:%d NoAdvertise\n%s\n" % (
                    nickname, address, address, port, port, options))
            self._wait(set(relays))
        except BaseException:
            self.close()
            raise

    def _make_authority(self):
        keys = self.directory / "auth" / "keys"
        keys.mkdir(parents=True, mode=0o700)
        (self.directory / "auth").chmod(0o700)
        subprocess.run(["tor-gencert", "--create-identity-key", "-m", "12", "-a", "127.0.0.1:%d" % self.dirport,
                        "--passphrase-fd", "0"], cwd=keys, input=b"passphrase\n", check=True, capture_output=True, timeout=60)
        certificate = (keys / "authority_certificate").read_text()
        self.v3 = re.search(r"^fingerprint ([0-9A-F]{40})$", certificate, re.MULTILINE).group(1)
        empty = self.directory / "empty"
        empty.touch()
        said = subprocess.run(
            [TOR, "--list-fingerprint", "--quiet", "-f", str(empty), "--defaults-torrc", str(empty), "--DataDirectory",
             str(self.directory / "auth"), "--orport", "1", "--nickname", "auth", "--contactinfo", "x",
             "--dirauthority", "x 127.0.0.1:1 " + "F" * 40], check=True, capture_output=True, text=True, timeout=60).stdout
        self.fingerprint = said.split(" ", 1)[1].replace(" ", "").strip()

    def _start(self, name, more):
        data = self.directory / name
        data.mkdir(exist_ok=True, mode=0o700)
        torrc = data / "torrc"
        torrc.write_text(COMMON.format(data=data, orport=self.orport, dirport=self.dirport, v3=self.v3,
                                       fingerprint=self.fingerprint) + more)
        self.running.append(subprocess.Popen([TOR, "-f", str(torrc), "--defaults-torrc", str(self.directory / "empty"), "--quiet"]))

    def fetch(self, path):
        # Straight to loopback, whatever proxy this machine has.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open("http://127.0.0.1:%d%s" % (self.dirport, path), timeout=5) as answer:
            return answer.read()

    def _wait(self, nicknames, seconds=120):
        end, missing = time.monotonic() + seconds, nicknames
        while time.monotonic() < end:
            dead = [one for one in self.running if one.poll() is not None]
            assert not dead, "a tor ended: %s" % [(one.args, one.returncode) for one in dead]
            try:
                consensus = self.fetch("/tor/status-vote/current/consensus").decode("ascii")
                missing = nicknames - set(re.findall(r"^r (\S+) ", consensus, re.MULTILINE))
                if not missing and self.fetch("/tor/server/all").count(b"\nrouter-signature") > len(nicknames):
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError("no consensus with %s in %d s" % (sorted(missing), seconds))

    def documents(self):
        return {"consensus": self.fetch("/tor/status-vote/current/consensus"),
                "descriptors": self.fetch("/tor/server/all"),
                "certificates": self.fetch("/tor/keys/all")}

    def close(self):
        for one in self.running:
            if one.poll() is None:
                one.send_signal(signal.SIGKILL)
            one.wait(timeout=10)
