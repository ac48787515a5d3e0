# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last look at every line before it goes to a router. Pure. PRIVATE to the collection.

A newline in a value really does run a second command on a router, so builders only print values that they
parsed, and this gate knows nothing of builders: it lets pass what has the shape of a line the platform may
ever send, and nothing else.
"""
from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError

LONGEST = 200
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_FORBIDDEN = frozenset("?|;&$<>`\\\"'{}[]!#%*~^")

IPV4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV6 = r"[0-9a-f:]{2,39}"
PREFIX4 = IPV4 + r"/(?:3[0-2]|[12][0-9]|[1-9])"
PREFIX6 = IPV6 + r"/(?:12[0-8]|1[01][0-9]|[1-9][0-9]|[1-9])"
NUMBER = r"[1-9][0-9]{0,9}"


def pass_line(line, grammar, tails=(), allowed="", longest=LONGEST):
    """The line, if it may be sent.

    :param grammar: compiled patterns of all lines the platform ever sends; the whole line must match one
    :param tails: fixed ends that hold no value (a pipe to a format), the only place where other characters may stand
    :param allowed: characters that are harmless in this platform's language and refused in the others
    :raises InputError: code `gate`; the line is not shown whole, as it may be hostile
    """
    if not isinstance(line, str) or len(line) > longest or not _PRINTABLE.fullmatch(line):
        raise _refused(line, "it holds characters that are no printable ASCII, or is too long")
    tail = next((tail for tail in tails if line.endswith(tail)), "")
    bad = sorted(_FORBIDDEN.intersection(line[:len(line) - len(tail)]) - set(allowed))
    if bad:
        raise _refused(line, "it holds %s" % " ".join(bad))
    if not any(pattern.fullmatch(line) for pattern in grammar):
        raise _refused(line, "no line of this platform looks like that")
    return line


def _refused(line, why):
    return InputError("the line %s is not sent: %s." % (ascii(line)[:80], why), target="router", code="gate",
                      remedy="This is an error of the collection, or a value that was not checked: report it.")
