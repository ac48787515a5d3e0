# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a story is told: chapters, playbooks as an operator runs them, and claims that are checked as they are printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .lab import Lab
from .spine import Run, Spine
from .table import render

_WIDTH = 100


class BrokenPromise(Exception):
    """What was seen is not what the collection promises."""


class Words:
    """What is said; with ``loud`` False nothing is printed, and every claim is checked all the same."""

    def __init__(self, loud: bool = True):
        self.loud = loud
        self._chapter = 0

    def say(self, text: str = "") -> None:
        if self.loud:
            print(text, flush=True)

    def chapter(self, title: str) -> None:
        self._chapter += 1
        self.say(f"\n{f'{self._chapter}. {title} ':─<{_WIDTH}}")

    def must(self, claim: str, true: bool) -> None:
        if not true:
            raise BrokenPromise(f"not so: {claim}")
        self.say(f"  ✓ {claim}")

    def ran(self, verb: str, extra_vars: Mapping[str, Any] | None, output: str, seconds: float, *, task: str | None = "Summary",
            check: bool = False, who: str = "") -> None:
        """Print a playbook as it is typed, and its own summary (``task`` None: what its last task says)."""
        if self.loud:
            words = " ".join(_typed(key, value) for key, value in (extra_vars or {}).items())
            print(f"$ {who}ansible-playbook hosting.aup.{verb} {words}".rstrip() + (" --check" if check else "") + f"   ({seconds:.1f} s)")
            for line in summary(output, task):
                print(f"  | {line}")
            print(flush=True)


class Telling(Words):
    """A lab and what is said of it."""

    def __init__(self, lab: Lab, loud: bool = True):
        super().__init__(loud)
        self.lab = lab
        self.spine = Spine(lab)

    def reach(self) -> dict[str, dict[str, str]]:
        table = self.lab.reach_table()
        self.say(render(table))
        return table

    def playbook(self, verb: str, extra_vars: Mapping[str, Any] | None = None, *, at: str | None = None,
                 task: str | None = "Summary", quietly: bool = False, hidden: Mapping[str, Any] | None = None,
                 check: bool = False, env: Mapping[str, str] | None = None) -> Run:
        """Run a verb as an operator would and print its own summary; ``hidden`` are variables that an operator would
        have in the inventory, ``env`` who he is."""
        done = self.spine.play(verb, {**(extra_vars or {}), **(hidden or {})}, at=at, check=check, env=env).ok()
        if not quietly:
            who = "".join(f"{name}={value} " for name, value in (env or {}).items())
            self.ran(verb, extra_vars, done.stdout, done.printed.seconds, task=task, check=check, who=who)
        return done


def _typed(key: str, value: Any) -> str:
    """An extra variable as one types it."""
    if isinstance(value, list | dict):
        return f"-e '{json.dumps({key: value})}'"
    return f"-e {key}={value!r}" if " " in str(value) else f"-e {key}={value}"


def summary(output: str, task: str | None) -> list[str]:
    """What the last task (or the one named) said, without Ansible's own lines."""
    marker = "TASK [" if task is None else f"TASK [{task}"
    said = output.rpartition(marker)[2].partition("\nPLAY ")[0].splitlines()[1:]
    lines = []
    for line in said:
        text = line.strip()
        if text.startswith('"msg": "'):
            lines += text.removeprefix('"msg": "').removesuffix('"').replace('\\"', '"').split("\\n")
        elif text and text not in ("}", "]") and not text.startswith(("ok: [", "changed: [")):
            lines.append(line.rstrip())
    return lines
