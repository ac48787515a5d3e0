# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers between runs: its fence, what it must give back, its evidence. PRIVATE to the collection.

One directory for root alone, one lock, each file replaced whole. Everything that acts on the node
takes the same lock, so a reader never sees half a change and two runs never mix.
"""
from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import contextmanager

from ansible_collections.hosting.aup.plugins.module_utils._errors import FenceError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._journal import Journal

STATE_DIR = "/var/lib/hosting_aup"
LOCK_FILE = "/run/hosting_aup.lock"
FORMAT = 1
LOCK_SECONDS = 30


def empty_state():
    """The state of a node that was never converged."""
    return {"format": FORMAT, "fence": None, "baselines": {}, "counters": {}, "times": {}, "samples": {}, "reference": None, "adopted": None,
            "tc": {"used": False, "found": []}, "routes": {"used": False},
            "creating": {}, "created": {}, "images": {}, "located": None, "reached": None, "given_back": {}, "armed": None}


def check_fence(known, offered):
    """Refuse a desired state that is older than what the node has seen, or from a stranger.

    :param known: the fence of the node's state, or None
    :param offered: the fence of the desired state
    :raises FenceError: code `fence_old` (retry after resolving anew) or `fence_ledger`
    """
    if known is None:
        return
    if known["ledger"] != offered["ledger"]:
        raise FenceError(
            "this node belongs to ledger %s, the desired state comes from ledger %s."
            % (known["ledger"], offered["ledger"]), code="fence_ledger", target=offered["ledger"],
            remedy="If the ledger was replaced on purpose, run hosting.aup.retire with the old one, or provision "
                   "with -e aup_adopt_from_other_ledger=true.",
        )
    if (offered["epoch"], offered["generation"]) < (known["epoch"], known["generation"]):
        raise FenceError(
            "this node has seen generation %d of epoch %d, the desired state is generation %d of epoch %d."
            % (known["generation"], known["epoch"], offered["generation"], offered["epoch"]),
            code="fence_old", target=offered["ledger"], retryable=True,
            remedy="If the ledger was restored from a backup, run hosting.aup.new_epoch and then "
                   "hosting.aup.reconcile (docs/ledger.md). Otherwise run again.",
        )


class NodeState:
    """The files of one node. `root` prefixes every path; tests and keeper images use it."""

    def __init__(self, root=""):
        self.directory = root + STATE_DIR
        self.lock_path = root + LOCK_FILE
        self.journal = Journal(self._path("journal.jsonl"))

    def _path(self, name):
        return os.path.join(self.directory, name)

    @contextmanager
    def locked(self, seconds=LOCK_SECONDS):
        """Hold the node's lock.

        :param seconds: how long to wait for another run
        :raises NodeError: code `node_busy` when it is still held then
        """
        os.makedirs(os.path.dirname(self.lock_path), exist_ok=True)
        handle = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if self._is_the_lock(handle):
                        break
                    os.close(handle)
                    handle = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    continue
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 64, 0).decode("ascii", "replace").strip() or "unknown"
                    raise NodeError(
                        "another run (pid %s) holds this node since more than %d s." % (holder, seconds),
                        code="node_busy", retryable=True, remedy="Wait for it, then run again.",
                    )
                time.sleep(0.05)
            os.ftruncate(handle, 0)
            os.pwrite(handle, b"%d\n" % os.getpid(), 0)
            yield
        finally:
            os.close(handle)

    def _is_the_lock(self, handle):
        """Whether the file is still the lock: retiring a node removes it."""
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.lock_path))
        except FileNotFoundError:
            return False

    def _read(self, name, default):
        try:
            with open(self._path(name), encoding="utf-8") as handle:
                document = json.load(handle)
        except FileNotFoundError:
            return default
        except (OSError, ValueError) as exc:
            raise NodeError(
                "%s can't be read: %s." % (self._path(name), exc), code="state_damaged", target=self._path(name),
                remedy="Move the file away and provision the node: what must be given back is in the ledger too.",
            )
        if document.get("format") != FORMAT:
            raise NodeError(
                "%s has format %r, this collection reads %d." % (self._path(name), document.get("format"), FORMAT),
                code="state_newer", target=self._path(name),
                remedy="Run with the newer collection that wrote it.",
            )
        return document

    def write(self, name, data):
        """Replace one file as a whole, for root alone.

        :param data: bytes
        :raises NodeError: disk full, read-only …; the former file stays
        """
        path = self._path(name)
        temporary = path + ".new"
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view):]
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except OSError as exc:
            raise NodeError(
                "%s can't be written: %s." % (path, exc.strerror), code="state_unwritable", target=path,
                remedy="Free space or make the file system writable, then run again. The former file is untouched.",
            )

    def load(self):
        """state.json, or the state of a node never converged."""
        return dict(empty_state(), **self._read("state.json", {}))

    def save(self, state):
        """Write state.json."""
        self.write("state.json", json.dumps(state, sort_keys=True).encode("utf-8"))

    def load_ports(self):
        """`{"guests": as last seen or None, "owners": {port or MAC: service}}`, from ports.json.

        Apart from the state because it is most of it, and most runs need neither to read nor to write it.
        """
        return dict({"guests": None, "owners": {}}, **self._read("ports.json", {}))

    def has_ports(self):
        """Whether the ports were ever written down."""
        return os.path.exists(self._path("ports.json"))

    def save_ports(self, guests, owners):
        """Write ports.json."""
        self.write("ports.json", json.dumps({"format": FORMAT, "guests": guests, "owners": owners}).encode("utf-8"))

    def disarmed(self):
        """`{control or "all": {"at", "reason"}}`, from disarmed.json."""
        return self._read("disarmed.json", {"format": FORMAT, "controls": {}})["controls"]

    def save_disarmed(self, controls):
        """Write disarmed.json; it survives reboots and only `rearm` empties it."""
        self.write("disarmed.json", json.dumps({"format": FORMAT, "controls": controls}).encode("utf-8"))

    def by_hand(self):
        """`{service: {"id", "at", "until_at", "power", "reason", "actor"}}` held on this node by hand, from hand.json."""
        return self._read("hand.json", {"format": FORMAT, "held": {}})["held"]

    def save_by_hand(self, held):
        """Write hand.json; it survives reboots and every desired state, only `release` empties it."""
        self.write("hand.json", json.dumps({"format": FORMAT, "held": held}).encode("utf-8"))

    def desired(self, name="desired.z"):
        """The packed desired state last accepted, or None; `former.z` has the one before rules not confirmed yet."""
        try:
            with open(self._path(name), encoding="ascii") as handle:
                return handle.read()
        except FileNotFoundError:
            return None

    def desired_mark(self):
        """Changes whenever the desired state does; None without one. Costs next to nothing."""
        try:
            found = os.stat(self._path("desired.z"))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def forget(self):
        """Remove all files of ours: the node was retired. The caller holds the lock, which goes as well."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            names = None
        if names is not None:
            for name in names:
                os.unlink(self._path(name))
            os.rmdir(self.directory)
        try:
            os.unlink(self.lock_path)
        except FileNotFoundError:
            pass
