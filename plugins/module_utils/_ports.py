# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port of the host belongs to which service, and what the packet filter has to do there. Pure. PRIVATE to the collection.

Names of taps change with every start of a guest, so a port is known by what libvirt says of the
running guest. Every port of a tenant bridge that is not an uplink is a guest's, known or not.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables import is_interface_name
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

_HELD_AS = {"terminate": "dark", "suspend": "dark", "quarantine": "quarantine"}
_OFF = {"mode": "off", "ports": []}


class Owners:
    """Finds the service of a guest's NIC: by MAC first, then by the guest itself."""

    def __init__(self, services):
        self._by_mac = {nic["mac"]: s for s in services for nic in s["nics"]}
        self._by_uuid = {s["guest"]["uuid"]: s for s in services if s["guest"]["uuid"]}
        self._by_name = {s["guest"]["name"]: s for s in services if not s["guest"]["uuid"]}

    def of_guest(self, guest):
        """The service whose guest this is, or None."""
        return self._by_uuid.get(guest["uuid"]) or self._by_name.get(guest["name"])

    def of_nic(self, guest, nic):
        """The service a NIC counts for, or None: also a NIC that was plugged in and isn't in the catalogue."""
        return self._by_mac.get(nic["mac"]) or self.of_guest(guest)


def limits_of(service):
    """The limits of a service of the desired state; one made by an older release has none."""
    return service.get("limits") or {}


def controls_of(desired, service, here_before, disarmed):
    """The controls that judge a port, `smtp_outbound` aside: `{name: {"mode": observe or enforce, …}}`.

    :param service: of the desired state, or None for a port of nobody's
    :param here_before: whether a port of nobody's was there when the node was adopted
    """
    if service is None:
        found = (desired.get("unknown_controls") or {}).get("adopted" if here_before else "new") or {}
    else:
        found = service.get("controls") or {}
    return {name: setting for name, setting in found.items()
            if setting["mode"] in ("observe", "enforce") and name not in disarmed}


def tenant_bridges(desired, guests, links, owners):
    """Bridges that carry customers: declared, with a declared uplink, or with a port of a known service's guest.

    :param links: `{interface: {"master": bridge or None, "mac": …}}` of the host
    """
    bridges = set(desired["bridges"])
    bridges.update(links[name]["master"] for name in desired["uplinks"] if links.get(name, {}).get("master"))
    for guest in guests:
        for nic in guest["nics"]:
            if nic["kind"] == "bridge" and nic["bridge"] and owners.of_nic(guest, nic):
                bridges.add(nic["bridge"])
    return bridges


def classify(guests):
    """`{kind of connection: number of NICs}` of all guests, running or not: `bridge`, `routed`, `unsupported:…`."""
    kinds = {}
    for guest in guests:
        for nic in guest["nics"]:
            kinds[nic["kind"]] = kinds.get(nic["kind"], 0) + 1
    return kinds


def strangers(model, guests):
    """Who is here and in no catalogue: guests by UUID, ports that libvirt doesn't know by name.

    Remembered when a node is adopted: what ran before keeps running for its time of grace; what is
    created a second later does not get any.
    """
    owner = {nic["device"]: guest["uuid"] for guest in guests for nic in guest["nics"] if nic["device"]}
    names = [port["name"] for port in model["ports"] if port["service"] is None] if model else []
    return {"guests": sorted({owner[name] for name in names if name in owner}),
            "ports": sorted(name for name in names if name not in owner)}


def filter_model(desired, guests, links, disarmed, adopted=None, owners=None):
    """The model the packet filter is built from.

    :param desired: desired state of the node
    :param guests: guests as libvirt describes them
    :param links: the host's interfaces
    :param disarmed: controls switched off on this node, `all` among them
    :param adopted: the `strangers` found when the node was adopted; None while it is being adopted: all of them
    :param owners: `Owners` of the desired state's services, where the caller has them
    :returns: `(model, gaps)`; model None when the node is to have no rules of ours;
        gaps list NICs that can't be served, each with a sentence

    A port whose name no rule can carry is left out: the rules for unknown ports bind it.
    """
    gaps = [
        {"guest": guest["name"], "mac": nic["mac"], "gap": nic["gap"]}
        for guest in guests for nic in guest["nics"] if nic.get("gap")
    ]
    if not desired["present"] or "all" in disarmed:
        return None, gaps
    smtp_disarmed = "smtp_outbound" in disarmed
    unknown = _OFF if smtp_disarmed else desired["smtp"]["unknown"]
    graced = _OFF if smtp_disarmed else desired["smtp"]["unknown_adopted"]
    owners = owners or Owners(desired["services"])
    bridges = tenant_bridges(desired, guests, links, owners)
    uplinks = [name for name in desired["uplinks"] if name in links]
    ports, seen = [], set(uplinks)
    here_before = adopted and {kind: frozenset(adopted[kind]) for kind in ("guests", "ports")}

    def add(name, mac, bridge, service, uuid=None):
        seen.add(name)
        hold = service and service["hold"]
        was_here = here_before is None or (uuid in here_before["guests"] if uuid else name in here_before["ports"])
        ports.append({
            "name": name, "mac": mac, "bridge": bridge, "service": service and service["id"],
            "smtp": (graced if was_here else unknown) if service is None else _OFF if smtp_disarmed else service["smtp"],
            "controls": controls_of(desired, service, was_here, disarmed),
            "hold": _HELD_AS[hold["kind"]] if hold else None,
            "blocks": limits_of(service).get("port_block", {}).get("blocks", []) if service else [],
            "drops": {way: limits_of(service)["drop"][way] for way in ("in", "out")} if service and "drop" in limits_of(service) else {},
        })

    macs = {"dark": set(), "quarantine": set()}
    for service in desired["services"]:
        if service["hold"]:
            macs[_HELD_AS[service["hold"]["kind"]]].update(nic["mac"] for nic in service["nics"])
    for guest in guests:
        for nic in guest["nics"]:
            service = owners.of_nic(guest, nic)
            if service and service["hold"]:
                macs[_HELD_AS[service["hold"]["kind"]]].add(nic["mac"])
            if nic["device"] not in links or nic["device"] in seen or not is_interface_name(nic["device"]):
                continue
            if nic["kind"] == "routed" or (nic["kind"] == "bridge" and nic["bridge"] in bridges):
                add(nic["device"], nic["mac"], nic["bridge"] if nic["kind"] == "bridge" else None, service, guest["uuid"])
    for name, link in sorted(links.items()):
        if link["master"] in bridges and name not in seen and is_interface_name(name):
            add(name, None, link["master"], None)

    macs_of = {}  # NICs of one guest may speak for each other
    for port in ports:
        if port["mac"] and port["service"]:
            macs_of.setdefault(port["service"], set()).add(port["mac"])
    for port in ports:
        if port["controls"]:
            port["macs"] = sorted(macs_of.get(port["service"], ()))
    ports.sort(key=lambda port: port["name"])
    return {
        "uplinks": uplinks,
        "bridges": sorted(bridges),
        "routed_interfaces": desired["routed_interfaces"],
        "prefixes": desired["prefixes"],
        "ports": ports,
        "held_macs": {"dark": sorted(macs["dark"]), "quarantine": sorted(macs["quarantine"] - macs["dark"])},
        "smtp": {"unknown": unknown, "smarthosts": desired["smtp"]["smarthosts"]},
        "controls": {name: found for name, found in (desired.get("controls") or {}).items() if name not in disarmed},
        "rescue": desired["rescue"],
        "null_routes": [{"service": service["id"], "prefixes": limits_of(service)["null_route"]["prefixes"]}
                        for service in desired["services"] if "null_route" in limits_of(service)],
    }, gaps


def check_not_the_host(desired, guests, links):
    """Refuse to hold a MAC that is the host's own: it would cut off the host, not a guest.

    :raises NodeError: code `holds_host`
    """
    own = {link["mac"]: name for name, link in links.items()}
    for guest in guests:  # a tap's host side belongs to the guest
        for nic in guest["nics"]:
            link = links.get(nic["device"]) if nic["device"] else None
            if link:
                own.pop(link["mac"], None)
    for service in desired["services"]:
        for nic in service["nics"] if service["hold"] else ():
            if nic["mac"] in own:
                raise NodeError(
                    "service %s is to be held, but its MAC %s is that of this host's own interface %s."
                    % (service["id"], nic["mac"], own[nic["mac"]]), code="holds_host", target=service["id"],
                    remedy="Correct the MAC in the catalogue and provision, then run again.",
                )
