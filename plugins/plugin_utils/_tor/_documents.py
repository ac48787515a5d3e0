# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading Tor's directory documents: signatures first, then who can exit. PRIVATE to the collection.

A consensus counts when more than half of the authorities we know by name signed it with keys that their identity keys
certified (dir-spec 3.9). A relay's own descriptor counts when its own key signed it; a bad one is left out and said, as
one hostile relay must not hide the others. stem reads the entries; the signatures of the consensus are checked here,
since stem's own check counts whatever signatures a document brings along.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import hashlib
import re
import time
from collections import namedtuple

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso

LARGEST = 96 * 1024 * 1024
_MOST_RELAYS = 100_000
_LARGEST_DESCRIPTOR = 64 * 1024
# Clients take a consensus for a day after its end (dir-spec, "reasonably live").
GRACE = 24 * 3600
_CLOCKS = 3600

Consensus = namedtuple("Consensus", "valid_after valid_until signed_by relays")
Consensus.__doc__ = """`signed_by`: identities of the known authorities whose signature is good; `relays`: `{fingerprint: entry of stem}`."""

# What stem raises on documents that were made to hurt; it promises ValueError alone.
_HOSTILE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
_OBJECT = r"-----BEGIN %s-----\n([A-Za-z0-9+/=\n]{1,4096})-----END %s-----\n"
_SIGNATURE = re.compile(
    r"directory-signature (?:(sha1|sha256) )?([0-9A-Fa-f]{40}) ([0-9A-Fa-f]{40})\n" + _OBJECT % ("SIGNATURE", "SIGNATURE"))


def _wrong(place, problem, remedy="Fetch it again, from another mirror."):
    return InputError("Tor document %s: %s." % (place, problem), target=place, remedy=remedy)


def _text(name, data):
    if len(data) > LARGEST:
        raise _wrong(name, "larger than %d bytes" % LARGEST)
    if b"\0" in data:
        raise _wrong(name, "has a NUL byte")
    return data.decode("latin-1")


def _raw_rsa(key_pem, signature):
    """What a signature over a bare digest (PKCS #1 v1.5 padding, no algorithm) says, or None."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(key_pem.encode("ascii"))
        if not isinstance(key, RSAPublicKey) or not 1024 <= key.key_size <= 8192:
            return None
        raw = base64.b64decode(signature, validate=False)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        return None
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    if len(raw) != size:
        return None
    opened = pow(int.from_bytes(raw, "big"), numbers.e, numbers.n).to_bytes(size, "big")
    padded = re.fullmatch(rb"\x00\x01\xff{8,}\x00(.*)", opened, re.DOTALL)
    return padded.group(1) if padded else None


def _key_digest(pem):
    body = "".join(pem.strip().split("\n")[1:-1])
    try:
        return hashlib.sha1(base64.b64decode(body), usedforsecurity=False).hexdigest().upper()
    except binascii.Error:
        return None


def _utc(text):
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return None


def signing_keys(name, data, authorities, now):
    """`{(identity, digest of signing key): key}` of certificates that a known authority's identity key signed.

    :param data: dir-key-certificate-3 documents, one after the other
    :param authorities: identities (40 hexadecimal digits) that count
    :raises InputError: when none of them is good
    """
    text, good, problems = _text(name, data), {}, []
    parts = re.split(r"(?m)^(?=dir-key-certificate-version )", text)
    for part in parts[1:201]:
        fingerprint = re.search(r"(?m)^fingerprint ([0-9A-Fa-f]{40})$", part)
        identity = re.search(r"(?m)^dir-identity-key\n(-----BEGIN RSA PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,4096}-----END RSA PUBLIC KEY-----)\n", part)
        signing = re.search(r"(?m)^dir-signing-key\n(-----BEGIN RSA PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,4096}-----END RSA PUBLIC KEY-----)\n", part)
        expires = re.search(r"(?m)^dir-key-expires (.{19})$", part)
        signed = re.search(r"(?s)\A(.*\ndir-key-certification\n)" + _OBJECT % ("SIGNATURE", "SIGNATURE"), part)
        if not (fingerprint and identity and signing and expires and signed):
            problems.append("a certificate is truncated")
            continue
        who = fingerprint.group(1).upper()
        if who not in authorities:
            continue
        digest = hashlib.sha1(signed.group(1).encode("latin-1"), usedforsecurity=False).digest()
        if _key_digest(identity.group(1)) != who:
            problems.append("%s: the identity key is another's" % who)
        elif _raw_rsa(identity.group(1), signed.group(2)) != digest:
            problems.append("%s: not signed by its identity key" % who)
        elif (_utc(expires.group(1)) or 0) <= now:
            problems.append("%s: expired %s" % (who, expires.group(1)))
        else:
            good[who, _key_digest(signing.group(1))] = signing.group(1)
    if not good:
        raise _wrong(name, "has no good certificate of a known authority%s" % (": " + "; ".join(problems[:3]) if problems else ""),
                     "Fetch the authorities' certificates (/tor/keys/all); name the authorities of a network of your own.")
    return good


def _signers(text, keys, authorities):
    """Identities of known authorities whose signature of this consensus is good."""
    start = text.find("network-status-version ")
    first = text.find("\ndirectory-signature ", start)
    body = text[start:first + len("\ndirectory-signature ")].encode("latin-1")
    digests = {"sha1": hashlib.sha1(body, usedforsecurity=False).digest(), "sha256": hashlib.sha256(body).digest()}
    found = set()
    for match in list(_SIGNATURE.finditer(text, first))[:200]:
        algorithm, who, key_digest = match.group(1) or "sha1", match.group(2).upper(), match.group(3).upper()
        key = keys.get((who, key_digest))
        if key is not None and who in authorities and _raw_rsa(key, match.group(4)) == digests[algorithm]:
            found.add(who)
    return found


def read_consensus(name, data, now, authorities, keys=None):
    """A consensus (flavour ns).

    :param keys: of `signing_keys`, or None to read it unverified
    :raises InputError: truncated, not signed by more than half of the authorities, too old, from the future, hostile
    """
    from stem.descriptor.router_status_entry import RouterStatusEntryV3

    text = _text(name, data)
    text = re.sub(r"\A@type [^\n]*\n", "", text)
    if not text.startswith("network-status-version 3"):
        raise _wrong(name, "is no consensus")
    if "\ndirectory-footer\n" not in text or not _SIGNATURE.search(text) or not text.endswith("-----END SIGNATURE-----\n"):
        raise _wrong(name, "is truncated: footer or signatures are missing")
    if text.startswith("network-status-version 3 microdesc"):
        raise _wrong(name, "is of the flavour microdesc, which has neither policies nor descriptors' digests",
                     "Fetch /tor/status-vote/current/consensus.")
    signed = _signers(text, keys, authorities) if keys is not None else set()
    if keys is not None and len(signed) * 2 <= len(authorities):
        raise _wrong(name, "has good signatures of %d of %d authorities, more than half are needed" % (len(signed), len(authorities)))
    times = {key: _utc((re.search(r"(?m)^%s (.{19})$" % key, text) or [None, ""])[1]) for key in ("valid-after", "valid-until")}
    if None in times.values():
        raise _wrong(name, "says not when it is valid")
    if times["valid-after"] > now + _CLOCKS:
        raise _wrong(name, "is valid only from %s on" % iso(times["valid-after"]), "Check this machine's clock.")
    if now > times["valid-until"] + GRACE:
        raise _wrong(name, "was valid until %s" % iso(times["valid-until"]), "Fetch a current one.")
    parts = re.split(r"(?m)^(?=r \S)", text[:text.index("\ndirectory-footer\n") + 1])[1:]
    if not 0 < len(parts) <= _MOST_RELAYS:
        raise _wrong(name, "names %d relays" % len(parts))
    relays = {}
    for number, part in enumerate(parts, start=1):
        try:
            entry = RouterStatusEntryV3(part.encode("latin-1"), validate=True)
            relays[entry.fingerprint.upper()] = entry
        except _HOSTILE as exc:
            raise _wrong("%s: entry %d" % (name, number), "can't be read: %s" % " ".join(str(exc).split())[:200]) from None
    return Consensus(times["valid-after"], times["valid-until"], sorted(signed), relays)


def read_descriptors(name, data, now):
    """`({fingerprint: newest good descriptor}, notes)` of server descriptors.

    :raises InputError: when it is no list of them
    """
    from stem.descriptor.server_descriptor import RelayDescriptor

    text, good, notes = _text(name, data), {}, []
    parts = re.split(r"(?m)^(?=router \S)", text)
    if len(parts) < 2 or re.sub(r"(?m)^@.*\n", "", parts[0]).strip():
        raise _wrong(name, "is no list of server descriptors")
    for number, part in enumerate(parts[1:_MOST_RELAYS + 1], start=1):
        part = re.sub(r"(?m)^@[^\n]*\n", "", part)
        place = "%s: descriptor %d" % (name, number)
        if len(part) > _LARGEST_DESCRIPTOR:
            notes.append("%s: larger than %d bytes; left out" % (place, _LARGEST_DESCRIPTOR))
            continue
        try:
            found = RelayDescriptor(part.encode("latin-1"), validate=True, skip_crypto_validation=True)
            problem = _self_signed(part, found)
            fingerprint = (found.fingerprint or "").upper()
            published = calendar.timegm(found.published.timetuple())
        except _HOSTILE as exc:
            problem = " ".join(str(exc).split())[:160] or "unreadable"
        if problem is None and not now - 48 * 3600 <= published <= now + _CLOCKS:
            problem = "published %s, which is not of these two days" % iso(published)
        if problem is not None:
            notes.append("%s: %s; left out. Fetch it again, and look at its relay by hand if it stays so" % (place, problem))
        elif fingerprint not in good or good[fingerprint].published < found.published:
            good[fingerprint] = found
    return good, notes


def _self_signed(text, found):
    """What is wrong with a descriptor's own signature, or None."""
    if not found.fingerprint or not found.signing_key:
        return "names no key"
    if _key_digest(found.signing_key) != found.fingerprint.upper():
        return "its fingerprint is not its key's"
    end = text.find("\nrouter-signature\n")
    signature = re.search(_OBJECT % ("SIGNATURE", "SIGNATURE"), text[end:]) if end >= 0 else None
    if signature is None:
        return "is truncated"
    body = text[:end + len("\nrouter-signature\n")].encode("latin-1")
    if _raw_rsa(found.signing_key + "\n", signature.group(1)) != hashlib.sha1(body, usedforsecurity=False).digest():
        return "its signature is wrong"
    return None


def default_authorities():
    """Identities of the public network's authorities, as stem knows them."""
    from stem.directory import Authority

    return frozenset(one.v3ident for one in Authority.from_cache().values() if one.v3ident)


def documents_available():
    """:raises InputError: without stem or cryptography"""
    try:
        import cryptography.hazmat.primitives.serialization  # noqa: F401
        import stem.descriptor  # noqa: F401
    except ImportError as exc:
        raise InputError("reading Tor's documents needs the Python packages stem and cryptography (%s)." % exc.name,
                         target=str(exc.name), remedy="Install them for the Python that runs Ansible.") from None
