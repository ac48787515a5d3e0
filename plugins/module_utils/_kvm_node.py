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
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils import _create, _evidence, _hold, _limits, _rollback
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt, _nftables, _tc
from ansible_collections.hosting.aup.plugins.module_utils._canonical import digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._fold import HOLDS
from ansible_collections.hosting.aup.plugins.module_utils._network import Network, check_not_own_addresses, local_addresses
from ansible_collections.hosting.aup.plugins.module_utils._node_state import NodeState, check_fence
from ansible_collections.hosting.aup.plugins.module_utils._pool import keep_own, on_arrival, taken_over, to_tell
from ansible_collections.hosting.aup.plugins.module_utils._ports import (
    Owners,
    check_not_the_host,
    classify,
    filter_model,
    limits_of,
    strangers,
)
from ansible_collections.hosting.aup.plugins.module_utils._standing import (
    check_format,
    check_hold_by_hand,
    check_host,
    generation,
    is_gone,
    reach,
    standing,
)
from ansible_collections.hosting.aup.plugins.module_utils._timeline import instants, passed
from ansible_collections.hosting.aup.plugins.module_utils._usage import SYSFS, here, take_samples
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack

BOOTS = 8  # guests that a node which ends things by itself boots in one pass
SIDE_BY_SIDE = 20  # services from which on libvirt's steps are carried out several at once
_PORTS_STAY = ("pause", "resume", "set_link", "set_quota", "set_iotune", "set_autostart")  # no port comes or goes with these
_KEEP = object()  # leave the packet filter as it is
_UNCHANGED = _nftables.Change("none", "", [], {}, {}, {}, "kept")

Observation = namedtuple("Observation", "boot_id links guests rules")
Work = namedtuple("Work", "observation model change judged steps priors closed absent services errors notes gaps capped creation plan_hash")
Work.__doc__ = """One plan.

`steps` are libvirt's and those of new guests, in order; `change` is the packet filter's; `priors` what must be on record
before applying; `closed` services whose baseline has been given back in full; `absent` those whose guest is not on this
node of their pool, so that there is nothing to be given back here.
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
    "drop": frozenset(("filter", "guest")),
    "null_route": frozenset(("filter", "null_route")),
    "bandwidth_cap": frozenset(("bandwidth_cap", "guest")),
    "cpu_throttle": frozenset(("cpu_throttle", "guest", "libvirt")),
    "io_throttle": frozenset(("io_throttle", "guest", "libvirt")),
}
PARTS.update((kind, _HOLD_PARTS) for kind in HOLDS)


def _seconds(moment):
    """When something was seen, for the journal: by a clock that can be trusted, or by the one there is."""
    return int(time.time() if moment is None else moment)


def _same_ports(links, former):
    """Whether the host's interfaces are the same, devices of our own caps left out."""
    return links == former or (
        {name: link for name, link in links.items() if not _tc.is_ours(name)}
        == {name: link for name, link in former.items() if not _tc.is_ours(name)})


def _known_ports(observation):
    """What the packet filter's model is made of."""
    return ({name: link["master"] for name, link in observation.links.items() if not _tc.is_ours(name)},
            [(guest["uuid"], guest["name"], [tuple(nic[key] for key in ("mac", "kind", "bridge", "device", "gap")) for nic in guest["nics"]])
             for guest in observation.guests])


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


class _Guests:
    """Finds a service's guest among those observed: by its identity, or else by a MAC of the service; the first of several."""

    def __init__(self, guests, owners):
        self._by_owner, self._by_name, self._by_mac = {}, {}, {}
        for number, guest in enumerate(guests):
            owner = owners.of_guest(guest)
            if owner:
                self._by_owner.setdefault(owner["id"], (number, guest))
            self._by_name.setdefault(guest["name"], (number, guest))
            for nic in guest["nics"]:
                self._by_mac.setdefault(nic["mac"], (number, guest))

    def of(self, service):
        """The guest of a service, or None."""
        known = [self._by_owner.get(service["id"]), self._by_name.get(service["guest"]["name"])]
        found = [one for one in known if one] or [self._by_mac[nic["mac"]] for nic in service["nics"] if nic["mac"] in self._by_mac]
        return min(found, key=lambda one: one[0])[1] if found else None


def _binds(service):
    """Whether something holds or throttles a service's guest itself."""
    return bool(service["hold"]) or any(kind in limits_of(service) for kind in _limits.KINDS)


def _touches_guest(service, own):
    """Whether a service's guest itself has to be looked at: held, throttled, or with something to be given back."""
    return bool(_binds(service) or service["baseline"] or own)


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

    HOST = None
    """What a desired state made for this kind of host says of itself under `host`."""

    def __init__(self, run, nft="/usr/sbin/nft", uri="qemu:///system", root="", boot_id=None):
        self._run = run
        self._nft = nft
        self._uri = uri
        self._root = root
        self._boot_id = boot_id
        self._host = None
        self._without_libvirt = False
        self._unpacked = None, None
        self._network = Network()
        self._orders = {}  # guests that may be made: only `provision` brings any
        self._built = None  # the filter model seen last and its ruleset: looking again mostly finds the same
        self.state = NodeState(root)

    def _libvirt(self):
        if self._without_libvirt:
            raise NodeError("libvirt is not asked in this pass.", code="libvirt_down", retryable=True, remedy="The next pass asks it.")
        if self._host is not None and not self._host.alive():
            self._host.close()
            self._host = None
        if self._host is None:
            self._host = _libvirt.connect(self._uri)
        return self._host

    def observe(self, former=None, macs=True, touched=()):
        """What the host is now.

        With libvirt down the guests are taken as last seen: the packet filter can still cut a held
        service off, and what needs libvirt fails by itself, service by service.

        :param former: what this run saw before it changed anything, if that made no port come or go: while the host's
            interfaces are the same, its guests are not asked for again (10,000 of them take two seconds)
        :param macs: whether the interfaces' are wanted
        :param touched: UUIDs of the guests that were changed since, and are asked for all the same
        """
        links = read_links(macs=macs)
        if former is not None and _same_ports(links, former.links):
            guests = self._ask_again(former.guests, touched)
        else:
            guests = self._ask_guests(links)
        return Observation(self._boot(), links, guests, _nftables.observe(self._run))

    def _ask_guests(self, _links):
        """The host's guests.

        :param _links: the interfaces, for hosts that tell guests by those
        """
        try:
            return _libvirt.guests(self._libvirt())
        except NodeError as exc:
            known = self.state.load_ports()["guests"]
            if exc.code != "libvirt_down" or known is None:
                raise
            return known

    def _ask_again(self, former, touched):
        """The guests seen before, those that were touched as they are now."""
        if not touched:
            return former
        try:
            now = _libvirt.guests(self._libvirt(), touched)
        except NodeError as exc:
            if exc.code != "libvirt_down":
                raise
            return former
        seen = {guest["uuid"]: guest for guest in now}
        return [seen.get(guest["uuid"]) if guest["uuid"] in touched else guest
                for guest in former if guest["uuid"] not in touched or guest["uuid"] in seen]

    # -- planning ---------------------------------------------------------------------------

    def _owners(self, desired):
        return Owners(desired["services"])

    def _model(self, desired, guests, links, disarmed, state, owners=None):
        return filter_model(desired, guests, links, disarmed, state["adopted"], owners)

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

    def _ask_details(self, uuids):
        """`{uuid: what libvirt says of the guest, or the error}`; several at once where there are many."""
        def ask(uuid):
            try:
                return _libvirt.detail(self._libvirt(), uuid)
            except AupError as exc:
                return exc

        if len(uuids) < SIDE_BY_SIDE:
            return {uuid: ask(uuid) for uuid in uuids}
        try:
            self._libvirt()  # connected once, before several want it
        except AupError as exc:
            return dict.fromkeys(uuids, exc)
        with ThreadPoolExecutor(_libvirt.AT_ONCE) as pool:
            return dict(zip(uuids, pool.map(ask, uuids)))

    @staticmethod
    def _plan_service(service, guest, details, boot_id, own):
        """What one service needs that is held or limited, or has something to be given back.

        :param guest: its guest of those observed, or None
        :param details: what `_ask_details` returned
        :param own: this node's copy of what to give back, or None
        :returns: `(here, _hold.HoldPlan)`
        """
        tuned = any(kind in limits_of(service) for kind in _limits.KINDS)
        if not _touches_guest(service, own):
            errors, notes = _hold.identity(service, guest, None)
            needs_guest = set(limits_of(service)) - {"null_route"}
            return guest is not None, _hold.HoldPlan([], None, notes, [dict(e, part="guest") for e in errors if needs_guest])
        baseline = _choose_baseline(service, own)
        fields = baseline and baseline["fields"]
        # What binds nothing any more may have been given back where the guest was until now: then what it looks like tells.
        touched = own["touched"] if own else taken_over(service, boot_id) if _binds(service) else None
        detail = guest and details[guest["uuid"]]
        if isinstance(detail, AupError):
            raise detail
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
        return True, on_arrival(service, detail, todo)

    def _plan(self, desired, state, disarmed, former=None, rules=None, touched=()):
        """:param former: the work since which no port can have come or gone by us, `touched` the UUIDs of guests it changed
        :param rules: another desired state that the packet filter is to follow, or _KEEP to leave it alone"""
        # Only a hold can hit the host itself, and only to see that are the MAC of its interfaces needed.
        held = any(service["hold"] for service in desired["services"])
        observation = self.observe(former and former.observation, held, touched)
        owners = self._owners(desired)
        creation = _create.plan(
            self._orders, {service["id"] for service in desired["services"] if service["hold"]}, observation.guests,
            observation.links, state, _create.Look(self._libvirt, state["images"]))
        check_not_the_host(desired, observation.guests, observation.links)
        if any("null_route" in limits_of(service) for service in desired["services"]):
            check_not_own_addresses(desired, local_addresses())
        if (former and _known_ports(observation) == _known_ports(former.observation)
                and creation.pending == former.creation.pending):
            model, gaps = former.model, former.gaps
        else:
            own = rules in (None, _KEEP)
            coming, links = _create.with_pending(observation.guests, observation.links, creation.pending)
            model, gaps = self._model(desired if own else rules, coming, links, disarmed, state, owners if own else None)
        change, judged = self._plan_filter(model, observation.rules, state)
        if rules is _KEEP:
            change = _UNCHANGED

        steps, priors, closed, absent, services, errors, notes = [], [], [], [], [], [], []
        concerned, guests = [], _Guests(observation.guests, owners)
        for service in desired["services"]:
            own = keep_own(state["baselines"].get(service["id"]), service, generation(desired))
            if own is None:
                state["baselines"].pop(service["id"], None)
            if service["hold"] or limits_of(service) or service["baseline"] or own:
                concerned.append((service, own, guests.of(service)))
        details = self._ask_details([guest["uuid"] for service, own, guest in concerned if guest and _touches_guest(service, own)])
        for service, own, guest in concerned:
            sid = service["id"]
            try:
                here, todo = self._plan_service(service, guest, details, observation.boot_id, own)
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
                (closed if here or not service.get("elsewhere") else absent).append(sid)
            services.append({
                "service": sid, "here": here, "away": not here and bool(service.get("elsewhere")),
                "pooled": bool(service.get("elsewhere")), "hold": service["hold"] and service["hold"]["kind"],
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
        return Work(observation, model, change, judged, steps, priors, closed, absent, services, errors, notes, gaps,
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
            "nics": classify(work.observation.guests),
            "closed": work.closed, "absent": work.absent, "fence": state["fence"], "disarmed": disarmed,
            "set_in_pool": to_tell(work.services, state["baselines"]),
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
            entry["away"] = bool(entry.get("away")) and not held_open
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

    def _own(self, desired, state, reached=None):
        """The desired state with what this node knows beyond it."""
        return standing(desired, reached, self.state.by_hand(), state["given_back"], state["baselines"].keys())

    def _told(self, result):
        """The result, with what the ledger has to be told of what was done here without it."""
        return dict(result, journal=self.state.journal.untaken(), by_hand=self.state.by_hand())

    def plan(self, packed, advance=False, adopt=False, orders=None, taken=None):
        """What applying this desired state would do. Changes nothing on the host's guests and rules.

        :param packed: desired state as `_wire.pack` gives it
        :param advance: with nothing to do, remember this desired state as seen (a real run, not `--check`)
        :param orders: guests to make if they aren't there, packed likewise
        :param taken: `{"journal", "number"}`: up to where the ledger has taken in this node's journal
        """
        given = unpack(packed)
        self._orders = unpack(orders) if orders else {}
        with self.state.locked():
            state, disarmed = self.state.load(), self.state.disarmed()
            fence = self._accept(state, given, adopt)
            if taken and advance:
                self.state.journal.drop(taken["journal"], taken["number"])
            desired = self._own(given, state)
            work = self._plan(desired, state, disarmed)
            result = self._told(self._result(work, state, disarmed))
            if advance and not result["changed"] and not work.priors:
                self._settle(state, work, desired, fence, False, packed, given)
                result["fence"], result["created"] = state["fence"], state["created"]
                result["set_in_pool"] = to_tell(work.services, state["baselines"])
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
        given = unpack(packed)
        self._orders = unpack(orders) if orders else {}
        with self.state.locked():
            state, disarmed = self.state.load(), self.state.disarmed()
            former = state["reference"]
            fence = self._accept(state, given, adopt)
            desired = self._own(given, state)
            work = self._plan(desired, state, disarmed)
            if work.plan_hash != plan_hash:
                raise NodeError("the host changed between plan and apply.", code="plan_changed", retryable=True,
                                remedy="Run again; it plans anew.")
            self._remember(state, desired, work, on_record=True)
            self._network.remember(state, work.steps)
            self.state.save(state)
            planned = self._result(work, state, disarmed)
            token = self._apply_filter(work, state, confirm_seconds, former)
            if given["present"]:
                # Before any guest is started: the hook asks it, and a keeper finishes what a killed run began.
                self._take_over(state, packed, fence, token)
            unmade = []
            after, failures = self._carry_out(
                desired, state, disarmed, work,
                make=lambda: unmade.extend(self._make_guests(work.creation.steps, state, unpack(user_data) if user_data else {})))
            failures += unmade
            self._settle(state, after, desired, fence, True, packed, given)
            result = self._result(after, state, disarmed)
            unmade = {failure["service"] for failure in unmade}
            return {
                "changed": planned["changed"], "steps": planned["steps"], "services": result["services"],
                "errors": failures + [e for e in result["errors"] if e["service"] not in {f["service"] for f in failures}],
                "unverified": [step for step in result["steps"]
                               if not (step["engine"] == _create.ENGINE and step["service"] in unmade)],
                "creating": planned["creating"], "created": state["created"], "notes": work.notes, "gaps": result["gaps"],
                "nics": result["nics"], "closed": result["closed"], "absent": result["absent"], "set_in_pool": to_tell(after.services, state["baselines"]),
                "fence": state["fence"], "disarmed": disarmed, "unknown_ports": result["unknown_ports"],
                "ports": result["ports"], "confirm": _rollback.rollback_path(token, self._root) if token else self._unconfirmed(),
                "by_hand": self.state.by_hand(),
            }

    def _carry_out(self, desired, state, disarmed, work, rules=None, make=None):
        """What comes after the packet filter; `(what is then still to be done, failures)`.

        :param make: makes the new guests of this work
        """
        mine = [step for step in work.steps if step["engine"] == "libvirt"]
        held = {s["id"] for s in desired["services"] if s["hold"]}
        if len(mine) >= SIDE_BY_SIDE and all(step["verb"] in _PORTS_STAY for step in mine):
            with ThreadPoolExecutor(1) as beside:  # the one waits for libvirtd, the other for the kernel
                waiting = beside.submit(self._network.apply, work.steps, state)
                failures = self._apply_steps(mine, held)
            failures = waiting.result() + failures
        else:
            failures = self._network.apply(work.steps, state)
            failures += self._apply_steps(mine, held)
        if make:
            make()
        ports_stay = all(step["engine"] in ("tc", "routes") or step["verb"] in _PORTS_STAY for step in work.steps)
        after = self._plan(desired, state, disarmed, work if ports_stay else None, rules, {step["guest_uuid"] for step in mine})
        if work.steps and (after.change.kind != "none" or any(step["engine"] in ("tc", "routes") for step in after.steps)):
            # A guest that was powered off took its port with it, one that was started has a new one.
            self._apply_filter(after, state, 0)
            failures += self._network.apply(after.steps, state)
            after = self._plan(desired, state, disarmed, None, rules)
        return after, failures

    def _take_over(self, state, packed, fence, token):
        """Make this desired state the node's own; until its rules are confirmed, the former one stays at hand."""
        former = self.state.desired()
        state["reached"] = None
        if token:
            if state["armed"] is None and former is not None:
                self.state.write("former.z", former.encode("ascii"))
            state["armed"] = {"token": token, "boot_id": self._boot()}
        state["fence"] = fence
        self.state.save(state)
        if former != packed:
            self.state.write("desired.z", packed.encode("ascii"))

    def _boot(self):
        return self._boot_id or read_boot_id()

    def _unconfirmed(self):
        """The file a run before this one was killed over, so that its rules are confirmed by this run's connection."""
        tokens = _rollback.waiting(self._root)
        return _rollback.rollback_path(tokens[-1], self._root) if tokens else None

    @staticmethod
    def _remember(state, desired, work, on_record=False):
        """Before any step: who was here, what to give back, and which fields will hold a value of ours.

        :param on_record: whether the ledger has the prior states of this work by now
        """
        if state["adopted"] is None:
            state["adopted"] = strangers(work.model, work.observation.guests)
        state["creating"].update(work.creation.records)
        kept = state["baselines"]
        for prior in work.priors:
            kept.setdefault(prior["service"], {
                "fields": prior["fields"], "digest": prior["digest"], "touched": _hold.untouched()})
            if on_record:
                kept[prior["service"]]["recorded"] = generation(desired)
        here = {entry["service"] for entry in work.services if entry["here"]}
        for service in desired["services"]:
            if _binds(service) and service["baseline"] and (service["id"] in here or not service.get("elsewhere")):
                # This node lost its copy, or the guest came from another node with its prior state on record.
                kept.setdefault(service["id"], dict(service["baseline"], touched=taken_over(service, work.observation.boot_id),
                                                    recorded=generation(desired)))
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
                                  self.state.lock_path, self._root, _nftables.rollback_scripts)
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
        by_service = {}
        for step in steps:
            by_service.setdefault(step["service"], []).append(step)
        if len(by_service) < SIDE_BY_SIDE:
            return [failure for mine in by_service.values() for failure in self._apply_to_one(mine, held)]
        host = self._libvirt()  # connected once, before several want it
        with host.remembering(), ThreadPoolExecutor(_libvirt.AT_ONCE) as pool:
            done = list(pool.map(lambda mine: self._apply_to_one(mine, held), by_service.values()))
        return [failure for failures in done for failure in failures]

    def _apply_to_one(self, steps, held):
        failures = {}
        for step in steps:
            part = step.get("part", "hold")
            if part in failures and step["service"] not in held:
                continue
            try:
                _libvirt.apply_step(self._libvirt(), step)
            except AupError as exc:
                failures.setdefault(part, _item_error(step["service"], exc, part))
        return list(failures.values())

    def _make_guests(self, steps, state, user_data):
        """Carry out the steps of new guests, whose rules are loaded by now."""
        if not steps:
            return []
        return _create.apply(
            self._libvirt(), steps, self._orders, state, lambda: self.state.save(state), user_data,
            lambda service, rate_bps, ports: self._network.shape(service, rate_bps, ports, state))

    def _settle(self, state, work, desired, fence, changed, packed, given):
        """Write down what the host has been given and what it no longer needs to remember.

        :param changed: whether rules or guests may be other than when the ports were written down last
        :param packed: the desired state to keep, `given` what is in it
        """
        if not desired["present"] and work.change.kind == "none" and not work.steps and not work.errors:
            _rollback.forget(self._root)
            self.state.forget()  # with the lock: the run that waits for it finds that out and makes a new one
            state["fence"] = None
            return
        if state["adopted"] is None:
            state["adopted"] = strangers(work.model, work.observation.guests)
        self._forget_given_back(state, work, desired)
        state["fence"] = fence
        state["reached"] = None
        named = {s["id"]: s["baseline"] and s["baseline"]["digest"] for s in given["services"]}
        for sid, own in state["baselines"].items():
            if own["digest"] == named.get(sid):
                own["recorded"] = generation(given)
        state["given_back"] = {sid: seen for sid, seen in state["given_back"].items() if named.get(sid) == seen}
        self._note_evidence(state, work.observation.rules, work.judged)
        if changed or not self.state.has_ports():
            self.state.save_ports(work.observation.guests, work.judged)
        if self.state.desired() != packed:
            self.state.write("desired.z", packed.encode("ascii"))
        self.state.save(state)

    def _forget_given_back(self, state, work, desired):
        """Drop from `state` what this work has given back in full, and what has gone to another node of its pool; keep what came."""
        came = {entry["service"] for entry in work.services if entry["here"] and entry.get("pooled")} - state["baselines"].keys()
        for service in desired["services"] if came else ():
            passed = taken_over(service, work.observation.boot_id) if service["id"] in came and _binds(service) else None
            if passed is not None:
                state["baselines"][service["id"]] = dict(service["baseline"], touched=passed, recorded=generation(desired))
        for sid in work.closed:
            state["baselines"].pop(sid, None)
        for entry in work.services:
            own = state["baselines"].get(entry["service"])
            if own and entry.get("pooled") and not entry["here"] and own.get("recorded") is not None:
                # Where the guest is now, more may be set on it; if it comes back, that is what counts.
                del state["baselines"][entry["service"]]
        for service in desired["services"] if work.absent else ():
            own = state["baselines"].get(service["id"])
            if own and service["id"] in work.absent and (service["baseline"] or own.get("recorded") is not None):
                del state["baselines"][service["id"]]  # the node where the guest is gives it back; the ledger has it
        for sid in work.creation.done:
            record = state["creating"].pop(sid)
            state["created"][sid] = {"guest_uuid": record["uuid"], "image": record["image"], "disk": record["disk"],
                                     "at": int(time.time())}
        left = _remaining(work)
        self._network.settle(state, desired, work.steps + work.errors)
        for entry in work.services:
            kept = state["baselines"].get(entry["service"])
            if kept and entry["hold"] in (None, "quarantine") and entry["here"] and entry["service"] not in left:
                # Given back: what happens to the guest now is not ours. Of a throttle that stands this says nothing.
                touched = {"inferred": True} if kept["touched"] is None else kept["touched"]
                kept["touched"] = dict(_hold.untouched(), **{key: touched[key] for key in ("tuned", "inferred") if key in touched})
            if kept and not left.get(entry["service"], set()).intersection(_limits.KINDS):
                kept["touched"] = _limits.forget(kept["touched"], entry["limits"])

    # -- without the ledger -----------------------------------------------------------------

    def _standing(self, state, moment=None):
        """`(desired state as given, what is in force of it, what the packet filter follows)`, or None without one.

        :param moment: seconds since the epoch by a clock that can be trusted; None: time has gone no further
        """
        packed = self.state.desired()
        if packed is None:
            return None
        given = self._unpack(packed)
        reached = reach(state["reached"], given, moment)
        if reached is not None:
            state["reached"] = {"generation": generation(given), "at": reached}
        return given, self._own(given, state, reached), self._rules(state, reached)

    def _unpack(self, packed):
        if self._unpacked[0] != packed:
            given = unpack(packed)
            check_format(given)
            check_host(given, self.HOST)
            self._unpacked = packed, given
        return self._unpacked[1]

    def _rules(self, state, reached):
        """What the packet filter is to follow: None for what is in force.

        Rules that nobody has confirmed are left alone; once they have undone themselves the filter follows
        the desired state before them, or this node would cut off its controller again.
        """
        armed = state["armed"]
        if armed is None:
            return None
        path = _rollback.rollback_path(armed["token"], self._root)
        if os.path.exists(path):
            return _KEEP
        if not os.path.exists(path + ".claimed") and armed["boot_id"] == self._boot():
            state["armed"] = None
            return None
        former = self.state.desired("former.z")
        return _KEEP if former is None else self._own(unpack(former), state, reached)

    def desired_mark(self):
        """Changes whenever `instants` may."""
        return self.state.desired_mark()

    def instants(self):
        """When something ends or begins on this node, ascending, by what it was told last."""
        packed = self.state.desired()
        by_hand = [terms["until_at"] for terms in self.state.by_hand().values() if terms["until_at"]]
        return sorted(set(by_hand + ([] if packed is None else instants(self._unpack(packed)))))

    def keep(self, moment, boots=BOOTS, libvirt=True):
        """One pass of this node by itself: what its desired state says of this time, and no further.

        Never the network's or the ledger's: it asks nobody, opens and extends nothing.

        :param moment: seconds since the epoch, or None while no clock can be trusted: then nothing ends or begins
        :param boots: guests to boot at most; what is left waits for the next pass
        :param libvirt: False before libvirt is up: rules and routes alone, guests as last seen
        :returns: dict with changed, steps, errors, ended, began, deferred (guests still to be booted)
        :raises NodeError: code `desired_newer`, or the host can't be looked at
        """
        with self.state.locked():
            state, disarmed = self.state.load(), self.state.disarmed()
            self._without_libvirt = not libvirt
            try:
                self._end_by_hand(moment)
                found = self._standing(state, moment)
                if found is None:
                    return {"changed": False, "steps": [], "errors": [], "ended": [], "began": [], "deferred": 0, "idle": True}
                return self._keep(state, disarmed, found, moment, boots)
            finally:
                self._without_libvirt = False

    def _keep(self, state, disarmed, found, moment, boots):
        given, desired, rules = found
        former = dict(self.state.load())
        work = self._plan(desired, state, disarmed, rules=rules)
        booting = list(dict.fromkeys(step["service"] for step in work.steps if step["verb"] == "start"))
        later = set(booting[boots:])
        if self._without_libvirt:
            later = {step["service"] for step in work.steps if step["engine"] == "libvirt"}
        work = work._replace(steps=[step for step in work.steps if step["service"] not in later or step["engine"] != "libvirt"])
        planned = self._result(work, state, disarmed)
        errors = []
        after = work
        if work.steps or work.change.kind != "none" or work.priors:
            self._remember(state, desired, work)
            self._network.remember(state, work.steps)
            unwritable = self._try(errors, self.state.save, state)
            self._apply_filter(work, state, 0)
            if unwritable:
                # What holds a guest must be on record first; what gives it back needs no record.
                holding = {s["id"] for s in desired["services"] if s["hold"] or limits_of(s)}
                work = work._replace(steps=[step for step in work.steps if step["service"] not in holding])
            after, failures = self._carry_out(desired, state, disarmed, work, rules)
            errors += failures
        if work.steps or work.change.kind != "none":
            self._try(errors, self.state.save_ports, after.observation.guests, after.judged)
        result = self._result(after, state, disarmed)
        seen = {error["service"] for error in errors}
        errors += [error for error in result["errors"] if error["service"] not in seen]
        entries = [] if rules is _KEEP else self._passed(state, given, desired, planned, result, moment)
        entries += self._given_back(state, given, after)
        if not entries and any(step["verb"] == "rebuild" or step["engine"] != "nftables" for step in planned["steps"]):
            # Not the ports of guests that come and go: somebody changed what was ours.
            entries.append({"what": "mended", "at": _seconds(moment), "steps": [step["why"] for step in planned["steps"][:20]]})
        self._forget_given_back(state, after, desired)
        if state != former:
            self._try(errors, self.state.save, state)
        self._try(errors, self.state.journal.append, entries)
        return {"changed": planned["changed"], "steps": planned["steps"], "errors": errors, "idle": False,
                "ended": [entry for entry in entries if entry["what"] == "ended"],
                "began": [entry for entry in entries if entry["what"] == "began"], "deferred": len(later)}

    @staticmethod
    def _try(errors, write, *arguments):
        """Write; a disk that is full is an error among others, for the host matters more than its papers."""
        try:
            write(*arguments)
        except NodeError as exc:
            errors.append(_item_error(None, exc, "state"))
            return True
        return False

    def _passed(self, state, given, desired, planned, result, moment):
        """Journal entries of what time has ended or begun here, seen done and not told yet."""
        reached = state["reached"]
        gone = passed(given, reached["at"]) if reached and reached["generation"] == generation(given) else []
        if not gone:
            return []
        told = {(entry["what"], entry.get("enforcement_id")) for entry in self.state.journal.read()["entries"]}
        said = {entry["service"]: entry for entry in result["services"]}
        touched = {entry["service"] for entry in planned["services"]} | {step["service"] for step in planned["steps"]}
        entries = []
        for one in gone:
            what, entry = "began" if one["began"] else "ended", said.get(one["service"])
            if (what, one["enforcement_id"]) in told:
                continue
            if one["began"]:
                limit = (entry or {"limits": {}})["limits"].get(one["kind"])
                done = limit["in_force"] if limit else bool(entry) and entry["in_force"]
            else:
                done = is_gone(entry, one["kind"])
            if done:
                entries.append({"what": what, "at": one["at"], "seen_at": _seconds(moment), "service": one["service"],
                                "enforcement_id": one["enforcement_id"], "kind": one["kind"], "held": one["service"] in touched})
        return entries

    @staticmethod
    def _given_back(state, given, after):
        """Journal entries of prior states given back in full, which the desired state may go on to name."""
        named = {s["id"]: s["baseline"]["digest"] for s in given["services"] if s["baseline"]}
        entries = []
        for sid in after.closed:
            own = state["baselines"].get(sid)
            seen = own["digest"] if own else named.get(sid)
            if seen is None or (own is None and state["given_back"].get(sid) == seen):
                continue
            state["given_back"][sid] = seen
            entries.append({"what": "given_back", "at": int(time.time()), "service": sid, "digest": seen})
        return entries

    # -- by hand ------------------------------------------------------------------------------

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
            if not check and result["changed"]:
                self.state.save_disarmed(wanted)
                self._note([{"what": "rearmed" if armed else "disarmed", "at": int(time.time()), "controls": sorted(controls),
                             "reason": reason}])
            found = self._standing(state)
            if found is None:
                if "all" in wanted:
                    change = _nftables.plan_teardown(_nftables.observe(self._run))
                    result["changed"] = result["changed"] or change.kind != "none"
                    if not check and change.kind != "none":
                        _nftables.apply(self._run, change)
                return result
            _given, desired, rules = found
            observation = self.observe()
            model, _gaps = self._model(desired if rules in (None, _KEEP) else rules, observation.guests, observation.links, wanted, state)
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

    def _note(self, entries):
        """Into the journal; a full disk does not keep a responder from acting."""
        try:
            self.state.journal.append(entries)
        except NodeError:
            pass  # what is in force is in files of its own, which the next converge reports

    def hold_by_hand(self, service, power, reason, until_at, actor):
        """Hold a service here until somebody releases it here, or until a time. No desired state lifts that.

        :param power: `pause`, `shutdown` or `destroy`
        :param until_at: seconds since the epoch, or None
        :returns: the hold
        :raises InputError: no such service on this node
        """
        with self.state.locked():
            packed, held = self.state.desired(), self.state.by_hand()
            check_hold_by_hand(service, power, packed and self._unpack(packed))
            now = int(time.time())
            held[service] = {"id": "hand-%d" % now, "at": now, "until_at": until_at, "power": power, "reason": reason, "actor": actor}
            self.state.save_by_hand(held)
            self._note([dict(held[service], what="held", service=service)])
        return held[service]

    def release_by_hand(self, service, reason, actor):
        """End a hold by hand; what the ledger holds stays held. Returns whether there was one."""
        with self.state.locked():
            held = self.state.by_hand()
            if service not in held:
                return False
            self._release(held, service, {"reason": reason, "actor": actor, "at": int(time.time())})
        return True

    def _release(self, held, service, more):
        former = held.pop(service)
        self.state.save_by_hand(held)
        entry = dict(more, what="released", service=service, id=former["id"])
        self._note([entry])

    def _end_by_hand(self, moment):
        """End the holds by hand whose time has come."""
        held = self.state.by_hand()
        for service in [sid for sid, terms in held.items() if moment is not None and terms["until_at"] and terms["until_at"] <= moment]:
            self._release(held, service, {"reason": "its time was over", "actor": None, "at": held[service]["until_at"]})

    def usage(self):
        """What the ports of its guests have carried, for `kvm_usage`; changes nothing.

        :raises NodeError: libvirt does not answer, so nobody knows whose a port is
        """
        samples, gaps = take_samples(_libvirt.guests(self._libvirt()), self._boot_id or here(read_boot_id()), self._root + SYSFS)
        return {"taken_at": int(time.time()), "samples": samples, "gaps": gaps}

    def info(self):
        """What this node holds and has counted, for `kvm_info`; changes nothing."""
        with self.state.locked():
            state, disarmed, packed = self.state.load(), self.state.disarmed(), self.state.desired()
            desired = unpack(packed) if packed else None
            found = self._standing(state)
            by_hand, journal = self.state.by_hand(), self.state.journal.read()["entries"]
            owner = self.state.load_ports()["owners"]
            rules = _nftables.observe(self._run)
        counted = _evidence.with_times(self._note_evidence(state, rules, owner), state["times"])
        return {
            "fence": state["fence"], "release": desired and desired["release"], "disarmed": disarmed,
            "counters": counted, "samples": state["samples"], "ports": owner, "rules_present": _nftables.present(rules),
            "held": [
                {"service": s["id"], "kind": kind, "until_at": terms["until_at"], "enforcement_ids": terms["enforcement_ids"]}
                for s in (found[1]["services"] if found else ())
                for kind, terms in ([(s["hold"]["kind"], s["hold"])] if s["hold"] else []) + sorted(limits_of(s).items())
            ],
            "baselines": {sid: b["digest"] for sid, b in state["baselines"].items()},
            "by_hand": by_hand, "journal": len(journal),
        }
