# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that is known by its API's address and a token alone, and the guests that are made there for the tests.

Where the environment names no cluster it is the stand-in in a process of its own (`alone.py`). The guests are made once,
by order, and each test leaves them as they were made; whoever else has guests there sees nothing of it.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _nics
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import ApiError, Client, Target
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._making import SETTLE_SECONDS

from .controller import Controller
from .provider import POLICY, Runs
from .relay import Relay

_TOKEN = re.compile(r"(?P<user>[^!]+)!(?P<name>[^=]+)=(?P<secret>.+)")
GIB = 1 << 30
SIZES = {"qemu": 12 * GIB, "lxc": 6 * GIB}
MBIT = 1_000_000
# Their names in the tests: kind, NICs, and the rate of the plan (bit/s), which vm2 has in MiB/s as operators set it by hand.
GUESTS = {"vm": ("qemu", 2, 80 * MBIT), "vm2": ("qemu", 1, 100 << 20), "ct": ("lxc", 1, 80 * MBIT)}
_PATIENCE = 90  # seconds; a cluster gathers what its list of guests shows about every ten


def target_of(url: str, token: str, environ: dict[str, str]) -> Target:
    """Where the environment says the API is.

    :param token: `USER@REALM!NAME=SECRET`
    """
    where, who, ca_file = urlsplit(url), _TOKEN.fullmatch(token), environ.get("PROXMOX_CA_FILE")
    assert who, "a token is USER@REALM!NAME=SECRET"
    return Target(
        host=where.hostname, port=where.port or 8006, user=who["user"], token_name=who["name"], token_value=who["secret"],
        ca_file=ca_file and str(Path(ca_file).resolve()), fingerprint=environ.get("PROXMOX_FINGERPRINT"), timeout=60)


class Site(Runs):
    """A provider on a cluster: all of it is known and done over the API.

    :ivar ids: services by their names in the tests (`vm`, `vm2`, `ct`)
    :ivar numbers: guests by service
    :ivar real: whether the environment named the cluster
    """

    def __init__(self, environ: dict[str, str]):
        self.real = "PROXMOX_STANDIN" not in environ
        self.target = target_of(environ["PROXMOX_URL"], environ["PROXMOX_TOKEN"], environ)
        small = environ.get("PROXMOX_SMALL_TOKEN")
        self.small = target_of(environ["PROXMOX_URL"], small, environ) if small else None
        self.settle = SETTLE_SECONDS if self.real else 0.0
        self.bridge, self.storage = environ["PROXMOX_BRIDGE"], environ["PROXMOX_STORAGE"]
        self.templates = {"qemu": int(environ["PROXMOX_TEMPLATE"]), "lxc": int(environ["PROXMOX_CT_TEMPLATE"])}
        self.api = Client(self.target)  # of the tests themselves; its connections are kept
        self._runs = Client(self.target)
        self.stamp = uuid.uuid4().hex[:6]
        self.ids = {who: f"aup-test-{self.stamp}-{who}" for who in GUESTS}
        self.numbers: dict[str, int] = {}
        self.kinds = {self.ids[who]: kind for who, (kind, _nics_, _rate) in GUESTS.items()}
        self.catalogue: dict[str, Any] = {}
        self.touched: set[tuple] = set()
        self.ledgers: set[str] = set()  # the beginnings of their ids

    def begin(self, ledger, place: Path, policy: str = POLICY) -> None:
        """With a new ledger, and all guests in the catalogue."""
        super().__init__(ledger, place, policy)
        self.ledgers.add(_id_of(ledger))
        self.services = {sid: dict(one, guest=dict(one["guest"])) for sid, one in self.catalogue.items()}
        self.touched = set()

    def client(self, say=None, **changes: Any) -> Client:
        if say is None and not changes:
            return self._runs
        return Client(replace(self.target, **changes), say=say)

    def controller(self, *who: str) -> Controller:
        """A controller with these guests in its catalogue, and a ledger of its own."""
        target, place = self.target, self.place / "controller"
        place.mkdir()
        return Controller(place, target.host, {
            "user": target.user, "token_id": target.token_name, "port": target.port, "ca_file": target.ca_file,
            "fingerprint": target.fingerprint, "timeout": target.timeout}, target.token_value, [self.services[self.ids[one]] for one in who])

    def document(self) -> dict[str, Any]:
        bridges = [self.bridge]
        self.node.update(bridges=bridges, creation={
            "images": {kind: {"template": number, "linked": False, "ostemplate": None} for kind, number in self.templates.items()},
            "storage": {"disk": {"storage": self.storage, "node": None, "overcommit": False}}, "resolvers": []})
        return super().document()

    # -- guests of the tests --------------------------------------------------------------------------------------

    def ordered(self, who: str) -> dict[str, Any]:
        """A service of the catalogue whose guest is to be made."""
        kind, nics, rate = GUESTS.get(who, GUESTS["vm2"])
        number = 1 + [*GUESTS, who].index(who)
        name = self.ids.setdefault(who, f"aup-test-{self.stamp}-{who}")
        macs = [":".join(["02", self.stamp[:2], self.stamp[2:4], self.stamp[4:6], "%02x" % nic, "%02x" % number]) for nic in range(nics)]
        found = [{"mac": mac, "addresses": [f"192.0.2.{200 + 10 * nic + number}", f"2001:db8:1::{nic + 1}:{number}"], "prefixes": [],
                  "shared": [], "floating": []} for nic, mac in enumerate(macs)]
        return {
            "id": name, "customer": "c-test", "account_type": "personal", "location": "main", "nodes": ["pve"], "pool": None,
            "guest": {"name": name, "uuid": None}, "nics": found, "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None,
            "order": {"create": True, "vcpus": 2, "memory_bytes": 512 << 20, "rate_bit_per_second": rate,
                      "disk": {"size_bytes": SIZES[kind], "image": kind, "storage": "disk"},
                      "nics": [{"mac": one["mac"], "bridge": self.bridge, "gateways": [],
                                "addresses": [one["addresses"][0] + "/24", one["addresses"][1] + "/64"]} for one in found],
                      "cloud_init": {"hostname": None, "ssh_keys": [], "user_data": None}}}

    def refuse(self) -> None:
        """Nothing is begun on a cluster that somebody manages, or whose firewall is off."""
        shared = self.shared()
        assert shared["options"].get("enable", "0") == "1", "the cluster's firewall is off"
        # Another ledger's run would take them for leftovers, and take them away.
        left = [*shared["groups"], *shared["sets"]]
        assert not left, "this cluster is managed already: %s" % ", ".join(left)
        self.before = {int(row["vmid"]) for row in self.rows()}

    def make(self) -> SimpleNamespace:
        """Make the guests by order; what was said and seen on the way, for test_making."""
        self.services = {one["id"]: one for one in map(self.ordered, GUESTS)}
        told = SimpleNamespace(checked=self.provision(check=True), checked_made=self.named())
        told.done = self.provision()
        assert not told.done["errors"], told.done["errors"]
        self.numbers = {row["name"]: int(row["vmid"]) for row in self.named()}
        self.catalogue = {sid: self.known(one) for sid, one in self.services.items()}
        told.state = self.state()
        told.checked_again, told.again = self.provision(check=True), self.provision()
        told.retired = self.retire()
        sid = self.ids["vm2"]
        self.edit(sid, cpulimit="1", net0=self.config(sid)["net0"] + ",queues=4")
        self.as_made = self.state()
        return told

    def known(self, service: dict[str, Any]) -> dict[str, Any]:
        """A service whose guest was made, as the catalogue has one that was always there."""
        uuid_ = re.search("uuid=([^,]+)", self.config(service["id"]).get("smbios1", ""))
        guest = {"name": service["id"], "vmid": self.numbers[service["id"]], "uuid": uuid_ and uuid_[1].lower()}
        return {**{key: value for key, value in service.items() if key != "order"}, "guest": guest}

    def spare(self) -> str:
        """One more virtual machine, to be lost; a service of the catalogue now."""
        made = self.ordered("spare")
        sid = made["id"]
        self.services[sid] = made
        done = self.provision()
        assert not done["errors"], done["errors"]
        self.numbers[sid] = next(int(row["vmid"]) for row in self.named() if row["name"] == sid)
        self.services[sid] = self.known(made)
        return sid

    def rows(self) -> list[dict[str, Any]]:
        """All guests of the cluster that the token sees."""
        return self.api.get("cluster", "resources", type="vm")

    def named(self) -> list[dict[str, Any]]:
        """Those with names of these tests that weren't there before; a new one has no name in the list for some seconds."""
        found = []
        for row in self.rows():
            if int(row["vmid"]) not in self.before and row.get("name") in (None, *self.ids.values()):
                try:
                    config = self.api.get("nodes", row["node"], row["type"], row["vmid"], "config")
                except ApiError:
                    continue  # somebody else's, deleted or moved just now
                found.append(dict(row, name=config.get("name") or config.get("hostname")))
        return [row for row in found if row["name"] in self.ids.values()]

    def place_of(self, sid: str) -> tuple:
        """Its path in the API, as parts."""
        row = next(row for row in self.rows() if int(row["vmid"]) == self.numbers[sid])
        return "nodes", row["node"], row["type"], row["vmid"]

    def path(self, sid: str) -> str:
        return "/" + "/".join(map(str, self.place_of(sid)))

    def delete(self, sid: str) -> None:
        """Take a guest away that these tests made: known by name, by number, and by the line in its notes."""
        for row in self.named():
            if row["name"] != sid:
                continue
            place = "nodes", row["node"], row["type"], row["vmid"]
            config = self.api.get(*place, "config")
            assert sid in str(config.get("description", "")), "not of these tests' making"
            if str(config.get("protection", 0)) == "1":
                self.api.call("PUT", (*place, "config"), protection=0)
            if self.api.get(*place, "status", "current")["status"] != "stopped":
                self.api.wait(row["node"], self.api.call("POST", (*place, "status", "stop")))
            self.api.wait(row["node"], self.api.call("DELETE", place))

    # -- looking --------------------------------------------------------------------------------------------------

    def config(self, sid: str) -> dict[str, str]:
        """Its settings, all as text."""
        return self.texts(*self.place_of(sid), "config")

    def texts(self, *path: Any) -> dict[str, str]:
        return {key: str(value) for key, value in self.api.get(*path).items() if key != "digest"}

    def status(self, sid: str) -> str:
        return self._status(self.place_of(sid))

    def _status(self, place: tuple) -> str:
        found = self.api.get(*place, "status", "current")
        return str(found.get("qmpstatus") or found["status"])

    def held(self, sid: str) -> bool:
        return self.status(sid) != "running"

    def rules(self, *place: Any) -> list[dict[str, Any]]:
        """Of a guest, or of a group of the cluster."""
        place = (*self.place_of(*place), "firewall", "rules") if place[0] in self.numbers else ("cluster", "firewall", "groups", *place)
        return [_firewall.bare(rule) for rule in self.api.get(*place)]

    def options(self, sid: str) -> dict[str, str]:
        return self.texts(*self.place_of(sid), "firewall", "options")

    def entries(self, *place: Any) -> list[str]:
        """Addresses of a set; what is left out of it with a `!`."""
        return sorted(("!" if entry.get("nomatch") else "") + entry["cidr"] for entry in self.api.get(*place))

    def guest(self, sid: str, place: tuple = ()) -> dict[str, Any]:
        """All that is compared of a guest."""
        place, config, pending = place or self.place_of(sid), {}, {}
        for item in self.api.get(*place, "pending"):
            key = item["key"]
            if "value" in item and key != "digest":
                text = str(item["value"])
                config[key] = _ordered(text) if _nics.NIC.fullmatch(key) else text
            if "pending" in item or item.get("delete"):
                pending[key] = item.get("pending")
        wall = (*place, "firewall")
        return {"config": config, "pending": pending, "power": self._status(place), "options": self.texts(*wall, "options"),
                "rules": [_firewall.bare(rule) for rule in self.api.get(*wall, "rules")],
                "sets": {one["name"]: self.entries(*wall, "ipset", one["name"]) for one in self.api.get(*wall, "ipset")}}

    def shared(self) -> dict[str, Any]:
        """The cluster's switch, and groups and sets of ours."""
        wall = ("cluster", "firewall")
        groups = [one["group"] for one in self.api.get(*wall, "groups") if _firewall.is_ours(one["group"])]
        sets = [one["name"] for one in self.api.get(*wall, "ipset") if _firewall.is_ours(one["name"])]
        return {"options": self.texts(*wall, "options"),
                "groups": {name: self.rules(name) for name in groups}, "sets": {name: self.entries(*wall, "ipset", name) for name in sets}}

    def state(self) -> dict[str, Any]:
        """All that these tests compare, before and after."""
        places = {int(row["vmid"]): ("nodes", row["node"], row["type"], row["vmid"]) for row in self.rows()}
        return {"guests": {sid: self.guest(sid, places[number]) for sid, number in self.numbers.items()}, "cluster": self.shared()}

    # -- acting as a tenant, or as another operator ---------------------------------------------------------------

    def edit(self, sid: str, **config: str | None) -> None:
        """Change settings; None takes a key away."""
        self.touched |= {(sid, "config", key) for key in config}
        gone = ",".join(sorted(key for key, value in config.items() if value is None))
        self.api.call("PUT", (*self.place_of(sid), "config"), delete=gone or None, **config)

    def power(self, sid: str, verb: str) -> None:
        """Start, stop, suspend or resume; until the list of guests shows it, too."""
        self.touched.add((sid, "power"))
        place = self.place_of(sid)
        self.api.wait(place[1], self.api.call("POST", (*place, "status", verb)))
        self.shown(sid, self.status(sid))

    def reached(self, sid: str, power: str) -> None:
        """Wait until a guest has this state of power, and the list of guests shows it."""
        limit = time.monotonic() + _PATIENCE
        while self.status(sid) != power:
            assert time.monotonic() < limit, f"{sid} is not {power}"
            time.sleep(0.05)
        self.shown(sid, power)

    def shown(self, sid: str, power: str) -> None:
        """Wait until the cluster's list of guests shows this state of power."""
        limit = time.monotonic() + _PATIENCE
        while next(row["status"] for row in self.rows() if int(row["vmid"]) == self.numbers[sid]) != power:
            assert time.monotonic() < limit, f"{sid} is not shown as {power}"
            time.sleep(0.5)

    def put_power(self, sid: str, power: str) -> None:
        """Whatever it takes to get there."""
        now = self.status(sid)
        if now != power:
            self.power(sid, {("paused", "running"): "resume", ("stopped", "running"): "start", ("running", "paused"): "suspend"}.get(
                (now, power), "stop"))

    def wall(self, sid: str, **options: Any) -> None:
        """Change the options of its firewall; None takes one away."""
        self.touched.add((sid, "options"))
        gone = ",".join(sorted(key for key, value in options.items() if value is None))
        self.api.call("PUT", (*self.place_of(sid), "firewall", "options"), delete=gone or None, **options)

    def add_rule(self, sid: str, **rule: Any) -> None:
        """A rule above all others."""
        self.touched.add((sid, "rules"))
        self.api.call("POST", (*self.place_of(sid), "firewall", "rules"), **rule)

    def drop_rules(self, sid: str) -> None:
        place = (*self.place_of(sid), "firewall", "rules")
        for _ in self.api.get(*place):
            self.api.call("DELETE", (*place, 0))

    # -- what comes between ---------------------------------------------------------------------------------------

    def meanwhile(self, method: str, path: str, act: Callable[[], None]) -> Client:
        """A client of the provider's; once, just before such a call of it is sent, somebody else acts.

        :param path: pattern of the whole path
        """
        once = threading.Lock()

        def say(said: str, where: str) -> None:
            if said == method and re.fullmatch(path, where) and once.acquire(blocking=False):
                act()
        return self.client(say=say)

    def relay(self) -> Relay:
        return Relay(self.target.host, self.target.port)

    def through(self, relay: Relay, say=None) -> Client:
        """A client whose way leads through a relay; the API is known by its fingerprint there."""
        patience = 6 if self.real else 1
        return self.client(say=say, host="127.0.0.1", port=relay.port, ca_file=None, fingerprint=self.fingerprint(), timeout=patience)

    def fingerprint(self) -> str:
        """Of the certificate that answers; it is given, or just now trusted by its CA."""
        import hashlib

        if self.target.fingerprint:
            return self.target.fingerprint
        self.api.get("version")
        shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((self.target.host, self.target.port)))
        return ":".join("%02X" % byte for byte in hashlib.sha256(shown).digest())

    # -- the end --------------------------------------------------------------------------------------------------

    def differing(self) -> set[tuple]:
        """`(service, part)`, with the key for settings, of what isn't as it was made."""
        now, found = self.state(), set()
        for sid, before in self.as_made["guests"].items():
            after = now["guests"][sid]
            found |= {(sid, part) for part in before if part != "config" and before[part] != after[part]}
            found |= {(sid, "config", key) for key in {*before["config"], *after["config"]}
                      if before["config"].get(key) != after["config"].get(key)}
        return found | ({("cluster",)} if now["cluster"] != self.as_made["cluster"] else set())

    def end(self) -> None:
        """All is given back, and what the test did itself is undone.

        :raises AssertionError: something else isn't as it was
        """
        left, own = self.differing(), set(self.touched)
        if not left:
            return
        try:
            held = [sid for sid in self.services if self.statuses(sid)]
            if held:
                self.lift(*held, case="all")
            self.retire()
        finally:
            left = self.differing()
            self.restore(left)
        assert left <= own, "not given back: %s" % sorted(left - own)
        assert not left or not self.differing(), "these tests can't undo what they did: %s" % sorted(self.differing())

    def restore(self, left: set[tuple]) -> None:
        """Guests of the tests as they were made, by hand; groups and sets that these tests' runs left behind taken away.

        :param left: of `differing`
        """
        for sid, before in self.as_made["guests"].items():
            differs = {one[1:] for one in left if one[0] == sid}
            if not differs:
                continue
            place = self.place_of(sid)
            self.drop_rules(sid)
            for name in self.guest(sid)["sets"]:
                self.api.call("DELETE", (*place, "firewall", "ipset", name), force=1)
            options = self.options(sid)
            self.wall(sid, **{key: before["options"].get(key) for key in {*options, *before["options"]}})
            keys = {one[1] for one in differs if one[0] == "config"}
            if keys:
                self.edit(sid, **{key: before["config"].get(key) for key in keys})
            self.put_power(sid, before["power"])
        if left:
            self.clear()

    def clear(self) -> None:
        """Take the groups and sets of these tests' ledgers away."""
        played = self.place / "controller" / "ledger.db"
        if played.exists():
            with open_ledger(str(played)) as ledger:
                self.ledgers.add(_id_of(ledger))
        wall = ("cluster", "firewall")
        for one in self.api.get(*wall, "groups"):
            if _firewall.owner_of(one["group"], one.get("comment")) in self.ledgers:
                for _ in self.rules(one["group"]):
                    self.api.call("DELETE", (*wall, "groups", one["group"], 0))
                self.api.call("DELETE", (*wall, "groups", one["group"]))
        for one in self.api.get(*wall, "ipset"):
            if _firewall.owner_of(one["name"], one.get("comment")) in self.ledgers:
                self.api.call("DELETE", (*wall, "ipset", one["name"]), force=1)

    def leave(self) -> None:
        """Delete the guests of the tests, each for itself, and what their runs left behind."""
        failed = []
        for sid in self.ids.values():
            try:
                self.delete(sid)
            except (ApiError, AssertionError) as exc:
                failed.append(f"{sid}: {exc}")
        self.clear()
        assert not failed, "to be deleted by hand: %s" % "; ".join(failed)
        assert not self.named() and not self.shared()["groups"] and not self.shared()["sets"]


def _id_of(ledger) -> str:
    """By what its groups and sets on a cluster are known."""
    with ledger.read() as tx:
        return tx.ledger_id[:8]


def _ordered(nic: str) -> str:
    """A NIC's string, its keys by the alphabet: their order is the server's."""
    head, *rest = nic.split(",")
    return ",".join([head, *sorted(rest)])


def environment() -> dict[str, str] | None:
    """What the environment says of a cluster to test on, or None."""
    return {key: value for key, value in os.environ.items() if key.startswith("PROXMOX_")} if os.environ.get("PROXMOX_URL") else None
