#!/usr/bin/python
# Copyright (c) 2026 hosting.aup contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_evidence
short_description: Keep, hold, disclose and remove evidence of cases
version_added: 1.0.0
description:
  - Attaches files to cases by their SHA-256. The files are copied to a directory beside the ledger, the ledger itself has
    digest, size, media type, class and time.
  - What a file was called and who added it can be erased; chain and digests stay whole.
  - Of a class that the policy marks C(hash_only) no file is ever kept or copied, it is only read to its digest.
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
    details: Everything is checked and done in a transaction that is rolled back; the file is read to its digest, nothing is copied or removed.
  diff_mode:
    support: full
    details: The rows before and after.
options:
  state:
    description:
      - V(listed) lists evidence, standing holds and disclosures; V(verified) holds rows against the log and files against
        their digests, and fails when something is missing or damaged.
      - V(added) attaches a file, V(removed) removes one by decision, V(expired) removes those whose retention is over.
        Rows and digests stay.
      - V(erased) erases what a file was called and who added it.
      - V(held) puts a case under a legal hold, which keeps its files from being removed, until V(hold_released).
      - V(notices_locked) keeps all notices of a case in the outbox, and refuses its customer's view, until
        V(notices_released).
      - V(disclosed) writes down that evidence was given to somebody.
    type: str
    choices: [listed, added, removed, expired, erased, held, hold_released, notices_locked, notices_released, disclosed, verified]
    default: listed
  directory:
    description:
      - Where the files are, an absolute path on the controller. A directory belongs to one ledger, and is its user's alone.
      - Without it the ledger's own path with C(.evidence). Needed where the ledger is in PostgreSQL.
    type: str
  case:
    description: The case.
    type: str
  file:
    description: With V(added), the file, by its absolute path on the controller. No link may be on the way.
    type: str
  file_name:
    description: With V(added), what it is to be called; the last part of its path when left out.
    type: str
  media_type:
    description: With V(added), its media type; guessed from the name when left out.
    type: str
  class:
    description: With V(added), the policy's class of evidence; that of the case's violation when left out, else V(general).
    type: str
  service:
    description: With V(added), the service it is about, where the case is about several.
    type: str
  note:
    description: Free text for the record. Never evaluated, and erasable later.
    type: str
  evidence:
    description: The evidence by its id. With V(disclosed) several by commas; all of the case when left out.
    type: str
  reason:
    description: Why. Recorded.
    type: str
  reference:
    description: With V(disclosed), the letter or order. The same one of a case is written down once.
    type: str
  recipient:
    description: With V(disclosed), to whom.
    type: str
  basis:
    description: With V(disclosed), on what basis.
    type: str
"""

EXAMPLES = r"""
- name: Attach the mail that was reported
  hosting.aup.ledger_evidence:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: added
    case: T-4711
    file: /srv/reports/mail.eml

- name: Nobody removes anything of this case, and nobody tells its customer
  hosting.aup.ledger_evidence:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: "{{ item }}"
    case: T-4711
    reason: Order of the court
  loop: [held, notices_locked]

- name: Look whether all of it is there
  hosting.aup.ledger_evidence:
    ledger_url: sqlite:////var/lib/aup/ledger.db
    state: verified
"""

RETURN = r"""
evidence:
  description: The evidence concerned. C(name) and C(added_by) are null once erased.
  returned: with evidence states
  type: list
  elements: dict
  sample:
    - id: V-1
      case: T-4711
      sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
      size: 4
      media_type: text/plain
      class: general
      status: kept
      name: mail.eml
flags:
  description: Holds and locks that stand on the case.
  returned: with O(state=listed) and those that place or release one
  type: list
  elements: dict
disclosures:
  description: Disclosures of the case.
  returned: with O(state=listed) and O(state=disclosed)
  type: list
  elements: dict
files:
  description: Digests of the files removed.
  returned: with O(state=removed) and O(state=expired)
  type: list
  elements: str
verified:
  description: Number of files looked at, and what is wrong.
  returned: with O(state=verified)
  type: dict
what:
  description: What was written or found, as lines for people.
  returned: success
  type: list
  elements: str
error:
  description: Code, target, remedy and whether trying again may help.
  returned: when the ledger or an input refused
  type: dict
"""
