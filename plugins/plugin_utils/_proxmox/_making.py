# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making guests by order over the API: looking what is there, and carrying out what comes before and after their rules. PRIVATE.

One order's trouble is its own: it is said with that order, and the others go on. A guest is never started while anything of
its rules is missing, and never started at all but by the last step of its own chain.
"""
from __future__ import annotations

import threading
import time

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest, _order, _rights
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import ApiError

SETTLE_SECONDS = 15
"""From the last write of a firewall file to the start: pve-firewall compiles all guests of a node, off or not, every 10 s."""
COPY_PATIENCE = 3600
_COPIES = 2  # of one template at a time; a container's template is locked by its copy
_TASKS = frozenset(("qmclone", "vzclone", "vzcreate"))


def _sets(found, what):
    return _answers.rows(found, what, "name")


def _tasks(found, what):
    return _answers.rows(found, what, "type")


def _volumes(found, what):
    return _answers.rows(found, what, "volid")


def _storage_status(found, what):
    if not _answers.whole(_answers.flat(found, what).get("avail")):
        raise _answers.BadReply(what, "it doesn't say how much room there is")
    return dict(found, avail=int(found["avail"]))


class Making:
    """The orders of one run on one cluster.

    :param client: `_client.Client`
    :param orders: `{service: order}` of `_orders.orders`, with `vmid` and `user`
    :param made: `{service: uuid}`: guests that were made here before
    :param held: services that may not run
    :param guest_of: `guest_of(row, service) -> guest`, as `ProxmoxCluster` reads one
    :param held_rights: gives the token's privileges
    """

    def __init__(self, client, orders, made, held, guest_of, held_rights):
        self.client, self.orders, self.made, self.held = client, orders, made, held
        self._guest_of, self._held_rights = guest_of, held_rights
        self._templates, self._room, self._given = {}, {}, set()

    def unmade(self, services):
        """Services whose guest was not made here: what is in its place may be another's."""
        return {sid for sid in set(services) & set(self.orders) if sid not in self.made and not services[sid]["touched"].get("making")}

    def look(self, services, rows, firewall_facts):
        """What is to be done for each order.

        :param services: entries of the desired state by id
        :param firewall_facts: of the planner: `firewall_on`, `settings`, and the desired state it plans for
        :returns: `{service: {"guest", "first", "last", "record", "node", "done", "errors", "notes"}}` of those whose guest is
            not simply there; `guest` None where nothing is done
        """
        found = {}
        for sid in sorted(set(services) & set(self.orders)):
            record = services[sid]["touched"].get("making")
            order = dict(self.orders[sid], kind="qemu", resolvers=self.orders[sid].get("resolvers") or [])
            one = {"guest": None, "first": [], "last": [], "record": record, "done": None, "errors": [], "notes": [], "order": order}
            try:
                if self._judge(one, order, services[sid], record, rows, firewall_facts):
                    found[sid] = one
            except AupError as exc:
                found[sid] = dict(one, guest=None, first=[], last=[], errors=[_order.error(sid, exc)])
        return found

    # -- one order ------------------------------------------------------------------------------------------------

    def numbers(self, services, rows):
        """Numbers for orders that have none: those reserved before, and the lowest that are free.

        :returns: `{service: {"vmid", "kind", "uuid", "image", "reserved"}}`
        """
        found, open_ = {}, []
        for sid in sorted(set(services) & set(self.orders)):
            order, record = dict(self.orders[sid], kind="qemu"), services[sid]["touched"].get("making")
            if order["vmid"] is not None or sid in self.held or (record and not record.get("reserved")):
                continue
            if record and int(record["vmid"]) not in rows:
                self._given.add(int(record["vmid"]))
                found[sid] = dict(record)
            elif record or (sid not in self.made and self._row(order, None, rows) is None):
                open_.append(order)
        for order in open_:
            try:
                self._declared(order, rows)
            except AupError:
                continue  # said when it would be made
            found[order["service"]] = {"vmid": self._free(rows), "kind": order["kind"], "uuid": order["guest"]["uuid"],
                                       "image": order["disk"]["image"], "reserved": True}
        return found

    def _judge(self, one, order, service, record, rows, facts):
        """Fill `one`; False where the guest is there and none of this concerns it."""
        sid = order["service"]
        row = self._row(order, record, rows)
        if record is None and row is not None:
            return False  # the service's own, or `_cluster.plan` says whose it is: it is read there, side by side with others
        if record is None and sid in self.made:
            one["notes"].append("its guest was made here and is gone; it is not made again by itself")
            return True
        if row is not None and record is not None and self._runs(row):
            return self._running(one, order, service, row)
        if sid in self.held:
            one["notes"].append("its guest is not made while it is held")
            return True
        self._declared(order, rows)
        order["vmid"] = int(record["vmid"]) if record else self._number(order, rows, facts["settings"])
        if record and record["image"] != order["disk"]["image"] and row is not None:
            raise _order.refuse(order, "order_changed", "guest %s was begun from image %s, and %s is ordered now." % (
                record["vmid"], record["image"], order["disk"]["image"]), "Order it as it was begun, or remove what was begun.")
        self._plan(one, order, service, row, rows, facts)
        one["record"] = {"vmid": order["vmid"], "kind": order["kind"], "uuid": order["guest"]["uuid"], "image": order["disk"]["image"]}
        return True

    def _row(self, order, record, rows):
        if record:
            return rows.get(int(record["vmid"]))
        if order["vmid"] is not None:
            return rows.get(order["vmid"])
        named = [row for row in rows.values() if row.get("name") == order["guest"]["name"]]
        return named[0] if named else None

    def _runs(self, row):
        """Whether a guest runs; the list of guests says what was so up to ten seconds ago."""
        found = self.client.read(_answers.status, "nodes", row["node"], row["type"], int(row["vmid"]), "status", "current")
        return found["status"] == "running"

    def _running(self, one, order, service, row):
        """A guest that was being made and runs: it is made, if it is ours."""
        guest = self._guest_of(row, service)
        order["vmid"], order["kind"] = guest["vmid"], guest["kind"]
        if not self._marked(order, guest):
            raise _order.taken(dict(order, vmid=guest["vmid"]), row)
        disk = _order.disk_of(guest["kind"], guest["config"])
        one["done"] = {"vmid": guest["vmid"], "guest_uuid": order["guest"]["uuid"], "image": order["disk"]["image"], "at": int(time.time()),
                       "disk": (guest["config"].get(disk) or "").partition(",")[0]}
        return True

    @staticmethod
    def _marked(order, guest):
        return str(guest["config"].get("description") or "").strip() == _order.mark(order)

    def _declared(self, order, rows):
        for key, name, where in (("image", order["disk"]["image"], "images"), ("storage", order["disk"]["storage"], "storage")):
            if order[key] is None:
                raise _order.refuse(order, key + "_unknown", "this cluster has no %s %s." % (key, name),
                                    "Declare it under `creation: {%s: …}` of the node, or order another one." % where)
        if order["user_data"] and not order.get("snippet"):
            raise _order.refuse(order, "user_data_unknown", "this cluster has no user data %s." % order["user_data"],
                                "Put the file into `snippets` of a storage of the cluster, as the API takes none, and declare it under "
                                "`creation: {user_data: {%s: STORAGE:snippets/FILE}}` of the node." % order["user_data"])
        for nic in order["nics"]:
            if nic["bridge"] not in order["bridges"]:
                raise _order.refuse(order, "bridge_unknown", "%s is no tenant bridge of this cluster." % nic["bridge"],
                                    "Correct the order, or `bridges` of the node.")
        if order["image"]["template"] is None:
            order["kind"] = "lxc"
            return
        row = rows.get(order["image"]["template"])
        if row is None:
            raise _order.refuse(order, "image_missing", "image %s is guest %s, which is not there or not to be seen with this token."
                                % (order["disk"]["image"], order["image"]["template"]), "Correct `images`, or give the token VM.Audit on it.")
        order["kind"] = row["type"]

    def _number(self, order, rows, settings):
        """The new guest's number: the catalogue's, one that was reserved for it, or the lowest that is free.

        :param settings: of the cluster; where its nodes have rules of ours, these have to know the number first
        """
        if order["vmid"] is not None or order.get("number") is not None:
            return order["vmid"] if order["vmid"] is not None else order["number"]
        if settings.get("hosts"):
            raise _order.refuse(order, "not_numbered", "it has no number yet, by which the rules on the nodes would know it.",
                                "Run hosting.aup.provision, which reserves one and tells the nodes first, or give it a `vmid`.",
                                retryable=True)
        return self._free(rows)

    def _free(self, rows):
        known = {one["vmid"] for one in self.orders.values() if one["vmid"] is not None} | set(rows) | self._given
        number = self.client.get("cluster", "nextid")
        if not _answers.whole(number):
            raise _answers.BadReply("GET /cluster/nextid", "no number")
        number = int(number)
        while number in known:
            number += 1
            if number in known:
                continue
            try:
                self.client.get("cluster", "nextid", vmid=number)
            except ApiError as exc:
                if exc.status != 400:
                    raise
                known.add(number)  # there is one that this token can't see
        self._given.add(number)
        return number

    def _plan(self, one, order, service, row, rows, facts):
        name_taken = [other for other in rows.values()
                      if other.get("name") == order["guest"]["name"] and int(other["vmid"]) != order["vmid"]]
        if name_taken and self.orders[order["service"]]["vmid"] is None:
            raise _order.taken(dict(order, vmid=None), name_taken[0])
        there = self._guest_of(row, service) if row is not None else None
        if there is not None and there["lock"] not in _order.COPYING:
            if not self._marked(order, there) or there["kind"] != order["kind"]:
                raise _order.taken(order, row, reserved=bool(one["record"] and one["record"].get("reserved")))
            if there["lock"]:
                raise _order.refuse(order, "guest_locked", "guest %s is locked (%s) by another task." % (order["vmid"], there["lock"]),
                                    "Wait until it has ended, then run hosting.aup.provision.", retryable=True)
        source, config, firewall = self._source(order, rows)
        pooled = _order.pooled(order) if row is None or row.get("lock") or row.get("pool") == order.get("resource_pool") else {}
        lacking = _rights.missing(_order.rights(order, config), self._held_rights(), pooled)
        if lacking:
            raise _order.refuse(order, "missing_privilege", "the token lacks %s." % ", ".join(
                "%s on %s%s" % (privilege, path, " or %s" % pooled[path] if path in pooled and privilege != "VM.Audit" else "")
                for path, privilege in lacking), "Give its role these privileges there (docs/proxmox.md).")
        node = there["node"] if there is not None else order["storage"]["node"] or (source or {}).get("node")
        if node is None:
            raise _order.refuse(order, "storage_unknown", "storage %s doesn't say on which node of the cluster." % order["disk"]["storage"],
                                "Give it `node`: an archive is unpacked there.")
        if _guest.among(node, facts["settings"].get("hosts") or ()) and not _guest.among(node, facts["rules_on"]):
            raise _order.refuse(order, "not_filtered", "node %s was not seen with its rules in this run." % node,
                                "Mend what is said of that node, then run hosting.aup.provision.", retryable=True)
        self._snippets(order, node)
        if there is not None and not there["lock"]:
            before, first = there, []
            guest = _order.as_ordered(order, there)
        else:
            self._storage(order, node, source, config, there is not None)
            guest, before = _order.coming(order, config, firewall, node), dict(firewall, config=config)
            first = [_order.source_step(order, node, (source or {}).get("node"), there["lock"] if there is not None else None)]
            if order["image"]["template"] is None:
                before = guest  # all of it is said when it is unpacked
        obstacles = _guest.obstacles(service, guest, facts, _firewall.Shared(facts["desired"]))
        if obstacles:
            raise _order.refuse(order, "firewall_off", "its rules would not be in force: %s." % "; ".join(obstacles),
                                "Remove the obstacle, then run hosting.aup.provision.")
        one["first"] = first + _order.finishing_steps(order, before)
        one["last"] = [_order.start_step(order)]
        one["guest"] = dict(guest, order=order)
        if order.get("snippet"):
            one["notes"].append("its user data, %s, stands in place of what the server would write: host name, user and keys" % order["snippet"])
        for text in _order.unset_addresses(order):
            one["notes"].append("%s is not given to cloud-init: the server takes one address of a family and NIC" % text)

    # -- what it is made from -------------------------------------------------------------------------------------

    def _source(self, order, rows):
        """`(row, settings, firewall)` of the template; of an archive what a former guest of that number left behind."""
        number = order["image"]["template"]
        if number is None:
            place = ("nodes", order["storage"]["node"] or next(iter({row["node"] for row in rows.values()}), "localhost"), "lxc", order["vmid"])
            return None, {}, self._firewall(place)
        if number not in self._templates:
            row = rows[number]
            place = ("nodes", row["node"], row["type"], number)
            if row.get("odd"):
                raise _answers.BadReply("GET /cluster/resources", "template %s has no node or type" % number)
            found = self.client.read(_answers.configuration, *place, "pending")[1]
            config = {key: text for key, text in found.items() if text is not None}
            self._templates[number] = row, config, self._firewall(place)
        row, config, firewall = self._templates[number]
        lock = config.get("lock")
        if lock and not (order["kind"] == "lxc" and lock == "disk"):
            raise _order.refuse(order, "guest_locked", "template %s is locked (%s)." % (number, lock),
                                "Wait until its task has ended, then run hosting.aup.provision.", retryable=True)
        _order.check_template(order, config, sorted(name for name in firewall["sets"] if name.startswith("ipfilter-net")))
        return row, config, firewall

    def _firewall(self, place):
        """The firewall that a guest of this number has, or would have."""
        sets = {one["name"]: {"entries": [], "ours": False} for one in self.client.read(_sets, *place, "firewall", "ipset")}
        return {"options": self.client.read(_answers.flat, *place, "firewall", "options"),
                "rules": self.client.read(_answers.rules, *place, "firewall", "rules"), "sets": sets}

    def _snippets(self, order, node):
        """Refuse files of cloud-init that the node doesn't have: the start would fail."""
        for volume in _order.snippets(order).values():
            storage = volume.partition(":")[0]
            if (node, storage, "snippets") not in self._room:
                try:
                    found = self.client.read(_volumes, "nodes", node, "storage", storage, "content", content="snippets")
                except ApiError as exc:
                    if exc.code == "missing_privilege" or exc.status not in (400, 500):
                        raise
                    found = []
                self._room[(node, storage, "snippets")] = {entry["volid"] for entry in found}
            if volume not in self._room[(node, storage, "snippets")]:
                raise _order.refuse(order, "snippet_missing", "node %s has no %s." % (node, volume),
                                    "Put the file into `snippets` of that storage, on each node where such guests are made; "
                                    "nobody can over the API.")

    def _storage(self, order, node, source, config, begun):
        """Refuse what has no room, before anything is begun."""
        name, image = order["storage"]["storage"], order["image"]
        if source is not None and image["linked"]:
            own = _order.storages({_order.disk_of(order["kind"], config): config[_order.disk_of(order["kind"], config)]})
            if own != {name}:
                raise _order.refuse(order, "storage_unknown", "image %s is linked to, and lies on %s, not on %s." % (
                    order["disk"]["image"], ", ".join(sorted(own)), name), "Order that storage, or declare the image without `linked`.")
        key = (node, name)
        if key not in self._room:
            try:
                self._room[key] = self.client.read(_storage_status, "nodes", node, "storage", name, "status")
            except ApiError as exc:
                if exc.code == "missing_privilege" or exc.status not in (400, 500):
                    raise
                self._room[key] = None
        status = self._room[key]
        if status is None:
            raise _order.refuse(order, "pool_missing", "node %s has no storage %s." % (node, name), "Correct `storage` of the node.")
        if not status.get("active") or str(status.get("enabled", 1)) == "0":
            raise _order.refuse(order, "pool_inactive", "storage %s is not active on node %s." % (name, node), "Activate it, then run again.")
        needs = "images" if order["kind"] == "qemu" else "rootdir"
        if needs not in str(status.get("content", "")).split(","):
            raise _order.refuse(order, "pool_kind", "storage %s takes no disks of %s (content %s)." % (
                name, "virtual machines" if order["kind"] == "qemu" else "containers", needs), "Order another storage, or allow it there.")
        if not order["storage"]["overcommit"] and not begun:
            if status["avail"] < order["disk"]["size_bytes"]:
                raise _order.refuse(order, "pool_full", "storage %s has %d bytes left, the disk may grow to %d." % (
                    name, status["avail"], order["disk"]["size_bytes"]), "Make room, or declare the storage with `overcommit: true`.")
            self._room[key] = dict(status, avail=status["avail"] - order["disk"]["size_bytes"])


class Maker:
    """Carries out the steps of orders.

    :param in_force: `in_force(vmid) -> [sentences]`: what of a guest's rules isn't there, looked up afresh
    :param settle: seconds between the last write and the start
    """

    def __init__(self, client, in_force, settle=SETTLE_SECONDS, clock=time.monotonic, sleep=time.sleep):
        self.client, self._in_force, self._settle = client, in_force, settle
        self._clock, self._sleep = clock, sleep
        self._copies, self._guard = {}, threading.Lock()

    def step(self, step, guest):
        """One step of an order.

        :raises ApiError: any failure; then nothing of this guest goes on
        """
        {"clone": self._copy, "unpack": self._copy, "settings": self._settings, "resize": self._resize,
         "begin": self._begin}[step["verb"]](step, guest)

    def wrote(self, guest):
        """Note that something of a guest may have been written until now."""
        guest["written_at"] = self._clock()

    @staticmethod
    def _place(guest):
        return "nodes", guest["node"], guest["kind"], guest["vmid"]

    def _config(self, guest):
        """The guest's settings with digest; only if they are those of our guest.

        :raises NodeError: code `vmid_taken`
        """
        config = self.client.read(_answers.flat, *self._place(guest), "config")
        order = guest["order"]
        if not config.get("lock") and str(config.get("description") or "").strip() != _order.mark(order):
            raise _order.refuse(order, "vmid_taken", "guest %s was made by somebody else meanwhile; it is left alone." % guest["vmid"],
                                "Give the service another number in the catalogue.")
        return {key: value if value is None else str(value) for key, value in config.items()}

    def _copy(self, step, guest):
        order = guest["order"]
        if step["before"].get("lock"):
            self._await_copy(step, guest)
            return
        template = order["image"]["template"]
        with self._guard:
            room = self._copies.setdefault(template, threading.BoundedSemaphore(_COPIES if order["kind"] == "qemu" else 1))
        with room:
            try:
                upid = self._begin_copy(step, guest, order, template)
                self.client.wait(step["source"] or step["node"], upid, COPY_PATIENCE)
            except ApiError as exc:
                if order.get("resource_pool") and "pool '%s' does not exist" % order["resource_pool"] in exc.message:
                    raise _order.refuse(order, "resource_pool_missing", "the cluster has no pool %s." % order["resource_pool"],
                                        "Make it, or correct `resource_pool` of the node.") from exc
                if exc.code == "exists":
                    raise _order.refuse(order, "vmid_taken", "its number %s is taken by a guest that this token can't see, or was taken "
                                        "just now." % guest["vmid"], "Give it another number in the catalogue.") from exc
                if exc.code != "unknown_outcome" or not self._there(guest):
                    raise
                self._await_copy(step, guest)  # the answer didn't come; the copy may have begun all the same
        self._config(guest)

    def _begin_copy(self, step, guest, order, template):
        if template is None:
            return self.client.write(step["node"], "POST", "nodes", step["node"], "lxc", **_order.unpack_parameters(order))
        linked = order["image"]["linked"]
        named = {"name" if order["kind"] == "qemu" else "hostname": order["guest"]["name"]}
        return self.client.write(
            step["source"], "POST", "nodes", step["source"], order["kind"], template, "clone", newid=guest["vmid"], full=not linked,
            description=_order.mark(order), pool=order.get("resource_pool"), storage=None if linked else order["storage"]["storage"],
            target=step["node"] if step["node"] != step["source"] else None, **named)

    def _there(self, guest):
        try:
            self.client.get(*self._place(guest), "config")
        except ApiError:
            return False
        return True

    def _await_copy(self, step, guest):
        """Wait for a copy that another run began; it ends with the guest's lock."""
        limit, pause, order = self._clock() + COPY_PATIENCE, 0.1, guest["order"]
        while True:
            config = self._config(guest)
            if config.get("lock") not in _order.COPYING:
                return
            if not self._copying(step, guest, order) and self._config(guest).get("lock") in _order.COPYING:
                raise _order.refuse(order, "guest_locked", "guest %s is half copied and locked (%s), and no task copies it any more."
                                    % (guest["vmid"], config["lock"]),
                                    "Unlock and remove it (qm unlock, qm destroy; pct likewise), then run hosting.aup.provision.")
            if self._clock() > limit:
                raise _order.refuse(order, "guest_locked", "guest %s is still being copied after %d s." % (guest["vmid"], COPY_PATIENCE),
                                    "Run hosting.aup.provision when it has ended.", retryable=True)
            self._sleep(pause)
            pause = min(2.0, pause * 1.6)

    def _copying(self, step, guest, order):
        node = step["source"] or step["node"]
        wanted = {str(order["image"]["template"]), str(guest["vmid"])}
        rows = self.client.read(_tasks, "nodes", node, "tasks", source="active")
        return any(row["type"] in _TASKS and str(row.get("id")) in wanted and not row.get("endtime") for row in rows)

    def _settings(self, step, guest):
        """The ordered settings, in one call, against what the copy really has."""
        config = self._config(guest)
        _before, after = _order.changes(guest["order"], config)
        if after:
            values = {key: value for key, value in after.items() if value is not None}
            delete = ",".join(sorted(key for key, value in after.items() if value is None))
            self._repeated(lambda: self.client.write(guest["node"], "PUT", *self._place(guest), "config", digest=config.get("digest"),
                                                     delete=delete or None, **values), guest)

    def _repeated(self, write, guest):
        """A write whose answer didn't come is judged by what is there."""
        try:
            write()
        except ApiError as exc:
            if exc.code != "unknown_outcome" or _order.changes(guest["order"], self._config(guest))[1]:
                raise

    def _resize(self, step, guest):
        (disk, size), = step["after"].items()
        upid = self.client.write(guest["node"], "PUT", *self._place(guest), "resize", disk=disk, size="%dM" % (size >> 20))
        self.client.wait(guest["node"], upid)

    def _begin(self, step, guest):
        """Start a guest, once all of its rules have been read back and had time to be compiled."""
        pause = guest["written_at"] + self._settle - self._clock()
        if pause > 0:
            self._sleep(pause)
        missing = self._in_force(guest["vmid"])
        config = self._config(guest)
        differs = sorted(_order.changes(guest["order"], config)[1])
        missing += ["%s not as ordered" % ", ".join(differs)] * bool(differs)
        if missing:
            raise _order.refuse(guest["order"], "not_ready", "guest %s is not started: %s." % (guest["vmid"], "; ".join(missing)),
                                "Run hosting.aup.provision again; if it persists, something else changes the guest.", retryable=True)
        place = self._place(guest)
        if config.get("onboot") != "1":
            self.client.write(guest["node"], "PUT", *place, "config", onboot=1, digest=config.get("digest"))
        try:
            self.client.wait(guest["node"], self.client.write(guest["node"], "POST", *place, "status", "start"))
        except ApiError as exc:
            if exc.code != "unknown_outcome":
                raise
        limit, pause = self._clock() + 60, 0.1
        while self.client.read(_answers.status, *place, "status", "current")["status"] != "running" and self._clock() < limit:
            self._sleep(pause)
            pause = min(1.0, pause * 1.5)
