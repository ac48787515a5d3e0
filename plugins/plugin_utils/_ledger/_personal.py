# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Personal data goes when the policy's time for it is over. PRIVATE to the collection.

What stays is what proves that things were done as they were: ids, times, kinds, digests, and the chain.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._time import parse_duration
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _values as values
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import REGISTER, erase_details
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._evidence import released_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import empty_notices
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import verb

_AT_ONCE = 500
_DONE = ("delivered", "bounced", "failed", "cancelled")
WHY = "the policy's time for personal data is over"


@verb
def expire_personal(tx):
    """Empty whom notices went to, what they said, and what people wrote, for cases closed longer ago than their policy keeps it.

    Not of a case under a legal hold, and not the register of disclosures. Notices without a case count from their making.

    :returns: {"cases": [ids], "notices": [ids], "events": how many details were erased}
    """
    keeps = _Keeps(tx)
    held = set(tx.execute(sa.select(t.case_flag.c.case_id).where(
        t.case_flag.c.kind == "legal_hold", t.case_flag.c.released_at.is_(None))).scalars())
    closed = tx.execute(sa.select(t.case.c.id, t.case.c.policy_key, t.case.c.closed_at).where(t.case.c.closed_at.is_not(None))).all()
    over = {row.id for row in closed if row.id not in held and keeps.over(row.policy_key, row.closed_at)}
    rows = tx.execute(
        sa.select(t.notice.c.id, t.notice.c.case_id, t.notice.c.facts, t.notice.c.opened_at, t.notice.c.status)
        .where(t.notice.c.erased_at.is_(None), t.notice.c.status.in_(_DONE)).order_by(t.notice.c.number)).all()
    notices = [row.id for row in rows if row.case_id in over or row.case_id is None and keeps.over(_policy_of(row), row.opened_at)]
    empty_notices(tx, notices)
    rows = tx.execute(
        sa.select(t.event.c.number, t.event.c.kind, t.event.c.refs).join(t.event_detail, t.event_detail.c.event_number == t.event.c.number)
        .where(t.event_detail.c.body.is_not(None)).order_by(t.event.c.number)).all() if over else ()
    cases = [(row.number, values.from_text(row.refs).get("case")) for row in rows if row.kind not in REGISTER]
    numbers = [number for number, case in cases if case in over]
    for first in range(0, len(numbers), _AT_ONCE):
        erase_details(tx, events=numbers[first:first + _AT_ONCE], reason=WHY)
    return {"cases": sorted({case for _number, case in cases if case in over}), "notices": notices, "events": len(numbers)}


def _policy_of(row):
    return (values.from_text(row.facts) or {}).get("policy")


class _Keeps:
    """How long policies keep personal data, by the newest release that has them."""

    def __init__(self, tx):
        self._tx, self._seconds = tx, {}

    def over(self, key, since):
        """Whether the time is over that counts from `since`; never where a policy sets none."""
        if key is None:
            return False
        if key not in self._seconds:
            text = (released_policy(self._tx, key).get("evidence") or {}).get("personal_data")
            self._seconds[key] = parse_duration(text) if text else None
        seconds = self._seconds[key]
        return seconds is not None and since + seconds <= self._tx.now
