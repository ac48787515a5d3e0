# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random lives of a cluster: what we do, what tenants and operators do, and what goes wrong, in any order; then all is as the
one that we never touched. CI walks a few of them, the same ones each time; for more of them, others each time:

    AUP_LIVES=2000 AUP_LIVES_STEPS=30 AUP_LIVES_AS_FOUND=1 pytest --hypothesis-seed=7 tests/integration/proxmox/test_lives.py
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import record_input
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import end_what_is_due, exempt, hold, release_files, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _apply, _cluster
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .provider import SECRET
from .test_controls import policy
from .world import ALL, LIVES, Direct, Killed, World

STEPS = int(os.environ.get("AUP_LIVES_STEPS", "10"))
CONTROLS = (
    {"smtp_outbound": "{mode: enforce, adoption: {mode: enforce}}", "anti_spoofing": "{mode: enforce, adoption: {mode: enforce}}"},
    {"smtp_outbound": "{mode: enforce, options: {ports: [25, 2525]}, adoption: {mode: enforce}}"},
    {"anti_spoofing": "{mode: enforce, adoption: {mode: enforce}}", "reflection": "{mode: enforce, adoption: {mode: enforce}}"},
    {"mining": "{mode: enforce, adoption: {mode: enforce}}", "smtp_outbound": "{mode: observe}"},
    {"smtp_outbound": "{mode: enforce, adoption: {mode: enforce}}", "restart": True},
    {},
)
KINDS = [
    ("suspend", {}), ("terminate", {}), ("quarantine", {}), ("bandwidth_cap", {"rate": "10 Mbit/s"}), ("bandwidth_cap", {"rate": "5 Mbit/s"}),
    ("cpu_throttle", {"share": "20%"}), ("cpu_throttle", {"share": "10%"}), ("smtp_block", {"ports": [25, 465]}), ("smtp_block", {"ports": [587]}),
    ("port_block", {"ports": [6667]}), ("port_block", {"ports": list(range(1000, 1060, 2)), "protocol": "udp", "direction": "in"})]
vmids = st.sampled_from(ALL)
services = st.lists(vmids, min_size=1, max_size=3, unique=True)
TEXTS = ("VM is locked (backup)", "got timeout", "unable to open file", "cluster not ready - no quorum?",
         "detected modified configuration - file changed by other user? Try again.", "Configuration file 'x.conf' does not exist",
         "checksum mismatch (file change by other user?)", "\x1b[31mübel {{ 7 * 7 }}\n")


# -- what others do: each answers what is done, by a name -----------------------------------------------------------------


class Act(tuple):
    """A name, and what it does to a world."""

    def __repr__(self):
        return f"<{self[0]}>"


def named(function):
    @functools.wraps(function)
    def make(*args):
        return Act(function(*args))
    return make


@named
def options(vmid, key, value):
    def act(world: World):
        if vmid in world.lab.guests and vmid not in world.replaced and not world.holds(vmid, key, str(value)):
            if value is None or world.lab.guests[vmid].config.get(key) != value:
                if not (value is None and world.lab.guests[vmid].config.get(key) is not None and world.holds(vmid, key, "0")):
                    world.set(vmid, **{key: value})
    return f"tenant sets {key} of {vmid} to {value}", act


@named
def cable(vmid, nic, key, value):
    def act(world: World):
        if vmid in world.lab.guests and not world.holds(vmid, f"{nic}.{key}", str(value)):
            world.nic(vmid, nic, key, value)
    return f"tenant sets {nic}.{key} of {vmid} to {value}", act


@named
def power(vmid, verb):
    def act(world: World):
        held = {one["kind"] for one in world.bound(vmid)} & {"suspend", "terminate"} or "power" in world.touched(vmid)
        if vmid in world.lab.guests and not (held and verb in ("stop", "suspend")):
            world.power(vmid, verb)
    return f"tenant does {verb} to {vmid}", act


@named
def tags(vmid, tag, there):
    def act(world: World):
        if vmid not in world.lab.guests:
            return

        def one(lab):
            now = _guest.tags_of(lab.config(lab.guests[vmid]).get("tags"))
            after = sorted({*now, tag} if there else {*now} - {tag})
            lab.change(lab.guests[vmid], {"tags": ";".join(after)} if after else {"delete": "tags"}, "tenant@pve")()
        world.both(one)
    return f"tag {tag} of {vmid} {there}", act


@named
def no_marks(vmid):
    def act(world: World):
        found = world.lab.guests.get(vmid)
        if found and not found.lock:
            left = [tag for tag in _guest.tags_of(found.config.get("tags")) if not _guest.is_mark(tag)]
            world.lab.change(found, {"tags": ";".join(left)} if left else {"delete": "tags"}, "tenant@pve")()
    return f"tenant takes our tags off {vmid}", act


@named
def undo_rules(vmid):
    def act(world: World):
        file = world.lab.firewall.guests.get(vmid)
        if file:
            file.rules = [rule for rule in file.rules if not _firewall.ours(rule)]
    return f"tenant deletes our rules of {vmid}", act


@named
def undo_sets(vmid):
    def act(world: World):
        file = world.lab.firewall.guests.get(vmid)
        if file:
            file.ipsets = {name: one for name, one in file.ipsets.items() if not one.get("comment", "").startswith(_firewall.MARK)}
    return f"tenant deletes our sets of {vmid}", act


@named
def more_in_set(vmid):
    def act(world: World):
        for one in (world.lab.firewall.guests[vmid].ipsets if vmid in world.lab.firewall.guests else {}).values():
            if one.get("comment", "").startswith(_firewall.MARK) and {"cidr": "192.0.2.250"} not in one["entries"]:
                one["entries"].append({"cidr": "192.0.2.250"})
    return f"tenant adds an address to our sets of {vmid}", act


@named
def own_rule(vmid, port, there):
    def act(world: World):
        one = {"type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp", "dport": str(port), "comment": "own"}

        def change(file):
            file.rules = [rule for rule in file.rules if rule != one]
            if there:
                file.rules.insert(0, dict(one))
        if vmid in world.lab.guests:
            world.wall(vmid, change)
    return f"tenant's own rule for {port} on {vmid} {there}", act


@named
def own_option(vmid, key, value):
    def act(world: World):
        field = "firewall." + key
        if vmid in world.lab.guests and field not in world.touched(vmid):
            world.wall(vmid, lambda file: file.options.pop(key, None) if value is None else file.options.update({key: value}))
    return f"tenant sets {key} of the firewall of {vmid} to {value}", act


@named
def off_and_on(vmid, value):
    def act(world: World):
        if vmid in world.lab.guests and not (value and "firewall.enable" in world.touched(vmid)):
            world.wall(vmid, lambda file: file.options.update(enable=value))
    return f"tenant sets the firewall of {vmid} to {value}", act


@named
def own_set(vmid, name, there):
    def act(world: World):
        if vmid not in world.lab.guests or world.lab.firewall.of_guest(vmid, "qemu").ipsets.get(name, {}).get("comment", "").startswith("host"):
            return
        world.wall(vmid, lambda file: file.ipsets.update({name: {"comment": "", "entries": [{"cidr": "192.0.2.77"}]}}) if there
                   else file.ipsets.pop(name, None))
    return f"tenant's own set {name} on {vmid} {there}", act


@named
def locked(vmid, lock):
    def act(world: World):
        for one in (world.lab, world.twin):
            if vmid in one.guests and one.guests[vmid].lock not in ("suspended",):
                one.guests[vmid].config.pop("lock", None)
                one.guests[vmid].config.update({"lock": lock} if lock else {})
    return f"lock {lock} on {vmid}", act


@named
def moves(vmid, node):
    def act(world: World):
        for one in (world.lab, world.twin):
            if vmid in one.guests:
                one.guests[vmid].node = node
    return f"{vmid} moves to {node}", act


@named
def second_nic(vmid, there):
    def act(world: World):
        found = world.lab.guests.get(vmid)
        if found is None or vmid in world.replaced or vmid == 100:
            return
        value = f"virtio=BC:24:11:EE:00:{vmid % 256:02X},bridge=vmbr0,firewall=1" if found.kind == "qemu" else \
            f"name=eth1,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:EE:00:{vmid % 256:02X},type=veth"
        if there != ("net1" in world.lab.config(found)):
            world.set(vmid, net1=value if there else None)
    return f"a second NIC of {vmid} {there}", act


@named
def deleted(vmid):
    def act(world: World):
        world.leave(vmid)
        world.replaced.discard(vmid)
    return f"{vmid} is deleted", act


@named
def reused(vmid, number):
    def act(world: World):
        if vmid not in world.lab.guests:
            world.join(vmid, "lxc" if vmid == 203 else "qemu", number=number)
            world.replaced.add(vmid)
    return f"number {vmid} is given to another guest", act


@named
def node(name, state):
    return f"{name} {state}", lambda world: world.lab.nodes.update({name: state})


@named
def quorum(there):
    return f"quorum {there}", lambda world: setattr(world.lab, "quorate", there)


@named
def switch(on):
    def act(world: World):
        for one in (world.lab, world.twin):
            one.firewall.cluster.options["enable"] = on
    return f"operator switches the cluster's firewall {on}", act


@named
def cluster_set(there):
    def act(world: World):
        for one in (world.lab, world.twin):
            one.firewall.cluster.ipsets.pop("lab", None)
            one.firewall.cluster.ipsets.update({"lab": {"comment": "", "entries": []}} if there else {})
    return f"operator's set in the cluster {there}", act


@named
def groups_gone():
    def act(world: World):
        wall = world.lab.firewall.cluster
        wall.groups = {name: one for name, one in wall.groups.items() if not name.startswith("aup-")}
    return "operator deletes our groups", act


@named
def sets_gone():
    def act(world: World):
        wall = world.lab.firewall.cluster
        wall.ipsets = {name: one for name, one in wall.ipsets.items() if not name.startswith("aup-")}
    return "operator deletes our sets", act


NICS = st.sampled_from(("net0", "net1"))
TENANT = st.one_of(
    st.builds(options, vmids, st.just("onboot"), st.sampled_from(("0", "1", None))),
    st.builds(options, vmids, st.just("cpulimit"), st.sampled_from(("1", "1.5", "0.05", None))),
    st.builds(options, vmids, st.just("description"), st.sampled_from(("one\ntwo: ü %", "three"))),
    st.builds(options, vmids, st.just("memory"), st.sampled_from(("256", "512"))),
    st.builds(options, vmids, st.just("protection"), st.sampled_from(("1", None))),
    st.builds(cable, vmids, NICS, st.just("rate"), st.sampled_from(("3", "0.05", None))),
    st.builds(cable, vmids, NICS, st.just("link_down"), st.sampled_from(("1", None))),
    st.builds(cable, vmids, NICS, st.just("tag"), st.sampled_from(("7", None))),
    st.builds(power, vmids, st.sampled_from(("start", "stop", "suspend", "resume"))),
    st.builds(tags, vmids, st.sampled_from(("red", "shop")), st.booleans()),
    st.builds(no_marks, vmids), st.builds(undo_rules, vmids), st.builds(undo_sets, vmids), st.builds(more_in_set, vmids),
    st.builds(own_rule, vmids, st.sampled_from((22, 80)), st.booleans()),
    st.builds(own_option, vmids, st.sampled_from(("policy_in", "policy_out")), st.sampled_from(("DROP", "REJECT", None))),
    st.builds(own_option, vmids, st.just("macfilter"), st.sampled_from((0, None))),
    st.builds(off_and_on, vmids, st.sampled_from((0, 1))),
    st.builds(own_set, vmids, st.sampled_from(("mine", "ipfilter-net0")), st.booleans()))
OPERATOR = st.one_of(
    st.builds(locked, vmids, st.sampled_from(("backup", "migrate", "snapshot", None))),
    st.builds(moves, vmids, st.sampled_from(("pve1", "pve2"))),
    st.builds(second_nic, vmids, st.booleans()),
    st.builds(node, st.just("pve2"), st.sampled_from(("offline", "online"))),
    st.builds(quorum, st.booleans()), st.builds(switch, st.sampled_from((0, 1))), st.builds(cluster_set, st.booleans()),
    st.builds(groups_gone), st.builds(sets_gone))
BETWEEN = st.one_of(st.builds(deleted, vmids), st.builds(reused, vmids, st.integers(1, 3)))
EVENT = st.one_of(
    st.tuples(st.just("act"), TENANT), st.tuples(st.just("act"), OPERATOR),
    st.just(("kill",)), st.just(("die after",)), st.just(("unheard", False)), st.just(("unheard", True)), st.just(("done unheard", False)),
    st.just(("done unheard", True)), st.just(("broken",)), st.sampled_from([("refuse", 500, text) for text in TEXTS]),
    st.sampled_from([("refuse", status, "") for status in (401, 403, 501, 595, 596)]),
    st.sampled_from([("task fails", text) for text in ("VM is locked (backup)", "start failed: exit code 1", "received interrupt")]))
EVENTS = st.lists(st.tuples(st.one_of(st.integers(0, 12), st.integers(0, 60)), EVENT), max_size=2).map(dict)
CHEAP = st.one_of(st.just({}), EVENTS)


class Lives(RuleBasedStateMachine):
    """One cluster's life."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.version = 0

    def teardown(self):
        try:
            self.end()
        finally:
            self.world.close()
            self.folder.cleanup()

    # -- what we do ---------------------------------------------------------------------------------------------------

    def run(self, run_id, events=None, **named):
        """One pass, with what befalls it; and what is true of any, however it ends."""
        world = self.world
        if not events and not named.get("check"):
            checked = world.converge(run_id, check=True, **named)
        else:
            checked = None
        client = Direct(world, events)
        try:
            done = world.converge(run_id, client=client, **named)
        except Killed:
            world.lab.fail_next = None
            return None
        world.lab.fail_next = None
        assert SECRET not in repr(done)
        if checked and "plan_hash" in checked:
            assert done.get("plan_hash") == checked["plan_hash"], (checked["steps"], done["steps"])
        for error in done["errors"]:
            assert error["code"] and error["message"] and error["remedy"], error
            assert error["message"].isprintable(), error
        happened = {one[0] for number, one in (events or {}).items() if number not in client.events}
        if not happened & {"act", "refuse"} or done["outcome"] == "unchanged" and "act" not in happened:
            # What this pass says is in force is so in truth.
            for entry in done["services"]:
                said = set(entry["enforcement_ids"] if entry["in_force"] else ())
                said |= {one for limit in entry["limits"].values() if limit["in_force"] for one in limit["enforcement_ids"]}
                for one in world.house.read("active", entry["service"]):
                    if one["id"] in said:
                        self.true(int(entry["service"][4:]), one, done)
        return done

    def true(self, vmid, one, told=None):
        holds = {other["kind"] for other in self.world.bound(vmid) if other["status"] != "ending"}
        if one["kind"] == "quarantine" and holds & {"suspend", "terminate"}:
            return
        why = self.world.in_force(vmid, one)
        assert why is None, (vmid, one["kind"], one["id"], why, told and told["errors"])

    def write(self, verb, *args, **named):
        try:
            return self.world.house.write(verb, *args, **named)
        except AupError:
            return None

    def provision(self, events=None):
        house = self.world.house
        done = self.write(release_files, house.policy, {house.policy.key: house.policy}, house.document())
        if done:
            return self.run(done["run_id"], events, release_id=done["release_id"])
        return None

    @property
    def released(self):
        """Whether the ledger has a release for the cluster: after a whole provisioning, until it is retired."""
        with self.world.ledger.read(now=self.world.clock.now) as tx:
            return tx.snapshot("pve")["release"] is not None

    @initialize()
    def first(self):
        self.under(0)
        assert not self.provision()["errors"]

    def under(self, number):
        self.version += 1
        settings, enforcements = dict(CONTROLS[number]), ""
        if settings.pop("restart", False):
            enforcements = "enforcements: {%s}\n" % ", ".join(
                kind + ": {open_connections: restart}" for kind in ("quarantine", "smtp_block", "port_block"))
        self.world.house.under(policy(self.version, **settings) + enforcements)

    @rule(number=st.integers(0, len(CONTROLS) - 1), events=CHEAP)
    def policy_changes(self, number, events):
        self.under(number)
        self.provision(events)

    @rule(seen=st.lists(st.tuples(st.integers(1, 5), st.sampled_from((3333, 4444, None))), max_size=4), events=CHEAP)
    def pools_change(self, seen, events):
        found = [{"address": f"198.51.100.{number}", "port": port, "first_seen": 1_000_000_000} for number, port in seen]
        self.write(record_input, "pools", {"observe_seconds": 86400, "ports": {"nodes": {"tcp": [8333]}}, "endpoints": found}, 10**9,
                   {"addresses": len(found)})
        self.reconcile(events)

    @rule(kind=st.sampled_from(KINDS), who=services, case=st.sampled_from(("T-1", "T-2", "T-3")), quick=st.booleans(), events=CHEAP)
    def enforce(self, kind, who, case, quick, events):
        sids, (name, given) = [f"vps-{vmid}" for vmid in who], kind
        if name == "terminate":
            with_ledger = self.world.ledger.transaction(actor="another", now=next(self.world.clock))
            try:
                with with_ledger as tx:
                    hold(tx, name, sids, "attack_target", case=case, **given)
            except AupError:
                return
        opened = self.write(hold, name, sids, "attack_target", case=case, duration=None if name == "terminate" else "48h", **given)
        if opened:
            self.run(opened["run_id"], events, only=sids if quick else None)

    def everything(self):
        """All that the ledger has open or ending."""
        return [one for vmid in ALL for one in self.world.bound(vmid)]

    @precondition(everything)
    @rule(number=st.integers(0, 9), how=st.sampled_from(("one", "all of its service", "all")), quick=st.booleans(), events=CHEAP)
    def lift(self, number, how, quick, events):
        found = self.everything()
        one = found[number % len(found)]
        sids = sorted({other["service"] for other in found}) if how == "all" else [one["service"]]
        terms = {"case": one["case_id"], "kind": one["kind"]} if how == "one" else {"case": "all"}
        lifted = self.write(release_hold, sids, **terms)
        if lifted:
            self.run(lifted["run_id"], events, only=sids if quick else None)

    @rule(vmid=vmids, control=st.sampled_from(("smtp_outbound", "anti_spoofing", "mining")), state=st.sampled_from(("present", "revoked")),
          events=CHEAP)
    def exempt(self, vmid, control, state, events):
        done = self.write(exempt, [f"vps-{vmid}"], control, "asked for", "30d" if state == "present" else None, state=state,
                          approved_by="somebody")
        if done:
            self.run(done["run_id"], events)

    @rule(events=CHEAP, only=st.one_of(st.none(), services))
    def reconciled(self, events, only):
        self.reconcile(events, only)

    def reconcile(self, events=None, only=None, locks="locks"):
        done = self.world.house.write(end_what_is_due)
        return self.run(done["run_id"], events, only=only and [f"vps-{vmid}" for vmid in only], locks=locks)

    @rule(at=st.integers(0, 20), what=st.sampled_from(("reconcile", "enforce", "lift")), kind=st.sampled_from(KINDS), vmid=vmids)
    def two_controllers(self, at, what, kind, vmid):
        """In the middle of a pass another controller does one of its own."""
        def other(world):
            if what == "lift":
                done = self.write(release_hold, [f"vps-{vmid}"], case="all")
            elif what == "enforce" and kind[0] != "terminate":
                done = self.write(hold, kind[0], [f"vps-{vmid}"], "attack_target", case="T-9", duration="48h", **kind[1])
            else:
                done = {"run_id": world.house.write(lambda tx: tx.start_run("reconcile"))}
            if done:
                world.converge(done["run_id"], locks="other")
        self.reconcile({at: ("act", Act((f"another controller: {what} {vmid} {kind[0]}", other)))})

    @rule(events=CHEAP)
    def retire(self, events):
        run = self.world.house.write(lambda tx: tx.start_run("retire"))
        self.run(run, events, absent=True)

    @rule(events=CHEAP)
    def provisioned(self, events):
        self.provision(events)

    # -- what others do, and time ---------------------------------------------------------------------------------------

    @rule(one=TENANT)
    def tenant(self, one):
        one[1](self.world)

    @rule(one=OPERATOR)
    def operator(self, one):
        one[1](self.world)

    @rule(one=BETWEEN)
    def replacing(self, one):
        one[1](self.world)

    @rule(replug=st.booleans())
    def described_anew(self, replug):
        self.world.house.node["proxmox"] = {"replug": replug}

    @rule(seconds=st.sampled_from((60, 700, 86400, 3 * 86400)))
    def time_passes(self, seconds):
        if seconds >= _guest.LATE_SECONDS:
            self.world.late.clear()
        self.world.clock.now += seconds

    @precondition(lambda self: self.world.late)
    @rule(number=st.integers(0, 5), drop=st.booleans())
    def a_late_write_comes(self, number, drop):
        self.world.deliver(number, drop)

    @rule()
    def quiet(self):
        """All that was in the way is gone, and time passed: passes come to rest, and what they say is true."""
        self.settle()

    # -- what is to be true ----------------------------------------------------------------------------------------------

    def settle(self):
        world = self.world
        for one in (world.lab, world.twin):
            one.nodes.update(pve1="online", pve2="online")
            one.quorate = True
            one.fail_next = None
            for found in one.guests.values():
                found.config.pop("lock", None)
        while world.late:
            world.deliver(0)
        if not self.released:
            return None
        for _ in range(2):
            world.clock.now += _guest.LATE_SECONDS + 5
            for _ in range(4):
                done = self.reconcile()
                if not done["changed"]:
                    break
            assert not done["changed"], done["steps"]
        said = {(error["service"], error["code"]) for error in done["errors"]}
        assert not [error for error in done["errors"] if error["service"] is None], done["errors"]
        for sid, code in said:
            vmid = int(sid[4:])
            known = {"guest_missing": vmid not in world.lab.guests, "guest_replaced": vmid in world.replaced,
                     "guest_changed": vmid in world.replaced, "firewall_off": True, "pending": vmid == 104}
            assert known.get(code), (done["errors"])
        for vmid in ALL:
            for one in world.bound(vmid):
                if one["status"] == "active":
                    if vmid in world.lab.guests and vmid not in world.replaced and not {(f"vps-{vmid}", code) for code in ("firewall_off", "pending")} & said:
                        self.true(vmid, one, done)
                elif one["status"] == "opened":
                    assert any(sid == f"vps-{vmid}" for sid, _ in said), (vmid, one["kind"], done["errors"], done["services"])
                else:
                    raise AssertionError((vmid, one["id"], one["kind"], "still ending", done["errors"], done["services"]))
        return done

    def end(self):
        """All lifted, then retired: nothing of ours is left, and all of theirs is."""
        world = self.world
        if not self.version:
            return
        self.settle()
        for vmid in ALL:
            self.write(release_hold, [f"vps-{vmid}"], case="all")
        self.settle()
        if not self.released:
            # A first provisioning that failed for some guest can't be taken back before it is whole: they are there again.
            for vmid in [vmid for vmid in ALL if vmid in world.replaced or vmid not in world.lab.guests]:
                world.leave(vmid)
                world.replaced.discard(vmid)
                world.join(vmid, "lxc" if vmid == 203 else "qemu")
            done = self.provision()
            assert not done["errors"], done["errors"]
            self.settle()
        assert not any(world.bound(vmid) for vmid in ALL)
        self.same_guests()
        run = world.house.write(lambda tx: tx.start_run("retire"))
        done = self.run(run, {}, absent=True)
        assert not done["errors"] and not self.released, done["errors"]
        assert world.seen(world.lab) == world.seen(world.twin)
        assert world.files(world.lab) == world.files(world.twin)

    def same_guests(self):
        """Nothing is enforced: all but what controls set in the firewall is its owners'."""
        lab, twin = (self.world.seen(one) for one in (self.world.lab, self.world.twin))
        for vmid in twin:
            ours, theirs = dict(lab[vmid]), dict(twin[vmid])
            for one in (ours, theirs):
                one["config"] = {key: ",".join(part for part in text.split(",") if part != "firewall=1") if key.startswith("net") else text
                                 for key, text in one["config"].items()}
            assert ours == theirs, vmid


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(_apply, "WORKERS", 1)
    monkeypatch.setattr(_cluster, "READS", 1)
    monkeypatch.setattr(_apply, "RULES_SECONDS", 0)


def test_lives(alone):
    run_state_machine_as_test(Lives, settings=settings(
        max_examples=LIVES or 20, stateful_step_count=STEPS, deadline=None, derandomize=not LIVES, database=None, print_blob=True,
        report_multiple_bugs=False, phases=[Phase.generate] + [Phase.shrink] * ("AUP_LIVES_AS_FOUND" not in os.environ),
        suppress_health_check=list(HealthCheck)))
