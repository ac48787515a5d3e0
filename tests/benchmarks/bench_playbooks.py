# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runbooks cost beside a playbook with one empty task over the same inventory, on the lab's real guests.

Seconds and differences of medians, taken in turns in one run. Needs root.

    python tests/benchmarks/bench_playbooks.py [rounds] [services …]
"""
from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.lab.heartbeat import Heartbeat
from tests.lab.lab import Lab, Progress

EMPTY = "- hosts: aup_kvm_nodes\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"
HELD = "vps-1002"


def widen(lab: Lab, services: int) -> None:
    """Give the lab's catalogue that many services in all; those beyond the guests are not running."""
    inventory = lab.inventory()
    path = inventory.parent / "catalogue.yml"
    document = json.loads(path.read_text())
    document["prefixes"] += ["10.0.0.0/8"]
    for number in range(services - len(document["services"])):
        low = [number >> 16 & 255, number >> 8 & 255, number & 255]
        document["services"].append({
            "id": f"cold-{number}", "customer": f"c-{number}", "account_type": "personal", "node": "kvm1",
            "guest": {"name": f"cold-{number}"},
            "nics": [{"mac": "52:54:01:%02x:%02x:%02x" % tuple(low),
                      "addresses": ["10.%d.%d.%d" % tuple(low), f"2001:db8:1:1::{number:x}"]}]})
    path.write_text(json.dumps(document))


def suspension(lab: Lab) -> tuple[float, float]:
    """Seconds from the start of ``suspend`` to the last packet that passed, and to the end of the playbook."""
    guest = lab.guest(HELD)
    with Heartbeat(lab.internet.namespace, guest.plan.ipv4) as beat:
        while beat.last is None:
            time.sleep(0.05)
        began = time.monotonic()
        done = lab.ansible_playbook("hosting.aup.suspend", {"service": HELD, "violation": "attack_target",
                                                            "duration": "48h"}).must_succeed()
        time.sleep(0.5)
        dark = beat.last - began
    lab.ansible_playbook("hosting.aup.lift", {"service": HELD}).must_succeed()
    return dark, done.seconds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    sizes = [int(word) for word in sys.argv[2:]] or [1000, 10000]
    with Lab(say=Progress()) as lab:
        empty = lab.controller.state / "empty.yml"
        empty.write_text(EMPTY)
        lab.ansible_playbook("hosting.aup.provision").must_succeed()
        bare, dark, whole = [], [], []
        for _ in range(rounds):
            bare.append(lab.ansible_playbook(str(empty)).must_succeed().seconds)
            last, end = suspension(lab)
            dark.append(last)
            whole.append(end)
        base = statistics.median(bare)
        print(f"empty playbook {base:.2f} s; suspend: last packet after {statistics.median(dark):.2f} s "
              f"(+{statistics.median(dark) - base:.2f}), playbook {statistics.median(whole):.2f} s", flush=True)
        for size in sizes:
            widen(lab, size)
            first = lab.ansible_playbook("hosting.aup.provision").must_succeed().seconds
            bare, again = [], []
            for _ in range(rounds):
                bare.append(lab.ansible_playbook(str(empty)).must_succeed().seconds)
                again.append(lab.ansible_playbook("hosting.aup.provision").must_succeed().seconds)
            base = statistics.median(bare)
            print(f"{size} services: empty playbook {base:.2f} s; first provision {first:.2f} s (+{first - base:.2f}), "
                  f"unchanged {statistics.median(again):.2f} s (+{statistics.median(again) - base:.2f})", flush=True)


if __name__ == "__main__":
    main()
