# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe, plan, apply, read back, undo what did not act, save: one router, one connection. PRIVATE.

Verifying is observing and planning once more. What that still wants was not achieved; what was entered but does
not act is taken back to exactly what was there.
"""
from __future__ import annotations

import time

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._open_connections import OPTION
from ansible_collections.hosting.aup.plugins.module_utils._routers import gaps, outcomes, plan, settles
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import RouterError

_AGAIN = ("closed", "timeout", "session_limit", "busy")
_POLL = 0.05


def steps_of(driver, planned):
    """The changes with the exact commands that carry them out."""
    return [dict(change, commands=driver.commands(change)) for change in planned["changes"]]


def public(step):
    """A step as results and the record have it: without what is only of use to the driver."""
    return {key: value for key, value in step.items() if "drop" not in step or key not in ("found", "wanted")}


def _apart(driver, step):
    """Whether a change is carried out by itself, in a transaction of its own."""
    return any(kind in step for kind in driver.apart)


def plan_hash(desired, steps):
    """Names a plan; equal in check mode and the real run."""
    return digest({"router": desired["router"], "steps": [public(step) for step in steps]})


class CarryOut:
    """Brings one router to its desired state.

    :param connect: `connect() -> driver`; raises RouterError
    :param before_apply: called with the steps before the first of them is carried out
    :param patience: seconds to wait until routes act and upstreams are told
    """

    def __init__(self, connect, before_apply, patience=10.0, check=False):
        self.connect, self.before_apply, self.patience, self.check = connect, before_apply, patience, check
        self.steps, self.errors, self.wrote, self.saved = [], [], False, False
        self.hash, self.notes = None, []

    def run(self, desired):
        """Do it. A connection cut half way is taken up again once, from what is then read.

        :returns: `{"plan", "outcome" of routes, …}`; see `_result`
        :raises RouterError: not reached, or reached and not understood; `applied_steps` says what may have acted
        """
        for attempt in (1, 2):
            try:
                driver = self.connect()
                try:
                    return self._once(driver, desired)
                finally:
                    driver.close()
            except RouterError as exc:
                if attempt == 2 or not self.wrote or exc.code not in _AGAIN:
                    exc.applied_steps = [command for step in self.steps for command in step["commands"]] if self.wrote else []
                    raise
        raise AssertionError("unreachable")

    def _once(self, driver, desired):
        observed = driver.observe(desired)
        self.notes = list(driver.notes)
        planned = plan(desired, observed)
        steps = steps_of(driver, planned)
        if self.hash is None:
            self.hash = plan_hash(desired, steps)
        if self.check:
            self.steps = steps
            return self._result(desired, planned, steps)
        self.steps += [step for step in steps if step not in self.steps]
        failed = {}
        if driver.waiting:
            # A lost connection left a change of ours unconfirmed; the router answers, so it may stay. What of it
            # is no longer wanted is among the steps.
            self.wrote = True
            driver.confirm()
        if steps:
            self.before_apply(steps)
            failed = self._apply(driver, steps)
            planned = self._settled(driver, desired, failed)
            driver.confirm()  # over the connection that read it back
            planned = self._take_back(driver, desired, planned, steps, failed)
        elif any(not s["announced"] for s in planned["states"]):
            planned = self._settled(driver, desired, failed)
        self._save(driver, desired, planned)
        return self._result(desired, planned, steps, failed)

    def _apply(self, driver, steps):
        """{prefix: complaint} of changes that the router refused."""
        apart = [step for step in steps if _apart(driver, step)]
        lines = [(command, step) for step in steps if step not in apart for command in step["commands"]]
        self.wrote = True
        refused = driver.apply([command for command, _step in lines], [step["prefix"] for _command, step in lines]) if lines else {}
        failed = {lines[index][1]["prefix"]: said for index, said in refused.items()}
        for step in apart:
            said = driver.apply_apart(step)
            if said:
                failed[step["prefix"]] = said
        return failed

    def _settled(self, driver, desired, failed):
        """The plan over what is read until nothing more is wanted, or patience ends."""
        end = time.monotonic() + self.patience
        while True:
            planned = plan(desired, driver.observe(desired))
            hopeless = set(failed) | {entry["prefix"] for entry in planned["refused"]}
            waiting = [s for s in planned["states"] if not (s["in_force"] and s["announced"])] + planned["changes"]
            if not any(entry["prefix"] not in hopeless for entry in waiting) or time.monotonic() >= end:
                return planned
            time.sleep(_POLL)

    def _take_back(self, driver, desired, planned, steps, failed):
        """Undo what was entered by us and does not act."""
        states = {state["prefix"]: state for state in planned["states"]}
        refused = {entry["prefix"]: entry for entry in planned["refused"]}
        undo = []
        for step in steps:
            state = states.get(step["prefix"])
            if step["action"] != "add" or "port" in step or _apart(driver, step):
                continue  # one transaction of its own: all of it is there, or none
            if any(left["prefix"] == step["prefix"] for left in planned["left"]) and step["prefix"] in refused:
                undo += [(line, step["prefix"]) for line in driver.undo(step)]
            elif state and state["configured"] and not state["in_force"]:
                failed.setdefault(step["prefix"], state["why"])
                undo += [(line, step["prefix"]) for line in driver.undo(step)]
        if not undo:
            return planned
        driver.apply([line for line, _prefix in undo], [prefix for _line, prefix in undo])
        driver.confirm()
        return plan(desired, driver.observe(desired))

    def _save(self, driver, desired, planned):
        if desired["settings"]["save"] != "always" or not (
                self.wrote or driver.unsaved or settles(desired, planned)):
            return
        try:
            driver.save()
            self.saved = True
        except RouterError as exc:
            if exc.code in _AGAIN:
                raise
            self.errors.append({"service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy})

    def _result(self, desired, planned, steps, failed=None):
        services, errors, ended = outcomes(desired, planned, failed or {})
        return {"steps": [public(step) for step in self.steps], "services": services, "ended": {} if self.check else ended,
                "errors": self.errors + ([r for r in planned["refused"] if not r.get(OPTION)] if self.check else errors),
                "gaps": gaps(planned), "notes": planned["notes"] + self.notes,
                "changed": bool(steps) or self.wrote, "saved": self.saved, "plan_hash": self.hash}
