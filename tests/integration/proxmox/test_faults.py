# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a cluster: the exact result of each guest, the others done, nothing lost, and the next run goes on."""

from __future__ import annotations

import time
import copy

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold

from tests.proxmox import schema
from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule, Token, certificate

from .provider import ROLE, SECRET, Provider, firewalled, guest, mac, provider, service, token

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


def codes(result: dict) -> dict[str | None, str]:
    return {error["service"]: error["code"] for error in result["errors"]}


def writes(house: Provider) -> list[tuple[str, str]]:
    return [(method, path) for _, method, path in house.api.seen if method != "GET"]


def held(house: Provider, vmid: int) -> bool:
    one = house.cluster.guests[vmid]
    return one.paused or not one.running


# -- the token and the way there -------------------------------------------------------------------------------------


def test_wrong_token_changes_nothing(house):
    before = house.state()
    opened = house.write(hold, "suspend", ["vps-100"], "attack_target", case="T-1", duration="48h")
    done = house.converge(opened["run_id"], client=house.client(token_value="11111111-2222-4333-8444-000000000000"))
    assert (done["outcome"], codes(done)) == ("unreachable", {None: "auth"})
    assert SECRET not in str(done) and house.state() == before
    assert not house.again()["errors"] and held(house, 100)


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


def test_certificates(house, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    _pem, theirs = certificate(other)
    assert codes(house.again(client=house.client(ca_file=str(other / "ca.pem")))) == {None: "certificate"}
    assert codes(house.again(client=house.client(ca_file=None, fingerprint=theirs))) == {None: "certificate"}
    assert codes(house.again(client=house.client(ca_file=None))) == {None: "certificate"}  # no CA of the system's signed it
    assert house.again(client=house.client(ca_file=None, fingerprint=house.server.fingerprint))["outcome"] == "unchanged"
    with pytest.raises(InputError):
        house.client(fingerprint="AA:BB")


def test_html_for_an_answer(house):
    house.api.rules.append(Rule("GET", "/nodes/pve2/.*/pending", times=1, html=True))
    done = house.enforce("suspend", *EVERYBODY)
    assert codes(done) == {"vps-101": "api_error"} and held(house, 100) and held(house, 203)
    assert not house.again()["errors"] and held(house, 101)


def test_api_slower_than_the_timeout(house):
    before = house.state()
    house.timeout, house.api.delay = 0.4, 1.0
    done = house.enforce("suspend", "vps-100")
    assert done["outcome"] == "failed" and codes(done) == {None: "unknown_outcome"}
    assert house.state() == before
    house.timeout, house.api.delay = 20, 0.0
    assert not house.again()["errors"] and house.statuses("vps-100") == ["active"]


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


def test_another_operators_edit_survives(house):
    one = house.cluster.guests[100]
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/100/config",
                                before=lambda: one.config.update(net0=one.config["net0"] + ",rate=7", description="mine")))
    assert not house.enforce("suspend", "vps-100")["errors"]
    assert "rate=7" in one.config["net0"] and one.config["description"] == "mine" and one.paused
    assert not house.lift("vps-100")["errors"]
    assert one.config["net0"].endswith("rate=7") and "link_down" not in one.config["net0"] and not one.paused


def test_a_tenants_own_firewall_is_never_opened(house):
    """Switched on by the tenant between our look and our write: no policy of ours goes over theirs."""
    house.cluster.add(guest(102))
    house.services["vps-102"] = service(102)

    def tenant():
        house.cluster.firewall.of_guest(102, "qemu").options.update(enable=1, policy_in="DROP", policy_out="DROP")
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/102/firewall/options", before=tenant))
    assert not house.provision()["errors"]
    assert house.cluster.firewall.guests[102].options == {"enable": 1, "policy_in": "DROP", "policy_out": "DROP"}


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


def test_timeout_of_a_write_that_happens_later(house):
    late, done_late = 1.3, time.monotonic() + 5
    house.timeout = 1
    house.api.rules.append(Rule("PUT", "/nodes/pve1/qemu/100/config", late=late))
    done = house.enforce("suspend", "vps-100")
    house.timeout = 20
    assert not done["errors"] and house.statuses("vps-100") == ["active"]
    # Lifted before it happens, the configuration would have its first digest again, and the late write would fit.
    while house.api.calls["PUT /nodes/{node}/qemu/{vmid}/config"] < 2 and time.monotonic() < done_late:
        time.sleep(0.05)
    time.sleep(0.2)
    assert house.cluster.guests[100].config["onboot"] == "0"
    assert not house.lift("vps-100")["errors"] and house.cluster.guests[100].config["onboot"] == "1"


@pytest.mark.parametrize("vmid", [100, 203])
def test_a_late_write_does_not_fit_after_the_lifting(house, vmid):
    """Until it can't come any more, what was given back has another digest than what the write was sent for."""
    kind, sid, one = "qemu" if vmid == 100 else "lxc", f"vps-{vmid}", house.cluster.guests[vmid]
    before, path = house.state(), f"PUT /nodes/{{node}}/{kind}/{{vmid}}/config"
    house.timeout = 1
    house.api.rules.append(Rule("PUT", f"/nodes/pve1/{kind}/{vmid}/config", late=5.0))
    asked = house.api.calls[path]
    assert not house.enforce("suspend", sid)["errors"] and held(house, vmid)
    assert not house.lift(sid)["errors"] and house.statuses(sid) == []
    house.timeout = 20
    assert house.api.calls[path] == asked + 2, "too slow: it came before the lifting"
    assert one.config["tags"] == "aup-lifted-1" and any("may still be carried out" in note for note in house.again()["notes"])
    retired = house.retire()
    assert codes(retired) == {sid: "late_write"} and one.config["tags"] == "aup-lifted-1"
    assert house.api.calls[path] == asked + 2
    until = time.monotonic() + 30
    while house.api.calls[path] < asked + 3 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    assert not held(house, vmid) and one.config["onboot"] == "1" and "link_down" not in one.config["net0"]
    house.provision()
    for _ in range(_guest.LATE_SECONDS):
        next(house.clock)
    assert not house.again()["errors"] and house.again()["outcome"] == "unchanged"
    assert house.state() == before


def test_a_late_call_of_power_is_taken_back(house):
    """No digest keeps it off; the next pass sees it, though nothing of that service is on the books any more."""
    before, one = house.state(), house.cluster.guests[100]
    house.timeout = 1
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/100/status/suspend", late=6.0))
    assert not house.enforce("suspend", "vps-100")["errors"] and one.paused
    assert not house.lift("vps-100")["errors"] and not one.paused
    house.timeout, until = 20, time.monotonic() + 30
    while not one.paused and time.monotonic() < until:
        time.sleep(0.05)
    assert one.paused and house.again()["outcome"] == "changed" and not one.paused
    for _ in range(_guest.LATE_SECONDS):
        next(house.clock)
    assert not house.again()["errors"] and house.state() == before


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


def test_nic_without_firewall(house):
    """Only where the policy of the cluster allows the re-plug, or while the guest is off; and given back."""
    for vmid in (100, 101):
        one = house.cluster.guests[vmid]
        one.config["net0"] = one.config["net0"].replace(",firewall=1", "")
    house.cluster.guests[101].running = False
    before = house.state()
    done = house.again()
    assert [gap["service"] for gap in done["gaps"]] == ["vps-100"] and "replug" in done["gaps"][0]["gap"]
    assert "firewall=1" in house.cluster.guests[101].config["net0"] and "firewall" not in house.cluster.guests[100].config["net0"]
    assert codes(house.enforce("smtp_block", "vps-100", ports=[25])) == {"vps-100": "firewall_off"}
    house.node["proxmox"]["replug"] = True
    assert not house.provision()["errors"]
    assert "firewall=1" in house.cluster.guests[100].config["net0"] and house.statuses("vps-100") == ["active"]
    assert not house.lift("vps-100")["errors"]
    assert not house.retire()["errors"]
    assert house.state()["guests"] == before["guests"]


def test_quarantine_of_a_tenant_who_switched_the_firewall_off(house):
    """With nothing of the tenant's in it, it is switched on; where there is, that is said and not opened."""
    wall = house.cluster.firewall.guests
    wall[100].options["enable"] = 0
    wall[101].options.update(enable=0, policy_in="DROP")
    wall[101].rules.append({"type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp", "dport": "22"})
    done = house.enforce("quarantine", "vps-100", "vps-101")
    assert codes(done) == {"vps-101": "firewall_off"} and "of its own" in done["errors"][0]["message"]
    assert wall[100].options["enable"] == 1 and house.statuses("vps-100") == ["active"]
    assert wall[101].options["enable"] == 0 and wall[101].options["policy_in"] == "DROP"
    assert wall[101].rules[0]["action"].startswith("aup-quar")  # in place for the moment it is switched on
    assert not house.lift("vps-100", "vps-101")["errors"]
    assert [rule["type"] for rule in wall[101].rules] == ["group", "in"]


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


@pytest.mark.parametrize("vmid", [100, 203])
def test_terminate_never_deletes(house, vmid):
    before, sid = house.state(), f"vps-{vmid}"
    assert not house.enforce("terminate", sid)["errors"]
    one = house.cluster.guests[vmid]
    assert one.config["protection"] == "1" and not one.running and not one.paused and one.config["onboot"] == "0"
    assert not any(method == "DELETE" and "firewall" not in path for method, path in writes(house))
    assert house.again()["outcome"] == "unchanged"
    assert not house.lift(sid)["errors"] and house.state() == before
