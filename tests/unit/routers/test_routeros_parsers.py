# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What RouterOS prints as JSON, as far as public samples tell: understood exactly, or an error."""
from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import plan_drops
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _routeros, _routeros_drops as drops, _routeros_ports as ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._routeros_rows import spelled
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood


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


# -- drops ---------------------------------------------------------------------------------------------------------------

KEY = "d0123456789ab"
READY = {version: [{"chain": "prerouting", "action": "jump", "jump-target": "aup-drops", "disabled": "false"}] for version in (4, 6)}
PREFIXES = st.lists(st.one_of(
    st.ip_addresses(v=4).map(lambda a: "%s/32" % a), st.ip_addresses(v=6).map(lambda a: "%s/128" % a),
    st.sampled_from(["198.51.100.0/24", "2001:db8:bad::/48"])), max_size=6).map(outermost)


@pytest.mark.parametrize(("text", "count"), [
    ("59m58s", 3598), ("00:59:58", 3598), ("1d02:03:04", 93784), ("1w2d3h4m5s", 788645), ("0s", 0), ("59.5s", 59)])
def test_times(text, count):
    assert drops.seconds(text) == count


@pytest.mark.parametrize("text", ["", "soon", "1h-2m", "never", "5"])
def test_times_that_are_none(text):
    with pytest.raises(NotUnderstood):
        drops.seconds(text)


@given(st.integers(1, 35 * 604800))
def test_a_time_is_read_as_it_was_written(count):
    assert drops.seconds(drops.lasting(count)) == count


class Lists:
    """What the lines of `commands` do to a router's lists and rules."""

    def __init__(self, now):
        self.now, self.lists, self.raw = now, {4: {}, 6: {}}, {4: [], 6: []}

    def enter(self, lines):
        for line in lines:
            line = _gate.pass_line(drops.at_last(line, self.now), _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED)
            version, words = 6 if line.startswith("/ipv6") else 4, dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
            words = {name: value.strip('"]') for name, value in words.items()}
            if "/address-list/add" in line:
                assert (words["list"], words["address"]) not in self.lists[version], "RouterOS refuses what is there"
                self.lists[version][words["list"], words["address"]] = drops.seconds(words["timeout"]) if "timeout" in words else None
            elif "/address-list/remove" in line:
                self.lists[version] = {where: left for where, left in self.lists[version].items() if where[0] != words["list"] or (
                    "address" in words and spelled(where[1]) != words["address"])}
            elif "/raw/add" in line:
                self.raw[version].append({**{key: words[key] for key in words if key != "comment"}, "comment": words["comment"], "disabled": False})
            else:
                self.raw[version] = [row for row in self.raw[version] if row["comment"] != words["comment"]]

    def read(self, wanted):
        rows = {version: [{"list": name, "address": spelled(prefix), **({"timeout": drops.lasting(left)} if left else {})}
                          for (name, prefix), left in there.items()] for version, there in self.lists.items()}
        return drops.parse({version: READY[version] + self.raw[version] for version in READY}, rows, wanted, True, self.now)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(PREFIXES, PREFIXES, PREFIXES, st.none() | st.integers(600, 10**6)), min_size=1, max_size=4))
def test_what_is_entered_is_read_back_lasts_until_its_end_and_goes_wholly(steps):
    now, router = 1_800_000_000, Lists(1_800_000_000)
    desired = {"known_drops": [{"key": KEY, "service": "vps-1"}]}
    for local, inward, outward, left in steps:
        end = None if left is None else now + left
        one = {"key": KEY, "service": "vps-1", "local": local, "in": inward, "out": outward, "ends": dict.fromkeys([*inward, *outward], end)}
        for change in plan_drops({**desired, "drops": [one]}, router.read([one]))["changes"]:
            router.enter(drops.commands(change))
        assert not plan_drops({**desired, "drops": [one]}, router.read([one]))["changes"]
        assert {left for (name, _prefix), left in [*router.lists[4].items(), *router.lists[6].items()] if not name.endswith("local")} <= {left}
    for change in plan_drops({**desired, "drops": []}, router.read([]))["changes"]:
        router.enter(drops.commands(change))
    assert router.lists == {4: {}, 6: {}} and router.raw == {4: [], 6: []} and not router.read([])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.sampled_from([KEY + "\n", KEY + '"', "d" * 13, KEY.upper(), "[find]", "$x"]), st.text(max_size=30))
def test_no_handle_and_no_prefix_yields_a_line_that_was_not_meant(key, text):
    drop = {"key": key, "local": ["203.0.113.10/32"], "in": [text], "out": [], "ends": {}}
    try:
        lines = drops.commands({"drop": key, "found": None, "wanted": drop})
    except ValueError:
        return
    for line in lines:
        _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED)


@pytest.mark.parametrize("line", [
    "/ip/firewall/address-list/remove [find]", '/ip/firewall/address-list/remove [find where list="abuse"]', "/ip/route/remove [find]",
    '/ip/firewall/raw/remove [find where chain="aup-drops"]', "/ip/firewall/raw/remove *1", "/system/reboot", "/user/add name=x",
    '/ip/firewall/address-list/add list=abuse address=203.0.113.10/32 comment="aup:d0123456789ab"', "/ip/route/add dst-address=0.0.0.0/0 blackhole",
    '/ip/route/add dst-address=203.0.113.10/32 blackhole comment="aup:1"; /system/reboot', ':put [/user/print as-value]',
])
def test_lines_that_are_never_sent(line):
    with pytest.raises(InputError):
        _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED)


# -- ports ---------------------------------------------------------------------------------------------------------------

NASTY = ["\n", "\r", "\x1a", "\t", "?", "|", ";", "$(x)", "`id`", "\\", "!", "#", "  ", "\x00", "\u0661", "[find]", '"', "{", "}", "*", "%lo", "="]
OWNERS = st.lists(st.one_of(
    st.ip_addresses(v=4).map(lambda a: "%s/32" % a), st.ip_addresses(v=6).map(str), st.sampled_from(["203.0.113.64/26", "2001:db8:100:a::/64"])), max_size=4)
NUMBERS = st.lists(st.integers(1, 65535), min_size=1, max_size=20)


def terms(interface="ether2", **changed):
    return {"interface": interface, "service": "ded-1", "own": ["203.0.113.66", "2001:db8:100:a::2"], "dark": True, "guard": "enforce",
            "smtp": {"mode": "enforce", "ports": [25, 465]}, "smarthosts": ["198.51.100.25/32", "2001:db8::25/128"],
            "blocks": [{"direction": "out", "protocol": "tcp", "ports": [6667]}, {"direction": "in", "protocol": "udp", "ports": [53]}],
            "rate_bps": 10_000_000, **changed}


class Rules:
    """What the lines of ports do to a router, and what it then prints."""

    def __init__(self):
        self.filter, self.lists, self.queues, self.last = {4: [], 6: []}, {4: [], 6: []}, [{".id": "*1", "name": "office", "target": "192.0.2.0/24"}], 1

    def enter(self, line):
        line = _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED, _routeros.LONGEST)
        version, words = 6 if line.startswith("/ipv6") else 4, dict(re.findall(r'([a-z-]+)="?([^" ]*)"?', line.rpartition("[find where ")[2]))
        menu = self.queues if "/queue/" in line else (self.filter if "/filter/" in line else self.lists)[version]
        if "/remove " in line:
            menu[:] = [row for row in menu if any(_printed(row.get(key)) != value for key, value in words.items())]
            return
        self.last += 1
        before = words.pop("place-before", None)
        at = next((number for number, row in enumerate(menu) if row[".id"] == before), len(menu))
        menu.insert(at, {".id": "*%X" % self.last, **words})

    def read(self):
        return ports.parse(self.filter, self.filter, self.lists, self.queues)


def _printed(value):
    return value[:-3] if value and value.endswith("/32") else value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(
    lambda *values: terms(**dict(zip(("own", "dark", "guard", "smtp", "smarthosts", "blocks", "rate_bps"), values, strict=True))),
    OWNERS, st.booleans(), st.sampled_from(("off", "observe", "enforce")),
    st.fixed_dictionaries({"mode": st.sampled_from(("off", "observe", "enforce")), "ports": NUMBERS}), OWNERS,
    st.lists(st.fixed_dictionaries({"direction": st.sampled_from(("in", "out")), "protocol": st.sampled_from(("tcp", "udp")), "ports": NUMBERS}),
             max_size=2), st.none() | st.integers(1, 10**12)), min_size=1, max_size=4))
def test_what_is_entered_on_a_port_is_read_back_closes_before_it_opens_and_goes_wholly(steps):
    router = Rules()
    for port in [*steps, None]:
        wanted, found = ports.rules(port) if port else [], router.read().get("ether2", {})
        lines = ports.commands(wanted, found, ports.place(router.queues))
        queue = [line for line in lines if line.startswith("/queue")]
        rest = ["/remove " in line for line in lines if line not in queue]
        assert rest == sorted(rest), "what is new comes before what is old goes"
        for line in lines:
            router.enter(line)
        assert ports.in_order(router.read().get("ether2", {})) == wanted
        assert ports.commands(wanted, router.read().get("ether2", {})) == []
    assert router.filter == router.lists == {4: [], 6: []} and [row["name"] for row in router.queues] == ["office"]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.sampled_from(NASTY), st.builds(lambda bad: "ether2" + bad, st.sampled_from(NASTY))),
       st.sampled_from(["interface", "own", "smarthosts", "ports", "protocol", "rate_bps"]))
def test_no_field_of_a_port_yields_a_line_that_was_not_meant(value, field):
    changed = {"own": {"own": [value]}, "smarthosts": {"smarthosts": [value]}, "ports": {"smtp": {"mode": "enforce", "ports": [value]}},
               "protocol": {"blocks": [{"direction": "in", "protocol": value, "ports": [53]}]}, "rate_bps": {"rate_bps": value}}
    try:
        lines = ports.rules(terms(value) if field == "interface" else terms(**changed[field]))
    except ValueError:
        return
    for line in lines:
        try:
            _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED, _routeros.LONGEST)
        except InputError:
            continue
        assert "aup:port:" in line and line.isascii() and line.isprintable() and not set("\n;|&`$[]{}\\") & set(line), line


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 200), st.integers(0, 160), st.sampled_from(NASTY))
def test_nothing_can_be_put_into_a_good_line_about_a_port(which, at, bad):
    added = ports.rules(terms())
    lines = [*added, *(ports.removal(line) for line in added), *_routeros.ORDER.values(), *_routeros.OURS.values(), *_routeros.JUMPS.values(),
             _routeros.QUEUES, _routeros.SWITCHES]
    line = lines[which % len(lines)]
    _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED, _routeros.LONGEST)
    with pytest.raises(InputError):
        _gate.pass_line(line[:at] + bad + line[at:], _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED, _routeros.LONGEST)


@pytest.mark.parametrize("line", [
    "/ip/firewall/filter/remove [find]", '/ip/firewall/filter/remove [find where comment~"^aup:port:"]', "/ip/firewall/filter/remove *1",
    '/ip/firewall/filter/remove [find where chain="forward"]', "/ip/firewall/filter/add chain=forward action=accept place-before=*1",
    '/ip/firewall/filter/add chain=aup-port-ether2-from action=accept comment="aup:port:ether2:01234567"',
    '/ip/firewall/filter/add chain=forward action=drop comment="aup:port:ether2:01234567"',
    '/ip/firewall/filter/add chain=aup-ports action=jump jump-target=aup-port-ether2-from in-interface=ether3 comment="aup:port:ether2:01234567"',
    '/queue/simple/remove [find where name="office"]', "/queue/simple/set *1 max-limit=1/1",
    '/queue/simple/add name=aup-port-ether2 target=ether3 max-limit=1/1 comment="aup:port:ether2:01234567"',
    "/interface/set ether2 disabled=yes", "/interface/ethernet/disable ether2",
    '/ip/firewall/address-list/remove [find where list="bogons" address="192.168.0.0/16"]',
])
def test_lines_about_ports_that_are_never_sent(line):
    with pytest.raises(InputError):
        _gate.pass_line(line, _routeros.GRAMMAR, (), _routeros.RouterOs.ALLOWED, _routeros.LONGEST)


def test_rows_of_ports_in_other_forms_of_the_same():
    """Numbers and lists in JSON, ranges, short units, counters: the same rule; everything else is another one."""
    (line, *_rest) = [line for line in ports.rules(terms(smtp={"mode": "enforce", "ports": [25, 26, 465]})) if "dst-port=25,26,465" in line]
    row = dict(re.findall(r'([a-z-]+)="?([^" ]*)"?', line), **{".id": "*7", "bytes": 12, "packets": 1, "log": False, "log-prefix": ""})
    nothing = {4: [], 6: []}
    for said in ("25,26,465", "25-26,465", [25, 26, "465"], "465,25-26"):
        assert list(ports.parse(nothing, {4: [dict(row, **{"dst-port": said})], 6: []}, nothing, [])["ether2"]) == [line]
    for more in ({"disabled": True}, {"src-mac-address": "AA:BB:CC:DD:EE:FF"}, {"dst-port": "25"}, {"time": "8h-17h,mon"}, {"content": '"\n; /x'}):
        (other,) = ports.parse(nothing, {4: [dict(row, **more)], 6: []}, nothing, [])["ether2"]
        assert other != line and other.isascii() and "\n" not in other
    idle = {4: [{".id": "*7", "disabled": "true"}], 6: []}
    assert list(ports.parse(idle, {4: [row], 6: []}, nothing, [])["ether2"]) != [line]
    for bad in ({"list": "aup-port-ether2-own", "address": "evil.example"}, {"list": "aup-port-ether2-host"}):
        with pytest.raises(NotUnderstood):
            ports.parse(nothing, nothing, {4: [bad], 6: []}, [])
    for text in ("bad command name switch (line 1 column 91)\n", "[]\n"):
        assert _routeros.parse_switches(text) == []
    with pytest.raises(NotUnderstood):
        _routeros.parse_switches("syntax error (line 1 column 91)\n")


def test_the_port_by_which_the_controller_comes_and_one_with_a_bgp_peer():
    seen = {"interfaces": [{"name": "ether2", "type": "ether"}], "addresses": [
        {"interface": "ether2", "address": "203.0.113.65/26"}, {"interface": "ether2", "address": "fe80::1/64"},
        {"interface": "ether1", "address": "192.0.2.1/28"}], "peers": ["192.0.2.2/32"],
        **dict.fromkeys(("bridge", "bonding", "above", "vrf", "defaults", "neighbors", "queues", "routes"), ())}
    assert ports.objection(terms(), seen, {}) is None
    assert "this controller is reached through it" in ports.objection(terms(), seen, {"controllers": ["198.51.100.1", "203.0.113.100"]})
    assert ports.objection(terms(), seen, {"controllers": ["198.51.100.1", "fe80::5"][:1]}) is None
    assert "BGP peer 203.0.113.80/32" in ports.objection(terms(), {**seen, "peers": ["203.0.113.80/32"]}, {})
    assert ports.objection(terms(), {**seen, "peers": ["203.0.113.66/32"]}, {}) is None, "the server's own session"
    assert ports.objection(terms(), seen, {"uplinks": ["ether2"]}) == "the catalogue calls it an uplink"
    with pytest.raises(NotUnderstood):
        ports.objection(terms(), {**seen, "neighbors": [{"address": "up1"}]}, {})
