# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that make namespaces and start daemons in them take all of it down when they are told to end. Needs root."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.netns import run
from tests.integration.routers.router_lab import ended

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {"demo": ["-m", "tests.integration.routers.demo"], "bench": ["tests/benchmarks/bench_peers.py", "100"]}
PATIENCE = 90


def eventually(condition):
    limit = time.monotonic() + PATIENCE
    while not (found := condition()) and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def spaces(pid):
    """The namespaces that a program has made."""
    return [line.split()[0] for line in run(["ip", "netns"])[1].splitlines() if line.startswith("aup%d-" % pid)]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_of_it_is_left(name, sign):
    program = subprocess.Popen(
        [sys.executable, *PROGRAMS[name]], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))

    def inside():
        return [int(pid) for space in spaces(program.pid) for pid in run(["ip", "netns", "pids", space])[1].split()]

    try:
        children = eventually(lambda: inside() or (program.poll() is not None and [0]))
        assert children and program.poll() is None, "it starts nothing"
        program.send_signal(sign)
        assert program.wait(PATIENCE) == 128 + sign
    finally:
        program.kill()
        program.wait()
    assert spaces(program.pid) == []
    assert eventually(lambda: all(map(ended, children))), children
