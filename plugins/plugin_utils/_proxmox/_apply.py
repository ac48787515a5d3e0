# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the steps of a plan over the API. PRIVATE to the collection.

Per guest one step after the other; guests side by side, at most two writes at a time on a node. A step that fails ends
its guest's part of giving back, since the order matters there; the others go on. What a plan left undone is seen by the
plan after it.
"""
from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _firewall, _guest, _nics, _units
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import ApiError


def spread(numbers, node_of):
    """Guests in an order in which neighbours are on different nodes, so that no node's turn holds up the others."""
    by_node = {}
    for number in sorted(numbers):
        by_node.setdefault(node_of(number), []).append(number)
    queues = [by_node[node] for node in sorted(by_node)]
    return [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]


WORKERS = 32  # guests at a time; what a node takes is limited by the client
SHUTDOWN_SECONDS = 90
RULES_SECONDS = 12  # the firewall takes up what was written every 10 s, and nothing says when it has
_TRIES = 3
# After these nothing else will go through on that guest, or it would go ahead of what has to come first.
_ENDS = frozenset(("guest_locked", "guest_busy", "node_down", "unreachable", "no_quorum", "auth", "certificate", "guest_moved",
                   "changed_meanwhile"))


def _item(service, error, part):
    return {"service": service, "part": part, "code": error.code, "message": error.message, "remedy": error.remedy,
            "retryable": error.retryable}


class Apply:
    """One application of a plan.

    :param rows: `rows() -> {vmid: row}`: where guests are now
    :param maker: `_making.Maker`, for guests that are made
    """

    def __init__(self, client, rows, maker=None):
        self.client, self._rows, self._maker = client, rows, maker
        self._failures = []
        self._guard = threading.Lock()

    def run(self, steps, guests):
        """Carry the steps out; returns what failed, service by service.

        :param guests: observed, by number
        """
        shared = [step for step in steps if step["part"] == "shared"]
        ready = self._each(shared)
        by_guest = {}
        for step in steps:
            # A rule that names a group or set that isn't there is left out silently; all else doesn't need them.
            if step["part"] not in ("shared", "leftover") and (ready or step["verb"] != "rules"):
                by_guest.setdefault(step["vmid"], []).append(step)
        if not ready:
            # Nor is a guest made whose rules could not be put in force.
            by_guest = {vmid: mine for vmid, mine in by_guest.items() if "order" not in guests[vmid]}
        order = spread(by_guest, lambda vmid: guests[vmid]["node"])
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda vmid: self._guest(by_guest[vmid], guests[vmid]), order))
        if not self._failures:
            self._each([step for step in steps if step["part"] == "leftover"])
        return self._failures

    def _fail(self, service, error, part):
        with self._guard:
            self._failures.append(_item(service, error, part))

    # -- what all guests share ------------------------------------------------------------------------------------

    def _each(self, steps):
        for step in steps:
            try:
                self._one_shared(step)
            except AupError as exc:
                self._fail(None, exc, step["part"])
                return False
        return True

    def _one_shared(self, step):
        name = step["name"]
        before, after = step["before"][name], step["after"][name]
        write = self.client.write
        if step["verb"] == "cluster_set":
            place = ("cluster", "firewall", "ipset")
            if after is None:
                write(None, "DELETE", *place, name, force=1)
                return
            if before is None:
                write(None, "POST", *place, name=name, comment=step["comment"])
            # What stays open is let out of the set before all the rest is in it.
            for entry in [e for e in reversed(after) if e not in (before or [])]:
                write(None, "POST", *place, name, cidr=entry["cidr"], nomatch=entry["nomatch"] or None)
            for entry in [e for e in before or [] if e not in after]:
                write(None, "DELETE", *place, name, entry["cidr"])
            return
        place = ("cluster", "firewall", "groups")
        if before is None and after is not None:
            write(None, "POST", *place, group=name, comment=step["comment"])
        # A new rule goes to the top; the former ones are taken from the end, below the new.
        for rule in reversed(after or []):
            write(None, "POST", *place, name, **_sent(rule))
        for number in range(len(before or []) - 1, -1, -1):
            write(None, "DELETE", *place, name, len(after or []) + number)
        if after is None:
            write(None, "DELETE", *place, name)

    # -- one guest ------------------------------------------------------------------------------------------------

    def _chain(self, steps, guest):
        """A guest that is made: one step after the other, and none after one that failed."""
        self._maker.wrote(guest)
        for step in steps:
            try:
                if step["part"] == "create":
                    self._maker.step(step, guest)
                else:
                    self._followed(step, guest)
            except AupError as exc:
                self._fail(step["service"], exc, "create")
                return
            self._maker.wrote(guest)

    def _guest(self, steps, guest):
        if "order" in guest:
            self._chain(_merged(steps), guest)
            return
        giving_back = not any(step["verb"] == "power" and step["after"]["power"] != "running" for step in steps)
        queue = _merged(steps)
        while queue:
            step = queue.pop(0)
            try:
                self._followed(step, guest)
            except AupError as exc:
                self._fail(step["service"], exc, step["part"])
                if giving_back or exc.code in _ENDS:
                    return

    def _followed(self, step, guest):
        """A step; a guest that has moved meanwhile is followed once."""
        try:
            self._step(step, guest)
        except ApiError as exc:
            if exc.code != "guest_moved":
                raise
            row = self._rows().get(guest["vmid"])
            if row is None or row["node"] == guest["node"]:
                raise
            guest["node"], guest["digest"] = row["node"], None
            self._step(step, guest)

    def _step(self, step, guest):
        {"set": self._config, "options": self._options, "rules": self._rules, "ipset": self._ipset,
         "power": self._power}[step["verb"]](step, guest)

    def _place(self, guest):
        return "nodes", guest["node"], guest["kind"], guest["vmid"]

    def _config(self, step, guest):
        """All fields of the configuration in one call, NICs with one key patched."""
        values, delete = {}, []
        for field, value in step["after"].items():
            name, dot, key = field.partition(".")
            if dot:
                text = values.get(name, guest["nics"][name]["text"])
                values[name] = _nics.with_value(text, key, value)
            elif field == "tag":
                tags = [tag for tag in _guest.tags_of(guest["config"].get("tags")) if not _guest.is_mark(tag)]
                tags += [value] if value else []
                if tags:
                    values["tags"] = ";".join(tags)
                else:
                    delete.append("tags")
            elif value is None or field == "cpulimit" and not _units.number(value):
                delete.append(field)  # on a running container 0, though it means no limit, fails
            else:
                values[field] = value
        self.client.write(guest["node"], "PUT", *self._place(guest), "config", digest=guest["digest"],
                          delete=",".join(delete) or None, **values)
        guest["digest"] = None  # known no more; the last write of a guest's configuration in this pass

    def _options(self, step, guest):
        values, delete = {}, []
        for field, value in step["after"].items():
            key = field.partition(".")[2]
            if value is None:
                delete.append(key)
            else:
                values[key] = value
        self.client.write(guest["node"], "PUT", *self._place(guest), "firewall", "options", digest=guest["options"].get("digest"),
                          delete=",".join(delete) or None, **values)

    def _rules(self, step, guest):
        """Put ours first, then take away what else is marked ours, each with the list's digest.

        Where nothing of ours was seen, nothing has to be taken away, and the list isn't read again.
        """
        place = (*self._place(guest), "firewall", "rules")
        wanted = step["after"]["rules"]
        fresh = not step["before"]["rules"]
        for attempt in range(_TRIES):
            try:
                listed = guest["rules"] if fresh and not attempt else self.client.read(_answers.rules, *place)
                known = [_firewall.bare(rule) for rule in listed]
                if known[:len(wanted)] != [_firewall.bare(rule) for rule in wanted]:
                    for rule in reversed(wanted):
                        self.client.write(guest["node"], "POST", *place, **_sent(rule))
                    if fresh and not attempt:
                        return
                    listed = self.client.read(_answers.rules, *place)
                for number in range(len(listed) - 1, len(wanted) - 1, -1):
                    if _firewall.ours(listed[number]):
                        self.client.write(guest["node"], "DELETE", *place, number, digest=listed[number].get("digest"))
                        listed = self.client.read(_answers.rules, *place)
                return
            except ApiError as exc:
                if exc.code not in ("changed_meanwhile", "unknown_outcome") or attempt == _TRIES - 1:
                    raise

    def _ipset(self, step, guest):
        """A set is filled under another name and renamed: an empty one would cut its NIC off."""
        place, name = (*self._place(guest), "firewall", "ipset"), step["name"]
        before, after = step["before"][name], step["after"][name]
        write = self.client.write
        node = guest["node"]
        if after is None:
            write(node, "DELETE", *place, name, force=1)
        elif before is None:
            aside = _guest.ASIDE + name
            try:
                write(node, "POST", *place, name=aside, comment=_firewall.MARK)
            except ApiError as exc:
                if exc.code != "exists":
                    raise
                write(node, "DELETE", *place, aside, force=1)  # of a run that was killed
                write(node, "POST", *place, name=aside, comment=_firewall.MARK)
            for cidr in after:
                write(node, "POST", *place, aside, cidr=cidr)
            write(node, "POST", *place, name=name, rename=aside)
        else:
            for cidr in [one for one in after if one not in before]:
                write(node, "POST", *place, name, cidr=cidr)
            for cidr in [one for one in before if one not in after]:
                write(node, "DELETE", *place, name, cidr)

    def _power(self, step, guest):
        verb, node = step["how"], guest["node"]
        if verb == "restart":
            in_force = time.monotonic() + RULES_SECONDS
            self._power(dict(step, how="stop" if guest["ha"] else "shutdown", after={"power": "stopped"}), guest)
            time.sleep(max(0.0, in_force - time.monotonic()))
            self._power(dict(step, how="start"), guest)
            return
        parameters = {"timeout": SHUTDOWN_SECONDS, "forceStop": 1} if verb == "shutdown" else {}
        place = self._place(guest)
        try:
            upid = self.client.write(node, "POST", *place, "status", verb, **parameters)
            self.client.wait(node, upid)
        except ApiError as exc:
            # It may have been heard all the same; then the guest gets there.
            if exc.code != "unknown_outcome" or not self._await_power(place, step["after"]["power"], True):
                raise
            return
        self._await_power(place, step["after"]["power"], False)

    def _await_power(self, place, wanted, unheard, patience=60):
        """Wait for a state of power; where high availability manages the guest, the task only asks for it.

        :param unheard: the call's answer didn't come
        :returns: whether it is reached
        """
        limit, pause = time.monotonic() + (min(patience, self.client.target.timeout) if unheard else patience), 0.1
        while True:
            status = self.client.read(_answers.status, *place, "status", "current")
            now = "paused" if status["qmpstatus"] == "paused" else status["status"]
            if now == wanted:
                return True
            if time.monotonic() > limit or not (unheard or status["ha"]["managed"]):
                return False
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)


def _sent(rule):
    """A rule as parameters, its comment without control characters: a line break in it would be a line of the rule file."""
    values = {key: value for key, value in rule.items() if value is not None}
    values["comment"] = "".join(c for c in str(values.get("comment", "")) if c.isprintable())[:128]
    return values


def _merged(steps):
    """Fields of one kind as one step: the configuration is written once, and so are the firewall's options."""
    merged = []
    for step in steps:
        last = merged[-1] if merged else None
        if last and step["verb"] == last["verb"] and step["verb"] in ("set", "options"):
            last["before"].update(step["before"])
            last["after"].update(step["after"])
            continue
        merged.append(dict(step, before=dict(step["before"]), after=dict(step["after"])))
    return merged
