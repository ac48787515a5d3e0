# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enforcements on a cluster's guest in any order, a tenant and a panel who change things meanwhile, runs killed anywhere."""
from __future__ import annotations

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _cluster, _firewall, _guest, _nics, _rights

MAC = "bc:24:11:00:00:0%d"
RATES = st.sampled_from(["0.25", "12.5", "100"])
KINDS = st.sampled_from(["suspend", "terminate", "quarantine", "bandwidth_cap", "cpu_throttle", "smtp_block", "port_block"])
TERMS = {
    "bandwidth_cap": [{"rate_bps": 10_000_000, "enforcement_ids": ["E"]}, {"rate_bps": 2_000_000, "enforcement_ids": ["E"]}],
    "cpu_throttle": [{"percent": 20, "enforcement_ids": ["E"]}, {"percent": None, "millicores": 150, "enforcement_ids": ["E"]}],
    "smtp_block": [{"enforcement_ids": ["E"]}] * 2,
    "port_block": [{"blocks": [{"direction": "out", "protocol": "tcp", "ports": [6667]}], "enforcement_ids": ["E"]}] * 2,
}
FACTS = {"firewall_on": True, "settings": {}, "now": 1000, "present": True}
CONTROLS = {"anti_spoofing": {"mode": "enforce"}}
# Each is followed by a pass, which may be killed after so many of its steps.
EVENTS = st.lists(st.tuples(st.one_of(
    st.tuples(st.just("begin"), KINDS, st.integers(0, 1)),
    st.tuples(st.just("begin"), st.sampled_from(["bandwidth_cap", "cpu_throttle"]), st.integers(0, 1)),
    st.tuples(st.just("begin"), st.sampled_from(["suspend", "terminate"]), st.just(0)),
    st.tuples(st.just("end"), KINDS),
    st.tuples(st.just("field"), st.sampled_from(["onboot", "net0.link_down", "net1.link_down"]), st.sampled_from(["0", "1", None])),
    st.tuples(st.just("field"), st.just("cpulimit"), st.sampled_from(["1", "2", None])),
    st.tuples(st.just("field"), st.sampled_from(["net0.rate", "net1.rate"]), RATES | st.none()),
    st.tuples(st.sampled_from(["plug", "power on", "host restarts", "nothing"])),
), st.none() | st.integers(0, 6)), max_size=12)


def guest_of(kind="qemu", nics=1, power="running", **config):
    """A guest as `observe` shows it."""
    base = dict({"cores": "2"}, **config)
    seen = {"vmid": 100, "kind": kind, "node": "pve1", "name": "g", "uuid": None, "template": False, "lock": None, "power": power,
            "ha": None, "config": base, "digest": None, "nics": {}, "live": None, "processors": 2, "options": {}, "rules": [],
            "sets": {}, "firewall_read": True}
    for number in range(nics):
        plug(seen, number)
    return seen


def plug(seen, number):
    mac = MAC % number
    text = "virtio=%s,bridge=vmbr0,firewall=1" % mac if seen["kind"] == "qemu" else \
        "name=eth%d,bridge=vmbr0,firewall=1,hwaddr=%s,type=veth" % (number, mac)
    seen["nics"]["net%d" % number] = {"text": text, "mac": mac}


def service_of(hold=None, limits=None, touched=None, controls=None, smtp="off", baseline=True):
    return {"id": "s", "guest": {"name": "g", "uuid": None, "vmid": 100}, "hold": hold, "limits": limits or {},
            "baseline": {"fields": {}} if baseline else None, "touched": touched or {}, "controls": controls or {},
            "smtp": {"mode": smtp, "ports": [25]}, "ending": [],
            "nics": [{"mac": MAC % number, "addresses": ["192.0.2.%d" % (10 + number)]} for number in range(3)]}


def desired_of(service):
    return {"services": [service], "smtp": {"smarthosts": ["192.0.2.200"]}, "rescue": ["203.0.113.0/24"], "proxmox": {},
            "fence": {"ledger": "11111111-2222"}}


def value(seen, field):
    return _guest._fields(seen)[field]


def put(seen, field, after):
    """A field set on the guest, as the server would have it."""
    name, dot, key = field.partition(".")
    if name == "firewall":
        seen["options"].pop(key, None) if after is None else seen["options"].update({key: after})
    elif dot:
        seen["nics"][name]["text"] = _nics.with_value(seen["nics"][name]["text"], key, after)
    elif field == "tag":
        seen["config"]["tags"] = after
    elif field == "power":
        seen["power"] = after
    elif after is None:
        seen["config"].pop(field, None)
    else:
        seen["config"][field] = after


def carry_out(seen, step):
    if step["verb"] == "rules":
        foreign = [rule for rule in seen["rules"] if not _firewall.ours(rule)]
        seen["rules"] = copy.deepcopy(step["after"]["rules"]) + foreign
    elif step["verb"] == "ipset":
        (name, entries), = step["after"].items()
        seen["sets"].pop(name, None)
        if entries is not None:
            seen["sets"][name] = {"entries": entries, "ours": True}
    else:
        for field, after in step["after"].items():
            put(seen, field, after)


class House:
    """A guest, what the ledger keeps of it, and what its customer would have if nothing had been enforced."""

    def __init__(self, seen):
        self.guest, self.touched, self.kinds, self.now = seen, {}, {}, 1000
        self.theirs = _guest._fields(seen)

    def service(self):
        hold = next(({"kind": kind, "power": "pause" if kind == "suspend" else "shutdown", "enforcement_ids": ["E"]}
                     for kind in ("terminate", "suspend", "quarantine") if kind in self.kinds), None)
        limits = {kind: TERMS[kind][which] for kind, which in self.kinds.items() if kind in TERMS}
        return service_of(hold, limits, self.touched, CONTROLS, "enforce" if "smtp_block" in self.kinds else "off")

    def sweep(self, stop_after=None):
        """One pass; killed after so many steps when that is given."""
        service = self.service()
        for name, one in self.guest["sets"].items():
            one["ours"] = name in (self.touched.get("sets") or ())
        shared = _firewall.Shared(desired_of(service))
        planned = _guest.plan(service, self.guest, {"firewall_on": True, "settings": {}, "now": self.now, "present": True}, shared)
        assert not planned.errors
        before, self.now = _guest.unanswered(service, self.now), self.now + 200
        self.touched = json.loads(json.dumps(planned.touched))
        if stop_after is None:
            self.touched["unanswered"] = before  # all of this pass were answered
        for step in planned.steps[:stop_after]:
            carry_out(self.guest, step)
        return planned.steps

    def ours(self, field, new):
        """Whether this value is one that we may have set: then nobody can tell whose it is."""
        former = (self.touched.get("fields") or {}).get(field)
        return bool(former and _guest._still(field, new, former))

    def play(self, event):
        what, *rest = event
        if what == "begin":
            self.kinds[rest[0]] = rest[1]
        elif what == "end":
            self.kinds.pop(rest[0], None)
        elif what == "field" and rest[0] in self.theirs and not self.ours(*rest):
            put(self.guest, *rest)
            self.theirs[rest[0]] = rest[1]
        elif what == "plug" and "net1" not in self.guest["nics"]:
            plug(self.guest, 1)
            self.theirs.update({field: now for field, now in _guest._fields(self.guest).items() if field.startswith("net1.")})
        elif what == "power on":
            self.guest["power"] = self.theirs["power"] = "running"
        elif what == "host restarts" and self.guest["power"] == "paused":
            self.guest["power"] = "stopped"


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["qemu", "lxc"]), st.sampled_from(["running", "stopped"]), st.sampled_from([None, "0", "1"]),
       st.sampled_from([None, "1", "0"]), RATES | st.none(), EVENTS)
def test_what_was_not_ours_is_there_in_the_end(kind, power, onboot, cpulimit, rate, events):
    seen = guest_of(kind, power=power, **{key: text for key, text in (("onboot", onboot), ("cpulimit", cpulimit)) if text})
    if rate:
        put(seen, "net0.rate", rate)
    house = House(seen)
    for event, killed_after in events:
        house.play(event)
        house.sweep(killed_after)
        if killed_after is None:
            assert not house.sweep(), "a second pass finds nothing to do"
            for kind_now in house.kinds:
                check_in_force(house, kind_now)
    house.kinds.clear()
    house.sweep(2)
    house.sweep()
    house.touched["sets"], house.guest["sets"] = [], {}
    service = dict(house.service(), controls={})
    last = _guest.plan(service, house.guest, FACTS, _firewall.Shared(desired_of(service)))
    for step in last.steps:
        carry_out(house.guest, step)
    assert not [rule for rule in house.guest["rules"] if _firewall.ours(rule)]
    assert _guest._fields(house.guest) == house.theirs


def check_in_force(house, kind):
    seen = house.guest
    if kind in ("suspend", "terminate"):
        assert seen["power"] in (("paused", "stopped") if kind == "suspend" else ("stopped",))
        assert all(_nics.is_on(nic["text"], "link_down") for nic in seen["nics"].values())
    elif kind == "bandwidth_cap":
        limit = TERMS[kind][house.kinds[kind]]["rate_bps"] / 8 / 1024 / 1024 / len(seen["nics"])
        assert all(0 < float(_nics.value_of(nic["text"], "rate")) <= limit for nic in seen["nics"].values())
    elif kind == "cpu_throttle":
        assert 0 < float(seen["config"]["cpulimit"]) <= (0.4, 0.15)[house.kinds[kind]]
    elif kind != "quarantine" or house.service()["hold"]["kind"] == kind:  # else a stricter hold takes its place
        assert any(_firewall.ours(rule) for rule in seen["rules"])


RULES = st.lists(st.fixed_dictionaries({
    "type": st.sampled_from(["in", "out", "group"]), "action": st.sampled_from(["ACCEPT", "DROP", "REJECT", "web"]),
    "enable": st.integers(0, 1)}, optional={
        "comment": st.sampled_from(["mine", "hosting.aup quarantine", ""]), "dport": st.just("22"), "proto": st.just("tcp")}), max_size=4)
OPTIONS = st.fixed_dictionaries({}, optional={
    "enable": st.sampled_from([0, 1]), "policy_in": st.sampled_from(["ACCEPT", "DROP", "REJECT"]), "policy_out": st.sampled_from(["ACCEPT", "DROP"]),
    "macfilter": st.sampled_from([0, 1]), "ipfilter": st.sampled_from([0, 1]), "log_level_in": st.just("info")})


@settings(max_examples=300, deadline=None)
@given(RULES, OPTIONS, st.sets(KINDS), st.sampled_from(["off", "enforce"]), st.booleans())
def test_nothing_of_ours_opens_a_tenants_firewall(rules, options, kinds, smtp, spoof):
    """No rule of ours accepts, no rule of the tenant's goes, and options are set only where none was."""
    seen = guest_of()
    seen["rules"], seen["options"] = rules, dict(options)
    house = House(seen)
    house.kinds = dict.fromkeys(kinds, 0)
    service = dict(house.service(), controls=CONTROLS if spoof else {}, smtp={"mode": smtp, "ports": [25]})
    shared = _firewall.Shared(desired_of(service))
    planned = _guest.plan(service, seen, FACTS, shared)
    added = [rule for step in planned.steps if step["verb"] == "rules" for rule in step["after"]["rules"]]
    for rule in [*added, *(rule for group in shared.groups.values() for rule in group)]:
        assert rule["enable"] == 1 and _firewall.ours(rule)
        assert rule["action"] in shared.groups if rule["type"] == "group" else rule["action"] in ("DROP", "REJECT")
    foreign = [rule for rule in rules if not _firewall.ours(rule)]
    for step in planned.steps:
        carry_out(seen, step)
    assert [rule for rule in seen["rules"] if not _firewall.ours(rule)] == foreign
    for key, now in seen["options"].items():
        if key in options and key != "enable":
            assert now == options[key]
    if seen["options"].get("enable") == "1" and not options.get("enable"):
        assert not foreign and not any(key.startswith(("policy", "mac", "ip")) for key in options)
        assert seen["options"]["policy_in"] == seen["options"]["policy_out"] == "ACCEPT"


@given(st.sets(KINDS), st.sets(st.sampled_from(["quarantine", "smtp_block", "suspend"])))
def test_a_firewall_is_left_unread_only_where_nothing_stands_on_it(kinds, ending):
    house = House(guest_of())
    house.kinds = dict.fromkeys(kinds, 0)
    service = dict(house.service(), ending=sorted(ending))
    bound = (set(service["limits"]) | {(service["hold"] or {}).get("kind")} | ending) & {"quarantine", "smtp_block", "port_block"}
    if _cluster.without_firewall(service):
        assert not bound and kinds
        unread = dict(guest_of(), firewall_read=False, options=None)
        touched = {"fields": {"firewall.enable": {"set": ["1"], "back": None, "part": "filter"}}, "sets": ["ipfilter-net0"]}
        planned = _guest.plan(dict(service, touched=touched), unread, dict(FACTS, firewall_on=False), _firewall.Shared(desired_of(service)))
        assert not [step for step in planned.steps if step["verb"] in ("rules", "options", "ipset")]
        assert planned.touched["sets"] == ["ipfilter-net0"] and "firewall.enable" in planned.touched["fields"]
        assert any("not verified" in note for note in planned.notes)
    else:
        assert bound or not kinds


def test_a_guest_with_another_ledgers_rules_keeps_them_and_what_is_ours_there_goes_on():
    """Nothing is done to a guest that this ledger has nothing on. Where it has, all but the firewall goes on and is given back."""
    group = {"type": "group", "action": "aup-ctrl-12345678", "enable": 1, "comment": "hosting.aup smtp_outbound"}
    facts = dict(FACTS, others={"aup-ctrl-12345678": "deadbeef"})
    held = {"kind": "suspend", "power": "pause", "enforcement_ids": ["E"]}

    def planned(service, facts, **more):
        seen = dict(guest_of(), rules=[dict(group)], **more)
        return _guest.plan(service, seen, facts, _firewall.Shared(desired_of(service)))

    fresh = planned(service_of(held, smtp="enforce", controls=CONTROLS), facts)
    assert [error["code"] for error in fresh.errors] == ["other_ledger"] and not fresh.steps and fresh.touched is None
    assert "deadbeef" in fresh.errors[0]["message"] and "aup-ctrl-12345678" in fresh.errors[0]["message"]
    fields = {"onboot": {"set": ["0"], "back": "1", "part": "hold"}}
    known = planned(service_of(held, touched={"fields": fields}, smtp="enforce", controls=CONTROLS), facts)
    assert [(error["code"], error["part"]) for error in known.errors] == [("other_ledger", "filter")]
    assert {step["verb"] for step in known.steps} == {"set", "power"}
    gone = planned(service_of(touched={"fields": fields}), dict(facts, present=False), config={"onboot": "0", "cores": "2"})
    assert not gone.errors and [step["after"] for step in gone.steps] == [{"onboot": "1"}]
    mine = planned(service_of(touched={"rules": True}, smtp="enforce"), facts)
    assert not mine.errors and len(mine.notes) == 2 and "deadbeef" in mine.notes[0]
    (step,) = (step for step in mine.steps if step["verb"] == "rules")
    assert step["before"]["rules"] == [group] and group not in step["after"]["rules"]
    # A rule that the tenant didn't mark is his own, and where that ledger's guests are taken over none is another's.
    own = _guest.plan(service_of(smtp="enforce"), dict(guest_of(), rules=[dict(group, comment="mine")]), facts,
                      _firewall.Shared(desired_of(service_of())))
    assert not own.errors and not planned(service_of(smtp="enforce"), FACTS).errors


def test_names_tell_ledgers_apart_and_fit():
    names = {_firewall.name_of(label, content, ledger) for label in ("ctrl", "quarantine") for content in ({}, {"a": 1})
             for ledger in ("11111111-2222", "11111111-3333")}
    assert len(names) == 8 and max(map(len, names)) <= 18 and all(map(_firewall.is_ours, names))
    owner = _firewall.owner_of
    assert owner("aup-ctrl-1", _firewall.mark_of("11111111-2222-3333")) == "11111111" and owner("aup-ctrl-1", "hosting.aup ") == ""
    assert owner("aup-ctrl-1", "hosting.aup mine or not") is owner("aup-x", None) is owner("web", "hosting.aup") is owner("aup-x", "mine") is None


def test_privileges_reach_down_unless_they_do_not():
    held = {"/": {"VM.Audit": 1, "Sys.Modify": 0}, "/vms/7": {"VM.PowerMgmt": 1}, "/sdn/zones/localnetwork": {"SDN.Use": 1}}
    wanted = {("/", "Sys.Modify"), ("/vms/1", "VM.Audit"), ("/vms/1", "Sys.Modify"), ("/vms/7", "VM.Audit"), ("/vms/7", "VM.PowerMgmt"),
              ("/vms/8", "VM.PowerMgmt"), ("/sdn/zones/localnetwork/vmbr0", "SDN.Use")}
    assert _rights.missing(wanted, held) == [("/vms/1", "Sys.Modify"), ("/vms/7", "VM.Audit"), ("/vms/8", "VM.PowerMgmt")]
