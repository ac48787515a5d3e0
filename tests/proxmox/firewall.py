# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule files of a cluster: its own, each node's, each guest's by number, whether that guest exists or not."""

from __future__ import annotations

import copy
import ipaddress
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from . import schema

MACROS = {"smtp": "SMTP", "smtps": "SMTPS", "submission": "Submission", "mail": "Mail", "ssh": "SSH", "ping": "Ping", "dns": "DNS",
          "http": "HTTP", "https": "HTTPS", "web": "Web", "bittorrent": "BitTorrent", "irc": "IRC", "ntp": "NTP"}
_MACRO_PORTS = {"SMTP": "25", "SMTPS": "465", "Submission": "587", "SSH": "22", "HTTP": "80", "HTTPS": "443", "DNS": "53"}
_INTEGERS = {"enable", "dhcp", "macfilter", "ipfilter", "ndp", "radv", "ebtables", "nomatch"}
_TYPES = {"cluster": ("in", "out", "forward", "group"), "host": ("in", "out", "forward", "group"),
          "group": ("in", "out", "forward"), "vm": ("in", "out", "group"), "ct": ("in", "out", "group")}
_RULE_KEYS = ("type", "action", "macro", "proto", "source", "dest", "sport", "dport", "iface", "log", "comment", "icmp-type", "enable")


def _refused(status, message, errors=None):
    from .cluster import Refused  # the two know each other
    return Refused(status, message, errors)


def _parameter(name, text):
    return _refused(400, "Parameter verification failed.", {name: text})


def _clean(cidr: str) -> str:
    """Host bits masked, a host's length left out; IPv6 keeps its spelling."""
    address, slash, length = cidr.partition("/")
    if ":" in address:
        if not slash or length == "128":
            return address
        network = ipaddress.ip_network(cidr, strict=False)
        return cidr if ipaddress.ip_address(address) == network.network_address else str(network)
    network = ipaddress.ip_network(cidr, strict=False)
    return str(network.network_address) if network.prefixlen == 32 else str(network)


def digest_of(content: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The digest an answer carries: over that list or those options alone, not over the file (recorded: 714 and 716)."""
    from .cluster import sha1
    rows = content if isinstance(content, list) else [content]
    return sha1("".join(f"{key}:{value}\n" for row in rows for key, value in sorted(row.items()) if value is not None))


def check(content: dict[str, Any] | list[dict[str, Any]], digest: str | None) -> None:
    """Refuse a change whose sender has seen something else."""
    if digest is not None and digest != digest_of(content):
        raise _refused(500, "detected modified configuration - file changed by other user? Try again.")


@dataclass
class File:
    """One `.fw` file."""

    environment: str
    options: dict[str, Any] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    ipsets: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: str | None = None

    def render(self) -> str:
        """All of it as text, to be compared; an empty file has none."""
        lines = [f"{k}: {v}" for k, v in sorted(self.options.items())]
        lines += [f"alias {a['name']} {a['cidr']} {a.get('comment', '')}" for _, a in sorted(self.aliases.items())]
        for name, one in sorted(self.ipsets.items()):
            lines += [f"[IPSET {name}] {one.get('comment', '')}", *(repr(sorted(e.items())) for e in one["entries"])]
        lines += [repr(sorted(rule.items())) for rule in self.rules]
        for name, one in sorted(self.groups.items()):
            lines += [f"[group {name}] {one.get('comment', '')}", *(repr(sorted(rule.items())) for rule in one["rules"])]
        return "\n".join(lines)

    def names(self) -> list[dict[str, Any]]:
        """Its sets, as they are listed."""
        return [dict({"name": name}, **({"comment": one["comment"]} if one.get("comment") else {}))
                for name, one in sorted(self.ipsets.items())]

    def writable(self) -> None:
        """A file with a line the server can't parse can't be written by it any more."""
        if self.broken:
            raise _refused(500, f"unknown rule type '{self.broken}' at Firewall.pm line 3731.")



def copy_of(file: File) -> File:
    """Another file with the same lines."""
    return copy.deepcopy(file)


class Firewall:
    """All files; each call is one under a lock of its own, whatever lock the guest has."""

    def __init__(self) -> None:
        self.cluster = File("cluster")
        self.hosts: dict[str, File] = {}
        self.guests: dict[int, File] = {}
        self.lock = threading.RLock()

    def of_guest(self, vmid: int, kind: str) -> File:
        return self.guests.setdefault(vmid, File("vm" if kind == "qemu" else "ct"))

    def of_host(self, node: str) -> File:
        return self.hosts.setdefault(node, File("host"))

    # -- options --------------------------------------------------------------------------------------------------

    def options(self, file: File) -> dict[str, Any]:
        return dict(file.options, digest=digest_of(file.options))

    def set_options(self, file: File, parameters: dict[str, Any], known: set[str]) -> None:
        file.writable()
        check(file.options, parameters.pop("digest", None))
        for key in schema.split_list(parameters.pop("delete", "") or ""):
            if key not in known:
                raise _parameter("delete", f"no such option '{key}'")
            file.options.pop(key, None)
        for key, value in parameters.items():
            file.options[key] = int(value) if key in _INTEGERS else str(value)

    # -- rules ----------------------------------------------------------------------------------------------------

    def list_rules(self, file: File, rules: list[dict]) -> list[dict[str, Any]]:
        digest = digest_of(rules)
        return [dict(self.shown(file, rule), pos=number, digest=digest) for number, rule in enumerate(rules)]

    def shown(self, file: File, rule: dict) -> dict[str, Any]:
        """A rule as it is listed, with the errors of what it names and isn't there any more."""
        out = dict(rule)
        errors = {}
        for key in ("source", "dest"):
            value = rule.get(key, "")
            if value.startswith("+") and not self._has_set(file, value):
                errors[key] = f"no such ipset '{value.rpartition('/')[2].lstrip('+')}'"
            elif value and re.match(r"[\da-fA-F]*[.:]", value):
                out["ipversion"] = 6 if ":" in value else 4
        if rule["type"] not in ("in", "out", "forward", "group"):
            errors["type"] = f"invalid rule type '{rule['type']}' for rule_env '{file.environment}'"
        if errors:
            out["errors"] = errors
        return out

    def _has_set(self, file: File, reference: str) -> bool:
        scope, _, name = reference[1:].rpartition("/")
        if scope != "dc" and file is not self.cluster and name.lower() in file.ipsets:
            return True
        return scope != "guest" and name.lower() in self.cluster.ipsets

    def _judged(self, file: File, environment: str, rule: dict[str, Any]) -> dict[str, Any]:
        """The rule as stored.

        :raises Refused: what the server finds wrong besides types
        """
        rule = {key: value for key, value in rule.items() if key in _RULE_KEYS and value not in (None, "")}
        if rule["type"] not in _TYPES[environment]:
            raise _parameter("type", f"invalid rule type '{rule['type']}' for rule_env '{environment}'")
        if rule["type"] == "group":
            if "macro" in rule:
                raise _parameter("macro", "property is not allowed with type group")
        elif rule["action"] not in ("ACCEPT", "DROP", "REJECT"):
            raise _parameter("action", f"unknown action '{rule['action']}'")
        if "macro" in rule:
            macro = MACROS.get(rule["macro"].lower())
            if macro is None:
                raise _parameter("macro", f"unknown macro '{rule['macro']}'")
            rule["macro"] = macro
            if "dport" in rule:
                raise _parameter("dport", f"parameter 'dport' already define in macro (value = '{_MACRO_PORTS.get(macro, '')}')")
        for key in ("dport", "sport"):
            if key in rule and "proto" not in rule and "macro" not in rule:
                raise _parameter("proto", f"missing property - '{key}' requires this property")
        if "iface" in rule and environment in ("vm", "ct") and not re.fullmatch(r"net\d+", rule["iface"]):
            raise _parameter("iface", r"value does not match the regex pattern 'net\d+'")
        for key in ("source", "dest"):
            value = rule.get(key, "")
            if value.startswith("+") and not self._has_set(file, value):
                raise _parameter(key, f"no such ipset '{value.rpartition('/')[2].lstrip('+')}'")
        rule["enable"] = int(rule.get("enable", 0))
        return rule

    def add_rule(self, file: File, rules: list[dict], environment: str, parameters: dict[str, Any]) -> None:
        file.writable()
        check(rules, parameters.pop("digest", None))
        parameters.pop("pos", None)  # ignored: a new rule goes to the top
        comment = parameters.get("comment")
        rule = self._judged(file, environment, parameters)
        if comment and "\n" in comment:
            first, *rest = comment.split("\n")
            rule["comment"] = first
            rules.insert(0, rule)
            for line in rest:
                self._raw(file, rules, line)
            return
        rules.insert(0, rule)

    @staticmethod
    def _raw(file: File, rules: list[dict], line: str) -> None:
        """A comment's second line is a line of the file."""
        words = line.split()
        if len(words) >= 2 and words[0] in ("IN", "OUT") and words[1] in ("ACCEPT", "DROP", "REJECT"):
            rules.append({"type": words[0].lower(), "action": words[1], "enable": 1})
        elif len(words) >= 2:
            rules.append({"type": words[0].lower(), "action": words[1], "enable": 1})
            file.broken = words[0].lower()

    def rule(self, file: File, rules: list[dict], pos: int) -> dict[str, Any]:
        if pos >= len(rules):
            raise _refused(500, f"no rule at position {pos}")
        return dict(self.shown(file, rules[pos]), pos=str(pos), digest=digest_of(rules))

    def change_rule(self, file: File, rules: list[dict], environment: str, pos: int, parameters: dict[str, Any]) -> None:
        file.writable()
        check(rules, parameters.pop("digest", None))
        if pos >= len(rules):
            raise _refused(500, f"no rule at position {pos}")
        moveto = parameters.pop("moveto", None)
        if moveto is not None:
            rule = rules.pop(pos)
            target = int(moveto)
            rules.insert(target - 1 if target > pos else target, rule)
            return
        changed = dict(rules[pos])
        for key in schema.split_list(parameters.pop("delete", "") or ""):
            changed.pop(key, None)
        rules[pos] = self._judged(file, environment, dict(changed, **parameters))

    def delete_rule(self, file: File, rules: list[dict], pos: int, digest: str | None) -> None:
        file.writable()
        check(rules, digest)
        if pos >= len(rules):
            raise _refused(500, f"no rule at position {pos}")
        rules.pop(pos)

    # -- sets -----------------------------------------------------------------------------------------------------

    def list_sets(self, file: File) -> list[dict[str, Any]]:
        digest = digest_of(file.names())
        return [dict(row, digest=digest) for row in file.names()]

    def make_set(self, file: File, parameters: dict[str, Any]) -> None:
        check(file.names(), parameters.get("digest"))
        name, old = parameters["name"].lower(), parameters.get("rename")
        if old is not None:
            if old not in file.ipsets:
                raise _parameter("name", f"IPSet '{old}' does not exist")
            if name != old and name in file.ipsets:
                raise _parameter("name", f"IPSet '{name}' already exists")
            one = file.ipsets.pop(old)
            if "comment" in parameters:
                one["comment"] = parameters["comment"]
            file.ipsets[name] = one
            return
        if name in file.ipsets:
            raise _parameter("name", f"IPSet '{name}' already exists")
        file.ipsets[name] = {"comment": parameters.get("comment", ""), "entries": []}

    @staticmethod
    def _set(file: File, name: str) -> dict[str, Any]:
        if name not in file.ipsets:
            raise _refused(500, f"no such IPSet '{name}'")
        return file.ipsets[name]

    def delete_set(self, file: File, name: str, parameters: dict[str, Any]) -> None:
        check(file.names(), parameters.get("digest"))
        one = self._set(file, name)
        if one["entries"] and str(parameters.get("force", "0")) != "1":
            raise _refused(500, f"IPSet '{name}' is not empty")
        del file.ipsets[name]

    def entries(self, file: File, name: str) -> list[dict[str, Any]]:
        # A name that isn't there lists nothing only for guests that have no file; the server refuses it everywhere.
        entries = self._listed(file, name)
        return [dict(entry, digest=digest_of(entries)) for entry in entries]

    def _listed(self, file: File, name: str) -> list[dict[str, Any]]:
        return sorted(self._set(file, name)["entries"], key=lambda e: e["cidr"])

    def add_entry(self, file: File, name: str, parameters: dict[str, Any]) -> None:
        one = self._set(file, name)
        check(self._listed(file, name), parameters.get("digest"))
        cidr = parameters["cidr"]
        if schema.is_cidr(cidr):
            cidr = _clean(cidr)
        elif cidr.endswith("/0"):
            raise _parameter("cidr", "a zero prefix is not allowed in ipset entries")
        elif cidr.rpartition("/")[2].lower() not in dict(self.cluster.aliases, **file.aliases):
            raise _parameter("cidr", f"no such alias '{cidr}'")
        if any(entry["cidr"] == cidr for entry in one["entries"]):
            raise _parameter("cidr", f"address '{cidr}' already exists")
        entry: dict[str, Any] = {"cidr": cidr}
        if str(parameters.get("nomatch", "0")) == "1":
            entry["nomatch"] = 1
        first, *rest = (parameters.get("comment") or "").split("\n")
        if first:
            entry["comment"] = first
        one["entries"].append(entry)
        one["entries"] += [{"cidr": line} if schema.is_cidr(line) else {"cidr": line, "errors": {"cidr": f"no such alias '{line}'"}}
                           for line in rest if line]

    def entry(self, file: File, name: str, cidr: str) -> dict[str, Any]:
        for entry in self._set(file, name)["entries"]:
            if entry["cidr"] == cidr:
                return dict(entry, digest=digest_of(self._listed(file, name)))
        raise _parameter("cidr", "no such IP/Network")

    def change_entry(self, file: File, name: str, cidr: str, parameters: dict[str, Any]) -> None:
        check(self._listed(file, name), parameters.get("digest"))
        for entry in self._set(file, name)["entries"]:
            if entry["cidr"] == cidr:
                if "comment" in parameters:
                    entry["comment"] = parameters["comment"]
                if str(parameters.get("nomatch", "0")) == "1":
                    entry["nomatch"] = 1
                return
        raise _parameter("cidr", "no such IP/Network")

    def delete_entry(self, file: File, name: str, cidr: str, digest: str | None) -> None:
        """Answered well whether there was such an entry or not."""
        one = self._set(file, name)
        check(self._listed(file, name), digest)
        one["entries"] = [entry for entry in one["entries"] if entry["cidr"] != cidr]

    # -- aliases and groups -----------------------------------------------------------------------------------------

    def list_aliases(self, file: File) -> list[dict[str, Any]]:
        return [dict(alias, digest=digest_of([a for _, a in sorted(file.aliases.items())])) for _, alias in sorted(file.aliases.items())]

    def make_alias(self, file: File, parameters: dict[str, Any]) -> None:
        key = parameters["name"].lower()
        if key in file.aliases:
            raise _parameter("name", f"alias '{key}' already exists")
        file.aliases[key] = _alias(parameters["name"], parameters)

    def alias(self, file: File, name: str) -> dict[str, Any]:
        if name.lower() not in file.aliases:
            raise _parameter("name", "no such alias")
        return file.aliases[name.lower()]

    def change_alias(self, file: File, name: str, parameters: dict[str, Any]) -> None:
        self.alias(file, name)
        new = parameters.get("rename", name)
        del file.aliases[name.lower()]
        file.aliases[new.lower()] = _alias(new, parameters)

    def list_groups(self) -> list[dict[str, Any]]:
        rows = [dict({"group": name}, **({"comment": one["comment"]} if one.get("comment") else {}))
                for name, one in sorted(self.cluster.groups.items())]
        return [dict(row, digest=digest_of(rows)) for row in rows]

    def make_group(self, parameters: dict[str, Any]) -> None:
        name, old = parameters["group"], parameters.get("rename")
        if old is not None:
            if old not in self.cluster.groups:
                raise _parameter("group", f"Security group '{old}' does not exist")
            one = self.cluster.groups.pop(old)
            if "comment" in parameters:
                one["comment"] = parameters["comment"]
            self.cluster.groups[name] = one
            return
        if name in self.cluster.groups:
            raise _parameter("group", f"Security group '{name}' already exists")
        self.cluster.groups[name] = {"comment": parameters.get("comment", ""), "rules": []}

    def group(self, name: str) -> list[dict]:
        if name not in self.cluster.groups:
            raise _refused(500, f"no such security group '{name}'")
        return self.cluster.groups[name]["rules"]

    def delete_group(self, name: str) -> None:
        if self.group(name):
            raise _refused(500, f"Security group '{name}' is not empty")
        del self.cluster.groups[name]


def _alias(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    alias = {"name": name, "cidr": parameters["cidr"], "ipversion": 6 if ":" in parameters["cidr"] else 4}
    if parameters.get("comment"):
        alias["comment"] = parameters["comment"]
    return alias
