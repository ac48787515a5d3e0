# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shipped policies say of a violation is what the ledger opens for it, and what they allow is refused."""

from __future__ import annotations

from itertools import count

import pytest

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as L
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import KINDS
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy, shipped_names

NOW = 1_800_000_000


def catalogue_for(policy):
    """A catalogue with a service at each location with each account type, without add-ons and with each of them."""
    services, number = {}, count(1)
    for location in sorted(policy.locations):
        for account_type in sorted(policy.account_types):
            for addons in [(), *((addon,) for addon in policy.addons())]:
                octet = next(number)
                name = "s%d" % octet
                services[name] = {
                    "id": name, "customer": "c-1", "account_type": account_type, "location": location,
                    "nodes": ["kvm1"], "pool": None, "guest": {"name": name, "uuid": None},
                    "nics": [{"mac": "52:54:00:00:00:%02x" % octet, "addresses": ["203.0.113.%d" % octet],
                              "prefixes": [], "shared": [], "floating": []}],
                    "plan": {}, "addons": list(addons), "uses": {}, "policy": None, "liable": None,
                }
    assert len(services) < 240
    nodes = {"kvm1": {"backend": "kvm", "location": None, "address": "203.0.113.250", "vars": {}}}
    return {"format": 1, "generated_at": None, "prefixes": ["203.0.113.0/24"], "nodes": nodes, "services": services}


@pytest.fixture(params=shipped_names())
def provider(request, tmp_path):
    """(policy, catalogue, ledger) with the policy released and the node provisioned."""
    policy = load_policy(request.param)
    catalogue = catalogue_for(policy)
    with L.open_ledger(str(tmp_path / "ledger.db"), create=True) as ledger:
        with ledger.transaction(now=NOW) as tx:
            done = requests.release_files(tx, policy, {policy.key: policy}, catalogue)
            tx.adopt("kvm1", done["release_id"])
            tx.set_node_release("kvm1", done["release_id"])
        yield policy, catalogue, ledger


def opened(ledger, kind, service, violation, **options):
    """The (enforcement, case) that a runbook would open; the ledger stays as it was.

    What nothing can undo is only proposed until a second person asks for it too.
    """
    with ledger.transaction(check=True, actor="alice", now=NOW) as tx:
        done = requests.hold(tx, kind, service, violation, **options)
        if kind == "terminate":
            assert done["enforcements"] == [], "one person alone terminated a service"
            tx.actor = {"name": "bob", "source": "given"}
            done = requests.hold(tx, kind, service, violation, case=done["case_id"], **options)
        return done["enforcements"][0], tx.find_case(done["case_id"])


def different_cases(policy, catalogue):
    """(violation, service, outcome): each outcome of each violation once."""
    for name in policy.document["violations"]:
        seen = []
        for service in catalogue["services"].values():
            outcome = policy.violation(name, service["location"], service["account_type"], service["addons"])
            spared = tuple(bool(set(step.unless) & set(service["addons"])) for step in outcome.ladder)
            if (outcome._replace(reason=None), spared) not in seen:
                seen.append((outcome._replace(reason=None), spared))
                yield name, service, outcome


def test_open(provider):
    policy, catalogue, ledger = provider
    tried = 0
    for name, service, outcome in different_cases(policy, catalogue):
        first = {}
        for step in outcome.ladder:
            for measure in step.alternatives:
                first.setdefault(measure.enforcement, []).append((step, measure))
        for kind in set(first) & set(KINDS):
            where = (policy.key, name, service["location"], service["account_type"], service["addons"], kind)
            options = {}
            if kind == "port_block" and "ports" not in first[kind][0][1].options:
                options["ports"] = "8080"
            if all(set(step.unless) & set(service["addons"]) for step, _measure in first[kind]):
                with pytest.raises(AupError, match="spares it"):
                    opened(ledger, kind, service["id"], name, **options)
                continue
            step, measure = first[kind][0]
            enforcement, case = opened(ledger, kind, service["id"], name, **options)
            ends_at = NOW + measure.seconds if measure.until == "time" else None
            review_at = NOW + measure.review_seconds if measure.review_seconds else None
            assert (enforcement["kind"], enforcement["clause"]) == (kind, step.clause), where
            assert (enforcement["until"], enforcement["ends_at"]) == (measure.until, ends_at), where
            assert enforcement["review_at"] == review_at, where
            assert measure.options.items() <= enforcement["options"].items(), where
            assert (case["fault"], case["policy_key"], case["violation"]) == (outcome.fault, policy.key, name), where
            tried += 1
    assert tried > 10, "the policy has too few ladders for this test to mean anything"


def test_allowed(provider):
    policy, catalogue, ledger = provider
    for name, service, outcome in different_cases(policy, catalogue):
        if outcome.allowed:
            with pytest.raises(AupError, match="%s is allowed for service .* by clause %s" % (name, outcome.clause)):
                opened(ledger, "suspend", service["id"], name)
            with ledger.transaction(check=True, now=NOW) as tx, pytest.raises(AupError, match="is allowed"):
                requests.report_case(tx, service=service["id"], violation=name)


def test_some_policy_allows_something():
    """Without it the test above would test nothing."""
    policy = load_policy("location")
    assert policy.violation("mining", "moscow", "personal").allowed
    assert policy.violation("vpn_own_use", "falkenstein", "personal").allowed
