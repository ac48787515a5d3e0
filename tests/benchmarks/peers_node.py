# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our side of `bench_peers.py`, as a process of its own in the host's namespace, as the module is.

    python3 peers_node.py apply|keep ROOT URI DESIRED
"""
from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.hosting.aup.plugins.module_utils._kvm_node import KvmNode


def run(argv, stdin=None):
    """The runner of the module."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def main(verb, root, uri, desired):
    """Plan and apply a desired state, or one pass of the keeper over the one kept."""
    gc.disable()  # as the module does
    node = KvmNode(run, uri=uri, root=root)
    if verb == "keep":
        done = node.keep(None)
        problems = done["errors"]
    else:
        packed = Path(desired).read_text(encoding="ascii")
        done = node.apply(packed, node.plan(packed)["plan_hash"])
        problems = done["errors"] + done["unverified"]
        if done["confirm"]:
            os.unlink(done["confirm"])
    if problems or not done["changed"]:
        raise SystemExit("%s: %s" % ("nothing was to be done" if not problems else "not achieved", problems[:2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
