# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a node that has no lock of its own: a router, a cluster. PRIVATE to the collection."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError


@contextlib.contextmanager
def one_writer(folder, node, seconds=60):
    """Hold this controller's lock of a node.

    :param folder: for the locks of this controller
    :raises NodeError: `node_locked`, when another run holds it that long
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, "node-%s.lock" % hashlib.sha256(node.encode("utf-8")).hexdigest()[:24])
    end = time.monotonic() + seconds
    with open(path, "a", encoding="utf-8") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise NodeError("another run of this controller has worked on %s for %d s." % (node, seconds),
                                    code="node_locked", target=node, retryable=True,
                                    remedy="Wait for it, then run again.") from None
                time.sleep(0.1)
        yield
