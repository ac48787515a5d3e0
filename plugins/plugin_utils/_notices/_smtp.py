# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One mail to one server, and exactly what is known afterwards. PRIVATE to the collection."""

from __future__ import annotations

import ipaddress
import re
import select
import smtplib
import socket
import ssl
import threading
from contextlib import contextmanager, suppress

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError

TLS = ("starttls", "implicit", "none")


class MailError(AupError):
    """No mail server was reached that takes our mail: nothing was sent, and the same may work later."""

    code = "mail_unreachable"


class Refused(Exception):
    """The server answered no to one notice. `permanent`: it will say so again."""

    def __init__(self, reply, permanent):
        super().__init__(reply)
        self.reply, self.permanent = reply, permanent


class Lost(Exception):
    """The connection broke. `sent`: the last line was handed over, so the server may have taken the mail."""

    def __init__(self, message, sent):
        super().__init__(message)
        self.sent = sent


class Server:
    """How to reach the mail server.

    :param tls: `starttls`, `implicit`, or `none`, which only a server on this machine may have
    :param limit: seconds that one mail may take in all
    """

    def __init__(self, host, port=None, tls="starttls", ca_file=None, validate_certs=True, username=None, password=None, timeout=60, limit=300):
        if tls not in TLS:
            raise InputError("smtp tls %r is not known." % (tls,), target="smtp_tls", remedy="Use %s." % ", ".join(TLS))
        if tls == "none" and not _is_loopback(host):
            raise InputError(
                "mail to %s would go unencrypted." % host, target="smtp_tls",
                remedy="Use starttls or implicit; none is for a mail server on this machine (localhost, 127.0.0.1, ::1).",
            )
        if bool(username) != bool(password):
            raise InputError("of username and password one is missing.", target="smtp_username", remedy="Give both or neither.")
        if tls == "none" and username:
            raise InputError("a password is not sent without TLS.", target="smtp_tls", remedy="Use starttls or implicit.")
        self.host, self.port = host, port or {"starttls": 587, "implicit": 465, "none": 25}[tls]
        self.tls, self.username, self._password = tls, username, password
        self.timeout, self.limit = timeout, limit
        self._context = None
        if tls != "none":
            try:
                self._context = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as exc:
                raise InputError("CA file %s can't be read: %s." % (ca_file, exc), target="smtp_ca_file", remedy="Give a PEM file.") from exc
            if not validate_certs:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE

    @property
    def place(self):
        return "%s:%d" % (self.host, self.port)

    def connect(self):
        """A session ready for a mail.

        :raises MailError: not reached, TLS or authentication refused
        """
        smtp = None
        try:
            if self.tls == "implicit":
                smtp = _ImplicitSession(self.limit, self.host, self.port, timeout=self.timeout, context=self._context)
            else:
                smtp = _Session(self.limit, self.host, self.port, timeout=self.timeout)
            with _within(smtp, self.limit):
                smtp.ehlo_or_helo_if_needed()
                if self.tls == "starttls":
                    smtp.starttls(context=self._context)
                    smtp.ehlo()
                if self.username:
                    smtp.login(self.username, self._password)
        except ssl.SSLCertVerificationError as exc:
            raise self._error(smtp, "its certificate is not valid for it (%s)" % exc.verify_message, "mail_certificate", False) from exc
        except smtplib.SMTPAuthenticationError as exc:
            raise self._error(smtp, "it refused the password (%d)" % exc.smtp_code, "mail_auth", exc.smtp_code < 500) from exc
        except smtplib.SMTPNotSupportedError as exc:
            raise self._error(smtp, str(exc), "mail_tls", False) from exc
        except (smtplib.SMTPException, OSError, ValueError) as exc:
            raise self._error(smtp, _said(exc), None, True) from exc
        return smtp

    def _error(self, smtp, text, code, retryable):
        if smtp is not None:
            smtp.close()
        return MailError(
            "the mail server %s can't be used: %s." % (self.place, text), target=self.place, code=code, retryable=retryable,
            remedy="No notice was sent by it; all stay in the outbox.",
        )


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _said(exc):
    code, text = getattr(exc, "smtp_code", None), getattr(exc, "smtp_error", None)
    if code is not None and text is not None:
        return _reply(code, text)
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def _reply(code, text):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return ("%s %s" % (code, " ".join(text.split())))[:300]


@contextmanager
def _within(smtp, seconds):
    """Cut the connection after this time: a server may send a byte a minute and no timeout would ever end."""

    def cut():
        with suppress(OSError, TypeError):
            # Not SSLSocket.shutdown, which first drops the encryption: another thread may be writing.
            socket.socket.shutdown(smtp.sock, socket.SHUT_RDWR)

    watch = threading.Timer(seconds, cut)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


class _Watched:
    """A session of which the greeting may not take forever either."""

    def __init__(self, limit, *arguments, **named):
        self._limit = limit
        super().__init__(*arguments, **named)

    def connect(self, *arguments, **named):
        """Connect and read the greeting."""
        with _within(self, self._limit):
            return super().connect(*arguments, **named)


class _Session(_Watched, smtplib.SMTP):
    pass


class _ImplicitSession(_Watched, smtplib.SMTP_SSL):
    pass


def send(smtp, limit, sender, recipient, data, before_last_line):
    """Give one mail to a server. Returns its reply of acceptance.

    The mail is taken by the line with a dot, and by nothing before it. So all else is sent first, then
    `before_last_line()` is called, which records that, then the dot.

    :param data: the mail as bytes, lines ending in CRLF
    :param limit: seconds until the connection is cut
    :raises Refused: the server said no, or not yet: it has not taken the mail
    :raises Lost: the connection broke or was cut; `sent` says on which side of the dot
    """
    sent = False
    try:
        with _within(smtp, limit):
            _expect(smtp.mail(sender), 250)
            _expect(smtp.rcpt(recipient), 250)
            _expect(smtp.docmd("DATA"), 354)
            stuffed = re.sub(rb"(?m)^\.", b"..", data)
            smtp.send(stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n")
            if select.select([smtp.sock], [], [], 0)[0]:
                # A server has nothing to say here: it is closing.
                raise smtplib.SMTPServerDisconnected("closed in the middle of the mail")
            before_last_line()
            sent = True
            smtp.send(b".\r\n")
            code, text = smtp.getreply()
            if not 200 <= code <= 299 and not 400 <= code <= 599:
                raise Lost("an answer that is none (%s)" % _reply(code, text), True)
            return _expect((250 if code < 400 else code, text), 250)
    except OSError as exc:
        # smtplib's own errors are OSErrors. A reply that is none (too long, no code) is one, too: nothing is known
        # beyond how far we were.
        raise Lost(_said(exc), sent) from exc


def _expect(reply, wanted):
    code, text = reply
    if code == wanted or wanted == 250 and code == 251:
        return _reply(code, text)
    if code == 421 or not 400 <= code <= 599:
        raise Refused(_reply(code, text), False)
    raise Refused(_reply(code, text), code >= 500)
