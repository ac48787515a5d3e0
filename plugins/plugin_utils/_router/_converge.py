# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of converging one router: ledger → resolve → carry out → ledger. PRIVATE.

A router keeps no fence of ours. Instead, after acting, the ledger is read again: if it wants something else by then,
the router is brought to that. Whoever acts last has read the newest, so two controllers can't leave the older state.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._routers import reasons, resolve_router, retired_router
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import DONE, RETRIES, Converge, describe_node
from ansible_collections.hosting.aup.plugins.plugin_utils._one_writer import one_writer
from ansible_collections.hosting.aup.plugins.plugin_utils._router._carry_out import CarryOut
from ansible_collections.hosting.aup.plugins.plugin_utils._router._platforms import PLATFORMS


class RouterConverge(Converge):
    """One router, once.

    :param ledger: an open ledger
    :param target: how to reach it, a `_session.Target`
    :param locks: folder for this controller's locks
    :param platforms: `{name: driver class}`
    :param clock: seconds since the epoch; read anew for each resolve
    """

    UNREACHED = frozenset(("unreachable", "session_limit", "auth", "host_key_unknown", "host_key_changed", "known_hosts",
                           "missing_library", "node_locked"))

    def __init__(self, ledger, target, actor, clock, check, locks, platforms=None, patience=10.0):
        super().__init__(ledger, None, None, actor, lambda: int(clock()), check)
        self.target, self.locks, self.patience = target, locks, patience
        self.platforms = PLATFORMS if platforms is None else platforms

    def _resolve(self, wanted, born=()):
        snapshot = self._snapshot(wanted, born)
        router = describe_node(wanted.node, snapshot["catalogue"])
        policies = {key: Policy.from_released(document) for key, document in snapshot["policies"].items()}
        desired = resolve_router(policies, snapshot, router, self.clock(), wanted.controller_addresses)
        return retired_router(desired) if wanted.absent else desired

    @staticmethod
    def _nothing(outcome, errors):
        return dict(Converge._nothing(outcome, errors), state="not_applied")

    def _failed(self, exc):
        result = super()._failed(exc)
        return dict(result, state="unknown" if exc.applied_steps else "not_applied", may_have_acted=exc.applied_steps)

    def _converge(self, wanted):
        """Alone on this controller. :returns: (desired, result)"""
        with one_writer(self.locks, wanted.node):
            return self._converged(wanted)

    def _converged(self, wanted):
        desired = self._resolve(wanted)
        driver = self.platforms[desired["settings"]["platform"]]
        carry = CarryOut(lambda: driver(self.target), lambda steps: self._keep(wanted, steps), self.patience, self.check)
        for _attempt in range(RETRIES):
            result = carry.run(desired)
            if self.check:
                break
            again = self._resolve(wanted)
            if _wants(again) == _wants(desired):
                break
            desired = again
        errors = result["errors"]
        result.update(
            reasons=reasons(desired), fence=desired["fence"], gaps=desired["gaps"] + result["gaps"], closed=[], disarmed={}, unknown_ports=[],
            outcome="failed" if errors and not self.check else "changed" if result["changed"] else "unchanged",
            state="not_applied" if errors else "applied")
        return desired, result

    def _keep(self, wanted, steps):
        """The former lines go on record before the first of them is changed."""
        priors = {}
        for step in steps:
            if step["service"]:
                priors.setdefault(step["service"], {})[step["prefix"]] = step["before"]
        with self._transaction(rolled_back=False) as tx:
            if wanted.release_id is not None and not wanted.absent:
                tx.adopt(wanted.node, wanted.release_id)
            tx.record_baselines(wanted.node, [
                {"service": service, "fields": {"routes": before}, "digest": digest({"routes": before})}
                for service, before in sorted(priors.items())])

    def _record(self, wanted, basis, result):
        done = result["outcome"] in DONE
        said = {entry["service"]: entry for entry in result["services"]} if basis else {}
        errors = {error["service"]: error for error in result["errors"] if error["service"]}
        ended = result.get("ended") or {}
        services = [{
            "service": sid, "error": errors.get(sid),
            "outcome": "open" if sid not in said else "in_force" if said[sid]["in_force"] else
            "released" if said[sid]["released"] else "open",
            "enforcement_ids": said[sid]["enforcement_ids"] if sid in said and said[sid]["in_force"] else [],
            "ended_ids": ended.get(sid, []),
        } for sid in sorted(set(said) | set(errors))]
        closed = sorted(sid for sid, entry in said.items() if entry["released"])
        summary = {key: result[key] for key in ("changed", "errors", "notes", "gaps", "disarmed", "unknown_ports")}
        summary["steps"] = len(result["steps"])
        with self._transaction(rolled_back=False) as tx:
            tx.record_result(wanted.run_id, wanted.node, result["outcome"], result.get("fence"), services,
                             baselines_closed=closed, summary=summary)
            if done and wanted.absent:
                tx.forget_node(wanted.node)
            elif done and wanted.release_id is not None:
                if not result["steps"]:
                    tx.adopt(wanted.node, wanted.release_id)
                tx.set_node_release(wanted.node, wanted.release_id)


def _wants(desired):
    """The part of a desired state that the router shows."""
    return (desired["null_routes"], desired["drops"], desired["known_drops"], desired["ports"], desired["known"], desired["settings"],
            [r["prefix"] for r in desired["refused"]])
