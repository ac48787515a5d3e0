# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One case as a document and a page: whole, the same each time, and nobody else's; the page in a real browser."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import socket
import subprocess
import threading

import pytest

from ansible_collections.hosting.aup.plugins.action.case_export import file_stem
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _charge_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._case_page import case_page
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
ALTERON = load_policy("alteron")
HOSTILE = (
    '<script>document.title="pwned"</script><img src=http://evil.example/i onerror="document.title=1">'
    '</style></div><iframe src="http://evil.example/f"></iframe><link rel=stylesheet href=http://evil.example/c>'
    "\" onmouseover='document.title=2' {{ 7*7 }} &lt;b&gt; <!-- \u202e --> <a href=javascript:alert(1)>x</a>"
    "<style>@import url(http://evil.example/s);</style><meta http-equiv=refresh content='0;url=http://evil.example/r'>"
)


def story(ledger, service):
    """A case of two accounts, with all that a case can have; closed at the end."""
    catalogue = {"format": 1, "generated_at": None, "prefixes": [], "nodes": {"kvm1": {"backend": "kvm"}}, "services": {"vps-1": service}}
    other = dict(service, id="vps-9", customer="c-other")
    fees = {"clean_up": ALTERON.fee("clean_up"), "chargeback": ALTERON.fee("chargeback")}
    with ledger.transaction(actor="setup", now=NOW - 50) as tx:
        tx.create_release({ALTERON.key: ALTERON.document}, ALTERON.key, catalogue)
        tx.add_exemption(service="vps-1", control="smtp_outbound", clause="alteron.4", reason="secret reason " + HOSTILE)
        tx.add_exemption(service="vps-9", control="smtp_outbound", clause="alteron.4", reason="of another")
    with ledger.transaction(actor="alice " + HOSTILE, now=NOW) as tx:
        tx.open_case(case_id="T-1", service="vps-1", violation="spam", clause="alteron.4", fault="unknown", policy_key=ALTERON.key,
                     note="internal note " + HOSTILE, customer="c-77", fees=fees)
        # A case whose id contains this one's: none of its events belong here.
        tx.open_case(case_id="T-11", service="vps-5", violation="spam", policy_key=ALTERON.key, customer="c-55", note="foreign case")
        for one in (service, other):
            held = tx.open_enforcement(service_doc=one, policy_key=ALTERON.key, kind="suspend", case_id="T-1", violation="spam",
                                       clause="alteron.25", reason="unsolicited mail", starts_at=tx.now, ends_at=tx.now + 3600)
            tx.record_baselines("kvm1", [{"service": one["id"], "fields": {"running": True}, "digest": "ab" * 32}])
            tx.record_result(None, "kvm1", "changed", {}, [{"service": one["id"], "enforcement_ids": [held["id"]]}])
    with ledger.transaction(actor="bob", now=NOW + 60) as tx:
        requests.decide(tx, "T-1", "customer", "lawyer says so")
        requests.record_fee(tx, case="T-1", fee="chargeback", amount="75.00", account="c-77", note=HOSTILE)
        tx.export_charges()
        tx.waive_charge("F-1", reason="goodwill")
        told = tx.queue_notice(case_id="T-1", service="vps-1", name="after_action", timing="with", facts={}, enforcement_id="E-1", answer_seconds=3600)
        tx.queue_notice(case_id="T-1", service="vps-1", name="to_police_first", timing="held", facts={})
        claimed = tx.claim_notice(notice_id=told["id"], lease=60, role="customer", recipient="owner@example.net", subject="A measure",
                                  body="Your service was suspended. " + HOSTILE)
        tx.notice_delivered(notice_id=told["id"], claim=claimed["claim"])
    with ledger.transaction(actor="bob", now=NOW + 3700) as tx:
        tx.end_due()
        tx.record_result(None, "kvm1", "changed", {}, ended_ids=["E-1", "E-2"], baselines_closed=["vps-1", "vps-9"])
        tx.close_case("T-1", reason="cleaned up " + HOSTILE)


def read(ledger, view="internal", account=None, case="T-1"):
    with ledger.read(now=NOW + 9999) as tx:
        return tx.case_file(case, view, account)


def test_the_whole_case_from_trigger_to_closing(provisioned, service):
    story(provisioned, service)
    document = read(provisioned)
    assert document == read(provisioned) and case_page(document) == case_page(read(provisioned)), "the same each time"
    case = document["case"]
    assert (case["status"], case["fault"], case["clause"], case["accounts"]) == ("closed", "customer", "alteron.4", ["c-77", "c-other"])
    assert case["services"] == ["vps-1", "vps-9"] and case["provider"] == "Alteron"
    assert {one["clause"] for one in document["clauses"]} >= {"alteron.4", "alteron.25", "alteron.26", "alteron.31"}
    first = document["enforcements"][0]
    assert (first["status"], first["verified_at"], first["ended_at"]) == ("ended", "2027-01-15T08:00:00Z", "2027-01-15T09:01:40Z")
    assert first["prior_state"] == [{"digest": "ab" * 32, "node": "kvm1", "captured_at": "2027-01-15T08:00:00Z",
                                     "given_back_at": "2027-01-15T09:01:40Z"}]
    assert [(c["kind"], c["fee"], c["account"], c["status"]) for c in document["charges"]] == [
        ("charge", "clean_up", "c-77", "exported"), ("charge", "clean_up", "c-other", "exported"),
        ("charge", "chargeback", "c-77", "exported"), ("credit", "clean_up", "c-77", "open")]
    assert [e["id"] for e in document["exemptions"]] == ["X-1", "X-2"]
    assert [(n["id"], n["status"], n["delivered_at"], n["deadline_at"], n["recipient"]) for n in document["notices"]] == [
        ("N-1", "delivered", "2027-01-15T08:01:00Z", "2027-01-15T09:01:00Z", "owner@example.net"), ("N-2", "held", None, None, None)]
    kinds = [one["kind"] for one in document["timeline"]]
    assert kinds[:2] == ["exemption_added", "exemption_added"] and kinds[-1] == "case_closed" and "charges_exported" in kinds
    assert [one["event"] for one in document["timeline"]] == sorted({one["event"] for one in document["timeline"]})
    assert all(one["intact"] and not one["erased"] for one in document["timeline"])
    assert "foreign case" not in json.dumps(document) and "T-11" not in json.dumps(document)
    with provisioned.transaction(actor="dpo", now=NOW + 5000) as tx:
        tx.erase_details(service="vps-1", reason="request")
    erased = json.dumps(read(provisioned))
    assert "internal note" not in erased and "erased" in erased
    with pytest.raises(InputError) as caught:
        read(provisioned, case="T-404")
    assert caught.value.target == "case" and caught.value.remedy


def test_the_customers_view_has_nothing_of_others_and_nothing_internal(provisioned, service):
    story(provisioned, service)
    for account, foreign in (("c-77", ("vps-9", "c-other")), ("c-other", ("vps-1", "c-77"))):
        document = read(provisioned, "customer", account)
        text = json.dumps(document) + case_page(document)
        for hidden in (*foreign, "internal note", "secret reason", "of another", "alice", "bob", "kvm1", "goodwill", "lawyer says", "cleaned up",
                       "to_police_first", "N-2", "owner@example.net"):
            assert hidden not in text, hidden
        assert len(document["enforcements"]) == 1 and document["timeline"][-1]["kind"] == "case_closed"
        assert [n["id"] for n in document["notices"]] == (["N-1"] if account == "c-77" else [])
        assert {c["account"] for c in document["charges"]} == {account}
    for wrong in ({"account": None}, {"account": "c-1"}, {"view": "all"}, {"view": "internal", "account": "c-77"}):
        with pytest.raises(InputError) as caught:
            read(provisioned, **{"view": "customer", **wrong})
        assert caught.value.target and caught.value.remedy


def test_files_have_names_of_their_own():
    names = [file_stem(*case) for case in (("T-1", "internal", None), ("T/1", "internal", None), ("../../etc/x", "internal", None),
                                           ("T-1", "customer", "c-1"), ("T-1", "customer", "c/1"), ("T:1", "internal", None))]
    assert names[0] == "case-T-1-internal" and len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,140}", name) for name in names)


class Shape(html.parser.HTMLParser):
    """Elements, their attributes and the text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.words = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {name for name, _value in attrs}

    def handle_data(self, data):
        self.words.append(data)


class Trap:
    """Listens on loopback as the browser's proxy, and keeps what is asked of it."""

    def __init__(self):
        self.asked, self.socket = [], socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection, _peer = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.asked.append(connection.recv(4096).split(b"\r\n")[0].decode("latin-1"))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    continue

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(10)


def browse(page, directory, *more):
    """(DOM as the browser ended up with, its log, what it asked the network for)."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "chromium is missing: apt-get install chromium (make test does)"
    trap = Trap()
    try:
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-dev-shm-usage",
             "--user-data-dir=%s" % (directory / "profile"), "--proxy-server=%s" % trap.address, "--proxy-bypass-list=<-loopback>",
             "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", "--window-size=1100,4200", *more, "--dump-dom",
             page.as_uri()],
            capture_output=True, text=True, timeout=180, check=False, cwd=directory)
    finally:
        trap.close()
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, [line for line in trap.asked if "evil.example" in line]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_page_in_a_browser(provisioned, service, tmp_path):
    story(provisioned, service)
    page = tmp_path / "case.html"
    text = case_page(read(provisioned))
    page.write_text(text, encoding="utf-8")
    dom, log, asked = browse(page, tmp_path, "--screenshot=%s" % (tmp_path / "case.png"))
    seen = Shape(dom)
    assert asked == [] and "CONSOLE" not in log and "Refused" not in log, (asked, log)
    assert seen.elements <= {"html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "section", "dl", "dt",
                             "dd", "table", "thead", "tbody", "tr", "th", "td", "b", "br", "span", "code", "div", "footer"}
    assert seen.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    words = "".join(seen.words)
    assert HOSTILE.replace("\u202e", "\\u202e") in words, "shown as it was written"
    assert re.search(r"<title>Case T-1</title>", dom) and "2027-01-15 08:00:00 UTC" in words and "75.00 USD" in words

    # The same trap closes on a page that is not escaped: no silence by accident.
    page.write_text("<title>t</title><script>console.log('ran')</script><img src=http://evil.example/i>", encoding="utf-8")
    dom, log, asked = browse(page, tmp_path)
    assert asked and "ran" in log and "script" in Shape(dom).elements
    # And the page's own policy would stop what got past the escaping.
    page.write_text(text.replace("<main>", "<main><script>document.title='pwned'</script><img src=http://evil.example/i>", 1), encoding="utf-8")
    dom, log, asked = browse(page, tmp_path)
    assert asked == [] and "<title>Case T-1</title>" in dom


def test_a_case_of_no_account_has_no_customers_view(provisioned):
    with provisioned.transaction(actor="a", now=NOW) as tx:
        tx.open_case(case_id="T-2", violation="spam", policy_key="gone@1")
    assert read(provisioned, case="T-2")["clauses"] == [] and L.find_case
    with pytest.raises(InputError, match="no account"):
        read(provisioned, "customer", case="T-2")
