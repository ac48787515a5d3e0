# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several cases on one service in any mix, begun, lifted and running out in any order, from `resolve` to the guest.

After each pass the guest is what the cases in force amount to, told by a model that knows neither fold nor plan; after
the last it is what it was, save for what plan or panel changed meanwhile.
"""

from __future__ import annotations

import copy

from ansible_collections.hosting.aup.plugins.module_utils import _hold, _limits
from ansible_collections.hosting.aup.plugins.module_utils._fold import KINDS
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from guest_model import UUID, Guest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule

NOW, VCPUS = 1_800_000_000, 2
POLICY = load_policy("default")
SERVICE = {"id": "vps-1", "customer": "c", "account_type": "personal", "location": "main", "nodes": ["kvm1"], "pool": None,
           "guest": {"name": "web", "uuid": UUID}, "plan": {}, "addons": [], "uses": {}, "policy": None,
           "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.10", "2001:db8::10"], "prefixes": [], "shared": [],
                     "floating": []}]}
CATALOGUE = {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24", "2001:db8::/32"], "services": {"vps-1": SERVICE},
             "nodes": {"kvm1": {"backend": "kvm", "location": "main", "bridges": ["br0"]}}}
# No two have a value in common, and none is what a plan has.
OPTIONS = {"suspend": [{"power": power} for power in ("pause", "shutdown", "destroy")], "quarantine": [{}], "terminate": [{}],
           "null_route": [{}], "drop": [{"sources": ["198.51.100.7/32"]}, {"sources": ["198.51.100.0/24", "2001:db8:bad::/48"], "direction": "in"}],
           "smtp_block": [{"ports": [25]}, {"ports": [587]}], "port_block": [{"ports": [80]}, {"ports": [443, 80]}],
           "bandwidth_cap": [{"rate": "10 Mbit/s"}, {"rate": "2 Mbit/s"}], "cpu_throttle": [{"share": "20%"}, {"share": "0.7 cores"}],
           "io_throttle": [{"iops": 50, "bytes_per_second": None}, {"iops": 70, "bytes_per_second": 1_000_000}]}
PLANS = [{}, {"total_iops_sec": 60}, {"total_iops_sec": 999, "total_bytes_sec": 2_000_000}]
LATER_PLANS = [{"total_iops_sec": 65}, {"total_iops_sec": 1500}, {"total_bytes_sec": 3_000_000}]


class Throttled(Guest):
    """A guest with a disk and a quota beside links and power."""

    def __init__(self, state, autostart, links, plan, quota):
        super().__init__(state, autostart, True, links)
        on = state != "off"
        self.disk = {"live": dict(plan) if on else None, "config": dict(plan)}
        self.quota = {"live": quota if on else None, "config": quota}
        self.powered_off = False

    def seen(self):
        return dict(
            super().seen(), disks={"vda": copy.deepcopy(self.disk)}, scheduler={
                scope: None if self.state == "off" and scope == "live" else {"quota": self.quota[scope], "vcpus": VCPUS, "period": None}
                for scope in ("live", "config")})

    def fields(self):
        return (*super().fields(), copy.deepcopy(self.disk), dict(self.quota))

    def do(self, step):
        if step["verb"] in ("set_quota", "set_iotune"):
            kept = self.quota if step["verb"] == "set_quota" else self.disk
            assert kept[step["scope"]] == step["before"], step
            kept[step["scope"]] = copy.deepcopy(step["after"])
        else:
            super().do(step)

    def start(self):
        super().start()
        self.disk["live"], self.quota["live"] = copy.deepcopy(self.disk["config"]), self.quota["config"]

    def power_off(self, reason):
        super().power_off(reason)
        self.disk["live"] = self.quota["live"] = None
        self.powered_off = True


class Host:
    """What the node module does around `_hold` and `_limits` for one service."""

    def __init__(self, guest):
        self.guest, self.baseline, self.touched = guest, None, None

    def _plan(self, service):
        detail, throttled = self.guest.seen(), any(kind in service["limits"] for kind in _limits.KINDS)
        if not (service["hold"] or throttled or self.baseline):
            return [], None
        steps, prior = [], None
        if service["hold"]:
            todo = _hold.plan_hold(service, detail, self.baseline, self.guest.boot_id, self.touched)
            assert todo.errors == []
            steps, prior = todo.steps, todo.prior
        elif self.baseline is not None:
            steps = _hold.plan_release(service, detail, self.baseline, self.guest.boot_id, self.touched).steps
        if self.baseline is None and prior is None:
            prior = _hold.capture(detail, self.guest.boot_id)
        touched = _hold.untouched() if self.baseline is None else self.touched
        tuning, errors = _limits.plan(service, detail, self.baseline or prior, touched)
        assert errors == []
        return tuning + steps, prior

    def converge(self, service, killed_after=None):
        """One pass; after `killed_after` steps it dies."""
        steps, prior = self._plan(service)
        if prior is not None:
            self.baseline, self.touched = prior, _hold.untouched()
        if self.baseline is not None:
            self.touched = _limits.record(_hold.record(self.touched, steps, self.guest.boot_id), steps)
        for number, step in enumerate(steps):
            if number == killed_after:
                return
            self.guest.do(step)
        assert self._plan(service) == ([], None)
        if self.baseline is None:
            return
        hold, throttled = service["hold"], any(kind in service["limits"] for kind in _limits.KINDS)
        if hold is None or hold["kind"] == "quarantine":
            tuned = self.touched.get("tuned")
            self.touched = dict(_hold.untouched(), tuned=tuned) if tuned else _hold.untouched()
        self.touched = _limits.forget(self.touched, service["limits"])
        if hold is None and not throttled:
            self.baseline = self.touched = None


class Orders(RuleBasedStateMachine):
    """The ledger's side is a list of enforcements and a clock; the rest is the real code."""

    cases = Bundle("cases")

    @initialize(state=st.sampled_from(["running", "paused", "off"]), autostart=st.booleans(), plan=st.sampled_from(PLANS),
                links=st.lists(st.tuples(st.sampled_from(["up", "down"]), st.sampled_from(["up", "down"])), min_size=1, max_size=2),
                quota=st.sampled_from([None, 30000, 190000]))
    def guest(self, state, autostart, plan, links, quota):
        self.guest = Throttled(state, autostart, links, plan, quota)
        self.before = self.guest.fields()
        self.plan, self.host, self.now, self.held, self.count = plan, Host(self.guest), NOW, {}, 0
        self.settled = False

    @rule(target=cases, kind=st.sampled_from(KINDS), data=st.data(), length=st.sampled_from([None, 60, 3600]))
    def begin(self, kind, data, length):
        self.count += 1
        number = "E-%d" % self.count
        self.held[number] = {
            "id": number, "service": "vps-1", "kind": kind, "case_id": "T" + number, "clause": None, "violation": "spam", "reason": "r",
            "starts_at": self.now, "ends_at": None if length is None else self.now + length, "until": "decision", "review_at": None,
            "status": "active", "options": data.draw(st.sampled_from(OPTIONS[kind])), "actor": "a",
            "snapshot": {key: SERVICE[key] for key in ("guest", "nics", "nodes", "location", "account_type", "policy")}}
        return number

    @rule(case=consumes(cases))
    def lift(self, case):
        self.held.pop(case)

    @rule(seconds=st.sampled_from([59, 60, 3600]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(plan=st.sampled_from(LATER_PLANS))
    @precondition(lambda self: self.held)
    def an_upgrade_is_bought(self, plan):
        """The panel sets the new plan's rates, whatever is in force; each differs from all of ours."""
        self.plan = plan
        for scope in ("live", "config"):
            if self.guest.disk[scope] is not None:
                self.guest.disk[scope] = dict(plan)

    @rule()
    @precondition(lambda self: self.settled and self.guest.state == "running")
    def the_customer_pauses_it(self):
        """While no case holds it: that is what is given back from now on."""
        self.guest.state, self.guest.reason = "paused", "user"
        self.before = ("paused", *self.before[1:])

    @rule(killed_after=st.one_of(st.none(), st.none(), st.integers(0, 4)))
    def converge(self, killed_after):
        service = self._desired()
        self.settled = False
        self.host.converge(service, killed_after)
        if killed_after is None:
            self._as_it_should_be(service)
            self.settled = service["hold"] is None

    def teardown(self):
        if not hasattr(self, "host"):
            return
        self.held = {}
        self.host.converge(self._desired())
        self._as_it_should_be(self._desired())
        assert self.host.baseline is None
        if not self.guest.powered_off:  # it starts with the links of its configuration
            assert self.guest.live == self.before[2]

    def _desired(self):
        snapshot = {
            "ledger": "l", "epoch": 1, "revision": 1, "node": {"name": "kvm1", "release_id": 1, "adopted_at": NOW},
            "release": {"id": 1, "created_at": NOW, "policy_keys": [POLICY.key], "default_policy": POLICY.key, "catalogue_digest": "0" * 64},
            "policies": {}, "catalogue": CATALOGUE, "enforcements": list(self.held.values()), "exemptions": [], "baselines": [],
            "adoptions": {}}
        node = dict(CATALOGUE["nodes"]["kvm1"], name="kvm1")
        (entry,) = resolve({POLICY.key: POLICY}, snapshot, node, self.now).desired["services"]
        return entry

    def _binding(self, kind):
        return [e["options"] for e in self.held.values() if e["kind"] == kind and (e["ends_at"] is None or self.now < e["ends_at"])]

    def _as_it_should_be(self, service):
        """Told from the cases alone."""
        guest, off = self.guest, self.guest.state == "off"
        down = self._binding("suspend") + self._binding("terminate")
        if down:
            assert guest.state in ("paused", "off") and not guest.autostart
            assert "up" not in guest.config.values() and "up" not in guest.live.values()
            strongest = {options.get("power") for options in self._binding("suspend")}
            # A guest that was paused runs nothing that would have to be powered off.
            if self.before[0] == "running" and (self._binding("terminate") or strongest & {"shutdown", "destroy"}):
                assert off
        else:
            assert (guest.state, guest.autostart, guest.config) == (self.before[0], self.before[1], self.before[3])
        shares = [{"20%": 20 * VCPUS * 1000, "0.7 cores": 70_000}[options["share"]] for options in self._binding("cpu_throttle")]
        plan = self.before[5]["config"]
        quota = min(shares + ([] if plan is None else [plan]), default=None)
        assert guest.quota == {"config": quota, "live": None if off else quota}
        disk = dict(self.plan)
        for options in self._binding("io_throttle"):
            for key, cap in (("total_iops_sec", options["iops"]), ("total_bytes_sec", options["bytes_per_second"])):
                if cap is not None:
                    disk[key] = min(disk.get(key, cap), cap)
        assert guest.disk == {"config": disk, "live": None if off else disk}
        assert set(service["limits"]) == {kind for kind in KINDS if kind not in ("suspend", "quarantine", "terminate") and self._binding(kind)}
        if self._binding("bandwidth_cap"):
            rates = {"10 Mbit/s": 10_000_000, "2 Mbit/s": 2_000_000}
            assert service["limits"]["bandwidth_cap"]["rate_bps"] == min(rates[o["rate"]] for o in self._binding("bandwidth_cap"))
        if self._binding("drop"):
            listed = {text for options in self._binding("drop") for text in options["sources"]}
            assert set(service["limits"]["drop"]["in"]) == listed - ({"198.51.100.7/32"} if "198.51.100.0/24" in listed else set())
            assert set(service["limits"]["drop"]["out"]) == {text for options in self._binding("drop") if "direction" not in options
                                                             for text in options["sources"]}
        if self._binding("port_block"):
            (block,) = service["limits"]["port_block"]["blocks"]
            assert set(block["ports"]) == {port for options in self._binding("port_block") for port in options["ports"]}


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=400, stateful_step_count=20, deadline=None)
