# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""New rules that cut off the controller undo themselves. PRIVATE to the collection.

Before new rules are loaded, the script that puts the former ones back is left in a file, and a
process of its own waits beside it. The controller confirms over a new connection by removing the
file. If it can't, the waiting process claims the file and loads it.
"""
from __future__ import annotations

import os
import time
import uuid

RUN_DIR = "/run/hosting_aup"


def rollback_path(token, root=""):
    """The file whose removal confirms the change with this token."""
    return "%s%s/rollback-%s.nft" % (root, RUN_DIR, token)


def arm(script, seconds, nft, root=""):
    """Start the waiting process.

    :param script: what `nft -f` has to load to put the former rules back
    :param seconds: time the controller has to confirm
    :param nft: absolute path of nft
    :returns: the token; remove `rollback_path(token)` to confirm
    """
    token = uuid.uuid4().hex
    path = rollback_path(token, root)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, script.encode("utf-8"))
    finally:
        os.close(handle)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return token
    os.setsid()
    if os.fork():
        os._exit(0)
    _wait(path, seconds, nft)
    return None  # not reached


def disarm(token, root=""):
    """Withdraw from the node's own side, where loading the new rules failed and nothing changed."""
    try:
        os.unlink(rollback_path(token, root))
    except FileNotFoundError:
        pass


def _wait(path, seconds, nft):
    """In the process of its own: let go of all that belonged to the module, wait, roll back, end."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, 4096)  # among them the node's lock and libvirt's connection
        os.chdir("/")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not os.path.exists(path):
                os._exit(0)
            time.sleep(0.2)
        claimed = path + ".claimed"
        os.rename(path, claimed)
        os.execv(nft, [nft, "-f", claimed])
    finally:
        os._exit(1)
