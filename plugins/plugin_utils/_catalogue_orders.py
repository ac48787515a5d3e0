# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders: what a service's guest is to be made of, and what a node makes guests from. PRIVATE to the collection.

An order names images and storage by the names that the node's operator gave them; it holds no path, no password
and no text of the customer's. A user-data file is named, and read when its guest is created.
"""
from __future__ import annotations

import base64
import binascii
import ipaddress
import posixpath
import re

from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_fields as fields
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_fields import Refused, described, shown

ORDER = frozenset(("create", "vcpus", "memory_bytes", "disk", "nics", "rate_bit_per_second", "cloud_init"))
DISK = frozenset(("size_bytes", "image", "storage"))
NIC = frozenset(("mac", "bridge", "vlan", "subnets", "gateways"))
CLOUD_INIT = frozenset(("hostname", "ssh_keys", "user_data", "user"))
CREATION = frozenset(("image_directory", "images", "storage", "guest_type", "resolvers"))
IMAGE = frozenset(("path", "format", "sha256", "kernel", "initrd", "command_line"))
STORAGE = frozenset(("pool", "directory", "overcommit"))
GUEST_TYPES = ("kvm", "qemu")
IMAGE_DIRECTORY = "/var/lib/libvirt/images/base"

MIB = 1 << 20
_SECTOR = 512
_PATH = re.compile(r"/[A-Za-z0-9_./+-]{1,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOSTNAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
USER_DATA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com"
                  r"|sk-ecdsa-sha2-nistp256@openssh\.com) ([A-Za-z0-9+/]{16,8192}={0,2})(?: .*)?")


def creation(reader):
    """What a node makes guests from: `{"image_directory", "images", "storage", "guest_type", "resolvers"}`.

    :param reader: of the node's section `creation`
    """
    reader.known(CREATION)
    directory = reader.may("image_directory", path, IMAGE_DIRECTORY)
    found = {
        "image_directory": directory,
        "images": images(reader, "images", directory),
        "storage": {},
        "guest_type": reader.may("guest_type", _one_of(GUEST_TYPES), GUEST_TYPES[0]),
        "resolvers": [address[-1] for address in reader.each("resolvers", fields.address)],
    }
    for name, inner in named(reader, "storage"):
        inner.known(STORAGE)
        pool, folder = inner.may("pool", fields.token), inner.may("directory", path)
        if (inner.raw.get("pool") is None) == (inner.raw.get("directory") is None):
            inner.refuse("", "a storage is either a libvirt `pool` or a `directory`")
        found["storage"][name] = {"pool": pool, "directory": folder,
                                  "overcommit": inner.may("overcommit", boolean, False)}
    return found


def images(reader, name, directory):
    """`{name: {"path", "format", "sha256", "kernel", "initrd", "command_line"}}`.

    :param directory: every path has to lie below it; None leaves that to `outside`
    """
    found = {}
    for image, inner in named(reader, name):
        inner.known(IMAGE)
        entry = {
            "path": inner.need("path", path), "format": inner.need("format", _one_of(("qcow2", "raw"))),
            "sha256": inner.may("sha256", _matching(_SHA256, "64 hexadecimal digits in lower case")),
            "kernel": inner.may("kernel", path), "initrd": inner.may("initrd", path),
            "command_line": inner.may("command_line", fields.free_text),
        }
        if entry["kernel"] is None and (entry["initrd"] or entry["command_line"]):
            inner.refuse("kernel", "is required where there is an initrd or a command line")
        found[image] = entry
        if directory is not None:
            for key in outside(entry, directory):
                inner.refuse(key, f"{shown(entry[key])} is not below image_directory {directory}")
    return found


def outside(image, directory):
    """Which of an image's paths lie outside a directory, by their text; the node looks at what they really are."""
    return [key for key in ("path", "kernel", "initrd")
            if image[key] and not image[key].startswith(directory.rstrip("/") + "/")]


def named(reader, name):
    """`(name, reader)` of each entry of a mapping by name."""
    raw = reader.raw.get(name)
    if raw is None:
        return
    if not isinstance(raw, dict):
        reader.refuse(name, f"a mapping by name is expected, found {described(raw)}")
        return
    for key in sorted(raw, key=str):
        try:
            fields.token(key)
        except Refused as exc:
            reader.refuse(name, str(exc))
            continue
        inner = reader.inside(f"{name}.{key}", raw[key])
        if inner is not None:
            yield str(key), inner


def order(reader, service):
    """A service's order in its normal form.

    :param reader: of the section `order`
    :param service: the normalised service it belongs to, for its NICs and nodes
    """
    reader.known(ORDER)
    found = {
        "create": reader.may("create", boolean, False),
        "vcpus": reader.need("vcpus", _whole(1, 1024)),
        "memory_bytes": reader.need("memory_bytes", _whole(16 * MIB, 1 << 46, MIB)),
        "rate_bit_per_second": reader.may("rate_bit_per_second", _whole(64_000, 1 << 40)),
        "disk": None, "nics": [], "cloud_init": {"hostname": None, "ssh_keys": [], "user_data": None},
    }
    disk = reader.inside("disk", reader.raw.get("disk"))
    if disk is not None:
        disk.known(DISK)
        found["disk"] = {"size_bytes": disk.need("size_bytes", _whole(MIB, 1 << 50, _SECTOR)),
                         "image": disk.need("image", fields.token), "storage": disk.need("storage", fields.token)}
    cloud = reader.raw.get("cloud_init")
    if cloud is not None:
        inner = reader.inside("cloud_init", cloud)
        if inner is not None:
            inner.known(CLOUD_INIT)
            found["cloud_init"] = {
                "hostname": inner.may("hostname", hostname), "ssh_keys": inner.each("ssh_keys", ssh_key),
                "user_data": inner.may("user_data", _matching(
                    USER_DATA_NAME, "the name of a file without directory: letters, digits, '.', '_' and '-'"))}
            if cloud.get("user") is not None:  # a seed of ours leaves the image's own
                found["cloud_init"]["user"] = inner.need("user", _matching(_USER, "a user's name in lower case"))
    found["nics"] = _nics(reader, service)
    if found["create"] and len(service["nodes"]) > 1:
        reader.refuse("create", "a guest that may migrate can't be ordered: on another node of the pool it could be there "
                                "already. Order it on one `node`, then move it into the pool")
    return found


def _nics(reader, service):
    raw = reader.raw.get("nics")
    if not isinstance(raw, list):
        reader.refuse("nics", f"a list with one entry per NIC is expected, found {described(raw)}")
        return []
    nics, own = [], {nic["mac"]: nic for nic in service["nics"]}
    for index, part in enumerate(raw):
        inner = reader.inside(f"nics[{index}]", part)
        if inner is None:
            continue
        inner.known(NIC)
        mac, bridge = inner.need("mac", fields.mac), inner.need("bridge", fields.interface)
        subnets, gateways = inner.each("subnets", fields.prefix), inner.each("gateways", fields.address)
        if mac is not None and mac not in own:
            inner.refuse("mac", f"{mac} is no NIC of this service")
        if mac in {nic["mac"] for nic in nics}:
            inner.refuse("mac", f"{mac} stands here twice")
        if len({gateway[0] for gateway in gateways}) < len(gateways):
            inner.refuse("gateways", "one for each family at most")
        networks = [ipaddress.ip_network(subnet[-1]) for subnet in subnets]
        nics.append({"mac": mac, "bridge": bridge, "addresses": _with_length(own.get(mac), networks),
                     "gateways": [gateway[-1] for gateway in gateways]})
        if part.get("vlan") is not None:
            nics[-1]["vlan"] = inner.need("vlan", _whole(1, 4094))
    if not reader.raw["nics"] or own.keys() - {nic["mac"] for nic in nics} - {None}:
        reader.refuse("nics", "every NIC of the service needs its bridge here")
    return nics


def _with_length(nic, networks):
    """A NIC's own addresses, each with the length of the subnet it lies in, or alone."""
    found = []
    for text in nic["addresses"] if nic else ():
        address = ipaddress.ip_address(text)
        within = next((network for network in networks if address in network), None)
        found.append(f"{text}/{within.prefixlen if within else address.max_prefixlen}")
    return found


def path(value):
    """An absolute path without `..`, in its shortest form."""
    text = value if isinstance(value, str) else ""
    if not _PATH.fullmatch(text) or ".." in text.split("/"):
        raise Refused(f"{described(value)} is not an absolute path of letters, digits and _ . / + -, without '..'")
    return posixpath.normpath(text)


def hostname(value):
    """A host name in lower case."""
    text = value.lower() if isinstance(value, str) else ""
    if not _HOSTNAME.fullmatch(text):
        raise Refused(f"{described(value)} is not a host name")
    return text


def ssh_key(value):
    """A public key as `type data`: what follows is a comment, mostly somebody's name or address."""
    match = _KEY.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        data = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        data = b""
    if not match or data[4:4 + len(match[1])] != match[1].encode():
        raise Refused(f"{described(value)} is not a public SSH key as in authorized_keys, without options")
    return f"{match[1]} {match[2]}"


def boolean(value):
    """`true` or `false`."""
    if value is True or value is False:
        return value
    raise Refused(f"true or false is expected, found {described(value)}")


def _whole(least, most, multiple=1):
    def parse(value):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most or value % multiple:
            of = f", a multiple of {multiple}" if multiple > 1 else ""
            raise Refused(f"a whole number from {least} to {most}{of} is expected, found {described(value)}")
        return int(value)
    return parse


def _one_of(words):
    def parse(value):
        if value not in words:
            raise Refused(f"{described(value)} is none of {', '.join(words)}")
        return str(value)
    return parse


def _matching(pattern, what):
    def parse(value):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Refused(f"{described(value)} is not {what}")
        return str(value)
    return parse
