# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a cluster, their configuration, power and tasks. No HTTP here."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import schema
from .firewall import Firewall, copy_of

TYPES = {"qemu": "VM", "lxc": "CT"}
_DIRECTORY = {"qemu": "qemu-server", "lxc": "lxc"}
_LIVE = {
    "qemu": {"description", "name", "onboot", "startup", "protection", "tags", "hookscript", "cpulimit", "cpuunits", "hotplug",
             "boot", "vmstate", "lock"},
    "lxc": {"description", "onboot", "startup", "protection", "tags", "hostname", "hookscript", "cores", "cpulimit", "cpuunits",
            "memory", "swap", "lock"},
}
_INTEGERS = {"cores", "sockets", "cpuunits", "onboot", "protection", "template", "swap", "vcpus", "unprivileged", "numa", "kvm", "balloon"}
_PRIVILEGE = {
    "onboot": "VM.Config.Options", "tags": "VM.Config.Options", "description": "VM.Config.Options", "name": "VM.Config.Options",
    "hostname": "VM.Config.Network", "startup": "VM.Config.Options", "protection": "VM.Config.Options",
    "hotplug": "VM.Config.Options", "agent": "VM.Config.Options", "boot": "VM.Config.Options", "ostype": "VM.Config.Options",
    "cpulimit": "VM.Config.CPU", "cpuunits": "VM.Config.CPU", "cores": "VM.Config.CPU", "sockets": "VM.Config.CPU",
    "cpu": "VM.Config.CPU", "memory": "VM.Config.Memory", "balloon": "VM.Config.Memory", "swap": "VM.Config.Memory",
    "machine": "VM.Config.HWType", "smbios1": "VM.Config.HWType", "vmstate": "VM.Config.Disk",
    **dict.fromkeys(("ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "cicustom"), "VM.Config.Cloudinit|VM.Config.Network"),
}
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_KNOWN_DELETE = re.compile(r"(?:net|scsi|ide|sata|virtio|ipconfig|unused|mp)\d+")


class Refused(Exception):
    """An answer other than 200: status, first line, and errors by parameter."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors or {}


def parameter(name: str, text: str) -> Refused:
    """A 400 that the call itself found."""
    return Refused(400, "Parameter verification failed.", {name: text})


def sha1(text: str) -> str:
    """The digest that every file has."""
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Task:
    """One worker: its identifier, text of exit once done, and lines of its log."""

    upid: str
    node: str
    kind: str
    target: str
    user: str
    started: int
    exit: str | None = None
    log: list[str] = field(default_factory=list)
    ended: float = 0.0


@dataclass
class Guest:
    """One guest; `config` is what runs, `pending` and `gone` what a restart will change."""

    vmid: int
    kind: str
    node: str
    config: dict[str, str]
    running: bool = False
    paused: bool = False
    deaf: bool = False
    stubborn_nic: bool = False
    ha: str | None = None
    pending: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    started: float = 0.0
    netin: int = 0
    netout: int = 0
    file_lock: threading.Lock = field(default_factory=threading.Lock)
    starts: int = 0

    @property
    def label(self) -> str:
        return TYPES[self.kind]

    @property
    def name(self) -> str:
        return self.config.get("name") or self.config.get("hostname") or f"{self.label}{self.vmid}"

    @property
    def lock(self) -> str | None:
        return self.config.get("lock")

    def digest(self) -> str:
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in sorted(self.config.items()))
        pending = "".join(f"{key}: {json.dumps(value)}\n" for key, value in sorted(self.pending.items()))
        return sha1(text + "[PENDING]" + pending + "delete: " + ",".join(sorted(self.gone)) if self.pending or self.gone else text)

    def typed(self, key: str, value: str) -> Any:
        if key in _INTEGERS or (self.kind == "lxc" and key == "memory"):
            return int(value)
        return value

    def apply_pending(self) -> None:
        self.config.update(self.pending)
        for key in self.gone:
            self.config.pop(key, None)
        self.pending, self.gone = {}, set()


@dataclass
class Storage:
    """Where disks lie; `avail` shrinks with what is put there."""

    name: str
    avail: int
    content: str = "images,rootdir"
    nodes: tuple[str, ...] = ()
    shared: bool = False
    active: bool = True
    linkable: bool = True

    def shown(self) -> dict[str, Any]:
        return {"avail": self.avail, "total": 1 << 50, "used": (1 << 50) - self.avail, "active": int(self.active), "enabled": 1,
                "content": self.content, "shared": int(self.shared), "type": "lvmthin"}

    def take(self, size: int) -> None:
        if size > self.avail:
            raise Refused(500, f"storage '{self.name}': not enough free space (need {size} bytes, {self.avail} available)")
        self.avail -= size


def size_in(text: str) -> int:
    """Bytes of a size as the server writes it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(found.group(1)) * _FACTORS[found.group(2)])


def size_text(size: int) -> str:
    """A size in the largest unit that it is a whole number of, up to the one the server stops at."""
    for unit in "GMK":
        if size % _FACTORS[unit] == 0:
            return f"{size // _FACTORS[unit]}{unit}"
    return str(size)


def canonical_nic(kind: str, text: str) -> str:
    """A NIC's string as the server stores it: model (or name) first, the rest by the alphabet."""
    form = schema.ENDPOINTS[f"PUT /nodes/{{node}}/{kind}/{{vmid}}/config"]["parameters"]["net[n]"]["format"]
    found, wrong = schema.properties(form, text)
    assert not wrong, wrong
    if kind == "qemu":
        mac = found.get("macaddr") or "BC:24:11:" + ":".join(f"{b:02X}" for b in uuid.uuid4().bytes[:3])
        head = f"{found['model']}={mac}"
        rest = {key: value for key, value in found.items() if key not in ("model", "macaddr")}
    else:
        head = f"name={found['name']}"
        rest = {key: value for key, value in found.items() if key != "name"}
        if "hwaddr" not in rest:
            rest["hwaddr"] = "BC:24:11:" + ":".join(f"{b:02X}" for b in uuid.uuid4().bytes[:3])
    return ",".join([head, *(f"{key}={rest[key]}" for key in sorted(rest))])


def nic_parts(kind: str, text: str) -> dict[str, str]:
    """A stored NIC's keys, aliases resolved."""
    form = schema.ENDPOINTS[f"PUT /nodes/{{node}}/{kind}/{{vmid}}/config"]["parameters"]["net[n]"]["format"]
    return schema.properties(form, text)[0]


def bridge_privileges(text: Any) -> list[tuple[str, str]]:
    """What a NIC's bridge needs; one with a VLAN tag is looked at with its tag."""
    bridge, tag = (re.search(r"(?:^|,)%s=([^,]+)" % key, str(text)) for key in ("bridge", "tag"))
    if not bridge:
        return []
    return [("/sdn/zones/localnetwork/" + bridge.group(1) + ("/" + tag.group(1) if tag else ""), "SDN.Use")]


class Cluster:
    """Everything behind the API.

    :ivar pace: seconds that a task takes, and by which the lock time-outs are divided
    :ivar faults: `callable(method, path, params) -> Refused or None`s asked before each call
    """

    def __init__(self, nodes: tuple[str, ...] = ("pve1",), pace: float = 0.02, lock_timeout: float = 10.0):
        self.nodes = {name: "online" for name in nodes}
        self.guests: dict[int, Guest] = {}
        self.tasks: dict[str, Task] = {}
        self.firewall = Firewall()
        self.options: dict[str, Any] = {}
        self.quorate = True
        self.clone_hangs = False  # a copy's task ends without its lock being taken off, as when its node went down
        self.pace, self.lock_timeout = pace, lock_timeout
        self.gather = 0.0  # seconds between two looks at what guests do, which lists of them show
        self._gathered: tuple[float, dict[int, dict[str, Any]]] = (0.0, {})
        self.chatter = 0  # bytes a second that each running guest receives and sends by itself
        self.warn_next: dict[str, str] = {}
        self.lock = threading.RLock()
        self._pids = itertools.count(0x5000)
        self.ha: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, dict[str, Any]] = {}
        self.snippets: set[str] = set()  # volumes
        self.storages = {name: Storage(name, 1 << 40) for name in ("local", "local-lvm")}
        self.started: list[tuple[int, dict[str, Any]]] = []  # each start with the firewall that the guest had at that moment

    # -- finding --------------------------------------------------------------------------------------------------

    def add(self, guest: Guest) -> Guest:
        self.guests[guest.vmid] = guest
        if guest.kind == "qemu":
            guest.config.setdefault("smbios1", f"uuid={uuid.uuid4()}")
            guest.config.setdefault("vmgenid", str(uuid.uuid4()))
        guest.config.setdefault("meta", f"creation-qemu=9.2.0,ctime={int(time.time())}") if guest.kind == "qemu" else None
        if guest.running:
            guest.started = time.time()
        return guest

    def guest(self, kind: str, vmid: int, node: str) -> Guest:
        found = self.guests.get(vmid)
        if found is None or found.kind != kind or found.node != node:
            raise Refused(500, f"Configuration file 'nodes/{node}/{_DIRECTORY[kind]}/{vmid}.conf' does not exist")
        return found

    def writable(self) -> None:
        if not self.quorate:
            raise Refused(500, "cluster not ready - no quorum?")

    # -- tasks ----------------------------------------------------------------------------------------------------

    def task(self, node: str, kind: str, target: str, user: str, work: Callable[[Task], None], seconds: float | None = None) -> str:
        """Start a worker; what it raises is its exit text."""
        pid, now = next(self._pids), int(time.time())
        upid = f"UPID:{node}:{pid:08X}:{pid * 7:08X}:{now:08X}:{kind}:{target}:{user}:"
        task = self.tasks[upid] = Task(upid, node, kind, target, user, now)

        def run() -> None:
            time.sleep(self.pace if seconds is None else seconds)
            try:
                with self.lock:
                    work(task)
                end = self.warn_next.pop(kind, "OK")
                task.log.append("TASK OK" if end == "OK" else f"TASK {end}")
            except Refused as exc:
                end = exc.message
                task.log.append(f"TASK ERROR: {exc.message}")
            task.ended = time.time()
            task.exit = task.exit or end

        threading.Thread(target=run, daemon=True).start()
        return upid

    def task_state(self, task: Task) -> dict[str, Any]:
        user, _, token = task.user.partition("!")
        state: dict[str, Any] = {
            "upid": task.upid, "node": task.node, "pid": int(task.upid.split(":")[2], 16),
            "pstart": int(task.upid.split(":")[3], 16), "starttime": task.started, "type": task.kind, "id": task.target,
            "user": user, "status": "running" if task.exit is None else "stopped"}
        if token:
            state["tokenid"] = token
        if task.exit is not None:
            state["exitstatus"] = task.exit
        return state

    # -- configuration --------------------------------------------------------------------------------------------

    def config(self, guest: Guest, current: bool = False) -> dict[str, Any]:
        """As `GET …/config` shows it: with what is pending, unless `current`."""
        values = dict(guest.config)
        if not current:
            values.update(guest.pending)
            for key in guest.gone:
                values.pop(key, None)
        shown = {key: guest.typed(key, value) for key, value in values.items()}
        shown["digest"] = guest.digest()
        return shown

    def pending(self, guest: Guest) -> list[dict[str, Any]]:
        rows = []
        for key in sorted({*guest.config, *guest.pending}):
            row: dict[str, Any] = {"key": key}
            if key in guest.config:
                row["value"] = guest.typed(key, guest.config[key])
            if key in guest.pending:
                row["pending"] = guest.typed(key, guest.pending[key])
            if key in guest.gone:
                row["delete"] = 1
            rows.append(row)
        rows.append({"key": "digest", "value": guest.digest()})
        return rows

    @staticmethod
    def needed_privileges(guest: Guest, parameters: dict[str, Any]) -> list[tuple[str, str]]:
        """`[(path, privilege)]` for the keys of a change, one by one."""
        keys = [key for key in parameters if key not in ("digest", "delete", "revert", "skiplock", "force", "background_delay")]
        keys += schema.split_list(parameters.get("delete", "")) + schema.split_list(parameters.get("revert", ""))
        needed = []
        for key in keys:
            if re.fullmatch(r"net\d+", key):
                needed.append((f"/vms/{guest.vmid}", "VM.Config.Network"))
                needed += bridge_privileges(parameters.get(key, ""))
            elif re.fullmatch(r"ipconfig\d+", key):
                needed.append((f"/vms/{guest.vmid}", "VM.Config.Cloudinit|VM.Config.Network"))
            elif key in _PRIVILEGE:
                needed.append((f"/vms/{guest.vmid}", _PRIVILEGE[key]))
        return needed

    def hold_file(self, guest: Guest) -> None:
        """Take the guest's file lock, or fail as the server does."""
        if not guest.file_lock.acquire(timeout=self.lock_timeout):
            where = f"/var/lock/qemu-server/lock-{guest.vmid}.conf" if guest.kind == "qemu" else \
                f"/run/lock/lxc/pve-config-{guest.vmid}.lock"
            raise Refused(500, f"can't lock file '{where}' - got timeout")

    def change(self, guest: Guest, parameters: dict[str, Any], user: str) -> Callable[[], None]:
        """Check a change of configuration; the returned call carries it out (under the file lock)."""
        self.writable()
        given = {key: value for key, value in parameters.items() if key not in ("node", "vmid")}
        digest = given.pop("digest", None)
        delete = schema.split_list(given.pop("delete", "") or "")
        revert = schema.split_list(given.pop("revert", "") or "")
        if given.pop("skiplock", None):
            raise parameter("skiplock", "Only root may use this option.")
        given.pop("force", None)
        for key in ("lock", "args"):
            if key in given or key in delete:
                raise Refused(500, f"only root can set '{key}' config")
        if not given and not delete and not revert:
            raise Refused(500, "no options specified")
        known = schema.ENDPOINTS[f"PUT /nodes/{{node}}/{guest.kind}/{{vmid}}/config"]["parameters"]
        for name, keys in (("delete", delete), ("revert", revert)):
            for key in keys:
                if key not in known and not _KNOWN_DELETE.fullmatch(key) and key not in ("vmstate", "lock"):
                    raise parameter(name, f"unknown option '{key}'")
        for key in delete:
            if key in given:
                raise parameter("delete", f"you can't use '-{key}' and -delete {key}' at the same time")
        for key, value in given.items():
            if value == "" and key in ("memory", "cpulimit", "cpuunits", "cores"):
                raise parameter(key, "type check ('%s') failed - got ''" % ("number" if key == "cpulimit" else "integer"))
            if key == "cpulimit" and re.search("[eE]", str(value)):
                raise Refused(500, f"unable to parse value of 'cpulimit' - type check ('number') failed - got '{value}'")
            if key == "unprivileged":
                raise Refused(500, "unable to modify read-only option: 'unprivileged'")
        if digest is not None and digest != guest.digest():
            raise Refused(500, "checksum mismatch (file change by other user?)" if guest.kind == "qemu"
                          else "detected modified configuration - file changed by other user? Try again.")
        if guest.lock and delete != ["vmstate"]:
            raise Refused(500, f"{guest.label} is locked ({guest.lock})")

        def carry_out() -> None:
            self._carry_out(guest, given, delete, revert)
        return carry_out

    def _carry_out(self, guest: Guest, given: dict[str, Any], delete: list[str], revert: list[str]) -> None:
        failed = {}
        for key in revert:
            guest.pending.pop(key, None)
            guest.gone.discard(key)
        for key in delete:
            guest.pending.pop(key, None)
            if key == "vmstate":
                for name in ("vmstate", "runningmachine", "lock"):
                    guest.config.pop(name, None)
            elif key in guest.config:
                if guest.running and not self._at_once(guest, key, guest.config[key], None):
                    guest.gone.add(key)
                else:
                    guest.config.pop(key)
        for key, raw in given.items():
            value = self.normal(guest, key, raw)
            if value is None:  # an emptied description
                guest.config.pop(key, None)
                continue
            guest.gone.discard(key)
            old = guest.config.get(key)
            if not guest.running or old == value:
                guest.config[key] = value
                guest.pending.pop(key, None)
                continue
            problem = self._hotplug_problem(guest, key, old, value)
            if problem:
                failed[key] = problem
                guest.pending[key] = value
            elif self._at_once(guest, key, old, value):
                guest.config[key] = value
                guest.pending.pop(key, None)
            else:
                guest.pending[key] = value
        if failed:
            raise Refused(400, "Parameter verification failed.", failed)

    @staticmethod
    def _at_once(guest: Guest, key: str, _old: str | None, _new: str | None) -> bool:
        if re.fullmatch(r"net\d+", key):
            return guest.kind == "lxc" or guest.config.get("hotplug", "network,disk,usb").find("network") >= 0
        return key in _LIVE[guest.kind]

    @staticmethod
    def _hotplug_problem(guest: Guest, key: str, old: str | None, new: str) -> str | None:
        if guest.kind == "lxc" and key == "cpulimit" and float(new) == 0:
            return "unable to hotplug cpulimit: closing file 'cpu.cfs_quota_us' failed - Invalid argument\n"
        if guest.kind == "qemu" and re.fullmatch(r"net\d+", key) and old and guest.stubborn_nic and \
                guest.config.get("hotplug", "network").find("network") >= 0:
            before, after = nic_parts("qemu", old), nic_parts("qemu", new)
            if any(before.get(k) != after.get(k) for k in ("model", "macaddr")):
                return f"hotplug problem - error on hot-unplugging device '{key}' - still busy in guest?\n"
        return None

    def normal(self, guest: Guest, key: str, raw: Any) -> str | None:
        """A value as the server stores it; None where it stores nothing."""
        value = ("1" if raw else "0") if isinstance(raw, bool) else ";".join(raw) if isinstance(raw, list) else str(raw)
        if re.fullmatch(r"net\d+", key):
            return canonical_nic(guest.kind, value)
        if key == "tags":
            tags = sorted({tag.lower() for tag in schema.split_list(value)})
            return ";".join(tags) or " "
        if key == "description":
            if value == "":
                return None
            return value.rstrip("\n") if guest.kind == "qemu" else value.rstrip("\n") + "\n"
        return value

    # -- power ----------------------------------------------------------------------------------------------------

    def start(self, guest: Guest) -> None:
        for volume in (schema.cloudinit_files(guest.config.get("cicustom", "")) or {}).values() if guest.config.get("cicustom") else ():
            if volume not in self.snippets:
                raise Refused(500, f"can't find file '{volume}'")
        if guest.lock == "suspended":
            for name in ("vmstate", "runningmachine", "lock"):
                guest.config.pop(name, None)
        guest.apply_pending()
        guest.running, guest.paused, guest.started = True, False, time.time()
        guest.netin = guest.netout = 0
        guest.starts += 1
        self.started.append((guest.vmid, self.wall_of(guest)))

    def stop(self, guest: Guest) -> None:
        guest.running = guest.paused = False
        guest.apply_pending()

    def power(self, guest: Guest | None, kind: str, vmid: int, node: str, verb: str, parameters: dict[str, Any], user: str) -> str:
        """A power call's task, or its refusal."""
        self.writable()
        prefix = "qm" if kind == "qemu" else "vz"
        label = TYPES[kind]
        if guest is None:
            if kind == "lxc":
                raise Refused(500, f"CT {vmid} not running" if verb != "start"
                              else f"Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist")

            def missing(_task: Task) -> None:
                raise Refused(500, f"unable to find configuration file for VM {vmid} on node '{node}'")
            if verb in ("stop", "start", "shutdown"):
                return self.task(node, prefix + verb, str(vmid), user, missing)
            raise Refused(500, f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")
        if parameters.get("skiplock"):
            raise parameter("skiplock", "Only root may use this option.")
        if guest.ha and verb in ("start", "stop"):
            return self._ask_ha(guest, verb, user)
        return {"start": self._start, "stop": self._stop, "shutdown": self._shutdown, "suspend": self._suspend,
                "resume": self._resume, "reset": self._reset, "reboot": self._reboot}[verb](guest, parameters, user, prefix, label)

    def _ask_ha(self, guest: Guest, verb: str, user: str) -> str:
        def work(task: Task) -> None:
            task.log.append(f"Requesting HA {verb} for {guest.label} {guest.vmid}")
            resource = self.ha[f"{'vm' if guest.kind == 'qemu' else 'ct'}:{guest.vmid}"]
            resource["state"] = "started" if verb == "start" else "stopped"
            guest.ha = resource["state"]

            def manager() -> None:
                time.sleep(self.pace * 2)
                with self.lock:
                    (self.start if verb == "start" else self.stop)(guest)
            threading.Thread(target=manager, daemon=True).start()
        return self.task(guest.node, f"ha{verb}", str(guest.vmid), user, work)

    def _must_run(self, guest: Guest, label: str) -> None:
        if not guest.running:
            raise Refused(500, f"{label} {guest.vmid} not running")

    def _start(self, guest, _parameters, user, prefix, label):
        if guest.kind == "lxc" and guest.running:
            raise Refused(500, f"CT {guest.vmid} already running")

        def work(task: Task) -> None:
            if guest.lock and guest.lock != "suspended":
                raise Refused(500, f"{label} is locked ({guest.lock})")
            if guest.running:
                raise Refused(500, f"VM {guest.vmid} already running")
            if guest.config.get("template") == "1":
                raise Refused(500, "you can't start a vm if it's a template")
            task.log += ["Resuming suspended VM", "Resumed VM, removing state"] if guest.lock else []
            self.start(guest)
        return self.task(guest.node, prefix + "start", str(guest.vmid), user, work)

    def _stop(self, guest, _parameters, user, prefix, label):
        if guest.kind == "lxc" and not guest.running:
            raise Refused(500, f"CT {guest.vmid} not running")

        def work(_task: Task) -> None:
            if guest.running and guest.lock:
                raise Refused(500, f"{label} is locked ({guest.lock})")
            self.stop(guest)
        return self.task(guest.node, prefix + "stop", str(guest.vmid), user, work)

    def _shutdown(self, guest, parameters, user, prefix, label):
        if guest.kind == "lxc" and not guest.running:
            raise Refused(500, f"CT {guest.vmid} not running")

        def work(_task: Task) -> None:
            if guest.running and guest.lock:
                raise Refused(500, f"{label} is locked ({guest.lock})")
            if guest.running and guest.deaf and not parameters.get("forceStop"):
                raise Refused(500, "VM quit/powerdown failed - got timeout")
            self.stop(guest)
        return self.task(guest.node, prefix + "shutdown", str(guest.vmid), user, work)

    def _suspend(self, guest, parameters, user, prefix, label):
        self._must_run(guest, label)
        if guest.kind == "lxc":
            def work(_task: Task) -> None:
                raise Refused(500, f"lxc-checkpoint -n {guest.vmid} failed: exit code 1")
            return self.task(guest.node, "vzsuspend", str(guest.vmid), user, work)
        if str(parameters.get("todisk", "0")) == "1":
            def work(_task: Task) -> None:
                if guest.lock == "backup":
                    raise Refused(500, "cannot suspend to disk during backup")
                if guest.lock:
                    raise Refused(500, f"VM is locked ({guest.lock})")
                guest.running = guest.paused = False
                guest.config.update(lock="suspended", vmstate=f"local:{guest.vmid}/vm-{guest.vmid}-state.raw", runningmachine="pc-9")
            return self.task(guest.node, "qmsuspend", str(guest.vmid), user, work)

        def work(_task: Task) -> None:
            if guest.lock and guest.lock != "backup":
                raise Refused(500, f"VM is locked ({guest.lock})")
            guest.paused = True
        return self.task(guest.node, "qmpause", str(guest.vmid), user, work)

    def _resume(self, guest, _parameters, user, prefix, label):
        if guest.kind == "lxc":
            if guest.running:
                raise Refused(500, f"CT {guest.vmid} already running")

            def work(_task: Task) -> None:
                raise Refused(500, f"lxc-checkpoint -r -n {guest.vmid} failed: exit code 1")
            return self.task(guest.node, "vzresume", str(guest.vmid), user, work)
        if guest.lock != "suspended":
            self._must_run(guest, label)

        def work(_task: Task) -> None:
            if guest.lock == "suspended":
                self.start(guest)
            guest.paused = False
        return self.task(guest.node, "qmresume", str(guest.vmid), user, work)

    def _reset(self, guest, _parameters, user, prefix, label):
        self._must_run(guest, label)
        return self.task(guest.node, "qmreset", str(guest.vmid), user, lambda _task: None)

    def _reboot(self, guest, _parameters, user, prefix, label):
        if not guest.running:
            raise Refused(500, f"VM {guest.vmid} not running")  # for containers as well

        def work(_task: Task) -> None:
            self.stop(guest)
            self.start(guest)
        return self.task(guest.node, prefix + "reboot", str(guest.vmid), user, work)

    # -- making and removing --------------------------------------------------------------------------------------

    def create(self, kind: str, node: str, parameters: dict[str, Any], user: str) -> str:
        self.writable()
        vmid = int(parameters["vmid"])
        if vmid in self.guests:
            raise Refused(500, f"unable to create {TYPES[kind]} {vmid} - {TYPES[kind]} {vmid} already exists on node"
                               f" '{self.guests[vmid].node}'")

        def work(_task: Task) -> None:
            guest = Guest(vmid, kind, node, {})
            for key, raw in parameters.items():
                if key not in ("vmid", "node", "start", "storage", "pool", "force", "unique", "ostemplate", "ssh-public-keys", "password"):
                    if re.fullmatch(r"scsi\d+", key):
                        raw = f"local:{vmid}/vm-{vmid}-disk-0.raw,size={str(raw).partition(':')[2]}G"
                    elif key == "rootfs" and re.fullmatch(r"[^:]+:[\d.]+", str(raw)):
                        where, _, size = str(raw).partition(":")
                        self.storage(where, node).take(int(float(size) * (1 << 30)))
                        raw = f"{where}:vm-{vmid}-disk-0,size={size_text(int(float(size) * (1 << 30)))}"
                    value = self.normal(guest, key, raw)
                    if value is not None:
                        guest.config[key] = value
            if kind == "qemu":
                disks = [key for key in guest.config if re.fullmatch(r"(?:scsi|virtio|sata|ide)\d+", key)]
                nics = [key for key in guest.config if re.fullmatch(r"net\d+", key)]
                guest.config.setdefault("boot", "order=" + ";".join(disks[:1] + nics[:1]))
            self.add(guest)
            self._into_pool(parameters.get("pool"), vmid)
            if str(parameters.get("start", "0")) == "1":
                self.start(guest)
        return self.task(node, "qmcreate" if kind == "qemu" else "vzcreate", str(vmid), user, work)

    def wall_of(self, guest: Guest) -> dict[str, Any]:
        """What the firewall would do for a guest now: nothing unless it is on in the cluster, on the guest and on the NIC."""
        file = self.firewall.guests.get(guest.vmid)
        on = str(self.firewall.cluster.options.get("enable", 0)) != "0" and file is not None and str(file.options.get("enable", 0)) != "0"
        rules = []
        for rule in file.rules if on else ():
            group = self.firewall.cluster.groups.get(rule["action"], {"rules": []}) if rule["type"] == "group" else {"rules": [rule]}
            rules += [dict(one) for one in group["rules"] if rule.get("enable") and one.get("enable")]
        covered = {key: "firewall=1" in text for key, text in guest.config.items() if re.fullmatch(r"net\d+", key)}
        sets = {name: sorted(e["cidr"] for e in one["entries"]) for name, one in file.ipsets.items()} if on else {}
        return {"on": on, "rules": rules, "nics": covered, "sets": sets, "config": dict(guest.config)}

    def pool_exists(self, name: str | None) -> None:
        if name is not None and name not in self.pools:
            raise Refused(403, f"Permission check failed (pool '{name}' does not exist)")

    def _into_pool(self, name: str | None, vmid: int) -> None:
        if name is not None:
            self.pools[name]["vms"].add(vmid)

    def storage(self, name: str, node: str) -> Storage:
        one = self.storages.get(name)
        if one is None:
            raise Refused(500, f"storage '{name}' does not exist")
        if one.nodes and node not in one.nodes:
            raise Refused(500, f"storage '{name}' is not available on node '{node}'")
        return one

    @staticmethod
    def _disks(config: dict[str, str]) -> dict[str, str]:
        return {key: text for key, text in config.items() if re.fullmatch(r"(?:scsi|virtio|sata|ide|mp)\d+|rootfs", key)
                and ("media=cdrom" not in text or "cloudinit" in text)}

    def clone_privileges(self, guest: Guest, parameters: dict[str, Any]) -> list[tuple[str, str]]:
        """`[(path, privilege)]` for the storages and bridges of a copy."""
        used = {text.partition(":")[0] for text in self._disks(guest.config).values()}
        if parameters.get("storage"):
            used = {parameters["storage"]}
        bridges = {one for key, text in guest.config.items() if re.fullmatch(r"net\d+", key) for one in bridge_privileges(text)}
        return [*((f"/storage/{one}", "Datastore.AllocateSpace") for one in sorted(used)), *sorted(bridges)]

    def clone(self, guest: Guest, parameters: dict[str, Any], user: str) -> str:
        """As qemu-server and pve-container copy a guest: checks, then a task during which the copy has hardly a configuration."""
        newid, storage = int(parameters["newid"]), parameters.get("storage")
        full = str(parameters.get("full", int(guest.config.get("template") != "1"))) == "1"
        target = parameters.get("target") or guest.node
        self.pool_exists(parameters.get("pool"))
        if storage:
            self.storage(storage, guest.node)
        self.writable()
        if newid in self.guests:
            raise Refused(500, f"unable to create {guest.label} {newid}: config file already exists" if guest.kind == "qemu"
                          else f"CT {newid} already exists on node '{self.guests[newid].node}'")
        if guest.lock:
            raise Refused(500, f"{guest.label} is locked ({guest.lock})")
        if storage and not full:
            raise Refused(500, "parameter 'storage' not allowed for linked clones")
        disks = self._disks(guest.config)
        shared = True
        for key, text in disks.items():
            one = self.storages.get(storage or text.partition(":")[0])
            shared = shared and one is not None and one.shared
            if not full and "cloudinit" not in text and not (guest.config.get("template") == "1" and one and one.linkable):
                raise Refused(500, f"Linked clone feature is not supported for '{text.partition(',')[0]}' ({key})" if guest.kind == "qemu"
                              else f"Linked clone feature for '{text.partition(',')[0]}' is not available")
        if target not in self.nodes:
            raise Refused(500, f"no such cluster node '{target}'")
        if target != guest.node and not shared:
            raise Refused(500, f"can't clone {guest.label} to node '{target}' ({guest.label} uses local storage)")
        new, hangs = self._copied(guest, newid, parameters), self.clone_hangs
        if guest.kind == "lxc":
            guest.config["lock"] = "disk"
        copy = Guest(newid, guest.kind, guest.node, dict(new, lock="create") if guest.kind == "lxc" else {"lock": "clone"})
        with self.lock:
            self.guests[newid] = copy
            self._clone_firewall(guest.vmid, newid)

        def work(_task: Task) -> None:
            try:
                for key, text in disks.items():
                    where = storage or text.partition(":")[0]
                    size = re.search(r"size=([^,]+)", text)
                    if full and size:
                        self.storage(where, guest.node).take(size_in(size.group(1)))
                    name = f"vm-{newid}-cloudinit" if "cloudinit" in text else f"vm-{newid}-disk-0"
                    new[key] = ",".join([f"{where}:{name}", *text.split(",")[1:]])
            except Refused as exc:
                self.guests.pop(newid, None)
                self.firewall.guests.pop(newid, None)
                guest.config.pop("lock", None)
                raise Refused(500, f"clone failed: {exc.message}") from exc
            if hangs:
                return
            guest.config.pop("lock", None)
            copy.config, copy.node = new, target
            self._into_pool(parameters.get("pool"), newid)  # last of all
        return self.task(guest.node, "qmclone" if guest.kind == "qemu" else "vzclone", str(guest.vmid), user, work)

    def _copied(self, guest: Guest, newid: int, parameters: dict[str, Any]) -> dict[str, str]:
        """A copy's configuration: all of its source's, but for MACs, UUIDs, name and notes."""
        new = {key: text for key, text in guest.config.items() if key not in ("template", "lock") and not key.startswith("unused")}
        for key in [k for k in new if re.fullmatch(r"net\d+", k)]:
            parts = new[key].split(",")
            if guest.kind == "qemu":
                parts[0] = parts[0].partition("=")[0]
            else:
                parts = [part for part in parts if not part.startswith("hwaddr=")]
            new[key] = canonical_nic(guest.kind, ",".join(parts))
        if guest.kind == "qemu":
            rest = [part for part in new.get("smbios1", "").split(",") if part and not part.startswith("uuid=")]
            new["smbios1"] = ",".join([*rest, f"uuid={uuid.uuid4()}"])
            new["name"] = str(parameters.get("name") or f"Copy-of-VM-{guest.name}")
        elif parameters.get("hostname"):
            new["hostname"] = str(parameters["hostname"])
        if parameters.get("description"):
            new["description"] = self.normal(guest, "description", parameters["description"])
        if "vmgenid" in new:
            new["vmgenid"] = str(uuid.uuid4())
        return new

    def _clone_firewall(self, source: int, newid: int) -> None:
        """A copy has its source's firewall file, whatever lay there under its number before."""
        self.firewall.guests.pop(newid, None)
        if source in self.firewall.guests:
            self.firewall.guests[newid] = copy_of(self.firewall.guests[source])

    def resize(self, guest: Guest, parameters: dict[str, Any], user: str) -> str:
        self.writable()
        disk, wanted = parameters["disk"], str(parameters["size"])
        if guest.lock:
            raise Refused(500, f"{guest.label} is locked ({guest.lock})")
        if disk not in guest.config:
            raise Refused(500, f"disk '{disk}' does not exist" if guest.kind == "qemu" else f"mountpoint '{disk}' does not exist")
        found = re.search(r"size=([^,]+)", guest.config[disk])
        before = size_in(found.group(1)) if found else 0
        after = before + size_in(wanted[1:]) if wanted.startswith("+") else size_in(wanted)
        if after < before:
            raise Refused(500, "shrinking disks is not supported" if guest.kind == "qemu" else "unable to shrink disk size")

        def work(_task: Task) -> None:
            self.storages[guest.config[disk].partition(":")[0]].take(after - before)
            parts = [part for part in guest.config[disk].split(",") if not part.startswith("size=")]
            guest.config[disk] = ",".join([*parts, f"size={size_text(after)}"])
        return self.task(guest.node, "resize", str(guest.vmid), user, work)

    def destroy(self, guest: Guest, user: str) -> str:
        self.writable()
        if guest.config.get("protection") == "1":
            raise Refused(500, f"can't remove {guest.label} {guest.vmid} - protection mode enabled")
        if guest.running:
            raise Refused(500, f"{guest.label} {guest.vmid} is running - destroy failed")

        def work(_task: Task) -> None:
            del self.guests[guest.vmid]
            self.firewall.guests.pop(guest.vmid, None)
        return self.task(guest.node, "qmdestroy" if guest.kind == "qemu" else "vzdestroy", str(guest.vmid), user, work)

    # -- looking --------------------------------------------------------------------------------------------------

    def usage(self, guest: Guest) -> dict[str, Any]:
        maxcpu = int(guest.config.get("cores", 1)) * int(guest.config.get("sockets", 1))
        chatter = int((time.time() - guest.started) * self.chatter)
        return {
            "cpu": 0.01 if guest.running else 0, "mem": 1 << 20 if guest.running else 0,
            "maxmem": int(guest.config.get("memory", "512")) << 20, "disk": 0, "maxdisk": 0,
            "netin": guest.netin + chatter if guest.running else 0, "netout": guest.netout + chatter if guest.running else 0,
            "uptime": int(time.time() - guest.started) + 1 if guest.running else 0, "_cpus": maxcpu}

    def resource(self, guest: Guest) -> dict[str, Any]:
        online = self.nodes[guest.node] == "online"
        row: dict[str, Any] = {"id": f"{guest.kind}/{guest.vmid}", "vmid": guest.vmid, "type": guest.kind, "node": guest.node,
                               "status": "unknown"}
        if not online:
            return row
        row.update(self._seen(guest))
        if guest.config.get("tags", " ").strip():
            row["tags"] = guest.config["tags"]
        if guest.lock:
            row["lock"] = guest.lock
        for pool in self.pools.values():
            if guest.vmid in pool["vms"]:
                row["pool"] = pool["poolid"]
        if guest.ha:
            row["hastate"] = guest.ha
        return row

    def _seen(self, guest: Guest) -> dict[str, Any]:
        """What the node's last look at its guests said of one; nothing of a new one."""
        at, seen = self._gathered
        if time.monotonic() - at >= self.gather:
            seen = {vmid: self._look(one) for vmid, one in list(self.guests.items())}
            self._gathered = time.monotonic(), seen
        return seen.get(guest.vmid, {})

    def _look(self, guest: Guest) -> dict[str, Any]:
        use = self.usage(guest)
        return {**{k: v for k, v in use.items() if k != "_cpus"}, "maxcpu": use["_cpus"], "name": guest.name,
                "template": int(guest.config.get("template", "0")), "diskread": 0, "diskwrite": 0,
                "status": "paused" if guest.paused else "running" if guest.running else "stopped"}

    def status(self, guest: Guest) -> dict[str, Any]:
        use = self.usage(guest)
        row = {k: v for k, v in use.items() if k != "_cpus"}
        row.update(vmid=guest.vmid, name=guest.name, cpus=use["_cpus"], status="running" if guest.running else "stopped",
                   ha={"managed": 1, "state": guest.ha} if guest.ha else {"managed": 0})
        if guest.kind == "qemu":
            row["qmpstatus"] = "paused" if guest.paused else row["status"]
        else:
            row["type"] = "lxc"
        if guest.config.get("tags", " ").strip():
            row["tags"] = guest.config["tags"]
        if guest.lock:
            row["lock"] = guest.lock
        if guest.running:
            row["pid"] = 10000 + guest.vmid
        return row
