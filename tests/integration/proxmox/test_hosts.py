# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter of a Proxmox VE node, with real packets on bridges laid out as its scripts lay them out.

`vmbr0` carries the wire, ports without firewall=1, and the plugs of guests' own bridges: tap100i0 | fwbr100i0 | fwln100i0 -
fwpr100p0 | vmbr0.
"""
from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import exempt, hold, release_files, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._host import HostConverge

from tests.integration.netns import Net
from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .controller import House
from .provider import POLICY, Provider, firewalled, guest, mac, provider, service, token

WALLED, PLAIN, STRANGER, BARE, LATER, HELD = 100, 203, 999, 998, 101, 102
WIRE = "192.0.2.150"
_DRIVER = """
import json, subprocess, sys
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._pve_host import PveHost
asked = json.load(sys.stdin)
def run(argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
host = PveHost(run, root=asked["root"], boot_id="boot", configuration=asked["pve"])
args = asked["args"]
try:
    if asked["mode"] == "plan":
        done = host.plan(args["desired"], advance=True, adopt=args["adopt"], taken=args.get("taken"))
    elif asked["mode"] == "apply":
        done = host.apply(args["desired"], args["plan_hash"], args["confirm_seconds"], args["adopt"])
    else:
        done = host.info()
except AupError as exc:
    done = {"failed": [exc.code, exc.message]}
print(json.dumps(done))
"""
OTHERS = "table bridge proxmox_like {\n chain forward {\n type filter hook forward priority 0; policy accept;\n }\n}\n"


def address(vmid: int) -> str:
    return f"192.0.2.{vmid % 100 + 10}"


class Site:
    """One node of a cluster, its guests and the wire."""

    def __init__(self, net: Net, house: Provider):
        self.net, self.house, self.node = net, house, net["host"]
        self.place = house.place / "node"

    def call(self, mode: str, **args) -> dict:
        rc, out, err = self.node.run([sys.executable, "-c", _DRIVER], json.dumps({
            "mode": mode, "args": args, "root": str(self.place), "pve": str(self.place / "pve")}))
        assert rc == 0, err
        done = json.loads(out)
        if "failed" in done:
            raise NodeError(done["failed"][1], code=done["failed"][0])
        return done

    def converge(self, run_id: str, check: bool = False, **wanted) -> dict:
        done = HostConverge(self.house.ledger, self.call, None, "tester", self.house.clock.__next__, check).run(
            Wanted(node="pve", run_id=run_id, confirm_seconds=0, **wanted))
        assert not done["errors"], done["errors"]
        return done

    def provision(self, check: bool = False) -> dict:
        made = self.house.write(release_files, self.house.policy, {self.house.policy.key: self.house.policy}, self.house.document())
        done = self.converge(made["run_id"], check, release_id=made["release_id"])
        if not check:  # the API's part, which keeps the record; there are no guests on that side
            self.house.converge(made["run_id"], release_id=made["release_id"])
        return done

    def enforce(self, kind: str, sid: str, **options) -> dict:
        return self.converge(self.house.write(hold, kind, [sid], "attack_target", case="T-1", duration="48h", **options)["run_id"])

    def lift(self, sid: str) -> dict:
        return self.converge(self.house.write(release_hold, sid, case="T-1")["run_id"])

    def again(self, **wanted) -> dict:
        run = self.house.write(lambda tx: tx.start_run("reconcile"))
        return self.converge(run["run_id"] if isinstance(run, dict) else run, **wanted)

    # -- guests ---------------------------------------------------------------------------------------------------

    def config(self, vmid: int, kind: str = "qemu", node: str = "pve1") -> None:
        """A guest's file, as pmxcfs shows it on every node."""
        folder = self.place / "pve" / "nodes" / node / ("qemu-server" if kind == "qemu" else "lxc")
        folder.mkdir(parents=True, exist_ok=True)
        upper = mac(vmid).upper()
        (folder / f"{vmid}.conf").write_text(
            f"#a note%3A net0\nname: guest{vmid}\nnet0: virtio={upper},bridge=vmbr0,firewall=1\n[snap]\nname: other\n" if kind == "qemu"
            else f"hostname: guest{vmid}\nnet0: name=eth0,bridge=vmbr0,hwaddr={upper},type=veth\n")

    def start(self, vmid: int, walled: bool = True, kind: str = "tap") -> str:
        """A guest's port, new; in its own bridge if walled. Its namespace stays when it is stopped."""
        space, port = f"g{vmid}", f"{kind}{vmid}i0"
        if space not in self.net._spaces:
            self.net.add(space)
            self.net.serve(self.net[space], 25, 80)
        self.net.veth(self.node, port, self.net[space], "eth0", mac(vmid))
        self.net[space].ip(f"addr add {address(vmid)}/24 dev eth0")
        if walled:
            own, plug = f"fwbr{vmid}i0", f"fwpr{vmid}p0"
            self.node.ip(f"link add {own} type bridge forward_delay 0 mcast_snooping 0", f"link set {own} up",
                         f"link add fwln{vmid}i0 type veth peer name {plug}", f"link set fwln{vmid}i0 master {own} up",
                         f"link set {plug} master vmbr0 up", f"link set {port} master {own}")
        else:
            self.node.ip(f"link set {port} master vmbr0")
        return space

    def stop(self, vmid: int) -> None:
        names = self.node.check("ls /sys/class/net").split()
        self.node.ip(*(f"link del {name}" for name in (f"tap{vmid}i0", f"veth{vmid}i0", f"fwpr{vmid}p0", f"fwbr{vmid}i0") if name in names))

    # -- packets --------------------------------------------------------------------------------------------------

    def tcp(self, vmid: int, port: int) -> str:
        return self.net[f"g{vmid}"].try_tcp(WIRE, port)

    def opens(self, vmid: int, port: int, inward: bool = False, patience: float = 10) -> bool:
        """Whether a connection opens; who was cut off before may have to look for his neighbours first."""
        limit, outcome = time.monotonic() + patience, None
        while outcome != "open" and time.monotonic() < limit:
            outcome = self.net["wire"].try_tcp(address(vmid), port) if inward else self.tcp(vmid, port)
        return outcome == "open"


@pytest.fixture
def site(tmp_path):
    with Net() as net, provider(tmp_path, Cluster(("pve1",)), POLICY) as house:
        host = net.add("host")
        host.ip("link add vmbr0 type bridge forward_delay 0 mcast_snooping 0", "link set vmbr0 up", "addr add 192.0.2.1/24 dev vmbr0")
        if os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
            host.sysctl({"net.bridge.bridge-nf-call-iptables": 1})  # as the cluster's firewall has it
        wire = net.add("wire")
        net.veth(host, "eno1", wire, "eth0")
        host.ip("link set eno1 master vmbr0")
        wire.ip(f"addr add {WIRE}/24 dev eth0")
        net.serve(wire, 25, 80)
        made = Site(net, house)
        for vmid, walled, kind in ((WALLED, True, "tap"), (PLAIN, False, "veth"), (STRANGER, True, "tap"), (BARE, False, "tap")):
            made.start(vmid, walled, kind)
            made.config(vmid, "qemu" if kind == "tap" else "lxc")
        house.services = {one["id"]: one for one in map(service, (WALLED, PLAIN, LATER, HELD))}
        host.check(["nft", "-f", "-"], OTHERS)
        for vmid in (WALLED, PLAIN, STRANGER, BARE):
            assert made.opens(vmid, 25)
        yield made


def talks(sock: socket.socket, peer: socket.socket, patience: float = 0.5) -> bool:
    """Whether what is said on an open connection arrives, in time."""
    word = b"%d" % time.monotonic_ns()
    peer.settimeout(0.05)
    sock.send(word)
    limit, heard = time.monotonic() + patience, b""
    while time.monotonic() < limit and not heard.endswith(word):
        try:
            heard += peer.recv(65535)
        except TimeoutError:
            continue
    return heard.endswith(word)


def test_guests_of_a_node_are_bound_known_or_not_wherever_they_start(site):
    """Check, apply, check clean, apply clean; then restarts, arrivals, and all given back."""
    found = site.node.check("nft list ruleset")
    checked = site.provision(check=True)
    assert checked["changed"] and site.node.check("nft list ruleset") == found
    done = site.provision()
    assert done["outcome"] == "changed" and done["plan_hash"] == checked["plan_hash"]
    assert done["unknown_ports"] == ["tap998i0", "tap999i0"] and not done["gaps"]
    assert not site.provision(check=True)["changed"] and site.provision()["outcome"] == "unchanged"
    for vmid in (WALLED, PLAIN, STRANGER, BARE):
        assert site.tcp(vmid, 25) == "silent" and site.opens(vmid, 80) and site.opens(vmid, 25, inward=True), vmid
    # An exemption, which outlives the guest's restart: the port has the same name again.
    opened = site.house.write(exempt, [f"vps-{PLAIN}"], "smtp_outbound", "a relay", "30d")
    site.converge(opened["run_id"])
    assert site.opens(PLAIN, 25)
    for vmid, walled, kind in ((WALLED, True, "tap"), (PLAIN, False, "veth")):
        site.stop(vmid)
        site.start(vmid, walled, kind)
    assert site.opens(PLAIN, 25) and site.opens(WALLED, 80) and site.tcp(WALLED, 25) == "silent"
    # Arrivals between two passes: one of the catalogue from another node, and one that nobody knows, each in either layout.
    site.start(LATER)
    site.start(997)
    site.start(996, walled=False)
    for vmid in (LATER, 997, 996):
        assert site.opens(vmid, 80) and site.tcp(vmid, 25) == "silent", vmid
    site.config(LATER, node="pve2")  # while it migrates, its file is its former node's
    assert site.again()["outcome"] == "changed" and site.opens(LATER, 80) and site.tcp(LATER, 25) == "silent"
    # Another address than the catalogue's, behind the guest's own bridge.
    inside = site.net[f"g{WALLED}"]
    inside.ip("addr add 192.0.2.77/24 dev eth0", "route add 192.0.2.150/32 dev eth0 src 192.0.2.77")
    assert site.tcp(WALLED, 80) == "silent"
    inside.ip("route del 192.0.2.150/32 dev eth0")
    assert site.opens(WALLED, 80)
    counted = site.call("info")["counters"]
    assert counted[f"vps-{WALLED}"]["anti_spoofing_refused"]["packets"] and counted[f"vps-{WALLED}"]["smtp_outbound_refused"]["packets"]
    assert not site.again(absent=True)["errors"] and site.node.check("nft list ruleset") == found
    assert site.opens(WALLED, 25) and not (site.place / "var/lib/hosting_aup").exists()


@pytest.mark.parametrize("vmid", [WALLED, PLAIN])
def test_a_suspension_is_dark_at_once_for_what_is_open_too(site, vmid):
    site.provision()
    outcome, sock = site.net[f"g{vmid}"].connect(WIRE, 80)
    listener = site.net._sockets[0]
    listeners = [one for one in site.net._sockets if one.getsockname()[1] == 80]
    assert outcome == "open" and listener and listeners
    peer = _accepted(listeners, sock)
    assert talks(sock, peer) and talks(peer, sock)
    site.enforce("suspend", f"vps-{vmid}")
    assert not talks(sock, peer) and not talks(peer, sock)
    assert site.tcp(vmid, 80) != "open" and site.net["wire"].try_tcp(address(vmid), 80) != "open"
    other = PLAIN if vmid == WALLED else WALLED
    assert site.opens(other, 80)
    assert site.again()["outcome"] == "unchanged"
    # Held before it comes: the first packet of one that migrates here.
    site.enforce("suspend", f"vps-{HELD}")
    site.start(HELD, walled=vmid == WALLED)
    assert site.tcp(HELD, 80) != "open"
    site.lift(f"vps-{vmid}")
    limit = time.monotonic() + 20
    while not talks(sock, peer) and time.monotonic() < limit:
        pass
    assert talks(sock, peer) and site.opens(vmid, 80) and site.tcp(HELD, 80) != "open"
    sock.close()
    peer.close()


def _accepted(listeners, sock):
    """The other end of a connection."""
    mine = sock.getsockname()[1]
    for listener in listeners:
        listener.settimeout(0.2)
        while True:
            try:
                peer, name = listener.accept()
            except (TimeoutError, BlockingIOError):
                break
            if name[1] == mine:
                return peer
            peer.close()
    raise AssertionError("nobody accepted it")


def test_observed_and_counted_and_a_block_of_ports_inward(site):
    (site.house.place / "lab.yml").write_text(POLICY.replace("smtp_outbound: {adoption: {mode: enforce}}", "smtp_outbound: {mode: observe}"))
    site.house.policy = load_policy(str(site.house.place / "lab.yml"))
    site.provision()
    assert all(site.opens(vmid, 25) for vmid in (WALLED, PLAIN, STRANGER, BARE))
    counted = site.call("info")["counters"]
    assert counted[f"vps-{WALLED}"]["smtp_outbound_observed"]["packets"] and counted[f"vps-{PLAIN}"]["smtp_outbound_observed"]["packets"]
    site.enforce("port_block", f"vps-{WALLED}", ports=[80], direction="in")
    assert site.net["wire"].try_tcp(address(WALLED), 80) == "silent" and site.opens(WALLED, 25, inward=True) and site.opens(WALLED, 80)
    site.lift(f"vps-{WALLED}")
    assert site.opens(WALLED, 80, inward=True)


def test_without_the_clusters_files_the_rules_stay_and_it_is_said(site):
    site.provision()
    before = site.node.check("nft -t list ruleset")
    shutil.rmtree(site.place / "pve")
    run = site.house.write(lambda tx: tx.start_run("reconcile"))
    done = HostConverge(site.house.ledger, site.call, None, "tester", site.house.clock.__next__, False).run(
        Wanted(node="pve", run_id=run["run_id"] if isinstance(run, dict) else run, confirm_seconds=0))
    assert [error["code"] for error in done["errors"]] == ["pmxcfs_down"]
    assert site.node.check("nft -t list ruleset") == before and site.tcp(WALLED, 25) == "silent"


# A node's own files, in place of this machine's: the play's connection is local, and inside of its namespace.
_WITHIN = """
for folder in etc var/lib run; do mount --bind "$0/$folder" "/$folder" || exit 99; done
exec "$@"
"""


def prepared(own, tmp_path):
    """`(folder of the controller, folder of the node)` for real plays: the node's own files, to stand in place of this machine's."""
    place, node = tmp_path / "play", own / "files"
    (place / "tls").mkdir(parents=True)
    (node / "var/lib").mkdir(parents=True)
    (node / "run").mkdir()
    shutil.copytree("/etc", node / "etc", symlinks=True, ignore_dangling_symlinks=True)
    (node / "etc/pve").symlink_to(own / "pve")
    return place, node


def test_the_runbooks_act_on_both_the_node_and_the_api(site, tmp_path):
    """A real ansible-playbook, its modules packed and run on the node, new rules confirmed over a new connection."""
    place, node = prepared(site.place, tmp_path)
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(WALLED))
    cluster.add(guest(PLAIN, "lxc"))
    running = serve(cluster, place / "tls", {"svc@pve!aup": token()})
    server = site.node.call(running.__enter__)
    try:
        house = House(server, place, {"pve1": "127.0.0.1"}, ("ip", "netns", "exec", site.node.name, "sh", "-c", _WITHIN, str(node)))
        with (place / "lab.yml").open("a") as policy:
            policy.write("enforcements: {port_block: {open_connections: restart}}\n")
        (place / "host_vars").mkdir()
        (place / "host_vars/pve1.json").write_text(json.dumps({"ansible_connection": "local", "ansible_python_interpreter": sys.executable}))
        found = site.node.check("nft list ruleset")
        rc, out = house.play("provision", "--check", aup_nodes="pve")
        assert rc == 0 and "pve1: would change" in out and "pve: would change" in out, out
        assert site.node.check("nft list ruleset") == found
        rc, out = house.play("provision", aup_nodes="pve")
        assert rc == 0 and "pve1: changed, verified" in out and "pve: changed, verified" in out, out
        assert "note: left to the rules on the nodes: mining in observe (services: 2)" in out and "what a cluster can't do" not in out, out
        assert site.tcp(WALLED, 25) == site.tcp(PLAIN, 25) == site.tcp(BARE, 25) == "silent" and site.opens(WALLED, 80)
        calls = len(server.api.seen)
        rc, out = house.play("suspend", service=f"vps-{WALLED}", violation="attack_target", duration="48h", case="T-1")
        assert not [call for call in house.since(calls) if f"/{PLAIN}" in call]  # asked for one service, it leaves the others alone
        assert rc == 0 and "pve1: changed, verified" in out and f"vps-{WALLED}: suspend in force, verified" in out, out
        assert site.tcp(WALLED, 80) != "open" and cluster.guests[WALLED].paused and site.opens(PLAIN, 80)
        rc, out = house.play("port_block", service=f"vps-{PLAIN}", violation="attack_target", duration="48h", case="T-2", ports="80")
        assert rc == 0 and "no restart for E-2: the rules on node pve1 end what is open" in out and cluster.guests[PLAIN].starts == 0, out
        assert site.tcp(PLAIN, 80) != "open"
        rc, out = house.play("retire", node="pve")
        assert rc == 0 and not cluster.guests[WALLED].paused and site.opens(WALLED, 80), out
        assert site.node.check("nft list ruleset") == found and site.opens(BARE, 25), out
    finally:
        running.__exit__(None, None, None)
