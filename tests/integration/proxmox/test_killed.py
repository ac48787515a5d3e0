# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller killed before any of its writes: the next pass finishes or undoes, and nothing of a customer's is lost."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client

from tests.proxmox.cluster import Cluster

from .provider import Provider, firewalled, guest, provider, service


class Killed(BaseException):
    """As a signal would end it: nothing catches this."""


class Mortal(Client):
    """A client that dies before its nth write, or after it was done and before it is heard of."""

    def __init__(self, target, lives: int, after: bool = False):
        super().__init__(target)
        self.left, self.after, self.dead, self.count = lives, after, False, threading.Lock()

    def call(self, method, path, **parameters):
        with self.count:
            if self.dead:
                raise Killed
            last = method != "GET" and self.left == 0
            self.left -= method != "GET"
            self.dead = last
        if not last:
            return super().call(method, path, **parameters)
        if self.after:
            super().call(method, path, **parameters)
        raise Killed


@pytest.fixture
def house(tmp_path):
    cluster = firewalled(Cluster(("pve1",), pace=0.0, lock_timeout=0.3))
    cluster.add(guest(100, cpulimit="1"))
    cluster.add(guest(203, "lxc"))
    with provider(tmp_path, cluster) as made:
        made.services = {one["id"]: one for one in (service(100), service(203, "lxc"))}
        yield made


def dies(house: Provider, lives: int, verb, *args, **named) -> bool:
    """Whether it came to its end of life in that run."""
    client = Mortal(house.client().target, lives, after=bool(lives % 2))
    try:
        assert not verb(*args, client=client, **named)["errors"]
    except Killed:
        return True
    return False


def sweep(house: Provider, act, undo, finish=None, stride: int = 1) -> tuple[int, dict]:
    """Kill `act` before or after each of its writes in turn; the pass after it must end as an undisturbed one does.

    :param finish: that pass; else what reconcile does
    :param stride: odd, so that before and after take turns
    """
    act()
    wanted = house.state()
    undo()
    lives = 0
    while dies(house, lives, act):
        done = (finish or house.again)()
        assert not done["errors"], (lives, done["errors"])
        assert house.state() == wanted, lives
        assert house.again()["outcome"] == "unchanged"
        undo()
        lives += stride
    assert house.state() == wanted
    return lives, wanted


def test_suspend_and_lift_killed_anywhere(house):
    house.provision()
    before, both = house.state(), ("vps-100", "vps-203")

    def suspend(**named):
        done = house.enforce("suspend", *both, **named)
        return done

    def lift(**named):
        return house.lift(*both, **named)
    killed, held = sweep(house, suspend, lift)
    assert killed == 4 and held != before  # configuration and power of each
    killed, free = sweep(house, lift, suspend)
    assert killed == 4 and free == before
    assert not house.lift(*both)["errors"] if house.statuses("vps-100") else True
    assert house.state() == before


def test_limits_killed_anywhere(house):
    house.provision()
    before = house.state()
    killed, _capped = sweep(house, lambda **named: house.enforce("cpu_throttle", "vps-100", "vps-203", share="20%", **named),
                            lambda **named: house.lift("vps-100", "vps-203", **named))
    assert killed == 2
    house.lift("vps-100", "vps-203")
    killed, _blocked = sweep(house, lambda **named: house.enforce("quarantine", "vps-100", **named),
                             lambda **named: house.lift("vps-100", **named), stride=3)
    assert killed > 8  # set, its entries, group, its rules, the guest's reference
    house.lift("vps-100")
    assert house.provision()["outcome"] in ("changed", "unchanged") and house.state() == before


def test_provision_and_retire_killed_anywhere(house):
    before = house.state()
    del house.services["vps-203"]
    killed, _provisioned = sweep(house, house.provision, house.retire, house.provision, stride=2)
    assert killed > 10
    lives = 0
    while dies(house, lives, house.retire):
        assert not house.retire()["errors"] and house.state() == before, lives
        house.provision()
        lives += 3
    assert house.state() == before
