# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode across tasks: what earlier verbs would have written, written again and rolled back.

PRIVATE to the collection.
"""

from __future__ import annotations

import binascii
import zlib

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import VERBS


def replay(tx, pending):
    """Run the verbs of a pending list again. Returns their results.

    Ids come out the same, because the ledger numbers by counting and nothing else is written meanwhile;
    if something was, they are those that a real run would now get.

    :param pending: [{"verb", "args"}] as check mode returned it
    :raises InputError: not such a list, an unknown verb or arguments it does not take, or a
        transaction that would be committed
    """
    if not pending:
        return []
    if not tx.check:
        raise InputError(
            "pending changes of a check run are never written.",
            target="pending",
            remedy="Leave pending out of a real run.",
        )
    return [_again(tx, entry) for entry in pending]


def _again(tx, entry):
    verb = VERBS.get(entry.get("verb")) if isinstance(entry, dict) else None
    if verb is None:
        raise InputError(
            "pending names no verb of the ledger.",
            target="pending",
            remedy="Pass on the list that the ledger module returned in check mode.",
        )
    try:
        return verb(tx, **verb.unpack(entry.get("args") or {}))
    except (TypeError, KeyError, binascii.Error, zlib.error) as exc:
        raise InputError(
            "pending has arguments that %s does not take." % entry["verb"],
            target="pending",
            remedy="Pass on the list that the ledger module returned in check mode.",
        ) from exc
