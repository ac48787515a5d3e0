# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: cases, enforcements, exemptions, releases and an append-only log. PRIVATE to the collection.

`open_ledger(url)` gives a Ledger; `with ledger.transaction() as tx:` a transaction,
which every verb takes first: `lift(tx, …)` or `tx.lift(…)`.
Verbs take JSON values and return JSON values.
"""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._case_file import case_file
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._break_glass import (
    exceed,
    review,
    unreviewed,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._cases import (
    case_problem,
    close_case,
    decide_fault,
    find_case,
    open_case,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import (
    charges,
    enforcement_intervals,
    export_charges,
    exported,
    record_charge,
    waive_charge,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._dated import (
    dated_documents,
    dated_inputs,
    record_input,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import (
    active,
    end_due,
    erase_details,
    history,
    lift,
    open_enforcement,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._creations import (
    bear,
    creations,
    numbers_made,
    record_creations,
    record_numbers,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._events import head, verify
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._evidence import (
    add_evidence,
    disclosures,
    evidence_problems,
    evidence_rules,
    expire_evidence,
    find_evidence,
    lost_files,
    note_restored,
    place_flag,
    record_disclosure,
    release_flag,
    remove_evidence,
    standing_flags,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemption_requests import (
    decide_request,
    exemption_requests,
    pending_request,
    request_exemption,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._exemptions import (
    add_exemption,
    exemptions_of,
    expire_exemptions,
    find_exemptions,
    revoke_exemption,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._journals import (
    held_by_hand,
    note_by_hand,
    take_journal,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._nodes import (
    adopt,
    find_node,
    keep_touched,
    note_set_in_pool,
    record_baselines,
    forget_node,
    set_node_release,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._notices import (
    answer_case,
    cancel_notice,
    claim_notice,
    deadline_passed,
    due_notices,
    expired_claims,
    notice_bounced,
    notice_delivered,
    notice_refused,
    notice_returned,
    notice_unaddressed,
    notice_unknown,
    notices,
    queue_notice,
    ready_notices,
    record_dot,
    release_notice,
    running_deadlines,
    steps_taken_by_time,
    stop_notices,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._pending import replay
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._releases import (
    create_release,
    current_release,
    find_release,
    policy_released,
    release_contents,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._runs import (
    record_result,
    run_summary,
    start_run,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._snapshot import snapshot
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._status import (
    bump_epoch,
    cases,
    known_services,
    nodes,
    status,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._personal import expire_personal
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._proposals import (
    confirm,
    find_proposal,
    proposals,
    propose,
    withdraw,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._responses import (
    ladder_history,
    open_case_of,
    record_step,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._transaction import (
    Ledger,
    Transaction,
    open_ledger,
    reader,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._usage import (
    began_metering,
    keep_usage_lives,
    record_usage,
    usage_lives,
    usage_windows,
)

# The event log itself is below transactions, so its two readers are declared here.
reader(head)
reader(verify)

__all__ = [
    "Ledger",
    "Transaction",
    "active",
    "add_evidence",
    "add_exemption",
    "adopt",
    "answer_case",
    "bear",
    "began_metering",
    "bump_epoch",
    "cancel_notice",
    "case_file",
    "case_problem",
    "cases",
    "charges",
    "claim_notice",
    "close_case",
    "confirm",
    "create_release",
    "creations",
    "current_release",
    "dated_documents",
    "dated_inputs",
    "deadline_passed",
    "decide_fault",
    "decide_request",
    "disclosures",
    "due_notices",
    "end_due",
    "enforcement_intervals",
    "erase_details",
    "evidence_problems",
    "evidence_rules",
    "exceed",
    "exemption_requests",
    "exemptions_of",
    "expire_evidence",
    "expire_exemptions",
    "expire_personal",
    "expired_claims",
    "export_charges",
    "exported",
    "find_case",
    "find_evidence",
    "find_exemptions",
    "find_node",
    "find_proposal",
    "find_release",
    "forget_node",
    "head",
    "held_by_hand",
    "history",
    "keep_touched",
    "keep_usage_lives",
    "known_services",
    "ladder_history",
    "lift",
    "lost_files",
    "nodes",
    "note_by_hand",
    "note_restored",
    "note_set_in_pool",
    "notice_bounced",
    "notice_delivered",
    "notice_refused",
    "notice_returned",
    "notice_unaddressed",
    "notice_unknown",
    "notices",
    "numbers_made",
    "open_case",
    "open_case_of",
    "open_enforcement",
    "open_ledger",
    "pending_request",
    "place_flag",
    "policy_released",
    "proposals",
    "propose",
    "queue_notice",
    "ready_notices",
    "record_baselines",
    "record_charge",
    "record_creations",
    "record_disclosure",
    "record_dot",
    "record_input",
    "record_numbers",
    "record_result",
    "record_step",
    "record_usage",
    "release_contents",
    "release_flag",
    "release_notice",
    "remove_evidence",
    "replay",
    "request_exemption",
    "review",
    "revoke_exemption",
    "run_summary",
    "running_deadlines",
    "set_node_release",
    "snapshot",
    "standing_flags",
    "start_run",
    "status",
    "steps_taken_by_time",
    "stop_notices",
    "take_journal",
    "unreviewed",
    "usage_lives",
    "usage_windows",
    "verify",
    "waive_charge",
    "withdraw",
]
