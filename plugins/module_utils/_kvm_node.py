# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A KVM host seen from itself: observe, plan, apply, and look again. PRIVATE to the collection.

Planning is the only judgement here: after applying, the host is observed and planned once more,
and whatever that second plan still wants is what was not achieved. So "verified" means read back,
drift is found by the same code that mends it, and `--check` prints what a real run does.
"""
from __future__ import annotations

import os
import time
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils import _create, _evidence, _hold, _limits, _rollback
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt, _nftables
from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._fold import HOLDS
from ansible_collections.hosting.aup.plugins.module_utils._network import Network, check_not_own_addresses, local_addresses
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState, check_fence
from ansible_collections.hosting.aup.plugins.module_utils._ports import (
    Owners,
    check_not_the_host,
    filter_model,
    limits_of,
    strangers,
)
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack

Observation = namedtuple("Observation", "boot_id links guests rules")
Work = namedtuple("Work", "observation model change judged steps priors closed services errors notes gaps capped creation plan_hash")
Work.__doc__ = """One plan.

`steps` are libvirt's and those of new guests, in order; `change` is the packet filter's; `priors` what must be on record
before applying; `closed` services whose baseline has been given back in full.
"""


def read_links(root="/sys/class/net", macs=True):
    """`{interface: {"master": bridge or None, "mac": …}}` of the host, from sysfs.

    Bridges are asked for their ports: 10,000 ports asked for their bridge take four times as long.

    :param macs: False leaves them None: reading 10,000 takes as long as `nft -f` of their rules
    """
    with os.scandir(root) as entries:
        links = {entry.name: {"master": None, "mac": None} for entry in entries if entry.is_symlink()}
    for name in list(links):
        base = root + "/" + name
        try:
            if os.access(base + "/brif", os.F_OK):
                for port in os.listdir(base + "/brif"):
                    if port in links:
                        links[port]["master"] = name
            if macs:
                links[name]["mac"] = _read_line(base + "/address")
        except OSError:
            continue  # went while this was reading
    return links


def _read_line(path):
    """A short file of sysfs; a tenth of the time of `open`, which matters with 10,000 ports."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 256).decode("ascii").strip()
    finally:
        os.close(handle)


def read_boot_id():
    """The kernel's identifier of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
        return handle.read().strip()


# What each kind of enforcement stands on; a step or an error names its part, those of `_hold` are the hold's.
_HOLD_PARTS = frozenset(("filter", "hold", "guest", "libvirt"))
PARTS = {
    "smtp_block": frozenset(("filter", "guest")),
    "port_block": frozenset(("filter", "guest")),
    "null_route": frozenset(("filter", "null_route")),
    "bandwidth_cap": frozenset(("bandwidth_cap", "guest")),
    "cpu_throttle": frozenset(("cpu_throttle", "guest", "libvirt")),
    "io_throttle": frozenset(("io_throttle", "guest", "libvirt")),
}
PARTS.update((kind, _HOLD_PARTS) for kind in HOLDS)


def _item_error(service, error, part="hold"):
    return {"service": service, "part": part, "code": error.code, "message": error.message, "remedy": error.remedy}


def _choose_baseline(service, own):
    """The prior state to give back: the node's copy, checked against the ledger's record.

    :param service: service of the desired state; its `baseline` is the ledger's
    :param own: the node's, or None
    :raises NodeError: code `baseline_mismatch`
    """
    recorded = service["baseline"]
    if own is None or recorded is None:
        return own or recorded
    if own["digest"] != recorded["digest"]:
        raise NodeError(
            "the prior state of service %s kept on this node (%s) is not the one in the ledger (%s); its guest is left as it is."
            % (service["id"], own["digest"][:12], recorded["digest"][:12]), code="baseline_mismatch", target=service["id"],
            remedy="Compare both with hosting.aup.explain, then remove the wrong one (docs/runbooks.md, mismatch).",
        )
    return own


def _guest_of(service, guests, owners):
    """The guest that is this service's: by its identity, or else by a MAC of the service."""
    macs = {nic["mac"] for nic in service["nics"]}
    by_mac = None
    for guest in guests:
        if owners.of_guest(guest) is service or guest["name"] == service["guest"]["name"]:
            return guest
        if by_mac is None and any(nic["mac"] in macs for nic in guest["nics"]):
            by_mac = guest
    return by_mac


def _remaining(work):
    """`{service: parts}` that a plan still wants something for; what is nobody's counts for all (None)."""
    left = {}
    for one in work.steps + work.errors:
        left.setdefault(one["service"], set()).add(one.get("part", "hold"))
    if work.change.kind != "none":
        left.setdefault(None, set()).add("filter")
    return left


class KvmNode:
    """The host this code runs on.

    :param run: `run(argv, stdin=None) -> (rc, stdout, stderr)`
    :param nft: absolute path of nft, for the process that undoes unconfirmed rules
    :param uri: libvirt's
    :param root: prefix of our own files (tests)
    """

    def __init__(self, run, nft="/usr/sbin/nft", uri="qemu:///system", root="", boot_id=None):
        self._run = run
        self._nft = nft
        self._uri = uri
        self._root = root
        self._boot_id = boot_id
        self._host = None
        self._network = Network()
        self._orders = {}  # guests that may be made: only `provision` brings any
        self._built = None  # the filter model seen last and its ruleset: looking again mostly finds the same
        self.state = NodeState(root)

    def _libvirt(self):
        if self._host is None:
            self._host = _libvirt.connect(self._uri)
        return self._host

    def observe(self, former=None, macs=True):
        """What the host is now.

        With libvirt down the guests are taken as last seen: the packet filter can still cut a held
        service off, and what needs libvirt fails by itself, service by service.

        :param former: what this run saw before it changed rules, and rules alone: while the host's interfaces are
            the same its guests are not asked for again (10,000 of them take two seconds)
        :param macs: whether the interfaces' are wanted
        """
        links = read_links(macs=macs)
        if former is not None and links == former.links:
            guests = former.guests
        else:
            guests = self._ask_guests()
        return Observation(self._boot_id or read_boot_id(), links, guests, _nftables.observe(self._run))

    def _ask_guests(self):
        try:
            return _libvirt.guests(self._libvirt())
        except NodeError as exc:
            known = self.state.load_ports()["guests"]
            if exc.code != "libvirt_down" or known is None:
                raise
            return known

    # -- planning ---------------------------------------------------------------------------

    def _plan_filter(self, model, rules, state):
        """The packet filter's change, and the service of each port and MAC it judges. Notes the reference in `state`."""
        if model is None:
            state["reference"] = None
            return _nftables.plan_teardown(rules), {}
        if self._built is None or self._built[0] != model:
            self._built = model, _nftables.build(model)
        ruleset = self._built[1]
        state["reference"] = _nftables.reference(self._run, ruleset, state["reference"])
        return _nftables.plan(ruleset, rules, state["reference"]), ruleset.services

    def _plan_service(self, service, guests, owners, boot_id, own):
        """What one service needs that is held or limited, or has something to be given back.

        :param own: this node's copy of what to give back, or None
        :returns: `(here, _hold.HoldPlan)`
        """
        guest = _guest_of(service, guests, owners)
        tuned = any(kind in limits_of(service) for kind in _limits.KINDS)
        if not (service["hold"] or tuned or service["baseline"] or own):
            errors, notes = _hold.identity(service, guest, None)
            needs_guest = set(limits_of(service)) - {"null_route"}
            return guest is not None, _hold.HoldPlan([], None, notes, [dict(e, part="guest") for e in errors if needs_guest])
        baseline = _choose_baseline(service, own)
        fields = baseline and baseline["fields"]
        touched = own and own["touched"]
        detail = guest and _libvirt.detail(self._libvirt(), guest["uuid"])
        if service["hold"]:
            todo = _hold.plan_hold(service, detail, fields, boot_id, touched)
        elif fields is not None:
            release = _hold.plan_release(service, detail, fields, boot_id, touched)
            todo = _hold.HoldPlan(release.steps, None, release.notes, [])
        else:
            todo = _hold.HoldPlan([], None, [], [])
        if detail is None or _hold.identity(service, detail, fields)[0]:
            errors, notes = _hold.identity(service, detail, fields) if tuned and not service["hold"] else ([], [])
            todo = todo._replace(errors=todo.errors + [dict(error, part="guest") for error in errors], notes=todo.notes + notes)
            return detail is not None, todo
        if fields is None and todo.prior is None and tuned:
            todo = todo._replace(prior=_hold.capture(detail, boot_id))
        base = fields or todo.prior
        if base is not None:
            first = fields is None
            steps, errors = _limits.plan(service, detail, base, _hold.untouched() if first else touched)
            # What a guest starts with is put right before it starts.
            todo = todo._replace(steps=steps + todo.steps, errors=todo.errors + errors)
        return True, todo

    def _plan(self, desired, state, disarmed, former=None):
        # Only a hold can hit the host itself, and only to see that are the MAC of its interfaces needed.
        held = any(service["hold"] for service in desired["services"])
        observation = self.observe(former and former.observation, macs=held)
        owners = Owners(desired["services"])
        creation = _create.plan(
            self._orders, {service["id"] for service in desired["services"] if service["hold"]}, observation.guests,
            observation.links, state, _create.Look(self._libvirt, state["images"]))
        check_not_the_host(desired, observation.guests, observation.links)
        if any("null_route" in limits_of(service) for service in desired["services"]):
            check_not_own_addresses(desired, local_addresses())
        if (former and observation.guests is former.observation.guests and observation.links == former.observation.links
                and creation.pending == former.creation.pending):
            model, gaps = former.model, former.gaps
        else:
            coming, links = _create.with_pending(observation.guests, observation.links, creation.pending)
            model, gaps = filter_model(desired, coming, links, disarmed, state["adopted"], owners)
        change, judged = self._plan_filter(model, observation.rules, state)

        steps, priors, closed, services, errors, notes = [], [], [], [], [], []
        for service in desired["services"]:
            sid = service["id"]
            own = state["baselines"].get(sid)
            if not (service["hold"] or limits_of(service) or service["baseline"] or own):
                continue
            try:
                here, todo = self._plan_service(service, observation.guests, owners, observation.boot_id, own)
            except AupError as exc:
                here, todo = True, _hold.HoldPlan([], None, [], [_item_error(sid, exc, "libvirt")])
            steps += todo.steps
            notes += ["%s: %s" % (sid, note) for note in todo.notes]
            errors += todo.errors
            if todo.prior is not None:
                priors.append({"service": sid, "fields": todo.prior, "digest": digest(todo.prior)})
            elif own and not service["baseline"]:
                priors.append({"service": sid, "fields": own["fields"], "digest": own["digest"]})
            throttled = any(kind in limits_of(service) for kind in _limits.KINDS)
            if not service["hold"] and not throttled and not todo.steps and not todo.errors:
                closed.append(sid)
            services.append({
                "service": sid, "here": here, "hold": service["hold"] and service["hold"]["kind"],
                "enforcement_ids": service["hold"]["enforcement_ids"] if service["hold"] else [],
                "limits": {kind: {"enforcement_ids": terms["enforcement_ids"]} for kind, terms in limits_of(service).items()},
            })
        network = self._network.plan(desired, observation, owners, state)
        steps += network.steps + creation.steps
        errors += network.errors + creation.errors
        notes += network.notes + creation.notes
        known = {entry["service"] for entry in services}
        services += [{"service": sid, "here": True, "hold": None, "enforcement_ids": [], "limits": {}}
                     for sid in sorted({step["service"] for step in network.steps if step["service"]} - known)]
        plan_hash = digest({
            "filter": change.digest, "steps": steps,
            "priors": [p["digest"] for p in priors],
        })
        return Work(observation, model, change, judged, steps, priors, closed, services, errors, notes, gaps,
                    network.capped, creation, plan_hash)

    def _result(self, work, state, disarmed):
        changed = work.change.kind != "none" or bool(work.steps)
        steps = []
        if work.change.kind != "none":
            steps.append({"engine": "nftables", "verb": work.change.kind, "service": None, "why": work.change.summary,
                          "before": work.change.before, "after": work.change.after})
        self._judge(work, disarmed)
        return {
            "changed": changed, "steps": steps + work.steps, "priors": work.priors, "plan_hash": work.plan_hash,
            "services": work.services, "errors": work.errors, "notes": work.notes, "gaps": work.gaps,
            "closed": work.closed, "fence": state["fence"], "disarmed": disarmed,
            "creating": sorted({step["service"] for step in work.creation.steps}), "created": state["created"],
            "unknown_ports": [p["name"] for p in work.model["ports"] if p["service"] is None] if work.model else [],
            "ports": len(work.model["ports"]) if work.model else 0,
        }

    @staticmethod
    def _judge(work, disarmed):
        """Say of each service what is in force and, in `open`, for which kinds something is still to be done."""
        left = _remaining(work)
        unfiltered = work.model is None
        for entry in work.services:
            sid = entry["service"]
            parts = left.get(sid, set()) | left.get(None, set())
            entry["open"] = sorted(kind for kind in PARTS if parts & PARTS[kind])
            held_open = bool(parts & _HOLD_PARTS)
            entry["in_force"] = bool(entry["hold"]) and not held_open and entry["here"]
            entry["released"] = not entry["hold"] and not held_open
            for kind, limit in entry["limits"].items():
                off = "filter" in PARTS[kind] and (unfiltered or (kind == "smtp_block" and "smtp_outbound" in disarmed))
                there = sid in work.capped if kind == "bandwidth_cap" else entry["here"] or kind == "null_route"
                limit["in_force"] = kind not in entry["open"] and there and not off

    def _accept(self, state, desired, adopt):
        """Check the fence; a desired state of another ledger is taken only when told so."""
        if adopt and state["fence"] and state["fence"]["ledger"] != desired["fence"]["ledger"]:
            state["fence"] = None
        check_fence(state["fence"], desired["fence"])
        return desired["fence"]

    def plan(self, packed, advance=False, adopt=False, orders=None):
        """What applying this desired state would do. Changes nothing on the host's guests and rules.

        :param packed: desired state as `_wire.pack` gives it
        :param advance: with nothing to do, remember this desired state as seen (a real run, not `--check`)
        :param orders: guests to make if they aren't there, packed likewise
        """
        desired = unpack(packed)
        self._orders = unpack(orders) if orders else {}
        with self.state.locked():
            state, disarmed = self.state.load(), self.state.disarmed()
            fence = self._accept(state, desired, adopt)
            work = self._plan(desired, state, disarmed)
            result = self._result(work, state, disarmed)
            if advance and not result["changed"] and not work.priors:
                self._settle(state, work, desired, packed, fence, changed=False)
                result["fence"], result["created"] = state["fence"], state["created"]
                result["confirm"] = self._unconfirmed()
            return result

    # -- applying ---------------------------------------------------------------------------

    def apply(self, packed, plan_hash, confirm_seconds=30, adopt=False, orders=None, user_data=None):
        """Apply the plan with this hash, or nothing; then look again.

        :param confirm_seconds: new rules undo themselves unless confirmed within this time; 0: no confirmation
        :param orders: as for `plan`
        :param user_data: `{service: text}` for the seeds of new guests, packed likewise
        :raises NodeError: code `plan_changed` when the host is no longer what was planned for
        """
        desired = unpack(packed)
        self._orders = unpack(orders) if orders else {}
        with self.state.locked():
            state, disarmed = self.state.load(), self.state.disarmed()
            former = state["reference"]
            fence = self._accept(state, desired, adopt)
            work = self._plan(desired, state, disarmed)
            if work.plan_hash != plan_hash:
                raise NodeError("the host changed between plan and apply.", code="plan_changed", retryable=True,
                                remedy="Run again; it plans anew.")
            self._remember(state, desired, work)
            self._network.remember(state, work.steps)
            self.state.save(state)
            planned = self._result(work, state, disarmed)
            token = self._apply_filter(work, state, confirm_seconds, former)
            failures = self._network.apply(work.steps, state)
            failures += self._apply_steps([step for step in work.steps if step["engine"] == "libvirt"],
                                          {s["id"] for s in desired["services"] if s["hold"]})
            unmade = self._make_guests(work.creation.steps, state, unpack(user_data) if user_data else {})
            failures += unmade
            after = self._plan(desired, state, disarmed, None if work.steps else work)
            if work.steps and (after.change.kind != "none" or any(step["engine"] in ("tc", "routes") for step in after.steps)):
                # A guest that was powered off took its port with it, one that was started has a new one.
                self._apply_filter(after, state, 0)
                failures += self._network.apply(after.steps, state)
                after = self._plan(desired, state, disarmed)
            self._settle(state, after, desired, packed, fence, changed=True)
            result = self._result(after, state, disarmed)
            unmade = {failure["service"] for failure in unmade}
            return {
                "changed": planned["changed"], "steps": planned["steps"], "services": result["services"],
                "errors": failures + [e for e in result["errors"] if e["service"] not in {f["service"] for f in failures}],
                "unverified": [step for step in result["steps"]
                               if not (step["engine"] == _create.ENGINE and step["service"] in unmade)],
                "creating": planned["creating"], "created": state["created"], "notes": work.notes, "gaps": result["gaps"], "closed": result["closed"],
                "fence": state["fence"], "disarmed": disarmed, "unknown_ports": result["unknown_ports"],
                "ports": result["ports"], "confirm": _rollback.rollback_path(token, self._root) if token else self._unconfirmed(),
            }

    def _unconfirmed(self):
        """The file a run before this one was killed over, so that its rules are confirmed by this run's connection."""
        tokens = _rollback.waiting(self._root)
        return _rollback.rollback_path(tokens[-1], self._root) if tokens else None

    @staticmethod
    def _remember(state, desired, work):
        """Before any step: who was here, what to give back, and which fields will hold a value of ours."""
        if state["adopted"] is None:
            state["adopted"] = strangers(work.model, work.observation.guests)
        state["creating"].update(work.creation.records)
        kept = state["baselines"]
        for prior in work.priors:
            kept.setdefault(prior["service"], {
                "fields": prior["fields"], "digest": prior["digest"], "touched": _hold.untouched()})
        for service in desired["services"]:
            throttled = any(kind in limits_of(service) for kind in _limits.KINDS)
            if (service["hold"] or throttled) and service["baseline"]:
                kept.setdefault(service["id"], dict(service["baseline"], touched=None))  # this node lost its copy
            entry = kept.get(service["id"])
            if entry is None:
                continue
            steps = [step for step in work.steps if step["service"] == service["id"]]
            entry["touched"] = _limits.record(_hold.record(entry["touched"], steps, work.observation.boot_id), steps)

    def _apply_filter(self, work, state, confirm_seconds, former=None):
        """Load the rules; returns the token to confirm, or None.

        :param former: the reference the rules there were made by
        """
        if work.change.kind == "none":
            return None
        token = None
        if confirm_seconds:
            token = _rollback.arm(_nftables.snapshot_script(work.observation.rules, former), confirm_seconds, self._nft,
                                  self.state.lock_path, self._root)
        try:
            _nftables.apply(self._run, work.change)
        except AupError:
            if token:
                _rollback.disarm(token, self._root)
            raise
        self._fold_counters(state, work.change.removed_counters)
        return token

    def _fold_counters(self, state, removed):
        """Keep what the counters of removed ports had counted, under their service."""
        owner = self.state.load_ports()["owners"] if removed else {}
        for port, controls in removed.items():
            kept = state["counters"].setdefault(owner.get(port) or _evidence.UNKNOWN, {})
            for control, counter in controls.items():
                total = kept.setdefault(control, {"packets": 0, "bytes": 0})
                total["packets"] += counter["packets"]
                total["bytes"] += counter["bytes"]

    @staticmethod
    def _note_evidence(state, rules, owner):
        """Note when counts grew, and samples of what was refused; returns the totals."""
        now = int(time.time())
        totals = _evidence.add(state["counters"], _nftables.counters(rules), owner)
        state["times"] = _evidence.note_times(state["times"], totals, now)
        state["samples"] = _evidence.note_samples(state["samples"], _nftables.samples(rules), owner, now)
        return totals

    def _apply_steps(self, steps, held):
        """Carry out libvirt's steps.

        A step that failed ends giving a service back, since the order matters there; holding goes
        on, since each step holds a bit more. Other services are not concerned.
        """
        failures = {}
        for step in steps:
            part = step.get("part", "hold")
            if (step["service"], part) in failures and step["service"] not in held:
                continue
            try:
                _libvirt.apply_step(self._libvirt(), step)
            except AupError as exc:
                failures.setdefault((step["service"], part), _item_error(step["service"], exc, part))
        return list(failures.values())

    def _make_guests(self, steps, state, user_data):
        """Carry out the steps of new guests, whose rules are loaded by now."""
        if not steps:
            return []
        return _create.apply(
            self._libvirt(), steps, self._orders, state, lambda: self.state.save(state), user_data,
            lambda service, rate_bps, ports: self._network.shape(service, rate_bps, ports, state))

    def _settle(self, state, work, desired, packed, fence, changed):
        """Write down what the host has been given and what it no longer needs to remember.

        :param changed: whether rules or guests may be other than when the ports were written down last
        """
        if not desired["present"] and work.change.kind == "none" and not work.steps and not work.errors:
            _rollback.forget(self._root)
            self.state.forget()  # with the lock: the run that waits for it finds that out and makes a new one
            state["fence"] = None
            return
        if state["adopted"] is None:
            state["adopted"] = strangers(work.model, work.observation.guests)
        for sid in work.closed:
            state["baselines"].pop(sid, None)
        for sid in work.creation.done:
            record = state["creating"].pop(sid)
            state["created"][sid] = {"guest_uuid": record["uuid"], "image": record["image"], "disk": record["disk"],
                                     "at": int(time.time())}
        left = _remaining(work)
        self._network.settle(state, desired, work.steps + work.errors)
        for entry in work.services:
            kept = state["baselines"].get(entry["service"])
            if kept and entry["hold"] == "quarantine" and entry["here"] and entry["service"] not in left:
                tuned = (kept["touched"] or {}).get("tuned")
                # Given back: what happens to the guest now is not ours.
                kept["touched"] = dict(_hold.untouched(), tuned=tuned) if tuned else _hold.untouched()
            if kept and not left.get(entry["service"], set()).intersection(_limits.KINDS):
                kept["touched"] = _limits.forget(kept["touched"], entry["limits"])
        state["fence"] = fence
        self._note_evidence(state, work.observation.rules, work.judged)
        if changed or not self.state.has_ports():
            self.state.save_ports(work.observation.guests, work.judged)
        if self.state.desired() != packed:
            self.state.write("desired.z", packed.encode("ascii"))
        self.state.save(state)

    # -- without the ledger -----------------------------------------------------------------

    def set_disarmed(self, controls, armed, reason, check=False):
        """Switch controls off or on again on this node, now, from the desired state it holds.

        :param controls: names, or `all`
        :param armed: True for `rearm`
        :returns: result of the pass
        """
        with self.state.locked():
            state, disarmed = self.state.load(), dict(self.state.disarmed())
            wanted = {k: v for k, v in disarmed.items() if not (armed and (k in controls or "all" in controls))}
            if not armed:
                for control in controls:
                    wanted.setdefault(control, {"at": int(time.time()), "reason": reason})
            result = {"changed": wanted != disarmed, "before": disarmed, "after": wanted, "steps": []}
            packed = self.state.desired()
            if not check and result["changed"]:
                self.state.save_disarmed(wanted)
            if packed is None:
                if "all" in wanted:
                    change = _nftables.plan_teardown(_nftables.observe(self._run))
                    result["changed"] = result["changed"] or change.kind != "none"
                    if not check and change.kind != "none":
                        _nftables.apply(self._run, change)
                return result
            desired = unpack(packed)
            observation = self.observe()
            model, _gaps = filter_model(desired, observation.guests, observation.links, wanted, state["adopted"])
            change, judged = self._plan_filter(model, observation.rules, state)
            result["steps"] = [{"engine": "nftables", "verb": change.kind, "why": change.summary,
                                "before": change.before, "after": change.after}] if change.kind != "none" else []
            result["changed"] = result["changed"] or bool(result["steps"])
            if not check and result["steps"]:
                _nftables.apply(self._run, change)
                for token in _rollback.waiting(self._root):
                    _rollback.disarm(token, self._root)  # a killed run's: it would bring back what is switched off
                self._fold_counters(state, change.removed_counters)
                self.state.save_ports(observation.guests, judged)
                self.state.save(state)
            return result

    def info(self):
        """What this node holds and has counted, for `kvm_info`; changes nothing."""
        with self.state.locked():
            state, disarmed, packed = self.state.load(), self.state.disarmed(), self.state.desired()
            desired = unpack(packed) if packed else None
            owner = self.state.load_ports()["owners"]
            rules = _nftables.observe(self._run)
        counted = _evidence.with_times(self._note_evidence(state, rules, owner), state["times"])
        return {
            "fence": state["fence"], "release": desired and desired["release"], "disarmed": disarmed,
            "counters": counted, "samples": state["samples"], "ports": owner, "rules_present": _nftables.present(rules),
            "held": [
                {"service": s["id"], "kind": kind, "until_at": terms["until_at"], "enforcement_ids": terms["enforcement_ids"]}
                for s in (desired["services"] if desired else ())
                for kind, terms in ([(s["hold"]["kind"], s["hold"])] if s["hold"] else []) + sorted(limits_of(s).items())
            ],
            "baselines": {sid: b["digest"] for sid, b in state["baselines"].items()},
        }
