# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt's hook does before a guest's first packet is what the next pass wants, and no more. Real packet filter."""
from __future__ import annotations

import pytest
from kept_house import ENFORCE, NOW, hold, mac

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._keeper import _hook
from ansible_collections.hosting.aup.plugins.module_utils._keeper._hook import run_hook
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack

END = NOW + 100
BLOCK = {"port_block": {"enforcement_ids": ["E-3"], "until_at": None,
                        "blocks": [{"protocol": "tcp", "direction": "out", "ports": [80, 443]}]}}


def xml(number, tap):
    return """<domain><name>vps-%d</name><uuid>00000000-0000-4000-8000-%012d</uuid><devices><interface type='bridge'>
<mac address='%s'/><source bridge='br0'/><target dev='%s'/></interface></devices></domain>""" % (number, number, mac(number), tap)


def hook(house, number, tap, operation="start", moment=NOW):
    return run_hook(NodeState(str(house.root)), house.space.run, moment, operation, "begin", xml(number, tap))


def elements(house):
    return {key: set(found) for key, found in _nftables.observe(house.space.run).elements.items() if found}


def succession(house):
    """Guests 1 and 2, of which the second runs, on the port that the first will have."""
    one, two = house.libvirt.add(1, "off"), house.libvirt.add(2, "running")
    one["nics"][0]["device"], two["nics"][0]["device"] = "off7", "vnet7"
    return one, two


def handed_over(one, two):
    """The second is off, and the first has its port."""
    two["state"], one["state"], one["nics"][0]["device"], two["nics"][0]["device"] = "off", "running", "vnet7", "off7"


# Some of it is what the next guest has as well, some is not.
ANOTHERS = {"port_block": dict(BLOCK["port_block"], blocks=[{"protocol": "tcp", "direction": "out", "ports": [81, 443]}])}


@pytest.mark.parametrize("another", [None, hold(["E-2"], None, "quarantine", None)], ids=["free", "quarantined"])
@pytest.mark.parametrize("service", [
    {}, {"smtp": {"mode": "exempt", "ports": [25]}}, {"smtp": {"mode": "observe", "ports": [25, 587]}}, {"limits": BLOCK},
    {"hold": hold(["E-1"], None)}, {"hold": hold(["E-1"], None, "quarantine", None)},
])
def test_a_guest_on_a_port_that_was_anothers_is_bound_as_the_next_pass_would(house, service, another):
    """vps-2 was there with everything on its port; vps-1 gets the same tap."""
    one, two = succession(house)
    house.converge(house.desired({1: service, 2: {"limits": ANOTHERS, "smtp": {"mode": "enforce", "ports": [25, 465]}, "hold": another}}))
    left = elements(house)
    assert left["bridge", "block_out_tcp"] == {'"vnet7" . 81', '"vnet7" . 443'}
    assert {'"vnet7" . 25', '"vnet7" . 465'} == left["bridge", "smtp_enforce"]
    assert (another is not None) == ('"vnet7"' in left.get(("bridge", "quarantine_ports"), ()))
    handed_over(one, two)
    assert hook(house, 1, "vnet7") == (None, None)
    done = elements(house)
    change = house.node().keep(NOW)
    wanted = elements(house)
    # Other ports' sets and MACs of guests that are off may differ; all that names this port must not.
    names = {key for key in set(done) | set(wanted)}
    assert {key: {e for e in done.get(key, ()) if "vnet7" in e} for key in names} == {
        key: {e for e in wanted.get(key, ()) if "vnet7" in e} for key in names}, change["steps"]
    assert {e for e in done.get(("bridge", "judged_macs"), ()) if e == mac(1)} == {
        e for e in wanted.get(("bridge", "judged_macs"), ()) if e == mac(1)}


def drops(incoming, outgoing=()):
    return {"drop": {"enforcement_ids": ["E-4"], "until_at": None, "in": list(incoming), "out": list(outgoing)}}


@pytest.mark.parametrize("limits", [drops(["198.51.100.7/32", "2001:db8:bad::/48"], ["198.51.100.0/24", "2001:db8:bad::7/128"]), {}])
def test_what_a_guest_does_not_hear_from_is_bound_with_its_port_and_anothers_list_is_not(house, limits):
    one, two = succession(house)
    house.converge(house.desired({1: {"limits": limits}, 2: {"limits": drops(["198.51.100.0/24", "198.51.101.7/32"], ["2001:db8:bad:1::/64"])}}))
    assert any("198.51.101.7" in element for element in elements(house)["bridge", "drop_in4"])
    handed_over(one, two)
    assert hook(house, 1, "vnet7") == (None, None)
    done = elements(house)
    house.node().keep(NOW)
    wanted = elements(house)
    # Without a list of its own a guest isn't led to the sets, so what is left in them until the next pass judges nobody.
    sets = [key for key in wanted.keys() | done.keys() if key[1].startswith("drop_") and (limits or key[1].endswith("_ports"))]
    assert {key: done.get(key, set()) for key in sets} == {key: wanted.get(key, set()) for key in sets}
    assert bool(limits) == any(key[1].startswith("drop_") for key in wanted)


@pytest.mark.parametrize(("terms", "refused"), [
    (hold(["E-1"], END), False), (hold(["E-1"], END, power="shutdown"), True), (hold(["E-1"], END, power="destroy"), True),
    (hold(["E-1"], None, "terminate", "shutdown"), True), (hold(["E-1"], END, "quarantine", None), False),
])
def test_only_what_is_held_powered_off_may_not_start(house, terms, refused):
    house.libvirt.add(1)
    house.converge(house.desired({1: {"hold": terms, "then": [{"at": END, "hold": None}]}}))
    for operation in ("prepare", "start"):
        why, _said = hook(house, 1, "tap1", operation)
        assert bool(why) == refused and (not refused or "vps-1" in why)
        assert hook(house, 1, "tap1", operation, END)[0] is None, "its time is over"
        assert bool(hook(house, 1, "tap1", operation, None)[0]) == refused, "no clock to be believed: as it was"
    for operation in ("migrate", "reconnect", "stopped", "release", "started", "attach"):
        assert hook(house, 1, "tap1", operation)[0] is None


def test_a_start_of_our_own_is_not_refused(house):
    """The desired state is the node's own before any guest is started."""
    guest = house.libvirt.add(1)
    house.converge(house.desired({1: {"hold": hold(["E-1"], None, power="destroy")}}))
    asked, apply_step = [], house.libvirt.apply_step

    def starting(host, step):
        if step["verb"] == "start":
            asked.append(hook(house, 1, "tap1", "prepare")[0])
        apply_step(host, step)

    from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node

    _kvm_node._libvirt.apply_step = starting  # the fixture puts it back
    house.converge(house.desired({1: {}}))
    assert asked == [None] and guest["state"] == "running"


def test_held_by_hand_counts_too(house):
    house.libvirt.add(1)
    house.converge(house.desired({1: {}}))
    house.node().hold_by_hand("vps-1", "destroy", "x", None, "anna")
    assert hook(house, 1, "tap1", "prepare")[0]


def test_nothing_there_is_nothing_to_do(house):
    assert hook(house, 1, "tap1") == (None, None)
    house.libvirt.add(1)
    house.converge(house.desired({1: {"smtp": ENFORCE}}))
    house.space.check("nft flush ruleset")
    refused, said = hook(house, 1, "tap1")
    assert refused is None and "not bound yet" in said


@pytest.mark.parametrize(("made", "capped", "rate"), [(False, True, 1_000_000), (True, True, 1_000_000), (True, False, 4_000_000), (False, False, None)])
def test_a_rate_is_asked_for_where_there_is_a_port_and_what_fails_refuses_nothing(house, tmp_path, monkeypatch, made, capped, rate):
    """The tighter of a cap and, for a guest that was made here, its plan; test_hook_rate.py has the kernel's side."""
    limits = {"bandwidth_cap": {"rate_bps": 1_000_000, "enforcement_ids": ["E-1"], "until_at": None}} if capped else {}
    state = house.node().state
    state.write("desired.z", pack(house.desired({1: {"limits": limits, "rate_bps": 4_000_000}})).encode("ascii"))
    state.save(dict(state.load(), created={"vps-1": {}} if made else {}))
    ports, ran, broken = tmp_path / "net", [], []
    ports.mkdir()
    monkeypatch.setattr(_hook, "SYSFS", str(ports))

    def run(argv, stdin=None):
        ran.append((argv[0], stdin))
        return (1, "", "RTNETLINK answers: No space left\n") if argv[0] in broken else (0, "", "")

    def asked(operation="start"):
        ran.clear()
        refused, said = run_hook(NodeState(str(house.root)), run, NOW, operation, "begin", xml(1, "tap1"))
        assert refused is None
        return [one for one in ran if one[0] != "nft"], said

    assert asked("prepare") == ([], None), "the configuration may name a port that is not there yet"
    (ports / "tap1").mkdir()
    calls, said = asked()
    if rate is None:
        assert (calls, said) == ([], None)
        return
    (ip, links), (tc, rules) = calls
    assert (ip, tc, said) == ("ip", "tc", None) and "link del" not in links and links.count("type ifb") == 2
    assert "1:1 htb rate %dbps ceil %dbps" % (rate // 8, rate // 8) in rules and rules.count("mirred egress redirect dev aup") == 2
    assert all(line.split()[3] in ("tap1", *(line.split()[2] for line in links.splitlines())) for line in rules.splitlines())
    for device in [line.split()[2] for line in links.splitlines() if line.startswith("link add")]:
        (ports / device).mkdir()
    assert asked()[0][0][1].count("link del aup") == 2, "left by a former guest: made anew"
    for broken[:] in (["tc"], ["ip"], ["nft", "ip"]):
        assert "the rate of guest vps-1 is not in force yet: RTNETLINK" in asked()[1]
