# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller killed before any of its writes: the next pass finishes or undoes, and nothing of a customer's is lost."""

from __future__ import annotations

import threading

from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client

from .provider import Runs


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


def dies(house: Runs, lives: int, verb, *args, **named) -> bool:
    """Whether it came to its end of life in that run."""
    client = Mortal(house.client().target, lives, after=bool(lives % 2))
    try:
        assert not verb(*args, client=client, **named)["errors"]
    except Killed:
        return True
    return False


def sweep(house: Runs, act, undo, finish=None, stride: int = 1) -> tuple[int, dict]:
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


def test_suspend_and_lift_killed_anywhere(site):
    both = some(site, "vm", "ct")
    site.provision()
    before = site.state()

    def suspend(**named):
        return site.enforce("suspend", *both, **named)

    def lift(**named):
        return site.lift(*both, **named)
    killed, held = sweep(site, suspend, lift)
    assert killed == 4 and held != before  # configuration and power of each
    killed, free = sweep(site, lift, suspend)
    assert killed == 4 and free == before
    assert not site.lift(*both)["errors"] if site.statuses(both[0]) else True
    assert site.state() == before


def test_limits_killed_anywhere(site):
    both = some(site, "vm2", "ct")
    site.provision()
    before = site.state()
    killed, _capped = sweep(site, lambda **named: site.enforce("cpu_throttle", *both, share="20%", **named),
                            lambda **named: site.lift(*both, **named))
    assert killed == 2
    site.lift(*both)
    killed, _blocked = sweep(site, lambda **named: site.enforce("quarantine", both[0], **named),
                             lambda **named: site.lift(both[0], **named), stride=3)
    assert killed > 8  # set, its entries, group, its rules, the guest's reference
    site.lift(both[0])
    assert site.provision()["outcome"] in ("changed", "unchanged") and site.state() == before


def test_provision_and_retire_killed_anywhere(site):
    before = site.state()
    some(site, "vm2")
    killed, _provisioned = sweep(site, site.provision, site.retire, site.provision, stride=3)
    assert killed > 10
    lives = 0
    while dies(site, lives, site.retire):
        assert not site.retire()["errors"] and site.state() == before, lives
        site.provision()
        lives += 3
    assert site.state() == before


def some(site, *who: str) -> list[str]:
    """Only these guests are the provider's."""
    ids = [site.ids[one] for one in who]
    site.services = {sid: site.services[sid] for sid in ids}
    return ids
