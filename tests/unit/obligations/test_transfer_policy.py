# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy may say of transfer, and what it may not."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

DOCUMENT = load_policy("alteron").document


def changed(**more):
    document = copy.deepcopy(DOCUMENT)
    document["transfer"].update(more)
    return document


def test_alterons_transfer():
    assert load_policy("alteron").transfer() == {
        "violation": "transfer_exceeded", "mode": "cap_until_paid", "direction": "both", "notices": [80, 100], "clause": "alteron.18"}
    assert load_policy("xtom").transfer() is None


@pytest.mark.parametrize(("document", "said"), [
    (changed(mode="capped"), "transfer.mode"),
    (changed(direction="in"), "transfer.direction"),
    (changed(notices=["0%"]), "transfer.notices"),
    (changed(notices=["110%"]), "transfer.notices"),
    (changed(violation="no_such"), "transfer.violation"),
    (changed(clause="alteron.99"), "transfer.clause"),
    (changed(violation="spam"), "a bandwidth_cap on the ladder of spam"),
    (changed(violation="attack_source", mode="bill"), "a fee per TB or TiB of attack_source"),
])
def test_bad_transfer_is_refused_with_its_place(document, said):
    with pytest.raises(PolicyError) as caught:
        Policy.from_document(document, source="house.yml")
    assert said in str(caught.value) and "house.yml" in str(caught.value)
