# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's provider as an operator would describe it: inventory, catalogue of services, policy."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plan

if TYPE_CHECKING:
    from .node import Node


def write(target: Path, nodes: list[Node], controller: Path, ledger_url: str) -> Path:
    """Write ``hosts.aup.yml``, ``catalogue.yml`` and ``provider.yml`` (JSON, which is YAML) into a directory.

    ``controller`` holds the login key and the known hosts. Returns the path of the inventory file.
    """
    target.mkdir(parents=True, exist_ok=True)
    documents = {
        "hosts.aup.yml": {
            "plugin": "hosting.aup.services",
            "catalogue": "catalogue.yml",
            "policy": "./provider.yml",
            "ledger_url": ledger_url,
            "connection_defaults": connection(controller),
        },
        "catalogue.yml": catalogue(nodes),
        "provider.yml": policy(),
    }
    for name, document in documents.items():
        (target / name).write_text(json.dumps(document, indent=2) + "\n")
    return target / "hosts.aup.yml"


def connection(controller: Path) -> dict[str, Any]:
    """How the nodes are reached: SSH with the lab's key, known hosts insisted on, then become."""
    options = {
        "UserKnownHostsFile": f'"{controller / "known_hosts"}"',
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    return {
        "ansible_user": "aup",
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(controller / "id"),
        "ansible_ssh_common_args": shlex.join(
            ["-F", "/dev/null", *(f"-o{key}={value}" for key, value in options.items())]),
    }


def catalogue(nodes: list[Node]) -> dict[str, Any]:
    """The lab's nodes and their guests' services."""
    return {
        "format": 1,
        "prefixes": list(plan.PROVIDER_PREFIXES),
        "nodes": {
            node.name: {
                "backend": "kvm",
                "location": "lab",
                "address": node.plan.management,
                "uplinks": [plan.UPLINK],
                "bridges": [plan.BRIDGE],
                # libvirt names all taps it makes vnetN; those in the bridge are known by that.
                "routed_interfaces": ["vnet*"],
            }
            for node in nodes
        },
        "services": [
            {
                "id": guest.plan.name,
                "customer": f"c-{guest.plan.number}",
                "account_type": "personal",
                "node": node.name,
                "guest": {"name": guest.plan.name, "uuid": guest.plan.uuid},
                "nics": [{"mac": guest.plan.mac, "addresses": list(guest.plan.addresses)}],
            }
            for node in nodes
            for guest in node.guests
        ],
    }


def policy() -> dict[str, Any]:
    """The usual house rules with this provider's networks. Port 25 is closed and sources are bound at once, also for
    guests that are there already: a week of observing, which the rules would have, is longer than a demo."""
    return {
        "schema": 1,
        "name": "lab",
        "version": "1",
        "effective": "2026-01-01",
        "provider": {"name": "Lab Hosting"},
        "extends": "default",
        "locations": ["lab"],
        "controls": {name: {"adoption": {"mode": "enforce"}} for name in ("smtp_outbound", "anti_spoofing")},
        "networks": {"smarthosts": list(plan.SMARTHOST), "rescue": list(plan.RESCUE_PREFIXES)},
        "guardrails": {"protected": list(plan.GATEWAYS)},
    }
