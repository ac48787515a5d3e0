# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dated inputs: what was found out in the world at one time, and grows stale. PRIVATE to the collection.

Addresses of pools are the first. Like a release's documents they are kept by content; unlike them they take effect
at the next pass on every node, without a release.
"""

from __future__ import annotations

import base64
import json
import zlib

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import content, store_content
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_CONTENTS_KEPT = 2


@reader
def dated_inputs(tx):
    """`{name: {"name", "number", "at", "stale_at", "digest", "summary"}}`: the newest of each name."""
    newest = sa.select(sa.func.max(t.dated_input.c.number)).group_by(t.dated_input.c.name)
    rows = tx.execute(
        sa.select(t.dated_input).where(t.dated_input.c.number.in_(newest)).order_by(t.dated_input.c.name)
    )
    return {
        row.name: {
            "name": row.name,
            "number": row.number,
            "at": row.taken_at,
            "stale_at": row.stale_at,
            "digest": row.content_digest,
            "summary": values.from_text(row.summary),
        }
        for row in rows
    }


@reader
def dated_documents(tx):
    """`{name: {"at", "stale_at", "document"}}` of the newest of each name. Do not change the documents."""
    return {
        name: {"at": found["at"], "stale_at": found["stale_at"], "document": content(tx, found["digest"])}
        for name, found in dated_inputs(tx).items()
    }


def _pack(arguments):
    return {"packed": base64.b64encode(zlib.compress(canonical(arguments), 6)).decode("ascii")}


def _unpack(arguments):
    return json.loads(zlib.decompress(base64.b64decode(arguments["packed"])))


@verb(pack=_pack, unpack=_unpack)
def record_input(tx, name, document, stale_seconds, summary):
    """Record a dated input; it holds from now on.

    Of each name the contents of the newest two are kept, of older ones the digest and the summary.

    :param name: what it is (`pools`)
    :param document: the data
    :param stale_seconds: after which it is called stale
    :param summary: its figures and notes, for people
    :returns: the input as `dated_inputs` gives it
    """
    name = values.identifier(name, "input")
    before = dated_inputs(tx).get(name)
    number = tx.next_number(t.dated_input.c.number)
    digest = store_content(tx, document)
    event = tx.append("input_recorded", {"input": name, "number": number, "digest": digest})
    tx.execute(
        t.dated_input.insert().values(
            number=number,
            name=name,
            taken_at=tx.now,
            stale_at=tx.now + int(stale_seconds),
            content_digest=digest,
            summary=values.to_text(summary),
            event_number=event,
        )
    )
    _forget_old_contents(tx, name)
    after = dated_inputs(tx)[name]
    tx.changed("input", name, before and _brief(before), _brief(after))
    return after


def _brief(found):
    return {"at": found["at"], "digest": found["digest"]} | {
        key: value for key, value in found["summary"].items() if key != "notes"
    }


def _forget_old_contents(tx, name):
    mine = t.dated_input.c.name == name
    digests = list(
        tx.execute(
            sa.select(t.dated_input.c.content_digest).where(mine).order_by(t.dated_input.c.number.desc())
        ).scalars()
    )
    old = set(digests[_CONTENTS_KEPT:]) - set(digests[:_CONTENTS_KEPT])
    if old:
        tx.execute(t.content.delete().where(t.content.c.digest.in_(sorted(old))))
