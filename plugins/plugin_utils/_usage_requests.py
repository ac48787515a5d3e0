# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From samples to what the policy says of transfer: told, billed or capped. PRIVATE to the collection."""

from __future__ import annotations

import hashlib
from decimal import Decimal

from ansible_collections.hosting.aup.plugins.module_utils._errors import AupError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._ports import Owners
from ansible_collections.hosting.aup.plugins.module_utils._time import iso
from ansible_collections.hosting.aup.plugins.plugin_utils import _usage as pure
from ansible_collections.hosting.aup.plugins.plugin_utils._fees import BYTES, cost, transfer_quantity
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    active,
    charges,
    close_case,
    find_case,
    keep_usage_lives,
    lift,
    record_charge,
    record_usage,
    start_run,
    usage_lives,
    usage_windows,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import case_fees
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._sa import sa
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._tables import tables as t
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._usage import close_window, note_exceeded, note_threshold
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger_requests import Released, hold, notice_lines, report_case
from ansible_collections.hosting.aup.plugins.plugin_utils._usage_lives import follow
from ansible_collections.hosting.aup.plugins.plugin_utils._notices._queue import queue_for_transfer

KIND = "bandwidth_cap"
ALLOWANCE, ANCHOR = "transfer_bytes", "transfer_from"
"""Keys of a service's plan: bytes per window, and a moment of the day its windows begin on (seconds since the epoch)."""


class Pass:
    """One pass of the meter: what it found, did and could not do."""

    def __init__(self, tx, known_nodes):
        self.tx, self.known_nodes = tx, known_nodes
        self.released = Released(tx)
        self.what, self.problems, self.nodes = [], [], set()
        self.changed = False
        self.told = []

    def refuse(self, error):
        """Note what was refused, and go on with the others."""
        self.problems.append({"target": error.target, "message": error.message, "remedy": error.remedy, "code": error.code})

    def say(self, line):
        """Note a line for people; something changed."""
        self.what.append(line)
        self.changed = True


def meter(tx, seen, known_nodes=None):
    """Count samples of nodes and carry out what policies say of them.

    :param seen: `{node: {"taken_at", "samples"}}`, or None for a node that was not read
    :returns: dict with run_id, nodes (to converge), counted, told, problems, changed, what
    """
    one_pass = Pass(tx, known_nodes)
    one_pass.released.any()
    counted = set()
    for node, document in sorted(seen.items()):
        try:
            counted.update(_count(one_pass, node, document))
        except AupError as error:
            one_pass.refuse(error)
    for one in usage_windows(tx, t.usage_window.c.closed_at.is_(None)):
        try:
            _judge(one_pass, one)
        except AupError as error:
            one_pass.refuse(error)
    run_id = start_run(tx, "meter", {}) if one_pass.nodes else None
    nodes = sorted(name for name in one_pass.nodes if known_nodes is None or name in known_nodes)
    lines = one_pass.what + ["REFUSED: %s %s" % (one["message"], one["remedy"] or "") for one in one_pass.problems]
    return {"run_id": run_id, "nodes": nodes, "counted": sorted(counted), "told": one_pass.told, "problems": one_pass.problems,
            "changed": one_pass.changed, "warnings": [], "what": lines}


def _count(one_pass, node, document):
    if not isinstance(document, dict) or not isinstance(document.get("samples"), list) or "taken_at" not in document:
        raise InputError("node %s was not read." % node, target=node, remedy="Mend the connection; its counters wait, and nothing is lost.")
    release_id = one_pass.released.nodes.get(node)
    if release_id is None:
        raise InputError("node %s carries no release." % node, target=node, remedy="Run hosting.aup.provision for it.")
    services = one_pass.released.catalogue(release_id)["services"].values()
    if any("uptime" in one for one in document["samples"]):
        return _count_cluster(one_pass, node, document, services)
    owners = Owners(services)
    samples = []
    for one in document["samples"]:
        service = owners.of_nic(one, one)
        if service is not None:
            samples.append({"service": service["id"], "anchor": service["plan"].get(ANCHOR), "mac": one["mac"], "counter": one["counter"],
                            "received": one["received"], "sent": one["sent"]})
    done = record_usage(one_pass.tx, node=node, taken_at=document["taken_at"], samples=samples)
    for one in done["refused"]:
        one_pass.refuse(InputError(one["message"], target=node, remedy=one["remedy"], code="usage_%s" % one["why"]))
    return done["services"]


def _count_cluster(one_pass, node, document, services):
    """Count the guests of a cluster, whose counters begin anew at each start without saying so."""
    here = [service for service in services if node in service["nodes"] and not service.get("ports")]
    by_number = {service["guest"]["vmid"]: service for service in here if service["guest"].get("vmid") is not None}
    by_name = {service["guest"]["name"]: service for service in here if service["guest"].get("vmid") is None}
    known, samples, lives = usage_lives(one_pass.tx, node), [], {}
    for one in document["samples"]:
        service = by_number.get(one["vmid"]) or by_name.get(one["name"])
        if service is None:
            continue
        life, verdict = follow(known.get(one["vmid"]), {
            "service": service["id"], "place": one["place"], "uptime": one["uptime"], "at": document["taken_at"],
            "received": one["received"], "sent": one["sent"]})
        if verdict == "stale":
            continue
        if verdict == "lowered":
            one_pass.what.append("%s: the counters of guest %s went back while it ran, as when a NIC is plugged anew; what they carried "
                                 "since they were last seen is not counted" % (service["id"], one["vmid"]))
        lives[str(one["vmid"])] = life
        samples.append({"service": service["id"], "anchor": service["plan"].get(ANCHOR), "mac": "all", "counter": "%s/%d" % (node, one["vmid"]),
                        "received": life["counted"][0], "sent": life["counted"][1]})
    done = record_usage(one_pass.tx, node=node, taken_at=document["taken_at"], samples=samples)
    keep_usage_lives(one_pass.tx, node=node, documents=lives)
    for one in done["refused"]:
        one_pass.refuse(InputError(one["message"], target=node, remedy=one["remedy"], code="usage_%s" % one["why"]))
    return done["services"]


def terms_of(released, name):
    """(service, policy, transfer terms, violation, allowance) of a metered service; None when nothing limits its transfer."""
    service, release_id = released.service(name)
    policy = released.policy(service, release_id)
    terms, allowance = policy.transfer(), service["plan"].get(ALLOWANCE)
    if terms is None or not allowance:
        return None
    violation = policy.violation(terms["violation"], service["location"], service["account_type"], service["addons"])
    return None if violation.allowed else (service, policy, terms, violation, allowance)


def _judge(one_pass, window):
    tx, over = one_pass.tx, window["ends_at"] <= one_pass.tx.now
    try:
        found = terms_of(one_pass.released, window["service"])
    except InputError:
        found = None  # it left the catalogue: its window is closed when it is over
    if found is not None:
        service, policy, terms, violation, allowance = found
        used = pure.used(window["received"], window["sent"], terms["direction"])
        bought = _bought(tx, window["case_id"], terms["mode"])
        percent = pure.passed(used, allowance + bought, terms["notices"])
        if percent and note_threshold(tx, service["id"], window["begins_at"], percent, used, allowance + bought):
            one_pass.told.append({"service": service["id"], "percent": percent, "bytes": used, "allowance": allowance + bought,
                                  "begins_at": iso(window["begins_at"]), "ends_at": iso(window["ends_at"])})
            one_pass.say("%s has used %d %% of its transfer: %s of %s until %s" % (
                service["id"], percent, pure.bytes_text(used), pure.bytes_text(allowance + bought), iso(window["ends_at"])))
            for line in notice_lines(queue_for_transfer(tx, policy, terms, violation, service["id"], window, percent,
                                                        pure.bytes_text(used), pure.bytes_text(allowance + bought))):
                one_pass.say(line)
        if used > allowance + bought:
            _exceeded(one_pass, window, found, used, bought, over)
        elif window["case_id"]:
            _uncap(one_pass, window, "%s more were bought" % pure.bytes_text(bought) if bought else "it is within its allowance again")
        window = usage_windows(tx, t.usage_window.c.begins_at == window["begins_at"], service=window["service"])[0]
    if over:
        _end(one_pass, window)


def _bought(tx, case_id, mode):
    if case_id is None or mode != "cap_until_paid":
        return 0
    return sum(int(Decimal(one["quantity"])) * BYTES[one["unit"]] for one in charges(tx, case_id=case_id)
               if one["kind"] == "charge" and one["status"] != "waived" and one["unit"] in BYTES and not _credited(tx, one))


def _credited(tx, charge):
    return bool(charges(tx, t.charge.c.credit_of == charge["id"]))


def case_of(service, begins_at):
    """The id of the case about one window of one service: the same however often it is opened."""
    exact = "transfer-%s-%s" % (service, iso(begins_at)[:10])
    return exact if len(exact) <= 128 else "transfer-%s-%s" % (hashlib.sha256(service.encode()).hexdigest()[:24], iso(begins_at)[:10])


def _exceeded(one_pass, window, found, used, bought, over):
    service, policy, terms, violation, allowance = found
    tx, case = one_pass.tx, window["case_id"] or case_of(service["id"], window["begins_at"])
    present = find_case(tx, case)
    if present is not None and present["status"] == "closed":
        return  # a person closed it: decided
    if present is None:
        report_case(tx, case=case, service=service["id"], violation=violation.name,
                    note="%s of %s used from %s to %s" % (pure.bytes_text(used), pure.bytes_text(allowance + bought),
                                                          iso(window["begins_at"]), iso(window["ends_at"])))
        one_pass.say("case %s opened: %s is over its transfer [%s]" % (case, service["id"], violation.clause))
    if window["case_id"] is None:
        note_exceeded(tx, service["id"], window["begins_at"], case)
    if terms["mode"] == "bill":
        if over:
            _bill(one_pass, service, window, case, used - allowance)
        return
    capped = window["capped_over"] is not None and window["capped_over"] >= allowance + bought
    if over or capped or any(e["kind"] == KIND and e["case_id"] == case for e in active(tx, service["id"])):
        return
    step = next(step for step in violation.ladder if any(m.enforcement == KIND for m in step.alternatives))
    if step.mode == "propose":
        one_pass.say("a person decides: hosting.aup.bandwidth_cap -e service=%s -e violation=%s -e case=%s" % (service["id"], violation.name, case))
        note_exceeded(tx, service["id"], window["begins_at"], case, capped_over=allowance + bought)
        return
    if _lately(tx, violation.name) >= policy.guardrails.max_services_per_run:
        # A mistake in counting would hit all of them at once: the rest waits an hour, or for a person.
        one_pass.what.append("%s is not capped yet: %d were within the hour, as many as policy %s lets one run hold" % (
            service["id"], policy.guardrails.max_services_per_run, policy.key))
        return
    minutes = max(1, -(-(window["ends_at"] - tx.now) // 60))
    done = hold(tx, KIND, service["id"], violation.name, case=case, duration="%dm" % minutes, known_nodes=one_pass.known_nodes, verb="meter")
    note_exceeded(tx, service["id"], window["begins_at"], case, capped_over=allowance + bought)
    one_pass.nodes.update(done["nodes"])
    for line in done["what"]:
        one_pass.say(line)


def _lately(tx, violation):
    """Caps for a violation that were opened within the last hour."""
    return tx.execute(sa.select(sa.func.count()).select_from(t.enforcement).where(
        t.enforcement.c.violation == violation, t.enforcement.c.kind == KIND, t.enforcement.c.opened_at > tx.now - 3600)).scalar()


def _bill(one_pass, service, window, case, excess):
    for name, fee in sorted(case_fees(one_pass.tx, case).items()):
        if fee["per"] not in BYTES or find_case(one_pass.tx, case)["fault"] != "customer":
            continue
        quantity = transfer_quantity(fee, excess)
        done = record_charge(one_pass.tx, case_id=case, account=service["customer"], fee=name, amount=str(cost(fee, quantity)),
                             reference="window-%s" % iso(window["begins_at"])[:10], quantity=str(quantity), service=service["id"])
        if not done["already"]:
            one_pass.say("%s charged: %s %s for %s over the allowance" % (done["id"], done["amount"], done["currency"], pure.bytes_text(excess)))


def _uncap(one_pass, window, why):
    tx = one_pass.tx
    for held in active(tx, window["service"]):
        if held["kind"] == KIND and held["case_id"] == window["case_id"] and held["status"] in ("opened", "active"):
            lift(tx, enforcement_id=held["id"], reason=why)
            one_pass.nodes.update(held["snapshot"]["nodes"])
            one_pass.say("lifted: %s of %s, %s" % (held["kind"], held["service"], why))


def _end(one_pass, window):
    tx = one_pass.tx
    if window["case_id"] is not None:
        _uncap(one_pass, window, "the window is over")
        case = find_case(tx, window["case_id"])
        if any(e["case_id"] == window["case_id"] for e in active(tx, window["service"])):
            return  # not seen gone yet: the next pass closes case and window
        if case["status"] == "open":
            close_case(tx, case_id=window["case_id"], reason="the window is over")
            one_pass.say("case %s closed: its window is over" % window["case_id"])
    close_window(tx, window["service"], window["begins_at"])
    one_pass.changed = True


def list_usage(tx, service=None):
    """Transfer of a service, or of all, by window, with the allowance where there is one."""
    found, lines, released = usage_windows(tx, service=service or None), [], Released(tx)
    if service and not found:
        raise InputError("service %r was never metered." % (service,), target="service", remedy="Check the id, or run hosting.aup.meter.")
    for window in found:
        try:
            terms = terms_of(released, window["service"])
        except AupError:
            terms = None
        count = pure.used(window["received"], window["sent"], terms[2]["direction"] if terms else "both")
        window["allowance"], window["used"] = terms[4] if terms else None, count
        share = " of %s, %d %%" % (pure.bytes_text(terms[4]), count * 100 // terms[4]) if terms else ""
        lines.append("%s from %s to %s: %s%s" % (window["service"], iso(window["begins_at"]), iso(window["ends_at"]), pure.bytes_text(count), share))
    return {"windows": found, "what": lines or ["nothing was metered yet"], "changed": False}
