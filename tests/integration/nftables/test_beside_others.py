# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beside others on one host: our rules hold, theirs stay as they are, whoever loads or reloads first.

ufw, firewalld, nft and iptables run for real, in the host's namespace with files of their own. Docker's and libvirt's
rules are those their daemons load, spelled out: neither daemon manages a namespace it wasn't started in with its network.
"""
from __future__ import annotations

import contextlib
import subprocess

import pytest
from filter_lab import MACS, V4
from test_anti_spoofing import PARAMETERS, arrived, packets, spelled, v4

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables

NAME = "anti_spoofing"
_OWN_FILES = """
mount -t tmpfs tmpfs /run
for directory in /etc/ufw /etc/default /var/lib/ufw /etc/firewalld; do
    if [ -d $directory ]; then
        mkdir -p /run/kept/$directory && cp -a $directory/. /run/kept/$directory/ && mount --bind /run/kept/$directory $directory
    fi
done
"""
FIREWALLD = """
mkdir -p /run/dbus && dbus-daemon --system --fork --nopidfile
firewalld --nofork --nopid >/run/firewalld.log 2>&1 &
tries=0
until firewall-cmd --state >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.1
done
"""
DOCKER = """
iptables -P FORWARD DROP
for chain in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do iptables -N $chain; done
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
iptables -A DOCKER-USER -j RETURN
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""
LIBVIRT = """
for chain in LIBVIRT_INP LIBVIRT_OUT LIBVIRT_FWI LIBVIRT_FWO LIBVIRT_FWX; do iptables -N $chain; done
iptables -I INPUT -j LIBVIRT_INP
iptables -I FORWARD -j LIBVIRT_FWX
iptables -I FORWARD -j LIBVIRT_FWI
iptables -I FORWARD -j LIBVIRT_FWO
iptables -A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
iptables -A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
iptables -A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
iptables -A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
iptables -t nat -N LIBVIRT_PRT
iptables -t nat -A POSTROUTING -j LIBVIRT_PRT
iptables -t nat -A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
"""
# clean-traffic for one tap, as nwfilter loads it: it knows IPv4 and ARP only.
NWFILTER = """
ebtables -t nat -N libvirt-I-tapC -P ACCEPT
ebtables -t nat -A PREROUTING -i tapC -j libvirt-I-tapC
ebtables -t nat -A libvirt-I-tapC -s ! %(c)s -j DROP
ebtables -t nat -A libvirt-I-tapC -p IPv4 --ip-source ! %(ip)s -j DROP
ebtables -t nat -A libvirt-I-tapC -p ARP --arp-ip-src ! %(ip)s -j DROP
""" % {"c": MACS["c"], "ip": V4["c"]}
NWFILTER_AGAIN = """
ebtables -t nat -D PREROUTING -i tapC -j libvirt-I-tapC
ebtables -t nat -A PREROUTING -i tapC -j libvirt-I-tapC
"""
SERVICE = """
cat > /run/nftables.conf <<'END'
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; policy accept; tcp dport 22 accept; }
    chain forward { type filter hook forward priority filter; policy accept; }
    set allowed { type ipv4_addr; elements = { 192.0.2.1 }; }
}
END
nft -f /run/nftables.conf
"""
OTHERS = {
    # name: (start, reload, whether a reload takes our tables away)
    "nftables.service": (SERVICE, "nft -f /run/nftables.conf", True),
    "ufw": ("ufw --force enable && ufw allow 22/tcp", "ufw reload", False),
    "firewalld": (FIREWALLD, "firewall-cmd --reload && firewall-cmd --complete-reload", False),
    "docker": (DOCKER, "iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN", False),
    "libvirt network": (LIBVIRT, "iptables -D FORWARD -j LIBVIRT_FWX && iptables -I FORWARD -j LIBVIRT_FWX", False),
    "nwfilter": (NWFILTER, NWFILTER_AGAIN, False),
}


@contextlib.contextmanager
def shell(space):
    """`run(lines)` in a namespace with files and processes of its own, which end with it."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", space.name, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation", "private", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(lines):
        process.stdin.write("( set -e\n%s\n) </dev/null; echo \"<done $?>\"\n" % lines)
        process.stdin.flush()
        said = []
        for line in process.stdout:
            if line.startswith("<done "):
                assert line == "<done 0>\n", "".join(said)
                return "".join(said)
            said.append(line)
        raise AssertionError("the shell ended: " + "".join(said))

    try:
        process.stdin.write(_OWN_FILES)
        run("true")
        yield run
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def theirs(lab):
    """All rules but ours, without counts."""
    listing = lab.host.check("nft -n -s list ruleset")
    tables = ("\n" + listing).split("\ntable ")
    return [table.strip() for table in tables if table.strip() and not table.split(" {")[0].endswith(" hosting_aup")]


def holds(lab, after=""):
    """Nothing forbidden passes and what is allowed does, on the bridge."""
    assert lab.tcp("a", "net", 25) == "silent", after
    assert lab.tcp("u", "net", 25) == "silent", after
    assert lab.opens("a", "net", 80), after
    assert arrived(lab, "a", spelled({"own": v4(V4["a"]), "foreign": v4("203.0.113.9")}), seconds=0.2) == {"own"}, after


@pytest.fixture
def beside(bare):
    """tapA enforced for mail and sources; nothing of ours is loaded yet."""
    port = bare.port("tapA")
    bare.model["controls"] = {NAME: PARAMETERS}
    port.update(macs=[port["mac"]], controls={NAME: {"mode": "enforce", "sources": [V4["a"], "2001:db8::11"]}})
    yield bare
    bare.host.check("nft flush ruleset")


@pytest.mark.parametrize("other", OTHERS)
def test_ours_hold_and_theirs_stay(beside, other):
    start, again, takes_ours = OTHERS[other]
    with shell(beside.host) as run:
        run(start)
        before = theirs(beside)
        assert before, "they have rules, or this shows nothing"
        beside.apply()
        assert theirs(beside) == before
        holds(beside)
        run(again)
        assert (beside.plan().kind == "rebuild") == takes_ours
        beside.apply()
        holds(beside, "after their reload")
        assert beside.plan().kind == "none"
        counted = packets(beside, "tapA", "refused")
        assert counted >= 1
        after = theirs(beside)
        _nftables.apply(beside.host.run, _nftables.plan_teardown(beside.observe()))
        assert theirs(beside) == after
        assert beside.tcp("a", "net", 25) == "open"


def test_dockers_policy_is_neither_opened_nor_needed(beside):
    """Docker's FORWARD DROP cuts what the host routes; that stays docker's and the operator's decision."""
    with shell(beside.host) as run:
        run(DOCKER)
        beside.apply()
        assert beside.net["r"].try_tcp(V4["far"], 80) == "silent"
        run("iptables -I DOCKER-USER -i vnetR -j ACCEPT && iptables -I DOCKER-USER -o vnetR -j ACCEPT")
        assert beside.net["r"].try_tcp(V4["far"], 80, 2) == "open"
        assert beside.net["r"].try_tcp(V4["far"], 25) == "refused", "ours comes first"
        assert beside.plan().kind == "none"


def test_a_guest_started_by_hand_is_bound_at_once_and_its_sources_are_not(beside):
    """newtap is in no catalogue: mail as the policy says of unknown ports, never anti_spoofing."""
    beside.apply()
    assert beside.tcp("u", "net", 25) == "silent"
    one = spelled({"foreign": v4("203.0.113.9")}, MACS["u"])
    assert arrived(beside, "u", one) == {"foreign"}
