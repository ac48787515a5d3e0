# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on any cluster, by what its users do, by what the catalogue says, and by what gets lost on the way to its API:
the exact result of each guest, the others done, nothing lost, and the next run goes on. test_faults.py has what a cluster
must break for."""

from __future__ import annotations

import re

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest

from tests.proxmox.server import certificate

from .provider import POLICY, codes


def once(pattern: str, act):
    """For `Site.through`: act just before the first call that fits is sent."""
    left = [act]

    def say(method: str, path: str) -> None:
        if left and re.fullmatch(pattern, f"{method} {path}"):
            left.pop()()
    return say


def past_all_late_calls(site) -> None:
    """When none can come any more."""
    for _ in range(_guest.LATE_SECONDS):
        next(site.clock)
    assert not site.again()["errors"] and site.again()["outcome"] == "unchanged"


# -- the token and the way there -------------------------------------------------------------------------------------


def test_wrong_token_changes_nothing(site):
    site.provision()
    before, sid = site.state(), site.ids["vm"]
    done = site.converge(site.ask("suspend", sid), client=site.client(token_value="11111111-2222-4333-8444-000000000000"))
    assert (done["outcome"], codes(done)) == ("unreachable", {None: "auth"})
    assert site.target.token_value not in str(done) and site.state() == before
    assert not site.again()["errors"] and site.held(sid)


def test_missing_privileges_are_named_before_anything_is_changed(site):
    """With a token that may only look."""
    if site.small is None:
        pytest.skip("PROXMOX_SMALL_TOKEN names no token with less rights")
    site.provision()
    before, sid, calls = site.state(), site.ids["vm"], []
    done = site.enforce("suspend", sid, client=site.client(
        say=lambda method, path: calls.append(method), token_value=site.small.token_value, user=site.small.user,
        token_name=site.small.token_name))
    assert codes(done) == {None: "missing_privilege"} and site.state() == before and set(calls) == {"GET"}
    said = done["errors"][0]["message"]
    assert all(f"{right} on /vms/{site.numbers[sid]}" in said for right in ("VM.PowerMgmt", "VM.Config.Options", "VM.Config.Network"))
    assert "VM.Audit" not in said and not site.again()["errors"] and site.held(sid)


def test_certificates(site, tmp_path):
    site.provision()
    _pem, theirs = certificate(tmp_path)
    assert codes(site.again(client=site.client(ca_file=str(tmp_path / "ca.pem"), fingerprint=None))) == {None: "certificate"}
    assert codes(site.again(client=site.client(ca_file=None, fingerprint=theirs))) == {None: "certificate"}
    # A cluster of yours may have a certificate that every system trusts; the stand-in has not.
    assert site.real or codes(site.again(client=site.client(ca_file=None, fingerprint=None))) == {None: "certificate"}
    assert site.again(client=site.client(ca_file=None, fingerprint=site.fingerprint()))["outcome"] == "unchanged"
    with pytest.raises(InputError):
        site.client(fingerprint="AA:BB")


def test_api_slower_than_the_timeout(site):
    site.provision()
    before, sid = site.state(), site.ids["vm"]
    with site.relay() as relay:
        slow = site.through(relay)
        relay.delay = 1.5 * slow.target.timeout
        done = site.enforce("suspend", sid, client=slow)
    assert done["outcome"] == "failed" and codes(done) == {None: "unknown_outcome"} and site.state() == before
    assert not site.again()["errors"] and site.statuses(sid) == ["active"]


# -- guests that are not what they were ------------------------------------------------------------------------------


def test_guest_gone(site):
    """Said while it is to be held; nothing is left to be given back afterwards."""
    spare = site.spare()
    assert not site.provision()["errors"] and not site.enforce("suspend", spare, site.ids["ct"])["errors"]
    site.delete(spare)
    assert codes(site.again()) == {spare: "guest_missing"}
    assert site.statuses(site.ids["ct"]) == ["active"]
    number = site.numbers.pop(spare)
    done = site.lift(spare)
    assert not done["errors"] and any(f"no guest {number}" in note for note in done["notes"])
    assert site.statuses(spare) == [] and site.again()["outcome"] == "unchanged"


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_number_that_another_guest_has(site, who):
    """Nothing is set on it and nothing let go, by a catalogue that names it wrongly; for a container the MACs tell,
    those among them that it had when it was held, if it is."""
    sid, calls = site.ids[who], []
    held_ids = [site.ids["vm2"], *([sid] if who == "vm" else [])]
    site.provision()
    known, before = site.services[sid], site.guest(sid)
    assert not site.enforce("suspend", *held_ids)["errors"]
    held = site.guest(sid)
    site.services[sid] = {**known, "guest": {**known["guest"], "uuid": known["guest"]["uuid"] and "0b6b1f4e-6c1d-4c1f-9a53-3f3d9a3f0c11"},
                          "nics": [{**nic, "mac": "02:ff" + nic["mac"][5:]} for nic in known["nics"]]}
    site.under(POLICY.replace("smtp_outbound: {", "smtp_outbound: {options: {ports: [25, 2525]}, ").replace('version: "1"', 'version: "2"'))
    done = site.provision(client=site.client(say=lambda method, path: calls.append((method, path))))
    assert codes(done) == {sid: "guest_replaced" if who == "vm" else "guest_changed"} and site.guest(sid) == held
    assert not [path for method, path in calls if method != "GET" and path.startswith(site.path(sid) + "/")]
    assert site.held(site.ids["vm2"]) and site.statuses(site.ids["vm2"]) == ["active"]
    site.services[sid] = known
    site.under(POLICY)
    assert not site.provision()["errors"] and not site.lift(*held_ids)["errors"] and site.guest(sid) == before


def test_template_is_left_alone(site):
    sid, calls = site.ids["vm"], []
    known = site.services[sid]
    site.services[sid] = {**known, "guest": {"name": sid, "vmid": site.templates["qemu"], "uuid": None}}
    done = site.provision(client=site.client(say=lambda method, path: calls.append((method, path))))
    assert codes(done) == {sid: "guest_template"} and all(site.rules(site.ids[who]) for who in ("vm2", "ct"))
    assert not [path for method, path in calls if method != "GET" and f"/{site.templates['qemu']}/" in path]
    site.services[sid] = known
    assert not site.provision()["errors"]


# -- others who act at the same time -----------------------------------------------------------------------------------


def test_another_operators_edit_survives(site):
    site.provision()
    sid = site.ids["vm2"]
    net = site.config(sid)["net0"].replace("rate=12.5", "rate=7")
    meddled = site.meanwhile("PUT", f"{site.path(sid)}/config", lambda: site.edit(sid, net0=net, description="mine"))
    assert not site.enforce("suspend", sid, client=meddled)["errors"]
    config = site.config(sid)
    assert "rate=7" in config["net0"] and config["description"].strip() == "mine" and site.held(sid)
    assert not site.lift(sid)["errors"]
    assert site.config(sid)["net0"] == net and not site.held(sid)


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_a_tenants_own_firewall_is_never_opened(site, who):
    """Switched on by the tenant between our look and our write: no policy of ours goes over theirs."""
    sid, theirs = site.ids[who], {"enable": "1", "policy_in": "DROP", "policy_out": "DROP"}
    meddled = site.meanwhile("PUT", f"{site.path(sid)}/firewall/options", lambda: site.wall(sid, **theirs))
    assert not site.provision(client=meddled)["errors"]
    assert site.options(sid) == theirs and not site.again()["errors"] and site.options(sid) == theirs


def test_rules_of_a_tenant_meanwhile(site):
    """Put above ours between our look and our write: it stays, and ours go above it."""
    site.provision()
    sid = site.ids["ct"]
    meddled = site.meanwhile("POST", f"{site.path(sid)}/firewall/rules", lambda: site.add_rule(
        sid, type="in", action="DROP", proto="tcp", dport="3306", enable=1, comment="mine"))
    assert not site.enforce("port_block", sid, ports=[6667], client=meddled)["errors"]
    assert site.again()["outcome"] == "unchanged"
    assert [rule["comment"].partition(" ")[0] for rule in site.rules(sid)] == ["hosting.aup", "hosting.aup", "mine"]
    assert not site.lift(sid)["errors"] and len(site.rules(sid)) == 2


def test_a_guest_that_is_stopped_just_before_its_pause(site):
    """Off is held as well; it stays off when it is given back, as its tenant left it."""
    site.provision()
    sid = site.ids["vm"]
    meddled = site.meanwhile("POST", f"{site.path(sid)}/status/suspend", lambda: site.power(sid, "stop"))
    site.enforce("suspend", sid, client=meddled)
    assert not site.again()["errors"] and site.statuses(sid) == ["active"] and site.status(sid) == "stopped"
    assert not site.lift(sid)["errors"] and site.statuses(sid) == []


# -- calls and answers that are lost on the way ------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "call"), [("vm", "PUT config"), ("vm", "POST status/suspend"), ("ct", "PUT config"),
                                           ("ct", "POST status/shutdown")])
def test_answers_that_never_come(site, who, call):
    """What was asked for is done all the same, once."""
    site.provision()
    before, sid = site.state(), site.ids[who]
    verb, _, what = call.partition(" ")
    with site.relay() as relay:
        done = site.enforce("suspend", sid, client=site.through(relay, once(f"{verb} {site.path(sid)}/{what}", relay.lose_answers)))
        assert not done["errors"] and site.statuses(sid) == ["active"] and relay.unheard()
    assert not site.lift(sid)["errors"] and site.state() == before


@pytest.mark.parametrize("call", [
    "/cluster/firewall/groups", "/cluster/firewall/groups/.*", "/cluster/firewall/ipset/.*", "GUEST/firewall/rules",
    "GUEST/firewall/ipset", "GUEST/firewall/ipset/.*"])
def test_answers_that_never_come_while_rules_are_made(site, call, monkeypatch):
    if "/cluster/firewall/ipset" in call:
        monkeypatch.setattr(_firewall, "MOST_RANGES", 0)  # as with many smarthosts
    sid = site.ids["vm2"]
    site.services = {sid: site.services[sid]}
    with site.relay() as relay:
        done = site.provision(client=site.through(relay, once("POST " + call.replace("GUEST", site.path(sid)), relay.lose_answers)))
        assert not done["errors"] and relay.unheard(), done["errors"]
    guest = site.guest(sid)
    assert len(guest["rules"]) == 1 and list(guest["sets"]) == ["ipfilter-net0"] and site.again()["outcome"] == "unchanged"


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_a_late_write_does_not_fit_after_the_lifting(site, who):
    """Until it can't come any more, what was given back has another digest than what the write was sent for."""
    site.provision()
    sid, before = site.ids[who], site.state()
    with site.relay() as relay:
        assert not site.enforce("suspend", sid, client=site.through(
            relay, once(f"PUT {site.path(sid)}/config", relay.keep_calls)))["errors"]
        assert site.held(sid) and site.statuses(sid) == ["active"]
        assert not site.lift(sid)["errors"] and site.statuses(sid) == []
        assert site.config(sid)["tags"] == "aup-lifted-1" and any("may still be carried out" in note for note in site.again()["notes"])
        retired = site.retire()
        assert codes(retired) == {sid: "late_write"} and site.config(sid)["tags"] == "aup-lifted-1"
        assert relay.release()  # now it comes
    config = site.config(sid)
    assert not site.held(sid) and config["onboot"] == "1" and "link_down" not in config["net0"]
    site.provision()
    past_all_late_calls(site)
    assert site.state() == before


def test_a_late_write_does_not_fit_while_it_is_held(site):
    site.provision()
    sid, before = site.ids["vm"], site.state()
    with site.relay() as relay:
        assert not site.enforce("suspend", sid, client=site.through(
            relay, once(f"PUT {site.path(sid)}/config", relay.keep_calls)))["errors"]
        held = site.state()
        assert relay.release() and site.state() == held
    assert not site.lift(sid)["errors"] and site.config(sid)["tags"] == "aup-lifted-1"
    past_all_late_calls(site)
    assert site.state() == before


def test_a_late_call_of_power_is_taken_back(site):
    """No digest keeps it off; the next pass sees it, though nothing of that service is on the books any more."""
    site.provision()
    sid, before = site.ids["vm"], site.state()
    with site.relay() as relay:
        assert not site.enforce("suspend", sid, client=site.through(
            relay, once(f"POST {site.path(sid)}/status/suspend", relay.keep_calls)))["errors"]
        assert site.held(sid) and not site.lift(sid)["errors"] and not site.held(sid)
        assert relay.release()
    site.reached(sid, "paused")
    assert site.again()["outcome"] == "changed" and not site.held(sid)
    past_all_late_calls(site)
    assert site.state() == before


# -- firewalls that are off --------------------------------------------------------------------------------------------


def test_nic_without_firewall(site):
    """Only where the policy of the cluster allows the re-plug, or while the guest is off; and given back."""
    site.provision()
    on, off = site.ids["vm2"], site.ids["ct"]
    site.power(off, "stop")
    for sid in (on, off):
        site.edit(sid, net0=site.config(sid)["net0"].replace(",firewall=1", ""))
    before = site.state()
    done = site.again()
    assert [gap["service"] for gap in done["gaps"]] == [on] and "replug" in done["gaps"][0]["gap"]
    assert "firewall=1" in site.config(off)["net0"] and "firewall" not in site.config(on)["net0"]
    assert codes(site.enforce("smtp_block", on, ports=[25])) == {on: "firewall_off"}
    site.node["proxmox"]["replug"] = True
    assert not site.provision()["errors"]
    assert "firewall=1" in site.config(on)["net0"] and site.statuses(on) == ["active"]
    assert not site.lift(on)["errors"]
    assert not site.retire()["errors"]
    assert all(site.guest(sid)["config"] == before["guests"][sid]["config"] for sid in (on, off))


def test_quarantine_of_a_tenant_who_switched_the_firewall_off(site):
    """With nothing of the tenant's in it, it is switched on; where there is, that is said and not opened."""
    site.provision()
    plain, own = site.ids["vm"], site.ids["ct"]
    site.wall(plain, enable=0)
    site.wall(own, enable=0, policy_in="DROP")
    site.drop_rules(own)
    site.add_rule(own, type="in", action="ACCEPT", enable=1, proto="tcp", dport="22")
    done = site.enforce("quarantine", plain, own)
    assert codes(done) == {own: "firewall_off"} and "of its own" in done["errors"][0]["message"]
    assert site.options(plain)["enable"] == "1" and site.statuses(plain) == ["active"]
    assert site.options(own)["enable"] == "0" and site.options(own)["policy_in"] == "DROP"
    assert site.rules(own)[0]["action"].startswith("aup-quar")  # in place for the moment it is switched on
    assert not site.lift(plain, own)["errors"]
    assert [rule["type"] for rule in site.rules(own)] == ["group", "in"]


# -- what must come through unharmed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["vm2", "ct"])
def test_notes_are_carried_through(site, who):
    site.provision()
    sid = site.ids[who]
    site.edit(sid, description="first\nsecond: ü % #\n\n日本")
    before = site.guest(sid)
    assert not site.enforce("suspend", sid)["errors"]
    assert not site.enforce("bandwidth_cap", sid, case="T-2", rate="10 Mbit/s")["errors"]
    held = site.guest(sid)["config"]
    assert "rate=1.19" in held["net0"] and held["description"] == before["config"]["description"]
    assert not site.lift(sid, case="all")["errors"] and site.guest(sid) == before


@pytest.mark.parametrize("who", ["vm", "ct"])
def test_terminate_never_deletes(site, who):
    site.provision()
    before, sid, calls = site.state(), site.ids[who], []
    assert not site.enforce("terminate", sid, client=site.client(say=lambda method, path: calls.append((method, path))))["errors"]
    one = site.guest(sid)
    assert one["config"]["protection"] == "1" and one["power"] == "stopped" and one["config"].get("onboot", "0") == "0"
    assert not any(method == "DELETE" and "firewall" not in path for method, path in calls)
    assert site.again()["outcome"] == "unchanged"
    assert not site.lift(sid)["errors"] and site.state() == before
