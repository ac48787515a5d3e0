# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published lists of pools, and what strangers may write into them."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _lists, _refresh


@pytest.mark.parametrize("line, found", [
    ("pool.example.com", [("pool.example.com", None)]),
    ("Pool.Example.COM.:3333", [("pool.example.com", 3333)]),
    ("203.0.113.9:3333  # by address", [("203.0.113.9", 3333)]),
    ("[2001:DB8::9]:443", [("2001:db8::9", 443)]),
    ("2001:db8::9", [("2001:db8::9", None)]),
    ("0.0.0.0 a.example.com b.example.com", [("a.example.com", None), ("b.example.com", None)]),
    ("127.0.0.1 localhost", []),
    ("stratum+tcp://eu.example.com:4444", [("eu.example.com", 4444)]),
    ("stratum2+ssl://wallet.worker@eu.example.com:443/path", [("eu.example.com", 443)]),
    ("||pool.example.com^", [("pool.example.com", None)]),
    ("||pool.example.com^$third-party", [("pool.example.com", None)]),
    ("@@||fine.example.com^", []),
    ("address=/pool.example.com/0.0.0.0", [("pool.example.com", None)]),
    ("local=/pool.example.com/", [("pool.example.com", None)]),
    ("! Title: a list", []), ("# comment", []), ("[Adblock Plus 2.0]", []), ("", []),
    ("münze.example.com:3333", [("xn--mnze-0ra.example.com", 3333)]),
])
def test_lines(line, found):
    assert _lists.parse_line(line) == found


@pytest.mark.parametrize("line", [
    "*.example.com", "stratum+tcp://eu.example.com", "pool.example.com:0", "pool.example.com:70000", "a b c", "localhost",
    "192.0.2.1 pool.example.com", "||example.com/path", "-x.example.com", "x" * 300 + ".com", "pool.example.com; rm -rf /",
    "<html><body>not found</body></html>", "stratum+tcp://$(id):3333", "pool\x00.example.com",
])
def test_what_is_no_host_is_left_out(line):
    assert _lists.parse_line(line) is None


@given(st.text(max_size=80))
def test_no_line_gives_more_than_hosts(line):
    for host, port in _lists.parse_line(line) or ():
        assert _lists.host_of(host) == host and (port is None or 1 <= port <= 65535)


def test_a_list_says_what_it_left_out():
    found = _lists.parse("some.txt", b"a.example.com:1\nb.example.com\n*.c.example.com\n")
    assert found.endpoints == {("a.example.com", 1, "mining"), ("b.example.com", None, "mining")}
    assert len(found.notes) == 1 and found.notes[0].startswith("some.txt:3:")


def test_a_table_without_the_rows_its_author_doubts():
    table = (b"domain,port,scheme,confidence,status\na.example.com,3333,stratum+tcp,confirmed,active\n"
             b"b.example.com,3333,stratum+tcp,candidate,active\nc.example.com,1,stratum+tcp,probable,inactive\n"
             b"d.example.com,2,stratum+tcp,probable,active\n")
    assert {e.host for e in _lists.parse("watchlist.csv", table).endpoints} == {"a.example.com", "d.example.com"}


@pytest.mark.parametrize("data, part", [
    (b"", "0 endpoints"), (b"<html>\n<h1>404</h1>\n", "0 endpoints"), (b"\xff\xfe\x00", "UTF-8"),
    (b"a.example.com\n" + b"junk junk\n" * 5, "none"), (b"x" * (_lists.LARGEST + 1), "larger"),
])
def test_what_is_no_list_is_refused(data, part):
    with pytest.raises(InputError, match=part) as caught:
        _lists.parse("bad.txt", data)
    assert caught.value.target and caught.value.remedy


@pytest.mark.parametrize("document", [
    "schema: 2\n", "schema: 1\n", "schema: 1\npools: [{host: 'a b'}]\n", "schema: 1\npools: [{host: a.example.com, ports: [0]}]\n",
    "schema: 1\npools: {}\n", "schema: 1\npeers: [{activity: theft, protocol: tcp, ports: [1]}]\n", "a: [\n",
    "schema: 1\npeers: [{activity: nodes, protocol: sctp, ports: [1]}]\n", "schema: 1\npeers: [x]\n",
])
def test_our_own_form_is_checked(document):
    with pytest.raises(InputError, match=r"bad\.yml"):
        _lists.parse("bad.yml", document.encode())


def test_the_shipped_list_and_the_shared_networks():
    found = _refresh.read_list("shipped")
    assert len(found.endpoints) > 40 and found.ports["nodes"]["tcp"] and found.ports["farming"] == {"tcp": [8444, 8447]}
    assert {25, 443} <= {endpoint.port for endpoint in found.endpoints}
    assert ("1.1.1.1/32", "a public resolver") in _refresh.shared_networks()
