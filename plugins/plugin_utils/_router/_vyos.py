# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VyOS 1.4 and later. PRIVATE to the collection. Never tried on a device.

A session of its own, `commit-confirm`, read back, `confirm`, `save`. Where an unconfirmed change would be taken back by a
*reboot* (the default), a plain `commit` is made instead: a lost connection must not take down everybody behind the router.
FRR lies below, so what acts is read from it by `vtysh`; its configuration is VyOS's alone.

From vyos-1x (`config_mgmt.py`, `system_config-management.xml.in`, `static-route.xml.i`): texts of `commit-confirm` and
`confirm`, the timer `commit-confirm.timer` and `/tmp/commit-rev-entry` beside it, the path of static routes. A failed
`commit` may have committed parts, so `compare` decides, not the absence of a complaint.
"""
from __future__ import annotations

import ipaddress
import json
import re
from itertools import pairwise
from types import MappingProxyType

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _frr, _gate, _vyos_drops, _vyos_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import VendorDriver
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Cli
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, is_address

NAME = "vyos"
RUNNING, SAVED = "show configuration commands", "vyos-config-to-commands /config/config.boot"
TIMER, ENTRY = "systemctl is-active commit-confirm.timer", "cat /tmp/commit-rev-entry"
_KINDS = ("static", "kernel", "connected")
_ROUTES = {version: "vtysh %s" % " ".join('-c "show %s route %s json"' % (family, kind) for kind in _KINDS)
           for version, family in ((4, "ip"), (6, "ipv6"))}
INTERFACES, SUMMARY = 'vtysh -c "show interface json"', 'vtysh -c "show bgp summary json"'
_ROUTE = r"protocols static (?:route %s|route6 %s)" % (_gate.PREFIX4, _gate.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"set %s blackhole tag %s" % (_ROUTE, _gate.NUMBER), r"delete %s(?: blackhole)?" % _ROUTE,
    *(re.escape(line) for line in (RUNNING, "run " + RUNNING, SAVED, TIMER, ENTRY, *_ROUTES.values(), INTERFACES, SUMMARY)),
    r'vtysh -c "show bgp (?:ipv4 unicast %s|ipv6 unicast %s) json"' % (_gate.PREFIX4, _gate.PREFIX6),
    *(pattern.pattern for part in (_vyos_ports, _vyos_drops) for pattern in part.GRAMMAR),
    r"configure", r"compare", r"commit", r"commit-confirm [1-9][0-9]?", r"[yn]", r"confirm", r"save", r"exit discard",
))
_QUESTION = re.compile(r"Proceed ?\?[^\r\n]{0,20}\Z")
_EDIT = re.compile(r"\s*(?:\[edit[^\]\n]*\])?\s*")
_BENIGN = re.compile(r"Nothing to delete|already exists")
_SAME = "No changes between working and active configurations"
_HOLDERS = frozenset(("address", "virtual-address", "excluded-address"))


# -- strict parsers --------------------------------------------------------------------------------------------------


def without_levels(text):
    """An answer without the lines that tell the level of configuration."""
    return "\n".join(line.strip() for line in text.splitlines() if not _EDIT.fullmatch(line))


def parse_commands(text):
    """A configuration as the words of its `set` lines, without quotes; only descriptions hold blanks.

    :raises NotUnderstood: a line that is none, or no line at all
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("set "):
        raise NotUnderstood("no configuration: %s" % ascii(text.strip()[:60]))
    for number, line in enumerate(lines):
        if not line.startswith("set "):
            raise NotUnderstood("line %d of the configuration is none" % (number + 1))  # it may hold a secret
    return [tuple(word.strip("'") for word in line.split(" ")[1:]) for line in lines]


def parse_statics(lines):
    """Static routes outside VRFs and other tables.

    :raises NotUnderstood: a static route of unknown form
    """
    found = {}
    for words in lines:
        if words[:2] == ("protocols", "static") and words[2:3] in (("route",), ("route6",)):
            try:
                network = ipaddress.ip_network(words[3])
            except (ValueError, IndexError) as exc:
                raise NotUnderstood("static route %s" % ascii(" ".join(words)[:100])) from exc
            if network.version != (4 if words[2] == "route" else 6):
                raise NotUnderstood("static route %s" % ascii(" ".join(words)[:100]))
            found.setdefault(str(network), []).append(words[4:])
    return [entry for prefix, said in found.items() for entry in _static(prefix, said)]


def _static(prefix, said):
    """A route's null route, and what else is on it: two entries, as either can go without the other."""
    drops = [words for words in said if words[:1] == ("blackhole",)]
    tags = [words[2] for words in drops if words[1:2] == ("tag",) and len(words) == 3]
    if any(not tag.isdigit() for tag in tags):
        raise NotUnderstood("the tag of %s" % prefix)
    rest = [words for words in said if words not in drops]
    found = []
    if drops:
        found.append({"prefix": prefix, "blackhole": True, "mark": int(tags[0]) if len(tags) == 1 else None,
                      "exact": len(drops) == len(tags) == 1, "hops": [], "line": _line(prefix, drops)})
    if rest:
        hops = [words[1] for words in rest if words[:1] == ("next-hop",) and len(words) > 1 and is_address(words[1])]
        found.append({"prefix": prefix, "blackhole": False, "mark": None, "exact": False, "hops": hops, "line": _line(prefix, rest)})
    return found


def _line(prefix, said):
    return "static route %s %s" % (prefix, " ".join(sorted(" ".join(words) for words in said)))


def by_prefix(statics):
    """`{prefix: its lines}`, to tell whether routes are still as they were read."""
    found = {}
    for entry in statics:
        found.setdefault(entry["prefix"], []).append(entry["line"])
    return found


def parse_own(lines):
    """Addresses that interfaces and VRRP are configured with."""
    found = []
    for words in lines:
        if words[0] not in ("interfaces", "high-availability"):
            continue
        for before, word in pairwise(words):
            address = word.partition("/")[0]
            if before in _HOLDERS and is_address(address):
                found.append(str(ipaddress.ip_address(address)))
    return found


def parse_peers(lines):
    """BGP neighbors of the main table."""
    found = {words[at + 1] for words in lines if words[:2] == ("protocols", "bgp")
             for at, word in enumerate(words[:-1]) if word == "neighbor" and is_address(words[at + 1])}
    return sorted(found)


def takes_back_by_reload(lines):
    """Whether an unconfirmed commit is taken back without a reboot; without revisions it can't be."""
    kept = any(words[:3] == ("system", "config-management", "commit-revisions") and words[3:] not in ((), ("0",)) for words in lines)
    return kept and any(words[:3] == ("system", "config-management", "commit-confirm") and words[-1] == "reload" for words in lines)


def parse_timer(text):
    """Whether a commit waits to be confirmed."""
    said = text.strip()
    if said not in ("active", "inactive", "failed", "unknown"):
        raise NotUnderstood("the timer of commit-confirm: %s" % ascii(said[:80]))
    return said == "active"


def parse_entry(text):
    """User whose commit waits to be confirmed; None where nothing is on record of him."""
    found = re.fullmatch(r"\|[0-9]+\|([^|]+)\|[^|]*\|[^|]*\|\s*", text)
    if not found and "No such file" not in text:
        raise NotUnderstood("the record of the commit: %s" % ascii(text.strip()[:80]))
    return found.group(1) if found else None


def parse_routes(text):
    """`{kind: {prefix: [routes]}}` of one family: one JSON document for each kind of route asked for."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except ValueError as exc:
            raise NotUnderstood("no JSON: %s" % ascii(rest[:80])) from exc
        found.append(_frr.parse_rib(json.dumps(document)))
        rest = rest[end:].strip()
    if len(found) != len(_KINDS):
        raise NotUnderstood("%d answers to %d questions" % (len(found), len(_KINDS)))
    return dict(zip(_KINDS, found))


def _login(netmiko):
    """netmiko's way in, without waiting two seconds for whether a greeting goes on: its end is the prompt."""
    class Login(netmiko.vyos.VyOSSSH):
        """Until the prompt."""

        def _test_channel_read(self, count=40, pattern=""):
            return super()._test_channel_read(count, pattern or r"[\w.-]+@[\w.-]+:[^\r\n]*[$#>]")

    return Login


# -- what announcing needs, prepared by the operator -----------------------------------------------------------------


def missing_for_rtbh(lines, rtbh):
    """`{"4": [...], "6": [...]}`: lines that announcing needs and the configuration lacks.

    :param rtbh: the catalogue's `rtbh` of this router
    """
    bgp = [words[2:] for words in lines if words[:2] == ("protocols", "bgp")]
    if not any(words[:1] == ("system-as",) for words in bgp):
        return {"4": ["set protocols bgp system-as <your AS>"], "6": ["set protocols bgp system-as <your AS>"]}
    rules = {}
    for words in lines:
        if words[:2] == ("policy", "route-map") and words[3:4] == ("rule",) and len(words) > 5:
            rules.setdefault(words[2], {}).setdefault(words[4], []).append(words[5:])
    missing = {}
    for version in (4, 6):
        family = ("address-family", "ipv%d-unicast" % version)
        found = []
        tagged = [said for said in rules.get(rtbh["route_map"], {}).values()
                  if ("action", "permit") in said and ("match", "tag", str(rtbh["tag"])) in said]
        if not any(_sets(said, rtbh["trigger"]) for said in tagged):
            rule = "set policy route-map %s rule 10 " % rtbh["route_map"]
            found += [rule + "action permit", rule + "match tag %d" % rtbh["tag"], rule + "set community replace %s" % rtbh["trigger"]]
        if (*family, "redistribute", "static", "route-map", rtbh["route_map"]) not in bgp:
            found.append("set protocols bgp %s redistribute static route-map %s" % (" ".join(family), rtbh["route_map"]))
        peers = [(upstream, peer) for upstream in rtbh["upstreams"] for peer in upstream["neighbors"]
                 if ipaddress.ip_address(peer).version == version]
        for upstream, peer in peers:
            found += _missing_of_peer(bgp, rules, family, upstream, peer)
        if not peers:
            found.append("the catalogue names no IPv%d neighbor of an upstream (rtbh.upstreams)" % version)
        missing[str(version)] = found
    return missing


def _missing_of_peer(bgp, rules, family, upstream, peer):
    group = next((words[3] for words in bgp if words[:3] == ("neighbor", peer, "peer-group") and len(words) == 4), None)
    mine = [words[2:] for words in bgp if words[:2] == ("neighbor", peer)]
    mine += [words[2:] for words in bgp if group and words[:2] == ("peer-group", group)]
    inside = [words[2:] for words in mine if words[:2] == family]
    where = "set protocols bgp neighbor %s %s" % (peer, " ".join(family))
    found = []
    if any(words[:1] == ("disable-send-community",) for words in inside):
        found.append("delete" + where[3:] + " disable-send-community")
    out = next((words[2] for words in inside if words[:2] == ("route-map", "export") and len(words) == 3), None)
    said = rules.get(out, {}).values() if out else ()
    if not any(("action", "permit") in one and _sets(one, upstream["community"]) for one in said):
        rule = "set policy route-map %s rule 10 " % (out or "TO-%s" % upstream["name"])
        found += [rule + "action permit", rule + "match community community-list <list of the trigger>",
                  rule + "set community replace %s" % upstream["community"], rule + "set community replace no-export"]
    if out is None:
        found.append(where + " route-map export TO-%s" % upstream["name"])
    return found


def _sets(said, community):
    texts = {community, "blackhole"} if community == "65535:666" else {community}
    return any(words[:2] == ("set", "community") and words[2:3] in (("replace",), ("add",)) and texts.intersection(words[3:])
               for words in said)


# -- the platform ----------------------------------------------------------------------------------------------------


class Vyos(VendorDriver):
    """One connection to one VyOS router."""

    name = NAME
    DEVICE_TYPE = "vyos"
    GRAMMAR = GRAMMAR
    ALLOWED = '"'
    PROMPT = r"(?::[^\s$#>]{0,60})?[$#>] ?"
    PORT, PORT_IS = _vyos_ports.PORT, _vyos_ports.PORT_IS
    announces = True
    _seen = _plain = _slots = MappingProxyType({})

    def __init__(self, target):
        super().__init__(target)
        self._reload = self._armed = self._looked = False
        self._rows, self._ports, self._drops, self._lacking = {}, {}, {}, None

    def _connect(self):
        return Cli(self.target, self.DEVICE_TYPE, self.PROMPT, _login)

    # -- reading

    def observe(self, desired):
        """What the router has, for `_plan.plan`."""
        seen = super().observe(desired)
        return dict(seen, ports=self._ports, drops=self._drops)

    def _look(self, desired):
        timer = self._read(TIMER, parse_timer)
        # What this connection entered needs no telling whose it is.
        user = self.target.user if timer and self.waiting else self._read(ENTRY, parse_entry) if timer else None
        self.waiting = timer and user == self.target.user
        self.foreign_wait = (user or "somebody") if timer and not self.waiting else None
        lines = self._read(RUNNING, parse_commands)
        self._reload = takes_back_by_reload(lines)
        if not self._looked:
            self._looked = True
            self._compare_saved(lines, desired)
            if not self._reload:
                self.notes.append("%s: it would take an unconfirmed change back by a reboot, so changes are committed without a "
                                  "timer. See docs/routers.md: commit-confirm action reload." % self.target.name)
        statics = self._understood(RUNNING, lambda: parse_statics(lines))
        self._seen = by_prefix(statics)
        rib, occupied, used = {}, {}, []
        for version in (4, 6):
            found = self._read(_ROUTES[version], parse_routes)
            used += [(prefix, hop.get("ip"), hop.get("interfaceName")) for kind in ("static", "kernel")
                     for prefix, routes in found[kind].items() for route in routes for hop in route.get("nexthops") or ()]
            rib.update({prefix: _frr.in_use(routes) for prefix, routes in found["static"].items()})
            occupied.update({prefix: "a %s route for it" % kind for kind in ("kernel", "connected") for prefix in found[kind]})
        own = [(address, None) for _name, address in self._read(INTERFACES, _frr.parse_interfaces)]
        peers = parse_peers(lines)
        self._lacking = _vyos_ports.missing(lines)
        self._ports = self._on_ports(desired, lines, used, peers)
        self._drops, numbers = self._understood(RUNNING, lambda: _vyos_drops.parse(lines, self._lacking is None))
        self._drop_slots = _vyos_drops.slots([drop["key"] for drop in desired["drops"]], self._drops, numbers)
        return {"statics": statics, "rib": rib, "occupied": occupied, "peers": peers,
                "own": own + [(address, None) for address in parse_own(lines)],
                "rtbh": self._announcements(desired, missing_for_rtbh(lines, desired["settings"]["rtbh"]))
                if desired["settings"].get("rtbh") else None}

    def _on_ports(self, desired, lines, used, peers):
        """What is on ports and what would be, for `_ports.plan_ports`."""
        self._rows, self._plain, numbers = _vyos_ports.parse(lines)
        self._slots = _vyos_ports.slots([port["interface"] for port in desired["ports"]], self._plain, numbers)
        seen = {name: {"wanted": None, "found": rows, "objection": None} for name, rows in self._rows.items()}
        for port in desired["ports"]:
            wanted = _vyos_ports.rules(port)
            why = _vyos_ports.objection(port, lines, used, peers, desired["settings"].get("uplinks", ()))
            if why is None and any(line.startswith("firewall ") for line in wanted):
                why = self._lacking
            seen[port["interface"]] = {"wanted": wanted, "found": self._rows.get(port["interface"]), "objection": why}
        return seen

    def _compare_saved(self, lines, desired):
        saved = self._read(SAVED, parse_commands)
        marks = {str(desired["settings"]["mark"])}
        marks |= {str(desired["settings"]["rtbh"]["tag"])} if desired["settings"].get("rtbh") else set()
        changed = set(lines) ^ set(saved)
        mine = {words for words in changed if words[:2] == ("protocols", "static") and words[4:6] == ("blackhole", "tag")
                and words[-1] in marks or _vyos_ports.is_ours(words)
                or _vyos_drops.is_ours(words)}
        self.unsaved = bool(mine)
        if changed - mine:
            self.notes.append("%s: running and saved configuration differ already; saving (save: always) keeps those edits too."
                              % self.target.name)

    def _sessions(self, version):
        peers = self._read(SUMMARY, _frr.parse_summary)
        return {peer for peer in peers if peers[peer] and is_address(peer) and ipaddress.ip_address(peer).version == version}

    def _told(self, prefix, version, rtbh, _up):
        said = self._read('vtysh -c "show bgp ipv%d unicast %s json"' % (version, prefix), _frr.parse_bgp)
        return {"to": said["to"], "trigger": bool(_frr.community_texts(rtbh["trigger"]).intersection(said["communities"]))}

    # -- building

    def commands(self, change):
        """Lines of one change."""
        if "port" in change:
            return _vyos_ports.commands(change["wanted"] or (), self._plain.get(change["port"], ()), self._slots[change["port"]])
        if "drop" in change:
            return _vyos_drops.commands(change, self._drop_slots[change["drop"]])
        return super().commands(change)

    def _lines(self, action, prefix, mark, there):
        network = checked_route(prefix, mark)
        path = "protocols static %s %s" % ("route" if network.version == 4 else "route6", network)
        if action == "remove":
            # Without the node above an empty route would stay; with it, whatever else is on it would go.
            return ["delete " + path + (" blackhole" if len(self._seen.get(prefix, ())) > 1 else "")]
        return ["set %s blackhole tag %d" % (path, mark)]

    # -- changing

    def apply(self, lines, groups):
        """As everywhere; drops that no packet would come by are refused, what is there may always go."""
        idle = {group for group, line in zip(groups, lines, strict=True) if group.startswith("drop ") and line.startswith("set ")}
        if not self._lacking or not idle:
            return super().apply(lines, groups)
        rest = [index for index, group in enumerate(groups) if group not in idle]
        refused = {index: self._lacking for index, group in enumerate(groups) if group in idle}
        done = super().apply([lines[index] for index in rest], [groups[index] for index in rest]) if rest else {}
        return {**refused, **{rest[index]: said for index, said in done.items()}}

    def _complaint(self, said):
        said = super()._complaint(without_levels(said))
        return "" if _BENIGN.search(said) else said

    def _configure(self):
        said = without_levels(self._ask("configure"))
        if said:
            raise self.refused("it does not enter configuration mode", said)

    def _begin(self):
        self._configure()
        line = "run " + RUNNING
        lines = self._read(line, lambda text: parse_commands(without_levels(text)))
        if by_prefix(self._understood(line, lambda: parse_statics(lines))) != self._seen:
            # Deleting takes all of a route: somebody's next hop, entered since it was read, would go too.
            raise self.target.error("busy", "its static routes were edited by somebody else just now.", "Run again.", retryable=True)

    def _abandon(self):
        if self._armed:
            self._armed = False
            self._ask("confirm")  # or it would reload what is there, for a change that isn't
        self._ask("exit discard")

    def _commit(self):
        if self._reload:
            said = self._ask("commit-confirm %d" % self.minutes, _QUESTION)
            if "Another confirm is pending" in said:
                raise self.target.error("busy", "a change of somebody else waits to be confirmed there.",
                                        "Confirm it or let it lapse, then run again.", retryable=True)
            if "automatically reload" not in said:
                if "automatically reboot" in said:
                    self._ask("n")
                return without_levels(said) or "it does not take commit-confirm"
            self._armed = True
            said = self._ask("y")
        else:
            said = self._ask("commit")
        if "temporarily locked" in said:
            raise self.target.error("busy", "another commit is in progress.", "Try again.", retryable=True)
        left = self._ask("compare")
        if _SAME not in left:
            return without_levels(said) or without_levels(left) or "the change is not committed"
        self.waiting, self._armed = self._reload, False
        self._ask("exit discard")
        return None

    def _confirm(self):
        self._configure()
        said = self._ask("confirm")
        self._ask("exit discard")
        if "timer stopped" not in said:
            raise self.refused("it does not confirm", without_levels(said), "not_confirmed")

    def save(self):
        """Write the running configuration to where a restart reads it; all of it, others' edits too."""
        self._configure()
        said = self._ask("save")
        self._ask("exit discard")
        # What it prints differs between releases: what lies there decides.
        try:
            lines = parse_commands(self._ask(SAVED))
            kept = by_prefix(parse_statics(lines)), _vyos_ports.parse(lines)[0], _vyos_drops.parse(lines, self._lacking is None)[0]
        except NotUnderstood:
            kept = None
        if kept != (self._seen, self._rows, self._drops):
            raise self.refused("it did not save", without_levels(said), "not_saved",
                               "The routes act, but a restart forgets them. Check disk and rights on the router.")
