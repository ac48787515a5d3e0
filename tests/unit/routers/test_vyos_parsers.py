# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What VyOS prints, as its sources and public configurations tell: understood exactly, or an error."""
from __future__ import annotations

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost
from ansible_collections.hosting.aup.plugins.module_utils._routers._drops import plan_drops
from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _vyos, _vyos_drops, _vyos_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

CONFIGURATION = """set high-availability vrrp group web address 192.0.2.100/28
set interfaces ethernet eth0 address '192.0.2.1/28'
set interfaces ethernet eth0 address '2001:db8:1::1/64'
set interfaces ethernet eth1 address 'dhcp'
set interfaces ethernet eth1 description 'customer; says "hello"'
set interfaces loopback lo
set interfaces wireguard wg0 peer a allowed-ips '203.0.113.10/32'
set protocols bgp neighbor 192.0.2.2 remote-as '64501'
set protocols bgp neighbor eth1 interface v6only
set protocols bgp system-as '64500'
set protocols static route 203.0.113.10/32 blackhole tag '41666'
set protocols static route 203.0.113.11/32 blackhole distance '200'
set protocols static route 203.0.113.11/32 blackhole tag '41666'
set protocols static route 203.0.113.12/32 blackhole
set protocols static route 203.0.113.13/32 blackhole tag '41666'
set protocols static route 203.0.113.13/32 next-hop 192.0.2.9 distance '5'
set protocols static route 203.0.113.14/32 interface eth1
set protocols static route6 2001:db8:100::10/128 blackhole tag '41666'
set protocols static table 10 route 203.0.113.10/32 blackhole tag '41666'
set vrf name MGMT protocols static route 203.0.113.15/32 next-hop 192.0.2.99
"""


def test_configuration():
    lines = _vyos.parse_commands(CONFIGURATION)
    statics = _vyos.parse_statics(lines)
    assert [e["prefix"] for e in statics if e["exact"]] == ["203.0.113.10/32", "203.0.113.13/32", "2001:db8:100::10/128"]
    assert {e["prefix"] for e in statics if e["blackhole"] and not e["exact"]} == {"203.0.113.11/32", "203.0.113.12/32"}
    other, = [e for e in statics if e["prefix"] == "203.0.113.13/32" and not e["blackhole"]]
    assert other["hops"] == ["192.0.2.9"] and len(statics) == 7
    assert _vyos.parse_own(lines) == ["192.0.2.100", "192.0.2.1", "2001:db8:1::1"] and _vyos.parse_peers(lines) == ["192.0.2.2"]


@pytest.mark.parametrize("text", [
    "", "\n\n", "\n  Invalid command: [show configuration commands]\n\n", "-vbash: vyos-config-to-commands: command not found\n",
    CONFIGURATION + "Connection to router lost\n",
])
def test_no_configuration(text):
    with pytest.raises(NotUnderstood):
        _vyos.parse_commands(text)


def test_a_line_that_is_not_understood_is_not_shown_as_it_may_be_a_secret():
    with pytest.raises(NotUnderstood, match="line 2 of the configuration") as caught:
        _vyos.parse_commands("set system host-name edge\nhunter2\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", [
    "set protocols static route nonsense blackhole", "set protocols static route 203.0.113.10/24 blackhole tag '1'",
    "set protocols static route 203.0.113.10/32 blackhole tag 'many'", "set protocols static route",
    "set protocols static route 2001:db8::1/128 blackhole", "set protocols static route6 203.0.113.10/32 blackhole",
])
def test_static_routes_that_are_not_understood(line):
    with pytest.raises(NotUnderstood):
        _vyos.parse_statics(_vyos.parse_commands(line))


@pytest.mark.parametrize(("lines", "reload"), [
    (["commit-confirm action 'reload'", "commit-revisions '100'"], True), (["commit-confirm 'reload'", "commit-revisions '5'"], True),
    (["commit-confirm action 'reboot'", "commit-revisions '100'"], False), (["commit-revisions '100'"], False),
    (["commit-confirm action 'reload'"], False), (["commit-confirm action 'reload'", "commit-revisions '0'"], False),
])
def test_how_an_unconfirmed_change_is_taken_back(lines, reload):
    text = "set system host-name edge\n" + "".join("set system config-management %s\n" % line for line in lines)
    assert _vyos.takes_back_by_reload(_vyos.parse_commands(text)) is reload


def test_a_commit_that_waits_and_whose_it_is():
    assert _vyos.parse_timer("active\n") and not _vyos.parse_timer("inactive\n")
    assert _vyos.parse_entry("|1795276800|jdoe|cli|commit|\n") == "jdoe"
    assert _vyos.parse_entry("cat: /tmp/commit-rev-entry: No such file or directory\n") is None
    for parse in (_vyos.parse_timer, _vyos.parse_entry):
        for text in ("", "Invalid command: [x]\n", "|x|\n", "active\nactive\n"):
            with pytest.raises(NotUnderstood):
                parse(text)


def test_routes_in_use():
    one = '{"203.0.113.10/32": [{"protocol": "static"}]}'
    assert _vyos.parse_routes("%s\n{\n}\n{}\n" % one)["static"] == {"203.0.113.10/32": [{"protocol": "static"}]}
    for text in ("", one, "{}{}", "{}{}{}{}", "{}{}[]", "{}{}{", "% Unknown command: show\n", '{}{}{"x": []}',
                 "Exiting: failed to connect to any daemons.\n"):
        with pytest.raises(NotUnderstood):
            _vyos.parse_routes(text)


# -- ports ---------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["eth0", "eth1.100", "bond0.7", "eth3.10.20"])
ANYTHING = st.text(max_size=20) | st.sampled_from(["eth1;reboot", "eth1\nset system", "eth1 $(id)", "eth1'", "eth", "lo", "eth1.100.2.3"])
NUMBERS = st.lists(st.integers(1, 65535), min_size=1, max_size=40, unique=True)
MODES = st.sampled_from(["off", "observe", "enforce"])
PREFIXES = st.lists(st.sampled_from(["203.0.113.7/32", "2001:db8:100::/64", "203.0.113.16/28", "2001:db8:100::7/128"]), unique=True)


def terms(name, dark=True, guard="enforce", mail="enforce", ports=(25,), own=("203.0.113.7/32",), hosts=(), blocks=(), rate=None):
    return {"interface": name, "service": "ded-1", "own": list(own), "dark": dark, "guard": guard, "smarthosts": list(hosts),
            "smtp": {"mode": mail, "ports": list(ports)}, "blocks": list(blocks), "rate_bps": rate}


TERMS = st.builds(terms, NAMES, st.booleans(), MODES, MODES, NUMBERS, PREFIXES, PREFIXES, st.lists(st.builds(
    lambda way, protocol, ports: {"direction": way, "protocol": protocol, "ports": ports}, st.sampled_from(["in", "out"]),
    st.sampled_from(["tcp", "udp"]), NUMBERS), max_size=2), st.none() | st.integers(8, 10**11))


def entered(lines, commands):
    """The configuration after commands that the gate lets pass."""
    lines = list(lines)
    for command in commands:
        verb, _space, path = _gate.pass_line(command, _vyos.GRAMMAR, (), _vyos.Vyos.ALLOWED).partition(" ")
        words = tuple(path.split(" "))
        lines = [line for line in lines if line[:len(words)] != words] if verb == "delete" else [*lines, words]
    return lines


@settings(max_examples=150, deadline=None)
@given(st.lists(TERMS, max_size=4, unique_by=lambda one: one["interface"]), TERMS)
def test_what_is_entered_for_ports_is_read_back_as_it_was_meant_and_goes_wholly(ports, last):
    operators = [*_vyos_ports.READY, ("firewall", "ipv4", "name", "aup-ports", "rule", "10", "action", "return")]
    lines = operators
    for port in [*ports, last]:
        rows, plain, used = _vyos_ports.parse(lines)
        slots = _vyos_ports.slots([port["interface"]], plain, used)
        wanted = _vyos_ports.rules(port)
        lines = entered(lines, _vyos_ports.commands(wanted, plain.get(port["interface"], ()), slots[port["interface"]]))
        again, _plain, _used = _vyos_ports.parse(lines)
        assert again.get(port["interface"], []) == wanted and {**rows, port["interface"]: wanted} == {**again, port["interface"]: wanted}
    _rows, plain, used = _vyos_ports.parse(lines)
    slots = _vyos_ports.slots([], plain, used)
    for name in plain:
        lines = entered(lines, _vyos_ports.commands([], plain[name], slots[name]))
    assert sorted(lines) == sorted(operators)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_no_name_yields_a_line_that_was_not_meant(name):
    try:
        wanted = _vyos_ports.rules(terms(name, rate=8000))
    except ValueError:
        return
    for line in _vyos_ports.commands(wanted, (), (10, 15)):
        assert _gate.pass_line(line, _vyos.GRAMMAR, (), _vyos.Vyos.ALLOWED) == line and not set(line) & set("\n;$'`|&!")


@pytest.mark.parametrize("line", [
    "delete firewall", "delete firewall ipv4 name WAN-IN", "delete firewall ipv4 name aup-ports", "set firewall ipv4 forward filter rule 1 action drop",
    "delete interfaces ethernet eth1", "set interfaces ethernet eth1 disable", "set firewall ipv4 name aup-eth1-from rule 10 action accept",
    "set qos interface eth1 egress FS", "delete qos interface eth1", "delete protocols static", "delete protocols bgp", "save /tmp/x", "commit\nreboot",
])
def test_lines_that_are_never_sent(line):
    with pytest.raises(InputError):
        _gate.pass_line(line, _vyos.GRAMMAR, (), _vyos.Vyos.ALLOWED)


# -- drops ---------------------------------------------------------------------------------------------------------------

MEMBERS = st.lists(st.one_of(
    st.ip_addresses(v=4).map(lambda a: "%s/32" % a), st.ip_addresses(v=6).map(lambda a: "%s/128" % a),
    st.sampled_from(["198.51.100.0/24", "2001:db8:bad::/48"])), max_size=5).map(outermost)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["d0123456789ab", "dba9876543210"]), MEMBERS, MEMBERS, MEMBERS), min_size=1, max_size=5))
def test_drops_are_read_back_as_they_were_meant_and_go_wholly(steps):
    operators = [*_vyos_ports.READY, ("firewall", "ipv4", "name", "aup-ports", "rule", "500000", "action", "return")]
    lines, wanted = operators, {}
    known = {"known_drops": [{"key": key, "service": key} for key in ("d0123456789ab", "dba9876543210")]}

    def carried_out(lines, wanted):
        found, used = _vyos_drops.parse(lines, True)
        slots = _vyos_drops.slots(list(wanted), found, used)
        for change in plan_drops({**known, "drops": list(wanted.values())}, found)["changes"]:
            lines = entered(lines, _vyos_drops.commands(change, slots[change["drop"]]))
        return lines

    for key, local, inward, outward in steps:
        if not local and not inward and not outward:
            continue
        wanted[key] = {"key": key, "service": key, "local": local, "in": inward, "out": outward, "ends": {}}
        lines = carried_out(lines, wanted)
        assert not plan_drops({**known, "drops": list(wanted.values())}, _vyos_drops.parse(lines, True)[0])["changes"]
        assert len(set(lines)) == len(lines)
    assert sorted(carried_out(lines, {})) == sorted(operators)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.sampled_from(["d0123456789ab\n", "d0123456789ab '", "d" * 13]), st.text(max_size=30))
def test_no_handle_and_no_member_yields_a_line_that_was_not_meant(key, text):
    drop = {"key": key, "local": ["203.0.113.10/32"], "in": [text], "out": []}
    try:
        lines = _vyos_drops.commands({"drop": key, "found": None, "wanted": drop}, 500000)
    except ValueError:
        return
    for line in lines:
        _gate.pass_line(line, _vyos.GRAMMAR, (), _vyos.Vyos.ALLOWED)


@pytest.mark.parametrize("member", ["x", "198.51.100.7-198.51.100.9", "2001:db8::/32", "198.51.100.7/24"])
def test_a_member_that_is_not_understood(member):
    with pytest.raises(NotUnderstood):
        _vyos_drops.parse([("firewall", "group", "network-group", "aup-d0123456789ab-in4", "network", member)], True)
