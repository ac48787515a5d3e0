# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `provision` and `reconcile` of one full node cost beside a playbook with one empty task.

Over real SSH with sudo to a lab node of its own, the distribution's Python there, same inventory for all,
taken in turns in one run. Needs root.

    python tests/benchmarks/bench_provision.py [rounds] [services …]
"""
from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import provider
from figures import line, spread
from memory import Watch

from tests.lab.lab import Lab

TARGETS = {1000: 3, 10000: 8}
ENOUGH = {1000: 150, 10000: 330}  # seconds after which a busy machine gets no further round
REAL = """\
{services} services with IPv4 and IPv6, {exempt} exemptions.
  real: SSH, sudo, the node's python3, its libvirtd with {services} defined guests ({running} of them running qemu, paused before their
        first step), nft, {services} taps in {bridges} bridges; ledger, catalogue and policy are files as an operator has them.
  not:  the other {rest} guests don't run, so their taps count as unknown guests' ports and carry the rules for those."""


class Turns:
    """One full node, and what is timed on it."""

    def __init__(self, lab: Lab, services: int):
        self.lab, self.services = lab, services
        self.node = lab.nodes[0]
        self.empty = lab.controller.state / "empty.yml"
        self.empty.write_text(provider.EMPTY)
        self.catalogue = lab.controller.inventory.parent / "catalogue.yml"

    def play(self, playbook: str, extra: dict | None = None) -> float:
        """Seconds of one playbook, which must succeed."""
        return self.lab.ansible_playbook(playbook, extra).must_succeed().seconds

    def provision(self, changed: bool) -> float:
        """Seconds of one `provision`, which must have found something to do on the node or not, as told."""
        done = self.lab.ansible_playbook("hosting.aup.provision").must_succeed()
        if bool(done.recap["kvm1"]["changed"]) != changed:
            raise RuntimeError(f"provision changed {'nothing' if changed else 'something'}:\n{done.stdout[-2000:]}")
        return done.seconds

    def exempt(self) -> None:
        """A tenth of the services may send mail, on record."""
        self.play("hosting.aup.exempt", {
            "service": [provider.service(number)["id"] for number in range(0, self.services, 10)],
            "control": "smtp_outbound", "duration": "365d", "reason": "PTR and SPF checked"})

    def forget(self) -> None:
        """As before the very first run: no ledger, nothing of ours on the node."""
        shutil.rmtree(self.lab.controller.state / "ledger")
        (self.lab.controller.state / "ledger").mkdir(mode=0o700)
        self.flush()
        self.node.run(["find", "/var/lib/hosting_aup", "-mindepth", "1", "-delete"])

    def flush(self) -> None:
        """Somebody flushed the packet filter."""
        self.node.run(["nft", "flush", "ruleset"])

    def edit(self, number: int) -> None:
        """The panel exports one service more, or one less."""
        document = json.loads(self.catalogue.read_text())
        if number % 2:
            document["services"].pop()
        else:
            document["services"].append({
                "id": "vps-new", "customer": "c-new", "account_type": "personal", "node": "kvm1", "guest": {"name": "vps-new"},
                "nics": [{"mac": "52:54:02:00:00:01", "addresses": ["10.255.0.1", "2001:db8:1:2::1"]}]})
        self.catalogue.write_text(json.dumps(document))


def measure(turns: Turns, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ("empty", "first", "flushed", "edited", "unchanged", "reconcile")}
    limit = time.monotonic() + ENOUGH.get(turns.services, 330)
    turns.play(str(turns.empty))  # compiles for all of them
    for _ in range(1 if turns.services > 1000 else 3):
        turns.forget()
        seconds["first"].append(turns.provision(changed=True))
    turns.exempt()
    turns.provision(changed=False)
    for number in range(rounds):
        if number > 1 and time.monotonic() > limit:
            break
        seconds["empty"].append(turns.play(str(turns.empty)))
        seconds["unchanged"].append(turns.provision(changed=False))
        turns.edit(number)
        seconds["edited"].append(turns.provision(changed=False))
        turns.flush()
        seconds["flushed"].append(turns.provision(changed=True))
        seconds["reconcile"].append(turns.play("hosting.aup.reconcile"))
    return seconds


def report(turns: Turns, seconds: dict[str, list[float]], watch: Watch) -> None:
    """Print one size's rows."""
    services = turns.services
    target = f"at most {TARGETS[services]} s" if services in TARGETS else ""
    print(REAL.format(services=services, exempt=services // 10, running=provider.RUNNING, rest=services - provider.RUNNING,
                      bridges=-(-services // provider.PORTS_OF_A_BRIDGE)))
    base = statistics.median(seconds["empty"])
    print(line(f"{services}: playbook with one empty task, {len(seconds['empty'])} rounds", spread(seconds["empty"])))
    for name, label in (
            ("unchanged", "provision, nothing to change"), ("edited", "provision, catalogue edited by one service"),
            ("flushed", "provision, all rules to be loaded anew"),
            ("first", f"provision, the first ({len(seconds['first'])} rounds; new ledger)"),
            ("reconcile", "reconcile, nothing to change")):
        difference = statistics.median(seconds[name]) - base
        # The target is about services that were adopted before.
        print(line(f"{services}: {label}", f"{spread(seconds[name])}  {difference:+.2f} s", "" if name == "first" else target))
    print(line(f"{services}: largest controller process", f"{watch.process:.0f} MiB", "under 300 MiB"))
    print(line(f"{services}: all controller processes, shared pages once", f"{watch.together:.0f} MiB", "under 300 MiB"))
    print(line(f"{services}: largest process of the module on the node", f"{watch.module:.0f} MiB", "under 300 MiB"))
    sys.stdout.flush()


def main() -> None:
    """Measure and print, size after size on one node."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    made = 0
    with provider.host() as lab:
        for services in sorted(int(word) for word in sys.argv[2:]) or sorted(TARGETS):
            began = time.monotonic()
            provider.make_ports(lab.nodes[0], made, services)
            provider.define_guests(lab.nodes[0], made, services)
            made = services
            provider.write_catalogue(lab.controller.inventory, services)
            lab.say(f"{services} guests and ports made in {time.monotonic() - began:.0f} s")
            turns = Turns(lab, services)
            seconds = measure(turns, rounds)
            turns.flush()
            with Watch(lab.controller.namespace.path, lab.nodes[0].namespace.path) as watch:
                turns.provision(changed=True)
            report(turns, seconds, watch)


if __name__ == "__main__":
    main()
