# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper on a Proxmox VE node: the program as its units run it, real rules and packets, on the world of `test_hosts`."""
from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import build

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .controller import House
from .provider import POLICY, firewalled, guest, token
from .test_hosts import _WITHIN, HELD, PLAIN, STRANGER, WALLED, WIRE, Site, address, prepared, site  # noqa: F401

ROOT = Path(__file__).parents[3]
FILES = "var/lib/hosting_aup"


def line_of(unit: str, program: Path) -> list[str]:
    """The words that systemd would run of the role's unit."""
    text = (ROOT / f"roles/proxmox_host/templates/hosting-aup-{unit}.service.j2").read_text()
    line = re.search(r"^ExecStart=(.+)$", text, re.MULTILINE)[1]
    for variable, value in (("proxmox_host_keeper_directory", str(program.parent)), ("proxmox_host_keeper_clock", "trusted"),
                            ("proxmox_host_keeper_interval", "60")):
        line = line.replace("{{ %s }}" % variable, value)
    assert "{{" not in line
    return line.split()


class Kept:
    """A node with the program on it."""

    def __init__(self, world: Site, folder: Path):
        self.site, self.node, self.place = world, world.node, world.place
        self.program = folder / "aup-node"
        self.program.write_bytes(build(ROOT, host="proxmox"))
        (self.place / "etc").mkdir(exist_ok=True)
        (self.place / "etc/pve").symlink_to(self.place / "pve")
        world.house.clock = itertools.count(int(time.time()) - 7200)

    def words(self, unit: str) -> list[str]:
        """With our own files elsewhere, and nothing but Python's own library, as such a node has it."""
        python, isolated, program, *rest = line_of(unit, self.program)
        return [python, isolated, "-S", program, "--root", str(self.place), *rest]

    def aup_node(self, *arguments: str) -> tuple[int, str, str]:
        *before, _command = self.words("boot")
        return self.node.run([*before, *arguments])

    def boot(self) -> tuple[int, str, str]:
        return self.node.run(self.words("boot"))

    def status(self) -> dict:
        rc, out, err = self.aup_node("status", "--json")
        assert rc == 0, err
        return json.loads(out)

    def ends_soon(self, sid: str, seconds: int, kind: str = "suspend", **options) -> int:
        """An enforcement of a minute, the shortest there is, opened so long ago that it has this long to go; when it ends."""
        self.site.house.clock = itertools.count(int(time.time()) + seconds - 60)
        opened = self.site.house.write(self.site.hold, kind, [sid], "attack_target", case="T-9", duration="1m", **options)
        done = self.site.converge(opened["run_id"], host="pve1")
        assert done["outcome"] == "changed"
        return self.status()["next"]

    def now(self) -> None:
        """The controller's clock goes by steps; set it right."""
        self.site.house.clock = itertools.count(int(time.time()))

    def rules(self) -> str:
        return self.node.check("nft -t list ruleset")

    def power_failure(self, *guests: int) -> None:
        """What a node's start finds: no tables, no ports, no bridges, and pmxcfs not mounted yet."""
        self.node.check("nft flush ruleset")
        for vmid in guests:
            self.site.stop(vmid)
        self.node.ip("link set eno1 nomaster", "link del vmbr0")
        (self.place / "pve").rename(self.place / "later")

    def networking(self) -> None:
        self.node.ip("link add vmbr0 type bridge forward_delay 0 mcast_snooping 0", "link set vmbr0 up", "link set eno1 master vmbr0")

    def pmxcfs(self) -> None:
        (self.place / "later").rename(self.place / "pve")


@pytest.fixture
def kept(site, tmp_path_factory):  # noqa: F811
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold

    site.hold = hold
    return Kept(site, tmp_path_factory.mktemp("program"))


def until(what, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_it_ends_on_time_without_controller_and_cluster_and_the_next_run_says_so(kept):
    site = kept.site  # noqa: F811
    site.provision()
    sid = f"vps-{WALLED}"
    ends_at = kept.ends_soon(sid, 9)
    assert site.tcp(WALLED, 80) != "open" and [held["service"] for held in kept.status()["held"]] == [sid]
    (kept.place / "pve").rename(kept.place / "later")  # pmxcfs is down as well
    words = ["ip", "netns", "exec", kept.node.name, *kept.words("keeper")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as keeper:
        try:
            seen = []
            assert until(lambda: seen.append(time.time()) or site.tcp(WALLED, 80) == "open", 60)
            assert ends_at <= seen[-1] <= ends_at + 5 + 1, "never early; a try of a connection takes up to a second by itself"
            assert site.tcp(WALLED, 25) == "silent" and until(lambda: kept.status()["journal"], 10)
        finally:
            keeper.terminate()
            said = keeper.communicate(timeout=30)[1]
    assert keeper.returncode == 0 and f"suspend of {sid}" in said and "can't be read" in said, said
    kept.pmxcfs()
    kept.now()
    assert kept.status()["held"] == [] and kept.status()["next"] is None
    # The ledger hears of it with the next run, once, and still has the suspension: over the API nothing has been given back yet.
    before = site.house.statuses(sid)
    checked = site.again(check=True, host="pve1")
    assert not checked["changed"] and kept.status()["journal"] == 1
    done = site.again(host="pve1")
    assert any("over in this node's packet filter since its time: E-" in note for note in done["notes"]), done["notes"]
    assert kept.status()["journal"] == 0 and site.house.statuses(sid) == before != ["ended"]
    assert [event["kind"] for event in site.house.read("history", sid)].count("packet_filter_ended") == 1
    assert not any("packet filter" in note for note in site.again(host="pve1")["notes"])
    assert "pve1" not in [node["name"] for node in site.house.read("status")["nodes"]]


def test_a_node_that_starts_has_its_rules_before_any_guest_and_without_the_cluster(kept):
    site = kept.site  # noqa: F811
    site.provision()
    site.enforce("suspend", f"vps-{WALLED}")
    site.enforce("suspend", f"vps-{HELD}")
    kept.power_failure(WALLED, PLAIN, STRANGER, 998)
    rc, _out, err = kept.boot()
    assert rc == 0, err
    kept.networking()
    # Each guest is tried at its start: held here or to come, known, and strangers in either layout, also new ones.
    for vmid, walled, kind in ((WALLED, True, "tap"), (HELD, False, "tap")):
        site.start(vmid, walled, kind)
        assert site.tcp(vmid, 80) != "open" and site.net["wire"].try_tcp(address(vmid), 80) != "open", vmid
    for vmid, walled, kind in ((PLAIN, False, "veth"), (STRANGER, True, "tap"), (998, False, "tap"), (997, True, "tap"), (996, False, "veth")):
        site.start(vmid, walled, kind)
        assert site.opens(vmid, 80) and site.tcp(vmid, 25) == "silent", vmid
    rc, _out, err = kept.aup_node("pass")
    assert rc == 1 and "Ports are taken for whose they were last." in err
    assert site.tcp(WALLED, 80) != "open" and site.tcp(PLAIN, 25) == site.tcp(996, 25) == "silent" and site.opens(PLAIN, 80)
    kept.pmxcfs()
    assert kept.aup_node("pass")[0] == 0 and site.tcp(WALLED, 80) != "open"
    # The last of its bridge's guests gone, the first that comes next is bound as well.
    for vmid in (WALLED, PLAIN, STRANGER, HELD, 998, 997, 996):
        site.stop(vmid)
    assert kept.aup_node("pass")[0] == 0
    site.start(995, walled=False)
    assert site.opens(995, 80) and site.tcp(995, 25) == "silent"


def test_damaged_state_opens_nothing_and_a_retired_node_has_nothing_of_ours(kept):
    site, files = kept.site, kept.place / FILES  # noqa: F811
    found = kept.node.check("nft list ruleset")
    assert kept.aup_node("pass")[0] == 0 and kept.node.check("nft list ruleset") == found
    site.provision()
    site.enforce("suspend", f"vps-{WALLED}")
    rules = kept.rules()
    for name in ("desired.z", "state.json"):
        whole = (files / name).read_bytes()
        for damaged in (b"nonsense", b"", whole[:-20]):
            (files / name).write_bytes(damaged)
            rc, _out, err = kept.aup_node("pass")
            assert rc == 1 and "aup-node:" in err and "Traceback" not in err, (name, damaged, err)
            assert kept.rules() == rules and site.tcp(WALLED, 80) == "silent"
        (files / name).write_bytes(whole)
    (files / "ports.json").write_bytes(b"nonsense")
    kept.node.check("nft flush ruleset")
    assert kept.boot()[0] == 0 and site.tcp(WALLED, 80) == "silent" and site.tcp(PLAIN, 25) == "silent"
    kept.node.check("nft flush ruleset")
    kept.node.check(["nft", "-f", "-"], found)
    (files / "ports.json").unlink()
    # A program of the other kind leaves alone what was not made for it.
    other = kept.program.with_name("other")
    other.write_bytes(build(ROOT))
    kept.aup_node("pass")
    rules = kept.rules()
    rc, _out, err = kept.node.run(["/usr/bin/python3", "-I", str(other), "--root", str(kept.place), "pass"])
    assert rc == 1 and "for a Proxmox VE node, this program for a KVM host" in err and kept.rules() == rules
    assert not site.again(absent=True, host="pve1")["errors"] and kept.node.check("nft list ruleset") == found
    assert not files.exists() and kept.aup_node("pass")[0] == 0 and not files.exists()
    assert kept.node.check("nft list ruleset") == found and site.opens(WALLED, 80)


def test_by_hand_on_the_node(kept):
    site = kept.site  # noqa: F811
    site.provision()
    rc, out, _err = kept.aup_node("hold", f"vps-{PLAIN}", "--reason", "attack, on the phone")
    assert rc == 0 and "the guest runs on" in out and site.tcp(PLAIN, 80) != "open"
    done = site.again(host="pve1")
    assert list(done["by_hand"]) == [f"vps-{PLAIN}"] and site.tcp(PLAIN, 80) != "open"
    held = site.house.read("held_by_hand")
    assert [(one["node"], one["service"], one["reason"]) for one in held] == [("pve1", f"vps-{PLAIN}", "attack, on the phone")]
    assert kept.aup_node("release", f"vps-{PLAIN}")[0] == 0 and site.opens(PLAIN, 80)
    site.again(host="pve1")
    assert not site.house.read("held_by_hand")
    # Break-glass, also while the cluster's files are not there.
    (kept.place / "pve").rename(kept.place / "later")
    assert kept.aup_node("disarm", "smtp_outbound", "--reason", "T-991")[0] == 0 and site.opens(PLAIN, 25) and site.opens(STRANGER, 25)
    assert kept.aup_node("disarm", "--reason", "all")[0] == 0 and "hosting_aup" not in kept.rules()
    kept.pmxcfs()
    assert kept.aup_node("pass")[0] == 0 and "hosting_aup" not in kept.rules()
    assert kept.aup_node("rearm")[0] == 0 and site.tcp(PLAIN, 25) == "silent"
    for words in (("check-limits",), ("hook", "a", "b", "c", "d"), ("hold", f"vps-{PLAIN}", "--reason", "x", "--power", "destroy")):
        assert kept.aup_node(*words)[0] == 2, words
    assert "are the cluster's (qm, pct, its API)" in " ".join(kept.aup_node("--help")[1].split())


def test_remotes_dropped_and_quarantine(kept):
    site = kept.site  # noqa: F811
    # A drop is the routers'; where one has it, the nodes of the cluster drop as well.
    document = site.house.document
    edge = {"backend": "router", "location": "main", "address": "192.0.2.254", "vars": {}, "router": {"platform": "linux"}}
    site.house.document = lambda: dict(document(), nodes={**document()["nodes"], "edge": edge})
    site.provision()
    release = site.house.read("status")["release"]["id"]
    site.house.write(lambda tx: (tx.adopt("edge", release), tx.set_node_release("edge", release)))
    wire, remote, rescue = site.net["wire"], "198.51.100.7", "203.0.113.9"
    wire.ip(f"addr add {remote}/32 dev eth0", f"addr add {rescue}/32 dev eth0")
    for vmid in (WALLED, PLAIN):
        sid, inside = f"vps-{vmid}", site.net[f"g{vmid}"]
        inside.ip("route add default dev eth0")

        def reaches(source):
            return until(lambda: wire.try_tcp(address(vmid), 80, source=source) == "open", 10)  # noqa: B023

        assert reaches(remote) and reaches(rescue)
        site.enforce("drop", sid, sources=[remote], direction="in")
        assert wire.try_tcp(address(vmid), 80, source=remote) == "silent" and reaches(WIRE) and site.opens(vmid, 80)
        site.lift(sid)
        assert reaches(remote)
        site.enforce("quarantine", sid)
        # The rescue networks reach it, and it them; nobody else.
        assert reaches(rescue) and inside.try_tcp(rescue, 80) == "open"
        assert wire.try_tcp(address(vmid), 80) == "silent" and inside.try_tcp(WIRE, 80) == "silent"
        site.lift(sid)
        assert site.opens(vmid, 80) and site.opens(vmid, 80, inward=True)


_ROLE = """
- hosts: aup_proxmox_hosts
  become: true
  gather_facts: false
  roles:
    - hosting.aup.proxmox_host
"""


def test_the_role_and_the_runbooks(kept, tmp_path):
    """A real ansible-playbook; the node's own files in place of this machine's, as in `test_hosts`."""
    site, (place, node) = kept.site, prepared(kept.place, tmp_path)  # noqa: F811
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(WALLED))
    cluster.add(guest(PLAIN, "lxc"))
    running = serve(cluster, place / "tls", {"svc@pve!aup": token()})
    server = site.node.call(running.__enter__)
    try:
        house = House(server, place, {"pve1": "127.0.0.1"}, ("ip", "netns", "exec", site.node.name, "sh", "-c", _WITHIN, str(node)))
        (place / "host_vars").mkdir()
        (place / "host_vars/pve1.json").write_text(json.dumps({
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "proxmox_host_packages": [],
            "proxmox_host_keeper_directory": "/etc/hosting_aup", "proxmox_host_keeper_link": False}))
        (place / "prepare.yml").write_text(_ROLE)
        (place / "lab.yml").write_text(POLICY.replace("smtp_outbound: {adoption: {mode: enforce}}", "smtp_outbound: {mode: observe}"))
        found, files = kept.node.check("nft list ruleset"), tree(node)
        assert [changes(house, "--check"), changes(house), changes(house)] == [True, True, False]
        program = node / "etc/hosting_aup/aup-node"
        assert program.read_bytes() == kept.program.read_bytes() and (node / "etc/systemd/system/hosting-aup-boot.service").is_file()
        rc, out = house.play("provision", aup_nodes="pve")
        assert rc == 0 and "pve1: changed, verified" in out, out
        assert site.opens(WALLED, 25)
        rc, out = house.play("explain", service=f"vps-{WALLED}")
        assert rc == 0 and "seen on pve1:" in out and "packets to mail ports that would have been refused" in out and "seen on pve:" not in out, out
        rc, out = house.play("exempt_observed", "--check", control="smtp_outbound", duration="90d", reason="sent mail")
        assert rc == 0 and f"vps-{WALLED}" in out and f"vps-{PLAIN}" not in out, out
        # By the cluster's name and by its own; the cluster itself is not asked to be a host.
        for verb, named, said, there in (("disarm", "pve", "smtp_outbound", False), ("rearm", "pve1", "nothing", True)):
            rc, out = house.play(verb, control="smtp_outbound", aup_nodes=named)
            assert rc == 0 and f"pve1: {said} switched off" in out, out
            assert ("tap100i0" in kept.node.check("nft list set bridge hosting_aup smtp_observe")) is there
        rc, out = house.play("retire", node="pve")
        assert rc == 0 and kept.node.check("nft list ruleset") == found and tree(node) == files, out
    finally:
        running.__exit__(None, None, None)


def changes(house: House, *flags: str) -> bool:
    """Whether the play with the role, by its path, says that it changes something."""
    rc, out = house.book(str(house.place / "prepare.yml"), *flags)
    assert rc == 0, out
    return "changed=0" not in out


def tree(node: Path) -> set[str]:
    """The files of a node where ours may lie."""
    return {str(path.relative_to(node)) for folder in ("etc", "var/lib") for path in (node / folder).rglob("*")}
