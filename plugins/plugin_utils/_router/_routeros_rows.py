# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of RouterOS's firewall as it prints them, for drops and ports alike. Pure. PRIVATE to the collection."""
from __future__ import annotations

import ipaddress

from ansible_collections.hosting.aup.plugins.plugin_utils._router._values import NotUnderstood

MENUS = {4: "/ip/firewall", 6: "/ipv6/firewall"}


def text_of(value):
    """A value of a row as one word of text."""
    if isinstance(value, list):
        return ",".join(text_of(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ascii(value)[1:-1] if isinstance(value, str) else ascii(value)


def on(row, name="disabled"):
    """Whether a flag is set."""
    return row.get(name) in (True, "true", "yes")


def network_of(row, version):
    """The prefix of a row of an address list, canonical.

    :raises NotUnderstood: none, or one of the other family
    """
    try:
        network = ipaddress.ip_network(str(row["address"]))
    except (KeyError, ValueError) as exc:
        raise NotUnderstood("address list %s" % ascii(row)[:100]) from exc
    if network.version != version:
        raise NotUnderstood("address list %s" % ascii(row)[:100])
    return str(network)


def spelled(text):
    """A canonical prefix as address lists print it: hosts of IPv4 without a length."""
    return text[:-3] if text.endswith("/32") and ":" not in text else text
