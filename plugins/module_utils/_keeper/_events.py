# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listens to what libvirt says of its guests: start, resume, a NIC plugged in, one that came by migration. PRIVATE to the collection.

Outside libvirt's hooks: whatever happens here, no guest waits for it.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

AGAIN_SECONDS = 5


class Events:
    """A connection of its own that is made anew when it breaks.

    :param nudge: called, from another thread, when something happened that may need a pass
    :param elapsed: seconds that nobody can set
    """

    def __init__(self, uri, nudge, elapsed):
        self._uri, self._nudge, self._elapsed = uri, nudge, elapsed
        self._host = None
        self._again = None

    def watch(self):
        """Make sure that something listens; libvirt not being there is no error. Call it now and then."""
        if self._host is not None:
            if self._host.alive():
                return
            self._host.close()
            self._host = None
            self._nudge()
        now = self._elapsed()
        if self._again is not None and now < self._again:
            return
        self._again = now + AGAIN_SECONDS
        try:
            host = _libvirt.connect(self._uri)
            _libvirt.listen(host, self._nudge)
        except NodeError:
            return
        self._host = host
        self._nudge()  # what happened before this listened

    def close(self):
        """Listen no more."""
        if self._host is not None:
            self._host.close()
            self._host = None
