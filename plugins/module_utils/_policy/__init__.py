# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's policy: read strictly, and what it says. Pure. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy._document import (
    PolicyDocumentError,
    located,
    read_document,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._model import (
    ControlSetting,
    EnforcementTerms,
    ExemptionTerms,
    Guardrails,
    LadderStep,
    Measure,
    Policy,
    Violation,
)
from ansible_collections.hosting.aup.plugins.module_utils._policy._vocabulary import (
    CONTROLS,
    ENFORCEMENTS,
    MODES,
    NETWORKS,
)

__all__ = (
    "CONTROLS",
    "ENFORCEMENTS",
    "MODES",
    "NETWORKS",
    "ControlSetting",
    "EnforcementTerms",
    "ExemptionTerms",
    "Guardrails",
    "LadderStep",
    "Measure",
    "Policy",
    "PolicyDocumentError",
    "PolicyError",
    "Violation",
    "located",
    "read_document",
)
