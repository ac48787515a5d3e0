# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""New rules that cut off the controller undo themselves. PRIVATE to the collection.

Before new rules are loaded, the script that puts the former ones back is left in a file, and a
process of its own waits beside it. The controller confirms over a new connection by removing the
file. If it can't, the waiting process claims the file and loads it.

A run that was killed before it could confirm leaves its file behind. The next run takes that over:
it confirms the file over its own connection, or, when it changes the rules itself, arms with the
same script, which is that of the last rules anybody confirmed. Otherwise the dead run's process
would undo what the living one has put in order.
"""
from __future__ import annotations

import fcntl
import os
import time
import uuid

RUN_DIR = "/run/hosting_aup"
PATIENCE_SECONDS = 600  # for the run that armed, which may wait for guests to shut down


def rollback_path(token, root=""):
    """The file whose removal confirms the change with this token."""
    return "%s%s/rollback-%s.nft" % (root, RUN_DIR, token)


def waiting(root=""):
    """Tokens not confirmed and not claimed yet, oldest first."""
    try:
        names = os.listdir(root + RUN_DIR)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.startswith("rollback-") and name.endswith(".nft"):
            try:
                found.append((os.stat(os.path.join(root + RUN_DIR, name)).st_mtime_ns, name[len("rollback-"):-len(".nft")]))
            except FileNotFoundError:
                continue  # confirmed or claimed this moment
    return [token for _time, token in sorted(found)]


def arm(script, seconds, nft, lock_path, root="", scripts_of=None):
    """Start the waiting process. The caller holds the node's lock.

    :param script: what `nft -f` has to load to put the former rules back
    :param scripts_of: `f(script) -> [scripts]` to load in its place, one after the other, so that nothing slips through
    :param seconds: time the controller has to confirm, from when the caller lets go of the lock
    :param nft: absolute path of nft
    :param lock_path: the node's lock
    :returns: the token; remove `rollback_path(token)` to confirm
    """
    token = uuid.uuid4().hex
    path = rollback_path(token, root)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    unconfirmed = waiting(root)
    if unconfirmed:
        with open(rollback_path(unconfirmed[0], root), encoding="utf-8") as former:
            script = former.read()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, script.encode("utf-8"))
    finally:
        os.close(handle)
    for superseded in unconfirmed:
        disarm(superseded, root)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return token
    os.setsid()
    if os.fork():
        os._exit(0)
    _wait(path, seconds, nft, lock_path, scripts_of or (lambda text: [text]))
    return None  # not reached


def disarm(token, root=""):
    """Withdraw from the node's own side, where loading the new rules failed and nothing changed."""
    try:
        os.unlink(rollback_path(token, root))
    except FileNotFoundError:
        pass


def forget(root=""):
    """Remove what earlier rollbacks left, for a node that is retired. A change not yet confirmed stays."""
    directory = root + RUN_DIR
    try:
        for name in os.listdir(directory):
            if name.endswith(".claimed"):
                os.unlink(os.path.join(directory, name))
        os.rmdir(directory)
    except OSError:
        pass  # never made, or a change waits there: its process removes the directory


def _wait(path, seconds, nft, lock_path, scripts_of):
    """In the process of its own: let go of all that belonged to the module, wait, roll back, end."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, 4096)  # among them the node's lock and libvirt's connection
        os.chdir("/")
        # The time to confirm begins when the run that armed has ended: giving guests time to shut
        # down must not use it up. And no run must be under way when the rules go back.
        _take(lock_path, PATIENCE_SECONDS, path)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _end_if_confirmed(path)
            time.sleep(0.2)
        _take(lock_path, PATIENCE_SECONDS, path, keep=True)  # held until the former rules are back
        claimed = path + ".claimed"
        os.rename(path, claimed)
        with open(claimed, encoding="utf-8") as handle:
            script = handle.read()
        for number, text in enumerate(scripts_of(script)):
            if text == script:
                _load(nft, claimed)
            else:
                _help(nft, "%s.%d.claimed" % (path, number), text)
        os._exit(0)
    finally:
        os._exit(1)


def _load(nft, path):
    os.waitpid(os.posix_spawn(nft, [nft, "-f", path], os.environ), 0)


def _help(nft, path, text):
    """Load a script that only helps: whatever is in its way, the former rules come back."""
    try:
        with open(path, "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), 0o600)
            handle.write(text)
        _load(nft, path)
    except OSError:
        return


def _take(lock_path, seconds, path, keep=False):
    """Wait until nobody holds the lock; with `keep`, hold it. None without a lock, or after that time all the same."""
    deadline = time.monotonic() + seconds
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # the node was retired
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < deadline:
                _end_if_confirmed(path)
                time.sleep(0.2)
                continue
        if not keep:
            os.close(handle)
        return handle


def _end_if_confirmed(path):
    if os.path.exists(path):
        return
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # another change waits there
    os._exit(0)
