# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and policies as the nodes carry them now. PRIVATE to the collection."""
from __future__ import annotations

import difflib

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._policy import Policy
from ansible_collections.hosting.aup.plugins.module_utils._resolve import policy_of
from ansible_collections.hosting.aup.plugins.module_utils._routers import ACTS_ON_ROUTERS, carries, routers_of
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import find_case, nodes, policy_released, release_contents
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests._problems import Problems


class Released:
    """Services and policies as the nodes carry them now: each service by its own nodes' present release."""

    def __init__(self, tx):
        self.tx = tx
        self.nodes = {
            node["name"]: node["release_id"] for node in nodes(tx) if node["release_id"] is not None
        }
        self._releases = {}
        for release_id in sorted(set(self.nodes.values()), reverse=True):
            release, policies, catalogue = release_contents(tx, release_id)
            self._releases[release_id] = (release, policies, catalogue)
        self._policies = {}

    def any(self):
        """Whether anything was provisioned at all.

        :raises InputError: nothing was
        """
        if not self._releases:
            raise InputError(
                "no node carries a release yet.", target="ledger", remedy="Run hosting.aup.provision."
            )

    def service(self, name):
        """(service document, release id) by the release that one of its nodes carries.

        :raises InputError: unknown, or on no provisioned node
        """
        elsewhere = None
        for release_id, (_release, _policies, catalogue) in self._releases.items():
            service = catalogue["services"].get(name)
            if service is None:
                continue
            if any(self.nodes.get(node) == release_id for node in service["nodes"]):
                return service, release_id
            elsewhere = service
        if elsewhere is not None:
            raise InputError(
                "service %s lives on %s, which was not provisioned with it."
                % (name, ", ".join(elsewhere["nodes"])),
                target="service",
                remedy="Run hosting.aup.provision for that node first.",
            )
        known = {one for _r, _p, catalogue in self._releases.values() for one in catalogue["services"]}
        near = difflib.get_close_matches(name, known, n=3)
        raise InputError(
            "service %r is not in the released catalogue." % name,
            target="service",
            remedy=(
                "Did you mean %s?" % " or ".join(near)
                if near
                else "Check the id, or provision the new catalogue."
            ),
        )

    def policy(self, service, release_id, case_id=None):
        """The Policy that binds a service now; in an open case, the version that it was opened under.

        :param case_id: of the case, or None; one that is not there yet changes nothing
        """
        release, documents, _catalogue = self._releases[release_id]
        policy = policy_of(
            {key: self._policy(documents[key]) for key in documents}, release, service, self.tx.now
        )
        case = find_case(self.tx, str(case_id)) if case_id else None
        if case is None or case["policy_key"] in (None, policy.key) or case["policy_key"].partition("@")[0] != policy.name:
            return policy
        document = documents.get(case["policy_key"]) or policy_released(self.tx, case["policy_key"])
        return policy if document is None else self._policy(document)

    def _policy(self, document):
        key = "%s@%s" % (document["name"], document["version"])
        found = self._policies.get(key)
        if found is None or found.document != document:
            found = self._policies[key] = Policy.from_released(document)
        return found

    def catalogue(self, release_id):
        """The catalogue document of a release."""
        return self._releases[release_id][2]

    def provisioned(self, service):
        """The service's nodes that carry a release, sorted."""
        return sorted(name for name in service["nodes"] if name in self.nodes)

    def routers(self, service, release_id, kind):
        """Provisioned routers of the service's location, if this kind of enforcement acts on routers."""
        if kind not in ACTS_ON_ROUTERS:
            return []
        catalogue = self.catalogue(release_id)
        return [name for name in routers_of(catalogue, service["location"])
                if name in self.nodes and carries(catalogue["nodes"][name], kind)]

    def clusters(self, service, release_id):
        """The service's nodes that are clusters: `{name: whether rules on its nodes are ours to set}`."""
        described = self.catalogue(release_id)["nodes"]
        return {name: bool((described[name].get("proxmox") or {}).get("hosts"))
                for name in service["nodes"] if described.get(name, {}).get("backend") == "proxmox"}


def begin(tx):
    """(problems, released) for one request.

    :raises InputError: no node carries a release yet
    """
    released = Released(tx)
    released.any()
    return Problems(), released


def check_known(names, known_nodes, problems, service):
    """Note nodes that the inventory lacks: a service held on some of its nodes would be half held."""
    if known_nodes is None:
        return
    for name in names:
        if name not in known_nodes:
            problems.add(
                "node %s of service %s is not in the inventory (groups aup_kvm_nodes, aup_proxmox_clusters, aup_routers)." % (name, service),
                "service",
                "Add it to the inventory: holding a service on some of its nodes would be half a hold.",
            )
