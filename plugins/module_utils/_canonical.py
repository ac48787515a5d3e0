# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One byte form for each document, so that equal documents have equal digests. PRIVATE to the collection."""
from __future__ import annotations

import hashlib
import json


def canonical(document):
    """The document as bytes: JSON, keys sorted, no spaces, ASCII.

    :raises TypeError: for a value that JSON has no form for
    :raises ValueError: for NaN and infinities, which are not JSON
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest(document):
    """SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()
