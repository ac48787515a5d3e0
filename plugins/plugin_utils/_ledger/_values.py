# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the values that callers put into the ledger. PRIVATE to the collection."""

from __future__ import annotations

import json
import re

from ansible_collections.hosting.aup.plugins.module_utils._canonical import canonical
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,127}")
_MOST_TEXT = 4000


def identifier(value, what):
    """`value` as a plain string when it may name a case, service, node or control.

    :raises InputError: empty, longer than 128, or with other characters than letters, digits and ``._:@+/-``
    """
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not _IDENTIFIER.fullmatch(text):
        raise InputError(
            "%s %r is not a usable name." % (what, value),
            target=what,
            remedy="Use 1 to 128 letters, digits and ._:@+/- , beginning with a letter or digit.",
        )
    return text


def free_text(value, what, needed=False):
    """Text of people, kept exactly as given: it is data and never interpreted.

    :raises InputError: not text, missing though needed, longer than 4000 characters, or not storable
        (NUL, half a surrogate pair)
    """
    if value is None or value == "":
        if needed:
            raise InputError("%s is missing." % what, target=what, remedy="Say it in a few words.")
        return ""
    text = "".join(value) if isinstance(value, str) else None
    if (
        text is None
        or len(text) > _MOST_TEXT
        or "\x00" in text
        or any("\ud800" <= c <= "\udfff" for c in text)
    ):
        raise InputError(
            "%s is not text of at most %d characters without NUL." % (what, _MOST_TEXT),
            target=what,
            remedy="Shorten it, or remove what is not text.",
        )
    return text


def moment(value, what, optional=False):
    """A time in whole seconds since the epoch.

    :raises InputError: anything else
    """
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise InputError(
            "%s %r is not a time in seconds since the epoch." % (what, value),
            target=what,
            remedy="Give a whole number of seconds.",
        )
    return int(value)


def to_text(document):
    """A document as it is stored."""
    return canonical(document).decode("ascii")


def from_text(text):
    """A stored document; None stays None."""
    return None if text is None else json.loads(text)
