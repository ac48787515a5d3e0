# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live migration between two real libvirt daemons: what binds a guest is there before it, and gone where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from . import inventory, namespace, plan
from .guest import Guest
from .lab import Lab
from .node import Node
from .spine import Spine, until, write_catalogue
from .test_keeper import _ROLE, AUP_NODE, VARIABLES

GUEST = "vps-1002"
_LIBVIRTD = """
host_uuid = "00000000-0000-4000-9000-{number:012d}"
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
listen_addr = "{address}"
"""


class Pool(Spine):
    """Two hosts whose libvirt daemons reach each other by a cable of their own; two guests may live on either."""

    def __init__(self, lab: Lab):
        super().__init__(lab)
        document = inventory.catalogue(lab.nodes)
        for node in document["nodes"].values():
            node["pool"] = "lab"
        for service in document["services"]:
            if service["id"] in (GUEST, "vps-1004"):
                del service["node"]
                service["pool"] = "lab"
        write_catalogue(self, document)
        self.keepers: list[tuple[Node, str]] = []

    def connect_libvirt(self) -> None:
        """The libvirt daemons anew, with their hooks, listening to each other."""
        first, second = self.lab.nodes
        namespace.connect(first.namespace, "peer0", second.namespace, "peer0")
        for node in self.lab.nodes:
            node.namespace.ip(f"address add {self.peer(node)}/24 dev peer0")
            node.stop_libvirtd()
            conf = node.path("/etc/libvirt/libvirtd.conf")
            conf.write_text(conf.read_text() + _LIBVIRTD.format(number=node.plan.number, address=self.peer(node)))
            node.run(["libvirtd", "-d", "--listen", "--pid-file", "/run/libvirtd.pid"])
            node.await_services()

    @staticmethod
    def peer(node: Node) -> str:
        return f"10.66.99.{node.plan.number}"

    def migrate(self, guest: Guest) -> float:
        """Live, to the other host, as a panel would; returns when it was there by the monotonic clock."""
        target = next(node for node in self.lab.nodes if node is not guest.node)
        guest.node.run(["virsh", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", guest.name,
                        f"qemu+tcp://{self.peer(target)}/system", "--migrateuri", f"tcp://{self.peer(target)}"], timeout=120)
        guest.node = target
        return time.monotonic()

    def start_keepers(self) -> None:
        """With so long an interval that what they do in a test is by libvirt's events."""
        for node in self.lab.nodes:
            line = " ".join([*AUP_NODE, "run", "--interval", "900"])
            pid = node.run(["sh", "-c", f"setsid {line} </dev/null >>/var/log/keeper.log 2>&1 & echo $!"]).stdout.strip()
            self.keepers.append((node, pid))

    def stop_keepers(self) -> None:
        for node, pid in self.keepers:
            node.run(["kill", pid], check=False)
        self.keepers = []

    def passes(self) -> None:
        for node in self.lab.nodes:
            node.run([*AUP_NODE, "pass"], timeout=120)


def elements(node: Node, word: str) -> list[str]:
    """Lines of our rules on a host that name a port or MAC; what packets leave there and time takes away does not count."""
    return [line.strip() for line in node.run(["nft", "list", "ruleset"]).stdout.splitlines()
            if word in line.replace('"', " ").replace(",", " ").split() and "expires" not in line]


def capped(guest: Guest) -> bool:
    """Whether what the guest's port carries is led through the cap, both ways."""
    shown = guest.node.run(["sh", "-c", f"tc filter show dev {guest.tap} ingress; tc filter show dev {guest.tap} egress"]).stdout
    return shown.count("mirred") >= 2


@pytest.fixture(scope="module")
def pool(can_run_labs: None) -> Iterator[Pool]:
    with Lab(nodes=2) as lab:
        made = Pool(lab)
        made.play("provision").ok()
        book = made.controller.state / "keeper.yml"
        book.write_text(_ROLE)
        lab.ansible_playbook(str(book), VARIABLES).must_succeed()
        made.connect_libvirt()
        yield made
        made.stop_keepers()


def test_what_binds_a_guest_is_there_before_its_first_packet(pool, capsys):
    """Blocks, exemptions and the house rules by the hook alone; a cap by the keeper that heard of the guest."""
    guest, exempt = pool.lab.guest(GUEST), pool.lab.guest("vps-1004")
    inputs = {"service": GUEST, "violation": "compromised", "duration": "48h"}
    pool.play("enforce", {**inputs, "kind": "port_block", "ports": "587", "case": "T-1"}).ok()
    pool.play("bandwidth_cap", {**inputs, "rate": "10 Mbit/s", "case": "T-2"}).ok()
    pool.play("exempt", {"service": exempt.name, "control": "smtp_outbound", "reason": "newsletter", "duration": "30d"}).ok()
    assert guest.tcp_all([(plan.SINK[0], 25), (plan.SINK[0], 587), (plan.WEB[0], 80)]) == ["timeout", "timeout", "open"]
    assert exempt.tcp(plan.SINK[0], 25) == "open" and capped(guest)
    boots, left = {one.name: one.uptime().boot_id for one in (guest, exempt)}, guest.tap
    for one in (guest, exempt):
        pool.migrate(one)
        assert elements(one.node, one.tap), "bound by the hook: no keeper runs"
    assert guest.tcp_all([(plan.SINK[0], 25), (plan.SINK[0], 587), (plan.WEB[0], 80)]) == ["timeout", "timeout", "open"]
    assert exempt.tcp(plan.SINK[0], 25) == "open"
    assert capped(guest), "also by the hook"
    assert {one.name: one.uptime().boot_id for one in (guest, exempt)} == boots, "they went on running"
    pool.passes()
    assert capped(guest)
    assert left == exempt.tap or not elements(pool.lab.nodes[0], left), "nothing of it stays where it was"

    pool.start_keepers()

    there = pool.migrate(guest)
    assert until(lambda: capped(guest), 30)
    late = {"cap on a new port": time.monotonic() - there}
    assert guest.tcp(plan.SINK[0], 587) == "timeout"
    # A NIC that is plugged in is bound as well, by libvirt's event.
    guest.virsh("attach-interface", "bridge", plan.BRIDGE, "--mac", "52:54:00:aa:99:77", "--target", "plugged0", "--live")
    plugged = time.monotonic()
    assert until(lambda: elements(guest.node, "plugged0") != [], 30)
    late["plugged NIC bound"] = time.monotonic() - plugged
    with capsys.disabled():
        print({what: f"{seconds:.2f} s" for what, seconds in late.items()})
    guest.virsh("detach-interface", "bridge", "--mac", "52:54:00:aa:99:77", "--live")
    pool.play("lift", {"service": GUEST, "case": "all"}).ok()
    assert pool.holding() == [] and not capped(guest)


def test_a_held_guest_is_migrated_and_given_back_as_it_was(pool, capsys):
    """Paused, with its links down, it comes to the other host: what it was before comes with it."""
    guest, outside = pool.lab.guest(GUEST), pool.lab.internet
    assert guest.state == "running" and pool.light(guest)
    guest.virsh("autostart")
    former = guest.uptime()
    pool.suspend(GUEST, "T-3").ok()
    pool.play("reconcile").ok()
    assert guest.state == "paused" and pool.dark(guest)
    left = guest.node
    pool.migrate(guest)
    assert guest.state == "paused" and pool.dark(guest)
    # A panel writes its own definition over ours: link up, another tap, its metadata; autostart was lost on the way.
    panels = guest.xml().replace("<memory", "<metadata><panel:id xmlns:panel='urn:panel'>77</panel:id></metadata><memory").replace(
        f"<source bridge='{plan.BRIDGE}'/>", f"<source bridge='{plan.BRIDGE}'/><target dev='panel7'/>")
    guest.node.run(["virsh", "-q", "define", "/dev/stdin"], text_in=panels)
    # Somebody resumes it and deletes our table.
    guest.virsh("resume")
    began = time.monotonic()
    assert until(lambda: guest.state == "paused", 30), "the keeper heard of it"
    with capsys.disabled():
        print(f"resumed by somebody, paused again after {time.monotonic() - began:.2f} s")
    guest.node.run(["nft", "delete", "table", "bridge", "hosting_aup"])
    guest.node.run([*AUP_NODE, "pass"], timeout=120)
    assert pool.dark(guest) and elements(guest.node, guest.plan.mac)
    done = pool.play("reconcile").ok()
    said = {result["node"]: [entry for entry in result["services"] if entry["service"] == GUEST] for result in done.of("kvm_converge")}
    assert [(entry["here"], entry["in_force"]) for entry in said[left.name]] == [(False, False)]
    assert [(entry["here"], entry["in_force"]) for entry in said[guest.node.name]] == [(True, True)]
    assert pool.statuses(GUEST, "T-3") == ["active"] and pool.open_baselines() == [GUEST]
    pool.lift(GUEST).ok()
    assert pool.statuses(GUEST, "T-3") == ["ended"] and pool.open_baselines() == []
    assert guest.state == "running" and guest.link == "up" and guest.autostart
    assert until(lambda: pool.light(guest), 15) and guest.uptime().boot_id == former.boot_id
    config = guest.virsh("dumpxml", "--inactive")
    assert "urn:panel" in config and "panel7" in config and "state='down'" not in config, "the panel's own is left as it is"
    for node in pool.lab.nodes:
        dark = node.run(["nft", "list", "set", "bridge", "hosting_aup", "dark_macs"]).stdout
        assert guest.plan.mac not in dark
    again = pool.play("reconcile").ok()
    assert not any(result["changed"] for result in again.of("kvm_converge")) and outside.ping(guest.plan.ipv4)
    pool.verify()
