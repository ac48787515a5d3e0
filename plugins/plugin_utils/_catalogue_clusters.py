# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Proxmox VE cluster makes guests from, and what an order may say there. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_fields as fields
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_fields import Refused, described
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_orders import USER_DATA_NAME, boolean, hostname, named

CREATION = frozenset(("images", "storage", "resolvers", "resource_pool", "user_data"))
IMAGE = frozenset(("template", "linked", "ostemplate", "vendor_data"))
STORAGE = frozenset(("storage", "node", "overcommit"))
_STORAGE_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,98}[A-Za-z0-9]")
_VOLUME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,98}[A-Za-z0-9]:[A-Za-z0-9_./+-]{1,200}")
_SNIPPET = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,98}[A-Za-z0-9]:snippets/[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,199}")
_POOL = re.compile(r"[A-Za-z0-9._-]{1,100}")  # without the levels below a pool, which a path of privileges can't name
_MEMBER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def creation(reader):
    """What a cluster makes guests from: `{"images", "storage", "resolvers"}`, with `resource_pool` and `user_data` where given.

    The API can't write cloud-init's files: they are volumes that lie there already.

    :param reader: of the node's section `creation`
    """
    reader.known(CREATION)
    found = {"images": {}, "storage": {}, "resolvers": [address[-1] for address in reader.each("resolvers", fields.address)]}
    for name, inner in named(reader, "images"):
        inner.known(IMAGE)
        if (inner.raw.get("template") is None) == (inner.raw.get("ostemplate") is None):
            inner.refuse("", "an image is either a `template`, the number of a guest, or an `ostemplate`, a container's archive")
        if inner.raw.get("ostemplate") is not None and inner.raw.get("linked") is not None:
            inner.refuse("linked", "is for templates; an archive is always unpacked")
        found["images"][name] = {"template": inner.may("template", fields.vmid), "linked": inner.may("linked", boolean, False),
                                 "ostemplate": inner.may("ostemplate", _matching(_VOLUME, "a volume like local:vztmpl/NAME.tar.zst"))}
        if inner.raw.get("vendor_data") is not None:
            found["images"][name]["vendor_data"] = inner.need("vendor_data", _snippet)
            if inner.raw.get("ostemplate") is not None:
                inner.refuse("vendor_data", "is read by cloud-init, which containers have none of here")
    for name, inner in named(reader, "storage"):
        inner.known(STORAGE)
        found["storage"][name] = {"storage": inner.need("storage", _matching(_STORAGE_ID, "the name of a storage of the cluster")),
                                  "node": inner.may("node", _matching(_MEMBER, "the name of a node of the cluster")),
                                  "overcommit": inner.may("overcommit", boolean, False)}
    if reader.raw.get("resource_pool") is not None:
        found["resource_pool"] = reader.need("resource_pool", _matching(_POOL, "the name of a pool of the cluster"))
    if reader.raw.get("user_data") is not None:
        volumes = reader.raw["user_data"]
        if not isinstance(volumes, dict):
            reader.refuse("user_data", f"a mapping of volumes by name is expected, found {described(volumes)}")
            return found
        inner = reader.inside("user_data", volumes)
        found["user_data"] = {}
        for name in sorted(volumes, key=str):
            if not isinstance(name, str) or not USER_DATA_NAME.fullmatch(name):
                reader.refuse("user_data", f"{described(name)} is no name of letters, digits, '.', '_' and '-'")
                continue
            found["user_data"][name] = inner.need(name, _snippet)
    return found


def check_order(reader, service):
    """Complain of what an order can't have in a cluster.

    :param reader: of the section `order`
    :param service: the normalised service, its order in it
    """
    order, name = service["order"], service["guest"]["name"]
    try:
        known = hostname(name) if name else None
    except Refused:
        known = None
    if name and known != name:
        reader.refuse("create", f"in a cluster a guest's name is its host name, and {fields.shown(name)} is none in lower case")
    cloud = order["cloud_init"]
    if cloud["hostname"] not in (None, name):
        reader.refuse("cloud_init.hostname", f"in a cluster it is the guest's name, {fields.shown(name)}; leave it away")
    if cloud["user_data"] and (cloud["ssh_keys"] or cloud.get("user")):
        reader.refuse("cloud_init.user_data", "in a cluster it stands in place of all that the server would write, so "
                                              "`ssh_keys` and `user` beside it would be left out: put them into it, or leave it away")
    for index, nic in enumerate(order["nics"]):
        families = {ipaddress.ip_interface(address).version for address in nic["addresses"]}
        for gateway in nic["gateways"]:
            if ipaddress.ip_address(gateway).version not in families:
                reader.refuse(f"nics[{index}].gateways", f"{gateway} has no address of its family beside it")
    if order["disk"] and order["disk"]["size_bytes"] and order["disk"]["size_bytes"] % (1 << 20):
        reader.refuse("disk.size_bytes", "in a cluster whole MiB")


def check_elsewhere(reader, service):
    """Complain of what an order may have in a cluster only.

    :param reader: of the section `order`
    """
    if service["order"]["cloud_init"].get("user"):
        reader.refuse("cloud_init.user", "is for Proxmox VE clusters; elsewhere the image says, or user data")
    for index, nic in enumerate(service["order"]["nics"]):
        if nic.get("vlan") is not None:
            reader.refuse(f"nics[{index}].vlan", "is for Proxmox VE clusters; elsewhere each VLAN has a bridge of its own")


def _matching(pattern, what):
    def parse(value):
        if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
            raise Refused(f"{described(value)} is not {what}")
        return str(value)
    return parse


def _snippet(value):
    return _matching(_SNIPPET, "a volume like local:snippets/NAME.yml, which lies on the cluster already")(value)
