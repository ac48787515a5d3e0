# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests made by order where the cluster's nodes have rules: these know a guest before its first packet, also one without a number."""
from __future__ import annotations

import json
import re
import sys

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .controller import House
from .provider import firewalled, guest, mac, maker_token
from .test_hosts import _WITHIN, PLAIN, WALLED, WIRE, prepared, site  # noqa: F401
from .test_orders import ordered, template

NUMBERED, FREE = 305, 301  # an order with a number in the catalogue, and one without


class Made:
    """Ports of the stand-in's guests on the node, as its scripts make them when a guest starts; and what its first packets met."""

    def __init__(self, place, cluster):
        self.site, self.cluster, self.start, self.stop = place, cluster, cluster.start, cluster.stop
        self.met: dict[int, dict[str, str]] = {}
        cluster.start, cluster.stop = self.started, self.stopped

    def started(self, one) -> None:
        self.start(one)
        port = "%s%di0" % ("tap" if one.kind == "qemu" else "veth", one.vmid)
        space, net, node = f"g{one.vmid}", self.site.net, self.site.node
        address = re.search(r"ip=([0-9.]+)/24", one.config.get("ipconfig0") or one.config["net0"])[1]
        if space not in net._spaces:
            net.add(space)
            net.serve(net[space], 25, 80)
        net.veth(node, port, net[space], "eth0", re.search("BC:24:11:[0-9A-F:]{8}", one.config["net0"])[0].lower())
        net[space].ip(f"addr add {address}/24 dev eth0", "addr add 192.0.2.77/24 dev eth0")
        own, plug = f"fwbr{one.vmid}i0", f"fwpr{one.vmid}p0"
        node.ip(f"link add {own} type bridge forward_delay 0 mcast_snooping 0", f"link set {own} up",
                f"link add fwln{one.vmid}i0 type veth peer name {plug}", f"link set fwln{one.vmid}i0 master {own} up",
                f"link set {plug} master vmbr0 up", f"link set {port} master {own}")
        folder = self.site.place / "pve/nodes/pve1" / ("qemu-server" if one.kind == "qemu" else "lxc")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{one.vmid}.conf").write_text("".join(f"{key}: {value}\n" for key, value in one.config.items() if "\n" not in value))
        # Not one packet came before these. The web page opens once neighbours are known; that it does shows that packets flow.
        assert self.site.opens(one.vmid, 80)
        self.met[one.vmid] = {"mail": self.site.tcp(one.vmid, 25), "other address": net[space].try_tcp(WIRE, 80, source="192.0.2.77")}

    def stopped(self, one) -> None:
        self.stop(one)
        self.site.stop(one.vmid)


def entry(number: int, vmid: int | None, image: str) -> dict:
    """An order as a catalogue file has it."""
    one = ordered(vmid, image, number=number)
    order = one["order"]
    order["nics"] = [{"mac": mac(number), "bridge": "vmbr1", "subnets": ["192.0.2.0/24", "2001:db8:1::/64"]}]
    order["cloud_init"] = {"ssh_keys": order["cloud_init"]["ssh_keys"]}
    return {"id": one["id"], "customer": one["customer"], "account_type": "personal", "node": "pve", "guest": one["guest"],
            "nics": [{key: nic[key] for key in ("mac", "addresses")} for nic in one["nics"]], "order": order}


def test_a_guest_made_by_order_is_bound_on_its_node_before_its_first_packet(site, tmp_path):  # noqa: F811
    """A real ansible-playbook; what the first packets of each guest met is looked at as it starts."""
    place, node = prepared(site.place, tmp_path)
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    for one in (guest(WALLED), guest(PLAIN, "lxc"), template(), template(9001, "lxc")):
        cluster.add(one)
    made = Made(site, cluster)
    running = serve(cluster, place / "tls", {"svc@pve!aup": maker_token()})
    server = site.node.call(running.__enter__)
    try:
        house = House(server, place, {"pve1": "127.0.0.1"}, ("ip", "netns", "exec", site.node.name, "sh", "-c", _WITHIN, str(node)))
        (place / "host_vars").mkdir()
        (place / "host_vars/pve1.json").write_text(json.dumps({"ansible_connection": "local", "ansible_python_interpreter": sys.executable}))
        catalogue = json.loads((place / "catalogue.json").read_text())
        catalogue["nodes"]["pve"].update(bridges=["vmbr1"], creation={
            "images": {"debian-12": {"template": 9000}, "container": {"template": 9001}},
            "storage": {"fast": {"storage": "local-lvm", "node": "pve1"}}})
        catalogue["services"] += [entry(FREE, None, "debian-12"), entry(NUMBERED, NUMBERED, "container")]
        (place / "catalogue.json").write_text(json.dumps(catalogue))
        with open_ledger(str(place / "ledger.db"), create=True):
            pass  # or check mode would have a ledger of its own, by which names and UUIDs differ
        rc, out = house.play("provision", "--check", "-v", aup_nodes="pve")
        assert rc == 0 and not made.met and set(cluster.guests) == {WALLED, PLAIN, 9000, 9001}, out
        expected = re.findall(r'"plan_hash": "([0-9a-f]+)"', out)
        rc, out = house.play("provision", "-v", aup_nodes="pve")
        assert rc == 0 and "pve1: changed, verified" in out and "pve: changed, verified" in out, out
        assert len(expected) == 2 and expected == re.findall(r'"plan_hash": "([0-9a-f]+)"', out), out
        (number,) = set(cluster.guests) - {WALLED, PLAIN, NUMBERED, 9000, 9001}
        assert cluster.guests[number].name == f"web-{FREE}" and set(made.met) == {number, NUMBERED}
        for vmid, met in made.met.items():
            assert met == {"mail": "silent", "other address": "silent"}, (vmid, made.met)
        # Its number is known from then on, although the catalogue has none: a pass while it is off leaves its rules.
        cluster.stop(cluster.guests[number])
        rc, out = house.play("reconcile")
        assert rc == 0, out
        made.met.clear()
        cluster.start(cluster.guests[number])
        assert made.met == {number: {"mail": "silent", "other address": "silent"}}
    finally:
        running.__exit__(None, None, None)
