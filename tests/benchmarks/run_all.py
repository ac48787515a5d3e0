# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the benchmarks one after the other and ends with one table of what has a target.

Speed is reported, never judged by the exit status: that is 1 only when a benchmark did not run to its end, 130 after Ctrl-C.

    python tests/benchmarks/run_all.py [name …]
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from figures import table

HERE = Path(__file__).resolve().parent
TOTAL = 900  # seconds for all; what a benchmark leaves over the next ones may take
# Arguments, and seconds after which a benchmark is ended however much time is left.
BENCHMARKS = {
    "nftables": (["10000", "5"], 130),
    "node": (["10000", "5"], 130),
    "keeper": (["1000", "5"], 90),
    "enforce": (["1000", "100", "3"], 150),
    "peers": (["1", "100", "20000"], 150),
    "packets": (["3", "8000"], 200),
    "pools": (["20000", "3"], 60),
    "proxmox": (["1000"], 110),
    "router": (["3"], 120),
    "routers": (["50", "10"], 180),
    "suspend": (["7"], 180),
    "provision": (["5", "1000", "10000"], TOTAL),
}
CLEAN_UP = 60  # seconds a benchmark has to clear its lab away


class Interrupted(Exception):
    """Somebody wants an end."""


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(signal.Signals(number).name)


def end(child: subprocess.Popen) -> None:
    """Ask a benchmark to clear its lab away and wait for that; what still runs then is killed."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(CLEAN_UP)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def run(name: str, left: int) -> tuple[str, str]:
    """`(what it printed, why it did not end well)` of one benchmark, shown while it runs.

    :param left: seconds that are left of all
    """
    arguments, seconds = BENCHMARKS[name]
    seconds = max(30, min(seconds, left))
    # A session of its own: Ctrl-C comes here first, and goes on to the benchmark alone, not to each command it runs.
    child = subprocess.Popen([sys.executable, "-u", str(HERE / f"bench_{name}.py"), *arguments],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    printed, limit = [], False

    def late(_number: int, _frame: object) -> None:
        nonlocal limit
        limit = True
        child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        for text in child.stdout:
            printed.append(text)
            sys.stdout.write(text)
            sys.stdout.flush()
        child.wait()
    except Interrupted:
        signal.alarm(0)
        end(child)
        raise
    signal.alarm(0)
    problem = f"ended after {seconds} s" if limit else f"exit status {child.returncode}" if child.returncode else ""
    return "".join(printed), problem


def main(names: list[str]) -> int:
    """Run these, or all; returns the exit status."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        sys.stderr.write(f"bench: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    log, problems, status = "", [], 0
    began = time.monotonic()
    try:
        for name in names or BENCHMARKS:
            head = f"== {name} (at {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)\n"
            sys.stdout.write("\n" + head)
            sys.stdout.flush()
            text, problem = run(name, int(TOTAL - (time.monotonic() - began)))
            log += head + text
            if problem:
                problems.append(f"{name}: {problem}")
    except Interrupted as why:
        problems.append(f"{why}: the rest was left out")
        status = 130
    print(f"\nWhat has a target ({time.monotonic() - began:.0f} s in all; a shared machine makes every figure noisier):\n{table(log)}")
    for problem in problems:
        sys.stderr.write(f"bench: did not run to its end: {problem}\n")
    return status or (1 if problems else 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
