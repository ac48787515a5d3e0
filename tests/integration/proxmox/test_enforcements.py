# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each enforcement on a virtual machine and a container: check, apply, check clean, apply clean, what its tenant undoes put
back, change; and all given back as it was."""

from __future__ import annotations

import pytest

OPTIONS = {
    "suspend": ({}, ("terminate", {})),
    "terminate": ({}, ("cpu_throttle", {"share": "20%"})),
    "quarantine": ({}, ("suspend", {})),
    "bandwidth_cap": ({"rate": "10 Mbit/s"}, ("bandwidth_cap", {"rate": "5 Mbit/s"})),
    "cpu_throttle": ({"share": "20%"}, ("cpu_throttle", {"share": "10%"})),
    "smtp_block": ({"ports": [25, 465]}, ("smtp_block", {"ports": [25, 587]})),
    "port_block": ({"ports": list(range(1000, 1060, 2))}, ("port_block", {"ports": [6667], "protocol": "udp", "direction": "in"})),
}


def undone(site, sid: str, before: dict) -> None:
    """All that a tenant with rights on his guest can undo."""
    site.put_power(sid, "running")
    now, then = site.guest(sid)["config"], before["guests"][sid]["config"]
    changed = {key: then.get(key) for key in {*now, *then} if now.get(key) != then.get(key)}
    if changed:
        site.edit(sid, **changed)
    site.drop_rules(sid)


@pytest.mark.parametrize("who", ["vm", "ct"])
@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_each_in_five_steps_put_back_and_given_back(site, kind, who):
    options, (other, others) = OPTIONS[kind]
    sid, neighbour = site.ids[who], site.ids["ct" if who == "vm" else "vm"]
    site.provision()
    before = site.state()
    run = site.ask(kind, sid, **options)
    checked = site.converge(run, check=True)
    assert checked["changed"] and not checked["errors"] and site.state() == before
    done = site.converge(run)
    assert done["outcome"] == "changed" and not done["errors"] and done["plan_hash"] == checked["plan_hash"]
    assert site.statuses(sid) == ["active"]
    held = site.state()
    assert held["guests"][neighbour] == before["guests"][neighbour]
    assert not site.again(check=True)["changed"] and site.again()["outcome"] == "unchanged"
    undone(site, sid, before)
    assert site.again()["outcome"] == "changed" and site.statuses(sid) == ["active"]
    assert site.state() == held
    assert not site.converge(site.ask(other, sid, case="T-2", **others))["errors"] and site.state() != held
    assert site.again()["outcome"] == "unchanged"
    assert site.guest(neighbour) == before["guests"][neighbour]
    assert not site.lift(sid, case="all")["errors"] and site.statuses(sid) == []
    assert site.again()["outcome"] == "unchanged" and site.provision()["outcome"] in ("changed", "unchanged")
    assert site.state() == before
