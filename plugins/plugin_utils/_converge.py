# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of converging one KVM host. PRIVATE to the collection.

snapshot → resolve → plan on the node → prior state into the ledger → apply on the node → confirm
over a new connection → result into the ledger. How a module is run on the node is handed in, so
that this file decides and the action plugin connects.
"""
from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field

from ansible_collections.hosting.aup.plugins.module_utils._errors import (
    AupError,
    CatalogueError,
    GuardError,
    InputError,
    LedgerError,
    NodeError,
)
from ansible_collections.hosting.aup.plugins.module_utils._orders import orders
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._resolve import policy_of, resolve, retired
from ansible_collections.hosting.aup.plugins.module_utils._seed import USER_DATA_BYTES
from ansible_collections.hosting.aup.plugins.module_utils._standing import is_gone
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import replay

RETRIES = 3
JOURNALS = 50  # answers in which a node may hand over its journal
# `incomplete`: the node is as its release says, and some ordered guest could not be made there. That holds back neither
# the release nor other nodes: its services, among them guests just made, have to stay under it.
DONE = ("changed", "unchanged", "incomplete")
_RETRY = ("fence_old", "plan_changed")
_CONFIRM_PATH = re.compile(r"/run/hosting_aup/rollback-[0-9a-f]{32}\.nft")


@dataclass
class Wanted:
    """What a task asked for.

    :ivar release_id: a release to bring the node to, or None for the one it has
    :ivar numbers: of guests that a cluster is to make, by service: those reserved for them in this run
    :ivar host: the node of a cluster that is acted on, where `node` is the cluster
    """

    node: str
    run_id: str
    release_id: int | None = None
    pending: list = field(default_factory=list)
    absent: bool = False
    adopt_from_other_ledger: bool = False
    stop_after_failure: bool = False
    confirm_seconds: int = 30
    probes: list = field(default_factory=list)
    controller_addresses: tuple = ()
    user_data_directory: str | None = None
    numbers: dict = field(default_factory=dict)
    host: str | None = None


def read_user_data(directory, name):
    """A customer's own cloud-init data, read when a guest is made and kept nowhere.

    :param directory: on the controller, or None
    :param name: of the file, as the order has it
    :raises InputError: code `user_data_missing` or `user_data_bad`; the text itself is never said
    """
    if directory is None:
        raise InputError("its user data %s can't be read: no directory for it is set." % name, target=name, code="user_data_missing",
                         remedy="Set aup_user_data_directory.")
    try:
        handle = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            data = file.read(USER_DATA_BYTES + 1)
    except OSError as exc:
        raise InputError("its user data %s can't be read: %s." % (name, exc.strerror), target=name, code="user_data_missing",
                         remedy="Put the file into %s, then run again." % directory) from exc
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or len(data) > USER_DATA_BYTES:
        raise InputError("its user data %s is not UTF-8 text of at most %d bytes." % (name, USER_DATA_BYTES), target=name,
                         code="user_data_bad", remedy="Ask the customer for other data, or leave it away.")
    return text


def describe_node(name, catalogue):
    """The node as the released catalogue describes it, so that no run acts on an unreleased edit.

    :raises CatalogueError: the release doesn't have it
    """
    if name not in catalogue["nodes"]:
        raise CatalogueError("node %s is not in the released catalogue." % name, target=name,
                             remedy="Add it under `nodes` of the catalogue and provision.")
    return dict(catalogue["nodes"][name], name=name)


def guard_controller(desired, addresses):
    """Never hold the service the controller itself runs in, nor make a prefix dark or drop one that it is in.

    :raises GuardError: naming the service
    """
    mine = [ipaddress.ip_address(address) for address in addresses]
    for service in desired["services"]:
        cut = [address for nic in service["nics"] for address in nic["addresses"]] if service["hold"] else []
        cut += (service.get("limits") or {}).get("null_route", {}).get("prefixes", ())
        drop = (service.get("limits") or {}).get("drop", {})
        cut += [*drop.get("in", ()), *drop.get("out", ())]
        networks = [ipaddress.ip_network(text) for text in cut]
        if any(address in network for address in mine for network in networks):
            raise GuardError(
                "service %s holds the address this controller connects from." % service["id"], target=service["id"],
                remedy="Run from a controller outside that service; rule: never the controller.",
            )


def ended_on_node(node, enforcements, services, carried=()):
    """`{service: [ids]}` of enforcements that were to end and are seen gone from this node.

    A service the node says nothing of is neither held there nor has anything to be given back.

    :param enforcements: those of the snapshot
    :param services: what the node said of its services
    :param carried: services that are this node's now, wherever they were when they were enforced
    """
    seen = {entry["service"]: entry for entry in services}
    ended = {}
    for enforcement in enforcements:
        sid = enforcement["service"]
        if enforcement["status"] != "ending" or (node not in enforcement["snapshot"]["nodes"] and sid not in carried):
            continue
        if is_gone(seen.get(sid), enforcement.get("kind", "suspend")):
            ended.setdefault(enforcement["service"], []).append(enforcement["id"])
    return ended


def data_notes(snapshot, desired, now):
    """A sentence for each dated input that nobody refreshed in time, or that a control lacks."""
    lacking = ["control mining is in use without data: run hosting.aup.refresh_pools"] if (
        "mining" in desired.get("controls", ()) and "pools" not in snapshot["inputs"]) else []
    stale = ["data %s is of %s and stale since %s: refresh it" % (name, iso(found["at"]), iso(found["stale_at"]))
             for name, found in sorted(snapshot["inputs"].items()) if found["stale_at"] <= now]
    return lacking + stale


def probe(probes, timeout=5):
    """Connect to each `{host, port}`; returns the sentences of those that failed."""
    failed = []
    for target in probes:
        try:
            socket.create_connection((target["host"], int(target["port"])), timeout=timeout).close()
        except OSError as exc:
            failed.append("probe of %s port %s failed: %s" % (target["host"], target["port"], exc))
    return failed


def outcome_of(errors, changed):
    """The word for what became of a node."""
    if errors:
        return "incomplete" if all(error.get("part") == "create" for error in errors) else "failed"
    return "changed" if changed else "unchanged"


class Converge:
    """One node, once.

    :param ledger: an open ledger
    :param call: `call(**module_args) -> result` of the node module; raises NodeError
    :param confirm: `confirm(path) -> bool`: over a new connection, remove that file
    :param clock: gives seconds since the epoch; read for each attempt, or else what another run began
        while this one waited would count as not begun, and be undone
    :param check: plan only
    """

    UNREACHED = frozenset(("unreachable",))
    """Codes of errors that say that the node was not reached."""
    ENDED = "ended by the node itself: %s"

    def __init__(self, ledger, call, confirm, actor, clock, check):
        self.ledger, self.call, self.confirm = ledger, call, confirm
        self.actor, self.clock, self.check = actor, clock, check
        self.journals = []  # what was read in check mode, taken in and rolled back with each snapshot

    def _transaction(self, rolled_back):
        return self.ledger.transaction(check=rolled_back, actor=self.actor, now=self.clock())

    def _snapshot(self, wanted, born=()):
        """The ledger's snapshot as it would be; what resolving needs written is written with the prior state.

        The fence is the revision before that: another writer may really get the numbers that are
        rolled back here, and what it wrote must count as newer than this.

        :param born: services whose guest is made by this run: nothing they get is a grace for what ran before
        :raises LedgerError: code `no_release`
        """
        if not wanted.pending and wanted.release_id is None and not self.journals:
            with self.ledger.read(now=self.clock()) as tx:
                snapshot = tx.snapshot(wanted.node)
        else:
            with self._transaction(rolled_back=True) as tx:
                revision = tx.head_number
                replay(tx, wanted.pending)
                for journal in self.journals:
                    tx.take_journal(wanted.node, journal["journal"], journal["entries"])
                if wanted.release_id is not None and not wanted.absent:
                    tx.adopt(wanted.node, wanted.release_id)
                    tx.bear(wanted.node, born)
                snapshot = dict(tx.snapshot(wanted.node, wanted.release_id), revision=revision)
        if snapshot["release"] is None:
            raise LedgerError("node %s carries no release." % wanted.node, code="no_release", target=wanted.node,
                              remedy="Run hosting.aup.provision for it first.")
        return snapshot

    def _resolve(self, wanted, born=()):
        """Snapshot, desired state and orders as they would be; see `_snapshot`."""
        snapshot = self._snapshot(wanted, born)
        if wanted.absent:
            return snapshot, retired(snapshot, {"name": wanted.node}), {}
        policies = {key: Policy.from_released(document) for key, document in snapshot["policies"].items()}
        node = describe_node(wanted.node, snapshot["catalogue"])
        resolution = resolve(policies, snapshot, node, self.clock())
        guard_controller(resolution.desired, wanted.controller_addresses)
        ordered = {}
        if wanted.release_id is not None:
            ordered = orders(snapshot, resolution.desired, node,
                             lambda service: policy_of(policies, snapshot["release"], service, self.clock()))
        return snapshot, resolution.desired, ordered

    def _planned(self, wanted, taken, notes):
        """Resolve and plan; again, when what the plan says makes another picture.

        It does if the node ended something by itself, which is on record then, and if the plan makes guests
        that would have got the grace of those found running.

        :param taken: what the node is to be told of its journal; brought up to date
        :param notes: sentences for the operator are added to it
        :returns: `(snapshot, desired, orders, arguments of the module, plan, born)`
        """
        born = ()
        journals = JOURNALS
        while True:
            snapshot, desired, ordered = self._resolve(wanted, born)
            args = {"desired": pack(desired), "adopt": wanted.adopt_from_other_ledger}
            if ordered:
                args["orders"] = pack(ordered)
            plan = self.call(mode="plan", **args, **taken)
            told = self._take_journal(wanted, plan, notes) if journals else {}
            taken.update(told)
            graced = {sid for sid in plan.get("creating", ()) if snapshot["adoptions"].get(sid) is not None}
            if not graced and not told:
                return snapshot, desired, ordered, args, plan, born
            journals -= bool(told)
            born = sorted(graced.union(born))

    @staticmethod
    def _user_data(wanted, ordered, plan):
        """`({service: text}, errors)` for the seeds that the plan writes."""
        texts, errors = {}, []
        for step in plan["steps"]:
            sid = step["service"]
            if step["engine"] != "create" or step["verb"] != "seed" or not ordered[sid]["user_data"]:
                continue
            try:
                texts[sid] = read_user_data(wanted.user_data_directory, ordered[sid]["user_data"])
            except InputError as exc:
                errors.append({"service": sid, "part": "create", "code": exc.code, "message": exc.message, "remedy": exc.remedy})
        return texts, errors

    def run(self, wanted):
        """Converge; the outcome is in the ledger before this returns or raises.

        :returns: dict with outcome, changed, steps, errors, notes, gaps, services, plan_hash …
        """
        try:
            if wanted.stop_after_failure and not self.check and self.ledger.run_failed(wanted.run_id):
                result = self._nothing("held_back", [{
                    "service": None, "code": "held_back", "message": "an earlier node of this run failed; nothing was done here.",
                    "remedy": "Mend that node, then run again."}])
                snapshot = None
            else:
                snapshot, result = self._converge(wanted)
        except AupError as exc:
            snapshot = None
            result = self._failed(exc)
        if not self.check:
            self._record(wanted, snapshot, result)
        return result

    def _failed(self, exc):
        """The result of a node that was not reached, or of which nothing more is known."""
        result = self._nothing("unreachable" if exc.code in self.UNREACHED else "failed", [{
            "service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy}])
        result["retryable"] = exc.retryable
        return result

    @staticmethod
    def _nothing(outcome, errors):
        return {"outcome": outcome, "changed": False, "steps": [], "errors": errors, "notes": [], "gaps": [],
                "services": [], "closed": [], "unverified": [], "disarmed": {}, "unknown_ports": []}

    def _converge(self, wanted):
        taken, notes = {}, []
        for attempt in range(RETRIES):
            try:
                snapshot, desired, ordered, args, plan, born = self._planned(wanted, taken, notes)
                result = plan
                texts, unread = self._user_data(wanted, ordered, plan)
                if self.check:
                    break
                self._before_apply(wanted, plan, born)
                if texts:
                    args["user_data"] = pack(texts)
                if plan["changed"] or plan["priors"]:
                    result = self.call(mode="apply", plan_hash=plan["plan_hash"],
                                       confirm_seconds=wanted.confirm_seconds, **args)
                break
            except NodeError as exc:
                if exc.code not in _RETRY or attempt == RETRIES - 1:
                    raise
        result["plan_hash"] = plan["plan_hash"]
        result["fence"] = desired["fence"]
        result["notes"] = notes + list(result["notes"]) + data_notes(snapshot, desired, self.clock())
        told = {error["service"] for error in unread}
        errors = [error for error in result["errors"] if error["service"] not in told] + unread
        if result.get("confirm") and not self._confirmed(result["confirm"]):
            raise NodeError(
                "the new rules cut off the controller, or its new connection failed: node %s puts the former ones back by itself."
                % wanted.node, code="rolled_back", target=wanted.node,
                remedy="Check the node's uplinks and the MAC of the services held, then run again.")
        if not self.check:
            errors += [{"service": step["service"], "code": "unverified", "message": "not seen on the node after applying: %s" % step["why"],
                        "part": step.get("part"),
                        "remedy": "Run again; if it persists, something else on the node undoes it."}
                       for step in result.get("unverified", [])]
            errors += [{"service": None, "code": "probe_failed", "message": text, "remedy": "Check the node before going on."}
                       for text in probe(wanted.probes)]
        result["errors"] = errors
        result["outcome"] = outcome_of(errors, result["changed"])
        return snapshot, result

    def _take_journal(self, wanted, plan, notes):
        """Take in what the node did by itself.

        :param notes: sentences for the operator are added to it
        :returns: what the node is to be told of it with the next call; empty if there was nothing new
        """
        journal = plan.get("journal")
        if not journal or not journal["entries"]:
            return {}
        if self.check:
            if journal in self.journals:
                return {}  # the node keeps it, and says it again
            self.journals.append(journal)
            return {"taken": {"journal": journal["journal"], "number": 0}}
        with self._transaction(rolled_back=False) as tx:
            done = self._take_in(tx, wanted, journal)
        notes += [self.ENDED % ", ".join(done["ended"])] if done["ended"] else []
        notes += done["refused"]
        return {"taken": {"journal": journal["journal"], "number": done["number"]}}

    @staticmethod
    def _take_in(tx, wanted, journal):
        """The node's journal into the ledger; what `take_journal` returned."""
        return tx.take_journal(wanted.node, journal["journal"], journal["entries"])

    def _before_apply(self, wanted, plan, born):
        """What must be on record before the node is touched."""
        if wanted.release_id is None and not plan["priors"]:
            return
        with self._transaction(rolled_back=False) as tx:
            if wanted.release_id is not None and not wanted.absent:
                tx.adopt(wanted.node, wanted.release_id)
                tx.bear(wanted.node, born)
            if plan["priors"]:
                tx.record_baselines(wanted.node, plan["priors"])

    def _confirmed(self, path):
        if not _CONFIRM_PATH.fullmatch(path):
            raise NodeError("the node named an impossible file to confirm: %r." % path, code="bad_reply",
                            remedy="Check the node: its module was tampered with or is of another version.")
        return self.confirm(path)

    def _takes_release(self, result):
        """Whether the node carries the release that it was brought to, so that reconcile keeps it there."""
        return result["outcome"] in DONE

    def _record(self, wanted, basis, result):
        """Write what came of it; `basis` is the snapshot it was judged by (of a router its desired state), None where it did not come so far."""
        done = result["outcome"] in DONE
        whole = not any(error["service"] is None for error in result["errors"])
        carried = {sid for sid, service in basis["catalogue"]["services"].items() if wanted.node in service["nodes"]} if basis else ()
        ended = ended_on_node(wanted.node, basis["enforcements"], result["services"], carried) if basis and whole else {}
        said = {entry["service"]: entry for entry in result["services"]}
        errors = {error["service"]: error for error in result["errors"] if error["service"]}
        services = []
        for sid in sorted(set(said) | set(ended) | set(errors)):
            entry = said.get(sid, {"in_force": False, "released": sid in ended, "enforcement_ids": [], "limits": {}})
            limits = entry.get("limits", {}).values()
            binding = bool(entry.get("hold")) + len(limits)
            there = entry["in_force"] + sum(limit["in_force"] for limit in limits)
            services.append({
                "service": sid, "error": errors.get(sid),
                "outcome": "open" if there < binding else "in_force" if binding else "released" if entry["released"] else "open",
                "enforcement_ids": (entry["enforcement_ids"] if entry["in_force"] else []) + [
                    number for limit in limits if limit["in_force"] for number in limit["enforcement_ids"]],
                "ended_ids": ended.get(sid, []),
            })
        summary = {key: result[key] for key in ("changed", "errors", "notes", "gaps", "disarmed", "unknown_ports")}
        summary["steps"] = len(result["steps"])
        with self._transaction(rolled_back=False) as tx:
            tx.record_result(
                wanted.run_id, wanted.node, result["outcome"], result.get("fence"), services,
                baselines_closed=result["closed"], absent=result.get("absent", ()), summary=summary)
            told = {sid: one for sid, one in result.get("set_in_pool", {}).items() if basis and basis["touched"].get(sid) != one}
            if told:
                tx.note_set_in_pool(wanted.node, told)
            if result.get("created") and not wanted.absent:
                tx.record_creations(wanted.run_id, wanted.node, result["created"])
            if "by_hand" in result:
                tx.note_by_hand(wanted.node, {} if wanted.absent and done else result["by_hand"])
            if done and wanted.absent:
                tx.forget_node(wanted.node)
            elif wanted.release_id is not None and not wanted.absent and self._takes_release(result):
                tx.set_node_release(wanted.node, wanted.release_id)
