# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of converging, on a real SQLite ledger, with a node that answers as told."""
from __future__ import annotations

import itertools
import socket

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import GuardError, LedgerError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Converge, Wanted, ended_on_node, guard_controller, probe
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._runs import ROUTINE
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import end_what_is_due, hold, release_files, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
FIELDS = {"format": 1, "guest": {"name": "vps-1", "uuid": "u-1"}, "power": "running"}
PRIOR = {"service": "vps-1", "fields": FIELDS, "digest": digest(FIELDS)}
CONFIRM = "/run/hosting_aup/rollback-%s.nft" % ("0" * 32)
NOTHING = {"changed": False, "steps": [], "priors": [], "plan_hash": "h0", "services": [], "errors": [], "notes": [], "gaps": [],
           "closed": [], "fence": None, "disarmed": {}, "unknown_ports": [], "ports": 0}
FILTER = [{"engine": "nftables", "verb": "update", "service": None, "why": "w", "before": {}, "after": {}}]
HELD = {"service": "vps-1", "here": True, "hold": "suspend", "enforcement_ids": ["E-1"], "in_force": True, "released": False}


def catalogue(nodes=("kvm1",)):
    return {
        "format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"],
        "nodes": {name: {"backend": "kvm", "location": "main", "pool": None, "uplinks": [], "bridges": ["br0"],
                         "routed_interfaces": [], "address": None, "vars": {}} for name in nodes},
        "services": {"vps-1": {
            "id": "vps-1", "customer": "c-1", "account_type": "personal", "location": "main", "nodes": list(nodes), "pool": None,
            "guest": {"name": "vps-1", "uuid": None}, "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.10"]}],
            "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}},
    }


class Node:
    """Answers each call with the next of what it was told; an exception is raised. Keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, **args):
        self.asked.append(args)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {**NOTHING, **answer}

    @property
    def modes(self):
        return [args["mode"] for args in self.asked]


def refusal(code):
    return NodeError("the node says no", code=code, retryable=True, remedy="Run again.")


class House:
    """A ledger with one release, and runs on it."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.clock = itertools.count(NOW)
        self.confirmed = []
        self.confirms = True

    def write(self, verb, *args, **named):
        with self.ledger.transaction(actor="tester", now=next(self.clock)) as tx:
            return verb(tx, *args, **named)

    def release(self, document):
        policy = load_policy("default")
        return self.write(release_files, policy, {policy.key: policy}, document)

    def _confirm(self, path):
        self.confirmed.append(path)
        return self.confirms

    def converge(self, node, run_id, check=False, name="kvm1", **wanted):
        return Converge(self.ledger, node, self._confirm, "tester", self.clock.__next__, check).run(Wanted(node=name, run_id=run_id, **wanted))

    def provision(self, name="kvm1"):
        done = self.release(catalogue())
        result = self.converge(Node({"plan_hash": "p"}), done["run_id"], name=name, release_id=done["release_id"])
        assert result["outcome"] == "unchanged", result
        return done

    def suspend(self, case="T-1"):
        return self.write(hold, "suspend", ["vps-1"], "attack_target", case=case, duration="48h")

    def read(self, reader, *args):
        with self.ledger.read() as tx:
            return getattr(tx, reader)(*args)

    @property
    def statuses(self):
        return [e["status"] for e in self.read("active", "vps-1")]

    def recorded(self, run_id):
        return self.read("run_summary", run_id)["nodes"]


@pytest.fixture
def house(tmp_path):
    with open_ledger(str(tmp_path / "ledger.sqlite3"), create=True) as ledger:
        made = House(ledger)
        made.provision()
        yield made


def test_active_only_when_seen_in_force(house):
    """plan, the prior state into the ledger, apply with that plan's hash, and then the record."""
    opened = house.suspend()
    assert house.statuses == ["opened"]
    seen = []

    def node(**args):
        seen.append((args["mode"], args.get("plan_hash"), [b["digest"] for b in house.read("snapshot", "kvm1", None)["baselines"]]))
        if args["mode"] == "plan":
            return {**NOTHING, "changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
        return {**NOTHING, "changed": True, "steps": FILTER, "services": [HELD]}

    result = house.converge(node, opened["run_id"])
    assert result["outcome"] == "changed" and result["plan_hash"] == "h1"
    assert seen == [("plan", None, []), ("apply", "h1", [PRIOR["digest"]])], "the prior state is on record before anything is touched"
    assert house.statuses == ["active"] and house.recorded(opened["run_id"])["kvm1"]["outcome"] == "changed"


def test_nothing_to_do_is_one_call(house):
    node = Node({})
    assert house.converge(node, house.suspend()["run_id"])["outcome"] == "unchanged"
    assert node.modes == ["plan"]


def test_check_plans_only_and_records_nothing(house):
    opened = house.suspend()
    before = house.read("head")
    node = Node({"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"})
    result = house.converge(node, opened["run_id"], check=True)
    assert node.modes == ["plan"] and result["changed"] and house.read("head") == before


@pytest.mark.parametrize("code", ["plan_changed", "fence_old"])
def test_a_host_that_changed_and_an_old_generation_are_planned_anew(house, code):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    node = Node(todo, refusal(code), {**todo, "plan_hash": "h2"}, {"changed": True, "services": [HELD]})
    result = house.converge(node, opened["run_id"])
    assert node.modes == ["plan", "apply", "plan", "apply"] and node.asked[-1]["plan_hash"] == "h2"
    assert result["outcome"] == "changed" and house.statuses == ["active"]


def test_it_resolves_anew_so_that_a_newer_decision_is_in_it(house):
    """Somebody else wrote while this run planned: the second attempt carries it."""
    opened = house.suspend()
    generations = []

    def node(**args):
        desired = unpack(args["desired"])
        generations.append((desired["fence"]["generation"], len(desired["services"][0]["hold"]["enforcement_ids"])))
        if len(generations) == 1:
            house.suspend("T-2")
            raise refusal("fence_old")
        return dict(NOTHING)

    assert house.converge(node, opened["run_id"])["outcome"] == "unchanged"
    assert generations[0][0] < generations[1][0] and [count for _g, count in generations] == [1, 2]


@pytest.mark.parametrize("code", ["plan_changed", "fence_old"])
def test_it_gives_up_after_three_attempts_and_says_so(house, code):
    opened = house.suspend()
    node = Node(*[refusal(code)] * 3)
    result = house.converge(node, opened["run_id"])
    assert len(node.asked) == 3 and result["outcome"] == "failed" and result["errors"][0]["code"] == code
    assert house.statuses == ["opened"] and house.recorded(opened["run_id"])["kvm1"]["outcome"] == "failed"


@pytest.mark.parametrize(("code", "outcome"), [("unreachable", "unreachable"), ("node_busy", "failed"), ("libvirt_down", "failed")])
def test_other_errors_are_recorded_at_once(house, code, outcome):
    opened = house.suspend()
    node = Node(refusal(code))
    result = house.converge(node, opened["run_id"])
    assert (len(node.asked), result["outcome"]) == (1, outcome)
    kept = house.recorded(opened["run_id"])["kvm1"]
    assert kept["outcome"] == outcome and kept["summary"]["errors"][0]["remedy"] == "Run again."
    assert house.read("find_node", "kvm1")["last_outcome"] == outcome


def test_what_is_not_seen_after_applying_is_failed(house):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    left = {"engine": "libvirt", "verb": "pause", "service": "vps-1", "why": "suspend by enforcement E-1", "before": "running", "after": "paused"}
    node = Node(todo, {**todo, "services": [{**HELD, "in_force": False}], "unverified": [left]})
    result = house.converge(node, opened["run_id"])
    assert result["outcome"] == "failed" and result["errors"][0]["code"] == "unverified"
    assert house.statuses == ["opened"]


def test_new_rules_are_confirmed_or_the_run_is_rolled_back(house):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    house.confirms = False
    result = house.converge(Node(todo, {**todo, "services": [HELD], "confirm": CONFIRM}), opened["run_id"])
    assert house.confirmed == [CONFIRM] and result["outcome"] == "failed" and result["errors"][0]["code"] == "rolled_back"
    assert house.statuses == ["opened"], "what the node takes back is not in force"
    house.confirms = True
    # The next run finds the rules of a killed one in place: it confirms them although it changes nothing.
    result = house.converge(Node({"services": [HELD], "confirm": CONFIRM}), opened["run_id"])
    assert result["outcome"] == "unchanged" and len(house.confirmed) == 2 and house.statuses == ["active"]


@pytest.mark.parametrize("path", [
    "/etc/passwd", CONFIRM + " /etc/passwd", CONFIRM.replace("0" * 32, "../" * 8 + "etc"), CONFIRM + "\n", "/run/hosting_aup/rollback-$(id).nft"])
def test_a_path_that_the_node_can_not_have_made_is_not_removed(house, path):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    result = house.converge(Node(todo, {**todo, "services": [HELD], "confirm": path}), opened["run_id"])
    assert house.confirmed == [] and result["errors"][0]["code"] == "bad_reply" and house.statuses == ["opened"]


def test_a_node_that_failed_holds_back_the_later_batches(tmp_path):
    with open_ledger(str(tmp_path / "ledger.sqlite3"), create=True) as ledger:
        house = House(ledger)
        done = house.release(catalogue(("kvm1", "kvm2")))
        wanted = {"release_id": done["release_id"], "stop_after_failure": True}
        assert house.converge(Node(refusal("unreachable")), done["run_id"], name="kvm1", **wanted)["outcome"] == "unreachable"
        node = Node()
        held_back = house.converge(node, done["run_id"], name="kvm2", **wanted)
        assert held_back["outcome"] == "held_back" and node.asked == [] and held_back["errors"][0]["remedy"]
        assert house.read("find_node", "kvm2")["release_id"] is None
        assert house.recorded(done["run_id"])["kvm2"]["outcome"] == "held_back"


def test_a_failed_probe_fails_the_node_and_keeps_the_former_release(house):
    done = house.release({**catalogue(), "prefixes": ["192.0.2.0/24", "198.51.100.0/24"]})
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    before = house.read("find_node", "kvm1")["release_id"]
    result = house.converge(Node({}), done["run_id"], release_id=done["release_id"], probes=[{"host": "127.0.0.1", "port": port}])
    assert result["outcome"] == "failed" and result["errors"][0]["code"] == "probe_failed"
    assert house.read("find_node", "kvm1")["release_id"] == before != done["release_id"]


def test_probes():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert probe([{"host": "127.0.0.1", "port": server.getsockname()[1]}]) == []
    assert "failed" in probe([{"host": "127.0.0.1", "port": 1}], timeout=1)[0]


def test_never_the_controllers_own_service(house):
    opened = house.suspend()
    node = Node()
    result = house.converge(node, opened["run_id"], controller_addresses=("192.0.2.10",))
    assert node.asked == [] and result["outcome"] == "failed" and "controller" in result["errors"][0]["message"]
    desired = {"services": [{"id": "vps-1", "hold": None, "nics": [{"addresses": ["192.0.2.10"]}]}]}
    guard_controller(desired, ["192.0.2.10"])  # it is not held: nothing to refuse
    desired["services"][0]["hold"] = {"kind": "suspend"}
    with pytest.raises(GuardError, match="vps-1"):
        guard_controller(desired, ["192.0.2.10", "2001:db8::1"])
    for prefix, address in (("192.0.2.0/28", "192.0.2.9"), ("2001:db8:7::/48", "2001:db8:7::9")):
        for limits in ({"null_route": {"prefixes": [prefix]}}, {"drop": {"in": [prefix], "out": []}}, {"drop": {"in": [], "out": [prefix]}}):
            dark = {"services": [{"id": "vps-1", "hold": None, "nics": [], "limits": limits}]}
            guard_controller(dark, ["198.51.100.1", "2001:db8::1"])
            with pytest.raises(GuardError, match="vps-1"):
                guard_controller(dark, [address])


def test_a_lift_is_over_when_it_is_seen(house):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
    house.converge(Node(todo, {**todo, "services": [HELD]}), opened["run_id"])
    lifted = house.write(release_hold, ["vps-1"])
    assert house.statuses == ["ending"]
    half = {**HELD, "hold": None, "enforcement_ids": [], "in_force": False}
    failed = {"service": "vps-1", "code": "libvirt", "message": "no", "remedy": "Again."}
    house.converge(Node({"changed": True, "plan_hash": "h2"}, {"services": [half], "errors": [failed]}), lifted["run_id"])
    assert house.statuses == ["ending"] and house.read("snapshot", "kvm1", None)["baselines"]
    house.converge(Node({"services": [{**half, "released": True}], "closed": ["vps-1"]}), lifted["run_id"])
    assert house.statuses == [] and house.read("snapshot", "kvm1", None)["baselines"] == []


def test_ended_on_node():
    ending = {"id": "E-1", "service": "vps-1", "status": "ending", "snapshot": {"nodes": ["kvm1"]}}
    free = {"service": "vps-1", "hold": None, "in_force": False, "released": True}
    assert ended_on_node("kvm1", [ending], [free]) == {"vps-1": ["E-1"]}
    assert ended_on_node("kvm1", [ending], []) == {"vps-1": ["E-1"]}, "the node says nothing of it: it holds nothing"
    assert ended_on_node("kvm1", [ending], [{**free, "released": False}]) == {}
    assert ended_on_node("kvm1", [ending], [{**free, "hold": "suspend", "in_force": True}]) == {"vps-1": ["E-1"]}
    assert ended_on_node("kvm2", [ending], [free]) == {}
    assert ended_on_node("kvm1", [{**ending, "status": "active"}], [free]) == {}


def test_stale_data_is_said_in_the_notes():
    from ansible_collections.hosting.aup.plugins.plugin_utils._converge import data_notes

    inputs = {"pools": {"at": 100, "stale_at": 200, "document": {}}}
    mining = {"controls": {"mining": {}}}
    assert data_notes({"inputs": inputs}, mining, 199) == [] == data_notes({"inputs": {}}, {"controls": {}}, 199)
    assert "without data" in data_notes({"inputs": {}}, mining, 199)[0]
    assert data_notes({"inputs": inputs}, mining, 200) == [
        "data pools is of 1970-01-01T00:01:40Z and stale since 1970-01-01T00:03:20Z: refresh it"]


def _rows(ledger):
    """Rows of every table that grows."""
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
    from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t

    with ledger.read() as tx:
        return {name: tx.execute(sa.select(sa.func.count()).select_from(table)).scalar()
                for name, table in vars(t).items() if name != "metadata"}


def _pass(house, *answers):
    """One reconcile of kvm1."""
    opened = house.write(end_what_is_due)
    return house.converge(Node(*answers), opened["run_id"])


def test_a_reconcile_each_minute_that_finds_nothing_leaves_no_trace_but_when_the_node_was_seen(house):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
    house.converge(Node(todo, {**todo, "services": [HELD]}), opened["run_id"])
    _pass(house, {"services": [HELD]})  # the first after a change says that nothing changes any more
    rows, head, seen = _rows(house.ledger), house.read("head"), house.read("find_node", "kvm1")["last_seen_at"]
    for _ in range(60):
        assert _pass(house, {"services": [HELD]})["outcome"] == "unchanged"
    assert _rows(house.ledger) == rows and house.read("head") == head
    node = house.read("find_node", "kvm1")
    assert node["last_seen_at"] > seen and node["last_outcome"] == "unchanged"
    assert house.statuses == ["active"] and house.read("verify")["ok"]


def test_what_a_routine_pass_finds_is_on_record(house):
    _pass(house, {})
    quiet = house.read("head")["number"]
    house.clock = itertools.count(NOW + 1000)

    def events():
        nonlocal quiet
        before, quiet = quiet, house.read("head")["number"]
        return quiet - before

    changed = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    assert _pass(house, changed, changed)["outcome"] == "changed" and events() == 2, "a drift put right: a run and its result"
    assert _pass(house, changed, changed)["outcome"] == "changed" and events() == 2, "each time it is put right"
    assert _pass(house, {}) and events() == 2 and _pass(house, {}) and events() == 0
    assert _pass(house, refusal("unreachable"))["outcome"] == "unreachable" and events() == 2
    assert house.read("find_node", "kvm1")["last_outcome"] == "unreachable"
    for _ in range(20):
        _pass(house, refusal("unreachable"))
    assert events() == 0, "the same failure is not said each minute"
    assert _pass(house, refusal("libvirt_down")) and events() == 2, "another one is"
    house.clock = itertools.count(NOW + 9000)
    assert _pass(house, refusal("libvirt_down")) and events() == 2, "and the same again after an hour"
    assert _pass(house, {}) and events() == 2, "that it is over is"
    summary = house.recorded(house.read("find_node", "kvm1")["last_run_id"])["kvm1"]
    assert summary["outcome"] == "unchanged"


def test_a_routine_pass_ends_and_activates(house):
    house.suspend()  # and the controller dies
    todo = {"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
    assert _pass(house, todo, {**todo, "services": [HELD]})["outcome"] == "changed" and house.statuses == ["active"]
    _pass(house, {"services": [HELD]})
    house.write(release_hold, ["vps-1"])
    free = {**HELD, "hold": None, "enforcement_ids": [], "in_force": False, "released": True}
    _pass(house, {"services": [free], "closed": ["vps-1"]})
    assert house.statuses == [] and house.read("snapshot", "kvm1", None)["baselines"] == []


def test_in_force_seen_by_an_unchanged_routine_pass_becomes_active(house):
    """Killed after applying and before recording: the next pass changes nothing on the node, and the ledger learns of it."""
    _pass(house, {})
    house.suspend()
    assert _pass(house, {"services": [HELD]})["outcome"] == "unchanged" and house.statuses == ["active"]


def test_a_due_end_is_a_run_of_its_own(house):
    house.suspend()
    house.clock = itertools.count(NOW + 48 * 3600 + 10)
    opened = house.write(end_what_is_due)
    assert opened["run_id"] != ROUTINE and opened["changed"]
    assert house.write(end_what_is_due)["run_id"] == ROUTINE


def test_what_the_node_ended_by_itself_is_taken_in_before_anything_is_planned_for(house):
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "plan_hash": "h1"}
    house.converge(Node(todo, {**todo, "services": [HELD]}), opened["run_id"])
    (held,) = house.read("active", "vps-1")
    journal = {"journal": "j1", "entries": [{
        "number": 7, "what": "ended", "at": held["ends_at"], "seen_at": held["ends_at"] + 1, "service": "vps-1",
        "enforcement_id": held["id"], "kind": "suspend", "held": True}]}
    house.clock = itertools.count(held["ends_at"] + 100)
    # In check mode nothing is dropped on the node nor written, and the plan is that of the real run.
    checking = Node({**todo, "journal": journal}, {"journal": journal})
    assert house.converge(checking, None, check=True)["outcome"] == "unchanged" and house.statuses == ["active"]
    node = Node({**todo, "journal": journal}, {"plan_hash": "h2", "by_hand": {"vps-1": {
        "id": "hand-1", "at": NOW, "until_at": None, "power": "pause", "reason": "flood", "actor": "anna"}}})
    result = house.converge(node, opened["run_id"])
    assert [args.get("taken") for args in node.asked] == [None, {"journal": "j1", "number": 7}]
    assert result["outcome"] == "unchanged" and "ended by the node itself: %s" % held["id"] in result["notes"]
    assert house.statuses == [] and unpack(node.asked[1]["desired"])["services"][0]["hold"] is None
    assert [h["service"] for h in house.read("status")["by_hand"]] == ["vps-1"]


class Failing:
    """A ledger that can't be reached for the transaction with this number, and every one after it."""

    def __init__(self, ledger, number):
        self.ledger, self.left = ledger, number

    def __getattr__(self, name):
        whole = getattr(self.ledger, name)

        def call(*args, **named):
            self.left -= 1
            if self.left < 0:
                raise LedgerError("the ledger can't be reached.", code="ledger_unreachable", retryable=True, remedy="Then retry.")
            return whole(*args, **named)
        return call if name in ("transaction", "read") else whole


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_ledger_gone_at_each_step_is_said_and_the_next_pass_goes_on(house, number):
    """Before reading, before the prior state is on record, before the result is: nothing twice, nothing lost."""
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
    node, whole = Node(todo, {**todo, "services": [HELD]}), house.ledger
    house.ledger = Failing(whole, number)
    with pytest.raises(LedgerError, match="can't be reached"):
        house.converge(node, opened["run_id"])
    house.ledger = whole
    assert node.modes == [[], ["plan"], ["plan", "apply"]][number], "nothing is touched before its prior state is on record"
    assert house.statuses == ["opened"]
    # What was done already is found done.
    answers = [{"services": [HELD]}] if number == 2 else [todo, {**todo, "services": [HELD]}]
    assert _pass(house, *answers)["outcome"] == ("unchanged" if number == 2 else "changed")
    assert house.statuses == ["active"] and house.read("verify")["ok"]
    kinds = [event["kind"] for event in house.read("history", "vps-1")]
    assert kinds.count("enforcement_opened") == kinds.count("enforcement_active") == 1 and kinds.count("baseline_recorded") == 1


def test_a_prior_state_that_another_run_has_taken_up_stays_on_record(house):
    """Found by the soak: the one that gave back recorded it only after the next enforcement had begun with that prior state."""
    opened = house.suspend()
    todo = {"changed": True, "steps": FILTER, "priors": [PRIOR], "plan_hash": "h1"}
    house.converge(Node(todo, {**todo, "services": [HELD]}), opened["run_id"])
    lifted = house.write(release_hold, ["vps-1"])
    free = {**HELD, "hold": None, "enforcement_ids": [], "in_force": False, "released": True}

    def node(**_args):
        house.suspend("T-2")
        return {**NOTHING, "services": [free], "closed": ["vps-1"]}

    house.converge(node, lifted["run_id"])
    assert [b["digest"] for b in house.read("snapshot", "kvm1", None)["baselines"]] == [PRIOR["digest"]]
    assert house.statuses == ["opened"]
    last = house.write(release_hold, ["vps-1"])
    house.converge(Node({"services": [free], "closed": ["vps-1"]}), last["run_id"])
    assert house.read("snapshot", "kvm1", None)["baselines"] == [] and house.statuses == []
