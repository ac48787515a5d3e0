# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port belongs to whom, and what the packet filter is asked to do there."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._ports import check_not_the_host, filter_model as built, strangers

ENFORCE = {"mode": "enforce", "ports": [25]}
EXEMPT = {"mode": "exempt", "ports": [25]}


def mac(number):
    return "52:54:00:00:00:%02x" % number


def service(number, smtp=ENFORCE, hold=None, uuid=None):
    return {"id": "s%d" % number, "guest": {"name": "g%d" % number, "uuid": uuid},
            "nics": [{"mac": mac(number), "addresses": []}], "smtp": smtp,
            "hold": hold and {"kind": hold, "enforcement_ids": [1]}, "baseline": None, "elsewhere": False}


def nic(number, device, bridge="br0", kind="bridge", gap=None):
    return {"mac": mac(number), "kind": kind, "bridge": bridge if kind == "bridge" else None, "device": device, "gap": gap}


def guest(number, *nics, name=None, uuid=None):
    return {"name": name or "g%d" % number, "uuid": uuid or "u%d" % number, "nics": list(nics)}


def desired(*services, **more):
    return dict({"present": True, "uplinks": ["eth1"], "bridges": [], "routed_interfaces": [], "prefixes": [],
                 "smtp": {"unknown": ENFORCE, "unknown_adopted": {"mode": "observe", "ports": [25]}, "smarthosts": []}, "rescue": [], "services": list(services)}, **more)


def links(**masters):
    found = {"eth1": {"master": "br0", "mac": "02:00:00:00:00:01"}, "br0": {"master": None, "mac": "02:00:00:00:00:02"},
             "docker0": {"master": None, "mac": "02:00:00:00:00:03"}}
    for index, (name, master) in enumerate(masters.items()):
        found[name] = {"master": master, "mac": "fe:54:00:00:01:%02x" % index}
    return found


NOBODY = {"guests": [], "ports": []}


def filter_model(*args, adopted=NOBODY):
    return built(*args, adopted)


SPOOF = {"anti_spoofing": {"mode": "enforce", "sources": ["192.0.2.5"]}}


def test_controls_come_with_all_macs_of_the_guest_and_never_to_strangers():
    wanted = desired(dict(service(1), controls=SPOOF), service(2), controls={"anti_spoofing": {"x": 1}})
    here = [guest(1, nic(1, "vnet1"), nic(77, "vnet2")), guest(2, nic(2, "vnet3")), guest(9, nic(9, "vnet4"))]
    where = links(vnet1="br0", vnet2="br0", vnet3="br0", vnet4="br0")
    model, _gaps = filter_model(wanted, here, where, {})
    found = {p["name"]: (p["controls"], p.get("macs")) for p in model["ports"]}
    assert found["vnet1"] == found["vnet2"] == (SPOOF, [mac(1), mac(77)])
    assert found["vnet3"] == found["vnet4"] == ({}, None)
    assert model["controls"] == {"anti_spoofing": {"x": 1}}
    off, _gaps = filter_model(wanted, here, where, {"anti_spoofing": {"at": 0, "reason": ""}})
    assert off["controls"] == {} and all(not p["controls"] for p in off["ports"])


def ports_of(model):
    return {p["name"]: (p["service"], p["smtp"]["mode"], p["hold"], p["bridge"]) for p in model["ports"]}


def test_ports_are_found_by_what_libvirt_says_of_running_guests_whatever_their_names():
    model, _gaps = filter_model(
        desired(service(1), service(2, EXEMPT)), [guest(1, nic(1, "vnet7")), guest(2, nic(2, "tapX"))],
        links(vnet7="br0", tapX="br0"), {})
    assert ports_of(model) == {"vnet7": ("s1", "enforce", None, "br0"), "tapX": ("s2", "exempt", None, "br0")}
    assert model["uplinks"] == ["eth1"] and model["bridges"] == ["br0"]


def test_every_port_of_a_tenant_bridge_that_is_no_uplink_is_a_guests():
    model, _gaps = filter_model(desired(), [guest(9, nic(9, "vnet1"))], links(vnet1="br0", veth5="br0", veth6="docker0"), {})
    assert ports_of(model) == {"vnet1": (None, "enforce", None, "br0"), "veth5": (None, "enforce", None, "br0")}


def test_a_nic_plugged_in_later_counts_for_its_guests_service_but_an_exemption_is_not_lost_either():
    model, _gaps = filter_model(desired(service(2, EXEMPT)), [guest(2, nic(2, "vnet1"), nic(77, "vnet2"))],
                                links(vnet1="br0", vnet2="br0"), {})
    assert {p["name"]: p["service"] for p in model["ports"]} == {"vnet1": "s2", "vnet2": "s2"}


def test_a_guest_known_by_uuid_is_not_found_by_a_name_someone_else_took():
    model, _gaps = filter_model(desired(service(1, EXEMPT, uuid="right")),
                                [guest(5, nic(50, "vnet1"), name="g1", uuid="wrong")], links(vnet1="br0"), {})
    assert ports_of(model)["vnet1"] == (None, "enforce", None, "br0")


def test_routed_taps_and_guests_that_are_off():
    model, _gaps = filter_model(desired(service(1), service(2)),
                                [guest(1, nic(1, "tap1", kind="routed")), guest(2, nic(2, None))], links(tap1=None), {})
    assert ports_of(model) == {"tap1": ("s1", "enforce", None, None)}


@pytest.mark.parametrize(("kind", "held"), [("suspend", "dark"), ("quarantine", "quarantine")])
def test_a_held_service_is_held_by_port_and_by_every_mac_it_has(kind, held):
    model, _gaps = filter_model(desired(service(1, hold=kind), service(2)),
                                [guest(1, nic(1, "vnet1"), nic(77, "vnet2")), guest(2, nic(2, "vnet3"))],
                                links(vnet1="br0", vnet2="br0", vnet3="br0"), {})
    assert {p["name"]: p["hold"] for p in model["ports"]} == {"vnet1": held, "vnet2": held, "vnet3": None}
    assert model["held_macs"][held] == [mac(1), mac(77)]


def test_a_held_guest_that_is_off_is_held_by_its_mac_for_when_somebody_starts_it():
    model, _gaps = filter_model(desired(service(1, hold="suspend")), [guest(1, nic(1, None))], links(), {})
    assert model["held_macs"]["dark"] == [mac(1)]


def test_disarmed_means_no_rule_of_that_control_but_holds_stay():
    model, _gaps = filter_model(desired(service(1, hold="suspend")), [guest(1, nic(1, "vnet1"))], links(vnet1="br0"),
                                {"smtp_outbound": {}})
    assert ports_of(model)["vnet1"][1:3] == ("off", "dark") and model["smtp"]["unknown"]["mode"] == "off"


def test_all_disarmed_or_retired_means_no_table_of_ours():
    assert filter_model(desired(), [], links(), {"all": {}})[0] is None
    assert filter_model(desired(present=False), [], links(), {})[0] is None


def test_gaps_are_said_and_not_served():
    model, gaps = filter_model(desired(service(1)), [guest(1, nic(1, "macvtap0", kind="unsupported:direct", gap="macvtap …"))],
                               links(macvtap0=None), {})
    assert model["ports"] == [] and gaps == [{"guest": "g1", "mac": mac(1), "gap": "macvtap …"}]


def test_the_hosts_own_mac_is_never_held():
    held = service(1, hold="suspend")
    held["nics"][0]["mac"] = "02:00:00:00:00:01"
    with pytest.raises(NodeError, match="own interface eth1") as caught:
        check_not_the_host(desired(held), [], links())
    assert caught.value.code == "holds_host"
    check_not_the_host(desired(service(1, hold="suspend")), [guest(1, nic(1, "vnet1"))], links(vnet1="br0"))


def test_who_was_here_at_adoption_is_graced_and_who_comes_later_is_not():
    here = [guest(9, nic(9, "vnet1"))]
    found, _gaps = filter_model(desired(), here, links(vnet1="br0", veth5="br0"), {}, adopted=None)
    assert {p["smtp"]["mode"] for p in found["ports"]} == {"observe"}
    adopted = strangers(found, here)
    assert adopted == {"guests": ["u9"], "ports": ["veth5"]}
    later, _gaps = filter_model(desired(), [guest(9, nic(9, "vnet8")), guest(10, nic(10, "vnet9"))],
                                links(vnet8="br0", vnet9="br0", veth5="br0", veth6="br0"), {}, adopted=adopted)
    assert {p["name"]: p["smtp"]["mode"] for p in later["ports"]} == {
        "vnet8": "observe", "vnet9": "enforce", "veth5": "observe", "veth6": "enforce"}
