# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Money is exact, and what billing reads is inert."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError
from ansible_collections.hosting.aup.plugins.plugin_utils import _fees
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy

ALTERON, XTOM = load_policy("alteron"), load_policy("xtom")
CHARGE = {"id": "F-1", "kind": "charge", "credit_of": None, "account": "c-1", "case_id": "T-1", "service": "vps-1",
          "violation": "spam", "fee": "clean_up", "clause": "alteron.26", "policy_key": "alteron@1", "amount": "60.00",
          "currency": "EUR", "quantity": None, "unit": "once", "reference": "", "status": "exported",
          "opened_at": 1_800_000_000, "waived_at": None, "export_id": "B-1"}


def transfer(per="TB", rounding="started"):
    return dict(ALTERON.fee("transfer"), per=per, rounding=rounding)


@pytest.mark.parametrize(
    ("per", "rounding", "excess", "expected"),
    [
        ("TB", "started", 1, "9.00"),
        ("TB", "started", 10**12, "9.00"),
        ("TB", "started", 10**12 + 1, "18.00"),
        ("TiB", "started", 10**12 + 1, "9.00"),
        ("TiB", "started", 2**40 + 1, "18.00"),
        ("TB", "pro_rata", 5 * 10**11, "4.50"),
        ("TB", "pro_rata", 1_111_111_111_111, "10.00"),
        ("TiB", "pro_rata", 10**12, "8.19"),
        ("TB", "pro_rata", 1, "0.00"),
    ],
)
def test_transfer_by_the_table(per, rounding, excess, expected):
    fee = transfer(per, rounding)
    assert str(_fees.cost(fee, _fees.transfer_quantity(fee, excess))) == expected


@given(st.integers(1, 10**18), st.sampled_from(["TB", "TiB"]), st.sampled_from(["started", "pro_rata"]))
def test_transfer_is_what_fractions_say(excess, per, rounding):
    fee = transfer(per, rounding)
    exact = Fraction(excess, _fees.BYTES[per])
    if rounding == "started":
        expected = 9 * -(-excess // _fees.BYTES[per])
    else:
        expected = Fraction(int(exact * 900 + Fraction(1, 2)), 100)
    # 18 decimals of a TB are a millionth of a byte: the last cent is as the fraction says it.
    assert Fraction(_fees.cost(fee, _fees.transfer_quantity(fee, excess))) == expected


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.sampled_from(["started", "pro_rata"]))
@example([351, 352, 352, 385], "started")
def test_hours_in_parts_cost_what_the_whole_costs(minutes, rounding):
    fee, total, charged = dict(XTOM.fee("delisting_hour"), rounding=rounding), Decimal(0), Decimal(0)
    for one in minutes:
        after = total + _fees.hours("%dm" % one)
        charged, total = charged + _fees.cost_of_hours(fee, after) - _fees.cost_of_hours(fee, total), after
    exact = Fraction(50 * sum(minutes), 60)
    assert Fraction(charged) == (50 * -(-sum(minutes) // 60) if rounding == "started" else Fraction(int(exact * 100 + Fraction(1, 2)), 100))


@pytest.mark.parametrize("text", ["49.99", "150.01", "75,00", "7.5e1", "-60", "60.005", "", None, 75.0, "NaN", "0x40"])
def test_a_chargeback_fee_is_within_its_range(text):
    with pytest.raises(InputError) as caught:
        _fees.chosen_amount("chargeback", ALTERON.fee("chargeback"), text)
    assert caught.value.target == "amount" and caught.value.remedy
    assert str(_fees.chosen_amount("chargeback", ALTERON.fee("chargeback"), "75")) == "75.00"


@given(st.dictionaries(st.sampled_from(["account", "case_id", "service", "reference", "violation"]),
                       st.one_of(st.text(max_size=20),
                                 st.tuples(st.sampled_from("=+-@\t\r"), st.text(max_size=9)).map("".join))))
def test_no_cell_is_a_formula(hostile):
    charge = dict(CHARGE, **hostile)
    rows = list(csv.reader(io.StringIO(_fees.billing_csv([charge]), newline="")))
    assert rows[0] == list(_fees.COLUMNS) and len(rows) == 2 and len(rows[1]) == len(rows[0])
    assert not [cell for cell in rows[1] if cell.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and cell.strip(" ")]
    line = dict(zip(rows[0], rows[1], strict=True))
    assert line["amount"] == "60.00" and line["currency"] == "EUR" and line["charged_at"] == "2027-01-15T08:00:00Z"
    kept = json.loads(_fees.billing_json("B-1", [charge]))["charges"][0]
    assert kept["amount"] == "60.00" and kept["account"] == charge["account"], "JSON has the text as it is"
