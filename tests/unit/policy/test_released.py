# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy that was released binds as it stands, also under a collection that reads policies more strictly."""
from __future__ import annotations

import copy

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names


@pytest.mark.parametrize("name", shipped_names())
def test_a_released_policy_is_the_policy_it_was(name):
    policy = load_policy(name)
    assert Policy.from_released(copy.deepcopy(policy.document)).document == policy.document


def test_what_a_stricter_collection_would_refuse_still_binds():
    document = copy.deepcopy(load_policy("default").document)
    document["former_key"] = {"kept": True}
    document["controls"]["smtp_outbound"]["options"]["ports"] = [25, 99999]
    with pytest.raises(PolicyError, match="99999"):
        Policy.from_document(copy.deepcopy(document))
    policy = Policy.from_released(document)
    assert policy.control("smtp_outbound", "main", "personal").options["ports"] == [25, 99999]
    assert policy.document["former_key"] == {"kept": True}


def test_keys_that_came_later_get_their_defaults():
    document = copy.deepcopy(load_policy("default").document)
    del document["guardrails"]["catalogue_shrink_limit"]
    del document["notices"]
    policy = Policy.from_released(document)
    assert policy.guardrails.catalogue_shrink_percent == load_policy("default").guardrails.catalogue_shrink_percent
    assert policy.document["notices"] == {}
