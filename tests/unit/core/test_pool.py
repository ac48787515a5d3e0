# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that moves between the nodes of its pool while it is held: given back as it was, once, whoever sees it last.

Ledger, converging and the nodes' code and files are real; libvirt is dictionaries, the packet filter is left out.
"""
from __future__ import annotations

import copy
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._hold import untouched
from ansible_collections.hosting.aup.plugins.module_utils._pool import keep_own, looks_held
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Converge, Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import end_what_is_due, hold, release_files, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
NODES = ("kvm1", "kvm2")
SERVICE, UUID = "vps-1", "00000000-0000-4000-8000-000000000001"


def catalogue(nodes=NODES):
    return {
        "format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"],
        "nodes": {name: {"backend": "kvm", "location": "main", "pool": "main", "uplinks": [], "bridges": ["br0"],
                         "routed_interfaces": [], "address": None, "vars": {}} for name in NODES},
        "services": {SERVICE: {
            "id": SERVICE, "customer": "c-1", "account_type": "personal", "location": "main", "nodes": list(nodes), "pool": "main",
            "guest": {"name": SERVICE, "uuid": UUID}, "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.10"]}],
            "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}},
    }


class Host:
    """libvirt of one node: at most the one guest."""

    def __init__(self, name, root, pool):
        self.name, self.root, self.pool, self.guest = name, root, pool, None

    def alive(self):
        return True

    def close(self):
        pass

    def process(self):
        """A process of its own, as far as KvmNode goes."""
        self.pool.here = self
        return _kvm_node.KvmNode(lambda _argv, stdin=None: (0, "", ""), uri=self.name, root=str(self.root), boot_id="boot-" + self.name)

    def call(self, mode, desired, adopt=False, taken=None, plan_hash=None, confirm_seconds=0):
        node = self.process()
        if mode == "plan":
            return node.plan(desired, advance=True, adopt=adopt, taken=taken)
        return node.apply(desired, plan_hash, confirm_seconds=0, adopt=adopt)

    def own(self):
        return self.process().state.load()["baselines"]


class Pool:
    """Two nodes, a ledger, and one guest on either."""

    def __init__(self, ledger, root):
        self.ledger, self.clock, self.here = ledger, itertools.count(NOW), None
        self.hosts = {name: Host(name, root / name, self) for name in NODES}
        self.hosts["kvm1"].guest = {
            "name": SERVICE, "uuid": UUID, "state": "running", "reason": "booted", "id": 1, "persistent": True, "autostart": True,
            "nics": [{"mac": "52:54:00:00:00:01", "kind": "bridge", "bridge": "br0", "device": "vnet0", "link_live": "up",
                      "link_config": "up", "link_settable": True, "gap": None}],
            "scheduler": {"live": {"vcpus": 2, "period": 100000, "quota": 150000}, "config": {"vcpus": 2, "period": 100000, "quota": 150000}},
            "disks": {}}
        self.cases = itertools.count(1)
        self.was = self.fields()

    def release(self, nodes):
        policy = load_policy("default")
        done = self.write(release_files, policy, {policy.key: policy}, catalogue(nodes))
        for name in NODES:
            assert self.converge(name, done["run_id"], release_id=done["release_id"])["outcome"] in ("changed", "unchanged")

    def write(self, verb, *args, **named):
        with self.ledger.transaction(actor="tester", now=next(self.clock)) as tx:
            return verb(tx, *args, **named)

    def rows(self, what):
        with self.ledger.read(now=next(self.clock)) as tx:
            return tx.active(SERVICE) if what == "active" else [
                b for name in NODES for b in tx.snapshot(name, None)["baselines"]]

    def converge(self, name, run_id=None, **wanted):
        return Converge(self.ledger, self.hosts[name].call, lambda _path: True, "tester", self.clock.__next__, False).run(
            Wanted(node=name, run_id=run_id, **wanted))

    def reconcile(self, order=NODES):
        run_id = self.write(end_what_is_due)["run_id"]
        return [self.converge(name, run_id) for name in order]

    def enforce(self, kind="suspend"):
        options = {"share": "20%"} if kind == "cpu_throttle" else {}
        self.write(hold, kind, [SERVICE], "attack_target", case="T-%d" % next(self.cases), duration="48h", **options)

    def lift(self, only=None):
        found = [e for e in self.rows("active") if e["status"] != "ending"]
        for one in found[:only]:
            self.write(release_hold, [SERVICE], case=one["case_id"])

    def migrate(self, autostart=True):
        """As libvirt does it: state, links and tuning travel, the tap has another name, autostart is lost or set by the panel."""
        source = self.where
        target = next(host for host in self.hosts.values() if host is not source)
        guest, source.guest = source.guest, None
        guest["nics"][0]["device"] = "vnet%d" % next(self.cases)
        guest["autostart"] = guest["autostart"] and autostart
        target.guest = guest

    @property
    def where(self):
        return next(host for host in self.hosts.values() if host.guest)

    def fields(self):
        guest = self.where.guest
        nic = guest["nics"][0]
        return (guest["state"], guest["autostart"], nic["link_live"], nic["link_config"],
                guest["scheduler"]["live"] and guest["scheduler"]["live"]["quota"], guest["scheduler"]["config"]["quota"])

    def assert_clean(self):
        """Nothing held, nothing left to remember, nowhere."""
        assert self.fields() == self.was
        assert self.rows("active") == [] and self.rows("baselines") == []
        assert [host.own() for host in self.hosts.values()] == [{}, {}]
        assert self.events("recorded") == self.events("closed"), "each prior state is closed once"

    def events(self, what):
        with self.ledger.read(now=next(self.clock)) as tx:
            return sum(entry["kind"] == "baseline_" + what for entry in tx.history(SERVICE))


def _apply_step(host, step):
    guest, verb = host.guest, step["verb"]
    if guest is None or guest["uuid"] != step["guest_uuid"]:
        raise NodeError("no such guest.", code="guest_gone")
    if verb == "set_link":
        guest["nics"][0]["link_" + step["scope"]] = step["after"]
    elif verb == "set_autostart":
        guest["autostart"] = step["after"]
    elif verb == "set_quota":
        guest["scheduler"][step["scope"]]["quota"] = step["after"]
    else:
        guest["state"], guest["reason"] = step["after"], "user"
        if verb == "start":
            guest["scheduler"]["live"] = dict(guest["scheduler"]["config"])
            guest["nics"][0]["link_live"] = guest["nics"][0]["link_config"]
        elif step["after"] == "off":
            guest["scheduler"]["live"] = guest["nics"][0]["link_live"] = None


@pytest.fixture(scope="module")
def patched():
    """One fake libvirt for all nodes of this module: each node's connection is its Host."""
    with pytest.MonkeyPatch.context() as patch:
        hosts = {}
        patch.setattr(_kvm_node._libvirt, "connect", lambda uri: hosts["pool"].hosts[uri])
        patch.setattr(_kvm_node._libvirt, "guests", lambda host, only=None: copy.deepcopy([host.guest] if host.guest else []))
        patch.setattr(_kvm_node._libvirt, "detail", lambda host, _uuid: copy.deepcopy(host.guest))
        patch.setattr(_kvm_node._libvirt, "apply_step", _apply_step)
        patch.setattr(_kvm_node, "read_links", lambda macs=True: {"br0": {"master": None, "mac": "02:00:00:00:00:01"}})
        patch.setattr(_kvm_node._nftables, "observe", lambda _run: None)
        patch.setattr(_kvm_node.KvmNode, "_plan_filter", lambda *_args: (_kvm_node._UNCHANGED, {}))
        patch.setattr(_kvm_node.KvmNode, "_note_evidence", staticmethod(lambda *_args: {}))
        yield hosts


def made(hosts, root, ledger):
    hosts["pool"] = pool = Pool(ledger, root)
    pool.release(NODES)
    return pool


@pytest.fixture
def pool(patched, tmp_path):
    with open_ledger(str(tmp_path / "ledger.sqlite3"), create=True) as ledger:
        yield made(patched, tmp_path, ledger)


@pytest.mark.parametrize("order", [NODES, NODES[::-1]])
@pytest.mark.parametrize("kind", ["suspend", "cpu_throttle"])
def test_held_migrated_and_lifted_it_is_as_it_was(pool, order, kind):
    pool.enforce(kind)
    pool.reconcile(order)
    held = pool.fields()
    assert held != pool.was
    pool.migrate()
    pool.hosts["kvm2"].process().keep(next(pool.clock))  # libvirt's event: the keeper there looks at it
    assert pool.fields() == held
    seen = {name: done["services"] for name, done in zip(order, pool.reconcile(order))}
    assert [(name, s["here"]) for name, found in sorted(seen.items()) for s in found] == [("kvm1", False), ("kvm2", True)]
    assert [s["in_force"] if kind == "suspend" else s["limits"][kind]["in_force"]
            for name, found in sorted(seen.items()) for s in found] == [False, True]
    assert len({b["digest"] for b in pool.rows("baselines")}) == 1 and pool.events("recorded") == 1
    pool.lift()
    pool.reconcile(order)
    assert pool.fields() == pool.was
    pool.reconcile(order)
    pool.assert_clean()


def test_what_a_panel_or_customer_changed_meanwhile_goes_with_the_guest(pool):
    """The new node would take both for ours, by what was before: the link taken down, and a quota tighter than that."""
    for kind in ("suspend", "cpu_throttle"):
        pool.enforce(kind)
        pool.reconcile()
    guest = pool.where.guest
    for scope in guest["scheduler"].values():
        scope["quota"] = 90000  # a plan with less is bought; the throttle tightens it in its turn
    pool.reconcile()
    assert pool.fields()[4:] == (40000, 40000)
    pool.lift(only=1)
    pool.reconcile()
    assert pool.fields()[0] == "running"
    guest["nics"][0].update(link_live="down", link_config="down")  # the suspension is over: this is the customer's own
    pool.reconcile()
    pool.migrate()
    pool.hosts["kvm2"].process().keep(next(pool.clock))
    assert pool.hosts["kvm2"].own() == {} or pool.hosts["kvm2"].own()[SERVICE]["touched"] is not None
    pool.reconcile()
    pool.migrate()
    pool.hosts["kvm1"].process().keep(next(pool.clock))
    pool.reconcile()
    pool.lift()
    pool.reconcile()
    pool.was = ("running", True, "down", "down", 90000, 90000)
    pool.reconcile()
    pool.assert_clean()
    with pool.ledger.read(now=next(pool.clock)) as tx:
        assert [tx.touched_on(name) for name in NODES] == [{}, {}]


def test_a_host_that_rebooted_long_ago_elsewhere_is_no_reason_to_boot_a_guest_that_was_powered_off_here(pool):
    pool.enforce()
    pool.reconcile()
    pool.reconcile()
    pool.migrate()
    pool.reconcile()
    pool.where.guest.update(state="off", reason="destroyed")  # by a person, on the new node
    pool.where.guest["nics"][0]["link_live"] = pool.where.guest["scheduler"]["live"] = None
    pool.lift()
    pool.reconcile()
    assert pool.fields()[0] == "off" and pool.rows("baselines") == []


def test_there_before_the_target_knows_what_was_before_nothing_is_taken_for_it(pool):
    """The target was told of the hold before the source had recorded anything."""
    pool.enforce()
    assert pool.converge("kvm2")["outcome"] == "unchanged"
    pool.converge("kvm1")
    pool.migrate()
    arrived = pool.hosts["kvm2"].process().keep(next(pool.clock))
    assert not arrived["errors"] and pool.hosts["kvm2"].own() == {}
    pool.where.guest["nics"][0]["link_config"] = "up"  # a panel's own definition
    arrived = pool.hosts["kvm2"].process().keep(next(pool.clock))
    assert [error["code"] for error in arrived["errors"]] == ["prior_unknown"] and pool.hosts["kvm2"].own() == {}
    pool.reconcile()
    assert pool.fields()[3] == "down" and [e["status"] for e in pool.rows("active")] == ["active"]
    pool.lift()
    pool.reconcile()
    pool.reconcile()
    pool.assert_clean()


def test_it_ends_by_its_time_on_the_new_node_and_the_ledger_is_told_once(pool):
    pool.enforce()
    pool.reconcile()
    pool.reconcile()  # so that each node knows the prior state
    pool.migrate(autostart=False)
    end = pool.rows("active")[0]["ends_at"]
    for name in NODES:
        done = pool.hosts[name].process().keep(end)
        assert not done["errors"] and len(done["ended"]) == 1
    assert pool.fields() == pool.was
    # From here on the customer's own: nobody takes it back, on neither node.
    pool.where.guest["state"] = "paused"
    pool.was = pool.fields()
    for name in NODES:
        assert not pool.hosts[name].process().keep(end + 5)["changed"]
    pool.migrate()
    for name in NODES:
        assert not pool.hosts[name].process().keep(end + 9)["changed"]
    pool.clock = itertools.count(end + 10)
    pool.reconcile()
    pool.reconcile()
    pool.assert_clean()


def test_a_node_that_was_away_does_not_bring_back_what_is_over(pool):
    """kvm1 keeps its copy of the first case while the second one begins on kvm2."""
    pool.enforce()
    pool.reconcile()
    pool.migrate()
    pool.converge("kvm2")
    pool.lift()
    pool.converge("kvm2")
    assert pool.fields() == pool.was and [e["status"] for e in pool.rows("active")] == ["ending"]
    pool.where.guest["autostart"] = False
    pool.was = pool.fields()
    pool.enforce()
    pool.converge("kvm2")
    pool.migrate()
    pool.reconcile()
    assert pool.fields()[0] == "paused"
    pool.lift()
    pool.reconcile()
    pool.reconcile()
    pool.assert_clean()


def test_a_throttle_put_on_by_who_came_second_is_given_back_too(pool):
    """One controller has the prior state recorded; another one, who has read that, is the first to act on the node."""
    pool.enforce("cpu_throttle")
    host, overtaken = pool.hosts["kvm1"], []

    def call(mode, desired, **more):
        if mode == "apply" and not overtaken:
            overtaken.append(True)
            assert pool.converge("kvm1")["outcome"] == "changed"
        return type(host).call(host, mode, desired, **more)

    host.call = call
    pool.reconcile(["kvm1"])
    assert overtaken and pool.fields() != pool.was
    pool.reconcile()
    pool.lift()
    pool.reconcile()
    pool.reconcile()
    pool.assert_clean()


def test_a_guest_that_is_gone_everywhere_leaves_no_prior_state_behind(pool):
    pool.enforce()
    pool.reconcile()
    guest, pool.where.guest = pool.where.guest, None
    pool.lift()
    pool.converge("kvm1")
    assert pool.rows("baselines"), "it may be on the other node"
    pool.converge("kvm2")
    assert pool.rows("baselines") == [] and pool.rows("active") == []
    pool.hosts["kvm2"].guest = guest


def test_a_service_that_another_node_has_in_the_catalogue_takes_its_prior_state_along(pool):
    pool.release(["kvm1"])
    pool.enforce()
    pool.reconcile()
    pool.migrate()
    pool.release(["kvm2"])
    pool.reconcile()
    assert pool.fields()[0] == "paused" and pool.events("recorded") == 1
    pool.lift()
    pool.reconcile()
    pool.reconcile()
    pool.assert_clean()


def test_the_node_where_it_was_held_is_retired(pool):
    pool.enforce()
    pool.reconcile()
    pool.migrate()
    pool.converge("kvm2")
    assert pool.converge("kvm1", absent=True)["outcome"] in ("changed", "unchanged")
    pool.converge("kvm2")
    assert pool.fields()[0] == "paused"
    pool.lift()
    pool.converge("kvm2")
    pool.converge("kvm2")
    assert pool.fields() == pool.was and pool.rows("baselines") == [] and pool.rows("active") == []


MOVES = st.one_of(
    st.tuples(st.just("enforce"), st.sampled_from(["suspend", "quarantine", "cpu_throttle"])),
    st.tuples(st.just("lift"), st.sampled_from([1, None])),
    st.tuples(st.just("migrate"), st.just(True)),
    st.tuples(st.just("converge"), st.sampled_from(NODES)),
    st.tuples(st.just("keep"), st.sampled_from(NODES)),
    st.tuples(st.just("reconcile"), st.permutations(NODES)),
)


@given(st.lists(MOVES, max_size=10), st.permutations(NODES))
@settings(max_examples=12, deadline=None)
def test_any_sequence_of_holds_and_migrations_is_given_back_exactly(patched, moves, order):
    """In any order, seen by any node at any time or not at all; at the end two passes make all good."""
    with tempfile.TemporaryDirectory() as place, open_ledger(place + "/ledger.sqlite3", create=True) as ledger:
        pool = made(patched, Path(place), ledger)
        for move, argument in moves:
            if move == "keep":
                pool.hosts[argument].process().keep(next(pool.clock))
            else:
                getattr(pool, move)(argument)
        pool.reconcile(order)
        pool.reconcile(order)
        wanted = {e["kind"] for e in pool.rows("active") if e["status"] == "active"}
        assert {e["status"] for e in pool.rows("active")} <= {"active"}
        assert (pool.fields()[0] == "paused") == ("suspend" in wanted)
        assert (pool.fields()[4] == 40000) == ("cpu_throttle" in wanted)
        pool.lift()
        pool.reconcile(order)
        pool.reconcile(order)
        pool.assert_clean()


DIGEST = st.sampled_from(["a", "b", None])


@given(DIGEST, DIGEST, st.none() | st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_the_ledgers_open_one_counts_and_a_copy_that_it_never_had_is_kept(own, named, recorded, generation, elsewhere):
    kept = own and {"digest": own, "fields": {}, "touched": untouched(), **({"recorded": [1, recorded]} if recorded else {})}
    service = {"elsewhere": elsewhere, "baseline": named and {"digest": named, "fields": {}}}
    found = keep_own(kept, service, [1, generation])
    assert found in (kept, None)
    if kept and elsewhere:
        assert (found is None) == (own != named if named else bool(recorded) and generation > recorded)
    else:
        assert found == kept


@pytest.mark.parametrize(("state", "live", "config", "held"), [
    ("paused", "down", "down", True), ("paused", "up", "down", False), ("running", "down", "down", False),
    ("off", None, "down", True), ("off", None, "up", False)])
def test_what_a_hold_leaves_looks_held(state, live, config, held):
    assert looks_held({"state": state, "nics": [{"link_live": live, "link_config": config}]}) == held
    assert not looks_held({"state": state, "nics": []})
