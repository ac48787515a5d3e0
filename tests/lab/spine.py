# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the whole spine share: playbooks with every result, the ledger's rows, and states to compare."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import inventory, plan
from .controller import PlaybookRun
from .guest import Guest
from .lab import Lab
from .node import Node
from .process import LabError

HERE = Path(__file__).parent
PLAYBOOKS = HERE.parents[1] / "playbooks"
# Of the machine through which the controller comes in the test of rules that cut it off.
PEER_MAC = "52:54:00:aa:99:01"
PEER_ADDRESS = "192.0.2.99"
# Services of the lab's catalogue that have no guest of their own in the plan.
ODD_SERVICES = {
    "vps-ghost": {"mac": "52:54:00:aa:20:01", "addresses": ["192.0.2.51"]},
    "vps-twin": {"mac": "52:54:00:aa:20:02", "addresses": ["192.0.2.52"], "uuid": "6b1f0a52-0000-4000-8000-00000000aaaa"},
    "vps-gate": {"mac": "52:54:00:aa:20:03", "addresses": [plan.GATEWAYS[0]]},
    "vps-peer": {"mac": PEER_MAC, "addresses": ["192.0.2.53"]},
}
TWIN_UUID = "6b1f0a52-0000-4000-8000-00000000bbbb"
_THEIRS = """
table inet provider {
    counter theirs { }
    chain forward { type filter hook forward priority 5; policy accept; tcp dport 4444 drop; }
}
table bridge provider {
    chain forward { type filter hook forward priority 5; policy accept; ether type 0x88cc drop; }
}
"""


@dataclass(frozen=True)
class Run:
    """One playbook: what it printed, and what each task returned."""

    printed: PlaybookRun
    results: list[dict[str, Any]]

    @property
    def returncode(self) -> int:
        return self.printed.returncode

    @property
    def stdout(self) -> str:
        return self.printed.stdout

    @property
    def said(self) -> str:
        """All of it with JSON's escapes undone, for searching."""
        return (self.stdout + self.printed.stderr).replace('\\"', '"').replace("\\\\", "\\")

    def of(self, action: str) -> list[dict[str, Any]]:
        """What tasks with this action returned, in order."""
        return [entry["result"] for entry in self.results if entry["action"] == f"hosting.aup.{action}"]

    @property
    def converged(self) -> dict[str, Any]:
        (result,) = self.of("kvm_converge")
        return result

    @property
    def error(self) -> dict[str, Any]:
        """`error` of the first task that failed."""
        return next(entry["result"]["error"] for entry in self.results if entry["status"] == "failed")

    def ok(self) -> Run:
        self.printed.must_succeed()
        return self


class Spine:
    """A lab under policy, and ways to look at it."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.node: Node = lab.nodes[0]
        self.controller = lab.controller
        self.ledger_file = Path(self.controller.ledger_url.removeprefix("sqlite:///"))
        self._numbers = itertools.count(1)

    # -- acting ---------------------------------------------------------------------------------------------------

    def play(self, verb: str, extra_vars: Mapping[str, Any] | None = None, *, at: str | None = None, check: bool = False,
             arguments: tuple[str, ...] = (), env: Mapping[str, str] | None = None, inventory_path: Path | None = None) -> Run:
        """Run ``hosting.aup.<verb>`` (or a playbook's path) and gather every task's result."""
        book = verb if verb.endswith(".yml") else f"hosting.aup.{verb}"
        results = self.controller.state / f"results-{next(self._numbers)}.jsonl"
        settings = {
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"), "ANSIBLE_CALLBACKS_ENABLED": "lab_results",
            "AUPLAB_RESULTS": str(results), **(env or {})}
        printed = self.lab.ansible_playbook(
            book, extra_vars, at=at, arguments=(*(("--check", "--diff") if check else ()), *arguments), env=settings,
            inventory_path=inventory_path)
        lines = results.read_text().splitlines() if results.exists() else []
        results.unlink(missing_ok=True)
        return Run(printed, [json.loads(line) for line in lines])

    def suspend(self, service: Any, case: str, duration: str = "48h", **more: Any) -> Run:
        return self.play("suspend", {"service": service, "violation": "attack_target", "case": case, "duration": duration,
                                     **more.pop("variables", {})}, **more)

    def lift(self, service: Any, **more: Any) -> Run:
        return self.play("lift", {"service": service, **more.pop("variables", {})}, **more)

    @contextmanager
    def killed_at(self, point: str) -> Iterator[None]:
        """On the node, end every Python process that reaches ``file.py:function:n`` within the block."""
        mark, witness = self.node.path("/run/lab-kill"), self.node.path("/run/lab-killed")
        witness.unlink(missing_ok=True)
        mark.write_text(point)
        try:
            yield
        finally:
            mark.unlink()
        assert witness.exists(), f"nothing came by {point}"

    def killing(self, point: str) -> dict[str, str]:
        """Environment that ends ansible-playbook and its worker at ``file.py:function:n``."""
        witness = self.controller.state / "killed"
        witness.unlink(missing_ok=True)
        return {"PYTHONPATH": str(HERE / "shim"), "AUPLAB_KILL": point, "AUPLAB_KILLED": str(witness)}

    def was_killed(self) -> bool:
        return (self.controller.state / "killed").exists()

    def load_theirs(self) -> None:
        """Rules of somebody else, which no run of ours may touch."""
        self.node.run(["nft", "-f", "-"], text_in=_THEIRS)

    def install_shim(self) -> None:
        for place in self.node.path("/etc").glob("python3*/sitecustomize.py"):
            place.write_text((HERE / "shim/sitecustomize.py").read_text())

    @contextmanager
    def instead_of(self, program: str, script: str) -> Iterator[None]:
        """Another program in this one's place on the node; the real one is at ``/run/real-<name>`` meanwhile."""
        name = Path(program).name
        self.node.run(["cp", program, f"/run/real-{name}"])
        false = self.node.path(f"/run/false-{name}")
        false.write_text(script)
        false.chmod(0o755)
        self.node.run(["mount", "--bind", f"/run/false-{name}", program])
        try:
            yield
        finally:
            self.node.run(["umount", program])

    # -- looking --------------------------------------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[tuple]:
        """Rows of the ledger, read as anybody with the file could."""
        with sqlite3.connect(f"file:{self.ledger_file}?mode=ro", uri=True) as database:
            return database.execute(query, values).fetchall()

    def statuses(self, service: str, case: str | None = None) -> list[str]:
        """Statuses of the enforcements of a service, oldest first (of one case, if named)."""
        where, values = ("and case_id = ?", [case]) if case else ("", [])
        return [row[0] for row in self.rows(f"select status from aup_enforcement where service = ? {where} order by number",
                                            service, *values)]

    def holding(self) -> list[tuple]:
        return self.rows("select service, kind, case_id, status from aup_enforcement"
                         " where status in ('opened', 'active', 'ending') order by number")

    def open_baselines(self) -> list[str]:
        return [row[0] for row in self.rows("select service from aup_baseline where closed_at is null")]

    def events(self) -> int:
        return self.rows("select head_number from aup_meta")[0][0]

    def verify(self) -> None:
        """The chain of the ledger's events, checked by the ledger's own verb through a playbook."""
        book = self.controller.state / "verify.yml"
        book.write_text("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - hosting.aup.ledger_info:\n"
                        "        ledger_url: '{{ aup_ledger_url }}'\n        what: verify\n")
        done = self.play(str(book), {"aup_ledger_url": self.controller.ledger_url}).ok()
        assert done.of("ledger_info")[0]["verified"]["ok"]

    def rules(self, ours: bool | None = None) -> str:
        """The node's rules without counts and what packets fill: all, only ours, or only those of others."""
        listing = json.loads(self.node.run(["nft", "-j", "-s", "list", "ruleset"]).stdout)["nftables"]
        lines = []
        for entry in listing:
            kind, body = next(iter(entry.items()))
            if kind == "metainfo":
                continue
            mine = (body["name"] if kind == "table" else body["table"]) == "hosting_aup"
            if ours is None or ours == mine:
                left_out = {"handle", "elem"} if kind == "set" and "timeout" in body else {"handle"}
                lines.append(json.dumps({kind: {k: v for k, v in body.items() if k not in left_out}}, sort_keys=True))
        return "\n".join(lines)

    def node_files(self) -> dict[str, str]:
        """What of ours lies on the node: path to digest."""
        found = {}
        for place in ("/var/lib/hosting_aup", "/run/hosting_aup"):
            root = self.node.path(place)
            for path in sorted(root.glob("**/*")) if root.exists() else ():
                if path.is_file():
                    found[f"{place}/{path.relative_to(root)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def state(self) -> dict[str, Any]:
        """The node's own state file."""
        return json.loads(self.node.path("/var/lib/hosting_aup/state.json").read_text())

    def ledger_files(self) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.ledger_file.parent.glob("*"))}

    def everything(self) -> dict[str, Any]:
        """All that a run in check mode must leave alone."""
        return {"ledger": self.ledger_files(), "files": self.node_files(), "rules": self.rules(),
                **{guest.name: domain(guest) for guest in self.node.guests}}

    def assert_untouched(self, before: dict[str, Any]) -> None:
        assert_same(before, self.everything())

    @contextmanager
    def neighbour_runs_on(self, guest: Guest) -> Iterator[None]:
        """Somebody beside: pinged five times a second through all of it, without one loss, reboot or cut connection."""
        begin = guest.uptime()
        label = f"kept{next(self._numbers)}"
        # Its port 25 may be closed; mail submission is not.
        assert guest.open(label, plan.SINK[0], 587).startswith("open")
        pinging = subprocess.Popen(
            [*self.lab.internet.namespace.enter, "busybox", "ping", "-4", "-i", "0.2", "-W", "5", guest.plan.ipv4],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            yield
        finally:
            pinging.send_signal(signal.SIGINT)
            said, _ = pinging.communicate(timeout=10)
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) packets received", said).groups())
        # The last one may have been on its way.
        assert sent > 5 and received >= sent - 1, said[-300:]
        assert guest.say(label).startswith("answer 250")
        guest.say(label, "QUIT")
        end = guest.uptime()
        assert end.boot_id == begin.boot_id and end.seconds > begin.seconds

    def dark(self, guest: Guest) -> bool:
        """Whether nothing gets through to a guest, on either family, from outside and from its neighbour."""
        outside = self.lab.internet
        return not any([outside.ping(guest.plan.ipv4, 1), outside.ping(guest.plan.ipv6, 1)]) and outside.tcp(
            guest.plan.ipv4, 80, 1) in ("timeout", "unreachable")

    def light(self, guest: Guest) -> bool:
        return all([self.lab.internet.ping(guest.plan.ipv4), self.lab.internet.ping(guest.plan.ipv6)])

    # -- between tests ----------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """After a test, also one that failed: nothing held, every guest of the plan runs."""
        self.node.path("/run/lab-kill").unlink(missing_ok=True)
        held = sorted({row[0] for row in self.holding() if row[3] != "ending"})
        if held:
            self.lift(held, variables={"case": "all"})
        if self.holding() or self.open_baselines():
            self.play("reconcile")
        for guest in self.node.guests:
            if guest.state == "shut off":
                guest.start()
                guest.await_boot()


def domain(guest: Guest) -> dict[str, Any]:
    """A guest as libvirt has it, field by field."""
    live, config = guest.virsh("dumpxml"), guest.virsh("dumpxml", "--inactive")
    return {
        "power": guest.state,
        "autostart": guest.autostart,
        "live definition": plain(live),
        "definition": plain(config),
        "cpu": guest.virsh("schedinfo"),
        "tap": guest.tap,
        "host's addresses": guest.node.run(["ip", "-o", "address", "show", "dev", guest.tap]).stdout if guest.tap else "",
        "host's routes": "".join(
            guest.node.run(["ip", family, "route", "show", "dev", guest.tap]).stdout for family in ("-4", "-6")) if guest.tap else "",
    }


def plain(xml: str) -> str:
    """Domain XML without what says only the default: a link that was down and is up again is written out."""
    tree = ElementTree.fromstring(xml)
    for nic in tree.iterfind("./devices/interface"):
        for link in nic.findall("link"):
            if link.get("state") == "up":
                nic.remove(link)
    return ElementTree.canonicalize(ElementTree.tostring(tree), strip_text=True)


def assert_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Equal, or an error that names the fields that aren't."""
    differing = [
        "%s:\n%s" % (key, "\n".join(difflib.unified_diff(_text(before.get(key)), _text(after.get(key)), lineterm="", n=0)))
        for key in sorted(set(before) | set(after)) if before.get(key) != after.get(key)]
    assert not differing, "\n".join(differing)


def _text(value: Any) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
    return text.replace("><", ">\n<").splitlines()


def until(true: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if true():
            return True
        time.sleep(0.2)
    return true()


def catalogue(nodes: list[Node], generated: str = "2026-11-01T00:00:00Z") -> dict[str, Any]:
    """The lab's catalogue with the odd services beside."""
    document = inventory.catalogue(nodes)
    document["generated_at"] = generated
    for name, odd in ODD_SERVICES.items():
        document["services"].append({
            "id": name, "customer": "c-odd", "account_type": "personal", "node": nodes[0].name,
            "guest": {"name": name, **({"uuid": odd["uuid"]} if "uuid" in odd else {})},
            "nics": [{"mac": odd["mac"], "addresses": odd["addresses"]}]})
    return document


def write_catalogue(spine: Spine, document: dict[str, Any]) -> None:
    (spine.controller.inventory.parent / "catalogue.yml").write_text(json.dumps(document))


def prepare(lab: Lab) -> Spine:
    """What was there before us: other people's rules, a guest that isn't the one the catalogue means."""
    spine = Spine(lab)
    spine.load_theirs()
    twin = Guest(plan.GuestPlan("vps-twin", 2002), spine.node)
    text = twin.xml().replace(twin.plan.uuid, TWIN_UUID).replace(twin.plan.mac, ODD_SERVICES["vps-twin"]["mac"])
    spine.node.run(["virsh", "-q", "define", "/dev/stdin"], text_in=text)
    write_catalogue(spine, catalogue(lab.nodes))
    spine.install_shim()
    return spine


def impatient(verb: str, place: Path, seconds: int = 5) -> str:
    """The shipped playbook with less patience for a confirmation than its half minute; returns its path."""
    texts = {name: (PLAYBOOKS / f"{name}.yml").read_text() for name in (verb, "act")}
    task, imported = "      hosting.aup.kvm_converge:\n", "import_playbook: hosting.aup.act\n"
    if texts["act"].count(task) != 1 or texts[verb].count(imported) != 1:
        raise LabError(f"{verb}.yml and what it imports have not one kvm_converge that this could change")
    texts["act"] = texts["act"].replace(task, f"{task}        confirm_seconds: {seconds}\n")
    texts[verb] = texts[verb].replace(imported, f"import_playbook: {place}/act.yml\n")
    for name, text in texts.items():
        (place / f"{name}.yml").write_text(text)
    return str(place / f"{verb}.yml")


def hostile(canary: Path) -> str:
    """Text that does harm wherever it is evaluated, quoted wrongly or cut at a line."""
    path = shlex.quote(str(canary))
    return (f"it's \"so\"; $(touch {path}-1) `touch {path}-2`\n{{{{ lookup('pipe', 'touch {path}-3') }}}} "
            f"{{% raw %}} <b>&amp; %s {{}} \\ ' or 1=1; -- é€")


def canaries(canary: Path) -> list[str]:
    return [path.name for path in canary.parent.glob(canary.name + "-*")]

