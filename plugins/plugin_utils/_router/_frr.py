# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""FRR through vtysh. PRIVATE to the collection.

FRR has no candidate and no confirmation: a line acts when it is entered, and undoing is the inverse line. What
makes that safe is what is seen here and nowhere documented (8.4.4): a `no` with the wrong tag deletes anyway, a
new tag silently replaces the old one, host bits are silently masked. So every line names a canonical host route
that was read a moment ago, and every one is read back.
"""
from __future__ import annotations

import ipaddress
import re

from ansible_collections.hosting.aup.plugins.plugin_utils._router import _gate
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Cli, RouterError
from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood, checked_route, is_address, json_documents, understood

NAME = "frr"
DEVICE_TYPE = "cisco_ios"
_ERROR = re.compile(r"^\s*(%.*|Error.*|BGP is already running.*|.*[Cc]onfiguration failed.*)$", re.MULTILINE)
GRAMMAR = tuple(re.compile(text) for text in (
    r"(?:no )?ip route %s blackhole tag %s" % (_gate.PREFIX4, _gate.NUMBER),
    r"(?:no )?ipv6 route %s blackhole tag %s" % (_gate.PREFIX6, _gate.NUMBER),
    r"show running-config", r"show interface json", r"show (?:ip|ipv6) route (?:static|kernel|connected) json",
    r"show bgp summary json", r"show bgp ipv4 unicast %s json" % _gate.PREFIX4,
    r"show bgp ipv6 unicast %s json" % _gate.PREFIX6,
    r"configure terminal", r"end", r"write memory",
))
FAMILIES = {4: "ip", 6: "ipv6"}
_VRF = re.compile(r"vrf (\S+)")


def route_line(prefix, tag):
    """The configuration line of a null route.

    :raises ValueError: no canonical prefix, or a tag out of range
    """
    network = checked_route(prefix, tag)
    return "%s route %s blackhole tag %d" % (FAMILIES[network.version], prefix, tag)


def commands(change):
    """The configuration lines of one change."""
    if change["action"] == "add":
        return [route_line(change["prefix"], change["mark"])]
    return ["no " + route_line(change["prefix"], change["mark"])]


def undo(change):
    """The lines that put back what was there before a change."""
    if change["action"] == "remove" or change["before"]:
        return list(change["before"])
    return ["no " + route_line(change["prefix"], change["mark"])]


# -- strict parsers --------------------------------------------------------------------------------------------------


def check_answer(text):
    """The text, unless it is the router's complaint."""
    found = _ERROR.search(text)
    if found:
        raise NotUnderstood("it complained: %s" % found.group(1).strip()[:120])
    return text


def parse_json(text):
    """One JSON document; a list when several daemons answered with one each."""
    documents = json_documents(check_answer(text))
    if not documents:
        raise NotUnderstood("no JSON at all")
    return documents[0] if len(documents) == 1 else documents


def parse_running(text):
    """`{"statics": [...], "lines": [...]}` of a whole running configuration.

    A static route is `{"prefix", "target", "tag", "distance", "exact", "line"}`.

    :raises NotUnderstood: cut short, or a static route of unknown form
    """
    lines = text.rstrip().splitlines()
    if not lines or "Building configuration..." not in lines[0] or lines[-1].strip() != "end":
        raise NotUnderstood("the running configuration is not whole")
    statics, vrf = [], None
    for line in lines:
        found = _VRF.fullmatch(line)
        if found:
            vrf = found.group(1)
        elif line.startswith("exit-vrf"):
            vrf = None
        words = line.split()
        if words[:2] in (["ip", "route"], ["ipv6", "route"]) and vrf is None and not line.startswith(" "):
            statics.append(_static(line, words))
    return {"statics": statics, "lines": lines}


def _static(line, words):
    try:
        network = ipaddress.ip_network(words[2])
        target, rest = words[3], words[4:]
        tag = distance = None
        other = []
        while rest:
            if rest[0] == "tag":
                tag, rest = int(rest[1]), rest[2:]
            elif rest[0].isdigit():
                distance, rest = int(rest[0]), rest[1:]
            elif target == "blackhole":
                raise ValueError(rest[0])
            else:
                other.append(rest[0])
                rest = rest[1:]
    except (ValueError, IndexError) as exc:
        raise NotUnderstood("static route %r" % line[:100]) from exc
    return {"prefix": str(network), "target": target, "tag": tag, "distance": distance, "line": line, "other": other,
            "exact": target == "blackhole" and distance is None and not other}


def parse_rib(text):
    """`{prefix: [routes]}` of `show ip route … json`."""
    document = parse_json(text)
    if not isinstance(document, dict):
        raise NotUnderstood("routes are no mapping")
    try:
        return {str(ipaddress.ip_network(prefix)): [dict(route) for route in routes]
                for prefix, routes in document.items()}
    except (ValueError, TypeError) as exc:
        raise NotUnderstood("routes: %s" % exc) from exc


def parse_interfaces(text):
    """`[(interface, address)]` of `show interface json`."""
    document = parse_json(text)
    try:
        return [(name, str(ipaddress.ip_interface(entry["address"]).ip))
                for name, about in document.items() for entry in about.get("ipAddresses", ())]
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise NotUnderstood("interfaces: %s" % exc) from exc


def parse_summary(text):
    """`{peer: established}` of `show bgp summary json`."""
    document, peers = parse_json(text), {}
    try:
        for family in document.values():
            for peer, about in family.get("peers", {}).items() if isinstance(family, dict) else ():
                peers[peer] = about["state"] == "Established" and peers.get(peer, True)
    except (TypeError, KeyError, AttributeError) as exc:
        raise NotUnderstood("BGP summary: %s" % exc) from exc
    return peers


def parse_bgp(text):
    """`{"to": [peers], "communities": [...]}` of one prefix; both empty when BGP does not carry it."""
    document = parse_json(text)
    if document == {}:
        return {"to": [], "communities": []}
    try:
        communities = {text for path in document["paths"] for text in path.get("community", {}).get("list", ())}
        return {"to": sorted(document.get("advertisedTo", {})), "communities": sorted(communities)}
    except (TypeError, KeyError, AttributeError) as exc:
        raise NotUnderstood("BGP entry: %s" % exc) from exc


# -- what announcing needs, prepared by the operator -----------------------------------------------------------------


def _sections(lines):
    """{header line: its lines} of the configuration; route-map entries are headers too."""
    sections, header = {}, None
    for line in lines:
        if line.strip() in ("", "!", "exit", "end"):
            continue
        if not line.startswith(" "):
            header = line.strip()
            sections.setdefault(header, [])
        elif header is not None:
            sections[header].append(line.rstrip())
    return sections


def _families(bgp_lines):
    """{4: lines, 6: lines} of the address families inside `router bgp`."""
    found, family = {4: [], 6: []}, None
    for line in bgp_lines:
        text = line.strip()
        if text.startswith("address-family "):
            family = {"address-family ipv4 unicast": 4, "address-family ipv6 unicast": 6}.get(text)
        elif text == "exit-address-family":
            family = None
        elif family is not None:
            found[family].append(text)
    return found


def community_texts(community):
    """How FRR may print a community: well-known ones by name."""
    return {community} | ({"blackhole"} if community == "65535:666" else set())


def missing_for_rtbh(lines, rtbh):
    """`{"4": [...], "6": [...]}`: configuration lines that announcing needs and the router lacks.

    :param rtbh: the catalogue's `rtbh` of this router
    """
    sections = _sections(lines)
    bgp = next((header for header in sections if header.startswith("router bgp ")), None)
    if bgp is None:
        return {"4": ["router bgp <your AS>"], "6": ["router bgp <your AS>"]}
    families = _families(sections[bgp])
    entries = {}
    for header, body in sections.items():
        words = header.split()
        if words[0] == "route-map" and len(words) == 4 and words[2] == "permit":
            entries.setdefault(words[1], []).append([line.strip() for line in body])
    missing = {}
    for version, family in ((4, "ipv4"), (6, "ipv6")):
        peers = [(upstream, peer) for upstream in rtbh["upstreams"] for peer in upstream["neighbors"]
                 if ipaddress.ip_address(peer).version == version]
        found, inside = [], []
        tagged = [body for body in entries.get(rtbh["route_map"], ()) if "match tag %d" % rtbh["tag"] in body]
        if not any(_sets(body, rtbh["trigger"]) for body in tagged):
            found += ["route-map %s permit 10" % rtbh["route_map"], " match tag %d" % rtbh["tag"],
                      " set community %s" % rtbh["trigger"], "exit"]
        if "redistribute static route-map %s" % rtbh["route_map"] not in families[version]:
            inside.append("  redistribute static route-map %s" % rtbh["route_map"])
        for upstream, peer in peers:
            if "neighbor %s activate" % peer not in families[version]:
                inside.append("  neighbor %s activate" % peer)
            if "no neighbor %s send-community" % peer in families[version]:
                inside.append("  neighbor %s send-community" % peer)
            out = next((line.split()[3] for line in families[version]
                        if line.startswith("neighbor %s route-map " % peer) and line.endswith(" out")), None)
            if out is None or not any(_sets(body, upstream["community"]) for body in entries.get(out, ())):
                name = out or "TO-%s" % upstream["name"]
                found += ["route-map %s permit 10" % name, " match community <list of %s>" % rtbh["trigger"],
                          " set community %s no-export" % upstream["community"], "exit"]
            if out is None:
                inside.append("  neighbor %s route-map TO-%s out" % (peer, upstream["name"]))
        if not peers:
            found.append("! the catalogue names no IPv%d neighbor of an upstream (rtbh.upstreams)" % version)
        if inside:
            found += [bgp, " address-family %s unicast" % family, *inside, " exit-address-family", "exit"]
        missing[str(version)] = found
    return missing


def _sets(body, community):
    texts = community_texts(community)
    return any(line.startswith("set community ") and texts.intersection(line.split()[2:]) for line in body)


# -- the platform ----------------------------------------------------------------------------------------------------


class Frr:
    """One connection to one FRR."""

    name = NAME
    announces = True
    apart = frozenset()
    MARK = ("tag", 1, 4294967295, 41666)
    """The option that marks a route as ours: name, least, most, default."""
    waiting = unsaved = False
    notes = missing = ()
    PORT = r"[A-Za-z_][A-Za-z0-9_.-]{0,14}"
    PORT_IS = "the name of an interface (up to 15 characters)"

    def __init__(self, target):
        self.target = target
        self.cli = Cli(target, DEVICE_TYPE)

    def close(self):
        """Leave the router."""
        self.cli.close()

    def _ask(self, line):
        return self.cli.ask(_gate.pass_line(line, GRAMMAR))

    def _read(self, line, parse):
        """A show command's answer, understood or refused."""
        text = self._ask(line)
        return understood(self.target, line, lambda: parse(text))

    def observe(self, desired):
        """What the router has, for `_plan.plan`."""
        settings = desired["settings"]
        running = self._read("show running-config", parse_running)
        ours = {settings["mark"]} | ({settings["rtbh"]["tag"]} if settings.get("rtbh") else set())
        routes = [{"prefix": s["prefix"], "blackhole": s["target"] == "blackhole", "mark": s["tag"], "exact": s["exact"],
                   "ours": s["exact"] and s["tag"] in ours, "line": s["line"]} for s in running["statics"]]
        rib, occupied = {}, {}
        for family in FAMILIES.values():
            for prefix, found in self._read("show %s route static json" % family, parse_rib).items():
                rib[prefix] = in_use(found)
            for kind in ("kernel", "connected"):
                for prefix in self._read("show %s route %s json" % (family, kind), parse_rib):
                    occupied[prefix] = "a %s route for it" % kind
        taken = [{"prefix": address, "what": "the router's own address %s on %s" % (address, interface)}
                 for interface, address in self._read("show interface json", parse_interfaces)]
        taken += [{"prefix": s["target"], "what": "the next hop %s of %s" % (s["target"], s["prefix"])}
                  for s in running["statics"] if is_address(s["target"])]
        peers = {}
        if any(line.startswith("router bgp ") for line in running["lines"]):
            peers = self._read("show bgp summary json", parse_summary)
        taken += [{"prefix": peer, "what": "the BGP peer %s" % peer} for peer in peers if is_address(peer)]
        return {"routes": routes, "rib": rib, "occupied": occupied, "taken": taken,
                "rtbh": self._announcements(desired, running["lines"], peers) if settings.get("rtbh") else None}

    def _announcements(self, desired, lines, peers):
        rtbh = desired["settings"]["rtbh"]
        missing, announced = missing_for_rtbh(lines, rtbh), {}
        for route in desired["null_routes"]:
            version = ipaddress.ip_network(route["prefix"]).version
            if not route["rtbh"] or missing[str(version)]:
                continue
            said = self._read("show bgp ipv%d unicast %s json" % (version, route["prefix"]), parse_bgp)
            announced[route["prefix"]] = {
                "to": said["to"], "trigger": bool(community_texts(rtbh["trigger"]).intersection(said["communities"]))}
        return {"missing": missing, "announced": announced, "up": sorted(peer for peer in peers if peers[peer])}

    def commands(self, change):
        """Lines of one change."""
        return commands(change)

    def undo(self, change):
        """Lines that put back what was before a change."""
        return undo(change)

    def apply(self, lines, _groups=()):
        """Enter lines in configuration mode; `{index of a line: complaint}` of those refused.

        A refused line changes nothing; the others have acted, as on any FRR.
        """
        checked = [_gate.pass_line(line, GRAMMAR) for line in lines]
        refused = {}
        said = self._ask("configure terminal")
        if _ERROR.search(said):
            raise self.target.error("config_refused", "it does not enter configuration mode: %s" % said.strip()[:120],
                                    "Check the user's rights on the router.")
        try:
            for index, line in enumerate(checked):
                said = self.cli.ask(line).strip()
                if said and "Refusing to remove a non-existent route" not in said:
                    refused[index] = said[:200]
        finally:
            # A cut connection takes its configuration mode along; leaving it must not hide that.
            self._leave()
        return refused

    def _leave(self):
        try:
            self._ask("end")
        except RouterError as exc:
            if exc.code not in ("closed", "timeout"):
                raise

    def confirm(self):
        """Nothing to confirm: what was entered stays."""

    def save(self):
        """Write the running configuration to where a restart reads it; all of it, others' edits too."""
        said = self._ask("write memory")
        if "[OK]" not in said or _ERROR.search(said):
            raise self.target.error("not_saved", "it did not save: %s" % said.strip()[:120],
                                    "The routes act, but a restart forgets them. Check disk and rights on the router.")


def in_use(routes):
    """`{"blackhole", "installed"}` of one prefix' routes: whether a static null route is the one in use."""
    for route in routes:
        hops = route.get("nexthops") or ()
        if route.get("protocol") == "static" and route.get("selected") and any(hop.get("blackhole") for hop in hops):
            return {"blackhole": True, "installed": bool(route.get("installed"))}
    return {"blackhole": False, "installed": False}
