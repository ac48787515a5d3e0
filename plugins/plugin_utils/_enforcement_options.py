# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of each kind of enforcement as people type them. Pure. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._fold import outermost, rate_bps, share_of_processors

PROTOCOLS, DIRECTIONS = ("tcp", "udp"), ("out", "in", "both")
MAX_PORTS, MAX_SOURCES = 256, 50000
OPTIONS = {
    "bandwidth_cap": ("rate",),
    "cpu_throttle": ("share",),
    "drop": ("sources", "direction"),
    "io_throttle": ("iops", "bytes_per_second"),
    "null_route": ("rtbh", "routed_prefixes"),
    "port_block": ("ports", "protocol", "direction"),
    "smtp_block": ("ports",),
}
NAMES = ("rate", "share", "iops", "bytes_per_second", "ports", "protocol", "direction", "rtbh", "routed_prefixes", "sources")
_NEEDED = {"bandwidth_cap": ("rate",), "cpu_throttle": ("share",), "drop": ("sources",), "port_block": ("ports",)}


def _rate(value):
    rate_bps(value)
    return value


def _share(value):
    share_of_processors(value)
    return value


def _number(name, most):
    def read(value):
        text = str(value).strip()
        if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= most:
            raise InputError(
                "%s %r is not a whole number from 1 to %d." % (name, value, most), target=name, remedy="Write it like 500."
            )
        return int(text)

    return read


def _ports(value):
    parts = value if isinstance(value, list) else str(value).replace(",", " ").split()
    ports = sorted({_number("ports", 65535)(part) for part in parts})
    if not 1 <= len(ports) <= MAX_PORTS:
        raise InputError(
            "ports lists %d ports." % len(ports),
            target="ports",
            remedy="Name 1 to %d of them, like 6667,6697." % MAX_PORTS,
        )
    return ports


def _sources(value):
    """Remote prefixes, checked one by one, canonical, each once, without those that another one contains."""
    if not isinstance(value, (str, list)):
        raise InputError("sources is neither a list nor text.", target="sources", remedy="Write it like 192.0.2.7,2001:db8:7::/64.")
    found = []
    for part in value if isinstance(value, list) else value.replace(",", " ").split():
        try:
            # str alone: ip_network takes numbers for addresses. A zone is of one host, a mapped address of another family.
            network = ipaddress.ip_network(part) if isinstance(part, str) and "%" not in part else None
        except ValueError:
            network = None
        if network is None or (network.version == 6 and network.network_address.ipv4_mapped is not None):
            raise InputError("sources lists %.60r, which is no IPv4 or IPv6 address or prefix without host bits." % (part,),
                             target="sources", remedy="Write it like 192.0.2.7,2001:db8:7::/64.")
        found.append(str(network))
    if not 1 <= len(found) <= MAX_SOURCES:
        raise InputError("sources lists %d prefixes." % len(found), target="sources",
                         remedy="Name 1 to %d of them; more belong to the upstream." % MAX_SOURCES)
    return outermost(found)


def _choice(name, known):
    def read(value):
        if value not in known:
            raise InputError("%s %r is not known." % (name, value), target=name, remedy="Use %s." % " or ".join(known))
        return value

    return read


def read_flag(name, value):
    """True or False of what was typed.

    :raises InputError: neither
    """
    text = str(value).strip().lower()
    if text not in ("true", "yes", "false", "no"):
        raise InputError("%s %r is neither true nor false." % (name, value), target=name, remedy="Write true or false.")
    return text in ("true", "yes")


def _yes_or_no(name):
    return lambda value: read_flag(name, value)


_READ = {
    "rate": _rate,
    "share": _share,
    "iops": _number("iops", 10**7),
    "bytes_per_second": _number("bytes_per_second", 10**12),
    "ports": _ports,
    "protocol": _choice("protocol", PROTOCOLS),
    "direction": _choice("direction", DIRECTIONS),
    "rtbh": _yes_or_no("rtbh"),
    "routed_prefixes": _yes_or_no("routed_prefixes"),
    "sources": _sources,
}


def read_options(kind, given, problems):
    """The options given for one kind, read; what is wrong is noted.

    :param given: `{name: value}`; None and empty text count as not given
    :param problems: notes errors (`Problems`)
    """
    found = {}
    for name in NAMES:
        value = given.get(name)
        if value is None or value in ("", []):
            continue
        if name not in OPTIONS.get(kind, ()):
            takes = ", ".join(OPTIONS.get(kind, ())) or "none"
            problems.add("%s has no option %s." % (kind, name), name, "Leave it out; its options: %s." % takes)
            continue
        if kind == "port_block" and name == "direction" and value == "both":
            problems.add("direction 'both' is not known of port_block.", name, "Use out or in, or open two of them.")
            continue
        read = problems.run(_READ[name], value)
        if read is not None:
            found[name] = read
    return found


def complete_options(kind, options, policy_key):
    """Refuse an enforcement whose options say too little, given and from the policy taken together.

    :raises InputError: names the option and where it may come from
    """
    missing = [name for name in _NEEDED.get(kind, ()) if options.get(name) is None]
    if kind == "io_throttle" and options.get("iops") is None and options.get("bytes_per_second") is None:
        missing = ["iops or bytes_per_second"]
    if missing:
        raise InputError(
            "%s needs %s, which policy %s doesn't set." % (kind, ", ".join(missing), policy_key),
            target=missing[0],
            remedy="Give it, or set it under enforcements.%s of the policy." % kind,
        )


def open_connections_text(options):
    """What the terms of an enforcement say of connections that are open, for operators; empty where they are left."""
    chosen = options.get("open_connections", "leave")
    return "" if chosen == "leave" else "open connections: %s" % chosen


def option_text(kind, options):
    """What an enforcement of this kind does beyond its name, for people; empty when there is nothing to say."""
    if kind == "bandwidth_cap":
        return "%s each way" % options.get("rate")
    if kind == "cpu_throttle":
        return "%s of its processors" % options.get("share") if str(options.get("share")).endswith("%") else "%s of processor time" % (
            options.get("share"))
    if kind == "io_throttle":
        parts = [
            "%d %s" % (options[name], unit)
            for name, unit in (("iops", "operations/s"), ("bytes_per_second", "bytes/s"))
            if options.get(name) is not None
        ]
        return "%s per disk" % " and ".join(parts)
    if kind == "null_route":
        return ", ".join(text for name, text in (
            ("rtbh", "announced to the upstreams"), ("routed_prefixes", "with its routed prefixes")) if options.get(name))
    if kind == "drop":
        sources = options.get("sources", ())
        return "%s %d remote prefix%s (%s%s)" % (
            {"in": "from", "out": "to"}.get(options.get("direction"), "from and to"), len(sources), "" if len(sources) == 1 else "es",
            ", ".join(sources[:3]), ", …" if len(sources) > 3 else "")
    if kind in ("port_block", "smtp_block"):
        where = "" if kind == "smtp_block" else " %s %s" % (
            options.get("protocol", "tcp"), {"in": "inward", "out": "outward"}[options.get("direction", "out")])
        return "port%s %s%s" % (
            "s" if len(options["ports"]) > 1 else "", ", ".join(map(str, options["ports"])), where)
    return ""
