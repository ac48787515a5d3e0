# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops on a plain Linux router: traffic between one service and remote prefixes, in a namespace, over SSH."""
from __future__ import annotations

import json

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._router._linux import Linux
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import RouterError
from tests.integration.routers.linux_lab import ROUTER, LinuxLab
from tests.integration.routers.provider import Provider

BAD, GOOD = ("198.51.100.7", "2001:db8:bad::7"), ("198.51.100.8", "2001:db8:bad::8")
MARK = "-j list table inet hosting_aup_drops"


class DropLab(LinuxLab):
    """The Linux router with two more addresses outside of each family: one attacks, one is a customer."""

    def build(self, net):
        super().build(net)
        for one, six in (BAD, GOOD):
            net["out"].ip("addr add %s/32 dev o-edge" % one, "addr add %s/128 dev o-edge nodad" % six)
        net["edge"].ip("route add 198.51.100.0/24 via 192.0.2.2", "route add 2001:db8:bad::/48 via 2001:db8:1::2")

    def hears(self, number, sources):
        """Whether the guest is reached from each of these addresses."""
        targets = ("203.0.113.%d" % number, "2001:db8:100::%d" % number)
        return [self._net["out"].try_tcp(target, 8080, 0.5, source=source) == "open" for target, source in zip(targets, sources)]

    def nft(self, arguments):
        return self._net["edge"].check("nft " + arguments)

    def tables(self):
        return self.nft("list tables")


@pytest.fixture(scope="module")
def lab():
    with DropLab() as made:
        yield made


@pytest.fixture
def provider(lab, tmp_path):
    lab.nft("flush ruleset")
    with Provider(tmp_path, lab.sshd.target(), ROUTER) as made:
        made.provision()
        yield made


def test_listed_sources_are_dark_for_one_service_and_all_is_given_back(lab, provider):
    held = provider.drop(list(BAD))
    check = provider.converge(check=True)
    assert not lab.tables()
    done = provider.converge()
    assert not done["errors"], done["errors"]
    assert (done["outcome"], done["plan_hash"], done["errors"]) == ("changed", check["plan_hash"], []) and provider.status(held) == "active"
    assert json.loads(json.dumps(done["steps"])) == done["steps"]
    assert lab.hears(10, BAD) == [False, False] and lab.hears(10, GOOD) == [True, True] == lab.hears(20, BAD)
    assert provider.converge()["outcome"] == "unchanged"
    # A second case adds its own, and goes without them.
    other = provider.drop("198.51.100.8,2001:db8:bad::/64", case="T-2", direction="in")
    assert provider.converge()["outcome"] == "changed" and lab.hears(10, GOOD) == [False, False]
    provider.lift(case="T-2")
    assert provider.converge()["outcome"] == "changed"
    assert lab.hears(10, GOOD) == [True, True] and lab.hears(10, BAD) == [False, False]
    assert (provider.status(held), provider.status(other)) == ("active", "cancelled" if provider.status(other) == "cancelled" else "ending")
    provider.late = 3700
    provider.ask(requests.end_what_is_due)
    assert provider.converge()["outcome"] == "changed"
    assert not lab.tables() and lab.hears(10, BAD) == [True, True]
    assert provider.converge()["outcome"] == "unchanged"


def test_twenty_thousand_in_one_call_and_one_more_is_one_element(lab, provider):
    sources = ["%d.%d.%d.7" % (11 + n % 80, n >> 8 & 255, n & 255) for n in range(18000)]
    sources += ["2a00:%x:%x::/48" % (n & 1023, n >> 4) for n in range(1998)] + list(BAD)
    provider.drop(sources)
    done = provider.converge()
    assert done["errors"] == [] and lab.hears(10, BAD) == [False, False] and lab.hears(10, GOOD) == [True, True]
    provider.drop([GOOD[0]], case="T-2")
    (step,) = provider.converge()["steps"]
    assert [line for line in step["commands"] if "198.51" in line] == [
        "add element inet hosting_aup_drops %s4-%s { 198.51.100.8 }" % (way, step["drop"]) for way in ("in", "out")]
    assert lab.hears(10, GOOD) == [False, True]
    provider.lift(case="all")
    assert provider.converge()["errors"] == [] and not lab.tables()


DAMAGE = (
    "delete table inet hosting_aup_drops", "flush chain inet hosting_aup_drops forward", "flush chain inet hosting_aup_drops in-{key}",
    "flush map inet hosting_aup_drops to4", "flush set inet hosting_aup_drops out6-{key}",
    "add element inet hosting_aup_drops in4-{key} {{ 192.0.2.9-192.0.2.13 }}",
    "insert rule inet hosting_aup_drops in-{key} accept", "delete element inet hosting_aup_drops in4-{key} {{ 198.51.100.7 }}",
)


def test_what_somebody_did_to_it_is_mended(lab, provider):
    provider.drop(list(BAD))
    (step,) = provider.converge()["steps"]
    before = lab.nft("-s list table inet hosting_aup_drops")
    for damage in DAMAGE:
        lab.nft(damage.format(key=step["drop"]))
        done = provider.converge()
        assert (done["outcome"], done["errors"]) == ("changed", []), damage
        assert sorted(lab.nft("-s list table inet hosting_aup_drops").splitlines()) == sorted(before.splitlines()), damage
    assert lab.hears(10, BAD) == [False, False]


def test_tables_of_others_and_groups_nobody_recorded_stay(lab, provider):
    lab.nft("add table inet theirs")
    provider.drop(list(BAD))
    provider.converge()
    lab.nft("add set inet hosting_aup_drops in4-d0123456789ab { type ipv4_addr; flags interval; }")
    done = provider.converge()
    assert done["outcome"] == "unchanged" and "d0123456789ab" in done["notes"][0]
    provider.lift()
    assert provider.converge()["errors"] == []
    assert "in4-d0123456789ab" in lab.nft("list table inet hosting_aup_drops") and "theirs" in lab.tables()


def test_a_refused_transaction_changes_nothing_and_is_said(lab, provider):
    class Refusing(Linux):
        def _nft(self, arguments, stdin=""):
            return super()._nft(arguments, stdin + "add rule inet nowhere x drop\n" if arguments == "-f -" else stdin)

    provider.platforms, provider.patience = {"linux": Refusing}, 0.5
    held = provider.drop(list(BAD))
    done = provider.converge()
    assert [error["code"] for error in done["errors"]] == ["not_applied"] and "No such file" in done["errors"][0]["message"]
    assert provider.status(held) == "opened" and not lab.tables()
    provider.platforms = None
    assert provider.converge()["errors"] == [] and provider.status(held) == "active"


def test_the_connection_is_cut_before_and_after_the_change(lab, provider):
    cuts = []

    class Cut(Linux):
        def apply_apart(self, step):
            cuts.append(step)
            if len(cuts) == 2:
                super().apply_apart(step)
            if len(cuts) < 3:
                raise RouterError("cut", code="closed", target="edge", remedy="-")
            return super().apply_apart(step)

    provider.platforms = {"linux": Cut}
    held = provider.drop(list(BAD))
    done = provider.converge()
    assert done["state"] == "unknown" and done["may_have_acted"] and provider.status(held) == "opened"
    assert lab.hears(10, BAD) == [False, False]
    done = provider.converge()
    assert (done["outcome"], done["errors"], provider.status(held)) == ("unchanged", [], "active")


REFUSED = (
    ("198.50.0.0/15", "guard_wide_drop"), ("2001::/31", "guard_wide_drop"), ("203.0.113.20", "guard_protected_address"),
    ("2001:db8:100::/64", "guard_protected_address"), ("192.0.2.1", "guard_protected_address"), ("192.0.2.250", "guard_protected_address"),
    ("0.0.0.0/0", "guard_wide_drop"), ("198.51.100.7/24", "bad_input"), ("::ffff:198.51.100.7", "bad_input"),
    ("198.51.100.7;reboot", "bad_input"), ("fe80::1%eth0", "bad_input"), (["198.51.100.7", 7], "bad_input"), ("", "bad_input"),
)


def test_what_may_never_be_dropped_is_refused_before_anything_is_written(lab, provider):
    for sources, code in REFUSED:
        with pytest.raises(AupError) as caught:
            provider.drop(sources)
        assert caught.value.code == code, sources
    assert provider.converge()["outcome"] == "unchanged" and not lab.tables()
