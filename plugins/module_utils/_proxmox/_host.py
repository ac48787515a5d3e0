# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of a Proxmox VE cluster as its own packet filter sees it. Pure. PRIVATE to the collection.

The names of a guest's ports are the same on every node and after each start (pve-common, Network.pm): `tap100i0` of a virtual
machine, `veth100i0` of a container. With `firewall=1` the port is in a bridge of its own, `fwbr100i0`, which `fwln100i0` and
`fwpr100p0` join to the bridge of the node; a packet then crosses two bridges, and is judged at the first, at the guest's port.
So rules are set for a guest before it is there: on each node for all guests of the catalogue, wherever they run.
"""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._ports import Owners
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _nics
from ansible_collections.hosting.aup.plugins.module_utils._timeline import THEN

HOST = "proxmox"  # what a desired state made for such a node says of itself

_PORT = re.compile(r"(?:tap|veth)([1-9][0-9]{2,8})i([0-9]|[12][0-9]|3[01])")
_PLUG = re.compile(r"fwpr[1-9][0-9]{2,8}p(?:[0-9]|[12][0-9]|3[01])")
_OWN = re.compile(r"fw(?:br|ln|pr)[1-9][0-9]{2,8}[ip](?:[0-9]|[12][0-9]|3[01])")
_UUID = re.compile(r"uuid=([0-9a-fA-F-]{36})")
# Of a service's limits, those that are rules; all others are set over the API.
_RULES = frozenset(("port_block", "drop"))
_KEPT = ("id", "guest", "nics", "smtp", "controls", "hold", THEN)


def numbers(links):
    """Numbers of the guests that have a port here, sorted."""
    return sorted({int(match.group(1)) for match in map(_PORT.fullmatch, links) if match})


def read_config(kind, text):
    """What identifies a guest, of its configuration file: `{"kind", "name", "uuid", "macs": {"net0": MAC or None}}`.

    :param kind: `qemu` or `lxc`
    """
    found = {"kind": kind, "name": None, "uuid": None, "macs": {}}
    for line in text.splitlines():
        if line.startswith("["):
            break  # snapshots, pending changes
        key, colon, value = line.partition(":")
        value = value.strip()
        if not colon or line.startswith("#"):
            continue
        if key in ("name", "hostname"):
            found["name"] = value
        elif key == "smbios1":
            uuid = _UUID.search(value)
            found["uuid"] = uuid.group(1).lower() if uuid else None
        elif _nics.NIC.fullmatch(key):
            try:
                found["macs"][key] = _nics.mac_of(kind, value)
            except NodeError:
                found["macs"][key] = None  # of a newer version: a port is known by its number all the same
    return found


def guests_of(links, configs):
    """The guests that have ports here, as a host's packet filter wants them.

    :param links: `{interface: {"master", "mac"}}`
    :param configs: `{number: as read_config gives it}`; a port without one is nobody's
    """
    found = {}
    for device in sorted(links):
        match = _PORT.fullmatch(device)
        if not match or int(match.group(1)) not in configs:
            continue
        vmid, nic = int(match.group(1)), "net" + match.group(2)
        config = configs[vmid]
        guest = found.setdefault(vmid, {
            "vmid": vmid, "uuid": config["uuid"] or "vmid-%d" % vmid, "name": config["name"] or "guest %d" % vmid,
            "known_uuid": config["uuid"], "nics": []})
        bridge = links[device]["master"]
        guest["nics"].append({
            "mac": config["macs"].get(nic), "device": device, "bridge": bridge, "kind": "bridge" if bridge else "unsupported:no Linux bridge",
            "gap": None if bridge else "%s is in no Linux bridge of this node: no packet filter there" % device})
    return [found[vmid] for vmid in sorted(found)]


def configs_of(guests):
    """What `guests_of` made of the guests' configurations, for when those can't be read: `{number: as read_config gives it}`."""
    configs = {}
    for guest in guests:
        macs = {"net" + _PORT.fullmatch(nic["device"]).group(2): nic["mac"] for nic in guest["nics"] if _PORT.fullmatch(nic["device"] or "")}
        known = configs.setdefault(guest["vmid"], {"name": guest["name"], "uuid": guest["known_uuid"], "macs": {}})
        known["macs"].update(macs)
    return configs


class ByNumber(Owners):
    """The service of a guest, by its number: whatever its tenant calls it, and whatever MACs he gives it."""

    def __init__(self, services):
        super().__init__(services)
        self._by_number = {service["guest"]["vmid"]: service for service in services if service["guest"].get("vmid") is not None}

    def of_guest(self, guest):
        """The service of that number, if it is still the same guest; without a number in the catalogue, by UUID or name."""
        service = self._by_number.get(guest["vmid"])
        if service is None:
            found = super().of_guest(guest)
            return found if found is None or found["guest"].get("vmid") is None else None
        uuid = service["guest"].get("uuid")
        if uuid and guest["known_uuid"]:
            return service if uuid.lower() == guest["known_uuid"] else None
        macs = {nic["mac"] for nic in service["nics"]}
        return service if macs & {nic["mac"] for nic in guest["nics"]} else None

    def of_nic(self, guest, nic):
        """That of its guest, and else whose MAC it is."""
        return self.of_guest(guest) or self._by_mac.get(nic["mac"])


def elsewhere(services, guests):
    """Guests of the catalogue that have no port here, with the ports they will have.

    Which of its NICs is which is the catalogue's order; whether it is a container isn't known, so it gets both names.
    """
    here = {guest["vmid"] for guest in guests}
    coming = []
    for service in services:
        vmid = service["guest"].get("vmid")
        if vmid is None or vmid in here:
            continue
        coming.append({
            "vmid": vmid, "uuid": "vmid-%d" % vmid, "known_uuid": service["guest"].get("uuid"), "name": service["guest"]["name"],
            "nics": [{"mac": nic["mac"], "device": "%s%di%d" % (kind, vmid, number), "bridge": "fwbr%di%d" % (vmid, number),
                      "kind": "bridge", "gap": None}
                     for number, nic in enumerate(service["nics"]) for kind in ("tap", "veth")]})
    return coming


def located(desired, links, coming=(), before=None, booting=False):
    """The desired state with the bridges of this node and what leads out of them: all but guests' ports.

    A bridge is one of tenants' if a guest's port or its plug is in it, or was at the pass before: who starts there next is bound
    as well, also as the first.

    :param coming: of `elsewhere`
    :param before: what the pass before found, as the second of what is returned; None before the first
    :param booting: the node's bridges may not be there yet: those of the pass before count all the same
    :returns: `(desired state, {"bridges", "uplinks"} to be remembered)`
    """
    before = before or {"bridges": [], "uplinks": []}
    bridges = {link["master"] for name, link in links.items()
               if link["master"] and (_PORT.fullmatch(name) or _PLUG.fullmatch(name))}
    bridges.update(name for name in before["bridges"] if booting or name in links)
    uplinks = {name for name, link in links.items() if link["master"] in bridges and not _PORT.fullmatch(name)}
    if booting:
        uplinks.update(name for name in before["uplinks"] if not (links.get(name) or {"master": None})["master"])
    # Of guests' own bridges nothing is remembered: what passes an unknown guest's plug is judged, until its port is known.
    kept = {"bridges": sorted(name for name in bridges if not _OWN.fullmatch(name)),
            "uplinks": sorted(name for name in uplinks if not _OWN.fullmatch(name))}
    for guest in coming:
        for number in range(len(guest["nics"]) // 2):
            uplinks.update(("fwln%di%d" % (guest["vmid"], number), "fwpr%dp%d" % (guest["vmid"], number)))
    return dict(desired, bridges=sorted(bridges), uplinks=sorted(uplinks), routed_interfaces=[]), kept


def for_hosts(desired):
    """The desired state of a cluster, of `_desired.for_cluster`, as its nodes' packet filters are given it.

    Power, rates and what is to be given back are the API's, also of what is to come.
    """
    services = [dict({key: service[key] for key in _KEPT if key in service}, baseline=None, elsewhere=True,
                     limits=_rules(service.get("limits"))) for service in desired["services"]]
    for service in services:
        if THEN in service:
            service[THEN] = [dict(later, limits=_rules(later["limits"])) if "limits" in later else later for later in service[THEN]]
    return dict({key: value for key, value in desired.items() if key not in ("proxmox", "now")}, services=services, host=HOST)


def _rules(limits):
    return {kind: terms for kind, terms in (limits or {}).items() if kind in _RULES}
