# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What VyOS prints, as its sources and public configurations tell: understood exactly, or an error."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _vyos
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import NotUnderstood

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
            _vyos._of_frr(_vyos.parse_routes)(text)
