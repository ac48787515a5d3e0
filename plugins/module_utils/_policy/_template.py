# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of notices: named fields and nothing that runs. Pure. PRIVATE to the collection.

`${field}` is replaced and `$$` is a dollar sign; `${other}`, `$word` and `${` are refused when the policy is
read, any other `$` is itself. A value is put in once and never looked at again, so a field's name in it stays
text.
"""

from __future__ import annotations

import re

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError

FIELDS = {
    "recipient": "whom it is written to: the liable party's name, or the customer's id",
    "provider": "the provider's name",
    "contact": "where answers go: the policy's abuse_contact, else the sender's address",
    "case": "the case's id",
    "service": "the service's id",
    "violation": "the violation's name in the policy",
    "what": "what happened, in the policy's words",
    "clause": "the number of the clause",
    "clause_text": "what the clause says, in the policy's words",
    "action": "the measure and how long it lasts, or what follows without an answer",
    "evidence": "what the case rests on: times and the files with their digests",
    "remedy": "what the customer is to do",
    "answer": "until when an answer is due; the clock starts at delivery",
    "opened": "when it was opened (UTC)",
    "pass_on": "to a reseller: what to tell their customer; otherwise empty",
}
"""Every field of a notice about a case, and what stands for it."""
_SHARED = ("recipient", "provider", "contact", "service", "clause", "clause_text", "pass_on")
FIELDS_OF = {
    "transfer": {
        **{name: FIELDS[name] for name in _SHARED},
        "percent": "how much of the allowance is used: 80 or 100, as the policy's `transfer.notices`",
        "used": "what was transferred in this window",
        "allowance": "the allowance of the window, with what was bought",
        "begins": "when the window began (UTC)",
        "ends": "when the window ends (UTC)",
        "action": "what follows above the allowance",
    },
    "amendment": {
        **{name: FIELDS[name] for name in _SHARED if name != "clause_text"},
        "policy": "the new version, name@version",
        "prior": "the version that binds until then",
        "effective": "the day from which the new one applies",
        "services": "the services that it changes something for",
        "changes": "what changes for them, one line each",
        "grace": "what a customer may do who doesn't agree",
    },
}
"""Fields of notices that are about no case, by their timing."""
_ALL = {name for fields in (FIELDS, *FIELDS_OF.values()) for name in fields}

_PART = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*|\{[^\s}]{0,20}))")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

_ANSWER = "Questions and answers: reply to this message, or write to ${contact} and name case ${case}.\n\n${provider}\n"
_FACTS = (
    "What happened: ${what}\n"
    "Clause ${clause}: ${clause_text}\n"
    "Case: ${case}, opened ${opened}\n"
    "What it rests on: ${evidence}\n\n"
    "What to do: ${remedy}\n"
)
STANDARD = {
    "before": (
        "A report about service ${service} (case ${case})",
        "${recipient},\n\nwe have a report about service ${service}.\n\n"
        + _FACTS + "Until when: ${answer}\nOtherwise: ${action}\n\n${pass_on}\n\n" + _ANSWER,
    ),
    "with": (
        "A measure on service ${service} (case ${case})",
        "${recipient},\n\na measure is in force on service ${service}: ${action}.\n\n"
        + _FACTS + "Until when: ${answer}\n\n${pass_on}\n\n" + _ANSWER,
    ),
}
STANDARD["transfer"] = (
    "Service ${service} has used ${percent} % of its transfer",
    (
        "${recipient},\n\nservice ${service} has used ${percent} % of its transfer: ${used} of ${allowance},"
        " from ${begins} to ${ends}.\n\n"
        "Above it: ${action}.\nClause ${clause}: ${clause_text}\n\n${pass_on}\n\n"
        "Questions: reply to this message, or write to ${contact} and name service ${service}.\n\n${provider}\n"
    ),
)
STANDARD["amendment"] = (
    "Our acceptable use policy changes on ${effective}",
    (
        "${recipient},\n\nour acceptable use policy changes on ${effective} (${prior} becomes ${policy}; clause ${clause}).\n\n"
        "It concerns: ${services}\nWhat changes for you:\n${changes}\n\n${grace}\n\n${pass_on}\n\n"
        "Questions: reply to this message, or write to ${contact}.\n\n${provider}\n"
    ),
)
STANDARD["after"] = STANDARD["held"] = STANDARD["with"]
"""(subject, text) of a notice by its timing, where the policy writes none of its own."""


def fields_of(timing):
    """The fields that a notice of this timing may name."""
    return FIELDS_OF.get(timing, FIELDS)


def wrong_parts(text, fields=frozenset(_ALL)):
    """What in a template is none of these fields: [(as written, the word in it)]."""
    return [
        (match.group(0), match.group(2) or match.group(3).strip("{"))
        for match in _PART.finditer(text)
        if match.group(1) is None and match.group(2) not in fields
    ]


def render(text, values):
    """The text with its fields filled in.

    :param values: {field: text}; each field the text names
    :raises PolicyError: a field that doesn't exist, or no value for one
    """
    wrong = wrong_parts(text)
    if wrong:
        raise PolicyError("a notice's text has %s, which is no field." % wrong[0][0], target="notices", remedy="Known are: %s." % ", ".join(sorted(_ALL)))

    def value(match):
        dollar, name, _other = match.groups()
        if dollar:
            return "$"
        if name not in values:
            raise PolicyError("a notice has no value for ${%s}." % name, target="notices", remedy="Leave that field out.")
        return _CONTROL.sub(" ", str(values[name]).replace("\r\n", "\n"))

    return _PART.sub(value, text)


def one_line(text, longest=200):
    """Text as one line for a header: all white space and control characters are single spaces."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= longest else line[:longest - 1].rstrip() + "…"
