# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each policy's own story on real guests, from trigger to closed case: told by ``make demo POLICY=…``, and the same in tests.

The policies are those that are shipped; the lab only adds its networks, its locations, and that guests which are there
already are bound at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import inventory, plan
from .guest import Guest
from .internet import Message, mail_desk
from .measured import flood
from .spine import until
from .telling import Telling

# One node each, and where it stands by the provider's policy; every other policy calls both "lab".
PLACES = ("finland", "moscow")
MAIL = (plan.SINK[0], 25)
POOL = tuple((address, plan.WEB_PORTS[0]) for address in plan.WEB)
_PATIENCE = 30
_ALLOWANCE = 8_000_000  # bytes: of terabytes nobody could wait for the end here
ONE, TWO, FAR = "vps-1001", "vps-1002", "vps-1004"
_LOCATIONS = ["dusseldorf", "dusseldorf-2", "falkenstein", "finland", "moscow", "other"]


class Story:
    """What the stories share: the provider under one policy, its mail, and how a case ends."""

    def __init__(self, telling: Telling, policy: str, mails: list[Message]):
        self.policy, self.mails = policy, mails
        self.lab, self.spine = telling.lab, telling.spine
        self.telling = telling
        self.chapter, self.must, self.play = telling.chapter, telling.must, telling.playbook

    def case(self, name: str) -> str:
        """A case id of this story's own."""
        return f"{self.policy}-{name}"

    def provide(self, **plans: dict[str, Any]) -> None:
        """Adopt the hosts under the policy; ``plans`` are those of services, by id with ``_`` for ``-``."""
        by_location = self.policy == "location"
        document: dict[str, Any] = {
            "schema": 1, "name": self.policy, "version": "lab", "effective": "2026-01-01", "provider": {"name": "Lab Hosting"},
            "extends": self.policy, "locations": _LOCATIONS if by_location else ["lab"],
            "controls": {"smtp_outbound": {"adoption": {"mode": "enforce"}}},
            "networks": {"smarthosts": list(plan.SMARTHOST), "rescue": list(plan.RESCUE_PREFIXES)},
            "guardrails": {"protected": list(plan.GATEWAYS)},
        }
        if by_location:
            document["controls"]["mining"] = {"adoption": {"mode": "enforce"}}
        catalogue = inventory.catalogue(self.lab.nodes)
        for node, place in zip(catalogue["nodes"].values(), PLACES, strict=True):
            node["location"] = place if by_location else "lab"
        for service in catalogue["services"]:
            service["contact"] = f"owner-{service['id']}@customer.example"
            service["plan"] = plans.get(service["id"].replace("-", "_"), {})
        target = self.lab.controller.inventory.parent
        (target / "provider.yml").write_text(json.dumps(document))
        (target / "catalogue.yml").write_text(json.dumps(catalogue))
        self.play("provision")

    def notices(self, *services: str) -> list[Message]:
        """Send what is due; to the owners of exactly these services, each once."""
        before = len(self.mails)
        mail = {"aup_sender": "abuse@provider.example", "aup_smtp_host": "127.0.0.1", "aup_smtp_port": 25, "aup_smtp_tls": "none"}
        self.play("notices", hidden=mail, task=None)
        new = self.mails[before:]
        self.must(f"mail went to {' and '.join(f'the owner of {one}' for one in services) or 'nobody'}",
                  sorted(one.recipient for one in new) == sorted(f"<owner-{one}@customer.example>" for one in services))
        return new

    def exported(self, case: str, at: str | None = None) -> dict[str, Any]:
        """Close a case, write it down, and read what was written."""
        self.play("close", {"case": case, "note": "done"}, at=at, task=None)
        where = self.lab.controller.state / "cases"
        where.mkdir(mode=0o700, exist_ok=True)
        done = self.play("case", {"case": case}, at=at, task=None, hidden={"aup_case_dir": str(where)})
        files = {Path(one).suffix: Path(one) for one in done.of("case_export")[0]["files"]}
        written = json.loads(files[".json"].read_text())
        page = files[".html"].read_text()
        self.must(f"case {case} is closed, and on paper: JSON, and a page that fetches nothing",
                  written["case"]["status"] == "closed" and case in page and "<script" not in page and "http://" not in page)
        self.must("every entry of its history is what its digest says", all(one["intact"] for one in written["timeline"]))
        return written

    def sums(self, written: dict[str, Any]) -> list[str]:
        return [f"{one['amount']} {one['currency']}" for one in written["charges"]]

    def dark(self, name: str) -> bool:
        return self.spine.dark(self.lab.guest(name))

    def light(self, name: str) -> bool:
        return until(lambda: self.spine.light(self.lab.guest(name)), _PATIENCE)

    def open(self, name: str, address: str, port: int) -> bool:
        """Whether a guest gets a connection; a busy machine is given time."""
        return until(lambda: self.lab.guest(name).tcp(address, port) == "open", _PATIENCE)

    def closed(self, name: str, *targets: tuple[str, int]) -> bool:
        """Whether a guest gets none to any of these, while it is awake."""
        guest = self.lab.guest(name)
        return until(guest.responds, _PATIENCE) and all(guest.tcp(*one) != "open" for one in targets)


def alteron(story: Story) -> None:
    victim, spammer = story.lab.guest(TWO), story.lab.guest(ONE)
    attack, spam = story.case("attack"), story.case("spam")
    story.chapter("alteron: the hosts are adopted under its policy")
    story.provide(vps_1001={"transfer_bytes": _ALLOWANCE, "transfer_from": int(time.time())})
    story.must("port 25 is open, as its text closes none", story.open(ONE, *MAIL))

    story.chapter(f"{TWO} is attacked: 48 hours, by itself, nobody's fault (alteron.9)")
    done = story.play("respond", {"service": TWO, "violation": "attack_target", "case": attack})
    story.must("it was done at once and seen in force", "suspend in force, verified" in done.said)
    story.must(f"{TWO} is paused and dark, {ONE} beside it isn't",
               victim.state == "paused" and story.dark(TWO) and story.light(ONE))

    story.chapter(f"{ONE} sends spam: the policy leaves it to a person (alteron.25)")
    asked = story.play("respond", {"service": ONE, "violation": "spam", "case": spam})
    (proposal,) = asked.of("ledger_respond")[0]["proposals"]
    story.must("nothing was done yet", spammer.state == "running" and story.light(ONE))
    story.play("respond", {"proposal": proposal["id"]})
    story.must(f"{ONE} is paused and dark", spammer.state == "paused" and story.dark(ONE))
    told = story.notices(ONE, TWO)
    story.must("each is told its case and clause", all(
        any(case in one.text and clause in one.text for one in told) for case, clause in ((attack, "alteron.9"), (spam, "alteron.25"))))

    story.chapter("49 hours later: the attack's suspension ends by its time; the spammer waits for a decision")
    story.play("reconcile", at="+49h")
    story.must(f"{TWO} is back", victim.state == "running" and story.light(TWO))
    story.must(f"{ONE} is still held", spammer.state == "paused")
    story.play("lift", {"service": ONE, "case": spam, "note": "list rebuilt by confirmed opt-in"}, at="+49h")
    story.must(f"{ONE} is back", spammer.state == "running" and story.light(ONE))

    story.chapter("both cases closed: the spammer owes the clean-up, the victim nothing (alteron.26)")
    written = story.exported(attack, at="+50h")
    story.must("no fault, no charge", (written["case"]["fault"], story.sums(written)) == ("none", []))
    written = story.exported(spam, at="+50h")
    story.must("60.00 EUR, once", (written["case"]["fault"], story.sums(written)) == ("customer", ["60.00 EUR"]))
    transfer(story)


def transfer(story: Story) -> None:
    """What a guest transfers, counted at its port, told at 80 % and 100 %, reduced, and bought (alteron.18 to 22)."""
    guest = story.lab.guest(ONE)
    case = f"transfer-{ONE}-{time.strftime('%Y-%m-%d', time.gmtime())}"

    story.chapter(f"{ONE} has {_ALLOWANCE // 10**6} MB in 30 days: metering begins with what its port shows now (alteron.18)")
    first = port(guest)
    story.play("meter")
    story.must("what was before is nobody's debt", counted(story) == 0)
    before = port(guest)  # the first pass read it somewhere between these two
    filled(story, guest, before, _ALLOWANCE * 84 // 100)
    low = port(guest) - before
    done = story.play("meter")
    story.must(f"{counted(story)} bytes are in the ledger, as many as the port carried", low <= counted(story) <= port(guest) - first)
    (told,) = story.notices(ONE)
    story.must("its owner is told at 80 %", "has used 80 % of its transfer" in told.text and "has used 80 %" in done.said)

    story.chapter(f"{ONE} is restarted: its port is another one, and begins at nothing; more comes in")
    former = port(guest) - first
    guest.virsh("destroy")
    guest.start()
    guest.await_boot()
    filled(story, guest, 0, _ALLOWANCE * 3 // 10)
    low = port(guest)
    done = story.play("meter")
    story.must("nothing is lost or counted twice: both ports together",
               counted(story) >= low + _ALLOWANCE * 84 // 100 and counted(story) <= former + port(guest))
    story.must("above it the connection is 10 Mbit/s, seen on the host (alteron.20)", f"{ONE}: bandwidth_cap in force, verified" in done.said)
    texts = [one.text for one in story.notices(ONE, ONE)]
    story.must("its owner is told at 100 %, and of the measure", any("has used 100 %" in one for one in texts) and any(case in one for one in texts))

    story.chapter("a terabyte is bought for 9.00 EUR: the next pass gives the connection back (alteron.19, alteron.21)")
    story.play("charges", {"state": "recorded", "case": case, "fee": "transfer", "quantity": 1, "reference": "order-77"}, task=None)
    done = story.play("meter")
    story.must(f"the cap of {ONE} is gone from the host, and nothing is held",
               "lifted: bandwidth_cap" in done.said and "changed, verified" in done.said and story.spine.holding() == [])
    story.notices()
    written = story.exported(case)
    story.must("9.00 EUR, once", story.sums(written) == ["9.00 EUR"])


def port(guest: Guest) -> int:
    """Bytes that a guest's port has carried, both ways."""
    found = guest.node.run(["sh", "-c", f"cat /sys/class/net/{guest.tap}/statistics/[rt]x_bytes"]).stdout.split()
    return sum(map(int, found))


def counted(story: Story) -> int:
    """Bytes of the service in the ledger."""
    (row,) = story.spine.rows("select received + sent from aup_usage_window where service = ?", ONE)
    return row[0]


def filled(story: Story, guest: Guest, before: int, size: int) -> None:
    """Traffic from outside until the port has carried so many bytes more."""
    with flood(story.lab.internet.namespace, guest.plan.ipv4, 8):
        story.must(f"{size} bytes went through its port", until(lambda: port(guest) - before >= size, _PATIENCE))


def metrovps(story: Story) -> None:
    guest, case = story.lab.guest(TWO), story.case("exit")
    story.chapter("metrovps: the hosts are adopted under its policy")
    story.provide()

    story.chapter(f"a Tor exit is reported on {TWO}: the customer is heard first (metrovps.31)")
    story.play("report", {"service": TWO, "violation": "tor_exit", "case": case, "note": "seen in the consensus"}, task=None)
    (told,) = story.notices(TWO)
    story.must("the notice names the case and gives 48 hours", case in told.text and "48h" in told.text)
    story.must("nothing is restricted", guest.state == "running" and story.light(TWO))

    story.chapter("49 hours without an answer: the quarantine is proposed, and a person decides")
    story.play("reconcile", at="+49h")
    asked = story.spine.rows("select id, kind from aup_proposal where case_id = ?", case)
    story.must("a quarantine is proposed, nothing is done", [row[1] for row in asked] == ["quarantine"] and story.light(TWO))
    story.play("respond", {"proposal": asked[0][0]}, at="+49h")
    outside = story.lab.internet
    story.must(f"{TWO} runs on, dark but for the rescue desk", guest.state == "running" and story.dark(TWO)
               and until(lambda: outside.tcp(guest.plan.ipv4, 80, source=plan.RESCUE[0]) == "open", _PATIENCE))
    story.must("its neighbour notices nothing", story.light(ONE))

    story.chapter("the customer answers and closes the exit: given back, case closed")
    story.play("answered", {"case": case, "note": "torrc sent: ExitRelay 0"}, at="+50h", task=None)
    story.play("lift", {"service": TWO, "case": case, "note": "no exit in the consensus any more"}, at="+50h")
    story.must(f"{TWO} is reached again", story.light(TWO))
    written = story.exported(case, at="+50h")
    story.must("the text names no sum, so nothing is owed", story.sums(written) == [])


def location(story: Story) -> None:
    strict = story.lab.guest(ONE)
    case = story.case("mining")
    story.chapter(f"location: {ONE} stands in Finland, {FAR} in Moscow")
    story.provide()

    story.chapter("a pool's address, dated, from a list: closed in Finland, open in Moscow (location.2.7, location.3.4)")
    pool(story.telling)
    story.must(f"the pool is closed to {ONE} in Finland", story.closed(ONE, *POOL))
    story.must(f"the pool is open to {FAR} in Moscow", all(story.open(FAR, *one) for one in POOL))
    story.must("what is no pool is open to both", all(story.open(one, plan.SINK[0], 587) for one in (ONE, FAR)))

    story.chapter("the same trigger, two outcomes: a miner")
    free = quota(strict)
    allowed = story.play("respond", {"service": FAR, "violation": "mining"})
    story.must("in Moscow mining is allowed, and nothing is opened", "allowed here by clause location.3.4" in allowed.said
               and story.spine.statuses(FAR) == [])
    plotting = story.play("respond", {"service": FAR, "violation": "plotting"}, quietly=True)
    story.must("plotting is not, there as elsewhere", [one["kind"] for one in plotting.of("ledger_respond")[0]["proposals"]] == ["io_throttle"])
    story.play("respond", {"service": ONE, "violation": "mining", "case": case, "confirm": True})
    story.must(f"in Finland {ONE} has a fifth of its processor, and is reached as before", quota(strict) != free and story.light(ONE))
    story.notices(ONE)

    story.chapter("the miner is gone: given back, case closed")
    story.play("lift", {"service": ONE, "case": case, "note": "miner removed"})
    story.must("its processor is its own again", quota(strict) == free)
    written = story.exported(case)
    story.must("judged by clause location.2.7, nothing owed", (written["case"]["clause"], story.sums(written)) == ("location.2.7", []))


def pool(telling: Telling) -> None:
    """Make the web server outside a pool, by a list of two addresses, and let the hosts take it up."""
    path = telling.lab.controller.state / "pools.txt"
    path.write_text("".join(f"{f'[{one}]' if ':' in one else one}:{plan.WEB_PORTS[0]}\n" for one in plan.WEB))
    telling.playbook("refresh_pools", task=None, hidden={
        "aup_resolvers": ["127.0.0.1"], "aup_pool_lists": [str(path)], "aup_pool_observe": "0",
        "aup_accept_networks": ["198.51.100.0/24", "2001:db8:ff::/64"]})
    telling.playbook("reconcile")


def quota(guest: Any) -> str:
    """What libvirt has of a guest's processor limits."""
    return "\n".join(line for line in guest.virsh("schedinfo").splitlines() if "quota" in line)


def xtom(story: Story) -> None:
    case = story.case("listed")
    story.chapter("xtom: port 25 is closed until a service is let through (xtom.13)")
    story.provide()
    story.must("closed to all", story.closed(ONE, MAIL) and story.closed(TWO, MAIL))
    asked = story.play("exempt", {"state": "requested", "service": ONE, "control": "smtp_outbound", "duration": "30d", "reason": "newsletters",
                                  "requested_by": "ticket 88"})
    (request,) = asked.of("ledger_exemption")[0]["requests"]
    story.must(f"{ONE} has asked, and is still closed", request["status"] == "pending" and story.closed(ONE, MAIL))
    story.play("exempt", {"state": "approved", "request": request["id"], "approved_by": "abuse desk"})
    story.must(f"open to {ONE} alone", story.open(ONE, *MAIL) and story.closed(TWO, MAIL))

    story.chapter(f"{ONE} gets an address blacklisted: mail closed in spite of the exemption (xtom.9)")
    story.play("respond", {"service": ONE, "violation": "blacklisting", "case": case, "confirm": True})
    story.must(f"port 25 is closed to {ONE}, and nothing else", story.closed(ONE, MAIL) and story.light(ONE)
               and story.open(ONE, *POOL[0]))
    story.notices()  # its text owes none

    story.chapter("90 minutes of delisting: 50.00 EUR once, and 50.00 EUR for each hour begun")
    story.play("charges", {"state": "recorded", "case": case, "fee": "delisting_hour", "worked": "90m", "reference": "WO-88"}, task=None)
    story.play("lift", {"service": ONE, "case": case, "note": "delisted"})
    story.must("mail is open again, as the exemption was before", story.open(ONE, *MAIL))
    story.play("exempt", {"service": ONE, "control": "smtp_outbound", "state": "revoked", "reason": "no more mail"}, quietly=True)
    written = story.exported(case)
    story.must("50.00 EUR and 100.00 EUR are owed", sorted(story.sums(written)) == ["100.00 EUR", "50.00 EUR"])


STORIES: dict[str, Callable[[Story], None]] = {"xtom": xtom, "location": location, "metrovps": metrovps, "alteron": alteron}


def tell(telling: Telling, policy: str) -> None:
    """Tell the story of a policy on a lab of two nodes; :class:`BrokenPromise` where a claim isn't so."""
    with mail_desk(telling.lab.controller.namespace) as mails:
        STORIES[policy](Story(telling, policy, mails))
