# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a cluster for its inventory: which service each is, and what the catalogue could say of the others. PRIVATE."""
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _nics
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import READS, Client, Target

SETTINGS = ("user", "token_id", "secret_env", "secret_file", "port", "ca_file", "fingerprint", "timeout", "skeleton")
SECRET_ENV = "AUP_PROXMOX_TOKEN_SECRET"
_SECRET_BYTES = 1024


def client_of(name, address, settings, folder, environ):
    """A client for one cluster of the inventory's option `clusters`.

    :param folder: what relative paths are relative to
    :raises InputError: settings that are missing or unknown; a secret that isn't there
    """
    if not isinstance(settings, dict):
        raise InputError("clusters.%s is no mapping." % name, target="clusters", remedy="Give it user and token_id.")
    unknown = sorted(map(str, set(settings) - set(SETTINGS)))
    if unknown:
        raise InputError("clusters.%s has unknown settings: %s." % (name, ", ".join(unknown)[:200]), target="clusters",
                         remedy="Known are %s. The secret itself doesn't stand there." % ", ".join(SETTINGS))
    for key in ("user", "token_id"):
        if not isinstance(settings.get(key), str) or not settings[key]:
            raise InputError("clusters.%s has no %s." % (name, key), target="clusters", remedy="See docs/services.md, the inventory plugin.")

    def beside(key):
        return os.path.join(folder, os.path.expanduser(str(settings[key]))) if settings.get(key) else None

    variable = settings.get("secret_env") or SECRET_ENV
    secret = environ.get(str(variable), "")
    if settings.get("secret_file"):
        try:
            with open(beside("secret_file"), encoding="ascii") as file:
                secret = file.read(_SECRET_BYTES).strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError("the secret of cluster %s can't be read from %s." % (name, settings["secret_file"]), target="secret_file",
                             remedy="Put the token's secret there, readable for you alone.") from exc
    if not secret:
        raise InputError("there is no secret of cluster %s." % name, target="secret_env",
                         remedy="Set the environment variable %s, or secret_file." % variable)
    try:
        port, timeout = int(settings.get("port") or 8006), int(settings.get("timeout") or 30)
    except (TypeError, ValueError) as exc:
        raise InputError("port and timeout of cluster %s are numbers." % name, target="clusters", remedy="Correct them.") from exc
    return Client(Target(host=address or name, port=port, user=settings["user"], token_name=settings["token_id"], token_value=secret,
                         ca_file=beside("ca_file"), fingerprint=settings.get("fingerprint"), timeout=timeout))


def guests_of(client, node, services, skeleton):
    """What lives on a cluster.

    :param node: its name in the catalogue
    :param services: the catalogue's, by id
    :param skeleton: whether guests of no service are read for their NICs
    :returns: `(guests, services to fill in)`; the latter as a catalogue has them, null where somebody has to say
    """
    here = [service for service in services.values() if node in service["nodes"] and not service.get("ports")]
    by_number = {service["guest"]["vmid"]: service["id"] for service in here if service["guest"].get("vmid") is not None}
    by_name = {service["guest"]["name"]: service["id"] for service in here if service["guest"].get("vmid") is None}
    guests = []
    for number, row in sorted(client.read(_answers.guests, "cluster", "resources", type="vm").items()):
        if not row.get("template"):
            name = str(row.get("name") or "")
            guests.append({"vmid": number, "name": name, "kind": row["type"], "place": row["node"], "status": row.get("status"),
                           "service": by_number.get(number) or by_name.get(name)})
    unknown = [guest for guest in guests if guest["service"] is None]
    with ThreadPoolExecutor(READS) as pool:
        return guests, list(pool.map(lambda guest: _to_fill_in(client, node, guest), unknown)) if skeleton else []


def _to_fill_in(client, node, guest):
    """One service for the catalogue; one whose guest can't be read now has no NICs yet."""
    entry = {"id": "%s-%s" % (node, guest["vmid"]), "customer": None, "account_type": None, "node": node,
             "guest": {"name": guest["name"], "vmid": guest["vmid"]}, "nics": []}
    try:
        config = client.read(_answers.flat, "nodes", guest["place"], guest["kind"], guest["vmid"], "config")
        nics = {key: str(text) for key, text in config.items() if _nics.NIC.fullmatch(key)}
        for key in sorted(nics, key=lambda one: int(one[3:])):
            mac = _nics.mac_of(guest["kind"], nics[key])
            if mac:
                said = nics[key] if guest["kind"] == "lxc" else str(config.get("ipconfig" + key[3:]) or "")
                entry["nics"].append({"mac": mac, "addresses": _addresses(said)})
    except AupError:
        entry["nics"] = []
        return entry
    uuid = [part[5:].lower() for part in str(config.get("smbios1") or "").split(",") if part.startswith("uuid=")]
    if uuid:
        entry["guest"]["uuid"] = uuid[0]
    return entry


def _addresses(text):
    """Fixed addresses that a NIC's or cloud-init's settings name."""
    values = dict(part.partition("=")[::2] for part in text.split(","))
    return [values[key].partition("/")[0] for key in ("ip", "ip6") if values.get(key) and values[key] not in ("dhcp", "auto", "manual")]
