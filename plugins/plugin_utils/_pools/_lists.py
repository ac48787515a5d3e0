# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading lists of mining pools in the forms that are published. PRIVATE to the collection.

A list comes from strangers: what is no host is left out and said, and nothing in it is more than a host, a port
and what is done there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import ipaddress
import re
from collections import namedtuple

import yaml

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

LARGEST = 10 * 1024 * 1024
LONGEST_LINE = 4096
MOST = 100_000
_MOST_NOTES = 20
# Pools are for mining; what farms or is a node of a chain is told by the ports of its peers.
PEERS = ("nodes", "farming")
PROTOCOLS = ("tcp", "udp")

Endpoint = namedtuple("Endpoint", "host port activity")
Endpoint.__doc__ = """A host of a pool. `port` None: the list names no port, so the whole address is meant."""

PoolList = namedtuple("PoolList", "name sha256 endpoints ports notes")
PoolList.__doc__ = """A list as read.

`endpoints`: frozenset of Endpoint; `ports`: `{activity: {protocol: sorted ports}}` of what is known by its port alone
(peers of a chain); `notes`: what was left out, with file and line.
"""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST = re.compile(r"(?=.{4,253}$)%s(?:\.%s)*\.[a-z][a-z0-9-]{0,61}[a-z0-9]" % (_LABEL, _LABEL))
_SCHEME = re.compile(r"(?:stratum[12]?(?:\+(?:tcp|ssl|tls|tcps|udp|proxy))?|tcp|ssl|tls)://", re.IGNORECASE)
_ADBLOCK = re.compile(r"\|\|([^\^/$|*]+)\^(?:\$(?:all|important|document|third-party|network))?$")
_DNSMASQ = re.compile(r"(?:address|server|local)=/([^/]+)/[^/]*$")
_SINKS = ("0.0.0.0", "127.0.0.1", "::", "::1", "127.0.1.1")
# Names that every hosts file has for the machine itself.
_OF_THE_MACHINE = frozenset(("localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback",
                             "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts", "0.0.0.0"))


def host_of(text):
    """A host name in lower-case ASCII without final point, or an address as text; None if it is neither."""
    text = text.strip().rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return text if _HOST.fullmatch(text) else None


def _port_of(text):
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65535 else None


def _host_and_port(text):
    """(host, port or None) of `host`, `host:port`, `[v6]:port`; None for anything else."""
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::([0-9]+))?", text)
    if bracketed:
        host, port = bracketed.groups()
    elif text.count(":") == 1:
        host, port = text.split(":")
    else:
        host, port = text, None
    host = host_of(host)
    if host is None:
        return None
    if port is None:
        return host, None
    number = _port_of(port)
    return (host, number) if number is not None else None


def parse_line(line):
    """[(host, port or None)] of one line of a plain, hosts, URL, AdBlock or dnsmasq list; [] for a comment.

    :returns: None when the line is none of these
    """
    line = line.strip()
    if not line or line[0] in "#!;[" and not re.match(r"\[[0-9a-fA-F:]+\]", line):
        return []
    if line.startswith("@@"):
        return []  # an exception of an AdBlock list: it blocks nothing
    adblock = _ADBLOCK.fullmatch(line)
    if adblock:
        found = _host_and_port(adblock.group(1))
        return [found] if found else None
    line = re.split(r"\s#", line, maxsplit=1)[0].strip()
    dnsmasq = _DNSMASQ.fullmatch(line)
    if dnsmasq:
        host = host_of(dnsmasq.group(1))
        return [(host, None)] if host else None
    words = line.split()
    if len(words) > 1 and words[0] in _SINKS:
        hosts = [host_of(word) for word in words[1:] if word.lower() not in _OF_THE_MACHINE]
        return [(host, None) for host in hosts] if all(hosts) else None
    if len(words) != 1:
        return None
    scheme = _SCHEME.match(line)
    if scheme:
        rest = line[scheme.end():].rpartition("@")[2].split("/")[0]  # user@ of a miner's own configuration
        found = _host_and_port(rest)
        return [found] if found and found[1] is not None else None
    found = _host_and_port(line)
    return [found] if found else None


def _csv_endpoints(text):
    """Endpoints of a table with the columns domain and port; rows that its author doubts are left out."""
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        if row.get("confidence") not in (None, "confirmed", "probable") or row.get("status") not in (None, "active"):
            continue
        host, port = host_of(row.get("domain") or ""), _port_of((row.get("port") or "").strip())
        yield number, [(host, port)] if host and port else None


def parse(name, data):
    """A published list.

    :param name: what the list is called in notes
    :param data: its bytes
    :returns: PoolList
    :raises InputError: too large, not text, or a list of which nothing could be read
    """
    if len(data) > LARGEST:
        raise InputError("pool list %s is larger than %d bytes." % (name, LARGEST), target=name,
                         remedy="Give a shorter list.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError("pool list %s is not UTF-8 text: byte %d." % (name, exc.start), target=name,
                         remedy="Fetch it again, unpacked.") from None
    digest = hashlib.sha256(data).hexdigest()
    if name.endswith((".yml", ".yaml")):
        return _own(name, text, digest)
    first = text.split("\n", 1)[0].strip()
    rows = (_csv_endpoints(text) if first.startswith("domain,port")
            else ((number, parse_line(line) if len(line) <= LONGEST_LINE else None)
                  for number, line in enumerate(text.splitlines(), start=1)))
    found, odd = set(), []
    for number, pairs in rows:
        if pairs is None:
            odd.append(number)
            continue
        found.update(Endpoint(host, port, "mining") for host, port in pairs)
        if len(found) > MOST:
            raise InputError("pool list %s has more than %d endpoints." % (name, MOST), target="%s:%d" % (name, number),
                             remedy="This is no list of pools: check what was fetched.")
    notes = ["%s:%d: not a host, hosts line, URL, AdBlock or dnsmasq rule; left out" % (name, number)
             for number in odd[:_MOST_NOTES]]
    if len(odd) > _MOST_NOTES:
        notes.append("%s: %d further lines left out" % (name, len(odd) - _MOST_NOTES))
    if not found or len(odd) > len(found):
        raise InputError(
            "pool list %s: %d endpoints and %d lines that are none%s." % (
                name, len(found), len(odd), ", the first in line %d" % odd[0] if odd else ""),
            target=name, remedy="Check that the list was fetched whole (and is no error page).")
    return PoolList(name, digest, frozenset(found), {}, notes)


def _own(name, text, digest):
    """A list in our own form: pools with ports, and what is known by its port alone."""
    def wrong(place, problem):
        return InputError("pool list %s, %s: %s." % (name, place, problem), target="%s:%s" % (name, place),
                          remedy="docs/controls.md (mining) shows the form.")

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        raise InputError("pool list %s is not YAML: %s." % (name, " ".join(str(exc).split())), target=name,
                         remedy="Correct the file.") from None
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise wrong("schema", "expected 1")
    found, ports = set(), {}
    for number, pool in enumerate(_list(document, "pools", wrong)):
        place = "pools[%d]" % number
        if not isinstance(pool, dict) or not isinstance(pool.get("host"), str) or host_of(pool["host"]) is None:
            raise wrong(place + ".host", "expected a host name")
        for port in _ports(pool.get("ports"), wrong, place + ".ports") or [None]:
            found.add(Endpoint(host_of(pool["host"]), port, "mining"))
    for number, peer in enumerate(_list(document, "peers", wrong)):
        place = "peers[%d]" % number
        activity, protocol = (peer.get("activity"), peer.get("protocol")) if isinstance(peer, dict) else (None, None)
        if activity not in PEERS or protocol not in PROTOCOLS:
            raise wrong(place, "expected activity (nodes, farming), protocol (tcp, udp) and ports")
        ports.setdefault(activity, {}).setdefault(protocol, set()).update(
            _ports(peer.get("ports"), wrong, place + ".ports"))
    if not found and not ports:
        raise wrong("pools", "the list is empty")
    return PoolList(name, digest, frozenset(found),
                    {a: {p: sorted(numbers) for p, numbers in sorted(by.items())} for a, by in sorted(ports.items())}, [])


def _list(document, key, wrong):
    found = document.get(key, [])
    if not isinstance(found, list) or len(found) > MOST:
        raise wrong(key, "expected a list")
    return found


def _ports(found, wrong, place):
    if found is None:
        return []
    if not isinstance(found, list) or not all(
            isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535 for port in found):
        raise wrong(place, "expected ports from 1 to 65535")
    return found
