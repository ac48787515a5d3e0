# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which call a path is, and what is wrong with its parameters. Pure."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

_DATA = json.loads((Path(__file__).parent / "schema.json").read_text())
_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_MISSING = "property is missing and it is not optional"
_SPLIT = re.compile(r"[,; \0]+")
# Calls this stand-in has although the schema file, a selection, doesn't.
_ADDED = {
    "POST /nodes/{node}/qemu/{vmid}/clone": {
        "protected": 1, "proxyto": "node", "additionalProperties": 0,
        "check": ["and", ["perm", "/vms/{vmid}", ["VM.Clone"]],
                  ["or", ["perm", "/vms/{newid}", ["VM.Allocate"]], ["perm", "/pool/{pool}", ["VM.Allocate"], "require_param", "pool"]]],
        "parameters": {
            "node": {"type": "string", "format": "pve-node"}, "vmid": {"type": "integer", "format": "pve-vmid"},
            "newid": {"type": "integer", "format": "pve-vmid"}, "name": {"type": "string", "format": "dns-name", "optional": 1},
            "description": {"type": "string", "optional": 1}, "pool": {"type": "string", "format": "pve-poolid", "optional": 1},
            "target": {"type": "string", "optional": 1}, "full": {"type": "boolean", "optional": 1},
            "storage": {"type": "string", "optional": 1}, "snapname": {"type": "string", "optional": 1},
            "format": {"type": "string", "optional": 1}, "bwlimit": {"type": "integer", "optional": 1}}},
}
_ADDED["POST /nodes/{node}/lxc/{vmid}/clone"] = dict(
    _ADDED["POST /nodes/{node}/qemu/{vmid}/clone"],
    parameters={("hostname" if k == "name" else k): v
                for k, v in _ADDED["POST /nodes/{node}/qemu/{vmid}/clone"]["parameters"].items() if k != "format"})
_ADDED["PUT /nodes/{node}/qemu/{vmid}/resize"] = _ADDED["PUT /nodes/{node}/lxc/{vmid}/resize"] = {
    "protected": 1, "proxyto": "node", "additionalProperties": 0, "check": ["perm", "/vms/{vmid}", ["VM.Config.Disk"]],
    "parameters": {
        "node": {"type": "string", "format": "pve-node"}, "vmid": {"type": "integer", "format": "pve-vmid"},
        "disk": {"type": "string"}, "size": {"type": "string", "pattern": r"\+?\d+(\.\d+)?[KMGT]?"},
        "digest": {"type": "string", "maxLength": 40, "optional": 1}, "skiplock": {"type": "boolean", "optional": 1}}}
_ADDED["GET /nodes/{node}/storage/{storage}/status"] = {
    "protected": 1, "proxyto": "node", "additionalProperties": 0,
    "check": ["perm", "/storage/{storage}", ["Datastore.Audit", "Datastore.AllocateSpace"], "any", 1],
    "parameters": {"node": {"type": "string", "format": "pve-node"}, "storage": {"type": "string"}}}
_ADDED["GET /nodes/{node}/storage/{storage}/content"] = {
    "protected": 1, "proxyto": "node", "additionalProperties": 0,
    "check": ["perm", "/storage/{storage}", ["Datastore.Audit", "Datastore.AllocateSpace"], "any", 1],
    "parameters": {"node": {"type": "string", "format": "pve-node"}, "storage": {"type": "string"},
                   "content": {"type": "string", "optional": 1}, "vmid": {"type": "integer", "format": "pve-vmid", "optional": 1}}}
ENDPOINTS: dict[str, dict[str, Any]] = dict(_DATA["endpoints"], **_ADDED)
_FORMATS = _DATA["formats"]


def _template(key: str) -> re.Pattern:
    parts = [r"(?P<%s>%s)" % (part[1:-1], ".+" if part == "{cidr}" else "[^/]+") if part.startswith("{") else re.escape(part)
             for part in key.split(" ", 1)[1].split("/")]
    return re.compile("/".join(parts))


# A literal segment goes before a placeholder.
_ROUTES = sorted(((key.split(" ")[0], _template(key), key) for key in ENDPOINTS), key=lambda r: (r[2].count("{"), r[2]))


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The endpoint's key and the values of its placeholders, or None where the server answers 501."""
    for verb, pattern, key in _ROUTES:
        if verb == method and (hit := pattern.fullmatch(path)):
            return key, hit.groupdict()
    return None


def split_list(text: str) -> list[str]:
    """A list parameter's items."""
    return [item for item in _SPLIT.split(text) if item]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """An address or network as sets and rules take them, host bits allowed, /0 not."""
    address, slash, length = text.partition("/")
    if not _is_ip(address):
        return False
    return not slash or (length.isdigit() and 0 < int(length) <= ipaddress.ip_address(address).max_prefixlen)


_ALIAS = re.compile(r"(?:(?:dc|guest)/)?[A-Za-z][A-Za-z0-9_-]+")
_PORT = re.compile(r"\d+|\d+:\d+|[A-Za-z][A-Za-z0-9-]*")


def _ports(text: str) -> bool:
    if len(re.split("[,:]", text)) > 15:  # a range counts as two
        return False
    for item in text.split(","):
        if not _PORT.fullmatch(item) or any(part.isdigit() and int(part) > 65535 for part in item.split(":")):
            return False
    return True


def _addresses(text: str) -> str | None:
    """What parse_address_list of PVE::Firewall and Net::IP find wrong with a rule's `source` or `dest`."""
    if text.startswith("+"):
        return None if re.fullmatch(r"\+(?:(?:dc|guest|sdn)/)?[A-Za-z][A-Za-z0-9_-]+", text) else "value does not look like a valid pve-fw-addr-spec"
    if _ALIAS.fullmatch(text):
        return None
    families, ranges = set(), False
    for item in text.split(","):
        ends = item.split("-")
        ranges = ranges or len(ends) > 1
        if len(ends) == 2 and all(_is_ip(end) for end in ends):
            first, last = map(ipaddress.ip_address, ends)
            if first.version != last.version:
                return f"invalid IP address: Not a valid IPv{first.version} address {last}"
            if first > last:
                return f"invalid IP address: Begin address is greater than End address {first.exploded} - {last.exploded}"
        elif not (len(ends) == 1 and (is_cidr(item) or item.endswith("/0") and _is_ip(item[:-2]))):
            return f"invalid IP address: Invalid chars in IP {item}"
        families.add(6 if ":" in item else 4)
        if len(families) > 1:
            return f"detected mixed ipv4/ipv6 addresses in address list '{text}'"
    return "you can't use a range in a list" if ranges and "," in text else None


def _ip_config(text: str) -> bool:
    """`ip=…,gw=…,ip6=…,gw6=…`: a gateway needs an address of its family beside it."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    for suffix, words in (("", {"dhcp"}), ("6", {"dhcp", "auto"})):
        address, gateway = found.pop("ip" + suffix, None), found.pop("gw" + suffix, None)
        if address is not None and address not in words and not ("/" in address and is_cidr(address)) or gateway is not None and (
                address is None or not _is_ip(gateway)):
            return False
    return not found


def cloudinit_files(text: str) -> dict[str, str] | None:
    """The volumes of `cicustom`, by what they stand in place of."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    good = set(found) <= {"meta", "network", "user", "vendor"} and all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*:\S+", v) for v in found.values())
    return found if good else None


_CHECKED = {
    "urlencoded": lambda text: bool(re.fullmatch(r"[-%a-zA-Z0-9_.!~*'()]*", text)),
    "pve-poolid": lambda text: bool(re.fullmatch(r"[A-Za-z0-9._-]+", text)),
    "pve-qm-ipconfig": _ip_config, "pve-qm-cicustom": lambda text: cloudinit_files(text) is not None,
    "pve-fw-dport-spec": _ports, "pve-fw-sport-spec": _ports,
    "pve-fw-protocol-spec": lambda text: bool(re.fullmatch(r"[a-z0-9-]+", text.lower())) and text.lower() not in ("bogus",),
    "IPorCIDR": is_cidr, "IPorCIDRorAlias": lambda text: is_cidr(text) or bool(_ALIAS.fullmatch(text)),
    "dns-name": lambda text: bool(re.fullmatch(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", text)),
}


def _bad_format(name: str, text: str) -> str | None:
    if name == "pve-fw-addr-spec":
        wrong = _addresses(text)
        return wrong and f"invalid format - {wrong}\n"
    if name in _CHECKED:
        return None if _CHECKED[name](text) else "invalid format - value does not look like a valid %s\n" % name
    known = _FORMATS.get(name)
    if known is None:
        return None
    if "list_of" in known:
        for item in split_list(text):
            if wrong := _bad_format(known["list_of"], item):
                return wrong
        return None
    if not re.search(known["regex"], text) or text.endswith("\n"):
        label = {"pve-tag": "invalid characters in tag", "pve-vmid": "value does not look like a valid VM ID"}.get(
            name, "value does not look like a valid %s" % name)
        return "invalid format - %s\n" % label
    return None


_PROPERTY_BOOLEANS = {"1", "on", "yes", "true", "0", "off", "no", "false"}


def _value(schema: dict, value: Any, inside: bool = False) -> str | None:
    """What is wrong with one value, as the server says it.

    :param inside: of a property string, where booleans have more words
    """
    kind, text = schema.get("type", "string"), value if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = "1" if value else "0"
    if kind == "boolean" and text not in (_PROPERTY_BOOLEANS if inside else ("0", "1")):
        return "type check ('boolean') failed - got '%s'" % text
    if kind == "integer" and not re.fullmatch(r"[+-]?\d+", text):
        return "type check ('integer') failed - got '%s'" % text
    if kind == "number" and not re.fullmatch(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", text):
        return "type check ('number') failed - got '%s'" % text
    if kind in ("integer", "number"):
        for word, less in (("minimum", lambda a, b: a < b), ("maximum", lambda a, b: a > b)):
            # A format says it first (vmid).
            if word in schema and less(float(text), schema[word]) and not (
                    isinstance(schema.get("format"), str) and _bad_format(schema["format"], text)):
                return "value must have a %s value of %s" % (word, schema[word])
    if "minLength" in schema and len(text) < schema["minLength"]:
        return "value must be at least %d characters long" % schema["minLength"]
    if "maxLength" in schema and len(text) > schema["maxLength"]:
        return "value may only be %d characters long" % schema["maxLength"]
    if "enum" in schema and text not in schema["enum"]:
        return "value '%s' does not have a value in the enumeration '%s'" % (text, ", ".join(schema["enum"]))
    if "pattern" in schema and not re.fullmatch("(?:%s)" % schema["pattern"], text):
        return "value does not match the regex pattern"
    form = schema.get("format")
    if isinstance(form, dict):
        wrong = properties(form, text)[1]
        return "invalid format - format error\n" + "".join("%s: %s\n" % item for item in wrong) if wrong else None
    if isinstance(form, str):
        return _bad_format(form, text)
    return None


def properties(form: dict, text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """A property string's keys with aliases resolved, and what is wrong with them."""
    found: dict[str, str] = {}
    wrong: list[tuple[str, str]] = []
    default = next((name for name, sub in form.items() if sub.get("default_key")), None)
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            if default is None or default in found:
                return found, [(key, "invalid format - missing key in comma-separated list property")]
            key, value = default, part
        sub = form.get(key)
        if sub is None:
            return found, [(key, _UNKNOWN)]
        if "keyAlias" in sub:
            found[sub["keyAlias"]] = key
        key = sub.get("alias", key)
        if key in found and "keyAlias" not in sub:
            return found, [(key, "duplicate key in comma-separated list property: %s" % key)]
        found[key] = value
    for key, value in found.items():
        if problem := _value(form[key], value, inside=True):
            wrong.append((key, problem))
    wrong += [(name, _MISSING) for name, sub in form.items()
              if "keyAlias" not in sub and "alias" not in sub and not sub.get("optional") and name not in found]
    return found, wrong


def errors(key: str, parameters: dict[str, Any]) -> dict[str, str]:
    """`{parameter: text}` of what the server's own verification would refuse."""
    endpoint = ENDPOINTS[key]
    known, wrong = endpoint["parameters"], {}
    for name, value in parameters.items():
        schema = known.get(name) or (known.get(re.sub(r"\d+$", "[n]", name)) if re.search(r"(?<!\d)([0-2]?\d|3[01])$", name) else None)
        if schema is None:
            if endpoint.get("additionalProperties") == 0:
                wrong[name] = _UNKNOWN
            continue
        for one in value if isinstance(value, list) else [value]:
            if problem := _value(schema, one):
                wrong[name] = problem.replace("format error\n", "format error\n%s." % name) if "format error" in problem else problem
        if schema.get("requires") and schema["requires"] not in parameters:
            wrong[schema["requires"]] = "missing property required by '%s'" % name
    for name, schema in known.items():
        if not schema.get("optional") and "[n]" not in name and name not in parameters:
            wrong[name] = _MISSING
    return wrong
