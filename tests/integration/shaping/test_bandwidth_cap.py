# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cap of a service measured on its wires, and what is left when it goes. Real kernel, own namespaces."""
from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time

import pytest
from frames import checksum
from netns import Net, run

from ansible_collections.hosting.aup.plugins.module_utils._backends import _tc

RATE = 10_000_000
SECONDS = 6
MACS = {"eth0": "52:54:00:00:00:01", "eth1": "52:54:00:00:00:02"}
TARGETS = {"to_guest": ("192.0.2.11", "2001:db8:2::11"), "from_guest": ("192.0.2.200", "2001:db8:2::200")}

# 1,400 bytes of payload each, paced at a rate well above the cap.
_SEND = """
import socket, sys, time
address, bits, until = sys.argv[1], float(sys.argv[2]), time.monotonic() + float(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sent, start = 0, time.monotonic()
while (now := time.monotonic()) < until:
    while sent * 1400 * 8 < (now - start) * bits:
        try:
            sock.sendto(b"x" * 1400, (address, 9))
        except OSError:
            pass
        sent += 1
    time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def net():
    """A guest with two NICs in different networks, bridged; and the world."""
    with Net() as made:
        host, guest, world = (made.add(name) for name in ("host", "guest", "world"))
        for number, nic in enumerate(("eth0", "eth1")):
            bridge = "br%d" % number
            host.ip("link add %s type bridge forward_delay 0 mcast_snooping 0" % bridge, "link set %s up" % bridge)
            made.veth(host, "tap%d" % number, guest, nic, MACS[nic])
            made.veth(host, "up%d" % number, world, nic)
            host.ip("link set tap%d master %s" % (number, bridge), "link set up%d master %s" % (number, bridge))
        for space, last in ((guest, 11), (world, 200)):
            space.ip("addr add 192.0.2.%d/24 dev eth0" % last, "addr add 2001:db8:2::%d/64 dev eth1 nodad" % last)
        made.host = host
        yield made


def converge(net, caps, found):
    """Plan and apply on the host; what a second plan still wants."""
    def work():
        with _tc.Tc() as tc:
            steps, errors = _tc.plan(caps, tc.observe(), found)
            for step in steps:
                tc.apply(step, found)
            return steps, errors, _tc.plan(caps, tc.observe(), found)[0]
    return net.host.call(work)


def world_of(net):
    """What the host's traffic control and links are, as text."""
    return net.host.check("tc qdisc show") + "".join(
        net.host.check(["tc", "filter", "show", "dev", port, hook]) for port in ("tap0", "tap1") for hook in ("ingress", "egress")
    ) + "\n".join(sorted(line.split(":")[1] for line in net.host.check("ip -o link").splitlines()))


def received(space):
    """Bytes at layer 2 that arrived on both NICs, IPv4 on the one and IPv6 on the other."""
    return sum(int(space.check("cat /sys/class/net/%s/statistics/rx_bytes" % nic)) for nic in MACS)


def send(space, address, seconds, bits=2 * RATE):
    return subprocess.Popen(["ip", "netns", "exec", space.name, sys.executable, "-c", _SEND, address, str(bits), str(seconds)])


def ping(space, address, number, timeout=1.0):
    """Whether one echo request is answered in time; there is no ping on every machine."""
    head = struct.pack("!BBHHH", 8, 0, 0, 4711, number)
    with space.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(struct.pack("!BBHHH", 8, 0, checksum(head), 4711, number), (address, 0))
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                packet = sock.recv(2048)
            except TimeoutError:
                return False
            if packet[20:22] == b"\0\0" and packet[24:28] == struct.pack("!HH", 4711, number):
                time.sleep(0.1)
                return True
    return False


CAPS = {"vps-1": {"rate_bps": RATE, "devices": ["tap0", "tap1"]}}


@pytest.mark.parametrize("direction", _tc.DIRECTIONS)
def test_both_nics_and_families_share_one_exact_rate_and_the_guest_answers_meanwhile(net, direction):
    before, found = world_of(net), set()
    steps, errors, left = converge(net, CAPS, found)
    assert len(steps) == 6 and not errors and not left
    sender, receiver = (net["world"], net["guest"]) if direction == "to_guest" else (net["guest"], net["world"])
    senders = [send(sender, address, SECONDS + 2.5) for address in TARGETS[direction]]
    try:
        time.sleep(1)
        start, begin = received(receiver), time.monotonic()
        answered = [ping(net["world"], TARGETS["to_guest"][0], number) for number in range(10)]
        time.sleep(max(0, begin + SECONDS - time.monotonic()))
        bits = 8 * (received(receiver) - start) / (time.monotonic() - begin)
    finally:
        for one in senders:
            one.wait()
    assert abs(bits - RATE) <= 0.02 * RATE, "%.0f bit/s" % bits
    assert all(answered), answered
    converge(net, {}, found)
    assert world_of(net) == before


def test_the_other_direction_is_not_slowed_and_without_a_cap_nothing_is(net):
    found = set()
    converge(net, CAPS, found)
    converge(net, {}, found)
    sender = send(net["world"], TARGETS["to_guest"][0], 2, 3 * RATE)
    time.sleep(0.5)
    start, begin = received(net["guest"]), time.monotonic()
    time.sleep(1)
    bits = 8 * (received(net["guest"]) - start) / (time.monotonic() - begin)
    sender.wait()
    assert bits > 2 * RATE


def test_a_rate_of_the_plan_on_the_port_stays_in_force_under_the_cap_and_is_not_touched(net):
    found = set()
    net.host.check("tc qdisc add dev tap0 root handle 77: tbf rate 4mbit burst 20kb latency 50ms")
    try:
        before = world_of(net)
        converge(net, CAPS, found)
        sender = send(net["world"], TARGETS["to_guest"][0], 4)
        time.sleep(1)
        start, begin = received(net["guest"]), time.monotonic()
        time.sleep(2.5)
        bits = 8 * (received(net["guest"]) - start) / (time.monotonic() - begin)
        sender.wait()
        assert abs(bits - 4_000_000) <= 0.05 * 4_000_000, "%.0f bit/s" % bits
        converge(net, {}, found)
        assert world_of(net) == before
    finally:
        net.host.check("tc qdisc del dev tap0 root")


def test_clsact_of_somebody_else_stays_when_ours_goes(net):
    found = set()
    net.host.check("tc qdisc add dev tap0 clsact")
    try:
        before = world_of(net)
        converge(net, CAPS, found)
        assert found == {"tap0"}
        converge(net, {}, found)
        assert world_of(net) == before and not found
    finally:
        net.host.check("tc qdisc del dev tap0 clsact")


@pytest.mark.parametrize("command, words", [
    (["tc qdisc add dev tap0 ingress"], "already has a qdisc ingress"),
    (["tc qdisc add dev tap0 clsact", "tc filter add dev tap0 ingress prio 9 u32 match u32 0 0 flowid 1:1"], "filter of somebody else's"),
])
def test_what_would_have_to_be_destroyed_is_refused_and_left_alone(net, command, words):
    found = set()
    for line in command:
        net.host.check(line)
    try:
        before = world_of(net)
        steps, errors, _left = converge(net, CAPS, found)
        assert not steps and errors[0]["code"] == "foreign_qdisc" and words in errors[0]["message"]
        assert world_of(net) == before
    finally:
        net.host.check("tc qdisc del dev tap0 %s" % ("ingress" if len(command) == 1 else "clsact"))


def test_a_device_deleted_by_hand_a_changed_rate_and_a_new_tap_are_mended_by_the_next_pass(net):
    found = set()
    before = world_of(net)
    converge(net, CAPS, found)
    device = _tc.names("vps-1")["to_guest"]
    for damage in ("ip link del %s" % device, "tc class change dev %s classid 1:1 htb rate 5mbit ceil 9mbit" % device,
                   "ip link set %s down" % device, "tc qdisc del dev tap0 clsact",
                   "tc filter del dev tap1 egress"):
        rc, _out, err = net.host.run(damage.split())
        assert rc == 0, err
        steps, errors, left = converge(net, CAPS, found)
        assert steps and not errors and not left, damage
    steps, errors, left = converge(net, {"vps-1": dict(CAPS["vps-1"], rate_bps=20_000_000)}, found)
    assert [step["verb"] for step in steps] == ["shape", "shape"] and not left
    steps, _errors, left = converge(net, {"vps-1": {"rate_bps": RATE, "devices": ["tap1"]}}, found)
    assert ("release", "tap0") in {(step["verb"], step["device"]) for step in steps} and not left
    converge(net, {}, found)
    assert world_of(net) == before


def test_two_services_have_devices_of_their_own(net):
    found = set()
    caps = {name: {"rate_bps": RATE, "devices": [port]} for name, port in (("vps-1", "tap0"), ("vps-2", "tap1"))}
    converge(net, caps, found)
    del caps["vps-1"]
    steps, _errors, left = converge(net, caps, found)
    assert {step["device"] for step in steps} == {"tap0", *_tc.names("vps-1").values()} and not left
    converge(net, {}, found)
    assert run(["ip", "netns", "exec", net.host.name, "ip", "link", "show", "type", "ifb"])[1] == ""


def test_many_devices_go_in_one_request_and_nobody_elses_with_them(net):
    found = set()
    caps = {name: {"rate_bps": RATE, "devices": [port]} for name, port in (("vps-1", "tap0"), ("vps-2", "tap1"))}
    net.host.ip("link add theirs type ifb")
    converge(net, caps, found)

    def work():
        with _tc.Tc() as tc:
            steps, _errors = _tc.plan({}, tc.observe(), found)
            last = [step for step in steps if step["verb"] == "unshape"]
            for step in steps:
                if step["verb"] != "unshape":
                    tc.apply(step, found)
            gone = dict(last[0], device="aup0000000000t")
            return len(last), tc.unshape_all([*last, gone]), tc.unshape_all(last), _tc.plan({}, tc.observe(), found)[0]

    try:
        assert net.host.call(work) == (4, False, True, []), "one that is gone already is for who does it one by one"
        assert "theirs" in run(["ip", "netns", "exec", net.host.name, "ip", "link", "show", "type", "ifb"])[1]
    finally:
        net.host.ip("link del theirs")
