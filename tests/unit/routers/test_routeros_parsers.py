# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What RouterOS prints as JSON, as far as public samples tell: understood exactly, or an error."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _routeros
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import NotUnderstood


@pytest.mark.parametrize(("text", "version"), [
    ("7.20.4 (stable)\n", (7, 20)), ("7.17 (stable)\n", (7, 17)), ("7.21beta3 (development)\n", (7, 21)), ("6.49.17 (long-term)", (6, 49))])
def test_version(text, version):
    assert _routeros.parse_version(text) == version


@pytest.mark.parametrize("text", ["", "bad command name resource (line 1 column 10)\n", "7\n", "7.20.4 (stable)\n7.20\n", "7.20 <b>"])
def test_no_version(text):
    with pytest.raises(NotUnderstood):
        _routeros.parse_version(text)


def row(number, prefix, **changed):
    return {".id": "*%X" % number, "dst-address": prefix, "distance": 1, "routing-table": "main", "disabled": "false", "active": "true",
            **changed}


ROWS = [
    row(1, "203.0.113.10/32", comment="aup:41666"), row(2, "203.0.113.11/32", comment="aup:41666", disabled=True),
    row(3, "203.0.113.12/32", comment="aup:41666 or so"), row(4, "203.0.113.13/32", comment="aup:41666", distance="200"),
    row(5, "203.0.113.14/32", comment="aup:41666", gateway="192.0.2.9"), row(6, "203.0.113.15/32", gateway=["192.0.2.7%ether1", "ether2"]),
    row(7, "203.0.113.16/32", gateway="192.0.2.8,192.0.2.6@main", comment="it's \u201cmine\u201d; really"),
    row(8, "203.0.113.10/32", comment="aup:41666", **{"routing-table": "blue"}), row(9, "203.0.113.17/32", comment="aup:7", active=False),
]
DROPS = [{".id": "*%X" % number} for number in (1, 2, 3, 4, 8, 9)]


def test_routes():
    found = _routeros.parse_routes(ROWS, DROPS, 4)
    assert [(e["prefix"], e["mark"], e["table"]) for e in found if e["exact"]] == [
        ("203.0.113.10/32", 41666, "main"), ("203.0.113.10/32", 41666, "blue"), ("203.0.113.17/32", 7, "main")]
    assert [e["hops"] for e in found if e["hops"]] == [["192.0.2.9"], ["192.0.2.7"], ["192.0.2.8", "192.0.2.6"]]
    assert "disabled" in found[1]["line"] and all(e["line"].isascii() and "\n" not in e["line"] for e in found)
    assert _routeros.parse_routes([], [], 6) == []


@pytest.mark.parametrize(("rows", "drops"), [
    ([row(1, "nonsense")], []), ([row(1, "203.0.113.10/24")], []), ([row(1, "2001:db8::1/128")], []), ([{}], []),
    ([row(1, "203.0.113.10/32", disabled="maybe")], []), ([row(1, "203.0.113.10/32", active=None)], []),
    ([row(1, "203.0.113.10/32", distance="far")], []), ([row(1, "203.0.113.10/32", comment=["aup:41666"])], []),
    ([row(1, "203.0.113.10/32", gateway=7)], []), ([{k: v for k, v in row(1, "203.0.113.10/32").items() if k != ".id"}], []),
    ([row(1, "203.0.113.10/32")], [{}]),
])
def test_routes_that_are_not_understood(rows, drops):
    with pytest.raises(NotUnderstood):
        _routeros.parse_routes(rows, drops, 4)


@pytest.mark.parametrize("text", [
    "", "\n", "bad command name serialize (line 1 column 7)\n", "syntax error (line 1 column 30)\n", "expected end of command (line 1 column 4)\n",
    "input does not match any value of proplist\n", "not enough permissions (9)\n", '"aup"', "7", "null", "[1]", '{"a": 1}', '[{"a": 1}',
    "[[]]", "failure: something\n[]",
])
def test_rows_that_are_none(text):
    with pytest.raises(NotUnderstood):
        _routeros.parse_rows(text)


def test_rows_addresses_and_peers():
    assert _routeros.parse_rows("[]\n") == [] == _routeros.parse_rows("{}\n")
    assert _routeros.parse_addresses([{"address": "192.0.2.1/28", "interface": "ether1"}]) == [("192.0.2.1", "192.0.2.0/28")]
    peers = [{"name": "up1", "remote.address": "192.0.2.2"}, {"name": "ix", "remote.address": "192.0.2.16/28"}, {"name": "idle"}]
    assert _routeros.parse_peers(json.loads(json.dumps(peers))) == ["192.0.2.16/28", "192.0.2.2/32"]
    for bad in ([{"address": "x"}], [{}]):
        with pytest.raises(NotUnderstood):
            _routeros.parse_addresses(bad)
    with pytest.raises(NotUnderstood):
        _routeros.parse_peers([{"remote.address": "up1.example"}])
