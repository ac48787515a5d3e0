# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the controller writes for people: whole or not at all, and for their owner only. PRIVATE to the collection."""

from __future__ import annotations

import os
import tempfile

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError


def check_directory(path):
    """Refuse a directory that files can't be written into.

    :raises InputError: not absolute, not there, not a directory, or not writable
    """
    if not os.path.isabs(path) or "\x00" in path or not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise InputError("%r is not a directory on the controller that can be written to." % path, target="path",
                         remedy="Make it, and name it by its absolute path.")


def write_file(path, data):
    """Write bytes to a file with mode 0600, replacing it as a whole.

    :raises InputError: the system refused, with its reason
    """
    try:
        handle, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".partial-")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        os.unlink(partial)
        raise _refused(path, error) from error


def _refused(path, error):
    return InputError("%s can't be written: %s." % (path, error.strerror or error), target=path,
                      remedy="Mend it and take the same export once more.")
