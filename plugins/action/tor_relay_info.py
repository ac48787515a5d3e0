# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import time
import urllib.error
from typing import ClassVar

from ansible.module_utils.urls import open_url

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import current_release, release_contents
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_action import LedgerAction
from ansible_collections.hosting.aup.plugins.plugin_utils._pools._refresh import networks
from ansible_collections.hosting.aup.plugins.plugin_utils._tor import _audit, _documents

_MOST_NOTES = 50


def fetch(place, timeout):
    """The bytes of a file or of a mirror's document, up to one byte more than is taken.

    :raises InputError: it can't be read
    """
    try:
        if re.match(r"https?://", place):
            with open_url(place, timeout=timeout, http_agent="hosting.aup", use_proxy=True) as answer:
                return answer.read(_documents.LARGEST + 1)
        with open(os.path.expanduser(place), "rb") as handle:
            return handle.read(_documents.LARGEST + 1)
    except (OSError, ValueError, urllib.error.URLError) as exc:
        raise InputError("Tor document %s can't be read: %s." % (place, exc), target=place,
                         remedy="Give a file's path, or the URL of a mirror that answers.") from None


class ActionModule(LedgerAction):
    """Names relays in the provider's prefixes; see the module of the same name for its options."""

    ARGUMENTS: ClassVar[dict] = {
        "consensus": {"type": "str", "required": True},
        "descriptors": {"type": "list", "elements": "str", "default": []},
        "certificates": {"type": "str"},
        "authorities": {"type": "list", "elements": "str"},
        "verify": {"type": "bool", "default": True},
        "prefixes": {"type": "list", "elements": "str"},
        "timeout": {"type": "int", "default": 60},
    }

    def _read_files(self, args, task_vars):
        _documents.documents_available()
        now = int(time.time())
        authorities = frozenset(one.upper() for one in args["authorities"]) if args["authorities"] else _documents.default_authorities()
        wrong = [one for one in authorities if not re.fullmatch("[0-9A-F]{40}", one)]
        if wrong:
            raise InputError("authority %r is no identity of 40 hexadecimal digits." % wrong[0], target="authorities",
                             remedy="Give the fingerprints of their certificates.")
        keys = None
        if args["verify"]:
            if not args["certificates"]:
                raise InputError("certificates are missing, without which no signature can be checked.", target="certificates",
                                 remedy="Give a file or URL of /tor/keys/all, or verify: false for documents you trust.")
            keys = _documents.signing_keys(
                args["certificates"], fetch(args["certificates"], args["timeout"]), authorities, now)
        self._consensus = _documents.read_consensus(
            args["consensus"], fetch(args["consensus"], args["timeout"]), now, authorities, keys)
        self._descriptors, self._notes = {}, []
        for place in args["descriptors"]:
            found, notes = _documents.read_descriptors(place, fetch(place, args["timeout"]), now)
            self._descriptors.update(found)
            self._notes += notes
        if keys is None:
            self._notes.insert(0, "the consensus' signatures were not checked (verify: false)")
        if not args["descriptors"]:
            self._notes.append("no descriptors were read: exits over IPv6 alone are not seen")

    def _do(self, ledger, args, task_vars):
        with ledger.read(now=int(time.time())) as tx:
            release = current_release(tx)
            catalogue = release_contents(tx, release["id"])[2] if release else {"prefixes": [], "services": {}}
        prefixes = [str(one) for one in networks(args["prefixes"], "prefixes")] if args["prefixes"] else catalogue["prefixes"]
        if not prefixes:
            raise InputError("no prefixes: the ledger has no release, and none are given.", target="prefixes",
                             remedy="Provision first, or give prefixes.")
        relays = _audit.relays_in(prefixes, self._consensus.relays, self._descriptors, catalogue["services"])
        text = _audit.lines(relays)
        return {
            "changed": False, "relays": relays, "exits": [one for one in relays if one["can_exit"]], "lines": text,
            "warnings": self._notes[:_MOST_NOTES],
            "consensus": {"valid_after": self._consensus.valid_after, "valid_until": self._consensus.valid_until,
                          "signed_by": self._consensus.signed_by, "relays": len(self._consensus.relays)},
        }
