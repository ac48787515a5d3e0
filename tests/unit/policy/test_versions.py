# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of a policy binds whom: by its day, by the case, and for customers who left over a change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.action.ledger_release import policies_named
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_iso
from ansible_collections.hosting.aup.plugins.module_utils._versions import changes, effective_at, version_at
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

DAY = 86400
FIRST = parse_iso("2027-01-01")


def text_of(version, effective, mode="enforce", promises=True):
    promised = "amendments: {clauses: house.1, effective_on: publication, announced: 30d, grace: 90d}\n" if promises else ""
    return (
        "schema: 1\nname: house\nversion: '%s'\neffective: %s\nprovider: {name: P}\nextends: default\n%s"
        "controls: {smtp_outbound: {mode: %s, adoption: {mode: enforce}}}\n" % (version, effective, promised, mode)
    )


@pytest.fixture
def write(tmp_path):
    def written(version, effective, **more):
        path = tmp_path / ("house-%s.yml" % version)
        path.write_text(text_of(version, effective, **more))
        return str(path)

    return written


@pytest.fixture
def versions(write):
    return [load_policy(write("1", "2026-01-01", mode="observe")), load_policy(write("2", "2027-06-01"))]


def test_a_version_binds_from_its_day_on(versions):
    turn = parse_iso("2027-06-01")
    assert effective_at(versions[1]) == turn
    for order in (versions, versions[::-1]):
        assert version_at(order, turn - 1).version == "1"
        assert version_at(order, turn).version == "2"
        assert version_at(order, 0).version == "1", "before any was in force, the first"


@pytest.mark.parametrize(
    ("terminated", "time", "version"),
    [
        ("2027-05-20", "2027-05-21", "1"),
        ("2027-05-20", "2027-08-17", "1"),
        ("2027-05-20", "2027-08-18", "2"),
        ("2027-06-20", "2027-06-19", "2"),
        ("2027-06-20", "2027-06-20", "1"),
        ("2027-06-20", "2027-09-17", "1"),
        ("2027-06-20", "2027-09-18", "2"),
        ("2027-09-01", "2027-09-02", "2"),
        ("2027-04-01", "2027-06-02", "2"),
    ],
)
def test_who_terminates_over_a_change_keeps_the_prior_version_for_90_days(versions, terminated, time, version):
    assert version_at(versions, parse_iso(time), terminated).version == version


def test_without_a_promise_nobody_keeps_anything(write):
    both = [load_policy(write("1", "2026-01-01", promises=False)), load_policy(write("2", "2027-06-01", promises=False))]
    assert version_at(both, parse_iso("2027-06-02"), "2027-06-01").version == "2"


def made(day):
    return iso(FIRST + day * DAY)[:10]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=4, unique=True), st.none() | st.integers(0, 500), st.integers(-50, 900))
def test_nothing_changes_between_the_times_of_changes(days, terminated, at):
    document = load_policy("default").document
    promised = {"clauses": ["house.1"], "announced": "30d", "grace": "90d"}
    found = [
        Policy.from_released(dict(document, version=str(n), effective=made(day), amendments=promised)) for n, day in enumerate(sorted(days))
    ]
    left = None if terminated is None else made(terminated)
    time = FIRST + at * DAY + 7
    turns = [turn for turn in changes(found, left) if turn <= time]
    if turns:
        assert version_at(found, time, left) is version_at(found, turns[-1], left)


def catalogue(**more):
    service = {
        "id": "vps-1", "customer": "c-1", "account_type": "business", "location": "main", "nodes": ["kvm1"], "pool": None,
        "guest": {"name": "g", "uuid": None}, "nics": [{"mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1"], "prefixes": [], "shared": [], "floating": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None, **more,
    }
    return {
        "format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"],
        "nodes": {"kvm1": {"backend": "kvm", "location": "main", "address": "192.0.2.250", "vars": {}}}, "services": {"vps-1": service},
    }


@pytest.fixture
def ledger(tmp_path):
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as opened:
        yield opened


def release(ledger, policies, now, document=None, **more):
    with ledger.transaction(actor="alice", now=now) as tx:
        done = requests.release_files(tx, policies[0], {p.key: p for p in policies}, document or catalogue(), **more)
        tx.adopt("kvm1", done["release_id"])
        tx.set_node_release("kvm1", done["release_id"])
    return done


def test_a_node_knows_the_change_before_its_day(ledger, versions):
    release(ledger, versions, FIRST)
    with ledger.read(now=FIRST) as tx:
        snapshot = tx.snapshot("kvm1")
    policies = {key: Policy.from_released(document) for key, document in snapshot["policies"].items()}
    node = {"name": "kvm1", "location": "main", "uplinks": [], "bridges": ["br0"], "routed_interfaces": []}
    turn = effective_at(versions[1])

    def mode(now):
        return resolve(policies, snapshot, node, now).desired["services"][0]["smtp"]["mode"]

    assert (mode(turn - 1), mode(turn)) == ("observe", "enforce")
    later = resolve(policies, snapshot, node, FIRST).desired["services"][0]["then"]
    assert any(entry.get("at") == turn for entry in later), later


def test_an_open_case_is_judged_by_the_version_it_was_opened_under(ledger, write):
    first = load_policy(write("1", "2026-01-01"))
    path = write("2", "2027-06-01")
    with open(path, "a", encoding="utf-8") as handle:
        handle.write("violations: {spam: {ladder: [{enforcement: suspend, duration: 1h, mode: act}]}}\n")
    second = load_policy(path)
    release(ledger, [first], FIRST)
    with ledger.transaction(actor="alice", now=FIRST + DAY) as tx:
        requests.report_case(tx, "T-1", "vps-1", "spam")
    after = effective_at(second) + DAY
    release(ledger, [second], after, accept_unannounced=True)
    with ledger.transaction(actor="alice", now=after) as tx:
        old = respond(tx, service="vps-1", violation="spam", case="T-1", confirmed=True)
        new = respond(tx, service="vps-1", violation="spam", case="T-2", confirmed=True)
    assert [(e["kind"], e["policy_key"]) for e in old["enforcements"]] == [("smtp_block", "house@1")]
    assert [(e["kind"], e["policy_key"]) for e in new["enforcements"]] == [("suspend", "house@2")]


def test_a_change_sooner_than_promised_is_refused(ledger, versions, write):
    release(ledger, versions[:1], FIRST)
    soon = load_policy(write("3", iso(FIRST + 29 * DAY)[:10]))
    with pytest.raises(AupError) as caught:
        release(ledger, [versions[0], soon], FIRST)
    assert "30 days ahead" in str(caught.value) and "2027-01-31" in str(caught.value)
    release(ledger, [versions[0], soon], FIRST, accept_unannounced=True)
    release(ledger, [versions[0], soon], FIRST + DAY)


def test_a_change_in_time_or_of_words_alone_is_not(ledger, versions, write):
    release(ledger, versions[:1], FIRST)
    release(ledger, [versions[0], load_policy(write("3", "2027-01-31"))], FIRST)
    release(ledger, [versions[0], load_policy(write("4", "2027-01-01", mode="observe"))], FIRST)


def test_the_version_until_then_must_be_named(ledger, versions):
    release(ledger, versions[:1], FIRST)
    with pytest.raises(AupError) as caught:
        release(ledger, versions[1:], FIRST)
    assert "house@2 is in force only from 2027-06-01" in str(caught.value) and "house@1" in str(caught.value)
    done = release(ledger, versions, FIRST)
    assert done["release"]["policy_keys"] == ["house@1", "house@2"]
    said = "\n".join(done["what"])
    assert "house@1 → house@2, in force from 2027-06-01:" in said and "control smtp_outbound" in said
    assert "→" not in "\n".join(release(ledger, versions, FIRST + DAY)["what"]), "told once"


def test_lists_of_files(write):
    one, two = write("1", "2026-01-01"), write("2", "2027-06-01")
    empty = {"services": {}}
    chosen, policies = policies_named([one, two], empty, ())
    assert chosen.key == "house@1" and sorted(policies) == ["house@1", "house@2"]
    assert sorted(policies_named([one, "xtom"], {"services": {"a": {"policy": "house@1"}, "b": {"policy": "asergo"}}}, ())[1]) == [
        load_policy("asergo").key, "house@1", "xtom@1"]
    for wrong in ([one, one], [one, write("3", "2026-01-01")]):
        with pytest.raises(PolicyError):
            policies_named(wrong, empty, ())
    for wrong in ([], {}, [1], None, [""]):
        with pytest.raises(AupError):
            policies_named(wrong, empty, ())
