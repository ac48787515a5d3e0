# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the host's own interfaces, by rtnetlink. PRIVATE to the collection."""
from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_RTM_DELADDR = 21
_NLM_F_REQUEST_ACK = 0x1 | 0x4
_NLMSG_ERROR = 2
_IFA_LOCAL = 2


def remove(device, address, prefix):
    """Take one address off an interface.

    :param prefix: its length, as it was given when the address was added
    :returns: False if the interface doesn't have it
    :raises OSError: the kernel refuses
    """
    number = ipaddress.ip_address(address)
    family = socket.AF_INET if number.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, prefix, 0, 0, socket.if_nametoindex(device))
    body += struct.pack("=HH", 4 + len(number.packed), _IFA_LOCAL) + number.packed
    head = struct.pack("=IHHII", 16 + len(body), _RTM_DELADDR, _NLM_F_REQUEST_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.settimeout(5)
        channel.bind((0, 0))
        channel.send(head + body)
        answer = channel.recv(8192)
    _length, kind, _flags, _sequence, _port, code = struct.unpack_from("=IHHIIi", answer)
    if kind != _NLMSG_ERROR:
        raise OSError(errno.EPROTO, "the kernel's answer is not one to this request")
    if -code in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return False
    if code:
        raise OSError(-code, os.strerror(-code))
    return True
