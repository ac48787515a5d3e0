# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A KVM host of its own with as many small guests as wanted; programs of ours run on it in its namespaces."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import libvirt_node

ROOT = Path(__file__).resolve().parents[3]


class Host(libvirt_node.LibvirtNode):
    """The node with guests `vps-1` to `vps-<services>`, some running, some paused, some off."""

    def __init__(self, services):
        super().__init__()
        self.services = services
        try:
            self.python("tests.integration.soak.inside", "define")
        except BaseException:
            self.close()
            raise

    @property
    def enter(self):
        """The words that run a command on the node."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--"]

    @staticmethod
    def environment(**more):
        """Where the collection under test is found."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)]), **more}

    def python(self, module, *words, timeout=120):
        """Run one of the modules beside this file on the node; what it printed, from JSON."""
        done = subprocess.run(
            [*self.enter, sys.executable, "-m", module, *words], input=json.dumps({"services": self.services}),
            capture_output=True, text=True, check=False, timeout=timeout, cwd=ROOT, env=self.environment())
        if done.returncode:
            raise RuntimeError("%s: %s" % (module, done.stderr[-4000:]))
        return json.loads(done.stdout)

    def seen(self):
        """What an enforcement may have touched."""
        return self.python("tests.integration.soak.inside", "observe")
