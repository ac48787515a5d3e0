# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate of a service, both ways, over all its NICs together. PRIVATE to the collection.

A service has two devices of its own (IFB), one for each direction. Everything that passes its ports
is led through them by filters, shaped there, and goes on exactly where it was going: also through
the port's own root qdisc, so the rate of the plan stays in force under the cap and nothing of it is
touched. Rates count layer 2 without preamble and checksum: the Ethernet header and what follows.

Control messages (ICMP, ICMPv6, ARP) have a tenth of the rate to themselves if they need it, so that
a guest with a full line still answers.

Changes are made by pyroute2, which is imported when it is needed: it costs a fifth of a second. What is there is read
by `_tc_dump`.
"""
from __future__ import annotations

import fcntl
import hashlib
import random
import re
import socket
import struct

from ansible_collections.hosting.aup.plugins.module_utils._backends import _tc_dump
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

DIRECTIONS = ("to_guest", "from_guest")
_LETTER = {"to_guest": "t", "from_guest": "f"}
_OURS = re.compile(r"aup[0-9a-f]{10}[tf]")

# Where a port is tapped: the hooks of clsact. Two priorities, because u32 keeps its tables per priority.
_PARENT = {"to_guest": 0xFFFFFFF3, "from_guest": 0xFFFFFFF2}
_PREF = {"to_guest": 0x4156, "from_guest": 0x4155}
_HOOK = {"to_guest": "egress", "from_guest": "ingress"}
_SLOT = 0xFFFFFFF1  # the parent that `ingress` and `clsact` share

_ROOT, _WHOLE, _CONTROL, _REST = 0x10000, 0x10001, 0x10010, 0x10020
_ALL, _IP, _IP6, _ARP = 0x0003, 0x0800, 0x86DD, 0x0806
_CONTROL_KEYS = {_IP: "0x0001/0x00ff+8", _IP6: "0x3a00/0xff00+6", _ARP: "0x0/0x0+0"}
_QUANTUM = 15140
_BURST_SECONDS = 0.04   # a late timer loses no more than that; a burst above the rate is no longer
_QUEUE_SECONDS = 0.05
_FRAME = 1514
_SIOCGIFFLAGS, _UP = 0x8913, 1


def names(service):
    """`{direction: device}` of a service's own devices."""
    stem = "aup" + hashlib.sha256(service.encode("utf-8")).hexdigest()[:10]
    return {direction: stem + _LETTER[direction] for direction in DIRECTIONS}


def is_ours(device):
    """Whether a device's name is that of one of ours."""
    return _OURS.fullmatch(device) is not None


def classes(rate_bps):
    """`{class: (bytes per second assured, at most)}` of a shaping device. Pure."""
    whole = rate_bps // 8
    control = max(whole // 10, 1)
    return {_WHOLE: (whole, whole), _CONTROL: (control, whole), _REST: (whole - control, whole)}


def _queue(rate_bps):
    """Packets that a shaping device keeps waiting at most."""
    return max(32, min(1000, int(rate_bps / 8 * _QUEUE_SECONDS / _FRAME)))


def _burst(rate_bps):
    return max(int(rate_bps / 8 * _BURST_SECONDS), 2 * _FRAME)


def scripts(service, rate_bps, ports, present=()):
    """The same that `Tc.apply` makes, for `ip -batch -` and `tc -batch -`: for libvirt's hook, which has no time for netlink. Pure.

    :param ports: of the service, new: nothing is in the place of clsact
    :param present: devices of ours that are there and made anew
    :returns: `(lines for ip, lines for tc)`; what fails ends the rest, and the next pass mends it
    """
    links, rules = [], []
    burst = _burst(rate_bps)
    for device in names(service).values():
        links += ["link del %s" % device] if device in present else []
        links += ["link add %s type ifb" % device, "link set %s txqueuelen %d up" % (device, _queue(rate_bps))]
        rules.append("qdisc add dev %s root handle 1: htb default %x" % (device, _REST & 0xFFFF))
        for handle, (rate, ceil) in classes(rate_bps).items():
            more = "" if handle == _WHOLE else " prio %d quantum %d" % (0 if handle == _CONTROL else 1, _QUANTUM)
            rules.append("class add dev %s parent 1:%s classid 1:%x htb rate %dbps ceil %dbps burst %d cburst %d%s" % (
                device, "" if handle == _WHOLE else "%x" % (_WHOLE & 0xFFFF), handle & 0xFFFF, rate, ceil, burst, burst, more))
        for number, (protocol, key) in enumerate(sorted(_CONTROL_KEYS.items()), 1):
            value, mask, offset = re.fullmatch(r"(0x[0-9a-f]+)/(0x[0-9a-f]+)\+([0-9]+)", key).groups()
            rules.append("filter add dev %s parent 1: prio %d protocol 0x%04x u32 match %s %s %s at %s flowid 1:%x" % (
                device, number, protocol, "u16" if len(mask) > 3 else "u8", value, mask, offset, _CONTROL & 0xFFFF))
    for port in ports:
        rules.append("qdisc add dev %s clsact" % port)
        for direction, device in names(service).items():
            rules.append("filter add dev %s %s pref %d protocol all u32 match u32 0x0 0x0 at 0 flowid 1: action mirred egress redirect dev %s" % (
                port, _HOOK[direction], _PREF[direction], device))
    return "".join(line + "\n" for line in links), "".join(line + "\n" for line in rules)


def plan(caps, observed, found_clsact=(), services=()):
    """Steps from what is to what should be, and what can't be done. Pure.

    :param caps: `{service: {"rate_bps", "devices": [its ports]}}`
    :param observed: what `observe` returned
    :param found_clsact: ports on which clsact was before us: it stays
    :param services: all of the node, so that what is left over can be told whose it was
    :returns: `(steps, errors)`; a service with an error gets no step
    """
    steps, errors, wanted, owner = [], [], {}, {}
    for service in sorted(caps):
        for direction, device in names(service).items():
            if device in owner:
                errors.append(_error(service, "name_taken", "its shaping device %s is also that of service %s." % (
                    device, owner[device]), "Rename one of the services."))
            owner[device] = service
    broken = {error["service"] for error in errors}
    for service in sorted(set(caps) - broken):
        refused = [text for device in caps[service]["devices"] for text in _refusals(device, observed["ports"].get(device))]
        if refused:
            errors += [_error(service, "foreign_qdisc", text,
                              "Remove it (libvirt: virsh domiftune --outbound 0), or limit the service otherwise.")
                       for text in refused]
            continue
        for direction, device in names(service).items():
            have = observed["shapers"].get(device)
            if have != {"rate_bps": caps[service]["rate_bps"]}:
                steps.append(_step("shape", service, device, "%s by bandwidth_cap" % direction.replace("_", " "),
                                   _rate(have), _rate(caps[service]), rate_bps=caps[service]["rate_bps"]))
        for port in sorted(caps[service]["devices"]):
            wanted[port] = service
            led = observed["ports"].get(port, {}).get("led", {})
            for direction, device in names(service).items():
                if led.get(direction) != [device]:
                    steps.append(_step("lead", service, port, "%s by bandwidth_cap" % direction.replace("_", " "),
                                       ", ".join(led.get(direction, ())) or None, device, direction=direction))
    by_device = {device: service for service in {*caps, *services} for device in names(service).values()}
    failed = {error["service"] for error in errors}
    loose = []
    for port, seen in sorted(observed["ports"].items()):
        if port in wanted or not seen["led"]:
            continue
        targets = sorted({device for devices in seen["led"].values() for device in devices})
        former = {by_device.get(device) for device in targets}
        if former & failed:
            continue  # not to be opened while it can't be capped anew
        loose.append(_step("release", former.pop() if len(former) == 1 else None, port, "no longer capped", ", ".join(targets), None,
                           keep_qdisc=port in found_clsact or bool(seen["foreign"])))
    devices = {device for service in caps for device in names(service).values()}
    loose += [_step("unshape", by_device.get(device), device, "no longer capped", _rate(have), None)
              for device, have in sorted(observed["shapers"].items()) if device not in devices]
    return steps + loose, errors


def _rate(shaper):
    if not shaper:
        return None
    return "%s bit/s" % shaper["rate_bps"] if shaper["rate_bps"] else "not as we make it"


def _step(verb, service, device, why, before, after, **more):
    return dict({"engine": "tc", "part": "bandwidth_cap", "verb": verb, "service": service, "device": device, "why": why,
                 "before": before, "after": after}, **more)


def _error(service, code, message, remedy):
    return {"service": service, "part": "bandwidth_cap", "code": code, "message": message, "remedy": remedy}


def _refusals(port, seen):
    if seen is None:
        return []
    if seen["slot"] not in (None, "clsact"):
        return ["port %s already has a qdisc %s, which leaves no place to lead its traffic through." % (port, seen["slot"])]
    return ["port %s has a filter of somebody else's (%s), which ours would keep from working." % (port, text)
            for text in seen["foreign"][:1]]


# -- the kernel -----------------------------------------------------------------------------------

def _pyroute2():
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise NodeError(
            "the Python library pyroute2 is not installed.", code="pyroute2_missing", target="pyroute2",
            remedy="Install the distribution's package python3-pyroute2 on the node; the role hosting.aup.kvm_host does.")
    return IPRoute, NetlinkError


class Tc:
    """An open netlink socket. Use as a context manager.

    What was seen when the first step was carried out is not asked for again before each of the others: use one
    for one row of steps.

    :raises NodeError: code `pyroute2_missing`
    """

    def __init__(self):
        factory, self._error = _pyroute2()
        self._ip = factory()
        self._dump = _tc_dump.Dump()
        self._held = None  # (roots, slots) of all devices, by index
        self._fresh = set()  # indexes of ports whose clsact we made just now

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._dump.close()
        self._ip.close()

    def observe(self):
        """What of ours, and what in our way, is there.

        :returns: `{"shapers": {device: {"rate_bps": number, or None if it is not as we make it}},
            "ports": {device: {"slot", "led": {direction: [devices]}, "foreign": [words], "index"}}}`; ports with nothing in
            the place of ingress and clsact are left out
        """
        links = dict(socket.if_nameindex())
        roots, slots = self._qdiscs()
        ports = {links[index]: {"slot": slot.kind, "led": {}, "foreign": [], "index": index}
                 for index, slot in slots.items() if index in links}
        shapers = {name: {"rate_bps": self._shape_of(index, roots.get(index)) if self._is_up(name) else None}
                   for index, name in links.items() if is_ours(name)}
        for port in ports.values():
            if port["slot"] == "clsact":
                for direction in DIRECTIONS:
                    self._read_hook(port, direction, links)
        return {"shapers": shapers, "ports": ports}

    def _qdiscs(self):
        """`({index: root qdisc}, {index: what is in the place of ingress and clsact})` of all devices."""
        found = self._dump.read(_tc_dump.QDISC)
        return ({one.index: one for one in found if one.parent == 0xFFFFFFFF}, {one.index: one for one in found if one.parent == _SLOT})

    def _known(self):
        if self._held is None:
            self._held = self._qdiscs()
        return self._held

    @staticmethod
    def _is_up(name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            try:
                answer = fcntl.ioctl(channel, _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode("ascii"), 0))
            except OSError:
                return False  # gone meanwhile
        return bool(struct.unpack_from("=H", answer, 16)[0] & _UP)

    def _shape_of(self, index, root):
        if root is None or root.kind != "htb" or root.handle != _ROOT:
            return None
        found = {one.handle: _tc_dump.htb_rates(one) for one in self._dump.read(_tc_dump.CLASS, index) if one.kind == "htb"}
        rate_bps = (found.get(_WHOLE) or (0, 0))[0] * 8
        filters = [(one, _tc_dump.u32_target(one)) for one in self._filters(index, _ROOT)]
        targets = {(one.info & 0xFFFF, target) for one, target in filters if target is not None}
        right = targets == {(_swap(protocol), _CONTROL) for protocol in _CONTROL_KEYS}
        return rate_bps if right and found == classes(rate_bps) else None

    def _filters(self, index, parent):
        return [one for one in self._dump.read(_tc_dump.FILTER, index, parent) if one.parent == parent]

    def _read_hook(self, port, direction, links):
        for one in self._filters(port["index"], _PARENT[direction]):
            pref = one.info >> 16
            if pref == _PREF[direction] and one.kind == "u32":
                index = _tc_dump.redirect(one)
                if index is not None:
                    # A device deleted under a filter leaves the filter, which then drops everything: ours all the same.
                    port["led"].setdefault(direction, []).append(links.get(index, "a device that is gone"))
            elif pref not in _PREF.values():
                port["foreign"].append("%s %s, priority %d" % (direction.replace("_", " "), one.kind, pref))

    def apply(self, step, found_clsact):
        """Carry out one step.

        :param found_clsact: set of ports on which clsact was before us; added to
        :raises NodeError: code `tc`, with the kernel's words
        """
        try:
            getattr(self, "_" + step["verb"])(step, found_clsact)
        except (self._error, OSError) as exc:
            raise NodeError("%s %s: the kernel says: %s." % (step["verb"], step["device"], exc), code="tc",
                            target=step["service"] or step["device"], retryable=True,
                            remedy="Check `tc qdisc show` on the node, then run `reconcile`.")

    @staticmethod
    def _index(name):
        try:
            return socket.if_nametoindex(name)
        except OSError:
            raise NodeError("there is no interface %s any more." % name, code="port_gone", target=name, retryable=True,
                            remedy="The guest was stopped or its NIC unplugged: run again.")

    def _shape(self, step, _found):
        device, rate_bps = step["device"], step["rate_bps"]
        queue = _queue(rate_bps)
        try:
            index = socket.if_nametoindex(device)
        except OSError:
            self._ip.link("add", ifname=device, kind="ifb", txqlen=queue)
            index, root = self._index(device), None
        else:
            self._ip.link("set", index=index, txqlen=queue)
            root = self._known()[0].get(index)
        if root is not None and self._shape_of(index, root):
            self._set_classes("change-class", index, rate_bps)
        else:
            if root is not None and root.handle:
                self._ip.tc("del", index=index, parent=0xFFFFFFFF, handle=root.handle)
            self._ip.tc("add", "htb", index, _ROOT, default=_REST & 0xFFFF)
            self._set_classes("add-class", index, rate_bps)
            for number, (protocol, key) in enumerate(sorted(_CONTROL_KEYS.items()), 1):
                self._ip.tc("add-filter", "u32", index, parent=_ROOT, prio=number, protocol=protocol, target=_CONTROL, keys=[key])
        self._ip.link("set", index=index, state="up")

    def _set_classes(self, command, index, rate_bps):
        for handle, (rate, ceil) in classes(rate_bps).items():
            burst = _burst(rate_bps)
            more = {} if handle == _WHOLE else {"prio": 0 if handle == _CONTROL else 1, "quantum": _QUANTUM}
            self._ip.tc(command, "htb", index, handle, parent=_ROOT if handle == _WHOLE else _WHOLE,
                        rate=rate, ceil=ceil, burst=burst, cburst=burst, **more)

    def _lead(self, step, found_clsact):
        index, direction = self._index(step["device"]), step["direction"]
        target = self._index(step["after"])
        if index not in self._fresh:
            if index not in self._known()[1]:
                self._ip.tc("add", "clsact", index)
                self._fresh.add(index)
                found_clsact.discard(step["device"])
            elif not any(self._filters(index, parent) for parent in _PARENT.values()):
                found_clsact.add(step["device"])
            else:
                self._drop_filters(index, direction)
        self._ip.tc("add-filter", "u32", index, parent=_PARENT[direction], prio=_PREF[direction], protocol=_ALL,
                    target=_ROOT, keys=["0x0/0x0+0"],
                    action=[{"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target}])

    def _drop_filters(self, index, direction):
        if any(one.info >> 16 == _PREF[direction] for one in self._filters(index, _PARENT[direction])):
            self._ip.tc("del-filter", index=index, parent=_PARENT[direction], info=_PREF[direction] << 16 | _swap(_ALL))

    def _release(self, step, found_clsact):
        index = self._index(step["device"])
        for direction in DIRECTIONS:
            self._drop_filters(index, direction)
        if not step["keep_qdisc"] and not any(self._filters(index, parent) for parent in _PARENT.values()):
            self._ip.tc("del", "clsact", index)
            self._fresh.discard(index)
            self._known()[1].pop(index, None)
        found_clsact.discard(step["device"])

    def unshape_all(self, steps):
        """Delete many devices of ours in one request: one by one the kernel waits 20 ms over each.

        They are put into a group of interfaces of their own, and the group is deleted.

        :returns: False if that was not possible: then they are to be deleted one by one
        """
        group = random.SystemRandom().randrange(1 << 30, 1 << 31)
        try:
            for step in steps:
                self._ip.link("set", index=socket.if_nametoindex(step["device"]), group=group)
            self._ip.link("del", group=group)
        except (self._error, OSError):
            return False
        return True

    def _unshape(self, step, _found):
        self._ip.link("del", index=self._index(step["device"]))

    def counters(self, device):
        """`(packets, bytes)` that a shaping device has let through, at layer 2."""
        for qdisc in self._ip.get_qdiscs(index=self._index(device)):
            if qdisc["parent"] == 0xFFFFFFFF and qdisc["handle"] == _ROOT:
                basic = qdisc.get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")
                return basic["packets"], basic["bytes"]
        return 0, 0


def _swap(number):
    """A protocol in the byte order of the wire, as netlink has it."""
    return (number & 0xFF) << 8 | number >> 8
