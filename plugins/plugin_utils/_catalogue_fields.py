# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of a catalogue: what each may hold, and its one normal form. PRIVATE to the collection.

Every value may come from a panel, so every one is checked for type and characters here; whatever is
refused is shown by its `repr`, so that it can't write to the terminal. A parser raises `Refused`; the entry's
`Reader` turns that into a problem that names file, entry, field and, for a mapped export, the expression.
"""
from __future__ import annotations

import re
from datetime import date
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

BACKENDS = ("kvm", "proxmox", "router")
_SHOWN = 80

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_NODE = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*"
                   r"|[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MAC_OTHER = re.compile(r"[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}|[0-9a-f]{12}")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,14}")
_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,14}|[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,13}\*")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_PATH = re.compile(r"/[A-Za-z0-9_./+-]{1,254}")

# Never a customer's: (family, network, mask length, what it is). Compared as numbers.
_SPECIAL_NETWORKS = (
    ("0.0.0.0", 8, "of this network"), ("127.0.0.0", 8, "a loopback address"),
    ("169.254.0.0", 16, "link-local"), ("224.0.0.0", 4, "multicast"), ("240.0.0.0", 4, "reserved"),
    ("::", 8, "reserved or IPv4-mapped"), ("fe80::", 10, "link-local"), ("ff00::", 8, "multicast"),
)
# The widest prefix a provider may name: wider ones are a slip that would switch the guardrail off.
_WIDEST = {4: 8, 6: 8}


class Refused(ValueError):
    """A value that its field may not hold; the text says why, the value included."""


class Reader:
    """One entry being read: fields by name, every problem collected instead of raised.

    :param raw: the entry's mapping
    :param label: how messages name the entry (`services.yml: service 'vps-7'`)
    :param problems: list that receives one line per problem
    :param prefix: the field path of this mapping inside the entry (`nics[0].`)
    :param expressions: of a mapped export, JMESPath expression by field path without indexes
    """

    __slots__ = ("expressions", "label", "prefix", "problems", "raw")

    def __init__(self, raw, label, problems, prefix="", expressions=None):
        self.raw, self.label, self.problems = raw, label, problems
        self.prefix, self.expressions = prefix, expressions

    def known(self, names):
        """Complain of each key that is not among `names`."""
        for key in self.raw:
            if key not in names:
                self.refuse(key if isinstance(key, str) and _TOKEN.fullmatch(key) else repr(key),
                            "unknown key; known are {}".format(", ".join(sorted(names))))

    def need(self, name, parse):
        """The parsed value of a required field, or None after a complaint."""
        value = self.raw.get(name)
        if value is None:
            self.refuse(name, "is required")
            return None
        return self._parsed(name, value, parse)

    def may(self, name, parse, default=None):
        """The parsed value of an optional field; absent and null are the default."""
        value = self.raw.get(name)
        return default if value is None else self._parsed(name, value, parse)

    def each(self, name, parse):
        """The parsed elements of an optional list, in its order."""
        values = self.raw.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            self.refuse(name, f"a list is expected, found {described(values)}")
            return []
        try:
            return [parse(value) for value in values]
        except Refused:
            pass
        good = []
        for index, value in enumerate(values):
            try:
                good.append(parse(value))
            except Refused as exc:
                self.refuse(f"{name}[{index}]", str(exc))
        return good

    def inside(self, name, value):
        """A reader for the mapping `value` under `name`, or None after a complaint."""
        if not isinstance(value, dict):
            self.refuse(name, f"a mapping is expected, found {described(value)}")
            return None
        return Reader(value, self.label, self.problems, f"{self.prefix}{name}.", self.expressions)

    def refuse(self, name, message):
        """Record one problem of the field `name` (empty: of the entry as a whole)."""
        path = (self.prefix + name).rstrip(".")
        expression = ""
        if self.expressions:
            found = expression_of(path, self.expressions)
            expression = f" (expression: {found})" if found else ""
        place = f"{self.label}, {path}" if path else self.label
        self.problems.append(f"{place}: {message}{expression}")

    def _parsed(self, name, value, parse):
        try:
            return parse(value)
        except Refused as exc:
            self.refuse(name, str(exc))
            return None


def expression_of(path, expressions):
    """The JMESPath expression a field path came from: its own, else that of what contains it."""
    plain = re.sub(r"\[[0-9]*\]", "", path)
    while plain:
        if plain in expressions:
            return expressions[plain]
        if plain + ".each" in expressions:
            return expressions[plain + ".each"]
        plain = plain.rpartition(".")[0]
    return None


def described(value):
    """A value with its type, for a message: bounded and escaped."""
    if value is None:
        return "null"
    if value is True or value is False:
        return f"the boolean {str(value).lower()}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    kind = "the text" if isinstance(value, str) else "the number"
    return f"{kind} {shown(value)}"


def shown(value):
    """`repr` of a value, cut off when long."""
    if isinstance(value, str) and len(value) > _SHOWN:
        return repr(str(value[:_SHOWN])) + "…"
    return repr(str(value)) if isinstance(value, str) else repr(value)


def _text(value, what):
    if not isinstance(value, str):
        raise Refused(f"{what} is expected, found {described(value)}")
    return value


def token(value):
    """A name such as a location, pool, add-on or account type."""
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    _text(value, "a name")
    raise Refused(f"{shown(value)} is not a name: 1 to 64 letters, digits, '.', '_' or '-', "
                  "the first a letter or digit")


def identifier(value):
    """A service's or customer's id; a whole number is taken as its digits."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    _text(value, "an id")
    raise Refused(f"{shown(value)} is not an id: 1 to 128 letters, digits, '.', '_', ':' or '-', "
                  "the first a letter or digit")


def node_name(value):
    """A node's name, which becomes an inventory host name."""
    text = _text(value, "a node name")
    if not _NODE.fullmatch(text) or text in ("all", "ungrouped") or text.startswith("aup_"):
        raise Refused(f"{shown(text)} is not a host name: letters, digits, '-' and '.', at most 253, "
                      "not all, ungrouped or aup_…")
    return text


def guest_name(value):
    """A libvirt domain's name: what libvirt takes, less what only an attacker would choose."""
    text = _text(value, "a guest name")
    if (not text or len(text.encode("utf-8", "surrogatepass")) > 200 or not text.isprintable() or "/" in text
            or text != text.strip() or text[0] in "-."):
        raise Refused(f"{shown(text)} is not a guest name: at most 200 bytes, printable, no '/', "
                      "no line break, no space at either end, not beginning with '-' or '.'")
    return text


def boolean(value):
    """true or false."""
    if not isinstance(value, bool):
        raise Refused(f"true or false is expected, found {described(value)}")
    return value


def vmid(value):
    """A guest's number in a Proxmox VE cluster."""
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 999999999:
        raise Refused(f"a number from 100 to 999999999 is expected, found {described(value)}")
    return value


def uuid(value):
    """A UUID in lower case with dashes."""
    text = _text(value, "a UUID").lower()
    if not _UUID.fullmatch(text):
        raise Refused(f"{shown(value)} is not a UUID like 0b6b1f4e-6c1d-4c1f-9a53-3f3d9a3f0c11")
    return text


def mac(value):
    """A unicast MAC as `52:54:00:aa:bb:cc`, from any of the usual ways to write one."""
    text = _text(value, "a MAC address").lower()
    if not _MAC.fullmatch(text):
        if not _MAC_OTHER.fullmatch(text):
            raise Refused(f"{shown(value)} is not a MAC address like 52:54:00:aa:bb:cc")
        digits = text.replace("-", "").replace(".", "")
        text = ":".join(digits[index:index + 2] for index in range(0, 12, 2))
    if text[1] in "13579bdf":
        raise Refused(f"{shown(value)} is a multicast or broadcast MAC, no interface's own")
    if text == "00:00:00:00:00:00":
        raise Refused(f"{shown(value)} is no interface's own MAC")
    return text


def address(value):
    """An IPv4 or IPv6 address in canonical text: `(version, number, text)`."""
    found = _address(_text(value, "an IP address"))
    if found is None:
        hint = ("; a prefix length belongs to `prefixes`" if "/" in value and _address(value.split("/")[0])
                else "")
        raise Refused(f"{shown(value)} is not an IPv4 or IPv6 address{hint}")
    kind = _special(found[0], found[1], found[1])
    if kind:
        raise Refused(f"{shown(value)} is {kind}, no service's address")
    return found


def _address(text):
    family = AF_INET6 if ":" in text else AF_INET
    try:
        packed = inet_pton(family, text)
    except (OSError, ValueError):
        return None
    return (6 if family is AF_INET6 else 4), int.from_bytes(packed, "big"), inet_ntop(family, packed)


def prefix(value):
    """A routed prefix: `(version, first number, last number, canonical text)`."""
    text = _text(value, "a prefix")
    head, slash, length = text.partition("/")
    found = _address(head) if slash and _LENGTH.fullmatch(length) else None
    if found is None or int(length) > (32 if found[0] == 4 else 128):
        raise Refused(f"{shown(value)} is not a prefix like 192.0.2.0/28 or 2001:db8:1::/64")
    version, first, canonical = found
    bits = int(length)
    size = (32 if version == 4 else 128) - bits
    if first & ((1 << size) - 1):
        raise Refused(f"{shown(value)} has bits set behind /{bits}; "
                      f"the prefix is {_prefix_text(version, first >> size << size, bits)}")
    last = first | ((1 << size) - 1)
    kind = _special(version, first, last)
    if kind:
        raise Refused(f"{shown(value)} holds addresses that are {kind}")
    return version, first, last, f"{canonical}/{bits}"


def provider_prefix(value):
    """As `prefix`, but not so wide that it would say nothing."""
    found = prefix(value)
    if int(found[3].rpartition("/")[2]) < _WIDEST[found[0]]:
        raise Refused(f"{shown(value)} is wider than /{_WIDEST[found[0]]}; name the provider's own prefixes")
    return found


def _prefix_text(version, number, bits):
    family, size = (AF_INET, 4) if version == 4 else (AF_INET6, 16)
    return f"{inet_ntop(family, number.to_bytes(size, 'big'))}/{bits}"


def _special_ranges():
    ranges = {4: [], 6: []}
    for network, length, what in _SPECIAL_NETWORKS:
        version, first, _canonical = _address(network)
        size = (32 if version == 4 else 128) - length
        ranges[version].append((first, first | ((1 << size) - 1), what))
    return ranges


_SPECIAL = _special_ranges()


def _special(version, first, last):
    for low, high, what in _SPECIAL[version]:
        if first <= high and last >= low:
            return what
    return None


def interface(value):
    """An interface name as Linux takes it, without what would need quoting."""
    text = _text(value, "an interface name")
    if not _INTERFACE.fullmatch(text):
        raise Refused(f"{shown(value)} is not an interface name: at most 15 letters, digits and _ . : @ + -")
    return text


def interface_pattern(value):
    """An interface name, or the beginning of one followed by `*`."""
    text = _text(value, "an interface pattern")
    if not _PATTERN.fullmatch(text):
        raise Refused(f"{shown(value)} is not an interface name or one ending in '*': "
                      "at most 15 letters, digits and _ . : @ + -")
    return text


def protocol(value):
    """`tcp` or `udp`."""
    text = _text(value, "a protocol").lower()
    if text not in ("tcp", "udp"):
        raise Refused(f"{shown(value)} is neither tcp nor udp")
    return text


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def ports(value):
    """Port ranges `[[low, high], …]`, sorted and merged, from numbers, `"low-high"` texts and pairs."""
    if not isinstance(value, list):
        value = [value]
    if len(value) == 2 and all(_is_integer(part) for part in value) and value[0] > value[1]:
        raise Refused(f"{value}: the first port is above the second")
    ranges = sorted(_port_range(part) for part in value)
    if not ranges:
        raise Refused("a shared address needs its ports, such as [80, \"20000-20999\"]")
    merged = [ranges[0]]
    for low, high in ranges[1:]:
        if low <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return merged


def _port_range(value):
    low = high = None
    if isinstance(value, str):
        match = _PORTS.fullmatch(value.strip())
        if match:
            low, high = int(match[1]), int(match[2] or match[1])
    elif isinstance(value, list) and len(value) == 2 and all(_is_integer(part) for part in value):
        low, high = value
    elif isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    if low is None or not 1 <= low <= high <= 65535:
        found = described(value) if isinstance(value, (bool, dict)) else shown(value)
        raise Refused(f"{found} is not a port or range from 1 to 65535 such as 443 or \"20000-20999\"")
    return [low, high]


def free_text(value):
    """A line of text for people: printable, at most 256 characters."""
    text = _text(value, "text")
    if not text.strip() or len(text) > 256 or not text.isprintable():
        raise Refused(f"{shown(value)} is not one line of 1 to 256 printable characters")
    return text


def day(value):
    """A day of the calendar as text (`2026-12-01`)."""
    text = _text(value, "a date")
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        raise Refused(f"{shown(value)} is not a date like 2026-12-01") from None
    return text


def uses(value):
    """Declared uses: names to names, as `{tor: relay}`."""
    if not isinstance(value, dict):
        raise Refused(f"a mapping such as {{tor: relay}} is expected, found {described(value)}")
    return {token(key): token(value[key]) for key in sorted(value, key=str)}


def plan(value):
    """A plan: plain data, keys text, numbers whole (a rate or size is written in its smallest unit)."""
    if not isinstance(value, dict):
        raise Refused(f"a mapping is expected, found {described(value)}")
    return _plain(value, 0)


def _plain(value, depth):
    if depth > 8:
        raise Refused("nested deeper than 8")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        if len(value) > 4096:
            raise Refused("a text longer than 4096 characters")
        return str(value)
    if isinstance(value, int):
        if not -2 ** 63 <= value < 2 ** 64:
            raise Refused(f"{shown(value)} is not a 64-bit number")
        return int(value)
    if isinstance(value, list):
        return [_plain(part, depth + 1) for part in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not _ID.fullmatch(key):
                raise Refused(f"the key {shown(key)} is not made of letters, digits and . _ : -")
        return {str(key): _plain(part, depth + 1) for key, part in value.items()}
    raise Refused(f"{described(value)}: whole numbers only, in the smallest unit")


def _boolean(value):
    if value is True or value is False:
        return value
    raise Refused(f"true or false is expected, found {described(value)}")


def _port_number(value):
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise Refused(f"a port from 1 to 65535 is expected, found {described(value)}")


def _matching(pattern, what):
    def parse(value):
        text = _text(value, what)
        if not pattern.fullmatch(text):
            raise Refused(f"{shown(value)} is not {what}")
        return text
    return parse


# What a catalogue may say about the connection. A catalogue may be a panel's export: whatever makes the
# *controller* run a program (connection plugin, SSH arguments, executables) is the operator's to set.
_CONNECTION = {
    "ansible_port": _port_number,
    "ansible_user": _matching(_USER, "a user name"),
    "ansible_become": _boolean,
    "ansible_become_user": _matching(_USER, "a user name"),
    "ansible_python_interpreter": _matching(_PATH, "an absolute path of letters, digits and _ . / + -"),
}


def node_vars(value):
    """A node's own variables, which the inventory sets as plain text and numbers, never as templates."""
    if not isinstance(value, dict):
        raise Refused(f"a mapping is expected, found {described(value)}")
    result = {}
    for name in value:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise Refused(f"{shown(name)} is not a variable's name")
        if name in _CONNECTION:
            try:
                result[str(name)] = _CONNECTION[name](value[name])
            except Refused as exc:
                raise Refused(f"{name}: {exc}") from exc
        elif name.startswith(("ansible_", "aup_")) or name in ("groups", "hostvars", "environment", "vars"):
            raise Refused(f"{name} may not be set by a catalogue; of the ansible_ variables only "
                          f"{', '.join(sorted(_CONNECTION))} are. Set it in host_vars, group_vars or the "
                          "inventory's connection_defaults")
        else:
            result[str(name)] = _plain(value[name], 0)
    return result


def node_address(value):
    """Where Ansible connects to: an address or a host name."""
    text = _text(value, "an address or host name")
    found = _address(text)
    if found:
        return found[2]
    if not _NODE.fullmatch(text):
        raise Refused(f"{shown(value)} is neither an IP address nor a host name")
    return text
