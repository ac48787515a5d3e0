# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty the outbox: each notice once, whatever breaks meanwhile. PRIVATE to the collection.

What is promised: a notice is handed to the mail server exactly once unless sender or connection die between
the last line of the mail and the record of the server's answer. SMTP leaves both sides in doubt there (RFC
1047), so nothing here guesses: the receipt says, or it is `unknown` and a person decides, or the policy lets
it be sent again with the same Message-ID.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, ConflictError, InputError, LedgerError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._case_file import told_evidence
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import case_accounts
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._notices import _message, _smtp

MARGIN = 60  # seconds by which a lease outlasts the longest mail, for clocks that differ
_RECORD_TRIES = 6


class Receipts:
    """Files that say a server took a mail, written before the ledger is told. `directory` None keeps none."""

    def __init__(self, directory):
        self._directory = directory
        if directory is not None:
            try:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            except OSError as exc:
                raise InputError("receipts can't be kept in %s: %s." % (directory, exc), target="receipts",
                                 remedy="Name a directory that can be written.") from exc

    def _path(self, claim):
        return os.path.join(self._directory, "%s.json" % claim)

    def write(self, claim, document):
        """Keep it, on disk before this returns."""
        if self._directory is None:
            return
        path = self._path(claim)
        with open(path + ".new", "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
            handle.write(json.dumps(document))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(path + ".new", path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self, claim):
        """The receipt of a claim, or None."""
        if self._directory is None:
            return None
        try:
            with open(self._path(claim), encoding="ascii") as handle:
                return json.load(handle)
        except (OSError, ValueError):
            return None

    def drop(self, claim):
        """It stands in the ledger now."""
        if self._directory is not None:
            with suppress(OSError):
                os.unlink(self._path(claim))


class Outbox:
    """One run over the outbox.

    :param ledger: an open Ledger
    :param server: `_smtp.Server`
    :param services: {id: service} of the whole catalogue, with contacts
    :param sender: the address notices come from
    :param receipts: Receipts
    :param clock: seconds since the epoch
    """

    def __init__(self, ledger, server, services, sender, sender_name=None, receipts=None, actor=None, clock=time.time):
        self._ledger, self._server, self._services = ledger, server, services
        self._sender, self._sender_name = _message.address(sender, "sender"), sender_name
        self._receipts = receipts or Receipts(None)
        self._actor, self._clock = actor, clock
        self._lease = server.limit + MARGIN if server is not None else MARGIN
        self._session = None
        self.lines, self.changed = [], False
        self.counts = dict.fromkeys(("delivered", "retry", "failed", "unknown"), 0)

    def _write(self, work):
        with self._ledger.transaction(actor=self._actor, now=int(self._clock())) as tx:
            return work(tx)

    def run(self, most=100):
        """Send what is due, at most so many.

        :raises MailError: no server was reached; what was not sent stays queued
        """
        self.recover()
        with self._ledger.read(now=int(self._clock())) as tx:
            due = L.due_notices(tx)
        if len(due) > most:
            self.lines.append("%d notices are due, %d of them are sent now" % (len(due), most))
        try:
            for notice in due[:most]:
                self._one(notice)
        finally:
            self._close()

    def recover(self):
        """Let those go whose time has come, and settle those whose sender vanished."""
        for notice in self._write(L.ready_notices):
            self.changed = True
            self.lines.append("%s is %s" % (notice["id"], notice["status"]))
        with self._ledger.read(now=int(self._clock())) as tx:
            lost = L.expired_claims(tx)
        for notice in lost:
            self.changed = True
            self._settle(notice, "the sender vanished")

    def _settle(self, notice, why):
        """After a sender or a connection was lost: what is known of this notice."""
        of = {"notice_id": notice["id"], "claim": notice["claim"]}
        receipt = self._receipts.read(notice["claim"])
        if receipt is not None:
            self._write(lambda tx: L.notice_delivered(tx, **of, receipt=receipt["reply"], at=receipt["at"]))
            self._receipts.drop(notice["claim"])
            self._say("delivered", notice, "as the receipt says (%s)" % receipt["reply"])
        elif notice["stage"] == "claimed":
            self._write(lambda tx: L.notice_refused(tx, **of, error=why, permanent=False))
            self._say("retry", notice, "%s before the mail was complete: nothing was taken" % why)
        else:
            resend = (notice["facts"] or {}).get("unknown") == "resend"
            self._write(lambda tx: L.notice_unknown(tx, **of, resend=resend, error="%s after the last line was sent" % why))
            self._say(
                "unknown", notice,
                "%s after the last line was sent: %s" % (
                    why,
                    "it is sent again with the same Message-ID" if resend
                    else "look into the mail server's log for %s, then ledger_notice state=delivered or released" % notice["message_id"],
                ),
            )

    def _say(self, outcome, notice, text):
        self.counts[outcome] += 1
        self.lines.append("%s %s of %s: %s" % (outcome, notice["id"], notice["service"], text))

    def _one(self, notice):
        """Claim, send and record one notice."""
        self.changed = True
        try:
            role, name, address = _message.recipient(self._services.get(notice["service"]))
            with self._ledger.read(now=int(self._clock())) as tx:
                evidence = evidence_lines(tx, notice["case_id"], notice["service"])
            subject, body = _message.compose(
                notice["facts"], role, name, notice["facts"].get("contact") or self._sender, evidence, notice["answer_seconds"]
            )
        except AupError as exc:
            text = str(exc)
            self._write(lambda tx: L.notice_unaddressed(tx, notice_id=notice["id"], error=text))
            self._say("failed", notice, text)
            return
        session = self._connected()
        claimed = self._write(
            lambda tx: L.claim_notice(
                tx, notice_id=notice["id"], lease=self._lease, role=role, recipient=address, subject=subject, body=body
            )
        )
        if claimed is None:
            return
        of = {"notice_id": notice["id"], "claim": claimed["claim"]}
        try:
            reply = _smtp.send(
                session, self._server.limit, self._sender, address,
                _message.message(claimed, self._sender, self._sender_name),
                lambda: self._write(lambda tx: L.record_dot(tx, **of, lease=self._lease)),
            )
        except _smtp.Refused as exc:
            reason, permanent = str(exc), exc.permanent
            self._reset()
            after = self._write(lambda tx: L.notice_refused(tx, **of, error=reason, permanent=permanent))
            if after["status"] == "failed":
                self._say("failed", notice, "the server refused it: %s" % reason)
            else:
                self._say("retry", notice, "the server did not take it: %s; again at %s" % (reason, iso(after["next_at"])))
        except _smtp.Lost as exc:
            self._close()
            self._settle(dict(claimed, stage="dot" if exc.sent else "claimed"), "the connection broke (%s)" % exc)
        except AupError as exc:
            # The ledger could not be told before the last line: the mail is incomplete, so nobody has it.
            self._close()
            self.lines.append("%s was not sent: %s" % (notice["id"], exc))
            if not isinstance(exc, ConflictError):
                raise
        else:
            at = int(self._clock())
            self._receipts.write(claimed["claim"], {"notice": notice["id"], "at": at, "reply": reply})
            self._record(of, reply, at)
            self._receipts.drop(claimed["claim"])
            self._say("delivered", notice, reply)

    def _record(self, of, reply, at):
        """Tell the ledger; it may be busy, and a mail that was taken is worth waiting for."""
        for left in reversed(range(_RECORD_TRIES)):
            try:
                return self._write(lambda tx: L.notice_delivered(tx, **of, receipt=reply, at=at))
            except LedgerError as exc:
                if not exc.retryable or not left:
                    raise
        return None

    def _connected(self):
        if self._session is not None:
            try:
                if self._session.noop()[0] == 250:
                    return self._session
            except (OSError, _smtp.smtplib.SMTPException):
                pass
            self._close()
        self._session = self._server.connect()
        return self._session

    def _reset(self):
        try:
            self._session.rset()
        except (OSError, _smtp.smtplib.SMTPException):
            self._close()

    def _close(self):
        if self._session is not None:
            with suppress(OSError, _smtp.smtplib.SMTPException):
                self._session.close()
        self._session = None


def evidence_lines(tx, case_id, service):
    """What a case rests on, for the customer of a service (nothing without a case): no file's name, nothing of prohibited content or of others."""
    if case_id is None:
        return []
    case, found = L.find_case(tx, case_id), L.find_evidence(tx, t.evidence.c.case_id == case_id)
    return ["our record of case %s, opened %s" % (case_id, iso(case["opened_at"]))] + [
        "a file (%s) of %s, SHA-256 %s" % (one["media_type"], iso(one["added_at"]), one["sha256"])
        for one in told_evidence(found, {service}, len(case_accounts(tx, case_id)))]
