# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak memory of a run's processes, read from /proc several times a second."""
from __future__ import annotations

import os
import threading
from pathlib import Path


def _status(pid: str, *names: str) -> dict[str, int]:
    """Fields of /proc/PID/status in kB; empty when it has gone."""
    try:
        text = Path("/proc", pid, "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: int(value.split()[0]) for key, _, value in (row.partition(":") for row in text.splitlines()) if key in names}


def _shared_out(pid: str) -> int:
    """kB of a process where what forks share is counted once between them (Pss)."""
    try:
        for row in Path("/proc", pid, "smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return 0


class Watch:
    """While used as a context manager: the largest Ansible process, all of them together, and the node's module.

    :ivar process: peak of the largest controller process, MiB
    :ivar together: peak of all controller processes at one moment, shared pages counted once, MiB
    :ivar module: peak of the largest Python process on the node, MiB
    """

    def __init__(self, controller: Path, node: Path, beat: float = 0.05):
        self._controller, self._node, self._beat = os.stat(controller).st_ino, os.stat(node).st_ino, beat
        self.process = self.together = self.module = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(self._beat):
            together = 0.0
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    space = os.stat(f"/proc/{pid}/ns/net").st_ino
                    if space not in (self._controller, self._node) or "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
                        continue
                except OSError:
                    continue
                peak = _status(pid, "VmHWM").get("VmHWM", 0) / 1024
                if space == self._node:
                    self.module = max(self.module, peak)
                else:
                    self.process = max(self.process, peak)
                    together += _shared_out(pid) / 1024
            self.together = max(self.together, together)
