#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_notice
short_description: Send notices to customers, and settle those that wait for a person
version_added: 1.0.0
description:
  - Opening a case or an enforcement puts the notice that the policy owes into the ledger's outbox. This sends what
    is due over SMTP, each notice once, and records what mail servers and people say of it.
  - Whom a notice goes to is read from the catalogue when it is sent, and stays out of releases and of the event log.
author:
  - hosting.aup contributors (@hosting-aup)
extends_documentation_fragment:
  - hosting.aup._attributes
  - hosting.aup._attributes.action
  - hosting.aup._ledger
  - hosting.aup._ledger.inputs
attributes:
  check_mode:
    support: full
    details: With V(sent), what would be sent is listed and no mail server is talked to.
  diff_mode:
    support: full
    details: The rows before and after; not with V(sent), which writes one transaction per notice.
options:
  state:
    description:
      - V(list) says what is on its way and what waits for a person.
      - V(sent) sends what is due.
      - V(released) lets a notice go that was held back, or once more one that failed, bounced or is unknown.
      - V(cancelled) drops one that was not sent.
      - V(delivered) says of an unknown one that the mail server took it. The clock of its answer starts now.
      - V(bounced) says that one came back, or reads from O(mail) which did. Its clock stops.
    type: str
    choices: [list, sent, released, cancelled, delivered, bounced]
    default: list
  notice:
    description: Its id, like C(N-7).
    type: str
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
  mail:
    description: A file with a mail that came back, or a directory of such (C(new) of a Maildir). They are left as they are.
    type: path
  catalogue:
    description: The catalogue, for C(contact) and C(liable) of the services.
    type: path
  mapping:
    description: The mapping of a panel's export, as for M(hosting.aup.ledger_release).
    type: raw
  sender:
    description: The address that notices come from, and that bounces go to.
    type: str
  sender_name:
    description: The name shown beside it.
    type: str
  receipts:
    description:
      - A directory on the controller. When a mail server has taken a notice, that is written there before the ledger is
        told. After a crash in between the notice then counts as delivered; without it such a notice is unknown.
    type: path
  most:
    description: How many notices one run sends at most.
    type: int
    default: 100
  smtp_host:
    description: The mail server that takes outgoing mail.
    type: str
  smtp_port:
    description: Its port. By O(smtp_tls) 587, 465 or 25.
    type: int
  smtp_tls:
    description: V(none) only for a server on the same machine.
    type: str
    choices: [starttls, implicit, none]
    default: starttls
  smtp_ca_file:
    description: Certificates in PEM that the server's one is checked against. The system's, when left out.
    type: path
  smtp_username:
    description: With O(smtp_password), how to authenticate.
    type: str
  smtp_password:
    description: See O(smtp_username). Keep it in a vault.
    type: str
  validate_certs:
    description: Whether the server's certificate must be valid for O(smtp_host).
    type: bool
    default: true
  timeout:
    description: Seconds to wait for each answer of the mail server, 1 to 600. One mail may take five times that.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Send what is due
  hosting.aup.ledger_notice:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: sent
    catalogue: /etc/aup/catalogue.yml
    sender: abuse@provider.example
    smtp_host: mail.provider.example
    smtp_username: aup
    smtp_password: "{{ vault_smtp_password }}"
    receipts: /var/lib/aup/receipts

- name: Let a notice go that was held back for the police
  hosting.aup.ledger_notice:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: released
    notice: N-7
    note: agreed with the police, reference 88

- name: Read what came back
  hosting.aup.ledger_notice:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: bounced
    mail: /var/mail/aup-bounces/new
"""

RETURN = r"""
notices:
  description: Those concerned; with V(list) and V(sent) those on their way or waiting for a person. Without texts and addresses.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always, sample: N-7}
    status:
      description: held, waiting (for its measure), queued, sending, unknown, delivered, bounced, failed or cancelled.
      type: str
      returned: always
    message_id: {description: The part of its Message-ID before the @., type: str, returned: always}
    deadline_at: {description: "When the answer is due, in seconds since the epoch.", type: int, returned: always}
counts:
  description: How many notices had which outcome in this run.
  returned: with state V(sent)
  type: dict
  sample: {delivered: 3, retry: 1, failed: 0, unknown: 0}
what:
  description: What was done, as lines for people.
  returned: success
  type: list
  elements: str
pending:
  description: In check mode, what the ledger would have been told. Empty in a real run.
  returned: with states that write and are not V(sent)
  type: list
  elements: dict
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger, an input or the mail server refused
  type: dict
  sample:
    code: mail_unreachable
    target: mail.provider.example:587
    remedy: No notice was sent by it; all stay in the outbox.
    retryable: true
    applied_steps: []
"""
