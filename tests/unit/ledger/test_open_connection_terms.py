# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy says of open connections: taken when the enforcement is opened, kept with it, with the routers that take part."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._respond import respond

NOW = 1_800_000_000
HEAD = """
schema: 1
name: lab
version: "1"
effective: 2026-01-01
provider: {name: Lab Hosting}
extends: default
locations: [main, away]
"""
LADDER = """
violations:
  spam:
    ladder:
      - {enforcement: port_block, mode: %s, options: {ports: [25], open_connections: null_route}}
"""
KINDS = ("quarantine", "smtp_block", "port_block")
OPEN = {"violation": "scanning", "case": "T-1", "duration": "48h"}


def service_of(name, number, node, location="main"):
    return {"id": name, "customer": "c-1", "account_type": "personal", "location": location, "nodes": [node], "pool": None,
            "guest": {"name": name, "uuid": None},
            "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": ["192.0.2.%d" % number], "prefixes": [], "shared": [], "floating": []}],
            "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}


def node(backend, location="main", **more):
    return {"backend": backend, "location": location, "address": None, "vars": {}, **more}


def router(location="main"):
    return node("router", location, router={"platform": "frr", "mark": 1, "max_null_routes": 9, "save": "never", "protected": [], "rtbh": None})


SERVICES = [service_of("on-kvm", 1, "kvm1"), service_of("on-pve", 2, "pve"), service_of("by-hosts", 3, "filtered"),
            service_of("alone", 4, "far", "away")]
CATALOGUE = {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"], "services": {one["id"]: one for one in SERVICES},
             "nodes": {"kvm1": node("kvm"), "pve": node("proxmox", proxmox={"replug": False}), "far": node("proxmox", "away", proxmox={}),
                       "filtered": node("proxmox", proxmox={"hosts": {"pve1": "192.0.2.200"}}),
                       "edge": router(), "spare": router(), "new": router(), "edge-2": router("away")}}
PROVISIONED = ("kvm1", "pve", "far", "filtered", "edge", "spare")
KNOWN = ["kvm1", "pve", "far", "filtered", "edge", "spare"]


def policy_of(tmp_path, text):
    (tmp_path / "lab.yml").write_text(HEAD + text)
    return load_policy(str(tmp_path / "lab.yml"))


@pytest.fixture
def house(tmp_path):
    """`house(text of the policy)`: an open ledger."""
    opened = []

    def made(text):
        policy = policy_of(tmp_path, text)
        if not opened:
            opened.append(L.open_ledger(str(tmp_path / "ledger.db"), create=True).__enter__())
        with opened[0].transaction(now=NOW) as tx:
            done = requests.release_files(tx, policy, {policy.key: policy}, CATALOGUE)
            for name in PROVISIONED:
                tx.adopt(name, done["release_id"])
                tx.set_node_release(name, done["release_id"])
        return opened[0]
    yield made
    for ledger in opened:
        ledger.close()


def said(choice, *kinds):
    return "enforcements:\n" + "".join("  %s: {open_connections: %s}\n" % (kind, choice) for kind in kinds or KINDS)


def ask(ledger, function, *args, **named):
    with ledger.transaction(actor="alice", now=NOW) as tx:
        return function(tx, *args, **named)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", ["leave", "restart", "null_route", "node_filter"])
def test_the_policys_word_goes_with_the_enforcement(house, kind, choice):
    ledger = house(said(choice))
    options = {"ports": [25]} if kind == "port_block" else {}
    held = ask(ledger, requests.hold, kind, "on-pve", **OPEN, **options)["enforcements"][0]
    assert held["options"]["open_connections"] == choice
    # On a KVM host it says nothing.
    other = ask(ledger, requests.hold, kind, "on-kvm", **dict(OPEN, case="T-2"), **options)["enforcements"][0]
    assert "open_connections" not in other["options"] and other["snapshot"]["routers"] == []
    house(said("leave" if choice == "restart" else "restart"))
    with ledger.read() as tx:
        assert tx.active("on-pve")[0]["options"] == held["options"]


@pytest.mark.parametrize(("service", "known", "routers", "words"), [
    ("on-pve", KNOWN, ["edge", "spare"], "edge, spare null-route all of its addresses for 20 minutes"),
    ("on-pve", None, ["edge", "spare"], "edge, spare null-route"),
    ("on-pve", ["pve", "edge"], ["edge"], "router spare is not in the inventory"),
    ("on-pve", ["pve"], [], "router edge is not in the inventory"),
    ("by-hosts", KNOWN, [], "the rules on the nodes of filtered end them"),
    ("alone", KNOWN, [], "no provisioned router of away"),
])
def test_routers_take_part_and_none_of_them_can_hold_it_up(house, service, known, routers, words):
    done = ask(house(said("null_route")), requests.hold, "quarantine", service, known_nodes=known, **OPEN)
    held = done["enforcements"][0]
    assert held["snapshot"]["routers"] == routers and done["nodes"] == sorted([*held["snapshot"]["nodes"], *routers])
    assert any(words in line for line in done["what"]), done["what"]


def test_lifting_goes_to_the_routers_too(house):
    ledger = house(said("null_route"))
    ask(ledger, requests.hold, "quarantine", "on-pve", **OPEN)
    assert ask(ledger, requests.release_hold, "on-pve")["nodes"] == ["edge", "pve", "spare"]


def test_a_step_of_a_ladder_may_say_otherwise(house):
    ledger = house(said("restart") + LADDER % "act")
    done = ask(ledger, respond, "on-pve", "spam", case="T-1", known_nodes=KNOWN)
    held = done["enforcements"][0]
    assert held["options"]["open_connections"] == "null_route" and done["nodes"] == ["edge", "pve", "spare"]
    assert any("null-route all of its addresses" in line for line in done["what"])


def test_what_was_proposed_is_done_as_it_was_proposed(house):
    ledger = house(LADDER % "propose")
    first = ask(ledger, respond, "on-pve", "spam", case="T-1")["proposals"][0]
    house((LADDER % "propose").replace(", open_connections: null_route", ""))
    second = ask(ledger, respond, "alone", "spam", case="T-2")["proposals"][0]
    house(said("null_route"))
    done = ask(ledger, respond, proposal=first["id"], known_nodes=["pve", "edge"])
    assert done["nodes"] == ["edge", "pve"] and done["enforcements"][0]["options"]["open_connections"] == "null_route"
    assert any("router spare is not in the inventory" in line for line in done["what"])
    done = ask(ledger, respond, proposal=second["id"])
    assert "open_connections" not in done["enforcements"][0]["options"] and done["nodes"] == ["far"]
    assert not any("open connections" in line for line in done["what"])


@pytest.mark.parametrize(("text", "words"), [
    (said("cut", "quarantine"), ("enforcements.quarantine.open_connections", "one of leave, restart, null_route, node_filter", "cut")),
    (said("restart", "suspend"), ("enforcements.suspend.open_connections", "a key that exists here", "unknown key 'open_connections'",
                                  "open_connections is of quarantine, smtp_block, port_block.")),
    (LADDER.replace("port_block", "bandwidth_cap").replace("ports: [25], ", "") % "act",
     ("ladder[0].options.open_connections", "open_connections is of quarantine, smtp_block, port_block.")),
    ("controls:\n  smtp_outbound: {mode: enforce, options: {open_connections: leave}}\n", ("options.open_connections", "unknown key")),
])
def test_elsewhere_it_is_refused(tmp_path, text, words):
    with pytest.raises(PolicyError) as caught:
        policy_of(tmp_path, text)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.remedy
