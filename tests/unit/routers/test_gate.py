# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No field's input yields a line that was not meant: builders and gate under a fuzzer."""
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._router import (
    _eos,
    _filters,
    _frr,
    _gate,
    _iosxe,
    _junos,
    _junos_drops,
    _linux,
    _routeros,
    _running_drops,
    _vyos,
)

GRAMMARS = {"frr": _frr.GRAMMAR, "linux": _linux.GRAMMAR}
VENDORS = {driver.name: driver for driver in (_eos.Eos, _iosxe.IosXe, _junos.Junos, _routeros.RouterOs, _vyos.Vyos)}
# What each platform may be told about one prefix and one mark; nothing else is ever built.
MEANT = {
    "eos": ("ip{v} route {p} Null0 tag {m}", "no ip{v} route {p} Null0"),
    "iosxe": ("ip route {a} {n} Null0 tag {m}", "no ip route {a} {n} Null0", "ipv6 route {p} Null0 tag {m}",
              "no ipv6 route {p} Null0"),
    "junos": ("set routing-options {t} route {p} discard", "set routing-options {t} route {p} tag {m}",
              "delete routing-options {t} route {p}"),
    "routeros": ('/ip{v}/route/add dst-address={p} blackhole comment="aup:{m}"',
                 '/ip{v}/route/remove [find where dst-address="{p}" comment="aup:{m}" blackhole dynamic=no]'),
    "vyos": ("set protocols static route{s} {p} blackhole tag {m}", "delete protocols static route{s} {p}"),
}
# What is asked of BGP, with the values that stand in it.
ASKED = {
    "eos": ("show ip bgp 203.0.113.10/32 detail | json", "show ipv6 bgp 2001:db8::1/128 detail | json", "show ip bgp summary | json"),
    "iosxe": ("show bgp ipv4 unicast 203.0.113.10/32", "show bgp ipv6 unicast neighbors 2001:db8::2 advertised-routes"),
    "junos": ("show route advertising-protocol bgp 192.0.2.2 203.0.113.10/32 exact detail | display json",
              "show route advertising-protocol bgp 2001:db8::2 2001:db8::1/128 exact detail | display json"),
    "routeros": (_routeros.PEERS, _routeros.ROUTES[4], _routeros.DROPS[6], _routeros.ADDRESSES[6], _routeros.VERSION),
    "vyos": ('vtysh -c "show bgp ipv4 unicast 203.0.113.10/32 json"', 'vtysh -c "show bgp ipv6 unicast 2001:db8::1/128 json"'),
}
NASTY = ["\n", "\r", "\x1a", "\x03", "\t", "?", "|", ";", "&", "$(reboot)", "`id`", "\\", "!", "#", "  ", "\x00", "\u0661",
         "\u2028", "%lo", "/0", " no router bgp 1", "exit", "١"]
prefixes = st.one_of(
    st.text(max_size=60), st.sampled_from(NASTY),
    st.builds(lambda a, b, c: a + b + c, st.sampled_from(["203.0.113.10", "2001:db8::1", "0.0.0.0", "::"]),
              st.sampled_from([*NASTY, "", "/32", "/128", "/24"]), st.sampled_from([*NASTY, "", "/32"])),
    st.ip_addresses().map(str), st.ip_addresses().map(lambda a: "%s/%d" % (a, a.max_prefixlen)), st.integers(), st.none())
numbers = st.one_of(st.integers(-5, 2**40), st.text(max_size=12), st.booleans(), st.none(), st.floats(), st.sampled_from(NASTY))


def built(platform, action, prefix, mark):
    """The lines of one change, or None when the builder refuses."""
    change = {"action": action, "prefix": prefix, "mark": mark, "before": []}
    try:
        if platform == "frr":
            return _frr.commands(change) + (_frr.undo(change) if action == "add" else [])
        return _linux.Linux.commands(None, change) + _linux.Linux.undo(None, change)
    except (ValueError, TypeError):
        return None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(("frr", "linux")), st.sampled_from(("add", "remove")), prefixes, numbers)
@example("frr", "add", "203.0.113.10/32\nip route 203.0.113.11/32 blackhole", 41666)
@example("frr", "add", "203.0.113.10/24", 41666)
@example("frr", "add", "2001:db8:0::1/128", 41666)
@example("frr", "add", "fe80::1%lo/128", 41666)
@example("linux", "remove", "203.0.113.10/32", "66; reboot")
def test_what_is_built_says_what_was_meant_or_nothing(platform, action, prefix, mark):
    for line in built(platform, action, prefix, mark) or ():
        try:
            _gate.pass_line(line, GRAMMARS[platform])
        except InputError:
            continue
        words = line.split(" ")
        network = ipaddress.ip_network(next(word for word in words if "/" in word))
        assert str(network) == prefix and words[-1] == str(mark) and network.prefixlen > 0
        expected = {
            "frr": ["no"] * (words[0] == "no") + ["ip" if network.version == 4 else "ipv6", "route", prefix, "blackhole",
                                                 "tag", str(mark)],
            "linux": ["route", words[1], "blackhole", prefix, "proto", str(mark)]}[platform]
        assert words == expected and (platform == "frr" or words[1] in ("add", "del"))


def vendor(name):
    """A driver without a connection."""
    return VENDORS[name].__new__(VENDORS[name])


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(VENDORS)), st.sampled_from(("add", "remove")), prefixes, numbers, st.booleans())
@example("junos", "add", "203.0.113.10/32 discard\nset system root-authentication", 41666, False)
@example("eos", "add", "203.0.113.10/24", 41666, True)
def test_what_is_built_for_a_vendor_says_what_was_meant_or_nothing(name, action, prefix, mark, there):
    driver = vendor(name)
    try:
        lines = driver._lines(action, prefix, mark, there)
    except (ValueError, TypeError):
        return
    network = ipaddress.ip_network(prefix)
    assert str(network) == prefix and isinstance(mark, int) and 1 <= mark <= 4294967295
    meant = {text.format(p=prefix, m=mark, v="v6" if network.version == 6 else "", a=network.network_address,
                         n=network.netmask, t="static" if network.version == 4 else "rib inet6.0 static", s="6" if network.version == 6 else "")
             for text in MEANT[name]}
    for line in lines:
        assert _gate.pass_line(line, driver.GRAMMAR, driver.TAILS, driver.ALLOWED) in meant


PORTS = {"eos": "Ethernet1/1.100", "iosxe": "GigabitEthernet0/0/1.100", "junos": "ge-0/0/1.100"}
GOOD = {"interface": "", "service": "ded-1", "own": ["203.0.113.10", "203.0.113.64/26", "2001:db8:100::10", "2001:db8:100:1::/64"],
        "dark": False, "guard": "enforce", "smtp": {"mode": "enforce", "ports": [25, 465]}, "smarthosts": ["198.51.100.25/32", "2001:db8::25/128"],
        "blocks": [{"direction": "out", "protocol": "tcp", "ports": [6667]}, {"direction": "in", "protocol": "udp", "ports": [53]}],
        "rate_bps": 10_000_000}


def port_lines(name, port, changed=()):
    """What is sent to put terms on a port, and to take them off again."""
    caps = {"eos": (), "iosxe": ("cap-in", "cap-out"), "junos": ("cap-in4", "cap-in6", "cap-out4", "cap-out6")}[name]
    wanted = _filters.in_order(_filters.wanted({**GOOD, "interface": port, **dict(changed)}, (4, 6), caps, {}, set()))
    platform = VENDORS[name].PORTS
    return (_filters.commands(platform, {"port": port, "before": [], "wanted": wanted})
            + _filters.commands(platform, {"port": port, "before": wanted, "wanted": None}))


@pytest.mark.parametrize("name", sorted(PORTS))
@pytest.mark.parametrize("changed", [{}, {"dark": True}, {"guard": "observe", "smtp": {"mode": "observe", "ports": [25]}}])
def test_all_lines_about_ports_pass_and_come_in_pairs(name, changed):
    lines = port_lines(name, PORTS[name], changed)
    for line in lines:
        assert _gate.pass_line(line, VENDORS[name].GRAMMAR, VENDORS[name].TAILS) == line
    made = {word for line in lines for word in line.split() if word.startswith("aup-") and "-" in word[4:]}
    assert all(len([line for line in lines if word in line.split() and line.startswith(("no ", "delete "))]) >= 2 for word in made)


DROP = {"key": "d0123456789ab", "local": ["203.0.113.10/32", "2001:db8:100::/64"], "in": ["198.51.100.7/32", "2001:db8:bad::/48"],
        "out": ["198.51.100.0/24"]}


def drop_lines(name, **changed):
    """What is sent to put a drop on, and to take it off again."""
    drop = {**DROP, **changed}
    found = {"eos": lambda: {"entries": {"4": {str(_running_drops.block(DROP["key"])): "deny ip 192.0.2.0/24 203.0.113.10/32"}, "6": {}}},
             "junos": lambda: dict(zip(("lists", "terms"), _junos_drops.expected(drop)), late=[])}[name]()
    drops = VENDORS[name].DROPS
    return (drops.commands({"drop": drop["key"], "found": None, "wanted": drop})
            + drops.commands({"drop": drop["key"], "found": found, "wanted": None}))


@pytest.mark.parametrize("name", ["eos", "junos"])
def test_lines_about_drops_pass_and_nothing_can_be_put_into_them(name):
    driver = VENDORS[name]
    for line in drop_lines(name):
        assert _gate.pass_line(line, driver.GRAMMAR, driver.TAILS, driver.ALLOWED) == line
        for at in (0, len(line) // 2, len(line)):
            for bad in NASTY:
                if bad not in ("/0", "exit"):
                    with pytest.raises(InputError):
                        _gate.pass_line(line[:at] + bad + line[at:], driver.GRAMMAR, driver.TAILS, driver.ALLOWED)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["eos", "junos"]), st.sampled_from(["key", "local", "in", "out"]), st.one_of(
    st.text(max_size=40), st.sampled_from(NASTY), prefixes))
def test_no_field_of_a_drop_yields_a_line_that_was_not_meant(name, field, value):
    driver, good = VENDORS[name], set(drop_lines(name))
    try:
        lines = drop_lines(name, **{field: value if field == "key" else [value]})
    except (ValueError, TypeError, AttributeError):
        return
    for line in lines:
        try:
            _gate.pass_line(line, driver.GRAMMAR, driver.TAILS, driver.ALLOWED)
        except InputError:
            continue
        assert line in good or "aup-d" in line or " deny ip" in line or line.startswith("no "), line
        assert line.isascii() and line.isprintable() and not set("\n;|&`") & set(line)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(PORTS)), st.integers(0, 400), st.integers(0, 120), st.sampled_from([n for n in NASTY if n not in ("/0", "exit")]))
def test_nothing_can_be_put_into_a_good_line_about_a_port(name, which, at, bad):
    lines = port_lines(name, PORTS[name])
    line = lines[which % len(lines)]
    with pytest.raises(InputError):
        _gate.pass_line(line[:at] + bad + line[at:], VENDORS[name].GRAMMAR, VENDORS[name].TAILS)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(PORTS)), st.one_of(
    st.text(max_size=50), st.sampled_from(NASTY), st.builds(lambda a, b: a + b, st.sampled_from(sorted(PORTS.values())), st.sampled_from(NASTY))),
    st.one_of(st.sampled_from(NASTY), st.text(max_size=40), prefixes), st.one_of(st.integers(-5, 10**7), st.sampled_from(NASTY), st.none()))
@example("junos", "ge-0/0/1.100 disable", "203.0.113.10", 25)
@example("iosxe", "GigabitEthernet0/0/1\nshutdown", "203.0.113.10", 25)
@example("eos", "Ethernet1", "203.0.113.10 any\npermit ip any any", 25)
def test_no_field_of_a_port_yields_a_line_that_was_not_meant(name, port, address, number):
    driver = VENDORS[name]
    for changed, face in (({}, port), ({"own": [address]}, PORTS[name]), ({"smtp": {"mode": "enforce", "ports": [number]}}, PORTS[name]),
                          ({"blocks": [{"direction": "out", "protocol": address, "ports": [number]}]}, PORTS[name])):
        good = set(port_lines(name, PORTS[name]))
        try:
            lines = port_lines(name, face, changed)
        except (ValueError, TypeError, AttributeError, KeyError, UnicodeEncodeError):
            continue
        for line in lines:
            try:
                _gate.pass_line(line, driver.GRAMMAR, driver.TAILS)
            except InputError:
                continue
            assert line in good or "aup-" in line or line.startswith(("permit ", "deny ", "interface ")), line
            assert line.isascii() and line.isprintable() and not set("\n;|&`") & set(line)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(VENDORS)), st.text(max_size=120), st.sampled_from(("", " | json", " | display set", " | no-more")))
def test_no_text_passes_that_is_no_line_of_a_vendor(name, text, tail):
    driver = VENDORS[name]
    try:
        line = _gate.pass_line(text + tail, driver.GRAMMAR, driver.TAILS, driver.ALLOWED)
    except InputError as exc:
        assert exc.code == "gate" and all(0x20 <= ord(char) < 0x7f for char in str(exc))
        return
    assert line.isascii() and line.isprintable() and any(pattern.fullmatch(line) for pattern in driver.GRAMMAR)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(VENDORS)), st.integers(0, 90), st.sampled_from([n for n in NASTY if n not in ("/0", "exit")]))
def test_nothing_can_be_put_into_a_good_line_of_a_vendor(name, at, bad):
    driver = vendor(name)
    for line in [*driver._lines("add", "203.0.113.10/32", 41666, False), *driver._lines("remove", "2001:db8::1/128", 41666, True),
                 *ASKED[name]]:
        _gate.pass_line(line, driver.GRAMMAR, driver.TAILS, driver.ALLOWED)
        with pytest.raises(InputError):
            _gate.pass_line(line[:at] + bad + line[at:], driver.GRAMMAR, driver.TAILS, driver.ALLOWED)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(GRAMMARS)), st.text(max_size=250))
def test_no_text_passes_that_is_no_line_of_the_platform(platform, text):
    try:
        line = _gate.pass_line(text, GRAMMARS[platform])
    except InputError as exc:
        assert exc.code == "gate" and all(0x20 <= ord(char) < 0x7f for char in str(exc))
        return
    assert line == text and text.isascii() and text.isprintable() and not set(text) & set("?|;&$<>`\\\"'!#")


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([
    ("frr", "ip route 203.0.113.10/32 blackhole tag 41666"), ("frr", "show bgp ipv6 unicast 2001:db8::1/128 json"),
    ("frr", "write memory"), ("linux", "route add blackhole 203.0.113.10/32 proto 66"),
    ("linux", "route show table main exact 2001:db8::1/128"),
]), st.integers(0, 60), st.sampled_from([n for n in NASTY if n not in ("/0", "exit")]))
def test_nothing_can_be_put_into_a_good_line(good, at, bad):
    platform, line = good
    assert _gate.pass_line(line, GRAMMARS[platform]) == line
    with pytest.raises(InputError):
        _gate.pass_line(line[:at] + bad + line[at:], GRAMMARS[platform])


@pytest.mark.parametrize("line", [
    "clear bgp *", "reload", "no router bgp 64500", "ip route 0.0.0.0/0 blackhole tag 1", "ip route 203.0.113.10/32 192.0.2.1",
    "no ip route 203.0.113.10/32", "show running-config | include x", "configure terminal ", "ip route 300.0.113.10/32 blackhole tag 1",
    "ip route 203.0.113.10/33 blackhole tag 1", "do write erase", "",
])
def test_lines_that_are_never_sent_to_frr(line):
    with pytest.raises(InputError):
        _gate.pass_line(line, _frr.GRAMMAR)
