# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as libvirt would keep it, small enough to look through: plans of `_hold` are carried out on it."""

from __future__ import annotations

import copy

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")


class Guest:
    """One guest of one host."""

    def __init__(self, state="running", autostart=False, persistent=True, links=(("up", "up"),), name="web"):
        self.name = name
        self.uuid = UUID
        self.state = state
        self.reason = "unknown"
        self.autostart = autostart and persistent
        self.persistent = persistent
        self.boot = 1
        self.live = {}
        self.config = {}
        for mac, (live, config) in zip(MACS, links):
            self.config[mac] = config if persistent else None
            self.live[mac] = live if state != "off" else None

    @property
    def boot_id(self):
        return "boot-%d" % self.boot

    def seen(self):
        """As `_libvirt.detail` returns it; None once it has ceased to exist."""
        if self.state == "off" and not self.persistent:
            return None
        return copy.deepcopy(
            {
                "name": self.name,
                "uuid": self.uuid,
                "state": self.state,
                "reason": self.reason,
                "id": None if self.state == "off" else 1,
                "persistent": self.persistent,
                "autostart": self.autostart,
                "nics": [
                    {
                        "mac": mac,
                        "kind": "bridge",
                        "bridge": "br0",
                        "device": None,
                        "link_live": self.live[mac],
                        "link_config": self.config[mac],
                        "link_settable": True,
                        "gap": None,
                    }
                    for mac in self.config
                ],
            }
        )

    def __repr__(self):
        return "Guest%r" % (
            (self.state, self.reason, self.persistent, self.autostart, self.live, self.config),
        )

    def fields(self):
        """What has to come back exactly."""
        return (self.state, self.autostart, dict(self.live), dict(self.config))

    def do(self, step):
        """Carry out a planned step; a step that libvirt would refuse is a failed test."""
        verb = step["verb"]
        assert step["guest_uuid"] == self.uuid
        if verb == "set_link":
            links = self.live if step["scope"] == "live" else self.config
            assert links[step["mac"]] == step["before"], step
            links[step["mac"]] = step["after"]
        elif verb == "set_autostart":
            assert self.persistent and self.autostart is step["before"]
            self.autostart = step["after"]
        elif verb == "pause":
            assert self.state in ("running", "shutting_down")
            self.state, self.reason = "paused", "user"
        elif verb == "resume":
            assert self.state == "paused"
            self.state, self.reason = "running", "unpaused"
        elif verb == "start":
            self.start()
        elif verb in ("shutdown", "destroy"):
            assert self.state in ("running", "shutting_down", "paused")
            self.power_off("shutdown" if verb == "shutdown" else "destroyed")
        else:
            raise AssertionError("unknown verb %r" % verb)

    def start(self):
        assert self.state == "off" and self.persistent
        self.state, self.reason = "running", "booted"
        self.live = dict(self.config)

    def power_off(self, reason):
        self.state, self.reason = "off", reason
        self.live = dict.fromkeys(self.live)

    def host_reboots(self):
        """What is not autostarted stays off."""
        self.boot += 1
        self.power_off("unknown")
        if self.autostart and self.persistent:
            self.start()


class Node:
    """What the node module does around `_hold` for one service: keeps baseline and touched."""

    def __init__(self, guest, hold_module, keeps_touched=True):
        self.guest = guest
        self.hold_module = hold_module
        self.keeps_touched = keeps_touched
        self.baseline = None
        self.touched = None
        self.notes = []

    def service(self, hold):
        return {
            "id": "vps-1",
            "guest": {"name": self.guest.name, "uuid": self.guest.uuid},
            "hold": hold,
            "elsewhere": False,
        }

    def plan(self, hold):
        if hold is None:
            plan = self.hold_module.plan_release(
                self.service(None), self.guest.seen(), self.baseline, self.guest.boot_id, self.touched
            )
            return plan.steps, None, plan.notes, []
        return self.hold_module.plan_hold(
            self.service(hold), self.guest.seen(), self.baseline, self.guest.boot_id, self.touched
        )

    def converge(self, hold, killed_after=None):
        """One pass; `killed_after` steps it dies. Returns the steps planned."""
        if hold is None and self.baseline is None:
            return []
        steps, prior, notes, errors = self.plan(hold)
        assert errors == []
        self.notes = list(notes)
        if prior is not None:
            self.baseline = prior
            self.touched = self.hold_module.untouched() if self.keeps_touched else None
        self.touched = self.hold_module.record(self.touched, steps, self.guest.boot_id)
        for number, step in enumerate(steps):
            if number == killed_after:
                return steps
            self.guest.do(step)
        again, _prior, _notes, errors = self.plan(hold)
        assert (again, errors) == ([], [])
        if hold is None:
            self.baseline = self.touched = None
        elif hold["kind"] == "quarantine" and self.keeps_touched:
            self.touched = self.hold_module.untouched()
        return steps


def suspend(power="pause"):
    return {"kind": "suspend", "power": power, "enforcement_ids": [7]}


def quarantine():
    return {"kind": "quarantine", "power": None, "enforcement_ids": [8]}
