# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster with its twin that we never touch, for `test_lives.py`.

What tenants and operators do is done to both, so what the twin is at the end is what the cluster has to be when all of ours
is off. Calls go through proxmoxer's interface and our client but not through HTTP, one after the other, so that the nth call of a
run is the same one each time, and something can be made to happen exactly there.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest, _nics, _units
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import end_what_is_due, release_files
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._cluster import ProxmoxCluster
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import ClusterConverge
from proxmoxer import ResourceException

from tests.proxmox.cluster import Cluster, Guest, Refused, Task
from tests.proxmox.server import Api, Running

from .provider import SECRET, Provider, firewalled, guest, mac, service, token

LIVES = int(os.environ.get("AUP_LIVES", "0"))  # more than CI has time for
HA, WALLED = 102, 103
ALL = (100, 102, 103, 104, 203)
STRANGER = 110  # of no service
MACHINE_START = 1_800_000_000


class Killed(BaseException):
    """As a signal would end a run: nothing catches this."""


class Clock:
    """Seconds since the epoch; each look takes one."""

    def __init__(self):
        self.now = MACHINE_START

    def __next__(self) -> int:
        self.now += 1
        return self.now


class Lab(Cluster):
    """A cluster without threads: a task is done when its call is answered."""

    def __init__(self, clock: Clock):
        super().__init__(("pve1", "pve2"), pace=0.0, lock_timeout=0.01)
        self.clock, self.fail_next = clock, None

    def task(self, node: str, kind: str, target: str, user: str, work: Callable[[Task], None], seconds: float | None = None) -> str:
        number = next(self._pids)
        upid = f"UPID:{node}:{number:08X}:{number:08X}:{self.clock.now:08X}:{kind}:{target}:{user}:"
        task = self.tasks[upid] = Task(upid, node, kind, target, user, self.clock.now)
        try:
            if self.fail_next:
                text, self.fail_next = self.fail_next, None
                raise Refused(500, text)
            work(task)
            task.exit = self.warn_next.pop("*", "OK")
        except Refused as exc:
            task.exit = exc.message
        return upid

    def _ask_ha(self, guest: Guest, verb: str, user: str) -> str:
        def work(_task: Task) -> None:
            resource = self.ha[f"{'vm' if guest.kind == 'qemu' else 'ct'}:{guest.vmid}"]
            resource["state"] = guest.ha = "started" if verb == "start" else "stopped"
            if verb == "start" and not guest.running:
                self.start(guest)
            elif verb == "stop":
                self.stop(guest)
        return self.task(guest.node, f"ha{verb}", str(guest.vmid), user, work)

    def start(self, guest: Guest) -> None:
        super().start(guest)
        guest.started = self.clock.now

    def usage(self, guest: Guest) -> dict[str, Any]:
        return dict(super().usage(guest), uptime=self.clock.now - int(guest.started) + 1 if guest.running else 0)


class _Resource:
    """What proxmoxer's resources look like from outside, on the stand-in in this process."""

    def __init__(self, ask, parts=()):
        self._ask, self._parts = ask, parts

    def __call__(self, part):
        return _Resource(self._ask, (*self._parts, str(part)))

    def _do(self, method, values):
        path = "/" + "/".join(self._parts).replace("%2F", "/")
        return self._ask(method, path, {key: str(value) for key, value in values.items()})

    def get(self, **values):
        return self._do("GET", values)

    def post(self, **values):
        return self._do("POST", values)

    def put(self, **values):
        return self._do("PUT", values)

    def delete(self, **values):
        return self._do("DELETE", values)


class Direct(Client):
    """A client whose sessions are the stand-in itself; `world` decides what befalls each call.

    :param events: `{number of call: event}` of this run
    """

    def __init__(self, world: World, events: dict[int, tuple] | None = None):
        super().__init__(Target(host="stand-in", port=8006, user="svc@pve", token_name="aup", token_value=SECRET, timeout=0))
        self.world, self.events, self.number, self.dead = world, dict(events or {}), -1, False

    def _session(self):
        return _Resource(self._ask)

    def _ask(self, method, path, values):
        if self.dead:
            raise Killed
        self.number += 1
        return self.world.call(self, method, path, values, self.events.pop(self.number, None))

    def die(self):
        self.dead = True
        raise Killed


def failure(status: int, text: str, errors: dict | None = None) -> ResourceException:
    return ResourceException(status, "Error", text, errors=errors or {})


def foreign(file) -> dict[str, Any]:
    """What of a rule file is not ours."""
    return {
        "rules": [dict(rule) for rule in file.rules if not _firewall.ours(rule)],
        "sets": {name: copy.deepcopy(one) for name, one in file.ipsets.items() if not str(one.get("comment", "")).startswith(_firewall.MARK)},
        "groups": {name: copy.deepcopy(one) for name, one in file.groups.items() if not _firewall.is_ours(name)},
        "aliases": dict(file.aliases)}


class World:
    """The cluster, its twin, a ledger, and what is on its way."""

    def __init__(self, place: Path):
        self.clock = Clock()
        self.lab, self.twin = Lab(self.clock), Lab(self.clock)
        for one in (self.lab, self.twin):
            firewalled(one)
            one.firewall.cluster.ipsets["office"] = {"comment": "ours", "entries": [{"cidr": "198.51.100.0/24"}]}
            one.firewall.cluster.groups["web"] = {"comment": "", "rules": [{"type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp",
                                                                             "dport": "80,443"}]}
        uuids = {vmid: f"6f1f9f1e-0c5b-4b8e-9a57-2d0f5a3c{vmid:04d}" for vmid in range(90, 250)}
        self.uuids = uuids
        self.join(100, nics=2, cpulimit="1")
        self.join(104, hotplug="disk,usb")
        self.join(203, "lxc", node="pve2", tags="shop;web")
        self.join(102, node="pve2")
        self.join(103)
        self.join(STRANGER)
        for one in (self.lab, self.twin):
            one.guests[HA].ha = "started"
            one.ha[f"vm:{HA}"] = {"type": "vm", "state": "started"}
            wall = one.firewall.of_guest(WALLED, "qemu")
            wall.options.update(enable=1, policy_in="DROP")
            wall.rules.append({"type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp", "dport": "22", "comment": "mine"})
            wall.ipsets["friends"] = {"comment": "", "entries": [{"cidr": "198.51.100.9"}]}
        self.api = Api(self.lab)
        self.api.tokens["svc@pve!aup"] = token()
        self.late: list[tuple[str, str, dict]] = []
        self.replaced: set[int] = set()
        self.ledger_context = open_ledger(str(place / "ledger.sqlite3"), create=True)
        self.ledger = self.ledger_context.__enter__()
        self.house = Provider(self.ledger, Running(self.api, "stand-in", 0, place, ""), place)
        self.house.clock = self.clock
        self.house.services = {one["id"]: one for one in (service(100, nics=2), service(104), service(203, "lxc"), service(102), service(103))}
        for vmid in (100, 102, 103, 104):
            self.house.services[f"vps-{vmid}"]["guest"]["uuid"] = uuids[vmid]
        self.runs, self.talk = 0, []

    def close(self):
        self.ledger_context.__exit__(None, None, None)

    # -- acts of others, on both --------------------------------------------------------------------------------------

    def both(self, act: Callable[[Lab], None]) -> bool:
        """Do something to both clusters, or to none where the real one refuses it."""
        try:
            act(self.lab)
        except Refused:
            return False
        act(self.twin)
        return True

    def join(self, vmid: int, kind: str = "qemu", number: int = 0, **named: Any) -> None:
        """A guest appears; `number` makes another one of it than the catalogue's."""
        for one in (self.lab, self.twin):
            made = guest(vmid, kind, **named)
            if number:
                made.config["net0"] = made.config["net0"].replace(mac(vmid).upper(), f"BC:24:11:FE:{number % 256:02X}:{vmid % 256:02X}")
            if kind == "qemu":
                made.config["smbios1"] = "uuid=" + (self.uuids[vmid] if not number else f"00000000-0000-4000-8000-{number:04d}0000{vmid:04d}")
                made.config["vmgenid"], made.config["meta"] = "1", "creation-qemu=9.2.0,ctime=1"
            one.add(made).started = self.clock.now - 10_000

    def leave(self, vmid: int) -> None:
        """A guest is deleted, and with it its rule file and its place in high availability, as the server does."""
        for one in (self.lab, self.twin):
            gone = one.guests.pop(vmid, None)
            one.firewall.guests.pop(vmid, None)
            if gone:
                one.ha.pop(f"{'vm' if gone.kind == 'qemu' else 'ct'}:{vmid}", None)
        self.late = [one for one in self.late if f"/{vmid}/" not in one[1]]

    def set(self, vmid: int, **values: Any) -> bool:
        """The tenant or the panel changes options."""
        delete = ",".join(key for key, value in values.items() if value is None)
        given = {key: value for key, value in values.items() if value is not None}
        return self.both(lambda one: one.change(one.guests[vmid], {**given, **({"delete": delete} if delete else {})}, "tenant@pve")())

    def nic(self, vmid: int, name: str, key: str, value: str | None) -> bool:
        """One key of a NIC is changed, all else as it is there."""
        if name not in self.lab.guests[vmid].config or name not in self.twin.guests[vmid].config:
            return False
        return self.both(lambda one: one.change(one.guests[vmid], {
            name: _nics.with_value(one.config(one.guests[vmid])[name], key, value)}, "tenant@pve")())

    def power(self, vmid: int, verb: str) -> bool:
        def act(one: Lab) -> None:
            found = one.guests[vmid]
            if verb == "start" and found.running and not found.paused or verb in ("stop", "suspend") and not found.running:
                return  # it is that already
            if verb == "start" and found.paused:
                kind = "resume"
            else:
                kind = verb
            upid = one.power(found, found.kind, vmid, found.node, kind, {}, "tenant@pve")
            if one.tasks[upid].exit != "OK":
                raise Refused(500, one.tasks[upid].exit)
        return self.both(act)

    def wall(self, vmid: int, act: Callable[[Any], None]) -> None:
        """Something is done to the guest's rule file on both."""
        for one in (self.lab, self.twin):
            act(one.firewall.of_guest(vmid, one.guests[vmid].kind))

    # -- runs -----------------------------------------------------------------------------------------------------------

    def converge(self, run_id: str, check: bool = False, only=None, events=None, locks: str = "locks", client=None, **wanted: Any) -> dict:
        """One pass of ours.

        :param locks: of which controller
        """
        client = client or Direct(self, events)
        return ClusterConverge(self.ledger, ProxmoxCluster(client, only, settle=0.0), "tester", self.clock.__next__, check,
                               str(self.house.place / locks)).run(Wanted(node="pve", run_id=run_id, **wanted))

    def provision(self, **named: Any) -> dict:
        house = self.house
        done = house.write(release_files, house.policy, {house.policy.key: house.policy}, house.document())
        return self.converge(done["run_id"], release_id=done["release_id"], **named)

    def reconcile(self, **named: Any) -> dict:
        done = self.house.write(end_what_is_due)
        return self.converge(done["run_id"], **named)

    def call(self, client: Direct, method: str, path: str, values: dict, event: tuple | None) -> Any:
        """One call, with what befalls it."""
        kind = event[0] if event else None
        if event:
            self.talk.append(f"at call {client.number} {method} {path}: {event[:2]}")
        if kind == "act":
            event[1][1](self)
        elif kind == "kill":
            client.die()
        elif kind == "refuse":
            raise failure(event[1], event[2])
        elif kind == "unheard":  # a time-out: never done, or later
            if event[1] and method != "GET":
                self.late.append((method, path, values))
            raise requests.exceptions.ReadTimeout
        elif kind == "broken":
            raise requests.exceptions.ConnectionError("connection broken")
        elif kind == "task fails" and method == "POST" and "/status/" in path:
            self.lab.fail_next = event[1]
        answer = self._handle(method, path, values)
        if kind == "done unheard":
            raise requests.exceptions.ReadTimeout if event[1] else failure(596, "Connection timed out", {"errors": b""})
        if kind == "die after":
            client.die()
        if kind == "garbled":
            return event[1](copy.deepcopy(answer))
        return answer

    def _handle(self, method: str, path: str, values: dict) -> Any:
        before = self._guarded() if method != "GET" else None
        try:
            answer = self.api.handle(method, path, values, "svc@pve!aup")
        except Refused as exc:
            raise failure(exc.status, exc.message.split("\n")[0], exc.errors) from exc
        finally:
            if before is not None:
                self._judge_write(method, path, values, before)
        if isinstance(answer, tuple):
            answer = answer[0]
        return json.loads(json.dumps(answer))

    def _guarded(self) -> dict[str, Any]:
        wall = self.lab.firewall
        return {"cluster": foreign(wall.cluster), "switch": dict(wall.cluster.options),
                "guests": {vmid: foreign(file) for vmid, file in wall.guests.items()},
                "options": {vmid: dict(file.options) for vmid, file in wall.guests.items()}}

    def _judge_write(self, method: str, path: str, values: dict, before: dict[str, Any]) -> None:
        """No call of ours touches what isn't ours (e)."""
        what, after = (method, path, values), self._guarded()
        assert after["cluster"] == before["cluster"] and after["switch"] == before["switch"], what
        for vmid, now in after["guests"].items():
            assert now == before["guests"].get(vmid, foreign(type(self.lab.firewall.cluster)("vm"))), what
            was, options = before["options"].get(vmid, {}), after["options"][vmid]
            if options.get("enable") and not was.get("enable"):
                assert options.get("policy_in") == "ACCEPT" and options.get("policy_out") == "ACCEPT", (what, was)
        found = re.match(r"/nodes/[^/]+/(?:qemu|lxc)/(\d+)/", path)
        if found:
            assert int(found.group(1)) in ALL and int(found.group(1)) not in self.replaced, what
        assert not (method == "DELETE" and "firewall" not in path), what

    def deliver(self, number: int, drop: bool = False) -> None:
        """A write that was not heard of is carried out now, or never."""
        if self.late:
            method, path, values = self.late.pop(number % len(self.late))
            if not drop:
                try:
                    self._handle(method, path, values)
                except ResourceException:
                    pass

    # -- what is to be true ----------------------------------------------------------------------------------------------

    def touched(self, vmid: int) -> dict[str, Any]:
        with self.ledger.read(now=self.clock.now) as tx:
            return (tx.touched_on("pve").get(f"vps-{vmid}") or {}).get("fields") or {}

    def bound(self, vmid: int) -> list[dict]:
        """What the ledger has open or ending for a service."""
        return self.house.read("active", f"vps-{vmid}")

    def holds(self, vmid: int, field: str, value: str) -> bool:
        """Whether a value would be taken for ours: nobody could tell whose it is."""
        kinds = {one["kind"] for one in self.bound(vmid)}
        fields = self.touched(vmid)
        if field in fields and any(_guest._holds(field, value, one) for one in fields[field]["set"]):
            return True
        held = kinds & {"suspend", "terminate"}
        return bool(held) and (field, value) in {("onboot", "0"), ("protection", "1"), *((f"net{n}.link_down", "1") for n in range(4))}

    def in_force(self, vmid: int, one: dict) -> str | None:
        """Why an enforcement isn't in force in truth, or None."""
        found, kind, terms = self.lab.guests.get(vmid), one["kind"], one["options"]
        if found is None:
            return "no guest"
        nics = {key: text for key, text in found.config.items() if re.fullmatch(r"net\d+", key)}
        if kind in ("suspend", "terminate"):
            if found.running and not found.paused:
                return "it runs"
            known = {**nics, **found.pending} if found.paused else nics  # the cable of a paused one may wait, where hotplug is off
            down = all(_nics.is_on(known[name], "link_down") for name in nics)
            onboot = found.config.get("onboot", "0") == "0"
            return None if down and onboot else f"cable or onboot: {nics} {found.config.get('onboot')}"
        if kind == "bandwidth_cap":
            rates = [_units.number(_nics.value_of(text, "rate")) for text in nics.values()]
            limit = _units.number(_units.rate_text(10_000_000 if terms["rate"] == "10 Mbit/s" else 5_000_000))
            return None if all(rates) and sum(rates) <= limit else f"rates {rates}"
        if kind == "cpu_throttle":
            limit = _units.number(found.config.get("cpulimit"))
            return None if limit and limit <= _units.number(terms["share"].rstrip("%")) / 100 * 2 else f"cpulimit {limit}"
        file = self.lab.firewall.guests.get(vmid)
        if not self.lab.firewall.cluster.options.get("enable") or file is None or not file.options.get("enable"):
            return "firewall off"
        if not all(_nics.is_on(text, "firewall") for text in nics.values()):
            return "a NIC without firewall"
        rules = self._effective(file)
        if kind == "quarantine":
            ends = {rule["type"] for rule in rules if rule["action"] == "DROP" and not rule.get("dport")}
            return None if ends == {"in", "out"} else f"rules {rules}"
        want = {"type": terms.get("direction", "out"), "proto": terms.get("protocol", "tcp")} if kind == "port_block" else {
            "type": "out", "proto": "tcp"}
        blocked = set()
        for rule in rules:
            if rule["action"] in ("DROP", "REJECT") and rule["type"] == want["type"] and rule.get("proto") == want["proto"]:
                for item in str(rule.get("dport", "")).split(","):
                    first, _, last = item.partition(":")
                    blocked |= set(range(int(first), int(last or first) + 1)) if first else set()
        return None if set(terms["ports"]) <= blocked else f"ports {sorted(blocked)}"

    def _effective(self, file) -> list[dict]:
        """The rules of ours that come before any of the tenant's, groups opened, those with a missing set left out."""
        out = []
        for rule in file.rules:
            if not _firewall.ours(rule):
                break
            inner = self.lab.firewall.cluster.groups.get(rule["action"], {"rules": []})["rules"] if rule["type"] == "group" else [rule]
            for one in inner if rule.get("enable") else ():
                sets = [str(one.get(key, "")) for key in ("source", "dest")]
                if one.get("enable") and all(not text.startswith("+dc/") or text[4:] in self.lab.firewall.cluster.ipsets for text in sets):
                    out.append(one)
        return out

    def seen(self, which: Lab) -> dict[int, dict[str, Any]]:
        """Guests as they are for their owners."""
        return {vmid: {"config": {key: value for key, value in which.config(one).items() if key != "digest"}, "running": one.running,
                       "paused": one.paused, "node": one.node, "ha": one.ha} for vmid, one in sorted(which.guests.items())}

    @staticmethod
    def files(which: Lab) -> dict[Any, str]:
        wall = which.firewall
        return {"cluster": wall.cluster.render(), **{vmid: file.render() for vmid, file in sorted(wall.guests.items()) if file.render()},
                **{name: file.render() for name, file in sorted(wall.hosts.items()) if file.render()}}
