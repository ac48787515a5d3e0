# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from what under the five AUPs, as a table to be read beside their texts.

The table is written by hand, from the texts. A row says for which policy, violation, place (location/account type,
`*` for any) and add-ons: whose fault, the steps (a step of alternatives with `or`, proposed ones with `?`, those that
wait for something with what they wait for), fees and when the customer is told. `allowed` stands for all of these.
"""

from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report import course, grouped, matrix
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._matrix import spared_ladder

STRICT = ["falkenstein", "finland", "dusseldorf", "dusseldorf-2"]
LENIENT = ["moscow", "other"]

TABLE = """
# policy | violation | place | add-ons | clause | fault | steps | fees | notice

# The same trigger, an attacked service: 48 hours, suspension without fault, or nothing stated.
alteron  | attack_target | */* |                 | 9  | none     | suspend 48h; null_route or suspend (persists) | - | with
alteron  | attack_target | */* | ddos_mitigation | 9  | none     | suspend 48h                                   | - | with
xtom     | attack_target | */* |                 | 32 | none     | suspend remedied; terminate? (harms_others)   | - | -
xtom     | disrupts_others | */* |               | 32 | unknown  | suspend remedied                              | - | -

# Spam: deactivated on any sign, or mail closed first.
alteron  | spam | */* | | 4   | customer | suspend decision; terminate? (repeated)                             | clean_up | after
xtom     | spam | */* | | 5   | customer | smtp_block remedied; suspend decision (persists); terminate? (repeated) | - | -
metrovps | spam | */* | | 10  | customer | smtp_block remedied; suspend decision (persists); terminate? (repeated) | - | with
asergo   | spam | */* | | 10  | customer | smtp_block remedied; suspend decision (persists)                    | - | with
location | spam | */* | | 1.4 | customer | smtp_block remedied; suspend decision (persists)                    | - | with

# Alteron.
alteron  | compromised       | */* |                         | 15 | unknown  | quarantine remedied        | -          | with
alteron  | compromised       | */* | fully_managed           | 14 | none     | quarantine remedied        | -          | with
alteron  | compromised       | */* | firewall_administration | 14 | none     | quarantine remedied        | -          | with
alteron  | compromised       | */* | security_administration | 14 | none     | quarantine remedied        | -          | with
alteron  | compromised       | */* | ddos_mitigation         | 15 | unknown  | quarantine remedied        | -          | with
alteron  | transfer_exceeded | */* |                         | 20 | customer | bandwidth_cap remedied     | transfer   | with
alteron  | transfer_exceeded | */* | unmetered               | 18 | allowed  |                            |            |
alteron  | malware           | */* |                         | 24 | unknown  | quarantine decision; terminate? | clean_up | with
alteron  | unanswered_report | */* | | 35 | customer | suspend remedied (unanswered); terminate? (unanswered) | clean_up | before
alteron  | affects_operation | */* | | 36 | unknown  | quarantine or suspend or null_route                    | -        | after
alteron  | nonpayment        | */* | | 41 | customer | suspend remedied; terminate? (persists)                | -        | with
alteron  | invalid_chargeback | */* | | 31 | customer | -                                                     | chargeback | -
alteron  | scanning          | */* | | 6  | customer | quarantine remedied; suspend decision (repeated)       | clean_up | with

# xTom.
xtom | blacklisting         | */* | | 9  | customer | smtp_block remedied             | delisting delisting_hour | -
xtom | tor_exit             | */* | | 29 | customer | quarantine remedied             | - | -
xtom | irc_server           | */* | | 25 | customer | port_block remedied             | - | -
xtom | adult_content        | */* | | 27 | customer | suspend remedied                | - | -
xtom | child_abuse_material | */* | | 17 | unknown  | suspend decision                | - | held
xtom | abuse_within_network | */* | | 24 | customer | suspend decision; terminate?    | - | -

# MetroVPS: no fault for the merely busy; no relays closed without a word.
metrovps | excessive_cpu | */* | | 22 | none     | cpu_throttle 24h                                             | - | with
metrovps | mining        | */* | | 35 | customer | cpu_throttle remedied; suspend decision (persists)           | - | with
metrovps | open_service  | */* | | 20 | unknown  | port_block remedied (unanswered); suspend decision (persists) | - | before
metrovps | tor_exit      | */* | | 31 | customer | quarantine remedied (unanswered); suspend decision (repeated) | - | before
metrovps | spoofing      | */* | | 16 | customer | quarantine remedied; suspend decision (repeated)             | - | with
metrovps | child_abuse_material | */* | | 4 | unknown | suspend decision                                         | - | held

# Asergo.
asergo | foreign_addresses | */* | | 20 | customer | suspend remedied             | - | with
asergo | grave_crime       | */* | | 15 | customer | suspend decision                | - | held
asergo | proof_not_shown   | */* | | 13 | customer | suspend remedied (unanswered)   | - | before
asergo | high_risk_use     | */* | | 6  | customer | -                               | - | before

# By location: four where all of it is forbidden, elsewhere only plotting.
location | mining   | STRICT/*  | | 2.7 | customer | cpu_throttle remedied; suspend 48h (persists) | - | with
location | mining   | LENIENT/* | | 3.4 | allowed  | | |
location | farming  | STRICT/*  | | 2.7 | customer | suspend 48h (unanswered)                      | - | before
location | farming  | LENIENT/* | | 3.4 | allowed  | | |
location | plotting | STRICT/*  | | 2.7 | customer | io_throttle remedied; suspend 48h (persists)  | - | with
location | plotting | LENIENT/* | | 3.4 | customer | io_throttle remedied; suspend 48h (persists)  | - | with
location | adult_content | falkenstein/*  | | 3.1 | customer | suspend? remedied (unanswered) | - | before
location | adult_content | finland/*      | | 3.1 | customer | suspend? remedied (unanswered) | - | before
location | adult_content | moscow/*       | | 3.1 | customer | suspend? remedied (unanswered) | - | before
location | adult_content | dusseldorf/*   | | 3.1 | allowed  | | |
location | adult_content | dusseldorf-2/* | | 3.1 | allowed  | | |
location | adult_content | other/*        | | 3.1 | allowed  | | |
# By account type: own use is free to all, a company's internal tasks to business accounts.
location | vpn_own_use        | */*        | | 3.2 | allowed  | | |
location | vpn_internal_tasks | */business | | 3.2 | allowed  | | |
location | vpn_internal_tasks | */personal | | 3.2 | unknown  | -                                                              | - | before
location | vpn_service        | */*        | | 2.1 | customer | port_block remedied (unanswered); suspend decision (persists)  | - | before
location | hosting_services   | */business | | 3.3 | allowed  | | |
location | hosting_services   | */personal | | 3.3 | unknown  | -                                                              | - | before
location | tor_exit           | */*        | | 2.3 | customer | quarantine remedied (unanswered)                               | - | before
location | torrents           | */*        | | 2.4 | customer | bandwidth_cap remedied (unanswered); suspend 48h (persists)    | - | before
"""


def rows():
    for line in TABLE.splitlines():
        if line.strip() and not line.startswith("#"):
            cells = [cell.strip() for cell in line.split("|")]
            assert len(cells) == 9, line
            yield pytest.param(*cells, id=" ".join(one for one in cells[:4] if one).replace("/", "-"))


def places(policy, place):
    """The (location, account type) pairs that a cell such as `STRICT/*` stands for."""
    location, account_type = place.split("/")
    known = {"*": sorted(policy.locations), "STRICT": STRICT, "LENIENT": LENIENT}
    types = sorted(policy.account_types) if account_type == "*" else [account_type]
    return [(one, kind) for one in known.get(location, [location]) for kind in types]


def short(step):
    """A step as the table writes it."""
    kinds = " or ".join(measure.enforcement for measure in step.alternatives)
    text = kinds + ("?" if step.mode == "propose" else "")
    if len(step.alternatives) == 1 and kinds != "terminate":
        one = step.alternatives[0]
        text += " " + ("%dh" % (one.seconds // 3600) if one.until == "time" else one.until)
    return text + (" (%s)" % step.after["condition"] if step.after else "")


@pytest.mark.parametrize("name, violation, place, addons, clause, fault, steps, fees, notice", list(rows()))
def test_outcome(name, violation, place, addons, clause, fault, steps, fees, notice):
    policy = load_policy(name)
    for location, account_type in places(policy, place):
        outcome = policy.violation(violation, location, account_type, addons.split())
        assert outcome.clause == "%s.%s" % (name, clause)
        assert outcome.allowed == (fault == "allowed")
        ladder = spared_ladder(outcome, addons.split())
        # What the deciding code does, call by call, is what the texts say.
        assert [turn.step for turn in course(policy, violation, location, account_type, addons.split())] == ladder
        if outcome.allowed:
            assert (outcome.fault, outcome.fees, outcome.notice, ladder) == ("none", (), None, [])
            continue
        timing = policy.notice(outcome.notice)["timing"] if outcome.notice else "-"
        assert (outcome.fault, "; ".join(short(step) for step in ladder) or "-") == (fault, steps)
        assert (" ".join(outcome.fees) or "-", timing) == (fees, notice)


@pytest.mark.parametrize("name", shipped_names())
def test_every_cell_of_the_matrix_keeps_the_rules_that_hold_for_all(name):
    policy = load_policy(name)
    cells = matrix(policy)
    wanted = len(policy.document["violations"]) * len(policy.locations) * len(policy.account_types)
    assert len(cells) == wanted * 2 ** len(policy.addons())
    for row in cells:
        where = (row["violation"], row["location"], row["account_type"], row["addons"])
        outcome = policy.violation(*where)
        assert row["clause"] in policy.clauses, where
        # The victim and the merely busy pay nothing; what is allowed has no consequence.
        assert not (row["fault"] == "none" and row["fees"]), where
        assert not (row["allowed"] and (row["steps"] or row["fees"] or row["notice"])), where
        for step in outcome.ladder:
            assert step.clause in policy.clauses, where
            kinds = {measure.enforcement for measure in step.alternatives}
            assert "terminate" not in kinds or step.mode == "propose", where


@pytest.mark.parametrize("name", shipped_names())
def test_the_table_for_reading_says_the_same_as_the_matrix(name):
    """Each row for reading stands for the cells it names, and every cell is in one."""
    policy = load_policy(name)
    read = {(row["violation"], row["addons"]): [] for row in grouped(policy)}
    for row in grouped(policy):
        read[row["violation"], row["addons"]].append((row["clause"], row["allowed"], row["steps"], row["fees"], row["notice"]))
    for cell in matrix(policy):
        if len(cell["addons"]) < 2:
            key = (cell["violation"], "".join(cell["addons"]))
            outcome = (cell["clause"], cell["allowed"], cell["steps"], cell["fees"], cell["notice"])
            assert outcome in read.get(key, read[cell["violation"], ""]), key


def test_attack_on_the_victim_never_costs_anything_under_any_policy():
    for name in shipped_names():
        policy = load_policy(name)
        if "attack_target" in policy.document["violations"]:
            outcome = policy.violation("attack_target", min(policy.locations), min(policy.account_types))
            assert (outcome.fault, outcome.fees) == ("none", ())
    assert "attack_target" not in load_policy("metrovps").document["violations"], "its text says nothing of it"


@pytest.mark.parametrize(
    "name, mode",
    [("xtom", "enforce"), ("default", "enforce"), ("alteron", "observe"), ("metrovps", "observe"),
     ("location", "observe"), ("asergo", "off")],
)
def test_only_xtom_and_the_house_rules_close_port_25(name, mode):
    policy = load_policy(name)
    for location in policy.locations:
        for account_type in policy.account_types:
            setting = policy.control("smtp_outbound", location, account_type)
            assert setting.mode == mode
            assert (setting.clause is None) == (mode == "off")


@pytest.mark.parametrize("name", ["alteron", "asergo", "xtom"])
def test_who_does_not_regulate_mining_torrents_or_tor_has_no_such_violation(name):
    """As `What is stated and what is not` has it."""
    policy = load_policy(name)
    unstated = {"mining", "farming", "plotting", "torrents"} | (set() if name == "xtom" else {"tor_exit", "irc_server"})
    assert not unstated & set(policy.document["violations"])
    for control in ("mining", "bittorrent"):
        assert policy.control(control, "main", "personal").mode == "off"


def test_mining_is_closed_at_four_locations_and_pools_stay_open_elsewhere():
    policy = load_policy("location")
    for location in STRICT + LENIENT:
        for account_type in ("personal", "business"):
            setting = policy.control("mining", location, account_type)
            assert setting.mode == ("enforce" if location in STRICT else "off")
    assert set(STRICT + LENIENT) == policy.locations


@pytest.mark.parametrize("location, account_type", [("paris", "personal"), ("moscow", "reseller"), (None, None)])
def test_an_unknown_location_or_account_type_is_an_error_and_never_a_default(location, account_type):
    policy = load_policy("location")
    for ask in (lambda: policy.violation("mining", location, account_type),
                lambda: policy.violation("spam", location or "nowhere", account_type),
                lambda: policy.control("mining", location, account_type),
                lambda: matrix(policy, "mining", location or "nowhere", account_type)):
        with pytest.raises(PolicyError, match="has no (location|account type)"):
            ask()


def test_fees_are_the_sums_of_the_texts():
    alteron, xtom = load_policy("alteron"), load_policy("xtom")
    wanted = {"amount", "maximum", "currency", "per", "rounding", "due"}
    found = {name: {key: value for key, value in fee.items() if key in wanted}
             for policy in (alteron, xtom) for name, fee in policy.document["fees"].items()}
    assert found == {
        "transfer": {"amount": "9.00", "currency": "EUR", "per": "TB", "rounding": "started", "due": "case"},
        "clean_up": {"amount": "60.00", "currency": "EUR", "per": "once", "due": "suspension"},
        "chargeback": {"amount": "50.00", "maximum": "150.00", "currency": "USD", "per": "once", "due": "case"},
        "delisting": {"amount": "50.00", "currency": "EUR", "per": "once", "due": "case"},
        "delisting_hour": {"amount": "50.00", "currency": "EUR", "per": "hour", "rounding": "started", "due": "case"},
    }
    for name in ("asergo", "metrovps", "location"):
        assert load_policy(name).document["fees"] == {}, "its text names no sum"


def test_each_suspension_over_a_violation_of_alteron_costs_the_clean_up_and_no_other():
    """The fee is for violations of the policy; not for victims, not for failing to pay, not while fault is open."""
    policy = load_policy("alteron")
    for row in matrix(policy):
        clean_up = any("60.00 EUR" in fee for fee in row["fees"])
        exempt = row["violation"] in ("nonpayment", "transfer_exceeded", "invalid_chargeback")
        # Malware may be an intruder's: the fee hangs on whose fault the case finds it to be.
        chargeable = row["fault"] == "customer" or row["violation"] == "malware"
        assert clean_up == (chargeable and not row["allowed"] and not exempt), row["violation"]
