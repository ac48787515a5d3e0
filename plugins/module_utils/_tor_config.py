# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay's or bridge's torrc that never exits, and the same in cloud-init's vendor data. Pure. PRIVATE to the collection.

Sources: tor(1) of 0.4.8 and 0.4.9, src/core/or/policies.c for what follows from exit options together.
"""

from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

KINDS = ("relay", "bridge")
OPTIONS = ("kind", "nickname", "contact", "or_port", "address", "bandwidth_rate", "bandwidth_burst", "family", "transport_port")
# What each keeps off, whatever else the file or a later version says; the last three are defaults made visible.
NO_EXIT = ("ExitRelay 0", "ExitPolicy reject *:*", "IPv6Exit 0", "ReducedExitPolicy 0", "SocksPort 0")

_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_FINGERPRINT = re.compile(r"\$?[0-9A-Fa-f]{40}")
_RATE = re.compile(r"[1-9][0-9]{0,6} (?:KBytes|MBytes|KBits|MBits)")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]")
_TRANSPORT = "/usr/bin/obfs4proxy"


def _wrong(name, value, form):
    return InputError("Tor: %s %r is not %s." % (name, value, form), target=name, remedy="Correct %s." % name)


def _port(options, name, default=None):
    value = options.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", str(value)) or not 1 <= int(value) <= 65535:
        raise _wrong(name, value, "a port from 1 to 65535")
    return int(value)


def _matching(options, name, pattern, form):
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(name, value, form)
    return value


def torrc(options):
    """The whole torrc of a relay or bridge, as text; same options, same text.

    :param options: of `OPTIONS`; kind `relay` or `bridge`, nickname (1 to 19 letters and digits), contact (one line of
        ASCII without quotes, # and backslash), or_port (9001), address (list of IPv4 addresses or [IPv6]),
        bandwidth_rate and bandwidth_burst (`10 MBytes`), family (fingerprints), transport_port (a bridge's obfs4)
    :raises InputError: for anything else
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise _wrong("option", ", ".join(map(str, unknown)), "one of %s" % ", ".join(OPTIONS))
    kind = options.get("kind", "relay")
    if kind not in KINDS:
        raise _wrong("kind", kind, "relay or bridge")
    or_port = _port(options, "or_port", 9001)
    lines = ["# Written by hosting.aup. Relays and bridges are welcome, exits are not: the exit lines below stay."]
    nickname = _matching(options, "nickname", _NICKNAME, "1 to 19 letters and digits")
    if nickname:
        lines.append("Nickname %s" % nickname)
    contact = options.get("contact")
    if contact is not None:
        if not isinstance(contact, str) or not re.fullmatch(r"[ !$-\[\]-~]{1,200}", contact) or contact != contact.strip():
            raise _wrong("contact", contact, "one line of at most 200 printable ASCII characters without quotes, # and backslash")
        lines.append("ContactInfo %s" % contact)
    addresses = options.get("address") or []
    for address in [addresses] if isinstance(addresses, str) else addresses:
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise _wrong("address", address, "an IPv4 address or an IPv6 address in brackets")
        lines.append("Address %s" % address)
    lines.append("ORPort %d" % or_port)
    for name, word in (("bandwidth_rate", "RelayBandwidthRate"), ("bandwidth_burst", "RelayBandwidthBurst")):
        value = _matching(options, name, _RATE, "a rate like 10 MBytes")
        if value:
            lines.append("%s %s" % (word, value))
    family = options.get("family") or []
    for fingerprint in family:
        if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
            raise _wrong("family", fingerprint, "a relay's fingerprint of 40 hexadecimal digits")
    transport = _port(options, "transport_port")
    if kind == "bridge":
        if family:
            raise _wrong("family", "a bridge", "told to others: a family would name it")
        lines += ["BridgeRelay 1"]
        if transport is not None:
            lines += ["ServerTransportPlugin obfs4 exec %s" % _TRANSPORT, "ServerTransportListenAddr obfs4 0.0.0.0:%d" % transport,
                      "ExtORPort auto"]
    elif transport is not None:
        raise _wrong("transport_port", transport, "for a relay: only bridges have transports")
    elif family:
        lines.append("MyFamily %s" % ",".join("$" + one.lstrip("$").upper() for one in family))
    return "\n".join([*lines, *NO_EXIT]) + "\n"


def packages(options):
    """Debian's packages for these options."""
    return ["tor", "obfs4proxy"] if options.get("transport_port") is not None else ["tor"]


def vendor_part(uses):
    """What of cloud-init's vendor data follows from a service's declared uses: `{tor: relay}` or `{tor: bridge}`.

    :returns: None for any other use. A declared exit gets nothing from us
    """
    kind = (uses or {}).get("tor")
    if kind not in KINDS:
        return None
    return {
        # Written before the package comes: apt then keeps the file that is there, as cloud-init asks it to.
        "write_files": [{"path": "/etc/tor/torrc", "permissions": "0644", "content": torrc({"kind": kind})}],
        "packages": packages({}),
    }
