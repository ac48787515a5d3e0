# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ledger with services and contacts, and a mail server."""

from __future__ import annotations

import pytest
from mail_server import PASSWORD, USER, MailServer, make_ca

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._deliver import Outbox, Receipts
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._smtp import Server
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

NOW = 1_800_000_000
POLICY = load_policy("default")


def service_of(name, number, **more):
    return {
        "id": name, "customer": "c-%d" % number, "account_type": "business", "location": "main", "nodes": ["kvm1"],
        "pool": None, "guest": {"name": name, "uuid": None},
        "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": ["192.0.2.%d" % number], "prefixes": [], "shared": [], "floating": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None, "contact": "owner%d@customer.example" % number,
        **more,
    }


CATALOGUE = {
    "format": 1, "generated_at": None, "prefixes": ["192.0.2.0/24"],
    "nodes": {"kvm1": {"backend": "kvm", "location": None, "address": "192.0.2.250", "vars": {}}},
    "services": {
        s["id"]: s
        for s in (
            *(service_of("vps-%d" % n, n) for n in range(1, 9)),
            service_of("resold", 20, liable={"name": "Muster GmbH", "contact": "abuse@muster.example"}),
            service_of("mute", 21, contact=None),
        )
    },
}


class Desk:
    """The abuse desk: a ledger, a clock of its own, and the outbox."""

    def __init__(self, url, server, directory, ca):
        self.url, self.now, self.directory, self.ca = url, NOW, directory, ca
        self.mail = server
        self.ledger = L.open_ledger(url, create=True)
        self.policy(POLICY)

    def policy(self, policy):
        """Release this policy."""
        done = self.ask(requests.release_files, policy, {policy.key: policy}, CATALOGUE)
        with self.ledger.transaction(actor="setup", now=self.now) as tx:
            tx.adopt("kvm1", done["release_id"])
            tx.set_node_release("kvm1", done["release_id"])

    def ask(self, function, *arguments, **named):
        with self.ledger.transaction(actor="alice", now=self.now) as tx:
            return function(tx, *arguments, **named)

    def hold(self, service, violation="spam", kind="smtp_block", **named):
        return self.ask(requests.hold, kind, service, violation, **named)

    def report(self, service, violation="scanning", **named):
        return self.ask(requests.report_case, service=service, violation=violation, **named)

    def server(self, **more):
        options = {
            "host": "localhost", "port": self.mail.port, "ca_file": self.ca, "username": USER, "password": PASSWORD, "timeout": 20,
            "limit": 30,
        }
        return Server(**dict(options, **more))

    def outbox(self, receipts=False, **more):
        kept = Receipts(str(self.directory / "receipts")) if receipts else None
        return Outbox(
            self.ledger, self.server(**more), CATALOGUE["services"], "abuse@provider.example", "Abuse desk", kept, "timer", lambda: self.now
        )

    def send(self, receipts=False, **more):
        outbox = self.outbox(receipts, **more)
        outbox.run()
        return outbox

    def notices(self):
        with self.ledger.read(now=self.now) as tx:
            return {n["id"]: n for n in L.notices(tx, ("held", "waiting", "queued", "sending", "unknown", "delivered", "bounced", "failed", "cancelled"))}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def mail_process(authority):
    server = MailServer(authority[1]("localhost"))
    yield server
    server.close()


@pytest.fixture
def mail(mail_process):
    box = mail_process.mailbox
    box.mails.clear()
    box.envelopes.clear()
    box.script.clear()
    return mail_process


@pytest.fixture
def desk(tmp_path, mail, authority):
    made = Desk(str(tmp_path / "ledger.db"), mail, tmp_path, authority[0])
    yield made
    made.ledger.close()
