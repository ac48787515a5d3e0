# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words a policy may use. PRIVATE to the collection."""

from __future__ import annotations

MODES = ("off", "observe", "enforce")
CONTROLS = (
    "smtp_outbound",
    "anti_spoofing",
    "mining",
    "tor_exit",
    "irc_server",
    "bittorrent",
    "reflection",
    "new_connections",
)
# Permissions that are recorded and relax no control: what a person may point to when a case is opened.
PERMITS = ("pen_test", "bulk_mail", "reseller", "vpn")
# What can be looked up in DNS before an exemption is given.
DNS_CHECKS = ("fcrdns", "spf", "dmarc")
ENFORCEMENTS = (
    "suspend",
    "quarantine",
    "null_route",
    "bandwidth_cap",
    "cpu_throttle",
    "io_throttle",
    "smtp_block",
    "port_block",
    "terminate",
)
NETWORKS = ("smarthosts", "rescue", "resolvers", "metadata", "monitoring", "backup")
FAULTS = ("none", "customer", "unknown")
UNTIL = ("remedied", "decision")
STEP_MODES = ("act", "propose")
STEP_CONDITIONS = ("persists", "unanswered", "repeated", "harms_others")
# The last two are about no case: how much of a service's transfer is used, and a version to come.
NOTICE_TIMINGS = ("before", "with", "after", "held", "transfer", "amendment")
WITHOUT_CASE = ("transfer", "amendment")
# What to do when a mail server may or may not have taken a notice: a person looks, or it is sent again.
NOTICE_UNKNOWN = ("ask", "resend")
POWER = ("pause", "shutdown", "destroy")
FEE_UNITS = ("once", "hour", "TB", "TiB")
FEE_DUE = ("case", "suspension")
# What transfer above the allowance leads to, and which bytes count.
TRANSFER_MODES = ("bill", "cap", "cap_until_paid")
TRANSFER_DIRECTIONS = ("both", "outbound")
# What may hold a clause. The first four are code, so they name their tests.
CARRIERS = ("control", "violation", "audit", "obligation", "human", "gap")
CARRIED_BY_CODE = ("control", "violation", "audit", "obligation")
OBLIGATIONS = ("notice", "deadline", "fee", "record")
AMENDED_ON = ("publication", "notice")

# ISO 4217, the codes of money in circulation (2026-01).
CURRENCIES = frozenset(
    (
        "AED",
        "AFN",
        "ALL",
        "AMD",
        "AOA",
        "ARS",
        "AUD",
        "AWG",
        "AZN",
        "BAM",
        "BBD",
        "BDT",
        "BHD",
        "BIF",
        "BMD",
        "BND",
        "BOB",
        "BRL",
        "BSD",
        "BTN",
        "BWP",
        "BYN",
        "BZD",
        "CAD",
        "CDF",
        "CHF",
        "CLP",
        "CNY",
        "COP",
        "CRC",
        "CUP",
        "CVE",
        "CZK",
        "DJF",
        "DKK",
        "DOP",
        "DZD",
        "EGP",
        "ERN",
        "ETB",
        "EUR",
        "FJD",
        "FKP",
        "GBP",
        "GEL",
        "GHS",
        "GIP",
        "GMD",
        "GNF",
        "GTQ",
        "GYD",
        "HKD",
        "HNL",
        "HTG",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "IQD",
        "IRR",
        "ISK",
        "JMD",
        "JOD",
        "JPY",
        "KES",
        "KGS",
        "KHR",
        "KMF",
        "KPW",
        "KRW",
        "KWD",
        "KYD",
        "KZT",
        "LAK",
        "LBP",
        "LKR",
        "LRD",
        "LSL",
        "LYD",
        "MAD",
        "MDL",
        "MGA",
        "MKD",
        "MMK",
        "MNT",
        "MOP",
        "MRU",
        "MUR",
        "MVR",
        "MWK",
        "MXN",
        "MYR",
        "MZN",
        "NAD",
        "NGN",
        "NIO",
        "NOK",
        "NPR",
        "NZD",
        "OMR",
        "PAB",
        "PEN",
        "PGK",
        "PHP",
        "PKR",
        "PLN",
        "PYG",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "RWF",
        "SAR",
        "SBD",
        "SCR",
        "SDG",
        "SEK",
        "SGD",
        "SHP",
        "SLE",
        "SOS",
        "SRD",
        "SSP",
        "STN",
        "SVC",
        "SYP",
        "SZL",
        "THB",
        "TJS",
        "TMT",
        "TND",
        "TOP",
        "TRY",
        "TTD",
        "TWD",
        "TZS",
        "UAH",
        "UGX",
        "USD",
        "UYU",
        "UZS",
        "VED",
        "VES",
        "VND",
        "VUV",
        "WST",
        "XAF",
        "XCD",
        "XCG",
        "XOF",
        "XPF",
        "YER",
        "ZAR",
        "ZMW",
        "ZWG",
    )
)
