# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dedicated servers on the ports of a plain Linux router: nftables and iproute2 over SSH, in a namespace of its own."""
from __future__ import annotations

import copy
import socket
import threading
import time

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._router._linux import Linux
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import RouterError
from tests.integration.routers.linux_lab import ROUTER
from tests.integration.routers.port_lab import MAIL, OUTSIDE, PORT, SERVERS, PortLab
from tests.integration.routers.provider import POLICY, Provider, dedicated
from tests.integration.routers.router_lab import eventually



def server(name):
    """One of the lab's, as a service."""
    interface, _gateway, own, _other = SERVERS[name]
    return dedicated(name, interface, own, list(SERVERS).index(name))


@pytest.fixture
def lab():
    with PortLab() as made:
        yield made


@pytest.fixture
def provider(lab, tmp_path):
    with Provider(tmp_path, lab.sshd.target(), ROUTER, [server(name) for name in SERVERS]) as made:
        done = made.provision()
        assert done["errors"] == [] and done["outcome"] == "changed" and " drop " not in lab.rules()
        made.late = 8 * 86400  # the week of only observing what was there is over
        assert made.converge()["outcome"] == "changed" and " drop " in lab.rules()
        yield made


def test_what_was_there_is_only_counted_at_first(lab, tmp_path):
    with Provider(tmp_path, lab.sshd.target(), ROUTER, [server("srv-a")]) as provider:
        provider.provision()
        assert lab.out_to("srv-a", MAIL) == ["open", "open"] and lab.datagram("srv-a", SERVERS["srv-a"][3][0], 5)
        text = lab.edge("nft list chain inet hosting_aup_ports from-e-a")
        counted = [line.split("packets ")[1].split()[0] for line in text.splitlines() if "packets" in line]
        assert len(counted) == 4 and all(int(number) > 0 for number in counted[:1] + counted[2:]), text


def test_policy_holds_on_a_port_exemptions_open_it_and_retiring_gives_all_back(lab, provider):
    assert lab.out_to("srv-a") == ["open", "open"] and lab.into("srv-a") == [True, True]
    assert lab.out_to("srv-a", MAIL) == lab.out_to("srv-b", MAIL) == ["refused", "refused"]
    for version in (0, 1):
        own, other = SERVERS["srv-a"][2][version], SERVERS["srv-a"][3][version]
        assert lab.datagram("srv-a", own, version) and not lab.datagram("srv-a", other, version)
        assert lab.datagram("srv-a", own, version)  # the listener was there
    assert provider.converge()["outcome"] == "unchanged"
    provider.ask(requests.exempt, "srv-a", "smtp_outbound", reason="asked", waive="tested", duration="90d", known_nodes=["edge"])
    assert provider.converge()["outcome"] == "changed"
    assert lab.out_to("srv-a", MAIL) == ["open", "open"] and lab.out_to("srv-b", MAIL) == ["refused", "refused"]
    held = provider.hold("smtp_block", ports="25,465")
    provider.converge()
    assert lab.out_to("srv-a", MAIL) == lab.out_to("srv-a", 465) == ["refused", "refused"]
    assert provider.status(held) == "active" and lab.out_to("srv-a") == ["open", "open"]
    provider.lift("srv-a")
    provider.converge()
    assert provider.status(held) == "ended" and lab.out_to("srv-a", MAIL) == ["open", "open"]
    done = provider.converge(absent=True)
    assert done["errors"] == [] and lab.state() == lab.pristine
    assert lab.datagram("srv-b", SERVERS["srv-b"][3][0], 1)


def flood(lab, source, target, address, seconds=6.0, skip=2.5):
    """Bit/s at the layer of IP that arrive of a flood of datagrams at three times the cap, after the burst."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    header = 48 if ":" in address else 28
    heard = lab.space(target).call(socket.socket, family, socket.SOCK_DGRAM)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    heard.bind((address, 9100))
    sender, stop = lab.space(source).call(socket.socket, family, socket.SOCK_DGRAM), threading.Event()

    def send():
        begun, sent, data = time.monotonic(), 0, bytes(1172)
        while not stop.is_set():
            while sent * 1200 * 8 < (time.monotonic() - begun) * 30e6:
                sender.sendto(data, (address, 9100))
                sent += 1
            time.sleep(0.001)

    thread = threading.Thread(target=send)
    with heard, sender:
        heard.settimeout(2)
        thread.start()
        try:
            heard.recv(2000)
            begun, first, last, size = time.monotonic(), None, None, 0
            while time.monotonic() < begun + seconds:
                length = len(heard.recv(2000)) + header
                now = time.monotonic()
                if now < begun + skip:
                    continue
                if first is None:
                    first = now
                else:
                    size, last = size + length, now
        finally:
            stop.set()
            thread.join()
    return size * 8 / (last - first)


def test_a_cap_of_10_mbit_each_way_of_ip_packets_after_the_burst(lab, provider):
    before = lab.state()
    held = provider.hold("bandwidth_cap", rate="10 Mbit/s")
    done = provider.converge()
    assert done["errors"] == [] and provider.status(held) == "active"
    assert lab.rules().count("limit rate over 1250000 bytes/second") == 2
    own = SERVERS["srv-a"][2]
    # Measured where it arrives: the length of IP packets, header included.
    rates = [flood(lab, "srv-a", "out", OUTSIDE[0]), flood(lab, "out", "srv-a", own[1])]
    assert all(abs(rate - 10e6) <= 0.02 * 10e6 for rate in rates), rates
    provider.lift("srv-a")
    provider.converge()
    assert lab.state() == before and provider.status(held) == "ended"


def test_a_suspension_is_dark_both_ways_and_what_was_there_comes_back(lab, provider):
    before = lab.state()
    assert lab.into("srv-a") == [True, True] and lab.out_to("srv-a") == ["open", "open"]
    held = provider.hold("suspend")
    check = provider.converge(check=True)
    assert lab.state() == before
    done = provider.converge()
    assert done["plan_hash"] == check["plan_hash"] and provider.status(held) == "active"
    assert lab.into("srv-a") == [False, False] and lab.out_to("srv-a") == ["silent", "silent"]
    assert lab.space("srv-a").try_tcp("203.0.113.65", 22, 0.3) == "silent"  # nor the router itself
    assert lab.into("srv-b") == [True, True] and lab.out_to("srv-b") == ["open", "open"]
    assert provider.converge()["outcome"] == "unchanged"
    # Several at once end in any order; the last one gives back.
    block = provider.hold("port_block", case="T-2", ports="6667", direction="in", protocol="tcp")
    provider.converge()
    provider.lift("srv-a", kind="suspend")
    provider.converge()
    assert (provider.status(held), provider.status(block)) == ("ended", "active")
    assert lab.into("srv-a") == [True, True] and "6667" in lab.rules()
    provider.late += 2 * 3600
    provider.ask(requests.end_what_is_due)
    provider.converge()
    assert lab.state() == before and provider.status(block) == "ended"


def test_what_lies_on_a_port_is_asserted_anew_and_foreign_rules_stay(lab, provider):
    lab.edge("nft add table inet theirs")
    lab.edge("nft add chain inet theirs pre { type filter hook prerouting priority -300 ; }")
    lab.edge("nft add rule inet theirs pre iifname e-a tcp dport 25 counter accept")
    foreign = lab.edge("nft -s list table inet theirs")
    held = provider.hold("suspend")
    provider.converge()
    good = lab.rules()
    for damage in ("nft flush chain inet hosting_aup_ports from-e-a", "nft flush map inet hosting_aup_ports to_port",
                   "nft delete table inet hosting_aup_ports", "nft flush chain inet hosting_aup_ports prerouting",
                   "nft insert rule inet hosting_aup_ports from-e-a accept"):
        lab.edge(damage)
        done = provider.converge()
        assert done["outcome"] == "changed" and done["errors"] == [], damage
        assert sorted(lab.rules().split()) == sorted(good.split()), damage
        assert lab.into("srv-a") == [False, False] and lab.edge("nft -s list table inet theirs") == foreign
    provider.lift("srv-a")
    provider.converge()
    provider.converge(absent=True)
    assert provider.status(held) == "ended" and not lab.rules() and lab.edge("nft -s list table inet theirs") == foreign


BAD_PORTS = (
    ("ip link add br9 type bridge;ip link set e-a master br9", "ip link del br9", "member of br9"),
    ("ip link add m9 link e-a type macvlan", "ip link del m9", "trunk: m9"),
    ("ip route add 198.51.100.0/24 via 203.0.113.70", "ip route del 198.51.100.0/24", "198.51.100.0/24 is reached by 203.0.113.70"),
    ("ip -6 route add 2001:db8:77::/48 via 2001:db8:100:a::7", "ip -6 route del 2001:db8:77::/48", "neighbor: 2001:db8:77::/48"),
    ("ip route add default via 203.0.113.70 metric 500", "ip route del default via 203.0.113.70", "default route"),
    ("ip link del e-a", None, "no interface of this name"),
)


def test_never_a_trunk_an_uplink_a_member_or_a_port_with_a_neighbor(lab, tmp_path):
    with Provider(tmp_path, lab.sshd.target(), ROUTER, [server("srv-a")]) as provider:
        for prepare, undo, said in BAD_PORTS:
            for command in prepare.split(";"):
                lab.edge(command)
            before = lab.state()
            done = provider.provision()
            assert [error["code"] for error in done["errors"]] == ["port_refused"], (prepare, done["errors"])
            assert said in done["errors"][0]["message"] and lab.state() == before and done["state"] == "not_applied"
            if undo:
                lab.edge(undo)


def test_what_comes_later_does_not_undo_a_hold_and_does_not_keep_one(lab, provider):
    held = provider.hold("suspend")
    provider.converge()
    lab.edge("ip route add 198.51.100.0/24 via 203.0.113.70")
    done = provider.converge()
    assert done["outcome"] == "unchanged" and "neighbor" in done["notes"][0] and provider.status(held) == "active"
    provider.lift("srv-a")
    done = provider.converge()
    assert done["errors"] == [] and provider.status(held) == "ended" and "suspend" not in lab.rules()
    before, again = lab.state(), provider.hold("suspend", case="T-2")
    done = provider.converge()
    assert "port_refused" in [error["code"] for error in done["errors"]] and lab.state() == before
    assert provider.status(again) == "opened"
    provider.lift("srv-a")
    provider.converge()
    assert provider.status(again) == "cancelled" and lab.state() == before


def test_the_connection_is_cut_before_and_after_each_step(lab, provider):
    cuts = []

    class Cut(Linux):
        def apply_apart(self, step):
            after = len(cuts) % 2
            if len(cuts) < 2:
                cuts.append(after)
                if after:
                    super().apply_apart(step)
                raise RouterError("cut", code="closed", target="edge", remedy="-")
            return super().apply_apart(step)

    provider.platforms = {"linux": Cut}
    held = provider.hold("suspend")
    # Twice in one run: its state is not known, and the run says which lines may have acted.
    done = provider.converge()
    assert done["state"] == "unknown" and any("suspend" in line for line in done["may_have_acted"])
    assert provider.status(held) == "opened" and lab.into("srv-a") == [False, False]
    done = provider.converge()
    assert done["errors"] == [] and provider.status(held) == "active"


def test_without_nftables_or_its_rights_nothing_is_concluded(lab, provider):
    class Powerless(Linux):
        def _nft(self, arguments, stdin=""):
            return 1, "", "Error: Operation not permitted"

    class Garbled(Linux):
        def _nft(self, arguments, stdin=""):
            status, out, err = super()._nft(arguments, stdin)
            return status, out.replace('"nftables"', '"tables"'), err

    held, before = provider.hold("suspend"), lab.rules()
    for driver in (Powerless, Garbled):
        provider.platforms = {"linux": driver}
        done = provider.converge()
        assert [error["code"] for error in done["errors"]] == ["bad_reply"] and lab.rules() == before
    assert provider.status(held) == "opened"


def test_what_a_dedicated_server_can_not_have_is_refused_with_what_to_do(lab, provider):
    for kind in ("cpu_throttle", "io_throttle"):
        with pytest.raises(AupError, match="not_supported"):
            provider.hold(kind, **({"share": "20%"} if kind == "cpu_throttle" else {"iops": 100} if kind == "io_throttle" else {}))


def test_a_null_route_of_a_dedicated_server_beside_its_port(lab, provider):
    route, cut = provider.hold("null_route"), provider.hold("suspend", case="T-2")
    done = provider.converge()
    assert done["errors"] == [] and lab.into("srv-a") == [False, False]
    assert (provider.status(route), provider.status(cut)) == ("active", "active")
    provider.lift("srv-a", kind="suspend")
    provider.converge()
    assert (provider.status(route), provider.status(cut)) == ("active", "ended") and lab.into("srv-a") == [False, False]
    provider.lift("srv-a")
    provider.converge()
    assert provider.status(route) == "ended"
    eventually("back", lambda: lab.into("srv-a") == [True, True])


def test_a_quarantined_server_reaches_the_rescue_networks_and_nothing_else(lab, provider):
    document = copy.deepcopy(POLICY.document)
    document["networks"]["rescue"] = [OUTSIDE[0] + "/32", OUTSIDE[1] + "/128"]
    provider.policy = Policy.from_document(document)
    provider.provision()
    before = lab.state()
    stranger = ("198.51.100.9", "2001:db8:bad::9")
    lab.space("out").ip("addr add %s/32 dev o-edge" % stranger[0], "addr add %s/128 dev o-edge nodad" % stranger[1])
    held = provider.hold("quarantine")
    assert provider.converge()["errors"] == [] and provider.status(held) == "active"
    # Neighbours find one another anew: that is not refused.
    lab.edge("ip neigh flush all")
    lab.space("srv-a").check("ip neigh flush all")
    eventually("the rescue networks", lambda: lab.out_to("srv-a") == ["open", "open"] and lab.into("srv-a") == [True, True])
    targets = [*SERVERS["srv-b"][2], *stranger, *SERVERS["srv-a"][1]]  # a neighbour, the internet, the router itself
    assert [lab.space("srv-a").try_tcp(target, PORT, 0.4) for target in targets] == ["silent"] * 6
    assert [lab.space("out").try_tcp(target, PORT, 0.4, source=source) for target, source in zip(SERVERS["srv-a"][2], stranger)] == ["silent"] * 2
    assert lab.into("srv-b") == [True, True] and lab.out_to("srv-a", MAIL) == ["refused", "refused"]  # policy holds beneath it
    assert provider.converge()["outcome"] == "unchanged"
    # A suspension is stricter, and its end leaves the quarantine.
    provider.hold("suspend", case="T-2")
    assert provider.converge()["errors"] == [] and lab.into("srv-a") == [False, False]
    provider.lift("srv-a", case="T-2")
    assert provider.converge()["errors"] == [] and lab.into("srv-a") == [True, True]
    provider.lift("srv-a", case="T-1")
    assert provider.converge()["errors"] == [] and lab.state() == before


def test_the_controller_is_never_cut_off(lab, provider):
    lab.edge("ip route add 198.51.100.77/32 via %s" % SERVERS["srv-b"][2][0])
    before = lab.state()
    own, behind, remote = SERVERS["srv-a"][2][0], "198.51.100.77", "198.51.100.5"
    provider.hold("suspend")
    provider.hold("suspend", service="srv-b", case="T-2")
    provider.ask(requests.hold, "drop", "srv-a", "attack_target", case="T-3", duration="1h", known_nodes=["kvm1", "edge"],
                 sources="198.51.100.0/24")
    done = provider.converge(controller_addresses=(own, behind, remote))
    said = sorted((error["code"], error["message"]) for error in done["errors"] if error["code"] != "not_removed")
    assert [code for code, _text in said] == ["guard_controller", "guard_controller", "port_refused"], said
    assert "drop" in said[0][1] and "port e-a" in said[1][1] and "port e-b" in said[2][1] and "this controller is reached through it" in said[2][1]
    assert lab.state() == before and lab.into("srv-a") == [True, True]
    assert provider.converge()["errors"] == [] and lab.into("srv-a") == [False, False]
