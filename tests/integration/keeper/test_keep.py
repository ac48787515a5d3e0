# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node ends by itself what is over, exactly, once, and writes down what it did. Real packet filter and files."""
from __future__ import annotations

import time
from pathlib import Path

import pytest
from kept_house import NOW, OFF, hold
from netns import run

from ansible_collections.hosting.aup.plugins.module_utils import _standing
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack

END = NOW + 100
HELD = {"hold": hold(["E-1"], END), "then": [{"at": END, "hold": None}]}


def journal(house):
    return house.node().state.journal.read()["entries"]


def told(house, what):
    return [entry for entry in journal(house) if entry["what"] == what]


@pytest.fixture
def held(house):
    house.libvirt.add(1), house.libvirt.add(2)
    house.given = house.desired({1: HELD, 2: {}})
    house.converge(house.given)
    assert house.states == {"vps-1": "paused", "vps-2": "running"}
    assert "tap1" in house.elements("dark_ports")
    return house


def test_a_suspension_ends_at_its_time_and_is_told_once(held):
    early = held.node().keep(END - 1)
    assert not early["changed"] and not early["ended"] and held.states["vps-1"] == "paused"
    done = held.node().keep(END)
    assert [(e["enforcement_id"], e["at"], e["seen_at"], e["held"]) for e in done["ended"]] == [("E-1", END, END, True)]
    guest = held.libvirt.guests_by_uuid["00000000-0000-4000-8000-000000000001"]
    assert guest["state"] == "running" and guest["autostart"] and guest["nics"][0]["link_live"] == "up"
    assert "tap1" not in held.elements("dark_ports") and mac_is_free(held)
    assert [entry["what"] for entry in journal(held)] == ["ended", "given_back"]
    again = held.node().keep(END + 1)
    assert not again["changed"] and not again["ended"] and len(journal(held)) == 2


def mac_is_free(house):
    return "52:54:00:00:00:01" not in house.elements("dark_macs")


def test_a_clock_set_back_holds_nothing_again(held):
    held.node().keep(END)
    for moment in (END - 50, None, NOW - 10**6):
        back = held.node().keep(moment)
        assert not back["changed"] and held.states["vps-1"] == "running"


@pytest.mark.parametrize("end", [1_774_746_000, 1_792_890_000])
def test_summer_time_moves_nothing(house, end, monkeypatch):
    """Where clocks go forward, and where an hour comes twice: Berlin, 29 March and 25 October 2026, 01:00 UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        turned = {time.localtime(at).tm_isdst for at in (end - 1, end)}
        assert turned == {0, 1}
        house.libvirt.add(1)
        house.converge(house.desired({1: {"hold": hold(["E-1"], end), "then": [{"at": end, "hold": None}]}}, now=end - 7200))
        for moment in (end - 7200, end - 3600, end - 1):
            assert not house.node().keep(moment)["changed"]
        done = house.node().keep(end)
        assert [(e["at"], e["seen_at"]) for e in done["ended"]] == [(end, end)] and house.states["vps-1"] == "running"
        assert not house.node().keep(end + 3600)["changed"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_without_a_clock_that_can_be_trusted_nothing_ends_and_drift_is_mended_all_the_same(held):
    held.space.check("nft delete table bridge hosting_aup")
    held.libvirt.guests_by_uuid["00000000-0000-4000-8000-000000000001"]["state"] = "running"
    done = held.node().keep(None)
    assert done["changed"] and not done["ended"] and held.states["vps-1"] == "paused"
    assert "tap1" in held.elements("dark_ports")
    assert told(held, "mended") and not told(held, "ended")


def test_the_customer_who_changes_something_after_the_end_keeps_it(house):
    """The desired state may still name the prior state that the node has given back."""
    house.libvirt.add(1)
    house.converge(house.desired({1: HELD}))
    own = house.node().state.load()["baselines"]["vps-1"]
    named = house.desired({1: {**HELD, "baseline": {"digest": own["digest"], "fields": own["fields"]}}})
    house.converge(named)
    assert house.node().keep(END)["ended"]
    guest = house.libvirt.guests_by_uuid["00000000-0000-4000-8000-000000000001"]
    guest["nics"][0].update(link_live="down", link_config="down")
    guest["autostart"] = False
    for moment in (END + 1, END + 100):
        assert not house.node().keep(moment)["changed"]
    # Nor does a controller that has not heard of it undo it: same desired state, still held there by its clock.
    after = house.desired({1: {"baseline": named["services"][0]["baseline"]}})
    house.converge(after)
    assert guest["nics"][0]["link_live"] == "down" and not guest["autostart"]


def test_the_journal_is_handed_over_and_dropped_when_taken_in(held):
    held.node().keep(END)
    free = held.desired({1: {}, 2: {}})
    planned = held.node().plan(pack(free), advance=True)
    entries = planned["journal"]["entries"]
    assert [entry["what"] for entry in entries] == ["ended", "given_back"]
    taken = {"journal": planned["journal"]["journal"], "number": entries[-1]["number"]}
    checked = held.node().plan(pack(free), taken=taken)
    assert len(checked["journal"]["entries"]) == 2, "check mode drops nothing"
    again = held.node().plan(pack(free), advance=True, taken=taken)
    assert again["journal"] is None and journal(held) == []
    held.node().keep(END + 60)
    assert journal(held) == []


def test_a_lift_that_comes_before_the_end_is_not_undone(held):
    held.converge(held.desired({1: {}, 2: {}}, now=NOW + 10))
    assert held.states["vps-1"] == "running"
    assert not held.node().keep(END)["ended"] and not told(held, "ended")


def test_one_to_begin_later_begins(house):
    house.libvirt.add(1)
    house.converge(house.desired({1: {"then": [{"at": NOW + 10, "hold": hold(["E-1"], END)}, {"at": END, "hold": None}]}}))
    assert not house.node().keep(NOW + 9)["changed"]
    done = house.node().keep(NOW + 10)
    assert [e["enforcement_id"] for e in done["began"]] == ["E-1"] and house.states["vps-1"] == "paused"
    assert house.node().keep(END)["ended"] and house.states["vps-1"] == "running"


def test_several_hold_one_and_the_last_gives_back(house):
    house.libvirt.add(1)
    both = {"hold": hold(["E-1", "E-2"], END + 50), "limits": {"port_block": {
        "enforcement_ids": ["E-3"], "until_at": END, "blocks": [{"protocol": "tcp", "direction": "out", "ports": [80]}]}},
        "then": [{"at": END, "hold": hold(["E-2"], END + 50), "limits": {}}, {"at": END + 50, "hold": None}]}
    house.converge(house.desired({1: both}))
    first = house.node().keep(END + 1)
    assert sorted(e["enforcement_id"] for e in first["ended"]) == ["E-1", "E-3"] and house.states["vps-1"] == "paused"
    second = house.node().keep(END + 50)
    assert [e["enforcement_id"] for e in second["ended"]] == ["E-2"] and house.states["vps-1"] == "running"


def test_an_exemption_ends_and_so_does_the_time_of_grace(house):
    house.libvirt.add(1), house.libvirt.add(9)
    smtp = {"unknown": {"mode": "enforce", "ports": [25]}, "unknown_adopted": {"mode": "observe", "ports": [25]}, "smarthosts": []}
    later = dict(smtp, unknown_adopted={"mode": "enforce", "ports": [25]})
    house.converge(house.desired({1: {"smtp": {"mode": "exempt", "ports": [25]}, "then": [{"at": END, "smtp": {"mode": "enforce", "ports": [25]}}]}},
                                 smtp=smtp, then=[{"at": END + 5, "smtp": later}]))
    assert "tap1" not in house.elements("smtp_enforce") and "tap9" in house.elements("smtp_observe")
    house.node().keep(END)
    assert "tap1" in house.elements("smtp_enforce") and "tap9" in house.elements("smtp_observe")
    house.node().keep(END + 5)
    assert "tap9" in house.elements("smtp_enforce") and "tap9" not in house.elements("smtp_observe")


def test_the_host_rebooted_and_a_paused_guest_is_booted_when_its_time_ends(held):
    held.libvirt.reboot_host()
    held.libvirt.down, held.boot = True, "boot-2"
    held.space.check("nft flush ruleset")
    booted = held.node().keep(None, libvirt=False)
    assert booted["changed"] and mac_is_held(held) and held.libvirt.steps[-1] != ("vps-1", "start")
    held.libvirt.down = False
    assert held.node().keep(END - 1)["errors"] == [] and held.states["vps-1"] == "off"
    assert [e["enforcement_id"] for e in held.node().keep(END)["ended"]] == ["E-1"]
    assert held.states["vps-1"] == "running" and ("vps-1", "start") in held.libvirt.steps


def mac_is_held(house):
    return not mac_is_free(house)


def test_libvirt_down_the_network_opens_and_the_guest_follows(held):
    held.libvirt.down = True
    done = held.node().keep(END)
    assert done["errors"] and not done["ended"] and "tap1" not in held.elements("dark_ports")
    held.libvirt.down = False
    assert held.node().keep(END + 3)["ended"] and held.states["vps-1"] == "running"
    assert told(held, "ended")[0]["at"] == END


def test_a_step_that_fails_is_done_later_and_told_then(held):
    held.libvirt.fails = lambda step: step["verb"] == "resume"
    assert held.node().keep(END)["errors"] and not told(held, "ended")
    held.libvirt.fails = None
    assert held.node().keep(END + 2)["ended"][0]["seen_at"] == END + 2


def test_a_full_disk_keeps_nobody_held(held):
    held.full = True
    done = held.node().keep(END)
    assert held.states["vps-1"] == "running" and "tap1" not in held.elements("dark_ports")
    assert any("No space left" in error["message"] for error in done["errors"])
    held.full = False
    assert [e["enforcement_id"] for e in held.node().keep(END + 5)["ended"]] == ["E-1"]
    assert len(told(held, "ended")) == 1


def test_a_disk_that_is_really_full(house):
    """A file system without room: no run holds anybody whose prior state it can't keep, and what is over ends."""
    guest, place = house.libvirt.add(1), house.root / "var/lib/hosting_aup"
    place.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)])
    try:
        house.converge(house.desired({1: {}}))
        filler = place / "filler"

        def fill():
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(b"x" * (1 << 20))

        fill()
        files = {path.name: path.read_bytes() for path in place.iterdir() if path != filler}
        given = pack(house.desired({1: HELD}))
        planned = house.node().plan(given)
        with pytest.raises(NodeError, match="No space left") as caught:
            house.node().apply(given, planned["plan_hash"], confirm_seconds=0)
        assert caught.value.code == "state_unwritable" and "Free space" in caught.value.remedy
        assert guest["state"] == "running" and "tap1" not in house.elements("dark_ports")
        assert {path.name: path.read_bytes() for path in place.iterdir() if path != filler and not path.name.endswith(".new")} == files
        filler.unlink()
        house.converge(house.desired({1: HELD}))
        assert guest["state"] == "paused" and [one["service"] for one in house.node().info()["held"]] == ["vps-1"]
        fill()
        assert any("No space left" in error["message"] for error in house.node().keep(END)["errors"]) and guest["state"] == "running"
        filler.unlink()
        assert [entry["enforcement_id"] for entry in house.node().keep(END + 2)["ended"]] == ["E-1"]
        assert [entry["what"] for entry in journal(house)].count("ended") == 1 and not house.node().keep(END + 4)["changed"]
    finally:
        run(["umount", str(place)])


def test_a_full_disk_and_a_hold_to_begin_the_network_is_cut_and_the_guest_waits_for_its_record(house):
    house.libvirt.add(1)
    house.converge(house.desired({1: {"then": [{"at": NOW + 10, "hold": hold(["E-1"], END)}]}}))
    house.full = True
    done = house.node().keep(NOW + 10)
    assert done["errors"] and not done["began"] and house.states["vps-1"] == "running" and "tap1" in house.elements("dark_ports")
    house.full = False
    assert house.node().keep(NOW + 20)["began"] and house.states["vps-1"] == "paused"


def test_a_thousand_ends_at_one_instant(house):
    """All are let go of at once; those to be booted follow in batches."""
    many = range(1, 1001)
    for number in many:
        house.libvirt.add(number)
    off = hold(["E"], END, power="destroy")
    house.converge(house.desired({number: {"hold": dict(off if number <= 20 else hold(["E"], END), enforcement_ids=["E-%d" % number]),
                                           "then": [{"at": END, "hold": None}]} for number in many}))
    first = house.node().keep(END)
    assert "tap" not in house.elements("dark_ports") and "52:54" not in house.elements("dark_macs")
    assert len(first["ended"]) == 988 and first["deferred"] == 12 and list(house.states.values()).count("running") == 988
    second = house.node().keep(END + 2)
    assert (len(second["ended"]), second["deferred"]) == (8, 4)
    third = house.node().keep(END + 4)
    assert len(third["ended"]) == 4 and set(house.states.values()) == {"running"}
    assert sorted(e["enforcement_id"] for e in told(house, "ended")) == sorted("E-%d" % number for number in many)
    assert {e["at"] for e in told(house, "ended")} == {END}


def test_held_by_hand_no_desired_state_lifts_it(held):
    held.node().hold_by_hand("vps-2", "pause", "mail flood", None, "anna")
    assert held.node().keep(NOW + 1)["changed"] and held.states["vps-2"] == "paused" and "tap2" in held.elements("dark_ports")
    done = held.converge(held.desired({1: {}, 2: {}}))
    assert held.states == {"vps-1": "running", "vps-2": "paused"} and done["by_hand"]["vps-2"]["reason"] == "mail flood"
    assert held.node().info()["by_hand"]["vps-2"]["actor"] == "anna"
    held.node().keep(END + 10**6)
    assert held.states["vps-2"] == "paused"
    assert held.node().release_by_hand("vps-2", "mended", "bert") and not held.node().release_by_hand("vps-2", "", "bert")
    held.node().keep(NOW + 2)
    assert held.states["vps-2"] == "running" and "tap2" not in held.elements("dark_ports")
    assert [(e["what"], e["actor"]) for e in journal(held) if e["what"] in ("held", "released")] == [("held", "anna"), ("released", "bert")]


def test_held_by_hand_for_a_time_and_beside_an_enforcement(held):
    held.node().hold_by_hand("vps-1", "destroy", "", END + 500, "anna")
    assert held.node().instants() == [END, END + 500]
    held.node().keep(NOW + 1)
    assert held.states["vps-1"] == "off"
    assert [e["enforcement_id"] for e in held.node().keep(END)["ended"]] == ["E-1"], "the ledger's is over, the responder's is not"
    assert held.states["vps-1"] == "off"
    held.node().keep(None)
    held.node().keep(END + 500)
    assert held.states["vps-1"] == "running" and told(held, "released")[0]["at"] == END + 500
    with pytest.raises(InputError, match="no service 'vps-9'"):
        held.node().hold_by_hand("vps-9", "pause", "", None, "anna")


def test_disarmed_it_stays_so_and_time_goes_on(held):
    held.node().set_disarmed(["smtp_outbound"], False, "why")
    assert held.node().keep(END)["ended"]
    assert "tap1" not in held.elements("smtp_enforce")
    held.node().set_disarmed(["smtp_outbound"], True, "")
    assert "tap1" in held.elements("smtp_enforce") and "tap1" not in held.elements("dark_ports"), "armed as of now, not as of then"
    assert [entry["what"] for entry in journal(held) if "armed" in entry["what"]] == ["disarmed", "rearmed"]


def test_rules_that_nobody_confirmed_are_left_alone_and_never_brought_back(held):
    """They undo themselves; a keeper that loaded them again would cut its controller off for good."""
    cut = held.desired({1: HELD, 2: {"hold": hold(["E-9"], END + 900), "then": [{"at": END + 900, "hold": None}]}})
    packed = pack(cut)
    planned = held.node().plan(packed)
    done = held.node().apply(packed, planned["plan_hash"], confirm_seconds=3600)
    rules = Path(done["confirm"])
    held.node().keep(NOW + 1)
    assert "tap2" in held.elements("dark_ports")
    script = rules.read_text()
    held.space.check("nft -f -", script)  # what the waiting process does
    rules.rename(str(rules) + ".claimed")
    for moment in (NOW + 2, NOW + 60):
        held.node().keep(moment)
        assert "tap2" not in held.elements("dark_ports") and "tap1" in held.elements("dark_ports")
    held.node().keep(END)
    assert "tap1" not in held.elements("dark_ports") and held.states["vps-1"] == "running", "time goes on in the former rules"


def test_a_desired_state_of_a_later_collection_is_left_alone(held):
    later = dict(held.given, format=_standing.FORMAT + 1)
    held.node().state.write("desired.z", pack(later).encode("ascii"))
    with pytest.raises(NodeError, match="format %d" % (_standing.FORMAT + 1)):
        held.node().keep(END)
    assert held.states["vps-1"] == "paused"


def test_an_older_desired_state_without_a_future_is_kept_as_it_is(house):
    house.libvirt.add(1)
    old = house.desired({1: {"hold": hold(["E-1"], END), "smtp": OFF}})
    del old["now"]
    house.converge(old)
    assert not house.node().keep(END + 10**6)["changed"] and house.states["vps-1"] == "paused"


def test_a_node_under_no_policy_is_left_alone(house):
    assert house.node().keep(NOW)["idle"] and house.space.check("nft list ruleset") == ""


def test_files_of_a_newer_and_of_an_older_release_of_the_same_format(held):
    """What it does not know it keeps; what is not there yet it takes as never having been."""
    state = held.node().state.load()
    for key in ("reached", "given_back", "armed", "times", "samples"):
        state.pop(key)
    held.node().state.save(dict(state, of_a_later_release={"kept": True}))
    newer = dict(held.given, of_a_later_release=[1])
    newer["services"] = [dict(service, of_a_later_release={"mode": "x"}) for service in newer["services"]]
    held.node().state.write("desired.z", pack(newer).encode("ascii"))
    assert held.node().keep(END)["ended"] and held.states["vps-1"] == "running"
    assert held.node().state.load()["of_a_later_release"] == {"kept": True}
