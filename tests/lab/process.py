# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and long-running programs of the lab: never on stdin, never through a shell, ended by pid only."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """Something the lab needs did not work; the text says what and what to look at."""


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    text_in: str | None = None,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with ``check`` a non-zero exit is a :class:`LabError` with its last words."""
    source = {"input": text_in} if text_in is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout, env=env, check=False, **source
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed; run scripts/setup") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout:g} s: {' '.join(command)}") from error
    if check and done.returncode:
        raise LabError(f"exit {done.returncode}: {' '.join(command)}\n{(done.stderr or done.stdout).strip()}")
    return done


def children(pid: int) -> list[int]:
    """The pids of the direct children of a process (none if it has gone)."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def start_ticks(pid: int) -> int | None:
    """The kernel's start time of a process (clock ticks since boot): with the pid it names one process for good."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def end(pids: Sequence[int], patience: float = 2.0) -> None:
    """End processes by pid: first politely, after ``patience`` seconds for certain."""
    waiting = list(pids)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in waiting:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
        limit = time.monotonic() + patience
        while waiting and time.monotonic() < limit:
            waiting = [pid for pid in waiting if not _gone(pid)]
            time.sleep(0.02)
        if not waiting:
            return


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


class Process:
    """A long-running program of the lab. It dies with the lab's own process, however that ends."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None):
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, preexec_fn=_die_with_parent
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, sign: int = signal.SIGTERM, patience: float = 3.0) -> None:
        """End it and collect it; a second call does nothing."""
        if self.running:
            self._process.send_signal(sign)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
