# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A notice as a mail, and what a bounce says. Pure. PRIVATE to the collection."""

from __future__ import annotations

import re
from email import errors, message_from_bytes, policy
from email.message import EmailMessage
from email.headerregistry import Address
from email.utils import format_datetime
from datetime import datetime, UTC

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._policy._template import one_line, render
from ansible_collections.hosting.aup.plugins.module_utils._time import duration_text

# RFC 5321 with the lengths of its 4.5.3.1; quoted local parts and address literals are left out on purpose.
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(r"(?=.{3,254}\Z)(?=.{1,64}@)(%s)@((?:%s\.)*%s)" % (_LOCAL, _LABEL, _LABEL))
_MESSAGE_ID = re.compile(r"<?(N-[0-9]+\.[0-9a-f-]{36})@[A-Za-z0-9.-]+>?")
_LONGEST_BOUNCE = 2 * 1024 * 1024


def address(text, what="address"):
    """A mail address, exactly as given.

    :raises InputError: not one that a header and an SMTP command can carry as it stands
    """
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise InputError(
            "%s %r is not a mail address." % (what, text if text is None else str(text)[:80]), target=what,
            remedy="Give it as user@example.net, in ASCII (a domain with other letters in its xn-- form).",
        )
    return text


def recipient(service):
    """(role, name, address) of whom a notice about a service goes to: the liable party, else the customer.

    :param service: the service of the whole catalogue, or None
    :raises InputError: the catalogue names no usable address
    """
    service = service or {}
    liable = service.get("liable") or {}
    if liable:
        return "liable", liable["name"], address(liable["contact"], "liable.contact of service %s" % service.get("id"))
    if not service.get("contact"):
        raise InputError(
            "the catalogue has no contact for this service.", target="contact",
            remedy="Set contact (or liable) of the service in the catalogue, then ledger_notice state=released.",
        )
    return "customer", "Customer %s" % service["customer"], address(service["contact"], "contact of service %s" % service.get("id"))


def compose(facts, role, name, sender, evidence, answer_seconds):
    """(subject, body) of a notice.

    :param facts: of the outbox: templates and values, nothing personal
    :param evidence: what the case rests on, one line each
    :raises PolicyError: a template names a field without a value
    """
    values = dict(
        facts["values"],
        recipient=one_line(name),
        contact=facts.get("contact") or sender,
        evidence="\n  ".join(["", *map(one_line, evidence)]) if len(evidence) > 1 else one_line("".join(evidence)),
        answer=(
            "within %s of the delivery of this message" % duration_text(answer_seconds)
            if answer_seconds is not None
            else "no date is set"
        ),
        pass_on=(
            facts.get("pass_on") or "The service is used by a customer of yours. Please pass on to them what happened, the clause, what to do"
            " and until when, and answer for them."
            if role == "liable"
            else ""
        ),
    )
    body = re.sub(r"\n{3,}", "\n\n", render(facts["text"], values))
    return one_line(render(facts["subject"], values)), body


def _plain_name(text):
    """A display name of letters, digits, blanks and - . ' alone: how others are quoted differs between libraries."""
    return one_line("".join(c if c.isalnum() or c in "-.'" else " " for c in text))


def message(notice, sender, sender_name=None):
    """The mail of a notice as bytes, the same at every attempt.

    :param notice: a claimed one, with recipient, subject, body
    """
    mail = EmailMessage(policy=policy.SMTP)
    domain = sender.rpartition("@")[2]
    mail["From"] = Address(_plain_name(sender_name), addr_spec=sender) if sender_name else sender
    mail["To"] = notice["recipient"]
    mail["Subject"] = one_line(notice["subject"])
    mail["Date"] = format_datetime(datetime.fromtimestamp(notice["opened_at"], UTC))
    mail["Message-ID"] = "<%s@%s>" % (notice["message_id"], domain)
    # RFC 3834: nobody's vacation program answers it.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(notice["body"], charset="utf-8", cte="quoted-printable")
    return mail.as_bytes()


def read_bounce(data):
    """(Message-ID of ours, what went wrong) of a delivery status notification; None when it is about no notice.

    Only a report of RFC 3464 with a failed recipient counts: that a mail is delayed is no bounce, and words
    in some answer are not either.

    :param data: the whole mail as bytes; hostile
    """
    if len(data) > _LONGEST_BOUNCE:
        return None
    mail = message_from_bytes(data, policy=policy.default)
    try:
        if mail.get_content_type() != "multipart/report":
            return None
        found, failed = None, None
        for part in mail.walk():
            kind = part.get_content_type()
            if kind == "message/delivery-status":
                for block in part.get_payload() if part.is_multipart() else ():
                    if str(block.get("Action", "")).strip().lower() == "failed":
                        failed = one_line("%s %s" % (block.get("Status", ""), block.get("Diagnostic-Code", "")), 500)
            elif kind in ("message/rfc822", "message/rfc822-headers", "text/rfc822-headers"):
                text = part.as_bytes() if kind == "message/rfc822" else part.get_payload(decode=True) or part.as_bytes()
                match = re.search(rb"(?im)^Message-ID:\s*(\S+)", text)
                own = _MESSAGE_ID.fullmatch(match.group(1).decode("ascii", "replace")) if match else None
                found = own.group(1) if own else found
    except (errors.MessageError, ValueError, LookupError, AttributeError, TypeError, IndexError):
        # The parser's own ways to give up on a mail that is none.
        return None
    return (found, failed) if found and failed is not None else None
