# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices about no case: used transfer, and a version to come. Over a real SMTP server, each once."""

from __future__ import annotations

import copy

import pytest
from conftest import CATALOGUE, NOW, service_of

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import due_lines, status_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._usage import WINDOW
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_requests import meter

TB, DAY = 10**12, 86400
HEAD = """schema: 1
name: p
version: "1"
effective: 2026-01-01
provider: {name: P, abuse_contact: desk@p.example}
extends: default
clauses: {p.1: {summary: Changes are told 30 days ahead.}, p.2: {summary: A service has its transfer.}}
amendments: {clauses: p.1, effective_on: publication, announced: 30d, grace: 90d}
"""
TRANSFER = """violations:
  above:
    {clause: p.2, fault: customer, fees: more, notice: with_action,
     ladder: [{enforcement: bandwidth_cap, until: remedied, review: 30d, options: {rate: 10 Mbit/s}}]}
fees: {more: {amount: "9.00", currency: EUR, per: TB, rounding: started, clause: p.2}}
transfer: {violation: above, mode: cap_until_paid, clause: p.2}
"""


@pytest.fixture
def policy(tmp_path):
    def load(text, name="p.yml"):
        (tmp_path / name).write_text(text)
        return load_policy(tmp_path / name)
    return load


def metered(desk, at, received):
    desk.now = NOW + at
    samples = [{"uuid": "?", "name": "vps-1", "mac": "52:54:00:00:00:01", "counter": "boot/1", "received": received, "sent": 0}]
    return desk.ask(meter, {"kvm1": {"taken_at": desk.now, "samples": samples}}, ["kvm1"])


@pytest.fixture
def counted(desk, policy, monkeypatch):
    """A desk whose vps-1 has 2 TB in 30 days, and was seen once."""
    services = CATALOGUE["services"]
    monkeypatch.setitem(services, "vps-1", dict(services["vps-1"], plan={"transfer_bytes": 2 * TB, "transfer_from": NOW}))
    desk.policy(policy(HEAD + TRANSFER))
    metered(desk, 60, 0)
    return desk


def test_80_and_100_percent_are_told_once_each_window_and_the_cap_with_them(counted):
    desk = counted
    assert metered(desk, 120, int(1.59 * TB))["told"] == []
    done = metered(desk, 180, int(1.7 * TB))
    assert "notice N-1 (transfer) waits to be sent" in done["what"][1]
    metered(desk, 240, int(1.8 * TB))
    assert desk.send().counts["delivered"] == 1
    (mail,) = desk.mail.mailbox.mails
    begins = NOW - NOW % DAY
    said = " ".join(mail.get_content().split())
    assert mail["To"] == "owner1@customer.example" and mail["Subject"] == "Service vps-1 has used 80 % of its transfer"
    for part in ("1.700 TB (1700000000000 bytes) of 2.000 TB", "from %s to %s" % (iso(begins), iso(begins + WINDOW)), "p.2", "desk@p.example",
                 "limited to 10 Mbit/s until the window ends or more is bought (9.00 EUR per TB (10^12 bytes) begun [p.2])"):
        assert part in said, (part, said)
    metered(desk, 300, int(2.1 * TB))
    assert [(n["name"], n["timing"], n["case_id"] is None) for n in desk.notices().values()] == [
        ("transfer", "transfer", True), ("transfer", "transfer", True), ("with_action", "with", False)]
    assert desk.send().counts["delivered"] == 2
    assert desk.mail.mailbox.mails[1]["Subject"] == "Service vps-1 has used 100 % of its transfer"
    with desk.ledger.read(now=desk.now) as tx:
        assert tx.verify()["ok"] and L.running_deadlines(tx) == []
    # The next window begins anew.
    metered(desk, WINDOW + 60, int(2.1 * TB))
    metered(desk, WINDOW + 120, int(3.75 * TB))
    assert desk.send().counts["delivered"] == 1 and desk.mail.mailbox.mails[-1]["Subject"].endswith("has used 80 % of its transfer")


@pytest.mark.parametrize(("word", "outcome"), [("cut", "queued"), ("451 4.3.0 later", "queued"), ("take, then cut", "unknown")])
def test_whatever_breaks_it_is_told_once(counted, word, outcome):
    desk = counted
    metered(desk, 180, int(1.7 * TB))
    desk.mail.mailbox.script[:] = [word]
    desk.send()
    assert desk.notices()["N-1"]["status"] == outcome
    desk.now += 3600
    assert outcome != "unknown" or "about transfer/vps-1/" in " ".join(status_lines(_status(desk)))
    if outcome == "unknown":
        desk.ask(L.release_notice, "N-1", "the mail server's log has it not")
    desk.send()
    assert desk.notices()["N-1"]["status"] == "delivered" and desk.send().counts["delivered"] == 0
    assert len({m["Message-ID"] for m in desk.mail.mailbox.mails}) == 1


def _status(desk):
    with desk.ledger.read(now=desk.now) as tx:
        return L.status(tx)


def test_a_pass_that_dies_has_told_nothing_and_the_next_one_does(counted):
    desk = counted
    with pytest.raises(RuntimeError), desk.ledger.transaction(actor="timer", now=NOW + 180) as tx:
        samples = [{"uuid": "?", "name": "vps-1", "mac": "52:54:00:00:00:01", "counter": "boot/1", "received": int(1.9 * TB), "sent": 0}]
        assert meter(tx, {"kvm1": {"taken_at": NOW + 180, "samples": samples}}, ["kvm1"])["told"]
        raise RuntimeError("killed")
    assert desk.notices() == {}
    metered(desk, 200, int(1.9 * TB))
    metered(desk, 201, int(1.9 * TB))
    assert len(desk.notices()) == 1


def test_a_text_of_the_policys_own_with_its_own_fields(counted, policy):
    own = "notices:\n  usage: {timing: transfer, subject: '${percent} of ${service}', text: 'Used: ${used}. ${action}', unknown: resend}\n"
    head, transfer = HEAD.replace("announced: 30d, ", ""), TRANSFER.replace("mode: cap_until_paid", "mode: cap_until_paid, notice: usage")
    counted.policy(policy(head.replace("name: p", "name: own") + transfer + own))
    metered(counted, 180, int(1.7 * TB))
    counted.send()
    assert counted.mail.mailbox.mails[-1]["Subject"] == "80 of vps-1" and counted.notices()[list(counted.notices())[-1]]["name"] == "usage"


@pytest.mark.parametrize(("text", "place"), [
    ("notices: {usage: {timing: transfer, text: '${case}'}}\n", "notices.usage.text"),
    ("notices: {usage: {timing: amendment, text: '${percent}'}}\n", "notices.usage.text"),
    ("notices: {usage: {timing: with, text: '${percent}'}}\n", "notices.usage.text"),
    (TRANSFER.replace("mode: cap_until_paid", "mode: cap_until_paid, notice: with_action"), "transfer.notice"),
    (TRANSFER.replace("notice: with_action", "notice: usage") + "notices: {usage: {timing: transfer}}\n", "violations.above.notice"),
    (TRANSFER.replace("mode: cap_until_paid", "mode: cap_until_paid, notice: nowhere"), "transfer.notice"),
])
def test_a_notice_in_the_wrong_place_is_refused(policy, text, place):
    with pytest.raises(PolicyError) as caught:
        policy(HEAD + text)
    assert place in str(caught.value)


def new_version(policy, effective, change=None):
    document = copy.deepcopy(policy.document)
    document.update(version="2", effective=effective)
    if change is None:
        document["violations"]["spam"]["fault"] = "unknown"
        document["violations"]["spam"]["fees"] = []
    else:
        change(document)
    return Policy.from_document(document)


def release(desk, *policies, **more):
    return desk.ask(requests.release_files, policies[0], {p.key: p for p in policies}, CATALOGUE, **more)


def test_a_version_is_told_to_each_customer_it_concerns_once(desk, policy, monkeypatch):
    old = policy(HEAD)
    services = CATALOGUE["services"]
    nic = dict(services["vps-1"]["nics"][0], mac="52:54:00:00:01:01", addresses=["192.0.2.101"])
    monkeypatch.setitem(services, "vps-9", service_of("vps-9", 1, nics=[nic]))
    monkeypatch.setitem(services, "resold-2", service_of("resold-2", 22, liable=services["resold"]["liable"]))
    desk.policy(old)
    new = new_version(old, iso(NOW + 32 * DAY)[:10])
    with desk.ledger.transaction(check=True, actor="alice", now=desk.now) as tx:
        checked = requests.release_files(tx, old, {old.key: old, new.key: new}, CATALOGUE)
        assert not [one for one in tx.pending if one["verb"] == "queue_notice"], "nodes have nothing to replay of it"
    assert desk.notices() == {}
    done = release(desk, old, new)
    assert checked["what"] == done["what"]
    assert any("10 notices of p@2 to customers wait to be sent" in line for line in done["what"]), done["what"]
    again = release(desk, old, new)
    assert not again["changed"] and "notices of p@2" not in " ".join(again["what"])
    assert desk.send().counts == {"delivered": 9, "retry": 0, "failed": 1, "unknown": 0}
    assert desk.send().counts["delivered"] == 0
    to = sorted(m["To"] for m in desk.mail.mailbox.mails)
    # A customer with two services, and a reseller with two, once each.
    assert to == sorted(["abuse@muster.example", *("owner%d@customer.example" % n for n in range(1, 9))])
    mail = next(m for m in desk.mail.mailbox.mails if m["To"] == "owner1@customer.example")
    said = " ".join(mail.get_content().split())
    for part in ("vps-1, vps-9", "p@1 becomes p@2; clause p.1", "violation spam", "keeps the prior version for 90 days", new.effective):
        assert part in said, (part, said)
    assert "${" not in said
    status = _status(desk)
    assert "muster" not in str(status).lower() and status["late"] == []
    with desk.ledger.read(now=desk.now) as tx:
        assert tx.verify()["ok"] and "muster" not in str([e["refs"] for e in tx.history("resold")]).lower()


def test_told_too_late_waits_for_a_person_until_it_no_longer_matters(desk, policy):
    old = policy(HEAD)
    desk.policy(old)
    effective = NOW - NOW % DAY + 31 * DAY
    release(desk, old, new_version(old, iso(effective)[:10]))
    assert _status(desk)["late"] == []
    desk.now += 5 * DAY  # the mail server was down
    (line, *_others) = [one for one in status_lines(_status(desk)) if "LATE" in one]
    assert "is not delivered yet" in line and "owed is 720h ahead" in line and "name p@1" in line
    assert any("told of p@2 later than promised" in one for one in due_lines(_status(desk), DAY))
    desk.send()
    late = _status(desk)["late"]
    assert all("was delivered %s" % iso(desk.now) in one and iso(desk.now + 31 * DAY)[:10] in one for one in late[:1]) and len(late) == 10
    desk.now += 30 * DAY
    assert [one for one in _status(desk)["late"] if "was delivered" in one] == []


def test_what_is_not_material_or_not_promised_is_not_told(desk, policy):
    old = policy(HEAD)
    desk.policy(old)
    words = new_version(old, iso(NOW + 40 * DAY)[:10], lambda document: document["clauses"]["p.1"].update(summary="Told 30 days before."))
    release(desk, old, words)
    assert desk.notices() == {}
    with pytest.raises(InputError) as caught:
        release(desk, old, new_version(old, iso(NOW + 40 * DAY)[:10]))
    assert "p@2 was released with other words" in str(caught.value), "the same version can't mean something else the next day"
    document = copy.deepcopy(new_version(old, iso(NOW + DAY)[:10]).document)
    document["version"] = "3"
    with pytest.raises(InputError) as caught:
        release(desk, old, Policy.from_document(document))
    assert "30 days ahead" in str(caught.value) and desk.notices() == {}


def test_a_policy_without_promise_tells_where_it_names_a_notice(desk, policy):
    quiet = policy(HEAD.replace(", announced: 30d, grace: 90d", ""))
    desk.policy(quiet)
    release(desk, quiet, new_version(quiet, iso(NOW + 2 * DAY)[:10]))
    assert desk.notices() == {}
    head = HEAD.replace("name: p\n", "name: q\n").replace(", announced: 30d, grace: 90d", ", notice: news")
    loud = policy(head + "notices: {news: {timing: amendment, subject: 'News of ${policy}'}}\n")
    desk.policy(loud)
    release(desk, loud, new_version(loud, iso(NOW + 2 * DAY)[:10]))
    assert {n["name"] for n in desk.notices().values()} == {"news"}
    assert _status(desk)["late"] == [], "nothing was promised"
