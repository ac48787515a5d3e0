# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLAlchemy, where it is installed. PRIVATE to the collection.

Ansible imports plugins on controllers that lack it (documentation, sanity tests), so the lack of it
is an error only when a ledger is opened.
"""

from __future__ import annotations

try:
    import sqlalchemy as sa
    from sqlalchemy import exc as sa_exc
except ImportError:
    sa = None
    sa_exc = None

__all__ = ["sa", "sa_exc"]
