# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the recorded requests again, in their order, and says where the stand-in answers otherwise than the real code did."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import requests

from .cluster import Cluster, Guest
from .firewall import digest_of
from .server import EVERYTHING, Api, Running, Token

RECORDED = Path(__file__).parent / "observed.jsonl"
SECRET = "00000000-0000-0000-0000-000000000000"
_AUTOMATON = {"VM.Audit", "VM.Config.Network", "VM.Config.CPU", "VM.Config.Options", "VM.PowerMgmt", "Sys.Audit", "Pool.Audit"}


def tokens() -> dict[str, Token]:
    """Those of the recording, new ones."""
    return {
        "root@pam!lab": Token(SECRET, {"/": {EVERYTHING}}),
        "svc@pve!auto": Token(SECRET, {"/": set(_AUTOMATON)}),
        "svc@pve!none": Token(SECRET),
        "powr@pve!tok": Token(SECRET, {"/vms": {"VM.PowerMgmt"}}),
    }


# What differs from run to run, or is measured.
_VOLATILE = {"digest", "vmgenid", "smbios1", "meta", "message", "total", "upid", "pid", "vmstate", "runningmachine", "runningcpu",
             "arch", "rootfs", "scsi0", "ipversion"}
_COMPARED = re.compile(r"/(config|pending|options|rules|rules/\d+|ipset|ipset/.+|groups|groups/.+|aliases|aliases/.+|refs)$")


def lab() -> Cluster:
    """The cluster as it was when the recording began."""
    cluster = Cluster(("pve1", "pve2"), pace=0.0, lock_timeout=0.05)
    cluster.nodes["pve2"] = "offline"
    cluster.add(Guest(100, "qemu", "pve1", {
        "name": "vm100", "memory": "128", "cores": "1", "ostype": "l26", "boot": "order=net0", "tags": "a;b", "cpulimit": "0.2",
        "description": "line1 ü\nline2: %25 #x", "net0": "virtio=BC:24:11:57:A1:23,bridge=vmbr0,firewall=1,link_down=1,rate=1.5"},
        running=True, deaf=True, stubborn_nic=True))
    cluster.add(Guest(200, "lxc", "pve1", {
        "hostname": "ct200", "memory": "128", "swap": "0", "cores": "1", "ostype": "unmanaged", "arch": "amd64",
        "net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:00:02:00,ip=10.77.1.20/24,type=veth"}, running=True))
    return cluster


def recorded() -> list[dict[str, Any]]:
    """The recorded calls, without remarks and without what isn't a single request."""
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [line for line in lines if "method" in line]


def plain(value: Any) -> Any:
    """A body without what differs from run to run, lists in one order."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        items = [plain(item) for item in value if not (isinstance(item, dict) and item.get("key") in _VOLATILE)]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def _guest_file(api: Api, vmid: int) -> None:
    api.cluster.firewall.guests.pop(vmid, None)


def _node_rules(api: Api) -> None:
    host = api.cluster.firewall.of_host("pve1")
    host.options["enable"] = 1
    host.rules.append({"type": "forward", "action": "DROP", "enable": 0})


def _locked(api: Api) -> None:
    for vmid in (100, 200):
        api.cluster.guests[vmid].running = True
        api.cluster.guests[vmid].config["lock"] = "backup"


def _failed_hotplug(api: Api) -> None:
    api.cluster.guests[200].config["net0"] = "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:00:02:00,ip=10.77.1.20/24,type=veth"
    api.cluster.guests[200].pending = {"net0": "name=eth0,bridge=vmbr0,rate=1"}


def _hibernated(api: Api) -> None:
    api.cluster.guests[101].running = False
    api.cluster.guests[101].config.update(lock="suspended", vmstate="local:101/vm-101-state-suspend.raw", runningmachine="pc",
                                      description="from a request that timed out", tags="a;b", cpulimit="0.25", onboot="0")


def _mailing(api: Api) -> None:
    api.tokens["svc@pve!auto"].acl["/sdn/zones/localnetwork"] = {"SDN.Use"}


def _modifying(api: Api) -> None:
    api.tokens["svc@pve!auto"].alone["/"] = {"Sys.Modify"}


def _set(vmid: int, **values: str | None):
    def edit(api: Api) -> None:
        for key, value in values.items():
            if value is None:
                api.cluster.guests[vmid].config.pop(key, None)
            else:
                api.cluster.guests[vmid].config[key] = value
    return edit


# What the recording's lab did by hand, or by calls that weren't recorded, before a request.
BY_HAND = {
    65: _set(100, cpuunits="50"),
    146: _set(101, onboot=None, tags=" "),
    160: _failed_hotplug,
    163: _failed_hotplug,
    329: lambda api: api.cluster.stop(api.cluster.guests[200]),
    472: lambda api: api.cluster.guests[100].file_lock.acquire(),
    476: lambda api: (api.cluster.guests[100].file_lock.release(), api.cluster.guests[200].file_lock.acquire()),
    477: lambda api: api.cluster.guests[200].file_lock.release(),
    561: lambda api: _guest_file(api, 100),
    576: lambda api: api.cluster.firewall.make_set(api.cluster.firewall.cluster, {"name": "mining"}),
    640: _node_rules,
    660: _locked,
    676: lambda api: [api.cluster.guests[vmid].config.pop("lock", None) for vmid in (100, 200)],
    702: lambda api: api.cluster.guests[100].file_lock.acquire(),
    703: lambda api: api.cluster.guests[100].file_lock.release(),
    771: lambda api: _guest_file(api, 101),
    778: lambda api: _guest_file(api, 101),
    786: lambda api: api.cluster.firewall.make_set(api.cluster.firewall.of_guest(101, "qemu"), {"name": "ipf-new"}),
    787: _hibernated,
    793: _mailing,
    804: _modifying,
    832: lambda api: (_guest_file(api, 101), api.cluster.firewall.of_guest(101, "qemu").rules.append(
        {"type": "out", "action": "DROP", "enable": 0})),
}

# Where the stand-in answers otherwise, and why that is no matter.
DIFFERENT = {
    119: "a MAC the server chose by itself",
    147: "a MAC the server chose by itself",
    159: "the recording's lab could not plug a container's NIC",
    162: "the recording's lab could not plug a container's NIC",
    164: "the recording's lab could not plug a container's NIC",
    656: "a run of parallel calls, recorded as one line, lies before it",
    731: "a node's graphs aren't used",
    732: "a container's interfaces aren't used",
    733: "the guest agent isn't asked",
    761: "lists of all tags in use aren't kept",
    819: "a node's graphs aren't used",
    766: "lists of tags that users may set aren't kept; registered tags are",
}


class Replay:
    """One run over all of it.

    :ivar before: `{id: callable(api)}`: what the recording's lab did by hand before that request
    """

    def __init__(self, server: Running, before: dict[int, Any]):
        self.server, self.before = server, before
        self.session = requests.Session()
        self.session.trust_env = False  # a bundle named in the environment would go before ours
        self.session.verify = str(server.ca_file)
        self.known: dict[str, str] = {}

    def _translated(self, text: str) -> str:
        for old, new in self.known.items():
            text = text.replace(old, new)
        return text

    def _learn(self, old: Any, new: Any) -> None:
        """Digests and task identifiers of the recording, and what they are here."""
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old.keys() & new.keys():
                if key == "digest":
                    self.known[str(old[key])] = str(new[key])
                else:
                    self._learn(old[key], new[key])
        elif isinstance(old, list) and isinstance(new, list):
            if old and new:
                self._learn(old[0], new[0])
                digest = next((i.get("value") for i in old if isinstance(i, dict) and i.get("key") == "digest"), None)
                mine = next((i.get("value") for i in new if isinstance(i, dict) and i.get("key") == "digest"), None)
                if digest and mine:
                    self.known[digest] = mine
        elif isinstance(old, str) and old.startswith("UPID:") and isinstance(new, str):
            self.known[old] = new
            self.known[requests.utils.quote(old, safe="")] = requests.utils.quote(new, safe="")
            limit = time.monotonic() + 5
            while self.server.api.cluster.tasks[new].exit is None and time.monotonic() < limit:
                time.sleep(0.002)

    def send(self, line: dict[str, Any]) -> str | None:
        """Send one; returns how the answer differs, or None."""
        if line["id"] in self.before:
            self.before[line["id"]](self.server.api)
        if line["section"] == "task" and not any(old in line["path"] for old in self.known if "UPID" in old):
            return None  # its start isn't in the recording
        path = self._translated(line["path"])
        digest = (line.get("params") or {}).get("digest")
        if digest and line.get("note") == "right digest" and digest not in self.known:
            self.known[digest] = digest_of(self.server.api.cluster.firewall.of_guest(100, "qemu").rules)
        url = f"https://{self.server.host}:{self.server.port}/api2/json{path}"
        headers = dict(line.get("headers_sent", {}))
        if not headers and line["who"] != "-":
            headers["Authorization"] = f"PVEAPIToken={line['who']}={SECRET}"
        parameters = {key: _expanded(self._translated(str(value))) for key, value in (line.get("params") or {}).items()}
        arguments: dict[str, Any] = {"params" if line["method"] in ("GET", "DELETE") else "data": parameters}
        if "raw_body" in line:
            arguments = {"data": line["raw_body"]}
            headers["Content-Type"] = "text/plain" if line["status"] == 506 else "application/json"
        elif line.get("sent_as", "").startswith("application/json") or line.get("sent_as") == "json":
            arguments = {"json": line.get("params")}
        answer = self.session.request(line["method"], url, headers=headers, timeout=30, **arguments)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        return self._compare(line, answer.status_code, body)

    def _compare(self, line: dict[str, Any], status: int, body: Any) -> str | None:
        theirs = line.get("body")
        self._learn(theirs, body)
        if status != line["status"]:
            return f"status {status} instead of {line['status']} ({line.get('reason', '')}): {json.dumps(body)[:200]}"
        if not isinstance(theirs, dict):
            return None
        mine = body if isinstance(body, dict) else {}
        if set(theirs.get("errors", {})) != set(mine.get("errors", {})):
            return f"errors {mine.get('errors')} instead of {theirs.get('errors')}"
        if line["method"] == "GET" and _COMPARED.search(line["path"]) and "<" not in json.dumps(theirs):
            if plain(theirs.get("data")) != plain(mine.get("data")):
                return f"state {_difference(plain(mine.get('data')), plain(theirs.get('data')))}"
        return None


def _expanded(text: str) -> str:
    """The recording writes long values as `<300 × x>`."""
    long = re.fullmatch(r"<(\d+) × (.)>", text)
    return long.group(2) * int(long.group(1)) if long else text


def _difference(mine: Any, theirs: Any) -> str:
    """Only what is in one and not in the other."""
    def parts(value: Any) -> set[str]:
        items = value.items() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        return {json.dumps(item, sort_keys=True, ensure_ascii=False) for item in items}
    return f"{sorted(parts(mine) - parts(theirs))} instead of {sorted(parts(theirs) - parts(mine))}"
