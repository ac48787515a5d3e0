# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in a cluster, as only the stand-in does at will: the exact result of each guest, the others done, nothing lost,
and the next run goes on. test_faults_anywhere.py has what can be brought about on any."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall

from tests.proxmox import schema
from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule, Token

from .provider import ROLE, SECRET, Provider, codes, firewalled, guest, mac, provider, service, token

EVERYBODY = ("vps-100", "vps-101", "vps-203")


@pytest.fixture
def house(tmp_path):
    """Two virtual machines on two nodes and a container; their controls are in force."""
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(100))
    cluster.add(guest(101, node="pve2"))
    cluster.add(guest(203, "lxc"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100), service(101), service(203, "lxc"))}
        assert not made.provision()["errors"]
        yield made


def writes(house: Provider) -> list[tuple[str, str]]:
    return [(method, path) for _, method, path in house.api.seen if method != "GET"]


def held(house: Provider, vmid: int) -> bool:
    one = house.cluster.guests[vmid]
    return one.paused or not one.running


# -- the token and the way there -------------------------------------------------------------------------------------


def test_each_missing_privilege_is_named_before_anything_is_changed(house):
    before = house.state()
    house.api.tokens["svc@pve!aup"] = Token(SECRET, {"/": ROLE - {"VM.PowerMgmt", "VM.Config.CPU"}})
    del house.api.seen[:]
    done = house.enforce("suspend", *EVERYBODY)
    assert codes(done) == {None: "missing_privilege"}
    said = done["errors"][0]["message"]
    assert "SDN.Use on /sdn/zones/localnetwork/vmbr0" in said and "VM.Config.Options" not in said
    assert all(f"VM.PowerMgmt on /vms/{vmid}" in said for vmid in (100, 101, 203))
    assert [path for _, _, path in house.api.seen].count("/access/permissions") == 1
    assert not writes(house) and house.state() == before
    assert codes(house.enforce("quarantine", "vps-100", case="T-2")) == {None: "missing_privilege"}
    house.api.tokens["svc@pve!aup"] = token()
    assert not house.again()["errors"] and all(held(house, vmid) for vmid in (100, 101, 203))
    del house.api.seen[:]
    assert house.again()["outcome"] == "unchanged"
    assert "/access/permissions" not in [path for _, _, path in house.api.seen]  # only when there is something to write


def test_html_for_an_answer(house):
    house.api.rules.append(Rule("GET", "/nodes/pve2/.*/pending", times=1, html=True))
    done = house.enforce("suspend", *EVERYBODY)
    assert codes(done) == {"vps-101": "api_error"} and held(house, 100) and held(house, 203)
    assert not house.again()["errors"] and held(house, 101)


# -- guests that are not what they were ------------------------------------------------------------------------------


def test_node_that_the_cluster_cannot_find(house):
    house.api.rules.append(Rule("GET", "/nodes/pve2/.*", times=-1, refuse=Refused(
        500, "hostname lookup 'pve2' failed - failed to get address info for: pve2: Temporary failure in name resolution")))
    assert codes(house.enforce("suspend", *EVERYBODY)) == {"vps-101": "node_unknown"}
    assert held(house, 100) and held(house, 203) and house.statuses("vps-101") == ["opened"]
    house.api.rules.clear()
    assert not house.again()["errors"] and house.statuses("vps-101") == ["active"]


def test_guest_gone(house):
    """Said while it is to be held; nothing is left to be given back afterwards. A guest that can't be seen isn't gone."""
    house.enforce("suspend", *EVERYBODY)
    gone = house.cluster.guests.pop(101)
    assert codes(house.again()) == {"vps-101": "guest_missing"}
    assert house.statuses("vps-100") == ["active"]
    house.cluster.guests[101] = gone
    seen = set(ROLE)
    house.api.tokens["svc@pve!aup"] = Token(
        SECRET, {"/vms/100": seen, "/vms/203": seen, "/sdn/zones/localnetwork": {"SDN.Use"}}, alone={"/": {"Sys.Modify", "Sys.Audit"}})
    assert codes(house.lift("vps-101")) == {"vps-101": "guest_missing"}
    assert house.statuses("vps-101") == ["ending"]
    house.api.tokens["svc@pve!aup"] = token()
    del house.cluster.guests[101]
    done = house.again()
    assert not done["errors"] and any("no guest 101" in note for note in done["notes"])
    assert house.statuses("vps-101") == []
    assert house.again()["outcome"] == "unchanged"


@pytest.mark.parametrize("vmid", [101, 203])
def test_number_given_to_another_guest(house, vmid):
    """Neither held nor given anything that another guest had; for a container the MACs tell."""
    sid, kind = f"vps-{vmid}", "qemu" if vmid == 101 else "lxc"
    house.enforce("suspend", *EVERYBODY)
    del house.cluster.guests[vmid]
    other = guest(vmid, kind, node="pve1")
    other.config["net0"] = other.config["net0"].replace(mac(vmid).upper(), "BC:24:11:FF:00:01")
    house.cluster.add(other)
    house.cluster.firewall.guests.pop(vmid)
    before = copy.deepcopy((other.config, other.running, other.paused))
    found = codes(house.again())
    assert found == {sid: "guest_replaced" if kind == "qemu" else "guest_changed"}
    done = house.lift(sid)
    assert set(codes(done)) == {sid} and house.statuses("vps-100") == ["active"]
    assert (other.config, other.running, other.paused) == before and not house.cluster.firewall.guests[vmid].render()


def test_a_mistake_in_the_catalogue_loses_nothing_of_what_was_set(house):
    """The guest is the one that was provisioned, and the catalogue now names another: said, and given back once it is right."""
    house.services["vps-101"]["guest"]["uuid"] = "11111111-1111-4111-8111-111111111111"
    for _twice in range(2):
        assert codes(house.provision()) == {"vps-101": "guest_replaced"}
    house.services["vps-101"]["guest"]["uuid"] = None
    assert not house.provision()["errors"] and not house.retire()["errors"]
    assert not house.cluster.firewall.guests[101].render()


def test_template_is_left_alone(house):
    house.cluster.guests[101].config["template"] = "1"
    before = house.state()["guests"][101]
    assert codes(house.enforce("suspend", *EVERYBODY)) == {"vps-101": "guest_template"}
    assert house.state()["guests"][101] == before and held(house, 100) and held(house, 203)


@pytest.mark.parametrize("lock", ["backup", "migrate", "suspended"])
def test_locked_guest(house, lock):
    """The rest waits for the lock; a pause is possible during a backup, and done."""
    one = house.cluster.guests[101]
    one.config["lock"] = lock
    if lock == "suspended":
        one.running = False
    done = house.enforce("suspend", *EVERYBODY)
    assert codes(done) == {"vps-101": "guest_locked"} and held(house, 100) and held(house, 203)
    assert house.statuses("vps-101") == ["opened"] and one.config["onboot"] == "1"
    assert one.paused == (lock == "backup")
    assert ("hibernated" in done["errors"][0]["message"]) == (lock == "suspended")
    del one.config["lock"]
    assert not house.again()["errors"] and held(house, 101) and house.statuses("vps-101") == ["active"]
    assert not house.lift(*EVERYBODY)["errors"]
    assert one.running == (lock != "suspended") and not one.paused and one.config["onboot"] == "1"


def test_one_locked_guest_holds_no_release_back(tmp_path):
    """Of the first release as of a later one: reconcile goes on with it, and doesn't take the others back."""
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    for vmid in (100, 101):
        cluster.add(guest(vmid))
    locked = cluster.guests[101]
    locked.config.update(lock="backup", net0=locked.config["net0"].replace("firewall=1", "firewall=0"))
    locked.running = False
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100), service(101))}
        done = made.provision()
        assert done["outcome"] == "failed" and codes(done) == {"vps-101": "guest_locked"}
        held = cluster.firewall.guests[100].render()
        assert codes(made.again()) == {"vps-101": "guest_locked"} and cluster.firewall.guests[100].render() == held
        del locked.config["lock"]
        assert made.again()["outcome"] == "changed" and "firewall=1" in locked.config["net0"]
        locked.config.update(lock="backup", net0=locked.config["net0"].replace("firewall=1", "firewall=0"))
        made.services["vps-100"]["nics"][0]["addresses"].append("192.0.2.77")
        assert codes(made.provision()) == {"vps-101": "guest_locked"}
        assert codes(made.again()) == {"vps-101": "guest_locked"}
        assert "192.0.2.77" in cluster.firewall.guests[100].render()


@pytest.mark.parametrize("vmid", [100, 203])
def test_high_availability_is_asked(house, vmid):
    kind = "vm" if vmid == 100 else "ct"
    one, sid = house.cluster.guests[vmid], f"vps-{vmid}"
    house.cluster.ha[f"{kind}:{vmid}"] = {"type": kind, "state": "started"}
    one.ha = "started"
    before = house.state()
    assert not house.enforce("suspend", sid)["errors"]
    assert house.cluster.ha[f"{kind}:{vmid}"]["state"] == "stopped" and not one.running and not one.paused
    assert house.again()["outcome"] == "unchanged"
    assert not house.lift(sid)["errors"]
    assert house.cluster.ha[f"{kind}:{vmid}"]["state"] == "started" and house.state() == before


@pytest.mark.parametrize("state", ["fence", "error", "recovery"])
def test_high_availability_that_takes_no_request(house, state):
    house.cluster.guests[101].ha = state
    before = house.state()["guests"][101]
    assert codes(house.enforce("suspend", *EVERYBODY)) == {"vps-101": "ha_" + state}
    assert house.state()["guests"][101] == before and held(house, 100) and held(house, 203)
    house.cluster.guests[101].ha = "ignored"  # registered there, and left alone by it
    assert not house.again()["errors"] and house.cluster.guests[101].paused


def test_guest_that_moves_meanwhile_is_followed(house):
    one = house.cluster.guests[100]
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/100/config", before=lambda: setattr(one, "node", "pve2")))
    assert not house.enforce("suspend", "vps-100")["errors"] and one.paused
    house.api.rules.append(Rule("GET", "/nodes/pve2/qemu/100/pending", before=lambda: setattr(one, "node", "pve1")))
    assert not house.lift("vps-100")["errors"] and not one.paused and one.config["onboot"] == "1"


# -- others who act at the same time -----------------------------------------------------------------------------------


def test_no_quorum(house):
    before = house.state()
    house.cluster.quorate = False
    assert codes(house.enforce("suspend", *EVERYBODY)) == dict.fromkeys(EVERYBODY, "no_quorum")
    assert house.state() == before
    house.cluster.quorate = True
    assert not house.again()["errors"] and all(held(house, vmid) for vmid in (100, 101, 203))


def test_node_down_in_the_middle(house):
    """The others are done; a lifting meanwhile is not taken for done."""
    def down():
        house.cluster.nodes["pve2"] = "offline"
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/100/config", before=down))
    house.api.rules.append(Rule("PUT", "/nodes/pve2/qemu/101/config", before=down))
    assert codes(house.enforce("suspend", *EVERYBODY)) == {"vps-101": "node_down"}
    assert held(house, 100) and held(house, 203) and house.statuses("vps-101") == ["opened"]
    house.cluster.nodes["pve2"] = "online"
    house.api.rules.clear()
    assert not house.again()["errors"] and held(house, 101)
    down()
    assert codes(house.lift(*EVERYBODY)) == {"vps-101": "node_down"}
    assert house.statuses("vps-101") == ["ending"] and house.statuses("vps-100") == [] and not held(house, 100)
    house.cluster.nodes["pve2"] = "online"
    assert not house.again()["errors"] and house.statuses("vps-101") == [] and not held(house, 101)


def test_what_an_unread_guest_may_refer_to_stays(house):
    """Its group and sets are not tidied away while its node can't be asked."""
    assert not house.enforce("quarantine", "vps-101")["errors"]
    house.cluster.nodes["pve2"] = "offline"
    held = house.cluster.firewall.cluster.render()
    assert codes(house.enforce("cpu_throttle", "vps-100", case="T-2", share="20%")) == {"vps-101": "node_down"}
    assert codes(house.provision()) == {"vps-101": "node_down"} and house.cluster.firewall.cluster.render() == held
    house.cluster.nodes["pve2"] = "online"
    assert house.again()["outcome"] == "unchanged"


# -- answers that don't come, tasks that don't end well ------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [
    ("PUT", "/nodes/pve1/qemu/100/config"), ("POST", "/nodes/pve1/qemu/100/status/suspend"),
    ("PUT", "/nodes/pve1/lxc/203/config"), ("POST", "/nodes/pve1/lxc/203/status/shutdown")])
def test_596_on_a_write_that_happened(house, method, path):
    before = house.state()
    house.api.rules.append(Rule(method, path, cut=True))
    done = house.enforce("suspend", *EVERYBODY)
    assert not done["errors"], done["errors"]
    assert all(house.statuses(sid) == ["active"] for sid in EVERYBODY)
    assert not house.lift(*EVERYBODY)["errors"] and house.state() == before


@pytest.mark.parametrize("path", [
    "/cluster/firewall/groups", "/cluster/firewall/groups/.*", "/cluster/firewall/ipset/.*", "/nodes/pve1/qemu/104/firewall/rules",
    "/nodes/pve1/qemu/104/firewall/ipset", "/nodes/pve1/qemu/104/firewall/ipset/.*"])
def test_596_while_rules_are_made(house, path, monkeypatch):
    assert not house.retire()["errors"]
    if "/cluster/firewall/ipset" in path:
        monkeypatch.setattr(_firewall, "MOST_RANGES", 0)  # as with many smarthosts
    house.cluster.add(guest(104))
    house.services["vps-104"] = service(104)
    rule = Rule("POST", path, cut=True)
    house.api.rules.append(rule)
    done = house.provision()
    assert rule.times == 0 and not done["errors"], done["errors"]
    assert len(house.cluster.firewall.guests[104].rules) == 1
    assert list(house.cluster.firewall.guests[104].ipsets) == ["ipfilter-net0"]
    assert house.again()["outcome"] == "unchanged"


def test_task_with_warnings_is_well(house):
    house.cluster.warn_next["qmpause"] = "WARNINGS: 2"
    assert not house.enforce("suspend", "vps-100")["errors"]
    assert house.cluster.tasks and any(task.exit == "WARNINGS: 2" for task in house.cluster.tasks.values())


def test_task_that_fails_after_its_call_was_taken(house):
    one = house.cluster.guests[100]
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/100/status/suspend", before=lambda: one.config.update(lock="migrate")))
    done = house.enforce("suspend", *EVERYBODY)
    assert codes(done) == {"vps-100": "guest_locked"} and "qmpause" in done["errors"][0]["message"]
    assert one.running and not one.paused and held(house, 101) and house.statuses("vps-100") == ["opened"]
    del one.config["lock"]
    assert not house.again()["errors"] and one.paused


# -- firewalls that are off --------------------------------------------------------------------------------------------


def test_cluster_firewall_off(house):
    house.cluster.firewall.cluster.options["enable"] = 0
    done = house.again()
    assert not done["errors"] and {gap["service"] for gap in done["gaps"]} == set(EVERYBODY)
    assert codes(house.enforce("quarantine", "vps-100")) == {"vps-100": "firewall_off"}
    assert house.statuses("vps-100") == ["opened"] and house.cluster.firewall.cluster.options["enable"] == 0
    house.cluster.firewall.cluster.options["enable"] = 1
    assert not house.again()["errors"] and house.statuses("vps-100") == ["active"]


# -- what must come through unharmed -------------------------------------------------------------------------------------


def test_keys_of_a_newer_version_and_notes_are_carried_through(house, monkeypatch):
    nic = schema.ENDPOINTS["PUT /nodes/{node}/qemu/{vmid}/config"]["parameters"]["net[n]"]["format"]
    monkeypatch.setitem(nic, "host-tunnel", {"type": "string", "optional": 1})
    monkeypatch.setitem(nic, "zz-later", {"type": "string", "optional": 1})
    one = house.cluster.guests[100]
    one.config["net0"] += ",host-tunnel=a;b,zz-later=1e3"
    one.config["description"] = "first\nsecond: ü % #\n\n日本"
    before = copy.deepcopy(one.config)
    assert not house.enforce("suspend", "vps-100")["errors"]
    assert not house.enforce("bandwidth_cap", "vps-100", case="T-2", rate="10 Mbit/s")["errors"]
    assert "host-tunnel=a;b" in one.config["net0"] and "zz-later=1e3" in one.config["net0"] and "rate=1.19" in one.config["net0"]
    assert one.config["description"] == before["description"]
    assert not house.lift("vps-100", case="all")["errors"]
    assert one.config == before
