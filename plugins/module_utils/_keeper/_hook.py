# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be done before a guest's first packet, from files alone: libvirt waits for this. PRIVATE to the collection.

libvirt must not be asked anything from its own hook (it would wait for itself), and the node's lock is not
taken: the run that holds it may be the one that starts this guest. A port is bound to its service by adding
elements to our sets, in one transaction, and led through the service's rate; whatever this misses, the keeper's next
pass finds.
"""
from __future__ import annotations

import os
from xml.etree import ElementTree

from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables, _tc
from ansible_collections.hosting.aup.plugins.module_utils._backends._domain_xml import master, nic
from ansible_collections.hosting.aup.plugins.module_utils._network import made_here, wanted_caps
from ansible_collections.hosting.aup.plugins.module_utils._ports import Owners, filter_model, limits_of
from ansible_collections.hosting.aup.plugins.module_utils._standing import check_format, reach, standing
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack

REFUSED = 75  # the one answer that the hook's shell makes a refusal of
SYSFS = "/sys/class/net"
MAX_XML = 4 * 1024 * 1024
_BINDS = (("prepare", "begin"), ("start", "begin"), ("migrate", "begin"), ("restore", "begin"))
_REFUSES = (("prepare", "begin"), ("start", "begin"))


def guest_of(text):
    """The guest that this domain XML describes, as `_libvirt.guests` does."""
    root = ElementTree.fromstring(text)
    return {"name": root.findtext("name") or "", "uuid": root.findtext("uuid") or "",
            "nics": [nic(element, True) for element in root.iterfind("./devices/interface")]}


def refusal(guest, desired):
    """Why a guest must not start: it is held powered off. None if it may."""
    service = Owners(desired["services"]).of_guest(guest)
    if service is None:
        owners = Owners(desired["services"])
        service = next((found for found in (owners.of_nic(guest, one) for one in guest["nics"]) if found), None)
    hold = service and service["hold"]
    if not hold or hold["kind"] == "quarantine" or (hold["kind"] == "suspend" and hold["power"] in (None, "pause")):
        return None
    return "service %s is held (%s by %s): its guest %s is not started" % (
        service["id"], hold["kind"], ", ".join(hold["enforcement_ids"]), guest["name"])


def links_of(guest, uplinks, master_of=master):
    """The few of the host's interfaces that matter for one guest."""
    links = {one["device"]: {"master": one["bridge"] if one["kind"] == "bridge" else None, "mac": None}
             for one in guest["nics"] if one["device"]}
    links.update((name, {"master": master_of(name), "mac": None}) for name in uplinks)
    return links


def binding(guest, desired, disarmed, adopted, links):
    """Script for `nft -f -` that binds the guest's ports, or an empty one. Pure.

    Elements that a former guest with the same port names left are taken out, those that are wanted and there
    already stay with their counts.
    """
    names = [one["device"] for one in guest["nics"] if one["device"] in links and _nftables.is_interface_name(one["device"])]
    if not names:
        return ""
    owners = Owners(desired["services"])
    mine = {found["id"]: found for found in (owners.of_nic(guest, one) for one in guest["nics"]) if found}
    model, _gaps = filter_model(dict(desired, services=list(mine.values())), [guest], links, disarmed, adopted)
    if model is None:
        return ""
    bare, _gaps = filter_model(dict(desired, services=[]), [], {name: links[name] for name in desired["uplinks"] if name in links},
                               disarmed, adopted)
    wanted, without = _nftables.build(model).elements, _nftables.build(bare).elements
    stale = _stale(names, desired)
    dropping = any(elements - without[key] for key, elements in wanted.items() if key[1] in _REMOTES)
    lines = []
    for (family, name), elements in sorted(wanted.items()):
        spec = _nftables.SETS[family][name]
        if spec.interval and not spec.type.startswith("ifname"):
            continue  # whole prefixes: they do not depend on where the guest is
        come = elements - without[family, name]
        parts = spec.type.split(" . ")
        gone = (stale.get(spec.type, frozenset()) - come) if parts[0] == "ifname" else ()
        if dropping and name in _REMOTES:  # without a drop of its own the guest isn't led to these sets at all
            gone = _stale_remotes(names, desired, name) - come
        if gone:  # `add` first, so that the deletion can't fail on one that isn't there
            lines += [_statement(verb, family, name, gone) for verb in ("add", "delete")]
        if come:
            lines.append(_statement("add", family, name, come))
    return "".join(lines)


def _statement(verb, family, name, elements):
    return "%s element %s %s %s { %s }\n" % (verb, family, _nftables.TABLE, name, ",".join(sorted(elements)))


def _stale(names, desired):
    """`{set type: elements}` that a former guest may have left at these ports."""
    numbers = {port for service in desired["services"] for port in service["smtp"]["ports"]}
    for service in desired["services"]:
        for block in limits_of(service).get("port_block", {}).get("blocks", ()):
            numbers.update(block["ports"])
    numbers.update(port for who in ("unknown", "unknown_adopted") for port in desired["smtp"][who]["ports"])
    quoted = ['"%s"' % name for name in names]
    macs = {_nftables.mac(nic["mac"]) for service in desired["services"] for nic in service["nics"]}
    return {"ifname": frozenset(quoted),
            # With the address of the one before it a guest would be taken for that one where the host routes.
            "ifname . ether_addr": frozenset("%s . %s" % (name, mac) for name in quoted for mac in macs),
            "ifname . inet_service": frozenset("%s . %d" % (name, number) for name in quoted for number in numbers)}


_REMOTES = frozenset("drop_%s%d%s" % (way, version, kind) for way in ("in", "out") for version in (4, 6) for kind in ("", "_nets"))


def _stale_remotes(names, desired, set_name):
    """Elements of a set of remote prefixes that a former guest may have left at these ports."""
    way, version, nets = set_name[5:].split("_")[0][:-1], int(set_name.split("_")[1][-1]), set_name.endswith("_nets")
    found = {_nftables.remote(text) for service in desired["services"] for text in limits_of(service).get("drop", {}).get(way, ())}
    spelled = [text for family, text in found if family == version and ("/" in text) == nets]
    return frozenset('"%s" . %s' % (name, text) for name in names for text in spelled)


def _shape(guest, desired, links, made, run):
    """Lead the guest's ports through its service's rate; what is in the way, or None.

    Ports come into being after `prepare`, and before `start`: no packet has passed them yet.
    """
    here = {name: link for name, link in links.items() if os.path.exists("%s/%s" % (SYSFS, name))}
    for service, cap in sorted(wanted_caps(desired, [guest], here, Owners(desired["services"]), made).items()):
        if not all(_nftables.is_interface_name(port) for port in cap["devices"]):
            continue
        present = [device for device in _tc.names(service).values() if os.path.exists("%s/%s" % (SYSFS, device))]
        for program, script in zip(("ip", "tc"), _tc.scripts(service, cap["rate_bps"], cap["devices"], present)):
            rc, _out, err = run([program, "-batch", "-"], script)
            if rc:
                return (err.strip().splitlines() or ["%s failed" % program])[0]
    return None


def run_hook(files, run, moment, operation, suboperation, text):
    """Do what this operation of libvirt's asks for.

    :param files: NodeState
    :param run: `run(argv, stdin=None) -> (rc, stdout, stderr)`
    :param moment: seconds since the epoch, or None while that can't be told
    :param text: domain XML, as libvirt gives it
    :returns: `(why the guest must not start or None, sentence for the log or None)`
    """
    if (operation, suboperation) not in _BINDS:
        return None, None
    packed = files.desired()
    if packed is None:
        return None, None
    given, state = unpack(packed), files.load()
    check_format(given)
    if not given["present"]:
        return None, None
    reached = reach(state["reached"], given, moment)
    desired = standing(given, reached, files.by_hand(), state["given_back"], state["baselines"].keys())
    guest = guest_of(text)
    if (operation, suboperation) in _REFUSES:
        why = refusal(guest, desired)
        if why:
            return why, why
    links, said = links_of(guest, desired["uplinks"]), []
    script = binding(guest, desired, files.disarmed(), state["adopted"], links)
    if script:
        rc, _out, err = run(["nft", "-f", "-"], script)
        if rc:
            said.append("the ports of guest %s are not bound yet: %s" % (guest["name"], (err.strip().splitlines() or ["nft failed"])[0]))
    trouble = _shape(guest, desired, links, made_here(state), run)
    if trouble:
        said.append("the rate of guest %s is not in force yet: %s" % (guest["name"], trouble))
    return None, "; ".join(said) or None
