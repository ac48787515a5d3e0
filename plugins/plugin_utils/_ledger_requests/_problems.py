# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the inputs of a request, all of it in one error. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError


class Problems:
    """What is wrong with the inputs, all of it, before anything is touched."""

    def __init__(self):
        self.found = []

    def add(self, message, target, remedy=None):
        """Note one problem."""
        self.found.append(InputError(message, target=target, remedy=remedy))

    def run(self, function, *arguments, **named):
        """The function's result, or None when it refused: then its error is noted."""
        try:
            return function(*arguments, **named)
        except AupError as exc:
            self.found.append(exc)
            return None

    def stop(self):
        """Raise all problems as one error, if there are any."""
        if not self.found:
            return
        first = self.found[0]
        if len(self.found) == 1:
            raise first
        texts = list(dict.fromkeys(str(error) for error in self.found))
        raise type(first)(
            "%d inputs are wrong, nothing was changed:\n%s"
            % (len(texts), "\n".join("- %s" % t for t in texts)),
            target=first.target,
            code=first.code,
        )


def service_names(value, problems):
    """Service ids from what was given: one, a list, or several with commas between. Each once, in order."""
    parts = value if isinstance(value, list) else [value]
    names = []
    for part in parts:
        if not isinstance(part, (str, int)) or isinstance(part, bool):
            problems.add("service %r is not a service's id." % (part,), "service")
            continue
        names += [name for name in str(part).replace(",", " ").split() if name]
    if not names and not problems.found:
        problems.add("service is missing.", "service", "Name it: -e service=<id>, or a list.")
    return list(dict.fromkeys(names))
