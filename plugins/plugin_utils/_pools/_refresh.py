# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refreshing the data of mining pools: lists from files, names from resolvers, the result into the ledger.

PRIVATE to the collection.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import yaml

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import NETWORKS
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    current_release,
    dated_documents,
    record_input,
    release_contents,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._pools import _data, _lists

SHIPPED = Path(__file__).resolve().parents[3] / "policies" / "data"
OWN = "shipped"
_MOST_SHOWN = 30


def read_list(path, search=()):
    """A list from a file; `shipped` is the collection's own.

    :param search: directories in which a relative path is looked for
    :raises InputError: unreadable or wrong
    """
    if path == OWN:
        found = SHIPPED / "pools.yml"
    else:
        expanded = os.path.expanduser(path)
        candidates = [Path(directory) / expanded for directory in search] + [Path(expanded)]
        found = next((candidate for candidate in candidates if candidate.is_file()), candidates[-1])
    try:
        with open(found, "rb") as handle:
            data = handle.read(_lists.LARGEST + 1)
    except OSError as exc:
        raise InputError("pool list %s can't be read: %s." % (path, exc.strerror), target=path,
                         remedy="Give the path of a file; ansible.builtin.get_url fetches one.") from None
    return _lists.parse(found.name, data)


def shared_networks(path=None):
    """`[(prefix, what)]` of networks that many share."""
    document = yaml.safe_load((path or SHIPPED / "shared_networks.yml").read_text(encoding="utf-8"))
    return [(prefix, entry["what"]) for entry in document["networks"] for prefix in entry["prefixes"]]


def spared_networks(tx, resolvers, extra):
    """`[(prefix, what)]` of all that is never data: the release's own and protected networks, resolvers, shared ones.

    :param resolvers: [(address, port)]
    :param extra: prefixes the operator adds
    """
    found = list(shared_networks())
    release = current_release(tx)
    if release is not None:
        _release, documents, catalogue = release_contents(tx, release["id"])
        found += [(prefix, "the provider's own prefixes") for prefix in catalogue["prefixes"]]
        for document in documents.values():
            policy = Policy.from_released(document)
            found += [(prefix, "a protected prefix of policy %s" % policy.key) for prefix in policy.guardrails.protected]
            for name in NETWORKS:
                found += [(prefix, "the network %s of policy %s" % (name, policy.key)) for prefix in policy.networks(name)]
    found += [(address, "a resolver that was asked") for address, _port in resolvers]
    found += [(prefix, "aup_spare") for prefix in networks(extra, "spare")]
    return found


def networks(texts, what):
    """Prefixes as ipaddress networks.

    :raises InputError: for anything else
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(str(text)))
        except ValueError:
            raise InputError("%s %r is no prefix." % (what, text), target=what,
                             remedy="Write it like 192.0.2.0/24 or 2001:db8::/32.") from None
    return found


def refresh(tx, lists, answers, spared, settings):
    """Judge what was found against what the ledger has, and record it.

    :param answers: `{host: Answer}`
    :param spared: `[(prefix, what)]`
    :returns: the result's keys
    :raises InputError: the update is not believed
    """
    former = dated_documents(tx).get(_data.NAME)
    done = _data.update(former and former["document"], lists, answers, _data.Spared(spared), tx.now, settings)
    recorded = record_input(tx, _data.NAME, done.document, settings.stale_seconds, done.summary)
    summary = done.summary
    what = ["%d endpoints of %d names: %d added, %d removed, %d kept from before, %d remarks" % (
        summary["endpoints"], summary["names"], summary["added"], summary["removed"], summary["kept"], len(done.notes))]
    what.append("new ones are only observed until %s" % iso(tx.now + settings.observe_seconds))
    return {
        "changed": True,
        "what": what,
        "warnings": done.notes[:_MOST_SHOWN] + (
            ["%d further remarks: hosting.aup.status keeps them" % (len(done.notes) - _MOST_SHOWN)]
            if len(done.notes) > _MOST_SHOWN else []),
        "input": {key: recorded[key] for key in ("name", "at", "stale_at", "digest")},
        "figures": {key: value for key, value in summary.items() if key != "notes"},
    }


def hosts_of(lists):
    """The names and addresses to ask for, sorted."""
    return sorted({endpoint.host for found in lists for endpoint in found.endpoints})
