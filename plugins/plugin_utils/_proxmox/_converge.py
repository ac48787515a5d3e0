# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of converging one cluster: as any node, with what we set kept in the ledger. PRIVATE.

A cluster keeps no fence of ours. Instead, after acting, the ledger is read again: if it wants something else by then, the
cluster is brought to that. Whoever acts last has read the newest.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, CatalogueError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox._desired import for_cluster
from ansible_collections.hosting.aup.plugins.plugin_utils._converge import RETRIES, Converge, describe_node
from ansible_collections.hosting.aup.plugins.plugin_utils._one_writer import one_writer

_UNREACHED = frozenset(("unreachable", "auth", "certificate", "node_locked", "missing_privilege"))
# Somebody else changed the same thing meanwhile, or an answer didn't come: look again, and go on from there.
_AGAIN = frozenset(("changed_meanwhile", "unknown_outcome"))


def described_cluster(name, catalogue):
    """A cluster's description in the released catalogue.

    :raises CatalogueError: it has none, or is none
    """
    node = describe_node(name, catalogue)
    if node["backend"] != "proxmox":
        raise CatalogueError("node %s is no Proxmox VE cluster." % name, target=name,
                             remedy="Give it backend: proxmox in the catalogue.")
    return node


class ClusterConverge(Converge):
    """One cluster, once.

    :param cluster: `_cluster.ProxmoxCluster`
    :param locks: folder for this controller's locks
    :param rules_on: names of its own nodes that were seen with their rules in this run
    """

    def __init__(self, ledger, cluster, actor, clock, check, locks, rules_on=()):
        super().__init__(ledger, cluster.call, None, actor, clock, check)
        self.locks, self.cluster, self.rules_on = locks, cluster, rules_on

    def _resolve(self, wanted, born=()):
        snapshot, desired, ordered = super()._resolve(wanted, born)
        node = None if wanted.absent else described_cluster(wanted.node, snapshot["catalogue"])
        if ordered:
            ordered = {sid: _in_cluster(order, snapshot["catalogue"]["services"][sid], node, wanted.numbers.get(sid))
                       for sid, order in ordered.items()}
            with self.ledger.read(now=self.clock()) as tx:
                self.cluster.made = tx.creations(wanted.node)
        return snapshot, for_cluster(desired, snapshot, node, self.clock(), self.rules_on), ordered

    def number(self, wanted):
        """Reserve numbers for ordered guests that have none, so that rules on the nodes can be there before them.

        Nothing is written to the cluster. In check mode nothing is kept either, and what is returned is to be handed to the
        runs that follow.

        :returns: dict with `outcome`, `changed`, `numbers` by service, and `errors`
        """
        try:
            with one_writer(self.locks, wanted.node):
                _snapshot, desired, ordered = self._resolve(wanted)
                found = self.cluster.numbers(desired, ordered) if ordered else {}
                changed = self._reserve(wanted, desired, found, ordered)
        except AupError as exc:
            return {"outcome": "failed", "changed": False, "numbers": {}, "retryable": exc.retryable, "errors": [
                {"service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy}]}
        return {"outcome": "changed" if changed else "unchanged", "changed": changed, "errors": [],
                "numbers": {sid: record["vmid"] for sid, record in found.items()}}

    def _reserve(self, wanted, desired, found, ordered):
        """Keep the numbers that are new, and forget those of services that order nothing any more."""
        kept = {}
        for service in desired["services"]:
            sid, touched = service["id"], service["touched"]
            record = touched.get("making") or {}
            if sid in found and record != found[sid]:
                empty = {"guest": dict(service["guest"]), "fields": {}, "sets": [], "rules": False}
                kept[sid] = dict(touched or empty, making=found[sid])
            elif record.get("reserved") and sid not in found and sid not in ordered:
                kept[sid] = {key: value for key, value in touched.items() if key != "making"}
        if kept:
            with self._transaction(rolled_back=self.check) as tx:
                overtaken = tx.keep_touched(wanted.node, kept, {service["id"]: service["touched"] for service in desired["services"]})
                if not overtaken and found:
                    tx.record_numbers(wanted.run_id, wanted.node, {sid: found[sid]["vmid"] for sid in kept if sid in found})
            if overtaken:
                raise NodeError("another run has numbered guests meanwhile.", code="plan_changed", target=wanted.node, retryable=True,
                                remedy="Run hosting.aup.provision again.")
        return bool(kept)

    def run(self, wanted):
        """Converge, alone on this controller; see `Converge.run`."""
        self.cluster.thorough = wanted.absent or wanted.release_id is not None
        try:
            with one_writer(self.locks, wanted.node):
                result = super().run(wanted)
        except AupError as exc:
            result = self._nothing("unreachable", [{"service": None, "code": exc.code, "message": exc.message, "remedy": exc.remedy}])
            result["retryable"] = exc.retryable
            if not self.check:
                self._record(wanted, None, result)
            return result
        if result["outcome"] == "failed" and result["errors"] and result["errors"][0]["code"] in _UNREACHED and not result["services"]:
            result["outcome"] = "unreachable"
        return result

    def _converge(self, wanted):
        steps, changed, planned = [], False, None
        for _attempt in range(RETRIES):
            snapshot, result = super()._converge(wanted)
            steps, changed = steps + result["steps"], changed or result["changed"]
            planned = planned or result["plan_hash"]  # of the first look, as --check says it
            if self.check:
                break
            again = self._keep(wanted, result) or any(error["code"] in _AGAIN for error in result["errors"])
            _snapshot, now, _orders = self._resolve(wanted)
            if _wants(now) == _wants(self._last) and not again:
                break
        result.update(steps=steps, changed=changed, plan_hash=planned)
        if result["outcome"] == "unchanged" and changed:
            result["outcome"] = "changed"
        return snapshot, result

    def _planned(self, *arguments):
        planned = super()._planned(*arguments)
        self._seen, self._last = dict(planned[0]["touched"]), planned[1]
        return planned

    def _takes_release(self, result):
        """Also where single guests failed: one of a thousand is always locked. The run has failed and says which; reconcile
        goes on with them, instead of bringing all others back to the former release. One that names another ledger's guest
        is not taken, or that guest could be acted on."""
        codes = {error["code"] for error in result["errors"] if error["service"] is not None}
        single = codes and "other_ledger" not in codes and all(error["service"] is not None for error in result["errors"])
        return super()._takes_release(result) or bool(single) and result["outcome"] == "failed"

    def _before_apply(self, wanted, plan, born):
        if self._keep(wanted, plan):
            raise NodeError("another run has acted on the same guests meanwhile.", code="plan_changed", target=wanted.node, retryable=True,
                            remedy="Run again; it plans anew.")
        super()._before_apply(wanted, plan, born)

    def _keep(self, wanted, result):
        """What is set on the guests, before it is set; and what is left of it after.

        :returns: services on which another controller has acted since this one looked: what that one set stays on record
        """
        created = result.get("created") if not wanted.absent else None
        documents = result.get("touched") or {}
        if not documents and not created:
            return []
        with self._transaction(rolled_back=False) as tx:
            overtaken = tx.keep_touched(wanted.node, documents, self._seen)
            if created:  # in one with what ends its being made, or it could be made a second time
                tx.record_creations(wanted.run_id, wanted.node, created)
        self._seen.update((sid, document) for sid, document in documents.items() if sid not in overtaken)
        return overtaken


def _in_cluster(order, service, node, number):
    """An order with what only a cluster has of it.

    :param number: reserved for it in this run, or None
    """
    means = node.get("creation") or {}
    place = [nic["mac"] for nic in service["nics"]].index
    return dict(order, vmid=service["guest"].get("vmid"), number=number, user=service["order"]["cloud_init"].get("user"),
                # The first NIC of a service is net0 of its guest: so rules on nodes know it before it is there.
                nics=sorted(order["nics"], key=lambda nic: place(nic["mac"])),
                resource_pool=means.get("resource_pool"), snippet=(means.get("user_data") or {}).get(order["user_data"]))


def _wants(desired):
    """The part of a desired state that the cluster shows."""
    return ([dict({key: entry[key] for key in ("id", "nics", "smtp", "controls", "hold", "limits")},
                  guest=dict(entry["guest"], vmid=None) if entry.get("numbered") else entry["guest"])
             for entry in desired["services"]], desired["smtp"], desired["controls"], desired["rescue"], desired["proxmox"])
