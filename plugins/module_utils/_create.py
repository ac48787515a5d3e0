# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the guests that `provision` was asked for: what is still to do, and doing it. PRIVATE to the collection.

Four steps: disk, seed, definition, start. The state says beforehand which service's guest is being made and under
which names, so a run killed between any two of them is finished by the next one, which judges by what is there.
A file that is there without that being said is somebody else's: it is named, and stays. What was made once is not
made again when it is gone: it may have been moved or removed on purpose.
"""
from __future__ import annotations

import platform
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils import _seed
from ansible_collections.hosting.aup.plugins.module_utils._backends import _libvirt_create
from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError

ENGINE = "create"
CreationPlan = namedtuple("CreationPlan", "steps errors notes pending done records")
CreationPlan.__doc__ = """What `plan` returns.

`pending`: guests that are about to run, as `_libvirt.guests` will describe them; `done`: services whose guest was
being made and runs; `records`: `{service: what to remember before the first step}`.
"""


class Look:
    """What a plan asks of the host, each only when needed.

    :param connect: gives the libvirt host
    :param images: what is known of images' digests; added to
    """

    def __init__(self, connect, images=None):
        self._connect, self._images = connect, images
        self.machine = platform.machine()

    def image(self, order):
        """See `_libvirt_create.look_at_image`."""
        return _libvirt_create.look_at_image(order, self._images)

    def place(self, order):
        """See `_libvirt_create.locate`."""
        return _libvirt_create.locate(self._connect(), order)

    def file(self, path):
        """See `_libvirt_create.describe_file`."""
        return _libvirt_create.describe_file(path)

    def memory(self):
        """See `_libvirt_create.memory_available`."""
        return _libvirt_create.memory_available()

    def shaping(self):
        """Whether the host's traffic control can be spoken to.

        :raises NodeError: code `pyroute2_missing`
        """
        from ansible_collections.hosting.aup.plugins.module_utils._backends import _tc
        with _tc.Tc():
            return True


def names(service):
    """`(disk, seed)`: the names of a service's volumes. An id may hold a colon, which qemu takes for a protocol."""
    stem = "aup-" + service.replace(":", "=")
    return stem + ".qcow2", stem + ".iso"


def plan(orders, held, guests, links, state, look):
    """What is to be made.

    :param orders: `{service: order}` from `_orders.orders`
    :param held: ids of services under a hold
    :param guests: all of the host
    :param links: the host's interfaces
    :param state: of the node; `creating` and `created` are read
    :param look: a `Look`
    :returns: CreationPlan; a service with an error gets no step
    """
    found = CreationPlan([], [], [], [], [], {})
    memory = [None]
    for sid in sorted(orders):
        order, record = orders[sid], state["creating"].get(sid)
        try:
            guest = _own_guest(order, guests, record)
            if guest is None and sid in state["created"]:
                found.notes.append("%s: its guest was made here and is gone; it is not made again by itself." % sid)
                continue
            if guest is not None and (record is None or guest["uuid"] != order["guest"]["uuid"]):
                continue
            if guest is not None and guest["state"] not in ("off", "paused"):
                found.done.append(sid)
                continue
            if sid in held:
                found.notes.append("%s: its guest is not made while it is held." % sid)
                continue
            steps, new = _steps(order, guest, guests, links, record, look, memory)
        except AupError as exc:
            found.errors.append(error(sid, exc))
            continue
        found.steps.extend(steps)
        found.pending.append(_coming(order, guest))
        if record is None:
            found.records[sid] = new
    return found


def error(service, exc):
    """An error of one service, as results list them."""
    return {"service": service, "part": ENGINE, "code": exc.code, "message": exc.message, "remedy": exc.remedy}


def _refuse(order, code, message, remedy):
    return NodeError("service %s is not made: %s" % (order["service"], message), code=code, target=order["service"], remedy=remedy)


def _own_guest(order, guests, record):
    """The order's guest if it is there, made by us or by others.

    :raises NodeError: code `name_taken`: a guest that is not this one has its name
    """
    named = None
    for guest in guests:
        if guest["uuid"] == order["guest"]["uuid"]:
            return guest
        if guest["name"] == order["guest"]["name"]:
            named = guest
    if named is not None and (order["guest"]["given"] or record is not None):
        raise _refuse(order, "name_taken", "the name %s belongs to another guest (UUID %s)." % (named["name"], named["uuid"]),
                      "Correct name or UUID in the catalogue, or rename that guest.")
    return named


def _steps(order, guest, guests, links, record, look, memory):
    """`(steps, record)` of one service that is to be made, or finished."""
    _check_declared(order, look)
    _check_nics(order, guest, guests, links)
    if memory[0] is None:
        memory[0] = look.memory()
    if (guest is None or guest["state"] == "off") and memory[0] < order["memory_bytes"]:
        raise _refuse(order, "memory_short", "its %d MiB are more than the %d MiB this node has left."
                      % (order["memory_bytes"] >> 20, max(memory[0], 0) >> 20), "Order it on another node.")
    if order["rate_bps"]:
        look.shaping()
    steps = []
    if guest is None:
        record, steps = _volumes(order, record, look)
        steps.append(_step(order, "define", "guest ordered in the catalogue", {
            "name": order["guest"]["name"], "uuid": order["guest"]["uuid"], "vcpus": order["vcpus"],
            "memory_bytes": order["memory_bytes"],
            "nics": ["%s %s %s" % (nic["mac"], nic["bridge"], nic["tap"]) for nic in order["nics"]]},
            disk=record["disk"], seed=record["seed"]))
    if guest is None or guest["state"] == "off":
        memory[0] -= order["memory_bytes"]
    steps.append(_step(order, "start", "guest ordered in the catalogue, its rules being loaded", {
        "power": "running", "autostart": True, "rate_bit_per_second": order["rate_bps"]}))
    return steps, record


def _step(order, verb, why, after, **more):
    return dict({"engine": ENGINE, "part": ENGINE, "verb": verb, "service": order["service"], "why": why, "before": None,
                 "after": after}, **more)


def _check_declared(order, look):
    for key, name, where in (("image", order["disk"]["image"], "images"), ("storage", order["disk"]["storage"], "storage")):
        if order[key] is None:
            raise _refuse(order, key + "_unknown", "this node has no %s %s." % (key, name),
                          "Declare it under `creation: {%s: …}` of the node, or order another one." % where)
    if look.machine != "x86_64":
        raise _refuse(order, "machine_unsupported", "guests are made on x86_64 only, this host is %s." % look.machine,
                      "Make the guest otherwise; it is adopted then.")


def _check_nics(order, guest, guests, links):
    used = {nic["mac"]: other["name"] for other in guests if other is not guest for nic in other["nics"]}
    taps = {nic["device"] for nic in guest["nics"]} if guest else ()
    for nic in order["nics"]:
        if nic["mac"] in used:
            raise _refuse(order, "mac_taken", "its MAC %s belongs to guest %s." % (nic["mac"], used[nic["mac"]]),
                          "If that is its guest, put its name into the catalogue; else correct the MAC.")
        if nic["bridge"] not in links or nic["bridge"] not in order["bridges"]:
            raise _refuse(order, "bridge_unknown", "%s is no tenant bridge of this node." % nic["bridge"],
                          "Correct the order, or `bridges` of the node.")
        if nic["tap"] in links and nic["tap"] not in taps:
            raise _refuse(order, "tap_taken", "an interface %s is there already." % nic["tap"], "Find out whose it is and remove it.")


def _volumes(order, record, look):
    """`(record, steps)` of the disk and the seed."""
    image, place = look.image(order), look.place(order)
    if order["disk"]["size_bytes"] < image["size_bytes"]:
        raise _refuse(order, "disk_small", "its disk of %d bytes is smaller than image %s with %d."
                      % (order["disk"]["size_bytes"], order["disk"]["image"], image["size_bytes"]), "Order a larger disk.")
    paths = ["%s/%s" % (place["path"], name) for name in names(order["service"])]
    if record is None:
        record = {"uuid": order["guest"]["uuid"], "disk": paths[0], "seed": paths[1], "image": order["disk"]["image"],
                  "seed_written": False}
        for path in paths:
            if look.file(path) is not None:
                raise _refuse(order, "disk_in_the_way", "%s is there already, and not of our making." % path,
                              "Find out whose it is; move it away, then run again. Nothing was touched.")
    elif [record["disk"], record["seed"]] != paths:
        raise _refuse(order, "order_changed", "it was begun on %s; the order now leads to %s." % (record["disk"], paths[0]),
                      "Order it as it was begun, or remove what was begun by hand.")
    disk, steps = look.file(paths[0]), []
    if disk is None:
        if not order["storage"]["overcommit"] and place["available"] < order["disk"]["size_bytes"]:
            raise _refuse(order, "pool_full", "storage %s has %d bytes left, the disk may grow to %d."
                          % (order["disk"]["storage"], place["available"], order["disk"]["size_bytes"]),
                          "Make room, or declare the storage with `overcommit: true`.")
        steps.append(_step(order, "disk", "overlay of image %s" % order["disk"]["image"], {
            "path": paths[0], "size_bytes": order["disk"]["size_bytes"], "image": order["image"]["path"]}, place=dict(place, available=None)))
    elif disk != {"format": "qcow2", "size_bytes": order["disk"]["size_bytes"], "backing": order["image"]["path"]}:
        raise _refuse(order, "disk_differs", "the disk begun for it, %s, is not as ordered: %s of %d bytes over %s." % (
            paths[0], disk["format"], disk["size_bytes"], disk["backing"]), "Look at it; move it away, then run again.")
    if look.file(paths[1]) is None or not record["seed_written"]:
        steps.append(_step(order, "seed", "cloud-init data of the order", {
            "path": paths[1], "hostname": order["hostname"], "user_data": order["user_data"]}, place=dict(place, available=None)))
    return record, steps


def _coming(order, guest):
    """The guest as libvirt will describe it when it runs."""
    return {"name": order["guest"]["name"], "uuid": (guest or order["guest"])["uuid"], "state": "running", "nics": [
        {"mac": nic["mac"], "kind": "bridge", "bridge": nic["bridge"], "device": nic["tap"], "gap": None} for nic in order["nics"]]}


def with_pending(guests, links, pending):
    """`(guests, links)` as they will be: rules are loaded for ports before there are any."""
    if not pending:
        return guests, links
    coming = {guest["uuid"]: guest for guest in pending}
    links = dict(links)
    for guest in pending:
        for nic in guest["nics"]:
            links.setdefault(nic["device"], {"master": nic["bridge"], "mac": None})
    return [guest for guest in guests if guest["uuid"] not in coming] + pending, links


def apply(host, steps, orders, state, save, user_data, shape):
    """Carry out steps of ours in order; those of a service after a failed one are left out, others go on.

    :param state: of the node; every step of the seed is noted in it
    :param save: stores the state
    :param user_data: `{service: the customer's text}`
    :param shape: `shape(service, rate_bps, ports)`: keep the plan's rate on these ports
    :returns: list of errors
    """
    failures = {}
    for step in steps:
        sid = step["service"]
        if sid in failures:
            continue
        order, record = orders[sid], state["creating"][sid]
        try:
            if step["verb"] == "disk":
                _libvirt_create.make_disk(host, step["place"], order, names(sid)[0])
            elif step["verb"] == "seed":
                _libvirt_create.write_seed(host, step["place"], order, names(sid)[1], seed_of(order, user_data.get(sid)))
                record["seed_written"] = True
                save()
            elif step["verb"] == "define":
                _libvirt_create.define(host, order, step["disk"], step["seed"])
            else:
                _libvirt_create.start(host, order, lambda order=order: order["rate_bps"] and shape(
                    order["service"], order["rate_bps"], [nic["tap"] for nic in order["nics"]]))
        except AupError as exc:
            failures[sid] = error(sid, exc)
    return list(failures.values())


def seed_of(order, user_data):
    """The seed's image.

    :raises NodeError: code `user_data_missing`: the order names user data and none came along
    """
    if order["user_data"] and user_data is None:
        raise _refuse(order, "user_data_missing", "its user data %s was not given." % order["user_data"],
                      "Put the file into aup_user_data_directory on the controller, then run again.")
    return _seed.image(_seed.documents(order, user_data))
