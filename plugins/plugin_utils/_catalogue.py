# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: what runs where, for whom and under which addresses. PRIVATE to the collection.

`load_catalogue` turns files into one normalised document, or refuses them with every problem it found;
`check_shrink` and `check_not_older` compare it with the one last released; `technical_slice` is what of it
may enter a release. The format is described in docs/services.md.
"""
from __future__ import annotations

import json
import os
import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_clusters as clusters
from ansible_collections.hosting.aup.plugins.plugin_utils import _catalogue_fields as fields
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_claims import (
    ADDRESS,
    FLOATING,
    SHARED,
    Claims,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_fields import Reader, Refused, described
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_files import extension, read_data, unchanged
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_mapping import Mapping
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_orders import creation, images, order, outside
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue_routers import (
    interface as router_interface,
    ports as router_ports,
    router,
)

FORMAT = 1
LISTED = 20

_TOP = frozenset(("format", "generated_at", "prefixes", "images", "nodes", "pools", "services", "services_from"))
_NODE = frozenset(("backend", "location", "pool", "uplinks", "bridges", "routed_interfaces", "address",
                   "router", "creation", "proxmox", "vars"))
_SERVICE = frozenset(("id", "customer", "account_type", "location", "node", "nodes", "pool", "guest", "nics",
                      "ports", "plan", "addons", "uses", "policy", "liable", "order", "contact", "terminated_on"))
_NIC = frozenset(("mac", "addresses", "prefixes", "shared", "floating"))
_SHARED_KEYS = frozenset(("address", "protocol", "ports"))
_LATEST = 253402300799  # the last second of the year 9999
# The CSV columns that are a field of the service as they stand.
_CSV_PLAIN = ("id", "customer", "account_type", "location", "node", "pool", "policy", "terminated_on")
_CSV_NICS = ("mac", "addresses", "prefixes", "shared", "floating")
CSV_COLUMNS = (*_CSV_PLAIN, "guest", "guest_uuid", *_CSV_NICS, "plan", "addons", "uses",
               "liable_name", "liable_contact", "contact")

_read = {}  # the catalogue read last: (path, mapping, directory) to (digests of its files, document)


def load_catalogue(path, mapping=None):
    """The catalogue in `path` as a normalised document.

    :param path: a `.yml`, `.yaml`, `.json` or `.csv` file; the first three may name another file of services
        (`services_from`), relative to themselves
    :param mapping: for a panel's export: the mapping, as a dict or as the path of its file
    :returns: `{"format", "generated_at", "prefixes", "nodes", "services"}`, plain data; the same for
        any order of the same entries. Do not change it: while the files hold the same text, a process
        reads them once
    :raises CatalogueError: the file can't be read, or problems in it: the first 20 are in the message, all in
        the error's `problems`
    """
    # The inventory plugin reads the catalogue before Ansible forks the worker that releases it.
    name = (os.path.abspath(path), mapping, os.getcwd()) if mapping is None or isinstance(mapping, str) else None
    if name in _read and unchanged(_read[name][0]):
        return _read[name][1]
    source = _Source(os.fspath(path), mapping)
    document, problems = _normalised(source)
    if problems:
        raise _refusal(source.path, problems)
    if name is not None:
        _read.clear()
        _read[name] = (source.seen, document)
    return document


def check_shrink(old, new, limit_fraction):
    """Refuse a catalogue that lost more services than the limit, or has none.

    Counted are the services of `old` that `new` has no more, whatever it has gained: an export that renumbers
    everything loses everything.

    :param old: the document last released, or None
    :param new: the document to be released
    :param limit_fraction: how much may go at once, 0 to 1 (of the old number of services)
    :raises CatalogueError: code `catalogue_empty` or `catalogue_shrank`
    """
    if not new["services"]:
        raise CatalogueError(
            "the catalogue has no services at all.", target="catalogue", code="catalogue_empty",
            remedy="Check the export that writes it. To take everything off a node, use the playbook retire.")
    before = old["services"] if old else {}
    gone = sorted(set(before) - set(new["services"]))
    if len(gone) > len(before) * limit_fraction:
        some = ", ".join(gone[:5]) + (", …" if len(gone) > 5 else "")
        raise CatalogueError(
            f"the catalogue lost {len(gone)} of {len(before)} services ({some}), which is more than the "
            f"limit of {limit_fraction * 100:g} %.", target="catalogue", code="catalogue_shrank",
            remedy="Check the export. If they really are gone, accept the loss for this one release: "
                   "-e aup_accept_shrink=true.")


def check_not_older(old, new):
    """Refuse a catalogue generated before the one last released. Undated ones (`generated_at` null) pass.

    :raises CatalogueError: code `catalogue_old`
    """
    if not old:
        return
    before, now = old.get("generated_at"), new.get("generated_at")
    if before is not None and now is not None and now < before:
        raise CatalogueError(
            f"the catalogue was generated at {iso(now)}, before the released one of {iso(before)}.",
            target="catalogue", code="catalogue_old",
            remedy="Fetch a new export. To go back on purpose, export the former state anew, or run "
                   "with -e aup_accept_older=true.")


def technical_slice(document):
    """What of a catalogue goes into a release: the same document without liable party, contact and the operator's variables.

    The customer stays as the opaque id it is. Of the node variables only those stay that say how to
    connect, none of which is a credential; others may be.
    """
    return {
        **document,
        "nodes": {
            name: {**node, "vars": {key: value for key, value in node["vars"].items() if key.startswith("ansible_")}}
            for name, node in document["nodes"].items()
        },
        "services": {
            name: {**{key: value for key, value in service.items() if key != "contact"}, "liable": None}
            for name, service in document["services"].items()
        },
    }


def _refusal(path, problems):
    count = len(problems)
    listed = "\n".join(f"  - {problem}" for problem in problems[:LISTED])
    more = f"\n  and {count - LISTED} more" if count > LISTED else ""
    error = CatalogueError(
        f"{path}: {count} problem{'s' if count > 1 else ''} in the catalogue; nothing was changed:\n"
        f"{listed}{more}\n", target=path,
        remedy="Correct the entries named, in the panel or the file. docs/services.md has the format.")
    error.problems = problems
    return error


class _Source:
    """The files of a catalogue, read: the top-level data and the raw services with their labels."""

    def __init__(self, path, mapping=None):
        self.path = path
        self.services_path = path
        self.expressions = None
        self.seen = {}  # digest of each file read
        self.top = {}
        self.entries = []  # (label, raw, problems of the mapping)
        self.problems = []
        if mapping is not None:
            self._mapped(path, mapping, os.curdir)
        elif extension(path) == "csv":
            raise CatalogueError(
                f"{path}: a CSV file carries services only; prefixes and nodes are missing.", target=path,
                remedy="Name it in a YAML catalogue (services_from: {file: …}), or give a mapping with "
                       "prefixes and nodes.")
        else:
            self._native(path)

    def _native(self, path):
        data = read_data(path, self.seen)
        if not isinstance(data, dict):
            raise CatalogueError(f"{path}: a catalogue is a mapping, found {described(data)}.", target=path,
                                 remedy="A panel's export needs a mapping; docs/services.md describes both.")
        reader = Reader(data, path, self.problems)
        reader.known(_TOP)
        if data.get("format", FORMAT) != FORMAT:
            reader.refuse("format", f"only {FORMAT} is read, found {described(data['format'])}")
        self.top = {key: data[key] for key in ("generated_at", "prefixes", "images", "nodes", "pools")
                    if data.get(key) is not None}
        if "services_from" not in data:
            self._list(data.get("services"), reader)
        elif "services" in data:
            reader.refuse("services_from", "stands beside `services`; keep one of them")
        else:
            self._elsewhere(reader)

    def _elsewhere(self, reader):
        inner = reader.inside("services_from", reader.raw["services_from"])
        if inner is None:
            return
        inner.known(("file", "mapping"))
        name = inner.need("file", fields.free_text)
        if name is None:
            return
        folder = os.path.dirname(self.path)
        path = os.path.join(folder, name)
        mapping = inner.raw.get("mapping")
        if mapping is not None:
            self._mapped(path, mapping, folder)
            return
        self.services_path = path
        data = read_data(path, self.seen)
        if extension(path) == "csv":
            self._rows(data)
            return
        other = Reader(data, path, self.problems)
        if isinstance(data, dict):
            other.known(("services", "generated_at"))
            self._merge({"generated_at": data.get("generated_at")}, path)
            self._list(data.get("services"), other)
        else:
            self._list(data, other)

    def _mapped(self, path, mapping, folder):
        """Services of a panel's export; a mapping file's path is relative to `folder`."""
        self.services_path = path
        named = f"the mapping of {path}"
        if not isinstance(mapping, dict):
            named = os.path.join(folder, os.fspath(mapping))
            mapping = read_data(named, self.seen)
        else:
            mapping = _plain(mapping, named)
        mapped = Mapping(mapping, named)
        self.expressions = mapped.expressions
        top, services = mapped.apply(read_data(path, self.seen), path)
        self._merge(top, named)
        for index, (raw, failed) in enumerate(services):
            label = f"{path}: entry {index + 1}"
            name = raw.get("id")
            if isinstance(name, (str, int)) and not isinstance(name, bool):
                label += f" (id {fields.shown(name)})"
            self.entries.append((label, raw, failed))

    def _merge(self, top, source):
        for key, value in top.items():
            if value is None:
                continue
            if key in self.top:
                self.problems.append(f"{source}: {key}: is given by {self.path} too; keep one of them")
            else:
                self.top[key] = value

    def _list(self, services, reader):
        if isinstance(services, dict):
            for name, raw in services.items():
                label = f"{reader.label}: service {fields.shown(name)}"
                if isinstance(raw, dict):
                    given = raw.get("id", name)
                    if str(given) != name:
                        self.problems.append(
                            f"{label}, id: {fields.shown(given)} is not the key it stands under")
                    raw = {**raw, "id": name}
                self.entries.append((label, raw, ()))
        elif isinstance(services, list):
            for index, raw in enumerate(services):
                name = raw.get("id") if isinstance(raw, dict) else None
                named = isinstance(name, (str, int)) and not isinstance(name, bool)
                label = f"service {fields.shown(name)}" if named else f"services[{index}]"
                self.entries.append((f"{reader.label}: {label}", raw, ()))
        elif services is None:
            reader.refuse("services", "is required")
        else:
            reader.refuse("services", f"a list, or a mapping by id, is expected, found {described(services)}")

    def _rows(self, rows):
        unknown = sorted(set(rows[0]) - set(CSV_COLUMNS)) if rows else []
        for name in unknown:
            self.problems.append(f"{self.services_path}, line 1: {name!r} is no column of a catalogue; "
                                 f"known are {', '.join(CSV_COLUMNS)}")
        for row in rows:
            label = f"{self.services_path}, line {row.line}"
            if row.get("id"):
                label += f": service {fields.shown(row['id'])}"
            failed = []
            self.entries.append((label, _csv_entry(row, failed), failed))


def _plain(mapping, source):
    """A mapping from an Ansible variable without Ansible's own types, which are lazy and carry tags."""
    try:
        return json.loads(json.dumps(mapping))
    except (TypeError, ValueError) as exc:
        raise CatalogueError(f"{source} holds a value that is neither text, number, list nor mapping: {exc}.",
                             target=source, remedy="Put dates and times into quotes.") from exc


def _csv_entry(row, failed):
    """A row of the documented columns as a raw service; (field, problem) pairs go to `failed`."""
    entry = {name: row.get(name) for name in _CSV_PLAIN}
    if row.get("guest") or row.get("guest_uuid"):
        entry["guest"] = {"name": row.get("guest"), "uuid": row.get("guest_uuid")}
    if row.get("liable_name") or row.get("liable_contact"):
        entry["liable"] = {"name": row.get("liable_name"), "contact": row.get("liable_contact")}
    if row.get("contact"):
        entry["contact"] = row["contact"]
    entry["addons"] = (row.get("addons") or "").split()
    for name in ("plan", "uses"):
        pairs = {}
        for part in (row.get(name) or "").split():
            key, equals, value = part.partition("=")
            if not equals or key in pairs:
                failed.append((name, f"{fields.shown(part)} is not key=value with a key of its own"))
            whole = name == "plan" and re.fullmatch(r"0|[1-9][0-9]{0,17}", value)
            pairs[key] = int(value) if whole else value
        entry[name] = pairs
    columns = {name: [part.strip() for part in (row.get(name) or "").split("|")] for name in _CSV_NICS}
    entry["nics"] = nics = []
    macs = columns["mac"] if row.get("mac") else []
    for name in _CSV_NICS[1:]:
        if len(columns[name]) > max(len(macs), 1) or (not macs and row.get(name)):
            failed.append((name, f"speaks of {len(columns[name])} NICs, the column mac of {len(macs)}"))
        columns[name] += [""] * (len(macs) - len(columns[name]))
    for index, mac in enumerate(macs):
        shared = columns["shared"][index].split()
        nic = {"mac": mac or None, "shared": [_csv_shared(part, failed) for part in shared]}
        for name in ("addresses", "prefixes", "floating"):
            nic[name] = columns[name][index].split()
        nics.append(nic)
    return entry


def _csv_shared(text, failed):
    parts = text.split("/")
    if len(parts) != 3:
        failed.append(("shared", f"{fields.shown(text)} is not address/protocol/ports"))
        return {}
    return {"address": parts[0], "protocol": parts[1], "ports": parts[2].split(",")}


def _normalised(source):
    """`(document, problems)` of the files read."""
    problems = source.problems
    top = Reader(source.top, source.path, problems)
    generated_at = top.may("generated_at", _generated_at)
    prefixes = top.each("prefixes", fields.provider_prefix)
    if not source.top.get("prefixes"):
        top.refuse("prefixes", "is required: the provider's own prefixes")
    nodes = _nodes(top)
    services, claims = _services(source, nodes)
    if prefixes:
        problems.extend(f"{source.services_path}: {text}" for text in claims.contradictions(prefixes))
    return {
        "format": FORMAT,
        "generated_at": generated_at,
        "prefixes": _texts(prefixes),
        "nodes": nodes,
        "services": services,
    }, problems


def _generated_at(value):
    if isinstance(value, str):
        try:
            value = parse_iso(value)
        except InputError as exc:
            raise Refused(exc.message) from exc
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LATEST:
        raise Refused(f"an ISO 8601 time such as 2026-11-21T01:39:00Z is expected, found {described(value)}")
    return value


def _texts(found):
    """The canonical texts of addresses or prefixes, each once, v4 before v6, in numerical order."""
    if len(found) == 1:
        return [found[0][-1]]
    return [item[-1] for item in sorted(set(found))]


def _nodes(top):
    nodes = {}
    raw_nodes = top.raw.get("nodes")
    if not isinstance(raw_nodes, dict) or not raw_nodes:
        top.refuse("nodes", "is required: a mapping of node name to node" if not raw_nodes
                   else f"a mapping of node name to node is expected, found {described(raw_nodes)}")
        return nodes
    for name in sorted(raw_nodes):
        label = f"{top.label}: node {fields.shown(name)}"
        reader = Reader(raw_nodes[name], label, top.problems)
        try:
            fields.node_name(name)
        except Refused as exc:
            reader.refuse("", str(exc))
            continue
        if isinstance(raw_nodes[name], dict):
            nodes[str(name)] = _node(reader)
        else:
            reader.refuse("", f"a mapping is expected, found {described(raw_nodes[name])}")
    _pools(top, nodes)
    _images(top, nodes)
    _unlike(top, nodes)
    return nodes


def _hosts(inner):
    """`{name: address}` of a cluster's own nodes that are reached over SSH."""
    reader, found = inner.inside("hosts", inner.raw["hosts"]), {}
    for name in sorted(reader.raw, key=str) if reader is not None else ():
        try:
            fields.node_name(name)
        except Refused as exc:
            inner.refuse("hosts", str(exc))
            continue
        found[str(name)] = reader.need(name, fields.node_address)
    return found


def _unlike(top, nodes):
    """Refuse names of clusters' own nodes that are others' in the inventory."""
    seen = {name: "a node" for name in nodes}
    for cluster, node in nodes.items():
        for name in (node.get("proxmox") or {}).get("hosts") or ():
            if name in seen:
                top.refuse("nodes", f"{cluster}: proxmox.hosts: {name!r} is the name of {seen[name]} too; the inventory has one of each")
            seen[name] = f"one of {cluster}'s hosts"


def _images(top, nodes):
    """Give the nodes of a location its images; a node's own of the same name stands."""
    raw = top.raw.get("images")
    if raw is None:
        return
    if not isinstance(raw, dict):
        top.refuse("images", f"a mapping of location to images is expected, found {described(raw)}")
        return
    locations = {node["location"] for node in nodes.values()}
    inner = Reader(raw, top.label, top.problems, "images.")
    for location in sorted(raw, key=str):
        if location not in locations:
            inner.refuse(fields.shown(location), "no node is in this location")
            continue
        found = images(inner, location, None)
        for name, node in nodes.items():
            if node["location"] != location or node["backend"] != "kvm" or not node.get("creation"):
                continue
            for image, entry in found.items():
                directory = node["creation"]["image_directory"]
                for key in outside(entry, directory):
                    inner.refuse(f"{location}.{image}.{key}",
                                 f"{fields.shown(entry[key])} is not below image_directory {directory} of node '{name}'")
                node["creation"]["images"].setdefault(image, entry)


def _node(reader):
    reader.known(_NODE)
    backend = reader.need("backend", fields.token)
    if backend is not None and backend not in fields.BACKENDS:
        reader.refuse("backend", f"{fields.shown(backend)} is none of {', '.join(fields.BACKENDS)}")
        backend = None
    node = {
        "backend": backend,
        "location": reader.need("location", fields.token),
        "pool": reader.may("pool", fields.token),
        "uplinks": sorted(set(reader.each("uplinks", router_interface if backend == "router" else fields.interface))),
        "bridges": sorted(set(reader.each("bridges", fields.interface))),
        "routed_interfaces": sorted(set(reader.each("routed_interfaces", fields.interface_pattern))),
        "address": reader.may("address", fields.node_address),
        "vars": reader.may("vars", fields.node_vars, {}),
    }
    for name in node["uplinks"]:
        if name in node["bridges"]:
            reader.refuse("uplinks", f"{name!r} is a tenant bridge too; an uplink is a port of one")
    for name in node["uplinks"] + node["bridges"]:
        for pattern in node["routed_interfaces"]:
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                reader.refuse("routed_interfaces",
                              f"{pattern!r} also means {name!r}, which is no guest's interface")
    if reader.raw.get("router") is not None:
        if backend == "router":
            inner = reader.inside("router", reader.raw["router"])
            if inner is not None:
                node["router"] = router(inner)
        else:
            reader.refuse("router", "is for nodes with backend: router")
    if reader.raw.get("creation") is not None:
        if backend in ("kvm", "proxmox"):
            inner = reader.inside("creation", reader.raw["creation"])
            if inner is not None:
                node["creation"] = creation(inner) if backend == "kvm" else clusters.creation(inner)
        else:
            reader.refuse("creation", "is for KVM hosts and Proxmox VE clusters")
    if backend == "proxmox":
        inner = reader.inside("proxmox", reader.raw.get("proxmox") or {})
        if inner is not None:
            moved = inner.raw.keys() & {"open_connections"}
            if moved:
                inner.refuse("open_connections", "is the policy's to say, under enforcements: of quarantine, smtp_block and port_block")
            inner.known(("replug", "hosts", *moved))
            node["proxmox"] = {"replug": inner.may("replug", fields.boolean, False)}
            if inner.raw.get("hosts") is not None:
                node["proxmox"]["hosts"] = _hosts(inner)
    elif reader.raw.get("proxmox") is not None:
        reader.refuse("proxmox", "is for nodes with backend: proxmox")
    if backend == "kvm" and not (reader.raw.get("bridges") or reader.raw.get("routed_interfaces")):
        reader.refuse("bridges", "a KVM node needs its tenant bridges, or routed_interfaces, or both")
    return node


def _pools(top, nodes):
    """Fold the section `pools` into the nodes' `pool`, and check each pool's nodes against one another."""
    pools = top.raw.get("pools")
    if pools is not None and not isinstance(pools, dict):
        top.refuse("pools", f"a mapping of pool name to its nodes is expected, found {described(pools)}")
        pools = None
    for pool in sorted(pools or ()):
        label = f"{top.label}: pool {fields.shown(pool)}"
        body = pools[pool]
        reader = Reader(body if isinstance(body, dict) else {"nodes": body}, label, top.problems)
        reader.known(("nodes",))
        try:
            fields.token(pool)
        except Refused as exc:
            reader.refuse("", str(exc))
            continue
        members = reader.each("nodes", fields.node_name)
        if not members:
            reader.refuse("nodes", "a pool needs at least one node")
        for name in members:
            node = nodes.get(name)
            if node is None:
                reader.refuse("nodes", f"node {name!r} is not in `nodes`")
            elif node["pool"] not in (None, pool):
                reader.refuse("nodes", f"node '{name}' belongs to pool '{node['pool']}' and to pool '{pool}'")
            else:
                node["pool"] = str(pool)
    first = {}
    for name, node in nodes.items():
        if node["pool"] is None or node["backend"] is None:
            continue
        other = first.setdefault(node["pool"], name)
        if nodes[other]["backend"] != node["backend"]:
            top.refuse("pools", f"in pool '{node['pool']}', node '{other}' is {nodes[other]['backend']} and "
                                f"node '{name}' is {node['backend']}; guests can't migrate between them")


class _Places:
    """Nodes, pools and their locations, as services refer to them."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.pools = {}
        for name in sorted(nodes):
            if nodes[name]["pool"] is not None:
                self.pools.setdefault(nodes[name]["pool"], []).append(name)
        self.locations = {(name,): {nodes[name]["location"]} for name in nodes}
        for names in self.pools.values():
            self.locations[tuple(names)] = {nodes[name]["location"] for name in names}

    def of(self, reader):
        """`(nodes, pool, location)` of a service, after complaints where it names none or unknown ones."""
        raw = reader.raw
        if raw.get("ports") is not None:
            return self._on_routers(reader)
        pool = reader.may("pool", fields.token)
        node = reader.may("node", fields.node_name)
        listed = reader.each("nodes", fields.node_name)
        if raw.get("node") is not None and raw.get("nodes") is not None:
            reader.refuse("node", "stands beside `nodes`; keep one of them")
        named = [node] if node else sorted(set(listed))
        nodes = named
        if pool is not None:
            nodes = self.pools.get(pool, [])
            if not nodes:
                reader.refuse("pool", f"there is no pool {pool!r}; known are {_names(self.pools)}")
            elif listed and named != nodes:
                reader.refuse("nodes", f"these are not the nodes of pool '{pool}', "
                                       f"which are {', '.join(nodes)}")
            elif node and node in self.nodes and node not in nodes:
                reader.refuse("node", f"node '{node}' is not in pool '{pool}', which has {', '.join(nodes)}")
        elif len(named) > 1:
            reader.refuse("nodes", "several nodes are a pool; name it with `pool`")
        elif not named and raw.get("pool") is None and raw.get("node") is None and not raw.get("nodes"):
            reader.refuse("node", "is required: `node`, or `pool` for a guest that may migrate")
        for name in named:
            if name not in self.nodes:
                reader.refuse("node", f"there is no node {name!r}; known are {_names(self.nodes)}")
            elif self.nodes[name]["backend"] == "router":
                reader.refuse("node", f"node '{name}' is a router; guests live on KVM hosts and Proxmox "
                                      "clusters")
        return list(nodes), pool, self._location(reader, nodes)

    def _on_routers(self, reader):
        """As `of`, of a dedicated server: its nodes are the routers that it hangs on."""
        nodes = sorted({port["router"] for port in router_ports(reader, self.nodes) if port["router"] in self.nodes})
        where = {self.nodes[name]["location"] for name in nodes}
        if len(where) > 1:
            reader.refuse("ports", f"its routers are in {', '.join(sorted(map(str, where)))}; a server is in one location")
        return nodes, None, self._location(reader, nodes[:1])

    def _location(self, reader, nodes):
        location = reader.may("location", fields.token)
        known = self.locations.get(tuple(nodes))
        if known is None:
            return location
        if location is None and reader.raw.get("location") is None:
            if len(known) > 1:
                reader.refuse("location", "is required: the pool's nodes are in "
                                          f"{', '.join(sorted(map(str, known)))}")
                return None
            return next(iter(known))
        if location is not None and location not in known:
            reader.refuse("location", f"is '{location}', but node '{nodes[0]}' is in "
                                      f"{', '.join(sorted(map(str, known)))}")
        return location


def _names(names, limit=8):
    known = sorted(names)
    return (", ".join(known[:limit]) + (", …" if len(known) > limit else "")) or "none"


def _services(source, nodes):
    services, first, claims, places = {}, {}, Claims(), _Places(nodes)
    problems = source.problems
    for label, raw, failed in source.entries:
        reader = Reader(raw, label, problems, expressions=source.expressions)
        for path, problem in failed:
            reader.refuse(path, problem)
        if not isinstance(raw, dict):
            reader.refuse("", f"a mapping is expected, found {described(raw)}")
            continue
        before = len(problems)
        service, nics = _service(reader, places)
        # A field whose expression failed is not missing as well.
        missing = tuple(f"{label}, {path}: is required" for path, _problem in failed)
        if missing:
            problems[before:] = [problem for problem in problems[before:] if not problem.startswith(missing)]
        name = service["id"]
        if name in first:
            reader.refuse("id", f"{name!r} is also the id of {first[name]}")
            continue
        if name is not None:
            first[name] = label
        if failed or len(problems) > before:
            continue
        services[name] = service
        if service.get("ports"):
            for port in service["ports"]:
                claims.port(name, port["router"], port["interface"])
        else:
            claims.guest(name, service["nodes"], service["guest"]["name"], service["guest"]["uuid"],
                         service["guest"].get("vmid"))
        _claim(claims, name, nics)
    return services, claims


def _service(reader, places):
    """The normalised service, and its NICs with numbers for the claims."""
    reader.known(_SERVICE)
    raw = reader.raw
    nodes, pool, location = places.of(reader)
    nics = []
    raw_nics = raw.get("nics")
    if isinstance(raw_nics, list):
        for index, raw_nic in enumerate(raw_nics):
            inner = reader.inside(f"nics[{index}]", raw_nic)
            if inner is not None:
                nics.append(_nic(inner))
    else:
        reader.refuse("nics", "is required" if raw_nics is None
                      else f"a list is expected, found {described(raw_nics)}")
    nics.sort(key=_nic_order)
    service = {
        "id": reader.need("id", fields.identifier),
        "customer": reader.need("customer", fields.identifier),
        "account_type": reader.need("account_type", fields.token),
        "location": location,
        "nodes": nodes,
        "pool": pool,
        "guest": {"name": None, "uuid": None} if raw.get("ports") is not None else _guest(reader),
        "nics": [
            {"mac": mac, "addresses": _texts(addresses), "prefixes": _texts(prefixes),
             "shared": [{"address": address[-1], "protocol": protocol, "ports": ports}
                        for address, protocol, ports in shares],
             "floating": _texts(floating)}
            for mac, addresses, prefixes, shares, floating in nics],
        "plan": reader.may("plan", fields.plan, {}),
        "addons": sorted(set(reader.each("addons", fields.token))),
        "uses": reader.may("uses", fields.uses, {}),
        "policy": reader.may("policy", fields.token),
        "liable": None,
    }
    if raw.get("ports") is not None:
        # Complaints about them were made when its place was looked up.
        service["ports"] = router_ports(Reader(raw, reader.label, []), places.nodes)
    if raw.get("terminated_on") is not None:
        service["terminated_on"] = reader.need("terminated_on", fields.day)
    if raw.get("contact") is not None:
        service["contact"] = reader.need("contact", fields.free_text)
    if raw.get("liable") is not None:
        inner = reader.inside("liable", raw["liable"])
        if inner is not None:
            inner.known(("name", "contact"))
            service["liable"] = {"name": inner.need("name", fields.free_text),
                                 "contact": inner.need("contact", fields.free_text)}
    if raw.get("order") is not None:
        inner = reader.inside("order", raw["order"])
        if inner is not None:
            service["order"] = order(inner, service)
            backends = {(places.nodes.get(name) or {}).get("backend") for name in nodes}
            if service["order"]["create"] and "proxmox" in backends:
                clusters.check_order(inner, service)
            elif "proxmox" not in backends:
                clusters.check_elsewhere(inner, service)
    return service, nics


def _guest(reader):
    raw = reader.raw.get("guest")
    if raw is None or isinstance(raw, str):
        return {"name": reader.need("guest", fields.guest_name), "uuid": None}
    inner = reader.inside("guest", raw)
    if inner is None:
        return {"name": None, "uuid": None}
    inner.known(("name", "uuid", "vmid"))
    guest = {"name": inner.need("name", fields.guest_name), "uuid": inner.may("uuid", fields.uuid)}
    if inner.raw.get("vmid") is not None:
        guest["vmid"] = inner.may("vmid", fields.vmid)
    return guest


def _nic(reader):
    """`(mac, addresses, prefixes, shared, floating)`, with numbers."""
    reader.known(_NIC)
    mac = reader.need("mac", fields.mac)
    shared = {}
    raw_shared = reader.raw.get("shared")
    if raw_shared is not None and not isinstance(raw_shared, list):
        reader.refuse("shared", f"a list is expected, found {described(raw_shared)}")
        raw_shared = None
    for index, raw in enumerate(raw_shared or ()):
        inner = reader.inside(f"shared[{index}]", raw)
        if inner is None:
            continue
        inner.known(_SHARED_KEYS)
        address, protocol = inner.need("address", fields.address), inner.need("protocol", fields.protocol)
        ports = inner.need("ports", fields.ports)
        if address and protocol and ports:
            shared.setdefault((address, protocol), []).extend(ports)
    return (
        mac, reader.each("addresses", fields.address), reader.each("prefixes", fields.prefix),
        [(*where, fields.ports(shared[where])) for where in sorted(shared)],
        reader.each("floating", fields.address),
    )


def _nic_order(nic):
    return (nic[0] or "", sorted(nic[1]))


def _claim(claims, name, nics):
    for mac, addresses, prefixes, shares, floating in nics:
        claims.nic(name, mac)
        for address in set(addresses):
            claims.address(ADDRESS, name, mac, address)
        for prefix in set(prefixes):
            claims.prefix(name, mac, prefix)
        for address, protocol, ports in shares:
            claims.address(SHARED, name, mac, address, protocol, ports)
        for address in set(floating):
            claims.address(FLOATING, name, mac, address)
