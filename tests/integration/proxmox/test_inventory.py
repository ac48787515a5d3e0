# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a provider who takes over a cluster: what lives there, and what the catalogue could say of it."""
from __future__ import annotations

import json

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue

from tests.proxmox.cluster import Cluster
from tests.proxmox.server import serve

from .controller import House
from .provider import SECRET, guest, mac, token


@pytest.fixture
def house(tmp_path):
    cluster = Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3)
    cluster.add(guest(100))
    cluster.add(guest(101, nics=2, ipconfig0="ip=192.0.2.77/24,gw=192.0.2.1,ip6=auto", smbios1="uuid=0B6B1F4E-6C1D-4C1F-9A53-3F3D9A3F0C11"))
    cluster.add(guest(102, "lxc", node="pve2", net0="name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:66,ip=192.0.2.78/24,ip6=2001:db8:1::78/64"))
    cluster.add(guest(9000, running=False, template="1"))
    (tmp_path / "tls").mkdir()
    with serve(cluster, tmp_path / "tls", {"svc@pve!aup": token()}) as server:
        made = House(server, tmp_path)
        made.settings["ca_file"] = "tls/ca.pem"  # beside the inventory
        yield made


def plain(value):
    """Without the marks that ansible-core before 2.19 prints with text that is no template."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def test_guests_of_any_cluster(site):
    """One is in the catalogue; of the others it says what could be."""
    house = site.controller("vm")
    done = house.inventory({"AUP_PROXMOX_TOKEN_SECRET": house.secret})
    assert done.returncode == 0 and house.secret not in done.stdout + done.stderr, done.stderr
    found = plain(json.loads(done.stdout))
    pve, numbers = found["_meta"]["hostvars"]["pve"], site.numbers
    listed = {one["vmid"]: one for one in pve["aup_guests"]}
    assert not set(site.templates.values()) & set(listed) and {"has_qemu", "has_lxc"} <= set(found)
    for sid, number in numbers.items():
        assert (listed[number]["kind"], listed[number]["place"], listed[number]["service"]) == (
            site.kinds[sid], site.place_of(sid)[1], sid if sid == site.ids["vm"] else None)
    skeleton = {one["guest"]["vmid"]: one for one in pve["aup_services_to_fill_in"]}
    assert numbers[site.ids["vm"]] not in skeleton
    for who in ("vm2", "ct"):
        known, one = site.services[site.ids[who]], skeleton[numbers[site.ids[who]]]
        assert one["guest"] == {key: value for key, value in known["guest"].items() if value} and one["customer"] is None
        assert one["nics"] == [{"mac": nic["mac"], "addresses": nic["addresses"]} for nic in known["nics"]]


def test_guests_and_what_the_catalogue_could_say_of_them(house):
    done = house.inventory({"AUP_PROXMOX_TOKEN_SECRET": SECRET})
    assert done.returncode == 0 and SECRET not in done.stdout + done.stderr, done.stderr
    found = plain(json.loads(done.stdout))
    pve = found["_meta"]["hostvars"]["pve"]
    assert [(one["vmid"], one["kind"], one["place"], one["service"]) for one in pve["aup_guests"]] == [
        (100, "qemu", "pve1", "vps-100"), (101, "qemu", "pve1", None), (102, "lxc", "pve2", None)]
    assert {"has_qemu", "has_lxc"} <= set(found)
    machine, container = pve["aup_services_to_fill_in"]
    assert machine == {
        "id": "pve-101", "customer": None, "account_type": None, "node": "pve",
        "guest": {"name": "guest101", "vmid": 101, "uuid": "0b6b1f4e-6c1d-4c1f-9a53-3f3d9a3f0c11"},
        "nics": [{"mac": mac(101), "addresses": ["192.0.2.77"]}, {"mac": mac(101, 1), "addresses": []}]}
    assert container["nics"] == [{"mac": "bc:24:11:00:00:66", "addresses": ["192.0.2.78", "2001:db8:1::78"]}]
    # Filled in, it is a catalogue.
    document = house.catalogue()
    document["services"] = [{**one, "customer": "c-1", "account_type": "personal"} for one in (machine, container)]
    (house.place / "filled.json").write_text(json.dumps(document))
    assert set(load_catalogue(str(house.place / "filled.json"))["services"]) == {"pve-101", "pve-102"}
    (house.place / "secret").write_text(SECRET + "\n")
    before = len(house.server.api.seen)
    done = house.inventory({"AUP_PROXMOX_TOKEN_SECRET": "wrong"}, secret_file="secret", skeleton=False)
    assert json.loads(done.stdout)["_meta"]["hostvars"]["pve"]["aup_services_to_fill_in"] == []
    assert house.since(before) == ["GET /cluster/resources"]


def test_a_cluster_that_is_not_read_is_a_warning(house):
    done = house.inventory({"AUP_PROXMOX_TOKEN_SECRET": "wrong"})
    assert done.returncode == 0 and "the guests of cluster pve were not read" in done.stderr and "refused the token" in done.stderr
    assert "aup_guests" not in json.loads(done.stdout)["_meta"]["hostvars"]["pve"]
