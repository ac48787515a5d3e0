# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of making guests: born under policy, only by provision, secrets apart, one failure alone."""
from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from test_converge import NOW, House, Node, catalogue


ORDER = {"create": True, "vcpus": 1, "memory_bytes": 1 << 30, "rate_bit_per_second": None,
         "disk": {"size_bytes": 1 << 30, "image": "debian-12", "storage": "fast"},
         "nics": [{"mac": "52:54:00:00:00:02", "bridge": "br0", "addresses": ["192.0.2.11/24"], "gateways": []}],
         "cloud_init": {"hostname": None, "ssh_keys": [], "user_data": "2.txt"}}
MAKES = [{"engine": "create", "part": "create", "verb": verb, "service": "vps-2", "why": "w", "before": None, "after": {}}
         for verb in ("disk", "seed", "define", "start")]
MADE = {"vps-2": {"guest_uuid": "u-2", "image": "debian-12", "disk": "/pool/aup-vps-2.qcow2", "at": NOW}}


def with_order():
    document = catalogue()
    document["nodes"]["kvm1"]["creation"] = {
        "image_directory": "/images", "images": {}, "storage": {}, "guest_type": "kvm", "resolvers": []}
    document["services"]["vps-2"] = {
        **document["services"]["vps-1"], "id": "vps-2", "guest": {"name": "vps-2", "uuid": None},
        "nics": [{"mac": "52:54:00:00:00:02", "addresses": ["192.0.2.11"]}], "order": ORDER}
    return document


@pytest.fixture
def fresh(tmp_path):
    """A ledger that knows no node yet, and a directory of user data."""
    (tmp_path / "user-data").mkdir()
    (tmp_path / "user-data" / "2.txt").write_text("the secret text")
    with open_ledger(str(tmp_path / "ledger.sqlite3"), create=True) as ledger:
        house = House(ledger)
        house.directory = str(tmp_path / "user-data")
        house.done = house.release(with_order())
        yield house


def order_from(house, node, check=False, directory=True):
    return house.converge(node, house.done["run_id"], check, release_id=house.done["release_id"],
                          user_data_directory=house.directory if directory else None)


def smtp_of(args, sid):
    return next(s["smtp"]["mode"] for s in unpack(args["desired"])["services"] if s["id"] == sid)


@pytest.mark.parametrize("check", [True, False])
def test_what_is_made_at_the_first_adoption_is_born_under_policy(fresh, check):
    """Resolved again before anything is done: the guest that was running has its grace, the new one has none."""
    plan = {"changed": True, "steps": MAKES, "creating": ["vps-2"], "plan_hash": "p"}
    node = Node(plan, plan, {"changed": True, "steps": MAKES, "created": MADE})
    result = order_from(fresh, node, check)
    assert result["outcome"] == "changed" and node.modes == ["plan", "plan"] + ([] if check else ["apply"])
    assert [smtp_of(args, "vps-2") for args in node.asked] == ["observe", "enforce"] + ([] if check else ["enforce"])
    assert {smtp_of(args, "vps-1") for args in node.asked} == {"observe"}
    assert set(unpack(node.asked[0]["orders"])) == {"vps-2"}
    if check:
        assert fresh.read("find_node", "kvm1") is None
        return
    # The text travelled once, in an argument of its own, and is in no other.
    assert unpack(node.asked[2]["user_data"]) == {"vps-2": "the secret text"} and "user_data" not in node.asked[1]
    assert "secret" not in str(unpack(node.asked[2]["orders"])) + str(unpack(node.asked[2]["desired"])) + str(result)
    assert fresh.read("snapshot", "kvm1")["adoptions"].keys() == {"vps-1"}
    again = Node({"plan_hash": "p", "created": MADE})
    assert order_from(fresh, again)["outcome"] == "unchanged" and smtp_of(again.asked[0], "vps-2") == "enforce"
    made = [event for event in fresh.read("history", "vps-2") if event["kind"] == "service_created"]
    assert [event["refs"]["disk"] for event in made] == ["/pool/aup-vps-2.qcow2"] and made[0]["detail"]["actor"]


def test_only_provision_brings_orders(fresh):
    node = Node({"plan_hash": "p"})
    order_from(fresh, node)
    later = Node({"plan_hash": "p"})
    fresh.converge(later, fresh.write(lambda tx: tx.start_run("reconcile", {})))
    assert "orders" in node.asked[0] and "orders" not in later.asked[0]


def test_an_order_that_fails_does_not_keep_the_node_from_its_release(fresh):
    failed = {"service": "vps-2", "part": "create", "code": "image_missing", "message": "m", "remedy": "r"}
    result = order_from(fresh, Node({"plan_hash": "p", "errors": [failed]}))
    assert result["outcome"] == "incomplete" and fresh.read("find_node", "kvm1")["release_id"] == fresh.done["release_id"]
    assert not fresh.ledger.run_failed(fresh.done["run_id"])
    assert fresh.recorded(fresh.done["run_id"])["kvm1"]["services"][0]["error"]
    other = order_from(fresh, Node({"plan_hash": "p", "errors": [failed, dict(failed, service="vps-1", part="hold")]}))
    assert other["outcome"] == "failed"


@pytest.mark.parametrize("spoil, code", [
    (lambda path: path.unlink(), "user_data_missing"), (lambda path: path.write_bytes(b"\xff"), "user_data_bad"),
    (lambda path: path.write_text("x" * (512 * 1024 + 1)), "user_data_bad"),
    (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "user_data_missing"), (None, "user_data_missing")])
def test_user_data_that_can_not_be_read_is_one_services_error(fresh, tmp_path, spoil, code):
    """Said by --check as well; the rest of the plan is carried out."""
    if spoil:
        spoil(tmp_path / "user-data" / "2.txt")
    said = []
    for check in (True, False):
        plan = {"changed": True, "steps": MAKES, "creating": ["vps-2"], "plan_hash": "p"}
        node = Node(plan, plan, {"changed": True, "errors": [
            {"service": "vps-2", "part": "create", "code": "user_data_missing", "message": "m", "remedy": "r"}]})
        result = order_from(fresh, node, check, directory=bool(spoil))
        said.append([(e["service"], e["code"]) for e in result["errors"]])
        assert result["outcome"] == "incomplete" and "user_data" not in node.asked[-1]
    assert said == [[("vps-2", code)]] * 2
