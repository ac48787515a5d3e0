# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small catalogues for tests."""
from __future__ import annotations

import copy
import json

from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue

BASE = {
    "format": 1,
    "prefixes": ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"],
    "nodes": {
        "kvm1": {"backend": "kvm", "location": "fra", "pool": "p", "uplinks": ["eth1"], "bridges": ["br0"]},
        "kvm2": {"backend": "kvm", "location": "fra", "pool": "p", "uplinks": ["eth1"], "bridges": ["br0"]},
        "kvm3": {"backend": "kvm", "location": "ams", "routed_interfaces": ["vnet*"]},
        "edge": {"backend": "router", "location": "fra"},
    },
}


def service(number, **changes):
    """A service of its own address and MAC; changes replace whole keys, None removes one."""
    entry = {
        "id": f"vps-{number}", "customer": f"c{number}", "account_type": "business", "node": "kvm1",
        "guest": {"name": f"guest-{number}"},
        "nics": [{"mac": f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}", "addresses": [f"192.0.2.{number}"]}],
    }
    entry.update(changes)
    return {key: value for key, value in entry.items() if value is not None}


def nic(number, **fields):
    """A NIC with the MAC of that number."""
    return {"mac": f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}", **fields}


def catalogue(*services, **top):
    """A native catalogue with these services."""
    return {**copy.deepcopy(BASE), "services": list(services), **top}


def write(tmp_path, data, name="catalogue.json"):
    """The path of a JSON file with this data."""
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return str(path)


def load(tmp_path, data, mapping=None, name="catalogue.json"):
    """Load a catalogue given as data."""
    return load_catalogue(write(tmp_path, data, name), mapping)
