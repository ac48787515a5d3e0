# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Juniper Junos. PRIVATE to the collection. Never tried on a device.

`configure exclusive` (a private copy can't be committed "confirmed"), `commit check`, `commit confirmed`, read back,
`commit`. `show system commit` keeps the words "commit confirmed, rollback in" on an entry for good; only the line
"rollback pending" under entry 0 says that it still waits. `delete` of a route deletes all of it, so only a route with
nothing on it but what we set is ever ours.
"""
from __future__ import annotations

import contextlib
import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate, _junos_drops, _junos_ports
from ansible_collections.hosting.aup.plugins.plugin_utils._router._running_bgp import community_texts
from ansible_collections.hosting.aup.plugins.plugin_utils._router._driver import VendorDriver, announces_now
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, parse_json

NAME = "junos"
COMMENT = "hosting-aup"
SET, JSON = " | display set", " | display json"
_WHERE = r"(?:routing-options static route %s|routing-options rib inet6\.0 static route %s)" % (_gate.PREFIX4, _gate.PREFIX6)
GRAMMAR = tuple(re.compile(text) for text in (
    r"set %s (?:discard|tag %s)" % (_WHERE, _gate.NUMBER), r"delete %s" % _WHERE,
    r"show configuration (?:routing-options|interfaces|protocols(?: bgp)?|policy-options|firewall|routing-instances) \| display set",
    r"show bgp summary \| display json",
    r"show route advertising-protocol bgp %s %s exact detail \| display json" % (_gate.IPV4, _gate.PREFIX4),
    r"show route advertising-protocol bgp [0-9a-f:]{2,39} %s exact detail \| display json" % _gate.PREFIX6,
    r"show route protocol static \| display json", r"show system commit",
    r"configure exclusive", r"commit check", r"commit", r"commit confirmed [1-9][0-9]? comment %s" % COMMENT,
    r"rollback 0", r"exit configuration-mode",
))
_BANNER = re.compile(r"^(?:\[edit[^\]\n]*\]|\{[a-z0-9:_-]+\}(?:\[edit[^\]\n]*\])?|)\s*$")
_STATIC = re.compile(r"(set|deactivate|protect) routing-options (?:rib (\S+) )?static route (\S+)(?: (.*))?")
_ENTRY = re.compile(r"\s*([0-9]+)\s+[0-9]{4}-[0-9]{2}-[0-9]{2} .* by (\S+) via .*")


def addresses_in(text):
    """Every address that stands in a text as a word, with its network if it has a length: `[(address, network)]`."""
    found = []
    for word in re.split(r"[\s;,\"']+", text):
        with contextlib.suppress(ValueError):
            if "." in word or ":" in word:
                interface = ipaddress.ip_interface(word)
                found.append((str(interface.ip), str(interface.network) if "/" in word else None))
    return found


def where(network):
    """The path of a static route."""
    table = "static" if network.version == 4 else "rib inet6.0 static"
    return "routing-options %s route %s" % (table, network)


def without_banners(text):
    """An answer without the lines that belong to the prompt."""
    return "".join(line + "\n" for line in text.splitlines() if not _BANNER.match(line))


def parse_set(text):
    """Lines of `display set`.

    :raises NotUnderstood: a line that is none
    """
    lines = [line.strip() for line in without_banners(text).splitlines()]
    for line in lines:
        if line.split(" ")[0] not in ("set", "deactivate", "protect"):
            raise NotUnderstood("no configuration line: %s" % ascii(line[:80]))
    return lines


def parse_statics(text):
    """Static routes of the main tables, from `show configuration routing-options | display set`."""
    found = {}
    for line in parse_set(text):
        if " static route " not in line or line.split(" ")[1] != "routing-options":
            continue
        match = _STATIC.fullmatch(line)
        if not match:
            raise NotUnderstood("static route %s" % ascii(line[:100]))
        verb, table, prefix, rest = match.groups()
        try:
            network = ipaddress.ip_network(prefix)
        except ValueError as exc:
            raise NotUnderstood("static route %s" % ascii(line[:100])) from exc
        if table not in (None, "inet.0", "inet6.0"):
            continue
        entry = found.setdefault((str(network), table), {"said": [], "prefix": str(network), "table": table})
        entry["said"].append((verb, rest or ""))
    return [_static(entry) for entry in found.values()]


def _static(entry):
    network = ipaddress.ip_network(entry["prefix"])
    said = [rest for verb, rest in entry["said"] if verb == "set"]
    tags = [int(rest.split()[1]) for rest in said if re.fullmatch(r"tag [0-9]+", rest)]
    usual = entry["table"] == ("inet6.0" if network.version == 6 else None)
    exact = usual and len(said) == len(entry["said"]) == 2 and "discard" in said and len(tags) == 1
    hops = [address for rest in said if rest.startswith(("next-hop", "qualified-next-hop"))
            for address, _network in addresses_in(rest)]
    return {"prefix": entry["prefix"], "blackhole": "discard" in said, "mark": tags[0] if len(tags) == 1 else None,
            "exact": exact, "hops": hops,
            "line": "static route %s%s %s" % ("rib %s " % entry["table"] if entry["table"] else "", entry["prefix"],
                                              " ".join(sorted(rest for _verb, rest in entry["said"])))}


def own_in(lines):
    """Addresses on interfaces: every address their configuration names."""
    return [pair for line in lines for pair in addresses_in(line)]


def peers_in(lines):
    """BGP neighbors."""
    found = []
    for line in lines:
        words = line.split()
        found += [words[at + 1] for at, word in enumerate(words[:-1]) if word == "neighbor" and addresses_in(words[at + 1])]
    return sorted(set(found))


def active(lines):
    """The `set` lines that act: without what is deactivated."""
    off = [line.split(" ", 1)[1] for line in lines if line.startswith("deactivate ")]
    return [line[4:] for line in lines if line.startswith("set ")
            and not any(line[4:] == path or line[4:].startswith(path + " ") for path in off)]


def missing_for_rtbh(policies, bgp, rtbh):
    """`{"4": lines, "6": lines}` that announcing needs and the router lacks.

    A neighbor's own `export` stands instead of its group's, and that instead of all neighbors'.

    :param policies: lines of `policy-options`; bgp: of `protocols bgp`, both as `active` gives them
    """
    members, terms, exports, group_of = {}, {}, {}, {}
    for words in map(str.split, policies):
        if words[1:2] == ["community"] and words[3:4] == ["members"]:
            members.setdefault(words[2], set()).update(words[4:])
        elif words[1:2] == ["policy-statement"] and words[3:4] == ["term"]:
            terms.setdefault((words[2], words[4]), set()).add(" ".join(words[5:]))
    for words in map(str.split, bgp):
        if words[2:3] == ["group"] and words[4:5] == ["neighbor"] and addresses_in(words[5]):
            group_of[str(ipaddress.ip_address(words[5]))] = words[3]
        if "export" in words[:-1]:
            at = words.index("export")
            exports.setdefault(" ".join(words[:at]), []).append(words[at + 1])
    good = {(policy, name) for policy, name in terms for community in members
            if {"from tag %d" % rtbh["tag"], "then accept"} <= terms[policy, name]
            and {"then community add " + community, "then community set " + community} & terms[policy, name]}
    missing = {"4": [], "6": []}
    for upstream in rtbh["upstreams"]:
        for peer in upstream["neighbors"]:
            found = missing[str(ipaddress.ip_address(peer).version)]
            group = group_of.get(peer)
            if group is None:
                found.append("# BGP has no neighbor %s (rtbh.upstreams of the catalogue)" % peer)
                continue
            levels = ["protocols bgp group %s neighbor %s" % (group, peer), "protocols bgp group %s" % group, "protocols bgp"]
            level = next((level for level in levels if level in exports), levels[1])
            texts = community_texts(upstream["community"])
            right = {name for name, said in members.items() if said & texts}
            if any(policy in exports.get(level, ()) and any("then community %s %s" % (verb, name) in terms[policy, term]
                                                            for verb in ("add", "set") for name in right)
                   for policy, term in good):
                continue
            found += _wanted_policy(rtbh, upstream, level, exports.get(level))
    for version, found in missing.items():
        if not any(ipaddress.ip_address(peer).version == int(version) for up in rtbh["upstreams"] for peer in up["neighbors"]):
            found.append("# the catalogue names no IPv%s neighbor of an upstream (rtbh.upstreams)" % version)
    return {version: list(dict.fromkeys(found)) for version, found in missing.items()}


def _wanted_policy(rtbh, upstream, level, there):
    name = "%s-%s" % (rtbh["route_map"], upstream["name"])
    term = "set policy-options policy-statement %s term rtbh " % name
    lines = ["set policy-options community %s members [ %s no-export ]" % (name, upstream["community"]),
             term + "from protocol static", term + "from tag %d" % rtbh["tag"], term + "then community add %s" % name,
             term + "then accept", "set %s export %s" % (level, name)]
    return lines + (["insert %s export %s before %s" % (level, name, there[0])] if there else [])


def parse_summary(text):
    """BGP neighbors with a session."""
    try:
        (about,) = parse_json(without_banners(text))["bgp-information"]
        return {str(ipaddress.ip_address(_text(peer, "peer-address").partition("+")[0])) for peer in about.get("bgp-peer", ())
                if _text(peer, "peer-state") == "Established"}
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("BGP summary: %s" % exc) from exc


def parse_advertised(text):
    """Communities with which a neighbor is told of a prefix; None when it isn't told.

    Nothing at all is taken for "not told": that is reported as a failure, never as done.
    """
    if not without_banners(text).strip():
        return None
    try:
        found = [entry for info in parse_json(without_banners(text))["route-information"]
                 for table in info.get("route-table", ()) for route in table.get("rt", ()) for entry in route["rt-entry"]]
        if not found:
            return None
        return sorted({str(one["data"]) for entry in found for group in entry.get("communities", ()) for one in group["community"]})
    except (KeyError, TypeError, AttributeError) as exc:
        raise NotUnderstood("advertised route: %s" % exc) from exc


def _text(element, name):
    """The text of a child; Junos puts every element into a list and every text under `data`."""
    try:
        children = element[name]
        if len(children) != 1 or set(children[0]) - {"data", "attributes"}:
            raise NotUnderstood("%s in a route" % name)
        return str(children[0].get("data", ""))
    except (KeyError, TypeError, AttributeError) as exc:
        raise NotUnderstood("%s is missing in a route" % name) from exc


def parse_rib(text):
    """`{prefix: {"blackhole", "installed"}}` of the static routes in inet.0 and inet6.0."""
    rib = {}
    try:
        for table in (table for info in parse_json(without_banners(text))["route-information"]
                      for table in info.get("route-table", ())):
            if _text(table, "table-name") not in ("inet.0", "inet6.0"):
                continue
            for route in table.get("rt", ()):
                prefix = str(ipaddress.ip_network(_text(route, "rt-destination")))
                for entry in route["rt-entry"]:
                    active = "active-tag" in entry and _text(entry, "active-tag") == "*"
                    drops = "nh-type" in entry and _text(entry, "nh-type") == "Discard"
                    if _text(entry, "protocol-name") != "Static":
                        raise NotUnderstood("a route that is not static")
                    rib[prefix] = {"blackhole": drops and active, "installed": drops and active}
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("routes: %s" % exc) from exc
    return rib


def parse_waiting(text):
    """Who waits to confirm a commit: None, or `(user, comment)`."""
    entries = []
    for line in without_banners(text).splitlines():
        match = _ENTRY.fullmatch(line)
        if match:
            entries.append((int(match.group(1)), match.group(2), []))
        elif line.startswith("rescue ") or not entries:
            if not line.startswith("rescue "):
                raise NotUnderstood("commit history: %s" % ascii(line[:80]))
        else:
            entries[-1][2].append(line.strip())
    if not entries or entries[0][0] != 0:
        raise NotUnderstood("commit history without its newest entry")
    _number, user, below = entries[0]
    if "rollback pending" not in [line.lower() for line in below]:
        return None
    return user, " ".join(line for line in below if line.lower() != "rollback pending")


class Junos(VendorDriver):
    """One connection to one Junos router."""

    name = NAME
    announces = True
    DEVICE_TYPE = "juniper_junos"
    GRAMMAR = GRAMMAR + _junos_ports.GRAMMAR + _junos_drops.GRAMMAR
    DROPS = _junos_drops
    PORT, PORTS = _junos_ports.PORT, _junos_ports
    PORT_IS = "a unit like ge-0/0/1.100"
    TAILS = (SET, JSON)
    PROMPT = r"[#>] ?"

    def _look(self, desired):
        wait = self._read("show system commit", parse_waiting)
        self.waiting = wait is not None and wait[1] == COMMENT
        self.foreign_wait = wait[0] if wait and not self.waiting else None
        statics = self._read("show configuration routing-options" + SET, parse_statics)
        rib = self._read("show route protocol static" + JSON, parse_rib)
        configured = {entry["prefix"] for entry in statics}
        bgp = self._read("show configuration protocols bgp" + SET, parse_set)
        rtbh, announced = desired["settings"].get("rtbh"), None
        policies = self._read("show configuration policy-options" + SET, parse_set)
        if rtbh and announces_now(desired):
            announced = self._announcements(desired, missing_for_rtbh(active(policies), active(bgp), rtbh))
        interfaces = self._read("show configuration interfaces" + SET, parse_set)
        return {"statics": statics, "rib": rib, "own": own_in(interfaces),
                **self._filtered(desired, policies, interfaces, statics, peers_in(bgp)),
                "peers": peers_in(bgp), "rtbh": announced,
                # From a configuration group: not among the routes above, and in use all the same.
                "occupied": {prefix: "a static route from elsewhere in its configuration" for prefix in rib
                             if prefix not in configured}}

    def _filtered(self, desired, policies, interfaces, statics, peers):
        firewall = self._read("show configuration firewall" + SET, parse_set)
        protocols, instances = [], []
        if desired["ports"]:
            protocols = self._read("show configuration protocols" + SET, parse_set)
            instances = self._read("show configuration routing-instances" + SET, parse_set)
        drops, objections = _junos_drops.look(active(policies), active(firewall), active(interfaces), desired.get("drops", ()))
        return {"drops": drops, "drop_objections": objections, "ports": _junos_ports.look(
            *(active(lines) for lines in (interfaces, firewall, protocols, instances)), desired["ports"], desired["settings"], statics, peers)}

    @staticmethod
    def _names(group):
        """How a complaint names a group: Junos writes `ge-0/0/1 unit 100` for ge-0/0/1.100."""
        name = group.partition(" ")[2] or group
        return [name, _junos_ports.unit(name).partition(" ")[2]] if group.startswith("port ") else [name]

    def _sessions(self, _version):
        return self._read("show bgp summary" + JSON, parse_summary)

    def _told(self, prefix, version, rtbh, up):
        told, wrong = [], {}
        for upstream, peer in self._peers(rtbh, version, up):
            line = "show route advertising-protocol bgp %s %s exact detail%s" % (peer, prefix, JSON)
            communities = self._read(line, parse_advertised)
            if communities is None:
                continue
            told.append(peer)
            if not community_texts(upstream["community"]).intersection(communities):
                wrong[peer] = upstream["community"]
        # The static route itself is what is announced: there is no entry of its own that could lack the trigger.
        return {"to": told, "trigger": True, "wrong": wrong}

    def _lines(self, action, prefix, mark, _there):
        path = where(checked_route(prefix, mark))
        if action == "remove":
            return ["delete " + path]
        return ["set %s discard" % path, "set %s tag %d" % (path, mark)]

    def _mark_of(self, line):
        return int(re.search(r" tag ([0-9]+)", line).group(1))

    def _complaint(self, said):
        return super()._complaint(without_banners(said))

    def _begin(self):
        said = self._ask("configure exclusive")
        if "database modified" in said:
            raise self.target.error("busy", "somebody's uncommitted edits lie in its configuration.",
                                    "They must be committed or dropped first.", retryable=True)
        if "Entering configuration mode" not in said or "error:" in said:
            raise self.refused("it does not enter configuration mode", said)

    def _abandon(self):
        self._ask("rollback 0")
        self._ask("exit configuration-mode")

    def _commit(self):
        said = self._ask("commit check")
        if "configuration check succeeds" not in said or "error:" in said:
            return said
        # From here on it may act, whatever becomes of the answer.
        said = self._ask("commit confirmed %d comment %s" % (self.minutes, COMMENT))
        if "commit complete" not in said or "error:" in said:
            return said
        self.waiting = True
        self._ask("exit configuration-mode")
        return None

    def _confirm(self):
        self._begin()
        said = self._ask("commit")
        self._ask("exit configuration-mode")
        if "commit complete" not in said or "error:" in said:
            raise self.refused("it does not confirm", said, "not_confirmed")
