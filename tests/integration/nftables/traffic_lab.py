# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of a bridged and of a routed guest for the controls on traffic."""
from __future__ import annotations

import itertools
import socket
import time

import pytest
from filter_lab import BRIDGE_NETFILTER, MACS, V4, V6, base_model
from frames import TCP, ethernet, ipv4, ipv6

from ansible_collections.hosting.aup.plugins.module_utils._controls import TERMS, Decision
from ansible_collections.hosting.aup.plugins.module_utils._policy import _document

GUESTS = {"a": ("tapA", "net"), "b": ("tapB", "net"), "r": ("vnetR", "far")}
_SERIAL = itertools.count(1)


@pytest.fixture
def traffic(bare):
    """The host under the base model, with br_netfilter on where there is one: so each packet comes by all hooks it can."""
    bare.bridge_netfilter(BRIDGE_NETFILTER)
    bare.model = base_model()
    bare.apply()
    return bare


def defaults(name):
    """The options a policy gives that sets none."""
    return {key: default for key, (_kind, default) in _document._CONTROL_OPTIONS[name].items()}


def judge(lab, name, mode, guest="a", **options):
    """Put a guest under a control as `resolve` would, and load it."""
    terms = TERMS[name]
    parameters = lab.model.setdefault("controls", {}).setdefault(name, {})
    setting = {"mode": mode}
    if hasattr(terms, "profile_options"):
        wanted = dict(defaults(name), **options)
        setting.update(terms.options(None, Decision(mode, wanted, None, "as tested")))
        parameters.setdefault("profiles", {})[setting["profile"]] = terms.profile_options(wanted)
    lab.port(GUESTS[guest][0]).setdefault("controls", {})[name] = setting
    return lab.apply()


def marker():
    """Bytes no other packet has."""
    return b"aup-%06d-" % next(_SERIAL)


def gateway(lab, guest):
    """The MAC a guest sends to."""
    if guest != "r":
        return MACS["net"]
    return lab.host.check("cat /sys/class/net/vnetR/address").strip()


def frame(lab, guest, segment, protocol=TCP, version=4, target=None, headers=b"", following=None, tags=(), **more):
    """A frame of a guest to the far side (or an address), IPv4 or IPv6.

    :param headers: IPv6 extension headers; `following` the first one's number
    """
    mac = MACS.get(guest, "52:54:00:00:0a:0a")
    if version == 4:
        packet = ipv4(V4[guest], target or V4[GUESTS[guest][1]], segment, protocol=protocol, **more)
    else:
        packet = ipv6(V6[guest], target or V6[GUESTS[guest][1]], headers + segment,
                      following=protocol if following is None else following)
    return ethernet(gateway(lab, guest), mac, 0x0800 if version == 4 else 0x86DD, packet, tags)


def passes(lab, guest, segment, found, **more):
    """Whether a segment of a guest reaches the far side.

    :param found: bytes in it that tell it from all others
    """
    return lab.crosses(guest, frame(lab, guest, segment, **more), found, GUESTS[guest][1])


def arrived(lab, guest, frames, found, quiet=0.15):
    """How many of some frames of a guest reach the far side."""
    receiver = lab.sockets[GUESTS[guest][1]]
    receiver.settimeout(0.01)
    try:
        while True:
            receiver.recv(65535)
    except (TimeoutError, BlockingIOError):
        pass
    for one in frames:
        lab.sockets[guest].send(one)
    count, end = 0, time.monotonic() + quiet
    while time.monotonic() < end:
        try:
            data, address = receiver.recvfrom(65535)
            # What it sends itself quotes what came: unreachable ports.
            if found in data and address[2] != socket.PACKET_OUTGOING:
                count += 1
                end = time.monotonic() + quiet
        except TimeoutError:
            continue
    return count


def counted(lab, guest, what):
    """Packets counted for a guest."""
    return lab.counters().get(GUESTS[guest][0], {}).get(what, {"packets": 0})["packets"]
