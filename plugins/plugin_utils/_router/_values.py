# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values in what routers are told and answer, of whatever platform; what is not understood is refused. Pure. PRIVATE."""
from __future__ import annotations

import ipaddress
import json

from ansible_collections.hosting.aup.plugins.module_utils._routers import collapsed

NOTHING = {4: ("0.0.0.0/32",), 6: ("::/128", "fe80::/10")}
"""What a server without an address yet may send from; routers never forward these."""
LEAST_BURST = 131072  # bytes; a packet that a kernel has put together has up to 65536


class NotUnderstood(ValueError):
    """Output that the parser does not know; the text says where."""


def checked_route(prefix, mark, least=1, most=4294967295):
    """The network of a null route that is to be built.

    :raises ValueError: no canonical prefix, or a mark out of range
    """
    network = ipaddress.ip_network(prefix)
    if str(network) != prefix or network.prefixlen == 0:
        raise ValueError("%r is no canonical prefix" % (prefix,))
    if isinstance(mark, bool) or not isinstance(mark, int) or not least <= mark <= most:
        raise ValueError("%r is no mark" % (mark,))
    return network


def is_address(text):
    """Whether it is one address, of either family."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def within(address, networks):
    """Whether an address, which may name its zone, is in one of these networks."""
    one = ipaddress.ip_address(address.partition("%")[0])
    return any(one.version == network.version and one in network for network in networks)


def of_family(prefixes, version):
    """The prefixes of one family, merged and in order."""
    return collapsed([text for text in prefixes if ipaddress.ip_network(text).version == version])


def parse_json(text):
    """A mapping in JSON; anything else is refused, so that a complaint is never taken for "nothing there"."""
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise NotUnderstood("no JSON: %s" % ascii(text.strip()[:80])) from exc
    if not isinstance(document, dict):
        raise NotUnderstood("a mapping is expected")
    return document


def json_documents(text):
    """The JSON documents that stand behind each other in a text.

    :raises NotUnderstood: something else stands there
    """
    decoder, documents, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except ValueError as exc:
            raise NotUnderstood("no JSON: %s" % rest[:80]) from exc
        documents.append(document)
        rest = rest[end:].strip()
    return documents


def understood(target, line, parse):
    """What `parse()` makes of the answer to a line.

    :raises RouterError: code `bad_reply`
    """
    try:
        return parse()
    except NotUnderstood as exc:
        raise target.error("bad_reply", "its answer to %r was not understood: %s." % (line, exc),
                           "Nothing is concluded from it. Report it with platform and version.") from exc
