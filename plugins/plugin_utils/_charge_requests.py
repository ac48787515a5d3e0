# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask about money: checked, then written to the ledger. PRIVATE to the collection."""

from __future__ import annotations

import re
from decimal import Decimal

from ansible_collections.hosting.aup.plugins.module_utils._errors import ConflictError, InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_iso
from ansible_collections.hosting.aup.plugins.plugin_utils._fees import chosen_amount, cost, cost_of_hours, hours
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger import (
    charges,
    decide_fault,
    enforcement_intervals,
    export_charges,
    exported,
    known_services,
    record_charge,
    waive_charge,
)
from ansible_collections.hosting.aup.plugins.plugin_utils._ledger._charges import (
    case_accounts,
    case_fees,
    without_credit,
)


def charge_line(charge):
    """A charge or credit in one line."""
    worked = " for %s %s" % (Decimal(charge["quantity"]).normalize().__format__("f"), charge["unit"]) if charge["quantity"] else ""
    where = "of %s" % charge["service"] if charge["service"] else "of case %s" % charge["case_id"]
    return "%s %s: %s%s %s%s to account %s, %s %s, case %s [%s], %s" % (
        charge["id"], "credits %s" % charge["credit_of"] if charge["kind"] == "credit" else "charges",
        "-" if charge["kind"] == "credit" else "", charge["amount"], charge["currency"], worked, charge["account"],
        charge["fee"], where, charge["case_id"], charge["clause"],
        "%s %s" % (charge["status"], charge["export_id"]) if charge["export_id"] else charge["status"])


def list_charges(tx, case=None, account=None, service=None):
    """Charges of a case, an account or a service, or all."""
    found = charges(tx, case_id=case, account=account, service=service)
    return {"charges": found, "changed": False, "what": [charge_line(one) for one in found] or ["no charges"]}


def _chosen(value, known, what, where):
    """The value given, or the only one there is."""
    if value in (None, ""):
        if len(known) == 1:
            return known[0]
        raise InputError("%s has %s %s." % (where, "several" if known else "no", what + "s" if not known else "%ss: %s" % (what, ", ".join(known))),
                         target=what, remedy="Name it: -e %s=…" % what if known else "Nothing can be charged for it.")
    if value not in known:
        raise InputError("%s has no %s %r; it has: %s." % (where, what, value, ", ".join(known) or "none"), target=what,
                         remedy="Use one of these.")
    return value


def record_fee(tx, case=None, fee=None, amount=None, worked=None, quantity=None, reference=None, account=None, note=None):
    """Charge what a person decides on or writes down: a sum within a range, hours worked, transfer bought.

    :param amount: the sum, for a fee with a range
    :param worked: a duration (`90m`), for a fee by the hour; needs a reference, by which it is taken once
    :param quantity: a whole number of TB or TiB, for a fee by them; needs a reference
    """
    if case in (None, ""):
        raise InputError("case is missing.", target="case", remedy="Name the case: -e case=<id>.")
    if not (tx.actor or {}).get("name"):
        raise InputError("a charge needs to know who records it.", target="actor",
                         remedy="Run it as a user of your own (SSH, sudo, AWX).")
    fees, where = case_fees(tx, str(case)), "case %s" % case
    name = _chosen(fee, sorted(fees), "fee", where)
    account = _chosen(account, sorted(case_accounts(tx, str(case))), "account", where)
    terms, given = fees[name], {"amount": amount, "worked": worked, "quantity": quantity}
    wanted = {"once": "amount", "hour": "worked"}.get(terms["per"], "quantity")
    wrong = sorted(key for key, value in given.items() if value not in (None, "") and key != wanted)
    if wrong:
        raise InputError("fee %s is per %s: %s does not apply." % (name, terms["per"], wrong[0]), target=wrong[0],
                         remedy="Give %s." % wanted)
    if wanted == "amount":
        sum_, units = chosen_amount(name, terms, amount), None
    else:
        if given[wanted] in (None, ""):
            raise InputError("fee %s is per %s: %s is missing." % (name, terms["per"], wanted), target=wanted,
                             remedy="Give it like 90m." if wanted == "worked" else "Give a whole number.")
        if reference in (None, ""):
            raise InputError("reference is missing.", target="reference",
                             remedy="Name the work order or purchase: the same one is charged once.")
        units = hours(worked) if wanted == "worked" else _whole(quantity)
        before = sum((Decimal(one["quantity"]) for one in charges(tx, case_id=str(case), account=account)
                      if one["fee"] == name and one["kind"] == "charge" and one["status"] != "waived"
                      and one["reference"] != str(reference)), Decimal(0))
        # An hour begun twice is one hour: what is charged all together is what the fee says for the total.
        price = cost_of_hours if wanted == "worked" else cost
        sum_ = price(terms, before + units) - price(terms, before)
    done = record_charge(tx, case_id=str(case), account=account, fee=name, amount=str(sum_), reference=reference,
                         quantity=None if units is None else str(units), note=note)
    what = [charge_line(done)] + (["  it was charged already, nothing new was written"] if done["already"] else [])
    if done["already"] and units is not None and Decimal(done["quantity"]) != units:
        raise ConflictError("%s stands in the ledger with another quantity: %s" % (reference, charge_line(done)),
                            target="reference", remedy="Use another reference, or waive that charge first.")
    return {"charges": [done], "changed": not done["already"], "what": what}


def _whole(value):
    if not re.fullmatch(r"[1-9][0-9]{0,5}", str(value)) or isinstance(value, bool):
        raise InputError("quantity %r is not a whole number above zero." % (value,), target="quantity",
                         remedy="Write it like 2.")
    return Decimal(str(value))


def waive(tx, charge=None, reason=None):
    """Let an account off one charge."""
    if charge in (None, ""):
        raise InputError("charge is missing.", target="charge", remedy="Name it: -e charge=F-3.")
    done = waive_charge(tx, charge_id=str(charge), reason=reason)
    return {"charges": [done], "changed": not done["already"], "what": [charge_line(done)]}


def decide(tx, case=None, fault=None, reason=None):
    """A person's decision on whose fault a case is."""
    if case in (None, ""):
        raise InputError("case is missing.", target="case", remedy="Name the case: -e case=<id>.")
    if not (tx.actor or {}).get("name"):
        raise InputError("a decision needs to know who decides.", target="actor",
                         remedy="Run it as a user of your own (SSH, sudo, AWX).")
    done = decide_fault(tx, case_id=str(case), fault=fault, reason=reason)
    made = done.pop("charges")
    what = ["case %s: fault is %s%s" % (case, done["fault"], ", as it was" if done["already"] else "")]
    return {"case": done, "charges": made, "changed": not done["already"], "what": what + [charge_line(one) for one in made]}


def take_export(tx, export=None):
    """A new export of what billing has not taken, or an earlier one once more."""
    again = export not in (None, "")
    done = exported(tx, str(export)) if again else export_charges(tx)
    count = len(done["charges"])
    what = "nothing to export" if not done["export"] else "export %s%s: %d charges and credits" % (
        done["export"], " once more" if again else "", count)
    return {"export": done["export"], "charges": done["charges"], "changed": bool(done["export"]) and not again, "what": [what]}


def credit_view(tx, service=None, begins=None, ends=None):
    """When enforcements were in force, whose fault that was, and the hours that bear no credit.

    :param begins: a date or time (ISO 8601), likewise ends; the span looked at
    """
    if service not in (None, "") and service not in known_services(tx):
        raise InputError("the ledger has not met service %r." % (service,), target="service", remedy="Check the id.")
    span = [None if one in (None, "") else parse_iso(one) for one in (begins, ends)]
    if None not in span and span[1] <= span[0]:
        raise InputError("the end %s is not after the beginning %s." % (ends, begins), target="ends", remedy="Give a later end.")
    found = enforcement_intervals(tx, service or None, *span)
    excluded = without_credit(found)
    what = ["%s no credit from %s to %s (case %s)" % (
        one["service"], iso(one["begins_at"]), iso(one["ends_at"]) or "now, it goes on", ", ".join(one["cases"]))
        for one in excluded] or ["no hours without credit"]
    return {"intervals": found, "no_credit": excluded, "changed": False, "what": what}
