# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices reach customers through a real SMTP server, once, whatever breaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mail_server import MailServer, make_ca

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._notices import _deliver, _requests
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._smtp import MailError

HERE = Path(__file__).parent


def test_one_measure_one_mail(desk):
    done = desk.hold("vps-1", case="T-1", note="{{ 7 }} internal: customer is difficult")
    assert any("notice N-1 (with_action)" in line for line in done["what"])
    desk.hold("vps-1", case="T-1")
    assert list(desk.notices()) == ["N-1"], "the same measure again owes no second notice"
    sent = desk.send()
    assert sent.counts == {"delivered": 1, "retry": 0, "failed": 0, "unknown": 0}
    assert desk.send().counts["delivered"] == 0
    (mail,) = desk.mail.mailbox.mails
    sender, recipients, _raw = desk.mail.mailbox.envelopes[0]
    assert (sender, recipients) == ("abuse@provider.example", ("owner1@customer.example",))
    assert mail["To"] == "owner1@customer.example" and mail["From"] == "Abuse desk <abuse@provider.example>"
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Message-ID"].startswith("<N-1.")
    body = mail.get_content()
    for part in ("vps-1", "house.2", "T-1", "outgoing mail is blocked", "abuse@provider.example", "What to do: "):
        assert part in body, body
    assert "difficult" not in body, "what people wrote for each other stays with them"
    assert "${" not in body and "${" not in mail["Subject"]
    with desk.ledger.read(now=desk.now) as tx:
        assert tx.verify()["ok"]
        log = json.dumps([event for event in tx.history("vps-1")])
    assert "customer.example" not in log, "no address in the event log"


def test_the_liable_party_of_a_reseller_is_told_what_to_pass_on(desk):
    desk.hold("resold", case="T-1")
    desk.send()
    (mail,) = desk.mail.mailbox.mails
    assert mail["To"] == "abuse@muster.example"
    assert "Muster GmbH" in mail.get_content() and "pass on to them" in " ".join(mail.get_content().split())
    with desk.ledger.read(now=desk.now) as tx:
        release = tx.release_contents(1)[2]
    assert "muster" not in json.dumps(release) and "customer.example" not in json.dumps(release)


def test_nobody_known_to_write_to_is_a_persons_task(desk):
    desk.hold("mute", case="T-1")
    assert desk.send().counts["failed"] == 1
    notice = desk.notices()["N-1"]
    assert notice["status"] == "failed" and "no contact" in notice["error"]
    listed = desk.ask(_requests.listed)
    assert "N-1" in listed["what"][0]
    assert "recipient" not in listed["notices"][0]
    assert "body" not in listed["notices"][0]


def test_not_now_is_tried_again_and_no_goes_to_a_person(desk):
    desk.hold("vps-1", case="T-1")
    desk.mail.mailbox.script[:] = ["451 4.3.0 try later"]
    assert desk.send().counts["retry"] == 1
    assert desk.send().counts == dict.fromkeys(("delivered", "retry", "failed", "unknown"), 0), "not before its time"
    first = desk.notices()["N-1"]
    assert first["next_at"] == desk.now + 1800 and "451" in first["error"]
    desk.now += 1800
    assert desk.send().counts["delivered"] == 1
    assert desk.notices()["N-1"]["attempts"] == 2
    desk.hold("vps-2", case="T-2")
    desk.hold("vps-3", case="T-3")
    desk.mail.mailbox.script[:] = ["rcpt 550 5.1.1 no such user", "554 5.7.1 refused"]
    sent = desk.send()
    assert sent.counts["failed"] == 2, sent.lines
    assert [n["status"] for n in desk.notices().values()] == ["delivered", "failed", "failed"]
    desk.ask(L.release_notice, "N-2", "address corrected")
    assert desk.send().counts["delivered"] == 1
    assert len(desk.mail.mailbox.mails) == 2


def test_days_of_not_now_end_with_a_person(desk):
    desk.hold("vps-1", case="T-1")
    for _try in range(30):
        desk.mail.mailbox.script[:] = ["450 4.2.1 busy"]
        desk.send()
        notice = desk.notices()["N-1"]
        if notice["status"] == "failed":
            break
        desk.now = notice["next_at"]
    assert notice["status"] == "failed"
    assert 4 * 86400 <= desk.now - notice["opened_at"] <= 5 * 86400
    assert 10 <= notice["attempts"] <= 25


def test_a_connection_cut_before_the_last_line_took_nothing(desk):
    desk.hold("vps-1", case="T-1")
    desk.mail.mailbox.script[:] = ["cut"]
    sent = desk.send()
    assert sent.counts["retry"] == 1, sent.lines
    assert "nothing was taken" in sent.lines[0]
    desk.now += 1800
    assert desk.send().counts["delivered"] == 1
    assert len(desk.mail.mailbox.mails) == 1


def test_a_connection_cut_after_the_last_line_is_unknown_until_a_person_says(desk):
    desk.hold("vps-1", case="T-1")
    desk.mail.mailbox.script[:] = ["take, then cut"]
    sent = desk.send()
    assert sent.counts["unknown"] == 1, sent.lines
    assert desk.notices()["N-1"]["status"] == "unknown"
    desk.now += 7 * 86400
    assert desk.send().counts == dict.fromkeys(("delivered", "retry", "failed", "unknown"), 0), "never again by itself"
    assert len(desk.mail.mailbox.mails) == 1
    done = desk.ask(_requests.delivered, {"notice": "N-1", "note": "the server's log has it"})
    assert done["changed"] and desk.notices()["N-1"]["status"] == "delivered"


def test_a_policy_may_have_unknown_ones_sent_again_with_the_same_id(desk, tmp_path):
    from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

    (tmp_path / "p.yml").write_text(
        "schema: 1\nname: sure\nversion: '1'\neffective: 2026-01-01\nprovider: {name: P}\nextends: default\n"
        "notices: {with_action: {unknown: resend}}\n"
    )
    desk.policy(load_policy(tmp_path / "p.yml"))
    desk.hold("vps-1", case="T-1")
    desk.mail.mailbox.script[:] = ["take, then cut"]
    assert desk.send().counts["unknown"] == 1
    assert desk.send().counts["delivered"] == 1
    first, second = desk.mail.mailbox.envelopes
    assert first == second, "the same mail to the byte: who sorts out doubles by Message-ID sees one"


def test_a_server_that_never_answers_is_cut_off(desk):
    desk.hold("vps-1", case="T-1")
    desk.mail.mailbox.script[:] = ["take, then nothing"]
    started = time.monotonic()
    sent = desk.send(timeout=60, limit=2)
    assert time.monotonic() - started < 30
    assert sent.counts["unknown"] == 1, sent.lines


def test_a_server_that_only_trickles_its_greeting(desk):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        desk.hold("vps-1", case="T-1")
        with pytest.raises(MailError) as caught:
            desk.send(port=listener.getsockname()[1], limit=1, timeout=60)
    assert caught.value.retryable
    notice = desk.notices()["N-1"]
    assert (notice["status"], notice["attempts"]) == ("queued", 0), "a server not reached is no attempt"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"password": "wrong"}, "mail_auth"),
        ({"host": "127.0.0.1"}, "mail_certificate"),
        ({"ca_file": None}, "mail_certificate"),
        ({"port": 1}, "mail_unreachable"),
    ],
)
def test_a_server_that_can_not_be_trusted_or_reached_gets_nothing(desk, how, code):
    desk.hold("vps-1", case="T-1")
    desk.hold("vps-2", case="T-2")
    with pytest.raises(MailError) as caught:
        desk.send(**how)
    assert caught.value.code == code
    assert "wrong" not in str(caught.value)
    assert {n["status"] for n in desk.notices().values()} == {"queued"}
    assert desk.mail.mailbox.mails == []
    assert desk.send().counts["delivered"] == 2


def test_a_certificate_of_another_ca_and_implicit_tls(desk, tmp_path, authority):
    desk.hold("vps-1", case="T-1")
    other = MailServer(make_ca(tmp_path, "other CA")[1]("localhost"), implicit=True)
    own = MailServer(authority[1]("localhost"), implicit=True)
    try:
        with pytest.raises(MailError) as caught:
            desk.send(port=other.port, tls="implicit")
        assert caught.value.code == "mail_certificate"
        assert desk.send(port=own.port, tls="implicit", username=None, password=None).counts["delivered"] == 1
        assert len(own.mailbox.mails) == 1
        assert other.mailbox.mails == []
    finally:
        other.close()
        own.close()


# What a process of its own does, so that it can be killed: {kill} is the method after or before which it dies.
CHILD = """
import os, signal, sys
sys.path.insert(0, {here!r})
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._notices import _deliver, _smtp
import conftest
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
where = {where!r}
if where == "before the last line":
    real = _smtp.smtplib.SMTP.send
    def send(self, data):
        if data == b".\\r\\n": die()
        return real(self, data)
    L_record = L.record_dot
    L.record_dot = lambda *a, **k: die()
elif where == "before the answer":
    real = _smtp.smtplib.SMTP.getreply
    def getreply(self):
        if sent: 
            reply = real(self)
            die()
        return real(self)
    sent = []
    real_send = _smtp.smtplib.SMTP.send
    def send(self, data):
        real_send(self, data)
        if data == b".\\r\\n": sent.append(1)
    _smtp.smtplib.SMTP.send = send
    _smtp.smtplib.SMTP.getreply = getreply
elif where == "after the receipt":
    L.notice_delivered = die
class Mail: port = {port}
ledger = L.open_ledger({url!r})
server = _smtp.Server("localhost", {port}, ca_file={ca!r}, username=conftest.USER, password=conftest.PASSWORD, timeout=20, limit=30)
_deliver.Outbox(ledger, server, conftest.CATALOGUE["services"], "abuse@provider.example", None,
                _deliver.Receipts({receipts!r}), "timer", lambda: {now}).run()
"""


@pytest.mark.parametrize(
    ("where", "taken", "after", "in_all"),
    [
        ("before the last line", 0, "retry", 1),
        ("before the answer", 1, "unknown", 1),
        ("after the receipt", 1, "delivered", 1),
    ],
)
def test_a_sender_that_is_killed(desk, where, taken, after, in_all):
    desk.report("vps-1", case="T-1")
    code = CHILD.format(
        here=str(HERE), where=where, port=desk.mail.port, url=desk.url, ca=desk.ca,
        receipts=str(desk.directory / "receipts"), now=desk.now,
    )
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(desk.mail.mailbox.mails) == taken
    assert desk.notices()["N-1"]["status"] == "sending"
    assert desk.send(receipts=True).lines == [], "its lease is not over: it may still live"
    desk.now += 30 + _deliver.MARGIN
    settled = desk.send(receipts=True)
    assert settled.counts[after] == 1, settled.lines
    if after == "delivered":
        notice = desk.notices()["N-1"]
        assert notice["delivered_at"] == desk.now - 30 - _deliver.MARGIN, "its clock began when the server took it"
        assert list((desk.directory / "receipts").iterdir()) == []
    desk.now += 7 * 86400
    desk.send(receipts=True)
    assert len(desk.mail.mailbox.mails) == in_all


def test_two_senders_at_once_send_each_notice_once(desk):
    for number in range(1, 6):
        desk.hold("vps-%d" % number, case="T-%d" % number)
    code = CHILD.format(
        here=str(HERE), where="", port=desk.mail.port, url=desk.url, ca=desk.ca, receipts=str(desk.directory / "receipts"), now=desk.now
    )
    both = [subprocess.Popen([sys.executable, "-c", code], env=os.environ, stderr=subprocess.PIPE, text=True) for _one in range(2)]
    for process in both:
        _out, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
    assert sorted(m["Message-ID"].partition(".")[0] for m in desk.mail.mailbox.mails) == ["<N-%d" % n for n in range(1, 6)]
    assert {n["status"] for n in desk.notices().values()} == {"delivered"}


def test_what_comes_back_stops_the_clock_and_goes_to_a_person(desk, tmp_path):
    desk.report("vps-1", case="T-1")
    desk.send()
    notice = desk.notices()["N-1"]
    assert notice["deadline"] == "running"
    maildir = tmp_path / "new"
    maildir.mkdir()
    (maildir / "1").write_bytes(_report("failed", desk.mail.mailbox.mails[0]["Message-ID"]))
    (maildir / "2").write_bytes(_report("delayed", desk.mail.mailbox.mails[0]["Message-ID"]))
    (maildir / "3").write_bytes(b"From: x\r\n\r\nMessage-ID: %s failed\r\n" % str(desk.mail.mailbox.mails[0]["Message-ID"]).encode())
    (maildir / "4").write_bytes(os.urandom(4096))
    done = desk.ask(_requests.bounced, {"notice": None, "note": None, "mail": str(maildir)})
    assert done["changed"] and len(done["notices"]) == 1
    notice = desk.notices()["N-1"]
    assert (notice["status"], notice["deadline"]) == ("bounced", "stopped")
    assert "5.1.1" in notice["error"]
    again = desk.ask(_requests.bounced, {"notice": None, "note": None, "mail": str(maildir)})
    assert not again["changed"]
    assert any("N-1" in line for line in desk.ask(_requests.listed)["what"])


def _report(action, message_id):
    return (
        "From: MAILER-DAEMON@mx.example\r\nTo: abuse@provider.example\r\nSubject: undeliverable\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nsorry\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        "Final-Recipient: rfc822; owner1@customer.example\r\nAction: %s\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 no such user\r\n\r\n"
        "--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: %s\r\nTo: owner1@customer.example\r\n\r\n--b--\r\n"
        % (action, message_id)
    ).encode()


def test_held_after_and_erased(desk, tmp_path):
    from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

    (tmp_path / "p.yml").write_text(
        "schema: 1\nname: quiet\nversion: '1'\neffective: 2026-01-01\nprovider: {name: P, abuse_contact: desk@p.example}\nextends: default\n"
        "notices: {secret: {timing: held}, later: {timing: after, subject: 'Later: ${service}', text: 'cost $$5, ${what} ${contact}'}}\n"
        "violations: {malware: {notice: secret}, spam: {notice: later}}\n"
    )
    desk.policy(load_policy(tmp_path / "p.yml"))
    desk.hold("vps-1", "malware", "quarantine", case="T-1")
    after = desk.hold("vps-2", case="T-2")["enforcements"][0]["id"]
    never = desk.hold("vps-3", case="T-3")["enforcements"][0]["id"]
    assert desk.send().lines == [], "neither the one held back nor those whose measure nobody has seen"
    assert [n["status"] for n in desk.notices().values()] == ["held", "waiting", "waiting"]
    with desk.ledger.transaction(actor="run", now=desk.now) as tx:
        run = tx.start_run("reconcile")
        tx.lift(enforcement_id=never)
        tx.record_result(run, "kvm1", "changed", {}, [{"service": "vps-2", "enforcement_ids": [after]}], ended_ids=[never])
    assert desk.send().counts["delivered"] == 1
    (mail,) = desk.mail.mailbox.mails
    assert mail["Subject"] == "Later: vps-2" and mail.get_content().strip().startswith("cost $5, ")
    assert "desk@p.example" in mail.get_content()
    assert [n["status"] for n in desk.notices().values()] == ["held", "delivered", "cancelled"]
    desk.ask(_requests.released, {"notice": "N-1", "note": "the police agreed"})
    assert desk.send().counts["delivered"] == 1
    with desk.ledger.transaction(actor="dpo", now=desk.now) as tx:
        tx.erase_details(service="vps-2", reason="request")
        erased = {n["id"]: n for n in L.notices(tx, ("delivered",))}["N-2"]
        assert (erased["recipient"], erased["subject"], erased["body"], erased["facts"]) == (None, None, None, None)
        assert tx.verify()["ok"]
