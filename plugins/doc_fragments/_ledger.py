# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: do not use this fragment in other collections, it may change at any time.

from __future__ import annotations


class ModuleDocFragment:
    """How the ledger is reached; shared by all that read or write it."""

    DOCUMENTATION = r"""
options:
  ledger_url:
    description:
      - Where the ledger is, as an SQLAlchemy URL.
      - C(sqlite:////var/lib/aup/ledger.db) (four slashes for an absolute path) serves one controller
        whose own disk holds the ledger; C(postgresql+psycopg://aup@db.example.com/aup) serves teams and
        execution environments, whose files are gone when they end.
      - The URL is used on the controller only. A password in it never appears in results or messages;
        better is to leave it out and to use a C(.pgpass) file or a client certificate.
      - The playbooks take it from the variable C(aup_ledger_url).
    type: str
    required: true
requirements:
  - SQLAlchemy >= 2.0 (on the controller)
  - alembic (on the controller)
  - psycopg >= 3.1 (on the controller, for PostgreSQL)
"""

    # For what a runbook hands on, see `plugin_utils/_inputs.py`.
    INPUTS = r"""
options:
  inputs:
    description:
      - Names of variables to take options of the same name from, as they stand.
      - What they hold is text from tickets and people. Passed like this it is never evaluated as a template.
    type: list
    elements: str
    default: []
"""

    # For what acts on services by their nodes.
    NODES = r"""
options:
  known_nodes:
    description:
      - The nodes of the inventory.
      - A service that also lives on another node is refused, rather than held in part.
    type: list
    elements: str
"""

    # For modules that write within one transaction.
    WRITES = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Everything is checked and done in a transaction that is rolled back; RV(pending) carries it to the next task.
  diff_mode:
    support: full
    details: The rows before and after.
"""
