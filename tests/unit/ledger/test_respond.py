# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder on a ledger: what is done, what is proposed and carried out, what is on record; and the glass to break."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, GuardError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import status_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

NOW, HOUR, DAY = 1_800_000_000, 3600, 86400
POLICY = load_policy("default")


def service_of(name, number, **more):
    nic = {"mac": "52:54:00:00:00:%02x" % number, "addresses": ["192.0.2.%d" % number], "prefixes": [], "shared": [], "floating": []}
    return {"id": name, "customer": "c-1", "account_type": "personal", "location": "main", "nodes": ["kvm1"], "pool": None,
            "guest": {"name": name, "uuid": None}, "nics": [dict(nic, **more.pop("nic", {}))], "plan": {}, "addons": [], "uses": {},
            "policy": None, "liable": None, **more}


SERVICES = [*(service_of("vps-%d" % n, n) for n in range(1, 9)), service_of("gw", 250),
            service_of("safe", 20, addons=["ddos_mitigation"]), service_of("on-cluster", 21, nodes=["pve1"]),
            service_of("nat", 22, nic={"addresses": [], "shared": [{"address": "192.0.2.99", "protocol": "tcp", "ports": [[1, 9]]}]})]
CATALOGUE = {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"], "nodes": {
    "kvm1": {"backend": "kvm", "location": "main", "address": "192.0.2.250", "vars": {}},
    "pve1": {"backend": "proxmox", "location": "main", "address": None, "vars": {}}},
    "services": {one["id"]: one for one in SERVICES}}


@pytest.fixture
def ledger(tmp_path):
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as opened:
        with opened.transaction(now=NOW) as tx:
            done = requests.release_files(tx, POLICY, {POLICY.key: POLICY}, CATALOGUE)
            for node in ("kvm1", "pve1"):
                tx.adopt(node, done["release_id"])
                tx.set_node_release(node, done["release_id"])
        yield opened


def ask(ledger, service="vps-1", violation="attack_target", who="alice", now=NOW, check=False, **named):
    with ledger.transaction(check=check, actor=who, now=now) as tx:
        return respond(tx, service, violation, **named)


def seen(ledger, *ids, now=NOW):
    """The node was seen holding these."""
    with ledger.transaction(now=now) as tx:
        tx.record_result(None, "kvm1", "changed", None, [{"service": "vps-1", "enforcement_ids": ids}])


def read(ledger, name, *arguments, now=NOW):
    with ledger.read(now=now) as tx:
        return getattr(tx, name)(*arguments)


def events(ledger, kind):
    return [e for e in read(ledger, "history", "vps-1") if e["kind"] == kind]


def test_attacked_suspended_and_null_routed_when_it_goes_on(ledger):
    before = read(ledger, "head")
    planned = ask(ledger, case="T-1", check=True)
    assert read(ledger, "head") == before
    done = ask(ledger, case="T-1")
    assert planned["what"] == done["what"] and planned["nodes"] == done["nodes"] == ["kvm1"]
    held = done["enforcements"][0]
    assert (held["kind"], held["ends_at"], held["clause"]) == ("suspend", NOW + 48 * HOUR, "house.10")
    text = "\n".join(done["what"])
    assert "case T-1 opened for attack_target, fault: none" in text and "step 1 of 2" in text
    assert "next: step 2, null_route or suspend, when it goes on (persists=true)" in text
    again = ask(ledger, case="T-1")
    assert not again["changed"] and again["run_id"] == "routine"
    assert again["nodes"] == ["kvm1"], "a killed run's suspension is carried out"
    seen(ledger, held["id"])
    quiet = read(ledger, "head")
    assert ask(ledger)["nodes"] == [] and read(ledger, "head") == quiet, "an alert that repeats writes nothing"
    second = ask(ledger, persists="true", note="{{ 7 }}")
    assert second["case_id"] == "T-1" and [e["kind"] for e in second["enforcements"]] == ["null_route"]
    steps = [(e["refs"]["step"], e["refs"]["evidence"], e["detail"]["note"]) for e in events(ledger, "ladder_step")]
    assert steps == [(1, [], ""), (2, ["persists"], "{{ 7 }}")]
    assert second["decisions"][0]["next"] is None
    assert not ask(ledger, persists=True)["changed"]


def test_mitigation_and_shared_addresses(ledger):
    spared = ask(ledger, "safe")
    assert not spared["changed"] and spared["case_id"] is None and "ddos_mitigation" in "\n".join(spared["what"])
    assert read(ledger, "status")["cases"] == []
    ask(ledger, "nat", case="T-1")
    second = ask(ledger, "nat", case="T-1", persists=True)
    assert "null_route is not possible here" in "\n".join(second["what"]) and "in force for this case" in "\n".join(second["what"])
    with pytest.raises(AupError, match=r"192\.0\.2\.99|none of its own"):
        ask(ledger, "nat", case="T-1", persists=True, kind="null_route")


def test_a_service_on_a_cluster_gets_what_a_cluster_can_do(ledger):
    """Suspended there; a null-route is for routers of its location, and there are none: another alternative is done."""
    done = ask(ledger, "on-cluster", case="T-1")
    assert done["nodes"] == ["pve1"] and [one["kind"] for one in done["enforcements"]] == ["suspend"]
    went_on = ask(ledger, "on-cluster", case="T-1", persists=True)
    assert "null_route is not carried out on node pve1 (proxmox)" in "\n".join(went_on["what"])
    with pytest.raises(AupError, match="null_route is not carried out on node pve1"):
        ask(ledger, "on-cluster", case="T-1", persists=True, kind="null_route")
    throttled = ask(ledger, "on-cluster", violation="resource_abuse", kind="cpu_throttle", confirmed="true")
    assert [one["kind"] for one in throttled["enforcements"]] == ["cpu_throttle"]


def test_a_clusters_service_is_null_routed_on_the_routers_of_its_location(tmp_path):
    router = {"backend": "router", "location": "main", "address": None, "vars": {}, "router": {"platform": "frr", "protected": []}}
    with L.open_ledger(str(tmp_path / "routed.db"), create=True) as opened:
        with opened.transaction(now=NOW) as tx:
            done = requests.release_files(tx, POLICY, {POLICY.key: POLICY}, dict(CATALOGUE, nodes=dict(CATALOGUE["nodes"], r1=router)))
            for node in ("kvm1", "pve1", "r1"):
                tx.adopt(node, done["release_id"])
                tx.set_node_release(node, done["release_id"])
        ask(opened, "on-cluster", case="T-1")
        went_on = ask(opened, "on-cluster", case="T-1", persists=True)
        assert [one["kind"] for one in went_on["enforcements"]] == ["null_route"] and went_on["nodes"] == ["pve1", "r1"]


def test_guardrails_hold_for_a_ladder_too(ledger):
    before = read(ledger, "head")
    with pytest.raises(GuardError, match=r"gw' is protected: it overlaps 192\.0\.2\.250 \(the addresses of the nodes\)"):
        ask(ledger, "gw")
    for wrong, words in (({"violation": "nonsense"}, "has no violation"), ({"persists": "perhaps"}, "neither true nor false"),
                         ({"kind": "quarantine"}, "no alternative of this step"), ({"case": "C-2027-9"}, "given by the ledger"),
                         ({"service": []}, "service is missing"), ({"violation": None}, "violation is missing")):
        with pytest.raises(AupError, match=words):
            ask(ledger, **wrong)
    with pytest.raises(GuardError, match="at most 5"):
        ask(ledger, ["vps-%d" % n for n in range(1, 7)])
    assert read(ledger, "head") == before


def test_what_the_policy_does_not_say_is_proposed_and_a_person_carries_it_out(ledger):
    done = ask(ledger, violation="spam", who="robot", case="T-2")
    assert done["nodes"] == [] and done["enforcements"] == [] and done["proposals"][0]["id"] == "P-1"
    assert "does not say act" in "\n".join(done["what"]) and "hosting.aup.respond -e proposal=P-1" in "\n".join(done["what"])
    again = ask(ledger, violation="spam", who="webhook", case="T-2")
    assert not again["changed"] and "P-1" in "\n".join(again["what"]), "another robot does not confirm it"
    assert "smtp_block of vps-1, case T-2, by robot: waits for a person (P-1)" in "\n".join(status_lines(read(ledger, "status")))
    with pytest.raises(InputError, match="needs to know who"):
        ask(ledger, None, None, proposal="P-1", who={"name": None})
    with pytest.raises(AupError, match="not in the inventory"):
        ask(ledger, None, None, proposal="P-1", known_nodes=[])
    for beside in ({"service": "vps-2"}, {"violation": "spam"}, {"kind": "suspend"}, {"ports": "25"}, {"persists": "true"}, {"confirmed": "true"}):
        with pytest.raises(InputError, match="is given beside proposal"):
            ask(ledger, **{"service": None, "violation": None, "proposal": "P-1", "who": "bob", **beside})
    carried = ask(ledger, None, None, proposal="P-1", who="bob", now=NOW + 60)
    held = carried["enforcements"][0]
    assert (held["kind"], held["until"], held["review_at"], held["clause"]) == ("smtp_block", "remedied", NOW + 60 + 7 * DAY, "house.2")
    assert held["options"]["ports"] == [25, 465, 587] and carried["nodes"] == ["kvm1"]
    assert "asked for by bob, robot" in carried["what"][0]
    with pytest.raises(InputError, match="no open proposal P-1"):
        ask(ledger, None, None, proposal="P-1", who="bob")


def test_a_person_who_confirms_acts_at_once(ledger):
    done = ask(ledger, violation="mining", confirmed="yes")
    assert done["enforcements"][0]["options"]["share"] == "20%" and "a person confirmed it" in "\n".join(done["what"])
    late = ask(ledger, violation="mining", confirmed="yes", persists="yes", now=NOW + HOUR)
    assert not late["changed"] and late["decisions"][0]["waits_until"] == NOW + DAY
    last = ask(ledger, violation="mining", confirmed="yes", persists="yes", now=NOW + DAY)
    assert last["enforcements"][0]["kind"] == "suspend" and last["case_id"] == done["case_id"]


def test_terminate_by_the_ladder_keeps_two_persons(ledger):
    for number in range(3):
        ask(ledger, violation="spam", case="T-%d" % number, confirmed=True, now=NOW + number * DAY)
    done = ask(ledger, violation="spam", case="T-2", confirmed=True, now=NOW + 3 * DAY)
    assert done["proposals"][0]["kind"] == "terminate" and done["enforcements"] == [] and "only ever proposed" in "\n".join(done["what"])
    own = ask(ledger, None, None, proposal="P-1", who="alice", now=NOW + 3 * DAY)
    assert own["enforcements"] == [] and "already proposed by alice" in own["what"][-1]
    carried = ask(ledger, None, None, proposal="P-1", who="bob", now=NOW + 3 * DAY)
    assert carried["enforcements"][0]["kind"] == "terminate" and carried["enforcements"][0]["options"]["retention_ends_at"]


def test_several_services_each_by_its_own_history(ledger):
    ask(ledger, "vps-1", case="T-1")
    done = ask(ledger, ["vps-1", "vps-2", "safe"], case="T-1", persists=True)
    assert [(d["service"], d["action"], d["kind"]) for d in done["decisions"]] == [
        ("vps-1", "act", "null_route"), ("vps-2", "act", "suspend"), ("safe", "nothing", None)]
    fresh = ask(ledger, ["vps-3", "vps-4"])
    assert {e["case_id"] for e in fresh["enforcements"]} == {fresh["case_id"]}


def test_a_hold_by_hand_counts_as_the_step(ledger):
    with ledger.transaction(actor="alice", now=NOW) as tx:
        requests.hold(tx, "suspend", "vps-1", "attack_target", case="T-1")
    assert ask(ledger, persists=True)["enforcements"][0]["kind"] == "null_route"


def test_check_mode_is_replayed(ledger):
    with ledger.transaction(check=True, actor="alice", now=NOW) as tx:
        respond(tx, "vps-1", "attack_target")
        pending = tx.pending
    with ledger.transaction(check=True, actor="alice", now=NOW) as tx:
        L.replay(tx, pending)
        assert [e["kind"] for e in tx.snapshot("kvm1")["enforcements"]] == ["suspend"]


def test_the_glass_that_was_broken_waits_for_another_person(ledger):
    many = ["vps-%d" % n for n in range(1, 7)]
    for reason in ("", "   "):
        with pytest.raises(GuardError, match="break_glass"):
            ask(ledger, many, break_glass=reason)
    done = ask(ledger, many, break_glass="a worm")
    assert len(done["enforcements"]) == 6 and "B-1: exceeds default@1, guardrails.max_services_per_run" in done["what"][0]

    def lines():
        return [line for line in status_lines(read(ledger, "status")) if "not yet reviewed" in line]

    assert len(lines()) == 1 and "by alice" in lines()[0] and "a worm" in lines()[0]

    def review(who, name="B-1"):
        with ledger.transaction(actor=who, now=NOW + 5) as tx:
            return L.review(tx, name, note="agreed")

    with pytest.raises(InputError, match="alice exceeded the guardrail and can't review"):
        review("alice")
    with pytest.raises(InputError, match="who reviews"):
        review({"name": None})
    with pytest.raises(InputError, match="no break-glass 'B-2'"):
        review("bob", "B-2")
    assert not review("bob")["already"] and lines() == [] and review("carol")["already"]
    assert read(ledger, "verify")["ok"]


def test_break_glass_that_was_not_needed_is_no_break(ledger):
    ask(ledger, break_glass="just in case")
    assert read(ledger, "unreviewed") == []


def test_past_an_add_on_by_hand_is_reviewed_and_never_for_terminate(ledger):
    def hold(kind, violation="attack_target", **named):
        with ledger.transaction(actor="alice", now=NOW) as tx:
            return requests.hold(tx, kind, "safe", violation, **named)

    with pytest.raises(InputError, match="ddos_mitigation"):
        hold("suspend")
    hold("suspend", break_glass="mitigation is broken")
    assert read(ledger, "unreviewed")[0]["rules"] == ["default@1, spared by ddos_mitigation"]


def test_a_case_that_a_ladder_opens_costs_what_the_policy_says(tmp_path):
    """Alteron's clean-up once the spammer was seen suspended, and never for who was attacked."""
    policy = load_policy("alteron")
    with L.open_ledger(str(tmp_path / "alteron.db"), create=True) as ledger:
        with ledger.transaction(now=NOW) as tx:
            done = requests.release_files(tx, policy, {policy.key: policy}, CATALOGUE)
            tx.adopt("kvm1", done["release_id"])
            tx.set_node_release("kvm1", done["release_id"])
        spam = ask(ledger, violation="spam", case="T-1", confirmed=True)
        assert read(ledger, "charges") == [], "not before it was seen in force"
        attack = ask(ledger, "vps-2", case="T-2")
        seen(ledger, *(one["id"] for done in (spam, attack) for one in done["enforcements"]))
        assert [(one["case_id"], one["fee"], one["amount"], one["currency"]) for one in read(ledger, "charges")] == [
            ("T-1", "clean_up", "60.00", "EUR")]
