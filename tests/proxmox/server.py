# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster over HTTPS: who asks, whether he may, whether what he says can be, and only then the call itself.

    with serve(cluster, directory) as server:
        ProxmoxAPI(server.host, port=server.port, user="svc@pve", token_name="aup", token_value=server.secret, …)
"""

from __future__ import annotations

import datetime
import json
import re
import ssl
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import schema
from .cluster import Cluster, Guest, Refused, bridge_privileges

VERSION = {"version": "9.2.11", "release": "9.2", "repoid": "14a22df3"}
EVERYTHING = "*"
_GUEST = re.compile(r"/nodes/\{node\}/(qemu|lxc)/\{vmid\}")


@dataclass
class Token:
    """One API token: its privileges by path, and those that don't propagate to what lies below."""

    secret: str
    acl: dict[str, set[str]] = field(default_factory=dict)
    alone: dict[str, set[str]] = field(default_factory=dict)

    pools: dict[str, dict[str, Any]] = field(default_factory=dict)

    def privileges(self, path: str) -> set[str]:
        """What is in force at a path; a guest in a pool has what is given on the pool besides."""
        held = self._given(path)
        for name, pool in self.pools.items():
            if path in {f"/vms/{vmid}" for vmid in pool["vms"]}:
                held = held | self._given(f"/pool/{name}")
        return held

    def _given(self, path: str) -> set[str]:
        """Roles on a path stand in place of those on the paths above it."""
        path = path.rstrip("/") or "/"
        parts = path.rstrip("/").split("/")
        held: set[str] = set()
        for length in range(1, len(parts) + 1):
            above = "/".join(parts[:length]) or "/"
            held = self.acl.get(above, set()) | (self.alone.get(above, set()) if above == path else set()) or held
        return held

    def may(self, path: str, privilege: str) -> bool:
        held = self.privileges(path)
        return EVERYTHING in held or privilege in held


@dataclass
class Rule:
    """Something that goes wrong, asked before each call.

    :ivar refuse: the answer instead of the call's
    :ivar late: seconds before the call is carried out and answered
    :ivar cut: carry the call out, and answer 596 as a proxy that gave up
    """

    method: str
    path: str
    times: int = 1
    refuse: Refused | None = None
    late: float = 0.0
    cut: bool = False
    html: bool = False
    before: Callable[[], None] | None = None

    def fits(self, method: str, path: str) -> bool:
        return self.times != 0 and method == self.method and re.fullmatch(self.path, path) is not None


class Api:
    """Calls by endpoint, without HTTP."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.tokens: dict[str, Token] = {}
        self.rules: list[Rule] = []
        self.calls: Counter[str] = Counter()
        self.seen: list[tuple[float, str, str]] = []
        self.delay = 0.0
        self.auth_delay = 0.0
        self.message_in_body = True
        self.workers = {node: threading.BoundedSemaphore(3) for node in cluster.nodes}
        self.proxy_timeout = 30.0
        self.busiest = Counter()
        self._writing: Counter[str] = Counter()
        self._count = threading.Lock()

    # -- one call -------------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, parameters: dict[str, Any], user: str) -> Any:
        """What the API answers: data, or `(data, total)` of a list with pages.

        :raises Refused: any other answer
        """
        found = schema.find(method, path)
        if found is None:
            if method not in ("GET", "POST", "PUT", "DELETE"):
                raise Refused(501, f"method '{method}' not available")
            raise Refused(501, f"Method '{method} {path}' not implemented")
        key, placeholders = found
        endpoint = schema.ENDPOINTS[key]
        token = self.tokens[user]
        token.pools = self.cluster.pools
        with self._count:
            self.calls[key] += 1
            self.seen.append((time.monotonic(), method, path))
        time.sleep(self.delay)
        doubled = {name: f"duplicate parameter (already defined in URI) with conflicting values '{value}'"
                   for name, value in placeholders.items() if str(parameters.get(name, value)) != value}
        if doubled:
            raise Refused(400, "Parameter verification failed.", doubled)
        everything = {**parameters, **placeholders}
        self._may(endpoint, everything, token)
        node = placeholders.get("node")
        if node is not None and endpoint.get("proxyto") == "node":
            self._reach(node)
        wrong = schema.errors(key, everything)
        if wrong:
            raise Refused(400, "Parameter verification failed.", wrong)
        return self._carry_out(key, endpoint, node, everything, user)

    def _carry_out(self, key: str, endpoint: dict, node: str | None, everything: dict[str, Any], user: str) -> Any:
        call = _CALLS.get(key)
        if call is None:
            raise Refused(501, f"the stand-in has no {key}")
        if not endpoint.get("protected") or node not in self.workers:
            return call(self, everything, user)
        began = time.monotonic()
        if not self.workers[node].acquire(timeout=self.proxy_timeout):
            raise Refused(596, "Connection timed out")
        writing = key.split(" ")[0] != "GET"
        try:
            with self._count:
                self._writing[node] += writing
                self.busiest[node] = max(self.busiest[node], self._writing[node])
            answer = call(self, everything, user)
        finally:
            with self._count:
                self._writing[node] -= writing
            self.workers[node].release()
        if time.monotonic() - began > self.proxy_timeout:
            raise Refused(596, "Connection timed out")
        return answer

    @classmethod
    def _may(cls, endpoint: dict, parameters: dict[str, Any], token: Token) -> None:
        if endpoint.get("check") is not None:
            cls._allowed(endpoint["check"], parameters, token)

    @classmethod
    def _allowed(cls, check: list, parameters: dict[str, Any], token: Token) -> None:
        if check[0] == "and":
            for one in check[1:]:
                cls._allowed(one, parameters, token)
        elif check[0] == "or":
            if not any(cls._holds(one, parameters, token) for one in check[1:]):
                raise Refused(403, "Permission check failed")  # it doesn't say which
        elif check[0] == "perm" and not cls._holds(check, parameters, token):
            raise Refused(403, "Permission check failed (%s, %s)" % (
                cls._path(check, parameters), ("|" if "any" in check[3:] else ", ").join(check[2])))

    @staticmethod
    def _path(check: list, parameters: dict[str, Any]) -> str:
        return re.sub(r"\{(\w+)\}", lambda m: str(parameters.get(m.group(1), "")), check[1])

    @classmethod
    def _holds(cls, check: list, parameters: dict[str, Any], token: Token) -> bool:
        if "require_param" in check[3:] and check[check.index("require_param") + 1] not in parameters:
            return False
        held = [token.may(cls._path(check, parameters), privilege) for privilege in check[2]]
        return any(held) if "any" in check[3:] else all(held)

    def _reach(self, node: str) -> None:
        state = self.cluster.nodes.get(node)
        if state is None:
            raise Refused(500, f"hostname lookup '{node}' failed - failed to get address info for: {node}: "
                               "Temporary failure in name resolution")
        if state != "online":
            raise Refused(595, "No route to host")

    def guest(self, key: str, p: dict[str, Any]) -> Guest:
        return self.cluster.guest(_GUEST.search(key).group(1), int(p["vmid"]), p["node"])

    def visible(self, user: str) -> list[Guest]:
        token = self.tokens[user]
        return [guest for _, guest in sorted(self.cluster.guests.items()) if token.may(f"/vms/{guest.vmid}", "VM.Audit")]


_CALLS: dict[str, Callable[[Api, dict[str, Any], str], Any]] = {}


def on(*keys: str):
    """Say which endpoints a function serves; `{kind}` stands for qemu and lxc."""
    def note(function):
        for key in keys:
            for kind in ("qemu", "lxc") if "{kind}" in key else ("",):
                _CALLS[key.replace("{kind}", kind)] = _bound(function, key.replace("{kind}", kind))
        return function
    return note


def _bound(function, key):
    return lambda api, p, user: function(api, p, user, key)


def _without_place(p: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in p.items() if k not in ("node", "vmid", "pos", "group", "name", "cidr")}


# -- cluster and nodes -----------------------------------------------------------------------------------------------


@on("GET /version")
def _version(api, p, user, key):
    return VERSION


_ALWAYS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")  # paths that are told of besides those of roles


@on("GET /access/permissions")
def _permissions(api, p, user, key):
    token = api.tokens.get(p.get("userid", user), Token("", {"/": {EVERYTHING}}))
    token.pools = api.cluster.pools
    members = {f"/vms/{vmid}" for pool in api.cluster.pools.values() for vmid in pool["vms"]}
    paths = [p["path"]] if "path" in p else sorted({*_ALWAYS, *token.acl, *token.alone, *members})
    out = {}
    for path in paths:
        held = token.privileges(path)
        if EVERYTHING in held:
            held = (held - {EVERYTHING}) | {"VM.Audit", "VM.Config.Network", "VM.Config.CPU", "VM.Config.Options", "VM.PowerMgmt",
                                           "Sys.Audit", "Sys.Modify", "SDN.Use", "VM.Clone", "VM.Allocate", "VM.Config.Disk",
                                           "VM.Config.Memory", "VM.Config.Cloudinit", "VM.Config.HWType",
                                           "Datastore.AllocateSpace", "Datastore.Audit"}
        if held:
            below = token._given(path) - token.alone.get(path, set())
            out[path] = {privilege: int(privilege in below or EVERYTHING in below) for privilege in sorted(held)}
    return out


@on("GET /access/ticket")
def _no_ticket(api, p, user, key):
    return None


@on("POST /access/ticket")
def _ticket(api, p, user, key):
    raise Refused(401, "authentication failure")


@on("GET /cluster/resources")
def _resources(api, p, user, key):
    kind = p.get("type")
    rows = []
    if kind in (None, "vm"):
        rows += [api.cluster.resource(guest) for guest in api.visible(user)]
    if kind in (None, "node"):
        rows += [{"id": f"node/{name}", "type": "node", "node": name, "status": state} for name, state in api.cluster.nodes.items()]
    return rows


@on("GET /cluster/status")
def _cluster_status(api, p, user, key):
    return [{"type": "cluster", "id": "cluster", "name": "lab", "nodes": len(api.cluster.nodes), "quorate": int(api.cluster.quorate)},
            *({"type": "node", "id": f"node/{n}", "name": n, "online": int(s == "online")} for n, s in api.cluster.nodes.items())]


@on("GET /cluster/options")
def _cluster_options(api, p, user, key):
    return dict(api.cluster.options)


@on("PUT /cluster/options")
def _set_cluster_options(api, p, user, key):
    for name in schema.split_list(p.pop("delete", "") or ""):
        api.cluster.options.pop(name, None)
    for name, value in p.items():
        api.cluster.options[name] = schema.split_list(value) if name == "registered-tags" else value


@on("GET /cluster/nextid")
def _nextid(api, p, user, key):
    if "vmid" in p:
        if int(p["vmid"]) in api.cluster.guests:
            raise Refused(400, "Parameter verification failed.", {"vmid": f"VM {p['vmid']} already exists"})
        return str(p["vmid"])
    return str(next(n for n in range(100, 10000) if n not in api.cluster.guests))


@on("GET /nodes")
def _nodes(api, p, user, key):
    return [{"node": n, "id": f"node/{n}", "type": "node", "status": s, "level": ""} for n, s in api.cluster.nodes.items()]


@on("GET /nodes/{node}/status")
def _node_status(api, p, user, key):
    return {"uptime": 1000, "pveversion": "pve-manager/9.2.11/14a22df3", "loadavg": ["0.1", "0.1", "0.1"]}


@on("GET /nodes/{node}/network")
def _network(api, p, user, key):
    return [{"iface": "vmbr0", "type": "bridge", "active": 1}]


@on("GET /nodes/{node}/qemu", "GET /nodes/{node}/lxc")
def _list(api, p, user, key):
    rows = []
    for guest in api.visible(user):
        if guest.kind == key.rpartition("/")[2] and guest.node == p["node"]:
            row = api.cluster.status(guest)
            row.pop("ha")
            if str(p.get("full", "0")) != "1":
                row.pop("qmpstatus", None)
            rows.append(row)
    return rows


@on("POST /nodes/{node}/qemu", "POST /nodes/{node}/lxc")
def _create(api, p, user, key):
    token = api.tokens[user]
    storages = [str(v).partition(":")[0] for k, v in p.items() if re.fullmatch(r"(?:scsi|virtio|sata|ide|mp)\d+|rootfs", k)]
    pool = p.get("pool")
    api.cluster.pool_exists(pool)
    if not token.may(f"/vms/{p['vmid']}", "VM.Allocate") and not (pool and token.may(f"/pool/{pool}", "VM.Allocate")):
        raise Refused(403, "Permission check failed")
    asked = api.cluster.needed_privileges(Guest(int(p["vmid"]), key.rpartition("/")[2], p["node"], {}),
                                          {k: v for k, v in _without_place(p).items() if not k.startswith("net")})
    for path, privilege in asked:
        if not (pool and any(token.may(f"/pool/{pool}", one) for one in privilege.split("|"))):
            _require(token, [(path, privilege)])
    needed = [(f"/storage/{one}", "Datastore.AllocateSpace") for one in storages]
    if "ostemplate" in p:
        needed += [(f"/storage/{p['ostemplate'].partition(':')[0]}", "Datastore.Audit")]
    for key_, value in p.items():
        if re.fullmatch(r"net\d+", key_):
            needed += bridge_privileges(value)
    _require(token, needed)
    return api.cluster.create(key.rpartition("/")[2], p["node"], {k: v for k, v in p.items() if k != "node"}, user)


def _require(token: Token, needed: list[tuple[str, str]]) -> None:
    """Refuse what a token has no right to; `A|B` is satisfied by either."""
    for path, privilege in needed:
        if not any(token.may(path, one) for one in privilege.split("|")):
            raise Refused(403, f"Permission check failed ({path}, {privilege})")


@on("GET /nodes/{node}/storage/{storage}/status")
def _storage_status(api, p, user, key):
    return api.cluster.storage(p["storage"], p["node"]).shown()


@on("GET /nodes/{node}/storage/{storage}/content")
def _storage_content(api, p, user, key):
    api.cluster.storage(p["storage"], p["node"])
    seen = api.tokens[user].may(f"/storage/{p['storage']}", "Datastore.Allocate")  # or snippets are left out
    return [{"volid": volume, "content": "snippets", "format": "snippet", "size": 1} for volume in sorted(api.cluster.snippets)
            if seen and volume.partition(":")[0] == p["storage"] and p.get("content") in (None, "snippets")]


@on("DELETE /nodes/{node}/{kind}/{vmid}")
def _destroy(api, p, user, key):
    return api.cluster.destroy(api.guest(key, p), user)


@on("POST /nodes/{node}/{kind}/{vmid}/clone")
def _clone(api, p, user, key):
    guest = api.guest(key, p)
    _require(api.tokens[user], api.cluster.clone_privileges(guest, p))
    return api.cluster.clone(guest, p, user)


@on("PUT /nodes/{node}/{kind}/{vmid}/resize")
def _resize(api, p, user, key):
    return api.cluster.resize(api.guest(key, p), p, user)


# -- guests ----------------------------------------------------------------------------------------------------------


@on("GET /nodes/{node}/{kind}/{vmid}/config")
def _config(api, p, user, key):
    return api.cluster.config(api.guest(key, p), str(p.get("current", "0")) == "1")


@on("GET /nodes/{node}/{kind}/{vmid}/pending")
def _pending(api, p, user, key):
    return api.cluster.pending(api.guest(key, p))


@on("PUT /nodes/{node}/{kind}/{vmid}/config", "POST /nodes/{node}/qemu/{vmid}/config")
def _change(api, p, user, key):
    guest = api.guest(key, p)
    token = api.tokens[user]
    _require(token, api.cluster.needed_privileges(guest, _without_place(p)))
    for volume in (schema.cloudinit_files(str(p["cicustom"])) or {}).values() if "cicustom" in p else ():
        where, _, name = volume.partition(":")
        api.cluster.storage(where, guest.node)
        if not name.startswith("snippets/"):
            raise Refused(500, f"unable to use volume {volume} - content type needs to be 'snippets'")
        if not token.may(f"/storage/{where}", "Datastore.Allocate"):
            raise Refused(500, f"missing privileges to access {volume}")
    registered = set(api.cluster.options.get("registered-tags", ()))
    if registered and ("tags" in p or "tags" in schema.split_list(p.get("delete", "") or "")):
        before = set(schema.split_list(guest.config.get("tags", "")))
        after = {tag.lower() for tag in schema.split_list(str(p.get("tags", "")))}
        if (before ^ after) & registered and not token.may("/", "Sys.Modify"):
            raise Refused(403, "Permission check failed (/, Sys.Modify)")
    if key.startswith("POST"):
        carry_out = api.cluster.change(guest, p, user)

        def work(_task) -> None:
            carry_out()
        return api.cluster.task(guest.node, "qmconfig", str(guest.vmid), user, work)
    api.cluster.hold_file(guest)
    try:
        with api.cluster.lock:
            api.cluster.change(guest, p, user)()
    finally:
        guest.file_lock.release()
    return None


@on("GET /nodes/{node}/{kind}/{vmid}/status")
def _status_index(api, p, user, key):
    api.guest(key, p)
    verbs = ["current", "start", "stop", "shutdown", "reboot"] + (["reset", "suspend"] if "qemu" in key else ["migrate"])
    return [{"subdir": verb} for verb in verbs]


@on("GET /nodes/{node}/{kind}/{vmid}/status/current")
def _status(api, p, user, key):
    return api.cluster.status(api.guest(key, p))


@on(*(f"POST /nodes/{{node}}/{{kind}}/{{vmid}}/status/{verb}" for verb in ("start", "stop", "shutdown", "suspend", "resume", "reboot")),
    "POST /nodes/{node}/qemu/{vmid}/status/reset")
def _power(api, p, user, key):
    kind, verb = _GUEST.search(key).group(1), key.rpartition("/")[2]
    try:
        guest = api.guest(key, p)
    except Refused:
        guest = None
    if verb == "suspend" and str(p.get("todisk", "0")) == "1" and not api.tokens[user].may(f"/vms/{p['vmid']}", "VM.Config.Disk"):
        raise Refused(403, f"Permission check failed (/vms/{p['vmid']}, VM.Config.Disk)")
    return api.cluster.power(guest, kind, int(p["vmid"]), p["node"], verb, p, user)


@on("GET /nodes/{node}/{kind}/{vmid}/rrddata")
def _rrd(api, p, user, key):
    if int(p["vmid"]) not in api.cluster.guests:
        raise Refused(500, "RRD error: rrdcached@unix:/var/run/rrdcached.sock: rrd_fetch_r failed: No such file or directory")
    return [{"time": int(time.time()) - 60 * n} for n in range(60)]


# -- tasks -----------------------------------------------------------------------------------------------------------


def _task_of(api, p, user):
    upid = p["upid"]
    if not re.fullmatch(r"UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:]+:[^:]*:[^:]+:", upid):
        raise Refused(400, "Parameter verification failed.", {"upid": "unable to parse worker upid"})
    task = api.cluster.tasks.get(upid)
    owner = (task.user if task else upid.rstrip(":").rpartition(":")[2]).partition("!")[0]
    if owner != user.partition("!")[0] and not api.tokens[user].may(f"/nodes/{p['node']}", "Sys.Audit"):
        raise Refused(403, f"Permission check failed (/nodes/{p['node']}, Sys.Audit)")
    return task


@on("GET /nodes/{node}/tasks/{upid}/status")
def _task_status(api, p, user, key):
    task = _task_of(api, p, user)
    if task is None:
        raise Refused(400, "Parameter verification failed.", {"upid": "no such task"})
    return api.cluster.task_state(task)


@on("GET /nodes/{node}/tasks/{upid}/log")
def _task_log(api, p, user, key):
    task = _task_of(api, p, user)
    lines = task.log if task else ["unable to open file - No such file or directory"]
    return [{"n": number, "t": text} for number, text in enumerate(lines, 1)], len(lines)


@on("GET /nodes/{node}/tasks/{upid}")
def _task_index(api, p, user, key):
    return [{"name": "log"}, {"name": "status"}]


@on("DELETE /nodes/{node}/tasks/{upid}")
def _task_stop(api, p, user, key):
    task = _task_of(api, p, user)
    if task is not None and task.exit is None:
        task.exit = "received interrupt"


@on("GET /nodes/{node}/tasks", "GET /cluster/tasks")
def _tasks(api, p, user, key):
    token = api.tokens[user]
    rows = []
    for task in reversed(list(api.cluster.tasks.values())):
        if "node" in p and task.node != p["node"] or "vmid" in p and task.target != str(p["vmid"]):
            continue
        if task.user.partition("!")[0] != user.partition("!")[0] and not token.may(f"/nodes/{task.node}", "Sys.Audit"):
            continue
        state = api.cluster.task_state(task)
        if task.exit is not None:
            state.update(status=state.pop("exitstatus"), endtime=int(task.ended))
        rows.append(state)
    total = len(rows)
    start, limit = int(p.get("start", 0)), int(p.get("limit", 50))
    return (rows[start:start + limit], total) if "node" in p else rows


# -- high availability, pools ------------------------------------------------------------------------------------------


@on("GET /cluster/ha/resources")
def _ha_list(api, p, user, key):
    return [{"sid": sid, **one} for sid, one in sorted(api.cluster.ha.items())]


@on("POST /cluster/ha/resources")
def _ha_add(api, p, user, key):
    sid = p["sid"] if ":" in p["sid"] else f"vm:{p['sid']}"
    if sid in api.cluster.ha:
        raise Refused(500, f"resource ID '{sid}' already defined")
    api.cluster.ha[sid] = {"type": sid.partition(":")[0], "state": p.get("state", "started"), "failback": 1}
    api.cluster.guests[int(sid.partition(":")[2])].ha = p.get("state", "started")


@on("GET /cluster/ha/resources/{sid}")
def _ha_get(api, p, user, key):
    if p["sid"] not in api.cluster.ha:
        raise Refused(500, f"no such resource '{p['sid']}'")
    return {"sid": p["sid"], **api.cluster.ha[p["sid"]]}


@on("PUT /cluster/ha/resources/{sid}")
def _ha_set(api, p, user, key):
    _ha_get(api, p, user, key)
    if "state" in p:
        api.cluster.ha[p["sid"]]["state"] = p["state"]


@on("DELETE /cluster/ha/resources/{sid}")
def _ha_delete(api, p, user, key):
    _ha_get(api, p, user, key)
    del api.cluster.ha[p["sid"]]
    api.cluster.guests[int(p["sid"].partition(":")[2])].ha = None


@on("GET /cluster/ha/status/current")
def _ha_status(api, p, user, key):
    return [{"id": "quorum", "type": "quorum", "quorate": int(api.cluster.quorate), "status": "OK"}]


@on("GET /pools")
def _pools(api, p, user, key):
    return [{"poolid": name} for name in sorted(api.cluster.pools)]


@on("POST /pools")
def _pool_add(api, p, user, key):
    if p["poolid"] in api.cluster.pools:
        raise Refused(500, f"pool '{p['poolid']}' already exists")
    api.cluster.pools[p["poolid"]] = {"poolid": p["poolid"], "vms": set()}


@on("GET /pools/{poolid}")
def _pool(api, p, user, key):
    if p["poolid"] not in api.cluster.pools:
        raise Refused(500, f"pool '{p['poolid']}' does not exist")
    pool = api.cluster.pools[p["poolid"]]
    return {"members": [api.cluster.resource(api.cluster.guests[vmid]) for vmid in sorted(pool["vms"])]}


@on("PUT /pools/{poolid}", "PUT /pools")
def _pool_change(api, p, user, key):
    if p["poolid"] not in api.cluster.pools:
        raise Refused(500, f"pool '{p['poolid']}' does not exist")
    for text in schema.split_list(p.get("vms", "")):
        api.cluster.pools[p["poolid"]]["vms"].add(int(text))


# -- firewall --------------------------------------------------------------------------------------------------------


def _file(api, p, key):
    if key.partition(" ")[2].startswith("/cluster/"):
        return api.cluster.firewall.cluster
    guest = _GUEST.search(key)
    if guest:
        return api.cluster.firewall.of_guest(int(p["vmid"]), guest.group(1))
    return api.cluster.firewall.of_host(p["node"])


_PLACES = ("/cluster/firewall", "/nodes/{node}/firewall", "/nodes/{node}/{kind}/{vmid}/firewall")
_OF_GUESTS = _PLACES[2]


def _writing(api):
    api.cluster.writable()
    return api.cluster.firewall.lock


@on("GET /cluster/firewall", "GET /nodes/{node}/{kind}/{vmid}/firewall", "GET /nodes/{node}/firewall")
def _firewall_index(api, p, user, key):
    return [{"name": name} for name in ("rules", "aliases", "ipset", "refs", "options")]


@on(*(f"GET {place}/options" for place in _PLACES))
def _options(api, p, user, key):
    return api.cluster.firewall.options(_file(api, p, key))


@on(*(f"PUT {place}/options" for place in _PLACES))
def _set_options(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.set_options(_file(api, p, key), _without_place(p), set(schema.ENDPOINTS[key]["parameters"]))


@on(*(f"GET {place}/rules" for place in _PLACES), "GET /cluster/firewall/groups/{group}")
def _rules(api, p, user, key):
    file = _file(api, p, key)
    return api.cluster.firewall.list_rules(file, api.cluster.firewall.group(p["group"]) if "group" in p else file.rules)


@on(*(f"POST {place}/rules" for place in _PLACES), "POST /cluster/firewall/groups/{group}")
def _add_rule(api, p, user, key):
    file = _file(api, p, key)
    with _writing(api):
        rules = api.cluster.firewall.group(p["group"]) if "group" in p else file.rules
        api.cluster.firewall.add_rule(file, rules, "group" if "group" in p else file.environment, _without_place(p))


@on(*(f"GET {place}/rules/{{pos}}" for place in _PLACES), "GET /cluster/firewall/groups/{group}/{pos}")
def _rule(api, p, user, key):
    file = _file(api, p, key)
    return api.cluster.firewall.rule(file, api.cluster.firewall.group(p["group"]) if "group" in p else file.rules, int(p["pos"]))


@on(*(f"PUT {place}/rules/{{pos}}" for place in _PLACES), "PUT /cluster/firewall/groups/{group}/{pos}")
def _change_rule(api, p, user, key):
    file = _file(api, p, key)
    with _writing(api):
        rules = api.cluster.firewall.group(p["group"]) if "group" in p else file.rules
        api.cluster.firewall.change_rule(
            file, rules, "group" if "group" in p else file.environment, int(p["pos"]), _without_place(p))


@on(*(f"DELETE {place}/rules/{{pos}}" for place in _PLACES), "DELETE /cluster/firewall/groups/{group}/{pos}")
def _delete_rule(api, p, user, key):
    file = _file(api, p, key)
    with _writing(api):
        rules = api.cluster.firewall.group(p["group"]) if "group" in p else file.rules
        api.cluster.firewall.delete_rule(file, rules, int(p["pos"]), p.get("digest"))


@on("GET /cluster/firewall/ipset", f"GET {_OF_GUESTS}/ipset")
def _sets(api, p, user, key):
    return api.cluster.firewall.list_sets(_file(api, p, key))


@on("POST /cluster/firewall/ipset", f"POST {_OF_GUESTS}/ipset")
def _make_set(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.make_set(_file(api, p, key), p)


@on("GET /cluster/firewall/ipset/{name}", f"GET {_OF_GUESTS}/ipset/{{name}}")
def _entries(api, p, user, key):
    return api.cluster.firewall.entries(_file(api, p, key), p["name"])


@on("POST /cluster/firewall/ipset/{name}", f"POST {_OF_GUESTS}/ipset/{{name}}")
def _add_entry(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.add_entry(_file(api, p, key), p["name"], p)


@on("DELETE /cluster/firewall/ipset/{name}", f"DELETE {_OF_GUESTS}/ipset/{{name}}")
def _delete_set(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.delete_set(_file(api, p, key), p["name"], p)


@on("GET /cluster/firewall/ipset/{name}/{cidr}", f"GET {_OF_GUESTS}/ipset/{{name}}/{{cidr}}")
def _entry(api, p, user, key):
    return api.cluster.firewall.entry(_file(api, p, key), p["name"], p["cidr"])


@on("PUT /cluster/firewall/ipset/{name}/{cidr}", f"PUT {_OF_GUESTS}/ipset/{{name}}/{{cidr}}")
def _change_entry(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.change_entry(_file(api, p, key), p["name"], p["cidr"], p)


@on("DELETE /cluster/firewall/ipset/{name}/{cidr}", f"DELETE {_OF_GUESTS}/ipset/{{name}}/{{cidr}}")
def _delete_entry(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.delete_entry(_file(api, p, key), p["name"], p["cidr"], p.get("digest"))


@on("GET /cluster/firewall/aliases")
def _aliases(api, p, user, key):
    return api.cluster.firewall.list_aliases(_file(api, p, key))


@on("POST /cluster/firewall/aliases")
def _make_alias(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.make_alias(_file(api, p, key), p)


@on("GET /cluster/firewall/aliases/{name}")
def _alias(api, p, user, key):
    return api.cluster.firewall.alias(_file(api, p, key), p["name"])


@on("PUT /cluster/firewall/aliases/{name}")
def _change_alias(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.change_alias(_file(api, p, key), p["name"], p)


@on("DELETE /cluster/firewall/aliases/{name}")
def _delete_alias(api, p, user, key):
    with _writing(api):
        _file(api, p, key).aliases.pop(p["name"].lower(), None)


@on("GET /cluster/firewall/groups")
def _groups(api, p, user, key):
    return api.cluster.firewall.list_groups()


@on("POST /cluster/firewall/groups")
def _make_group(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.make_group(p)


@on("DELETE /cluster/firewall/groups/{group}")
def _delete_group(api, p, user, key):
    with _writing(api):
        api.cluster.firewall.delete_group(p["group"])


@on("GET /cluster/firewall/refs", f"GET {_OF_GUESTS}/refs")
def _refs(api, p, user, key):
    return [{"type": "ipset", "name": name, "ref": f"+{name}", "scope": "dc"} for name in sorted(api.cluster.firewall.cluster.ipsets)]


@on(f"GET {_OF_GUESTS}/log")
def _firewall_log(api, p, user, key):
    return [{"n": 1, "t": "unable to open file - No such file or directory"}], 1


# -- HTTP ------------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two would wait for each other
    api: Api

    def log_message(self, *_args):
        pass

    def _user(self) -> str:
        header = self.headers.get("Authorization", "")
        if not header.startswith("PVEAPIToken="):
            time.sleep(self.api.auth_delay)
            raise Refused(401, "No ticket")
        name, _, secret = header.removeprefix("PVEAPIToken=").partition("=")
        token = self.api.tokens.get(name)
        if token is None or token.secret != secret:
            time.sleep(self.api.auth_delay)
            raise Refused(401, "Authentication failed!")
        return name

    def _parameters(self, query: str) -> dict[str, Any]:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        if body and kind and not kind.startswith(("application/json", "application/x-www-form-urlencoded")):
            raise Refused(506, f"upload 'Content-Type '{kind}' not implemented")
        if body and kind.startswith("application/json"):
            try:
                return json.loads(body)
            except ValueError as exc:
                raise _Plain(500, str(exc)) from exc
        text = body.decode() if body and self.command in ("POST", "PUT") else query
        found: dict[str, Any] = {}
        for part in re.split("[&;]", text):
            if part:
                name, _, value = part.partition("=")
                name, value = urllib.parse.unquote_plus(name), urllib.parse.unquote_plus(value)
                found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value] if name in found else value
        return found

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        path = re.sub("/+", "/", path)
        for prefix in ("/api2/json", "/api2/extjs"):
            path = path.removeprefix(prefix)
        path = path.rstrip("/") or "/"
        parameters = None
        try:
            parameters = self._parameters(query)
            user = "nobody" if path == "/access/ticket" else self._user()
            if user == "nobody":
                self.api.tokens.setdefault("nobody", Token(""))
            rule = next((rule for rule in self.api.rules if rule.fits(self.command, path)), None)
            if rule:
                rule.times -= 1
                if rule.before:
                    rule.before()
                if rule.html:
                    raise _Plain(500, "<html><body>Internal Server Error</body></html>", "text/html")
                if rule.refuse:
                    raise rule.refuse
                time.sleep(rule.late)
            answer = self.api.handle(self.command, path, parameters, user)
            if rule and rule.cut:
                raise Refused(596, "Connection timed out")
            body = {"data": answer[0], "total": answer[1]} if isinstance(answer, tuple) else {"data": answer}
            self._answer(200, "OK", json.dumps(body))
        except _Plain as exc:
            self._answer(exc.status, "Internal Server Error", exc.text, exc.kind)
        except Refused as exc:
            first = exc.message.split("\n")[0]
            if exc.status in (401, 595, 596) and path != "/access/ticket":
                self._answer(exc.status, first, "")
                return
            body: dict[str, Any] = {"data": None}
            if self.api.message_in_body:
                body["message"] = exc.message if exc.status == 501 else exc.message + "\n"
            if exc.errors:
                body["errors"] = exc.errors
            self._answer(exc.status, first, json.dumps(body))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def _answer(self, status: int, reason: str, text: str, kind: str = "application/json;charset=UTF-8") -> None:
        data = text.encode()
        try:
            self.send_response(status, reason.encode("latin-1", "replace").decode("latin-1"))
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True  # it didn't wait; what it asked for was done


class _Plain(Exception):
    def __init__(self, status: int, text: str, kind: str = "text/plain"):
        super().__init__(text)
        self.status, self.text, self.kind = status, text, kind


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def get_request(self):
        connection, address = super().get_request()
        # The handshake is the thread's: one client that doesn't shake hands must not keep others waiting.
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        pass  # a client that refused the certificate or went away


def certificate(directory: Path, name: str = "127.0.0.1") -> tuple[Path, str]:
    """A self-signed certificate for 127.0.0.1 with its key in one file, and its SHA-256 fingerprint."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, hashes.SHA256()))
    path = directory / "server.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
                     + made.public_bytes(serialization.Encoding.PEM))
    (directory / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path, ":".join(f"{byte:02X}" for byte in made.fingerprint(hashes.SHA256()))


@dataclass
class Running:
    """A server that answers."""

    api: Api
    host: str
    port: int
    ca_file: Path
    fingerprint: str


@contextmanager
def serve(cluster: Cluster, directory: Path, tokens: dict[str, Token]) -> Iterator[Running]:
    """The cluster's API on a port of 127.0.0.1, until the block ends."""
    api = Api(cluster)
    api.tokens.update(tokens)
    pem, fingerprint = certificate(directory)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(pem)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Running(api, "127.0.0.1", server.server_address[1], directory / "ca.pem", fingerprint)
    finally:
        server.shutdown()
        server.server_close()
