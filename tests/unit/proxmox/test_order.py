# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ordered guest is to be: the same from its template and from its copy, and nothing else of it changed."""
from __future__ import annotations

import uuid

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _nics, _order, _rights
from hypothesis import given
from hypothesis import strategies as st

MAC = "bc:24:11:00:00:09"
KEYS = st.sampled_from(["firewall=0", "rate=5", "tag=12", "queues=4", "mtu=1400", "link_down=1", "trunks=2;3", "host-tunnel=x"])
NICS = st.one_of(
    st.builds(lambda keys: ",".join(["virtio=BC:24:11:AA:BB:CC", "bridge=vmbr0", *keys]), st.lists(KEYS, unique=True)),
    st.builds(lambda keys: ",".join(["model=e1000", "macaddr=BC:24:11:AA:BB:CC", *keys]), st.lists(KEYS, unique=True)), st.none())


def order_of(kind="qemu", **changes):
    return {
        "service": "vps-9", "kind": kind, "vmid": 109, "vcpus": 2, "memory_bytes": 1 << 30, "rate_bps": 10_000_000, "user": None,
        "guest": {"name": "web-9", "uuid": "0b6b1f4e-6c1d-4c1f-9a53-3f3d9a3f0c11", "given": False}, "ssh_keys": [], "resolvers": [],
        "disk": {"size_bytes": 20 << 30, "image": "debian", "storage": "fast"}, "storage": {"storage": "local", "node": None, "overcommit": False},
        "image": {"template": 9000, "linked": False, "ostemplate": None},
        "nics": [{"mac": MAC, "bridge": "vmbr1", "addresses": ["192.0.2.9/24", "192.0.2.10/24"], "gateways": ["192.0.2.1"]}], **changes}


def template(**changes):
    return {"template": "1", "scsi0": "local:base-9000-disk-0,size=10G", "ide2": "local:vm-9000-cloudinit,media=cdrom", "memory": "512",
            "cores": "1", "smbios1": "manufacturer=x,uuid=%s" % uuid.UUID(int=1), **changes}


@given(NICS, st.booleans())
def test_a_copy_is_brought_to_what_its_template_promised(nic, extra):
    """A copy differs from its template in MACs and UUID alone, so both lead to the same settings, and then to no change."""
    order = order_of()
    base = template(**({"net0": nic} if nic else {}), **({"net1": "virtio=BC:24:11:00:00:77,bridge=vmbr0"} if extra else {}))
    copy = dict(base, smbios1="uuid=%s,manufacturer=x" % uuid.UUID(int=2))
    if nic:
        copy["net0"] = nic.replace("AA:BB:CC", "11:22:33")
    assert _order.wanted(order, base) == {**_order.wanted(order, copy), "smbios1": _order.wanted(order, base)["smbios1"]}
    _before, after = _order.changes(order, copy)
    done = {key: value for key, value in {**copy, **after}.items() if value is not None}
    assert _order.changes(order, done) == ({}, {})
    assert _nics.mac_of("qemu", done["net0"]) == MAC and _nics.is_on(done["net0"], "firewall") and "net1" not in done
    values = dict(_nics.parts(done["net0"]))
    assert values["bridge"] == "vmbr1" and values["rate"] == "1.1920928955" and "link_down" not in values
    for part in (nic or "").split(","):
        key, _, value = part.partition("=")
        if key in ("tag", "queues", "mtu", "trunks", "host-tunnel"):
            assert values[key] == value


def test_a_container_and_addresses_beyond_the_first():
    order = order_of("lxc", rate_bps=None)
    then = _order.wanted(order, {"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:AA:BB:CC,ip=dhcp,gw6=fe80::1,ip6=auto,type=veth,mtu=1400"})
    assert then["hostname"] == "web-9" and "smbios1" not in then and "sshkeys" not in then
    assert sorted(then["net0"].split(",")) == ["bridge=vmbr1", "firewall=1", "gw=192.0.2.1", "hwaddr=BC:24:11:00:00:09", "ip=192.0.2.9/24",
                                               "mtu=1400", "name=eth0", "type=veth"]
    assert _order.unset_addresses(order) == ["192.0.2.10/24"]
    given_all = _order.unpack_parameters(order_of("lxc", ssh_keys=["a", "b"], image={"template": None, "ostemplate": "local:x", "linked": False}))
    assert given_all["rootfs"] == "local:20" and given_all["ssh-public-keys"] == "a\nb" and given_all["onboot"] == 0


@pytest.mark.parametrize("config, disk", [
    ({"boot": "order=ide2;virtio1;net0", "virtio1": "a:b,size=1G", "scsi0": "a:c,size=2G", "ide2": "none,media=cdrom"}, "virtio1"),
    ({"scsi0": "a:c,size=2G", "sata0": "a:d,size=1G"}, "scsi0"), ({"bootdisk": "sata0", "scsi0": "a:c", "sata0": "a:d"}, "sata0"),
    ({"scsi7": "a:c"}, "scsi7"), ({"ide0": "a:vm-9000-cloudinit,media=cdrom"}, None)])
def test_the_disk_it_boots_from(config, disk):
    assert _order.disk_of("qemu", config) == disk


@pytest.mark.parametrize("text, size", [("a:b,size=10G", 10 << 30), ("a:b,size=2252M,ssd=1", 2252 << 20), ("a:b,size=0.5T", 1 << 39),
                                        ("a:b", None), ("a:b,size=x", None)])
def test_sizes(text, size):
    assert _order.size_of(text) == size


@pytest.mark.parametrize("changes, sets, kind, code", [
    ({"template": None}, [], "qemu", "image_kind"), ({"onboot": "1"}, [], "qemu", "image_kind"),
    ({}, ["ipfilter-net0"], "qemu", "image_kind"), ({"ide2": "none,media=cdrom"}, [], "qemu", "image_kind"),
    ({"scsi0": "local:x,size=21G"}, [], "qemu", "disk_small"), ({"scsi0": "local:x"}, [], "qemu", "image_kind")])
def test_templates_that_are_refused(changes, sets, kind, code):
    _order.check_template(order_of(kind), template(), [])
    with pytest.raises(NodeError) as caught:
        _order.check_template(order_of(kind), template(**changes), sets)
    assert caught.value.code == code and caught.value.remedy


def test_what_a_pool_gives_and_what_it_does_not():
    wanted = {("/vms/109", "VM.Allocate"), ("/vms/109", "VM.Audit"), ("/vms/9000", "VM.Clone"), ("/storage/a", "Datastore.AllocateSpace")}
    held = {"/": {"Sys.Audit": 1}, "/pool": {"VM.Allocate": 1, "VM.Audit": 1, "VM.Clone": 1}, "/pool/other": {"VM.PowerMgmt": 1}}
    pooled = _order.pooled(order_of(resource_pool="customers"))
    assert pooled == {"/vms/109": "/pool/customers"} and _order.pooled(order_of()) == {}
    assert _rights.missing(wanted, held, pooled) == sorted(wanted - {("/vms/109", "VM.Allocate")})
    # A role on the pool itself stands in place of those above it.
    assert ("/vms/109", "VM.Allocate") in _rights.missing(wanted, held, {"/vms/109": "/pool/other"})
    assert _rights.missing(wanted, held) == sorted(wanted)


def test_keys_as_the_server_keeps_them_and_files_beside_those_of_the_template():
    order = order_of(ssh_keys=["ssh-ed25519 AAAA+/b=", "ssh-rsa BBBB"], image={"template": 9000, "linked": False, "ostemplate": None, "vendor_data": "f:snippets/v"})
    then = _order.wanted(order, template(cicustom="meta=a:snippets/m,vendor=a:snippets/w"))
    assert then["sshkeys"] == "ssh-ed25519%20AAAA%2B%2Fb%3D%0Assh-rsa%20BBBB"
    assert then["cicustom"] == "meta=a:snippets/m,vendor=f:snippets/v"
    there = template(**{key: value for key, value in then.items() if value is not None})
    assert _order.changes(order, dict(there, sshkeys=then["sshkeys"].replace("%2B", "%2b") + "%0A", cicustom="vendor=f:snippets/v,meta=a:snippets/m")) == ({}, {})
    assert set(_order.changes(order, dict(there, sshkeys=then["sshkeys"].replace("AAAA", "AAaA")))[1]) == {"sshkeys"}
    needed = _order.rights(order, template(cicustom="meta=a:snippets/m"))
    assert {path for path, privilege in needed if privilege == "Datastore.Allocate"} == {"/storage/a", "/storage/f"}
    assert not [one for one in _order.rights(order_of(), template(cicustom="meta=a:snippets/m")) if one[1] == "Datastore.Allocate"]


@given(st.one_of(st.none(), st.integers(1, 4094)), NICS.filter(bool))
def test_a_vlan_stands_in_place_of_the_templates(vlan, nic):
    order = order_of()
    order["nics"][0]["vlan"] = vlan
    then = dict(_nics.parts(_order.wanted(order, template(net0=nic))["net0"]))
    before = dict(_nics.parts(nic))
    assert then.get("tag") == (str(vlan) if vlan else before.get("tag")) and then.get("trunks") == (None if vlan else before.get("trunks"))
    paths = {path for path, privilege in _order.rights(order, template(net0=nic)) if privilege == "SDN.Use"}
    copied = {"/sdn/zones/localnetwork/vmbr0" + ("/" + before["tag"] if "tag" in before else "")} if "bridge" in before else set()
    assert paths == copied | {"/sdn/zones/localnetwork/vmbr1" + ("/" + then["tag"] if "tag" in then else "")}


def test_the_rights_of_a_copy_name_its_bridges_and_storages():
    wanted = _order.rights(order_of(image={"template": 9000, "linked": True, "ostemplate": None}),
                           template(net0="virtio=BC:24:11:AA:BB:CC,bridge=vmbr0", scsi1="fast:base-9000-disk-1,size=1G"))
    assert {path for path, privilege in wanted if privilege == "SDN.Use"} == {
        "/sdn/zones/localnetwork/vmbr0", "/sdn/zones/localnetwork/vmbr1"}
    assert {path for path, privilege in wanted if privilege == "Datastore.AllocateSpace"} == {"/storage/local", "/storage/fast"}
    assert ("/vms/9000", "VM.Clone") in wanted and ("/vms/109", "VM.Allocate") in wanted and ("/vms/109", "VM.Config.HWType") in wanted
