# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: what nodes are to look like, kept by content. PRIVATE to the collection."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import OrderedDict

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical, digest
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, LedgerError
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import reader, verb

_KEPT = 16
_contents = OrderedDict()


def store_content(tx, document):
    """Keep a document once, whatever how often it is stored. Returns its digest."""
    body = canonical(document)
    name = hashlib.sha256(body).hexdigest()
    if not tx.execute(sa.select(t.content.c.digest).where(t.content.c.digest == name)).first():
        tx.execute(
            t.content.insert().values(
                digest=name, body=zlib.compress(body, 6), size=len(body), created_at=tx.now
            )
        )
    return name


def content(tx, name):
    """The document with this digest. Do not change what it returns: a process reads each content only once.

    :raises LedgerError: `ledger_corrupt` when what is stored is not what the digest says
    """
    if name in _contents:
        _contents.move_to_end(name)
        return _contents[name]
    packed = tx.execute(sa.select(t.content.c.body).where(t.content.c.digest == name)).scalar()
    try:
        body = zlib.decompress(bytes(packed)) if packed is not None else b""
    except zlib.error:
        body = b""
    if hashlib.sha256(body).hexdigest() != name:
        raise LedgerError(
            "content %s of the ledger is missing or damaged." % name[:12],
            code="ledger_corrupt",
            target=name,
            remedy="Run provision to release policy and catalogue again, or restore the backup.",
        )
    _contents[name] = json.loads(body)
    while len(_contents) > _KEPT:
        _contents.popitem(last=False)
    return _contents[name]


@reader
def current_release(tx):
    """The newest release as a document, or None."""
    row = tx.execute(sa.select(t.release).order_by(t.release.c.id.desc()).limit(1)).first()
    return _document(row) if row else None


@reader
def find_release(tx, release_id):
    """A release as a document.

    :raises InputError: there is none of this id
    """
    row = tx.execute(sa.select(t.release).where(t.release.c.id == release_id)).first()
    if row is None:
        raise InputError(
            "there is no release %s." % release_id,
            target="release_id",
            remedy="ledger_info what=status says which is the newest.",
        )
    return _document(row)


def _document(row):
    policies = values.from_text(row.policies)
    return {
        "id": row.id,
        "created_at": row.created_at,
        "policy_keys": sorted(policies),
        "default_policy": row.default_policy,
        "catalogue_digest": row.catalogue_digest,
        "digest": row.contents_digest,
        "policies": policies,
        "nodes": row.nodes,
        "services": row.services,
    }


@reader
def release_contents(tx, release_id):
    """A release with what is in it: (release, {key: policy document}, catalogue document)."""
    release = find_release(tx, release_id)
    documents = {key: content(tx, name) for key, name in release["policies"].items()}
    return release, documents, content(tx, release["catalogue_digest"])


@reader
def policy_released(tx, key):
    """The document of a policy's version as it was last released, or None."""
    rows = tx.execute(sa.select(t.release.c.policies).where(t.release.c.policies.like("%" + values.to_text(key) + "%")).order_by(t.release.c.id.desc()))
    for row in rows:
        digest = values.from_text(row.policies).get(key)
        if digest is not None:
            return content(tx, digest)
    return None


def _pack(arguments):
    return {"packed": base64.b64encode(zlib.compress(canonical(arguments), 6)).decode("ascii")}


def _unpack(arguments):
    return json.loads(zlib.decompress(base64.b64decode(arguments["packed"])))


@verb(pack=_pack, unpack=_unpack)
def create_release(tx, policies, default_policy, catalogue):
    """Release policies and catalogue together. The same contents as the current release make no new one.

    :param policies: {key `name@version`: policy document}
    :param default_policy: key of the policy for services that name none
    :param catalogue: the catalogue document's technical slice, without personal data
    :returns: the release, with `created`
    :raises InputError: the default policy is not among the policies
    """
    if default_policy not in policies:
        raise InputError(
            "the default policy %r is not among the released policies." % default_policy,
            target="aup_policy",
            remedy="Released are: %s." % ", ".join(sorted(policies)),
        )
    digests = {key: store_content(tx, document) for key, document in policies.items()}
    catalogue_digest = store_content(tx, catalogue)
    own = digest({"policies": digests, "default": default_policy, "catalogue": catalogue_digest})
    present = current_release(tx)
    if present and present["digest"] == own:
        return dict(present, created=False)
    release_id = tx.next_number(t.release.c.id)
    tx.append(
        "release_created",
        {
            "release": release_id,
            "digest": own,
            "policies": digests,
            "default": default_policy,
            "catalogue": catalogue_digest,
        },
    )
    tx.execute(
        t.release.insert().values(
            id=release_id,
            created_at=tx.now,
            contents_digest=own,
            default_policy=default_policy,
            policies=values.to_text(digests),
            catalogue_digest=catalogue_digest,
            nodes=len(catalogue.get("nodes", {})),
            services=len(catalogue.get("services", {})),
        )
    )
    after = find_release(tx, release_id)
    tx.changed("release", release_id, _brief(present), _brief(after))
    return dict(after, created=True)


def _brief(release):
    return release and {
        name: release[name] for name in ("policy_keys", "default_policy", "catalogue_digest", "services")
    }
