# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbooks on a cluster, with a real ansible-playbook and the inventory plugin."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture
def house(site):
    """A controller with two of the guests."""
    return site.controller("vm", "ct")


def test_the_runbooks_on_a_cluster(site, house):
    found, vm, ct = site.state(), site.ids["vm"], site.ids["ct"]
    rc, out = house.play("provision", "--check", "--diff")
    assert rc == 0 and "pve: would change" in out and site.state() == found, out
    assert house.secret not in out
    rc, out = house.play("provision")
    assert rc == 0 and "pve: changed, verified" in out, out
    assert "note: what a cluster can't do, and does not: mining in observe (services: 2), "  in out, out
    before = site.state()
    assert before != found

    rc, out = house.play("suspend", service=vm, violation="attack_target", duration="48h", case="T-1")
    assert rc == 0 and f"{vm}: suspend in force, verified" in out and ct not in out, out
    assert site.status(vm) == "paused" and site.guest(ct) == before["guests"][ct]

    rc, out = house.play("status")
    assert rc == 0 and f"suspend of {vm}" in out and "pve" in out, out
    rc, out = house.play("explain", service=vm)
    assert rc == 0 and "T-1" in out and "was not reached" not in out, out

    site.power(vm, "resume")  # as its tenant may
    rc, out = house.play("reconcile")
    assert rc == 0 and "pve: changed, verified" in out and site.status(vm) == "paused", out
    rc, out = house.play("reconcile")
    assert rc == 0 and "pve: as it should be, verified" in out, out

    rc, out = house.play("lift", service=vm, note="answered")
    assert rc == 0 and f"{vm}: given back, verified" in out and site.state() == before, out
    site.shown(vm, "running")
    rc, out = house.play("meter")
    assert rc == 0, out
    rc, out = house.play("meter")
    assert rc == 0, out
    rc, out = house.play("usage", service=vm)
    carried = re.search(r"\((\d+) bytes\)", out)
    assert rc == 0 and carried and (site.real or int(carried[1]) > 0), out  # a guest of yours may be silent for so long
    rc, out = house.play("retire", node="pve")
    assert rc == 0 and site.state() == found, out


def test_a_token_that_is_refused_is_said_and_fails_the_run_at_its_end(house):
    rc, out = house.play("provision", aup_proxmox_token_secret="00000000-0000-4000-8000-000000000000")
    assert rc != 0 and "pve: UNREACHABLE" in out and "the API refused the token" in out, out
    assert "00000000-0000-4000" not in out


def test_a_node_that_is_not_reached_is_said_and_the_api_acts_all_the_same(site, house):
    catalogue, node = house.catalogue(), site.place_of(site.ids["vm"])[1]
    catalogue["nodes"]["pve"]["proxmox"] = {"hosts": {node: "127.0.0.1"}}
    (house.place / "catalogue.json").write_text(json.dumps(catalogue))
    rc, out = house.play("provision", ansible_port=1, aup_nodes="pve")
    assert rc != 0 and f"{node}: UNREACHABLE" in out and "pve: changed, verified" in out, out
    rc, out = house.play("retire", node="pve", ansible_port=1)
    assert "pve: changed, verified" in out and not site.shared()["groups"], out
