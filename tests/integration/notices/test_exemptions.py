# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exemptions: looked up in a real DNS server before they are given, and lost by a strike."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError, PolicyError
from ansible_collections.hosting.aup.plugins.plugin_utils import _exemption_requests as asking
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._dns_checks import DnsError, look_up
from ansible_collections.hosting.aup.plugins.plugin_utils._dns_checks import Lookup
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_text import due_lines, status_lines
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._spf import check_host

HEAD = "schema: 1\nname: p\nversion: '1'\neffective: 2026-01-01\nprovider: {name: P}\nextends: default\n"
ZONE = {
    ("1.2.0.192.in-addr.arpa.", "PTR"): ["mail.good.example."],
    ("mail.good.example.", "A"): ["192.0.2.1"],
    ("good.example.", "TXT"): ['"v=spf1 " "ip4:192.0.2.1 -all"', '"something else"'],
    ("_dmarc.good.example.", "TXT"): ['"v=DMARC1; p=none"'],
    ("2.2.0.192.in-addr.arpa.", "PTR"): ["liar.good.example."],
    ("liar.good.example.", "A"): ["192.0.2.99"],
    ("open.example.", "TXT"): ['"v=spf1 +all"'],
    ("other.example.", "TXT"): ['"v=spf1 ip4:198.51.100.0/24 -all"'],
    # Mail of this domain goes out through what it names in every way there is.
    ("every.example.", "TXT"): [
        '"v=spf1 a/30 a:alias.every.example mx//64 exists:%{ir}.%{v}.ok.every.example " "include:good.example redirect=six.every.example"'],
    ("every.example.", "A"): ["203.0.113.5"],
    ("every.example.", "AAAA"): ["2001:db8:a::1"],
    ("every.example.", "MX"): ["10 in.every.example."],
    ("in.every.example.", "A"): ["203.0.113.77"],
    ("in.every.example.", "AAAA"): ["2001:db8:7::1"],
    ("alias.every.example.", "CNAME"): ["real.every.example."],
    ("real.every.example.", "A"): ["203.0.113.99"],
    ("9.100.51.198.in-addr.ok.every.example.", "A"): ["127.0.0.2"],
    ("six.every.example.", "TXT"): ['"v=spf1 ip6:2001:db8:9::/48 ~all"'],
    ("loop.example.", "TXT"): ['"v=spf1 include:loop.example -all"'],
    ("two.example.", "TXT"): ['"v=spf1 -all"', '"v=spf1 a -all"'],
}


class NameServer:
    """Authoritative for `ZONE`, on loopback; silent for names below `silent.example`."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, client = self._socket.recvfrom(4096)
            except OSError:
                return
            question = dns.message.from_wire(data)
            asked = question.question[0]
            name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.AA
            if name.endswith("broken.example."):
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif (name, "CNAME") in ZONE:
                (target,) = ZONE[name, "CNAME"]
                answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "CNAME", target))
                if (target, kind) in ZONE:
                    answer.answer.append(dns.rrset.from_text(target, 60, "IN", kind, *ZONE[target, kind]))
            elif (name, kind) in ZONE:
                answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, *ZONE[name, kind]))
            elif not any(known == name for known, _kind in ZONE):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), client)

    def close(self):
        self._socket.close()


@pytest.fixture(scope="module")
def names():
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def strict(desk, tmp_path):
    (tmp_path / "p.yml").write_text(
        HEAD + "exemptions:\n  smtp_outbound: {checks: [fcrdns, spf, dmarc], revoked_by: [spam]}\n"
        "  pen_test: {allowed: true, max_duration: 14d, clause: house.5}\n"
    )
    desk.policy(load_policy(tmp_path / "p.yml"))
    return desk


def exempt(desk, names, service, domain, **more):
    with desk.ledger.read(now=desk.now) as tx:
        due = requests.checks_due(tx, [service], "smtp_outbound")
    checked = look_up(due, domain, ["127.0.0.1"], names.port)
    return desk.ask(requests.exempt, service, "smtp_outbound", "ticket 88", "90d", checked=checked, **more)


def test_what_is_in_order_is_given_and_says_who_approved(strict, names):
    done = exempt(strict, names, "vps-1", "good.example", approved_by="Ms Desk")
    assert done["changed"]
    assert "  approved by Ms Desk (policy: abuse desk)" in done["what"]
    assert "  dmarc, fcrdns, spf: checked in DNS" in done["what"]
    with strict.ledger.read(now=strict.now) as tx:
        (event,) = [e for e in tx.history("vps-1") if e["kind"] == "exemption_added"]
    assert event["detail"]["note"] == "approved by Ms Desk" and "Desk" not in str(event["refs"])


@pytest.mark.parametrize(
    ("service", "domain", "wrong"),
    [
        ("vps-2", "good.example", "192.0.2.2 points to liar.good.example, which has no A record for it"),
        ("vps-3", "good.example", "192.0.2.3 has no PTR record"),
        ("vps-1", "none.example", "none.example publishes no SPF record"),
        ("vps-1", "open.example", "permits everybody"),
        ("vps-1", "two.example", "2 SPF records"),
        ("vps-1", "other.example", "does not permit 192.0.2.1 (fail, -all of other.example)"),
        ("vps-1", "loop.example", "it takes more than 10 lookups"),
    ],
)
def test_what_is_not_in_order_is_refused_with_what_is_missing(strict, names, service, domain, wrong):
    with pytest.raises(InputError) as caught:
        exempt(strict, names, service, domain)
    assert wrong in str(caught.value)
    done = exempt(strict, names, service, domain, waive="their provider is slow, ticket 9")
    assert done["changed"] and any("waived: their provider is slow" in line for line in done["what"])


def test_each_mechanism_of_spf_in_a_real_name_server(names):
    lookup = Lookup(["127.0.0.1"], names.port)
    said = {
        address: check_host(lookup, address, "every.example")[:2]
        for address in ("203.0.113.6", "203.0.113.99", "203.0.113.77", "2001:db8:7::25", "198.51.100.9", "192.0.2.1", "2001:db8:9::1", "192.0.2.7")
    }
    assert said == {
        "203.0.113.6": ("pass", "a/30 of every.example"),
        "203.0.113.99": ("pass", "a:alias.every.example of every.example"),
        "203.0.113.77": ("pass", "mx//64 of every.example"),
        "2001:db8:7::25": ("pass", "mx//64 of every.example"),
        "198.51.100.9": ("pass", "exists:%{ir}.%{v}.ok.every.example of every.example"),
        "192.0.2.1": ("pass", "include:good.example of every.example"),
        "2001:db8:9::1": ("pass", "ip6:2001:db8:9::/48 of six.every.example"),
        "192.0.2.7": ("softfail", "~all of six.every.example"),
    }


def ask(desk, names, service, domain="good.example", **more):
    with desk.ledger.read(now=desk.now) as tx:
        due = requests.checks_due(tx, [service], "smtp_outbound")
    checked = look_up(due, domain, ["127.0.0.1"], names.port)
    return desk.ask(asking.ask, service, "smtp_outbound", "newsletters of vps {{ 7 }}", "90d", "Frau Kundin", domain, checked, **more)


def test_a_request_waits_is_looked_up_again_and_is_decided_once(strict, names):
    asked = ask(strict, names, "vps-1")
    assert asked["changed"] and "its preconditions are met" in asked["what"][0] and asked["nodes"] == []
    assert not ask(strict, names, "vps-1")["changed"], "one at a time"
    unmet = ask(strict, names, "vps-3")
    assert "not met: 192.0.2.3 has no PTR record" in unmet["what"][0]
    with strict.ledger.read(now=strict.now) as tx:
        status = L.status(tx)
        assert tx.exemptions_of("vps-1") == [], "asked for is not given"
    assert sum("request Q-" in line for line in status_lines(status)) == 2 and sum("request Q-" in line for line in due_lines(status, 86400)) == 2
    assert not any("Kundin" in line for line in status_lines(status))
    with pytest.raises(InputError) as caught:  # its name has gone from DNS, or never was there
        strict.ask(asking.approve, "Q-2", checked={"vps-3": ["192.0.2.3 has no PTR record"]})
    assert "no PTR record" in str(caught.value)
    with pytest.raises(InputError):
        strict.ask(asking.approve, "Q-1")  # not looked up again
    done = strict.ask(asking.approve, "Q-1", "Ms Desk", checked={"vps-1": []})
    assert done["nodes"] == ["kvm1"] and "request Q-1 is approved" in done["what"][0]
    for decide in (lambda: strict.ask(asking.approve, "Q-1", checked={"vps-1": []}), lambda: strict.ask(asking.deny, "Q-1", "no")):
        with pytest.raises(ConflictError):
            decide()
    with pytest.raises(InputError):
        strict.ask(asking.deny, "Q-2")
    assert "denied" in strict.ask(asking.deny, "Q-2", "no reverse DNS")["what"][0]
    with pytest.raises(InputError):
        strict.ask(asking.deny, "Q-9", "no")
    with strict.ledger.read(now=strict.now) as tx:
        (given,) = tx.exemptions_of("vps-1")
        assert (given["control"], given["ends_at"]) == ("smtp_outbound", strict.now + 90 * 86400)
        assert tx.exemption_requests() == [] and [q["exemption_id"] for q in tx.exemption_requests("approved")] == [given["id"]]
        assert not any("Kundin" in str(e["refs"]) for e in tx.history("vps-1"))
    strict.ask(L.erase_details, service="vps-1", reason="asked to be forgotten")
    with strict.ledger.read(now=strict.now) as tx:
        (kept,) = tx.exemption_requests("approved")
        assert (kept["asked_by"], kept["reason"], kept["status"]) == (None, None, "approved") and tx.verify()["ok"]


def test_what_the_policy_forbids_is_not_even_kept_and_a_strike_denies(strict, names):
    for arguments in (("vps-2", "vpn", "why"), ("vps-99", "smtp_outbound", "why", "9d"), ("vps-2", "pen_test", "why", "90d"),
                      ("vps-2", "pen_test", None, "7d")):
        with pytest.raises(InputError):
            strict.ask(asking.ask, *arguments)
    ask(strict, names, "vps-1")
    done = strict.hold("vps-1", case="T-2")
    assert any("request Q-1 of vps-1 for smtp_outbound is denied by this" in line for line in done["what"])
    with strict.ledger.read(now=strict.now) as tx:
        assert tx.exemption_requests() == [] and len(tx.exemption_requests("denied")) == 1


def test_what_can_not_be_looked_up_is_not_given(strict, names):
    with pytest.raises(DnsError) as caught:
        exempt(strict, names, "vps-1", "broken.example")
    assert caught.value.retryable
    for domain in (None, "", "a b.example", "x", "good.example\n", "-.example"):
        with pytest.raises(InputError):
            exempt(strict, names, "vps-1", domain)
    with pytest.raises(InputError) as refused:
        strict.ask(requests.exempt, "vps-1", "smtp_outbound", "why", "90d")
    assert "was not checked in DNS" in str(refused.value)
    with pytest.raises(InputError) as unknown:
        strict.ask(requests.exempt, "vps-99", "smtp_outbound", "why", "90d")
    assert "vps-99" in str(unknown.value)


def test_a_strike_revokes_and_someone_without_fault_loses_nothing(strict, names):
    exempt(strict, names, "vps-1", "good.example")
    strict.ask(requests.exempt, "vps-1", "pen_test", "order of their customer", "7d")
    strict.hold("vps-1", "attack_target", "suspend", case="T-1", duration="1h")
    with strict.ledger.read(now=strict.now) as tx:
        assert [e["control"] for e in tx.exemptions_of("vps-1")] == ["smtp_outbound", "pen_test"]
    done = strict.hold("vps-1", case="T-2")
    assert any("exemption X-1 of vps-1 from smtp_outbound is revoked by this" in line for line in done["what"])
    with strict.ledger.read(now=strict.now) as tx:
        assert [e["control"] for e in tx.exemptions_of("vps-1")] == ["pen_test"]
        assert any(e["kind"] == "exemption_revoked" and "strike" in e["detail"]["reason"] for e in tx.history("vps-1"))
    done = strict.report("vps-1", "scanning", case="T-3")
    assert any("pen_test is revoked" in line for line in done["what"]), "its own clause"


def test_a_permission_on_record_has_an_end_and_relaxes_nothing(strict):
    done = strict.ask(requests.exempt, "vps-1", "pen_test", "order of their customer", "7d")
    assert "  it is on record and relaxes no control" in done["what"]
    with strict.ledger.read(now=strict.now) as tx:
        assert [e["control"] for e in tx.snapshot("kvm1")["exemptions"]] == ["pen_test"]
    with pytest.raises(InputError):
        strict.ask(requests.exempt, "vps-2", "pen_test", "why", "90d")
    with pytest.raises(InputError):
        strict.ask(requests.exempt, "vps-2", "vpn", "why", "7d")
    strict.now += 7 * 86400
    assert strict.ask(requests.end_what_is_due)["exemptions"][0]["control"] == "pen_test"


def test_a_policy_with_an_unknown_check_or_violation(tmp_path):
    (tmp_path / "p.yml").write_text(HEAD + "exemptions: {smtp_outbound: {checks: [ptr], revoked_by: [spamm]}}\n")
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "p.yml")
    assert "exemptions.smtp_outbound.checks" in str(caught.value)
    (tmp_path / "p.yml").write_text(HEAD + "exemptions: {smtp_outbound: {revoked_by: [spamm]}}\n")
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "p.yml")
    assert "exemptions.smtp_outbound.revoked_by" in str(caught.value)
