# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What domain XML says of a guest's NICs. Asks libvirt nothing. PRIVATE to the collection."""
from __future__ import annotations

import os

_GAPS = {
    "openvswitch": "is on Open vSwitch, which the host's packet filter does not see",
    "direct": "is a macvtap, whose frames pass by the host's packet filter",
    "hostdev": "is a passed-through network card (SR-IOV), which the host does not see",
    "vdpa": "is a vDPA device, which the host does not see",
    "vhostuser": "is vhost-user, whose frames pass from process to process",
    "user": "is user-mode networking, which leaves from the host's own sockets",
    "network": "is in a libvirt network that gives it no bridge",
}
# libvirt refuses a change of link state on these.
_NO_LINK_STATE = ("hostdev", "vdpa", "vhostuser")


def attribute(element, path, name):
    """An attribute of the first child at `path`, or None."""
    child = element.find(path)
    return None if child is None else child.get(name)


def link(element):
    """`up` or `down`: up is the default."""
    return attribute(element, "link", "state") or "up"


def nic(element, running):
    """A NIC as `_libvirt.guests` describes it.

    :param running: whether the XML is that of a guest that runs or is about to
    """
    mac = (attribute(element, "mac", "address") or "").lower()
    device = attribute(element, "target", "dev") if running else None
    bridge = attribute(element, "source", "bridge")
    state = link(element)
    what = element.get("type")
    if attribute(element, "virtualport", "type") == "openvswitch":
        kind = "unsupported:openvswitch"
    elif what == "bridge" or (what == "network" and (bridge or not running)):
        kind = "bridge"
    elif what == "ethernet":
        # A tap put into a bridge by a script is bridged all the same.
        bridge = master(device)
        kind = "bridge" if bridge else "routed"
    elif what == "network" and attribute(element, "source", "dev"):
        kind = "unsupported:direct"
    else:
        kind = "unsupported:%s" % what
    gap = None
    if kind.startswith("unsupported:"):
        reason = kind.split(":", 1)[1]
        gap = "NIC %s %s: controls on it are not in force." % (
            mac, _GAPS.get(reason, "is of libvirt's type %s, which is not served" % reason))
    return {
        "mac": mac, "kind": kind, "bridge": bridge, "device": device,
        "link_live": state if running else None, "link_config": None if running else state,
        "link_settable": what not in _NO_LINK_STATE, "gap": gap,
    }


def master(device, root="/sys/class/net"):
    """The bridge an interface is a port of, or None."""
    if not device or "/" in device or device.startswith("."):
        return None
    try:
        return os.path.basename(os.readlink(os.path.join(root, device, "master")))
    except OSError:
        return None
