# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of the collection on real guests (``make demo``). Every claim it prints is checked on the way."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.netns import exit_of

from . import inventory, plan, story_asergo
from .controller import collections_path
from .guest import Guest
from .lab import Lab, Progress, machine_network
from .measured import Measured
from .process import LabError, run
from .stories import PLACES, POOL, STORIES, pool, tell
from .table import compare
from .telling import BrokenPromise, Telling

KEPT, HELD, FAR = "vps-1001", "vps-1002", "vps-1004"
STRANGER = "203.0.113.99"  # an address of nobody here
EXIT = "ORPort 9001\nNickname anexit\nContactInfo me@customer.example\nExitRelay 1\nExitPolicy accept *:443\n"
_SEEN = "table ip seen { chain seen { type filter hook prerouting priority -300; policy accept; ip saddr %s counter\n}\n}\n" % STRANGER


def state_of(lab: Lab, guest: Guest) -> dict[str, str]:
    """A guest's state field by field, from libvirt, from inside the guest, and from outside."""
    described = guest.virsh("dumpxml", "--inactive")
    scheduler = dict(line.split(":") for line in guest.virsh("schedinfo").replace(" ", "").splitlines())
    fields = {
        "power": guest.state,
        "autostart": "on" if guest.autostart else "off",
        "cable": guest.link,
        "port on the host": str(guest.tap),
        "CPU share": f"{scheduler.get('cpu_shares')}, quota {scheduler.get('vcpu_quota')}",
        "definition (sha256)": hashlib.sha256(described.encode()).hexdigest()[:16],
        "boot id (inside)": guest.uptime().boot_id,
    }
    return {**fields, **{f"reach: {column}": word for column, word in lab.reach(guest.name).items()}}


class Demo(Telling):
    """The collection's own story. ``tell`` runs it; :class:`BrokenPromise` says what did not come true."""

    def tell(self) -> None:
        lab = self.lab
        kept, held = lab.guest(KEPT), lab.guest(HELD)
        held.virsh("autostart")
        self._describe()

        self.chapter("Before: four guests on two hosts, no policy")
        before = self.reach()
        self.must("every guest reaches everything", all(word == "open" for row in before.values() for word in row.values()))
        self._outside("nft", _SEEN)
        kept.ask("spoof", STRANGER, plan.WEB[0], timeout=15)
        self.must(f"what {KEPT} sends from {STRANGER}, which isn't its own, gets out", self._spoofed() > 0)

        self.chapter("provision: the host is adopted, outgoing port 25 closed as the policy says")
        self.playbook("provision")
        closed = self.reach()
        for name, row in closed.items():
            self.must(f"{name}: port 25 closed on both families, all else as before", row == {
                column: row[column] if column.startswith("smtp") else "open" for column in row}
                and "open" not in (row["smtp 25"], row["smtp 25/6"]))
        again = self.playbook("provision", quietly=True)
        self.must("a second provision changes nothing on the hosts",
                  not any(again.printed.recap[node.name]["changed"] for node in lab.nodes))

        self.chapter(f"anti_spoofing: {KEPT} sends from {STRANGER} again")
        out = self._spoofed()
        kept.ask("spoof", STRANGER, plan.WEB[0], timeout=15)
        self.must("nothing of it gets out", self._spoofed() == out)
        told = self.playbook("explain", {"service": KEPT}, task=None)
        self.must("explain has it, counted and with the address", STRANGER in told.said)

        self.chapter(f"exempt: {KEPT} may send mail for 30 days")
        self.playbook("exempt", {"service": KEPT, "control": "smtp_outbound", "duration": "30d",
                                 "reason": "PTR and SPF checked, ticket 88"})
        table = self.reach()
        self.must(f"{KEPT} reaches port 25 on both families", table[KEPT]["smtp 25"] == table[KEPT]["smtp 25/6"] == "open")
        self.must("the others don't", all(table[name] == closed[name] for name in table if name != KEPT))
        self.must(f"a message of {KEPT} is taken by the server outside", kept.mail(plan.SINK[1]).startswith("accepted"))

        self.chapter(f"suspend: {HELD} for 48 hours; {KEPT} beside it must not notice")
        former = state_of(lab, held)
        neighbour = kept.uptime()
        self.must(f"{KEPT} has a connection to port 25 open", kept.open("story", plan.SINK[0], 25).startswith("open"))
        self.playbook("suspend", {"service": HELD, "violation": "attack_target", "duration": "48h", "case": "T-1",
                                  "note": "3 Gbit/s on its address"})
        table = self.reach()
        self.must(f"{HELD} is dark both ways", set(table[HELD].values()) <= {"silent", "timeout", "unreachable"})
        self.must(f"{HELD} is paused, its autostart off", (held.state, held.autostart) == ("paused", False))
        self.must(f"{KEPT} reaches and is reached as before", set(table[KEPT].values()) == {"open"})
        self.must(f"{KEPT}'s open connection still answers", kept.say("story").startswith("answer 250"))
        self.playbook("explain", {"service": HELD}, task=None)

        self.chapter("reconcile, an hour early: nothing ends before its time (the lab's clock says +47 h)")
        self.playbook("reconcile", at="+47h")
        self.must(f"{HELD} is still paused", held.state == "paused" and not lab.internet.ping(held.plan.ipv4))

        self.chapter("reconcile, after the end: given back exactly (the lab's clock says +49 h)")
        self.playbook("reconcile", at="+49h")
        self.reach()
        text, same = compare(former, state_of(lab, held))
        print(text)
        self.must(f"{HELD} is as it was in every field, resumed and not rebooted", same)
        now = kept.uptime()
        self.must(f"{KEPT} ran through all of it", now.boot_id == neighbour.boot_id and now.seconds > neighbour.seconds)

        self.chapter("the keeper on the host ends a suspension with controller and ledger gone")
        node = held.node
        place = node.path("/etc/aup-node")
        place.write_bytes(program())
        node.run(["sh", "-c", "setsid /usr/bin/python3 -I /etc/aup-node --clock trusted run </dev/null >/var/log/keeper.log 2>&1 &"])
        # A minute is the shortest there is: with the controller's clock 40 seconds behind, 20 of it are left.
        self.playbook("suspend", {"service": HELD, "violation": "attack_target", "duration": "1m", "case": "T-2"}, at="-40s")
        self.must(f"{HELD} is paused", held.state == "paused")
        ledger = Path(lab.controller.ledger_url.removeprefix("sqlite:///")).parent
        gone = ledger.rename(ledger.with_name("gone"))
        lab.controller.namespace.ip(f"link set to-{node.name} down")
        print("  the controller's cable is out, the ledger is gone", flush=True)
        limit = time.monotonic() + 60
        while held.state == "paused" and time.monotonic() < limit:
            time.sleep(0.2)
        self.must(f"{HELD} runs and is reached again", held.state == "running" and lab.internet.ping(held.plan.ipv4))
        lab.controller.namespace.ip(f"link set to-{node.name} up")
        gone.rename(ledger)
        done = self.playbook("reconcile")
        self.must("the ledger has taken in that the host ended it", "ended by the node itself" in done.stdout)

        Measured(self).tell()

        self.chapter("mining by location: a pool from a list, closed where the policy closes it")
        pool(self)
        far = lab.guest(FAR)
        self.must(f"the pool is closed to {KEPT}, on both families", all(kept.tcp(*one) != "open" for one in POOL))
        self.must(f"it is open to {FAR}, whose location allows mining", all(far.tcp(*one) == "open" for one in POOL))
        self.must(f"what is no pool is open to {KEPT}", kept.tcp(plan.SINK[0], 587) == "open")
        told = self.playbook("explain", {"service": KEPT}, task=None)
        self.must("explain has the pool's address", plan.WEB[0] in told.said)

        self.chapter("tor_exit: a relay's configuration, and an exit's")
        self._relay_and_exit()

    def _describe(self) -> None:
        """The second host stands in a location of its own, where mining is allowed."""
        target = self.lab.controller.inventory.parent
        policy, catalogue = inventory.policy(), inventory.catalogue(self.lab.nodes)
        policy["locations"] = ["lab", "elsewhere"]
        policy["controls"]["mining"] = {"mode": "enforce", "adoption": {"mode": "enforce"},
                                        "rules": [{"when": {"location": "elsewhere"}, "mode": "off"}]}
        catalogue["nodes"][self.lab.nodes[1].name]["location"] = "elsewhere"
        (target / "provider.yml").write_text(json.dumps(policy))
        (target / "catalogue.yml").write_text(json.dumps(catalogue))

    def _outside(self, program: str, script: str) -> None:
        run([*self.lab.internet.namespace.enter, program, "-f", "-"], text_in=script)

    def _spoofed(self) -> int:
        """Packets from the stranger's address that came out."""
        listing = run([*self.lab.internet.namespace.enter, "nft", "-j", "list", "table", "ip", "seen"]).stdout
        (rule,) = (entry["rule"] for entry in json.loads(listing)["nftables"] if "rule" in entry)
        return next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)

    def _relay_and_exit(self) -> None:
        sys.path.insert(0, str(collections_path()))
        from ansible_collections.hosting.aup.plugins.module_utils._tor_config import torrc
        from ansible_collections.hosting.aup.plugins.plugin_utils._tor._torrc import verdict

        relay = torrc({"kind": "relay", "nickname": "arelay", "contact": "me@customer.example"})
        for name, text in (("a relay, as the role tor writes it", relay), ("an exit", EXIT)):
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / "torrc"
                path.write_text(f"{text}DataDirectory {place}\n")
                good = subprocess.run(["tor", "--verify-config", "-f", str(path)], capture_output=True, check=False).returncode == 0
            found = verdict(text)
            self.say(f"  {name}: tor takes it: {'yes' if good else 'no'}; to us: {found.reason}")
            self.must(f"{name}: {'refused' if text is EXIT else 'accepted'}",
                      good and (found.exits4 or found.exits6) == (text is EXIT))


def program() -> bytes:
    """The keeper's program, packed from the collection that the playbooks run."""
    collections = collections_path()
    sys.path.insert(0, str(collections))
    from ansible_collections.hosting.aup.plugins.plugin_utils._zipapp import build

    return build(collections / "ansible_collections/hosting/aup")


def main(arguments: list[str]) -> int:
    """``make demo``; with the name of a policy, that policy's story."""
    began = time.monotonic()
    progress = Progress(sys.stdout)
    name = arguments[0] if arguments else None
    known = ["asergo", *STORIES]
    if name is not None and name not in known:
        print(f"demo: there is no story of {name!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        network = machine_network()
        if name == "asergo":
            story_asergo.tell()
        else:
            with Lab(nodes=len(PLACES), say=progress) as lab:
                if name:
                    tell(Telling(lab), name)
                else:
                    Demo(lab).tell()
        if machine_network() != network:
            raise BrokenPromise("not so: this machine's own links, addresses, routes and rules are as found")
        print("  ✓ this machine's own links, addresses, routes and rules are as found")
        print(f"\nTold in {time.monotonic() - began:.0f} s, every claim checked.", flush=True)
    except (BrokenPromise, LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(exit_of(lambda: main(sys.argv[1:])))
