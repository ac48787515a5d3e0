# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ledgers on one cluster: each knows its groups and sets, leaves the other's, and refuses a guest that the other has. And
a ledger that takes the place of a lost one, or that came back from a backup."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger, record_input
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import release_files

from tests.proxmox.cluster import Cluster
from tests.proxmox.packets import Packet, verdict
from tests.proxmox.server import Rule, Token, serve

from .controller import House
from .provider import POLICY, ROLE, SECRET, Provider, firewalled, guest, provider, service, token

OURS, THEIRS = (100, 203), (101, 204)
SPAM = Packet("out", "198.51.100.25")
POOLS = POLICY.replace("  anti_spoofing", "  mining: {mode: enforce, adoption: {mode: enforce}}\n  anti_spoofing")


def catalogue(*vmids):
    return {f"vps-{vmid}": service(vmid, "lxc" if vmid > 200 else "qemu") for vmid in vmids}


def beside(house, place, *vmids, ledger=None):
    """Another ledger's provider on the same cluster; it ends with the test."""
    place.mkdir()
    made = Provider(ledger or house.opened(place), house.server, place, POOLS)
    made.services = catalogue(*vmids)
    return made


@pytest.fixture
def ours(tmp_path):
    cluster = firewalled(Cluster(("pve1", "pve2"), pace=0.01, lock_timeout=0.3))
    for vmid in (*OURS, *THEIRS, 105):
        cluster.add(guest(vmid, "lxc" if vmid > 200 else "qemu", node="pve%d" % (1 + vmid % 2)))
    ledgers = []

    @contextmanager
    def closing():
        try:
            yield
        finally:
            for ledger in ledgers:
                ledger.__exit__(None, None, None)

    def opened(place):
        ledgers.append(open_ledger(str(place / "ledger.sqlite3"), create=True))
        return ledgers[-1].__enter__()

    with provider(tmp_path, cluster, POOLS) as made, closing():
        made.opened, made.services = opened, catalogue(*OURS)
        yield made


@pytest.fixture
def theirs(ours, tmp_path):
    return beside(ours, tmp_path / "theirs", *THEIRS)


def pools(house):
    house.write(record_input, "pools", {"observe_seconds": 86400, "ports": {}, "endpoints": [
        {"address": "198.51.100.1", "port": 3333, "first_seen": 10**9}]}, 10**9, {"addresses": 1})


def marks(house):
    """`{name: comment}` of all groups and sets of ours, of whichever ledger."""
    wall = house.cluster.firewall.cluster
    return {name: one["comment"] for name, one in [*wall.groups.items(), *wall.ipsets.items()] if name.startswith("aup-")}


def short(house):
    with house.ledger.read() as tx:
        return tx.ledger_id[:8]


def own(house):
    return {name for name, comment in marks(house).items() if comment == "hosting.aup " + short(house)}


def files(house, *vmids):
    return {vmid: house.cluster.firewall.guests[vmid].render() for vmid in vmids}


def good(result, outcome=None):
    assert not result["errors"], result["errors"]
    assert outcome is None or result["outcome"] == outcome, result["steps"]
    return result


@contextmanager
def refusing(house, *vmids, packet=SPAM):
    """These guests' mail is refused before and after each write."""
    def judge():
        seen.append({vmid: verdict(house.cluster, vmid, packet) for vmid in vmids})
    seen = []
    rules = [Rule(method, ".*", times=-1, before=judge) for method in ("POST", "PUT", "DELETE")]
    house.api.rules += rules
    yield seen
    house.api.rules[:] = [one for one in house.api.rules if one not in rules]
    judge()
    assert not [one for one in seen if "ACCEPT" in one.values()]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_interleaved_and_retired_in_both_orders(ours, theirs, first):
    """The same policy for both, so what their groups say is the same; still each has its own."""
    found = ours.state()
    for house in (ours, theirs):
        pools(house)
    good(ours.provision(), "changed")
    alone = (marks(ours), files(ours, *OURS))
    with refusing(ours, *OURS):
        good(theirs.provision(), "changed")
        assert own(ours) == set(alone[0]) and files(ours, *OURS) == alone[1]
        assert len(own(theirs)) == len(own(ours)) and own(theirs) | own(ours) == set(marks(ours)) and not own(theirs) & own(ours)
    with refusing(ours, *OURS, *THEIRS):
        for house in (ours, theirs, ours):
            good(house.again(), "unchanged")
        good(ours.enforce("quarantine", "vps-100"))
        good(theirs.provision(), "unchanged")  # looks at all there is
        good(theirs.enforce("quarantine", "vps-101"))
        good(ours.provision(), "unchanged")
        held = {name for name in marks(ours) if name.startswith("aup-quar-")}
        assert len(held) == 2
    good(ours.lift("vps-100"))
    assert {name for name in marks(ours) if name.startswith("aup-quar-")} == held & own(theirs)
    good(theirs.lift("vps-101"))
    goes, stays, left = (ours, theirs, THEIRS) if first == "ours" else (theirs, ours, OURS)
    kept, before = own(stays), files(stays, *left)
    contents = {name: ours.cluster.firewall.cluster.groups.get(name) or ours.cluster.firewall.cluster.ipsets[name] for name in kept}
    contents = {name: str(one) for name, one in contents.items()}
    with refusing(ours, *left):
        good(goes.retire())
        assert set(marks(stays)) == kept and files(stays, *left) == before
        good(stays.provision(), "unchanged")
    wall = ours.cluster.firewall.cluster
    assert {name: str(wall.groups.get(name) or wall.ipsets[name]) for name in kept} == contents
    good(stays.retire())
    assert ours.state() == found


def test_a_guest_that_another_ledger_has_is_refused_until_that_lets_it_go(ours, theirs):
    good(ours.provision())
    good(theirs.provision())
    before = files(ours, *OURS)
    theirs.services.update(catalogue(100))
    for check in (True, False):
        done = theirs.provision(check=check)
        (error,) = done["errors"]
        assert (error["service"], error["code"]) == ("vps-100", "other_ledger") and short(ours) in error["message"]
        assert any(name in error["message"] for name in own(ours)) and "adopt_from_other_ledger" in error["remedy"]
    assert files(ours, *OURS) == before and verdict(ours.cluster, THEIRS[0], SPAM) == "REJECT"
    with pytest.raises(InputError, match="not in the released catalogue"):  # so nothing else is done to it either
        theirs.enforce("suspend", "vps-100")
    good(ours.again(), "unchanged")
    del ours.services["vps-100"]
    released = ours.write(release_files, ours.policy, {ours.policy.key: ours.policy}, ours.document(), accept_shrink=True)
    good(ours.converge(released["run_id"], release_id=released["release_id"]))
    good(theirs.provision(), "changed")
    assert verdict(ours.cluster, 100, SPAM) == "REJECT"
    good(ours.provision(), "unchanged")


def test_a_tenant_cannot_hide_behind_another_ledgers_group(ours, theirs):
    """Anybody who may see the cluster reads the names of its groups, and may write our mark."""
    good(ours.provision())
    good(theirs.provision())
    (group,) = (name for name in own(ours) if name.startswith("aup-ctrl-"))
    wall = ours.cluster.firewall.guests[101]
    before = wall.render()
    wall.rules.insert(0, {"type": "group", "action": group, "enable": 1, "comment": "hosting.aup quarantine"})
    with refusing(ours, 100, 101):
        done = good(theirs.again(), "changed")
    assert wall.render() == before and any(group in note and "tenant" in note for note in done["notes"])
    good(theirs.again(), "unchanged")
    # Narrowed to the guest it is the same.
    wall.rules.insert(0, {"type": "group", "action": group, "enable": 1, "comment": "hosting.aup quarantine"})
    good(theirs.enforce("quarantine", "vps-101", only=["vps-101"]))
    assert len(wall.rules) == 2 and group not in wall.render()


def test_a_ledger_from_a_backup_is_the_same(ours, theirs, tmp_path):
    good(ours.provision())
    good(theirs.provision())
    held = ours.state()
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "ledger.sqlite3", tmp_path / "copy" / "ledger.sqlite3")
    back = beside(ours, tmp_path / "back", *OURS, ledger=ours.opened(tmp_path / "copy"))
    back.write(lambda tx: tx.bump_epoch("restored"))
    good(back.again(), "unchanged")
    good(back.provision(), "unchanged")
    assert ours.state() == held and own(back) == own(ours)
    good(back.enforce("quarantine", "vps-100"))
    good(back.lift("vps-100"))
    assert ours.state() == held


def test_a_lost_ledgers_guests_are_taken_over_and_no_other_ones(ours, theirs, tmp_path):
    """Its groups go once no guest refers to them, whoever has that guest; nothing is open meanwhile."""
    for house in (ours, theirs):
        pools(house)
    ours.services.update(catalogue(105))
    good(ours.provision())
    good(ours.enforce("quarantine", "vps-100"))
    good(theirs.provision())
    lost, kept, before = own(ours), own(theirs), files(ours, *THEIRS, 105)
    heir = beside(ours, tmp_path / "heir", *OURS)
    pools(heir)
    held = ours.state()
    refused = heir.provision()
    assert {(error["service"], error["code"]) for error in refused["errors"]} == {(f"vps-{vmid}", "other_ledger") for vmid in OURS}
    assert {key: one for key, one in ours.state().items() if key != "cluster"} == {key: one for key, one in held.items() if key != "cluster"}
    checked = heir.provision(check=True, adopt_from_other_ledger=True)
    with refusing(ours, 203, *THEIRS, 105):
        done = good(heir.provision(adopt_from_other_ledger=True), "changed")
    assert done["plan_hash"] == checked["plan_hash"]
    # 105 isn't in its catalogue, and still refers to the lost ledger's group.
    (left,) = (name for name in lost & set(marks(ours)) if name.startswith("aup-ctrl-"))
    assert {name for name in lost & set(marks(ours)) if not name.startswith("aup-pool-")} == {left}
    assert any(left in note and "guest 105" in note for note in done["notes"])
    assert own(theirs) == kept and files(ours, *THEIRS, 105) == before
    good(heir.provision(), "unchanged")
    heir.services.update(catalogue(105))
    with refusing(ours, 203, *THEIRS, 105):
        good(heir.provision(adopt_from_other_ledger=True), "changed")
    assert not lost & set(marks(ours)) and own(theirs) == kept and files(ours, *THEIRS) == {v: before[v] for v in THEIRS}
    good(heir.provision(), "unchanged")
    good(theirs.provision(), "unchanged")
    good(heir.retire())
    assert set(marks(ours)) == kept
    for vmid in (*OURS, 105):
        assert not ours.cluster.firewall.guests[vmid].rules and not ours.cluster.firewall.guests[vmid].ipsets


def test_the_runbook_takes_over_after_a_ledger_was_lost(ours, tmp_path):
    (tmp_path / "controller").mkdir()
    controller = House(ours.server, tmp_path / "controller")
    rc, out = controller.play("provision", aup_nodes="pve")
    assert rc == 0 and "pve: changed, verified" in out, out
    lost = marks(ours)
    for file in (tmp_path / "controller").glob("ledger.db*"):
        file.unlink()
    rc, out = controller.play("provision", aup_nodes="pve")
    assert rc != 0 and "has rules of ledger" in out and "aup_adopt_from_other_ledger=true" in out and marks(ours) == lost, out
    with refusing(ours, *OURS):
        rc, out = controller.play("provision", aup_nodes="pve", aup_adopt_from_other_ledger=True)
    assert rc == 0 and "pve: changed, verified" in out and marks(ours) and not set(marks(ours)) & set(lost), out


def test_who_does_not_see_all_guests_takes_no_group_of_anothers_away(ours, tmp_path):
    good(ours.provision())
    heir = beside(ours, tmp_path / "heir", *OURS)
    small = {"/": ROLE - {"VM.Audit"}, **{f"/vms/{vmid}": ROLE for vmid in OURS}, "/sdn/zones/localnetwork": {"SDN.Use"}}
    (tmp_path / "small").mkdir()
    with serve(ours.cluster, tmp_path / "small", {"svc@pve!aup": Token(SECRET, small, alone={"/": {"Sys.Modify"}})}) as server:
        heir.server, heir.api = server, server.api
        done = good(heir.provision(adopt_from_other_ledger=True), "changed")
    assert own(ours) and any("doesn't see all guests" in note for note in done["notes"])
    heir.server, heir.api = ours.server, ours.api
    done = heir.provision(adopt_from_other_ledger=True)
    good(done, "changed")
    assert not own(ours) and verdict(ours.cluster, OURS[0], SPAM) == "REJECT"


def test_groups_of_an_earlier_version_go_when_no_ledger_needs_them(ours, theirs, monkeypatch):
    """It didn't say whose they are, and two ledgers had the same ones."""
    with monkeypatch.context() as earlier:
        earlier.setattr(_firewall, "name_of", lambda label, content, _ledger: "aup-%s-%s" % (label, digest(content)[:6]))
        earlier.setattr(_firewall, "mark_of", lambda _ledger: "hosting.aup")
        earlier.setattr(_firewall, "MOST_RANGES", 0)
        for house in (ours, theirs):
            pools(house)
            good(house.provision(), "changed")
        old = marks(ours)
        assert set(old.values()) == {"hosting.aup"} and [name[:9] for name in sorted(old)] == ["aup-ctrl-", "aup-mail-", "aup-pool-"]
    with refusing(ours, *OURS, *THEIRS) as writes:
        done = good(ours.again(), "changed")
        assert any("guest 101 refers to it" in note or "guest 204 refers to it" in note for note in done["notes"])
        assert set(old) <= set(marks(ours))
        good(ours.again(), "unchanged")
        good(theirs.again(), "changed")
        assert not set(old) & set(marks(ours)) and len(writes) > 10
    for house in (ours, theirs):
        good(house.provision(), "unchanged")
    assert own(ours) | own(theirs) == set(marks(ours))


def test_an_operators_own_groups_are_left(ours):
    """A name like ours isn't enough, and a comment that was taken off ours makes it nobody's, but still the one that is used."""
    wall = ours.cluster.firewall.cluster
    wall.groups["aup-mine"] = {"comment": "mine", "rules": []}
    wall.ipsets["aup-mine"] = {"comment": "", "entries": []}
    good(ours.provision())
    (group,) = own(ours)
    wall.groups[group]["comment"] = ""
    good(ours.provision(), "unchanged")
    wall.groups[group]["rules"].pop()
    good(ours.again(), "changed")
    good(ours.retire())
    assert {"aup-mine", group} == set(wall.groups) and set(wall.ipsets) == {"aup-mine"}


def test_the_least_token_is_enough(ours, theirs):
    """docs/proxmox.md, the token's role: nothing here needs more."""
    assert ours.api.tokens["svc@pve!aup"] == token()
    good(ours.provision())
    good(theirs.provision())


def test_a_check_before_there_is_a_ledger_has_the_hash_of_the_run(ours, tmp_path):
    """It has one of its own that is kept nowhere, so names on the cluster are others; what is planned is the same."""
    passing = beside(ours, tmp_path / "passing", *OURS)
    pools(passing)
    pools(ours)
    checked, done = good(passing.provision(check=True)), good(ours.provision(), "changed")
    assert checked["plan_hash"] == done["plan_hash"] and str(checked["steps"]) != str(done["steps"])
