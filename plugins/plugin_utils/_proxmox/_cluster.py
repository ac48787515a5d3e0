# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as `Converge` sees any node: plan, and apply the plan with that hash. PRIVATE to the collection.

Planning is the only judgement: after applying, the guests that were changed are read and planned again, and what that
still wants is what was not achieved.

Reads are what a run over thousands of guests costs, so nothing is read that decides nothing: a guest's firewall only where
it matters, what all share by the names that are wanted; the lists of all groups and sets only when something is changed.
A list's digest covers that list alone, so none of them stands for what wasn't read.
"""
from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, NodeError
from ansible_collections.hosting.aup.plugins.module_utils._proxmox import _cluster, _firewall, _guest, _nics, _order, _rights
from ansible_collections.hosting.aup.plugins.module_utils._wire import unpack
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._apply import Apply, spread
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._client import READS, ApiError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox._making import SETTLE_SECONDS, Maker, Making

_UUID = re.compile(r"uuid=([0-9a-fA-F-]{36})")


def _power(row, status):
    if status is not None:
        return "paused" if status["qmpstatus"] == "paused" else status["status"]
    return row.get("status") or "unknown"


def _managed(row, status):
    """The state a guest has in high availability, or None where that leaves it alone."""
    told = status["ha"] if status else {}
    state = row.get("hastate") or told.get("state") or ("managed" if told.get("managed") else None)
    return None if state == "ignored" else state


def _processors(config, row):
    """How many processors a guest has; a container without a number of its own has its node's."""
    cores, sockets = config.get("cores") or row.get("maxcpu") or 1, config.get("sockets") or 1
    try:
        return max(1, int(cores) * int(sockets))
    except ValueError as exc:
        raise _answers.BadReply("GET pending", "cores %.40r or sockets %.40r is no number" % (cores, sockets)) from exc


def _nics_of(kind, config):
    return {key: {"text": config[key], "mac": _nics.mac_of(kind, config[key])} for key in sorted(config) if _nics.NIC.fullmatch(key)}


def _named(key):
    """The shape of a list of things with names."""
    return lambda found, what: _answers.rows(found, what, key)


class ProxmoxCluster:
    """One cluster.

    :param client: `_client.Client`
    :param only: services to look at, or None for all; then nothing else is judged or tidied up
    :param settle: seconds from the last firewall write to the start of a guest that is made
    """

    def __init__(self, client, only=None, settle=SETTLE_SECONDS):
        self.settle = settle
        self.made = {}  # guests made here before: `{service: UUID}`
        self.client, self.only = client, None if only is None else frozenset(only)
        self.thorough = False  # whether to look for what isn't wanted any more although nothing is to be changed
        self._adopt = False  # whether another ledger's guests are taken over
        self._planned = self._rights = None

    # -- looking --------------------------------------------------------------------------------------------------

    def _rows(self):
        return self.client.read(_answers.guests, "cluster", "resources", type="vm")

    def _named_rows(self, services):
        """Guests by number; if one of the services is known by its name alone and not found, those without a name are asked for it.

        The list has the name of a new guest only when its node has looked at it, which it does about every ten seconds.
        """
        rows, silent = self._rows(), set()
        names = {row.get("name") for row in rows.values()}
        if all(one["guest"].get("vmid") is not None or one["guest"]["name"] in names for one in services):
            return rows

        def ask(vmid):
            row = rows[vmid]
            if row["node"] in silent:
                return
            try:
                config = self.client.read(_answers.flat, "nodes", row["node"], row["type"], vmid, "config")
            except AupError as exc:
                silent.update({row["node"]} if exc.code == "node_down" else ())
                return  # `_certain` knows that it has no name
            rows[vmid] = dict(row, name=config.get("name") or config.get("hostname"))
        with ThreadPoolExecutor(READS) as pool:
            list(pool.map(ask, [vmid for vmid, row in rows.items() if not row.get("name")]))
        return rows

    def _quick(self, service):
        """Whether a guest's firewall is left unread: a run for this service alone, in which nothing of it stands on that."""
        return self.only is not None and not self.thorough and _cluster.without_firewall(service)

    def _guest(self, row, service):
        """One guest as the planner knows it: one read, one more if its power matters, and those of its firewall."""
        kind, node, vmid = row["type"], row["node"], int(row["vmid"])
        place = ("nodes", node, kind, vmid)
        if row.get("odd"):
            raise _answers.BadReply("GET /cluster/resources", "guest %s has no node or type" % vmid)
        config, live, digest = self.client.read(_answers.configuration, *place, "pending")
        begun = service["touched"].get("restart") or {"done": True}
        nics = _nics_of(kind, config)
        # A NIC is plugged anew where its guest is off; the list may say so of one that was started ten seconds ago.
        off = row.get("status") == "stopped" and any(not _nics.is_on(nic["text"], "firewall") for nic in nics.values())
        power_matters = (service["hold"] or "power" in (service["touched"].get("fields") or {}) or not begun["done"] or off
                         or any(block["choice"] == "restart" for block in service.get("blocks") or ()))
        status = self.client.read(_answers.status, *place, "status", "current") if power_matters else None
        uuid = _UUID.search(config.get("smbios1") or "")
        guest = {
            "vmid": vmid, "kind": kind, "node": node, "name": row.get("name") or config.get("name") or config.get("hostname"),
            "uuid": uuid.group(1).lower() if uuid else None, "template": config.get("template") == "1", "lock": config.get("lock"),
            "power": _power(row, status), "uptime": (status or {}).get("uptime"), "ha": _managed(row, status),
            "config": config, "digest": digest, "nics": nics,
            "live": None if live == config else {"config": live, "nics": _nics_of(kind, live)},
            "processors": _processors(config, row),
            "options": None, "rules": [], "sets": {}, "firewall_read": not self._quick(service),
        }
        if guest["firewall_read"]:
            guest["options"] = self.client.read(_answers.flat, *place, "firewall", "options")
            guest["rules"] = self.client.read(_answers.rules, *place, "firewall", "rules")
            guest["sets"] = self._sets(place, service, nics)
        return guest

    def _sets(self, place, service, nics):
        spoof = (service.get("controls") or {}).get("anti_spoofing") or {}
        made = service["touched"].get("sets") or []
        found = {}
        for name in sorted(({"ipfilter-" + nic for nic in nics} if spoof.get("mode") == "enforce" else set()) | set(made)):
            entries = self._if_there(_answers.entries, *place, "firewall", "ipset", name)
            if entries is None and name in made:
                # Of a run that ended while it was filled under another name.
                name = _guest.ASIDE + name
                entries = self._if_there(_answers.entries, *place, "firewall", "ipset", name)
                made = [*made, name]
            if entries is not None:
                found[name] = {"entries": [entry["cidr"] for entry in entries if not entry.get("nomatch")], "ours": name in made}
        if self._adopt and any(not one["ours"] for one in found.values()):
            # This ledger made none of them; the comment tells the other's from a tenant's.
            for row in self.client.read(_named("name"), *place, "firewall", "ipset"):
                if row["name"] in found and str(row.get("comment") or "").strip() == _firewall.MARK:
                    found[row["name"]]["ours"] = True
        return found

    def _if_there(self, shape, *path):
        try:
            return self.client.read(shape, *path)
        except ApiError as exc:
            if exc.code != "absent":
                raise
            return None

    def _shared(self, desired, tidy, rows, guests, known=None):
        """What all guests share, as the planner knows it: groups and sets as they are, and what is whose.

        By name those that are wanted; if `tidy`, all that are this ledger's and, once nothing refers to them, of an earlier
        version's, which didn't say whose they are, and those of other ledgers whose guests are taken over.
        """
        wanted = _firewall.Shared(desired)
        for service in desired["services"]:
            if not self._quick(service):
                _firewall.guest_rules(service, wanted)
        referred = {rule["action"] for guest in guests.values() for rule in guest["rules"] if rule["type"] == "group" and _firewall.ours(rule)}
        groups, sets, others, spared = set(wanted.groups), set(wanted.sets), {}, {}
        if tidy or referred - groups:
            own = _firewall.mark_of(wanted.ledger).rpartition(" ")[2]
            owners = self._owners("groups", "group")
            strange = {name: owner for name, owner in owners.items() if owner != own}
            others = {name: owner for name, owner in strange.items() if owner and not self._adopt}
        if tidy:
            sets_of = self._owners("ipset", "name")
            groups |= {name for name in owners if name not in others}
            sets |= {name for name, owner in sets_of.items() if owner in (own, "") or self._adopt}
            strange = set(strange) - set(others)
            if strange:
                spared = known["spared"] if known else self._referred(strange, [row for vmid, row in rows.items() if vmid not in guests])
        groups = {name: self._if_there(_answers.rules, "cluster", "firewall", "groups", name) for name in sorted(groups)}
        sets = {name: self._if_there(_answers.entries, "cluster", "firewall", "ipset", name) for name in sorted(sets)}
        return {
            "groups": {name: [_firewall.bare(rule) for rule in rules] for name, rules in groups.items() if rules is not None},
            "sets": {name: sorted(({"cidr": entry["cidr"], "nomatch": int(entry.get("nomatch", 0))} for entry in entries), key=_firewall.by_cidr)
                     for name, entries in sets.items() if entries is not None},
            "others": others, "spared": spared, "tidy": tidy}

    def _owners(self, kind, key):
        """`{name: whose}` of groups or sets of ours, of whichever ledger; see `_firewall.owner_of`."""
        found = {row[key]: _firewall.owner_of(row[key], str(row.get("comment") or ""))
                 for row in self.client.read(_named(key), "cluster", "firewall", kind)}
        return {name: owner for name, owner in found.items() if owner is not None}

    def _referred(self, names, rows):
        """`{group: why it must stay}` of those that guests refer to which this ledger doesn't have.

        A rule whose group is gone is left out silently, so all have to be asked, or none of the groups goes.
        """
        held = self._held()
        found, unread = {}, []
        if _rights.missing({("/vms", "VM.Audit")}, held) or any(
                path.startswith("/vms/") and "VM.Audit" not in held[path] for path in held):
            return dict.fromkeys(names, "the token doesn't see all guests, and others may refer to it")

        def read(row):
            try:
                rules = self.client.read(_answers.rules, "nodes", row["node"], row["type"], row["vmid"], "firewall", "rules")
            except AupError:
                unread.append(row["vmid"])
                return
            found.update({rule["action"]: "guest %s refers to it" % row["vmid"] for rule in rules if rule["type"] == "group"})

        with ThreadPoolExecutor(READS) as pool:
            list(pool.map(read, rows))
        if unread:
            return dict.fromkeys(names, "guest %s could not be read, and may refer to it" % min(unread))
        return {name: why for name, why in found.items() if name in names}

    def observe(self, desired, tidy, known=None, afresh=(), orders=None):
        """What the planner needs of the cluster now.

        :param tidy: look for groups and sets that nothing refers to any more, too
        :param known: what was seen before; of it guests are taken over unless named in `afresh`
        :param orders: `{service: order}` of guests that may be made
        """
        rows = self._named_rows(desired["services"])
        walls = tidy or any(not self._quick(service) for service in desired["services"])
        options = self.client.read(_answers.flat, "cluster", "firewall", "options") if walls else {}
        firewall_on = str(options.get("enable", 0)) not in ("0", "")
        looked, unmade = self._looked(desired, rows, firewall_on, orders) if orders else ({}, frozenset())
        wanted = {}
        for service in desired["services"]:
            if looked.get(service["id"], {"done": True})["done"] is None:
                continue
            row, _errors = _guest.find(service, rows)
            if row is not None:
                wanted[int(row["vmid"])] = (row, service)
        guests, unread = {}, {}
        if known:
            guests = {vmid: guest for vmid, guest in known["guests"].items() if vmid in wanted and vmid not in afresh}
            unread = {vmid: why for vmid, why in known["unread"].items() if vmid in wanted}

        def read(vmid):
            row, service = wanted[vmid]
            try:
                guests[vmid] = self._followed(row, service)
            except AupError as exc:
                unread[vmid] = {"part": "guest", "code": exc.code, "message": exc.message, "remedy": exc.remedy,
                                "retryable": exc.retryable}

        to_read = spread(set(wanted) - set(guests) - set(unread), lambda vmid: wanted[vmid][0]["node"])
        with ThreadPoolExecutor(READS) as pool:
            list(pool.map(read, to_read))
        shared = {"groups": {}, "sets": {}, "others": {}, "spared": {}, "tidy": False}
        if walls:
            shared = self._shared(desired, tidy, rows, guests, known)
        guests.update({one["guest"]["vmid"]: one["guest"] for one in looked.values() if one["guest"]})
        return {"rows": rows, "guests": guests, "unread": unread, **shared,
                "firewall_on": firewall_on, "certain": self._certain(desired, rows), "orders": looked, "unmade": unmade}

    def _looked(self, desired, rows, firewall_on, orders):
        """What is to be made; see `Making.look`."""
        services = {service["id"]: service for service in desired["services"]}
        making = self._making(services, orders)
        facts = {"firewall_on": firewall_on, "settings": desired["proxmox"], "desired": desired, "rules_on": desired.get("rules_on") or ()}
        return making.look(services, rows, facts), making.unmade(services)

    def _making(self, services, orders):
        return Making(self.client, orders, self.made, {sid for sid, service in services.items() if service["hold"]}, self._guest, self._held)

    def numbers(self, desired, orders):
        """Numbers for ordered guests that have none, before anything is made; see `Making.numbers`."""
        services = {service["id"]: service for service in desired["services"]}
        return self._making(services, orders).numbers(services, self._named_rows(desired["services"]))

    def _followed(self, row, service):
        """A guest; one that has moved since the nodes were asked is looked for once more."""
        try:
            return self._guest(row, service)
        except ApiError as exc:
            now = self._rows().get(int(row["vmid"])) if exc.code == "guest_moved" else None
            if now is None or now["node"] == row["node"]:
                raise
        return self._guest(now, service)

    def _certain(self, desired, rows):
        """Whether a guest that isn't listed doesn't exist; lists leave out what the token may not see, and names of what is down.

        A list of none says nothing: a node that just comes up answers so, and what is set on all guests would be forgotten.
        """
        if not rows or any(not row.get("name") for row in rows.values()) and any(
                one["guest"].get("vmid") is None for one in desired["services"]):
            return False
        missing = [service["guest"]["vmid"] for service in desired["services"]
                   if service["guest"].get("vmid") is not None and service["guest"]["vmid"] not in rows]
        if not missing:
            return True
        return not _rights.missing({("/vms/%s" % vmid, "VM.Audit") for vmid in missing}, self._held())

    def _held(self):
        """The token's privileges, asked for once a run."""
        if self._rights is None:
            self._rights = self.client.read(_answers.privileges, "access", "permissions")
        return self._rights

    def _mine(self, service):
        return self.only is None or service["id"] in self.only

    # -- the two modes of a node ------------------------------------------------------------------------------------

    def _plan(self, desired, known=None, afresh=(), orders=None):
        wanted = dict(desired, services=[one for one in desired["services"]
                                         if self._mine(one) and (_cluster.concerned(one) or one["id"] in (orders or {}))])
        tidy = known["tidy"] if known else self.only is None and self.thorough
        seen = self.observe(wanted, tidy, known, afresh, orders)
        plan = _cluster.plan(wanted, seen)
        if plan.steps and self.only is None and not tidy:
            seen.update(self._shared(wanted, True, seen["rows"], seen["guests"]))
            plan = _cluster.plan(wanted, seen)
        if not seen["tidy"]:
            plan = plan._replace(steps=[step for step in plan.steps if step["part"] != "leftover"])
        return seen, plan

    def _preflight(self, plan, seen):
        """Refuse, before anything is changed, what the token has no right to.

        :raises NodeError: code `missing_privilege`, naming each privilege with its path
        """
        if not plan.steps:
            return
        pooled = {}
        for guest in seen["guests"].values():
            pooled.update(_order.pooled(guest["order"]) if "order" in guest else {})
        lacking = _rights.missing(_rights.needed(plan.steps, seen["guests"]), self._held(), pooled)
        if lacking:
            raise NodeError(
                "the token lacks %s; nothing was changed." % ", ".join("%s on %s" % (privilege, path) for path, privilege in lacking),
                code="missing_privilege", target="token", remedy="Give its role these privileges there (docs/proxmox.md).")

    @staticmethod
    def _note_unanswered(document, plan, after, failures):
        """What is known now of writes that may still be carried out: none, where all were answered or are seen."""
        silent = {one["service"] for one in failures if one["code"] == "unknown_outcome"}
        undone = {step["service"] for step in after.steps if step["verb"] in ("set", "power")}
        for service in document["services"]:
            sid = service["id"]
            if sid not in after.touched:
                continue
            record = _guest.unanswered(service, document["now"])
            if sid in silent & undone:
                record = {"at": document["now"], "known": True, "count": (record or {"count": 0})["count"] + 1}
            after.touched[sid]["unanswered"] = record

    @staticmethod
    def _result(plan, desired):
        return {
            "changed": bool(plan.steps), "steps": plan.steps, "priors": plan.priors, "plan_hash": plan.plan_hash,
            "services": plan.services, "errors": plan.errors, "notes": plan.notes, "gaps": plan.gaps, "closed": plan.closed,
            "fence": desired["fence"], "disarmed": {}, "unknown_ports": [], "touched": plan.touched, "creating": sorted(plan.creating),
            "created": plan.created,
        }

    def call(self, mode, desired, plan_hash=None, orders=None, adopt=False, **_others):
        """What the node module does on a host.

        What was planned is applied as it was seen: each write carries the digest of what it changes, where there is one,
        and is refused if that is another by then.

        :raises NodeError: code `plan_changed`, when the cluster is no longer what was planned for; `missing_privilege`
        """
        document, ordered = unpack(desired), unpack(orders) if orders else None
        self._adopt = adopt
        if mode == "plan":
            seen, plan = self._plan(document, orders=ordered)
            self._preflight(plan, seen)
            self._planned = seen, plan
            return self._result(plan, document)
        seen, plan = self._planned or (None, None)
        self._planned = None
        if plan is None or plan.plan_hash != plan_hash:
            raise NodeError("the cluster changed between plan and apply.", code="plan_changed", retryable=True,
                            remedy="Run again; it plans anew.")
        maker = Maker(self.client, lambda vmid: self._not_in_force(document, seen["guests"][vmid]), self.settle)
        failures = Apply(self.client, self._rows, maker).run(plan.steps, seen["guests"])
        after_document = dict(document, services=[
            dict(service, touched=dict(plan.touched.get(service["id"], service["touched"]),
                                       unanswered=service["touched"].get("unanswered"))) for service in document["services"]])
        _seen, after = self._plan(after_document, seen, {step["vmid"] for step in plan.steps if step.get("vmid")}, ordered)
        self._note_unanswered(document, plan, after, failures)
        result = self._result(after, document)
        # A call whose end wasn't heard may have done its work: what is seen decides.
        left = {step["service"] for step in after.steps} | {error["service"] for error in after.errors}
        left |= {None} if left else set()  # what all share was in the way of what is left
        failures = [one for one in failures if one["code"] != "unknown_outcome" or one["service"] in left]
        failed = {failure["service"] for failure in failures}
        result.update(
            changed=bool(plan.steps), steps=plan.steps, notes=sorted({*plan.notes, *after.notes}), creating=sorted(plan.creating),
            unverified=[step for step in after.steps if step["service"] not in failed],
            errors=failures + [error for error in after.errors if error["service"] not in failed])
        return result

    def _not_in_force(self, desired, made):
        """What of a guest's rules is not there, looked up afresh: a guest is started only if this is empty."""
        sid = made["order"]["service"]
        service = next(one for one in desired["services"] if one["id"] == sid)
        row = self._rows().get(made["vmid"])
        if row is None:
            return ["it is gone"]
        # Sets of ours are known by what was noted before they were made, which is not in this document yet.
        service = dict(service, touched={"sets": ["ipfilter-" + nic for nic in made["nics"]]})
        guest = self._guest(row, service)
        shared = _firewall.Shared(desired)
        todo = _guest.plan(service, guest, {"firewall_on": True, "settings": {}, "now": desired["now"], "present": True}, shared)
        missing = [step["why"] for step in todo.steps if step["after"] != step["before"]] + [error["message"] for error in todo.errors]
        for verb, wanted, path, shape in (("group", shared.groups, "groups", _answers.rules), ("set", shared.sets, "ipset", _answers.entries)):
            missing += ["%s %s is missing" % (verb, name) for name in sorted(wanted)
                        if not self._if_there(shape, "cluster", "firewall", path, name)]
        return missing + list(todo.gaps)
