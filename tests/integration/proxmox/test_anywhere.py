# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is promised of a cluster, seen through its API alone: on the stand-in in a process of its own, or on a cluster of yours.

    PROXMOX_URL=https://192.0.2.20:8006 PROXMOX_TOKEN='aup@pve!controller=SECRET' PROXMOX_CA_FILE=pve-root-ca.pem \\
    PROXMOX_TEMPLATE=9000 PROXMOX_CT_TEMPLATE=9001 PROXMOX_STORAGE=local-lvm PROXMOX_BRIDGE=vmbr1 python -m pytest tests/integration/proxmox/test_anywhere.py

It makes two guests by order, acts on them alone, and deletes them. docs/proxmox.md has what the token needs.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import ApiError, Client, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._making import SETTLE_SECONDS
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._usage import read_usage

from .provider import Provider

_REPOSITORY = Path(__file__).parents[3]
_TOKEN = re.compile(r"(?P<user>[^!]+)!(?P<name>[^=]+)=(?P<secret>.+)")
GIB = 1 << 30


class Site(Provider):
    """A provider on a cluster that is known by its address; `made` are the numbers of the guests of these tests."""

    def __init__(self, ledger, place: Path, environ: dict[str, str], real: bool):
        super().__init__(ledger, SimpleNamespace(api=SimpleNamespace(cluster=None)), place)
        url, who = urlsplit(environ["PROXMOX_URL"]), _TOKEN.fullmatch(environ["PROXMOX_TOKEN"])
        assert who, "PROXMOX_TOKEN is USER@REALM!NAME=SECRET"
        self.target = Target(
            host=url.hostname, port=url.port or 8006, user=who["user"], token_name=who["name"], token_value=who["secret"],
            ca_file=environ.get("PROXMOX_CA_FILE"), fingerprint=environ.get("PROXMOX_FINGERPRINT"), timeout=60)
        self.settle = SETTLE_SECONDS if real else 0.0
        self.bridge = environ["PROXMOX_BRIDGE"]
        self.node.update(bridges=[self.bridge], creation={
            "images": {kind: {"template": int(environ[key]), "linked": False, "ostemplate": None}
                       for kind, key in (("qemu", "PROXMOX_TEMPLATE"), ("lxc", "PROXMOX_CT_TEMPLATE"))},
            "storage": {"disk": {"storage": environ["PROXMOX_STORAGE"], "node": None, "overcommit": False}}, "resolvers": []})
        stamp = uuid.uuid4().hex[:6]
        self.services = {one["id"]: one for one in (self.ordered("qemu", stamp, 1), self.ordered("lxc", stamp, 2))}
        self.ids = {one["order"]["disk"]["image"]: sid for sid, one in self.services.items()}

    def ordered(self, kind: str, stamp: str, number: int) -> dict[str, Any]:
        name = f"aup-test-{stamp}-{number}"
        mac = "02:%s:%s:%s:00:%02x" % (stamp[:2], stamp[2:4], stamp[4:6], number)
        nic = {"mac": mac, "addresses": [f"192.0.2.{240 + number}", f"2001:db8:1::f{number}"], "prefixes": [], "shared": [], "floating": []}
        return {
            "id": name, "customer": "c-test", "account_type": "personal", "location": "main", "nodes": ["pve"], "pool": None,
            "guest": {"name": name, "uuid": None}, "nics": [nic], "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None,
            "order": {"create": True, "vcpus": 1, "memory_bytes": 512 << 20, "rate_bit_per_second": 80_000_000,
                      "disk": {"size_bytes": self.size(kind), "image": kind, "storage": "disk"},
                      "nics": [{"mac": mac, "bridge": self.bridge, "addresses": [nic["addresses"][0] + "/24", nic["addresses"][1] + "/64"],
                                "gateways": []}],
                      "cloud_init": {"hostname": None, "ssh_keys": [], "user_data": None}}}

    @staticmethod
    def size(kind: str) -> int:
        return 12 * GIB if kind == "qemu" else 6 * GIB

    def client(self, **_changes: Any) -> Client:
        return Client(self.target)

    def row(self, kind: str) -> dict[str, Any] | None:
        name = self.services[self.ids[kind]]["guest"]["name"]
        return next((row for row in self.client().get("cluster", "resources", type="vm") if row.get("name") == name), None)

    def place_of(self, kind: str) -> tuple:
        row = self.row(kind)
        return "nodes", row["node"], row["type"], row["vmid"]

    def seen(self, kind: str) -> dict[str, Any]:
        """All that these tests compare of a guest."""
        place, client = self.place_of(kind), self.client()
        config = {key: value for key, value in client.get(*place, "config").items() if key not in ("digest", "meta")}
        rules = [_firewall.bare(rule) for rule in client.get(*place, "firewall", "rules")]
        options = {key: value for key, value in client.get(*place, "firewall", "options").items() if key != "digest"}
        sets = {one["name"]: sorted(entry["cidr"] for entry in client.get(*place, "firewall", "ipset", one["name"]))
                for one in client.get(*place, "firewall", "ipset")}
        status = client.get(*place, "status", "current")
        return {"config": config, "rules": rules, "options": options, "sets": sets, "power": status.get("qmpstatus") or status["status"]}

    def ours(self) -> list[str]:
        client = self.client()
        return [one["group"] for one in client.get("cluster", "firewall", "groups") if _firewall.is_ours(one["group"])] + [
            one["name"] for one in client.get("cluster", "firewall", "ipset") if _firewall.is_ours(one["name"])]

    def delete(self) -> None:
        """Take the guests away that these tests made, known by name and by the line in their notes."""
        client = self.client()
        for kind in self.ids:
            row = self.row(kind)
            if row is None:
                continue
            place = self.place_of(kind)
            assert self.ids[kind] in client.get(*place, "config").get("description", ""), "not of these tests' making"
            if row["status"] != "stopped":
                client.wait(row["node"], client.call("POST", (*place, "status", "stop")))
            client.wait(row["node"], client.call("DELETE", place))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Whether the environment says where to test; else it is made to say the stand-in's address."""
    if os.environ.get("PROXMOX_URL"):
        yield True
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.proxmox.alone", str(tmp_path_factory.mktemp("alone"))], cwd=_REPOSITORY,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in json.loads(process.stdout.readline()).items():
                patch.setenv(name, value)
            yield False
    finally:
        process.stdin.close()
        process.wait(20)


@pytest.fixture(scope="module")
def site(real, tmp_path_factory):
    """A provider with two new guests, which are deleted at the end."""
    place = tmp_path_factory.mktemp("site")
    with open_ledger(str(place / "ledger.sqlite3"), create=True) as ledger:
        made = Site(ledger, place, dict(os.environ), real)
        left = made.ours()
        # Another ledger's run would take them for leftovers, and take them away.
        assert not left, "this cluster is managed already: %s" % ", ".join(left)
        assert str(made.client().get("cluster", "firewall", "options").get("enable", 0)) == "1", "the cluster's firewall is off"
        try:
            found = made.provision(check=True)
            assert not found["errors"] and len(found["creating"]) == 2 and not made.row("qemu"), found["errors"]
            made.told = made.provision()
            yield made
        finally:
            try:
                made.retire()
            finally:
                made.delete()
        assert not made.ours() and made.row("qemu") is None and made.row("lxc") is None


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_is_made_with_its_rules(site, kind):
    assert not site.told["errors"] and sorted(site.told["created"]) == sorted(site.ids.values()), site.told["errors"]
    seen, service = site.seen(kind), site.services[site.ids[kind]]
    assert seen["power"] == "running" and str(seen["options"]["enable"]) == "1"
    first = seen["rules"][0]
    (rule,) = site.client().get("cluster", "firewall", "groups", first["action"])
    assert (first["type"], first["enable"]) == ("group", 1) and (rule["action"], rule["dport"], rule["enable"]) == ("REJECT", "25", 1)
    assert seen["sets"] == {"ipfilter-net0": sorted([*service["nics"][0]["addresses"], "fe80::/10"])}
    net = seen["config"]["net0"]
    assert "firewall=1" in net and "rate=9.536743164" in net and "bridge=" + site.bridge in net
    assert service["nics"][0]["mac"] in net.lower() and str(seen["config"]["onboot"]) == "1"


def test_a_second_run_finds_nothing_to_do(site):
    again = site.provision(check=True)
    assert not again["changed"] and not again["errors"]
    assert site.provision()["outcome"] == "unchanged"


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_suspended_and_given_back(site, kind):
    before = site.seen(kind)
    done = site.enforce("suspend", site.ids[kind])
    assert not done["errors"], done["errors"]
    held = site.seen(kind)
    assert held["power"] == ("paused" if kind == "qemu" else "stopped") and "link_down=1" in held["config"]["net0"]
    assert str(held["config"].get("onboot", 0)) == "0" and "aup-suspended" in held["config"]["tags"]
    assert site.again()["outcome"] == "unchanged"
    done = site.lift(site.ids[kind])
    assert not done["errors"], done["errors"]
    assert _stable(site.seen(kind)) == _stable(before)


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_capped_throttled_and_cut_off_and_given_back(site, kind):
    before, sid = site.seen(kind), site.ids[kind]
    assert not site.enforce("bandwidth_cap", sid, case="A-1", rate="10 Mbit/s")["errors"]
    assert not site.enforce("cpu_throttle", sid, case="A-2", share="20%")["errors"]
    assert not site.enforce("quarantine", sid, case="A-3")["errors"]
    held = site.seen(kind)
    assert "rate=1.1920928955" in held["config"]["net0"] and str(held["config"]["cpulimit"]) == "0.2"
    assert held["rules"][0]["action"].startswith("aup-quar")
    assert not site.lift(sid, case="all")["errors"]
    assert _stable(site.seen(kind)) == _stable(before)


def test_a_tenant_who_takes_rules_away_gets_them_back(site):
    place, client = site.place_of("qemu"), site.client()
    before = site.seen("qemu")
    client.call("DELETE", (*place, "firewall", "rules", 0))
    done = site.again()
    assert done["outcome"] == "changed" and not done["errors"] and site.seen("qemu") == before


def test_their_usage_is_shown(site):
    deadline = time.monotonic() + 60  # a guest just started has no counters yet
    while True:
        shown = {one["name"] for one in read_usage(site.client(), int(time.time()))["samples"]}
        if set(site.ids.values()) <= shown or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert set(site.ids.values()) <= shown


def test_a_wrong_secret_is_refused(site):
    target = Target(**{**vars(site.target), "token_value": "00000000-0000-4000-8000-000000000000"})
    with pytest.raises(ApiError, match="refused the token"):
        Client(target).get("cluster", "resources", type="vm")


def _stable(seen: dict[str, Any]) -> dict[str, Any]:
    """Without the order of keys in strings, which the server chooses."""
    config = {key: sorted(str(value).split(",")) for key, value in seen["config"].items()}
    return {**seen, "config": config}


def test_retire_takes_the_rules_and_leaves_the_guests(site):
    """Last: what these tests made is deleted afterwards."""
    site.clock = itertools.count(next(site.clock))
    assert not site.retire()["errors"]
    for kind in site.ids:
        seen = site.seen(kind)
        assert seen["power"] == "running" and not seen["sets"] and not any(_firewall.ours(rule) for rule in seen["rules"])
        assert "enable" not in seen["options"] or str(seen["options"]["enable"]) == "0"
    assert site.ours() == []
