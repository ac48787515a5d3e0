# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt definitions of an ordered guest and its volumes. Pure. PRIVATE to the collection.

Built as a tree, so that no value can become markup. Sources: libvirt's formats of domains and storage volumes.
"""
from __future__ import annotations

from xml.etree import ElementTree

MARK = "urn:hosting.aup:1"  # namespace of the element that says whose guest this is


def _add(parent, tag, text=None, **attributes):
    element = ElementTree.SubElement(parent, tag, {key.rstrip("_"): value for key, value in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def domain(order, disk, seed):
    """Definition of the guest.

    No `<bandwidth>`: it needs kernel parts (sch_sfq, act_police) that hosts may lack, and a guest with it then
    does not start. The plan's rate is kept by our own traffic control.

    :param order: as `_orders.orders` gives it
    :param disk: path of the guest's disk
    :param seed: path of its cloud-init seed
    """
    emulated = order["guest_type"] == "qemu"
    root = ElementTree.Element("domain", type=order["guest_type"])
    _add(root, "name", order["guest"]["name"])
    _add(root, "uuid", order["guest"]["uuid"])
    _add(_add(root, "metadata"), "{%s}service" % MARK, order["service"])
    _add(root, "memory", order["memory_bytes"] // 1024, unit="KiB")
    _add(root, "vcpu", order["vcpus"])
    os = _add(root, "os")
    _add(os, "type", "hvm", arch="x86_64", machine="q35")
    image = order["image"]
    if image["kernel"]:
        _add(os, "kernel", image["kernel"])
        if image["initrd"]:
            _add(os, "initrd", image["initrd"])
        if image["command_line"]:
            _add(os, "cmdline", image["command_line"])
    else:
        _add(os, "boot", dev="hd")
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if not emulated:
        _add(root, "cpu", mode="host-model")
    clock = _add(root, "clock", offset="utc")
    if not emulated:
        _add(clock, "timer", name="rtc", tickpolicy="catchup")
        _add(clock, "timer", name="pit", tickpolicy="delay")
        _add(clock, "timer", name="hpet", present="no")
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _add(root, "on_" + event, action)
    devices = _add(root, "devices")
    _disk(devices, disk, "qcow2", "vda")
    # On virtio like the disk: kernels made for clouds have no driver for emulated CD-ROM drives.
    _add(_disk(devices, seed, "raw", "vdb"), "readonly")
    for nic in order["nics"]:
        interface = _add(devices, "interface", type="bridge")
        _add(interface, "mac", address=nic["mac"])
        _add(interface, "source", bridge=nic["bridge"])
        _add(interface, "target", dev=nic["tap"])
        _add(interface, "model", type="virtio")
        _add(interface, "rom", enabled="no")
    serial = _add(devices, "serial", type="pty")
    _add(serial, "target", port="0")
    console = _add(devices, "console", type="pty")
    _add(console, "target", type="serial", port="0")
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    return ElementTree.tostring(root, encoding="unicode")


def _disk(devices, path, kind, target):
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type=kind, **({"discard": "unmap"} if kind == "qcow2" else {}))
    _add(disk, "source", file=path)
    _add(disk, "target", dev=target, bus="virtio")
    return disk


def overlay(name, size_bytes, image):
    """A volume that holds what differs from the image, readable for root alone."""
    root = ElementTree.Element("volume")
    _add(root, "name", name)
    _add(root, "capacity", size_bytes, unit="bytes")
    _add(root, "allocation", 0, unit="bytes")
    target = _target(root, "qcow2")
    _add(target, "compat", "1.1")
    backing = _add(root, "backingStore")
    _add(backing, "path", image["path"])
    _add(backing, "format", type=image["format"])
    return ElementTree.tostring(root, encoding="unicode")


def raw(name, size_bytes):
    """A plain volume, readable for root alone."""
    root = ElementTree.Element("volume")
    _add(root, "name", name)
    _add(root, "capacity", size_bytes, unit="bytes")
    _add(root, "allocation", size_bytes, unit="bytes")
    _target(root, "raw")
    return ElementTree.tostring(root, encoding="unicode")


def _target(root, kind):
    target = _add(root, "target")
    _add(target, "format", type=kind)
    _add(_add(target, "permissions"), "mode", "0600")
    return target


def pool(name, directory):
    """A pool over a directory."""
    root = ElementTree.Element("pool", type="dir")
    _add(root, "name", name)
    _add(_add(root, "target"), "path", directory)
    return ElementTree.tostring(root, encoding="unicode")
