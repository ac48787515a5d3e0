# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asergo's story: it sells no VPS, so it is told on a dedicated server's port, with a Linux router in namespaces as its switch.

Real playbooks over SSH, real packets on both families, real mail; ``make demo POLICY=asergo``, and silently in the tests.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.integration.routers.port_lab import SERVERS, PortLab

from .controller import CHECKOUT, CLOCK, collections_path, offset_seconds
from .internet import Message, mail_on_loopback
from .process import LabError
from .telling import BrokenPromise, Words

MAILER, BESIDE = SERVERS
CASE = "asergo-bulk"
_MAIL, _SUBMISSION, _ANY = 25, 465, 8080
_OPEN = ["open", "open"]


class Story(Words):
    """A provider of dedicated servers under Asergo's policy: its router, its ledger, its mail."""

    def __init__(self, ports: PortLab, place: Path, mail: tuple[int, list[Message]], loud: bool):
        super().__init__(loud)
        self.ports, self.place = ports, place
        self._port, self.mails = mail
        self._describe()

    def _describe(self) -> None:
        """Policy, catalogue and inventory as an operator would have them."""
        (self.place / "provider.json").write_text(json.dumps({
            "schema": 1, "name": "asergo", "version": "lab", "effective": "2026-01-01", "provider": {"name": "Lab Hosting"},
            "extends": "asergo", "locations": ["lab"], "controls": {"anti_spoofing": {"adoption": {"mode": "enforce"}}},
            "guardrails": {"protected": ["192.0.2.0/28"]}}))
        services = [
            {"id": name, "customer": f"c-{number}", "account_type": "business", "contact": f"owner-{name}@customer.example",
             "ports": [{"router": "edge", "interface": SERVERS[name][0]}],
             "nics": [{"mac": f"52:54:00:00:01:{number:02x}", "addresses": list(SERVERS[name][2])}]}
            for number, name in enumerate(SERVERS, 1)]
        (self.place / "catalogue.json").write_text(json.dumps({
            "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
            "nodes": {"edge": {"backend": "router", "location": "lab", "address": "127.0.0.1", "uplinks": ["e-out"],
                               "vars": {"ansible_port": self.ports.sshd.port}, "router": {"platform": "linux"}}},
            "services": services}))
        (self.place / "hosts.aup.yml").write_text(json.dumps({
            "plugin": "hosting.aup.services", "catalogue": "catalogue.json", "policy": "provider.json",
            "ledger_url": "sqlite:///ledger.db",
            "connection_defaults": {"ansible_user": "root", "ansible_ssh_private_key_file": str(self.ports.sshd.key),
                                    "aup_known_hosts": str(self.ports.sshd.known_hosts), "ansible_become": False}}))

    def play(self, verb: str, extra_vars: dict[str, Any] | None = None, *, at: str | None = None, task: str | None = "Summary",
             hidden: dict[str, Any] | None = None) -> str:
        """Run a verb as an operator would, the clock moved by ``at``; what it printed, with JSON's escapes undone."""
        environment = {
            "PATH": f"{CHECKOUT}/.build/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.place), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path()), "ANSIBLE_HOME": str(self.place / "ansible"), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "false", "SUDO_USER": "alice"}
        if at is not None:
            environment |= {"LD_PRELOAD": str(CLOCK), "AUPLAB_CLOCK_OFFSET": str(offset_seconds(at))}
        began = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.place / "hosts.aup.yml"), f"hosting.aup.{verb}",
             "-e", json.dumps({**(extra_vars or {}), **(hidden or {})})],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.place, env=environment, timeout=300)
        if done.returncode:
            raise LabError(f"{verb}: exit {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
        self.ran(verb, extra_vars, done.stdout, time.monotonic() - began, task=task)
        return (done.stdout + done.stderr).replace('\\"', '"')

    def told(self, at: str | None = None) -> Message:
        """Send what is due: one mail, to the mailer's owner."""
        before = len(self.mails)
        self.play("notices", at=at, task=None, hidden={
            "aup_sender": "abuse@provider.example", "aup_smtp_host": "127.0.0.1", "aup_smtp_port": self._port, "aup_smtp_tls": "none"})
        new = self.mails[before:]
        self.must(f"one mail went to the owner of {MAILER}", [one.recipient for one in new] == [f"<owner-{MAILER}@customer.example>"])
        return new[0]

    def unharmed(self) -> None:
        self.must(f"{BESIDE} on the next port notices nothing", self.ports.into(BESIDE) == [True, True]
                  and self.ports.out_to(BESIDE) == self.ports.out_to(BESIDE, _MAIL) == _OPEN)


def story(it: Story) -> None:
    """From trigger to closed case; :class:`BrokenPromise` where a claim isn't so."""
    ports = it.ports
    own, foreign = SERVERS[MAILER][2], SERVERS[MAILER][3]
    it.chapter("asergo: two dedicated servers, each on a port of the router, come under its policy")
    it.play("provision")
    it.must("mail is open to both, as its text allows bulk mail to who agreed to it",
            ports.out_to(MAILER, _MAIL) == ports.out_to(BESIDE, _MAIL) == _OPEN)
    it.must(f"what {MAILER} sends from its own addresses gets out, from addresses Asergo didn't assign it doesn't (asergo.20)",
            all(ports.datagram(MAILER, own[n], 2 * n) and not ports.datagram(MAILER, foreign[n], 2 * n + 1) for n in (0, 1)))
    free = ports.rules()

    it.chapter(f"{MAILER} sends bulk mail to people who never agreed: mail is closed on its port (asergo.10)")
    said = it.play("respond", {"service": MAILER, "violation": "spam", "case": CASE, "confirm": True, "note": "12 complaints with headers"})
    it.must("in force and seen on the router", f"{MAILER}: smtp_block in force, verified" in said)
    it.must(f"{MAILER} is refused on port 25, on both families, and has all else",
            ports.out_to(MAILER, _MAIL) == ["refused", "refused"] and ports.out_to(MAILER) == ports.out_to(MAILER, _SUBMISSION) == _OPEN
            and ports.into(MAILER) == [True, True])
    it.unharmed()
    mail = it.told()
    it.must("it names the case and the clause", CASE in mail.text and "asergo.10" in mail.text)

    it.chapter("24 hours later it goes on, over other ports: the server is suspended (asergo.24)")
    said = it.play("respond", {"service": MAILER, "violation": "spam", "case": CASE, "persists": True, "confirm": True,
                               "note": "goes on by port 465"}, at="+24h")
    it.must("in force and seen on the router", "suspend in force, verified" in said)
    it.must(f"{MAILER} is dark both ways, on both families", ports.into(MAILER) == [False, False] and "open" not in ports.out_to(MAILER))
    it.unharmed()
    it.must("it is told the clause of the suspension", "asergo.24" in it.told(at="+24h").text)

    it.chapter("50 hours later the customer has shown consent: given back, and the case is closed")
    it.play("lift", {"service": MAILER, "case": CASE, "note": "list rebuilt, proof of consent read"}, at="+74h")
    it.must(f"{MAILER} is reached, and sends mail again", ports.into(MAILER) == [True, True] and ports.out_to(MAILER, _MAIL) == _OPEN)
    it.must("the router's rules are to the letter what they were", ports.rules() == free)
    it.play("close", {"case": CASE, "note": "settled"}, at="+74h", task=None)

    it.chapter("what it costs: the hours it was down aren't credited, nothing else (asergo.24)")
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400)), time.strftime("%Y-%m-%d", time.gmtime(time.time() + 8 * 86400))
    said = it.play("charges", {"state": "no_credit", "service": MAILER, "begins": day[0], "ends": day[1]}, at="+80h", task=None)
    spans = re.findall(rf"{MAILER} no credit from (\S+) to (\S+) \(case {CASE}\)", said)
    hours = [(datetime.fromisoformat(ends) - datetime.fromisoformat(begins)).total_seconds() / 3600 for begins, ends in spans]
    it.must("the 50 hours of suspension, and none of the mail block before it", len(hours) == 1 and abs(hours[0] - 50) < 0.2)
    where = it.place / "cases"
    where.mkdir(mode=0o700)
    it.play("case", {"case": CASE}, at="+80h", task=None, hidden={"aup_case_dir": str(where)})
    (written,) = (json.loads(one.read_text()) for one in where.glob("*.json"))
    (page,) = (one.read_text() for one in where.glob("*.html"))
    it.must("the case on paper: closed, judged by asergo.10, both measures, both notices delivered, nothing owed",
            (written["case"]["status"], written["case"]["clause"], written["charges"]) == ("closed", "asergo.10", [])
            and [(e["kind"], e["clause"]) for e in written["enforcements"]] == [("smtp_block", "asergo.10"), ("suspend", "asergo.24")]
            and [n["status"] for n in written["notices"]] == ["delivered", "delivered"] and CASE in page and "<script" not in page)
    it.must("every entry of its history is what its digest says", all(one["intact"] for one in written["timeline"]))


def tell(loud: bool = True) -> None:
    """Build the ports, tell the story, take all of it down."""
    with PortLab() as ports, tempfile.TemporaryDirectory(prefix="aupas") as place, mail_on_loopback() as mail:
        try:
            story(Story(ports, Path(place), mail, loud))
        except AssertionError as error:
            raise BrokenPromise(f"not so: {error}") from error
