# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words a policy may use. PRIVATE to the collection."""
from __future__ import annotations

MODES = ("off", "observe", "enforce")
CONTROLS = (
    "smtp_outbound", "anti_spoofing", "mining", "tor_exit", "irc_server", "bittorrent", "reflection",
    "new_connections",
)
ENFORCEMENTS = (
    "suspend", "quarantine", "null_route", "bandwidth_cap", "cpu_throttle", "io_throttle", "smtp_block",
    "port_block", "terminate",
)
NETWORKS = ("smarthosts", "rescue", "resolvers", "metadata", "monitoring", "backup")
FAULTS = ("none", "customer", "unknown")
UNTIL = ("remedied", "decision")
STEP_MODES = ("act", "propose")
STEP_CONDITIONS = ("persists", "unanswered", "repeated", "harms_others")
NOTICE_TIMINGS = ("before", "with", "after", "held")
POWER = ("pause", "shutdown", "destroy")
FEE_UNITS = ("once", "hour", "TB", "TiB")

# ISO 4217, the codes of money in circulation (2026-01).
CURRENCIES = frozenset((
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD", "BIF", "BMD",
    "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY", "COP", "CRC",
    "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL",
    "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR",
    "ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP",
    "LKR", "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK",
    "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR",
    "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE",
    "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD",
    "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VED", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XCG", "XOF",
    "XPF", "YER", "ZAR", "ZMW", "ZWG",
))
