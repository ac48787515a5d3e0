# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filter of a KVM host: `bridge hosting_aup` and `inet hosting_aup`. PRIVATE to the collection.

    ruleset = build(model)
    observed = observe(run)
    change = plan(ruleset, observed, reference(run, ruleset, cached))
    apply(run, change)

`run(argv, stdin=None) -> (rc, stdout, stderr)` is given by the caller.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._names import is_interface_name, mac, remote
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._observe import (
    Observed,
    counters,
    observe,
    present,
    reference,
    samples,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._plan import (
    Change,
    apply,
    plan,
    plan_teardown,
    rollback_scripts,
    snapshot_script,
    teardown_script,
)
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._ruleset import (
    COUNTERS,
    FAMILIES,
    GUARD,
    MARK,
    SETS,
    TABLE,
    Ruleset,
    build,
)

__all__ = [
    "COUNTERS",
    "FAMILIES",
    "GUARD",
    "MARK",
    "SETS",
    "TABLE",
    "Change",
    "Observed",
    "Ruleset",
    "apply",
    "build",
    "counters",
    "is_interface_name",
    "mac",
    "observe",
    "plan",
    "plan_teardown",
    "present",
    "reference",
    "remote",
    "rollback_scripts",
    "samples",
    "snapshot_script",
    "teardown_script",
]
