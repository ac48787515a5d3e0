# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab up|down|status|shell|reach``: a lab to play with."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from .controller import CHECKOUT, collections_path
from .lab import LABS, Lab, Progress, owner_alive, sweep
from .process import LabError
from .table import render


def up(arguments: argparse.Namespace) -> int:
    """Hold a lab up until Ctrl-C or ``down``."""
    with Lab(nodes=arguments.nodes, say=Progress()) as lab:
        controller = lab.controller
        settings = " ".join(f"{key}={value}" for key, value in sorted(controller.environment().items()) if key != "PATH")
        print(f"""
Run the controller's Ansible (in another terminal, as root):

  cd {CHECKOUT}
  alias on-controller='nsenter --net={controller.namespace.path} env {settings} \\
      PATH={controller.environment()["PATH"]}'
  on-controller ansible-playbook -i {controller.inventory} hosting.aup.status

and see what guests reach:      .build/venv/bin/python -m tests.lab reach
a shell on a node:              .build/venv/bin/python -m tests.lab shell kvm1
down:                           Ctrl-C here, or .build/venv/bin/python -m tests.lab down
collection under test:          {collections_path()}""", flush=True)
        asked = lab.state / "reach"
        while True:
            # Guests are reached through the sinks and eyes of this process, so it looks on others' behalf.
            if asked.exists():
                asked.unlink()
                answer = lab.state / "reach.json"
                answer.with_suffix(".new").write_text(json.dumps(lab.reach_table()))
                answer.with_suffix(".new").rename(answer)
            time.sleep(0.2)


def living() -> list[Path]:
    """The directories of the labs that are up."""
    return [place for place in sorted(LABS.glob("*")) if owner_alive(place)]


def one() -> Path:
    found = [place for place in living() if (place / "up").exists()]
    if not found:
        raise LabError("no lab is up: start one with make lab")
    return found[-1]


def down(_arguments: argparse.Namespace) -> int:
    """End the labs of this checkout, also what one left that was killed."""
    for place in living():
        pid = int(place.name.split(".")[0])
        print(f"ending the lab of process {pid}", flush=True)
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + 30
        while place.exists() and time.monotonic() < limit:
            time.sleep(0.1)
    sweep()
    return 0


def status(_arguments: argparse.Namespace) -> int:
    """Print what is up, as JSON."""
    print(json.dumps([json.loads((place / "up").read_text()) for place in living() if (place / "up").exists()], indent=2))
    return 0


def shell(arguments: argparse.Namespace) -> int:
    """Become a shell on a node (or run a command there)."""
    nodes = json.loads((one() / "up").read_text())["nodes"]
    if arguments.node not in nodes:
        raise LabError(f"the lab has no node {arguments.node}; it has {', '.join(nodes)}")
    command = ["nsenter", "--target", str(nodes[arguments.node]["pid"]), "--mount", "--uts", "--ipc", "--net", "--pid",
               "--cgroup", "--", *(arguments.command or ["bash"])]
    os.execvp(command[0], command)


def reach(_arguments: argparse.Namespace) -> int:
    """Print what each guest reaches now."""
    place = one()
    answer = place / "reach.json"
    answer.unlink(missing_ok=True)
    (place / "reach").touch()
    limit = time.monotonic() + 60
    while not answer.exists():
        if time.monotonic() > limit:
            raise LabError("the lab does not answer")
        time.sleep(0.1)
    print(render(json.loads(answer.read_text())))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for function in (up, down, status, shell, reach):
        verb = verbs.add_parser(function.__name__, help=function.__doc__)
        verb.set_defaults(run=function)
        if function is up:
            verb.add_argument("--nodes", type=int, choices=range(1, 6), default=1, help="how many KVM hosts")
        if function is shell:
            verb.add_argument("node", nargs="?", default="kvm1")
            verb.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
