# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open connections, which outlive a new rule: left, or ended as the policy says; with a real router where routers end them."""
from __future__ import annotations

import errno
import json
import socket
import time

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _apply
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._cluster import ProxmoxCluster
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import ClusterConverge
from ansible_collections.hosting.aup.plugins.plugin_utils._router._converge import RouterConverge
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target

from tests.integration.routers.test_linux import ROUTER, LinuxLab
from tests.proxmox.cluster import Cluster, Refused
from tests.proxmox.server import Rule, serve

from .controller import House
from .provider import POLICY, firewalled, guest, provider, service, token

VM, CT = 100, 203


def saying(**choices: str) -> str:
    """The policy with what each kind says of open connections."""
    return POLICY + "enforcements:\n" + "".join(f"  {kind}: {{open_connections: {chosen}}}\n" for kind, chosen in choices.items())


RESTART = saying(quarantine="restart", port_block="restart")


def adopt(house, policy: str) -> None:
    """Release another version of the policy."""
    (house.place / "lab.yml").write_text(policy)
    house.policy = load_policy(str(house.place / "lab.yml"))
    assert not house.provision()["errors"]


def enforce(house, kind: str, sid: str, case: str, rules_on=(), **options):
    """As `house.enforce`, where these nodes of the cluster were seen with their rules in this run."""
    opened = house.write(hold, kind, [sid], "attack_target", case=case, duration="48h", **options)
    return _converge(house, opened["run_id"], rules_on)


def _converge(house, run_id, rules_on):
    return ClusterConverge(house.ledger, ProxmoxCluster(house.client()), "tester", house.clock.__next__, False,
                           str(house.place / "locks"), rules_on).run(Wanted(node="pve", run_id=run_id))


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setattr(_apply, "RULES_SECONDS", 0.2)
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    for one in (guest(VM), guest(CT, "lxc")):
        cluster.add(one).started -= 10_000
    with provider(tmp_path, cluster, RESTART) as made:
        made.services = {one["id"]: one for one in (service(VM), service(CT))}
        assert not made.provision()["errors"]
        assert [one.starts for one in cluster.guests.values()] == [0, 0]  # a control's rules are no reason
        yield made


@pytest.mark.parametrize("vmid", [VM, CT])
def test_once_for_each_new_block_and_never_for_what_is_lifted(house, vmid):
    sid, one, before = f"vps-{vmid}", house.cluster.guests[vmid], house.state()
    done = house.enforce("quarantine", sid)
    assert not done["errors"] and one.starts == 1 and one.running and house.statuses(sid) == ["active"]
    seen = [path.rpartition("/")[2] for _, method, path in house.api.seen if method == "POST" and f"/{vmid}/" in path]
    assert seen.index("rules") < seen.index("shutdown") < seen.index("start")
    assert house.again()["outcome"] == "unchanged"
    one.started -= 10_000
    assert not house.enforce("port_block", sid, case="T-2", ports=[6667])["errors"] and one.starts == 2
    # One whose own terms leave them, beside those.
    assert not house.enforce("smtp_block", sid, case="T-4")["errors"] and one.starts == 2
    assert house.again()["outcome"] == "unchanged"
    assert not house.lift(sid, case="T-1")["errors"] and not house.enforce("cpu_throttle", sid, case="T-3", share="20%")["errors"]
    assert not house.lift(sid, case="all")["errors"] and one.starts == 2
    assert house.state() == before and house.again()["outcome"] == "unchanged"


def test_a_cluster_that_is_retired_is_left_without_one(house):
    before = house.state()
    house.write(hold, "quarantine", ["vps-100"], "attack_target", case="T-1", duration="48h")  # by now nobody carried it out
    assert not house.enforce("port_block", "vps-203", case="T-2", ports=[6667])["errors"]
    assert [one.starts for one in house.cluster.guests.values()] == [1, 1]
    house.write(hold, "port_block", ["vps-100"], "attack_target", case="T-3", duration="48h", ports=[80])
    assert not house.retire()["errors"] and [one.starts for one in house.cluster.guests.values()] == [1, 1]
    assert house.state() != before and "hosting.aup" not in str(house.state()["files"]) and not house.read("touched_on", "pve")


def test_left_by_default_and_said_and_a_later_policy_alters_nothing_in_force(house):
    adopt(house, POLICY)
    done = house.enforce("quarantine", "vps-100")
    assert any("outlive" in note for note in done["notes"]) and house.cluster.guests[VM].starts == 0
    assert "open_connections" not in house.read("active", "vps-100")[0]["options"]
    adopt(house, RESTART)
    assert house.again()["outcome"] == "unchanged" and house.cluster.guests[VM].starts == 0
    assert not house.enforce("quarantine", "vps-203")["errors"] and house.cluster.guests[CT].starts == 1


def test_one_that_is_off_stays_off_and_a_suspension_goes_before(house):
    house.cluster.stop(house.cluster.guests[VM])
    assert not house.enforce("quarantine", "vps-100", "vps-203")["errors"]
    assert not house.cluster.guests[VM].running and house.cluster.guests[CT].starts == 1
    assert not house.enforce("suspend", "vps-203", case="T-2")["errors"] and not house.cluster.guests[CT].running
    assert not house.lift("vps-203", case="all")["errors"] and house.cluster.guests[CT].running


def test_what_was_open_before_a_pause_is_ended_after_it(house):
    one = house.cluster.guests[VM]
    assert not house.enforce("suspend", "vps-100")["errors"] and one.paused
    assert not house.enforce("quarantine", "vps-100", case="T-2")["errors"] and one.paused and one.starts == 0
    done = house.lift("vps-100", case="T-1")
    assert not done["errors"] and one.running and not one.paused and one.starts == 1
    assert house.again()["outcome"] == "unchanged"


@pytest.mark.parametrize("lifted", [False, True])
def test_what_stopped_half_way_is_started(house, lifted):
    """Not taken for done, and started by the next pass, also if the block is lifted by then."""
    one = house.cluster.guests[VM]
    house.api.rules.append(Rule("POST", "/nodes/pve1/qemu/100/status/start", times=3, refuse=Refused(500, "start failed")))
    done = house.enforce("quarantine", "vps-100")
    assert done["errors"] and not one.running and house.statuses("vps-100") == ["opened"]
    house.api.rules.clear()
    result = house.lift("vps-100") if lifted else house.again()
    assert not result["errors"] and one.running and one.starts == 1
    assert house.statuses("vps-100") == ([] if lifted else ["active"]) and house.again()["outcome"] == "unchanged"


def test_nodes_with_rules_of_their_own_end_them_and_one_that_was_not_reached_does_not(house):
    house.node["proxmox"]["hosts"] = {"pve1": "127.0.0.1"}
    adopt(house, saying(quarantine="restart", smtp_block="node_filter"))
    vm, ct = house.cluster.guests[VM], house.cluster.guests[CT]
    done = enforce(house, "quarantine", "vps-100", "T-1", rules_on=["pve1"])
    assert not done["errors"] and vm.starts == 0 and any("no restart for E-1" in note for note in done["notes"])
    assert not any("outlive" in note for note in done["notes"])
    assert house.again()["outcome"] == "unchanged" and vm.starts == 0  # once is enough, whoever isn't reached later
    done = enforce(house, "quarantine", "vps-203", "T-1")
    assert not done["errors"] and ct.starts == 1 and any("was not seen with its rules" in note for note in done["notes"])
    done = enforce(house, "smtp_block", "vps-203", "T-2")
    assert [gap["gap"] for gap in done["gaps"] if "E-3 began may go on" in gap["gap"]] and not done["errors"]
    assert house.statuses("vps-203") == ["active", "active"]
    run = house.write(lambda tx: tx.start_run("reconcile"))
    again = _converge(house, run, ["pve1"])
    assert not again["gaps"] and not house.again()["gaps"] and (vm.starts, ct.starts) == (0, 1)


def test_what_nobody_can_end_is_a_gap_and_the_block_stands(house):
    adopt(house, saying(quarantine="node_filter", smtp_block="null_route"))
    for kind, words in (("quarantine", "names none"), ("smtp_block", "no router could")):
        done = house.enforce(kind, "vps-100", case=kind)
        assert not done["errors"] and any(words in gap["gap"] for gap in done["gaps"]), done["gaps"]
    assert house.statuses("vps-100") == ["active", "active"] and house.cluster.guests[VM].starts == 0


# -- routers ------------------------------------------------------------------------------------------------------

NULL_ROUTED = saying(quarantine="null_route", smtp_block="null_route").replace(
    "rescue: [203.0.113.0/24,", "rescue: [198.51.100.0/24,").replace("192.0.2.200", "198.51.100.200")
ADDRESSES = ["203.0.113.10", "2001:db8:100::10"]
HOSTS = ["2001:db8:100::10", "203.0.113.10"]
_MINUTES = 60


@pytest.fixture
def lab():
    with LinuxLab() as made:
        yield made


class Both:
    """A cluster, and the real router before it, with one ledger."""

    def __init__(self, house, lab):
        self.house, self.lab, self.late = house, lab, 0
        one = service(VM)
        one["nics"][0]["addresses"] = ADDRESSES
        house.services = {one["id"]: one}
        house.document = self.document

    def document(self):
        return {"format": 1, "generated_at": None, "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
                "nodes": {"pve": self.house.node, "edge": {"backend": "router", "location": "main", "address": "192.0.2.1", "vars": {},
                                                           "router": ROUTER}}, "services": self.house.services}

    def route(self, run_id, check=False, **wanted):
        """What `router_converge` does."""
        return RouterConverge(self.house.ledger, Target(**{**self.lab.sshd.target(), "name": "edge"}), "tester",
                              lambda: next(self.house.clock) + self.late, check, str(self.house.place / "locks")).run(
                                  Wanted(node="edge", run_id=run_id, **wanted))

    def provision(self):
        self.house.provision()
        made = self.house.read("current_release")["id"]
        assert not self.route(self.house.write(lambda tx: tx.start_run("provision")), release_id=made)["errors"]

    def again(self, **wanted):
        return self.route(self.house.write(lambda tx: tx.start_run("reconcile")), **wanted)

    def enforce(self, kind, case, **options):
        return self.house.write(hold, kind, ["vps-100"], "attack_target", case=case, duration="48h", **options)


@pytest.fixture
def both(tmp_path, lab):
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(VM)).started -= 10_000
    with provider(tmp_path, cluster, NULL_ROUTED) as house:
        made = Both(house, lab)
        made.provision()
        yield made


def _link(lab, seconds=15):
    """An open connection from outside to the victim: (outside's end, the victim's end)."""
    limit = time.monotonic() + seconds
    with lab.inside("cust", _listener) as listener:
        outcome, sock = "", None
        while outcome != "open" and time.monotonic() < limit:
            outcome, sock = lab.connect(ADDRESSES[0], 8081)
        listener.settimeout(10)
        return sock, listener.accept()[0]


def _listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ADDRESSES[0], 8081))
    sock.listen()
    return sock


def _hasty() -> None:
    with open("/proc/sys/net/ipv4/tcp_retries2", "w") as file:
        file.write("3")


def test_a_router_ends_what_is_in_use_and_gives_the_addresses_back_in_time(both):
    """Real packets: the guest's end in use gives up, one that is idle outlives it, and nothing is dark for longer."""
    lab, house, found = both.lab, both.house, both.lab.state()
    lab.inside("cust", _hasty)  # some seconds in place of 924
    used, idle = _link(lab), _link(lab)
    opened = both.enforce("quarantine", "T-1")
    assert opened["nodes"] == ["edge", "pve"] and any("edge null-routes all of its addresses for 20 minutes" in line for line in opened["what"])
    assert any("open connections: null_route" in line for line in opened["what"])
    done = both.route(opened["run_id"])
    assert done["outcome"] == "changed" and not done["errors"] and sorted(lab.ours()) == sorted(HOSTS)
    assert lab.reach() == {10: [False, False], 20: [True, True]}
    # The router holds nobody: the quarantine is in force once the cluster has it.
    assert house.statuses("vps-100") == ["opened"]
    done = house.converge(opened["run_id"])
    assert not done["errors"] and not done["gaps"] and house.statuses("vps-100") == ["active"] and house.cluster.guests[VM].starts == 0
    limit, ended = time.monotonic() + 60, None
    while ended is None and time.monotonic() < limit:
        try:
            used[1].send(b"x")
            time.sleep(0.1)
        except OSError as exc:
            ended = exc.errno
    assert ended == errno.ETIMEDOUT
    both.late = 10 * _MINUTES
    assert both.again()["outcome"] == "unchanged" and len(lab.ours()) == 2
    both.late = 20 * _MINUTES
    done = both.again()
    assert done["outcome"] == "changed" and not done["errors"] and lab.ours() == [] and lab.state() == found
    assert lab.reach()[10] == [True, True] and both.again()["services"] == [] and house.statuses("vps-100") == ["active"]
    idle[0].settimeout(10)
    idle[1].send(b"still there")
    assert idle[0].recv(20) == b"still there"  # what the documentation says it can't end
    for sock in (*used, *idle):
        sock.close()


def test_lifted_early_it_is_given_back_early_and_each_block_by_its_own_time(both):
    lab, house, found = both.lab, both.house, both.lab.state()
    first = both.enforce("quarantine", "T-1")
    assert not both.route(first["run_id"])["errors"] and not house.converge(first["run_id"])["errors"]
    second = both.enforce("smtp_block", "T-2")
    house.converge(second["run_id"])
    assert both.route(second["run_id"])["outcome"] == "unchanged" and house.statuses("vps-100") == ["active", "active"]
    # One is lifted: the other one's beginning goes on.
    assert not house.lift("vps-100", case="T-1")["errors"] and both.again()["outcome"] == "unchanged" and len(lab.ours()) == 2
    assert house.statuses("vps-100") == ["active"]
    # The cluster alone was reached: it isn't over until the router was seen without it.
    assert not house.lift("vps-100", case="T-2")["errors"] and house.statuses("vps-100") == ["ending"]
    assert both.again()["outcome"] == "changed" and lab.state() == found and house.statuses("vps-100") == []
    # A route of somebody else's in the way: a gap, not an error, and the quarantine stands.
    lab.ip("route add 203.0.113.10/32 via 203.0.113.20 proto static")
    third = both.enforce("quarantine", "T-3")
    done = both.route(third["run_id"])
    assert not done["errors"] and len(done["gaps"]) == 1 and "another route is there" in done["gaps"][0]["gap"]
    assert not house.converge(third["run_id"])["errors"] and house.statuses("vps-100") == ["active"]


def test_one_runbook_acts_on_router_and_cluster(lab, tmp_path):
    cluster = firewalled(Cluster(("pve1",), pace=0.01, lock_timeout=0.3))
    cluster.add(guest(VM))
    cluster.add(guest(CT, "lxc"))
    (tmp_path / "tls").mkdir()
    found = lab.state()
    with serve(cluster, tmp_path / "tls", {"svc@pve!aup": token()}) as server:
        house = House(server, tmp_path)
        (tmp_path / "lab.yml").write_text(NULL_ROUTED)
        catalogue = json.loads((tmp_path / "catalogue.json").read_text())
        catalogue["prefixes"] = ["203.0.113.0/24", "2001:db8:100::/48", *catalogue["prefixes"]]
        catalogue["nodes"]["edge"] = {
            "backend": "router", "location": "main", "address": "127.0.0.1", "router": {"platform": "linux", "protected": ["192.0.2.0/30"]},
            "vars": {"ansible_port": lab.sshd.port, "ansible_user": "root"}}
        (tmp_path / "group_vars/aup_routers.json").write_text(json.dumps(
            {"ansible_ssh_private_key_file": str(lab.sshd.key), "aup_known_hosts": str(lab.sshd.known_hosts)}))
        catalogue["services"][0]["nics"][0]["addresses"] = ADDRESSES
        (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
        rc, out = house.play("provision")
        assert rc == 0 and "edge: as it should be, verified" in out, out
        wanted = {"service": "vps-100", "violation": "attack_target", "duration": "48h", "case": "T-1"}
        rc, out = house.play("quarantine", "--check", **wanted)
        assert rc == 0 and "edge: would change" in out and "pve: would change" in out and lab.state() == found, out
        rc, out = house.play("quarantine", **wanted)
        assert rc == 0 and "vps-100: open_connections in force, verified" in out and "vps-100: quarantine in force, verified" in out, out
        assert len(lab.ours()) == 2
        rc, out = house.play("explain", service="vps-100")
        assert rc == 0 and "open connections: null_route" in out, out
        rc, out = house.play("lift", service="vps-100", note="over")
        assert rc == 0 and out.count("vps-100: given back, verified") == 2 and lab.state() == found, out
        # A router that can't be reached fails the run, and holds nothing up.
        rc, out = house.play("quarantine", aup_known_hosts="/nonexistent/known_hosts", **dict(wanted, case="T-2"))
        assert rc != 0 and "edge: UNREACHABLE" in out and "vps-100: quarantine in force, verified" in out, out
