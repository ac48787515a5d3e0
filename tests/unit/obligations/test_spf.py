# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""check_host() of RFC 7208 on records that were written to break it; the real name server is in tests/integration."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.hosting.aup.plugins.plugin_utils._spf import LOOKUPS, check_host


class Zone:
    def __init__(self, records, pointers=()):
        self.records, self.names, self.asked = records, list(pointers), []

    def ask(self, name, kind):
        self.asked.append((name, kind))
        return self.records.get((name, kind), [])

    def pointers(self, _address):
        return self.names


def said(record, address="192.0.2.1", more=(), pointers=()):
    zone = Zone({("d.example", "TXT"): [record] if isinstance(record, str) else record, **dict(more)}, pointers)
    return check_host(zone, address, "d.example")


@pytest.mark.parametrize(("record", "address", "result"), [
    ([], "192.0.2.1", "none"),
    ("v=spf10 +all", "192.0.2.1", "none"),
    ("v=spf1", "192.0.2.1", "neutral"),
    ("V=SPF1 -ALL", "192.0.2.1", "fail"),
    ("v=spf1 ?all", "192.0.2.1", "neutral"),
    ("v=spf1  ip4:192.0.2.77/24  -all", "192.0.2.1", "pass"),
    ("v=spf1 -ip4:192.0.2.1 +all", "192.0.2.1", "fail"),
    ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::9", "pass"),
    ("v=spf1 ip4:192.0.2.0/24 -all", "2001:db8::9", "fail"),
    ("v=spf1 all redirect=nothing.example", "192.0.2.1", "pass"),
    ("v=spf1 unknown=%{x -all", "192.0.2.1", "fail"),
    ("v=spf1 ip4:192.0.2.1 bogus", "192.0.2.1", "permerror"),
    ("v=spf1 ip4:192.0.2.1 ip4:192.0.2.1/33 -all", "192.0.2.1", "permerror"),
    ("v=spf1 ip4:2001:db8::1 -all", "192.0.2.1", "permerror"),
    ("v=spf1 ip6:192.0.2.1 -all", "192.0.2.1", "permerror"),
    ("v=spf1 a: -all", "192.0.2.1", "permerror"),
    ("v=spf1 include -all", "192.0.2.1", "permerror"),
    ("v=spf1 exists:a.example/24 -all", "192.0.2.1", "permerror"),
    ("v=spf1 all:d.example", "192.0.2.1", "permerror"),
    ("v=spf1 redirect=a.example redirect=b.example", "192.0.2.1", "permerror"),
    ("v=spf1 redirect=nothing.example", "192.0.2.1", "permerror"),
    ("v=spf1 include:nothing.example -all", "192.0.2.1", "permerror"),
    ("v=spf1 exists:%{z}.example -all", "192.0.2.1", "permerror"),
    ("v=spf1 exists:%{d0}.example -all", "192.0.2.1", "permerror"),
    ("v=spf1 a:%s.example -all" % ("x" * 64), "192.0.2.1", "permerror"),
    ("v=spf1 exists:a.example exists:b.example exists:c.example -all", "192.0.2.1", "permerror"),
    (["v=spf1 -all", "v=spf1 +all"], "192.0.2.1", "permerror"),
])
def test_results(record, address, result):
    assert said(record, address).result == result


@pytest.mark.parametrize(("record", "everybody"), [
    ("v=spf1 all", True), ("v=spf1 ip4:0.0.0.0/0 -all", True), ("v=spf1 include:open.example -all", True),
    ("v=spf1 redirect=open.example", True), ("v=spf1 a/0 -all", True), ("v=spf1 ip4:192.0.2.1 +all", False),
])
def test_who_passes_because_everybody_would(record, everybody):
    found = said(record, more={("open.example", "TXT"): ["v=spf1 +all"], ("d.example", "A"): ["198.51.100.1"]}.items())
    assert (found.result, found.everybody) == ("pass", everybody)


def test_macros():
    def asked(record, address="192.0.2.1"):
        zone = Zone({("d.example", "TXT"): [record]})
        check_host(zone, address, "d.example")
        return zone.asked[1][0]

    assert asked("v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all") == "1.2.0.192.in-addr._spf.d.example"
    assert asked("v=spf1 exists:%{l-}.%{o}.%{h}.%{p}.x -all") == "postmaster.d.example.d.example.unknown.x"
    assert asked("v=spf1 exists:%{d1r}%%%{S}.x -all") == "d%postmaster%40d.example.x"
    assert asked("v=spf1 exists:%{ir}.x -all", "2001:db8::cb01").startswith("1.0.b.c.0.0.0.0") and len(asked("v=spf1 exists:%{i}.x", "::1")) == 65
    assert asked("v=spf1 exists:%s -all" % ".".join(["%{d}"] * 40)).endswith("d.example")


def test_mx_and_ptr():
    mx = {("d.example", "MX"): ["10 m%d.example" % n for n in range(11)]}
    assert said("v=spf1 mx -all", more=mx.items()).result == "permerror"
    host = {("m.d.example", "A"): ["192.0.2.1"]}
    assert said("v=spf1 ptr -all", more=host.items(), pointers=["m.d.example"]).result == "pass"
    assert said("v=spf1 ptr -all", more=host.items(), pointers=["m.other.example"]).result == "fail"


def test_ten_lookups_are_enough_and_eleven_too_many():
    def chain(length):
        records = {("h%d.example" % n, "TXT"): ["v=spf1 include:h%d.example -all" % (n + 1)] for n in range(1, length)}
        return {**records, ("h%d.example" % length, "TXT"): ["v=spf1 ip4:192.0.2.1"]}

    assert said("v=spf1 include:h1.example -all", more=chain(LOOKUPS).items()).result == "pass"
    assert said("v=spf1 include:h1.example -all", more=chain(LOOKUPS + 1).items()).result == "permerror"


@given(st.text(st.sampled_from("v=spf1 aimxncludest:/%{}.+-~?024drshp_=\u00e4\x00\n"), max_size=80), st.sampled_from(["192.0.2.1", "2001:db8::1"]))
def test_any_text_is_a_verdict(text, address):
    zone = Zone({("d.example", "TXT"): ["v=spf1 " + text], ("a", "A"): ["192.0.2.9"]})
    assert check_host(zone, address, "d.example").result in ("neutral", "pass", "fail", "softfail", "permerror")
    assert len(zone.asked) <= 1 + LOOKUPS * 11
