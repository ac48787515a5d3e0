# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading traffic control by rtnetlink: what a node of a thousand ports has is too much for pyroute2. PRIVATE to the collection.

pyroute2 decodes each attribute of each message, statistics included, and takes 0.3 ms a message for it. A pass looks at every
qdisc of the host several times; here only what `_tc` judges is decoded.
"""
from __future__ import annotations

import errno
import os
import socket
import struct
from collections import namedtuple

# linux/netlink.h, linux/rtnetlink.h, linux/pkt_cls.h, linux/pkt_sched.h, linux/tc_act/tc_mirred.h
QDISC, CLASS, FILTER = 38, 42, 46  # RTM_GETQDISC, RTM_GETTCLASS, RTM_GETTFILTER
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3
_INTERRUPTED = 0x10
_HEAD = struct.Struct("=IHHII")
_TCMSG = struct.Struct("=BBHiIII")
_ATTRIBUTE = struct.Struct("=HH")
_KIND, _OPTIONS = 1, 2
_HTB_PARMS, _U32_CLASSID, _U32_SEL, _U32_ACT, _ACT_OPTIONS, _MIRRED_PARMS = 1, 1, 5, 7, 2, 2
_TRIES = 5
_GONE = (errno.ENOENT, errno.ENODEV, errno.EINVAL)  # no such device or hook

Entry = namedtuple("Entry", "index handle parent info kind options")
Entry.__doc__ = """One qdisc, class or filter; `options` are the kernel's, undecoded."""


def attributes(data):
    """`{type: bytes}` of a row of attributes. Pure."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4:at + length]
        at += (length + 3) & ~3
    return found


def htb_rates(entry):
    """`(bytes per second assured, at most)` of a class of HTB, or None. Pure."""
    parms = attributes(entry.options).get(_HTB_PARMS)
    if parms is None or len(parms) < 24:
        return None
    return struct.unpack_from("=I", parms, 8)[0], struct.unpack_from("=I", parms, 20)[0]


def u32_target(entry):
    """The class a u32 filter leads to; None for a hash table's own entry. Pure."""
    found = attributes(entry.options)
    if _U32_SEL not in found:
        return None
    return struct.unpack_from("=I", found[_U32_CLASSID])[0] if _U32_CLASSID in found else 0


def redirect(entry):
    """The index of the device that a u32 filter redirects to by its first action, or None. Pure."""
    first = attributes(attributes(entry.options).get(_U32_ACT, b"")).get(1, b"")
    action = attributes(first)
    if action.get(_KIND, b"").rstrip(b"\0") != b"mirred":
        return None
    parms = attributes(action.get(_ACT_OPTIONS, b"")).get(_MIRRED_PARMS, b"")
    return struct.unpack_from("=I", parms, 24)[0] if len(parms) >= 28 else None


class Dump:
    """A socket to read with. Use as a context manager, or call `close`."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(10)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        """Close the socket."""
        self._socket.close()

    def read(self, what, index=0, parent=0):
        """Entries of QDISC, or of CLASS or FILTER of one device.

        :param index: the device's; of QDISC 0 for all
        :param parent: of filters: where they hang
        :returns: list of Entry; empty when the device is gone
        :raises OSError: the kernel refuses
        """
        for _try in range(_TRIES):
            found, interrupted = self._read_once(what, index, parent)
            if not interrupted:
                break
        return [one for one in found if index in (0, one.index)]

    def _read_once(self, what, index, parent):
        self._sequence += 1
        body = _TCMSG.pack(0, 0, 0, index, 0, parent, 0)
        self._socket.send(_HEAD.pack(_HEAD.size + len(body), what, _REQUEST_DUMP, self._sequence, 0) + body)
        found, interrupted = [], False
        while True:
            data, at = self._socket.recv(1 << 16), 0
            while at < len(data):
                length, kind, flags, sequence, _port = _HEAD.unpack_from(data, at)
                if sequence == self._sequence:
                    interrupted = interrupted or bool(flags & _INTERRUPTED)
                    code = struct.unpack_from("=i", data, at + _HEAD.size)[0] if kind in (_ERROR, _DONE) else 0
                    if code and -code not in _GONE:
                        raise OSError(-code, os.strerror(-code))
                    if kind in (_ERROR, _DONE):
                        return found, interrupted
                    if kind == what - 2:  # RTM_NEW… of RTM_GET…
                        found.append(_entry(data[at + _HEAD.size:at + length]))
                at += (length + 3) & ~3


def _entry(body):
    _family, _pad, _pad2, index, handle, parent, info = _TCMSG.unpack_from(body)
    found = attributes(body[_TCMSG.size:])
    return Entry(index, handle, parent, info, found.get(_KIND, b"").rstrip(b"\0").decode("ascii", "replace"), found.get(_OPTIONS, b""))
