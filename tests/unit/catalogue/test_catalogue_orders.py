# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders and what nodes make guests from: their normal form, what is refused, and what of them becomes an order."""
from __future__ import annotations

import base64
import copy
import json

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError
from ansible_collections.hosting.aup.plugins.module_utils._orders import guest_uuid, orders, tap_name, vendor_data
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import technical_slice
from catalogue_builders import BASE, catalogue, load, nic, service

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
IMAGE = {"path": "/var/lib/libvirt/images/base/debian-12.qcow2", "format": "qcow2"}
ORDER = {
    "create": True, "vcpus": 2, "memory_bytes": 2 << 30, "disk": {"size_bytes": 20 << 30, "image": "debian-12", "storage": "fast"},
    "rate_bit_per_second": 100_000_000,
    "nics": [{"mac": "52:54:00:00:00:09", "bridge": "br0", "subnets": ["192.0.2.0/25"], "gateways": ["192.0.2.1"]}],
    "cloud_init": {"hostname": "Web-Nine", "ssh_keys": [KEY + " erika@muster.example"], "user_data": "9.txt"},
}
CREATION = {"storage": {"fast": {"pool": "default"}}, "images": {"debian-12": IMAGE}, "resolvers": ["192.0.2.53"]}


def nodes(**creation):
    found = copy.deepcopy(BASE["nodes"])
    found["kvm1"]["creation"] = {**CREATION, **creation}
    return found


def ordered(**changes):
    return service(9, nics=[nic(9, addresses=["192.0.2.9", "2001:db8::9"])], order={**copy.deepcopy(ORDER), **changes})


def test_the_normal_form(tmp_path):
    document = load(tmp_path, catalogue(ordered(), nodes=nodes()))
    assert document["nodes"]["kvm1"]["creation"] == {
        "image_directory": "/var/lib/libvirt/images/base", "guest_type": "kvm", "resolvers": ["192.0.2.53"],
        "images": {"debian-12": {**IMAGE, "sha256": None, "kernel": None, "initrd": None, "command_line": None}},
        "storage": {"fast": {"pool": "default", "directory": None, "overcommit": False}}}
    made = document["services"]["vps-9"]["order"]
    assert made == {
        **ORDER, "nics": [{"mac": "52:54:00:00:00:09", "bridge": "br0", "addresses": ["192.0.2.9/25", "2001:db8::9/128"],
                           "gateways": ["192.0.2.1"]}],
        "cloud_init": {"hostname": "web-nine", "ssh_keys": [KEY], "user_data": "9.txt"}}
    assert "muster" not in json.dumps(technical_slice(document))
    assert "creation" not in document["nodes"]["kvm2"] and "order" not in load(
        tmp_path, catalogue(service(1)), name="other.json")["services"]["vps-1"]


def test_a_locations_images_are_for_its_nodes_and_a_nodes_own_wins(tmp_path):
    own, theirs = {**IMAGE, "format": "raw"}, {**IMAGE, "path": IMAGE["path"].replace("12", "13")}
    document = load(tmp_path, catalogue(nodes=nodes(images={"debian-12": own}), images={"fra": {"debian-12": IMAGE, "debian-13": theirs}}))
    images = document["nodes"]["kvm1"]["creation"]["images"]
    assert images["debian-12"]["format"] == "raw" and images["debian-13"]["path"] == theirs["path"]


@pytest.mark.parametrize("changes, place", [
    ({"vcpus": 0}, "order.vcpus"), ({"vcpus": True}, "order.vcpus"), ({"memory_bytes": (2 << 30) + 1}, "order.memory_bytes"),
    ({"memory_bytes": None}, "order.memory_bytes"), ({"disk": None}, "order.disk"), ({"rate_bit_per_second": 1}, "rate_bit_per_second"),
    ({"disk": {"size_bytes": 20 << 30, "image": "../../etc/shadow", "storage": "fast"}}, "order.disk.image"),
    ({"disk": {"size_bytes": 20 << 30, "image": "debian-12", "storage": "/srv"}}, "order.disk.storage"),
    ({"disk": {**ORDER["disk"], "path": "/etc/shadow"}}, "order.disk.path: unknown key"),
    ({"nics": []}, "order.nics"), ({"nics": ORDER["nics"] * 2}, "stands here twice"),
    ({"nics": [{**ORDER["nics"][0], "mac": "52:54:00:00:00:08"}]}, "is no NIC of this service"),
    ({"nics": [{**ORDER["nics"][0], "bridge": "br0;reboot"}]}, "order.nics[0].bridge"),
    ({"nics": [{**ORDER["nics"][0], "gateways": ["192.0.2.1", "192.0.2.2"]}]}, "one for each family"),
    ({"cloud_init": {"hostname": "-x"}}, "cloud_init.hostname"), ({"cloud_init": {"hostname": "a\nb"}}, "cloud_init.hostname"),
    ({"cloud_init": {"user_data": "../../etc/shadow"}}, "cloud_init.user_data"),
    ({"cloud_init": {"user_data": "#cloud-config\npassword: x"}}, "cloud_init.user_data"),
    ({"cloud_init": {"ssh_keys": ["command=\"sh\" " + KEY]}}, "cloud_init.ssh_keys[0]"),
    ({"cloud_init": {"ssh_keys": ["ssh-rsa " + KEY.split()[1]]}}, "cloud_init.ssh_keys[0]"),
    ({"cloud_init": {"password": "x"}}, "unknown key"), ({"create": "yes"}, "order.create"), ({"image": "x"}, "unknown key"),
])
def test_wrong_orders_are_refused_with_their_place(tmp_path, changes, place):
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, catalogue(ordered(**changes), nodes=nodes()))
    assert any(place in problem and "vps-9" in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("creation, place", [
    ({"images": {"x": {**IMAGE, "path": "/etc/shadow"}}}, "is not below image_directory"),
    ({"images": {"x": {**IMAGE, "path": "/var/lib/libvirt/images/base/../../../../../etc/shadow"}}}, "without '..'"),
    ({"images": {"x": {**IMAGE, "kernel": "/boot/vmlinuz"}}}, "images.x.kernel"), ({"images": {"x": {**IMAGE, "initrd": None}}}, None),
    ({"images": {"x": {**IMAGE, "format": "vmdk"}}}, "images.x.format"), ({"images": {"x": {**IMAGE, "sha256": "abc"}}}, "images.x.sha256"),
    ({"storage": {"fast": {}}}, "a libvirt `pool` or a `directory`"), ({"guest_type": "xen"}, "guest_type"),
    ({"storage": {"fast": {"pool": "a", "directory": "/srv"}}}, "a libvirt `pool` or a `directory`"),
])
def test_what_a_node_may_make_guests_from(tmp_path, creation, place):
    document = catalogue(nodes=nodes(**creation))
    if place is None:
        assert load(tmp_path, document)
        return
    with pytest.raises(CatalogueError) as caught:
        load(tmp_path, document)
    assert any(place in problem and "kvm1" in problem for problem in caught.value.problems), caught.value.problems


def test_a_guest_that_may_migrate_is_not_ordered(tmp_path):
    entry = {**ordered(), "pool": "p"}
    del entry["node"]
    with pytest.raises(CatalogueError, match="a guest that may migrate"):
        load(tmp_path, catalogue(entry, nodes=nodes()))
    entry["order"]["create"] = False
    assert load(tmp_path, catalogue(entry, nodes=nodes()))


def test_orders_from_a_panels_export(tmp_path):
    export = [{"n": 9, "mac": "52:54:00:00:00:09", "ram": 2048, "gb": 20, "os": "debian-12"}]
    mapping = {"fields": {
        "id": "join('', ['vps-', to_string(n)])", "customer": "to_string(n)", "account_type": "'business'", "node": "'kvm1'",
        "guest": "join('', ['g', to_string(n)])", "nics": {"each": "[@]", "mac": "mac"},
        "order": {"create": "`true`", "vcpus": "`1`", "memory_bytes": "`2147483648`",
                  "disk": {"size_bytes": "`21474836480`", "image": "os", "storage": "'fast'"},
                  "nics": {"each": "[@]", "mac": "mac", "bridge": "'br0'"}}}}
    (tmp_path / "export.json").write_text(json.dumps(export))
    document = {**catalogue(nodes=nodes()), "services_from": {"file": "export.json", "mapping": mapping}}
    del document["services"]
    made = load(tmp_path, document)["services"]["vps-9"]["order"]
    assert made["disk"] == {"size_bytes": 20 << 30, "image": "debian-12", "storage": "fast"} and made["create"] is True


def test_what_of_the_catalogue_a_node_is_asked_to_make(tmp_path):
    document = load(tmp_path, catalogue(
        ordered(), service(8, nics=[nic(8)], order={**ORDER, "create": False, "nics": [{"mac": nic(8)["mac"], "bridge": "br0"}]}),
        service(7), nodes=nodes()))
    snapshot = {"ledger": "L-1", "catalogue": document}
    entry = {"id": "vps-9", "smtp": {"mode": "enforce", "ports": [25]}}
    node = dict(document["nodes"]["kvm1"], name="kvm1")
    (found,) = orders(snapshot, {"services": [entry]}, node, lambda service: None).values()
    assert found["image"]["path"] == IMAGE["path"] and found["storage"]["pool"] == "default" and found["user_data"] == "9.txt"
    assert found["guest"] == {"name": "guest-9", "uuid": guest_uuid(document["services"]["vps-9"], "L-1"), "given": False}
    assert found["nics"][0]["tap"] == tap_name("vps-9", "52:54:00:00:00:09")
    assert len(found["nics"][0]["tap"]) <= 15 and not found["nics"][0]["tap"].startswith("vnet")
    (file,) = found["vendor_data"]["write_files"]
    assert json.loads(file["content"])["smtp_outbound"] == {"mode": "enforce", "ports": [25]}
    assert orders(snapshot, {"services": [entry]}, dict(node, name="kvm2"), None) == {}
    bare = {key: value for key, value in node.items() if key != "creation"}
    assert orders(snapshot, {"services": [entry]}, bare, lambda service: None)["vps-9"]["image"] is None


def test_parts_of_the_vendor_data_are_joined():
    parts = (lambda *_: {"write_files": [1], "packages": ["tor"]}, lambda *_: None, lambda *_: {"write_files": [2]})
    assert vendor_data({}, {}, None, parts) == {"write_files": [1, 2], "packages": ["tor"]}


CLUSTER = {"backend": "proxmox", "location": "fra", "bridges": ["br0"], "creation": {
    "images": {"debian-12": {"template": 9000, "linked": True}, "ct": {"ostemplate": "local:vztmpl/debian-12.tar.zst"}},
    "storage": {"fast": {"storage": "local-lvm", "node": "pve1"}}, "resolvers": ["192.0.2.53"]}}


def in_cluster(**changes):
    return ordered(cloud_init={"ssh_keys": [KEY], "user": "erika"}, **changes) | {"node": "pve"}


def test_an_order_in_a_cluster(tmp_path):
    document = load(tmp_path, catalogue(in_cluster(), nodes={**nodes(), "pve": CLUSTER}))
    assert document["nodes"]["pve"]["creation"] == {
        "images": {"debian-12": {"template": 9000, "linked": True, "ostemplate": None},
                   "ct": {"template": None, "linked": False, "ostemplate": "local:vztmpl/debian-12.tar.zst"}},
        "storage": {"fast": {"storage": "local-lvm", "node": "pve1", "overcommit": False}}, "resolvers": ["192.0.2.53"]}
    assert document["services"]["vps-9"]["order"]["cloud_init"] == {
        "hostname": None, "ssh_keys": [KEY], "user_data": None, "user": "erika"}
    # Images of a location are files on hosts, and none of a cluster's.
    found = load(tmp_path, catalogue(nodes={**nodes(), "pve": CLUSTER}, images={"fra": {"debian-13": IMAGE}}), name="b.json")
    assert set(found["nodes"]["pve"]["creation"]["images"]) == {"debian-12", "ct"}


def test_user_data_a_pool_and_a_vlan_in_a_cluster(tmp_path):
    means = {**CLUSTER["creation"], "resource_pool": "customers", "user_data": {"9.txt": "snippets:snippets/9.yml"},
             "images": {"debian-12": {"template": 9000, "vendor_data": "snippets:snippets/house.yml"}}}
    one = ordered(cloud_init={"user_data": "9.txt"}, nics=[{**ORDER["nics"][0], "vlan": 4094}]) | {"node": "pve"}
    document = load(tmp_path, catalogue(one, nodes={**nodes(), "pve": {**CLUSTER, "creation": means}}))
    found = document["nodes"]["pve"]["creation"]
    assert (found["resource_pool"], found["user_data"]) == ("customers", {"9.txt": "snippets:snippets/9.yml"})
    assert found["images"]["debian-12"]["vendor_data"] == "snippets:snippets/house.yml"
    made = document["services"]["vps-9"]["order"]
    assert made["nics"][0]["vlan"] == 4094 and made["cloud_init"]["user_data"] == "9.txt"


@pytest.mark.parametrize("service, place", [
    (ordered() | {"node": "pve"}, r"order\.cloud_init\.user_data: in a cluster it stands in place of"),
    (in_cluster() | ordered(cloud_init={"user_data": "#cloud-config\nruncmd: [x]"}) | {"node": "pve"},
     r"order\.cloud_init\.user_data: .* is not the name of a file"),
    (in_cluster(nics=[{**ORDER["nics"][0], "vlan": 4095}]), r"order\.nics\[0\]\.vlan: a whole number from 1 to 4094"),
    (in_cluster(nics=[{**ORDER["nics"][0], "vlan": "7"}]), r"order\.nics\[0\]\.vlan: a whole number"),
    (ordered(nics=[{**ORDER["nics"][0], "vlan": 7}]), r"order\.nics\[0\]\.vlan: is for Proxmox VE clusters"),
    (ordered() | {"node": "pve"}, r"order\.cloud_init\.hostname: in a cluster it is the guest's name"),
    (in_cluster() | {"guest": {"name": "Web 9"}}, r"order\.create: in a cluster a guest's name is its host name"),
    (in_cluster(disk={"size_bytes": (1 << 30) + 512, "image": "debian-12", "storage": "fast"}), r"order\.disk\.size_bytes: .*whole MiB"),
    (in_cluster(nics=[{**ORDER["nics"][0], "gateways": ["192.0.2.1", "2001:db8::1"]}]) | {
        "nics": [nic(9, addresses=["192.0.2.9"])]}, r"order\.nics\[0\]\.gateways: 2001:db8::1 has no address"),
    (ordered(cloud_init={"user": "erika"}), r"order\.cloud_init\.user: is for Proxmox VE clusters"),
])
def test_what_an_order_can_not_have(tmp_path, service, place):
    with pytest.raises(CatalogueError, match=place):
        load(tmp_path, catalogue(service, nodes={**nodes(), "pve": CLUSTER}))


@pytest.mark.parametrize("creation, place", [
    ({"images": {"a": {}}}, r"creation\.images\.a: an image is either a `template`"),
    ({"images": {"a": {"template": 9000, "ostemplate": "local:vztmpl/a.tar"}}}, r"creation\.images\.a: an image is either"),
    ({"images": {"a": {"ostemplate": "local:vztmpl/../../etc/shadow"}}}, r"creation\.images\.a\.ostemplate"),
    ({"images": {"a": {"ostemplate": "local:vztmpl/a.tar", "linked": False}}}, r"creation\.images\.a\.linked"),
    ({"images": {"a": {"template": 9000, "vendor_data": "/etc/shadow"}}}, r"creation\.images\.a\.vendor_data"),
    ({"images": {"a": {"template": 9000, "vendor_data": "local:snippets/../x"}}}, r"creation\.images\.a\.vendor_data"),
    ({"images": {"a": {"ostemplate": "local:vztmpl/a.tar", "vendor_data": "local:snippets/x"}}}, r"creation\.images\.a\.vendor_data: is read"),
    ({"user_data": {"a": "local:snippets/x,network=local:snippets/y"}}, r"creation\.user_data\.a"),
    ({"user_data": {"../a": "local:snippets/x"}}, r"creation\.user_data: .*is no name"),
    ({"user_data": ["a"]}, r"creation\.user_data: a mapping of volumes"),
    ({"resource_pool": "a/b"}, r"creation\.resource_pool"),
    ({"storage": {"fast": {"storage": "local lvm"}}}, r"creation\.storage\.fast\.storage"),
    ({"storage": {"fast": {"storage": "local-lvm", "node": "../pve"}}}, r"creation\.storage\.fast\.node"),
])
def test_what_a_cluster_can_not_be_said_to_make_guests_from(tmp_path, creation, place):
    with pytest.raises(CatalogueError, match=place):
        load(tmp_path, catalogue(nodes={**nodes(), "pve": {**CLUSTER, "creation": creation}}))
