# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is taken over as exempt: those seen needing it, and nobody else."""
from __future__ import annotations

import pytest

from ansible_collections.hosting.aup.plugins.action.ledger_exemption import observed_services
from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError


def counted(**services):
    return {"counters": {name: {control: {"packets": packets, "bytes": 0} for control, packets in controls.items()}
                         for name, controls in services.items()}}


def test_only_services_that_would_have_been_refused_something():
    seen = {
        "kvm1": counted(mailer={"smtp_outbound_observed": 7}, quiet={"smtp_outbound_observed": 0},
                        refused={"smtp_outbound_refused": 9}, unknown={"smtp_outbound_observed": 3}),
        "kvm2": counted(mailer={"smtp_outbound_observed": 1}, other={"smtp_outbound_observed": 2}),
    }
    assert observed_services(seen, "smtp_outbound") == ["mailer", "other"]
    assert observed_services(seen, "mining") == []


def test_a_node_that_was_not_read_is_an_error_and_not_an_empty_answer():
    with pytest.raises(InputError, match="kvm2, kvm3"):
        observed_services({"kvm1": counted(), "kvm2": {"unreachable": True}, "kvm3": None}, "smtp_outbound")
