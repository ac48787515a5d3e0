# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider with one cluster: a ledger with a release, and runs on both. `site.py` has clusters known by their API alone."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import hold, release_files, release_hold
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import Client, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._cluster import ProxmoxCluster
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._converge import ClusterConverge
from tests.proxmox.cluster import Cluster, Guest
from tests.proxmox.server import Running, Token, serve

SECRET = "11111111-2222-4333-8444-555555555555"
# docs/proxmox.md, "The token's role": what the whole job needs and nothing more.
ROLE = {"VM.Audit", "VM.Config.Network", "VM.Config.CPU", "VM.Config.Options", "VM.PowerMgmt", "Sys.Audit"}
# What guests made by order need besides, in two roles more.
MAKING = {"VM.Allocate", "VM.Clone", "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory"}
POLICY = """
schema: 1
name: lab
version: "1"
effective: 2026-01-01
provider: {name: Lab Hosting}
extends: default
locations: [main]
controls:
  smtp_outbound: {adoption: {mode: enforce}}
  anti_spoofing: {adoption: {mode: enforce}}
networks:
  smarthosts: [192.0.2.200, "2001:db8:1::200"]
  rescue: [203.0.113.0/24, "2001:db8:aa::/64"]
guardrails: {max_services_per_run: 2000}
"""


def token() -> Token:
    """The least that does the job."""
    return Token(SECRET, {"/": set(ROLE), "/sdn/zones/localnetwork": {"SDN.Use"}}, alone={"/": {"Sys.Modify"}})


def maker_token() -> Token:
    """The least that makes guests as well."""
    made = token()
    made.acl["/"] |= MAKING
    made.acl["/storage"] = {"Datastore.AllocateSpace", "Datastore.Audit"}
    return made


def service(vmid: int, kind: str = "qemu", nics: int = 1) -> dict[str, Any]:
    """A service of the catalogue."""
    return {
        "id": f"vps-{vmid}", "customer": f"c-{vmid}", "account_type": "personal", "location": "main", "nodes": ["pve"], "pool": None,
        "guest": {"name": f"guest{vmid}", "uuid": None, "vmid": vmid},
        "nics": [{"mac": mac(vmid, nic), "addresses": [f"192.0.2.{vmid % 100 + 10 + 50 * nic}", f"2001:db8:1::{nic}:{vmid}"],
                  "prefixes": [], "shared": [], "floating": []} for nic in range(nics)],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}


def mac(vmid: int, nic: int = 0) -> str:
    return f"bc:24:11:{nic:02x}:{vmid // 256:02x}:{vmid % 256:02x}"


def guest(vmid: int, kind: str = "qemu", node: str = "pve1", nics: int = 1, running: bool = True, **config: str) -> Guest:
    """A guest as a customer has it."""
    base = {"name": f"guest{vmid}", "memory": "128", "cores": "2", "onboot": "1", "ostype": "l26"} if kind == "qemu" else \
        {"hostname": f"guest{vmid}", "memory": "128", "swap": "0", "cores": "2", "onboot": "1", "ostype": "debian"}
    for nic in range(nics):
        address = mac(vmid, nic).upper()
        base[f"net{nic}"] = f"virtio={address},bridge=vmbr0,firewall=1" if kind == "qemu" else \
            f"name=eth{nic},bridge=vmbr0,firewall=1,hwaddr={address},type=veth"
    base.update(config)
    return Guest(vmid, kind, node, {key: value for key, value in base.items() if value is not None}, running=running)


def codes(result: dict) -> dict[str | None, str]:
    """What failed, by service; None for the cluster itself."""
    return {error["service"]: error["code"] for error in result["errors"]}


def firewalled(cluster: Cluster) -> Cluster:
    """The cluster-wide switch on, as an operator has it who uses the firewall."""
    cluster.firewall.cluster.options.update(enable=1, policy_in="ACCEPT")
    return cluster


class Runs:
    """A provider's ledger and policy, and runs on one cluster; each converges the whole of it unless told otherwise."""

    settle = 0.0

    def __init__(self, ledger, place: Path, policy: str = POLICY):
        self.ledger, self.place = ledger, place
        self.clock = itertools.count(int(time.time()))
        self.services: dict[str, Any] = {}
        self.node = {"backend": "proxmox", "location": "main", "pool": None, "uplinks": [], "bridges": [], "routed_interfaces": [],
                     "address": "127.0.0.1", "vars": {}, "proxmox": {"replug": False}}
        self.under(policy)

    def under(self, policy: str) -> None:
        """Go on under this policy."""
        (self.place / "lab.yml").write_text(policy)
        self.policy = load_policy(str(self.place / "lab.yml"))

    def client(self, **changes: Any) -> Client:
        """A client of the cluster's API; `changes` of its `Target`."""
        raise NotImplementedError

    def write(self, verb, *args, **named):
        with self.ledger.transaction(actor="tester", now=next(self.clock)) as tx:
            return verb(tx, *args, **named)

    def read(self, reader, *args):
        with self.ledger.read() as tx:
            return getattr(tx, reader)(*args)

    def converge(self, run_id: str, check: bool = False, only=None, client: Client | None = None, **wanted: Any) -> dict[str, Any]:
        return ClusterConverge(
            self.ledger, ProxmoxCluster(client or self.client(), only, settle=self.settle), "tester", self.clock.__next__, check,
            str(self.place / "locks")).run(Wanted(node="pve", run_id=run_id, **wanted))

    def document(self) -> dict[str, Any]:
        return {"format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24", "2001:db8:1::/48"], "nodes": {"pve": self.node},
                "services": copy.deepcopy(self.services)}

    def provision(self, check: bool = False, **named: Any) -> dict[str, Any]:
        done = self.write(release_files, self.policy, {self.policy.key: self.policy}, self.document())
        return self.converge(done["run_id"], check=check, release_id=done["release_id"], **named)

    def ask(self, kind: str, *ids: str, case: str = "T-1", **options: Any) -> str:
        """Open an enforcement; the run that is to carry it out."""
        duration = None if kind == "terminate" else "48h"
        if kind == "terminate":  # two people have to ask for it
            with self.ledger.transaction(actor="another", now=next(self.clock)) as tx:
                hold(tx, kind, list(ids), "attack_target", case=case, **options)
        return self.write(hold, kind, list(ids), "attack_target", case=case, duration=duration, **options)["run_id"]

    def enforce(self, kind: str, *ids: str, case: str = "T-1", only=None, client=None, **options: Any) -> dict[str, Any]:
        return self.converge(self.ask(kind, *ids, case=case, **options), only=only, client=client)

    def lift(self, *ids: str, client=None, only=None, **named: Any) -> dict[str, Any]:
        lifted = self.write(release_hold, list(ids), **named)
        return self.converge(lifted["run_id"], client=client, only=only)

    def retire(self, **named: Any) -> dict[str, Any]:
        run = self.write(lambda tx: tx.start_run("retire"))
        return self.converge(run["run_id"] if isinstance(run, dict) else run, absent=True, **named)

    def again(self, **named: Any) -> dict[str, Any]:
        """A pass over everything, as reconcile does."""
        run = self.write(lambda tx: tx.start_run("reconcile"))
        return self.converge(run["run_id"] if isinstance(run, dict) else run, **named)

    def statuses(self, sid: str) -> list[str]:
        return [one["status"] for one in self.read("active", sid)]


class Provider(Runs):
    """A provider whose cluster is the stand-in, in this process: what it holds can be looked at, and made to fail."""

    timeout = 20

    def __init__(self, ledger, server: Running, place: Path, policy: str = POLICY):
        super().__init__(ledger, place, policy)
        self.server, self.api, self.cluster = server, server.api, server.api.cluster

    def client(self, **changes: Any) -> Client:
        target = {"host": self.server.host, "port": self.server.port, "user": "svc@pve", "token_name": "aup", "token_value": SECRET,
                  "ca_file": str(self.server.ca_file), "timeout": self.timeout}
        return Client(Target(**{**target, **changes}))

    def state(self) -> dict[str, Any]:
        """All a customer or an operator could see, to be compared before and after."""
        wall = self.cluster.firewall
        return {
            "guests": {vmid: {"config": dict(one.config), "pending": dict(one.pending), "running": one.running, "paused": one.paused,
                              "node": one.node} for vmid, one in sorted(self.cluster.guests.items())},
            "files": {vmid: file.render() for vmid, file in sorted(wall.guests.items()) if file.render()},
            "cluster": wall.cluster.render()}


@contextmanager
def provider(place: Path, cluster: Cluster, policy: str = POLICY, grant: Token | None = None) -> Iterator[Provider]:
    """A provider on this cluster, until the block ends.

    :param grant: the token's rights, if other than the least
    """
    with serve(cluster, place, {"svc@pve!aup": grant or token()}) as server, \
            open_ledger(str(place / "ledger.sqlite3"), create=True) as ledger:
        yield Provider(ledger, server, place, policy)
