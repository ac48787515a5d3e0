# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What making a guest takes of a KVM host: images, storage, a definition, the first start. PRIVATE to the collection.

A thin edge, like `_libvirt`. Nothing here replaces or removes anything: a volume or guest that is there already is
an error of the call that would make it.
"""
from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import contextmanager
from xml.etree import ElementTree

from ansible_collections.hosting.aup.plugins.module_utils import _definitions
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

try:
    import libvirt
except ImportError:
    libvirt = None

_FILE_POOLS = ("dir", "fs", "netfs")
_OWN_POOL = "hosting-aup-"
_QCOW2 = b"QFI\xfb"
_CHUNK = 1 << 20


# -- looking --------------------------------------------------------------------------------


def memory_available(path="/proc/meminfo"):
    """Bytes that can be given to a new guest without swapping, as the kernel estimates them."""
    with open(path, encoding="ascii") as handle:
        for line in handle:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def describe_file(path):
    """`{"format", "size_bytes", "backing"}` of a disk's file; None if there is nothing under that name.

    :returns: size_bytes is what a guest sees; format `other` for what is no regular file
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return {"format": "other", "size_bytes": 0, "backing": None}
    with open(path, "rb") as handle:
        head = handle.read(104)
        if head[:4] != _QCOW2 or len(head) < 32:
            return {"format": "raw", "size_bytes": found.st_size, "backing": None}
        offset, length = struct.unpack(">QI", head[8:20])
        backing = None
        if offset:
            handle.seek(offset)
            backing = handle.read(min(length, 1023)).decode("utf-8", "replace")
        return {"format": "qcow2", "size_bytes": struct.unpack(">Q", head[24:32])[0], "backing": backing}


def look_at_image(order, known=None):
    """The base image of an order, checked.

    :param known: `{path: [size, mtime, inode, sha256]}`, added to, so that an unchanged image is not read again
    :raises NodeError: code `image_missing`, `image_outside`, `image_unsafe`, `image_kind` or `image_changed`
    """
    image, name = order["image"], order["disk"]["image"]
    for key in ("path", "kernel", "initrd"):
        if image[key]:
            _check_file(image[key], name, order)
    found = describe_file(image["path"])
    if found["format"] != image["format"] or found["backing"]:
        seen = "has an image behind it (%s)" % found["backing"] if found["backing"] else "is %s" % found["format"]
        raise NodeError("image %s is declared as %s without another one behind it, but %s %s."
                        % (name, image["format"], image["path"], seen), code="image_kind", target=order["service"],
                        remedy="Correct the catalogue's `images`, or make the image stand alone (qemu-img convert).")
    if image["sha256"]:
        read = os.stat(image["path"])
        mark = [read.st_size, read.st_mtime_ns, read.st_ino]
        cached = (known or {}).get(image["path"])
        if not cached or cached[:3] != mark:
            cached = mark + [_sha256(image["path"])]
            if known is not None:
                known[image["path"]] = cached
        if cached[3] != image["sha256"]:
            raise NodeError("image %s: %s has SHA-256 %s, the catalogue says %s." % (name, image["path"], cached[3], image["sha256"]),
                            code="image_changed", target=order["service"], remedy="Fetch the image anew, or correct the catalogue.")
    return found


def _check_file(path, name, order):
    try:
        real, found = os.path.realpath(path), os.stat(path)
    except OSError as exc:
        raise NodeError("image %s: %s is not on this node: %s." % (name, path, exc.strerror), code="image_missing",
                        target=order["service"], remedy="Put the image there, then run again.")
    directory = os.path.realpath(order["image_directory"])
    if not real.startswith(directory + "/"):
        raise NodeError("image %s: %s is really %s, outside of %s." % (name, path, real, directory), code="image_outside",
                        target=order["service"], remedy="Put the file itself there.")
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o002:
        raise NodeError("image %s: %s is no regular file, or writable by everybody." % (name, path), code="image_unsafe",
                        target=order["service"], remedy="chmod o-w, then run again.")


def _sha256(path):
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        for chunk in iter(lambda: handle.read(_CHUNK), b""):
            found.update(chunk)
    return found.hexdigest()


def locate(host, order):
    """Where an order's volumes go: `{"pool": name or None, "path": directory, "available": bytes}`.

    :raises NodeError: code `pool_missing`, `pool_inactive` or `pool_kind`
    """
    storage, name = order["storage"], order["disk"]["storage"]
    if storage["pool"] is None:
        try:
            free = os.statvfs(storage["directory"])
        except OSError as exc:
            raise NodeError("storage %s: %s: %s." % (name, storage["directory"], exc.strerror), code="pool_missing",
                            target=order["service"], remedy="Make the directory, then run again.")
        path = os.path.realpath(storage["directory"])
        return {"pool": _pool_over(host, path), "path": path, "available": free.f_bavail * free.f_frsize}
    with _speaking(host, order, "look at pool %s" % storage["pool"]):
        try:
            pool = host.connection.storagePoolLookupByName(storage["pool"])
        except libvirt.libvirtError as exc:
            if exc.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            raise NodeError("storage %s: libvirt has no pool %s." % (name, storage["pool"]), code="pool_missing",
                            target=order["service"], remedy="Define and start it (virsh pool-define), then run again.")
        if not pool.isActive():
            raise NodeError("storage %s: the pool %s is not started." % (name, storage["pool"]), code="pool_inactive",
                            target=order["service"], remedy="virsh pool-start %s, then run again." % storage["pool"])
        root = ElementTree.fromstring(pool.XMLDesc(0))
        if root.get("type") not in _FILE_POOLS:
            raise NodeError("storage %s: the pool %s is of kind %s; overlays of an image need files."
                            % (name, storage["pool"], root.get("type")), code="pool_kind", target=order["service"],
                            remedy="Use a pool of kind %s." % ", ".join(_FILE_POOLS))
        path = root.findtext("./target/path")
        free = os.statvfs(path)
        return {"pool": storage["pool"], "path": path, "available": free.f_bavail * free.f_frsize}


def _pool_over(host, path):
    """The name of somebody's pool over a directory, or None: libvirt takes only one."""
    for pool in host.connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if not pool.name().startswith(_OWN_POOL):
            target = ElementTree.fromstring(pool.XMLDesc(0)).findtext("./target/path")
            if target and os.path.realpath(target) == path:
                return pool.name()
    return None


# -- making ---------------------------------------------------------------------------------


@contextmanager
def _speaking(host, order, doing):
    """Make libvirt's errors ours."""
    try:
        yield
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC) or exc.get_error_domain() == libvirt.VIR_FROM_RPC:
            raise NodeError("%s for service %s: libvirt does not answer: %s." % (doing, order["service"], exc.get_error_message()),
                            code="libvirt_down", target=order["service"], retryable=True,
                            remedy="Start libvirtd on the node, then run again; it goes on where it stopped.")
        said = exc.get_error_message()
        full = "No space left" in said
        raise NodeError("%s for service %s: libvirt says: %s." % (doing, order["service"], said),
                        code="pool_full" if full else "libvirt", target=order["service"], retryable=full,
                        remedy="%s, then run again; it goes on where it stopped." % (
                            "Make room in the storage" if full else "Mend what libvirt names"))


@contextmanager
def _pool(host, place):
    """The pool of a place; one of our own over a directory is taken away again, its files stay."""
    if place["pool"] is not None:
        pool = host.connection.storagePoolLookupByName(place["pool"])
        pool.refresh(0)
        yield pool
        return
    name = _OWN_POOL + hashlib.sha256(place["path"].encode("utf-8")).hexdigest()[:10]
    try:
        pool = host.connection.storagePoolLookupByName(name)  # of a run that was killed
        pool.refresh(0)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        pool = host.connection.storagePoolCreateXML(_definitions.pool(name, place["path"]), 0)
    try:
        yield pool
    finally:
        pool.destroy()


def make_disk(host, place, order, name):
    """Make the overlay over the order's image. libvirt refuses where a file of this name is."""
    with _speaking(host, order, "make disk %s" % name), _pool(host, place) as pool:
        pool.createXML(_definitions.overlay(name, order["disk"]["size_bytes"], order["image"]), 0)


def write_seed(host, place, order, name, data):
    """Write the seed's volume; one of ours that a killed run left half written is written again."""
    with _speaking(host, order, "write seed %s" % name), _pool(host, place) as pool:
        try:
            volume = pool.storageVolLookupByName(name)
            if volume.info()[1] < len(data):
                volume.resize(len(data), 0)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
            volume = pool.createXML(_definitions.raw(name, len(data)), 0)
        stream = host.connection.newStream(0)
        try:
            volume.upload(stream, 0, len(data), 0)
            view = [memoryview(data)]

            def more(_stream, size, _opaque):
                piece, view[0] = bytes(view[0][:size]), view[0][size:]
                return piece

            stream.sendAll(more, None)
            stream.finish()
        except libvirt.libvirtError:
            try:
                stream.abort()
            except libvirt.libvirtError:
                pass  # it was over already
            raise


def define(host, order, disk, seed):
    """Define the guest; never one that is there.

    :raises NodeError: code `name_taken`
    """
    with _speaking(host, order, "define guest %s" % order["guest"]["name"]):
        for found, by in ((_find(host, "lookupByName", order["guest"]["name"]), "name"),
                          (_find(host, "lookupByUUIDString", order["guest"]["uuid"]), "UUID")):
            if found is not None:
                raise NodeError("service %s: a guest with its %s is there meanwhile (%s, %s)."
                                % (order["service"], by, found.name(), found.UUIDString()), code="name_taken",
                                target=order["service"], retryable=True, remedy="Run again; it plans anew.")
        host.connection.defineXMLFlags(_definitions.domain(order, disk, seed), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def _find(host, how, what):
    try:
        return getattr(host.connection, how)(what)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None


def start(host, order, before_running):
    """Start the guest with its processors stopped, let `before_running()` see to its ports, then let it run."""
    with _speaking(host, order, "start guest %s" % order["guest"]["name"]):
        domain = host.connection.lookupByUUIDString(order["guest"]["uuid"])
        if not domain.isActive():
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        before_running()
        domain.setAutostart(1)  # before it runs: a guest that runs is finished
        set_running(domain)


def set_running(domain):
    """Let the processors go."""
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
