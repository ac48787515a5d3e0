# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests made by order in a cluster: their rules are there when they start, whatever happened on the way."""

from __future__ import annotations

import base64
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _order
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import release_files
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import ApiError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._cluster import ProxmoxCluster
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import ClusterConverge
from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule

from .provider import MAKING, ROLE, Provider, firewalled, guest, mac, maker_token, provider, service, token
from .test_killed import Killed, Mortal, dies

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
IMAGES = {"debian-12": {"template": 9000, "linked": False, "ostemplate": None},
          "debian-12-linked": {"template": 9000, "linked": True, "ostemplate": None},
          "container": {"template": 9001, "linked": False, "ostemplate": None},
          "archive": {"template": None, "linked": False, "ostemplate": "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}}
GIB = 1 << 30


def ordered(vmid: int | None, image: str = "debian-12", nics: int = 1, number: int = 0, **changes: Any) -> dict[str, Any]:
    """A service whose guest is to be made."""
    named = number or vmid
    made = service(named, nics=nics)
    made["guest"] = {"name": f"web-{named}", "uuid": None, **({"vmid": vmid} if vmid else {})}
    made["order"] = {
        "create": True, "vcpus": 2, "memory_bytes": 2 * GIB, "rate_bit_per_second": 100_000_000,
        "disk": {"size_bytes": 20 * GIB, "image": image, "storage": "fast"},
        "nics": [{"mac": nic["mac"], "bridge": "vmbr1", "addresses": [nic["addresses"][0] + "/24", nic["addresses"][1] + "/64"],
                  "gateways": ["192.0.2.1", "2001:db8:1::1"]} for nic in made["nics"]],
        "cloud_init": {"hostname": None, "ssh_keys": [] if image == "container" else [KEY], "user_data": None,
                       **({"user": "erika"} if image.startswith("debian") else {})}, **changes}
    return made


def template(vmid: int = 9000, kind: str = "qemu", **config: str):
    disks = {"scsi0": "local-lvm:base-9000-disk-0,iothread=1,size=10G", "ide2": "local-lvm:vm-9000-cloudinit,media=cdrom",
             "boot": "order=scsi0;net0", "sshkeys": "operators%20key", "sockets": "2"} if kind == "qemu" else \
        {"rootfs": "local-lvm:base-9001-disk-0,size=4G"}
    found = guest(vmid, kind, running=False, **{"template": "1", "onboot": None, "tags": "house", "description": "ours", **disks, **config})
    net = found.config["net0"]
    found.config["net0"] = net + ",queues=4" if kind == "qemu" else net
    return found


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.02, lock_timeout=0.3))
    cluster.add(template())
    cluster.add(template(9001, "lxc"))
    cluster.add(guest(100))
    with provider(tmp_path, cluster, grant=maker_token()) as made:
        made.node.update(bridges=["vmbr1"], creation={
            "images": IMAGES, "resolvers": ["192.0.2.53"],
            "storage": {"fast": {"storage": "local-lvm", "node": "pve1", "overcommit": False}}})
        made.services = {"vps-100": service(100)}
        assert not made.provision()["errors"]
        yield made


def order(house: Provider, *services: dict[str, Any]) -> None:
    house.services.update({one["id"]: one for one in services})


def refuses_port_25(house: Provider, vmid: int) -> dict[str, Any]:
    """The firewall as it was when the guest was started, which must refuse its mail and bind it to its addresses."""
    (wall,) = [seen for number, seen in house.cluster.started if number == vmid]
    assert wall["on"] and all(wall["nics"].values()) and wall["nics"]
    assert {(one["type"], one["action"], one["dport"]) for one in wall["rules"]} == {("out", "REJECT", "25")}
    assert len(wall["rules"]) == 4  # around the smarthosts
    for name in wall["nics"]:
        assert len(wall["sets"]["ipfilter-" + name]) == 3 and "fe80::/10" in wall["sets"]["ipfilter-" + name]
    return wall


def test_five_steps(house):
    before = house.state()
    order(house, ordered(300, nics=2), ordered(301, "debian-12-linked"), ordered(303, "container"), ordered(304, "archive"))
    found = house.state()
    checked = house.provision(check=True)
    assert checked["changed"] and not checked["errors"] and house.state() == found == before
    assert checked["creating"] == ["vps-300", "vps-301", "vps-303", "vps-304"]
    done = house.provision()
    assert not done["errors"] and done["outcome"] == "changed", done["errors"]
    assert done["plan_hash"] == checked["plan_hash"]
    for vmid in (300, 301, 303, 304):
        made, wall = house.cluster.guests[vmid], refuses_port_25(house, vmid)
        assert made.running and made.starts == 1 and made.config["onboot"] == "1" and made.node == "pve1"
        assert wall["config"]["memory"] == "2048" and wall["config"]["cores"] == "2"
        assert f"vps-{vmid}" in made.config["description"]
    machine = house.cluster.guests[300].config
    assert machine["scsi0"] == "local-lvm:vm-300-disk-0,iothread=1,size=20G" and machine["name"] == "web-300" and machine["sockets"] == "1"
    for number in (0, 1):  # 100 Mbit/s, shared
        assert f"{mac(300, number).upper()}" in machine[f"net{number}"] and "rate=5.9604644775" in machine[f"net{number}"]
        assert "bridge=vmbr1" in machine[f"net{number}"] and "firewall=1" in machine[f"net{number}"]
    assert "queues=4" in machine["net0"] and machine["tags"] == "house"
    assert machine["ipconfig0"] == "gw=192.0.2.1,gw6=2001:db8:1::1,ip=192.0.2.10/24,ip6=2001:db8:1::0:300/64"
    assert (machine["ciuser"], machine["nameserver"]) == ("erika", "192.0.2.53") and machine["sshkeys"].startswith("ssh-ed25519%20")
    assert house.cluster.guests[301].config["scsi0"].startswith("local-lvm:vm-301-disk-0")
    container = house.cluster.guests[303].config
    assert container["rootfs"].endswith("size=20G") and "gw=192.0.2.1" in container["net0"] and "hwaddr=" + mac(303).upper() in container["net0"]
    again = house.provision(check=True)
    assert not again["changed"] and not again["errors"] and not again["creating"]
    assert house.provision()["outcome"] == "unchanged"
    made = house.write(lambda tx: tx.creations("pve"))
    assert set(made) == {"vps-300", "vps-301", "vps-303", "vps-304"}
    # A change of the order changes nothing of a guest that is there; a change of policy does.
    house.services["vps-300"]["order"]["vcpus"] = 4
    assert house.provision()["outcome"] == "unchanged"
    assert not house.enforce("suspend", "vps-300")["errors"] and house.cluster.guests[300].paused
    assert not house.lift("vps-300")["errors"] and not house.cluster.guests[300].paused


def test_an_ordered_guest_that_is_there_costs_no_more_reads_than_others(house):
    order(house, ordered(300))
    assert not house.provision()["errors"]
    before = len(house.api.seen)
    assert house.provision()["outcome"] == "unchanged"
    paths = [path for _at, _method, path in house.api.seen[before:]]
    assert len([path for path in paths if "/300/" in path]) == 4 and len(set(paths)) == len(paths)


def test_the_documented_roles_are_what_is_tested_with():
    text = (Path(__file__).parents[3] / "docs" / "proxmox.md").read_text()
    roles = {name: set(said.split()) for name, said in re.findall(r'pveum role add (\w+) --privs "([^"]+)"', text)}
    assert roles == {"AupGuests": ROLE, "AupBridges": {"SDN.Use"}, "AupFirewall": {"Sys.Modify"}, "AupMaking": MAKING,
                     "AupStorage": {"Datastore.AllocateSpace", "Datastore.Audit"}, "AupTemplates": {"VM.Audit", "VM.Clone"},
                     "AupSnippets": {"Datastore.Allocate", "Datastore.Audit"}}


def test_retire_leaves_the_guests_to_the_customer_and_the_cluster_as_found(house):
    order(house, ordered(300))
    assert not house.provision()["errors"]
    house.retire()
    made = house.cluster.guests.pop(300)
    assert made.running and "firewall=1" in made.config["net0"]
    assert house.cluster.firewall.guests.pop(300).render() == ""
    assert house.cluster.firewall.cluster.render() == "enable: 1\npolicy_in: ACCEPT"


@pytest.mark.parametrize("image, stride", [("debian-12", 1), ("container", 3), ("archive", 3)])
def test_killed_before_or_after_each_write(house, image, stride):
    """The next provision finishes what was begun; at no moment does the guest run without its rules."""
    house.cluster.pace = 0.0
    lives, number = 0, 400
    while True:
        vmid = number + lives
        order(house, ordered(vmid, image, number=300 + lives))
        killed = dies(house, lives, house.provision)
        sid = f"vps-{300 + lives}"
        asked = any(path.endswith(f"/{vmid}/status/start") for _at, _method, path in house.api.seen)
        if killed and vmid in house.cluster.guests and not asked:
            # What reconcile sees of it in between is left alone.
            left = house.again()
            assert not left["errors"] and any("is being made" in note for note in left["notes"]) and not house.cluster.guests[vmid].running
        done = house.provision()
        assert not done["errors"], (lives, done["errors"])
        made = house.cluster.guests[vmid]
        refuses_port_25(house, vmid)
        assert made.running and made.starts == 1 and made.config["onboot"] == "1", lives
        assert house.provision()["outcome"] == "unchanged"
        assert sid in house.write(lambda tx: tx.creations("pve"))
        house.cluster.guests.pop(vmid)  # or the runs get longer and longer
        house.services[sid]["order"]["create"] = False
        if not killed:
            break
        lives += stride
    assert lives >= 8, lives


def killed_as_it_copies(house: Provider) -> None:
    """A run that ends after a copy was asked for and before it was heard of."""
    with pytest.raises(Killed):
        house.provision(client=Mortal(house.client().target, 0, after=True))


def test_a_copy_that_another_run_began_is_waited_for(house):
    """Killed while the template is copied, and started again before that has ended."""
    order(house, ordered(300))
    house.cluster.pace = 1.0
    killed_as_it_copies(house)
    assert house.cluster.guests[300].config == {"lock": "clone"}
    again = house.provision(check=True)
    assert not again["errors"] and again["steps"][0]["before"] == {"vmid": None, "lock": "clone"}
    done = house.provision()
    assert not done["errors"], done["errors"]
    refuses_port_25(house, 300)
    assert house.api.calls["POST /nodes/{node}/qemu/{vmid}/clone"] == 1


def test_a_copy_that_hangs_is_said_and_not_started(house):
    order(house, ordered(300), ordered(305))
    house.cluster.clone_hangs = True
    killed_as_it_copies(house)
    house.cluster.clone_hangs = False
    deadline = time.monotonic() + 10
    while any(task.exit is None for task in house.cluster.tasks.values()) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    done = house.provision()
    hung = [vmid for vmid in (300, 305) if house.cluster.guests[vmid].lock == "clone"]
    assert len(hung) == 1 and [(e["code"], e["service"]) for e in done["errors"]] == [("guest_locked", f"vps-{hung[0]}")]
    assert done["outcome"] == "incomplete" and "no task copies it" in done["errors"][0]["message"]
    refuses_port_25(house, 605 - hung[0])  # the other one is there


def refused(house: Provider, *services: dict[str, Any]) -> dict[str, str]:
    """Codes by service of a run that began nothing for them."""
    order(house, *services)
    before = set(house.cluster.guests)
    done = house.provision()
    assert set(house.cluster.guests) - before == {int(sid[4:]) for sid in done["creating"]}
    return {error["service"]: error["code"] for error in done["errors"]}


def elsewhere(one: dict[str, Any]) -> dict[str, Any]:
    one["order"]["nics"][0]["bridge"] = "vmbr7"
    return one


def test_what_can_not_be_made_is_said_item_by_item_and_the_others_are_made(house):
    cluster = house.cluster
    cluster.add(template(9100, onboot="1"))
    cluster.add(template(9101, ide2="none,media=cdrom"))
    cluster.add(template(9102, template="0"))
    cluster.add(template(9103, scsi0="slow:base-9103-disk-0,size=10G"))
    cluster.firewall.of_guest(9104, "qemu").ipsets["ipfilter-net0"] = {"comment": "", "entries": []}
    cluster.add(template(9104))
    cluster.firewall.of_guest(9105, "qemu").rules.append({"type": "in", "action": "DROP", "enable": 1})
    cluster.add(template(9105))
    cluster.add(guest(320, net0="virtio=BC:24:11:FF:00:01,bridge=vmbr1"))
    images = {f"t{number}": {"template": number, "linked": number == 9103, "ostemplate": None} for number in (*range(9100, 9106), 9999)}
    house.node["creation"]["images"] = {**IMAGES, **images}
    codes = refused(
        house, ordered(300), ordered(301, "nothing"), ordered(302, "t9999"), ordered(303, "t9100"), ordered(304, "t9101"),
        ordered(305, "t9102"), ordered(306, "t9103"), ordered(307, "t9104"), ordered(308, "t9105"), ordered(320),
        ordered(309, disk={"size_bytes": GIB, "image": "debian-12", "storage": "fast"}),
        ordered(310, disk={"size_bytes": 1 << 45, "image": "debian-12", "storage": "fast"}),
        ordered(311, disk={"size_bytes": 20 * GIB, "image": "debian-12", "storage": "none"}),
        ordered(312, "container", cloud_init={"hostname": None, "ssh_keys": [KEY], "user_data": None}),
        elsewhere(ordered(313)))
    assert codes.pop("vps-320") == "vmid_taken" and cluster.guests[320].config["name"] == "guest320"
    assert codes == {
        "vps-301": "image_unknown", "vps-302": "image_missing", "vps-303": "image_kind", "vps-304": "image_kind", "vps-305": "image_kind",
        "vps-306": "storage_unknown", "vps-307": "image_kind", "vps-308": "firewall_off", "vps-309": "disk_small", "vps-310": "pool_full",
        "vps-311": "storage_unknown", "vps-312": "image_kind", "vps-313": "bridge_unknown"}
    refuses_port_25(house, 300)


def test_storages_that_are_missing_inactive_full_or_of_another_kind(house):
    cluster = house.cluster
    named = {name: {"storage": name, "node": "pve1", "overcommit": name == "over"} for name in ("gone", "asleep", "isos", "small", "over")}
    house.node["creation"]["storage"].update(named)
    for name in named:
        if name != "gone":
            cluster.storages[name] = type(cluster.storages["local"])(name, 30 * GIB)
    cluster.storages["asleep"].active, cluster.storages["isos"].content = False, "iso"
    orders = [ordered(330 + n, disk={"size_bytes": 20 * GIB, "image": "debian-12", "storage": name})
              for n, name in enumerate(["gone", "asleep", "isos", "small", "small", "over", "over"])]
    codes = refused(house, *orders)
    # Where more is promised than there is, one of them doesn't get its disk; it is there, off, and goes on when there is room.
    (late,) = {sid for sid, code in codes.items() if code == "api_error"}
    assert late in ("vps-335", "vps-336") and not cluster.guests[int(late[4:])].running
    del codes[late]
    assert codes == {"vps-330": "pool_missing", "vps-331": "pool_inactive", "vps-332": "pool_kind", "vps-334": "pool_full"}
    cluster.storages["over"].avail = 100 * GIB
    assert late not in {error["service"] for error in house.provision()["errors"]}
    refuses_port_25(house, int(late[4:]))


def test_a_storage_that_fills_up_meanwhile_leaves_nothing_behind(house):
    house.node["creation"]["storage"]["fast"]["overcommit"] = True
    house.cluster.storages["local-lvm"].avail = 5 * GIB
    order(house, ordered(300))
    done = house.provision()
    assert [error["code"] for error in done["errors"]] == ["api_error"] and "not enough free space" in done["errors"][0]["message"]
    assert done["outcome"] == "incomplete" and 300 not in house.cluster.guests and 300 not in house.cluster.firewall.guests
    house.cluster.storages["local-lvm"].avail = 1 << 40
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


def test_numbers_are_chosen_and_never_taken_over(house):
    order(house, ordered(None, number=300), ordered(None, number=301), ordered(102))
    done = house.provision()
    assert not done["errors"], done["errors"]
    names = {one.name: vmid for vmid, one in house.cluster.guests.items()}
    assert {names["web-300"], names["web-301"]} == {101, 103} and names["web-102"] == 102
    assert house.provision()["outcome"] == "unchanged"
    # Somebody takes the number between plan and copy.
    order(house, ordered(None, number=302))
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/9000/clone", before=lambda: house.cluster.add(guest(104, running=False))))
    done = house.provision()
    assert [error["code"] for error in done["errors"]] == ["vmid_taken"] and house.cluster.guests[104].name == "guest104"
    # A guest that isn't marked as ours isn't touched; the name is another's.
    order(house, ordered(None, number=303))
    house.services["vps-303"]["guest"]["name"] = "guest100"
    codes = {error["service"]: error["code"] for error in house.provision()["errors"]}
    assert codes["vps-303"] == "name_taken" and codes["vps-302"] == "vmid_taken"
    assert "description" not in house.cluster.guests[104].config and not house.cluster.guests[104].running


def test_what_was_made_and_is_gone_is_not_made_again_and_a_held_service_is_not_made(house):
    order(house, ordered(300), ordered(301))
    house.write(lambda tx: None)
    assert not house.provision()["errors"]
    del house.cluster.guests[300]
    done = house.provision()
    assert not done["errors"] and not done["creating"] and any("not made again" in note for note in done["notes"])
    assert 300 not in house.cluster.guests
    assert not house.enforce("suspend", "vps-301")["errors"]
    order(house, ordered(302))
    house.provision(check=True)


def test_without_the_clusters_firewall_none_is_started(house):
    house.cluster.firewall.cluster.options["enable"] = 0
    order(house, ordered(300))
    done = house.provision()
    assert [error["code"] for error in done["errors"]] == ["firewall_off"] and done["outcome"] == "incomplete"
    assert 300 not in house.cluster.guests


@pytest.mark.parametrize("path, answer, code", [
    ("/nodes/pve1/qemu/300/config", Refused(500, "can't lock file '/var/lock/qemu-server/lock-300.conf' - got timeout"), "guest_busy"),
    ("/nodes/pve1/qemu/300/resize", Refused(500, "cluster not ready - no quorum?"), "no_quorum"),
    ("/nodes/pve1/qemu/300/firewall/options", Refused(500, "detected modified configuration - file changed by other user? Try again."),
     "changed_meanwhile"),
])
def test_a_step_that_fails_leaves_the_guest_off(house, path, answer, code):
    order(house, ordered(300))
    house.api.rules.append(Rule("PUT", path, times=9, refuse=answer))
    done = house.provision()
    assert {error["code"] for error in done["errors"]} == {code} and not house.cluster.guests[300].running
    assert "onboot" not in house.cluster.guests[300].config
    house.api.rules.clear()
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


@pytest.mark.parametrize("trouble, codes", [
    ("locked", {"vps-300": "guest_locked", "vps-303": "guest_locked"}), ("quorum", {"vps-300": "no_quorum", "vps-303": "no_quorum"}),
    ("node", {"vps-300": "node_down", "vps-303": "node_down"})])
def test_templates_in_use_no_quorum_and_a_node_that_is_down(house, trouble, codes):
    cluster = house.cluster
    order(house, ordered(300), ordered(303, "container"))
    before = set(cluster.guests)
    if trouble == "locked":
        cluster.guests[9000].config["lock"] = "backup"
        cluster.guests[9001].config["lock"] = "disk"  # another copy of it is being made
    elif trouble == "quorum":
        cluster.quorate = False
    else:
        cluster.nodes["pve1"] = "offline"
    done = house.provision()
    found = {error["service"]: error["code"] for error in done["errors"] if error["service"] in codes}
    assert found == codes and set(cluster.guests) == before
    assert all(error["remedy"] for error in done["errors"])
    for one in (9000, 9001):
        cluster.guests[one].config.pop("lock", None)
    cluster.quorate, cluster.nodes["pve1"] = True, "online"
    assert not house.provision()["errors"]
    for vmid in (300, 303):
        refuses_port_25(house, vmid)


def test_answers_that_never_come_are_looked_up(house):
    for path in ("/nodes/pve1/qemu/9000/clone", "/nodes/pve1/qemu/300/config", "/nodes/pve1/qemu/300/status/start"):
        house.api.rules.append(Rule("POST" if path.endswith(("clone", "start")) else "PUT", path, cut=True))
    order(house, ordered(300))
    done = house.provision()
    assert not done["errors"], done["errors"]
    refuses_port_25(house, 300)
    assert house.cluster.guests[300].starts == 1


def test_nothing_is_started_while_a_rule_is_missing(house):
    """Somebody takes the rule away between its being written and the start."""
    order(house, ordered(300))

    def taken_away():
        house.cluster.firewall.guests[300].rules.clear()
    house.settle = 0.5
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/300/firewall/options", before=taken_away))
    done = house.provision()
    assert [error["code"] for error in done["errors"]] == ["not_ready"] and not house.cluster.guests[300].running
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


def test_the_start_waits_until_the_firewall_has_been_compiled(house):
    order(house, ordered(300))
    house.settle = 1.5
    assert not house.provision()["errors"]
    seen = [(at, method, path) for at, method, path in house.api.seen if "/300/" in path and method != "GET"]
    start = next(at for at, _method, path in seen if path.endswith("/status/start"))
    last = max(at for at, _method, path in seen if "/firewall/" in path)
    assert start - last >= 1.4


def test_what_the_token_lacks_is_named_with_its_path(house):
    grant = house.api.tokens["svc@pve!aup"]
    grant.acl.update(token().acl)
    grant.acl.pop("/storage")
    order(house, ordered(300))
    (error,) = house.provision()["errors"]
    assert error["code"] == "missing_privilege"
    for words in ("VM.Allocate on /vms/300", "VM.Clone on /vms/9000", "Datastore.AllocateSpace on /storage/local-lvm",
                  "VM.Config.HWType on /vms/300", "VM.Config.Memory on /vms/300", "VM.Config.Disk on /vms/300"):
        assert words in error["message"], error["message"]
    assert 300 not in house.cluster.guests
    assert _order.PART == error["part"]


# -- pools, user data, VLANs, numbers ----------------------------------------------------------------------------------


def narrowed(house: Provider) -> Any:
    """The token with the right to make, and so to delete, in one pool alone, as docs/proxmox.md has it."""
    grant = house.api.tokens["svc@pve!aup"]
    grant.acl.update(token().acl)
    grant.acl["/pool/customers"] = set(MAKING)
    for number in (9000, 9001):
        grant.acl[f"/vms/{number}"] = {"VM.Audit", "VM.Clone"}
    return grant


def test_a_pool_keeps_the_right_to_delete_to_its_guests(house):
    grant = narrowed(house)
    order(house, ordered(300), ordered(303, "container"), ordered(304, "archive"))
    done = house.provision()
    assert {error["code"] for error in done["errors"]} == {"missing_privilege"} and 300 not in house.cluster.guests
    assert "VM.Allocate on /vms/300," in done["errors"][0]["message"]
    house.node["creation"]["resource_pool"] = "customers"
    done = house.provision()
    assert {error["code"] for error in done["errors"]} == {"resource_pool_missing"} and 300 not in house.cluster.guests
    house.cluster.pools["customers"] = {"poolid": "customers", "vms": set()}
    done = house.provision()
    assert not done["errors"], done["errors"]
    for vmid in (300, 303, 304):
        refuses_port_25(house, vmid)
    assert house.cluster.pools["customers"]["vms"] == {300, 303, 304} and house.provision()["outcome"] == "unchanged"
    assert grant.may("/vms/300", "VM.Allocate") and not grant.may("/vms/100", "VM.Allocate") and not grant.may("/vms/9000", "VM.Allocate")
    with pytest.raises(ApiError, match=r"403 .*\(/vms/100, VM.Allocate\)"):
        house.client().write("pve1", "DELETE", "nodes", "pve1", "qemu", 100)
    # Only on the pool, seeing a guest that is being copied isn't had: it is in no pool yet.
    grant.acl["/"] -= {"VM.Audit"}
    grant.acl["/pool/customers"] |= {"VM.Audit"}
    order(house, ordered(301))
    (error,) = [error for error in house.provision()["errors"] if error["service"] == "vps-301"]
    assert error["code"] == "missing_privilege" and "VM.Audit on /vms/301" in error["message"]


def test_a_copy_that_never_came_into_its_pool_is_said(house):
    """Its node went down between copy and pool: what is given on the pool isn't in force on it."""
    narrowed(house)
    house.cluster.pools["customers"] = {"poolid": "customers", "vms": set()}
    house.node["creation"]["resource_pool"] = "customers"
    order(house, ordered(300))
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/300/config", before=lambda: house.cluster.pools["customers"]["vms"].clear()))
    assert {error["code"] for error in house.provision()["errors"]} == {"missing_privilege"}
    (error,) = house.provision()["errors"]
    assert error["code"] == "missing_privilege" and "VM.Config.HWType on /vms/300" in error["message"]
    assert not house.cluster.guests[300].running
    house.cluster.pools["customers"]["vms"].add(300)
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


def with_snippets(house: Provider) -> None:
    """A storage for cloud-init's files, and what the catalogue says of it."""
    house.cluster.storages["files"] = type(house.cluster.storages["local"])("files", 1 << 30, content="snippets")
    house.cluster.snippets |= {"files:snippets/web.yml", "files:snippets/house.yml"}
    house.api.tokens["svc@pve!aup"].acl["/storage/files"] = {"Datastore.Allocate", "Datastore.Audit"}
    house.node["creation"]["user_data"] = {"web": "files:snippets/web.yml", "gone": "files:snippets/gone.yml", "off": "gone:snippets/x.yml"}
    house.node["creation"]["images"] = {**IMAGES, "house": {**IMAGES["debian-12"], "vendor_data": "files:snippets/house.yml"},
                                        "house-ct": {**IMAGES["container"], "vendor_data": "files:snippets/house.yml"}}


def with_data(vmid: int, name: str | None, image: str = "debian-12", keys: tuple[str, ...] = ()) -> dict[str, Any]:
    return ordered(vmid, image, cloud_init={"hostname": None, "ssh_keys": list(keys), "user_data": name})


def test_user_data_and_vendor_data_are_files_that_lie_there(house):
    with_snippets(house)
    house.cluster.guests[9000].config["cicustom"] = "meta=files:snippets/meta.yml"
    house.cluster.snippets.add("files:snippets/meta.yml")
    order(house, with_data(300, "web"), with_data(301, "web", "house"), with_data(302, None, "house", (KEY,)))
    checked = house.provision(check=True)
    done = house.provision()
    assert not done["errors"] and done["plan_hash"] == checked["plan_hash"], done["errors"]
    configs = {vmid: house.cluster.guests[vmid].config for vmid in (300, 301, 302)}
    assert configs[300]["cicustom"] == "meta=files:snippets/meta.yml,user=files:snippets/web.yml"
    assert configs[301]["cicustom"] == "meta=files:snippets/meta.yml,user=files:snippets/web.yml,vendor=files:snippets/house.yml"
    assert configs[302]["cicustom"] == "meta=files:snippets/meta.yml,vendor=files:snippets/house.yml"
    assert "sshkeys" not in configs[300] and unquote(configs[302]["sshkeys"]) == KEY and "+" not in configs[302]["sshkeys"]
    assert all(configs[vmid]["ipconfig0"] for vmid in configs)  # addresses are network data, which stays the server's
    assert len([note for note in done["notes"] if "stands in place of" in note]) == 2
    for vmid in configs:
        refuses_port_25(house, vmid)
    assert house.provision()["outcome"] == "unchanged"


def test_user_data_that_can_not_be_had_is_refused_before_anything_is_made(house):
    with_snippets(house)
    cluster = house.cluster
    cluster.add(template(9100, cicustom="user=local:snippets/theirs.yml"))
    cluster.add(template(9101, cicustom="network=local:snippets/theirs.yml"))
    for number in (9100, 9101):
        house.node["creation"]["images"][f"t{number}"] = {"template": number, "linked": False, "ostemplate": None}
    cluster.snippets.add("local:snippets/theirs.yml")
    codes = refused(house, with_data(300, "nothing"), with_data(301, "gone"), with_data(302, "off"), with_data(303, "web", "container"),
                    with_data(304, None, "house-ct"), with_data(305, None, "t9100", (KEY,)), with_data(306, None, "t9101"),
                    with_data(307, None, "t9100"))
    assert codes == {"vps-300": "user_data_unknown", "vps-301": "snippet_missing", "vps-302": "missing_privilege", "vps-303": "image_kind",
                     "vps-304": "image_kind", "vps-305": "image_kind", "vps-306": "image_kind"}
    # A template's own user data needs no privilege at all: its copies have it.
    assert cluster.guests[307].config["cicustom"] == "user=local:snippets/theirs.yml"
    refuses_port_25(house, 307)
    house.api.tokens["svc@pve!aup"].acl["/storage/files"] = {"Datastore.Audit", "Datastore.AllocateSpace"}
    order(house, with_data(308, "web"))
    (error,) = [error for error in house.provision()["errors"] if error["service"] == "vps-308"]
    assert error["code"] == "missing_privilege" and error["message"].endswith("the token lacks Datastore.Allocate on /storage/files.")


def test_a_file_that_is_gone_at_the_start_leaves_the_guest_off(house):
    """The start is answered 200, and its task fails."""
    with_snippets(house)
    order(house, with_data(300, "web"))
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/300/status/start", before=house.cluster.snippets.clear))
    done = house.provision()
    assert [error["code"] for error in done["errors"]] == ["api_error"] and "can't find file" in done["errors"][0]["message"]
    assert not house.cluster.guests[300].running
    assert {error["code"] for error in house.provision()["errors"]} == {"snippet_missing"}
    with_snippets(house)
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


def test_a_vlan_and_what_it_needs(house):
    narrow = house.api.tokens["svc@pve!aup"].acl
    del narrow["/sdn/zones/localnetwork"]
    narrow.update({"/sdn/zones/localnetwork/vmbr0": {"SDN.Use"}, "/sdn/zones/localnetwork/vmbr1/12": {"SDN.Use"}})
    tagged, other, plain = ordered(300), ordered(303, "container"), ordered(301)
    tagged["order"]["nics"][0]["vlan"], other["order"]["nics"][0]["vlan"] = 12, 13
    order(house, tagged, other, plain)
    messages = {error["service"]: error["message"] for error in house.provision()["errors"]}
    assert set(messages) == {"vps-303", "vps-301"}
    assert messages["vps-303"].endswith("lacks SDN.Use on /sdn/zones/localnetwork/vmbr1/13.")
    assert messages["vps-301"].endswith("lacks SDN.Use on /sdn/zones/localnetwork/vmbr1.")
    net0 = house.cluster.guests[300].config["net0"]
    assert "bridge=vmbr1" in net0 and "tag=12" in net0
    refuses_port_25(house, 300)
    narrow["/sdn/zones/localnetwork/vmbr1"] = {"SDN.Use"}
    assert not house.provision()["errors"]
    assert "tag=13" in house.cluster.guests[303].config["net0"] and "tag=" not in house.cluster.guests[301].config["net0"]


def stage(house: Provider, check: bool = False, rules_on: tuple[str, ...] = (), numbers: dict[str, int] | None = None, only_numbers: bool = False):
    """One of the plays on the cluster: that before its nodes', which only reserves numbers, or that after it."""
    done = house.write(release_files, house.policy, {house.policy.key: house.policy}, house.document())
    converge = ClusterConverge(house.ledger, ProxmoxCluster(house.client(), settle=0), "tester", house.clock.__next__, check,
                               str(house.place / "locks"), rules_on)
    wanted = Wanted(node="pve", run_id=done["run_id"], release_id=done["release_id"], numbers=numbers or {})
    return converge.number(wanted) if only_numbers else converge.run(wanted)


def numbering(house: Provider, check: bool = False) -> dict[str, Any]:
    return stage(house, check, only_numbers=True)


def coded(done: dict[str, Any]) -> dict[str, str]:
    return {error["service"]: error["code"] for error in done["errors"]}


def test_with_rules_on_the_nodes_a_number_is_reserved_first(house):
    house.node["proxmox"] = {"replug": False, "hosts": {"pve1.example": "192.0.2.1"}}
    order(house, ordered(None, number=300), ordered(303))
    before = house.state()
    assert coded(stage(house, check=True, rules_on=("pve1.example",))) == {"vps-300": "not_numbered"}
    reserved = numbering(house, check=True)["numbers"]
    checked = stage(house, check=True, rules_on=("pve1.example",), numbers=reserved)
    events = [house.read("head")["number"]]
    assert reserved == numbering(house)["numbers"] == {"vps-300": 101} and house.state() == before
    events.append(house.read("head")["number"])
    assert not numbering(house)["changed"] and not checked["errors"]
    events.append(house.read("head")["number"])
    # A new number is an event, so that nodes refuse what another run resolved before it.
    assert events[1] - events[0] == events[2] - events[1] + 1
    # Its node wasn't reached: nothing is made there.
    assert coded(stage(house)) == {"vps-300": "not_filtered", "vps-303": "not_filtered"} and house.state()["guests"] == before["guests"]
    # Whoever looks in between says so, and makes nothing.
    assert any("its guest 101 is being made" in note for note in house.again()["notes"]) and house.state()["guests"] == before["guests"]
    # Another takes the number: nothing of ours was begun under it, so the next run takes another.
    house.cluster.add(guest(101, running=False))
    assert coded(stage(house, rules_on=("pve1",))) == {"vps-300": "vmid_taken"} and house.cluster.guests[101].name == "guest101"
    assert numbering(house)["numbers"] == {"vps-300": 102}
    checked, done = stage(house, check=True, rules_on=("pve1",)), stage(house, rules_on=("pve1",))
    assert not done["errors"] and done["plan_hash"] == checked["plan_hash"]
    for vmid in (102, 303):
        refuses_port_25(house, vmid)
    assert house.cluster.guests[102].name == "web-300" and numbering(house)["numbers"] == {}
    assert house.read("numbers_made", "pve") == {"vps-300": 102, "vps-303": 303}
    # An order that is taken back gives its number back.
    order(house, ordered(None, number=301))
    assert numbering(house)["numbers"] == {"vps-301": 103}
    house.services["vps-301"]["order"]["create"] = False
    assert numbering(house)["changed"] and not numbering(house)["changed"]
    assert not any("being made" in note for note in house.provision()["notes"])


def test_the_first_nic_of_a_service_is_net0(house):
    turned = ordered(300, nics=2)
    turned["order"]["nics"].reverse()
    order(house, turned)
    assert not house.provision()["errors"]
    config = house.cluster.guests[300].config
    assert mac(300, 0).upper() in config["net0"] and mac(300, 1).upper() in config["net1"]


def test_a_template_that_is_gone_meanwhile_and_tasks_that_only_warn(house):
    order(house, ordered(300), ordered(303, "container"))
    house.cluster.warn_next.update({"vzclone": "WARNINGS: 1", "vzstart": "WARNINGS: 2", "resize": "WARNINGS: 1"})
    kept = house.cluster.guests[9000]
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/9000/clone", before=lambda: house.cluster.guests.pop(9000)))
    done = house.provision()
    assert {error["service"] for error in done["errors"]} == {"vps-300"} and 300 not in house.cluster.guests, done["errors"]
    refuses_port_25(house, 303)
    assert [error["code"] for error in house.provision()["errors"]] == ["image_missing"]
    house.cluster.guests[9000] = kept
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)


@pytest.mark.parametrize("step, path", [
    ("qmclone", "/nodes/pve1/qemu/9000/clone"), ("resize", "/nodes/pve1/qemu/300/resize"), ("qmstart", "/nodes/pve1/qemu/300/status/start")])
def test_a_task_that_fails_after_a_200_is_said_and_gone_on_with(house, step, path):
    order(house, ordered(300))
    begun = house.cluster.task

    def fails(node, kind, target, user, work, seconds=None):
        def interrupted(_task):
            if kind == "qmclone":  # the server takes away what it began
                house.cluster.guests.pop(300)
                house.cluster.firewall.guests.pop(300, None)
            raise Refused(500, "interrupted by signal")
        return begun(node, kind, target, user, interrupted if kind == step else work, seconds)
    house.cluster.task = fails
    done = house.provision()
    assert [error["service"] for error in done["errors"]] == ["vps-300"] and "interrupted by signal" in done["errors"][0]["message"]
    assert not any(one.running for vmid, one in house.cluster.guests.items() if vmid == 300)
    house.cluster.task = begun
    assert not house.provision()["errors"]
    refuses_port_25(house, 300)
