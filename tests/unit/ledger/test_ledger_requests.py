# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask of the ledger: all that is wrong is said at once, and then nothing is written."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, CatalogueError, InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import technical_slice
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
POLICY = load_policy("default")


def service_of(name, number, **more):
    return {
        "id": name, "customer": "c-1", "account_type": min(POLICY.account_types),
        "location": min(POLICY.locations), "nodes": ["kvm1"], "pool": None,
        "guest": {"name": name, "uuid": None},
        "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": ["192.0.2.%d" % number], "prefixes": [],
                  "shared": [], "floating": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": {"name": "Ms Example", "contact": None}, **more,
    }


def catalogue_of(*services, **more):
    nodes = {name: {"backend": "kvm", "location": None, "address": "192.0.2.250", "vars": {}}
             for name in ("kvm1", "kvm2")}
    return {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"], "nodes": nodes,
            "services": {service["id"]: service for service in services}, **more}


CATALOGUE = catalogue_of(*(service_of("vps-%d" % n, n) for n in range(1, 40)),
                         service_of("pool-1", 100, nodes=["kvm1", "kvm2"]), service_of("gw", 250),
                         service_of("far-1", 101, nodes=["kvm2"]))


@pytest.fixture
def ledger(tmp_path):
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as opened:
        with opened.transaction(now=NOW) as tx:
            done = requests.release_files(tx, POLICY, {POLICY.key: POLICY}, CATALOGUE)
            tx.adopt("kvm1", done["release_id"])
            tx.set_node_release("kvm1", done["release_id"])
        yield opened


def asked(ledger, function, *arguments, now=NOW, **named):
    with ledger.transaction(actor="alice", now=now) as tx:
        return function(tx, *arguments, **named)


def suspend(ledger, service="vps-1", violation="scanning", **named):
    return asked(ledger, requests.hold, "suspend", service, violation, **named)


def test_a_hold_with_its_terms_from_the_policy(ledger):
    done = suspend(ledger, duration="48h", case="T-1", note="{{ 7 }}")
    held = done["enforcements"][0]
    assert (held["starts_at"], held["ends_at"], held["until"]) == (NOW, NOW + 172800, "time")
    assert held["clause"] == "house.5" and held["options"]["power"] == "pause" and held["policy_key"] == POLICY.key
    assert done["nodes"] == ["kvm1"] and done["changed"] and done["case_id"] == "T-1"
    again = suspend(ledger, duration="48h", case="T-1")
    assert not again["changed"] and "until 2027-01-17T08:00:00Z" in again["warnings"][0]
    other = suspend(ledger, violation="unlawful_use", case="T-2")
    assert other["enforcements"][0]["until"] == "decision" and other["enforcements"][0]["review_at"] == NOW + 72 * 3600
    assert any("held as well" in line for line in other["what"])


def test_all_that_is_wrong_is_said_at_once(ledger):
    with pytest.raises(InputError) as caught:
        suspend(ledger, ["vps-1", "vps-one", "far-1"], "no_such", duration="48", case="C-2027-4")
    text = str(caught.value)
    for part in ("vps-one", "Did you mean", "far-1 lives on kvm2", "duration '48'", "no violation 'no_such'",
                 "scanning", "given by the ledger"):
        assert part in text, text
    with ledger.read() as tx:
        assert tx.active() == [] and tx.status()["cases"] == []


@pytest.mark.parametrize("wrong, part", [
    ({"duration": "-1h"}, "-1h"), ({"duration": "10y"}, "10y"), ({"duration": 48}, "48"),
    ({"duration": "400d"}, "at most"), ({"service": "gw"}, "protected"), ({"service": []}, "service is missing"),
    ({"service": "vps-1'; --"}, "not in the released"), ({"violation": None}, "violation is missing"),
    ({"service": "pool-1", "known_nodes": ["kvm1"]}, "node kvm2 of service pool-1 is not in the inventory"),
    ({"case": "white space"}, "not a usable name"), ({"note": "x" * 5000}, "note"),
])
def test_refused(ledger, wrong, part):
    with pytest.raises(AupError) as caught:
        suspend(ledger, **wrong)
    assert part in str(caught.value)
    with ledger.read() as tx:
        assert tx.active() == [] and tx.verify()["events"] == tx.head_number == 5


def test_the_cap_and_the_glass_to_break(ledger):
    cap = POLICY.guardrails.max_services_per_run
    many = ["vps-%d" % n for n in range(1, 40)]
    many = many[: cap + 1]
    assert len(many) > cap, "the catalogue of this test is too small for the policy's cap"
    with pytest.raises(AupError, match="break_glass"):
        suspend(ledger, many)
    assert len(suspend(ledger, ",".join(many), break_glass="a worm")["enforcements"]) == cap + 1
    assert len(asked(ledger, requests.release_hold, many)["enforcements"]) == cap + 1, "lifting is never capped"


def test_lifting(ledger):
    with pytest.raises(InputError, match="not held by anything"):
        asked(ledger, requests.release_hold, "vps-1")
    with pytest.raises(InputError, match="not known"):
        asked(ledger, requests.release_hold, "vps-none")
    suspend(ledger, case="T-1")
    suspend(ledger, case="T-2")
    with pytest.raises(InputError, match="several cases"):
        asked(ledger, requests.release_hold, "vps-1")
    with pytest.raises(InputError, match="not held like that"):
        asked(ledger, requests.release_hold, "vps-1", case="T-3")
    done = asked(ledger, requests.release_hold, "vps-1", case="T-1", note="remedied")
    assert done["nodes"] == ["kvm1"] and any("stays held" in line for line in done["what"])
    assert asked(ledger, requests.release_hold, "vps-1", case="all")["changed"]
    again = asked(ledger, requests.release_hold, "vps-1", case="all")
    assert not again["changed"] and again["nodes"] == ["kvm1"]
    assert asked(ledger, requests.release_hold, "vps-1", case="all", known_nodes=[])["warnings"]


def test_due(ledger):
    suspend(ledger, duration="1h")
    assert not asked(ledger, requests.end_what_is_due, now=NOW + 3599)["changed"]
    done = asked(ledger, requests.end_what_is_due, now=NOW + 3600)
    assert done["changed"] and done["nodes"] == ["kvm1"]
    assert not asked(ledger, requests.end_what_is_due, now=NOW + 3601)["changed"]


def test_exemptions_as_far_as_the_policy_allows(ledger):
    for wrong, part in (({"control": "mining"}, "may not be relaxed"), ({"control": "nonsense"}, "no control"),
                        ({"duration": None}, "at most 365 days"), ({"reason": ""}, "reason is missing")):
        given = dict({"service": "vps-1", "control": "smtp_outbound", "reason": "mail", "duration": "90d"}, **wrong)
        with pytest.raises(AupError, match=part):
            asked(ledger, requests.exempt, **given)
    done = asked(ledger, requests.exempt, "vps-1", "smtp_outbound", "mail", "90d")
    assert done["changed"] and done["nodes"] == ["kvm1"] and done["exemptions"][0]["ends_at"] == NOW + 90 * 86400
    assert not asked(ledger, requests.exempt, "vps-1", "smtp_outbound", "mail", "90d")["changed"]
    assert asked(ledger, requests.exempt, "vps-1", "smtp_outbound", "done", state="revoked")["changed"]
    assert not asked(ledger, requests.exempt, "vps-1", "smtp_outbound", "done", state="revoked")["changed"]


def test_a_release_is_checked_against_the_one_before(ledger):
    def release(catalogue, **more):
        return asked(ledger, requests.release_files, POLICY, {POLICY.key: POLICY}, catalogue, **more)

    assert not release(CATALOGUE)["changed"]
    with pytest.raises(CatalogueError, match="lost"):
        release(catalogue_of(service_of("vps-1", 1)))
    with pytest.raises(CatalogueError, match="no services"):
        release(catalogue_of(), accept_shrink=True)
    with pytest.raises(CatalogueError, match="moon"):
        release(catalogue_of(*CATALOGUE["services"].values(), service_of("new", 99, location="moon")))
    assert release(catalogue_of(service_of("vps-1", 1)), accept_shrink=True)["release_id"] == 2
    with ledger.read() as tx:
        assert "Ms Example" not in str(tx.snapshot(None)["catalogue"])
    assert release(CATALOGUE, known_nodes=["kvm1"])["warnings"]
    release(catalogue_of(*CATALOGUE["services"].values(), generated_at=NOW))
    with pytest.raises(CatalogueError, match="before the released"):
        release(catalogue_of(*CATALOGUE["services"].values(), generated_at=NOW - 1))


def test_a_service_that_left_the_catalogue_is_still_lifted(ledger):
    suspend(ledger)
    rest = catalogue_of(*(s for name, s in CATALOGUE["services"].items() if name != "vps-1"))
    with ledger.transaction(now=NOW) as tx:
        made = tx.create_release({POLICY.key: POLICY.document}, POLICY.key, technical_slice(rest))
        tx.set_node_release("kvm1", made["id"])
    with pytest.raises(InputError, match="not in the released"):
        suspend(ledger, case="T-9")
    assert asked(ledger, requests.release_hold, "vps-1")["nodes"] == ["kvm1"]


def test_nothing_provisioned(tmp_path):
    with L.open_ledger(str(tmp_path / "l.db"), create=True) as empty:
        with pytest.raises(InputError, match=r"hosting\.aup\.provision"):
            suspend(empty)


def test_retire(ledger):
    suspend(ledger)
    for node in ("kvm2", "kvm9", None):
        with pytest.raises(InputError):
            asked(ledger, requests.retire, node)
    done = asked(ledger, requests.retire, "kvm1")
    assert done["nodes"] == ["kvm1"] and any("gives back" in line for line in done["what"])


def by(ledger, who, function, *arguments, now=NOW, **named):
    with ledger.transaction(actor=who, now=now) as tx:
        return function(tx, *arguments, **named)


def terminate(ledger, who, service="vps-1", **named):
    return by(ledger, who, requests.hold, "terminate", service, "scanning", **named)


def standing(ledger):
    with ledger.read(now=NOW) as tx:
        return [e["kind"] for e in L.active(tx)], [(p["service"], p["by"]) for p in L.proposals(tx)]


def test_terminate_needs_a_second_person(ledger):
    first = terminate(ledger, "alice", case="T-1")
    assert first["changed"] and first["nodes"] == [] and first["enforcements"] == []
    assert "proposed by alice" in first["what"][-1] and standing(ledger) == ([], [("vps-1", ["alice"])])
    again = terminate(ledger, "alice", case="T-1")
    assert not again["changed"] and "already proposed" in again["what"][-1] and standing(ledger)[0] == []
    second = terminate(ledger, "bob")
    held = second["enforcements"][0]
    assert second["nodes"] == ["kvm1"] and held["kind"] == "terminate" and held["case_id"] == "T-1"
    assert held["ends_at"] is None and held["until"] == "decision"
    assert held["options"]["retention_ends_at"] == NOW + 14 * 86400
    assert standing(ledger) == (["terminate"], [])
    assert not terminate(ledger, "carol", case="T-1")["changed"]


def test_a_proposal_is_withdrawn_by_lifting_and_then_one_person_is_not_enough_again(ledger):
    terminate(ledger, "alice", case="T-1")
    done = by(ledger, "alice", requests.release_hold, "vps-1")
    assert done["changed"] and "withdrawn" in done["what"][0] and standing(ledger) == ([], [])
    terminate(ledger, "bob", case="T-1")
    assert standing(ledger) == ([], [("vps-1", ["bob"])])


def test_whose_name_was_erased_does_not_count(ledger):
    terminate(ledger, "alice", case="T-1")
    with ledger.transaction(actor="dpo", now=NOW) as tx:
        L.erase_details(tx, service="vps-1", reason="asked for")
    assert terminate(ledger, "alice", case="T-1")["enforcements"] == []
    assert terminate(ledger, "bob", case="T-1")["enforcements"][0]["kind"] == "terminate"


@pytest.mark.parametrize("named, words", [
    ({"duration": "48h"}, "terminate has no end"), ({"service": ["vps-%d" % n for n in range(1, 9)], "break_glass": "all bad"}, "at most 5")])
def test_terminate_is_refused_before_anything_is_proposed(ledger, named, words):
    with pytest.raises(AupError, match=words):
        terminate(ledger, "alice", **named)
    assert standing(ledger) == ([], [])


def test_check_mode_of_a_confirmation_shows_what_would_be_held(ledger):
    terminate(ledger, "alice", case="T-1")
    with ledger.transaction(check=True, actor="bob", now=NOW) as tx:
        requests.hold(tx, "terminate", "vps-1", "scanning")
        pending = tx.pending
    assert standing(ledger) == ([], [("vps-1", ["alice"])])
    with ledger.transaction(check=True, actor="bob", now=NOW) as tx:
        L.replay(tx, pending)
        assert [e["kind"] for e in tx.snapshot("kvm1")["enforcements"]] == ["terminate"]


@pytest.mark.parametrize("kind, named, options", [
    ("bandwidth_cap", {}, {"rate": "10 Mbit/s"}), ("bandwidth_cap", {"rate": "2 Mbit/s"}, {"rate": "2 Mbit/s"}),
    ("port_block", {"ports": "6697,6667", "protocol": "udp"}, {"ports": [6667, 6697], "protocol": "udp"}),
    ("port_block", {"ports": [80, "443"], "direction": "in"}, {"ports": [80, 443], "direction": "in"}),
    ("smtp_block", {}, {"ports": [25, 465, 587]}), ("smtp_block", {"ports": 25}, {"ports": [25]}),
    ("cpu_throttle", {"share": "20%"}, {"share": "20%"}), ("cpu_throttle", {"share": "0.5cores"}, {"share": "0.5cores"}),
    ("io_throttle", {"iops": "100"}, {"iops": 100}),
    ("null_route", {}, {}), ("drop", {"sources": "198.51.100.7, 2001:db8:bad::/48 198.51.100.0/24", "direction": "in"},
                             {"sources": ["198.51.100.0/24", "2001:db8:bad::/48"], "direction": "in"}),
    ("drop", {"sources": ["198.51.100.7"]}, {"sources": ["198.51.100.7/32"], "direction": "both"})])
def test_options_of_each_kind_over_those_of_the_policy(ledger, kind, named, options):
    held = asked(ledger, requests.hold, kind, "vps-1", "scanning", duration="1h", **named)["enforcements"][0]
    assert options.items() <= held["options"].items()


@pytest.mark.parametrize("kind, named, words", [
    ("bandwidth_cap", {"rate": "fast"}, "is not a whole number of kbit/s"), ("bandwidth_cap", {"rate": 10}, "is not a whole number of"),
    ("cpu_throttle", {"share": "0%"}, "from 1% to 100%"), ("cpu_throttle", {"share": "0.001 cores"}, "nor 0.01 to 1024 cores"),
    ("io_throttle", {}, "needs iops or bytes_per_second"),
    ("io_throttle", {"iops": "-3"}, "is not a whole number from 1"), ("port_block", {"ports": "70000"}, "from 1 to 65535"),
    ("port_block", {"ports": []}, "needs ports"), ("port_block", {"ports": "80", "protocol": "sctp"}, "protocol 'sctp' is not known"),
    ("port_block", {"ports": "80", "direction": "both"}, "direction 'both' is not known of port_block"), ("drop", {}, "drop needs sources"),
    ("drop", {"sources": "198.51.100.7/24"}, "no IPv4 or IPv6 address or prefix"), ("drop", {"sources": "0.0.0.0/0"}, "wider than a drop"),
    ("drop", {"sources": {"a": 1}}, "neither a list nor text"), ("drop", {"sources": "198.51.100.7", "direction": "up"}, "'up' is not known"),
    ("suspend", {"rate": "1 Mbit/s"}, "suspend has no option rate"), ("null_route", {"colour": "red"}, "option colour is not known")])
def test_wrong_options_are_refused_and_nothing_is_written(ledger, kind, named, words):
    with ledger.read(now=NOW) as tx:
        before = L.head(tx)
    with pytest.raises(AupError, match=words):
        asked(ledger, requests.hold, kind, "vps-1", "scanning", duration="1h", **named)
    with ledger.read(now=NOW) as tx:
        assert L.head(tx) == before


def test_an_exemption_for_a_service_that_is_not_there(ledger):
    with ledger.read() as tx:
        before = tx.head()
    with pytest.raises(InputError) as caught:
        asked(ledger, requests.exempt, "vps-100", "smtp_outbound", "PTR checked", "30d")
    assert "service 'vps-100'" in str(caught.value) and caught.value.target and caught.value.remedy
    with ledger.read() as tx:
        assert tx.head() == before, "refused before anything was written"
