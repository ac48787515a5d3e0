# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendors' platforms have in common: the gate, strict reading, one transaction at a time. PRIVATE.

A change is entered whole or not at all: a refused line takes the candidate back, and what is left without that
line's prefix is entered once more, so that one refused address does not spare the others. It then waits to be
confirmed; if the connection is lost before that, the router takes it back by itself.
"""
from __future__ import annotations

import contextlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _filters, _gate, _values
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import PROMPT, Cli, RouterError

MARK = ("tag", 1, 4294967295, 41666)
_ATTEMPTS = 4


def _running_unsaved(text, ours):
    """(a route of ours differs, something else differs) of a listing of differences to the saved configuration.

    :param ours: compiled pattern of a configuration line of ours
    """
    changed = [line[1:].strip() for line in text.splitlines()
               if line[:1] in ("+", "-") and not line.startswith(("+++", "---")) and line[1:].strip() not in ("", "!")]
    mine = [line for line in changed if ours.fullmatch(line)]
    return bool(mine), len(mine) < len(changed)


def announces_now(desired):
    """Whether a route is wanted that is to be announced."""
    return any(route["rtbh"] for route in desired["null_routes"])


class VendorDriver:
    """One connection to one router with a command line.

    A platform gives `name`, `DEVICE_TYPE`, `GRAMMAR`, and `_look`, `_lines`, `_begin`, `_abandon`,
    `_commit`, `_confirm`, `save`; one that announces `_sessions(version)` and `_told(prefix, version, rtbh, up)` as well.

    :ivar waiting: a change of ours waits to be confirmed
    :ivar unsaved: a restart would forget a route of ours, or bring one back
    :ivar missing: configuration lines that writing needs and the router lacks
    :ivar notes: what the operator should know of this router
    """

    name = DEVICE_TYPE = None
    announces = False
    PORT = r"[A-Za-z][A-Za-z0-9_./:-]{0,39}"
    """Names of interfaces that may be a service's port, and in words."""
    DROPS = None
    """What reads and writes drops; None where the platform carries none."""
    PORTS = None
    """What defines and binds filters, see `_filters.commands`."""
    PORT_IS = "the name of an interface, in full"
    apart = frozenset()
    """Kinds of changes (`port`, `drop`) in a transaction of their own; all others are in the one of everything else."""
    MARK = MARK
    GRAMMAR = ()
    TAILS = ()
    ALLOWED = ""
    PROMPT = PROMPT

    def __init__(self, target):
        self.target = target
        self.waiting, self.foreign_wait, self.notes, self.unsaved = False, None, [], False
        self.missing = []
        self.minutes = max(2, -(-3 * target.timeout // 60))  # until an unconfirmed change is taken back
        self.cli = self._connect()

    def _connect(self):
        return Cli(self.target, self.DEVICE_TYPE, self.PROMPT)

    def close(self):
        """Leave the router."""
        self.cli.close()

    # -- asking

    def _passed(self, line):
        return _gate.pass_line(line, self.GRAMMAR, self.TAILS, self.ALLOWED)

    def _ask(self, line, question=None):
        return self.cli.ask(self._passed(line), question)

    def _read(self, line, parse):
        """A show command's answer, understood or refused."""
        text = self._ask(line)
        return self._understood(line, lambda: parse(text))

    def _understood(self, line, parse):
        """What `parse()` makes of the answer to a line."""
        return _values.understood(self.target, line, parse)

    def refused(self, what, said, code="config_refused", remedy="Check the user's rights on the router."):
        """The error for a step that the router does not take."""
        said = " ".join(said.split())[:160]
        return self.target.error(code, "%s: %s" % (what, ascii(said)[1:-1] or "it said nothing"), remedy)

    # -- reading

    def observe(self, desired):
        """What the router has, for `_plan.plan`."""
        seen = self._look(desired)
        ours = {desired["settings"]["mark"]}
        if desired["settings"].get("rtbh"):
            ours.add(desired["settings"]["rtbh"]["tag"])
        routes = [{"prefix": s["prefix"], "blackhole": s["blackhole"], "mark": s["mark"], "exact": s["exact"],
                   "ours": s["exact"] and s["mark"] in ours, "line": s["line"]} for s in seen["statics"]]
        taken = [{"prefix": address, "what": "the router's own address %s" % address} for address, _net in seen["own"]]
        taken += [{"prefix": hop, "what": "the next hop %s of %s" % (hop, s["prefix"])}
                  for s in seen["statics"] for hop in s["hops"]]
        taken += [{"prefix": peer, "what": "the BGP peer %s" % peer} for peer in seen["peers"]]
        occupied = {network: "a connected route for it" for _address, network in seen["own"] if network}
        occupied.update(seen.get("occupied", {}))
        return {"routes": routes, "rib": seen["rib"], "occupied": occupied, "taken": taken, "rtbh": seen.get("rtbh"),
                "ports": seen.get("ports") or {}, "drops": seen.get("drops") or {},
                "drop_objections": seen.get("drop_objections") or {}}

    def _announcements(self, desired, missing):
        """`rtbh` for `_plan`; only what is wanted is asked for.

        :param missing: `{"4": lines, "6": lines}` that announcing needs and the router lacks
        """
        announced, up = {}, {}
        for route in desired["null_routes"]:
            version = ipaddress.ip_network(route["prefix"]).version
            if not route["rtbh"] or missing[str(version)]:
                continue
            if version not in up:
                up[version] = self._sessions(version)
            announced[route["prefix"]] = self._told(route["prefix"], version, desired["settings"]["rtbh"], up[version])
        return {"missing": missing, "announced": announced, "up": sorted(set().union(*up.values()))}

    @staticmethod
    def _peers(rtbh, version, up):
        """(upstream, neighbor) of one family with a session."""
        return [(upstream, peer) for upstream in rtbh["upstreams"] for peer in upstream["neighbors"]
                if ipaddress.ip_address(peer).version == version and peer in up]

    def compare_saved(self, differences, desired):
        """Note what of the configuration a restart would forget."""
        marks = [desired["settings"]["mark"], *([desired["settings"]["rtbh"]["tag"]] if desired["settings"].get("rtbh") else [])]
        ours = re.compile(r".*\baup-[A-Za-z0-9_]+-.*|(?:ip|ipv6) route [0-9A-Fa-f.:/ ]+ Null0 tag (?:%s)" % "|".join("%d" % mark for mark in marks))
        self.unsaved, others = _running_unsaved(differences, ours)
        if others:
            self.notes.append("%s: running and startup configuration differ already; saving (save: always) keeps those edits "
                              "too." % self.target.name)

    # -- building

    def commands(self, change):
        """Lines of one change."""
        if "port" in change:
            return _filters.commands(self.PORTS, change)
        if "drop" in change:
            return self.DROPS.commands(change)
        return self._lines(change["action"], change["prefix"], change["mark"], bool(change["before"]))

    def _mark_of(self, line):
        """The mark of a route of ours as it was read."""
        return int(re.search(r" tag ([0-9]+)", line).group(1))

    def undo(self, change):
        """Lines that put back what was before a change."""
        if change["action"] == "remove":
            return self._lines("add", change["prefix"], change["mark"], False)
        if change["before"]:
            return self._lines("add", change["prefix"], self._mark_of(change["before"][0]), True)
        return self._lines("remove", change["prefix"], change["mark"], True)

    # -- changing

    def apply(self, lines, groups):
        """Enter lines as one change that waits to be confirmed; `{index of a line: complaint}` of those refused.

        :param groups: what each line is for (the step's `prefix`); a refused line takes all lines of its group along
        :raises RouterError: `busy` when somebody's change waits to be confirmed, as ours would confirm it
        """
        for line in lines:
            self._passed(line)
        if self.foreign_wait:
            raise self.target.error("busy", "a change of somebody else waits to be confirmed there (%s)." % self.foreign_wait,
                                    "Confirm it or let it lapse, then run again.", retryable=True)
        todo, refused = list(range(len(lines))), {}
        for _attempt in range(_ATTEMPTS):
            self._begin()
            try:
                new = self._enter([(index, lines[index]) for index in todo])
                if not new:
                    said = self._commit()
                    if said is None:
                        return refused
                    why = "the router does not take it: %s" % ascii(" ".join(said.split())[:160])[1:-1]
                    new = {index: why for index in todo if groups[index] in self._meant(said, [groups[index] for index in todo])}
            except RouterError:
                with contextlib.suppress(RouterError):
                    self._abandon()
                raise
            self._abandon()
            refused.update(new)
            bad = {groups[index] for index in new}
            todo = [index for index in todo if groups[index] not in bad]
            if not todo:
                return refused
        refused.update(dict.fromkeys(todo, "it was entered beside lines that the router refused, and taken back"))
        return refused

    @staticmethod
    def _names(group):
        """How a complaint names what a group of lines is about."""
        return [group.partition(" ")[2] or group]

    def _meant(self, said, groups):
        """The groups that a refused commit is about: those it names, else all on ports, else all."""
        named = {group for group in groups for name in self._names(group)
                 if re.search(r"(?<![\w.:/-])%s(?![\w:/-])" % re.escape(name), said)}
        return named or {group for group in groups if group.startswith("port ")} or set(groups)

    def _enter(self, lines):
        """{index: complaint}; a line that is taken is answered with nothing."""
        refused = {}
        for index, line in lines:
            said = self._complaint(self._ask(line))
            if said:
                refused[index] = said[:200]
        return refused

    def _complaint(self, said):
        return ascii(" ".join(said.split()))[1:-1]

    def confirm(self):
        """Make the waiting change stay.

        :raises RouterError: it did not come to that; the message says that the router takes the change back
        """
        if not self.waiting:
            return
        try:
            self._confirm()
        except RouterError as exc:
            raise self.target.error(
                exc.code, "the change was entered and read back, but not confirmed (%s). The router takes it back by itself "
                "within %d min." % (exc.message, self.minutes), "Run again: what is then missing is entered again.",
                retryable=exc.retryable) from exc
        self.waiting = False

    def save(self):
        """Nothing to save: the platform keeps what was committed."""

    def _write_memory(self, written):
        """Write the running configuration to where a restart reads it; all of it, others' edits too.

        :param written: what the router says when it did
        """
        said = self._ask("write memory")
        if written not in said:
            raise self.refused("it did not save", said, "not_saved",
                               "The routes act, but a restart forgets them. Check flash and rights on the router.")
