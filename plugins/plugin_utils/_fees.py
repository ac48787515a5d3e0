# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fee of a policy comes to, and the lines that billing is given. Pure. PRIVATE to the collection.

Money is `decimal.Decimal`, made from text and kept as text; there is no float anywhere. A sum has as many
decimals as the policy writes its amount with, and part of the last one is rounded half up.
"""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import ROUND_CEILING, ROUND_HALF_UP, Context, Decimal

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.module_utils._time import iso, parse_duration

BYTES = {"TB": 10**12, "TiB": 2**40}
"""Bytes in the units of transfer: SI (decimal) and IEC 80000-13 (binary)."""

_EXACT = Context(prec=60)
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?")

COLUMNS = ("id", "kind", "credit_of", "account", "case", "service", "violation", "fee", "clause", "policy", "amount",
           "currency", "quantity", "unit", "reference", "charged_at", "export")
"""Columns of the export, in order; a later version only adds to the end."""


def cost(fee, quantity):
    """What a quantity of a fee's unit costs.

    :param fee: amount, per and, unless `once`, rounding, as the policy has them
    :param quantity: Decimal of the unit (hours, TB, TiB)
    :returns: Decimal with the decimals of the policy's amount
    """
    amount = Decimal(fee["amount"])
    if fee.get("rounding", "started") == "started":
        quantity = quantity.to_integral_value(rounding=ROUND_CEILING)
    return _EXACT.multiply(amount, quantity).quantize(amount, rounding=ROUND_HALF_UP, context=_EXACT)


def cost_of_hours(fee, quantity):
    """What a sum of `hours` costs. Time is whole minutes, and a third of an hour has no end as a decimal: parts that
    add up to whole hours are whole hours, not a billionth more.
    """
    minutes = int(_EXACT.multiply(quantity, Decimal(60)).to_integral_value())
    amount = Decimal(fee["amount"])
    if fee.get("rounding", "started") == "started":
        return _EXACT.multiply(amount, Decimal(-(-minutes // 60))).quantize(amount, context=_EXACT)
    exact = _EXACT.divide(_EXACT.multiply(amount, Decimal(minutes)), Decimal(60))
    return exact.quantize(amount, rounding=ROUND_HALF_UP, context=_EXACT)


def transfer_quantity(fee, excess):
    """Bytes as a Decimal of the fee's unit of transfer, exact to 18 decimals."""
    return _EXACT.divide(Decimal(excess), Decimal(BYTES[fee["per"]])).quantize(Decimal(1).scaleb(-18), context=_EXACT)


def hours(text):
    """Decimal hours of a duration such as `90m` or `2h`.

    :raises InputError: no duration with its unit
    """
    seconds = parse_duration(text)
    return _EXACT.divide(Decimal(seconds), Decimal(3600)).quantize(Decimal(1).scaleb(-9), context=_EXACT)


def chosen_amount(name, fee, text):
    """The sum that a person chose for a fee with a range, or the fee's own sum.

    :raises InputError: none chosen though there is a range, another than the fee's, or one outside of the range
    """
    bounds = "%s to %s %s" % (fee["amount"], fee.get("maximum", fee["amount"]), fee["currency"])
    if text in (None, ""):
        if "maximum" in fee:
            raise InputError("fee %s is %s: which sum?" % (name, bounds), target="amount",
                             remedy="Choose it: -e amount=%s" % fee["amount"])
        return Decimal(fee["amount"])
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise InputError("amount %r is not a decimal number." % (text,), target="amount",
                         remedy="Write it like 50.00, without currency.")
    places = -Decimal(fee["amount"]).as_tuple().exponent
    amount = Decimal(text)
    if -amount.as_tuple().exponent > places:
        raise InputError("amount %s is finer than fee %s is kept (%d decimals)." % (text, name, places), target="amount",
                         remedy="Write it like %s." % fee["amount"])
    if not Decimal(fee["amount"]) <= amount <= Decimal(fee.get("maximum", fee["amount"])):
        raise InputError("amount %s is not within fee %s: %s (clause %s)." % (text, name, bounds, fee["clause"]),
                         target="amount", remedy="Choose one within it.")
    return amount.quantize(Decimal(fee["amount"]))


def billing_line(charge):
    """A charge of the ledger as billing gets it, in JSON and CSV: flat, of text."""
    names = {"case": "case_id", "policy": "policy_key", "export": "export_id"}
    line = {name: charge[names.get(name, name)] for name in COLUMNS if name != "charged_at"}
    return dict({name: None for name in COLUMNS}, **line, charged_at=iso(charge["opened_at"]))


def billing_json(export, charges):
    """An export as JSON text: format, export, charges."""
    document = {"format": 1, "export": export, "charges": [billing_line(charge) for charge in charges]}
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def inert(value):
    """A cell that no spreadsheet runs as a formula (OWASP, CSV injection): such a text gets a leading apostrophe."""
    text = "" if value is None else str(value)
    return "'" + text if text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def billing_csv(charges):
    """Charges as CSV text (RFC 4180, UTF-8), with a line of column names."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for charge in charges:
        line = billing_line(charge)
        writer.writerow([inert(line[name]) for name in COLUMNS])
    return out.getvalue()
