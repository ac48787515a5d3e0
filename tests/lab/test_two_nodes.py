# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes two hosts to be seen: batches that are held back, and a controller that is itself a customer's guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import plan
from .lab import Lab
from .spine import Spine, catalogue, until, write_catalogue
from .test_spine_faults import _REFUSING_NFT

CONTROLLER_SERVICE = "vps-desk"


@pytest.fixture(scope="module")
def spine(can_run_labs: None) -> Iterator[Spine]:
    """Two hosts, not yet under policy; one service has the address from which the controller reaches the first."""
    with Lab(nodes=2) as lab:
        made = Spine(lab)
        document = catalogue(lab.nodes)
        document["prefixes"].append("10.66.1.0/24")
        document["services"].append({
            "id": CONTROLLER_SERVICE, "customer": "c-desk", "account_type": "business", "node": "kvm1",
            "guest": {"name": CONTROLLER_SERVICE},
            "nics": [{"mac": "52:54:00:aa:77:01", "addresses": [lab.nodes[0].plan.controller]}]})
        write_catalogue(made, document)
        yield made


def outcomes(spine: Spine, run) -> dict[str, str]:
    """What the ledger holds of each node in this run of provision."""
    (opened,) = run.of("ledger_release")
    return dict(spine.rows("select node, outcome from aup_node_result where run_id = ? and service is null", opened["run_id"]))


def ours(spine: Spine, number: int) -> bool:
    """Whether a host has tables of ours."""
    return "hosting_aup" in spine.lab.nodes[number].run(["nft", "list", "tables"]).stdout


def test_a_node_that_fails_holds_back_the_batches_after_it(spine):
    """Promise 2: a release that goes wrong on the first node stops there, is on record, and the next run goes on."""
    with spine.instead_of("/usr/sbin/nft", _REFUSING_NFT):
        done = spine.play("provision")
    assert done.returncode == 2
    assert outcomes(spine, done) == {"kvm1": "failed", "kvm2": "held_back"}
    assert not ours(spine, 0) and not ours(spine, 1)
    assert "kvm2" in done.stdout and "an earlier node of this run failed" in done.said
    dead = {"aup_probes": [{"host": spine.lab.nodes[0].plan.management, "port": 9}]}
    probed = spine.play("provision", dead)
    assert probed.returncode == 2 and outcomes(spine, probed) == {"kvm1": "failed", "kvm2": "held_back"}
    assert ours(spine, 0) and not ours(spine, 1) and "port 9 failed" in probed.said
    alive = {"aup_probes": [{"host": spine.lab.nodes[0].plan.management, "port": 22}]}
    healed = spine.play("provision", alive).ok()
    assert outcomes(spine, healed) == {"kvm1": "unchanged", "kvm2": "changed"}
    assert ours(spine, 1)
    again = spine.play("provision").ok()
    assert set(outcomes(spine, again).values()) == {"unchanged"} and again.printed.changed == 0
    guest = spine.lab.nodes[1].guests[0]
    assert guest.tcp_all([(plan.SINK[0], 25), (plan.SINK[0], 587)]) == ["timeout", "open"]


def test_one_run_holds_services_of_two_nodes(spine):
    """One line for both; each node says for itself what is in force."""
    done = spine.suspend(["vps-1001", "vps-1004"], "T-90").ok()
    assert {result["node"] for result in done.of("kvm_converge")} == {"kvm1", "kvm2"}
    assert spine.statuses("vps-1001", "T-90") == spine.statuses("vps-1004", "T-90") == ["active"]
    assert spine.dark(spine.lab.guest("vps-1001")) and spine.dark(spine.lab.guest("vps-1004"))
    spine.lift(["vps-1001", "vps-1004"]).ok()
    assert spine.holding() == []
    assert until(lambda: spine.light(spine.lab.guest("vps-1001")) and spine.light(spine.lab.guest("vps-1004")), 15)


def test_the_controller_is_never_held(spine):
    """Promise 8: a controller that runs as somebody's guest doesn't cut itself off; lifting puts the ledger right."""
    events = spine.events()
    done = spine.suspend(CONTROLLER_SERVICE, "T-91")
    assert done.returncode == 2 and "never the controller" in done.said
    assert spine.statuses(CONTROLLER_SERVICE, "T-91") in ([], ["opened"]) and spine.events() >= events
    spine.lift(CONTROLLER_SERVICE)
    spine.play("reconcile").ok()
    assert spine.holding() == []
