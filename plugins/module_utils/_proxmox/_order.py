# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that are made by order: what they are to be, and the steps that lead there. Pure. PRIVATE to the collection.

A guest is copied from a template (or unpacked from a container's archive), set up while it is off, put under its rules like
any guest, and started last. A copy has the template's settings, tags and firewall file, but new MACs and another UUID
(qemu-server 9.2, `clone_vm`), so what it will be like is known beforehand, and a plan needs no guest to be there.

What was begun is in the ledger; a guest that is half made is known by the mark in its notes, which nobody but operators can
have changed before it was started. Without the mark it is somebody else's.
"""
from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, unquote

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _nics, _units

PART = "create"
_DISK = re.compile(r"(?:scsi|virtio|sata|ide|efidisk|tpmstate)\d+|rootfs|mp\d+")
_DATA_DISK = re.compile(r"(?:scsi|virtio|sata|ide)\d+")
_CLOUDINIT = re.compile(r"[^,]*[:/]vm-\d+-cloudinit|[^:,]+:cloudinit")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
COPYING = ("clone", "create", "disk")
"""Locks that a guest has while it is copied, or its source."""


def mark(order):
    """The notes of a guest made by order, by which it is known until it runs."""
    return "hosting.aup order %s (service %s)" % (order["guest"]["uuid"], order["service"])


def refuse(order, code, message, remedy, retryable=False):
    """The error of one order."""
    return NodeError("service %s is not made: %s" % (order["service"], message), code=code, target=order["service"], remedy=remedy,
                     retryable=retryable)


def error(service, exc):
    """An error of one order, as results list them."""
    return {"service": service, "part": PART, "code": exc.code, "message": exc.message, "remedy": exc.remedy,
            "retryable": exc.retryable}


def taken(order, row, reserved=False):
    """The error of an order in whose place there is another's guest.

    :param order: with `service` and `vmid`, None where it is known by its name
    :param reserved: whether the number was chosen for it before and nothing was begun: the next run chooses another
    """
    by_number = order["vmid"] is not None
    if reserved:
        return refuse(order, "vmid_taken", "its number %s was given to another guest meanwhile (%s, %s)." % (
            row["vmid"], row["type"], row.get("name")), "Run hosting.aup.provision again: it takes another number.", retryable=True)
    return refuse(
        order, "vmid_taken" if by_number else "name_taken", "%s belongs to another guest (%s %s, %s)." % (
            "its number %s" % row["vmid"] if by_number else "its name", row["type"], row["vmid"], row.get("name")),
        "Give it another %s in the catalogue." % ("number" if by_number else "name, or a number of its own"))


def size_of(text):
    """The bytes of `size=…` in a disk's string, or None."""
    found = _SIZE.fullmatch(dict(part.partition("=")[::2] for part in text.split(",")).get("size", ""))
    return int(float(found[1]) * _FACTORS[found[2]]) if found else None


def storages(config):
    """The storages that a guest's disks lie on; drives with a disc in them aside, that of cloud-init among them."""
    found = set()
    for key, text in config.items():
        storage, colon, _rest = str(text).partition(",")[0].partition(":")
        if _DISK.fullmatch(key) and colon and ("media=cdrom" not in text or _CLOUDINIT.match(text)):
            found.add(storage)
    return found


def has_cloudinit(config):
    """Whether a virtual machine has a drive for cloud-init's data; without one all settings of it say nothing."""
    return any(_DATA_DISK.fullmatch(key) and _CLOUDINIT.match(str(text)) for key, text in config.items())


def cloudinit_files(config):
    """`{"user" | "vendor" | "network" | "meta": volume}`: files that stand in place of what the server would write."""
    return dict(part.partition("=")[::2] for part in str(config.get("cicustom") or "").split(",") if part)


def snippets(order):
    """`{"user" | "vendor": volume}` that an order and its image name."""
    named = {"user": order.get("snippet"), "vendor": (order["image"] or {}).get("vendor_data")}
    return {what: volume for what, volume in named.items() if volume}


def disk_of(kind, config):
    """The key of the disk that a guest boots from, or None."""
    if kind == "lxc":
        return "rootfs" if "rootfs" in config else None
    disks = [key for key in sorted(config) if _DATA_DISK.fullmatch(key)
             and "media=cdrom" not in config[key] and not _CLOUDINIT.match(config[key])]
    order = str(config.get("boot") or "").partition("order=")[2].split(",")[0].split(";")
    for key in [*order, config.get("bootdisk"), "scsi0", "virtio0", "sata0", "ide0"]:
        if key in disks:
            return key
    return disks[0] if disks else None


def check_template(order, config, spoof_sets):
    """Refuse a template whose copies could not be what was ordered.

    :param spoof_sets: names of its IP sets that bind a NIC to addresses
    :raises NodeError: codes `image_kind`, `disk_small`
    """
    kind, name = order["kind"], order["disk"]["image"]
    wrong = None
    if config.get("template") != "1":
        wrong = "guest %s is no template" % order["image"]["template"], "Convert it: qm template, or pct template."
    elif str(config.get("onboot") or "0").lower() in ("1", "on", "yes", "true"):
        # Between copy and rules a boot of the host would start it.
        wrong = "it starts at boot, and so would a copy that has no rules yet", "Set onboot=0 on the template."
    elif spoof_sets:
        wrong = ("it has the IP set %s, and every copy would be bound to the template's addresses" % spoof_sets[0],
                 "Delete the set of the template.")
    elif kind == "qemu" and not has_cloudinit(config):
        wrong = "it has no cloud-init drive, and a copy would not learn its addresses", "Add one: qm set … --ide2 STORAGE:cloudinit."
    elif kind == "lxc" and snippets(order):
        wrong = "it is a container's, and these read no cloud-init data here", "Order it without user data and vendor data."
    elif "network" in cloudinit_files(config):
        wrong = ("it has network data of its own (cicustom), and a copy would not learn its addresses",
                 "Take network= out of the template's cicustom.")
    elif "user" in cloudinit_files(config) and (order["ssh_keys"] or order["user"]):
        wrong = ("it has user data of its own (cicustom), and keys and user of the order would be left out",
                 "Put them into that file and order without them, or take user= out of the template's cicustom.")
    elif kind == "lxc" and (order["ssh_keys"] or order["user"]):
        wrong = ("a copy of a container takes no SSH keys and no user",
                 "Order it without them, or from an `ostemplate`, which takes keys.")
    if wrong:
        raise refuse(order, "image_kind", "image %s: %s." % (name, wrong[0]), wrong[1])
    disk = disk_of(kind, config)
    size = size_of(config[disk]) if disk else None
    if size is None:
        raise refuse(order, "image_kind", "image %s has no disk of a known size." % name, "Look at the template's hardware.")
    if order["disk"]["size_bytes"] < size:
        raise refuse(order, "disk_small", "its disk of %d bytes is smaller than image %s with %d."
                     % (order["disk"]["size_bytes"], name, size), "Order a larger disk.")


# -- what a guest is to be ------------------------------------------------------------------------------------


def _addresses(nic):
    """`{version: (address with length, gateway or None)}`: of each family the first, more the server doesn't take."""
    found = {}
    for text in nic["addresses"]:
        version = ipaddress.ip_interface(text).version
        gateway = next((one for one in nic["gateways"] if ipaddress.ip_address(one).version == version), None)
        found.setdefault(version, (text, gateway))
    return found


def unset_addresses(order):
    """Addresses that the guest's own settings have to bring up: beyond the first of a family on a NIC."""
    return [text for nic in order["nics"] for text in nic["addresses"]
            if text not in {first for first, _gateway in _addresses(nic).values()}]


def _ip_parts(nic):
    parts = []
    for version, (text, gateway) in sorted(_addresses(nic).items()):
        suffix = "" if version == 4 else "6"
        parts += [("gw" + suffix, gateway)] * bool(gateway) + [("ip" + suffix, text)]
    return parts


def _nic_text(order, number, nic, present):
    """A NIC as ordered, all that the order says nothing of carried through."""
    parts = [("bridge", nic["bridge"]), ("firewall", "1"), ("link_down", None)]
    if nic.get("vlan") is not None:
        parts += [("tag", str(nic["vlan"])), ("trunks", None)]
    if order["rate_bps"]:
        parts.append(("rate", _units.rate_text(order["rate_bps"], len(order["nics"]))))
    if order["kind"] == "lxc":
        text = present or "name=eth%d,type=veth" % number
        parts += [("hwaddr", nic["mac"].upper()), ("gw", None), ("ip", None), ("gw6", None), ("ip6", None), *_ip_parts(nic)]
    else:
        pairs = _nics.parts(present) if present else [("virtio", "")]
        model = dict(pairs).get("model")
        if model is None:
            model = pairs[0][0]
            pairs = pairs[1:]
        rest = [pair for pair in pairs if pair[0] not in ("model", "macaddr")]
        text = ",".join("%s=%s" % pair for pair in [(model, nic["mac"].upper()), *rest])
    for key, value in parts:
        text = _nics.with_value(text, key, value)
    return text


def wanted(order, config):
    """What of a guest's settings an order says, None for what is to be deleted.

    :param config: the guest's, or its template's; empty for one made of an archive
    """
    name = order["guest"]["name"]
    found = {"cores": str(order["vcpus"]), "memory": str(order["memory_bytes"] >> 20)}
    if order["kind"] == "lxc":
        found["hostname"] = name
    else:
        found["name"] = name
        if config.get("sockets") not in (None, "1"):
            found["sockets"] = "1"
        smbios = [part for part in str(config.get("smbios1") or "").split(",") if part and not part.startswith("uuid=")]
        found["smbios1"] = ",".join(["uuid=" + order["guest"]["uuid"], *smbios])
        found["ciuser"] = order["user"] or config.get("ciuser")
        # Keys of the template would be somebody else's way in.
        # The server takes and keeps them quoted once more than the body of a request is: blanks as %20, never as +.
        found["sshkeys"] = quote("\n".join(order["ssh_keys"]), safe="") or None
        if snippets(order):
            files = dict(cloudinit_files(config), **snippets(order))
            found["cicustom"] = ",".join("%s=%s" % item for item in sorted(files.items()))
    if order["resolvers"]:
        found["nameserver"] = " ".join(order["resolvers"])
    for number, nic in enumerate(order["nics"]):
        key = "net%d" % number
        found[key] = _nic_text(order, number, nic, config.get(key))
        if order["kind"] == "qemu":
            found["ipconfig%d" % number] = ",".join("%s=%s" % part for part in sorted(_ip_parts(nic))) or None
    for key in config:
        if _nics.NIC.fullmatch(key) and key not in found:
            found[key] = None  # a NIC beyond the order would be nobody's, and bound to nothing
        elif re.fullmatch(r"ipconfig\d+", key) and key not in found:
            found[key] = None
    return found


def _same(key, now, then):
    if now is None or then is None:
        return now == then
    if _nics.NIC.fullmatch(key):
        return sorted(text.lower() for text in now.split(",")) == sorted(text.lower() for text in then.split(","))
    if key == "sshkeys":
        return unquote(now).strip() == unquote(then)
    if key == "cicustom":
        return sorted(now.split(",")) == sorted(then.split(","))
    if key == "smbios1" or key.startswith("ipconfig"):
        return sorted(now.lower().split(",")) == sorted(then.lower().split(","))
    return now.strip() == then.strip()


def changes(order, config):
    """`(before, after)` of the settings that are not as ordered."""
    then = wanted(order, config)
    differs = sorted(key for key, value in then.items() if not _same(key, config.get(key), value))
    return {key: config.get(key) for key in differs}, {key: then[key] for key in differs}


def as_ordered(order, guest):
    """A guest as it will be when its settings are as ordered: what its rules are planned for."""
    config = {key: value for key, value in dict(guest["config"], **wanted(order, guest["config"])).items() if value is not None}
    nics = {key: {"text": config[key], "mac": _nics.mac_of(order["kind"], config[key])}
            for key in sorted(config) if _nics.NIC.fullmatch(key)}
    return dict(guest, config=config, nics=nics, power="stopped", name=order["guest"]["name"], digest=None, lock=None, template=False,
                uuid=order["guest"]["uuid"] if order["kind"] == "qemu" else None, live=None)


def coming(order, config, firewall, node):
    """The guest before it is there, as `observe` would show it.

    :param config: its template's, or nothing
    :param firewall: `{"options", "rules", "sets"}` it will find
    :param node: where it will be
    """
    config = {key: value for key, value in config.items() if key not in ("template", "lock", "description")}
    seen = {"vmid": order["vmid"], "kind": order["kind"], "node": node, "ha": None, "config": config, "processors": order["vcpus"],
            "firewall_read": True, **firewall}
    return as_ordered(order, seen)


# -- steps ----------------------------------------------------------------------------------------------------


def _step(order, verb, why, before, after, **more):
    return dict({"engine": "proxmox", "verb": verb, "service": order["service"], "vmid": order["vmid"], "part": PART, "before": before,
                 "after": after, "why": "%s of guest %s" % (why, order["vmid"])}, **more)


def source_step(order, node, source, waiting=None):
    """Copying the template, or unpacking the archive.

    :param node: where the guest is to be
    :param source: where the template is
    :param waiting: the lock of a copy that was begun already
    """
    image, storage = order["image"], order["storage"]["storage"]
    after = {"vmid": order["vmid"], "name": order["guest"]["name"], "image": order["disk"]["image"], "node": node, "storage": storage}
    before = {"vmid": None, "lock": waiting} if waiting else {"vmid": None}
    if image["template"] is not None:
        after.update(template=image["template"], linked=image["linked"])
        return _step(order, "clone", "copy of template %s" % image["template"], before, after, source=source, node=node)
    after["ostemplate"] = image["ostemplate"]
    return _step(order, "unpack", "unpacking", before, after, source=source, node=node)


def finishing_steps(order, guest):
    """Steps from a copy to what was ordered, before its rules.

    :param guest: as observed, or `coming` before its settings
    """
    steps, config = [], guest["config"]
    before, after = changes(order, config)
    if after:
        steps.append(_step(order, "settings", "settings", before, after))
    disk = disk_of(order["kind"], config)
    size = size_of(config[disk]) if disk else None
    if size is not None and size < order["disk"]["size_bytes"]:
        steps.append(_step(order, "resize", "disk %s" % disk, {disk: size}, {disk: order["disk"]["size_bytes"]}))
    return steps


def start_step(order):
    """The last one: whatever is before it is in force when the guest sends its first packet."""
    return _step(order, "begin", "start", {"power": "stopped", "onboot": "0"}, {"power": "running", "onboot": "1"})


def rights(order, template):
    """`{(path, privilege)}` that an order needs beyond those of its rules.

    :param template: the template's settings; empty for an archive
    """
    path, found = "/vms/%s" % order["vmid"], set()
    for privilege in ("VM.Allocate", "VM.Audit", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options",
                      "VM.Config.Disk", "VM.PowerMgmt"):
        found.add((path, privilege))
    if order["kind"] == "qemu":
        # Settings of cloud-init need VM.Config.Cloudinit or VM.Config.Network; the latter is there.
        found.add((path, "VM.Config.HWType"))
    image = order["image"]
    used = {order["storage"]["storage"]}
    bridges = {_nics.bridge_path(text) for key, text in wanted(order, template).items() if text and _nics.NIC.fullmatch(key)}
    if image["template"] is not None:
        found.add(("/vms/%s" % image["template"], "VM.Clone"))
        found.add(("/vms/%s" % image["template"], "VM.Audit"))
        if image["linked"]:
            used |= storages(template)
        bridges |= {_nics.bridge_path(text) for key, text in template.items() if _nics.NIC.fullmatch(key)} - {None}
    found |= {("/storage/" + storage, "Datastore.AllocateSpace") for storage in used}
    if image["ostemplate"]:
        found.add(("/storage/" + image["ostemplate"].partition(":")[0], "Datastore.Audit"))
    for volume in dict(cloudinit_files(template), **snippets(order)).values() if snippets(order) else ():
        # Written whole, all of it is looked at. The server lets nobody refer to a snippet without the right to remove it (pve-storage, `check_volume_access`).
        found |= {("/storage/" + volume.partition(":")[0], privilege) for privilege in ("Datastore.Allocate", "Datastore.Audit")}
    return found | {(bridge, "SDN.Use") for bridge in bridges}


def pooled(order):
    """`{path of the guest: path of its pool}`, empty without a pool; see `_rights.missing`."""
    return {"/vms/%s" % order["vmid"]: "/pool/" + order["resource_pool"]} if order.get("resource_pool") else {}


def unpack_parameters(order):
    """Parameters of a container made of an archive: all of it in one call, off."""
    values = {key: value for key, value in wanted(order, {}).items() if value is not None}
    size = order["disk"]["size_bytes"] / (1 << 30)
    keys = "\n".join(order["ssh_keys"])
    return dict(values, vmid=order["vmid"], ostemplate=order["image"]["ostemplate"], unprivileged=1, onboot=0,
                rootfs="%s:%s" % (order["storage"]["storage"], _units.plain_size(size)), description=mark(order),
                **({"ssh-public-keys": keys} if keys else {}), **({"pool": order["resource_pool"]} if order.get("resource_pool") else {}))
