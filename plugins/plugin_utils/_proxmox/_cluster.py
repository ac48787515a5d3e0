# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as `Converge` sees any node: plan, and apply the plan with that hash. PRIVATE to the collection.

Planning is the only judgement: after applying, the guests that were changed are read and planned again, and what that
still wants is what was not achieved.
"""
from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _cluster, _firewall, _guest, _nics
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._apply import Apply
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import READS, ApiError

_UUID = re.compile(r"uuid=([0-9a-fA-F-]{36})")


def _power(row, status):
    if status is not None:
        return "paused" if status.get("qmpstatus") == "paused" else status["status"]
    return row.get("status", "unknown")


class ProxmoxCluster:
    """One cluster.

    :param client: `_client.Client`
    :param only: services to look at, or None for all; then nothing else is judged or tidied up
    """

    def __init__(self, client, only=None):
        self.client, self.only = client, None if only is None else frozenset(only)

    # -- looking --------------------------------------------------------------------------------------------------

    def _rows(self):
        return {int(row["vmid"]): row for row in self.client.get("cluster", "resources", type="vm")}

    def _guest(self, row, service):
        """One guest as the planner knows it. Two reads, two more for the firewall, one more if power matters."""
        kind, node, vmid = row["type"], row["node"], int(row["vmid"])
        place = ("nodes", node, kind, vmid)
        config, live, digest = {}, {}, None
        for item in self.client.get(*place, "pending"):
            key = item["key"]
            if key == "digest":
                digest = item["value"]
            elif item.get("delete"):
                live[key] = item.get("value")
            else:
                config[key] = item.get("pending", item.get("value"))
                if "value" in item:
                    live[key] = item["value"]
        config = {key: None if value is None else str(value) for key, value in config.items()}
        power_matters = service["hold"] or "power" in (service["touched"].get("fields") or {})
        status = self.client.get(*place, "status", "current") if power_matters else None
        nics = {key: {"text": config[key], "mac": _nics.mac_of(kind, config[key])} for key in sorted(config)
                if _nics.NIC.fullmatch(key)}
        waiting = sorted(key for key in nics if str(live.get(key, "")) and not _nics.same(str(live[key]), config[key]))
        uuid = _UUID.search(config.get("smbios1") or "")
        guest = {
            "vmid": vmid, "kind": kind, "node": node, "name": row.get("name") or config.get("name") or config.get("hostname"),
            "uuid": uuid.group(1).lower() if uuid else None, "template": config.get("template") == "1", "lock": config.get("lock"),
            "power": _power(row, status), "ha": bool(row.get("hastate")), "config": config, "digest": digest, "nics": nics,
            "waiting": waiting, "processors": int(config.get("cores") or row.get("maxcpu") or 1) * int(config.get("sockets") or 1),
            "options": {}, "rules": [], "sets": {}, "firewall_digest": None,
        }
        guest["options"] = self.client.get(*place, "firewall", "options")
        guest["firewall_digest"] = guest["options"].get("digest")
        guest["rules"] = self.client.get(*place, "firewall", "rules")
        spoof = (service.get("controls") or {}).get("anti_spoofing") or {}
        made = service["touched"].get("sets") or []
        if spoof.get("mode") == "enforce" or made:
            for name in sorted({"ipfilter-" + nic for nic in nics} | set(made)):
                try:
                    entries = self.client.get(*place, "firewall", "ipset", name)
                except ApiError as exc:
                    if exc.code != "absent":
                        raise
                    continue
                guest["sets"][name] = {"entries": [entry["cidr"] for entry in entries if not entry.get("nomatch")],
                                       "ours": name in made}
        return guest

    def _shared(self):
        """Groups and sets of ours, by name, as they are."""
        groups = {one["group"]: None for one in self.client.get("cluster", "firewall", "groups") if _firewall.is_ours(one["group"])}
        sets = {one["name"]: None for one in self.client.get("cluster", "firewall", "ipset") if _firewall.is_ours(one["name"])}
        for name in groups:
            groups[name] = [_firewall.bare(rule) for rule in self.client.get("cluster", "firewall", "groups", name)]
        for name in sets:
            entries = self.client.get("cluster", "firewall", "ipset", name)
            sets[name] = [{"cidr": entry["cidr"], "nomatch": int(entry.get("nomatch", 0))} for entry in entries]
        return groups, {name: sorted(entries, key=_firewall.by_cidr) for name, entries in sets.items()}

    def observe(self, desired):
        """What the planner needs of the cluster now."""
        rows = self._rows()
        services = [one for one in desired["services"] if _cluster.concerned(one) and self._mine(one)]
        wanted = {}
        for service in services:
            row, _errors = _guest.find(service, rows)
            if row is not None:
                wanted[int(row["vmid"])] = (row, service)
        guests, unread = {}, {}

        def read(vmid):
            row, service = wanted[vmid]
            try:
                guests[vmid] = self._guest(row, service)
            except AupError as exc:
                unread[vmid] = {"part": "guest", "code": exc.code, "message": exc.message, "remedy": exc.remedy,
                                "retryable": exc.retryable}

        with ThreadPoolExecutor(READS) as pool:
            list(pool.map(read, sorted(wanted)))
        options = self.client.get("cluster", "firewall", "options")
        groups, sets = self._shared()
        return {"rows": rows, "guests": guests, "unread": unread, "groups": groups, "sets": sets,
                "firewall_on": str(options.get("enable", 0)) not in ("0", "")}

    def _mine(self, service):
        return self.only is None or service["id"] in self.only

    # -- the two modes of a node ------------------------------------------------------------------------------------

    def _plan(self, desired):
        wanted = dict(desired, services=[one for one in desired["services"] if _cluster.concerned(one) and self._mine(one)])
        seen = self.observe(wanted)
        plan = _cluster.plan(wanted, seen)
        if self.only is not None:
            plan = plan._replace(steps=[step for step in plan.steps if step["part"] != "leftover"])
        return seen, plan

    @staticmethod
    def _result(plan, desired):
        return {
            "changed": bool(plan.steps), "steps": plan.steps, "priors": plan.priors, "plan_hash": plan.plan_hash,
            "services": plan.services, "errors": plan.errors, "notes": plan.notes, "gaps": plan.gaps, "closed": plan.closed,
            "fence": desired["fence"], "disarmed": {}, "unknown_ports": [], "touched": plan.touched,
        }

    def call(self, mode, desired, plan_hash=None, **_others):
        """What the node module does on a host.

        :raises NodeError: code `plan_changed`, when the cluster is no longer what was planned for
        """
        document = unpack(desired)
        seen, plan = self._plan(document)
        if mode == "plan":
            return self._result(plan, document)
        if plan.plan_hash != plan_hash:
            raise NodeError("the cluster changed between plan and apply.", code="plan_changed", retryable=True,
                            remedy="Run again; it plans anew.")
        failures = Apply(self.client, self._rows).run(plan.steps, seen["guests"])
        after_document = dict(document, services=[
            dict(service, touched=plan.touched.get(service["id"], service["touched"])) for service in document["services"]])
        _seen, after = self._plan(after_document)
        result = self._result(after, document)
        failed = {failure["service"] for failure in failures}
        result.update(
            changed=True, steps=plan.steps, unverified=after.steps, notes=plan.notes,
            errors=failures + [error for error in after.errors if error["service"] not in failed])
        return result
