# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small provider with a real ledger: one router, a KVM host that only exists in the ledger, four services."""
from __future__ import annotations

import time

from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger as ledger_package
from ansible_collections.hosting.aup.plugins.plugin_utils import _ledger_requests as requests
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import Wanted
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from ansible_collections.hosting.aup.plugins.plugin_utils._router._converge import RouterConverge
from ansible_collections.hosting.aup.plugins.plugin_utils._router._session import Target

POLICY = load_policy("default")
V4, V6 = "203.0.113.%d", "2001:db8:100::%s"
# by the last part of their addresses
SERVICES = {"vps-10": 10, "vps-20": 20, "vps-11": 11, "vps-gw": 1}


def service_of(name, number, prefixes=()):
    return {
        "id": name, "customer": "c-1", "account_type": min(POLICY.account_types), "location": min(POLICY.locations),
        "nodes": ["kvm1"], "pool": None, "guest": {"name": name, "uuid": None},
        "nics": [{"mac": "52:54:00:00:00:%02x" % number, "addresses": [V4 % number, V6 % number],
                  "prefixes": list(prefixes), "shared": [], "floating": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None,
    }


def dedicated(name, interface, addresses, number):
    """A dedicated server on a port of the router, as the catalogue's normal form has it.

    :param number: the last part of its MAC
    """
    return {
        "id": name, "customer": "c-1", "account_type": min(POLICY.account_types), "location": min(POLICY.locations),
        "nodes": ["edge"], "pool": None, "guest": {"name": None, "uuid": None},
        "ports": [{"router": "edge", "interface": interface}],
        "nics": [{"mac": "52:54:00:00:01:%02x" % number, "addresses": list(addresses), "prefixes": [], "shared": [], "floating": []}],
        "plan": {}, "addons": [], "uses": {}, "policy": None, "liable": None}


def codes(result):
    """Codes of a run's errors, each once."""
    return sorted({error["code"] for error in result["errors"]})


class Provider:
    """A context manager around one ledger.

    :param target: how to reach the router (`_session.Target`'s fields)
    :param router: the catalogue's section of it
    """

    def __init__(self, folder, target, router, more=()):
        self.folder, self.target, self.router, self.more = folder, target, router, more
        self.services, self.policy = SERVICES, POLICY
        self.late = 0  # seconds that the clock is ahead
        self.platforms = None
        self.patience = 10.0

    def __enter__(self):
        self.ledger = ledger_package.open_ledger(str(self.folder / "ledger.db"), create=True)
        return self

    def __exit__(self, *_exc):
        self.ledger.close()

    def clock(self):
        """This provider's time."""
        return time.time() + self.late

    def ask(self, function, *args, check=False, **named):
        """A request to the ledger, as a playbook makes it; in check mode with the pending verbs."""
        with self.ledger.transaction(actor="alice", now=int(self.clock()), check=check) as tx:
            done = function(tx, *args, **named)
            return (done, list(tx.pending)) if check else done

    def provision(self):
        """Release the catalogue; only the router is converged, the KVM host is taken for granted."""
        location = min(POLICY.locations)
        services = [service_of(name, number) for name, number in self.services.items()] + list(self.more)
        catalogue = {
            "format": 1, "generated_at": None, "prefixes": ["203.0.113.0/24", "2001:db8:100::/48"],
            "nodes": {"kvm1": {"backend": "kvm", "location": location, "address": "192.0.2.250", "vars": {}},
                      "edge": {"backend": "router", "location": location, "address": "192.0.2.1", "vars": {},
                               "router": self.router}},
            "services": {service["id"]: service for service in services},
        }
        done = self.ask(requests.release_files, self.policy, {self.policy.key: self.policy}, catalogue)
        self.ask(lambda tx: (tx.adopt("kvm1", done["release_id"]), tx.set_node_release("kvm1", done["release_id"])))
        return self.converge(run_id=done["run_id"], release_id=done["release_id"])

    def enforce(self, kind, service="vps-10", case="T-1", duration="1h", check=False, **options):
        """Open an enforcement; the document of `hold`."""
        violation = "spam" if kind in ("smtp_block", "port_block") else "attack_target"
        return self.ask(requests.hold, kind, service, violation, case=case, duration=duration,
                        known_nodes=["kvm1", "edge"], check=check, **options)

    def null_route(self, service="vps-10", **options):
        """Open a null route; the document of `hold`."""
        return self.enforce("null_route", service, **options)

    def drop(self, sources, service="vps-10", **options):
        """Open a drop of traffic with remote prefixes; its id."""
        return self.hold("drop", service, sources=sources, **options)

    def hold(self, kind, service="srv-a", **options):
        """Open an enforcement on a dedicated server; its id."""
        return self.enforce(kind, service, **options)["enforcements"][0]["id"]

    def lift(self, service="vps-10", **named):
        """End it by decision."""
        return self.ask(requests.release_hold, service, **named)

    def converge(self, run_id=None, check=False, pending=(), **named):
        """What `router_converge` does on the router."""
        target = Target(**{**self.target, "name": "edge"})
        return RouterConverge(self.ledger, target, "alice", self.clock, check, str(self.folder / "locks"), self.platforms,
                              self.patience).run(Wanted(node="edge", run_id=run_id, pending=list(pending), **named))

    def seen_gone_on_kvm(self, ids):
        """The KVM host's part of an end."""
        self.ask(lambda tx: tx.record_result(
            None, "kvm1", "changed", None, [{"service": "vps-10", "enforcement_ids": [], "ended_ids": ids}]))

    def status(self, enforcement_id):
        """Status of an enforcement."""
        from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import _enforcements

        with self.ledger.read() as tx:
            found = _enforcements.find_enforcements(tx, _enforcements.t.enforcement.c.id == enforcement_id)
        return found[0]["status"]
