# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a guest still sends after somebody started `suspend`, beside a playbook with one empty task.

On the lab's real guests. The guest answers an echo request every 5 ms; what counts is the last answer that arrived
in the internet namespace. In turns in one run, lifted in between. Needs root.

    python tests/benchmarks/bench_suspend.py [rounds]
"""
from __future__ import annotations

import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from figures import line, spread
from provider import EMPTY

from tests.lab.heartbeat import Heartbeat
from tests.lab.lab import Lab, Progress

HELD = "vps-1002"
BEAT = 0.005
SUSPEND = {"service": HELD, "violation": "attack_target", "duration": "48h"}
_MODULE = re.compile(r"^(?:<\S+> )?Using module file \S*/([A-Za-z0-9_]+)\.py", re.MULTILINE)
_COMMAND = re.compile(r"^<(\S+)> SSH: EXEC (.*)$", re.MULTILINE)


def suspension(lab: Lab) -> tuple[float, float]:
    """Seconds from the start of `suspend` to the last packet that arrived outside, and to the playbook's end."""
    with Heartbeat(lab.internet.namespace, lab.guest(HELD).plan.ipv4, BEAT) as beat:
        limit = time.monotonic() + 10
        while beat.last is None:
            if time.monotonic() > limit:
                raise RuntimeError(f"{HELD} does not answer before it is suspended")
            time.sleep(BEAT)
        began = time.monotonic()
        done = lab.ansible_playbook("hosting.aup.suspend", SUSPEND).must_succeed()
        time.sleep(0.5)
        dark = beat.last - began
        if beat.last > time.monotonic() - 0.3:
            raise RuntimeError(f"{HELD} still answers after suspend has ended")
    return dark, done.seconds


def lift(lab: Lab) -> None:
    """Give the service back, so that the next round begins as this one did."""
    lab.ansible_playbook("hosting.aup.lift", {"service": HELD}).must_succeed()


def commands(lab: Lab) -> tuple[Counter, list[str], bool]:
    """What one `suspend` runs on the node: modules by name, the other commands, and whether facts were gathered."""
    said = lab.ansible_playbook("hosting.aup.suspend", SUSPEND, arguments=("-vvv",)).must_succeed().stdout
    modules = Counter(_MODULE.findall(said))
    plain = [text for _host, text in _COMMAND.findall(said) if "python" not in text]
    return modules, plain, "Gathering Facts" in said or any(name in modules for name in ("setup", "gather_facts"))


def main(rounds: int = 7) -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {"empty": [], "dark": [], "whole": []}
    with Lab(say=Progress()) as lab:
        empty = lab.controller.state / "empty.yml"
        empty.write_text(EMPTY)
        lab.ansible_playbook("hosting.aup.provision").must_succeed()
        modules, plain, facts = commands(lab)
        lift(lab)
        for _ in range(rounds):
            seconds["empty"].append(lab.ansible_playbook(str(empty)).must_succeed().seconds)
            dark, whole = suspension(lab)
            seconds["dark"].append(dark)
            seconds["whole"].append(whole)
            lift(lab)
    base = statistics.median(seconds["empty"])
    print(f"Three real guests (TCG), one bridged guest is suspended, {rounds} rounds, an echo every {BEAT * 1000:.0f} ms.")
    print(line("playbook with one empty task", spread(seconds["empty"])))
    print(line("suspend: last packet after its start",
               f"{spread(seconds['dark'])}  {statistics.median(seconds['dark']) - base:+.2f} s", "at most 3 s"))
    print(line("suspend: the whole playbook, summary printed",
               f"{spread(seconds['whole'])}  {statistics.median(seconds['whole']) - base:+.2f} s"))
    print(line("suspend: module calls on the node", f"{modules.total()} calls", "exactly 2 calls"))
    print(f"  modules: {', '.join(f'{name} {count} times' for name, count in sorted(modules.items()))}; "
          f"other commands on the node: {len(plain)}, over a new connection; facts gathered: {'yes' if facts else 'no'}")


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:]])
