# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of dedicated servers on the vendors' platforms: the same promises on each, by what their filters let pass."""
from __future__ import annotations

import copy
import re

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import PLATFORMS
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target
from tests.integration.routers.devices.ports import SERVERS
from tests.integration.routers.provider import Provider, codes, dedicated
from tests.integration.routers.vendor_lab import DEVICES, golden, router_of, target_of

OUT = ("198.51.100.7", "2001:db8:ffff::7")
OTHERS = ("203.0.113.99", "2001:db8:100:f::1")


@pytest.fixture(params=["eos", "iosxe", "junos"])
def device(request, tmp_path):
    with DEVICES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def provider(device, tmp_path):
    with Provider(tmp_path, target_of(device), router_of(device), [
            dedicated(name, device.face(number), own, number) for name, (number, _ends, own) in SERVERS.items()]) as made:
        device.pristine = copy.deepcopy(device.running.ports())
        done = made.provision()
        assert done["errors"] == [] and done["outcome"] == "changed" and passing(device, "srv-a", 25) == [True, True]
        made.late = 8 * 86400  # the week of only observing what was there is over
        assert made.converge()["errors"] == []
        made.patience = 0.3
        device.lines.clear()
        yield made


def passing(device, name, port, side="in", protocol="tcp", source=None):
    """Whether a packet of a server's, or to it, passes; IPv4 and IPv6."""
    number, _ends, own = SERVERS[name]
    ends = [(mine, far) if side == "in" else (far, mine) for mine, far in zip(source or own, OUT)]
    return [device.passes(device.face(number), side, protocol, *pair, port) for pair in ends]


def test_policy_holds_on_a_port_and_retiring_gives_it_back(device, provider):
    for name in SERVERS:
        assert passing(device, name, 443) == [True, True] and passing(device, name, 25) == [False, False]
        assert passing(device, name, 443, source=OTHERS) == [False, False] and passing(device, name, 443, "out") == [True, True]
    assert device.startup.ports() == device.running.ports() and not device.pending
    again = provider.converge()
    assert again["outcome"] == "unchanged" and not device.written() and device.lines
    done = provider.converge(absent=True)
    assert done["errors"] == [] and device.running.ports() == device.pristine


def test_suspended_and_given_back_line_by_line(device, provider):
    before = copy.deepcopy(device.running.ports())
    held = provider.hold("suspend")
    check = provider.converge(check=True)
    assert not device.written() and device.running.ports() == before
    device.lines.clear()
    done = provider.converge()
    assert (done["state"], done["errors"]) == ("applied", []) and done["plan_hash"] == check["plan_hash"], done
    sent = [re.sub(r"-[0-9a-f]{8}(?= |$)", "-X", line) for line in golden(device.written())]
    assert sent == device.SUSPENDED, sent
    assert not any(passing(device, "srv-a", 443) + passing(device, "srv-a", 443, "out")) and passing(device, "srv-b", 443) == [True, True]
    assert provider.status(held) == "active"
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    provider.lift("srv-a")
    assert provider.converge()["errors"] == [] and provider.status(held) == "ended" and device.running.ports() == before


def test_each_verb_does_what_it_says(device, provider):
    provider.hold("smtp_block", ports="25,465")
    provider.hold("port_block", case="T-2", ports="6667", direction="out")
    provider.hold("port_block", case="T-3", ports="53", direction="in", protocol="udp")
    assert provider.converge()["errors"] == []
    assert passing(device, "srv-a", 465) == passing(device, "srv-a", 6667) == [False, False]
    assert passing(device, "srv-a", 53, "out", "udp") == [False, False]
    assert passing(device, "srv-a", 53, "in", "udp") == passing(device, "srv-a", 443) == passing(device, "srv-a", 6667, "out") == [True, True]
    if device.platform == "eos":
        with pytest.raises(AupError, match="can't carry it on a port"):
            provider.hold("bandwidth_cap", case="T-4", rate="10 Mbit/s")
        return
    provider.hold("bandwidth_cap", case="T-4", rate="10 Mbit/s")
    assert provider.converge()["errors"] == []
    text = repr(device.running.ports())
    assert "police cir 10000000 bc 131072" in text if device.platform == "iosxe" else "bandwidth-limit 10000000" in text
    assert len(re.findall(r"(?:service-policy|policer) (?:input|output) aup-", text)) == (2 if device.platform == "iosxe" else 4)
    device.lines.clear()
    assert provider.converge()["outcome"] == "unchanged" and not device.written()
    provider.hold("bandwidth_cap", case="T-5", rate="5 Mbit/s")
    assert provider.converge()["errors"] == [] and "10000000" not in repr(device.running.ports())
    provider.lift("srv-a", case="all")
    assert provider.converge()["errors"] == [] and "cap" not in repr(device.running.ports())


def face(*lines):
    """Lines more below an interface, on EOS and IOS-XE."""
    return lambda device, name: device.running.faces[name].extend(lines)


def junos(*lines):
    """Lines more of a Junos configuration; {d} is the device, {u} the unit's path."""
    def add(device, name):
        path = name.rpartition(".")[0]
        device.running.sets.extend(line.format(d=path, u="interfaces %s unit 100" % path, n=name) for line in lines)
    return add


def gone(device, name):
    """The interface is not there any more."""
    device.running.faces.pop(name, None)
    device.running.sets = [line for line in device.running.sets if name.rpartition(".")[0] not in line]


def below(device, name):
    """Another interface lies on it."""
    device.running.faces[name + ".7"] = ["ip address 192.0.2.129/25"]


def routed(prefix, hop):
    return lambda device, name: device.put(prefix, hop)


SAME = [
    (gone, "no interface of this name|no unit of this name"),
    (routed("0.0.0.0/0", "203.0.113.70"), "it is an uplink: the default route"),
    (routed("198.51.100.0/24", "203.0.113.71"), "198.51.100.0/24 is reached by 203.0.113.71"),
]
RUNNING = [
    *SAME,
    (face("channel-group 1 mode active"), "member of a LAG: channel-group 1"),
    (face("switchport mode trunk"), "it is a trunk: switchport"),
    (face("switchport access vlan 7"), "port of a switch or bridge"),
    (below, "it is a trunk: "),
    (face("ip ospf 1 area 0"), "it has a neighbor: ip ospf"),
    (face("ip access-group CUSTOMERS in"), "bound to it: ip access-group CUSTOMERS in"),
]
ODD = [
    *(("eos", *case) for case in RUNNING),
    ("eos", face("vrf BLUE"), "in a VRF"),
    *(("iosxe", *case) for case in RUNNING),
    ("iosxe", face("vrf forwarding BLUE"), "in a VRF"),
    ("iosxe", face("ipv6 traffic-filter SIX out"), "ipv6 traffic-filter SIX out"),
    *(("junos", *case) for case in SAME),
    ("junos", junos("interfaces {d} gigether-options 802.3ad ae0"), "member of a LAG"),
    ("junos", junos("{u} family ethernet-switching vlan members 7"), "switch or bridge"),
    ("junos", junos("{u} apply-groups CUSTOMER"), "from a group"),
    ("junos", junos("routing-instances BLUE interface {n}"), "routing instance"),
    ("junos", junos("protocols ospf area 0.0.0.0 interface {n} metric 5"), "it has a neighbor: protocols ospf"),
    ("junos", junos("{u} family inet filter input CUSTOMERS"), "family inet filter input CUSTOMERS"),
    ("junos", junos("{u} family inet filter input-list CUSTOMERS"), "filter input-list CUSTOMERS"),
]


TERMS = {"service": "srv-a", "own": list(SERVERS["srv-a"][2]), "dark": True, "guard": "off", "smtp": {"mode": "off", "ports": []},
         "smarthosts": [], "blocks": [], "rate_bps": None}


@pytest.mark.parametrize(("device", "change", "said"), ODD, indirect=["device"])
def test_what_is_no_servers_port_is_recognised(device, change, said):
    name = device.face(SERVERS["srv-a"][0])
    change(device, name)
    driver = PLATFORMS[device.platform](Target(**target_of(device), name="edge"))
    seen = driver.observe({"settings": router_of(device), "null_routes": [], "ports": [{**TERMS, "interface": name}]})["ports"]
    driver.close()
    assert re.search(said, seen[name]["objection"]), seen


def test_a_port_that_is_refused_does_not_spare_another(device, provider):
    device.put("198.51.100.0/24", "203.0.113.71")
    before = passing(device, "srv-a", 443), passing(device, "srv-a", 25)
    provider.hold("suspend")
    provider.hold("suspend", "srv-b", case="T-2")
    done = provider.converge()
    assert {error["service"] for error in done["errors"]} == {"srv-a"} and "port_refused" in codes(done), done["errors"]
    assert (passing(device, "srv-a", 443), passing(device, "srv-a", 25)) == before and passing(device, "srv-b", 443) == [False, False]


def test_a_bgp_neighbor_behind_a_port(device, provider, monkeypatch):
    monkeypatch.setattr("tests.integration.routers.devices.base.PEERS", ("203.0.113.66",))
    monkeypatch.setattr("tests.integration.routers.devices.junos.PEERS", ("203.0.113.66",))
    device.out["203.0.113.66"] = None
    provider.hold("suspend")
    done = provider.converge()
    assert "port_refused" in codes(done) and "BGP peer 203.0.113.66" in done["errors"][0]["message"]
    assert passing(device, "srv-a", 443) == [True, True] and passing(device, "srv-a", 25) == [False, False], "what acts already stays"


def test_one_port_that_the_router_refuses_and_others_go_on(device, provider):
    provider.hold("suspend")
    provider.hold("suspend", "srv-b", case="T-2")
    provider.null_route(case="T-3")
    face_a = device.face(SERVERS["srv-a"][0])
    where = r"ge-0/0/2 unit 100 .*filter output aup" if device.platform == "junos" else re.escape(face_a) + ".* out$"
    said = {"junos": "[edit interfaces ge-0/0/2 unit 100 family inet]\n  'filter'\n    not supported here\nerror: configuration check-out failed\n",
            "eos": "% Error: no room for filters of " + face_a + "\n", "iosxe": "% No TCAM entries available\n"}[device.platform]
    device.refuse_commit = {where: said}
    done = provider.converge()
    assert [error["service"] for error in done["errors"]] == ["srv-a"] and codes(done) == ["not_applied"], done["errors"]
    assert passing(device, "srv-b", 443) == [False, False] and passing(device, "srv-a", 443) == [True, True]
    assert "203.0.113.10/32" in device.running and not device.pending
    device.refuse_commit = {}
    assert provider.converge()["errors"] == [] and passing(device, "srv-a", 443) == [False, False]


def test_a_lost_confirmation_takes_the_port_back_and_the_next_run_does_it_again(device, provider):
    before = copy.deepcopy(device.running.ports())
    provider.hold("suspend")
    device.cut, device.cuts = (device.CONFIRMS, "before"), 2
    done = provider.converge()
    assert done["state"] == "unknown" and "takes it back by itself" in done["errors"][0]["message"]
    device.expire()
    assert device.running.ports() == before
    assert provider.converge()["errors"] == [] and passing(device, "srv-a", 443) == [False, False]
    assert device.startup.ports() == device.running.ports()


def test_what_another_operator_does_between_read_and_write_stays(device, provider):
    provider.hold("suspend")
    device.before_entering = lambda: device.put("198.51.100.0/24", "192.0.2.9")
    assert provider.converge()["errors"] == [] and device.running["198.51.100.0/24"] == [("192.0.2.9", None)]
    assert passing(device, "srv-a", 443) == [False, False]


def test_a_filter_of_ours_that_somebody_changed_is_replaced_by_another(device, provider):
    right = copy.deepcopy(device.running.ports())
    if device.platform == "junos":
        sets = device.running.sets
        at = next(i for i, line in enumerate(sets) if "family inet filter aup-ge_0_0_2_100-in4" in line and line.endswith("then discard"))
        sets[at] = sets[at].replace("discard", "accept")
    else:
        rules = next(rules for (version, name), rules in device.running.lists.items() if version == 4 and "2-in4-" in name)
        rules.insert(0, "permit ip any any")
    assert passing(device, "srv-a", 443, source=OTHERS)[0]
    done = provider.converge()
    assert done["errors"] == [] and passing(device, "srv-a", 443, source=OTHERS) == [False, False]
    assert len(device.running.lists) == len(right[1]) and len(device.running.sets) == len(right[3]), "nothing is left over"
    # Taken off by hand, it comes back.
    device.running.faces = {name: [line for line in body if "aup-" not in line] for name, body in device.running.faces.items()}
    device.running.sets = [line for line in device.running.sets if not re.search("(filter|policer) (input|output) aup-", line)]
    assert provider.converge()["errors"] == [] and passing(device, "srv-a", 25) == [False, False]
    assert len(device.running.lists) == len(right[1]) and len(device.running.sets) == len(right[3])
    provider.converge(absent=True)
    assert device.running.ports() == device.pristine
