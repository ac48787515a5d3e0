# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit or not: our reading of a torrc against what a real tor makes of it; and what we write, checked by tor itself."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stem
import stem.control
from tor_network import TOR, free_ports

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._orders import vendor_data
from ansible_collections.hosting.aup.plugins.module_utils._tor_config import torrc
from ansible_collections.hosting.aup.plugins.plugin_utils._tor._torrc import verdict

# torrc, (exits over IPv4, over IPv6). The first rows are the truth table of field-facts E6.
ROWS = {
    "nothing": ("", (False, False)),
    "xtom's sample": ("ExitPolicy reject6 *:*, reject *:*", (False, False)),
    "reject all": ("ExitPolicy reject *:*", (False, False)),
    "reject6 alone": ("ExitPolicy reject6 *:*", (True, False)),
    "commented": ("#ExitPolicy reject6 *:*, reject *:*", (False, False)),
    "ExitRelay 0 with a policy": ("ExitRelay 0\nExitPolicy accept *:*", (False, False)),
    "ExitRelay 1": ("ExitRelay 1", (True, False)),
    "reduced": ("ReducedExitPolicy 1", (True, False)),
    "IPv6Exit": ("IPv6Exit 1", (True, True)),
    "one port": ("ExitPolicy accept *:443, reject *:*", (True, False)),
    "bridge": ("BridgeRelay 1", (False, False)),
    # Further ones.
    "only IPv6": ("IPv6Exit 1\nExitPolicy accept6 *:443\nExitPolicy reject *:*", (False, True)),
    "reject4 alone": ("IPv6Exit 1\nExitPolicy reject *4:*", (False, True)),
    "bridge with ExitRelay 1": ("BridgeRelay 1\nExitRelay 1", (False, False)),
    "bridge with a policy": ("BridgeRelay 1\nExitRelay 1\nExitPolicy accept *:80", (True, False)),
    "shadowed": ("ExitPolicy reject *:80, accept *:80, reject *:*", (False, False)),
    "two lines": ("ExitPolicy reject *:25\nExitPolicy reject *:*", (False, False)),
    "case and spaces": ("  exitrelay   1\n\tEXITPOLICY accept *:22,reject *:*  # a comment", (True, False)),
    "appended": ("+ExitPolicy accept *:22\nExitPolicy reject *:*", (True, False)),
    "continued": ("ExitPolicy accept *:22, \\\n  reject *:*", (True, False)),
    "last wins": ("ExitRelay 1\nExitRelay 0", (False, False)),
    "one network": ("ExitPolicy accept 192.0.2.0/24:*, reject *:*", (True, False)),
    "all ports but one": ("ExitPolicy reject *:1-24, reject *:26-65535", (True, False)),
    "everything by network": ("ExitPolicy reject 0.0.0.0/0:*, reject6 *:*", (False, False)),
}


OPTIONS = {
    "defaults": {},
    "relay": {"kind": "relay", "nickname": "example", "contact": "Tor <tor@example.com> +49 30 1", "or_port": 443,
              "address": ["203.0.113.9", "[2001:db8::9]"], "bandwidth_rate": "10 MBytes", "bandwidth_burst": "20 MBytes",
              "family": ["A" * 40]},
    "obfs4": {"kind": "bridge", "transport_port": 8443},
    "bridge": {"kind": "bridge"},
}
RELAY = "ORPort 203.0.113.9:9001 NoListen\nExitPolicyRejectPrivate 1\n"  # with 0 tor 0.4.9 aborts on IPv6Exit alone


class Tor:
    """A real tor that makes its descriptor and speaks to nobody: its only directory authority is a closed port on loopback."""

    def __init__(self, directory, lines):
        directory.mkdir(mode=0o700)
        self.socket = directory / "control"
        empty, torrc_file = directory / "empty", directory / "torrc"
        empty.write_text("")
        torrc_file.write_text(
            lines + "\nTestingTorNetwork 1\nAssumeReachable 1\nPublishServerDescriptor 0\nSocksPort 0\nDataDirectory %s\n"
            "ControlSocket %s\nORPort 127.0.0.1:%d NoAdvertise\nDirAuthority none orport=1 no-v2 127.0.0.1:1 %s\n" % (
                directory / "data", self.socket, free_ports(1)[0], "F" * 40))
        self.process = subprocess.Popen([TOR, "-f", str(torrc_file), "--defaults-torrc", str(empty), "--hush"], stdout=subprocess.DEVNULL)

    def policies(self, seconds=60):
        """{family: exit policy} as tor itself has worked it out."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, "tor refused the configuration"
            try:
                with stem.control.Controller.from_socket_file(str(self.socket)) as controller:
                    controller.authenticate()
                    return {family: controller.get_info("exit-policy/ipv%s" % family).splitlines() for family in "46"}
            except (stem.ControllerError, stem.SocketError):
                time.sleep(0.2)
        raise AssertionError("tor made no descriptor in %d s" % seconds)

    def close(self):
        self.process.kill()
        self.process.wait(timeout=20)


def written(name):
    """What we write for these options, so that it runs here: ports stay closed, the bridge's transport is not installed."""
    text = re.sub(r"ORPort (\d+)\n", r"ORPort 203.0.113.9:\1 NoListen\n", torrc(OPTIONS[name]))
    text = re.sub(r"Address \[.*\]\n|ServerTransport.*\n|ExtORPort.*\n", "", text)
    return (text if "Address 203" in text else text + "Address 203.0.113.9\n") + "ExitPolicyRejectPrivate 1\n"


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """`{name: {family: policy}}` by real tors, all at once."""
    directory = tmp_path_factory.mktemp("tors")
    directory.chmod(0o700)
    texts = {name: RELAY + "Address 203.0.113.9\n" + lines for name, (lines, _exits) in ROWS.items()}
    texts.update({"ours " + name: written(name) for name in OPTIONS})
    running = {}
    try:
        for number, (name, text) in enumerate(texts.items()):
            running[name] = Tor(directory / str(number), text)
        yield {name: tor.policies() for name, tor in running.items()}
    finally:
        for tor in running.values():
            tor.close()


def accepted(policies):
    """(over IPv4, over IPv6): whether an entry accepts that comes before everything is rejected."""
    return tuple(any(line.startswith("accept") for line in policies[family]) for family in "46")


@pytest.mark.parametrize("name", ROWS)
def test_the_truth_table_by_our_reading_and_by_a_real_tor(parsed, name):
    lines, exits = ROWS[name]
    found = verdict(RELAY + lines)
    assert (found.exits4, found.exits6) == exits, found.reason
    assert accepted(parsed[name]) == exits, parsed[name]


@pytest.mark.parametrize("text, part", [
    ("ORPort 1\nExitRelay 1\n%include /etc/tor/more", "includes other files"), ("ORPort 1\nExitPolicy allow *:*", "none that tor takes"),
    ("ORPort 1\nExitPolicy accept *:x", "none that tor takes"), ("x\n" * 10001, "more than"),
])
def test_what_cannot_be_told_is_not_guessed(text, part):
    with pytest.raises(InputError, match=part):
        verdict(text)


def test_a_client_is_no_relay():
    assert verdict("SocksPort 9050\nExitRelay 1\nORPort 0\n") == (False, False, "no ORPort: a client, no relay")


@pytest.mark.parametrize("name", OPTIONS)
def test_what_we_write_is_good_to_tor_and_never_exits(parsed, tmp_path, name):
    text = torrc(OPTIONS[name])
    path = tmp_path / "torrc"
    path.write_text(text + "DataDirectory %s\n" % tmp_path)
    done = subprocess.run([TOR, "--verify-config", "-f", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and "Configuration was valid" in done.stdout, done.stdout
    assert verdict(text)[:2] == (False, False) == accepted(parsed["ours " + name])


@pytest.mark.parametrize("options", [
    {"kind": "exit"}, {"nickname": "a b"}, {"nickname": "x\nExitRelay 1"}, {"contact": "me\nExitRelay 1"}, {"contact": 'a"b'},
    {"contact": "a \\"}, {"or_port": 0}, {"or_port": "9001\nExitRelay 1"}, {"address": ["example.com"]}, {"bandwidth_rate": "fast"},
    {"family": ["short"]}, {"kind": "bridge", "family": ["A" * 40]}, {"transport_port": 1}, {"ExitRelay": 1}, {"or_port": True},
])
def test_options_that_are_none_are_refused(options):
    with pytest.raises(InputError, match="Tor:"):
        torrc(options)


def test_a_new_guest_that_declares_a_relay_is_born_with_the_same_file():
    entry = {"smtp": {"mode": "enforce", "ports": [25]}}
    for kind in ("relay", "bridge"):
        found = vendor_data({"id": "vps-1", "uses": {"tor": kind}}, entry, None)
        assert {"path": "/etc/tor/torrc", "permissions": "0644", "content": torrc({"kind": kind})} in found["write_files"]
        assert found["packages"] == ["tor"] and len(found["write_files"]) == 2
    for uses in ({}, {"tor": "exit"}, {"mail": "relay"}):
        assert "packages" not in vendor_data({"id": "vps-1", "uses": uses}, entry, None)


def test_the_role_writes_it_once_and_lets_tor_refuse(tmp_path):
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "hosting")))
    target = tmp_path / "torrc"

    def play(**variables):
        book = tmp_path / "play.yml"
        book.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [
            {"name": "role", "ansible.builtin.import_role": {"name": "hosting.aup.tor"}, "vars": dict(
                {"tor_packages": [], "tor_service": "", "tor_torrc": str(target), "tor_nickname": "example"}, **variables)}]}]))
        return subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(book)], capture_output=True, text=True,
            timeout=120, check=False, cwd=tmp_path, env=os.environ | {
                "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable})

    first, second = play(), play()
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"changed=1 ", first.stdout) and re.search(r"changed=0 ", second.stdout)
    assert target.read_text() == torrc({"kind": "relay", "nickname": "example", "or_port": 9001, "address": [], "family": []})
    refused = play(tor_nickname="two words")
    assert refused.returncode != 0 and "1 to 19 letters" in refused.stdout and "example" in target.read_text()
