# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releasing policies and catalogue, and taking a node out. PRIVATE to the collection."""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import CatalogueError, PolicyError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._resolve import versions_of
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.module_utils._versions import announced_seconds, effective_at, version_at
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import check_not_older, check_shrink, technical_slice
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    create_release,
    current_release,
    find_node,
    release_contents,
    start_run,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._enforcements import nodes_concerned
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._problems import Problems
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._queue import queue_for_version
from ansible_collections.hosting.aup.plugins.plugin_utils._policy_report._diff import concerned_services, diff_lines, difference, lines_for
from ansible_collections.hosting.aup.plugins.plugin_utils._summary import enforcement_line

_GROUPS = {"kvm": "aup_kvm_nodes", "proxmox": "aup_proxmox_clusters"}  # of the inventory; a router may be left out of it
MOST_CHANGES = 30  # lines about a new version in one summary


def check_services(catalogue, policies, release):
    """Refuse a catalogue with services whose location, account type or policy their policy does not know.

    :param policies: {key: Policy}
    :raises CatalogueError: lists the first 20
    """
    problems = []
    for name, service in sorted(catalogue["services"].items()):
        try:
            versions = versions_of(policies, release, service.get("policy"))
        except PolicyError as exc:
            problems.append("service %s: %s" % (name, exc.message))
            continue
        for policy in versions:
            if service["location"] not in policy.locations:
                problems.append(
                    "service %s: location %r is not declared by policy %s (%s)."
                    % (name, service["location"], policy.key, ", ".join(sorted(policy.locations)))
                )
            if service["account_type"] not in policy.account_types:
                problems.append(
                    "service %s: account type %r is not declared by policy %s (%s)."
                    % (name, service["account_type"], policy.key, ", ".join(sorted(policy.account_types)))
                )
    if problems:
        more = "" if len(problems) <= 20 else "\nand %d more" % (len(problems) - 20)
        raise CatalogueError(
            "catalogue and policy do not fit:\n%s%s"
            % ("\n".join("- %s" % text for text in problems[:20]), more),
            target="aup_catalogue",
            remedy="Declare it in the policy, or correct the service.",
        )


def retire(tx, node, known_nodes=None):
    """Check that a node can be retired, and begin the run that does it."""
    problems = Problems()
    present = find_node(tx, node) if isinstance(node, str) else None
    if present is None or present["release_id"] is None:
        problems.add("node %r carries no release." % (node,), "node", "hosting.aup.status lists the nodes.")
    elif known_nodes is not None and node not in known_nodes:
        problems.add(
            "node %s is not in the inventory (group aup_kvm_nodes)." % node, "node", "Add it to retire it."
        )
    problems.stop()
    held = [e for e in active(tx) if node in nodes_concerned(e)]
    run_id = start_run(tx, "retire", {"node": node})
    what = ["retire node %s" % node]
    what += ["  it gives back: %s" % enforcement_line(document) for document in held]
    return {"run_id": run_id, "nodes": [node], "changed": True, "what": what, "warnings": []}


def check_amendments(tx, present, policies, accept_unannounced, problems):
    """Note versions that come into force sooner than was promised, or later than the last one that was named.

    :param present: the newest release, or None
    :returns: what each new version changes, as lines for people
    """
    if present is None:
        return []
    lines = []
    _release, documents, _catalogue = release_contents(tx, present["id"])
    known = {key: Policy.from_released(document) for key, document in documents.items()}
    for key, new in sorted(policies.items()):
        before = [policy for policy in known.values() if policy.name == new.name]
        if key in known:
            if announced_seconds(known[key]) and not accept_unannounced and _material(difference(known[key], new)):
                problems.add(
                    "policy %s was released with other words, and promises to tell of material changes." % key, "aup_policy",
                    "Give the change a version of its own; or, where nobody is worse off, -e aup_accept_unannounced=true.")
            continue
        if not before:
            continue
        old = version_at(before, tx.now)
        found = difference(old, new)
        changed = diff_lines(found)
        lines += ["%s, in force from %s:" % (changed[0], new.effective), *("  %s" % line for line in changed[1:MOST_CHANGES])]
        lines += ["  and %d more: hosting.aup.policy_diff" % (len(changed) - MOST_CHANGES)] if len(changed) > MOST_CHANGES else []
        others = [policy for policy in policies.values() if policy.name == new.name]
        if effective_at(new) > tx.now and all(effective_at(policy) > tx.now for policy in others):
            problems.add(
                "policy %s is in force only from %s, and no version that is in force until then is named." % (key, new.effective),
                "aup_policy", "Name %s as well: aup_policy is a list then." % old.key)
        told = announced_seconds(old)
        if told and not accept_unannounced and effective_at(new) < tx.now + told and _material(found):
            problems.add(
                "policy %s comes into force on %s, and %s promises to tell of material changes %d days ahead."
                % (key, new.effective, old.key, told // 86400),
                "aup_policy", "Set effective to %s or later; or, where nobody is worse off, -e aup_accept_unannounced=true."
                % iso(tx.now + told + 86399)[:10])
    return lines


def announce(tx, present, policies, catalogue):
    """Queue the notices of versions that the release before did not have, to the customers they concern. Lines for people.

    :param present: the release before, or None
    :param policies: {key: Policy} of the new release
    :param catalogue: the whole catalogue
    """
    if present is None:
        return []
    release, documents, before = release_contents(tx, present["id"])
    known = {key: Policy.from_released(document) for key, document in documents.items()}
    lines, pending = [], len(tx.pending)
    for key, new in sorted(policies.items()):
        versions = [policy for policy in known.values() if policy.name == new.name]
        if not versions or key in known:
            continue
        old = version_at(versions, tx.now)
        found = difference(old, new)
        if not _material(found):
            continue
        services = {name: one for name, one in catalogue["services"].items() if name in before["services"]}
        rows = concerned_services(found, new, old, release, known, {"services": services})
        notices = queue_for_version(tx, old, new, rows, services, lambda own, found=found: lines_for(found, own))
        if notices:
            lines.append("  %d notices of %s to customers wait to be sent: hosting.aup.notices" % (len(notices), key))
    # A check run's nodes replay what is pending. None of their plans depends on a notice, and there may be thousands.
    del tx.pending[pending:]
    return lines


def _material(found):
    return any(found[part] for part in ("controls", "violations", "fees", "exemptions"))


def release_files(
    tx, default, policies, catalogue, accept_shrink=False, accept_older=False, known_nodes=None, accept_unannounced=False
):
    """Release policies and catalogue, after all checks against what was released before.

    :param default: the Policy for services that name none
    :param policies: {key: Policy}
    :param catalogue: the whole catalogue document; what is personal in it does not go into the release
    :returns: dict with run_id, release_id, release, nodes, services, changed, what, warnings
    """
    problems = Problems()
    present = current_release(tx)
    before = release_contents(tx, present["id"])[2] if present else None
    limit = 1.0 if accept_shrink else default.guardrails.catalogue_shrink_percent / 100.0
    problems.run(check_shrink, before, catalogue, limit)
    if not accept_older:
        problems.run(check_not_older, before, catalogue)
    wanted = {"id": "to be made", "default_policy": default.key}
    problems.run(check_services, catalogue, policies, wanted)
    changes = check_amendments(tx, present, policies, accept_unannounced, problems)
    problems.stop()
    run_id = start_run(tx, "provision", {"policies": sorted(policies), "default": default.key})
    documents = {key: policy.document for key, policy in policies.items()}
    release = create_release(tx, documents, default.key, technical_slice(catalogue))
    told = announce(tx, present, policies, catalogue)
    names = sorted(catalogue["nodes"])
    outside = [] if known_nodes is None else sorted(set(names) - set(known_nodes))
    warnings = [
        "node %s of the catalogue is not in the inventory (group %s): not provisioned." % (name, _GROUPS[catalogue["nodes"][name]["backend"]])
        for name in outside
        if catalogue["nodes"][name]["backend"] in _GROUPS
    ]
    what = [
        "release %d: %s, %d services on %d nodes%s"
        % (
            release["id"],
            ", ".join(release["policy_keys"]),
            release["services"],
            release["nodes"],
            "" if release["created"] else " (as before)",
        )
    ] + changes + told
    return {
        "run_id": run_id,
        "release_id": release["id"],
        "release": release,
        "nodes": [name for name in names if name not in outside],
        "services": release["services"],
        "changed": release["created"],
        "what": what + warnings,
        "warnings": warnings,
    }
