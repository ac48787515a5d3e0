# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's tables as SQLAlchemy Core sees them. PRIVATE to the collection.

The migration steps in `_steps` make them, with their constraints, indexes and triggers; a test holds
the two together. Times are whole seconds since the epoch, documents are canonical JSON in text columns.
"""

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa


def _build():
    metadata = sa.MetaData()
    text, integer, big, blob = sa.Text, sa.Integer, sa.BigInteger, sa.LargeBinary

    def table(name, *columns):
        return sa.Table("aup_" + name, metadata, *columns)

    def column(name, kind, *more, null=False, pk=False):
        return sa.Column(name, kind, *more, nullable=null, primary_key=pk)

    def key(target):
        return sa.ForeignKey("aup_" + target)

    return SimpleNamespace(
        metadata=metadata,
        schema=table(
            "schema",
            sa.Column("step", integer, primary_key=True, autoincrement=False),
            column("applied_at", big),
        ),
        meta=table(
            "meta",
            sa.Column("one", integer, primary_key=True, autoincrement=False),
            column("ledger_id", text),
            column("epoch", integer),
            column("created_at", big),
            column("head_number", big),
            column("head_digest", text),
        ),
        event=table(
            "event",
            sa.Column("number", big, primary_key=True, autoincrement=False),
            column("at", big),
            column("kind", text),
            column("refs", text),
            column("detail_digest", text),
            column("prev_digest", text),
            column("digest", text),
        ),
        event_detail=table(
            "event_detail",
            sa.Column("event_number", big, key("event.number"), primary_key=True, autoincrement=False),
            column("salt", text, null=True),
            column("body", text, null=True),
            column("erased_at", big, null=True),
        ),
        content=table(
            "content",
            column("digest", text, pk=True),
            column("body", blob),
            column("size", big),
            column("created_at", big),
        ),
        release=table(
            "release",
            sa.Column("id", big, primary_key=True, autoincrement=False),
            column("created_at", big),
            column("contents_digest", text),
            column("default_policy", text),
            column("policies", text),
            column("catalogue_digest", text, key("content.digest")),
            column("nodes", integer),
            column("services", integer),
        ),
        node=table(
            "node",
            column("name", text, pk=True),
            column("release_id", big, key("release.id"), null=True),
            column("adopted_at", big, null=True),
            column("retired_at", big, null=True),
            column("last_seen_at", big, null=True),
            column("last_run_id", text, null=True),
            column("last_outcome", text, null=True),
            column("fence", text, null=True),
            column("recorded_at", big, null=True),
            column("recorded_digest", text, null=True),
        ),
        adoption=table(
            "adoption",
            column("service", text, pk=True),
            column("node", text, key("node.name")),
            column("recorded_at", big),
            column("adopted_at", big, null=True),
        ),
        case=table(
            "case",
            column("id", text, pk=True),
            column("year", integer, null=True),
            column("number", big, null=True),
            column("service", text, null=True),
            column("violation", text),
            column("clause", text, null=True),
            column("fault", text, null=True),
            column("policy_key", text),
            column("status", text),
            column("opened_at", big),
            column("closed_at", big, null=True),
            column("event_number", big, key("event.number")),
            column("fees", text, null=True),
        ),
        enforcement=table(
            "enforcement",
            column("id", text, pk=True),
            column("number", big),
            column("service", text),
            column("kind", text),
            column("case_id", text, key("case.id")),
            column("violation", text),
            column("clause", text, null=True),
            column("reason", text),
            column("policy_key", text),
            column("status", text),
            column("starts_at", big),
            column("ends_at", big, null=True),
            column("until", text),
            column("review_at", big, null=True),
            column("opened_at", big),
            column("verified_at", big, null=True),
            column("ending_at", big, null=True),
            column("ended_at", big, null=True),
            column("end_reason", text, null=True),
            column("options", text),
            column("snapshot", text),
            column("event_number", big, key("event.number")),
        ),
        enforcement_node=table(
            "enforcement_node",
            column("enforcement_id", text, key("enforcement.id"), pk=True),
            column("node", text, pk=True),
            column("state", text),
            column("seen_at", big),
        ),
        proposal=table(
            "proposal",
            column("id", text, pk=True),
            column("number", big),
            column("service", text),
            column("kind", text),
            column("case_id", text, key("case.id")),
            column("violation", text),
            column("status", text),
            column("opened_at", big),
            column("closed_at", big, null=True),
            column("persons", big),
            column("events", text),
            column("terms", text, null=True),
        ),
        break_glass=table(
            "break_glass",
            column("id", text, pk=True),
            column("number", big),
            column("run_id", text, key("run.id")),
            column("kind", text),
            column("services", text),
            column("rules", text),
            column("opened_at", big),
            column("event_number", big, key("event.number")),
            column("reviewed_at", big, null=True),
        ),
        dated_input=table(
            "dated_input",
            sa.Column("number", big, primary_key=True, autoincrement=False),
            column("name", text),
            column("taken_at", big),
            column("stale_at", big),
            column("content_digest", text),
            column("summary", text),
            column("event_number", big, key("event.number")),
        ),
        exemption=table(
            "exemption",
            column("id", text, pk=True),
            column("number", big),
            column("service", text),
            column("control", text),
            column("clause", text, null=True),
            column("reason", text),
            column("status", text),
            column("starts_at", big),
            column("ends_at", big, null=True),
            column("opened_at", big),
            column("closed_at", big, null=True),
            column("event_number", big, key("event.number")),
        ),
        baseline=table(
            "baseline",
            sa.Column("number", big, primary_key=True, autoincrement=False),
            column("service", text),
            column("node", text),
            column("digest", text),
            column("fields", text),
            column("captured_at", big),
            column("closed_at", big, null=True),
        ),
        billing_export=table(
            "billing_export",
            column("id", text, pk=True),
            column("number", big),
            column("at", big),
            column("charges", big),
            column("event_number", big, key("event.number")),
        ),
        charge=table(
            "charge",
            column("id", text, pk=True),
            column("number", big),
            column("kind", text),
            column("credit_of", text, key("charge.id"), null=True),
            column("account", text),
            column("case_id", text, key("case.id")),
            column("service", text, null=True),
            column("violation", text),
            column("fee", text),
            column("clause", text),
            column("policy_key", text),
            column("amount", text),
            column("currency", text),
            column("quantity", text, null=True),
            column("unit", text),
            column("reference", text),
            column("status", text),
            column("opened_at", big),
            column("waived_at", big, null=True),
            column("export_id", text, key("billing_export.id"), null=True),
            column("event_number", big, key("event.number")),
        ),
        run=table(
            "run",
            column("id", text, pk=True),
            column("number", big),
            column("verb", text),
            column("started_at", big),
            column("inputs_digest", text),
            column("event_number", big, key("event.number")),
        ),
        node_result=table(
            "node_result",
            sa.Column("number", big, primary_key=True, autoincrement=False),
            column("run_id", text, key("run.id")),
            column("node", text),
            column("service", text, null=True),
            column("outcome", text),
            column("error", text, null=True),
            column("recorded_at", big),
            column("summary", text, null=True),
        ),
    )


tables = _build() if sa is not None else None
