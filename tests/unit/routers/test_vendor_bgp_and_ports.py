# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Announcements and ports of the vendors' routers: what their answers and configurations mean, or an error."""
from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.plugin_utils._router import (
    _eos,
    _filters,
    _iosxe,
    _junos,
    _junos_ports,
    _running,
    _running_bgp,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood
from tests.unit.routers import recorded_output as recorded

PEERS = ("192.0.2.2", "2001:db8:1::2")
RTBH = {"tag": 41667, "route_map": "RTBH", "trigger": "64500:666", "upstreams": [
    {"name": "up1", "neighbors": list(PEERS), "community": "65535:666", "max": 50}]}


def test_recorded_answers_about_bgp():
    assert _eos.parse_bgp(recorded.EOS_BGP_DETAIL) == {"to": ["1.0.4.223"], "communities": []}
    assert _eos.parse_summary(recorded.EOS_BGP_SUMMARY) == {"100.64.1.0"}
    assert _iosxe.parse_summary(recorded.IOS_BGP_SUMMARY) == {"10.0.0.1", "10.0.0.3", "10.0.0.9"}
    assert _iosxe.parse_summary(recorded.IOSXE_BGP_SUMMARY6) == set()
    assert _iosxe.parse_advertised(recorded.IOS_ADVERTISED) == {"113.55.45.0/24", "113.55.48.0/24", "113.55.50.0/24"}
    # The recording was made anonymous: what has host bits now is no prefix.
    assert _iosxe.parse_advertised(recorded.IOS_ADVERTISED_WRAPPED) == {"11.222.12.0/23"}


@pytest.mark.parametrize(("parse", "good"), [
    (_eos.parse_bgp, recorded.EOS_BGP_DETAIL), (_eos.parse_summary, recorded.EOS_BGP_SUMMARY),
    (_iosxe.parse_summary, recorded.IOS_BGP_SUMMARY), (_iosxe.parse_advertised, recorded.IOS_ADVERTISED),
])
def test_an_answer_that_is_cut_short_or_a_complaint_is_an_error(parse, good):
    parse(good)
    for text in ("% Invalid input detected at '^' marker.\n", "nonsense", good[:len(good) // 2]):
        if text == good[:len(good) // 2] and parse is _iosxe.parse_summary:
            continue  # its rows end without a mark; it is cut inside one below
        with pytest.raises(NotUnderstood):
            parse(text)
    with pytest.raises(NotUnderstood):
        _iosxe.parse_summary(recorded.IOS_BGP_SUMMARY[:-70])


def test_one_prefix_in_bgp_on_iosxe():
    text = ("BGP routing table entry for 203.0.113.10/32, version 5\nPaths: (1 available, best #1, table default)\n  Local\n"
            "    0.0.0.0 from 0.0.0.0 (192.0.2.1)\n      Origin incomplete, valid, sourced, best\n      Community: 4227072666 no-export\n")
    assert "4227072666" in _running_bgp.community_texts("64500:666") and _iosxe.parse_bgp(text) == ["4227072666", "no-export"]
    assert _iosxe.parse_bgp("% Network not in table\n") is None
    for bad in ("", "% Authorization denied\n"):
        with pytest.raises(NotUnderstood):
            _iosxe.parse_bgp(bad)


READY = """router bgp 64500
 bgp log-neighbor-changes
 neighbor UP peer-group
 neighbor 192.0.2.2 remote-as 64501
 neighbor 192.0.2.2 peer-group UP
 neighbor 2001:DB8:1::2 remote-as 64501
 !
 address-family ipv4
  redistribute static route-map RTBH
  neighbor UP send-community both
  neighbor UP route-map TO-up1 out
  no neighbor 2001:DB8:1::2 activate
 exit-address-family
 !
 address-family ipv6
  redistribute static route-map RTBH
  neighbor 2001:DB8:1::2 activate
  neighbor 2001:DB8:1::2 send-community
  neighbor 2001:DB8:1::2 route-map TO-up1 out
 exit-address-family
 !
 address-family ipv4 vrf BLUE
  redistribute static
 exit-address-family
!
route-map RTBH permit 10
 match tag 41667
 set community 4227072666
!
route-map TO-up1 permit 10
 match community TRIGGER
 set community 4294902426 no-export
!
route-map TO-up1 deny 20
"""


def test_what_announcing_needs_is_there_or_named():
    def missing(text, everywhere=False):
        return _running_bgp.missing_for_rtbh(text.splitlines(), RTBH, everywhere)

    assert missing(READY) == {"4": [], "6": []}
    for gone, version, said in (
            ("  neighbor UP send-community both\n", "4", "  neighbor 192.0.2.2 send-community"),
            ("  neighbor UP route-map TO-up1 out\n", "4", "  neighbor 192.0.2.2 route-map TO-up1 out"),
            ("  neighbor 2001:DB8:1::2 activate\n  neighbor 2001:DB8:1::2 send", "6", "  neighbor 2001:db8:1::2 activate"),
            (" match tag 41667\n", "6", " match tag 41667"), (" set community 4294902426 no-export\n", "4", " set community 65535:666 no-export")):
        found = missing(READY.replace(gone, "  neighbor 2001:DB8:1::2 send" if gone.endswith("send") else ""))
        assert said in found[version], (gone, found)
    extended = READY.replace("send-community both", "send-community extended")
    assert "  neighbor 192.0.2.2 send-community" in missing(extended)["4"]
    # EOS: what stands under router bgp itself holds for both families.
    plain = READY.replace(" !\n address-family ipv4\n  redistribute static route-map RTBH\n", " redistribute static route-map RTBH\n").replace(
        " address-family ipv6\n  redistribute static route-map RTBH\n", " address-family ipv6\n")
    assert missing(plain, everywhere=True)["6"] == [] and missing(plain)["6"]
    assert missing("!\n")["4"] == ["router bgp <your AS>"]


JUNOS = """set policy-options policy-statement RTBH-up1 term rtbh from protocol static
set policy-options policy-statement RTBH-up1 term rtbh from tag 41667
set policy-options policy-statement RTBH-up1 term rtbh then community add BLACKHOLE
set policy-options policy-statement RTBH-up1 term rtbh then accept
set policy-options community BLACKHOLE members 65535:666
set policy-options community BLACKHOLE members no-export
"""
JUNOS_BGP = """set protocols bgp group up1 export RTBH-up1
set protocols bgp group up1 export REST
set protocols bgp group up1 neighbor 192.0.2.2 peer-as 64501
set protocols bgp group up1 neighbor 2001:db8:1::2 peer-as 64501
"""


def test_what_announcing_needs_on_junos():
    def missing(policies, bgp):
        return _junos.missing_for_rtbh(_junos.active(_junos.parse_set(policies)), _junos.active(_junos.parse_set(bgp)), RTBH)

    assert missing(JUNOS, JUNOS_BGP) == {"4": [], "6": []}
    own = JUNOS_BGP + "set protocols bgp group up1 neighbor 192.0.2.2 export OWN\n"
    found = missing(JUNOS, own)
    assert found["6"] == [] and found["4"][-1] == "insert protocols bgp group up1 neighbor 192.0.2.2 export RTBH-up1 before OWN"
    for policies in (JUNOS.replace("tag 41667", "tag 7"), JUNOS.replace("members 65535:666", "members 64501:1"), JUNOS.replace("then accept", "then reject"),
                     JUNOS + "deactivate policy-options policy-statement RTBH-up1 term rtbh\n"):
        assert "set policy-options policy-statement RTBH-up1 term rtbh from tag 41667" in missing(policies, JUNOS_BGP)["4"]
    assert missing(JUNOS, "")["4"] == ["# BGP has no neighbor 192.0.2.2 (rtbh.upstreams of the catalogue)"]


def test_what_a_neighbor_is_told_on_junos():
    route = {"rt-destination": [{"data": "203.0.113.10/32"}], "rt-entry": [
        {"protocol-name": [{"data": "BGP"}], "communities": [{"community": [{"data": "65535:666"}, {"data": "no-export"}]}]}]}
    document = {"route-information": [{"route-table": [{"table-name": [{"data": "inet.0"}], "rt": [route]}]}]}
    assert _junos.parse_advertised(json.dumps(document)) == ["65535:666", "no-export"]
    bare = copy.deepcopy(document)
    bare["route-information"][0]["route-table"][0]["rt"][0]["rt-entry"][0].pop("communities")
    assert _junos.parse_advertised(json.dumps(bare)) == []
    assert _junos.parse_advertised("\n") is None is _junos.parse_advertised('{"route-information": [{}]}')
    for bad in ("error: permission denied\n", "[]", '{"route-information": [{"route-table": [{"rt": [{}]}]}]}'):
        with pytest.raises(NotUnderstood):
            _junos.parse_advertised(bad)
    summary = {"bgp-information": [{"bgp-peer": [{"peer-address": [{"data": "192.0.2.2+179"}], "peer-state": [{"data": "Established"}]},
                                                {"peer-address": [{"data": "192.0.2.3"}], "peer-state": [{"data": "Active"}]}]}]}
    assert _junos.parse_summary(json.dumps(summary)) == {"192.0.2.2"}
    for bad in ("BGP is not running\n", "{}", '{"bgp-information": [{"bgp-peer": [{}]}]}'):
        with pytest.raises(NotUnderstood):
            _junos.parse_summary(bad)


TERMS = {"interface": "", "service": "ded-1", "own": ["10.39.246.30"], "dark": True, "guard": "off", "smtp": {"mode": "off", "ports": []},
         "smarthosts": [], "blocks": [], "rate_bps": None}


def test_recorded_interfaces_in_a_vrf_are_no_ports_of_ours():
    lines = _running.whole(recorded.IOS_INTERFACES + "end\n")
    names = ["GigabitEthernet2/0/4.223415", "GigabitEthernet2/0/4.223436"]
    seen = _iosxe.PORTS.look(lines, [{**TERMS, "interface": name} for name in names], {}, [], [])
    assert all("in a VRF" in seen[name]["objection"] and seen[name]["found"] is None for name in names)
    plain = [line for line in lines if "vrf forwarding" not in line]
    seen = _iosxe.PORTS.look(plain, [{**TERMS, "interface": name} for name in names], {}, [], [])
    assert seen[names[0]]["objection"] is None and seen[names[1]]["objection"].endswith("ip access-group iACL in")
    capped = {**TERMS, "dark": False, "rate_bps": 10**7, "interface": names[0]}
    assert "VIPSIP_POLICY_2048_V1" in _iosxe.PORTS.look(plain, [capped], {}, [], [])[names[0]]["objection"]


def test_rules_as_routers_print_them():
    for words, version, text in (
            ("10 permit ip 172.16.1.0/24 any", 4, "permit ip 172.16.1.0/24 any"), ("deny tcp any any eq smtp", 4, "deny tcp any any eq 25"),
            ("20 permit ip 172.16.1.0 0.0.0.255 host 10.0.0.1", 4, "permit ip 172.16.1.0/24 10.0.0.1/32"),
            ("sequence 10 permit ipv6 2001:DB8::/64 any", 6, "permit ip 2001:db8::/64 any"),
            ("permit tcp host 2001:DB8:1::32 host 2001:DB8:2::32 eq ssh sequence 1", 6, "permit tcp 2001:db8:1::32/128 2001:db8:2::32/128 eq 22"),
            ("counters per-entry", 4, None), ("65000 deny ip any any log", 4, "other deny ip any any log"),
            ("permit tcp any eq www ups telnet any", 4, "other permit tcp any eq www ups telnet any"),
            ("permit ip 10.0.0.0 0.255.0.255 any", 4, "other permit ip 10.0.0.0 0.255.0.255 any"), ("remark hello", 4, "other remark hello")):
        assert _iosxe.PORTS.rule(words.split(), version) == text
    rows = [line.split() for line in recorded.EOS_ACCESS_LIST.splitlines() if line.startswith("   ")]
    assert [_eos.PORTS.rule(row, 4) for row in rows] == [
        "permit ip 10.0.0.1/32 10.0.0.0/24", None, "permit icmp any any",
        "other permit tcp any any eq ssh telnet www snmp bgp https msdp", "other permit tcp any any range 5900 5910",
        "other permit ip 1.1.1.0/30 any fragments log"]


addresses = st.sampled_from(["203.0.113.10", "203.0.113.64/26", "2001:db8:100::10", "2001:db8:200::/56"])
ports_of_mail = st.lists(st.sampled_from([25, 465, 587]), unique=True, max_size=3)
terms = st.fixed_dictionaries({
    "interface": st.just("x"), "service": st.just("ded-1"), "own": st.lists(addresses, unique=True, min_size=1), "dark": st.booleans(),
    "guard": st.sampled_from(["off", "observe", "enforce"]),
    "smtp": st.fixed_dictionaries({"mode": st.sampled_from(["off", "observe", "enforce"]), "ports": ports_of_mail}),
    "smarthosts": st.lists(st.sampled_from(["198.51.100.25/32", "2001:db8:25::/64"]), unique=True),
    "blocks": st.lists(st.fixed_dictionaries({"direction": st.sampled_from(["in", "out"]), "protocol": st.sampled_from(["tcp", "udp"]),
                                              "ports": st.lists(st.sampled_from([53, 6667]), min_size=1, unique=True)}), max_size=2),
    "rate_bps": st.sampled_from([None, 5_000_000, 1_000_000_000])})


@settings(max_examples=150, deadline=None)
@given(terms, st.sampled_from(["iosxe", "junos"]))
def test_what_is_entered_reads_back_as_it_was_meant(port, platform):
    """Builders and parsers agree, whatever is asked of a port."""
    if platform == "junos":
        port = {**port, "interface": "ge-0/0/1.100"}
        base = ["interfaces ge-0/0/1 unit 100 family inet address 192.0.2.1/30", "interfaces ge-0/0/1 unit 100 family inet6 address 2001:db8:9::1/64"]

        def look(sets):
            return _junos_ports.look([line for line in sets if line.startswith("interfaces")],
                                     [line for line in sets if line.startswith("firewall")], [], [], [port], {}, [], [])["ge-0/0/1.100"]

        def entered(lines):
            return base + [line[4:] for line in lines]

        before = look(base)
        lines = _filters.commands(_junos_ports, {"port": port["interface"], "before": [], "wanted": before["wanted"]})
        after = look(entered(lines))
    else:
        port = {**port, "interface": "GigabitEthernet1.7"}
        head = ["interface GigabitEthernet1.7", " ip address 192.0.2.1 255.255.255.252", " ipv6 address 2001:DB8:9::1/64"]

        def look(text):
            return _iosxe.PORTS.look(text, [port], {}, [], [])[port["interface"]]

        before = look(head)
        lines = _filters.commands(_iosxe.PORTS, {"port": port["interface"], "before": [], "wanted": before["wanted"]})
        text, inside = [], False
        for line in lines:
            if line.startswith("interface "):
                inside = True
            elif inside:
                head.append(" " + line)
            else:
                text.append(line if line.startswith(("ip access-list", "ipv6 access-list", "policy-map")) else " " + line)
        after = look(text + head)
    assert before["objection"] is None and after["objection"] is None
    assert after["found"] == after["wanted"] == before["wanted"]
