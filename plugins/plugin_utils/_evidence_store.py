# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of evidence on the controller, by their digests. PRIVATE to the collection.

A directory of our own (0700) with a file per digest (0600), `ab/abcd…`. Everything is opened below the directory's own
handle and never through a symbolic link; no name that somebody chose is ever a name in it. What is added is copied to
a partial file that its writer holds a lock on, and renamed within the ledger's writing transaction.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_BLOCK = 1 << 20
_DIGEST, _PARTIAL = re.compile(r"[0-9a-f]{64}"), re.compile(r"\.partial-[0-9a-f]{16}")
_OWNER = "ledger"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _refused(text, target="file", remedy="Name a plain file by its real, absolute path."):
    return InputError(text, target=target, remedy=remedy)


@contextmanager
def source(path):
    """A plain file of the controller, opened for reading: no link on the whole way, no device, no pipe.

    :raises InputError: with what it is instead
    """
    shown = repr(path) if isinstance(path, str) else "file"
    if not isinstance(path, str) or not path or "\x00" in path or not os.path.isabs(path):
        raise _refused("%s is not an absolute path." % shown)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise _refused("%s is not the path of a file." % shown)
    handle = os.open("/", _DIRECTORY)
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            # O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY if last else _DIRECTORY
            try:
                if last and not stat.S_ISREG(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode):
                    raise _refused("%s is no plain file." % shown)
                below = os.open(part, flags, dir_fd=handle)
            except OSError as exc:
                link = exc.errno in (errno.ELOOP, errno.ENOTDIR)
                raise _refused("%s can't be read: %s." % (shown, "a symbolic link or no directory is on the way" if link else exc.strerror)) from exc
            os.close(handle)
            handle = below
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _refused("%s is no plain file." % shown)
        yield handle
    finally:
        os.close(handle)


def digest_of(path, largest, into=None):
    """(SHA-256, size) of a file read in a stream; written to the handle `into` on the way, if there is one.

    :raises InputError: no plain file, larger than `largest` bytes, or changed while it was read
    """
    with source(path) as handle:
        before = os.fstat(handle)
        if before.st_size > largest:
            raise _too_large(path, largest)
        sha, size = hashlib.sha256(), 0
        while True:
            try:
                block = os.read(handle, _BLOCK)
            except OSError as exc:
                raise _refused("%r can't be read: %s." % (path, exc.strerror)) from exc
            if not block:
                break
            size += len(block)
            if size > largest:
                raise _too_large(path, largest)
            sha.update(block)
            if into is not None:
                view = memoryview(block)
                while view:
                    view = view[os.write(into, view):]
        after = os.fstat(handle)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
            raise _refused("%r changed while it was read." % (path,), remedy="Add it once nobody writes to it.")
        return sha.hexdigest(), size


def _too_large(path, largest):
    return _refused("%r is larger than %d MiB." % (path, largest >> 20), remedy="Raise evidence.largest_mib of the policy, or add less of it.")


class Store:
    """The directory. Made by the first file that is kept.

    :param directory: absolute path
    :param ledger_id: whose files these are; a directory belongs to one ledger
    """

    def __init__(self, directory, ledger_id):
        if not isinstance(directory, str) or not os.path.isabs(directory) or "\x00" in directory:
            raise InputError("%r is not an absolute path." % (directory,), target="directory", remedy="Name a directory of its own (aup_evidence_dir).")
        self.directory, self._ledger_id = os.path.normpath(directory), ledger_id

    @contextmanager
    def _open(self, make=False):
        """The directory's handle, or None where there is none."""
        made = False
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(self.directory, 0o700)
                    made = True
            handle = os.open(self.directory, _DIRECTORY)
        except OSError as exc:
            if make or not isinstance(exc, FileNotFoundError):
                raise self._error(exc) from exc
            handle = None
        if handle is None:
            yield None
            return
        try:
            self._check_own(handle)
            self._check_ledger(handle, make)
            if made:
                _sync(os.path.dirname(self.directory))
            yield handle
        except OSError as exc:
            raise self._error(exc) from exc
        finally:
            os.close(handle)

    def _error(self, exc):
        return InputError("evidence can't be kept in %s: %s." % (self.directory, exc.strerror or exc), target="directory",
                          remedy="It has to be a directory of its own, with mode 0700, no link, on a disk with room.")

    def _check_own(self, handle):
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise InputError("%s is open to others (mode %04o, owner %d)." % (self.directory, stat.S_IMODE(found.st_mode), found.st_uid),
                             target="directory", remedy="Make it the ledger user's own, with mode 0700.")

    def _check_ledger(self, handle, make):
        """A directory belongs to one ledger: another one's files would be none to this one."""
        try:
            owner = os.open(_OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        except FileNotFoundError:
            if not make:
                return
            self._write_owner(handle)
            return
        try:
            said = os.read(owner, 200).decode("ascii", "replace").strip()
        finally:
            os.close(owner)
        if said != self._ledger_id:
            raise InputError("%s belongs to ledger %s, this is %s." % (self.directory, said, self._ledger_id), target="directory",
                             remedy="Give each ledger a directory of its own.")

    def _write_owner(self, handle):
        name = ".partial-" + secrets.token_hex(8)
        with os.fdopen(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=handle), "w") as stream:
            stream.write(self._ledger_id + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(name, _OWNER, src_dir_fd=handle, dst_dir_fd=handle)
        os.fsync(handle)

    @contextmanager
    def staged(self, path, largest):
        """(SHA-256, size, partial name) of a file that was copied in, but is not in place; gone afterwards unless placed."""
        with self._open(make=True) as root:
            self._drop_partials(root)
            name, partial = _locked_partial(root)
            try:
                sha, size = digest_of(path, largest, into=partial)
                os.fsync(partial)
                yield sha, size, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=root)
                os.close(partial)

    def place(self, sha, name):
        """Put a staged file in place, on disk before this returns. Within the ledger's writing transaction."""
        with self._open(make=True) as root:
            made = False
            with suppress(FileExistsError):
                os.mkdir(sha[:2], 0o700, dir_fd=root)
                made = True
            below = os.open(sha[:2], _DIRECTORY, dir_fd=root)
            try:
                os.rename(name, sha, src_dir_fd=root, dst_dir_fd=below)
                os.fsync(below)
            finally:
                os.close(below)
            if made:
                os.fsync(root)

    def problem(self, sha, size):
        """What is wrong with a file, or None: `missing`, `damaged` (not its size or digest), `open` (others may read it)."""
        with self._open() as root:
            if root is None:
                return "missing"
            try:
                handle = os.open("%s/%s" % (sha[:2], sha), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
            except OSError as exc:
                return "missing" if exc.errno == errno.ENOENT else "damaged"
            try:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                    return "damaged"
                own = hashlib.sha256()
                while block := os.read(handle, _BLOCK):
                    own.update(block)
            except OSError:
                return "damaged"  # the disk gives no answer
            finally:
                os.close(handle)
        if own.hexdigest() != sha:
            return "damaged"
        return "open" if found.st_mode & 0o077 else None

    def digests(self):
        """(digests of the files that are there, other names that should not be)."""
        found, strange = [], []
        with self._open() as root:
            for name in sorted(os.listdir(root)) if root is not None else ():
                if name == _OWNER or _PARTIAL.fullmatch(name):
                    continue
                if not re.fullmatch("[0-9a-f]{2}", name) or not stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
                    strange.append(name)
                    continue
                below = os.open(name, _DIRECTORY, dir_fd=root)
                try:
                    for one in sorted(os.listdir(below)):
                        known = _DIGEST.fullmatch(one) and one.startswith(name)
                        (found if known else strange).append(one if known else "%s/%s" % (name, one))
                finally:
                    os.close(below)
        return found, strange

    def remove(self, shas):
        """Remove files. Within a writing transaction of the ledger, so that nobody adds one of them meanwhile."""
        gone = []
        with self._open() as root:
            for sha in shas if root is not None else ():
                with suppress(FileNotFoundError):
                    os.unlink("%s/%s" % (sha[:2], sha), dir_fd=root)
                    gone.append(sha)
            for part in sorted({sha[:2] for sha in gone}):
                below = os.open(part, _DIRECTORY, dir_fd=root)
                os.fsync(below)
                os.close(below)
        return gone

    def _drop_partials(self, root):
        """Remove what a killed run left half copied: nobody holds its lock."""
        for name in os.listdir(root):
            if not _PARTIAL.fullmatch(name):
                continue
            with suppress(OSError):
                handle = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=root)
                finally:
                    os.close(handle)


def _locked_partial(root):
    """(name, handle) of a new partial file whose lock is ours; between making and locking another run may sweep it."""
    while True:
        name = ".partial-" + secrets.token_hex(8)
        partial = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=root)
        fcntl.flock(partial, fcntl.LOCK_EX)
        if os.fstat(partial).st_nlink:
            return name, partial
        os.close(partial)


def _sync(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
