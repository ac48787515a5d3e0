# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's provider as an operator would describe it: nodes, catalogue of services, policy, variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plan

if TYPE_CHECKING:
    from .node import Node


def write(target: Path, nodes: list[Node], controller: Path, ledger_url: str) -> Path:
    """Write ``hosts.json``, ``group_vars``, ``catalogue.json`` and ``policy.json`` (JSON is YAML) under ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "group_vars").mkdir(exist_ok=True)
    documents = {
        "../catalogue.json": catalogue(nodes),
        "../policy.json": policy(),
    }
    for name, document in documents.items():
        (target / name).resolve().write_text(json.dumps(document, indent=2) + "\n")
    hosts = {"all": {"children": {"aup_kvm_nodes": {"hosts": {
        node.name: {"ansible_host": node.plan.management} for node in nodes}}}}}
    (target / "hosts.json").write_text(json.dumps(hosts, indent=2) + "\n")
    (target / "group_vars/aup_kvm_nodes.json").write_text(
        json.dumps(variables(controller, target.parent, ledger_url), indent=2) + "\n")
    return target


def variables(controller: Path, place: Path, ledger_url: str) -> dict[str, Any]:
    """Connection and ``aup_*`` variables of the nodes: SSH with the lab's key, known hosts insisted on, become."""
    return {
        "ansible_user": "aup",
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(controller / "id"),
        "ansible_ssh_common_args": (
            f"-F /dev/null -o UserKnownHostsFile={controller / 'known_hosts'} -o StrictHostKeyChecking=yes"
            " -o IdentitiesOnly=yes"
        ),
        "aup_policy": str(place / "policy.json"),
        "aup_catalogue": str(place / "catalogue.json"),
        "aup_ledger_url": ledger_url,
        "aup_location": "lab",
        "aup_uplinks": [plan.UPLINK],
    }


def catalogue(nodes: list[Node]) -> dict[str, Any]:
    """The services of the lab's guests."""
    return {
        "prefixes": list(plan.PROVIDER_PREFIXES),
        "nodes": {
            node.name: {"backend": "kvm", "location": "lab", "uplinks": [plan.UPLINK], "bridges": [plan.BRIDGE],
                        "routed_interfaces": ["vnet*"]}
            for node in nodes
        },
        "services": [
            {
                "id": guest.plan.name,
                "customer": f"c-{guest.plan.number}",
                "account_type": "vps",
                "location": "lab",
                "node": node.name,
                "guest": {"name": guest.plan.name, "uuid": guest.plan.uuid},
                "nics": [{"mac": guest.plan.mac, "addresses": list(guest.plan.addresses)}],
            }
            for node in nodes
            for guest in node.guests
        ],
    }


def policy() -> dict[str, Any]:
    """The usual house rules, with this provider's smarthost and rescue networks."""
    return {"extends": "default"}
