# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud-init NoCloud seed: four documents on a small ISO 9660 image labelled `cidata`. Pure. PRIVATE to the collection.

Written here because no tool for it is on every supported host. Names are in Joliet, which every guest that
knows cloud-init reads; the primary tree holds the same files under the nearest strict names.
Sources: ECMA-119 (ISO 9660), the Joliet specification, cloud-init's documentation of NoCloud.
"""
from __future__ import annotations

import json
import struct

LABEL = "cidata"
MIB = 1 << 20
USER_DATA_BYTES = 512 * 1024
_SECTOR = 2048
_DATE = bytes((124, 1, 1, 0, 0, 0, 0))  # the same image for the same documents
_LONG_DATE = b"0" * 16 + b"\0"
_FIRST_FILE = 25


def documents(order, user_data=None):
    """The seed's files: `{name: bytes}`.

    :param order: as `_orders.orders` gives it
    :param user_data: the customer's own text, or None
    """
    meta = {"instance-id": order["guest"]["uuid"], "local-hostname": order["hostname"], "public-keys": order["ssh_keys"]}
    return {
        "meta-data": _json(meta),
        "network-config": _json(network_config(order)),
        "user-data": b"#cloud-config\n{}\n" if user_data is None else user_data.encode("utf-8"),
        "vendor-data": b"#cloud-config\n" + _json(order["vendor_data"]),
    }


def _json(document):
    """JSON, which is YAML; readable for whoever looks at a seed."""
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode("ascii")


def network_config(order):
    """The fixed addresses of a guest's NICs, found by MAC (network configuration, version 2)."""
    nics = {}
    for index, nic in enumerate(order["nics"]):
        routes = [{"to": "::/0" if ":" in gateway else "0.0.0.0/0", "via": gateway} for gateway in nic["gateways"]]
        for route in routes:
            family = [a for a in nic["addresses"] if (":" in a) == (":" in route["via"])]
            if all(a.endswith(("/32", "/128")) for a in family):
                route["on-link"] = True
        entry = {"match": {"macaddress": nic["mac"]}, "dhcp4": False, "dhcp6": False, "accept-ra": False,
                 "addresses": nic["addresses"], "routes": routes}
        if order["resolvers"] and nic["addresses"]:
            entry["nameservers"] = {"addresses": order["resolvers"]}
        nics["nic%d" % index] = entry
    return {"version": 2, "ethernets": nics}


def image(files):
    """The image, filled up to whole MiB, so that another seed mostly fits in its place.

    :param files: `{name: bytes}`, names of lower-case letters and `-`
    """
    names = sorted(files)
    places, at = {}, _FIRST_FILE
    for name in names:
        places[name] = at
        at += max(1, -(-len(files[name]) // _SECTOR))
    size = -(-at * _SECTOR // MIB) * MIB
    sectors = size // _SECTOR
    out = bytearray(size)

    def put(sector, data):
        out[sector * _SECTOR:sector * _SECTOR + len(data)] = data

    put(16, _volume(1, sectors, 19, 23, b"".ljust(32, b"\0"), _strict_label()))
    put(17, _volume(2, sectors, 21, 24, b"%/E".ljust(32, b"\0"), _ucs2(LABEL).ljust(32, b"\0")))
    put(18, b"\xffCD001\x01")
    for first, root in ((19, 23), (21, 24)):
        put(first, _path_table("<", root))
        put(first + 1, _path_table(">", root))
    put(23, _directory(23, [(_strict_name(name), places[name], len(files[name])) for name in names]))
    put(24, _directory(24, [(_ucs2(name), places[name], len(files[name])) for name in names]))
    for name in names:
        put(places[name], files[name])
    return bytes(out)


def _ucs2(text):
    return text.encode("utf-16-be")


def _strict_label():
    return LABEL.encode("ascii").ljust(32)


def _strict_name(name):
    return name.upper().replace("-", "_").encode("ascii") + b".;1"


def _both16(number):
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number):
    return struct.pack("<I", number) + struct.pack(">I", number)


def _record(name, sector, size, directory=False):
    body = b"\0" + _both32(sector) + _both32(size) + _DATE + bytes((2 if directory else 0, 0, 0)) + _both16(1)
    body += bytes((len(name),)) + name
    if len(body) % 2 == 0:
        body += b"\0"
    return bytes((len(body) + 1,)) + body


def _directory(own, entries):
    body = _record(b"\0", own, _SECTOR, True) + _record(b"\1", own, _SECTOR, True)
    return body + b"".join(_record(name, sector, size) for name, sector, size in entries)


def _path_table(order, root):
    return struct.pack(order + "BBIH", 1, 0, root, 1) + b"\0\0"


def _volume(kind, sectors, table, root, escapes, label):
    blank = b" " if kind == 1 else b"\0"
    return b"".join((
        bytes((kind,)), b"CD001\x01\0", blank * 32, label, b"\0" * 8, _both32(sectors), escapes, _both16(1), _both16(1),
        _both16(_SECTOR), _both32(10), struct.pack("<II", table, 0), struct.pack(">II", table + 1, 0),
        _record(b"\0", root, _SECTOR, True), blank * (128 * 4 + 37 * 3), _LONG_DATE * 4, b"\x01\0",
    ))
