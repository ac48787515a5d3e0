# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of hosting.aup. PRIVATE to the collection.

Code below the entry points raises these; only an entry point (a module's main, an action's run)
turns one into a task result. `code` is stable and meant for scripts, `message` for people, and
`remedy` says what to do next.
"""
from __future__ import annotations


class AupError(Exception):
    """Base of all errors this collection raises on purpose.

    :param message: which value or object, and which rule refused it
    :param target: what it concerns (service, node, file:key …)
    :param remedy: the next step for the person reading
    :param retryable: True when the same call may succeed later unchanged
    :param applied_steps: what had already been changed when it happened
    """

    code = "aup_error"

    def __init__(self, message, target=None, remedy=None, retryable=False, applied_steps=(), code=None):
        super().__init__(message)
        self.message = message
        self.target = target
        self.remedy = remedy
        self.retryable = retryable
        self.applied_steps = list(applied_steps)
        if code is not None:
            self.code = code

    def __str__(self):
        return "%s %s" % (self.message, self.remedy) if self.remedy else self.message

    def to_result(self):
        """The `error` key of a task result."""
        return {
            "code": self.code,
            "message": self.message,
            "target": self.target,
            "remedy": self.remedy,
            "retryable": self.retryable,
            "applied_steps": self.applied_steps,
        }


class InputError(AupError):
    """A value given by the user is wrong; nothing was touched."""

    code = "bad_input"


class PolicyError(AupError):
    """A policy file is wrong, or does not answer what it is asked."""

    code = "bad_policy"


class CatalogueError(AupError):
    """The catalogue of services is unreadable, contradictory or implausible."""

    code = "bad_catalogue"


class GuardError(AupError):
    """A guardrail refused: protected address, cap, scope."""

    code = "guardrail"


class LedgerError(AupError):
    """The ledger can't be opened, read or written."""

    code = "ledger"


class ConflictError(AupError):
    """A rule of the ledger refused: something like it is in force already."""

    code = "conflict"


class FenceError(AupError):
    """The node has seen a newer desired state, or one of another ledger."""

    code = "fenced"


class NodeError(AupError):
    """The node could not be observed or changed."""

    code = "node"
