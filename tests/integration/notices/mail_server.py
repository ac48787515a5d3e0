# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real SMTP server with TLS and a CA of its own, on loopback, that breaks when told to."""

from __future__ import annotations

import asyncio
import ssl
import threading
from datetime import datetime, timedelta, UTC
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "aup", "s3cret-of-the-test"


def _certificate(name, issuer, issuer_key, key, ca, names=()):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256())


def make_ca(directory, name="test CA"):
    """(path of the CA's certificate, function names -> path of certificate and key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(name, None, None, key, True)
    path = directory / ("%s.pem" % name.replace(" ", "-"))
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(*names):
        own = ec.generate_private_key(ec.SECP256R1())
        issued = _certificate(names[0], certificate.subject, key, own, False, names)
        place = directory / ("%s-%s.pem" % (name.replace(" ", "-"), names[0]))
        place.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + issued.public_bytes(serialization.Encoding.PEM)
        )
        return str(place)

    return str(path), issue


class Mailbox:
    """What the server took, and how it is to behave: one word per mail, then well again."""

    def __init__(self):
        self.mails, self.envelopes, self.script = [], [], []

    def next_word(self):
        return self.script.pop(0) if self.script else "take"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.script and self.script[0].startswith("rcpt "):
            return self.script.pop(0)[5:]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        word = self.next_word()
        if word[:1].isdigit():
            return word
        self.mails.append(message_from_bytes(envelope.original_content, policy=policy.default))
        self.envelopes.append((envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content))
        if word == "take, then cut":
            server.transport.abort()
        if word == "take, then nothing":
            await asyncio.sleep(3600)
        return "250 2.0.0 taken as %d" % len(self.mails)


class Breaking(SMTP):
    """Cuts the connection where a mail would begin, when told to."""

    async def smtp_DATA(self, arg):
        if self.event_handler.script[:1] == ["cut"]:
            self.event_handler.script.pop(0)
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


def _check(server, session, envelope, mechanism, data):
    good = data.login == USER.encode() and data.password == PASSWORD.encode()
    return AuthResult(success=good, handled=False)


class MailServer:
    """Listens on a free port of 127.0.0.1 as `localhost`, with STARTTLS and AUTH required, or with TLS from the first byte."""

    def __init__(self, certificate, implicit=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.mailbox = Mailbox()
        self._loop = asyncio.new_event_loop()
        starttls = {"tls_context": context, "require_starttls": True, "authenticator": _check, "auth_required": True}

        def session():
            return Breaking(self.mailbox, hostname="localhost", loop=self._loop, **({} if implicit else starttls))

        self._server = self._loop.run_until_complete(
            self._loop.create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
